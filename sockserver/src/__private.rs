//! What the code that the macros write needs, and no user does.

/// `H`, where `FITS` is a constant without an error. With one, this is a type of which the compiler reports nothing more:
/// the error in the constant stands for all.
pub type Fitting<H, const FITS: bool> = <Fits<FITS> as Gives<H>>::Handler;

#[derive(Debug)]
pub struct Fits<const FITS: bool>;

pub trait Gives<H> {
    type Handler;
}

impl<H> Gives<H> for Fits<true> {
    type Handler = H;
}

/// Evaluated while compiling it is an error where it is called, in these words.
#[track_caller]
pub const fn refuse(is_refused: bool, words: &'static str) {
    assert!(!is_refused, "{}", words);
}

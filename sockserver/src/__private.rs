//! What the code that the macros write needs, and no user does.

pub use crate::runner::{Messages, Received, Requests, Step, Token};

/// `H`. If the constant `FITS` has an error, this is no type, and the compiler reports only the error in the constant.
pub type Fitting<H, const FITS: bool> = <Fits<FITS> as Gives<H>>::Handler;

#[derive(Debug)]
pub struct Fits<const FITS: bool>;

pub trait Gives<H> {
    type Handler;
}

impl<H> Gives<H> for Fits<true> {
    type Handler = H;
}

/// In a constant: fails to compile, in these words, where it is called.
#[track_caller]
pub const fn refuse(is_refused: bool, words: &'static str) {
    assert!(!is_refused, "{}", words);
}

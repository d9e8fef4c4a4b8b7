//! What the code that the macros write needs, and no user does.

pub use crate::runner::{Messages, Received, Requests, Step, Token};
use crate::{
    concurrency::Concurrency,
    framing::Framing,
    message_handler::{MailHandler, MessageHandler},
    runner::Handler,
    server::Server,
    service::FromRequest,
};

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

/// To be named in a constant: one error where the bound is not met.
pub const fn is_message_handler<H: MessageHandler>() {}

/// As [`is_message_handler`].
pub const fn is_mail_handler<H: MailHandler>() {}

/// As [`is_message_handler`]: a framing is made for each connection.
pub const fn is_framing<F: Framing + Default>() {}

/// Whether an event loop can call the handler.
pub const fn handles_messages<S: Server>() -> bool {
    <S::Handler as Handler>::HANDLES_MESSAGES
}

/// Whether the handler has what its server does not share: the children of a server that forks have their own memory.
pub const fn shares_in_vain<S: Server>() -> bool {
    S::Concurrency::FORKS && <<S::Handler as Handler>::Runner as FromRequest<S>>::NEEDS_SHARED_MEMORY
}

/// In a constant: fails to compile, in these words, where it is called.
#[track_caller]
pub const fn refuse(is_refused: bool, words: &'static str) {
    assert!(!is_refused, "{}", words);
}

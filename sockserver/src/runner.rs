//! What serves one request, whichever kind its handler is of.

use std::{fmt, sync::Arc};

use crate::{
    handler::{BoxError, HandlerResult, RequestHandler},
    io::{host::Host, incoming::Incoming},
};

/// A handler of either kind: a [`RequestHandler`], or a [`MessageHandler`](crate::MessageHandler), for which
/// `#[message_handler]` implements this.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not handle requests",
    label = "the handler of a server must implement `RequestHandler`, or `MessageHandler` with `#[message_handler]`",
    note = "write `impl RequestHandler for {Self} {{ fn handle(&mut self) -> HandlerResult {{ … }} }}`, or \
            `#[message_handler(framing = \"line\")]` above the struct and `impl MessageHandler for {Self} {{ … }}`"
)]
pub trait Handler {
    /// What serves one connection or packet: a request handler itself, and for a message handler the
    /// [loop](crate::MessageLoop) that calls it.
    type Runner: RequestHandler;

    /// Whether an event loop can call it.
    #[doc(hidden)]
    const HANDLES_MESSAGES: bool = false;

    /// The runner as an event loop calls it. `Err`: it waits for its client, which an event loop does not.
    #[doc(hidden)]
    fn into_messages(runner: Self::Runner) -> Result<Box<dyn Messages>, Self::Runner> {
        Err(runner)
    }
}

#[diagnostic::do_not_recommend]
impl<H: RequestHandler> Handler for H {
    type Runner = H;
}

/// A message handler as an event loop calls it: once a message, without waiting for the client.
///
/// Its methods take values that only this crate can make, so no other crate calls or implements them.
pub trait Messages: RequestHandler + Send {
    /// Handles the next message among the received bytes, or the next mail.
    fn handle_next(&mut self, token: Token) -> Result<Step, BoxError>;

    /// Handles the last message, at the end of file.
    fn handle_last(&mut self, token: Token) -> HandlerResult;

    /// The received bytes, to receive more. `None` on datagrams.
    fn received(&mut self, token: Token) -> Option<Received<'_>>;

    /// Whether there is mail. If there is none, the next sender requests a turn.
    fn has_mail(&mut self, requests: Requests<'_>) -> bool;
}

/// What a message handler has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It has handled a message or a mail.
    Handled,
    /// It has, and has ended the connection.
    HungUp,
    /// It has, and the TLS handshake comes before the next one.
    #[cfg(feature = "tls")]
    StartedTls,
    /// There is none.
    NothingCame,
}

/// Only this crate can make one.
#[derive(Clone, Copy, Debug)]
pub struct Token(pub(crate) ());

/// The received bytes that are not consumed, and how many bytes are received at once.
pub struct Received<'a> {
    pub(crate) incoming: &'a mut Incoming,
    pub(crate) size: usize,
}

/// How a sender of mail requests a turn.
pub struct Requests<'a>(pub(crate) &'a Arc<Host>);

impl fmt::Debug for Received<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received").field("size", &self.size).finish_non_exhaustive()
    }
}

impl fmt::Debug for Requests<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requests").finish_non_exhaustive()
    }
}

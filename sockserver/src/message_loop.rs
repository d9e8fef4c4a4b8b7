//! A message handler as a request handler, on a thread that may wait: the loop that a user would write.

use std::{fmt, io};

use crate::{
    framing::{FrameError, Framing},
    handler::{HandlerResult, RequestHandler},
    io::closing::Closing,
    message_handler::MessageHandler,
    request::frames::Frames,
    service::{Context, FromRequest, Service},
};

/// A [`MessageHandler`] as a [`RequestHandler`] that calls it for each message, until the connection ends. It is the
/// [`Handler::Runner`](crate::Handler::Runner) of every message handler. `F` is the framing.
pub struct MessageLoop<H: MessageHandler, F: Framing> {
    handler: H,
    frames: Frames<F, H::Message>,
}

#[diagnostic::do_not_recommend]
impl<S: Service, H: MessageHandler + FromRequest<S>, F: Framing + Default> FromRequest<S> for MessageLoop<H, F> {
    fn from_request(cx: &mut Context<'_, S>) -> io::Result<MessageLoop<H, F>> {
        // The handler comes first: it sets `max_frame`, and its fields may read the first bytes themselves.
        Ok(MessageLoop { handler: H::from_request(cx)?, frames: Frames::from_request(cx)? })
    }
}

#[diagnostic::do_not_recommend]
impl<H: MessageHandler, F: Framing> RequestHandler for MessageLoop<H, F> {
    fn setup(&mut self) -> HandlerResult {
        self.handler.setup()
    }

    fn handle(&mut self) -> HandlerResult {
        let MessageLoop { handler, frames } = self;
        loop {
            match frames.next() {
                Ok(Some(message)) => handler.message(message)?,
                Ok(None) => return Ok(()),
                Err(error) => handler.malformed(recoverable(error)?)?,
            }
        }
    }

    fn closing(&mut self, why: Closing) -> HandlerResult {
        self.handler.closing(why)
    }

    fn finish(&mut self) -> HandlerResult {
        self.handler.finish()
    }
}

/// The error of one message, if the next one can still be read.
fn recoverable(error: io::Error) -> io::Result<FrameError> {
    match error.downcast::<FrameError>()? {
        error if error.is_recoverable() => Ok(error),
        error => Err(error.into()),
    }
}

impl<H: MessageHandler + fmt::Debug, F: Framing> fmt::Debug for MessageLoop<H, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageLoop").field("handler", &self.handler).finish_non_exhaustive()
    }
}

//! A message handler as a request handler, on a thread that may wait: the loop that a user would write.

use std::{fmt, io};

#[cfg(feature = "tls")]
use crate::message_handler::StartTls;
use crate::{
    framing::{FrameError, Framing},
    handler::{BoxError, HandlerResult, RequestHandler},
    io::closing::Closing,
    message_handler::{HangUp, MailHandler, MessageHandler},
    request::{self, frame_reader::FrameReader, mailbox::Arrival},
    runner::{Messages, Received, Requests, Step, Token},
    service::{Context, FromRequest, Service},
};

/// A [`MessageHandler`] as a [`RequestHandler`] that calls it for each message, until the connection ends. It is the
/// [`Handler::Runner`](crate::Handler::Runner) of every message handler. `F` is the framing.
pub struct MessageLoop<H: MessageHandler, F> {
    handler: H,
    frames: FrameReader<F, H::Message>,
}

impl<H: MessageHandler, F: Framing> Messages for MessageLoop<H, F> {
    fn handle_next(&mut self, _: Token) -> Result<Step, BoxError> {
        let MessageLoop { handler, frames } = self;
        step(match frames.next_received() {
            Ok(None) => return Ok(Step::NothingCame),
            Ok(Some(message)) => handler.message(message),
            Err(error) => report(handler, error),
        })
    }

    fn handle_last(&mut self, _: Token) -> HandlerResult {
        let MessageLoop { handler, frames } = self;
        let handled = match frames.last_received() {
            Ok(None) => Ok(()),
            Ok(Some(message)) => handler.message(message),
            Err(error) => report(handler, error),
        };
        match step(handled)? {
            #[cfg(feature = "tls")]
            Step::StartedTls => Err(request::end_of_file::EndOfFile.into()),
            Step::Handled | Step::HungUp | Step::NothingCame => Ok(()),
        }
    }

    fn received(&mut self, _: Token) -> Option<Received<'_>> {
        self.frames.incoming().map(|(incoming, size)| Received { incoming, size })
    }

    fn has_mail(&mut self, _: Requests<'_>) -> bool {
        false
    }
}

impl<S: Service, H: MessageHandler + FromRequest<S>, F: Framing + Default> FromRequest<S> for MessageLoop<H, F> {
    const NEEDS_SHARED_MEMORY: bool = H::NEEDS_SHARED_MEMORY;

    fn from_request(cx: &mut Context<'_, S>) -> io::Result<MessageLoop<H, F>> {
        // The handler comes first: it sets `max_frame`, and its fields may read the first bytes themselves.
        let handler = H::from_request(cx)?;
        let reader = request::kind(cx.request()).reader(&cx.files)?;
        Ok(MessageLoop { handler, frames: FrameReader::new(reader, cx.files.max_frame) })
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
            let handled = match frames.next() {
                Ok(Some(message)) => handler.message(message),
                Ok(None) => return Ok(()),
                Err(error) => report(handler, error),
            };
            match step(handled)? {
                Step::HungUp => return Ok(()),
                #[cfg(feature = "tls")]
                Step::StartedTls => frames.start_tls()?,
                Step::Handled | Step::NothingCame => {}
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

/// A [`MessageLoop`] for a handler with a mailbox, a [`MailHandler`].
pub struct MailLoop<H: MessageHandler, F>(MessageLoop<H, F>);

impl<S: Service, H: MailHandler + FromRequest<S>, F: Framing + Default> FromRequest<S> for MailLoop<H, F> {
    const NEEDS_SHARED_MEMORY: bool = H::NEEDS_SHARED_MEMORY;

    fn from_request(cx: &mut Context<'_, S>) -> io::Result<MailLoop<H, F>> {
        MessageLoop::from_request(cx).map(MailLoop)
    }
}

#[diagnostic::do_not_recommend]
impl<H: MailHandler, F: Framing> RequestHandler for MailLoop<H, F> {
    fn setup(&mut self) -> HandlerResult {
        self.0.setup()
    }

    fn handle(&mut self) -> HandlerResult {
        let MessageLoop { handler, frames } = &mut self.0;
        loop {
            let handled = match frames.next_or(handler.mailbox()) {
                Ok(Some(Arrival::Message(message))) => handler.message(message),
                Ok(Some(Arrival::Mail(mail))) => handler.mail(mail),
                Ok(None) => return Ok(()),
                Err(error) => report(handler, error),
            };
            match step(handled)? {
                Step::HungUp => return Ok(()),
                #[cfg(feature = "tls")]
                Step::StartedTls => frames.start_tls()?,
                Step::Handled | Step::NothingCame => {}
            }
        }
    }

    fn closing(&mut self, why: Closing) -> HandlerResult {
        self.0.closing(why)
    }

    fn finish(&mut self) -> HandlerResult {
        self.0.finish()
    }
}

impl<H: MailHandler, F: Framing> Messages for MailLoop<H, F> {
    fn handle_next(&mut self, token: Token) -> Result<Step, BoxError> {
        match self.0.handler.mailbox().next_in_turn() {
            Some(mail) => step(self.0.handler.mail(mail)),
            None => self.0.handle_next(token),
        }
    }

    fn handle_last(&mut self, token: Token) -> HandlerResult {
        self.0.handle_last(token)
    }

    fn received(&mut self, token: Token) -> Option<Received<'_>> {
        self.0.received(token)
    }

    fn has_mail(&mut self, Requests(host): Requests<'_>) -> bool {
        self.0.handler.mailbox().await_on_loop(host)
    }
}

/// What a message handler has done.
fn step(handled: HandlerResult) -> Result<Step, BoxError> {
    match handled {
        Ok(()) => Ok(Step::Handled),
        Err(error) if error.is::<HangUp>() => Ok(Step::HungUp),
        #[cfg(feature = "tls")]
        Err(error) if error.is::<StartTls>() => Ok(Step::StartedTls),
        Err(error) => Err(error),
    }
}

/// Tells the handler what is wrong with a message.
fn report(handler: &mut impl MessageHandler, error: io::Error) -> HandlerResult {
    let error = match error.downcast::<FrameError>()? {
        // The client has gone in the middle of a message.
        error @ FrameError::Truncated { .. } => return Err(error.into()),
        error => error,
    };
    let has_next = error.is_recoverable();
    handler.malformed(error)?;
    if has_next { Ok(()) } else { Err(HangUp.into()) }
}

impl<H: MessageHandler + fmt::Debug, F> fmt::Debug for MessageLoop<H, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageLoop").field("handler", &self.handler).finish_non_exhaustive()
    }
}

impl<H: MessageHandler + fmt::Debug, F> fmt::Debug for MailLoop<H, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MailLoop").field(&self.0).finish()
    }
}

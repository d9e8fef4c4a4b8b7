//! Handlers of connections that an event loop can serve as well, by a handler of their lines.

use std::{
    any::TypeId,
    fmt,
    io::{self, Write},
    marker::PhantomData,
};

use sockserver::{
    __private::Messages, Closing, Context, FromRequest, Handler, HandlerResult, MessageHandler, MessageLoop,
    RequestHandler, Server, Writer, concurrency::EventLoop, framing::Line, message_handler,
};

/// Answers each line in upper case.
#[message_handler(framing = "line")]
#[derive(Debug)]
pub struct UpperLines {
    wfile: Writer,
}

impl MessageHandler for UpperLines {
    type Message = str;

    fn message(&mut self, line: &str) -> HandlerResult {
        Ok(writeln!(self.wfile, "{}", line.to_uppercase())?)
    }
}

/// The handler of a server: `M` on an event loop, `R` with every other concurrency.
#[derive(Debug)]
pub struct Either<R, M>(PhantomData<fn() -> (R, M)>);

/// What serves a connection.
pub enum Runner<R, M: MessageHandler> {
    Connection(R),
    Lines(MessageLoop<M, Line>),
}

impl<R: RequestHandler, M: MessageHandler> Handler for Either<R, M> {
    type Runner = Runner<R, M>;
    const HANDLES_MESSAGES: bool = true;

    fn into_messages(runner: Runner<R, M>) -> Result<Box<dyn Messages>, Runner<R, M>> {
        match runner {
            Runner::Lines(lines) => Ok(Box::new(lines)),
            connection @ Runner::Connection(_) => Err(connection),
        }
    }
}

impl<S: Server, R: FromRequest<S>, M: MessageHandler + FromRequest<S>> FromRequest<S> for Runner<R, M> {
    fn from_request(cx: &mut Context<'_, S>) -> io::Result<Runner<R, M>> {
        if TypeId::of::<S::Concurrency>() == TypeId::of::<EventLoop>() {
            MessageLoop::from_request(cx).map(Runner::Lines)
        } else {
            R::from_request(cx).map(Runner::Connection)
        }
    }
}

impl<R: RequestHandler, M: MessageHandler> RequestHandler for Runner<R, M> {
    fn setup(&mut self) -> HandlerResult {
        match self {
            Runner::Connection(handler) => handler.setup(),
            Runner::Lines(lines) => lines.setup(),
        }
    }

    fn handle(&mut self) -> HandlerResult {
        match self {
            Runner::Connection(handler) => handler.handle(),
            Runner::Lines(lines) => lines.handle(),
        }
    }

    fn closing(&mut self, why: Closing) -> HandlerResult {
        match self {
            Runner::Connection(handler) => handler.closing(why),
            Runner::Lines(lines) => lines.closing(why),
        }
    }

    fn finish(&mut self) -> HandlerResult {
        match self {
            Runner::Connection(handler) => handler.finish(),
            Runner::Lines(lines) => lines.finish(),
        }
    }
}

impl<R, M: MessageHandler> fmt::Debug for Runner<R, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner").finish_non_exhaustive()
    }
}

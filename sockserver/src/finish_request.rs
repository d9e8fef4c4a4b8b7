//! Running the handler of one request: Python's `finish_request`.

use std::{io, sync::Arc};

use crate::{
    connections::stats::Outcome,
    error::{HandlerError, Stage},
    event::Ending,
    handle::ServerHandle,
    handler::{BoxError, RequestHandler},
    io::{
        closing::{Closing, GOODBYE},
        state::ConnectionState,
    },
    options::HandlerOptions,
    request::{self, AnyRequest},
    runner::Handler,
    service::{Context, FromRequest, Request, Service},
    unwind::{self, ServerId},
};

pub(crate) type Runner<S> = <<S as Service>::Handler as Handler>::Runner;

/// How a request has ended, and with which error.
pub(crate) struct Ended {
    pub(crate) how: Ending,
    pub(crate) error: Option<HandlerError>,
}

/// Python's `finish_request`: makes the handler, runs it, and sends what it has written.
pub(crate) fn finish_request<S: Service>(
    server: &Arc<S>,
    handle: &ServerHandle,
    options: &HandlerOptions,
    request: &Request<S>,
) -> Ended {
    let id = handle.state().id;
    let handled = run_handler(server, handle, options, request);
    // After an error as well: what the handler has written may be the error reply.
    conclude(id, request, handled, request::kind(request).flush_at_end())
}

/// How a request has ended whose handler has ended so, and whose output was sent or not.
pub(crate) fn conclude<R: AnyRequest>(
    id: ServerId,
    request: &R,
    handled: Result<Option<Closing>, HandlerError>,
    flushed: io::Result<()>,
) -> Ended {
    let state = request::kind(request).state();
    // The server may have ended the connection while an extractor or `setup` was reading.
    let handled = handled.or_else(|error| unless_closing(id, error).map(Some));
    let flushed = flushed.map_err(|error| attributed(id, state, HandlerError::new(Stage::Finish, error)));
    let result = match handled {
        // Where the server has ended the connection, a failed flush is no error: the client may have left.
        Ok(Some(why)) => Ok(Some(why)),
        handled => handled.and_then(|_| flushed.map(|()| None)),
    };
    Ended { how: Ending::Ended(outcome_of(&result, state)), error: result.err() }
}

/// Makes the handler and calls its methods. `Some`: the server has ended the connection, and the handler has seen it.
fn run_handler<S: Service>(
    server: &Arc<S>,
    handle: &ServerHandle,
    options: &HandlerOptions,
    request: &Request<S>,
) -> Result<Option<Closing>, HandlerError> {
    let id = handle.state().id;
    let mut handler = set_up(server, handle, options, request)?;
    let handled = run(id, request::kind(request).state(), Stage::Handle, || handler.handle());
    let finished = finish_handler(id, request, &mut handler, handled);
    first(id, finished, drop_handler(id, handler))
}

/// Makes the handler and calls its `setup`.
pub(crate) fn set_up<S: Service>(
    server: &Arc<S>,
    handle: &ServerHandle,
    options: &HandlerOptions,
    request: &Request<S>,
) -> Result<Runner<S>, HandlerError> {
    let (id, state) = (handle.state().id, request::kind(request).state());
    let mut handler = run(id, state, Stage::Construction, || {
        let mut cx = Context::new(request, server, handle, options)?;
        Ok(Runner::<S>::from_request(&mut cx)?)
    })?;
    match run(id, state, Stage::Setup, || handler.setup()) {
        Ok(()) => Ok(handler),
        Err(error) => first(id, Err(error), drop_handler(id, handler)),
    }
}

/// After `handle`, or the messages in its place: the handler says goodbye if the server has ended the connection, and
/// finishes.
pub(crate) fn finish_handler<R: AnyRequest>(
    id: ServerId,
    request: &R,
    handler: &mut (impl RequestHandler + ?Sized),
    handled: Result<(), HandlerError>,
) -> Result<Option<Closing>, HandlerError> {
    let handled = match handled {
        Err(error) => end_by_server(id, request, error, handler),
        Ok(()) => Ok(None),
    };
    first(id, handled, run(id, request::kind(request).state(), Stage::Finish, || handler.finish()))
}

/// Drops a handler. Its fields may be the user's, and panic when they are dropped.
pub(crate) fn drop_handler<H>(id: ServerId, handler: H) -> Result<(), HandlerError> {
    unwind::run(id, || drop(handler)).map_err(|message| HandlerError::panic(Stage::Finish, message))
}

/// After an error of `handle`: if the server has ended the connection, the handler says goodbye.
fn end_by_server<R: AnyRequest>(
    id: ServerId,
    request: &R,
    error: HandlerError,
    handler: &mut (impl RequestHandler + ?Sized),
) -> Result<Option<Closing>, HandlerError> {
    let why = unless_closing(id, error)?;
    if let Some(connection) = request::kind(request).connection() {
        connection.cut_within(GOODBYE);
    }
    if let Err(error) = run(id, request::kind(request).state(), Stage::Closing, || handler.closing(why)) {
        // The client need not take the goodbye.
        if !error.is_disconnect() && !error.is_timeout() {
            return Err(error);
        }
        discard(id, error);
    }
    Ok(Some(why))
}

/// Why the server has ended the connection, if that has caused the error.
fn unless_closing(id: ServerId, error: HandlerError) -> Result<Closing, HandlerError> {
    let Some(why) = error.closing() else { return Err(error) };
    discard(id, error);
    Ok(why)
}

/// The error, which knows whether the connection has caused it. The connection must not have been used since.
pub(crate) fn attributed(id: ServerId, state: &ConnectionState, mut error: HandlerError) -> HandlerError {
    // The error is the user's, and its `source` may panic: then it counts as one from elsewhere.
    let _ = unwind::run(id, || error.attribute(state));
    error
}

/// Drops an error. It is the user's, and its drop may panic.
pub(crate) fn discard(id: ServerId, error: HandlerError) {
    let _ = unwind::run(id, || drop(error));
}

/// How a request is counted. `Some`: the server has ended the connection, and the handler has seen it.
fn outcome_of(result: &Result<Option<Closing>, HandlerError>, state: &ConnectionState) -> Outcome {
    match (result, state.closing()) {
        (Err(error), _) if error.is_panic() => Outcome::Panicked,
        (_, Some(Closing::Idle | Closing::Lifetime)) => Outcome::TimedOut,
        (Ok(Some(Closing::Kicked)), _) => Outcome::Disconnected,
        // The connection was cut while it was busy.
        (Ok(Some(_)), _) if state.shut_for().is_some() => Outcome::Disconnected,
        (Ok(_), _) => Outcome::Finished,
        (Err(error), _) if error.is_timeout() => Outcome::TimedOut,
        (Err(error), _) if error.is_disconnect() => Outcome::Disconnected,
        (Err(_), _) => Outcome::Failed,
    }
}

/// Keeps the first of two errors.
pub(crate) fn first<T>(
    id: ServerId,
    earlier: Result<T, HandlerError>,
    later: Result<(), HandlerError>,
) -> Result<T, HandlerError> {
    match (earlier, later) {
        (Err(earlier), Err(later)) => {
            discard(id, later);
            Err(earlier)
        }
        (earlier, later) => earlier.and_then(|value| later.map(|()| value)),
    }
}

/// Runs code of the handler.
pub(crate) fn run<T>(
    id: ServerId,
    state: &ConnectionState,
    stage: Stage,
    user_code: impl FnOnce() -> Result<T, BoxError>,
) -> Result<T, HandlerError> {
    // What an earlier method of the handler has seen fail is no cause of an error of this one.
    state.failures().forget();
    match unwind::run(id, user_code) {
        Ok(result) => result.map_err(|error| attributed(id, state, HandlerError::new(stage, error))),
        Err(message) => Err(HandlerError::panic(stage, message)),
    }
}

//! Servers whose handler is a function, of a connection or of a line.

use std::{
    error::Error,
    fmt,
    io::{self, Write},
    marker::PhantomData,
    ops::Deref,
    sync::{
        Arc,
        mpsc::{self, Receiver, Sender},
    },
};

use sockserver::{
    Address, Concurrency, ConnectionId, Context, DrainReport, FromRequest, HandlerError, HandlerResult, MessageHandler,
    Options, Reader, RequestHandler, Server, ServerHandle, SocketServer, Stage, Transport, Writer,
};

use crate::{
    client::PATIENCE,
    either::Either,
    place::{Local, Place},
    served::Served,
};

/// A server, written without the macros, whose handler runs a function.
pub struct Script<T: Transport, C: Concurrency + Default> {
    handle: Box<dyn Handle<T, C>>,
    /// What an event loop calls in its place.
    line: Option<HandleLine<T, C>>,
    reports: Sender<Report>,
    composition: PhantomData<fn() -> (T, C)>,
}

/// What can be the handler of a connection.
pub trait Handle<T: Transport, C: Concurrency + Default>:
    Fn(&mut Session<T, C>) -> HandlerResult + Send + Sync + 'static
{
}

impl<T: Transport, C: Concurrency + Default, F> Handle<T, C> for F where
    F: Fn(&mut Session<T, C>) -> HandlerResult + Send + Sync + 'static
{
}

/// What the function has.
#[derive(Debug)]
pub struct Session<T: Transport, C: Concurrency + Default> {
    pub request: T::Request,
    pub rfile: Reader,
    pub wfile: Writer,
    pub client_address: Address,
    pub id: ConnectionId,
    pub server: ServerHandle,
    script: Arc<Script<T, C>>,
}

/// Handles a line.
type HandleLine<T, C> = fn(&mut LineSession<T, C>, &str) -> HandlerResult;

/// What the function of a line has.
#[derive(Debug)]
pub struct LineSession<T: Transport, C: Concurrency + Default> {
    pub request: T::Request,
    pub wfile: Writer,
    pub server: ServerHandle,
    script: Arc<Script<T, C>>,
}

/// A handler that answers each line in upper case.
pub fn upper<T: Transport, C: Concurrency + Default>(session: &mut Session<T, C>) -> HandlerResult {
    while let Some(line) = session.rfile.next_line()? {
        writeln!(session.wfile, "{}", line.to_uppercase())?;
    }
    Ok(())
}

/// A [`HandlerError`] as `handle_error` was told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub stage: Stage,
    pub message: String,
    pub is_panic: bool,
    pub is_disconnect: bool,
    pub is_timeout: bool,
    pub client_address: Address,
}

impl Report {
    pub fn new(error: &HandlerError, client_address: &Address) -> Report {
        Report {
            stage: error.stage(),
            message: words_of(error),
            is_panic: error.is_panic(),
            is_disconnect: error.is_disconnect(),
            is_timeout: error.is_timeout(),
            client_address: client_address.clone(),
        }
    }
}

impl<T: Transport, C: Concurrency + Default> Server for Script<T, C> {
    type Transport = T;
    type Concurrency = C;
    type Handler = Either<Session<T, C>, LineSession<T, C>>;
    const OPTIONS: Options = Options::new();

    fn handle_error(&self, error: &HandlerError, client_address: &Address) {
        // A test that does not look has dropped the receiver.
        let _ = self.reports.send(Report::new(error, client_address));
    }
}

impl<T: Transport, C: Concurrency + Default> FromRequest<Script<T, C>> for LineSession<T, C> {
    fn from_request(cx: &mut Context<'_, Script<T, C>>) -> io::Result<LineSession<T, C>> {
        Ok(LineSession {
            request: cx.request().clone(),
            wfile: Writer::from_request(cx)?,
            server: cx.handle().clone(),
            script: cx.server().clone(),
        })
    }
}

impl<T: Transport, C: Concurrency + Default> MessageHandler for LineSession<T, C> {
    type Message = str;

    fn message(&mut self, line: &str) -> HandlerResult {
        let line_function = self.script.line.ok_or("the handler is a function of a connection")?;
        line_function(self, line)
    }
}

impl<T: Transport, C: Concurrency + Default> FromRequest<Script<T, C>> for Session<T, C> {
    fn from_request(cx: &mut Context<'_, Script<T, C>>) -> io::Result<Session<T, C>> {
        Ok(Session {
            request: cx.request().clone(),
            rfile: Reader::from_request(cx)?,
            wfile: Writer::from_request(cx)?,
            client_address: Address::from_request(cx)?,
            id: ConnectionId::from_request(cx)?,
            server: cx.handle().clone(),
            script: cx.server().clone(),
        })
    }
}

impl<T: Transport, C: Concurrency + Default> RequestHandler for Session<T, C> {
    fn handle(&mut self) -> HandlerResult {
        (self.script.clone().handle)(self)
    }
}

impl<T: Transport, C: Concurrency + Default> Script<T, C> {
    /// The receiver gets what `handle_error` gets.
    pub fn new(handle: impl Handle<T, C>) -> (Script<T, C>, Receiver<Report>) {
        let (reports, receiver) = mpsc::channel();
        (Script { handle: Box::new(handle), line: None, reports, composition: PhantomData }, receiver)
    }

    /// Its handler is [`upper`]. An event loop can serve it as well.
    pub fn upper() -> (Script<T, C>, Receiver<Report>) {
        let (script, reports) = Script::new(upper);
        let line: HandleLine<T, C> = |session, line| Ok(writeln!(session.wfile, "{}", line.to_uppercase())?);
        (Script { line: Some(line), ..script }, reports)
    }
}

impl<T: Local, C: Concurrency + Default> Script<T, C> {
    /// Binds the server to a place of its own.
    pub fn bind(handle: impl Handle<T, C>, options: Options) -> (SocketServer<Script<T, C>>, Receiver<Report>, Place) {
        let (script, reports) = Script::new(handle);
        let (server, place) = script.bind_somewhere(options);
        (server, reports, place)
    }

    /// Binds the server of [`upper`] to a place of its own.
    pub fn bind_upper(options: Options) -> (SocketServer<Script<T, C>>, Receiver<Report>, Place) {
        let (script, reports) = Script::upper();
        let (server, place) = script.bind_somewhere(options);
        (server, reports, place)
    }

    fn bind_somewhere(self, options: Options) -> (SocketServer<Script<T, C>>, Place) {
        let place = T::place();
        (T::bind(self, place.address(), options).expect("a free place"), place)
    }

    /// Serves with this handler.
    pub fn serve(handle: impl Handle<T, C>) -> Scripted {
        Script::<T, C>::serve_with(handle, Script::<T, C>::OPTIONS)
    }

    pub fn serve_with(handle: impl Handle<T, C>, options: Options) -> Scripted {
        let (server, reports, place) = Script::bind(handle, options);
        Scripted { served: Served::new(server), reports, _place: place }
    }

    /// Serves with [`upper`].
    pub fn serve_upper(options: Options) -> Scripted {
        let (server, reports, place) = Script::<T, C>::bind_upper(options);
        Scripted { served: Served::new(server), reports, _place: place }
    }
}

impl<T: Transport, C: Concurrency + Default> fmt::Debug for Script<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script").finish_non_exhaustive()
    }
}

/// A [`Script`] that is served.
#[derive(Debug)]
pub struct Scripted {
    served: Served,
    reports: Receiver<Report>,
    _place: Place,
}

impl Scripted {
    /// The next error that `handle_error` gets.
    #[track_caller]
    pub fn report(&self) -> Report {
        self.reports.recv_timeout(PATIENCE).expect("handle_error is called")
    }

    /// The next error, if there was one; only after the request has ended.
    pub fn reported(&self) -> Option<Report> {
        self.reports.try_recv().ok()
    }

    #[track_caller]
    pub fn stop(self) -> DrainReport {
        self.served.stop()
    }
}

impl Deref for Scripted {
    type Target = ServerHandle;

    fn deref(&self) -> &ServerHandle {
        &self.served
    }
}

/// A handler's error with its cause, as the default `handle_error` prints it.
pub fn words_of(error: &HandlerError) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

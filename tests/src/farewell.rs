//! Servers that tell how their connections end: which methods of the handler were called, and with what.

use std::{
    fmt,
    io::{self, Write},
    ops::Deref,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc::{self, Receiver, Sender},
    },
};

use sockserver::{
    Address, Closing, Concurrency, ConnectionId, Context, DrainReport, FromRequest, HandlerError, HandlerResult,
    MessageHandler, Options, Reader, RequestHandler, Server, ServerHandle, SocketServer, Stage, Stream, Writer,
    transport::Tcp,
};

use crate::{
    client::{Client, PATIENCE},
    concurrencies::set_workers,
    either::Either,
    script::words_of,
    served::Served,
};

/// A server, written without the macros, whose handler runs functions.
pub struct Farewell<C: Concurrency + Default> {
    setup: Step<C>,
    handle: Step<C>,
    /// What an event loop calls in the place of `handle`.
    line: Option<LineStep<C>>,
    closing: Goodbye<C>,
    finish: Step<C>,
    tell: Box<dyn Fn(Call) + Send + Sync>,
    /// How many handlers have started.
    started: Arc<AtomicUsize>,
}

type Step<C> = Box<dyn Fn(&mut Guest<C>) -> HandlerResult + Send + Sync>;

type LineStep<C> = Box<dyn Fn(&mut LineGuest<C>, &str) -> HandlerResult + Send + Sync>;

type Goodbye<C> = Box<dyn Fn(&mut Guest<C>, Closing) -> HandlerResult + Send + Sync>;

/// What the functions have.
#[derive(Debug)]
pub struct Guest<C: Concurrency + Default> {
    pub request: Stream,
    pub rfile: Reader,
    pub wfile: Writer,
    pub id: ConnectionId,
    pub server: ServerHandle,
    farewell: Arc<Farewell<C>>,
}

/// What the function of a line has. Of an event loop the other functions are not called, but for `tell`.
#[derive(Debug)]
pub struct LineGuest<C: Concurrency + Default> {
    pub wfile: Writer,
    farewell: Arc<Farewell<C>>,
    has_ended: bool,
}

/// What has happened to a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// `handle` has returned.
    Handled(End),
    /// `closing` was called.
    Closing(Closing),
    /// `finish` was called.
    Finish,
    /// `handle_error` was called.
    Error { stage: Stage, is_panic: bool, is_disconnect: bool, is_timeout: bool, message: String },
}

/// How reading has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    Fine,
    /// The error has this inside, and its kind.
    Server(Closing),
    /// Another error of reading or writing.
    Io(io::ErrorKind),
    Other(String),
}

impl End {
    pub fn of<T>(result: &io::Result<T>) -> End {
        result.as_ref().map_or_else(End::of_io, |_| End::Fine)
    }

    fn of_io(error: &io::Error) -> End {
        let closing = error.get_ref().and_then(|inner| inner.downcast_ref::<Closing>());
        closing.map_or(End::Io(error.kind()), |closing| {
            let kind = match closing {
                Closing::Idle | Closing::Lifetime => io::ErrorKind::TimedOut,
                _ => io::ErrorKind::ConnectionAborted,
            };
            assert_eq!(error.kind(), kind, "{closing:?}");
            End::Server(*closing)
        })
    }

    fn of_handler(result: &HandlerResult) -> End {
        match result {
            Ok(()) => End::Fine,
            Err(error) => error.downcast_ref().map_or_else(|| End::Other(error.to_string()), End::of_io),
        }
    }
}

/// What happens to a connection that the server ends, and which has been told.
pub fn said_goodbye(why: Closing) -> Vec<Call> {
    vec![Call::Handled(End::Server(why)), Call::Closing(why), Call::Finish]
}

impl<C: Concurrency + Default> Farewell<C> {
    /// Says nothing at the end.
    pub fn new(handle: impl Fn(&mut Guest<C>) -> HandlerResult + Send + Sync + 'static) -> Farewell<C> {
        Farewell {
            setup: Box::new(|_| Ok(())),
            handle: Box::new(handle),
            line: None,
            closing: Box::new(|_, _| Ok(())),
            finish: Box::new(|_| Ok(())),
            tell: Box::new(drop),
            started: Arc::default(),
        }
    }

    /// Answers each line in upper case. An event loop can serve it as well.
    pub fn upper() -> Farewell<C> {
        Farewell::new(upper).line(|guest, line| Ok(writeln!(guest.wfile, "{}", line.to_uppercase())?))
    }

    /// What an event loop calls for each line.
    #[must_use]
    pub fn line(self, line: impl Fn(&mut LineGuest<C>, &str) -> HandlerResult + Send + Sync + 'static) -> Farewell<C> {
        Farewell { line: Some(Box::new(line)), ..self }
    }

    #[must_use]
    pub fn setup(self, setup: impl Fn(&mut Guest<C>) -> HandlerResult + Send + Sync + 'static) -> Farewell<C> {
        Farewell { setup: Box::new(setup), ..self }
    }

    #[must_use]
    pub fn closing(
        self,
        closing: impl Fn(&mut Guest<C>, Closing) -> HandlerResult + Send + Sync + 'static,
    ) -> Farewell<C> {
        Farewell { closing: Box::new(closing), ..self }
    }

    #[must_use]
    pub fn finish(self, finish: impl Fn(&mut Guest<C>) -> HandlerResult + Send + Sync + 'static) -> Farewell<C> {
        Farewell { finish: Box::new(finish), ..self }
    }

    #[must_use]
    pub fn telling(self, tell: impl Fn(Call) + Send + Sync + 'static) -> Farewell<C> {
        Farewell { tell: Box::new(tell), ..self }
    }

    /// Binds the server to a free port.
    #[track_caller]
    pub fn bind(self, mut options: Options) -> (SocketServer<Farewell<C>>, Receiver<Call>) {
        set_workers(&mut options);
        let (sender, calls) = mpsc::channel();
        // A test that does not look has dropped the receiver.
        let telling = self.telling(move |call| _ = sender.send(call));
        (telling.bind_with("127.0.0.1:0", options).expect("a free port"), calls)
    }

    /// Serves on a free port.
    #[track_caller]
    pub fn serve(self, options: Options) -> Hosted {
        let started = self.started.clone();
        let (server, calls) = self.bind(options);
        Hosted { served: Served::new(server), calls, started }
    }
}

impl<C: Concurrency + Default> fmt::Debug for Farewell<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Farewell").finish_non_exhaustive()
    }
}

impl<C: Concurrency + Default> Server for Farewell<C> {
    type Transport = Tcp;
    type Concurrency = C;
    type Handler = Either<Guest<C>, LineGuest<C>>;
    const OPTIONS: Options = Options::new();

    fn handle_error(&self, error: &HandlerError, _client_address: &Address) {
        (self.tell)(Call::Error {
            stage: error.stage(),
            is_panic: error.is_panic(),
            is_disconnect: error.is_disconnect(),
            is_timeout: error.is_timeout(),
            message: words_of(error),
        });
    }
}

impl<C: Concurrency + Default> FromRequest<Farewell<C>> for Guest<C> {
    fn from_request(cx: &mut Context<'_, Farewell<C>>) -> io::Result<Guest<C>> {
        Ok(Guest {
            request: cx.request().clone(),
            rfile: Reader::from_request(cx)?,
            wfile: Writer::from_request(cx)?,
            id: ConnectionId::from_request(cx)?,
            server: cx.handle().clone(),
            farewell: cx.server().clone(),
        })
    }
}

impl<C: Concurrency + Default> RequestHandler for Guest<C> {
    fn setup(&mut self) -> HandlerResult {
        self.farewell.started.fetch_add(1, SeqCst);
        (self.farewell.clone().setup)(self)
    }

    fn handle(&mut self) -> HandlerResult {
        let farewell = self.farewell.clone();
        let handled = (farewell.handle)(self);
        (farewell.tell)(Call::Handled(End::of_handler(&handled)));
        handled
    }

    fn closing(&mut self, why: Closing) -> HandlerResult {
        let farewell = self.farewell.clone();
        (farewell.tell)(Call::Closing(why));
        (farewell.closing)(self, why)
    }

    fn finish(&mut self) -> HandlerResult {
        let farewell = self.farewell.clone();
        (farewell.tell)(Call::Finish);
        (farewell.finish)(self)
    }
}

impl<C: Concurrency + Default> FromRequest<Farewell<C>> for LineGuest<C> {
    fn from_request(cx: &mut Context<'_, Farewell<C>>) -> io::Result<LineGuest<C>> {
        Ok(LineGuest { wfile: Writer::from_request(cx)?, farewell: cx.server().clone(), has_ended: false })
    }
}

/// Tells what a [`Guest`] would tell.
impl<C: Concurrency + Default> MessageHandler for LineGuest<C> {
    type Message = str;

    fn setup(&mut self) -> HandlerResult {
        self.farewell.started.fetch_add(1, SeqCst);
        Ok(())
    }

    fn message(&mut self, line: &str) -> HandlerResult {
        let farewell = self.farewell.clone();
        let line_function = farewell.line.as_ref().ok_or("the handler is a function of a connection")?;
        let handled = line_function(self, line);
        if handled.is_err() {
            self.end(End::of_handler(&handled));
        }
        handled
    }

    fn closing(&mut self, why: Closing) -> HandlerResult {
        self.end(End::Server(why));
        (self.farewell.tell)(Call::Closing(why));
        Ok(())
    }

    fn finish(&mut self) -> HandlerResult {
        if !self.has_ended {
            self.end(End::Fine);
        }
        (self.farewell.tell)(Call::Finish);
        Ok(())
    }
}

impl<C: Concurrency + Default> LineGuest<C> {
    fn end(&mut self, end: End) {
        self.has_ended = true;
        (self.farewell.tell)(Call::Handled(end));
    }
}

/// A [`Farewell`] that is served.
#[derive(Debug)]
pub struct Hosted {
    served: Served,
    calls: Receiver<Call>,
    started: Arc<AtomicUsize>,
}

impl Hosted {
    #[track_caller]
    pub fn connect(&self) -> Client {
        Client::connect(self.server_address())
    }

    /// How many handlers have started.
    pub fn started(&self) -> usize {
        self.started.load(SeqCst)
    }

    /// What happens next.
    #[track_caller]
    pub fn call(&self) -> Call {
        self.calls.recv_timeout(PATIENCE).expect("something is called")
    }

    /// What has happened until now, and was not asked for yet. A client that has seen the end has seen it all.
    pub fn calls(&self) -> Vec<Call> {
        self.calls.try_iter().collect()
    }

    /// Stops the server, and returns what has happened until then and was not asked for yet.
    #[track_caller]
    pub fn stop(self) -> (DrainReport, Vec<Call>) {
        (self.served.stop(), self.calls.try_iter().collect())
    }
}

impl Deref for Hosted {
    type Target = ServerHandle;

    fn deref(&self) -> &ServerHandle {
        &self.served
    }
}

/// What holds a handler where it is.
#[derive(Debug)]
pub struct Gate {
    reached: Receiver<()>,
    open: Sender<()>,
}

impl Gate {
    /// The gate, and what the handler calls to wait at it.
    pub fn new() -> (Gate, impl Fn() + Send + Sync + 'static) {
        let (reach, reached) = mpsc::channel();
        let (open, opened) = mpsc::channel();
        let opened = Mutex::new(opened);
        let pass = move || {
            // A test that has failed has dropped the gate.
            let _ = reach.send(());
            let _ = opened.lock().unwrap().recv();
        };
        (Gate { reached, open }, pass)
    }

    #[track_caller]
    pub fn is_reached(&self) {
        self.reached.recv_timeout(PATIENCE).expect("the handler gets there");
    }

    #[track_caller]
    pub fn open(&self) {
        self.open.send(()).expect("the handler waits");
    }
}

/// Answers each line in upper case.
pub fn upper<C: Concurrency + Default>(guest: &mut Guest<C>) -> HandlerResult {
    while let Some(line) = guest.rfile.next_line()? {
        writeln!(guest.wfile, "{}", line.to_uppercase())?;
    }
    Ok(())
}

/// After `DATA` takes lines up to a dot, as SMTP does, and says how many. An end of file within them is a short mail.
pub fn mail<C: Concurrency + Default>(guest: &mut Guest<C>, marks_itself_busy: bool) -> HandlerResult {
    while let Some(command) = guest.rfile.next_line()? {
        if command != "DATA" {
            writeln!(guest.wfile, "250 fine")?;
            continue;
        }
        writeln!(guest.wfile, "354 go on")?;
        if marks_itself_busy {
            guest.rfile.set_busy(true);
        }
        let mut lines = 0;
        while guest.rfile.next_line()?.is_some_and(|line| line != ".") {
            lines += 1;
        }
        writeln!(guest.wfile, "250 mail of {lines} lines")?;
        if marks_itself_busy {
            guest.rfile.set_busy(false);
        }
    }
    Ok(())
}

/// Says why the server ends the connection.
pub fn say_why<C: Concurrency + Default>(guest: &mut Guest<C>, why: Closing) -> HandlerResult {
    Ok(write!(guest.wfile, "421 {why}\r\n")?)
}

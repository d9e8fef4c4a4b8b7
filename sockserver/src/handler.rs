//! What handles one request, and what it is made from.

use std::{error::Error, fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use crate::{
    Request,
    acceptor::Acceptor,
    address::Address,
    datagram::{self, Datagram},
    file::{Files, Reader, Writer},
    handle::{Control, ServerHandle},
    io::{
        GOODBYE,
        record::{Closing, ConnectionId, Failures, Record},
    },
    server::Server,
    stats::Outcome,
    stream::Stream,
    sys,
    transport::{AnyRequest, DatagramTransport, InetTransport, Internals, StreamTransport, UnixTransport},
    unwind,
};

/// An error of any type, as `?` makes it.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// What the methods of a [`RequestHandler`] return. `?` makes its error of any other, `Ok(write!(…)?)` makes one of a
/// result of another error type, and `ok_or("…")?` and `"…".into()` make an error of a text:
///
/// ```
/// use sockserver::{HandlerResult, Reader, RequestHandler, Writer, request_handler};
/// use std::io::Write;
///
/// #[request_handler]
/// struct Square {
///     rfile: Reader,
///     wfile: Writer,
/// }
///
/// impl RequestHandler for Square {
///     fn handle(&mut self) -> HandlerResult {
///         let line = self.rfile.next_line()?.ok_or("nothing to square")?;
///         let number: i64 = line.parse()?;
///         if number > 1_000_000 {
///             return Err(format!("{number} is too much").into());
///         }
///         Ok(writeln!(self.wfile, "{}", number * number)?)
///     }
/// }
/// ```
pub type HandlerResult = Result<(), BoxError>;

/// Handles one request: Python's `BaseRequestHandler`, of which `StreamRequestHandler` and `DatagramRequestHandler`
/// are those with a [`Reader`] and a [`Writer`].
///
/// A value is made for each request, by [`FromRequest`], which `#[request_handler]` implements. Its methods are called
/// in the order `setup`, `handle`, `finish`, with `closing` before `finish` where the server ends the connection. An
/// error or a panic ends this request only: it is given to [`Server::handle_error`]; of two, the first.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not handle requests",
    label = "the handler of a server must implement `RequestHandler`",
    note = "write `impl RequestHandler for {Self} {{ fn handle(&mut self) -> HandlerResult {{ … }} }}`"
)]
pub trait RequestHandler {
    /// Called first. After an error neither `handle` nor `finish` is called.
    fn setup(&mut self) -> HandlerResult {
        Ok(())
    }

    /// Does the work of the request.
    fn handle(&mut self) -> HandlerResult;

    /// Called when the server ends the connection, to say goodbye: after `handle` has returned the error that its read
    /// failed with then, which `?` does. All its waits for the client, and those of `finish`, end within a second.
    ///
    /// Such an end is no failure: it is not given to [`Server::handle_error`], and counts by its reason.
    ///
    /// ```
    /// use sockserver::{Closing, HandlerResult, Reader, RequestHandler, Writer, request_handler};
    /// use std::io::Write;
    ///
    /// #[request_handler]
    /// struct Mail {
    ///     rfile: Reader,
    ///     wfile: Writer,
    /// }
    ///
    /// impl RequestHandler for Mail {
    ///     fn handle(&mut self) -> HandlerResult {
    ///         while let Some(_command) = self.rfile.next_line()? {
    ///             write!(self.wfile, "250 OK\r\n")?;
    ///         }
    ///         Ok(())
    ///     }
    ///
    ///     fn closing(&mut self, why: Closing) -> HandlerResult {
    ///         Ok(write!(self.wfile, "421 {why}\r\n")?)
    ///     }
    /// }
    /// ```
    fn closing(&mut self, _why: Closing) -> HandlerResult {
        Ok(())
    }

    /// Called last, whenever `setup` succeeded: also after an error or a panic in `handle`. What was written is sent
    /// after it, without a `flush`.
    fn finish(&mut self) -> HandlerResult {
        Ok(())
    }
}

/// What can be taken from a request: the types of a handler's fields, and by `#[request_handler]` the handler itself.
///
/// It is implemented for [`Reader`], [`Writer`], [`Address`], `Arc<S>` (the server), [`ServerHandle`] and
/// [`ConnectionId`] on all transports, for [`Stream`] on tcp and unix, [`Datagram`] on udp and unix_datagram,
/// [`SocketAddr`] on tcp and udp, and [`PeerCred`] on unix. A `SocketAddr` is as the system tells it: to a server on
/// `[::]` an IPv4 client has an IPv4-mapped one, of which [`Address::ip`] makes an IPv4 address.
///
/// Implement it for a type of your own to do what each request needs before its handler runs. The fields of a handler
/// are taken in the order of their declaration, so that a field of this type stands before the handler's own reader:
///
/// ```
/// use sockserver::{Context, FromRequest, Reader, Server};
/// use std::io;
///
/// /// The first line of a connection.
/// struct Greeting(String);
///
/// impl<S: Server> FromRequest<S> for Greeting {
///     fn from_request(cx: &mut Context<'_, S>) -> io::Result<Greeting> {
///         // What this reader has received and not given out goes to the next one.
///         let mut reader = Reader::from_request(cx)?;
///         reader.next_line()?.map(Greeting).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be taken from a request to `{S}`",
    label = "no request of this server has a `{Self}`",
    note = "a field can be a `Reader`, `Writer`, `Address`, `ServerHandle`, `ConnectionId` or the server as \
            `Arc<{S}>`; also a `Stream` (tcp, unix), `Datagram` (udp, unix_datagram), `SocketAddr` (tcp, udp) or \
            `PeerCred` (unix)",
    note = "a field that does not come from the request is marked `#[default]` or `#[default(value)]`; a handler is \
            marked `#[request_handler]`; a type of your own can implement `FromRequest`"
)]
pub trait FromRequest<S: Server>: Sized {
    /// Takes the value. An error ends the request before `setup`.
    fn from_request(cx: &mut Context<'_, S>) -> io::Result<Self>;
}

/// A request of which a handler is being made: what [`FromRequest`] takes it from.
pub struct Context<'a, S: Server> {
    request: &'a Request<S>,
    acceptor: &'a Acceptor<S>,
    files: Files,
}

/// No receive buffer of a socket is larger: whoever asks for more gets no more at once.
const MAX_RBUFSIZE: usize = 16 << 20;

impl<S: Server> fmt::Debug for Context<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("client_address", self.client_address()).finish_non_exhaustive()
    }
}

impl<'a, S: Server> Context<'a, S> {
    pub(crate) fn new(request: &'a Request<S>, acceptor: &'a Acceptor<S>) -> Context<'a, S> {
        Context { request, acceptor, files: Files::default() }
    }

    /// The request itself: a [`Stream`] or a datagram.
    pub fn request(&self) -> &'a Request<S> {
        self.request
    }

    /// Where the request comes from.
    pub fn client_address(&self) -> &'a Address {
        self.request.client_address()
    }

    /// The server that the request came to.
    pub fn server(&self) -> &'a Arc<S> {
        self.acceptor.server()
    }

    /// The handle that steers the server.
    pub fn handle(&self) -> &'a ServerHandle {
        self.acceptor.handle()
    }

    /// Bounds each read and each write of the request, as `#[request_handler(timeout = …)]` does: the `timeout` of
    /// Python's `StreamRequestHandler`. Of a datagram it bounds how long each reply waits for room in the client's
    /// queue: one second, unless this says otherwise.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] for a duration of zero, on a stream.
    pub fn set_timeout(&mut self, timeout: Duration) -> io::Result<()> {
        self.request.set_timeout(timeout)
    }

    /// How many bytes a [`Reader`] that is taken from here on receives at once, as `rbufsize` does: 16 MiB at most.
    /// Default: 8 KiB. A read into a buffer that is no smaller bypasses the reader's own.
    ///
    /// # Panics
    ///
    /// On zero, with which nothing could be received.
    pub fn set_rbufsize(&mut self, bytes: usize) {
        assert!(bytes > 0, "an rbufsize of zero could receive nothing");
        self.files.rbufsize = bytes.min(MAX_RBUFSIZE);
    }

    /// How many bytes a [`Writer`] that is taken from here on holds back, as `wbufsize` does; with zero every write is
    /// sent at once. Default: 8 KiB (Python: 0).
    pub fn set_wbufsize(&mut self, bytes: usize) {
        self.files.wbufsize = bytes;
    }

    /// How long a line a [`Reader`] that is taken from here on accepts, in bytes without the `\n` at its end, as
    /// `max_line` does. Default: 64 KiB.
    pub fn set_max_line(&mut self, bytes: usize) {
        self.files.max_line = bytes;
    }
}

impl<S: Server> FromRequest<S> for Reader {
    fn from_request(cx: &mut Context<'_, S>) -> io::Result<Reader> {
        cx.request.reader(&cx.files)
    }
}

impl<S: Server> FromRequest<S> for Writer {
    fn from_request(cx: &mut Context<'_, S>) -> io::Result<Writer> {
        Ok(cx.request.writer(&cx.files))
    }
}

impl<S: Server> FromRequest<S> for Address {
    fn from_request(cx: &mut Context<'_, S>) -> io::Result<Address> {
        Ok(cx.client_address().clone())
    }
}

impl<S: Server> FromRequest<S> for ConnectionId {
    fn from_request(cx: &mut Context<'_, S>) -> io::Result<ConnectionId> {
        Ok(cx.request.id())
    }
}

impl<S: Server> FromRequest<S> for ServerHandle {
    fn from_request(cx: &mut Context<'_, S>) -> io::Result<ServerHandle> {
        Ok(cx.handle().clone())
    }
}

impl<S: Server> FromRequest<S> for Arc<S> {
    fn from_request(cx: &mut Context<'_, S>) -> io::Result<Arc<S>> {
        Ok(cx.server().clone())
    }
}

impl<S: Server<Transport: StreamTransport>> FromRequest<S> for Stream {
    fn from_request(cx: &mut Context<'_, S>) -> io::Result<Stream> {
        Ok(cx.request.clone())
    }
}

impl<S: Server<Transport: DatagramTransport>> FromRequest<S> for Datagram {
    fn from_request(cx: &mut Context<'_, S>) -> io::Result<Datagram> {
        Ok(cx.request.clone())
    }
}

impl<S: Server<Transport: InetTransport>> FromRequest<S> for SocketAddr {
    fn from_request(cx: &mut Context<'_, S>) -> io::Result<SocketAddr> {
        match cx.client_address() {
            Address::Inet(address) => Ok(*address),
            Address::Unix(_) => Err(io::Error::new(io::ErrorKind::Unsupported, "the client is at a Unix address")),
        }
    }
}

impl<S: Server<Transport: UnixTransport>> FromRequest<S> for PeerCred {
    fn from_request(cx: &mut Context<'_, S>) -> io::Result<PeerCred> {
        PeerCred::of(cx.request)
    }
}

/// Who is at the other end of a Unix stream socket, as the kernel knows it from the time of the connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct PeerCred {
    /// The effective user.
    pub uid: u32,
    /// The effective group.
    pub gid: u32,
    /// The process, on systems that tell it.
    pub pid: Option<i32>,
}

impl PeerCred {
    /// The credentials of a connection.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Unsupported`] for a connection that is not of a Unix socket.
    pub fn of(stream: &Stream) -> io::Result<PeerCred> {
        // Linux answers for any socket, with the user -1.
        if let Address::Inet(address) = stream.peer_address() {
            return Err(io::Error::new(io::ErrorKind::Unsupported, format!("who is at {address} is not known")));
        }
        let (uid, gid, pid) = sys::peer_credentials(std::os::fd::AsFd::as_fd(stream.connection().socket()))?;
        Ok(PeerCred { uid, gid, pid })
    }
}

/// Why a request could not be handled, as [`Server::handle_error`] is told.
#[derive(Debug)]
pub struct HandlerError {
    stage: Stage,
    cause: Cause,
    is_disconnect: bool,
    is_timeout: bool,
}

/// How far a request had come when it failed. It is shown as in [`HandlerError`]: `making the handler`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// Accepting: there is no client yet, and the address that comes with the error is the server's own. Reported once
    /// until accepting works again.
    GetRequest,
    /// In the hook `verify_request`.
    VerifyRequest,
    /// No thread or process could be had for it.
    ProcessRequest,
    /// Starting the threads that serve: there is no client, and the address that comes with the error is the server's
    /// own. The server serves all the same, on fewer threads.
    Serve,
    /// Making the handler, in [`FromRequest`].
    Construction,
    /// In [`RequestHandler::setup`].
    Setup,
    /// In [`RequestHandler::handle`].
    Handle,
    /// In [`RequestHandler::closing`].
    Closing,
    /// In [`RequestHandler::finish`], or sending what was written.
    Finish,
}

impl Stage {
    pub(crate) const ALL: [Stage; 9] = [
        Stage::GetRequest,
        Stage::VerifyRequest,
        Stage::ProcessRequest,
        Stage::Serve,
        Stage::Construction,
        Stage::Setup,
        Stage::Handle,
        Stage::Closing,
        Stage::Finish,
    ];
}

#[derive(Debug)]
enum Cause {
    Error(BoxError),
    Panic(String),
}

impl HandlerError {
    pub(crate) fn new(stage: Stage, error: impl Into<BoxError>) -> HandlerError {
        HandlerError { stage, cause: Cause::Error(error.into()), is_disconnect: false, is_timeout: false }
    }

    pub(crate) fn panic(stage: Stage, message: String) -> HandlerError {
        HandlerError { stage, cause: Cause::Panic(message), is_disconnect: false, is_timeout: false }
    }

    /// Finds out whether the error is one that the connection has had itself: the same kind from elsewhere, as of a
    /// database, says nothing about the client.
    pub(crate) fn attribute(&mut self, failures: &Failures) {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, TimedOut, UnexpectedEof};
        let hang_ups = [BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof];
        let is = |kinds: &[io::ErrorKind]| {
            self.io_errors().any(|error| kinds.contains(&error.kind()) && failures.contain(error.kind()))
        };
        let is_unreachable = failures.contain_unreachable() && self.io_errors().any(datagram::is_about_the_client);
        (self.is_disconnect, self.is_timeout) = (is(&hang_ups) || is_unreachable, is(&[TimedOut]));
    }

    /// As it was told by a child process, where only its text is known.
    pub(crate) fn of_outcome(self, outcome: Outcome) -> HandlerError {
        let (is_disconnect, is_timeout) = (outcome == Outcome::Disconnected, outcome == Outcome::TimedOut);
        HandlerError { is_disconnect, is_timeout, ..self }
    }

    /// How far the request had come.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// It was a panic; its message is in the text of this error.
    pub fn is_panic(&self) -> bool {
        matches!(self.cause, Cause::Panic(_))
    }

    /// The client of this request has hung up, or was cut off by the server: a read or a write of its connection has
    /// failed with a reset, a broken pipe or the like, or has found the end of file, and an error of that kind
    /// ([`UnexpectedEof`](io::ErrorKind::UnexpectedEof) for the end of file) is somewhere in the chain of sources. What
    /// another connection has failed with, such as that of a database, does not count. Of a packet: its sender has an
    /// address that cannot be replied to.
    pub fn is_disconnect(&self) -> bool {
        self.is_disconnect
    }

    /// A read or a write of this request's connection took longer than it may, and such an error is somewhere in the
    /// chain of sources.
    pub fn is_timeout(&self) -> bool {
        self.is_timeout
    }

    /// Why the server has ended the connection, where this is what a read or a write of it failed with then.
    fn closing_of(&self, record: &Record) -> Option<Closing> {
        let closing = self.io_errors().find_map(|error| error.get_ref()?.downcast_ref().copied());
        closing.filter(|why| record.closing() == Some(*why))
    }

    /// What failed, without the stage.
    pub(crate) fn cause(&self) -> String {
        match &self.cause {
            Cause::Error(error) => error.to_string(),
            Cause::Panic(message) => message.clone(),
        }
    }

    fn io_errors(&self) -> impl Iterator<Item = &io::Error> {
        let chain = std::iter::successors(self.source(), |&error| error.source());
        chain.filter_map(|error| error.downcast_ref::<io::Error>())
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.is_panic() { "panicked" } else { "failed" };
        write!(f, "{} {verb}: {}", self.stage, self.cause())
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Stage::GetRequest => "accepting",
            Stage::VerifyRequest => "verify_request",
            Stage::ProcessRequest => "starting the request",
            Stage::Serve => "starting a thread",
            Stage::Construction => "making the handler",
            Stage::Setup => "setup",
            Stage::Handle => "handle",
            Stage::Closing => "closing",
            Stage::Finish => "finish",
        })
    }
}

impl Error for HandlerError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.cause {
            Cause::Error(error) => Some(&**error),
            Cause::Panic(_) => None,
        }
    }
}

/// How a request has ended, and with which error.
pub(crate) struct Ended {
    pub(crate) outcome: Outcome,
    pub(crate) error: Option<HandlerError>,
}

/// Python's `finish_request`: makes the handler, runs it, and sends what it has written.
pub(crate) fn finish_request<S: Server>(acceptor: &Acceptor<S>, request: &Request<S>) -> Ended {
    let control = acceptor.handle().control();
    let record = request.record();
    // An extractor, or `setup`, may have been what was receiving.
    let handled = run_handler(acceptor, request).or_else(|error| unless_closing(control, error, record).map(Some));
    // After an error as well: what the handler has written may be the error reply.
    let flushed = request.flush().map_err(|error| HandlerError::new(Stage::Finish, error));
    let result = match handled {
        // What the client of a connection that the server ends does not take is part of the end.
        Ok(Some(why)) => Ok(Some(why)),
        handled => handled.and_then(|_| flushed.map(|()| None)),
    };
    let result = result.map_err(|error| attributed(control, error, record));
    Ended { outcome: Outcome::of(&result, record), error: result.err() }
}

/// Makes the handler and calls its methods. `Some`: the server has ended the connection, and the handler has seen it.
fn run_handler<S: Server>(acceptor: &Acceptor<S>, request: &Request<S>) -> Result<Option<Closing>, HandlerError> {
    let control = acceptor.handle().control();
    let mut handler =
        run(control, Stage::Construction, || Ok(S::Handler::from_request(&mut Context::new(request, acceptor))?))?;
    let result = run(control, Stage::Setup, || handler.setup()).and_then(|()| {
        let handled = match run(control, Stage::Handle, || handler.handle()) {
            Err(error) => end_by_server(control, request, error, &mut handler),
            Ok(()) => Ok(None),
        };
        first(control, handled, run(control, Stage::Finish, || handler.finish()))
    });
    // Its fields may be the user's, and panic when they are dropped.
    let dropped = run(control, Stage::Finish, || {
        drop(handler);
        Ok(())
    });
    first(control, result, dropped)
}

/// `handle` has failed: if that is because the server ends the connection, the handler says goodbye.
fn end_by_server<R: AnyRequest>(
    control: &Control,
    request: &R,
    error: HandlerError,
    handler: &mut impl RequestHandler,
) -> Result<Option<Closing>, HandlerError> {
    let why = unless_closing(control, error, request.record())?;
    if let Some(connection) = request.connection() {
        connection.cut_within(GOODBYE);
    }
    if let Err(error) = run(control, Stage::Closing, || handler.closing(why)) {
        let error = attributed(control, error, request.record());
        // A client that does not take the goodbye has hung up on it.
        if !error.is_disconnect && !error.is_timeout {
            return Err(error);
        }
        discard(control, error);
    }
    Ok(Some(why))
}

/// Why the server has ended the connection, if that is what the error is about.
fn unless_closing(control: &Control, error: HandlerError, record: &Record) -> Result<Closing, HandlerError> {
    // The error is the user's, and is asked for its sources.
    let Ok(Some(why)) = unwind::run(control, || error.closing_of(record)) else { return Err(error) };
    discard(control, error);
    Ok(why)
}

/// The error, which knows whether it is about the client.
fn attributed(control: &Control, mut error: HandlerError, record: &Record) -> HandlerError {
    // One that panics when it is asked for its sources is about nothing that is known.
    let _ = unwind::run(control, || error.attribute(record.failures()));
    error
}

/// Drops an error. It is the user's, and may panic then.
fn discard(control: &Control, error: HandlerError) {
    let _ = unwind::run(control, || drop(error));
}

impl Outcome {
    /// `Some`: the server has ended the connection, and the handler has seen it.
    fn of(result: &Result<Option<Closing>, HandlerError>, record: &Record) -> Outcome {
        match (result, record.closing()) {
            (Err(error), _) if error.is_panic() => Outcome::Panicked,
            (_, Some(Closing::Idle | Closing::Lifetime)) => Outcome::TimedOut,
            (Ok(Some(Closing::Kicked)), _) => Outcome::Disconnected,
            // One that was cut was in the middle of something.
            (Ok(Some(_)), _) if record.shut_for().is_some() => Outcome::Disconnected,
            (Ok(_), _) => Outcome::Finished,
            (Err(error), _) if error.is_timeout() => Outcome::TimedOut,
            (Err(error), _) if error.is_disconnect() => Outcome::Disconnected,
            (Err(_), _) => Outcome::Failed,
        }
    }
}

/// Of two errors the first.
fn first<T>(
    control: &Control,
    earlier: Result<T, HandlerError>,
    later: Result<(), HandlerError>,
) -> Result<T, HandlerError> {
    match (earlier, later) {
        (Err(earlier), Err(later)) => {
            discard(control, later);
            Err(earlier)
        }
        (earlier, later) => earlier.and_then(|value| later.map(|()| value)),
    }
}

fn run<T>(control: &Control, stage: Stage, user_code: impl FnOnce() -> Result<T, BoxError>) -> Result<T, HandlerError> {
    match unwind::run(control, user_code) {
        Ok(result) => result.map_err(|error| HandlerError::new(stage, error)),
        Err(message) => Err(HandlerError::panic(stage, message)),
    }
}

//! The error of a request, as `handle_error` gets it.

use std::{error::Error, fmt, io};

use crate::{
    connections::stats::Outcome,
    framing::FrameError,
    handler::BoxError,
    io::{
        closing::Closing,
        failures::{ClientFailure, Failures},
        state::{ConnectionInfo, ConnectionState},
    },
    request::{datagram, end_of_file::EndOfFile},
};

/// Why a request has failed: what [`Server::handle_error`](crate::Server::handle_error) gets.
#[derive(Debug)]
pub struct HandlerError {
    stage: Stage,
    cause: Cause,
    connection: Option<Box<ConnectionInfo>>,
    origin: Origin,
}

/// How far a request had come when it failed. It is displayed as in a [`HandlerError`]: `making the handler`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// Accepting. There is no client yet: `handle_error` gets the server's own address. It is called once until accepting
    /// has worked for ten seconds.
    GetRequest,
    /// Reading the PROXY header. `handle_error` gets the address of the proxy, and is called at most once an hour for each.
    Preamble,
    /// The TLS handshake. `handle_error` is called at most once an hour for the handshakes of all clients together: anybody
    /// can make one fail.
    Handshake,
    /// Reading the certificates again, as `tls(reload)` says: the old ones stay. There is no client: `handle_error` gets the
    /// server's own address. It is called once for each change of the files.
    Reload,
    /// In the hook `verify_request`.
    VerifyRequest,
    /// No thread or process could be started for the request.
    ProcessRequest,
    /// Starting the threads that serve. There is no client: `handle_error` gets the server's own address. The server serves
    /// all the same, on fewer threads.
    Serve,
    /// Making the handler, in [`FromRequest`](crate::FromRequest).
    Construction,
    /// In [`RequestHandler::setup`](crate::RequestHandler::setup).
    Setup,
    /// In [`RequestHandler::handle`](crate::RequestHandler::handle).
    Handle,
    /// In [`RequestHandler::closing`](crate::RequestHandler::closing).
    Closing,
    /// In [`RequestHandler::finish`](crate::RequestHandler::finish), or sending what was written.
    Finish,
}

impl Stage {
    pub(crate) const ALL: [Stage; 12] = [
        Stage::GetRequest,
        Stage::Preamble,
        Stage::Handshake,
        Stage::Reload,
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

/// Where an error comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// Not from the connection of the handler.
    Elsewhere,
    /// Its client has hung up.
    HangUp,
    /// Its client has let a timeout pass.
    Timeout,
    /// The server has ended it.
    Server(Closing),
}

#[derive(Debug)]
enum Cause {
    Error(BoxError),
    Panic(String),
}

impl HandlerError {
    /// An error of this stage, for tests of a [`handle_error`](crate::Server::handle_error).
    ///
    /// ```
    /// use sockserver::{HandlerError, Stage};
    /// use std::error::Error;
    ///
    /// let error = HandlerError::new(Stage::Handle, "no disk");
    /// assert_eq!(error.to_string(), "handle failed");
    /// assert_eq!(error.source().unwrap().to_string(), "no disk");
    /// ```
    pub fn new(stage: Stage, error: impl Into<BoxError>) -> HandlerError {
        HandlerError::of(stage, Cause::Error(error.into()))
    }

    /// A panic in this stage, for the same tests.
    pub fn panic(stage: Stage, message: impl Into<String>) -> HandlerError {
        HandlerError::of(stage, Cause::Panic(message.into()))
    }

    fn of(stage: Stage, cause: Cause) -> HandlerError {
        HandlerError { stage, cause, connection: None, origin: Origin::Elsewhere }
    }

    pub(crate) fn with_connection(self, connection: ConnectionInfo) -> HandlerError {
        HandlerError { connection: Some(Box::new(connection)), ..self }
    }

    /// Notes where the error comes from, by the connection that the handler had when it returned the error.
    pub(crate) fn attribute(&mut self, state: &ConnectionState) {
        if let Cause::Error(error) = &self.cause {
            self.origin = Origin::of(&**error, state);
        }
    }

    /// The error that a child process has reported. Only its text has come over.
    pub(crate) fn of_outcome(self, outcome: Outcome) -> HandlerError {
        let origin = match outcome {
            Outcome::Disconnected => Origin::HangUp,
            Outcome::TimedOut => Origin::Timeout,
            _ => Origin::Elsewhere,
        };
        HandlerError { origin, ..self }
    }

    /// How far the request had come.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// The connection (on datagrams, the packet) as it was when the request had failed: its number, its age, its bytes.
    /// `None` where there is no client ([`Stage::GetRequest`], [`Stage::Reload`], [`Stage::Serve`]), and for an error that a test has made.
    pub fn connection(&self) -> Option<&ConnectionInfo> {
        self.connection.as_deref()
    }

    /// Whether it was a panic. Its message is in the text of this error.
    pub fn is_panic(&self) -> bool {
        matches!(self.cause, Cause::Panic(_))
    }

    /// Whether the client of this request has hung up, or the server has cut it off.
    ///
    /// That is so if a read or a write of its connection has failed with a reset, a broken pipe or the like, and the
    /// handler has returned that error or one that is made of it:
    ///
    /// * The error of the connection is a [source](Error::source) of the returned one, or inside an [`io::Error`]
    ///   there, or a source is an `io::Error` of the same kind.
    /// * The returned error does not say what is behind it, as the errors of many parsers do not. Then the last read or
    ///   write of the connection must have failed, in the same method of the handler. An `io::Error` of another system call,
    ///   or of a kind that another connection must have failed with, does say it.
    ///
    /// An error of another connection, such as a database's, does not count. Nor does a failure that the handler has
    /// caught, once a later read or write has succeeded.
    ///
    /// An end of file is no failure. [`read_exact`](io::Read::read_exact) of a [`Reader`](crate::Reader) or a
    /// [`Stream`](crate::Stream) makes an error of it, with an [`EndOfFile`] inside, and so does
    /// [`Frames`](crate::Frames) within a message. A handler that needs more than the client has sent returns `EndOfFile`
    /// itself. [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) without it does not count: a file may have ended.
    ///
    /// On datagrams it means that the sender's address cannot be replied to.
    pub fn is_disconnect(&self) -> bool {
        matches!(self.origin, Origin::HangUp | Origin::Server(Closing::Draining | Closing::Kicked))
    }

    /// Whether a read or a write of this request's connection has timed out, and the handler has returned that error or one
    /// that is made of it, in the sense of [`is_disconnect`](Self::is_disconnect).
    pub fn is_timeout(&self) -> bool {
        matches!(self.origin, Origin::Timeout | Origin::Server(Closing::Idle | Closing::Lifetime | Closing::Handshake))
    }

    /// Why the server has ended the connection, if that has made a read or a write fail with this error.
    pub(crate) fn closing(&self) -> Option<Closing> {
        match self.origin {
            Origin::Server(why) => Some(why),
            _ => None,
        }
    }

    /// The text of the error or the panic, without the stage.
    pub(crate) fn cause(&self) -> String {
        match &self.cause {
            Cause::Error(error) => error.to_string(),
            Cause::Panic(message) => message.clone(),
        }
    }
}

impl Origin {
    /// By the best evidence that there is: what the connection has put into its error, then the kind of an error, then
    /// whether the last read or write failed.
    fn of(error: &(dyn Error + 'static), state: &ConnectionState) -> Origin {
        if let Some(origin) = chain(error).find_map(|error| Origin::named(error, state)) {
            return origin;
        }
        let mut says_nothing = true;
        for error in chain(error).filter_map(|error| error.downcast_ref::<io::Error>()) {
            if let Some(origin) = Origin::by_kind(error, state) {
                return origin;
            }
            says_nothing &= error.raw_os_error().is_none() && !Failures::can_have(error.kind());
        }
        if says_nothing { Origin::of_last_failure(state) } else { Origin::Elsewhere }
    }

    /// What is an error of this connection by its type.
    fn named(error: &(dyn Error + 'static), state: &ConnectionState) -> Option<Origin> {
        if let Some(&why) = error.downcast_ref::<Closing>() {
            return (state.closing() == Some(why)).then_some(Origin::Server(why));
        }
        if let Some(failure) = error.downcast_ref::<ClientFailure>() {
            return failure.kind_on(state.id.number()).map(Origin::of_kind);
        }
        let is_early_end =
            error.is::<EndOfFile>() || matches!(error.downcast_ref(), Some(FrameError::Truncated { .. }));
        let failures = state.failures();
        let is_unreachable =
            || failures.contain_unreachable() && error.downcast_ref().is_some_and(datagram::is_about_the_client);
        (is_early_end && failures.has_client_ended() || is_unreachable()).then_some(Origin::HangUp)
    }

    /// An error of a kind that the connection has failed with, and with nothing since.
    fn by_kind(error: &io::Error, state: &ConnectionState) -> Option<Origin> {
        let (kind, failures) = (error.kind(), state.failures());
        let closing = state.closing().filter(|why| failures.contain_end_by_server() && why.kind() == kind);
        match closing {
            Some(why) if error.raw_os_error().is_none() => Some(Origin::Server(why)),
            _ => failures.contain(kind).then(|| Origin::of_kind(kind)),
        }
    }

    fn of_kind(kind: io::ErrorKind) -> Origin {
        if kind == io::ErrorKind::TimedOut { Origin::Timeout } else { Origin::HangUp }
    }

    fn of_last_failure(state: &ConnectionState) -> Origin {
        let failures = state.failures();
        match state.closing() {
            Some(why) if failures.contain_end_by_server() => Origin::Server(why),
            _ if failures.are_empty() => Origin::Elsewhere,
            _ if failures.contain(io::ErrorKind::TimedOut) => Origin::Timeout,
            _ => Origin::HangUp,
        }
    }
}

/// An error, and what it is made of. [`io::Error`] leaves out the error inside it when it is asked for its source.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner as &(dyn Error + 'static)),
        None => error.source(),
    })
}

/// Displays the stage, and the message of a panic. The message of an error is in its [`source`](Error::source).
impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Cause::Error(_) => write!(f, "{} failed", self.stage),
            Cause::Panic(message) => write!(f, "{} panicked: {message}", self.stage),
        }
    }
}

/// For `main` and the like. The kind is that of the [`io::Error`] that is the cause, if it is one.
impl From<HandlerError> for io::Error {
    fn from(error: HandlerError) -> io::Error {
        let kind = match &error.cause {
            Cause::Error(cause) => cause.downcast_ref::<io::Error>().map(io::Error::kind),
            Cause::Panic(_) => None,
        };
        io::Error::new(kind.unwrap_or(io::ErrorKind::Other), error)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Stage::GetRequest => "accepting",
            Stage::Preamble => "reading the PROXY header",
            Stage::Handshake => "the TLS handshake",
            Stage::Reload => "reading the certificates again",
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

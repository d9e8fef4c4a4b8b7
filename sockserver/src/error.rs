//! The error of a request, as `handle_error` gets it.

use std::{error::Error, fmt, io};

use crate::{
    connections::stats::Outcome,
    handler::BoxError,
    io::{
        closing::Closing,
        failures::Failures,
        state::{ConnectionInfo, ConnectionState},
    },
    request::datagram,
};

/// Why a request has failed: what [`Server::handle_error`](crate::Server::handle_error) gets.
#[derive(Debug)]
pub struct HandlerError {
    stage: Stage,
    cause: Cause,
    connection: Option<Box<ConnectionInfo>>,
    is_disconnect: bool,
    is_timeout: bool,
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
        HandlerError { stage, cause, connection: None, is_disconnect: false, is_timeout: false }
    }

    pub(crate) fn with_connection(self, connection: ConnectionInfo) -> HandlerError {
        HandlerError { connection: Some(Box::new(connection)), ..self }
    }

    /// Notes whether the error is about the client: an error of this kind must have occurred on the connection itself. The
    /// same kind of error from elsewhere, such as a database, says nothing about the client.
    pub(crate) fn attribute(&mut self, failures: &Failures) {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, TimedOut, UnexpectedEof};
        let hang_ups = [BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof];
        let is = |kinds: &[io::ErrorKind]| {
            self.io_errors().any(|error| kinds.contains(&error.kind()) && failures.contain(error.kind()))
        };
        let is_unreachable = failures.contain_unreachable() && self.io_errors().any(datagram::is_about_the_client);
        (self.is_disconnect, self.is_timeout) = (is(&hang_ups) || is_unreachable, is(&[TimedOut]));
    }

    /// The error that a child process has reported. Only its text has come over.
    pub(crate) fn of_outcome(self, outcome: Outcome) -> HandlerError {
        let (is_disconnect, is_timeout) = (outcome == Outcome::Disconnected, outcome == Outcome::TimedOut);
        HandlerError { is_disconnect, is_timeout, ..self }
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
    /// That is so if a read or a write of its connection has failed with a reset, a broken pipe or the like, or has found
    /// the end of file, and the chain of sources has an error of that kind
    /// ([`UnexpectedEof`](io::ErrorKind::UnexpectedEof) for the end of file). An error of another connection, such as a
    /// database's, does not count. On datagrams it means that the sender's address cannot be replied to.
    pub fn is_disconnect(&self) -> bool {
        self.is_disconnect
    }

    /// Whether a read or a write of this request's connection has timed out, and the chain of sources has such an error.
    pub fn is_timeout(&self) -> bool {
        self.is_timeout
    }

    /// Why the server has ended the connection, if that has made a read or a write fail with this error.
    pub(crate) fn closing_of(&self, state: &ConnectionState) -> Option<Closing> {
        let closing = self.io_errors().find_map(|error| error.get_ref()?.downcast_ref().copied());
        closing.filter(|why| state.closing() == Some(*why))
    }

    /// The text of the error or the panic, without the stage.
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

//! Why the server ends a connection.

use std::{error::Error, fmt, io, time::Duration};

/// How long a handler has to say goodbye once it knows that its connection ends.
pub(crate) const GOODBYE: Duration = Duration::from_secs(1);

/// Why the server is ending a connection. Its [`Display`](fmt::Display) is a reason: `the server is stopping`.
///
/// A handler that waits for input then gets an [`io::Error`] with this inside, never an end of file:
///
/// ```
/// use sockserver::Closing;
/// use std::io;
///
/// fn closing_of(error: &io::Error) -> Option<Closing> {
///     error.get_ref()?.downcast_ref().copied()
/// }
/// # let error = io::Error::new(io::ErrorKind::ConnectionAborted, Closing::Draining);
/// # assert_eq!(closing_of(&error), Some(Closing::Draining));
/// # assert_eq!(closing_of(&io::ErrorKind::ConnectionAborted.into()), None);
/// ```
///
/// A handler that finds input which was received already gets it too, as soon as it may take no more: after a cut, at the
/// lifetime, and when it is closed. While the server drains it still gets what had come.
///
/// `?` carries it out of `handle`, and [`RequestHandler::closing`](crate::RequestHandler::closing) is called. The handler may
/// also return an error that is made of it, in the sense of
/// [`HandlerError::is_disconnect`](crate::HandlerError::is_disconnect), such as the error of a parser that was reading. So an
/// error that the handler returns right after it, and which does not say what is behind it, counts as the server's end.
///
/// A handler that catches it and goes on says goodbye itself. If it then fails otherwise, that is a failure like any other:
/// once something was sent, or if the error is an `io::Error` of another system call, such as that of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Closing {
    /// The server is stopping. An idle connection ends at once; a busy one has until `timeouts(shutdown)`, and is then
    /// cut: the socket is shut, and all reads and writes fail. The kind of the error is
    /// [`ConnectionAborted`](io::ErrorKind::ConnectionAborted).
    Draining,
    /// Nothing was transferred for `timeouts(idle)`. The kind is [`TimedOut`](io::ErrorKind::TimedOut).
    Idle,
    /// The connection has lasted for `timeouts(lifetime)`. The kind is [`TimedOut`](io::ErrorKind::TimedOut).
    Lifetime,
    /// [`ServerHandle::close`](crate::ServerHandle::close) was called for it. The kind is
    /// [`ConnectionAborted`](io::ErrorKind::ConnectionAborted).
    Kicked,
    /// Its PROXY header or its TLS handshake takes long, and other clients wait for a place of
    /// [`limits(handshakes)`](crate::Limits::handshakes). It has no handler yet.
    Handshake,
}

impl Closing {
    pub(super) const ALL: [Closing; 5] =
        [Closing::Draining, Closing::Idle, Closing::Lifetime, Closing::Kicked, Closing::Handshake];

    /// The error of a read or a write on a connection that the server ends.
    pub(crate) fn into_error(self) -> io::Error {
        io::Error::new(self.kind(), self)
    }

    pub(crate) fn kind(self) -> io::ErrorKind {
        match self {
            Closing::Idle | Closing::Lifetime | Closing::Handshake => io::ErrorKind::TimedOut,
            Closing::Draining | Closing::Kicked => io::ErrorKind::ConnectionAborted,
        }
    }
}

impl fmt::Display for Closing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Closing::Draining => "the server is stopping",
            Closing::Idle => "nothing was transferred for longer than the idle timeout",
            Closing::Lifetime => "the connection has reached its lifetime",
            Closing::Kicked => "the server has closed this connection",
            Closing::Handshake => "the header or the handshake took long while other clients waited",
        })
    }
}

impl Error for Closing {}

//! What happens in a server, for logs and alarms.

use std::{
    fmt, io,
    time::{Duration, Instant},
};

use crate::{
    address::Address,
    connections::{drain::DrainReport, limits::Rejected, stats::Outcome},
    error::HandlerError,
    io::{
        closing::Closing,
        state::{ConnectionId, ConnectionInfo, ConnectionState},
    },
};

/// What has happened in a server: what the hook [`EVENT`](crate::Server::EVENT), `hooks(event = …)`, is called with.
///
/// Each connection (on datagrams, each packet) that was [`Accepted`](Event::Accepted) has exactly one of
/// [`Ended`](Event::Ended) and [`TurnedAway`](Event::TurnedAway), before its client can see the end. The events of one
/// connection come in order; those of several connections come from several threads at once. An access log is all that a
/// match on these two prints:
///
/// ```
/// use sockserver::{Event, HandlerResult, RequestHandler, Server, Writer, request_handler};
/// use std::io::Write;
///
/// #[request_handler]
/// #[server(transport = "tcp", concurrency = "threading", hooks(event = log))]
/// struct Hello {
///     wfile: Writer,
/// }
///
/// fn log(_: &HelloServer, event: &Event<'_>) {
///     match event {
///         Event::Ended { connection, outcome, .. } => println!("{connection} {outcome}"),
///         Event::TurnedAway { connection, why, .. } => println!("{connection} turned away: {why}"),
///         _ => {}
///     }
/// }
/// # impl RequestHandler for Hello {
/// #     fn handle(&mut self) -> HandlerResult {
/// #         Ok(writeln!(self.wfile, "hello")?)
/// #     }
/// # }
/// # fn main() -> std::io::Result<()> {
/// # let server = HelloServer.bind("127.0.0.1:0")?.spawn()?;
/// # let client = std::net::TcpStream::connect(server.server_address())?;
/// # assert_eq!(std::io::read_to_string(client)?, "hello\n");
/// # server.stop()?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The server is bound to this address.
    Listening(&'a Address),
    /// A connection was accepted. It may still be turned away.
    Accepted(ConnectionRef<'a>),
    /// The handler of a connection is about to be made. With `"forking"`: its child runs.
    Started(ConnectionRef<'a>),
    /// A connection has ended: its handler has, or could not be started.
    #[non_exhaustive]
    Ended {
        /// The connection, with all bytes that it has received and sent. [`closing`](ConnectionRef::closing) says why, if the
        /// server has ended it.
        connection: ConnectionRef<'a>,
        /// How it has ended, as [`Stats`](crate::Stats) counts it.
        outcome: Outcome,
        /// The error that [`handle_error`](crate::Server::handle_error) gets next.
        error: Option<&'a HandlerError>,
    },
    /// A connection was turned away before its handler could start.
    #[non_exhaustive]
    TurnedAway {
        /// The connection.
        connection: ConnectionRef<'a>,
        /// Why.
        why: TurnedAway,
    },
    /// Accepting has failed, because descriptors ran out for example. It comes once until accepting has
    /// worked for ten seconds.
    AcceptError(&'a io::Error),
    /// So many connections are under way as `limits(connections)` allows: further clients wait or are rejected. It comes
    /// once until `LimitLeft`, and not with `"sync"`. With `"pool"` it can mean that all its workers are busy.
    LimitReached(usize),
    /// After `LimitReached`, an eighth of `limits(connections)` is free again.
    LimitLeft(usize),
    /// [`ServerHandle::suspend`](crate::ServerHandle::suspend) was called.
    Suspended,
    /// [`ServerHandle::resume`](crate::ServerHandle::resume) was called.
    Resumed,
    /// The server begins to drain.
    Stopping,
    /// The server has ended. After it come only the ends of connections whose handlers were given up.
    Stopped(DrainReport),
}

/// Why a connection was turned away before its handler could start. It is displayed in one word, such as `limit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TurnedAway {
    /// `limit`: [`limits(connections)`](crate::Limits::connections), where
    /// [`limits(on_limit)`](crate::Limits::on_limit) is `"reject"`.
    Limit,
    /// `per_client`: [`limits(per_client)`](crate::Limits::per_client).
    PerClient,
    /// `rate`: [`limits(rate)`](crate::Limits::rate), where [`limits(on_limit)`](crate::Limits::on_limit) is `"reject"`.
    Rate,
    /// `rate_per_client`: [`limits(rate_per_client)`](crate::Limits::rate_per_client).
    RatePerClient,
    /// `banned`: [`ServerHandle::ban`](crate::ServerHandle::ban).
    Banned,
    /// `denied`: [`access(…)`](crate::Access).
    Denied,
    /// `refused`: [`verify_request`](crate::Server::verify_request).
    Refused,
    /// `preamble`: its PROXY header was bad, missing or late ([`Stats::bad_preamble`](crate::Stats::bad_preamble)).
    Preamble,
    /// `handshake`: its TLS handshake failed or took too long ([`Stats::bad_handshake`](crate::Stats::bad_handshake)).
    Handshake,
    /// `untrusted`: [`proxy(trust)`](crate::ProxyOptions::trust) does not name its peer.
    Untrusted,
    /// `not_started`: the server or a [`Concurrency`](crate::Concurrency) of your own has ended it before its handler
    /// started.
    NotStarted,
}

impl TurnedAway {
    pub(crate) const ALL: [TurnedAway; TurnedAway::NotStarted as usize + 1] = [
        TurnedAway::Limit,
        TurnedAway::PerClient,
        TurnedAway::Rate,
        TurnedAway::RatePerClient,
        TurnedAway::Banned,
        TurnedAway::Denied,
        TurnedAway::Refused,
        TurnedAway::Preamble,
        TurnedAway::Handshake,
        TurnedAway::Untrusted,
        TurnedAway::NotStarted,
    ];

    /// How it is counted.
    pub(crate) fn outcome(self) -> Outcome {
        match self {
            TurnedAway::Refused => Outcome::Refused,
            TurnedAway::Preamble => Outcome::BadPreamble,
            TurnedAway::Handshake => Outcome::BadHandshake,
            TurnedAway::Limit
            | TurnedAway::PerClient
            | TurnedAway::Rate
            | TurnedAway::RatePerClient
            | TurnedAway::Banned
            | TurnedAway::Denied
            | TurnedAway::Untrusted
            | TurnedAway::NotStarted => Outcome::Rejected,
        }
    }
}

impl From<Rejected> for TurnedAway {
    fn from(why: Rejected) -> TurnedAway {
        match why {
            Rejected::Limit => TurnedAway::Limit,
            Rejected::PerClient => TurnedAway::PerClient,
            Rejected::Rate => TurnedAway::Rate,
            Rejected::RatePerClient => TurnedAway::RatePerClient,
            Rejected::Banned => TurnedAway::Banned,
            Rejected::Denied => TurnedAway::Denied,
        }
    }
}

/// How an accepted connection ends: what its last event says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Ended(Outcome),
    TurnedAway(TurnedAway),
}

impl Ending {
    /// How it is counted.
    pub(crate) fn outcome(self) -> Outcome {
        match self {
            Ending::Ended(outcome) => outcome,
            Ending::TurnedAway(why) => why.outcome(),
        }
    }
}

impl fmt::Display for TurnedAway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            TurnedAway::Limit => "limit",
            TurnedAway::PerClient => "per_client",
            TurnedAway::Rate => "rate",
            TurnedAway::RatePerClient => "rate_per_client",
            TurnedAway::Banned => "banned",
            TurnedAway::Denied => "denied",
            TurnedAway::Refused => "refused",
            TurnedAway::Preamble => "preamble",
            TurnedAway::Handshake => "handshake",
            TurnedAway::Untrusted => "untrusted",
            TurnedAway::NotStarted => "not_started",
        })
    }
}

/// A connection of an [`Event`], or a packet: what it has done until now, computed when it is asked.
///
/// It is displayed as an access log has it: `7 127.0.0.1:50312 1.204s 120 4096` are its number, the client, its age, and how
/// many bytes were received and sent.
#[derive(Clone, Copy)]
pub struct ConnectionRef<'a> {
    state: &'a ConnectionState,
}

impl<'a> ConnectionRef<'a> {
    pub(crate) fn new(state: &'a ConnectionState) -> ConnectionRef<'a> {
        ConnectionRef { state }
    }

    /// Its number.
    pub fn id(&self) -> ConnectionId {
        self.state.id
    }

    /// Where it comes from.
    pub fn client_address(&self) -> &'a Address {
        self.state.client_address()
    }

    /// The other end of the socket: the client, or a proxy in front of it.
    #[cfg(feature = "tracing")]
    pub(crate) fn peer_address(&self) -> &'a Address {
        &self.state.peer_address
    }

    /// How long ago it was accepted.
    pub fn age(&self) -> Duration {
        self.state.accepted_at.elapsed()
    }

    /// How many bytes were received, as they are on the wire: with TLS the records, those of the handshake included, and behind
    /// a proxy the PROXY header. The same number as [`ConnectionInfo::bytes_in`].
    pub fn bytes_in(&self) -> u64 {
        self.state.bytes_in()
    }

    /// How many bytes were sent, as they are on the wire: with TLS the records, those of the handshake included. The same number as
    /// [`ConnectionInfo::bytes_out`].
    pub fn bytes_out(&self) -> u64 {
        self.state.bytes_out()
    }

    /// Why the server ends it. `None` if it does not.
    pub fn closing(&self) -> Option<Closing> {
        self.state.closing()
    }

    /// All of it, to be kept.
    pub fn info(&self) -> ConnectionInfo {
        self.state.info(Instant::now())
    }
}

impl fmt::Display for ConnectionRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (age, bytes_in, bytes_out) = (self.age().as_secs_f64(), self.bytes_in(), self.bytes_out());
        write!(f, "{} {} {age:.3}s {bytes_in} {bytes_out}", self.id(), self.client_address())
    }
}

impl fmt::Debug for ConnectionRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ConnectionInfo { id, client_address, age, bytes_in, bytes_out, closing } = self.info();
        f.debug_struct("ConnectionRef")
            .field("id", &id)
            .field("client_address", &client_address)
            .field("age", &age)
            .field("bytes_in", &bytes_in)
            .field("bytes_out", &bytes_out)
            .field("closing", &closing)
            .finish()
    }
}

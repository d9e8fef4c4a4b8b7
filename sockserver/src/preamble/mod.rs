//! What a connection begins with, before its client is known and its handler is made: the PROXY header, then the TLS
//! handshake, both within one deadline.
//!
//! The thread, the child process or the event loop that serves the connection reads it.

use std::{
    io,
    time::{Duration, Instant},
};

use crate::{
    address::Address,
    error::Stage,
    event::TurnedAway,
    io::{
        connection::Connection,
        turns::{LoopWait, Rest},
    },
    options::{Options, ProxyOptions, TrustedProxy, UntrustedPeer},
    primitives::Mutex,
};

mod failure;
#[cfg(feature = "tls")]
mod handshake;
mod header;
mod reports;

pub(crate) use failure::Failure;
#[cfg(feature = "tls")]
use handshake::Handshake;
use header::Header;
use reports::{Reports, Source};

/// The preamble of all connections of one server.
pub(crate) struct Preamble {
    /// Its `trust` is `None` if connections do not begin with a header.
    proxy: ProxyOptions,
    /// Connections go on with a TLS handshake.
    #[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "there are no handshakes"))]
    shakes_hands: bool,
    /// `timeouts(handshake)`.
    timeout: Duration,
    reports: Mutex<Reports>,
}

/// A part of a preamble, as far as it has come.
pub(crate) enum Reading {
    Header(Header),
    #[cfg(feature = "tls")]
    Handshake(Handshake),
}

/// How far a turn of an event loop has come with a preamble.
pub(crate) enum Progress {
    Complete,
    /// More has to come, until then.
    Until(Option<Instant>),
    /// The client has to take what it was sent, until then.
    Unsent(Option<Instant>),
    /// What has come since has to be received first.
    Again,
}

impl Preamble {
    /// `None`: connections begin with their first request.
    pub(crate) fn new(options: &Options, shakes_hands: bool) -> Option<Preamble> {
        let Options { proxy, timeouts, .. } = options;
        let reports = Mutex::new(Reports::default());
        let preamble = Preamble { proxy: proxy.clone(), shakes_hands, timeout: timeouts.handshake, reports };
        (proxy.trust.is_some() || shakes_hands).then_some(preamble)
    }

    /// Waits for the preamble, and notes what it says. The bytes behind it are left to the handler.
    pub(crate) fn read(&self, connection: &Connection) -> Result<(), Failure> {
        let mut reading = self.begin(connection)?;
        while let Some(part) = &mut reading {
            part.wait(connection)?;
            reading = self.behind(part, connection)?;
        }
        Ok(())
    }

    /// Begins to read the preamble. `None`: there is nothing to read.
    pub(crate) fn begin(&self, connection: &Connection) -> Result<Option<Reading>, Failure> {
        let peer = &connection.state.peer_address;
        if self.trusts(peer) {
            let header = Header::begin(connection, self.proxy.versions, self.deadline(connection));
            return Ok(Some(Reading::Header(header)));
        }
        if self.proxy.trust.is_some() && self.proxy.untrusted == UntrustedPeer::Reject {
            let error = "the peer is not named in `proxy(trust = […])`: if it is a proxy, add its network";
            return Err(Failure::of(TurnedAway::Untrusted, io::Error::new(io::ErrorKind::PermissionDenied, error)));
        }
        self.begin_handshake(connection)
    }

    /// Begins with the part behind this one, which is complete. `None`: the preamble is complete.
    fn behind(&self, part: &Reading, connection: &Connection) -> Result<Option<Reading>, Failure> {
        match part {
            Reading::Header(_) => self.begin_handshake(connection),
            #[cfg(feature = "tls")]
            Reading::Handshake(_) => Ok(None),
        }
    }

    #[cfg(feature = "tls")]
    fn begin_handshake(&self, connection: &Connection) -> Result<Option<Reading>, Failure> {
        let begin = || Handshake::begin(connection, self.deadline(connection));
        self.shakes_hands.then(begin).transpose().map(|handshake| handshake.map(Reading::Handshake))
    }

    #[cfg(not(feature = "tls"))]
    fn begin_handshake(&self, _: &Connection) -> Result<Option<Reading>, Failure> {
        Ok(None)
    }

    fn deadline(&self, connection: &Connection) -> Option<Instant> {
        connection.state.accepted_at.checked_add(self.timeout)
    }

    /// Reads on without waiting, on an event loop. `has_input`: there may be something to receive.
    pub(crate) fn read_in_turn(
        &self,
        reading: &mut Reading,
        connection: &Connection,
        has_input: &mut bool,
        wait: &mut LoopWait,
    ) -> Result<Progress, Failure> {
        while *has_input {
            match reading.receive(connection, wait) {
                Some(done) => done?,
                None => {
                    *has_input = false;
                    break;
                }
            }
            match self.behind(reading, connection)? {
                Some(next) => *reading = next,
                None => return Ok(Progress::Complete),
            }
        }
        let rest = connection.rest(wait).and_then(|rest| match rest {
            Rest::Until(until) => Ok(Progress::Until(until)),
            Rest::Unsent => connection.rest_unsent(wait).map(Progress::Unsent),
            Rest::Receive => {
                *has_input = true;
                Ok(Progress::Again)
            }
        });
        rest.map_err(|error| reading.fail(connection, error))
    }

    fn trusts(&self, peer: &Address) -> bool {
        self.proxy.trust.unwrap_or_default().iter().any(|trusted| match trusted {
            TrustedProxy::Network(network) => peer.ip().is_some_and(|ip| network.contains(ip)),
            TrustedProxy::Unix => matches!(peer, Address::Unix(_)),
        })
    }

    /// Whether a failure at this stage is to be reported. Failures of preambles are reported once an hour: for each proxy,
    /// for all other peers, and for the handshakes of all clients.
    pub(crate) fn is_to_report(&self, stage: Stage, peer: &Address) -> bool {
        let source = match stage {
            Stage::Preamble if self.trusts(peer) => Source::Proxy(peer.ip()),
            Stage::Preamble => Source::Others,
            Stage::Handshake => Source::Handshakes,
            _ => return true,
        };
        self.reports.lock().note(source, Instant::now())
    }
}

impl Reading {
    fn wait(&mut self, connection: &Connection) -> Result<(), Failure> {
        match self {
            Reading::Header(header) => header.wait(connection),
            #[cfg(feature = "tls")]
            Reading::Handshake(handshake) => handshake.wait(connection),
        }
    }

    /// `None`: more has to come.
    fn receive(&mut self, connection: &Connection, wait: &mut LoopWait) -> Option<Result<(), Failure>> {
        match self {
            Reading::Header(header) => header.receive(connection, wait),
            #[cfg(feature = "tls")]
            Reading::Handshake(handshake) => handshake.receive(connection, wait),
        }
    }

    /// The connection has failed before the end of its preamble.
    #[cfg_attr(not(feature = "tls"), expect(unused_variables, reason = "a handshake asks the connection"))]
    pub(crate) fn fail(&self, connection: &Connection, error: io::Error) -> Failure {
        match self {
            Reading::Header(header) => header.fail(error),
            #[cfg(feature = "tls")]
            Reading::Handshake(handshake) => handshake.fail(connection, error),
        }
    }
}

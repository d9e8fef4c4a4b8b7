//! What a connection begins with, before its client is known and its handler is made: the PROXY header.
//!
//! The thread, the child process or the event loop that serves the connection reads it. What has to be read next, such as a
//! TLS handshake, has its place at the end of [`Preamble::read`], within the same deadline.

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    time::{Duration, Instant},
};

use crate::{
    address::Address,
    connections::stats::Outcome,
    error::{HandlerError, Stage},
    event::{Ending, TurnedAway},
    io::{
        closing::Closing,
        connection::Connection,
        turns::{LoopWait, Rest},
    },
    options::{Options, ProxyOptions, TrustedProxy, UntrustedPeer},
    primitives::Mutex,
    proxy_header::{ProxyHeader, decoder::Decoder},
};

/// The preamble of all connections of one server.
pub(crate) struct Preamble {
    trust: &'static [TrustedProxy],
    proxy: ProxyOptions,
    /// `timeouts(handshake)`.
    timeout: Duration,
    reports: Mutex<Reports>,
}

/// A connection whose preamble was not what it has to be.
pub(crate) struct Failure {
    pub(crate) how: Ending,
    /// `None`: nothing about it is worth a report.
    pub(crate) error: Option<HandlerError>,
}

impl Preamble {
    /// `None`: connections begin with their first request.
    pub(crate) fn new(options: &Options) -> Option<Preamble> {
        let trust = options.proxy.trust?;
        let reports = Mutex::new(Reports::default());
        Some(Preamble { trust, proxy: options.proxy.clone(), timeout: options.timeouts.handshake, reports })
    }

    /// Waits for the preamble, and notes what it says. The bytes behind it are left to the handler.
    pub(crate) fn read(&self, connection: &Connection) -> Result<(), Failure> {
        let Some(mut reading) = self.begin(connection)? else { return Ok(()) };
        let received = connection.wait_for_proxy_header(&mut reading.decoder);
        reading.end(connection, received)
    }

    /// Begins to read the preamble. `None`: there is nothing to read.
    pub(crate) fn begin(&self, connection: &Connection) -> Result<Option<Reading>, Failure> {
        let state = &connection.state;
        if self.trusts(&state.peer_address) {
            connection.begin_header(state.accepted_at.checked_add(self.timeout));
            return Ok(Some(Reading { decoder: Decoder::new(self.proxy.versions) }));
        }
        if self.proxy.untrusted == UntrustedPeer::Reject {
            let error = "the peer is not named in `proxy(trust = […])`: if it is a proxy, add its network";
            return Err(Failure::of(TurnedAway::Untrusted, io::Error::new(io::ErrorKind::PermissionDenied, error)));
        }
        Ok(None)
    }

    fn trusts(&self, peer: &Address) -> bool {
        self.trust.iter().any(|trusted| match trusted {
            TrustedProxy::Network(network) => peer.ip().is_some_and(|ip| network.contains(ip)),
            TrustedProxy::Unix => matches!(peer, Address::Unix(_)),
        })
    }

    /// Whether a failure is to be reported: once an hour for each proxy, and for all other peers together.
    pub(crate) fn is_to_report(&self, peer: &Address) -> bool {
        let source = if self.trusts(peer) { Source::Proxy(peer.ip()) } else { Source::Others };
        self.reports.lock().note(source, Instant::now())
    }
}

/// A preamble, as far as it has come.
pub(crate) struct Reading {
    decoder: Decoder,
}

/// How far a turn of an event loop has come with a preamble.
pub(crate) enum Progress {
    Complete,
    /// More has to come, until then.
    Until(Option<Instant>),
    /// What has come since has to be received first.
    Again,
}

impl Reading {
    /// Reads on without waiting, on an event loop. `has_input`: there may be something to receive.
    pub(crate) fn read_in_turn(
        &mut self,
        connection: &Connection,
        has_input: &mut bool,
        wait: &mut LoopWait,
    ) -> Result<Progress, Failure> {
        if *has_input {
            let received = connection.receive_proxy_header(&mut self.decoder, wait);
            if !received.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                return self.end(connection, received).map(|()| Progress::Complete);
            }
            *has_input = false;
        }
        match connection.rest(wait) {
            Ok(Rest::Until(until)) => Ok(Progress::Until(until)),
            // Nothing has been written.
            Ok(Rest::Receive | Rest::Unsent) => {
                *has_input = true;
                Ok(Progress::Again)
            }
            Err(error) => Err(self.fail(error)),
        }
    }

    /// The connection has failed before the end of its preamble.
    pub(crate) fn fail(&self, error: io::Error) -> Failure {
        failure(error, &self.decoder)
    }

    /// Ends with what has come.
    fn end(&self, connection: &Connection, received: io::Result<Option<Box<ProxyHeader>>>) -> Result<(), Failure> {
        connection.end_header();
        match received {
            Ok(Some(header)) => {
                connection.state.set_proxy_header(header);
                Ok(())
            }
            Ok(None) => Err(hung_up(&self.decoder)),
            Err(error) => Err(self.fail(error)),
        }
    }
}

fn failure(error: io::Error, decoder: &Decoder) -> Failure {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(Closing::Draining | Closing::Kicked) => {
            Failure { how: Ending::TurnedAway(TurnedAway::NotStarted), error: None }
        }
        Some(Closing::Lifetime) => Failure { how: Ending::Ended(Outcome::TimedOut), error: None },
        Some(Closing::Idle | Closing::Handshake) => late(decoder),
        None if error.kind() == io::ErrorKind::TimedOut => late(decoder),
        None if error.kind() == io::ErrorKind::InvalidData => Failure::of(TurnedAway::Preamble, error),
        // The peer has reset the connection.
        None => hung_up(decoder),
    }
}

/// The peer has ended the connection. That is no fault if it has sent nothing: load balancers see in this way whether the
/// server is there.
fn hung_up(decoder: &Decoder) -> Failure {
    if decoder.is_untouched() {
        return Failure { how: Ending::TurnedAway(TurnedAway::Preamble), error: None };
    }
    let error = io::Error::new(io::ErrorKind::UnexpectedEof, "the connection has ended within its PROXY header");
    Failure::of(TurnedAway::Preamble, error)
}

fn late(decoder: &Decoder) -> Failure {
    let error = match decoder.is_untouched() {
        true => {
            "no PROXY header came in time (`timeouts(handshake)`): have the proxy send one (`send-proxy-v2` in HAProxy, \
             `proxy_protocol on` in nginx)"
        }
        false => "the PROXY header was not complete in time (`timeouts(handshake)`)",
    };
    Failure::of(TurnedAway::Preamble, io::Error::new(io::ErrorKind::TimedOut, error))
}

impl Failure {
    fn of(why: TurnedAway, error: io::Error) -> Failure {
        Failure { how: Ending::TurnedAway(why), error: Some(HandlerError::new(Stage::Preamble, error)) }
    }
}

/// When what was reported last.
#[derive(Default)]
struct Reports {
    last: HashMap<Source, Instant>,
}

/// Whose failures are reported together.
#[derive(PartialEq, Eq, Hash)]
enum Source {
    /// A trusted peer. `None`: on a Unix socket.
    Proxy(Option<IpAddr>),
    Others,
}

impl Reports {
    const INTERVAL: Duration = Duration::from_secs(3600);
    /// So many proxies are told apart. The failures of further ones are not reported.
    const MAX_SOURCES: usize = 1024;

    /// Whether the failure is to be reported, which is noted.
    fn note(&mut self, source: Source, now: Instant) -> bool {
        let is_old = |last: &Instant| now.saturating_duration_since(*last) >= Reports::INTERVAL;
        if self.last.len() >= Reports::MAX_SOURCES {
            self.last.retain(|_, last| !is_old(last));
        }
        match self.last.get(&source) {
            Some(last) if !is_old(last) => false,
            None if self.last.len() >= Reports::MAX_SOURCES => false,
            _ => {
                self.last.insert(source, now);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_reported_once_an_hour() {
        let mut reports = Reports::default();
        let now = Instant::now();
        let proxy = |last| Source::Proxy(Some(IpAddr::from([10, 0, 0, last])));
        assert!(reports.note(proxy(1), now));
        assert!(!reports.note(proxy(1), now + Duration::from_secs(3599)));
        assert!(reports.note(proxy(2), now));
        assert!(reports.note(Source::Others, now));
        assert!(reports.note(proxy(1), now + Duration::from_secs(3600)));
        assert!(!reports.note(proxy(1), now + Duration::from_secs(3601)));
    }

    #[test]
    fn any_number_of_proxies_is_remembered_in_bounded_memory() {
        let mut reports = Reports::default();
        let now = Instant::now();
        let proxy = |number: u32| Source::Proxy(Some(IpAddr::V4(number.into())));
        let reported = (0..5000).filter(|&number| reports.note(proxy(number), now)).count();
        assert_eq!((reported, reports.last.len()), (Reports::MAX_SOURCES, Reports::MAX_SOURCES));
        assert!(reports.note(proxy(9999), now + Reports::INTERVAL));
    }
}

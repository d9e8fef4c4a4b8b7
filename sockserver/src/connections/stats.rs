//! What a server has done.

use std::fmt;

use crate::primitives::atomic::{AtomicU64, Ordering::SeqCst};

/// What a server has done so far.
///
/// It is displayed in the [text format of OpenMetrics](https://prometheus.io/docs/specs/om/open_metrics_spec/), which
/// Prometheus and its like read:
///
/// ```
/// let text = sockserver::Stats::default().to_string();
/// assert!(text.contains("\nsockserver_connections_ended_total{outcome=\"timed_out\"} 0\n"));
/// assert!(text.ends_with("# EOF\n"));
/// ```
///
/// At any moment `accepted` is the sum of `active` and of all the ways in which a request can have ended: `finished`,
/// `failed`, `panicked`, `disconnected`, `timed_out`, `refused`, `rejected`, `bad_preamble` and `bad_handshake`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Connections accepted, or datagrams received.
    pub accepted: u64,
    /// Under way now.
    pub active: u64,
    /// Ended with `Ok`, or by a drain while they were idle ([`Closing::Draining`](crate::Closing::Draining)).
    pub finished: u64,
    /// Ended with an error that none of the counts below include.
    pub failed: u64,
    /// Ended by a panic.
    pub panicked: u64,
    /// Ended with an error because the client had hung up or the server had cut the connection:
    /// [`HandlerError::is_disconnect`](crate::HandlerError::is_disconnect).
    pub disconnected: u64,
    /// Ended by `timeouts(idle)` or `timeouts(lifetime)`, or with the error of a timeout:
    /// [`HandlerError::is_timeout`](crate::HandlerError::is_timeout).
    pub timed_out: u64,
    /// Turned away by `verify_request`.
    pub refused: u64,
    /// Turned away by a limit, a rate, a ban or `access(…)`, or as a peer that `proxy(trust)` does not name; or ended by the
    /// server before the handler started, because it was stopping for example.
    pub rejected: u64,
    /// Ended before the handler started because the PROXY header was bad, missing or late, or the peer had hung up before
    /// it.
    pub bad_preamble: u64,
    /// Ended before the handler started because the TLS handshake failed or took too long, or the client had hung up before
    /// its end.
    pub bad_handshake: u64,
    /// How often accepting failed because a resource such as descriptors was exhausted. These are not counted as accepted.
    pub accept_errors: u64,
    /// Datagrams that were longer than `max_packet_size`. Each is also counted by how its request ended.
    pub truncated: u64,
    /// Those of `active` that are at their PROXY header or their TLS handshake.
    pub handshaking: u64,
}

impl Stats {
    /// How many requests have ended in this way.
    pub fn ended(&self, outcome: Outcome) -> u64 {
        match outcome {
            Outcome::Finished => self.finished,
            Outcome::Failed => self.failed,
            Outcome::Panicked => self.panicked,
            Outcome::Disconnected => self.disconnected,
            Outcome::TimedOut => self.timed_out,
            Outcome::Refused => self.refused,
            Outcome::Rejected => self.rejected,
            Outcome::BadPreamble => self.bad_preamble,
            Outcome::BadHandshake => self.bad_handshake,
        }
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counters = [
            ("connections_accepted", "Connections accepted, or packets received.", self.accepted),
            ("accept_errors", "Failures to accept for want of descriptors and the like.", self.accept_errors),
            ("packets_truncated", "Packets that were longer than the limit.", self.truncated),
        ];
        for (name, help, value) in counters {
            writeln!(f, "# TYPE sockserver_{name} counter")?;
            writeln!(f, "# HELP sockserver_{name} {help}")?;
            writeln!(f, "sockserver_{name}_total {value}")?;
        }
        let gauges = [
            ("active", "Connections or packets under way.", self.active),
            ("handshaking", "Active connections that are at their PROXY header or TLS handshake.", self.handshaking),
        ];
        for (name, help, value) in gauges {
            writeln!(f, "# TYPE sockserver_connections_{name} gauge")?;
            writeln!(f, "# HELP sockserver_connections_{name} {help}")?;
            writeln!(f, "sockserver_connections_{name} {value}")?;
        }
        writeln!(f, "# TYPE sockserver_connections_ended counter")?;
        writeln!(f, "# HELP sockserver_connections_ended How connections or packets have ended.")?;
        for outcome in Outcome::ALL {
            writeln!(f, "sockserver_connections_ended_total{{outcome=\"{outcome}\"}} {}", self.ended(outcome))?;
        }
        writeln!(f, "# EOF")
    }
}

/// How a request has ended: the field of [`Stats`] that counts it, whose name it is displayed as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// [`Stats::finished`].
    Finished,
    /// [`Stats::failed`].
    Failed,
    /// [`Stats::panicked`].
    Panicked,
    /// [`Stats::disconnected`].
    Disconnected,
    /// [`Stats::timed_out`].
    TimedOut,
    /// [`Stats::refused`].
    Refused,
    /// [`Stats::rejected`].
    Rejected,
    /// [`Stats::bad_preamble`].
    BadPreamble,
    /// [`Stats::bad_handshake`].
    BadHandshake,
}

impl Outcome {
    pub(crate) const ALL: [Outcome; 9] = [
        Outcome::Finished,
        Outcome::Failed,
        Outcome::Panicked,
        Outcome::Disconnected,
        Outcome::TimedOut,
        Outcome::Refused,
        Outcome::Rejected,
        Outcome::BadPreamble,
        Outcome::BadHandshake,
    ];
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Outcome::Finished => "finished",
            Outcome::Failed => "failed",
            Outcome::Panicked => "panicked",
            Outcome::Disconnected => "disconnected",
            Outcome::TimedOut => "timed_out",
            Outcome::Refused => "refused",
            Outcome::Rejected => "rejected",
            Outcome::BadPreamble => "bad_preamble",
            Outcome::BadHandshake => "bad_handshake",
        })
    }
}

/// The counters behind [`Stats`]. `count_accepted` and `stats` are called under the lock of the registry. `count_ended` is
/// called without it, before the client can see the end.
#[derive(Default)]
pub(crate) struct Counters {
    accepted: AtomicU64,
    ended: [AtomicU64; Outcome::ALL.len()],
    accept_errors: AtomicU64,
    truncated: AtomicU64,
}

impl Counters {
    pub(crate) fn count_accepted(&self, is_truncated: bool) {
        self.accepted.fetch_add(1, SeqCst);
        if is_truncated {
            self.truncated.fetch_add(1, SeqCst);
        }
    }

    pub(crate) fn count_ended(&self, outcome: Outcome) {
        self.ended[outcome as usize].fetch_add(1, SeqCst);
    }

    pub(crate) fn count_accept_error(&self) {
        self.accept_errors.fetch_add(1, SeqCst);
    }

    /// To be called while the registry is locked.
    pub(crate) fn stats(&self) -> Stats {
        // Nothing is accepted meanwhile. A request that ends meanwhile counts as ended or still as active.
        let ended = Outcome::ALL.map(|outcome| self.ended[outcome as usize].load(SeqCst));
        let accepted = self.accepted.load(SeqCst);
        let of = |outcome: Outcome| ended[outcome as usize];
        Stats {
            accepted,
            active: accepted - ended.iter().sum::<u64>(),
            finished: of(Outcome::Finished),
            failed: of(Outcome::Failed),
            panicked: of(Outcome::Panicked),
            disconnected: of(Outcome::Disconnected),
            timed_out: of(Outcome::TimedOut),
            refused: of(Outcome::Refused),
            rejected: of(Outcome::Rejected),
            bad_preamble: of(Outcome::BadPreamble),
            bad_handshake: of(Outcome::BadHandshake),
            accept_errors: self.accept_errors.load(SeqCst),
            truncated: self.truncated.load(SeqCst),
            // The registry knows.
            handshaking: 0,
        }
    }
}

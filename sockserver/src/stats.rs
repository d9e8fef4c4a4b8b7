//! What a server has done.

/// What a server has done so far.
///
/// At any moment `accepted` is the sum of `active` and of all the ways in which a request can have ended: `finished`,
/// `failed`, `panicked`, `disconnected`, `timed_out`, `refused` and `rejected`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Connections accepted, or datagrams received.
    pub accepted: u64,
    /// Under way now.
    pub active: u64,
    /// Ended with `Ok`.
    pub finished: u64,
    /// Ended with an error that is none of those below.
    pub failed: u64,
    /// Ended by a panic.
    pub panicked: u64,
    /// Ended with an error, as the peer had hung up or the server had cut the connection:
    /// [`HandlerError::is_disconnect`](crate::HandlerError::is_disconnect).
    pub disconnected: u64,
    /// Ended by `timeouts(idle)` or `timeouts(lifetime)`, or with the error of a timeout:
    /// [`HandlerError::is_timeout`](crate::HandlerError::is_timeout).
    pub timed_out: u64,
    /// Turned away by `verify_request`.
    pub refused: u64,
    /// Turned away by a limit, or ended by the server before the handler could start, as where it was stopping.
    pub rejected: u64,
    /// How often accepting failed for want of something, such as descriptors. These are no requests.
    pub accept_errors: u64,
    /// Datagrams that were longer than `max_packet_size`; each is also counted as what became of it.
    pub truncated: u64,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Finished,
    Failed,
    Panicked,
    Disconnected,
    TimedOut,
    Refused,
    Rejected,
}

impl Outcome {
    pub(crate) const ALL: [Outcome; 7] = [
        Outcome::Finished,
        Outcome::Failed,
        Outcome::Panicked,
        Outcome::Disconnected,
        Outcome::TimedOut,
        Outcome::Refused,
        Outcome::Rejected,
    ];
}

impl Stats {
    pub(crate) fn count(&mut self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Finished => &mut self.finished,
            Outcome::Failed => &mut self.failed,
            Outcome::Panicked => &mut self.panicked,
            Outcome::Disconnected => &mut self.disconnected,
            Outcome::TimedOut => &mut self.timed_out,
            Outcome::Refused => &mut self.refused,
            Outcome::Rejected => &mut self.rejected,
        };
        *counter += 1;
    }
}

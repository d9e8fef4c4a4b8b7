//! How a server ends the connections that are under way when it stops.

use std::time::Instant;

/// How the connections that were under way at [`shutdown`](crate::ServerHandle::shutdown) ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainReport {
    /// Before `timeouts(shutdown)` was over, however their handlers ended.
    pub in_time: usize,
    /// After their connections had been cut, `timeouts(shutdown)` being over.
    pub forced: usize,
    /// Not at all: their handlers still run, without a connection.
    pub leaked: usize,
}

/// A drain that is under way.
pub(super) struct Drain {
    /// When the next phase begins.
    pub(super) deadline: Instant,
    pub(super) phase: DrainPhase,
    pub(super) report: DrainReport,
}

/// What a drain does to the connections that have not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum DrainPhase {
    /// It waits for them.
    Waiting,
    /// It has shut their sockets down.
    ShutDown,
    /// It has given them up.
    Abandoned,
}

impl Drain {
    pub(super) fn new(deadline: Instant) -> Drain {
        Drain { deadline, phase: DrainPhase::Waiting, report: DrainReport::default() }
    }

    /// Counts the end of a connection. `forks`: a process that was killed does end, while a thread that was given up has
    /// been counted as leaked.
    pub(super) fn count_end(&mut self, forks: bool) {
        match self.phase {
            DrainPhase::Waiting => self.report.in_time += 1,
            DrainPhase::ShutDown => self.report.forced += 1,
            DrainPhase::Abandoned => self.report.forced += usize::from(forks),
        }
    }
}

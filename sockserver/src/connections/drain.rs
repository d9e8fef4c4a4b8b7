//! How a server ends the connections that are under way when it stops.

use std::time::Instant;

/// How the connections that were under way at [`shutdown`](crate::ServerHandle::shutdown) ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainReport {
    /// Connections that ended before `timeouts(shutdown)` was over, however their handlers ended.
    pub in_time: usize,
    /// Connections that were cut when `timeouts(shutdown)` was over, and ended then.
    pub forced: usize,
    /// Connections that have not ended: they were cut, and their handlers still run.
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
    /// It waits for them to end.
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

    /// Counts the end of a connection. With `forks`, its process was killed and has ended; without, its thread was counted
    /// as leaked when it was given up.
    pub(super) fn count_end(&mut self, forks: bool) {
        match self.phase {
            DrainPhase::Waiting => self.report.in_time += 1,
            DrainPhase::ShutDown => self.report.forced += 1,
            DrainPhase::Abandoned => self.report.forced += usize::from(forks),
        }
    }
}

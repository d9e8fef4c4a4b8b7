//! Durations that threads share.

use std::time::Duration;

use crate::primitives::atomic::{AtomicU64, Ordering::Relaxed};

/// An `Option<Duration>` in nanoseconds. Longer durations are stored as 584 years, zero as 1 ns.
#[derive(Default)]
pub(super) struct AtomicDuration {
    /// Zero: `None`.
    nanoseconds: AtomicU64,
}

impl AtomicDuration {
    pub(super) fn load(&self) -> Option<Duration> {
        match self.nanoseconds.load(Relaxed) {
            0 => None,
            nanoseconds => Some(Duration::from_nanos(nanoseconds)),
        }
    }

    pub(super) fn store(&self, duration: Option<Duration>) {
        let nanoseconds = duration.map_or(0, |duration| duration.as_nanos().clamp(1, u64::MAX.into()) as u64);
        self.nanoseconds.store(nanoseconds, Relaxed);
    }
}

//! Delays the exit of worker threads until the server has stopped.

use crate::primitives::{Condvar, Mutex};

/// Threads that finish while the server stops wait here until it has stopped.
///
/// An exiting thread returns its stack to the kernel, under a lock of the whole process. A thousand of them at once
/// would take the processors from the handlers that are still running, and from the caller that waits for the stop.
#[derive(Default)]
pub(crate) struct Exits {
    phase: Mutex<Phase>,
    released: Condvar,
}

#[derive(Default, PartialEq, Eq)]
enum Phase {
    /// Finished threads exit at once.
    #[default]
    Serving,
    /// Finished threads wait.
    Stopping,
    /// Finished threads exit at once.
    Stopped,
}

impl Exits {
    /// The server begins to stop.
    pub(crate) fn hold(&self) {
        let mut phase = self.phase.lock();
        if *phase == Phase::Serving {
            *phase = Phase::Stopping;
        }
    }

    /// The server has stopped.
    pub(crate) fn release(&self) {
        *self.phase.lock() = Phase::Stopped;
        self.released.notify_one();
    }

    /// Waits while the server stops. Then each thread wakes the next one: threads that wake all together would hold up
    /// the caller, too.
    pub(crate) fn wait(&self) {
        let mut phase = self.phase.lock();
        while *phase == Phase::Stopping {
            self.released.wait(&mut phase);
        }
        drop(phase);
        self.released.notify_one();
    }
}

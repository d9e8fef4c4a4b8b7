//! When the threads of a server exit.

use crate::primitives::{Condvar, Mutex};

/// Holds the threads back that end while the server stops, until it has stopped.
///
/// A thread that exits returns its stack to the kernel, under a lock of the whole process. A thousand of them would
/// keep the handlers that have not ended yet from the processors, and the caller who waits for the end.
#[derive(Default)]
pub(crate) struct Exits {
    phase: Mutex<Phase>,
    opened: Condvar,
}

#[derive(Default, PartialEq, Eq)]
enum Phase {
    /// A thread that ends exits at once.
    #[default]
    Serving,
    /// A thread that ends waits.
    Stopping,
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
        self.opened.notify_one();
    }

    /// Waits while the server stops. One thread wakes the next, so that they do not keep the caller from going on either.
    pub(crate) fn wait(&self) {
        let mut phase = self.phase.lock();
        while *phase == Phase::Stopping {
            self.opened.wait(&mut phase);
        }
        drop(phase);
        self.opened.notify_one();
    }
}

//! How many connections a loop has.

use crate::primitives::atomic::{AtomicUsize, Ordering::SeqCst};

/// How many connections a loop has, or is to have. It does not end while one is on its way to it.
#[derive(Default)]
pub(crate) struct Occupancy {
    /// [`ENDED`], or their number.
    connections: AtomicUsize,
}

/// The loop has ended, and takes no connection.
const ENDED: usize = usize::MAX;

impl Occupancy {
    /// Of a loop that has ended it is the highest number there is.
    pub(crate) fn count(&self) -> usize {
        self.connections.load(SeqCst)
    }

    /// Counts a connection that is about to be given to the loop. False: the loop has ended.
    pub(crate) fn reserve(&self) -> bool {
        self.connections.fetch_update(SeqCst, SeqCst, |connections| connections.checked_add(1)).is_ok()
    }

    /// The loop has lost a connection.
    pub(crate) fn release(&self) {
        self.connections.fetch_sub(1, SeqCst);
    }

    /// The loop has no connection and will accept none. False: one is on its way to it.
    pub(crate) fn end(&self) -> bool {
        self.connections.compare_exchange(0, ENDED, SeqCst, SeqCst).is_ok()
    }
}

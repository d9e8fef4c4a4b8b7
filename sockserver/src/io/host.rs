//! The event loop that serves a connection.

use std::sync::{Arc, Weak};

use crate::primitives::atomic::{AtomicU64, Ordering::SeqCst};

/// Gives connections a turn.
pub(crate) trait Turns: Send + Sync {
    /// Gives a turn to the connection at this address. Another one may be there by now: it has a turn too many then.
    fn request_turn(&self, address: SlotAddress);
}

/// Where a connection is: the number of its loop, and its own number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotAddress {
    pub(crate) of_loop: u32,
    pub(crate) slot: u32,
}

/// The event loop of a connection, for threads that have something for it to do.
pub(crate) struct Host {
    /// Weak, as users keep writers and senders beyond the end of the server.
    turns: Weak<dyn Turns>,
    /// A [`SlotAddress`].
    ///
    /// No request is lost when the connection moves. A thread notes what there is to do and then reads the address. The loop
    /// stores the new address and then gives the connection a turn, which looks at what there is to do. So a thread that has
    /// read the old address comes before that turn.
    address: AtomicU64,
}

impl Host {
    /// Of a connection that has no address yet. It gets a turn when it has one.
    pub(crate) fn new(turns: Weak<dyn Turns>) -> Arc<Host> {
        Arc::new(Host { turns, address: AtomicU64::new(0) })
    }

    /// A turn must follow.
    pub(crate) fn set_address(&self, SlotAddress { of_loop, slot }: SlotAddress) {
        self.address.store(u64::from(of_loop) << 32 | u64::from(slot), SeqCst);
    }

    pub(crate) fn request_turn(&self) {
        if let Some(turns) = self.turns.upgrade() {
            let address = self.address.load(SeqCst);
            turns.request_turn(SlotAddress { of_loop: (address >> 32) as u32, slot: address as u32 });
        }
    }
}

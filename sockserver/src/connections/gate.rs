//! Which clients are let in, by who they are.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{
    bans::Bans,
    limits::{Client, Rejected},
};
use crate::primitives::atomic::{AtomicBool, Ordering::SeqCst};

/// What decides whether a client is let in. The child of a server that forks asks its copy about a client that a proxy has
/// named.
#[derive(Default)]
pub(crate) struct Gate {
    /// A server that has never banned a client takes no lock, and does not look at the clock.
    has_bans: AtomicBool,
    bans: Mutex<Bans>,
}

impl Gate {
    pub(super) fn check(&self, client: Option<Client>) -> Result<(), Rejected> {
        match client.filter(|_| self.has_bans.load(SeqCst)) {
            Some(client) if self.lock().include(client) => Err(Rejected::Banned),
            _ => Ok(()),
        }
    }

    /// The bans, to be changed.
    pub(crate) fn bans(&self) -> MutexGuard<'_, Bans> {
        self.has_bans.store(true, SeqCst);
        self.lock()
    }

    /// Held over a fork as well. The lock is `std`'s, which a child can unlock.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Bans> {
        self.bans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! The functions that a server calls when it begins to drain.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Weak},
    time::Instant,
};

use crate::{
    primitives::{Condvar, Mutex},
    unwind::{self, ServerId},
};

/// The functions of [`ServerHandle::on_stopping`](crate::ServerHandle::on_stopping).
#[derive(Default)]
pub(crate) struct Callbacks {
    list: Mutex<List>,
    called: Condvar,
}

#[derive(Default)]
struct List {
    next: u64,
    waiting: BTreeMap<u64, Box<dyn FnOnce() + Send>>,
    /// How many threads call them now, or have announced that they will.
    callers: usize,
}

/// Keeps a function registered that a server calls when it stops. Dropping it unregisters the function.
///
/// [`ServerHandle::on_stopping`](crate::ServerHandle::on_stopping) returns it.
#[must_use = "dropping it unregisters the function"]
pub struct OnStopping {
    callbacks: Weak<Callbacks>,
    number: u64,
}

impl Callbacks {
    pub(crate) fn add(self: &Arc<Callbacks>, callback: impl FnOnce() + Send + 'static) -> OnStopping {
        let mut list = self.list.lock();
        let number = list.next;
        list.next += 1;
        list.waiting.insert(number, Box::new(callback));
        OnStopping { callbacks: Arc::downgrade(self), number }
    }

    /// Announces a [`call_announced`](Self::call_announced): [`wait`](Self::wait) waits for it from now on.
    pub(crate) fn announce(&self) {
        self.list.lock().callers += 1;
    }

    /// Announces the call and makes it.
    pub(crate) fn call_all(&self, server: ServerId) {
        self.announce();
        self.call_announced(server);
    }

    /// Calls the functions that have not been called, after [`announce`](Self::announce).
    pub(crate) fn call_announced(&self, server: ServerId) {
        // One by one, since each function can unregister those after it.
        while let Some(callback) = self.next() {
            // A panic does not keep the server from stopping.
            let _ = unwind::run(server, callback);
        }
        self.list.lock().callers -= 1;
        self.called.notify_all();
    }

    fn next(&self) -> Option<Box<dyn FnOnce() + Send>> {
        self.list.lock().waiting.pop_first().map(|(_, callback)| callback)
    }

    /// Waits until no thread calls the functions any more, or until the deadline.
    pub(crate) fn wait(&self, deadline: Instant) {
        let mut list = self.list.lock();
        while list.callers > 0 && Instant::now() < deadline {
            self.called.wait_until(&mut list, deadline);
        }
    }
}

impl Drop for OnStopping {
    fn drop(&mut self) {
        let callbacks = self.callbacks.upgrade();
        // Dropped without the lock, since what the function holds is the user's.
        let callback = callbacks.as_ref().and_then(|callbacks| callbacks.list.lock().waiting.remove(&self.number));
        drop(callback);
    }
}

impl fmt::Debug for OnStopping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnStopping").finish_non_exhaustive()
    }
}

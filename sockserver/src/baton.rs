//! What makes one thread the leader.

use std::time::Instant;

use crate::primitives::{Condvar, Mutex, thread};

/// What one thread at a time holds, and hands on with every request.
///
/// Laying it down wakes a thread that waits for it, but no second one while the first is on its way: a thread that
/// comes by in the meantime takes the baton and wakes nobody. A mutex would wake a thread for each request of a busy
/// server, mostly to find itself taken again.
///
/// No wake-up is lost: while threads wait and nobody holds the baton, a thread is on its way to it.
pub(crate) struct Baton {
    place: Mutex<Place>,
    laid_down: Condvar,
}

#[derive(Default)]
struct Place {
    held: bool,
    waiting: usize,
    /// One of those who wait was woken and has not looked yet.
    on_its_way: bool,
}

/// Lays the baton down when it is dropped.
pub(crate) struct Held<'a> {
    baton: &'a Baton,
}

impl Baton {
    pub(crate) fn new() -> Baton {
        Baton { place: Mutex::new(Place::default()), laid_down: Condvar::new() }
    }

    /// Waits for it until the deadline.
    pub(crate) fn take(&self, deadline: Option<Instant>) -> Option<Held<'_>> {
        if self.place.lock().held {
            // Where requests come one after the other, the leader has handed the baton on by the time that this thread
            // runs again. To wait for it would cost two system calls and two context switches.
            thread::yield_now();
        }
        let mut place = self.place.lock();
        while place.held {
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return None;
            }
            place.waiting += 1;
            match deadline {
                None => self.laid_down.wait(&mut place),
                Some(deadline) => drop(self.laid_down.wait_until(&mut place, deadline)),
            }
            place.waiting -= 1;
            // Also where the time is over, and it may be another one that was woken: one wake-up too many does no harm.
            place.on_its_way = false;
        }
        place.held = true;
        Some(Held { baton: self })
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut place = self.baton.place.lock();
        place.held = false;
        if place.waiting > 0 && !std::mem::replace(&mut place.on_its_way, true) {
            self.baton.laid_down.notify_one();
        }
    }
}

//! What makes one thread the leader.

use std::{
    ops::{Deref, DerefMut},
    time::Instant,
};

use crate::primitives::{Condvar, Mutex, MutexGuard, thread};

/// A lock that one thread at a time holds, the leader, and hands on with every connection. Its value is what the leader
/// works with.
///
/// Unlocking wakes a thread that waits for the lock, but no second one before the first has looked: a thread that comes
/// by in the meantime takes the lock and wakes no thread. A mutex would wake a thread for each connection of a busy
/// server, mostly to find itself locked again.
///
/// No wake-up is lost: while threads wait and none holds the lock, one of them has been woken and has not looked yet.
pub(crate) struct LeaderLock<T> {
    turn: Mutex<Turn>,
    unlocked: Condvar,
    /// Locked by the leader, and for a moment by a thread that closes the listening socket.
    value: Mutex<T>,
}

#[derive(Default)]
struct Turn {
    is_taken: bool,
    waiting: usize,
    /// One of the threads that wait was woken and has not looked yet.
    is_handed_over: bool,
}

/// Unlocks when it is dropped.
pub(crate) struct LeaderGuard<'a, T> {
    lock: &'a LeaderLock<T>,
    /// `None` only while it is dropped.
    value: Option<MutexGuard<'a, T>>,
}

impl<T> LeaderLock<T> {
    pub(crate) fn new(value: T) -> LeaderLock<T> {
        LeaderLock { turn: Mutex::new(Turn::default()), unlocked: Condvar::new(), value: Mutex::new(value) }
    }

    /// Makes this thread the leader. `None`: the deadline has come first.
    pub(crate) fn lock(&self, deadline: Option<Instant>) -> Option<LeaderGuard<'_, T>> {
        let mut turn = self.turn.lock();
        if turn.is_taken {
            // Where connections come one after the other, the leader has handed the lock on by the time that this thread
            // runs again. To wait for it would cost two system calls and two context switches.
            drop(turn);
            thread::yield_now();
            turn = self.turn.lock();
        }
        while turn.is_taken {
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return None;
            }
            turn.waiting += 1;
            match deadline {
                None => self.unlocked.wait(&mut turn),
                Some(deadline) => drop(self.unlocked.wait_until(&mut turn, deadline)),
            }
            turn.waiting -= 1;
            // Also where the time is over, and it may be another thread that was woken: one wake-up too many does no
            // harm.
            turn.is_handed_over = false;
        }
        turn.is_taken = true;
        drop(turn);
        Some(LeaderGuard { lock: self, value: Some(self.value.lock()) })
    }

    /// The value, unless the leader has it.
    pub(crate) fn try_value(&self) -> Option<MutexGuard<'_, T>> {
        self.value.try_lock()
    }

    /// The value, once the leader has let go of it.
    pub(crate) fn value(&self) -> MutexGuard<'_, T> {
        self.value.lock()
    }
}

impl<T> Deref for LeaderGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_deref().expect("it is not dropped yet")
    }
}

impl<T> DerefMut for LeaderGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_deref_mut().expect("it is not dropped yet")
    }
}

impl<T> Drop for LeaderGuard<'_, T> {
    fn drop(&mut self) {
        self.value = None;
        let mut turn = self.lock.turn.lock();
        turn.is_taken = false;
        if turn.waiting > 0 && !std::mem::replace(&mut turn.is_handed_over, true) {
            self.lock.unlocked.notify_one();
        }
    }
}

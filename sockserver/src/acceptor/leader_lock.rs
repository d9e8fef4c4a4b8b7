//! The lock that makes one thread the leader.

use std::{
    ops::{Deref, DerefMut},
    time::Instant,
};

use crate::primitives::{Condvar, Mutex, MutexGuard, thread};

/// A lock whose holder is the leader, which hands it on with every connection. Its value is what the leader works with.
///
/// Unlocking wakes one waiting thread, and no second one until the first has tried the lock. A running thread may take
/// the lock before the woken one; when it unlocks, it wakes no further thread. A mutex would wake a thread for each
/// connection of a busy server, and most of these threads would find the lock taken again.
///
/// No wake-up is lost: while threads wait and the lock is free, one of them was woken and has not tried the lock yet.
pub(crate) struct LeaderLock<T> {
    turns: Turns,
    /// Locked by the leader, and for a moment by a thread that closes the listening socket.
    value: Mutex<T>,
}

/// Who leads, without the value.
#[derive(Default)]
struct Turns {
    state: Mutex<LockState>,
    unlocked: Condvar,
}

#[derive(Default)]
struct LockState {
    is_taken: bool,
    /// How many threads wait.
    waiters: usize,
    /// A waiting thread was woken and has not tried the lock yet.
    has_woken: bool,
}

/// Unlocks when it is dropped.
pub(crate) struct LeaderGuard<'a, T> {
    /// Dropped before the turn ends, so that the next leader finds it unlocked.
    value: MutexGuard<'a, T>,
    _turn: Turn<'a>,
}

struct Turn<'a>(&'a Turns);

impl<T> LeaderLock<T> {
    pub(crate) fn new(value: T) -> LeaderLock<T> {
        LeaderLock { turns: Turns::default(), value: Mutex::new(value) }
    }

    /// Makes this thread the leader. `None`: the deadline has passed before.
    pub(crate) fn lock(&self, deadline: Option<Instant>) -> Option<LeaderGuard<'_, T>> {
        let turn = self.turns.take(deadline)?;
        Some(LeaderGuard { value: self.value.lock(), _turn: turn })
    }

    /// Makes this thread the leader, unless there is one.
    pub(crate) fn try_lock(&self) -> Option<LeaderGuard<'_, T>> {
        let turn = self.turns.try_take()?;
        Some(LeaderGuard { value: self.value.lock(), _turn: turn })
    }

    /// The value, unless the leader works with it.
    pub(crate) fn try_value(&self) -> Option<MutexGuard<'_, T>> {
        self.value.try_lock()
    }

    /// The value, as soon as no leader works with it.
    pub(crate) fn value(&self) -> MutexGuard<'_, T> {
        self.value.lock()
    }
}

impl Turns {
    fn try_take(&self) -> Option<Turn<'_>> {
        let is_taken = std::mem::replace(&mut self.state.lock().is_taken, true);
        (!is_taken).then_some(Turn(self))
    }

    fn take(&self, deadline: Option<Instant>) -> Option<Turn<'_>> {
        let mut state = self.state.lock();
        if state.is_taken {
            // When connections come one after the other, the leader has handed the lock on by the time this thread runs
            // again. To sleep until then would cost two system calls and two context switches.
            drop(state);
            thread::yield_now();
            state = self.state.lock();
        }
        while state.is_taken {
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return None;
            }
            state.waiters += 1;
            match deadline {
                None => self.unlocked.wait(&mut state),
                Some(deadline) => drop(self.unlocked.wait_until(&mut state, deadline)),
            }
            state.waiters -= 1;
            // After a timeout the woken thread may be another one, which has not tried the lock yet. Then one thread too
            // many is woken later, which does no harm.
            state.has_woken = false;
        }
        state.is_taken = true;
        Some(Turn(self))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.is_taken = false;
        if state.waiters > 0 && !std::mem::replace(&mut state.has_woken, true) {
            self.0.unlocked.notify_one();
        }
    }
}

impl<T> Deref for LeaderGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for LeaderGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

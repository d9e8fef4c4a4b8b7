//! A loop that its owner lends while it runs a handler.

use crate::primitives::{
    Mutex,
    atomic::{
        AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
};

/// Where the owner of a loop puts it down while it runs code that may be slow. The first thread that takes it owns it:
/// the one that has lent it, when that code has returned, or the monitor before that.
///
/// The box is the ownership. It is in one place, so no two threads have it.
pub(super) struct Lending<L> {
    desk: Mutex<Desk<L>>,
    /// The number of the lend while the loop is lent, zero otherwise. A hint for threads that do not have the lock.
    current: AtomicU64,
}

struct Desk<L> {
    /// How often the loop was lent: the number of the last lend.
    lends: u64,
    /// `Some` while it is lent.
    lent: Option<Box<L>>,
}

/// One lend of a loop. Its number is never zero, and no other lend of the loop has it: a thread that comes too late
/// takes nothing, even if the loop is lent again by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lend(u64);

impl<L> Lending<L> {
    pub(super) fn new() -> Lending<L> {
        Lending { desk: Mutex::new(Desk { lends: 0, lent: None }), current: AtomicU64::new(0) }
    }

    pub(super) fn lend(&self, owned: Box<L>) -> Lend {
        let mut desk = self.desk.lock();
        desk.lends += 1;
        desk.lent = Some(owned);
        self.current.store(desk.lends, Release);
        Lend(desk.lends)
    }

    /// Takes the loop, whichever thread calls it first for this lend.
    pub(super) fn take(&self, lend: Lend) -> Option<Box<L>> {
        let mut desk = self.desk.lock();
        if desk.lends != lend.0 {
            return None;
        }
        let taken = desk.lent.take()?;
        self.current.store(0, Release);
        Some(taken)
    }

    /// The lend that is under way.
    pub(super) fn current(&self) -> Option<Lend> {
        match self.current.load(Acquire) {
            0 => None,
            number => Some(Lend(number)),
        }
    }

    /// Whether the loop was taken. A hint: another thread may take it next.
    pub(super) fn is_over(&self, lend: Lend) -> bool {
        self.current.load(Relaxed) != lend.0
    }
}

#[cfg(not(sockserver_model))]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lend_that_is_over_takes_nothing() {
        let lending = Lending::new();
        assert_eq!(lending.current(), None);
        let first = lending.lend(Box::new("a loop"));
        assert_eq!(lending.current(), Some(first));
        assert!(!lending.is_over(first));
        let taken = lending.take(first).expect("the first one that takes it");
        assert!(lending.is_over(first));
        assert_eq!(lending.take(first), None);
        let second = lending.lend(taken);
        assert_eq!(lending.take(first), None, "it is lent again");
        assert_eq!(lending.current(), Some(second));
        assert_eq!(lending.take(second).as_deref(), Some(&"a loop"));
        assert_eq!(lending.current(), None);
    }
}

//! When the slots of a loop have to be looked at.

use std::{cmp::Reverse, collections::BinaryHeap, time::Instant};

/// One deadline a slot, or none.
///
/// A deadline is mostly moved, as each message moves the idle timeout, and rarely passes. So moving one to a later time
/// costs a store: the heap keeps its earlier entry, which is put back when it comes up. A slot that never had a deadline
/// costs nothing.
#[derive(Default)]
pub(super) struct Timers {
    times: Vec<Times>,
    /// At least one entry for each slot with a deadline, not later than that.
    heap: BinaryHeap<Reverse<(Instant, usize)>>,
}

#[derive(Clone, Copy, Default)]
struct Times {
    deadline: Option<Instant>,
    /// The earliest entry in the heap.
    entry: Option<Instant>,
}

impl Timers {
    /// Replaces the deadline of a slot.
    pub(super) fn set(&mut self, slot: usize, deadline: Option<Instant>) {
        if slot >= self.times.len() {
            if deadline.is_none() {
                return;
            }
            self.times.resize(slot + 1, Times::default());
        }
        let times = &mut self.times[slot];
        times.deadline = deadline;
        if let Some(deadline) = deadline
            && times.entry.is_none_or(|entry| deadline < entry)
        {
            times.entry = Some(deadline);
            self.heap.push(Reverse((deadline, slot)));
        }
    }

    /// When to call [`pop`](Self::pop). It may find nothing then.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((time, _))| *time)
    }

    /// Takes a slot whose deadline has passed. It has none then.
    pub(super) fn pop(&mut self, now: Instant) -> Option<usize> {
        while let Some(&Reverse((time, slot))) = self.heap.peek().filter(|Reverse((time, _))| *time <= now) {
            self.heap.pop();
            let times = &mut self.times[slot];
            if times.entry != Some(time) {
                // An earlier entry was added after this one, and has come up.
                continue;
            }
            times.entry = None;
            match times.deadline {
                Some(deadline) if deadline <= now => {
                    times.deadline = None;
                    return Some(slot);
                }
                later => self.set(slot, later),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_deadline_passes_once_and_not_before_its_time() {
        let (start, mut timers) = (Instant::now(), Timers::default());
        timers.set(3, Some(after(start, 2)));
        timers.set(1, Some(after(start, 1)));
        assert_eq!(timers.next(), Some(after(start, 1)));
        assert_eq!(timers.pop(start), None);
        assert_eq!(timers.pop(after(start, 2)), Some(1));
        assert_eq!(timers.pop(after(start, 2)), Some(3));
        assert_eq!(timers.pop(after(start, 9)), None);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn a_deadline_that_is_moved_on_and_on_has_one_entry() {
        let (start, mut timers) = (Instant::now(), Timers::default());
        for second in 1..100 {
            timers.set(0, Some(after(start, second)));
        }
        assert_eq!(timers.heap.len(), 1);
        assert_eq!(timers.pop(after(start, 98)), None);
        assert_eq!(timers.heap.len(), 1);
        assert_eq!(timers.pop(after(start, 99)), Some(0));
    }

    #[test]
    fn a_deadline_that_is_moved_back_is_kept() {
        let (start, mut timers) = (Instant::now(), Timers::default());
        timers.set(0, Some(after(start, 9)));
        timers.set(0, Some(after(start, 1)));
        assert_eq!(timers.pop(after(start, 1)), Some(0));
        timers.set(0, Some(after(start, 5)));
        assert_eq!(timers.pop(after(start, 4)), None);
        assert_eq!(timers.pop(after(start, 9)), Some(0));
        assert_eq!(timers.pop(after(start, 9)), None);
    }

    #[test]
    fn a_slot_without_a_deadline_is_not_looked_at() {
        let (start, mut timers) = (Instant::now(), Timers::default());
        timers.set(7, None);
        assert!(timers.times.is_empty());
        timers.set(7, Some(after(start, 1)));
        timers.set(7, None);
        assert_eq!(timers.pop(after(start, 2)), None);
        assert_eq!(timers.next(), None);
    }
}

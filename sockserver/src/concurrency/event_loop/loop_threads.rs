//! The threads of the event loops. Each drives a loop, is the monitor, runs a turn, or is spare.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::primitives::{
    Condvar, Mutex,
    atomic::{AtomicBool, Ordering::Relaxed},
};

/// All threads of one server: each has a job, or is spare and waits for one.
pub(super) struct LoopThreads<J> {
    state: Mutex<State<J>>,
    called: Condvar,
    /// How many threads there may be.
    limit: usize,
    /// How many of them may have turns at once. It leaves [`RESERVED`] threads for what is urgent.
    most_turns: usize,
    /// Fewer than [`FEW`] threads could take a job.
    is_scarce: AtomicBool,
}

struct State<J> {
    /// Threads that were started, or are about to be, and have not ended.
    threads: usize,
    /// Those that wait for a job.
    spare: usize,
    /// Jobs that no thread has taken, the urgent ones first. A spare thread was called for each that a thread may take, as far
    /// as there are any.
    jobs: VecDeque<(Urgency, J)>,
    /// How many of them are turns.
    waiting_turns: usize,
    /// How many turns threads have taken and not ended.
    turns: usize,
    is_closed: bool,
}

/// What a thread has taken. It is given back to [`LoopThreads::wait_for_job`] when it has ended.
pub(super) struct Taken {
    urgency: Urgency,
}

/// What the caller of [`LoopThreads::submit`] has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Call {
    /// A spare thread was called, or the job waits for the next thread that becomes spare.
    Made,
    /// Start a thread for it, which has been counted already, or call [`LoopThreads::thread_failed`].
    NeedsThread,
}

/// Which job is taken first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    /// A loop.
    First,
    /// The monitor.
    Second,
    /// A turn. Turns do not take the last [`RESERVED`] threads.
    Last,
}

/// How long a spare thread stays.
const SPARE_TIME: Duration = Duration::from_secs(5);

/// How many threads are kept for loops and the monitor.
pub(super) const RESERVED: usize = 2;

const FEW: usize = 5;

impl<J> LoopThreads<J> {
    /// `limit` is how many threads there may be. `busy` is how many of them drive a loop or are the monitor.
    pub(super) fn new(limit: usize, busy: usize) -> LoopThreads<J> {
        let state = State { threads: 0, spare: 0, jobs: VecDeque::new(), waiting_turns: 0, turns: 0, is_closed: false };
        let most_turns = limit.saturating_sub(busy + RESERVED);
        let (state, is_scarce) = (Mutex::new(state), AtomicBool::new(false));
        let threads = LoopThreads { state, called: Condvar::new(), limit, most_turns, is_scarce };
        threads.note_scarcity(&threads.state.lock());
        threads
    }

    pub(super) fn submit(&self, job: J, urgency: Urgency) -> Call {
        let mut state = self.state.lock();
        let position = state.jobs.iter().position(|(other, _)| *other > urgency).unwrap_or(state.jobs.len());
        state.jobs.insert(position, (urgency, job));
        state.waiting_turns += usize::from(urgency == Urgency::Last);
        let call = if urgency == Urgency::Last && state.turns + state.waiting_turns > self.most_turns {
            // The thread that ends a turn takes it.
            Call::Made
        } else if state.spare >= self.due(&state) {
            self.called.notify_one();
            Call::Made
        } else if state.threads < self.limit {
            state.threads += 1;
            Call::NeedsThread
        } else {
            Call::Made
        };
        self.note_scarcity(&state);
        call
    }

    /// How many jobs threads may take.
    fn due(&self, state: &State<J>) -> usize {
        let turns = state.waiting_turns.min(self.most_turns.saturating_sub(state.turns));
        state.jobs.len() - state.waiting_turns + turns
    }

    /// Counts a thread that was not started for a job.
    pub(super) fn count_caller(&self) {
        self.state.lock().threads += 1;
    }

    /// A thread that was counted could not be started. Its job stays in the queue, unless the caller withdraws it.
    pub(super) fn thread_failed(&self) {
        let mut state = self.state.lock();
        state.threads -= 1;
        self.note_scarcity(&state);
    }

    /// Takes back the last job that is of the caller, if no thread has taken it.
    pub(super) fn withdraw(&self, is_own: impl Fn(&J) -> bool) -> Option<J> {
        let mut state = self.state.lock();
        let position = state.jobs.iter().rposition(|(_, job)| is_own(job))?;
        let (urgency, job) = state.jobs.remove(position)?;
        state.waiting_turns -= usize::from(urgency == Urgency::Last);
        self.note_scarcity(&state);
        Some(job)
    }

    /// This thread is spare, after it has ended its last job, until there is a job that it may take. `None`: it ends, and
    /// counts no more.
    pub(super) fn wait_for_job(&self, ended: Option<Taken>) -> Option<(Taken, J)> {
        let until = Instant::now() + SPARE_TIME;
        let mut state = self.state.lock();
        state.turns -= usize::from(ended.is_some_and(|taken| taken.urgency == Urgency::Last));
        state.spare += 1;
        let job = loop {
            if self.due(&state) > 0
                && let Some((urgency, job)) = state.jobs.pop_front()
            {
                let is_turn = usize::from(urgency == Urgency::Last);
                state.waiting_turns -= is_turn;
                state.turns += is_turn;
                break Some((Taken { urgency }, job));
            }
            if state.is_closed || Instant::now() >= until {
                state.threads -= 1;
                break None;
            }
            self.called.wait_until(&mut state, until);
        };
        state.spare -= 1;
        self.note_scarcity(&state);
        job
    }

    /// Threads are running out.
    pub(super) fn is_scarce(&self) -> bool {
        self.is_scarce.load(Relaxed)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().is_closed
    }

    /// All loops have ended: the threads end too.
    pub(super) fn close(&self) {
        self.state.lock().is_closed = true;
        self.called.notify_all();
    }

    fn note_scarcity(&self, state: &State<J>) {
        let free = (self.limit + state.spare).saturating_sub(state.threads + state.jobs.len());
        self.is_scarce.store(free < FEW, Relaxed);
    }
}

#[cfg(not(sockserver_model))]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_cannot_be_started_is_not_counted() {
        let threads = LoopThreads::new(1, 1);
        assert_eq!(threads.submit("a loop", Urgency::First), Call::NeedsThread);
        threads.thread_failed();
        assert_eq!(threads.submit("the monitor", Urgency::Second), Call::NeedsThread);
    }

    #[test]
    fn the_urgent_job_is_taken_first() {
        let threads = LoopThreads::new(4, 1);
        assert_eq!(threads.submit("a turn", Urgency::Last), Call::NeedsThread);
        assert_eq!(threads.submit("another turn", Urgency::Last), Call::Made, "it would take one of the last threads");
        assert_eq!(threads.submit("the monitor", Urgency::Second), Call::NeedsThread);
        assert_eq!(threads.submit("a loop", Urgency::First), Call::NeedsThread);
        assert_eq!(threads.submit("a third turn", Urgency::Last), Call::Made);
        assert_eq!(threads.withdraw(|job| job.ends_with("turn")), Some("a third turn"));
        threads.close();
        let (mut last, mut jobs) = (None, Vec::new());
        while let Some((taken, job)) = threads.wait_for_job(last) {
            jobs.push(job);
            last = Some(taken);
        }
        assert_eq!(jobs, ["a loop", "the monitor", "a turn", "another turn"]);
    }

    #[test]
    fn turns_leave_threads_for_what_is_urgent() {
        let threads = LoopThreads::new(4, 1);
        let _ = threads.submit("a turn", Urgency::Last);
        let (turn, _) = threads.wait_for_job(None).expect("a job");
        let _ = threads.submit("another turn", Urgency::Last);
        let _ = threads.submit("the monitor", Urgency::Second);
        // Another thread takes no turn while the first one has one.
        let (monitor, job) = threads.wait_for_job(None).expect("a job");
        assert_eq!(job, "the monitor");
        threads.close();
        assert!(threads.wait_for_job(Some(monitor)).is_none());
        assert_eq!(threads.wait_for_job(Some(turn)).map(|(_, job)| job), Some("another turn"));
    }
}

//! The threads that drive loops, and those that are spare.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::primitives::{
    Condvar, Mutex,
    atomic::{AtomicBool, Ordering::Relaxed},
};

/// All threads of one server: each has a job, or is spare and waits for one.
pub(super) struct Crew<J> {
    state: Mutex<State<J>>,
    called: Condvar,
    /// How many threads there may be.
    limit: usize,
    /// Fewer than [`FEW`] threads could take a job.
    is_scarce: AtomicBool,
}

struct State<J> {
    /// Threads that were started, or are about to be, and have not ended.
    threads: usize,
    /// Those that wait for a job.
    spare: usize,
    /// Jobs that no thread has taken, the urgent ones first. A spare thread was called for each, as far as there are any.
    jobs: VecDeque<(Urgency, J)>,
    is_closed: bool,
}

/// What the caller of [`Crew::submit`] has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Call {
    /// A spare thread was called, or the job waits for the next thread that becomes spare.
    Made,
    /// Start a thread for it, which has been counted already, or call [`Crew::thread_failed`].
    NeedsThread,
}

/// Which job is taken first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    /// A loop.
    First,
    /// The monitor.
    Second,
    /// A turn. It does not take the last [`RESERVED`] threads.
    Last,
}

/// How long a spare thread stays.
const SPARE_TIME: Duration = Duration::from_secs(5);

/// How many threads are kept for loops and the monitor.
pub(super) const RESERVED: usize = 2;

const FEW: usize = 5;

impl<J> Crew<J> {
    pub(super) fn new(limit: usize) -> Crew<J> {
        let state = State { threads: 0, spare: 0, jobs: VecDeque::new(), is_closed: false };
        let crew = Crew { state: Mutex::new(state), called: Condvar::new(), limit, is_scarce: AtomicBool::new(false) };
        crew.note_scarcity(&crew.state.lock());
        crew
    }

    pub(super) fn submit(&self, job: J, urgency: Urgency) -> Call {
        let mut state = self.state.lock();
        let position = state.jobs.iter().position(|(other, _)| *other > urgency).unwrap_or(state.jobs.len());
        state.jobs.insert(position, (urgency, job));
        let reserved = if urgency == Urgency::Last { RESERVED } else { 0 };
        let call = if state.spare >= state.jobs.len() {
            self.called.notify_one();
            Call::Made
        } else if state.threads + reserved < self.limit {
            state.threads += 1;
            Call::NeedsThread
        } else {
            Call::Made
        };
        self.note_scarcity(&state);
        call
    }

    /// Counts a thread that was not started for a job.
    pub(super) fn enlist(&self) {
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
        let job = state.jobs.remove(position);
        self.note_scarcity(&state);
        job.map(|(_, job)| job)
    }

    /// This thread is spare until there is a job. `None`: it ends, and counts no more.
    pub(super) fn wait_for_job(&self) -> Option<J> {
        let until = Instant::now() + SPARE_TIME;
        let mut state = self.state.lock();
        state.spare += 1;
        let job = loop {
            if let Some((_, job)) = state.jobs.pop_front() {
                break Some(job);
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
        let crew = Crew::new(1);
        assert_eq!(crew.submit("a loop", Urgency::First), Call::NeedsThread);
        crew.thread_failed();
        assert_eq!(crew.submit("the monitor", Urgency::Second), Call::NeedsThread);
    }

    #[test]
    fn the_urgent_job_is_taken_first() {
        let crew = Crew::new(1);
        assert_eq!(crew.submit("a turn", Urgency::Last), Call::Made, "a turn does not take the last threads");
        assert_eq!(crew.submit("the monitor", Urgency::Second), Call::NeedsThread);
        assert_eq!(crew.submit("a loop", Urgency::First), Call::Made, "there may be no more threads");
        assert_eq!(crew.submit("another turn", Urgency::Last), Call::Made);
        assert_eq!(crew.withdraw(|job| job.ends_with("turn")), Some("another turn"));
        crew.close();
        let jobs: Vec<_> = std::iter::from_fn(|| crew.wait_for_job()).collect();
        assert_eq!(jobs, ["a loop", "the monitor", "a turn"]);
    }
}

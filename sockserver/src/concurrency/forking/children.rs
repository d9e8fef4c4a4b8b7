//! The child processes of one server.

use std::{
    io::{PipeReader, Read},
    mem,
    os::fd::AsFd,
    process::ExitStatus,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::report::{REPORT_SIZE, Report};
use crate::{
    acceptor::EventSource,
    connections::{drain::DrainPhase, stats::Outcome},
    error::{HandlerError, Stage},
    handle::ServerHandle,
    io::closing::Closing,
    job::Job,
    service::Service,
    sys::{self, ChildProcess, Signal, Watched},
};

/// The children of one server that were not waited for yet. The children of others are none of its business.
#[derive(Default)]
pub(super) struct Children {
    list: Mutex<Vec<Child>>,
}

pub(super) struct Child {
    process: ChildProcess,
    /// The child has the other end: what ends the child closes it, after a [`Report`] if it was the end of the request.
    pipe: Arc<PipeReader>,
    /// What the child has reported, once it has.
    report: Option<Report>,
    /// The pipe is at its end, the report is there, or the child was sent a signal: from now on it is waited for at
    /// these times.
    backoff: Option<ReapBackoff>,
    /// What the drain has done to it.
    phase: DrainPhase,
    job: Box<dyn ForkedJob>,
}

/// A job of a server of whatever type, which a child has.
trait ForkedJob: Send {
    fn settle(self: Box<Self>, report: Report);
    fn abandon(self: Box<Self>);
}

impl<S: Service> ForkedJob for Job<S> {
    fn settle(self: Box<Self>, report: Report) {
        Job::settle(*self, report.outcome, report.error);
    }

    fn abandon(self: Box<Self>) {
        Job::abandon(*self);
    }
}

/// A process closes its files a moment before it can be waited for, and may close this one much earlier. Where it has
/// left the pipe to a process of its own, this one is not closed at all.
#[derive(Clone, Copy)]
struct ReapBackoff {
    next: Instant,
    pause: Duration,
}

impl ReapBackoff {
    fn first() -> ReapBackoff {
        ReapBackoff { next: Instant::now(), pause: Duration::from_micros(500) }
    }

    fn later(self) -> ReapBackoff {
        ReapBackoff { next: Instant::now() + self.pause, pause: (2 * self.pause).min(Duration::from_millis(50)) }
    }
}

impl Child {
    pub(super) fn new<S: Service>(process: ChildProcess, pipe: PipeReader, job: Job<S>) -> Child {
        let pipe = Arc::new(pipe);
        Child { process, pipe, report: None, backoff: None, phase: DrainPhase::Waiting, job: Box::new(job) }
    }

    /// `Some` when it has ended; the status is missing if somebody else has waited for it.
    fn try_wait(&mut self) -> Option<Option<ExitStatus>> {
        let backoff = self.backoff?;
        match self.process.try_wait() {
            Ok(Some(status)) => Some(Some(status)),
            Ok(None) => {
                self.backoff = Some(backoff.later());
                None
            }
            Err(_) => Some(None),
        }
    }

    /// Reads what it has told, from a pipe that is readable. The child may take longer to end.
    fn read_report(&mut self) {
        let mut bytes = [0; REPORT_SIZE];
        let read = (&*self.pipe).read(&mut bytes).unwrap_or(0);
        self.report = Report::parse(&bytes[..read]);
    }

    /// Reports how the request ended, and ends it.
    fn settle(mut self, status: Option<ExitStatus>) {
        // It may have been sent a signal before its report was read.
        if self.report.is_none() && sys::is_readable(&*self.pipe).unwrap_or(true) {
            self.read_report();
        }
        let report = self.report.unwrap_or_else(|| match status {
            // The handler has called exit(3), or has become another program.
            Some(status) if status.success() => Report { outcome: Outcome::Finished, error: None },
            // Where the process ignores SIGCHLD, or waits for any child, the status is not known.
            status
                if self.phase > DrainPhase::Waiting
                    && status.is_none_or(|status| Signal::Terminate.has_ended(status)) =>
            {
                let error = HandlerError::new(Stage::Handle, Closing::Draining.into_error());
                Report { outcome: Outcome::Disconnected, error: Some(error.of_outcome(Outcome::Disconnected)) }
            }
            status => {
                let how = status.map_or("it is not known how".into(), |status| status.to_string());
                let error = HandlerError::new(Stage::Handle, format!("the child process ended by itself: {how}"));
                Report { outcome: Outcome::Failed, error: Some(error) }
            }
        });
        self.job.settle(report);
    }
}

impl Children {
    /// Keeps other threads from changing them. It is `std`'s lock, which a child can give back.
    pub(super) fn lock(&self) -> MutexGuard<'_, Vec<Child>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, child: Child) {
        self.lock().push(child);
    }

    /// Python's `collect_children`: waits for those that have ended, and settles their requests.
    fn reap(&self) {
        let mut ended = Vec::new();
        {
            let mut list = self.lock();
            notice(&mut list);
            for mut child in mem::take(&mut *list) {
                match child.try_wait() {
                    Some(status) => ended.push((child, status)),
                    None => list.push(child),
                }
            }
        }
        for (child, status) in ended {
            child.settle(status);
        }
    }

    /// Ends those that a drain ends, first gently.
    fn end(&self, phase: DrainPhase) {
        for child in self.lock().iter_mut().filter(|child| child.phase < phase) {
            child.phase = phase;
            child.backoff.get_or_insert_with(ReapBackoff::first);
            child.process.kill(if phase == DrainPhase::Abandoned { Signal::Kill } else { Signal::Terminate });
        }
    }

    /// In a child: closes what belongs to its siblings.
    pub(super) fn abandon(&self) {
        let siblings = mem::take(&mut *self.lock());
        siblings.into_iter().for_each(|sibling| sibling.job.abandon());
    }
}

impl EventSource for Children {
    /// The pipes of the children, of which one becomes readable when its child reports or ends.
    fn descriptors(&self) -> Vec<Arc<dyn AsFd + Send + Sync>> {
        let list = self.lock();
        let unnoticed = list.iter().filter(|child| child.backoff.is_none());
        unnoticed.map(|child| child.pipe.clone() as Arc<dyn AsFd + Send + Sync>).collect()
    }

    /// When to look again at the children that are about to end, at the connections that linger, and at the deadlines of
    /// connections and drain: a server that forks starts no thread for them.
    fn deadline(&self, server: &ServerHandle) -> Option<Instant> {
        let state = server.state();
        let next_overdue = state.connections.end_overdue();
        let phase = state.connections.drain_phase();
        let list = self.lock();
        if list.iter().any(|child| phase.is_some_and(|phase| child.phase < phase)) {
            // The drain has just come to a phase that the children are to learn of.
            return Some(Instant::now());
        }
        let next_look = list.iter().filter_map(|child| Some(child.backoff?.next)).min();
        drop(list);
        [next_look, state.lingering.check_on_leader(), next_overdue].into_iter().flatten().min()
    }

    fn process(&self, server: &ServerHandle) {
        let state = server.state();
        if state.connections.is_to_drain() {
            state.stop();
        }
        self.reap();
        if let Some(phase) = state.connections.drain_phase() {
            self.end(phase);
        }
    }

    fn is_done(&self) -> bool {
        self.lock().is_empty()
    }
}

/// Sees which of them have something to be read from their pipes, if only the end: with one system call for all.
fn notice(children: &mut [Child]) {
    let unnoticed = || children.iter().filter(|child| child.backoff.is_none());
    let mut pipes: Vec<_> = unnoticed().map(|child| Watched::new(child.pipe.as_fd())).collect();
    let polled = sys::poll(&mut pipes, Some(Duration::ZERO));
    let is_ready: Vec<bool> = pipes.iter().map(|pipe| polled.is_err() || pipe.is_ready()).collect();
    drop(pipes);
    let unnoticed = children.iter_mut().filter(|child| child.backoff.is_none());
    for (child, _) in unnoticed.zip(is_ready).filter(|(_, is_ready)| *is_ready) {
        child.backoff = Some(ReapBackoff::first());
        if polled.is_ok() {
            child.read_report();
        }
    }
}

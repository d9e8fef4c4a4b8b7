//! The child processes of one server.

use std::{
    io::{PipeReader, Read},
    mem,
    os::fd::AsFd,
    process::ExitStatus,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::report::{self, INTRODUCTION_SIZE, REPORT_SIZE};
use crate::{
    acceptor::EventSource,
    address::Address,
    connections::{drain::DrainPhase, limits::Returned, stats::Outcome},
    error::{HandlerError, Stage},
    event::Ending,
    finish_request::Ended,
    handle::ServerHandle,
    io::{closing::Closing, state::ConnectionId},
    job::Job,
    proxy_header::ProxyHeader,
    request::{self, AnyRequest},
    service::Service,
    sys::{self, ChildProcess, Signal, Watched},
};

/// The children of one server that have not been reaped. It never waits for a child of anything else in the process.
#[derive(Default)]
pub(super) struct Children {
    list: Mutex<Vec<Child>>,
}

pub(super) struct Child {
    process: ChildProcess,
    /// The child has the other end. It writes an introduction when the preamble is over, and a report when the request ends.
    /// The end of the child closes it.
    pipe: Arc<PipeReader>,
    /// `None`: the child has not reported yet.
    report: Option<Ended>,
    /// When to call waitpid(2), once the child is about to end: its pipe has ended or has the report, or it was sent a
    /// signal.
    backoff: Option<ReapBackoff>,
    /// What the drain has done to this child.
    phase: DrainPhase,
    job: Box<dyn ForkedJob>,
}

/// The job of a child, whatever the type of its server.
trait ForkedJob: Send {
    /// Notes who the client is.
    fn introduce(&self, client: &Address) -> ConnectionId;
    fn settle(self: Box<Self>, ended: Ended);
    fn abandon(self: Box<Self>);
}

impl<S: Service> ForkedJob for Job<S> {
    fn introduce(&self, client: &Address) -> ConnectionId {
        let state = request::kind(self.request()).state();
        if *client != state.peer_address {
            state.set_proxy_header(Box::new(ProxyHeader { source: Some(client.clone()), ..ProxyHeader::default() }));
        }
        self.request().id()
    }

    fn settle(self: Box<Self>, ended: Ended) {
        Job::settle(*self, ended);
    }

    fn abandon(self: Box<Self>) {
        Job::abandon(*self);
    }
}

/// The times between two looks at a child that is about to end. A process closes its pipe a moment before it can be
/// reaped, and may close it much earlier. The pipe of a child that was sent a signal may stay open, as a process that the
/// child has started can hold it.
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

    /// `Some` when the child has ended, without its status if other code of this process has reaped it.
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

    /// Reads from a pipe that is readable. After its report the child may take longer to end.
    fn read_pipe(&mut self) -> Message {
        let mut bytes = [0; INTRODUCTION_SIZE + REPORT_SIZE];
        let read = (&*self.pipe).read(&mut bytes).unwrap_or(0);
        let (client, report) = report::split_introduction(&bytes[..read]);
        self.report = report::parse(report);
        Message {
            introduced: client.map(|client| (self.job.introduce(&client), client)),
            is_last: read == 0 || !report.is_empty(),
        }
    }

    /// Reports how the request ended, and ends it.
    fn settle(mut self, status: Option<ExitStatus>) {
        // The drain may have sent it a signal before its report was read.
        if self.report.is_none() && sys::is_readable(&*self.pipe).unwrap_or(true) {
            self.read_pipe();
        }
        let ended = self.report.unwrap_or_else(|| match status {
            // The handler has called exit(3) or exec(3).
            Some(status) if status.success() => Ended { how: Ending::Ended(Outcome::Finished), error: None },
            // The status is unknown if the process ignores SIGCHLD or reaps any child.
            status
                if self.phase > DrainPhase::Waiting
                    && status.is_none_or(|status| Signal::Terminate.has_ended(status)) =>
            {
                let error = HandlerError::new(Stage::Handle, Closing::Draining.into_error());
                let error = error.of_outcome(Outcome::Disconnected);
                Ended { how: Ending::Ended(Outcome::Disconnected), error: Some(error) }
            }
            status => {
                let how = status.map_or("its exit status is unknown".into(), |status| status.to_string());
                let error = HandlerError::new(Stage::Handle, format!("the child process ended by itself: {how}"));
                Ended { how: Ending::Ended(Outcome::Failed), error: Some(error) }
            }
        });
        self.job.settle(ended);
    }
}

/// What a child has written to its pipe.
struct Message {
    /// The preamble of this connection is complete, and this is its client.
    introduced: Option<(ConnectionId, Address)>,
    /// The report has come, or the child closes its end without one.
    is_last: bool,
}

impl Children {
    /// The lock is `std`'s, which a child can unlock.
    pub(super) fn lock(&self) -> MutexGuard<'_, Vec<Child>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, child: Child) {
        self.lock().push(child);
    }

    /// Reads what the children report, reaps each child that has ended, and settles its request: Python's
    /// `collect_children`.
    fn reap(&self, server: &ServerHandle) {
        let mut ended = Vec::new();
        let introduced;
        {
            let mut list = self.lock();
            introduced = read_pipes(&mut list);
            for mut child in mem::take(&mut *list) {
                match child.try_wait() {
                    Some(status) => ended.push((child, status)),
                    None => list.push(child),
                }
            }
        }
        let state = server.state();
        let returned = introduced.into_iter().map(|(id, client)| state.connections.end_handshake(id, &client));
        if returned.filter(|returned| *returned == Returned::Awaited).count() > 0 {
            state.waker.wake();
        }
        for (child, status) in ended {
            child.settle(status);
        }
    }

    /// Sends the children the signal of this phase of the drain, once.
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
    /// The pipes of the children. A pipe becomes readable when its child reports or ends.
    fn descriptors(&self) -> Vec<Arc<dyn AsFd + Send + Sync>> {
        let list = self.lock();
        let running = list.iter().filter(|child| child.backoff.is_none());
        running.map(|child| child.pipe.clone() as Arc<dyn AsFd + Send + Sync>).collect()
    }

    /// When to look again at the children that are about to end, at the connections that linger, and at the deadlines of
    /// connections and drain. Other servers have threads for the latter two.
    fn deadline(&self, server: &ServerHandle) -> Option<Instant> {
        let state = server.state();
        let phase = state.connections.drain_phase();
        let list = self.lock();
        if list.iter().any(|child| phase.is_some_and(|phase| child.phase < phase)) {
            // A thread that waits for the end of the server has taken the drain to a phase whose signal the children have
            // not been sent.
            return Some(Instant::now());
        }
        let next_look = list.iter().filter_map(|child| Some(child.backoff?.next)).min();
        drop(list);
        let next_check = state.lingering.lock_leader_clients().next_check();
        [next_look, next_check, state.connections.next_deadline()].into_iter().flatten().min()
    }

    fn process(&self, server: &ServerHandle) {
        let state = server.state();
        state.connections.end_overdue();
        state.lingering.lock_leader_clients().check();
        if state.connections.is_to_drain() {
            state.stop();
        }
        self.reap(server);
        if let Some(phase) = state.connections.drain_phase() {
            self.end(phase);
        }
    }

    fn is_done(&self) -> bool {
        self.lock().is_empty()
    }
}

/// Reads the pipes that are readable, if only because their children have ended. One system call finds them all. Returns the
/// connections whose preambles are complete, with their clients.
fn read_pipes(children: &mut [Child]) -> Vec<(ConnectionId, Address)> {
    let running = || children.iter().filter(|child| child.backoff.is_none());
    let mut pipes: Vec<_> = running().map(|child| Watched::new(child.pipe.as_fd())).collect();
    let polled = sys::poll(&mut pipes, Some(Duration::ZERO));
    let is_ready: Vec<bool> = pipes.iter().map(|pipe| polled.is_err() || pipe.is_ready()).collect();
    drop(pipes);
    let running = children.iter_mut().filter(|child| child.backoff.is_none());
    let mut introduced = Vec::new();
    for (child, _) in running.zip(is_ready).filter(|(_, is_ready)| *is_ready) {
        let message = if polled.is_ok() { child.read_pipe() } else { Message { introduced: None, is_last: true } };
        introduced.extend(message.introduced);
        if message.is_last {
            child.backoff = Some(ReapBackoff::first());
        }
    }
    introduced
}

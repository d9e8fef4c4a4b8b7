//! The child processes that serve requests.

use std::{
    io::{self, PipeReader, Read, Write},
    mem,
    os::fd::AsFd,
    process::ExitStatus,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    accepted::Accepted,
    connections::Force,
    handler::{HandlerError, Stage},
    io::{connection::Connection, record::Closing},
    lingering::InTurn,
    server::Server,
    stats::Outcome,
    sys::{self, ChildProcess, Signal, Watched},
};

/// The children of one server that were not waited for yet. Those of others are none of its business.
pub(crate) struct Children<S: Server> {
    family: Mutex<Family<S>>,
}

pub(crate) struct Family<S: Server> {
    list: Vec<Child<S>>,
    /// Connections whose child has ended, or that had none: their clients may not have received everything yet.
    lingering: InTurn,
}

pub(crate) struct Child<S: Server> {
    process: ChildProcess,
    /// The child has the other end: what ends the child closes it, after a [`Report`] if it was the end of the request.
    pipe: Arc<PipeReader>,
    /// What it has told, once it has.
    report: Option<Report>,
    /// The pipe is at its end, the report is there, or the child was sent a signal: from now on it is waited for at
    /// these times.
    looks: Option<Looks>,
    force: Force,
    accepted: Accepted<S>,
}

/// A process closes its files a moment before it can be waited for, and may close this one much earlier. Where it has
/// left the pipe to a process of its own, this one is not closed at all.
#[derive(Clone, Copy)]
struct Looks {
    next: Instant,
    pause: Duration,
}

impl Looks {
    fn first() -> Looks {
        Looks { next: Instant::now(), pause: Duration::from_micros(500) }
    }

    fn later(self) -> Looks {
        Looks { next: Instant::now() + self.pause, pause: (2 * self.pause).min(Duration::from_millis(50)) }
    }
}

/// How a request ended, as its child tells the parent: in one write that the pipe takes whole.
struct Report {
    outcome: Outcome,
    error: Option<HandlerError>,
}

/// What a pipe takes in one piece at least on every system (`_POSIX_PIPE_BUF`).
const REPORT_SIZE: usize = 512;

impl<S: Server> Default for Children<S> {
    fn default() -> Children<S> {
        Children { family: Mutex::new(Family { list: Vec::new(), lingering: InTurn::default() }) }
    }
}

impl<S: Server> Child<S> {
    pub(crate) fn new(process: ChildProcess, pipe: PipeReader, accepted: Accepted<S>) -> Child<S> {
        Child { process, pipe: Arc::new(pipe), report: None, looks: None, force: Force::None, accepted }
    }

    /// `Some` when it has ended; the status is missing if somebody else has waited for it.
    fn try_wait(&mut self) -> Option<Option<ExitStatus>> {
        let looks = self.looks?;
        match self.process.try_wait() {
            Ok(Some(status)) => Some(Some(status)),
            Ok(None) => {
                self.looks = Some(looks.later());
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
            status if self.force > Force::None && status.is_none_or(|status| Signal::Terminate.has_ended(status)) => {
                let error = HandlerError::new(Stage::Handle, Closing::Draining.into_error());
                Report { outcome: Outcome::Disconnected, error: Some(error.of_outcome(Outcome::Disconnected)) }
            }
            status => {
                let how = status.map_or("it is not known how".into(), |status| status.to_string());
                let error = HandlerError::new(Stage::Handle, format!("the child process ended by itself: {how}"));
                Report { outcome: Outcome::Failed, error: Some(error) }
            }
        });
        self.accepted.settle(report.outcome, report.error);
    }
}

impl<S: Server> Children<S> {
    /// Keeps other threads from changing them. It is `std`'s lock, which a child can give back.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Family<S>> {
        self.family.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, child: Child<S>) {
        self.lock().list.push(child);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().list.is_empty()
    }

    /// What becomes readable when a child ends.
    pub(crate) fn pipes(&self) -> Vec<Arc<PipeReader>> {
        self.lock().list.iter().filter(|child| child.looks.is_none()).map(|child| child.pipe.clone()).collect()
    }

    /// When to look again at those that are about to end.
    pub(crate) fn next_look(&self) -> Option<Instant> {
        self.lock().list.iter().filter_map(|child| Some(child.looks?.next)).min()
    }

    /// Python's `collect_children`: waits for those that have ended, and settles their requests.
    pub(crate) fn reap(&self) {
        let mut ended = Vec::new();
        let mut errors = Vec::new();
        {
            let list = &mut self.lock().list;
            notice(list);
            for mut child in mem::take(list) {
                match child.try_wait() {
                    Some(status) => ended.push((child, status)),
                    None => {
                        // It waits for its client: the error need not.
                        if let Some(error) = child.report.as_mut().and_then(|report| report.error.take()) {
                            let accepted = &child.accepted;
                            errors.push((accepted.acceptor().clone(), error, accepted.client_address().clone()));
                        }
                        list.push(child);
                    }
                }
            }
        }
        for (acceptor, error, client_address) in errors {
            acceptor.handle_error(error, &client_address);
        }
        for (child, status) in ended {
            child.settle(status);
        }
    }

    /// Ends those that a drain ends, first gently.
    pub(crate) fn end(&self, force: Force) {
        for child in self.lock().list.iter_mut().filter(|child| child.force < force) {
            child.force = force;
            child.looks.get_or_insert_with(Looks::first);
            child.process.kill(if force == Force::Last { Signal::Kill } else { Signal::Terminate });
        }
    }

    /// Closes the connection when its client has received everything.
    pub(crate) fn linger(&self, connection: Arc<Connection>) {
        self.lock().lingering.add(connection);
    }

    /// Looks at the connections that linger, and returns when to do so again.
    pub(crate) fn look_at_lingering(&self) -> Option<Instant> {
        self.lock().lingering.look()
    }

    /// The server ends: waits until those have received what they were sent, at most for the time.
    pub(crate) fn finish_lingering(&self, time: Duration) {
        self.lock().lingering.finish(time);
    }

    /// In a child: closes what belongs to its siblings.
    pub(crate) fn abandon(&self) {
        let mut family = self.lock();
        family.lingering = InTurn::default();
        for child in mem::take(&mut family.list) {
            child.accepted.abandon();
        }
    }
}

/// Sees which of them have something to be read from their pipes, if only the end: with one system call for all.
fn notice<S: Server>(children: &mut [Child<S>]) {
    let unnoticed = || children.iter().filter(|child| child.looks.is_none());
    let mut pipes: Vec<_> = unnoticed().map(|child| Watched::new(child.pipe.as_fd())).collect();
    let polled = sys::poll(&mut pipes, Some(Duration::ZERO));
    let is_ready: Vec<bool> = pipes.iter().map(|pipe| polled.is_err() || pipe.is_ready()).collect();
    drop(pipes);
    let unnoticed = children.iter_mut().filter(|child| child.looks.is_none());
    for (child, _) in unnoticed.zip(is_ready).filter(|(_, is_ready)| *is_ready) {
        child.looks = Some(Looks::first());
        if polled.is_ok() {
            child.read_report();
        }
    }
}

/// In a child: tells the parent how the request ended.
pub(crate) fn report(pipe: &mut impl Write, outcome: Outcome, error: Option<HandlerError>) -> io::Result<()> {
    Report { outcome, error }.write(pipe)
}

impl Report {
    fn write(&self, pipe: &mut impl Write) -> io::Result<()> {
        let mut bytes = vec![self.outcome as u8];
        if let Some(error) = &self.error {
            bytes.extend([error.stage() as u8, error.is_panic().into()]);
            bytes.extend(error.cause().bytes());
            bytes.truncate(REPORT_SIZE);
        }
        pipe.write_all(&bytes)
    }

    fn parse(bytes: &[u8]) -> Option<Report> {
        let (&outcome, error) = bytes.split_first()?;
        let outcome = Outcome::ALL.into_iter().find(|known| *known as u8 == outcome)?;
        let error = match error {
            [stage, is_panic, cause @ ..] => {
                let stage = Stage::ALL.into_iter().find(|known| *known as u8 == *stage)?;
                let cause = String::from_utf8_lossy(cause).into_owned();
                Some(match is_panic {
                    1 => HandlerError::panic(stage, cause),
                    _ => HandlerError::new(stage, cause).of_outcome(outcome),
                })
            }
            _ => None,
        };
        Some(Report { outcome, error })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_what_the_child_said() {
        let mut pipe = Vec::new();
        report(&mut pipe, Outcome::Panicked, Some(HandlerError::panic(Stage::Setup, "no disk".into())))
            .expect("a vector takes all");
        let Report { outcome, error } = Report::parse(&pipe).expect("a whole report");
        assert_eq!(outcome, Outcome::Panicked);
        assert_eq!(error.expect("an error").to_string(), "setup panicked: no disk");
    }

    #[test]
    fn a_report_fits_into_one_write() {
        let mut pipe = Vec::new();
        report(&mut pipe, Outcome::Failed, Some(HandlerError::new(Stage::Handle, "é".repeat(REPORT_SIZE))))
            .expect("a vector takes all");
        assert_eq!(pipe.len(), REPORT_SIZE);
        assert!(Report::parse(&pipe).is_some_and(|report| report.error.is_some()));
    }

    #[test]
    fn a_hang_up_or_a_timeout_stays_one_across_the_processes() {
        let told = |outcome, kind| {
            let mut pipe = Vec::new();
            let error = HandlerError::new(Stage::Handle, io::Error::from(kind));
            report(&mut pipe, outcome, Some(error)).expect("a vector takes all");
            Report::parse(&pipe).and_then(|report| report.error).expect("an error")
        };
        assert!(told(Outcome::Disconnected, io::ErrorKind::BrokenPipe).is_disconnect());
        assert!(told(Outcome::TimedOut, io::ErrorKind::TimedOut).is_timeout());
    }

    #[test]
    fn what_is_no_report_is_none() {
        for bytes in [&b""[..], &[200], &[0, 200, 0]] {
            assert!(Report::parse(bytes).is_none());
        }
    }
}

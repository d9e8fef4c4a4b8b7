//! How a thread waits for the client of a connection, and what ends the wait.

use std::{
    io,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use super::{
    closing::{self, Closing},
    connection::Connection,
};
use crate::sys::{self, Watched};

/// The times within `timeouts(idle)` at which a thread looks whether its client still takes what was sent.
const IDLE_LOOKS: u32 = 8;

/// What has ended a wait.
pub(super) enum Event {
    /// The client has sent something, or takes something, or is gone.
    Ready,
    /// The server begins to drain.
    BellRang,
    /// The time was over, or a signal came.
    Other,
}

/// One wait for the client, from its first system call on.
pub(super) struct Wait {
    pub(super) began: Instant,
    timeout: Option<Duration>,
    /// How much the client had still to take when that was seen to have changed.
    unsent: Option<u64>,
}

impl Wait {
    pub(super) fn begin(timeout: Option<Duration>) -> Wait {
        Wait { began: Instant::now(), timeout, unsent: None }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.timeout.and_then(|timeout| self.began.checked_add(timeout))
    }
}

pub(super) fn has_passed(deadline: Option<Instant>, now: Instant) -> bool {
    deadline.is_some_and(|deadline| now >= deadline)
}

impl Connection {
    /// `closing` is what the permission was given for. A reason that has come since then rings the bell, which must be
    /// heard.
    pub(super) fn wait_to_receive(
        &self,
        wait: &mut Wait,
        closing: Option<Closing>,
        until: Option<Instant>,
    ) -> io::Result<Event> {
        let reader_deadline = self.waits.deadline.load().map(|age| self.instant(age));
        self.check_deadlines(wait, reader_deadline, "the client sent nothing within the read timeout")?;
        let idle_look = self.look_whether_idle(wait)?;
        let deadlines = [until, wait.deadline(), reader_deadline, idle_look, self.end_of_life(), self.cut_at()];
        let client = Watched::new(self.socket.as_fd());
        match self.bell().filter(|_| closing.is_none()) {
            None => poll(&mut [client], deadlines),
            Some(bell) => poll(&mut [client, Watched::new(bell.as_fd())], deadlines),
        }
    }

    pub(super) fn wait_to_send(&self, wait: &mut Wait) -> io::Result<()> {
        self.check_deadlines(wait, None, "the client took nothing within the write timeout")?;
        let idle_look = self.look_whether_idle(wait)?;
        let client = Watched::for_output(self.socket.as_fd());
        poll(&mut [client], [wait.deadline(), idle_look, self.cut_at()]).map(drop)
    }

    pub(super) fn check_deadlines(
        &self,
        wait: &Wait,
        reader: Option<Instant>,
        message: &'static str,
    ) -> io::Result<()> {
        let now = Instant::now();
        if let Some(closing) = self.state.closing()
            && has_passed(self.cut_at(), now)
        {
            return Err(self.ended(closing));
        }
        if has_passed(reader, now) {
            return Err(self.timed_out("the client's message was not complete by the reader's deadline"));
        }
        if has_passed(wait.deadline(), now) {
            return Err(self.timed_out(message));
        }
        Ok(())
    }

    /// Ends a connection on which nothing was transferred for `timeouts(idle)`; else returns when to look again.
    fn look_whether_idle(&self, wait: &mut Wait) -> io::Result<Option<Instant>> {
        let can_be_idle = matches!(self.state.closing(), None | Some(Closing::Draining));
        let Some(idle) = self.waits.idle.load().filter(|_| can_be_idle) else { return Ok(None) };
        // What the client takes of what the kernel holds is no call of this process.
        let unsent = sys::bytes_untaken(&self.socket);
        if wait.unsent.replace(unsent).is_some_and(|before| before != unsent) {
            self.note_transfer();
        }
        let idle_from = self.waits.last_transfer.load().unwrap_or_default();
        let idle_at = self.instant(idle_from.saturating_add(idle));
        let now = Instant::now();
        if now >= idle_at {
            return Err(self.end_for(Closing::Idle));
        }
        match unsent {
            0 => Ok(Some(idle_at)),
            _ => Ok(Some(idle_at.min(now + (idle / IDLE_LOOKS).max(Duration::from_millis(1))))),
        }
    }

    pub(super) fn end_of_life(&self) -> Option<Instant> {
        self.waits.lifetime.load().map(|age| self.instant(age))
    }

    pub(super) fn cut_at(&self) -> Option<Instant> {
        self.waits.cut.load().map(|age| self.instant(age))
    }

    /// The error of a call: what the server has done to the connection is not the client's doing.
    pub(super) fn failed(&self, error: io::Error) -> io::Error {
        match self.state.shut_for() {
            Some(closing) => self.ended(closing),
            None => self.state.noted(error),
        }
    }

    /// Ends the connection for this reason, unless it has another one already.
    pub(super) fn end_for(&self, closing: Closing) -> io::Error {
        self.state.mark(closing);
        self.cut_within(closing::GOODBYE);
        self.ended(self.state.closing().unwrap_or(closing))
    }

    pub(super) fn ended(&self, closing: Closing) -> io::Error {
        self.state.noted(closing.into_error())
    }

    fn timed_out(&self, message: &'static str) -> io::Error {
        self.state.noted(io::Error::new(io::ErrorKind::TimedOut, message))
    }
}

/// poll(2) until the earliest of the deadlines. The first one watched is the client, a second one the bell.
fn poll<const N: usize>(watched: &mut [Watched<'_>], deadlines: [Option<Instant>; N]) -> io::Result<Event> {
    let now = Instant::now();
    let timeout = deadlines.into_iter().flatten().min().map(|deadline| deadline.saturating_duration_since(now));
    sys::poll(watched, timeout)?;
    Ok(match watched {
        [_, bell] if bell.is_ready() => Event::BellRang,
        [client, ..] if client.is_ready() => Event::Ready,
        _ => Event::Other,
    })
}

//! How a thread waits for the client of a connection, and what ends the wait.

use std::{
    io,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use super::{
    closing::{self, Closing},
    connection::Connection,
    waker::Waker,
};
use crate::sys::{self, Watched};

/// How many times within `timeouts(idle)` a sending or waiting thread checks whether the client still receives.
const IDLE_CHECKS: u32 = 8;

/// Why a wait has ended.
pub(super) enum Wakeup {
    /// The socket is readable or writable, or the connection has failed.
    ClientReady,
    /// The bell rang: the server began to drain.
    ServerDraining,
    /// Another thread used the waker of a [`Patience`].
    Woken,
    /// A deadline has passed, or a signal has interrupted the wait.
    Other,
}

/// What ends a receive, beside the client, the server and the deadlines. The receive then fails with
/// [`io::ErrorKind::WouldBlock`].
#[derive(Clone, Copy)]
pub(crate) enum Patience<'a> {
    /// Nothing.
    Unlimited,
    /// Another thread, by this waker.
    UntilWoken(&'a Waker),
    /// That it would have to wait.
    None,
}

/// A read or write that waits for the client, from its first system call on.
pub(super) struct ClientWait {
    pub(super) began: Instant,
    timeout: Option<Duration>,
    /// How many sent bytes the client had not received at the last check.
    unsent: Option<u64>,
}

impl ClientWait {
    pub(super) fn begin(timeout: Option<Duration>) -> ClientWait {
        ClientWait { began: Instant::now(), timeout, unsent: None }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.timeout.and_then(|timeout| self.began.checked_add(timeout))
    }
}

/// It looks at the clock only if there is a deadline.
pub(super) fn has_passed(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| Instant::now() >= deadline)
}

impl Connection {
    /// `closing` is the reason that the caller knows of. A drain that begins later rings the bell, so the thread
    /// watches the bell unless it knows a reason.
    pub(super) fn wait_to_receive(
        &self,
        wait: &mut ClientWait,
        patience: Patience<'_>,
        closing: Option<Closing>,
        until: Option<Instant>,
    ) -> io::Result<Wakeup> {
        let deadline = self.end_of_wait_to_receive(wait, until)?;
        let client = Watched::new(self.socket.as_fd());
        let bell = self.terms().filter(|_| closing.is_none()).map(|terms| Watched::new(terms.bell.as_fd()));
        match (patience, bell) {
            (Patience::Unlimited, None) => poll(&mut [client], deadline),
            (Patience::Unlimited, Some(bell)) => poll(&mut [client, bell], deadline),
            (Patience::UntilWoken(waker), bell) => {
                poll(&mut [client, bell.unwrap_or_else(Watched::nothing), Watched::new(waker.as_fd())], deadline)
            }
            (Patience::None, bell) => poll(&mut [client, bell.unwrap_or_else(Watched::nothing)], Some(Instant::now())),
        }
    }

    /// When a wait for the client ends, and at the latest `until`. An error if it ends now.
    pub(super) fn end_of_wait_to_receive(
        &self,
        wait: &mut ClientWait,
        until: Option<Instant>,
    ) -> io::Result<Option<Instant>> {
        let reader_deadline = self.waits.read_deadline.load().map(|age| self.instant(age));
        self.check_deadlines(wait, reader_deadline, "the client sent nothing within the read timeout")?;
        let next_idle_check = self.check_idle_timeout(wait)?;
        let deadlines =
            [until, wait.deadline(), reader_deadline, next_idle_check, self.lifetime_deadline(), self.cut_deadline()];
        Ok(deadlines.into_iter().flatten().min())
    }

    pub(super) fn wait_to_send(&self, wait: &mut ClientWait) -> io::Result<()> {
        let deadline = self.end_of_wait_to_send(wait)?;
        let client = Watched::for_output(self.socket.as_fd());
        poll(&mut [client], deadline).map(drop)
    }

    /// When a wait for room in the kernel's buffer ends. An error if it ends now.
    pub(super) fn end_of_wait_to_send(&self, wait: &mut ClientWait) -> io::Result<Option<Instant>> {
        self.check_deadlines(wait, None, "the client received nothing within the write timeout")?;
        let next_idle_check = self.check_idle_timeout(wait)?;
        Ok([wait.deadline(), next_idle_check, self.cut_deadline()].into_iter().flatten().min())
    }

    pub(super) fn check_deadlines(
        &self,
        wait: &ClientWait,
        reader: Option<Instant>,
        message: &'static str,
    ) -> io::Result<()> {
        if let Some(closing) = self.state.closing()
            && has_passed(self.cut_deadline())
        {
            return Err(self.closing_error(closing));
        }
        if has_passed(reader) {
            return Err(self.timeout_error("the client's message was not complete by the reader's deadline"));
        }
        if has_passed(wait.deadline()) {
            return Err(self.timeout_error(message));
        }
        Ok(())
    }

    /// Ends a connection on which nothing was transferred for `timeouts(idle)`. Otherwise returns when to check again.
    fn check_idle_timeout(&self, wait: &mut ClientWait) -> io::Result<Option<Instant>> {
        let can_be_idle = matches!(self.state.closing(), None | Some(Closing::Draining));
        let Some(idle) = self.waits.idle.load().filter(|_| can_be_idle) else { return Ok(None) };
        let now = Instant::now();
        let until_check = (idle / IDLE_CHECKS).max(Duration::from_millis(1));
        if wait.unsent.is_none() {
            let idle_at = self.instant(self.begin_quiet(now).saturating_add(idle));
            let first_check = wait.began.checked_add(until_check).map_or(idle_at, |check| check.min(idle_at));
            // A client that does not keep the server waiting costs no system call.
            if now < first_check {
                return Ok(Some(first_check));
            }
        }
        // Progress of bytes that the kernel holds shows in no call of this process.
        let unsent = sys::bytes_undelivered(&self.socket);
        if wait.unsent.replace(unsent).is_some_and(|before| before != unsent) {
            self.note_transfer();
        }
        let idle_at = self.instant(self.begin_quiet(now).saturating_add(idle));
        if now >= idle_at {
            return Err(self.end_with(Closing::Idle));
        }
        match unsent {
            0 => Ok(Some(idle_at)),
            _ => Ok(Some(idle_at.min(now + until_check))),
        }
    }

    pub(super) fn lifetime_deadline(&self) -> Option<Instant> {
        self.terms()?.lifetime.map(|age| self.instant(age))
    }

    pub(super) fn cut_deadline(&self) -> Option<Instant> {
        self.waits.cut_deadline.load().map(|age| self.instant(age))
    }

    /// The error of a system call. If the server has shut the socket, that is the cause, and not the client.
    pub(super) fn call_error(&self, error: io::Error) -> io::Error {
        match self.state.shut_for() {
            Some(closing) => self.closing_error(closing),
            None => self.state.note_error(error),
        }
    }

    /// Ends the connection for this reason, or for an earlier one that it already has.
    pub(super) fn end_with(&self, closing: Closing) -> io::Error {
        self.state.mark(closing);
        self.cut_within(closing::GOODBYE);
        self.closing_error(self.state.closing().unwrap_or(closing))
    }

    pub(super) fn closing_error(&self, closing: Closing) -> io::Error {
        self.state.mark_told();
        self.state.note_error(closing.into_error())
    }

    fn timeout_error(&self, message: &'static str) -> io::Error {
        self.state.note_error(io::Error::new(io::ErrorKind::TimedOut, message))
    }
}

/// poll(2) until the deadline. The first descriptor is the client's, the second one, if any, the bell's, the
/// third one a waker's.
fn poll(watched: &mut [Watched<'_>], deadline: Option<Instant>) -> io::Result<Wakeup> {
    let timeout = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    sys::poll(watched, timeout)?;
    Ok(match watched {
        [_, bell, ..] if bell.is_ready() => Wakeup::ServerDraining,
        [client, ..] if client.is_ready() => Wakeup::ClientReady,
        [_, _, waker] if waker.is_ready() => Wakeup::Woken,
        _ => Wakeup::Other,
    })
}

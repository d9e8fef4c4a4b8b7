//! Receiving from the client of a connection.
//!
//! A receiving thread first waits in recv(2), for a *slice* of time: most clients send within it, and the receive costs
//! one system call. Then the thread waits in poll(2), for the client or for the server's bell, until the earliest of
//! its deadlines. So the server wakes all threads by one write when it stops. It never reads from their sockets, and
//! never has to guess what a thread has just received.

use std::{
    io,
    time::{Duration, Instant},
};

use socket2::Socket;

use super::{
    activity::{Activity, DrainedRequest},
    closing::Closing,
    connection::Connection,
    incoming::Incoming,
    waiting::{ClientWait, Patience, Wakeup, has_passed},
};
use crate::{
    primitives::atomic::{Ordering::Relaxed, Ordering::SeqCst},
    sys,
};

/// How long a receive waits in recv(2), where the bell cannot wake it. A longer slice delays the stop of a connection
/// that was just in use; after a shorter one, more clients cost a second system call.
const SLICE: Duration = Duration::from_millis(5);

/// The slice of a client that has had [`REPLIES_BEFORE_LONG_SLICE`] replies. The sooner a timeout, the more often an
/// idle processor has to reprogram its timer.
const LONG_SLICE: Duration = Duration::from_millis(40);

const REPLIES_BEFORE_LONG_SLICE: u32 = 16;

/// How often a thread checks whether its draining connection is still declared busy.
const BUSY_CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// What a receive does next, which depends on whether the server ends the connection.
pub(super) enum NextStep {
    /// Receive without waiting, at most this many bytes.
    DrainAtMost(usize),
    /// Wait for the client, at most until then.
    WaitUntil(Option<Instant>),
}

/// Appends so many bytes at most, and returns how many.
#[cfg(feature = "tls")]
pub(super) fn append_to(buffer: &mut Vec<u8>, most: usize) -> impl FnMut(&[u8]) -> usize {
    let mut left = most;
    move |bytes| {
        let taken = bytes.len().min(left);
        left -= taken;
        buffer.extend_from_slice(&bytes[..taken]);
        taken
    }
}

impl Connection {
    /// Receives by `call`, whose arguments are the socket, the most bytes to receive, and the flags of recv(2). Held
    /// back bytes are sent first: a client that waits for its answer would send nothing.
    pub(crate) fn receive(&self, call: impl FnMut(&Socket, usize, i32) -> io::Result<usize>) -> io::Result<usize> {
        self.receive_with(Patience::Unlimited, call)
    }

    pub(super) fn receive_with(
        &self,
        patience: Patience<'_>,
        mut call: impl FnMut(&Socket, usize, i32) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if self.has_held_back.load(SeqCst) {
            self.flush_or_delegate()?;
        }
        let closing = self.state.begin_receiving();
        // A writing thread sets `has_held_back` and then checks whether this thread is receiving. This thread does both
        // in the opposite order. So at least one of the two sees the other, and sends.
        let flushed = if self.has_held_back.load(SeqCst) { self.flush_or_delegate() } else { Ok(()) };
        let received = flushed.and_then(|()| self.receive_or_wait(patience, closing, &mut call));
        if self.state.end_receiving() == Some(Closing::Draining) {
            // The drain began during the receive, and left it to this thread to measure what is unread.
            self.bytes_left_to_drain();
        }
        received
    }

    /// Receives into the buffer of the caller. Returns how many bytes.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        #[cfg(feature = "tls")]
        if let Some(encryption) = self.encryption.get() {
            let mut filled = 0;
            return self.receive_decrypted(encryption, Patience::Unlimited, |plaintext| {
                let taken = plaintext.len().min(buffer.len() - filled);
                buffer[filled..filled + taken].copy_from_slice(&plaintext[..taken]);
                filled += taken;
                taken
            });
        }
        self.receive(|socket, limit, flags| sys::receive_into(socket, buffer, limit, flags))
    }

    /// Receives into the buffer, behind the bytes that are not consumed. Returns how many bytes.
    pub(crate) fn fill(&self, incoming: &mut Incoming, size: usize, patience: Patience<'_>) -> io::Result<usize> {
        let room = incoming.room(size);
        #[cfg(feature = "tls")]
        if let Some(encryption) = self.encryption.get() {
            return self.receive_decrypted(encryption, patience, append_to(room, size));
        }
        self.receive_with(patience, |socket, limit, flags| sys::receive(socket, room, limit, flags))
    }

    /// Must come before a handler takes bytes that were received earlier: no system call ends a handler that has enough
    /// of them.
    #[inline]
    pub(crate) fn check_input(&self) -> io::Result<()> {
        match self.state.refuses_input_for() {
            None => Ok(()),
            Some(closing) => Err(self.closing_error(closing)),
        }
    }

    fn receive_or_wait(
        &self,
        patience: Patience<'_>,
        closing: Option<Closing>,
        call: &mut impl FnMut(&Socket, usize, i32) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let timeout = self.waits.read_timeout.load();
        let mut wait = None;
        if closing.is_none() && matches!(patience, Patience::Unlimited) && self.try_begin_slice() {
            wait = timeout.map(|_| ClientWait::begin(timeout));
            let received = self.receive_in_slice(call);
            self.end_slice();
            match received {
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                    self.waits.is_client_slow.store(true, Relaxed);
                }
                received => return self.finish_receive(received),
            }
        }
        let mut wait = wait.unwrap_or_else(|| ClientWait::begin(timeout));
        self.begin_quiet(wait.began);
        loop {
            let closing = self.state.closing();
            let limit = match self.next_step(closing)? {
                NextStep::DrainAtMost(limit) => limit,
                NextStep::WaitUntil(until) => match self.wait_to_receive(&mut wait, patience, closing, until)? {
                    Wakeup::ClientReady if self.state.closing() == closing => usize::MAX,
                    Wakeup::ClientReady => continue,
                    Wakeup::ServerDraining => {
                        self.state.mark(Closing::Draining);
                        continue;
                    }
                    Wakeup::Woken => return Err(io::ErrorKind::WouldBlock.into()),
                    Wakeup::Other if matches!(patience, Patience::None) => {
                        return Err(io::ErrorKind::WouldBlock.into());
                    }
                    Wakeup::Other => continue,
                },
            };
            match call(&self.socket, limit, libc::MSG_DONTWAIT) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if limit != usize::MAX {
                        self.state.forget_unread_bytes();
                    }
                }
                received => {
                    if self.waits.is_client_slow.load(Relaxed) && wait.began.elapsed() < self.slice() {
                        self.waits.is_client_slow.store(false, Relaxed);
                    }
                    return self.finish_receive(received);
                }
            }
        }
    }

    /// Begins a receive that waits in recv(2), unless a deadline or the user of the descriptor rules that out. If it
    /// returns true, `end_slice` must follow.
    fn try_begin_slice(&self) -> bool {
        let waits = &self.waits;
        // All threads of the model run on one thread, which must not block.
        if cfg!(sockserver_model) || waits.is_client_slow.load(Relaxed) || waits.is_descriptor_lent.load(Relaxed) {
            return false;
        }
        let is_long = |time: Option<Duration>| time.is_none_or(|time| time >= 2 * LONG_SLICE);
        if !is_long(waits.read_timeout.load()) || !is_long(waits.idle.load()) || waits.read_deadline.load().is_some() {
            return false;
        }
        waits.is_in_slice.store(true, SeqCst);
        if !waits.is_descriptor_lent.load(SeqCst) {
            return true;
        }
        self.end_slice();
        false
    }

    /// How long a client is waited for in recv(2).
    fn slice(&self) -> Duration {
        if self.activity.replies() < REPLIES_BEFORE_LONG_SLICE { SLICE } else { LONG_SLICE }
    }

    /// Sets the timeout of the socket only when a receive has to wait: a client that sends at once and then ends does
    /// not cost that system call.
    fn receive_in_slice(&self, call: &mut impl FnMut(&Socket, usize, i32) -> io::Result<usize>) -> io::Result<usize> {
        let slice = self.slice();
        let before = self.waits.slice_timeout.load();
        if before != Some(slice) {
            let received = call(&self.socket, usize::MAX, libc::MSG_DONTWAIT);
            let has_to_wait = received.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
            if !has_to_wait {
                return received;
            }
            self.waits.slice_timeout.store(Some(slice));
            if self.socket.set_read_timeout(Some(slice)).is_err() {
                self.waits.slice_timeout.store(before);
                return received;
            }
        }
        call(&self.socket, usize::MAX, 0)
    }

    fn end_slice(&self) {
        self.waits.is_in_slice.store(false, SeqCst);
        if self.waits.is_descriptor_lent.load(SeqCst) {
            self.clear_slice_timeout();
        }
    }

    /// Takes the result of recv(2), except `WouldBlock`, into the state of the connection.
    pub(super) fn finish_receive(&self, received: io::Result<usize>) -> io::Result<usize> {
        match received {
            Ok(0) => match self.state.shut_for() {
                Some(closing) => Err(self.closing_error(closing)),
                None => {
                    self.note_end_of_file();
                    Ok(0)
                }
            },
            Ok(received) => {
                self.note_transfer();
                self.state.count_in(received);
                Ok(received)
            }
            Err(error) => Err(self.call_error(error)),
        }
    }

    pub(super) fn next_step(&self, closing: Option<Closing>) -> io::Result<NextStep> {
        if has_passed(self.lifetime_deadline()) {
            return Err(self.end_with(Closing::Lifetime));
        }
        let Some(closing) = closing else { return Ok(NextStep::WaitUntil(None)) };
        self.check_input()?;
        match self.bytes_left_to_drain() {
            0 => match self.activity() {
                Activity::Idle => Err(self.closing_error(closing)),
                // Another thread can declare the connection idle, which does not wake this one.
                Activity::Busy => Ok(NextStep::WaitUntil(Some(Instant::now() + BUSY_CHECK_INTERVAL))),
                Activity::BusyUntil(quiet_at) => match self.activity.track_drained_request() {
                    DrainedRequest::Answered => Err(self.closing_error(closing)),
                    DrainedRequest::InProgress => Ok(NextStep::WaitUntil(Some(quiet_at))),
                },
                // A client that sends without a pause would hold up the stop: only the message that the drain found
                // under way is finished.
                Activity::InMessage => match self.activity.track_drained_request() {
                    DrainedRequest::Answered => Err(self.closing_error(closing)),
                    DrainedRequest::InProgress => Ok(NextStep::WaitUntil(None)),
                },
            },
            left => Ok(NextStep::DrainAtMost(left.try_into().unwrap_or(usize::MAX - 1))),
        }
    }
}

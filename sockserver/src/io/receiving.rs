//! Receiving from the client of a connection.
//!
//! A thread that receives waits in recv(2) itself, for a `SLICE`: most clients answer within that, and it costs one
//! system call. After that it waits in poll(2), for the client or for the server's bell, until the earliest of its
//! deadlines. So a server that stops wakes all its threads by one write, takes nothing from the sockets, and never has
//! to guess what a thread has just received.

use std::{
    io,
    time::{Duration, Instant},
};

use socket2::Socket;

use super::{
    closing::Closing,
    connection::{Activity, Connection},
    incoming::Incoming,
    waiting::{Event, Wait, has_passed},
};
use crate::{
    primitives::atomic::{Ordering::Relaxed, Ordering::SeqCst},
    sys,
};

/// How long a receive waits in the kernel before its thread can be woken by the server: a stop takes so much longer for a
/// connection that was in use just before, and a client that lets its handler wait for longer costs one more system
/// call.
const SLICE: Duration = Duration::from_millis(5);

/// The same for a client that has had `LIVELY` replies. The nearer the end of a wait, the more often a processor that
/// falls asleep in it sets its clock anew.
const LONG_SLICE: Duration = Duration::from_millis(40);

const LIVELY: u32 = 16;

/// How often a thread of a draining connection looks whether it is still busy, where the handler has said so.
const BUSY_LOOK: Duration = Duration::from_millis(50);

/// What a receive may do while the server ends the connection, or does not.
enum Permission {
    /// It takes what is there, at most so many bytes.
    Take(usize),
    /// It waits until something comes, or until then.
    Wait(Option<Instant>),
}

impl Connection {
    /// Receives by the call, which is given the socket, the most that it may take, and the flags of recv(2). What was
    /// held back is sent first: a client that waits for its answer would send nothing.
    pub(crate) fn receive(&self, mut call: impl FnMut(&Socket, usize, i32) -> io::Result<usize>) -> io::Result<usize> {
        if self.held_back.load(SeqCst) {
            self.send_what_is_awaited()?;
        }
        let closing = self.state.begin_receiving();
        // Another thread writes, sees whether this one is receiving, and sends then: it looks at the one after it has
        // changed the other, as this does, so that one of the two sends.
        let flushed = if self.held_back.load(SeqCst) { self.send_what_is_awaited() } else { Ok(()) };
        let received = flushed.and_then(|()| self.receive_patiently(closing, &mut call));
        if self.state.end_receiving() == Some(Closing::Draining) {
            // The server has left it to this thread to see what is still to be answered.
            self.left_to_drain();
        }
        received
    }

    /// Receives anew, once everything is consumed.
    pub(crate) fn fill(&self, incoming: &mut Incoming, size: usize) -> io::Result<()> {
        let room = incoming.room(size);
        self.receive(|socket, limit, flags| sys::receive(socket, room, limit, flags))?;
        Ok(())
    }

    fn receive_patiently(
        &self,
        closing: Option<Closing>,
        call: &mut impl FnMut(&Socket, usize, i32) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let timeout = self.waits.read_timeout.load();
        let mut wait = None;
        if closing.is_none() && self.begin_slice() {
            wait = timeout.map(|_| Wait::begin(timeout));
            let received = self.receive_in_slice(call);
            self.end_slice();
            match received {
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                    self.waits.is_slow.store(true, Relaxed);
                }
                received => return self.received(received),
            }
        }
        let mut wait = wait.unwrap_or_else(|| Wait::begin(timeout));
        loop {
            let closing = self.state.closing();
            let limit = match self.permission(closing)? {
                Permission::Take(limit) => limit,
                Permission::Wait(until) => match self.wait_to_receive(&mut wait, closing, until)? {
                    Event::Ready if self.state.closing() == closing => usize::MAX,
                    Event::Ready => continue,
                    Event::BellRang => {
                        self.state.mark(Closing::Draining);
                        continue;
                    }
                    Event::Other => continue,
                },
            };
            match call(&self.socket, limit, libc::MSG_DONTWAIT) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if limit != usize::MAX {
                        self.state.nothing_left_to_drain();
                    }
                }
                received => {
                    if self.waits.is_slow.load(Relaxed) && wait.began.elapsed() < SLICE {
                        self.waits.is_slow.store(false, Relaxed);
                    }
                    return self.received(received);
                }
            }
        }
    }

    /// Whether the next receive waits in recv(2).
    fn begin_slice(&self) -> bool {
        let waits = &self.waits;
        // The threads of the model all run on one, which must not wait.
        if cfg!(sockserver_model) || waits.is_slow.load(Relaxed) || waits.is_lent.load(Relaxed) {
            return false;
        }
        let is_long = |time: Option<Duration>| time.is_none_or(|time| time >= 2 * LONG_SLICE);
        if !is_long(waits.read_timeout.load()) || !is_long(waits.idle.load()) || waits.deadline.load().is_some() {
            return false;
        }
        waits.is_in_slice.store(true, SeqCst);
        if !waits.is_lent.load(SeqCst) {
            return true;
        }
        self.end_slice();
        false
    }

    /// The socket gets its timeout when a receive has to wait first: a client that sends at once and ends costs no
    /// system call for it.
    fn receive_in_slice(&self, call: &mut impl FnMut(&Socket, usize, i32) -> io::Result<usize>) -> io::Result<usize> {
        let slice = if self.replies.load(Relaxed) < LIVELY { SLICE } else { LONG_SLICE };
        let before = self.waits.slice.load();
        if before != Some(slice) {
            let received = call(&self.socket, usize::MAX, libc::MSG_DONTWAIT);
            let has_to_wait = received.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
            if !has_to_wait {
                return received;
            }
            self.waits.slice.store(Some(slice));
            if self.socket.set_read_timeout(Some(slice)).is_err() {
                self.waits.slice.store(before);
                return received;
            }
        }
        call(&self.socket, usize::MAX, 0)
    }

    fn end_slice(&self) {
        self.waits.is_in_slice.store(false, SeqCst);
        if self.waits.is_lent.load(SeqCst) {
            self.take_slice_away();
        }
    }

    /// What recv(2) has returned, which is not that it would have to wait.
    fn received(&self, received: io::Result<usize>) -> io::Result<usize> {
        match received {
            Ok(0) => match self.state.shut_for() {
                Some(closing) => Err(self.ended(closing)),
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
            Err(error) => Err(self.failed(error)),
        }
    }

    fn permission(&self, closing: Option<Closing>) -> io::Result<Permission> {
        if has_passed(self.end_of_life(), Instant::now()) {
            return Err(self.end_for(Closing::Lifetime));
        }
        let closing = match closing {
            None => return Ok(Permission::Wait(None)),
            Some(Closing::Draining) if self.state.shut_for().is_none() => Closing::Draining,
            Some(closing) => return Err(self.ended(closing)),
        };
        match self.left_to_drain() {
            0 => match self.activity() {
                Activity::Idle => Err(self.ended(closing)),
                // Another thread can say that the request is over. That wakes no thread.
                Activity::Busy => Ok(Permission::Wait(Some(Instant::now() + BUSY_LOOK))),
                Activity::BusyUntil(_) if self.has_finished_its_request() => Err(self.ended(closing)),
                Activity::BusyUntil(quiet_at) => Ok(Permission::Wait(Some(quiet_at))),
            },
            left => Ok(Permission::Take(left.try_into().unwrap_or(usize::MAX - 1))),
        }
    }
}

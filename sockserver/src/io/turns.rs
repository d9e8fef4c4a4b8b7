//! How an event loop serves a connection, turn by turn. Nothing here waits.
//!
//! Between its turns a connection *rests*: the loop waits for its client. A resting connection counts as receiving, so
//! that what another thread writes is sent at once.

use std::{io, sync::Arc, time::Instant};

use socket2::Socket;

#[cfg(feature = "tls")]
use super::receiving::append_to;
use super::{
    closing::Closing,
    connection::Connection,
    host::Host,
    incoming::Incoming,
    receiving::NextStep,
    waiting::{ClientWait, has_passed},
};
use crate::{address::Address, primitives::atomic::Ordering::SeqCst, sys};

/// The waits of a loop for one client. Each lasts over many turns.
#[derive(Default)]
pub(crate) struct LoopWait {
    to_receive: Option<ClientWait>,
    /// Boxed, as most clients take what they are sent.
    to_send: Option<Box<SendWait>>,
}

struct SendWait {
    wait: ClientWait,
    /// How many bytes were sent before it.
    before: u64,
}

impl LoopWait {
    /// The handler has done something: the next wait to receive is another one.
    pub(crate) fn end_to_receive(&mut self) {
        self.to_receive = None;
    }
}

/// What has come of a receive.
pub(crate) struct Received {
    /// Zero at the end of file.
    pub(crate) bytes: usize,
    /// The socket was emptied: the kernel reports when more comes.
    pub(crate) is_all: bool,
}

/// Whether a connection rests.
pub(crate) enum Rest {
    /// Until its client sends something, or until then.
    Until(Option<Instant>),
    /// It does not, as it has to receive again before it ends.
    Receive,
    /// It does not, as its client has not taken all bytes that were written.
    Unsent,
}

/// Whether all bytes that the handler has written were sent.
pub(crate) enum Flushed {
    Done,
    /// The client has not taken all of them. It is waited for until then.
    Until(Option<Instant>),
}

impl Connection {
    /// From now on an event loop serves the connection.
    pub(crate) fn enter_loop(&self, host: Arc<Host>) {
        // A connection has one server.
        let _ = self.host.set(host);
    }

    /// `None`: no event loop serves it.
    pub(crate) fn host(&self) -> Option<&Arc<Host>> {
        self.host.get()
    }

    /// The connection rests no more.
    pub(crate) fn begin_turn(&self) {
        self.end_receiving();
    }

    fn end_receiving(&self) {
        if self.state.end_receiving() == Some(Closing::Draining) {
            self.bytes_left_to_drain();
        }
    }

    /// Receives into the buffer, behind the bytes that are not consumed. [`io::ErrorKind::WouldBlock`] says that there is
    /// nothing to receive.
    pub(crate) fn receive_now(
        &self,
        incoming: &mut Incoming,
        size: usize,
        wait: &mut LoopWait,
    ) -> io::Result<Received> {
        let buffer = incoming.room(size);
        #[cfg(feature = "tls")]
        if let Some(encryption) = self.encryption.get() {
            return self.receive_decrypted_now(encryption, wait, append_to(buffer, size));
        }
        self.receive_some(buffer, wait)
    }

    /// Receives into the buffer, as much as it has room for.
    pub(super) fn receive_some(&self, buffer: &mut Vec<u8>, wait: &mut LoopWait) -> io::Result<Received> {
        let room = buffer.spare_capacity_mut().len();
        let mut is_short = false;
        let bytes = self.receive_in_turn(wait, |socket, limit| {
            let bytes = sys::receive(socket, buffer, limit, libc::MSG_DONTWAIT)?;
            is_short = bytes < room.min(limit);
            Ok(bytes)
        })?;
        // A Unix socket may return what came with a descriptor by itself.
        let is_inet = matches!(self.state.peer_address, Address::Inet(_));
        Ok(Received { bytes, is_all: is_short && is_inet })
    }

    /// Receives by `call`, whose arguments are the socket and the most bytes to receive, and which does not wait.
    pub(super) fn receive_in_turn(
        &self,
        wait: &mut LoopWait,
        call: impl FnMut(&Socket, usize) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let closing = self.state.begin_receiving();
        let received = self.try_receive(closing, call);
        self.end_receiving();
        if received.is_ok() {
            wait.to_receive = None;
        }
        received
    }

    fn try_receive(
        &self,
        mut closing: Option<Closing>,
        mut call: impl FnMut(&Socket, usize) -> io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            let limit = match self.next_step(closing)? {
                NextStep::DrainAtMost(limit) => limit,
                NextStep::WaitUntil(_) => usize::MAX,
            };
            match call(&self.socket, limit) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && limit != usize::MAX => {
                    self.state.forget_unread_bytes();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                received => return self.finish_receive(received),
            }
            closing = self.state.closing();
        }
    }

    /// Ends a turn, unless there is something to do still. An error ends the connection.
    pub(crate) fn rest(&self, wait: &mut LoopWait) -> io::Result<Rest> {
        let closing = self.state.begin_receiving();
        let rest = self.try_to_rest(closing, wait);
        if !matches!(rest, Ok(Rest::Until(_))) {
            self.end_receiving();
        }
        rest
    }

    fn try_to_rest(&self, closing: Option<Closing>, wait: &mut LoopWait) -> io::Result<Rest> {
        // A thread that writes looks whether the connection is receiving after that: one of the two sends.
        if self.has_held_back.load(SeqCst) && self.send_now()? > 0 {
            return Ok(Rest::Unsent);
        }
        match self.next_step(closing)? {
            NextStep::DrainAtMost(_) => Ok(Rest::Receive),
            NextStep::WaitUntil(until) => {
                let timeout = self.waits.read_timeout.load();
                let wait = wait.to_receive.get_or_insert_with(|| ClientWait::begin(timeout));
                self.begin_quiet(wait.began);
                self.end_of_wait_to_receive(wait, until).map(Rest::Until)
            }
        }
    }

    /// Sends what was written, as far as the kernel takes it, and returns how many bytes are left.
    pub(crate) fn send_in_turn(&self, wait: &mut LoopWait) -> io::Result<usize> {
        let unsent = if self.has_held_back.load(SeqCst) { self.send_now()? } else { 0 };
        if unsent == 0 {
            wait.to_send = None;
        }
        Ok(unsent)
    }

    /// Sends what was written at the end of the request. As [`flush_at_end`](Self::flush_at_end), it lets a thread finish
    /// that is sending.
    pub(crate) fn flush_in_turn(&self, wait: &mut LoopWait) -> io::Result<Flushed> {
        if has_passed(self.cut_deadline()) {
            self.flush_without_waiting();
            return Ok(Flushed::Done);
        }
        self.end_output();
        let unsent = self.send_in_turn(wait)?;
        if self.awaits_sender() {
            return self.rest_unsent(wait).map(Flushed::Until);
        }
        #[cfg(feature = "tls")]
        let unsent = match unsent {
            // A client that has all it wants need not wait for it.
            0 if self.queue_close_notify() => self.send_in_turn(wait).unwrap_or(0),
            _ => unsent,
        };
        match unsent {
            0 => Ok(Flushed::Done),
            _ => self.rest_unsent(wait).map(Flushed::Until),
        }
    }

    /// Until when the loop waits for the client to take what was written. An error ends the connection.
    pub(crate) fn rest_unsent(&self, wait: &mut LoopWait) -> io::Result<Option<Instant>> {
        let (sent, timeout) = (self.state.bytes_out(), self.waits.write_timeout.load());
        // Another thread may have sent something.
        wait.to_send.take_if(|wait| wait.before != sent);
        let begin = || Box::new(SendWait { wait: ClientWait::begin(timeout), before: sent });
        self.end_of_wait_to_send(&mut wait.to_send.get_or_insert_with(begin).wait)
    }
}

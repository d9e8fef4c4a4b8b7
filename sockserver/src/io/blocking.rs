//! How a thread waits for the client of a connection: the only place where one does.
//!
//! A thread that receives waits in recv(2) itself, for a `SLICE`: most clients answer within that, and it costs one
//! system call. After that it waits in poll(2), for the client or for the server's bell, until the earliest of its
//! deadlines. So a server that stops wakes all its threads by one write, takes nothing from the sockets, and never has
//! to guess what a thread has just received.

use std::{
    io, mem,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use socket2::Socket;

use super::{
    buffers::{self, OUTGOING},
    closing::{self, Closing},
    connection::{Activity, Connection, Outgoing},
    incoming::Incoming,
};
use crate::{
    primitives::{MutexGuard, atomic::Ordering::Relaxed, atomic::Ordering::SeqCst},
    sys::{self, Watched},
};

/// How long a receive waits in the kernel before its thread can be woken by the server: a stop takes so much longer for a
/// connection that was in use just before, and a client that lets its handler wait for longer costs one more system
/// call.
const SLICE: Duration = Duration::from_millis(5);

/// The same for a client that has had `LIVELY` replies. The nearer the end of a wait, the more often a processor that
/// falls asleep in it sets its clock anew.
const LONG_SLICE: Duration = Duration::from_millis(40);

const LIVELY: u32 = 16;

/// The times within `timeouts(idle)` at which a thread looks whether its client still takes what was sent.
const IDLE_LOOKS: u32 = 8;

/// How often a thread of a draining connection looks whether it is still busy, where the handler has said so.
const BUSY_LOOK: Duration = Duration::from_millis(50);

/// What a receive may do while the server ends the connection, or does not.
enum Permission {
    /// It takes what is there, at most so many bytes.
    Take(usize),
    /// It waits until something comes, or until then.
    Wait(Option<Instant>),
}

/// What has ended a wait.
enum Event {
    /// The client has sent something, or takes something, or is gone.
    Ready,
    /// The server begins to drain.
    BellRang,
    /// The time was over, or a signal came.
    Other,
}

/// One wait for the client, from its first system call on.
struct Wait {
    began: Instant,
    timeout: Option<Duration>,
    /// How much the client had still to take when that was seen to have changed.
    unsent: Option<u64>,
}

impl Wait {
    fn begin(timeout: Option<Duration>) -> Wait {
        Wait { began: Instant::now(), timeout, unsent: None }
    }

    fn deadline(&self) -> Option<Instant> {
        self.timeout.and_then(|timeout| self.began.checked_add(timeout))
    }
}

fn has_passed(deadline: Option<Instant>, now: Instant) -> bool {
    deadline.is_some_and(|deadline| now >= deadline)
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

    /// The error of a call: what the server has done to the connection is not the client's doing.
    fn failed(&self, error: io::Error) -> io::Error {
        match self.state.shut_for() {
            Some(closing) => self.ended(closing),
            None => self.state.noted(error),
        }
    }

    /// Ends the connection for this reason, unless it has another one already.
    fn end_for(&self, closing: Closing) -> io::Error {
        self.state.mark(closing);
        self.cut_within(closing::GOODBYE);
        self.ended(self.state.closing().unwrap_or(closing))
    }

    fn ended(&self, closing: Closing) -> io::Error {
        self.state.noted(closing.into_error())
    }

    fn timed_out(&self, message: &'static str) -> io::Error {
        self.state.noted(io::Error::new(io::ErrorKind::TimedOut, message))
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

    /// `closing` is what the permission was given for. A reason that has come since then rings the bell, which must be
    /// heard.
    fn wait_to_receive(&self, wait: &mut Wait, closing: Option<Closing>, until: Option<Instant>) -> io::Result<Event> {
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

    fn wait_to_send(&self, wait: &mut Wait) -> io::Result<()> {
        self.check_deadlines(wait, None, "the client took nothing within the write timeout")?;
        let idle_look = self.look_whether_idle(wait)?;
        let client = Watched::for_output(self.socket.as_fd());
        poll(&mut [client], [wait.deadline(), idle_look, self.cut_at()]).map(drop)
    }

    fn end_of_life(&self) -> Option<Instant> {
        self.waits.lifetime.load().map(|age| self.instant(age))
    }

    fn cut_at(&self) -> Option<Instant> {
        self.waits.cut.load().map(|age| self.instant(age))
    }

    fn check_deadlines(&self, wait: &Wait, reader: Option<Instant>, message: &'static str) -> io::Result<()> {
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

    /// Sends what it can, after waiting for room.
    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut wait = None;
        loop {
            if let Some(closing) = self.state.closing()
                && has_passed(self.cut_at(), Instant::now())
            {
                return Err(self.ended(closing));
            }
            match sys::send(&self.socket, bytes) {
                Ok(sent) => {
                    self.state.count_out(sent);
                    if self.waits.idle.load().is_some() {
                        self.note_transfer();
                    }
                    return Ok(sent);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let timeout = self.waits.write_timeout.load();
                    self.wait_to_send(wait.get_or_insert_with(|| Wait::begin(timeout)))?;
                }
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    fn send_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            bytes = &bytes[self.send(bytes)?..];
        }
        Ok(())
    }

    /// Holds the bytes back until `capacity` are together. They are sent by a thread that is about to wait for the
    /// client, or by [`send_to_a_waiting_client`](Self::send_to_a_waiting_client).
    pub(crate) fn hold_back(&self, bytes: &[u8], capacity: usize) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.note_reply();
        let mut outgoing = self.outgoing.lock();
        loop {
            self.check(&outgoing)?;
            if outgoing.buffer.len() + bytes.len() <= capacity && bytes.len() < capacity {
                break;
            }
            if outgoing.is_sending {
                self.wait_for_the_sender(&mut outgoing)?;
                continue;
            }
            let direct = if bytes.len() >= capacity { bytes } else { &[] };
            outgoing = self.send_out(outgoing, |connection| connection.send_all(direct))?;
            if !direct.is_empty() {
                return Ok(());
            }
        }
        if outgoing.buffer.capacity() == 0 {
            // It grows with what is written: where answers are short, a connection that idles holds little memory.
            outgoing.buffer = buffers::take(&OUTGOING);
        }
        outgoing.buffer.extend_from_slice(bytes);
        // A reader that finds it set takes the lock, and with it what was added here.
        if !self.held_back.load(Relaxed) {
            self.held_back.store(true, SeqCst);
        }
        Ok(())
    }

    /// Where another thread receives, which has sent what was held back before it began to wait.
    pub(crate) fn send_to_a_waiting_client(&self) -> io::Result<()> {
        if self.state.is_receiving() { self.send_what_is_awaited() } else { Ok(()) }
    }

    /// Sends what was held back, without waiting for another thread that is sending: that one sends this too.
    fn send_what_is_awaited(&self) -> io::Result<()> {
        let mut outgoing = self.outgoing.lock();
        if outgoing.is_sending {
            outgoing.is_awaited = true;
        } else if !outgoing.buffer.is_empty() {
            drop(self.send_out(outgoing, |_| Ok(()))?);
        }
        Ok(())
    }

    /// Sends what was held back.
    pub(crate) fn flush(&self) -> io::Result<()> {
        let mut outgoing = self.outgoing.lock();
        while outgoing.is_sending {
            self.wait_for_the_sender(&mut outgoing)?;
        }
        if !outgoing.buffer.is_empty() {
            drop(self.send_out(outgoing, |_| Ok(()))?);
        }
        Ok(())
    }

    /// Sends what was held back, and then some of the bytes. It returns how many.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut sent = 0;
        self.write_by(|connection| {
            sent = connection.send(bytes)?;
            Ok(())
        })?;
        Ok(sent)
    }

    /// Sends what was held back, and then all the bytes: nothing that another thread writes comes between.
    pub(crate) fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        self.write_by(|connection| connection.send_all(bytes))
    }

    fn write_by(&self, send: impl FnOnce(&Connection) -> io::Result<()>) -> io::Result<()> {
        self.note_reply();
        let mut outgoing = self.outgoing.lock();
        while outgoing.is_sending {
            self.wait_for_the_sender(&mut outgoing)?;
        }
        self.check(&outgoing)?;
        drop(self.send_out(outgoing, send)?);
        Ok(())
    }

    fn check(&self, outgoing: &Outgoing) -> io::Result<()> {
        match outgoing.failed {
            false => Ok(()),
            true => Err(self.failed(io::Error::new(
                io::ErrorKind::BrokenPipe,
                "an earlier write has failed half-way, and what follows it would be taken for the rest",
            ))),
        }
    }

    /// Sends what was held back and then by the function, without the lock, as the one sender.
    fn send_out<'a>(
        &'a self,
        mut outgoing: MutexGuard<'a, Outgoing>,
        then: impl FnOnce(&Connection) -> io::Result<()>,
    ) -> io::Result<MutexGuard<'a, Outgoing>> {
        outgoing.is_sending = true;
        let mut held_back = mem::take(&mut outgoing.buffer);
        self.held_back.store(false, SeqCst);
        drop(outgoing);
        let earlier = self.send_all(&held_back);
        let (held_back_is_lost, before) = (earlier.is_err(), self.state.bytes_out());
        let sent = if earlier.is_ok() { then(self) } else { earlier };
        let mut outgoing = self.outgoing.lock();
        // Where nothing was sent of what is written now, its writer knows that, and can go on.
        let is_partial = held_back_is_lost || self.state.bytes_out() > before;
        outgoing.failed |= sent.is_err() && is_partial;
        while mem::take(&mut outgoing.is_awaited) && !outgoing.failed && !outgoing.buffer.is_empty() {
            let awaited = mem::take(&mut outgoing.buffer);
            self.held_back.store(false, SeqCst);
            drop(outgoing);
            let is_lost = self.send_all(&awaited).is_err();
            outgoing = self.outgoing.lock();
            // Those who have written it find out when they write again.
            outgoing.failed |= is_lost;
        }
        outgoing.is_sending = false;
        if outgoing.failed {
            outgoing.buffer.clear();
            self.held_back.store(false, SeqCst);
        }
        if outgoing.buffer.capacity() == 0 {
            held_back.clear();
            outgoing.buffer = held_back;
        }
        self.sender_ended.notify_all();
        sent.map(|()| outgoing)
    }

    fn wait_for_the_sender(&self, outgoing: &mut MutexGuard<'_, Outgoing>) -> io::Result<()> {
        let wait = Wait::begin(self.waits.write_timeout.load());
        match wait.deadline().into_iter().chain(self.cut_at()).min() {
            None => self.sender_ended.wait(outgoing),
            Some(deadline) => drop(self.sender_ended.wait_until(outgoing, deadline)),
        }
        match outgoing.is_sending {
            true => self.check_deadlines(&wait, None, "the client took nothing within the write timeout"),
            false => Ok(()),
        }
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

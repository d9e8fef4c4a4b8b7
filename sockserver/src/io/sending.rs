//! Sending to the client of a connection, and holding bytes back so that they are sent together.

use std::{fs::File, io, mem, ops::Range};

use super::{
    backlog::{self, Backlog},
    connection::{Connection, Outgoing},
    unsent::Unsent,
    waiting::{ClientWait, has_passed},
};
use crate::{
    primitives::{MutexGuard, atomic::Ordering::Relaxed, atomic::Ordering::SeqCst},
    sys,
};

/// Each time that so much was added to an answer on an event loop, it is sent, before its turn has ended.
const PIECE: usize = 64 << 10;

/// How many pieces of files are sent in a row before other connections of the loop have their turns.
const FILE_PIECES: usize = 4;

/// While more than this is unsent, the client takes little, and nothing is sent before the end of the turn.
const MAX_EARLY: usize = 16 * PIECE;

/// How often bytes are sent in a row that other threads have written meanwhile.
const SENDS: u32 = 16;

impl Connection {
    /// Waits for room in the kernel's buffer, and sends as much as fits.
    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        #[cfg(feature = "tls")]
        if let Some(encryption) = self.encryption.get() {
            // What is encrypted has to be sent.
            return self.send_encrypted(encryption, bytes).map(|()| bytes.len());
        }
        self.send_raw(bytes)
    }

    fn send_all(&self, bytes: &[u8]) -> io::Result<()> {
        #[cfg(feature = "tls")]
        if let Some(encryption) = self.encryption.get() {
            return self.send_encrypted(encryption, bytes);
        }
        self.send_all_raw(bytes)
    }

    fn send_raw(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut wait = None;
        loop {
            if let Some(closing) = self.state.closing()
                && has_passed(self.cut_deadline())
            {
                return Err(self.closing_error(closing));
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
                    self.wait_to_send(wait.get_or_insert_with(|| ClientWait::begin(timeout)))?;
                }
                Err(error) => return Err(self.call_error(error)),
            }
        }
    }

    pub(super) fn send_all_raw(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            bytes = &bytes[self.send_raw(bytes)?..];
        }
        Ok(())
    }

    /// Holds the bytes back until there are `capacity` bytes. Before that a thread that is about to wait for the client
    /// sends them, or [`flush_if_receiving`](Self::flush_if_receiving) does.
    pub(crate) fn hold_back(&self, bytes: &[u8], capacity: usize) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.activity.note_reply();
        let mut outgoing = self.outgoing.lock();
        loop {
            self.check_writable(&outgoing)?;
            // The loop sends it at the end of the turn.
            if self.host.get().is_some() || outgoing.unsent.len() + bytes.len() <= capacity && bytes.len() < capacity {
                break;
            }
            if outgoing.is_sending {
                self.wait_for_sender(&mut outgoing)?;
                continue;
            }
            let direct = if bytes.len() >= capacity { bytes } else { &[] };
            outgoing = self.send_held_back_then(outgoing, |connection| connection.send_all(direct))?;
            if !direct.is_empty() {
                return Ok(());
            }
        }
        let before = outgoing.unsent.len();
        outgoing.unsent.bytes.add(bytes);
        let after = outgoing.unsent.len();
        self.backlog.store(after, Relaxed);
        // A long answer on a loop is sent as it grows: its client may be gone. Of one that takes little the rest waits.
        let is_long = before / PIECE != after / PIECE && after <= MAX_EARLY && self.host.get().is_some();
        // A reader that sees the flag takes the lock, and then sees the bytes that were added here.
        if !self.has_held_back.load(Relaxed) {
            self.has_held_back.store(true, SeqCst);
        }
        drop(outgoing);
        if capacity == 0 || is_long { self.send_now().map(drop) } else { Ok(()) }
    }

    /// Sends a part of a file behind what is held back. On an event loop it is left to the turns of the connection.
    pub(crate) fn send_file(&self, file: File, part: Range<u64>, capacity: usize) -> io::Result<()> {
        let length = part.end.saturating_sub(part.start);
        if length <= backlog::PIECE as u64 {
            // With the bytes before it, it can be sent as one.
            let mut bytes = Vec::new();
            backlog::read(&file, &part, backlog::PIECE, &mut bytes)?;
            self.hold_back(&bytes, capacity)?;
            return self.flush_if_receiving();
        }
        self.activity.note_reply();
        let mut outgoing = self.outgoing.lock();
        let Some(host) = self.host.get() else {
            while outgoing.is_sending {
                self.wait_for_sender(&mut outgoing)?;
            }
            self.check_writable(&outgoing)?;
            outgoing.unsent.push_file(file, part);
            return self.send_held_back_then(outgoing, |_| Ok(())).map(drop);
        };
        self.check_writable(&outgoing)?;
        outgoing.unsent.push_file(file, part);
        self.backlog.store(outgoing.unsent.len(), Relaxed);
        self.has_held_back.store(true, SeqCst);
        drop(outgoing);
        if self.state.is_receiving() {
            host.request_turn();
        }
        Ok(())
    }

    /// Sends held back bytes if another thread is receiving: that thread has already flushed, and may wait for the
    /// answer.
    pub(crate) fn flush_if_receiving(&self) -> io::Result<()> {
        match self.host.get() {
            _ if !self.state.is_receiving() => Ok(()),
            None => self.flush_or_delegate(),
            Some(host) => {
                if self.send_now()? > 0 {
                    host.request_turn();
                }
                Ok(())
            }
        }
    }

    /// Sends held back bytes. If another thread is sending, that thread sends them when it is done, and this one does
    /// not wait for it.
    pub(super) fn flush_or_delegate(&self) -> io::Result<()> {
        let mut outgoing = self.outgoing.lock();
        if outgoing.is_sending {
            outgoing.is_flush_requested = true;
        } else if self.has_output(&outgoing) {
            drop(self.send_held_back_then(outgoing, |_| Ok(()))?);
        }
        Ok(())
    }

    /// Whether there is anything to send.
    fn has_output(&self, outgoing: &Outgoing) -> bool {
        self.unsent(outgoing) > 0
    }

    /// How many bytes there are to send.
    fn unsent(&self, outgoing: &Outgoing) -> usize {
        let plaintext = outgoing.unsent.len();
        #[cfg(feature = "tls")]
        if let Some(unsent) = self.session(|session| session.unsent(plaintext)) {
            return unsent;
        }
        plaintext
    }

    /// Sends held back bytes.
    pub(crate) fn flush(&self) -> io::Result<()> {
        if let Some(host) = self.host.get() {
            // A turn sends the rest at its end.
            if self.send_now()? > 0 && self.state.is_receiving() {
                host.request_turn();
            }
            return Ok(());
        }
        self.flush_all()
    }

    /// Sends held back bytes, and waits until the kernel has taken all of them.
    fn flush_all(&self) -> io::Result<()> {
        let mut outgoing = self.outgoing.lock();
        while outgoing.is_sending {
            self.wait_for_sender(&mut outgoing)?;
        }
        if !outgoing.unsent.is_empty() {
            drop(self.send_held_back_then(outgoing, |_| Ok(()))?);
        }
        Ok(())
    }

    /// Sends as many held back bytes as the kernel takes at once, and returns how many are left: if there are any, the kernel
    /// reports when it takes more, or the connection gets a turn. They stay before what is written later. If another thread
    /// is sending, it sends all of them.
    pub(super) fn send_now(&self) -> io::Result<usize> {
        let mut sends = 0;
        loop {
            let mut outgoing = self.outgoing.lock();
            self.check(&outgoing)?;
            if outgoing.is_sending {
                outgoing.is_flush_requested = true;
                return Ok(0);
            }
            if !self.has_output(&outgoing) {
                return Ok(0);
            }
            outgoing.is_sending = true;
            let mut held_back = mem::take(&mut outgoing.unsent);
            self.has_held_back.store(false, SeqCst);
            drop(outgoing);
            let sent = self.send_what_fits_of(&mut held_back);
            let mut outgoing = self.outgoing.lock();
            outgoing.is_sending = false;
            // Another thread may have written meanwhile.
            let is_requested = mem::take(&mut outgoing.is_flush_requested) && self.has_output(&outgoing);
            let has_more = held_back.is_empty() && (is_requested || !outgoing.unsent.is_empty());
            let is_turn_requested = mem::take(&mut outgoing.is_turn_requested);
            match sent {
                Ok(()) => {
                    held_back.append(&mut outgoing.unsent);
                    if held_back.is_empty() {
                        held_back.bytes.put_back();
                    } else {
                        outgoing.unsent = held_back;
                    }
                    // What is written during a handshake is sent after it.
                    self.has_held_back.store(!outgoing.unsent.is_empty() || self.has_output(&outgoing), SeqCst);
                }
                Err(_) => {
                    outgoing.has_failed = true;
                    outgoing.unsent.clear();
                    self.has_held_back.store(false, SeqCst);
                }
            }
            self.sender_ended.notify_all();
            let unsent = self.unsent(&outgoing);
            self.backlog.store(unsent, Relaxed);
            drop(outgoing);
            if is_turn_requested {
                self.request_turn();
            }
            sent?;
            sends += 1;
            match self.host.get() {
                _ if !has_more => return Ok(unsent),
                // A thread that writes as fast as the client takes it does not keep this one.
                Some(host) if sends == SENDS => {
                    host.request_turn();
                    return Ok(unsent);
                }
                _ => {}
            }
        }
    }

    fn request_turn(&self) {
        if let Some(host) = self.host.get() {
            host.request_turn();
        }
    }

    /// The request has ended: nothing more can be written.
    pub(super) fn end_output(&self) {
        self.outgoing.lock().has_ended = true;
    }

    /// Whether another thread is sending. When it finishes, it gives the connection a turn.
    pub(crate) fn awaits_sender(&self) -> bool {
        let mut outgoing = self.outgoing.lock();
        outgoing.is_turn_requested = outgoing.is_sending;
        outgoing.is_sending
    }

    /// Sends as much as the kernel takes at once, and removes it.
    fn send_what_fits_of(&self, unsent: &mut Backlog) -> io::Result<()> {
        let mut pieces = 0;
        while let Some(part) = unsent.first_file() {
            if pieces == FILE_PIECES
                && let Some(host) = self.host.get()
            {
                // The kernel may take more, and would not report that.
                host.request_turn();
                return Ok(());
            }
            part.read_on()?;
            self.send_bytes_that_fit(&mut part.bytes)?;
            if !part.bytes.is_empty() {
                part.unread();
                return Ok(());
            }
            pieces += 1;
            if part.is_sent() {
                unsent.remove_first_file();
            }
        }
        self.send_bytes_that_fit(&mut unsent.bytes)
    }

    fn send_bytes_that_fit(&self, bytes: &mut Unsent) -> io::Result<()> {
        #[cfg(feature = "tls")]
        if let Some(encryption) = self.encryption.get() {
            return self.send_encrypted_now(encryption, bytes);
        }
        let sent = self.send_what_fits(bytes)?;
        bytes.remove(sent);
        Ok(())
    }

    /// Waits until the kernel has taken all.
    fn send_all_of(&self, unsent: &mut Backlog) -> io::Result<()> {
        while let Some(part) = unsent.first_file() {
            part.read_on()?;
            self.send_all(&part.bytes)?;
            part.bytes.clear();
            if part.is_sent() {
                unsent.remove_first_file();
            }
        }
        self.send_all(&unsent.bytes)
    }

    pub(super) fn send_what_fits(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut sent = 0;
        while sent < bytes.len() {
            match sys::send(&self.socket, &bytes[sent..]) {
                Ok(more) => {
                    sent += more;
                    self.state.count_out(more);
                    if self.waits.idle.load().is_some() {
                        self.note_transfer();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(self.call_error(error)),
            }
        }
        Ok(sent)
    }

    /// How many bytes are unsent, on an event loop. Another thread may be writing more.
    pub(crate) fn backlog(&self) -> usize {
        self.backlog.load(Relaxed)
    }

    /// Sends held back bytes at the end of the request. A handler may take longer than the time for its goodbye: then the
    /// client is not waited for, but what the kernel takes at once is sent.
    pub(crate) fn flush_at_end(&self) -> io::Result<()> {
        if has_passed(self.cut_deadline()) {
            self.flush_without_waiting();
            return Ok(());
        }
        self.finish_output()
    }

    /// Sends held back bytes, and says that they were the last ones.
    pub(crate) fn finish_output(&self) -> io::Result<()> {
        self.flush_all()?;
        #[cfg(feature = "tls")]
        self.send_close_notify()?;
        Ok(())
    }

    /// Sends as many held back bytes as the kernel takes at once. The rest is lost with the connection.
    pub(crate) fn flush_without_waiting(&self) {
        // If another thread has the lock or is sending, its send fails once the socket is shut.
        if let Some(mut outgoing) = self.outgoing.try_lock()
            && !outgoing.is_sending
            && !outgoing.has_failed
        {
            let unsent = mem::take(&mut outgoing.unsent);
            self.has_held_back.store(false, Relaxed);
            // A client that has lost a part of a file must not take the rest for everything.
            let bytes = if unsent.has_files() { return } else { &*unsent.bytes };
            #[cfg(feature = "tls")]
            let records = self.last_records(bytes);
            #[cfg(feature = "tls")]
            let bytes = records.as_deref().unwrap_or(bytes);
            if !bytes.is_empty() {
                self.state.count_out(sys::send(&self.socket, bytes).unwrap_or(0));
            }
        }
    }

    /// Sends held back bytes, then some of `bytes`, and returns how many of these.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut sent = 0;
        self.write_with(|connection| {
            sent = connection.send(bytes)?;
            Ok(())
        })?;
        Ok(sent)
    }

    /// Sends held back bytes, then all of `bytes`. No bytes of another thread come between.
    pub(crate) fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        self.write_with(|connection| connection.send_all(bytes))
    }

    pub(super) fn write_with(&self, send: impl FnOnce(&Connection) -> io::Result<()>) -> io::Result<()> {
        self.activity.note_reply();
        let mut outgoing = self.outgoing.lock();
        while outgoing.is_sending || self.is_shaking_hands() && !outgoing.has_failed {
            self.wait_for_sender(&mut outgoing)?;
        }
        self.check_writable(&outgoing)?;
        self.send_held_back_then(outgoing, send).map(drop)
    }

    /// Drops what is held back. All later writes fail.
    #[cfg(feature = "tls")]
    pub(crate) fn refuse_output(&self) {
        let mut outgoing = self.outgoing.lock();
        outgoing.has_failed = true;
        outgoing.unsent.clear();
        self.has_held_back.store(false, SeqCst);
        self.sender_ended.notify_all();
    }

    /// Whether more can be sent.
    #[inline]
    fn check(&self, outgoing: &Outgoing) -> io::Result<()> {
        if outgoing.has_failed || self.state.is_cut() { Err(self.broken_pipe()) } else { Ok(()) }
    }

    /// Whether more can be written.
    #[inline]
    fn check_writable(&self, outgoing: &Outgoing) -> io::Result<()> {
        if outgoing.has_ended {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the request has ended"));
        }
        self.check(outgoing)
    }

    #[cold]
    fn broken_pipe(&self) -> io::Error {
        let message = "an earlier write failed half-way: the client would read later bytes as its rest";
        self.call_error(io::Error::new(io::ErrorKind::BrokenPipe, message))
    }

    /// Becomes the sending thread: sends held back bytes and then calls `then`, both without the lock.
    pub(super) fn send_held_back_then<'a>(
        &'a self,
        mut outgoing: MutexGuard<'a, Outgoing>,
        then: impl FnOnce(&Connection) -> io::Result<()>,
    ) -> io::Result<MutexGuard<'a, Outgoing>> {
        outgoing.is_sending = true;
        let mut held_back = mem::take(&mut outgoing.unsent);
        self.has_held_back.store(false, Relaxed);
        drop(outgoing);
        let earlier = self.send_all_of(&mut held_back);
        let (held_back_is_lost, before) = (earlier.is_err(), self.state.bytes_out());
        let sent = if earlier.is_ok() { then(self) } else { earlier };
        let mut outgoing = self.outgoing.lock();
        // If `then` failed before it sent a byte, the stream is intact: its caller gets the error and can go on. A record
        // that was encrypted must not be missing.
        let is_partial = held_back_is_lost || self.state.bytes_out() > before || self.is_encrypted();
        outgoing.has_failed |= sent.is_err() && is_partial;
        while mem::take(&mut outgoing.is_flush_requested) && !outgoing.has_failed && self.has_output(&outgoing) {
            let mut requested = mem::take(&mut outgoing.unsent);
            self.has_held_back.store(false, Relaxed);
            drop(outgoing);
            let is_lost = self.send_all_of(&mut requested).is_err();
            outgoing = self.outgoing.lock();
            // The threads that wrote these bytes get the error from their next write.
            outgoing.has_failed |= is_lost;
        }
        outgoing.is_sending = false;
        if outgoing.has_failed {
            outgoing.unsent.clear();
            self.has_held_back.store(false, Relaxed);
        }
        if outgoing.unsent.is_empty() && outgoing.unsent.bytes.has_no_memory() {
            held_back.clear();
            outgoing.unsent = held_back;
        }
        self.sender_ended.notify_all();
        if self.host.get().is_some() {
            self.backlog.store(self.unsent(&outgoing), Relaxed);
        }
        if mem::take(&mut outgoing.is_turn_requested) {
            drop(outgoing);
            self.request_turn();
            outgoing = self.outgoing.lock();
        }
        sent.map(|()| outgoing)
    }

    pub(super) fn wait_for_sender(&self, outgoing: &mut MutexGuard<'_, Outgoing>) -> io::Result<()> {
        let wait = ClientWait::begin(self.waits.write_timeout.load());
        match wait.deadline().into_iter().chain(self.cut_deadline()).min() {
            None => self.sender_ended.wait(outgoing),
            Some(deadline) => drop(self.sender_ended.wait_until(outgoing, deadline)),
        }
        match outgoing.is_sending {
            true => self.check_deadlines(&wait, None, "the client received nothing within the write timeout"),
            false => Ok(()),
        }
    }
}

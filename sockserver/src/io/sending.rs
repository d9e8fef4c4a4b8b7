//! Sending to the client of a connection, and holding back what is to be sent together.

use std::{io, mem, time::Instant};

use super::{
    buffers::{self, OUTGOING},
    connection::{Connection, Outgoing},
    waiting::{Wait, has_passed},
};
use crate::{
    primitives::{MutexGuard, atomic::Ordering::Relaxed, atomic::Ordering::SeqCst},
    sys,
};

impl Connection {
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
    pub(super) fn send_what_is_awaited(&self) -> io::Result<()> {
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

    /// Sends of what is held back what the kernel takes at once; the rest is lost with the connection.
    pub(crate) fn flush_without_waiting(&self) {
        // A thread that has the lock, or is sending, will fail.
        if let Some(mut outgoing) = self.outgoing.try_lock()
            && !outgoing.is_sending
            && !outgoing.buffer.is_empty()
        {
            self.state.count_out(sys::send(&self.socket, &outgoing.buffer).unwrap_or(0));
            outgoing.buffer.clear();
            self.held_back.store(false, SeqCst);
        }
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

//! TLS between the buffers of a connection and its socket.
//!
//! A thread receives records without a lock, and decrypts them under the lock of the session. The sending thread encrypts
//! under that lock, and sends the records without it. So one thread reads while another writes. What the session itself
//! has to say, such as an alert, is sent by the sending thread too: records reach the client in the order in which they were
//! encrypted.

use std::{
    io,
    time::{Duration, Instant},
};

use rustls::Error;

use super::{
    buffers::{self, RECEIVED_RECORDS, SENT_RECORDS},
    connection::Connection,
    incoming::Incoming,
    turns::{self, LoopWait, Rest},
    unsent::Unsent,
    waiting::Patience,
};
use crate::{
    primitives::{Mutex, atomic::Ordering::SeqCst},
    sys,
    tls::{
        material::Material,
        session::{MAX_RECORD, Session},
    },
};

/// How many bytes are encrypted before they are sent.
const PIECE: usize = 64 << 10;

impl Connection {
    /// Begins with the server's side of the handshake, before the handler is made: everything is encrypted from then on.
    pub(crate) fn begin_handshake(&self, deadline: Option<Instant>) -> io::Result<()> {
        self.begin_preamble(deadline);
        self.set_write_deadline(deadline);
        self.encrypt_with(new_session(self.tls_material()?)?).map(drop)
    }

    /// It was done, or has failed.
    pub(crate) fn end_handshake(&self) {
        self.set_write_timeout(None);
        self.end_preamble();
    }

    pub(crate) fn wait_for_handshake(&self) -> io::Result<()> {
        self.write_with(|connection| match connection.encryption.get() {
            Some(encryption) => connection.finish_handshake(encryption),
            None => Ok(()),
        })
    }

    /// Goes on with the handshake, on an event loop. [`io::ErrorKind::WouldBlock`] says that more has to come.
    pub(crate) fn handshake_in_turn(&self, wait: &mut LoopWait) -> io::Result<()> {
        let Some(encryption) = self.encryption.get() else { return Ok(()) };
        while encryption.lock().is_handshaking() {
            let processed =
                self.receive_records(encryption, |_| 0, |records| Ok(self.receive_some(records, wait)?.bytes));
            // After a failure as well: the alert tells the client why.
            let sent = self.send_now();
            match processed? {
                Received::EndOfFile => return Err(self.ended_within_handshake()),
                Received::Plaintext(_) => drop(sent?),
            }
        }
        Ok(())
    }

    /// Shakes hands when the handler wants it, within `timeouts(handshake)`. Other threads cannot send meanwhile, and after
    /// a failure no thread can.
    pub(crate) fn start_tls(&self, incoming: &Incoming) -> io::Result<()> {
        let session = new_session(self.tls_material()?)?;
        let starting = self.begin_to_start_tls(incoming)?;
        // The session is set before the first byte is sent, so that nothing can be sent in plain text after a failure.
        let done = self.write_with(|connection| connection.finish_handshake(connection.encrypt_with(session)?));
        if done.is_err() {
            self.refuse_output();
        }
        self.end_to_start_tls(&starting);
        done
    }

    /// The handler wants TLS, and has handled all but these bytes.
    pub(crate) fn begin_to_start_tls(&self, incoming: &Incoming) -> io::Result<StartingTls> {
        let material = self.tls_material()?;
        if !incoming.unread().is_empty() {
            self.refuse_output();
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the client sent more before TLS began: an attacker on the way can have added it",
            ));
        }
        if self.is_encrypted() {
            return Err(encrypted_already());
        }
        let (write_timeout, read_deadline) = (self.waits.write_timeout.load(), self.waits.read_deadline.load());
        let deadline = Instant::now().checked_add(material.handshake_timeout());
        let earlier = read_deadline.map(|age| self.instant(age));
        self.set_deadline(deadline.into_iter().chain(earlier).min());
        self.set_write_deadline(deadline);
        Ok(StartingTls { write_timeout, read_deadline })
    }

    fn end_to_start_tls(&self, starting: &StartingTls) {
        self.set_write_timeout(starting.write_timeout);
        self.waits.read_deadline.store(starting.read_deadline);
    }

    /// As [`start_tls`](Self::start_tls), on an event loop. `None`: it is done.
    pub(crate) fn start_tls_in_turn(
        &self,
        starting: &StartingTls,
        has_input: &mut bool,
        wait: &mut LoopWait,
    ) -> io::Result<Option<Rest>> {
        while !self.is_encrypted() {
            if self.send_in_turn(wait)? > 0 || self.awaits_sender() {
                return Ok(Some(Rest::Unsent));
            }
            self.encrypt_if_all_is_sent()?;
        }
        while *has_input {
            match self.handshake_in_turn(wait) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => *has_input = false,
                done => {
                    self.end_to_start_tls(starting);
                    // Other threads have waited, or have left what they wrote.
                    self.sender_ended.notify_all();
                    return done.map(|()| None);
                }
            }
        }
        self.rest(wait).map(Some)
    }

    /// Does nothing if another thread has written more, or is sending.
    fn encrypt_if_all_is_sent(&self) -> io::Result<()> {
        let session = new_session(self.tls_material()?)?;
        let outgoing = self.outgoing.lock();
        if outgoing.is_sending || !outgoing.unsent.is_empty() {
            return Ok(());
        }
        self.encrypt_with(session).map(drop)
    }

    fn tls_material(&self) -> io::Result<&Material> {
        self.terms().and_then(|terms| terms.tls.as_ref()).ok_or_else(|| {
            let message =
                "the server has no certificate: give it one with `tls(certificate = …, key = …)` or the hook `tls`";
            io::Error::new(io::ErrorKind::Unsupported, message)
        })
    }

    fn encrypt_with(&self, session: Box<Mutex<Session>>) -> io::Result<&Mutex<Session>> {
        match (self.encryption.set(session), self.encryption.get()) {
            (Ok(()), Some(encryption)) => Ok(encryption),
            _ => Err(encrypted_already()),
        }
    }

    fn set_write_deadline(&self, deadline: Option<Instant>) {
        self.set_write_timeout(deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())));
    }

    /// Only the sending thread calls this.
    fn finish_handshake(&self, encryption: &Mutex<Session>) -> io::Result<()> {
        while encryption.lock().is_handshaking() {
            let processed =
                self.receive_records(encryption, |_| 0, |records| self.wait_for_records(records, Patience::Unlimited));
            // After a failure as well: the alert tells the client why.
            let sent = self.send_encrypted(encryption, &[]);
            match processed? {
                Received::EndOfFile => return Err(self.ended_within_handshake()),
                Received::Plaintext(_) => sent?,
            }
        }
        Ok(())
    }

    /// Waits for plaintext, and gives it to `deliver`, which returns how many bytes it takes. Returns how many that were.
    pub(super) fn receive_decrypted(
        &self,
        encryption: &Mutex<Session>,
        patience: Patience<'_>,
        mut deliver: impl FnMut(&[u8]) -> usize,
    ) -> io::Result<usize> {
        self.check_input()?;
        let mut delivered = encryption.lock().take_plaintext(&mut deliver);
        // A record need not contain any bytes for the handler.
        while delivered == 0 {
            // After a failure, the alert that tells the client why is sent at the end, with what is held back.
            let receive = |records: &mut Vec<u8>| self.wait_for_records(records, patience);
            delivered = match self.receive_records(encryption, &mut deliver, receive)? {
                Received::Plaintext(delivered) => delivered,
                Received::EndOfFile => return Ok(0),
            };
            self.send_pending(encryption)?;
        }
        Ok(delivered)
    }

    /// As [`receive_now`](Self::receive_now), for the plaintext.
    pub(super) fn receive_decrypted_now(
        &self,
        encryption: &Mutex<Session>,
        wait: &mut LoopWait,
        mut deliver: impl FnMut(&[u8]) -> usize,
    ) -> io::Result<turns::Received> {
        let mut is_all = false;
        let mut delivered = encryption.lock().take_plaintext(&mut deliver);
        while delivered == 0 {
            let received = self.receive_records(encryption, &mut deliver, |records| {
                let received = self.receive_some(records, wait)?;
                is_all = received.is_all;
                Ok(received.bytes)
            });
            // After a failure as well: the alert tells the client why.
            let sent = if encryption.lock().has_pending() { self.send_now() } else { Ok(0) };
            delivered = match received? {
                Received::Plaintext(delivered) => delivered,
                Received::EndOfFile => break,
            };
            sent?;
        }
        is_all &= !encryption.lock().has_plaintext();
        Ok(turns::Received { bytes: delivered, is_all })
    }

    fn wait_for_records(&self, records: &mut Vec<u8>, patience: Patience<'_>) -> io::Result<usize> {
        self.receive_with(patience, |socket, limit, flags| sys::receive(socket, records, limit, flags))
    }

    /// Receives by `receive`, which appends to what it is given, and decrypts.
    fn receive_records(
        &self,
        encryption: &Mutex<Session>,
        deliver: impl FnMut(&[u8]) -> usize,
        receive: impl FnOnce(&mut Vec<u8>) -> io::Result<usize>,
    ) -> io::Result<Received> {
        let mut records = buffers::take(&RECEIVED_RECORDS);
        {
            let session = encryption.lock();
            if session.is_ended() {
                self.note_end_of_file();
                return Ok(Received::EndOfFile);
            }
            records.extend_from_slice(session.partial());
        }
        let partial = records.len();
        records.reserve(MAX_RECORD);
        let received = match receive(&mut records) {
            Ok(0) => self.end_of_records(partial),
            Ok(_) => {
                let processed = encryption.lock().process(&mut records, deliver);
                processed.map(Received::Plaintext).map_err(|error| self.state.note_error(tls_error(error)))
            }
            Err(error) => Err(error),
        };
        buffers::put(&RECEIVED_RECORDS, records);
        received
    }

    /// The client has closed its end of the socket, but not of the session: it may have been cut short on the way.
    fn end_of_records(&self, partial: usize) -> io::Result<Received> {
        if partial == 0 && self.activity.is_between_requests() {
            return Ok(Received::EndOfFile);
        }
        let message = "the client ended the connection within a request, without a TLS close_notify";
        Err(self.state.client_error(io::ErrorKind::UnexpectedEof, message))
    }

    fn ended_within_handshake(&self) -> io::Error {
        let message = "the client ended the connection within the TLS handshake";
        self.state.client_error(io::ErrorKind::UnexpectedEof, message)
    }

    /// Sends what the session itself has to say, unless another thread is sending, which does so then.
    fn send_pending(&self, encryption: &Mutex<Session>) -> io::Result<()> {
        if encryption.lock().has_pending() { self.flush_or_delegate() } else { Ok(()) }
    }

    /// Sends all of the bytes, behind what the session itself has to say. Only the sending thread calls this.
    pub(super) fn send_encrypted(&self, encryption: &Mutex<Session>, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        loop {
            let piece = rest.split_off(..rest.len().min(PIECE)).unwrap_or_default();
            self.send_records(|records| encryption.lock().encrypt(piece, records))?;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    fn send_records(&self, encrypt: impl FnOnce(&mut Vec<u8>) -> Result<(), Error>) -> io::Result<()> {
        let mut records = buffers::take(&SENT_RECORDS);
        let encrypted = encrypt(&mut records);
        // After a failure it may be the alert.
        let sent = self.send_all_raw(&records);
        buffers::put(&SENT_RECORDS, records);
        encrypted.map_err(tls_error)?;
        sent
    }

    /// Encrypts and sends as much as the kernel takes at once, and leaves the rest in `plaintext`, or as records with the
    /// session. Only the sending thread calls this.
    pub(super) fn send_encrypted_now(&self, encryption: &Mutex<Session>, plaintext: &mut Unsent) -> io::Result<()> {
        let mut records = buffers::take(&SENT_RECORDS);
        let mut encrypted = 0;
        let sent = loop {
            let rest = &plaintext[encrypted..];
            let mut session = encryption.lock();
            let piece = if session.is_busy() { &[] } else { &rest[..rest.len().min(PIECE)] };
            if piece.is_empty() && !session.has_pending() {
                break Ok(());
            }
            let added = session.encrypt(piece, &mut records);
            drop(session);
            encrypted += piece.len();
            // After a failure it may be the alert.
            let sent = self.send_what_fits(&records);
            match added.map_err(tls_error).and(sent) {
                Ok(sent) if sent < records.len() => {
                    encryption.lock().put_back(&records[sent..]);
                    break Ok(());
                }
                Ok(_) => records.clear(),
                Err(error) => break Err(error),
            }
        };
        buffers::put(&SENT_RECORDS, records);
        plaintext.remove(encrypted);
        sent
    }

    /// Whether a handshake is under way that the event loop goes on with in a later turn: nothing else can be sent.
    pub(super) fn is_shaking_hands(&self) -> bool {
        self.host.get().is_some() && self.session(Session::is_handshaking).unwrap_or_default()
    }

    /// Has a close_notify sent behind all that was sent. `false`: it was before, or there is none to be sent.
    pub(super) fn queue_close_notify(&self) -> bool {
        let is_queued = self.encryption.get().is_some_and(|encryption| encryption.lock().queue_close());
        if is_queued {
            self.has_held_back.store(true, SeqCst);
        }
        is_queued
    }

    pub(crate) fn session<T>(&self, ask: impl FnOnce(&Session) -> T) -> Option<T> {
        self.encryption.get().map(|encryption| ask(&encryption.lock()))
    }

    /// Tells the client that it has got everything: it is sent the end of file next.
    pub(super) fn send_close_notify(&self) -> io::Result<()> {
        let Some(encryption) = self.encryption.get() else { return Ok(()) };
        let mut outgoing = self.outgoing.lock();
        while outgoing.is_sending {
            self.wait_for_sender(&mut outgoing)?;
        }
        // A client that has lost bytes must not take the rest for everything.
        if outgoing.has_failed || encryption.lock().is_handshaking() {
            return Ok(());
        }
        let close = |connection: &Connection| {
            // A client that has all it wants need not wait for it.
            let _ = connection.send_records(|records| encryption.lock().close(records));
            Ok(())
        };
        self.send_held_back_then(outgoing, close).map(drop)
    }

    /// Tells the client that it has got everything, if it was not told: a client that was turned away.
    pub(super) fn end_session(&self) {
        if self.encryption.get().is_some_and(|encryption| encryption.lock().is_open()) {
            self.flush_without_waiting();
        }
    }

    /// What can be sent without waiting: the bytes that are held back, and a close_notify. That is left out of a cut, which
    /// may come in the middle of an answer: the client must not take what it has for the whole.
    pub(super) fn last_records(&self, held_back: &[u8]) -> Option<Vec<u8>> {
        let mut session = self.encryption.get()?.lock();
        let mut records = Vec::new();
        if session.is_handshaking() {
            return Some(records);
        }
        // After a failure there is nothing to send.
        let encrypted = session.encrypt(held_back, &mut records);
        if !self.state.is_cut() {
            let _ = encrypted.and_then(|()| session.close(&mut records));
        }
        Some(records)
    }
}

/// What is to be set again when the handler's handshake has ended.
pub(crate) struct StartingTls {
    write_timeout: Option<Duration>,
    read_deadline: Option<Duration>,
}

/// What a receive has brought.
enum Received {
    /// So many bytes were delivered. It can be zero.
    Plaintext(usize),
    EndOfFile,
}

fn new_session(material: &Material) -> io::Result<Box<Mutex<Session>>> {
    Ok(Box::new(Mutex::new(Session::new(&material.for_handshake()).map_err(tls_error)?)))
}

fn encrypted_already() -> io::Error {
    io::Error::new(io::ErrorKind::AlreadyExists, "the connection is encrypted already")
}

fn tls_error(error: Error) -> io::Error {
    let kind = match error {
        Error::AlertReceived(_) => io::ErrorKind::ConnectionAborted,
        Error::Other(_) => io::ErrorKind::Other,
        _ => io::ErrorKind::InvalidData,
    };
    io::Error::new(kind, error)
}

//! One accepted connection: its socket, its buffers, and what is known of the talk. Nothing here waits.

use std::{
    io, mem,
    net::Shutdown,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use socket2::Socket;

use super::{
    bell::Bell,
    buffers::{self, INCOMING, OUTGOING},
    closing::Closing,
    incoming::Incoming,
    state::{ConnectionState, Endpoint},
    waits::Waits,
};
use crate::{
    address::Address,
    primitives::{
        Condvar, Mutex,
        atomic::{
            AtomicBool, AtomicU8, AtomicU32,
            Ordering::{Relaxed, SeqCst},
        },
    },
    sys::{self, Input},
};

pub(crate) struct Connection {
    pub(crate) state: ConnectionState,
    pub(super) socket: Socket,
    /// What was received and not consumed, while no `Reader` holds it.
    incoming: Mutex<Option<Incoming>>,
    pub(super) outgoing: Mutex<Outgoing>,
    /// The thread that was sending has ended, with `outgoing`.
    pub(super) sender_ended: Condvar,
    /// Something is held back in `outgoing` and no thread is sending it. It is changed under that lock, and looked at
    /// without it by a thread that is about to wait for the client.
    pub(super) held_back: AtomicBool,
    exchange: AtomicU8,
    /// How often the handler has replied to what it had taken.
    pub(super) replies: AtomicU32,
    /// What that was when the drain found the handler in the middle of a request.
    replies_before_drain: AtomicU32,
    told: AtomicU8,
    pub(super) waits: Waits,
    bell: OnceLock<Arc<Bell>>,
}

/// How far the talk has come, as far as it can be guessed.
mod exchange {
    /// The client has sent nothing yet.
    pub(super) const SILENT: u8 = 0;
    /// The handler has taken bytes and sent nothing since.
    pub(super) const TAKEN: u8 = 1;
    /// The handler has sent something since it last took bytes.
    pub(super) const REPLIED: u8 = 2;
}

/// No number of replies.
const NOT_DRAINING: u32 = u32::MAX;

/// What the handler has said about it.
mod told {
    pub(super) const NOTHING: u8 = 0;
    pub(super) const IDLE: u8 = 1;
    pub(super) const BUSY: u8 = 2;
}

/// How long a connection must have been quiet to be idle where the handler has not replied. The model's time stands
/// still.
const QUIET: Duration = Duration::from_secs(if cfg!(sockserver_model) { 0 } else { 1 });

/// Whether a connection is idle, at a wait with nothing unread.
pub(super) enum Activity {
    Idle,
    /// The handler has said so.
    Busy,
    /// It is idle if nothing comes until then.
    BusyUntil(Instant),
}

/// Written bytes that were not sent yet.
#[derive(Default)]
pub(super) struct Outgoing {
    pub(super) buffer: Vec<u8>,
    /// A thread is sending what it has taken out of the buffer. Others wait until it has ended.
    pub(super) is_sending: bool,
    /// The client is waited for, so that the thread that is sending is to send the buffer as well.
    pub(super) is_awaited: bool,
    /// Sending failed half-way: what is written later must not be taken for the rest. There is nothing in the buffer
    /// any more.
    pub(super) failed: bool,
}

impl Connection {
    pub(crate) fn new(socket: Socket, client_address: Address) -> Connection {
        Connection {
            state: ConnectionState::new(client_address),
            socket,
            incoming: Mutex::new(Some(Incoming::default())),
            outgoing: Mutex::default(),
            sender_ended: Condvar::new(),
            held_back: AtomicBool::new(false),
            exchange: AtomicU8::new(exchange::SILENT),
            replies: AtomicU32::new(0),
            replies_before_drain: AtomicU32::new(NOT_DRAINING),
            told: AtomicU8::new(told::NOTHING),
            waits: Waits::default(),
            bell: OnceLock::new(),
        }
    }

    /// The server of the connection: what wakes its threads, and how long it may last.
    pub(crate) fn attach(&self, bell: &Arc<Bell>, idle: Option<Duration>, lifetime: Option<Duration>) {
        // A connection has one server.
        let _ = self.bell.set(bell.clone());
        self.waits.idle.store(idle);
        self.waits.lifetime.store(lifetime);
    }

    pub(super) fn bell(&self) -> Option<&Bell> {
        self.bell.get().map(Arc::as_ref)
    }

    /// For calls that neither receive nor change how receiving waits.
    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// For the user, who expects a descriptor as accept(2) makes it.
    ///
    /// A thread that is receiving looks at `is_lent` after it has changed `is_in_slice`, and this does it the other way
    /// round: so one of the two takes the timeout away, and no receive begins without it that relies on it.
    pub(crate) fn lend_socket(&self) -> &Socket {
        if !self.waits.is_lent.swap(true, SeqCst) && !self.waits.is_in_slice.load(SeqCst) {
            self.take_slice_away();
        }
        &self.socket
    }

    pub(super) fn take_slice_away(&self) {
        if self.waits.slice.load().is_some() {
            // It fails for what is no socket only.
            let _ = self.socket.set_read_timeout(None);
        }
    }

    pub(crate) fn lend_incoming(&self) -> Option<Incoming> {
        self.incoming.lock().take()
    }

    pub(crate) fn return_incoming(&self, incoming: Incoming) {
        *self.incoming.lock() = Some(incoming);
    }

    pub(crate) fn set_read_timeout(&self, timeout: Option<Duration>) {
        self.waits.read_timeout.store(timeout);
    }

    pub(crate) fn set_write_timeout(&self, timeout: Option<Duration>) {
        self.waits.write_timeout.store(timeout);
    }

    pub(crate) fn set_idle_timeout(&self, timeout: Option<Duration>) {
        self.waits.idle.store(timeout);
    }

    pub(crate) fn set_deadline(&self, deadline: Option<Instant>) {
        self.waits.deadline.store(deadline.map(|deadline| self.age_at(deadline)));
    }

    /// All waits end within the time, or earlier if that was said before.
    pub(crate) fn cut_within(&self, time: Duration) {
        let cut = self.age_at(Instant::now()).saturating_add(time);
        if self.waits.cut.load().is_none_or(|earlier| cut < earlier) {
            self.waits.cut.store(Some(cut));
        }
    }

    /// The handler has taken bytes that a reply is due to.
    pub(crate) fn note_request(&self) {
        self.exchange.store(exchange::TAKEN, Relaxed);
    }

    pub(super) fn note_reply(&self) {
        // What is sent before the client has sent anything, like a greeting, answers nothing.
        if self.exchange.load(Relaxed) == exchange::TAKEN {
            self.exchange.store(exchange::REPLIED, Relaxed);
            self.replies.store(self.replies.load(Relaxed).wrapping_add(1) % NOT_DRAINING, Relaxed);
        }
    }

    pub(crate) fn set_busy(&self, is_busy: bool) {
        self.told.store(if is_busy { told::BUSY } else { told::IDLE }, Relaxed);
    }

    pub(super) fn activity(&self) -> Activity {
        match (self.told.load(Relaxed), self.exchange.load(Relaxed)) {
            (told::IDLE, _) => Activity::Idle,
            (told::BUSY, _) => Activity::Busy,
            (_, exchange::REPLIED) => Activity::Idle,
            _ => {
                let quiet_from = self.waits.last_transfer.load().unwrap_or_default();
                let quiet_at = self.instant(quiet_from.saturating_add(QUIET));
                if Instant::now() >= quiet_at { Activity::Idle } else { Activity::BusyUntil(quiet_at) }
            }
        }
    }

    pub(super) fn note_transfer(&self) {
        self.waits.last_transfer.raise(self.age_at(Instant::now()));
    }

    pub(super) fn age_at(&self, time: Instant) -> Duration {
        time.saturating_duration_since(self.state.accepted_at)
    }

    /// A time that no clock can express is a year away, when it will be looked at again.
    pub(super) fn instant(&self, age: Duration) -> Instant {
        let far_away = || Instant::now() + Duration::from_secs(86_400 * 365);
        self.state.accepted_at.checked_add(age).unwrap_or_else(far_away)
    }

    /// How much the handler may still take of what had come when the drain began.
    pub(super) fn left_to_drain(&self) -> u64 {
        self.state.left_to_drain(|| {
            let unread = sys::bytes_unread(&self.socket);
            // The kernel counts up to an urgent byte. One byte more lets the handler take what is behind it, and the rest
            // of that message; or see the end of file.
            let is_more = unread == 0 && sys::peek(&self.socket) != Input::Nothing;
            unread + u64::from(is_more || sys::has_urgent_byte(&self.socket))
        })
    }

    /// Of a draining connection that has nothing left to take and is in the middle of a request. `true`: that request
    /// was answered since this was asked first, and what the handler has begun is another one.
    pub(super) fn has_finished_its_request(&self) -> bool {
        let replies = self.replies.load(Relaxed);
        let before = self.replies_before_drain.compare_exchange(NOT_DRAINING, replies, Relaxed, Relaxed);
        before.is_err_and(|before| before != replies)
    }

    pub(super) fn note_end_of_file(&self) {
        self.state.failures().note(io::ErrorKind::UnexpectedEof);
    }

    pub(crate) fn shut_down(&self, how: Shutdown) -> io::Result<()> {
        self.socket.shutdown(how)
    }
}

impl Endpoint for Connection {
    fn state(&self) -> &ConnectionState {
        &self.state
    }

    fn shut_down(&self, how: Shutdown) {
        // It fails when the connection is gone already, which is what is wanted.
        let _ = self.socket.shutdown(how);
    }

    fn drain(&self) {
        if self.state.mark(Closing::Draining) {
            self.left_to_drain();
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        buffers::put(&OUTGOING, mem::take(&mut self.outgoing.get_mut().buffer));
        buffers::put(&INCOMING, self.incoming.get_mut().take().unwrap_or_default().buffer);
    }
}

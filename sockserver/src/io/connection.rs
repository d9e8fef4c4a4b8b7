//! One accepted connection: its socket, its buffers and its state. Nothing here waits.

use std::{
    io,
    net::Shutdown,
    os::fd::AsFd,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use socket2::Socket;

use super::{
    activity::{Activity, ActivityTracker},
    backlog::Backlog,
    buffers::{self, INCOMING},
    closing::Closing,
    host::Host,
    incoming::Incoming,
    state::{ConnectionState, Endpoint, Marked},
    terms::Terms,
    wait_state::WaitState,
};
#[cfg(feature = "tls")]
use crate::tls::session::Session;
use crate::{
    address::Address,
    primitives::{
        Condvar, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    sys::{self, Input},
};

pub(crate) struct Connection {
    pub(crate) state: ConnectionState,
    pub(super) socket: Socket,
    /// Bytes that were received and not consumed. `None` while a `Reader` has them.
    incoming: Mutex<Option<Incoming>>,
    pub(super) outgoing: Mutex<Outgoing>,
    /// Signalled, under the lock of `outgoing`, when the sending thread has finished.
    pub(super) sender_ended: Condvar,
    /// `outgoing` holds bytes back, and no thread is sending them. It changes under that lock. A thread that is about
    /// to wait for the client reads it without the lock.
    pub(super) has_held_back: AtomicBool,
    /// How many bytes were unsent after the last write or send: an event loop asks after each message, without the lock.
    pub(super) backlog: AtomicUsize,
    pub(super) activity: ActivityTracker,
    pub(super) waits: WaitState,
    /// Not set: it has no server yet.
    terms: OnceLock<Arc<Terms>>,
    /// The event loop that serves the connection. Threads that write do not wait for the client then.
    pub(super) host: OnceLock<Arc<Host>>,
    /// The TLS session between the buffers and the socket. Not set: there is none.
    #[cfg(feature = "tls")]
    pub(super) encryption: OnceLock<Box<Mutex<Session>>>,
}

/// How long a connection must be quiet to count as idle when the handler has not replied. Zero in the model, where time
/// stands still.
const QUIET: Duration = Duration::from_secs(if cfg!(sockserver_model) { 0 } else { 1 });

/// Bytes that the handler has written and no thread has sent.
#[derive(Default)]
pub(super) struct Outgoing {
    pub(super) unsent: Backlog,
    /// A thread is sending bytes that it took out of the buffer. Other writers wait until it has finished.
    pub(super) is_sending: bool,
    /// Another thread waits for the client. The sending thread sends the buffer too before it finishes.
    pub(super) is_flush_requested: bool,
    /// The loop waits for the sending thread, which gives the connection a turn when it finishes.
    pub(super) is_turn_requested: bool,
    /// Sending failed half-way, and the buffer was cleared. Later writes fail: the client would read them as the rest
    /// of the lost bytes.
    pub(super) has_failed: bool,
    /// The request has ended. What was written before is sent, and nothing can be written.
    pub(super) has_ended: bool,
}

impl Connection {
    pub(crate) fn new(socket: Socket, client_address: Address) -> Connection {
        Connection {
            state: ConnectionState::new(client_address),
            socket,
            incoming: Mutex::new(Some(Incoming::default())),
            outgoing: Mutex::default(),
            sender_ended: Condvar::new(),
            has_held_back: AtomicBool::new(false),
            backlog: AtomicUsize::new(0),
            activity: ActivityTracker::new(),
            waits: WaitState::default(),
            terms: OnceLock::new(),
            host: OnceLock::new(),
            #[cfg(feature = "tls")]
            encryption: OnceLock::new(),
        }
    }

    /// From now on the connection is one of this server.
    pub(crate) fn attach(&self, terms: &Arc<Terms>) {
        // A connection has one server.
        let _ = self.terms.set(terms.clone());
        self.waits.idle.store(terms.idle);
    }

    pub(super) fn terms(&self) -> Option<&Terms> {
        self.terms.get().map(Arc::as_ref)
    }

    /// For calls that neither receive nor change the receive timeout.
    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// The socket for the user, who expects it as accept(2) makes it: without a receive timeout.
    ///
    /// A receiving thread changes `is_in_slice` and then reads `is_descriptor_lent`. This method changes and reads them
    /// in the opposite order. So one of the two threads clears the timeout, and no receive that relies on the timeout
    /// starts after that.
    pub(crate) fn lend_socket(&self) -> &Socket {
        if !self.waits.is_descriptor_lent.swap(true, SeqCst) && !self.waits.is_in_slice.load(SeqCst) {
            self.clear_slice_timeout();
        }
        &self.socket
    }

    pub(super) fn clear_slice_timeout(&self) {
        if self.waits.slice_timeout.load().is_some() {
            // This fails only for a descriptor that is not a socket.
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
        self.waits.read_deadline.store(deadline.map(|deadline| self.age_at(deadline)));
    }

    /// Ends all waits after this time, unless an earlier call ends them sooner.
    pub(crate) fn cut_within(&self, time: Duration) {
        let cut = self.age_at(Instant::now()).saturating_add(time);
        if self.waits.cut_deadline.load().is_none_or(|earlier| cut < earlier) {
            self.waits.cut_deadline.store(Some(cut));
        }
    }

    /// The handler has read bytes, and owes the client a reply.
    pub(crate) fn note_request(&self) {
        self.activity.note_request();
    }

    /// The handler knows where messages end, and has one, or a part of one.
    pub(crate) fn begin_message(&self) {
        self.activity.begin_message();
    }

    /// The handler has finished its message, if it had one.
    pub(crate) fn end_message(&self) {
        self.activity.end_message();
    }

    /// How long the client may take for one message.
    pub(crate) fn message_timeout(&self) -> Option<Duration> {
        self.terms()?.message
    }

    pub(crate) fn set_busy(&self, is_busy: bool) {
        self.activity.declare(is_busy);
    }

    pub(super) fn activity(&self) -> Activity {
        self.activity.activity(|| self.instant(self.begin_quiet(Instant::now()).saturating_add(QUIET)))
    }

    /// Bytes were received or, if `idle` is set, sent.
    pub(super) fn note_transfer(&self) {
        let now = self.waits.idle.load().map(|_| self.age_at(Instant::now()));
        self.waits.quiet_since.store(now);
    }

    /// A thread waits for the client. Returns since when nothing was transferred, which is `now` if no thread has waited
    /// since the last transfer.
    pub(super) fn begin_quiet(&self, now: Instant) -> Duration {
        self.waits.quiet_since.load().unwrap_or_else(|| {
            let now = self.age_at(now);
            self.waits.quiet_since.store(Some(now));
            now
        })
    }

    pub(super) fn age_at(&self, time: Instant) -> Duration {
        time.saturating_duration_since(self.state.accepted_at)
    }

    /// A time that `Instant` cannot express becomes a year from now. A thread that waits until then computes it again.
    pub(super) fn instant(&self, age: Duration) -> Instant {
        let far_away = || Instant::now() + Duration::from_secs(86_400 * 365);
        self.state.accepted_at.checked_add(age).unwrap_or_else(far_away)
    }

    /// How many of the bytes that had arrived when the drain began the handler may still read. The first call
    /// measures them.
    pub(super) fn bytes_left_to_drain(&self) -> u64 {
        self.state.bytes_left_to_drain(|| {
            let unread = sys::bytes_unread(&self.socket);
            // The kernel counts the bytes before an urgent byte only. One more byte lets the handler read on behind it,
            // or see the end of file.
            let has_more = unread == 0 && sys::peek(&self.socket) != Input::Nothing;
            unread + u64::from(has_more || sys::has_urgent_byte(&self.socket))
        })
    }

    /// Whether a TLS session is between the buffers and the socket.
    #[cfg(feature = "tls")]
    pub(crate) fn is_encrypted(&self) -> bool {
        self.encryption.get().is_some()
    }

    #[cfg(not(feature = "tls"))]
    pub(crate) fn is_encrypted(&self) -> bool {
        false
    }

    #[cfg(not(feature = "tls"))]
    pub(super) fn is_shaking_hands(&self) -> bool {
        false
    }

    pub(super) fn note_end_of_file(&self) {
        self.state.failures().note_end_of_file();
    }

    pub(crate) fn shut_down(&self, how: Shutdown) -> io::Result<()> {
        self.socket.shutdown(how)
    }
}

impl Endpoint for Connection {
    fn state(&self) -> &ConnectionState {
        &self.state
    }

    fn user(&self) -> Option<u32> {
        sys::peer_credentials(self.socket.as_fd()).ok().map(|(user, ..)| user)
    }

    fn shut_down(&self, how: Shutdown) {
        if how == Shutdown::Both {
            self.flush_without_waiting();
        }
        // This fails when the connection has ended already.
        let _ = self.socket.shutdown(how);
    }

    fn drain(&self) {
        if self.state.mark(Closing::Draining) == Marked::BeforeReceive {
            self.bytes_left_to_drain();
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.outgoing.get_mut().unsent.bytes.put_back();
        buffers::put(&INCOMING, self.incoming.get_mut().take().unwrap_or_default().buffer);
    }
}

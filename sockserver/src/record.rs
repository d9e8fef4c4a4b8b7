//! What is known of one request while it is under way.

use std::{
    fmt, io,
    net::Shutdown,
    sync::OnceLock,
    time::{Duration, Instant},
};

use crate::{
    address::Address,
    primitives::atomic::{
        AtomicU32, AtomicU64,
        Ordering::{Relaxed, SeqCst},
    },
    sys,
};

/// The number of a request, which no other request of this process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why the server is ending a connection. It is shown as a reason: `the server is stopping`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Closing {
    /// The server is stopping. Until `timeouts(shutdown)` is over the handler can still send; only what a handler waits
    /// for between two requests does not come any more.
    Draining,
    /// The peer was silent for `timeouts(idle)`. What the handler reads has ended; it can still send, for a second.
    Idle,
    /// The connection has lasted for `timeouts(lifetime)`. It ends as an idle one does.
    Lifetime,
    /// [`ServerHandle::close`](crate::ServerHandle::close) was called for it. It is cut.
    Kicked,
}

impl Closing {
    const ALL: [Closing; 4] = [Closing::Draining, Closing::Idle, Closing::Lifetime, Closing::Kicked];

    /// What a read or a write fails with that the server has cut short.
    pub(crate) fn into_error(self) -> io::Error {
        let kind = match self {
            Closing::Idle | Closing::Lifetime => io::ErrorKind::TimedOut,
            Closing::Draining | Closing::Kicked => io::ErrorKind::ConnectionAborted,
        };
        io::Error::new(kind, self.to_string())
    }
}

impl fmt::Display for Closing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Closing::Draining => "the server is stopping",
            Closing::Idle => "the peer was silent for longer than the idle timeout",
            Closing::Lifetime => "the connection has reached its lifetime",
            Closing::Kicked => "the server has closed this connection",
        })
    }
}

/// What a handler waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// For input, nothing having come since the last reply.
    BetweenRequests = 1,
    /// For the rest of a request.
    InRequest = 2,
    /// For room to send.
    ToSend = 4,
}

impl Waiting {
    pub(crate) fn timed_out(self) -> &'static str {
        match self {
            Waiting::BetweenRequests | Waiting::InRequest => "the peer sent nothing within the read timeout",
            Waiting::ToSend => "the peer took nothing within the write timeout",
        }
    }
}

/// What is known of a request while it is under way.
pub struct Record {
    pub(crate) id: ConnectionId,
    pub(crate) client_address: Address,
    pub(crate) accepted_at: Instant,
    progress: Progress,
    /// Instead of `progress`, once a child process handles the request.
    shared: OnceLock<sys::Shared<Progress>>,
    /// Of a packet, the end was cut off.
    pub(crate) truncated: bool,
}

/// What the handler and the server tell each other.
#[derive(Default)]
struct Progress {
    /// The [`Waiting`] bits, `SHUT`, and from bit `CLOSING` on the [`Closing`] plus one: in one word, so that a handler
    /// which begins to wait and a server which wants to end that wait cannot miss each other.
    state: AtomicU32,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

/// The server has shut the socket: an end of file is not the peer's.
const SHUT: u32 = 8;
const CLOSING: u32 = 4;

fn closing_of(state: u32) -> Option<Closing> {
    Closing::ALL.get((state >> CLOSING).checked_sub(1)? as usize).copied()
}

impl Record {
    pub(crate) fn new(client_address: Address) -> Record {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        Record {
            id: ConnectionId(NEXT.fetch_add(1, Relaxed)),
            client_address,
            accepted_at: Instant::now(),
            progress: Progress::default(),
            shared: OnceLock::new(),
            truncated: false,
        }
    }

    fn progress(&self) -> &Progress {
        self.shared.get().map_or(&self.progress, |shared| shared)
    }

    /// Makes a child process that is forked from now on tell its progress to this one.
    pub(crate) fn share(&self) -> io::Result<()> {
        let Progress { state, bytes_in, bytes_out } = self.progress();
        let shared = sys::Shared::new(Progress {
            state: AtomicU32::new(state.load(SeqCst)),
            bytes_in: AtomicU64::new(bytes_in.load(Relaxed)),
            bytes_out: AtomicU64::new(bytes_out.load(Relaxed)),
        })?;
        // A request is forked once.
        let _ = self.shared.set(shared);
        Ok(())
    }

    pub(crate) fn closing(&self) -> Option<Closing> {
        closing_of(self.progress().state.load(SeqCst))
    }

    pub(crate) fn begin_wait(&self, waiting: Waiting) -> Option<Closing> {
        closing_of(self.progress().state.fetch_or(waiting as u32, SeqCst))
    }

    /// Returns why the server has shut the socket, if it has.
    pub(crate) fn end_wait(&self, waiting: Waiting) -> Option<Closing> {
        let state = self.progress().state.fetch_and(!(waiting as u32), SeqCst);
        closing_of(state).filter(|_| state & SHUT != 0)
    }

    /// Why the server has cut the request short, if it has.
    pub(crate) fn shut_for(&self) -> Option<Closing> {
        let state = self.progress().state.load(SeqCst);
        closing_of(state).filter(|_| state & SHUT != 0)
    }

    pub(crate) fn count_in(&self, bytes: usize) {
        self.progress().bytes_in.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn bytes_in(&self) -> u64 {
        self.progress().bytes_in.load(Relaxed)
    }

    pub(crate) fn count_out(&self, bytes: usize) {
        self.progress().bytes_out.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn info(&self, now: Instant) -> ConnectionInfo {
        ConnectionInfo {
            id: self.id,
            client_address: self.client_address.clone(),
            age: now.saturating_duration_since(self.accepted_at),
            bytes_in: self.bytes_in(),
            bytes_out: self.progress().bytes_out.load(Relaxed),
            closing: self.closing(),
        }
    }

    /// Gives the reason unless there is one already; the state before.
    fn mark(&self, closing: Closing) -> u32 {
        let mark = |state| closing_of(state).is_none().then_some(state | (closing as u32 + 1) << CLOSING);
        self.progress().state.fetch_update(SeqCst, SeqCst, mark).unwrap_or_else(|state| state)
    }

    /// The server stops. `true`: the handler waits for the next request, and has to be woken.
    pub(crate) fn drain(&self) -> bool {
        self.mark(Closing::Draining) & Waiting::BetweenRequests as u32 != 0
    }

    /// Marks the socket as shut, if the handler still waits for the next request: one that has received it meanwhile is
    /// not to be cut in the middle of it.
    fn shut_between_requests(&self) -> bool {
        let shut = |state| (state & Waiting::BetweenRequests as u32 != 0).then_some(state | SHUT);
        self.progress().state.fetch_update(SeqCst, SeqCst, shut).is_ok()
    }
}

/// A request that the server can end.
pub trait Tracked: Send + Sync {
    fn record(&self) -> &Record;

    /// shutdown(2), which wakes a handler that waits. Nothing for a datagram.
    fn shut(&self, how: Shutdown);

    /// Something has come that the handler has not read, or has taken and does not know of yet.
    fn has_input(&self) -> bool;

    /// What changes when the peer takes something of what it was sent.
    fn taken(&self) -> u64;
}

/// What changes when the peer does something: how much was received, was sent, and what
/// [`Tracked::taken`] says.
pub(crate) type Activity = (u64, u64, u64);

impl dyn Tracked + '_ {
    /// `None`: the handler does not wait for the peer.
    pub(crate) fn activity(&self) -> Option<Activity> {
        let Progress { state, bytes_in, bytes_out } = self.record().progress();
        match state.load(SeqCst) {
            // A call that sends much counts what it has sent only at its end.
            state if state & Waiting::ToSend as u32 != 0 => {
                Some((bytes_in.load(Relaxed), bytes_out.load(Relaxed), self.taken()))
            }
            state if state & (Waiting::BetweenRequests as u32 | Waiting::InRequest as u32) != 0 => {
                Some((bytes_in.load(Relaxed), 0, 0))
            }
            _ => None,
        }
    }

    /// Ends a connection that was between two requests, unless the next one has come.
    pub(crate) fn end_of_file(&self) {
        if !self.has_input() && self.record().shut_between_requests() {
            self.shut(Shutdown::Read);
        }
    }

    /// Ends what the handler reads, or the whole connection, for this reason unless there is one already.
    pub(crate) fn end(&self, closing: Closing, how: Shutdown) {
        self.record().mark(closing);
        self.record().progress().state.fetch_or(SHUT, SeqCst);
        self.shut(how);
    }
}

/// One request under way, as [`ServerHandle::connections`](crate::ServerHandle::connections) lists it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// Its number.
    pub id: ConnectionId,
    /// Where it comes from.
    pub client_address: Address,
    /// How long ago it was accepted.
    pub age: Duration,
    /// How many bytes were received.
    pub bytes_in: u64,
    /// How many bytes were sent.
    pub bytes_out: u64,
    /// Why the server is ending it, if it is.
    pub closing: Option<Closing>,
}

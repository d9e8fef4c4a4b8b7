//! What is known of a connection or packet while it is under way.

use std::{
    fmt, io,
    net::Shutdown,
    str::FromStr,
    sync::OnceLock,
    time::{Duration, Instant},
};

use super::{closing::Closing, failures::Failures};
use crate::{
    address::Address,
    primitives::atomic::{
        AtomicBool, AtomicU32, AtomicU64,
        Ordering::{Relaxed, SeqCst},
    },
    sys,
};

/// The number of a request, which no other request of this process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(u64);

impl ConnectionId {
    pub(crate) const FIRST: ConnectionId = ConnectionId(1);

    /// The number of the connection that was made next, on whatever server.
    pub(crate) fn next(self) -> ConnectionId {
        ConnectionId(self.0 + 1)
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ConnectionId {
    type Err = std::num::ParseIntError;

    /// Reads what [`Display`](fmt::Display) has shown.
    fn from_str(text: &str) -> Result<ConnectionId, Self::Err> {
        text.parse().map(ConnectionId)
    }
}

/// What is known of a request while it is under way.
pub(crate) struct ConnectionState {
    pub(crate) id: ConnectionId,
    pub(crate) client_address: Address,
    pub(crate) accepted_at: Instant,
    progress: Progress,
    /// Instead of `progress`, once a child process handles the request.
    shared: OnceLock<sys::Shared<Progress>>,
    failures: Failures,
    /// Of a packet, the end was cut off.
    pub(crate) truncated: bool,
}

/// What the handler and the server tell each other.
struct Progress {
    /// `RECEIVING`, `SHUT`, and from bit `CLOSING` on the [`Closing`] plus one: in one word, so that a handler that
    /// begins to receive and a server that begins to drain cannot miss each other.
    state: AtomicU32,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    /// The value of `bytes_in` once everything is taken that had come when the drain began. `NOT_MEASURED` before.
    drain_limit: AtomicU64,
    /// The end is in the server's counters.
    is_counted: AtomicBool,
}

/// A thread is in a call that receives, or waits for that.
const RECEIVING: u32 = 1;
/// The server has shut the socket: an end of file is not the client's.
const SHUT: u32 = 2;
const CLOSING: u32 = 4;

const NOT_MEASURED: u64 = u64::MAX;

fn closing_of(state: u32) -> Option<Closing> {
    Closing::ALL.get((state >> CLOSING).checked_sub(1)? as usize).copied()
}

impl Progress {
    fn new(state: u32, bytes_in: u64, bytes_out: u64) -> Progress {
        Progress {
            state: AtomicU32::new(state),
            bytes_in: AtomicU64::new(bytes_in),
            bytes_out: AtomicU64::new(bytes_out),
            drain_limit: AtomicU64::new(NOT_MEASURED),
            is_counted: AtomicBool::new(false),
        }
    }
}

impl ConnectionState {
    pub(crate) fn new(client_address: Address) -> ConnectionState {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        ConnectionState {
            id: ConnectionId(NEXT.fetch_add(1, Relaxed)),
            client_address,
            accepted_at: Instant::now(),
            progress: Progress::new(0, 0, 0),
            shared: OnceLock::new(),
            failures: Failures::default(),
            truncated: false,
        }
    }

    fn progress(&self) -> &Progress {
        self.shared.get().map_or(&self.progress, |shared| shared)
    }

    /// Makes a child process that is forked from now on tell its progress to this one.
    pub(crate) fn share(&self) -> io::Result<()> {
        let Progress { state, bytes_in, bytes_out, .. } = self.progress();
        let shared =
            sys::Shared::new(Progress::new(state.load(SeqCst), bytes_in.load(Relaxed), bytes_out.load(Relaxed)))?;
        // A request is forked once.
        let _ = self.shared.set(shared);
        Ok(())
    }

    pub(crate) fn closing(&self) -> Option<Closing> {
        closing_of(self.progress().state.load(SeqCst))
    }

    /// Why the server has shut the socket, if it has.
    pub(crate) fn shut_for(&self) -> Option<Closing> {
        let state = self.progress().state.load(SeqCst);
        closing_of(state).filter(|_| state & SHUT != 0)
    }

    pub(crate) fn begin_receiving(&self) -> Option<Closing> {
        closing_of(self.progress().state.fetch_or(RECEIVING, SeqCst))
    }

    /// After what was received is counted.
    pub(crate) fn end_receiving(&self) -> Option<Closing> {
        closing_of(self.progress().state.fetch_and(!RECEIVING, SeqCst))
    }

    pub(crate) fn is_receiving(&self) -> bool {
        self.progress().state.load(SeqCst) & RECEIVING != 0
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

    pub(crate) fn bytes_out(&self) -> u64 {
        self.progress().bytes_out.load(Relaxed)
    }

    /// `true` the first time, in whichever process.
    pub(crate) fn is_to_be_counted(&self) -> bool {
        !self.progress().is_counted.swap(true, SeqCst)
    }

    pub(crate) fn info(&self, now: Instant) -> ConnectionInfo {
        ConnectionInfo {
            id: self.id,
            client_address: self.client_address.clone(),
            age: now.saturating_duration_since(self.accepted_at),
            bytes_in: self.bytes_in(),
            bytes_out: self.bytes_out(),
            closing: self.closing(),
        }
    }

    /// Gives the reason unless there is one already. `true`: no thread is receiving, or will without seeing it.
    pub(crate) fn mark(&self, closing: Closing) -> bool {
        let mark = |state| closing_of(state).is_none().then_some(state | (closing as u32 + 1) << CLOSING);
        let before = self.progress().state.fetch_update(SeqCst, SeqCst, mark);
        before.is_ok_and(|before| before & RECEIVING == 0)
    }

    /// The socket is about to be shut.
    fn mark_shut(&self) {
        self.progress().state.fetch_or(SHUT, SeqCst);
    }

    /// How many bytes the handler may still take of what had come when the drain began. The first who asks measures
    /// what is unread: the thread that stops the server, unless the handler is receiving at that moment.
    pub(crate) fn left_to_drain(&self, unread: impl FnOnce() -> u64) -> u64 {
        let Progress { bytes_in, drain_limit, .. } = self.progress();
        if drain_limit.load(SeqCst) == NOT_MEASURED {
            let measured = bytes_in.load(Relaxed).saturating_add(unread());
            let _ = drain_limit.compare_exchange(NOT_MEASURED, measured, SeqCst, SeqCst);
        }
        drain_limit.load(SeqCst).saturating_sub(self.bytes_in())
    }

    /// What had come is gone, as where another reader of the descriptor has taken it.
    pub(crate) fn nothing_left_to_drain(&self) {
        self.progress().drain_limit.store(0, SeqCst);
    }

    /// Notes an error of this very connection, and returns it.
    pub(crate) fn noted(&self, error: io::Error) -> io::Error {
        self.failures.note(error.kind());
        error
    }

    /// What `noted` was given, and [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) for the client's end of file.
    pub(crate) fn failures(&self) -> &Failures {
        &self.failures
    }
}

/// A connection or a packet, as the server ends it.
pub(crate) trait Endpoint: Send + Sync {
    fn state(&self) -> &ConnectionState;

    /// shutdown(2), which wakes a handler that waits. Nothing for a packet.
    fn shut_down(&self, how: Shutdown);

    /// The server begins to drain: what the kernel has received by now is still to be answered.
    fn drain(&self);
}

impl dyn Endpoint + '_ {
    /// Ends the connection for this reason unless there is one already. A handler that waits finds out by its own
    /// deadlines, or by the end of what it reads or of the whole connection.
    pub(crate) fn end(&self, closing: Closing, how: Option<Shutdown>) {
        self.state().mark(closing);
        if let Some(how) = how {
            self.state().mark_shut();
            self.shut_down(how);
        }
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

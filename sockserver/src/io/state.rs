//! The state of a connection or packet, which the handler and the server share.

use std::{
    fmt, io,
    net::Shutdown,
    str::FromStr,
    sync::OnceLock,
    time::{Duration, Instant},
};

use super::{
    closing::Closing,
    failures::{ClientFailure, Failures},
};
use crate::{
    address::Address,
    primitives::atomic::{
        AtomicBool, AtomicU32, AtomicU64,
        Ordering::{Relaxed, SeqCst},
    },
    proxy_header::ProxyHeader,
    sys,
};

/// The number of a request, which no other request of this process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(u64);

impl ConnectionId {
    pub(crate) const FIRST: ConnectionId = ConnectionId(1);

    /// It is not zero.
    pub(crate) fn number(self) -> u64 {
        self.0
    }

    /// The number of the connection that was accepted next, on any server of this process.
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

    /// Parses the output of [`Display`](fmt::Display).
    fn from_str(text: &str) -> Result<ConnectionId, Self::Err> {
        text.parse().map(ConnectionId)
    }
}

/// The state of a request from its acceptance to its end.
pub(crate) struct ConnectionState {
    pub(crate) id: ConnectionId,
    /// The other end of the socket: the client, or a proxy in front of it.
    pub(crate) peer_address: Address,
    pub(crate) accepted_at: Instant,
    /// What a proxy in front has said. In the parent of a child: as much of it as the child has reported.
    proxy_header: OnceLock<Box<ProxyHeader>>,
    progress: Progress,
    /// Replaces `progress` when a child process handles the request.
    shared: OnceLock<sys::Shared<Progress>>,
    failures: Failures,
    /// The end of a packet was cut off.
    pub(crate) is_truncated: bool,
}

/// The part of the state that changes, in memory that a child process can share.
struct Progress {
    /// `RECEIVING`, `SHUT`, `CUT`, `TOLD`, and from bit `CLOSING` on the [`Closing`] plus one. They share one word so that a handler
    /// that begins to receive and a server that begins to drain cannot miss each other.
    state: AtomicU32,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    /// The value that `bytes_in` has when the handler has read all bytes that had arrived when the drain began.
    /// `NOT_MEASURED` before the drain.
    drain_limit: AtomicU64,
    /// The server's counters include the end of this request.
    is_counted: AtomicBool,
}

/// A thread is receiving, or waits to receive.
const RECEIVING: u32 = 1;
/// The server has shut the socket: an end of file does not come from the client.
const SHUT: u32 = 2;
/// It has shut both directions: nothing that is written reaches the client.
const CUT: u32 = 4;
/// The handler has got an error with the [`Closing`] inside.
const TOLD: u32 = 8;
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
    pub(crate) fn new(peer_address: Address) -> ConnectionState {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        ConnectionState {
            id: ConnectionId(NEXT.fetch_add(1, Relaxed)),
            peer_address,
            accepted_at: Instant::now(),
            proxy_header: OnceLock::new(),
            progress: Progress::new(0, 0, 0),
            shared: OnceLock::new(),
            failures: Failures::default(),
            is_truncated: false,
        }
    }

    /// Where the client is, as far as the server knows.
    pub(crate) fn client_address(&self) -> &Address {
        self.proxy_header().and_then(|header| header.source.as_ref()).unwrap_or(&self.peer_address)
    }

    pub(crate) fn proxy_header(&self) -> Option<&ProxyHeader> {
        self.proxy_header.get().map(Box::as_ref)
    }

    pub(crate) fn set_proxy_header(&self, header: Box<ProxyHeader>) {
        // A connection has one.
        let _ = self.proxy_header.set(header);
    }

    fn progress(&self) -> &Progress {
        self.shared.get().map_or(&self.progress, |shared| shared)
    }

    /// Makes this process see the progress of a child process that is forked from now on.
    pub(crate) fn share(&self) -> io::Result<()> {
        let Progress { state, bytes_in, bytes_out, .. } = self.progress();
        let shared =
            sys::Shared::new(Progress::new(state.load(SeqCst), bytes_in.load(Relaxed), bytes_out.load(Relaxed)))?;
        // The server forks once for a request.
        let _ = self.shared.set(shared);
        Ok(())
    }

    pub(crate) fn closing(&self) -> Option<Closing> {
        closing_of(self.progress().state.load(SeqCst))
    }

    /// Why the server has shut the socket. `None` while it has not.
    pub(crate) fn shut_for(&self) -> Option<Closing> {
        let state = self.progress().state.load(SeqCst);
        closing_of(state).filter(|_| state & SHUT != 0)
    }

    /// Why a handler may take nothing more, not even what was received. `None` while it may: a drain leaves it that until
    /// it cuts the connection.
    #[inline]
    pub(crate) fn refuses_input_for(&self) -> Option<Closing> {
        let state = self.progress().state.load(SeqCst);
        closing_of(state).filter(|&closing| closing != Closing::Draining || state & SHUT != 0)
    }

    /// Whether the server has shut both directions.
    #[inline]
    pub(crate) fn is_cut(&self) -> bool {
        self.progress().state.load(SeqCst) & CUT != 0
    }

    pub(crate) fn begin_receiving(&self) -> Option<Closing> {
        closing_of(self.progress().state.fetch_or(RECEIVING, SeqCst))
    }

    /// Must come after the received bytes are counted.
    pub(crate) fn end_receiving(&self) -> Option<Closing> {
        closing_of(self.progress().state.fetch_and(!RECEIVING, SeqCst))
    }

    pub(crate) fn is_receiving(&self) -> bool {
        self.progress().state.load(SeqCst) & RECEIVING != 0
    }

    pub(crate) fn count_in(&self, bytes: usize) {
        self.progress().bytes_in.fetch_add(bytes as u64, Relaxed);
        self.failures.note_success();
    }

    pub(crate) fn bytes_in(&self) -> u64 {
        self.progress().bytes_in.load(Relaxed)
    }

    pub(crate) fn count_out(&self, bytes: usize) {
        self.progress().bytes_out.fetch_add(bytes as u64, Relaxed);
        self.failures.note_success();
    }

    pub(crate) fn bytes_out(&self) -> u64 {
        self.progress().bytes_out.load(Relaxed)
    }

    /// Marks the end of this request as counted. Returns true for the first call, in any process that shares the state.
    pub(crate) fn mark_counted(&self) -> bool {
        let is_counted = &self.progress().is_counted;
        !is_counted.load(SeqCst) && !is_counted.swap(true, SeqCst)
    }

    pub(crate) fn info(&self, now: Instant) -> ConnectionInfo {
        ConnectionInfo {
            id: self.id,
            client_address: self.client_address().clone(),
            age: now.saturating_duration_since(self.accepted_at),
            bytes_in: self.bytes_in(),
            bytes_out: self.bytes_out(),
            closing: self.closing(),
        }
    }

    /// Sets why the server ends the connection, unless it has a reason already.
    pub(crate) fn mark(&self, closing: Closing) -> Marked {
        let mark = |state| closing_of(state).is_none().then_some(state | (closing as u32 + 1) << CLOSING);
        let before = self.progress().state.fetch_update(SeqCst, SeqCst, mark);
        match before {
            Ok(before) if before & RECEIVING == 0 => Marked::BeforeReceive,
            Ok(_) => Marked::DuringReceive,
            Err(_) => Marked::Already,
        }
    }

    /// Whether the server has ended the connection, and not the handler by itself.
    pub(crate) fn is_told(&self) -> bool {
        self.progress().state.load(SeqCst) & TOLD != 0
    }

    /// Must come before the socket is shut.
    fn mark_shut(&self, how: Shutdown) {
        let shut = if how == Shutdown::Both { SHUT | CUT } else { SHUT };
        self.progress().state.fetch_or(shut, SeqCst);
    }

    /// How many of the bytes that had arrived when the drain began the handler may still read. The first call
    /// measures what is unread. The thread that stops the server makes it, or the receiving thread if there is one.
    pub(crate) fn bytes_left_to_drain(&self, unread: impl FnOnce() -> u64) -> u64 {
        let Progress { bytes_in, drain_limit, .. } = self.progress();
        if drain_limit.load(SeqCst) == NOT_MEASURED {
            let measured = bytes_in.load(Relaxed).saturating_add(unread());
            let _ = drain_limit.compare_exchange(NOT_MEASURED, measured, SeqCst, SeqCst);
        }
        drain_limit.load(SeqCst).saturating_sub(self.bytes_in())
    }

    /// Nothing is left to read, although the measure says so: another reader of the descriptor has read it.
    pub(crate) fn forget_unread_bytes(&self) {
        self.progress().drain_limit.store(0, SeqCst);
    }

    /// Notes that this connection had the error, and returns the error.
    pub(crate) fn note_error(&self, error: io::Error) -> io::Error {
        self.failures.note(error.kind());
        error
    }

    /// The error of a read or a write that has failed because of the client, and not in a system call.
    pub(crate) fn client_error(&self, kind: io::ErrorKind, message: &'static str) -> io::Error {
        self.note_error(io::Error::new(kind, ClientFailure { connection: self.id.number(), kind, message }))
    }

    /// The error of a read or a write on a connection that the server ends. From now on the handler knows of it.
    pub(crate) fn closing_error(&self, closing: Closing) -> io::Error {
        self.progress().state.fetch_or(TOLD, SeqCst);
        self.failures.note_end_by_server();
        closing.into_error()
    }

    pub(crate) fn failures(&self) -> &Failures {
        &self.failures
    }
}

/// What [`ConnectionState::mark`] has found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Marked {
    /// The reason is set, and no thread is receiving: later receives see it.
    BeforeReceive,
    /// The reason is set while a thread is receiving, which sees it when the receive ends.
    DuringReceive,
    /// The connection had a reason.
    Already,
}

/// A connection or a packet that the server can end.
pub(crate) trait Endpoint: Send + Sync {
    fn state(&self) -> &ConnectionState;

    /// The user at the other end of a Unix connection. `None` if the kernel does not say.
    fn user(&self) -> Option<u32>;

    /// shutdown(2), which wakes a waiting handler. Of what is held back, [`Shutdown::Both`] sends before that what the kernel
    /// takes at once. Does nothing for a packet.
    fn shut_down(&self, how: Shutdown);

    /// Begins to drain: the handler still answers what the kernel has received by now.
    fn drain(&self);
}

impl dyn Endpoint + '_ {
    /// Ends the connection for this reason, unless it has one already. A waiting handler wakes when `how` shuts the
    /// socket. Without `how`, its own deadlines end the wait.
    pub(crate) fn end(&self, closing: Closing, how: Option<Shutdown>) {
        self.state().mark(closing);
        if let Some(how) = how {
            self.state().mark_shut(how);
            self.shut_down(how);
        }
    }
}

/// One request under way, as [`ServerHandle::connections`](crate::ServerHandle::connections) lists it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// The number of the request.
    pub id: ConnectionId,
    /// Where the request comes from.
    pub client_address: Address,
    /// How long ago it was accepted.
    pub age: Duration,
    /// How many bytes were received.
    pub bytes_in: u64,
    /// How many bytes were sent.
    pub bytes_out: u64,
    /// Why the server is ending it. `None` while it is not.
    pub closing: Option<Closing>,
}

//! The requests that are under way: the registry, its counters, deadlines, and the drain.

use std::{
    collections::HashMap,
    fmt, io,
    net::{IpAddr, Shutdown},
    sync::{
        Arc, Weak,
        atomic::{
            AtomicU32, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::{
    address::Address,
    limits::{self, Clients, Room},
    options::Options,
};

/// The number of a request, which no other request of this process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why the server is ending a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// The server is stopping.
    Draining = 1,
    /// The peer was silent for `timeouts(idle)`.
    Idle = 2,
    /// The connection has lasted for `timeouts(lifetime)`.
    Lifetime = 3,
    /// [`ServerHandle::close`](crate::ServerHandle::close) was called for it.
    Kicked = 4,
}

impl Closing {
    const ALL: [Closing; 4] = [Closing::Draining, Closing::Idle, Closing::Lifetime, Closing::Kicked];

    /// What a read or a write fails with that the server has cut short.
    pub(crate) fn into_error(self) -> io::Error {
        let (kind, reason) = match self {
            Closing::Draining => (io::ErrorKind::ConnectionAborted, "the server has stopped"),
            Closing::Idle => (io::ErrorKind::TimedOut, "the peer was silent for the idle timeout"),
            Closing::Lifetime => (io::ErrorKind::TimedOut, "the connection has reached its lifetime"),
            Closing::Kicked => (io::ErrorKind::ConnectionAborted, "the server has closed this connection"),
        };
        io::Error::new(kind, reason)
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
            Waiting::BetweenRequests | Waiting::InRequest => "the peer sent nothing for the timeout of a read",
            Waiting::ToSend => "the peer took nothing for the timeout of a write",
        }
    }
}

/// What is known of a request while it is under way.
pub struct Record {
    pub(crate) id: ConnectionId,
    pub(crate) client_address: Address,
    accepted_at: Instant,
    /// The [`Waiting`] bits, `STARTED`, `SHUT`, and from `CLOSING` on the [`Closing`]: in one word, so that a handler
    /// which begins to wait and a server which wants to end that wait cannot miss each other.
    state: AtomicU32,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    /// Of a packet, the end was cut off.
    pub(crate) truncated: bool,
}

/// The handler runs.
const STARTED: u32 = 8;
/// The server has shut the socket: an end of file is not the peer's.
const SHUT: u32 = 16;
const CLOSING: u32 = 8;

fn closing_of(state: u32) -> Option<Closing> {
    Closing::ALL.get((state >> CLOSING).checked_sub(1)? as usize).copied()
}

impl Record {
    pub(crate) fn new(client_address: Address) -> Record {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Record {
            id: ConnectionId(NEXT.fetch_add(1, Relaxed)),
            client_address,
            accepted_at: Instant::now(),
            state: AtomicU32::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            truncated: false,
        }
    }

    pub(crate) fn closing(&self) -> Option<Closing> {
        closing_of(self.state.load(SeqCst))
    }

    /// The handler is about to run. `false`: the server has begun to stop, and it must not.
    pub(crate) fn start(&self) -> bool {
        closing_of(self.state.fetch_or(STARTED, SeqCst)).is_none()
    }

    pub(crate) fn begin_wait(&self, waiting: Waiting) -> Option<Closing> {
        closing_of(self.state.fetch_or(waiting as u32, SeqCst))
    }

    /// Returns why the server has shut the socket, if it has.
    pub(crate) fn end_wait(&self, waiting: Waiting) -> Option<Closing> {
        let state = self.state.fetch_and(!(waiting as u32), SeqCst);
        closing_of(state).filter(|_| state & SHUT != 0)
    }

    /// Why the server has cut the request short, if it has.
    pub(crate) fn shut_for(&self) -> Option<Closing> {
        let state = self.state.load(SeqCst);
        closing_of(state).filter(|_| state & SHUT != 0)
    }

    pub(crate) fn count_in(&self, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn count_out(&self, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Relaxed);
    }

    /// Gives the reason unless there is one already; the state before.
    fn mark(&self, closing: Closing) -> u32 {
        let mark = |state| closing_of(state).is_none().then_some(state | (closing as u32) << CLOSING);
        self.state.fetch_update(SeqCst, SeqCst, mark).unwrap_or_else(|state| state)
    }

    /// What changes when the peer does something, or the handler does not wait for it.
    fn activity(&self) -> Option<u64> {
        let received = self.bytes_in.load(Relaxed);
        match self.state.load(SeqCst) {
            state if state & Waiting::ToSend as u32 != 0 => Some(received + self.bytes_out.load(Relaxed)),
            state if state & (Waiting::BetweenRequests as u32 | Waiting::InRequest as u32) != 0 => Some(received),
            _ => None,
        }
    }
}

/// A request that the server can end.
pub trait Tracked: Send + Sync {
    fn record(&self) -> &Record;

    /// shutdown(2), which wakes a handler that waits. Nothing for a datagram.
    fn shut(&self, how: Shutdown);

    /// Something has come that the handler has not read.
    fn has_input(&self) -> bool;
}

impl dyn Tracked {
    /// Ends the request if it is between two, and otherwise lets it end.
    fn drain(&self) {
        let state = self.record().mark(Closing::Draining);
        if state & Waiting::BetweenRequests as u32 != 0 && !self.has_input() {
            self.record().state.fetch_or(SHUT, SeqCst);
            self.shut(Shutdown::Read);
        }
    }

    fn end(&self, closing: Closing) {
        self.record().mark(closing);
        self.record().state.fetch_or(SHUT, SeqCst);
        self.shut(Shutdown::Both);
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

/// What a server has done so far.
///
/// At any moment `accepted` is the sum of `active` and of all the ways in which a request can have ended: `finished`,
/// `failed`, `panicked`, `disconnected`, `timed_out`, `refused` and `rejected`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Connections accepted, or datagrams received.
    pub accepted: u64,
    /// Under way now.
    pub active: u64,
    /// Ended with `Ok`.
    pub finished: u64,
    /// Ended with an error that is none of those below.
    pub failed: u64,
    /// Ended by a panic.
    pub panicked: u64,
    /// Ended because the peer hung up in the middle.
    pub disconnected: u64,
    /// Ended by `timeouts(idle)`, `timeouts(lifetime)` or the handler's own `timeout`.
    pub timed_out: u64,
    /// Turned away by `verify_request`.
    pub refused: u64,
    /// Turned away by a limit, or because the server was stopping.
    pub rejected: u64,
    /// How often accepting failed for want of something, such as descriptors. These are no requests.
    pub accept_errors: u64,
    /// Datagrams that were longer than `max_packet_size`; each is also counted as what became of it.
    pub truncated: u64,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Finished,
    Failed,
    Panicked,
    Disconnected,
    TimedOut,
    Refused,
    Rejected,
}

impl Stats {
    fn count(&mut self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Finished => &mut self.finished,
            Outcome::Failed => &mut self.failed,
            Outcome::Panicked => &mut self.panicked,
            Outcome::Disconnected => &mut self.disconnected,
            Outcome::TimedOut => &mut self.timed_out,
            Outcome::Refused => &mut self.refused,
            Outcome::Rejected => &mut self.rejected,
        };
        *counter += 1;
    }
}

/// How the requests that were under way at [`shutdown`](crate::ServerHandle::shutdown) ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// In time.
    pub finished: usize,
    /// After their connections had been cut, `timeouts(shutdown)` being over.
    pub forced: usize,
    /// Not at all: their handlers still run, without a connection.
    pub leaked: usize,
}

/// How long the handlers have to return once their connections are cut: they need wait for nobody any more.
const FORCED_GRACE: Duration = Duration::from_secs(1);

/// The times within `timeouts(idle)` at which the supervisor looks: a connection is ended at most an eighth late.
const IDLE_LOOKS: u32 = 8;

/// All requests of one server that are under way.
pub(crate) struct Connections {
    registry: Mutex<Registry>,
    /// A request ended, or the server: for those who wait for that.
    ended: Condvar,
    /// A deadline has come into being: for the supervisor.
    deadlines: Condvar,
}

struct Registry {
    entries: HashMap<ConnectionId, Entry>,
    clients: Clients,
    room: Room,
    stats: Stats,
    idle: Option<Duration>,
    lifetime: Option<Duration>,
    shutdown: Duration,
    stopping: Option<Stopping>,
    /// A socket is bound or a request is served: the server has not ended.
    open: bool,
    supervised: bool,
    /// The supervisor knows of no deadline, and waits until it is told of one.
    supervisor_sleeps: bool,
}

struct Entry {
    /// Weak, so that the one who ends the request decides when its socket is closed: before it is unregistered.
    request: Weak<dyn Tracked>,
    client: Option<IpAddr>,
    /// What the peer had done, and when that was seen to have changed.
    seen: (u64, Instant),
}

struct Stopping {
    deadline: Instant,
    forced: bool,
    given_up: bool,
    drained: Drained,
}

/// There is no room for the request, its client has too many, or the server is stopping.
pub(crate) struct Rejected;

impl Connections {
    pub(crate) fn new(options: &Options, concurrent: usize) -> Connections {
        let Options { limits, timeouts, .. } = options;
        Connections {
            registry: Mutex::new(Registry {
                entries: HashMap::new(),
                clients: Clients::new(limits.per_client),
                room: Room::new(limits.connections.unwrap_or(concurrent)),
                stats: Stats::default(),
                idle: timeouts.idle,
                lifetime: timeouts.lifetime,
                shutdown: timeouts.shutdown,
                stopping: None,
                open: true,
                supervised: false,
                supervisor_sleeps: false,
            }),
            ended: Condvar::new(),
            deadlines: Condvar::new(),
        }
    }

    /// Whether one more can be served; if not, the one that makes room is told to wake the acceptor.
    pub(crate) fn has_room(&self) -> bool {
        self.registry.lock().room.is_left()
    }

    /// `Ok(true)`: there is a deadline to be kept, and nobody yet who keeps it.
    pub(crate) fn register(&self, request: &Arc<dyn Tracked>) -> Result<bool, Rejected> {
        let record = request.record();
        let client = limits::client_of(&record.client_address);
        let mut registry = self.registry.lock();
        registry.stats.accepted += 1;
        registry.stats.truncated += u64::from(record.truncated);
        if registry.stopping.is_some() || !registry.room.is_left() || !registry.clients.enter(client) {
            registry.stats.count(Outcome::Rejected);
            return Err(Rejected);
        }
        registry.room.enter();
        registry.stats.active += 1;
        let entry = Entry { request: Arc::downgrade(request), client, seen: (0, record.accepted_at) };
        registry.entries.insert(record.id, entry);
        if registry.idle.is_none() && registry.lifetime.is_none() {
            return Ok(false);
        }
        if std::mem::take(&mut registry.supervisor_sleeps) {
            self.deadlines.notify_one();
        }
        Ok(!std::mem::replace(&mut registry.supervised, true))
    }

    /// The request has ended. `true`: the acceptor waits for the room.
    pub(crate) fn unregister(&self, id: ConnectionId, outcome: Outcome) -> bool {
        let mut registry = self.registry.lock();
        let Some(entry) = registry.entries.remove(&id) else { return false };
        registry.clients.leave(entry.client);
        registry.stats.active -= 1;
        registry.stats.count(outcome);
        if let Some(stopping) = &mut registry.stopping {
            match (stopping.given_up, stopping.forced) {
                (true, _) => {}
                (false, true) => stopping.drained.forced += 1,
                (false, false) => stopping.drained.finished += 1,
            }
            self.ended.notify_all();
        }
        registry.room.leave()
    }

    pub(crate) fn count_accept_error(&self) {
        self.registry.lock().stats.accept_errors += 1;
    }

    pub(crate) fn stats(&self) -> Stats {
        self.registry.lock().stats
    }

    pub(crate) fn list(&self) -> Vec<ConnectionInfo> {
        let now = Instant::now();
        let info = |request: Arc<dyn Tracked>| {
            let record = request.record();
            ConnectionInfo {
                id: record.id,
                client_address: record.client_address.clone(),
                age: now.saturating_duration_since(record.accepted_at),
                bytes_in: record.bytes_in.load(Relaxed),
                bytes_out: record.bytes_out.load(Relaxed),
                closing: record.closing(),
            }
        };
        let mut list: Vec<_> = self.registry.lock().requests().map(info).collect();
        list.sort_unstable_by_key(|info| info.id);
        list
    }

    /// Ends one connection. `false`: there is none of that number.
    pub(crate) fn close(&self, id: ConnectionId) -> bool {
        let request = self.registry.lock().entries.get(&id).and_then(|entry| entry.request.upgrade());
        request.is_some_and(|request| {
            request.end(Closing::Kicked);
            true
        })
    }

    /// From here on nothing is registered and no handler starts; those that wait between two requests see the end.
    /// `true`: there is a drain to be supervised, and nobody yet who does.
    pub(crate) fn stop(&self) -> bool {
        let mut registry = self.registry.lock();
        if registry.stopping.is_some() {
            return false;
        }
        let deadline = after(Instant::now(), registry.shutdown);
        registry.stopping = Some(Stopping { deadline, forced: false, given_up: false, drained: Drained::default() });
        registry.requests().for_each(|request| request.drain());
        self.ended.notify_all();
        self.deadlines.notify_all();
        !registry.entries.is_empty() && !std::mem::replace(&mut registry.supervised, true)
    }

    /// There is no socket any more and nobody who serves.
    pub(crate) fn close_down(&self) {
        self.registry.lock().open = false;
        self.ended.notify_all();
        self.deadlines.notify_all();
    }

    /// Waits until all requests have ended or been given up; only after [`stop`](Self::stop).
    pub(crate) fn drain(&self) {
        let mut registry = self.registry.lock();
        while registry.drained().is_none() {
            // The supervisor does the same, but it may have found no thread.
            let next = registry.sweep(Instant::now());
            self.wait(&self.ended, &mut registry, next);
        }
    }

    /// Waits until the server has ended.
    pub(crate) fn wait_until_ended(&self) -> Drained {
        let mut registry = self.registry.lock();
        loop {
            match (registry.drained(), &registry.stopping) {
                (Some(drained), Some(stopping)) if !registry.open || stopping.given_up => return drained,
                (None, None) if !registry.open => return Drained::default(),
                _ => self.ended.wait(&mut registry),
            }
        }
    }

    /// No thread could be started: the next one who needs a supervisor tries again.
    pub(crate) fn supervisor_is_missing(&self) {
        self.registry.lock().supervised = false;
    }

    /// Keeps the deadlines until the server has ended.
    pub(crate) fn supervise(&self) {
        let mut registry = self.registry.lock();
        while registry.open || !registry.entries.is_empty() {
            let next = registry.sweep(Instant::now());
            if registry.drained().is_some() {
                self.ended.notify_all();
                return;
            }
            registry.supervisor_sleeps = next.is_none();
            self.wait(&self.deadlines, &mut registry, next);
        }
    }

    fn wait(&self, condition: &Condvar, registry: &mut MutexGuard<'_, Registry>, until: Option<Instant>) {
        match until {
            Some(until) => drop(condition.wait_until(registry, until)),
            None => condition.wait(registry),
        }
    }
}

fn requests_of(entries: &HashMap<ConnectionId, Entry>) -> impl Iterator<Item = Arc<dyn Tracked>> {
    entries.values().filter_map(|entry| entry.request.upgrade())
}

impl Registry {
    fn requests(&self) -> impl Iterator<Item = Arc<dyn Tracked>> {
        requests_of(&self.entries)
    }

    /// How the drain has gone, once it is over.
    fn drained(&self) -> Option<Drained> {
        let stopping = self.stopping.as_ref()?;
        (self.entries.is_empty() || stopping.given_up).then_some(stopping.drained)
    }

    /// Ends what is overdue, and says when to look again.
    fn sweep(&mut self, now: Instant) -> Option<Instant> {
        if let Some(stopping) = &mut self.stopping {
            return Registry::sweep_drain(&self.entries, stopping, now);
        }
        let Registry { entries, idle, lifetime, .. } = self;
        entries.values_mut().filter_map(|entry| entry.sweep(*idle, *lifetime, now)).min()
    }

    fn sweep_drain(entries: &HashMap<ConnectionId, Entry>, stopping: &mut Stopping, now: Instant) -> Option<Instant> {
        if !stopping.forced && now >= stopping.deadline {
            stopping.forced = true;
            stopping.deadline = now + FORCED_GRACE;
            requests_of(entries).for_each(|request| request.end(Closing::Draining));
        } else if stopping.forced && !stopping.given_up && now >= stopping.deadline {
            stopping.given_up = true;
            stopping.drained.leaked = entries.len();
        }
        (!stopping.given_up).then_some(stopping.deadline)
    }
}

impl Entry {
    /// Ends the request if it is overdue; else the time to look again.
    fn sweep(&mut self, idle: Option<Duration>, lifetime: Option<Duration>, now: Instant) -> Option<Instant> {
        let request = self.request.upgrade()?;
        let record = request.record();
        let end_of_life = lifetime.map(|lifetime| after(record.accepted_at, lifetime));
        if end_of_life.is_some_and(|end| now >= end) {
            request.end(Closing::Lifetime);
            return None;
        }
        let next_look = idle.and_then(|idle| {
            let activity = record.activity();
            if activity != Some(self.seen.0) {
                self.seen = (activity.unwrap_or(u64::MAX), now);
            } else if now >= after(self.seen.1, idle) {
                request.end(Closing::Idle);
                return None;
            }
            Some(after(self.seen.1, idle).min(after(now, idle / IDLE_LOOKS)))
        });
        end_of_life.into_iter().chain(next_look).min()
    }
}

/// A time that no clock can express is a year away, when it will be looked at again.
fn after(time: Instant, duration: Duration) -> Instant {
    time.checked_add(duration).unwrap_or_else(|| Instant::now() + Duration::from_secs(86_400 * 365))
}

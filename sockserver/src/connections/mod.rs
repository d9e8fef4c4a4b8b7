//! All connections that are under way: admitting them, keeping their deadlines, and waiting for their end.
//!
//! What has to be done to a connection is collected under the lock, and done after the lock is released: no system call
//! and no user code runs under it.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::{IpAddr, Shutdown},
    sync::Weak,
    time::{Duration, Instant},
};

use crate::{
    address::Address,
    io::{
        closing::{Closing, GOODBYE},
        shared::Shared,
        state::{ConnectionId, ConnectionInfo, ConnectionState, Endpoint},
    },
    options::{Limits, OnLimit, Options},
    primitives::{
        Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    sys,
};

mod access;
mod bans;
pub(crate) mod drain;
mod expiring;
mod gate;
pub(crate) mod limits;
mod rates;
mod registry;
mod shared_clients;
pub(crate) mod stats;

use drain::{Drain, DrainPhase, DrainReport};
use gate::Gate;
use limits::{Client, Clients, Handshakes, Permits, Rejected, Returned, Room};
use rates::Pace;
use registry::{ActiveConnection, Registry, Supervisor, after};
use shared_clients::SharedClients;
use stats::{Counters, Outcome, Stats};

/// How long a handler has to return once a drain has cut its connection, and to say goodbye once a deadline has ended its
/// read. The server waits for no client longer than this.
pub(crate) const GRACE: Duration = GOODBYE;

/// All connections of one server that are under way; on datagrams, all packets.
pub(crate) struct Connections {
    registry: Mutex<Registry>,
    /// Child processes count in them as well.
    counters: Shared<Counters>,
    /// The clients of the children, which learn of them from a header. `None`: the registry counts the clients.
    shared_clients: Option<sys::Shared<SharedClients>>,
    /// `limits(per_client)`. Zero: there is none. In a child, as it was at the fork.
    per_client: AtomicUsize,
    /// A connection above the limit is turned away.
    rejects: bool,
    /// Something is counted by client, so that the kernel is asked which user a Unix client is.
    counts_users: AtomicBool,
    /// Connections begin with a header, which names the client.
    is_behind_proxy: bool,
    /// Connections begin with a header or a TLS handshake.
    has_preamble: bool,
    /// The connections are served by child processes.
    forks: bool,
    pub(crate) gate: Gate,
    /// Wakes the threads that wait for the end of a connection, of a worker thread or of the server.
    ended: Condvar,
    /// Wakes the supervisor, for a deadline that may be earlier than the one it waits for.
    deadlines: Condvar,
}

/// What the caller has to know after the admission of a connection.
pub(crate) struct Admission {
    pub(crate) room: Room,
    /// When `limits(rate)` leaves room. `None`: it does.
    pub(crate) room_at: Option<Instant>,
    pub(crate) supervision: Supervision,
}

/// Whether a thread keeps the deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Supervision {
    /// There are no deadlines, or a thread keeps them.
    Provided,
    /// The caller has to start the supervisor.
    Needed,
}

/// Why the supervisor has returned.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// `timeouts(linger)` is over: the server has to drain.
    Drain,
    /// No deadline is left.
    Nothing,
}

impl Connections {
    /// `forks`: the connections are served by child processes.
    /// `shakes_hands`: connections begin with a TLS handshake.
    pub(crate) fn new(capacity: usize, options: &Options, forks: bool, shakes_hands: bool) -> io::Result<Connections> {
        let Options { limits, timeouts, .. } = options;
        let is_behind_proxy = options.proxy.trust.is_some();
        let shared_clients = match forks && is_behind_proxy {
            true => Some(sys::Shared::new(SharedClients::default())?),
            false => None,
        };
        if shared_clients.is_some() {
            SharedClients::check(limits, capacity)?;
        }
        Ok(Connections {
            registry: Mutex::new(Registry {
                active: BTreeMap::new(),
                clients: Clients::new(limits.per_client),
                permits: Permits::new(capacity),
                handshakes: Handshakes::new(Handshakes::limit(limits, capacity)),
                pace: Pace::new(limits.rate),
                limits: limits.clone(),
                lifetime: timeouts.lifetime,
                next_lifetime: ConnectionId::FIRST,
                shutdown: timeouts.shutdown,
                ending: VecDeque::new(),
                drain_at: None,
                drain: None,
                workers: 0,
                forks,
                is_open: true,
                supervisor: Supervisor::Missing,
            }),
            counters: Shared::new(forks)?,
            shared_clients,
            per_client: AtomicUsize::new(limits.per_client.unwrap_or(0)),
            rejects: limits.on_limit == OnLimit::Reject,
            counts_users: AtomicBool::new(counts_users(limits)),
            is_behind_proxy,
            has_preamble: is_behind_proxy || shakes_hands,
            forks,
            gate: Gate::new(options),
            ended: Condvar::new(),
            deadlines: Condvar::new(),
        })
    }

    /// Whether another connection can be admitted. If the server is full, the leader is woken when there is room.
    pub(crate) fn look_for_room(&self) -> Admission {
        let mut registry = self.registry.lock();
        let mut supervision = Supervision::Provided;
        // A leader that turns clients away does not wait for a permit.
        if registry.permits.room() == Room::Full && !self.rejects {
            registry.permits.await_return();
        }
        if registry.handshakes.room() == Room::Full {
            registry.handshakes.await_place();
            supervision = self.ask_for_supervision(&mut registry);
        }
        let (room, room_at) = registry.room();
        Admission { room, room_at, supervision }
    }

    /// Admits a connection that was accepted.
    pub(crate) fn register(
        &self,
        state: &ConnectionState,
        endpoint: Weak<dyn Endpoint>,
    ) -> Result<Admission, Rejected> {
        // A peer that is a proxy is no client: `introduce` counts the client.
        let client = if self.is_behind_proxy { None } else { self.client_of(state, &endpoint) };
        let welcome = self.gate.check(state.peer_address.ip(), client);
        let mut registry = self.registry.lock();
        self.counters.count_accepted(state.is_truncated);
        let entered = welcome.and_then(|()| match registry.obstacle() {
            // With `OnLimit::Wait` the leader has seen room, and a limit was lowered since.
            Some(obstacle) if self.rejects => Err(obstacle),
            _ => registry.clients.enter(client),
        });
        entered.inspect_err(|_| self.counters.count_ended(Outcome::Rejected))?;
        registry.permits.take();
        registry.pace.take();
        let accepted_at = state.accepted_at;
        let connection = ActiveConnection { endpoint, client, has_place: true, accepted_at, is_ending: false };
        registry.insert(state.id, connection);
        if self.has_preamble {
            registry.handshakes.begin(state.id, state.accepted_at);
        }
        if registry.drain.is_some() {
            // The leader was accepting this connection when the server stopped. It is drained as the others are.
            state.mark(Closing::Draining);
        }
        let supervision = self.ask_for_supervision(&mut registry);
        let (room, room_at) = registry.room();
        Ok(Admission { room, room_at, supervision })
    }

    fn client_of(&self, state: &ConnectionState, endpoint: &Weak<dyn Endpoint>) -> Option<Client> {
        match &state.peer_address {
            Address::Inet(address) => Some(Client::at(address)),
            Address::Unix(_) if self.counts_users.load(SeqCst) => endpoint.upgrade()?.user().map(Client::User),
            Address::Unix(_) => None,
        }
    }

    fn client_behind_proxy(&self, address: &Address) -> Option<Client> {
        match address {
            Address::Inet(address) if self.is_behind_proxy => Some(Client::at(address)),
            // The user of a client behind a proxy is on another machine. A client without a proxy was counted before.
            _ => None,
        }
    }

    /// Has the deadlines kept. The supervisor is woken only if one passes before it looks again.
    fn ask_for_supervision(&self, registry: &mut Registry) -> Supervision {
        let Some(next) = registry.next_deadline() else { return Supervision::Provided };
        match registry.supervisor {
            Supervisor::Missing => {
                registry.supervisor = Supervisor::Awake;
                return Supervision::Needed;
            }
            Supervisor::Waiting(until) if until.is_none_or(|until| next < until) => {
                registry.supervisor = Supervisor::Awake;
                self.deadlines.notify_one();
            }
            Supervisor::Waiting(_) | Supervisor::Awake => {}
        }
        Supervision::Provided
    }

    /// The preamble of a connection is complete, and its client is known. In a child it does not lock the registry, and
    /// leaves the rest to [`end_handshake`](Self::end_handshake) in the parent.
    pub(crate) fn introduce(&self, id: ConnectionId, address: &Address) -> (Result<(), Rejected>, Returned) {
        let client = self.client_behind_proxy(address);
        let welcome = self.gate.check(address.ip(), client);
        if self.forks {
            let entered = welcome.and_then(|()| match (&self.shared_clients, client, self.per_client.load(SeqCst)) {
                (Some(clients), Some(client), limit @ 1..) => clients.enter(id, client, limit),
                _ => Ok(()),
            });
            return (entered, Returned::NotAwaited);
        }
        let mut registry = self.registry.lock();
        let entered = welcome.and_then(|()| registry.clients.enter(client));
        if let (Ok(()), Some(_), Some(connection)) = (&entered, client, registry.active.get_mut(&id)) {
            connection.client = client;
        }
        (entered, registry.handshakes.end(id))
    }

    /// In the parent of the child that serves the connection: its preamble is complete, and this is its client.
    pub(crate) fn end_handshake(&self, id: ConnectionId, address: &Address) -> Returned {
        // The child has decided by its copy of the gate. Children that are forked from now on count the client.
        let _ = self.gate.check(address.ip(), self.client_behind_proxy(address));
        self.registry.lock().handshakes.end(id)
    }

    /// Must be called before the client can see the end of the connection.
    pub(crate) fn count_ended(&self, outcome: Outcome) {
        self.counters.count_ended(outcome);
    }

    pub(crate) fn limits(&self) -> Limits {
        self.registry.lock().limits.clone()
    }

    /// Sets other limits, for the connections that come from now on.
    pub(crate) fn set_limits(&self, limits: Limits, capacity: usize) -> io::Result<Returned> {
        if self.shared_clients.is_some() {
            SharedClients::check(&limits, capacity)?;
        }
        let mut registry = self.registry.lock();
        let fixed = [
            ("on_limit", limits.on_limit == registry.limits.on_limit),
            ("threads", limits.threads == registry.limits.threads),
        ];
        if let Some((name, _)) = fixed.iter().find(|(_, is_kept)| !is_kept) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("`limits.{name}` cannot change while the server runs: set it when the server is bound"),
            ));
        }
        self.per_client.store(limits.per_client.unwrap_or(0), SeqCst);
        self.counts_users.store(counts_users(&limits), SeqCst);
        let Registry { clients, active, .. } = &mut *registry;
        clients.set_limit(limits.per_client, active.values().filter_map(|connection| connection.client));
        let place = registry.handshakes.set_limit(Handshakes::limit(&limits, capacity));
        let mut returned = place.or(registry.permits.set_limit(capacity));
        if limits.rate != registry.limits.rate {
            registry.pace = Pace::new(limits.rate);
            // It may wait for a token of the bucket before.
            returned = Returned::Awaited;
        }
        let rate_per_client = limits.rate_per_client;
        registry.limits = limits;
        drop(registry);
        self.gate.set_rate(rate_per_client);
        Ok(returned)
    }

    pub(crate) fn ban(&self, ip: IpAddr, duration: Duration) {
        let now = Instant::now();
        self.gate.ban(ip, after(now, duration), now);
    }

    /// The limit of connections.
    pub(crate) fn limit(&self) -> usize {
        self.registry.lock().permits.limit()
    }

    pub(crate) fn has_reached_limit(&self) -> bool {
        self.registry.lock().permits.room() == Room::Full
    }

    /// Whether an eighth of the limit is free, or all of it.
    pub(crate) fn has_left_limit(&self) -> bool {
        let permits = &self.registry.lock().permits;
        permits.left() >= permits.limit().div_ceil(8)
    }

    /// Must be called before the client can see the end of the connection: where clients are turned away, its next
    /// connection must not be turned away for this one. Where they wait, the place is put back by
    /// [`unregister`](Self::unregister), and so it is where a child process ends the connection.
    pub(crate) fn put_place_back(&self, id: ConnectionId) -> Returned {
        if !self.forks && (self.rejects || self.per_client.load(SeqCst) > 0) {
            self.registry.lock().put_back(id)
        } else {
            Returned::NotAwaited
        }
    }

    /// The connection has ended.
    pub(crate) fn unregister(&self, id: ConnectionId) -> Returned {
        let mut registry = self.registry.lock();
        let returned = registry.put_back(id);
        if registry.remove(id).is_none() {
            return returned;
        }
        if let Some(clients) = &self.shared_clients {
            clients.leave(id);
        }
        let forks = registry.forks;
        if let Some(drain) = &mut registry.drain {
            drain.count_end(forks);
            if registry.active.is_empty() {
                self.ended.notify_all();
            }
        }
        returned
    }

    pub(crate) fn count_accept_error(&self) {
        self.counters.count_accept_error();
    }

    pub(crate) fn stats(&self) -> Stats {
        // Nothing is accepted meanwhile.
        let registry = self.registry.lock();
        Stats { handshaking: registry.handshakes.count() as u64, ..self.counters.stats() }
    }

    pub(crate) fn list(&self) -> Vec<ConnectionInfo> {
        let endpoints = self.registry.lock().endpoints();
        let now = Instant::now();
        endpoints.iter().map(|endpoint| endpoint.state().info(now)).collect()
    }

    /// Ends one connection, which is cut when its handler has had time to say goodbye. `None`: no connection has this
    /// number.
    pub(crate) fn close(&self, id: ConnectionId) -> Option<Supervision> {
        let mut registry = self.registry.lock();
        let endpoint = registry.cut_later(id, Instant::now())?.endpoint.upgrade()?;
        let supervision = self.ask_for_supervision(&mut registry);
        drop(registry);
        endpoint.end(Closing::Kicked, Some(Shutdown::Read));
        Some(supervision)
    }

    /// Has the server drain after this time; until then it accepts. A second call changes nothing.
    pub(crate) fn drain_later(&self, linger: Duration) -> Supervision {
        let mut registry = self.registry.lock();
        if registry.drain.is_some() || registry.drain_at.is_some() {
            return Supervision::Provided;
        }
        registry.drain_at = Some(after(Instant::now(), linger));
        self.ask_for_supervision(&mut registry)
    }

    /// Begins the drain: idle connections end, and nothing more is registered but a connection that the leader is just
    /// accepting.
    pub(crate) fn begin_drain(&self) -> Supervision {
        let mut registry = self.registry.lock();
        if registry.drain.is_some() {
            return Supervision::Provided;
        }
        registry.drain_at = None;
        registry.drain = Some(Drain::new(after(Instant::now(), registry.shutdown)));
        let endpoints = registry.endpoints();
        let is_empty = registry.active.is_empty();
        let supervision = if is_empty { Supervision::Provided } else { self.ask_for_supervision(&mut registry) };
        drop(registry);
        endpoints.iter().for_each(|endpoint| endpoint.drain());
        self.ended.notify_all();
        self.deadlines.notify_all();
        supervision
    }

    /// The server has ended: releases the threads that wait for it.
    pub(crate) fn close_down(&self) {
        self.registry.lock().is_open = false;
        self.ended.notify_all();
        self.deadlines.notify_all();
    }

    /// Waits until the server begins to drain.
    pub(crate) fn wait_until_draining(&self) {
        let mut registry = self.registry.lock();
        while registry.drain.is_none() {
            self.wait(&self.ended, &mut registry, None);
        }
    }

    /// Waits until all connections have ended or been given up. To be called after [`begin_drain`](Self::begin_drain).
    pub(crate) fn finish_drain(&self) {
        let mut registry = self.registry.lock();
        loop {
            // The supervisor does this too, unless its thread could not be started.
            registry = self.keep_deadlines(registry);
            if registry.drained().is_some() {
                return;
            }
            let next = registry.next_deadline();
            self.wait(&self.ended, &mut registry, next);
        }
    }

    /// How much of `timeouts(shutdown)` is left.
    pub(crate) fn time_left_to_drain(&self) -> Duration {
        let registry = self.registry.lock();
        let drain = registry.drain.as_ref().filter(|drain| drain.phase == DrainPhase::Waiting);
        drain.map_or(Duration::ZERO, |drain| drain.deadline.saturating_duration_since(Instant::now()))
    }

    /// A worker thread is about to be started.
    pub(crate) fn worker_started(&self) {
        self.registry.lock().workers += 1;
    }

    /// A worker thread holds nothing of the server any more, or could not be started.
    pub(crate) fn worker_ended(&self) {
        let mut registry = self.registry.lock();
        registry.workers -= 1;
        // Before that, only the end of a connection matters to a thread that waits.
        if registry.drained().is_some() && !registry.has_idle_workers() {
            self.ended.notify_all();
        }
    }

    /// After a drain: waits until all worker threads have ended, except those whose handlers do not return. For a hook that
    /// does not return it waits no longer than [`GRACE`].
    pub(crate) fn join_workers(&self) {
        let deadline = Instant::now() + GRACE;
        let mut registry = self.registry.lock();
        while registry.has_idle_workers() && Instant::now() < deadline {
            self.wait(&self.ended, &mut registry, Some(deadline));
        }
    }

    /// Ends the connections whose deadlines have passed: for a server that can have no supervisor.
    pub(crate) fn end_overdue(&self) {
        drop(self.keep_deadlines(self.registry.lock()));
    }

    /// When the next deadline passes.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.registry.lock().next_deadline()
    }

    /// Whether `timeouts(linger)` is over and the server has to drain.
    pub(crate) fn is_to_drain(&self) -> bool {
        self.registry.lock().is_to_drain(Instant::now())
    }

    /// `None`: no drain has begun.
    pub(crate) fn drain_phase(&self) -> Option<DrainPhase> {
        self.registry.lock().drain.as_ref().map(|drain| drain.phase)
    }

    /// How the drain went, once it is over.
    pub(crate) fn drained(&self) -> Option<DrainReport> {
        self.registry.lock().drained()
    }

    /// Waits until the server has ended.
    pub(crate) fn wait_until_ended(&self) -> DrainReport {
        let mut registry = self.registry.lock();
        let mut given_up_at = None;
        loop {
            let mut next = None;
            // Without a supervisor, this thread keeps the deadlines.
            if registry.supervisor == Supervisor::Missing {
                registry = self.keep_deadlines(registry);
                next = registry.next_deadline();
            }
            if let Some(report) = registry.drained() {
                // A handler that does not return may run on the thread that would close the server down.
                let deadline = *given_up_at.get_or_insert_with(|| Instant::now() + GRACE);
                if !registry.is_open || (!registry.active.is_empty() && Instant::now() >= deadline) {
                    return report;
                }
                next = (!registry.active.is_empty()).then_some(deadline);
            }
            self.wait(&self.ended, &mut registry, next);
        }
    }

    /// The supervisor could not be started. The next caller that needs one tries again.
    pub(crate) fn supervisor_is_missing(&self) {
        self.registry.lock().supervisor = Supervisor::Missing;
        self.ended.notify_all();
    }

    /// Keeps the deadlines until the server has ended or has to drain.
    pub(crate) fn supervise(&self) -> Due {
        let mut registry = self.keep_deadlines(self.registry.lock());
        // To be asked after the lock was last released: the server may have ended meanwhile.
        while registry.is_open || !registry.active.is_empty() {
            if registry.is_to_drain(Instant::now()) {
                return Due::Drain;
            }
            if registry.drained().is_some() {
                // The leader may still register a connection that it was accepting, which then needs a new supervisor.
                registry.supervisor = Supervisor::Missing;
                self.ended.notify_all();
                break;
            }
            let next = registry.next_deadline();
            registry.supervisor = Supervisor::Waiting(next);
            self.wait(&self.deadlines, &mut registry, next);
            registry.supervisor = Supervisor::Awake;
            registry = self.keep_deadlines(registry);
        }
        Due::Nothing
    }

    /// Ends the connections whose deadlines have passed, without the lock.
    fn keep_deadlines<'a>(&'a self, mut registry: MutexGuard<'a, Registry>) -> MutexGuard<'a, Registry> {
        loop {
            let overdue = registry.collect_overdue(Instant::now());
            if overdue.is_empty() {
                return registry;
            }
            drop(registry);
            overdue.into_iter().for_each(registry::Action::take);
            registry = self.registry.lock();
        }
    }

    fn wait(&self, condition: &Condvar, registry: &mut MutexGuard<'_, Registry>, until: Option<Instant>) {
        match until {
            Some(until) => drop(condition.wait_until(registry, until)),
            None => condition.wait(registry),
        }
    }
}

fn counts_users(limits: &Limits) -> bool {
    limits.per_client.is_some() || limits.rate_per_client.is_some()
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, mpsc},
        thread,
    };

    use super::*;

    struct Stubborn(ConnectionState);

    impl Endpoint for Stubborn {
        fn state(&self) -> &ConnectionState {
            &self.0
        }

        fn user(&self) -> Option<u32> {
            None
        }

        fn shut_down(&self, _how: Shutdown) {}

        fn drain(&self) {}
    }

    fn end_without_a_supervisor(wait: fn(&Connections)) {
        let mut options = Options::new();
        options.timeouts.shutdown = Duration::ZERO;
        let connections = Arc::new(Connections::new(1, &options, false, false).expect("no page is needed"));
        let endpoint: Arc<dyn Endpoint> = Arc::new(Stubborn(ConnectionState::new(Address::unix(""))));
        assert!(connections.register(endpoint.state(), Arc::downgrade(&endpoint)).is_ok());
        assert_eq!(connections.begin_drain(), Supervision::Needed);
        connections.supervisor_is_missing();
        let (ended, has_ended) = mpsc::channel();
        let waiting = connections.clone();
        thread::spawn(move || {
            wait(&waiting);
            ended.send(())
        });
        has_ended.recv_timeout(Duration::from_secs(20)).expect("a handler that does not return is given up");
        assert_eq!(connections.wait_until_ended().leaked, 1);
    }

    #[test]
    fn a_drain_ends_without_a_supervisor() {
        end_without_a_supervisor(Connections::finish_drain);
    }

    #[test]
    fn a_thread_that_waits_sees_the_end_without_a_supervisor() {
        end_without_a_supervisor(|connections| assert_eq!(connections.wait_until_ended().leaked, 1));
    }

    #[test]
    fn a_lifetime_ends_although_the_supervisor_waits_for_a_later_deadline() {
        let mut options = Options::new();
        options.timeouts.lifetime = Some(Duration::from_millis(1));
        let connections = Arc::new(Connections::new(1, &options, false, false).expect("no page is needed"));
        assert_eq!(connections.drain_later(Duration::from_secs(3600)), Supervision::Needed);
        let supervised = connections.clone();
        let supervisor = thread::spawn(move || supervised.supervise() == Due::Nothing);
        let eventually = |is_so: &dyn Fn() -> bool| {
            let deadline = Instant::now() + Duration::from_secs(20);
            while !is_so() {
                assert!(Instant::now() < deadline);
                thread::yield_now();
            }
        };
        eventually(&|| matches!(connections.registry.lock().supervisor, Supervisor::Waiting(Some(_))));
        let endpoint: Arc<dyn Endpoint> = Arc::new(Stubborn(ConnectionState::new(Address::unix(""))));
        let admission = connections.register(endpoint.state(), Arc::downgrade(&endpoint));
        assert!(admission.is_ok_and(|admission| admission.supervision == Supervision::Provided));
        eventually(&|| endpoint.state().closing() == Some(Closing::Lifetime));
        let _ = connections.unregister(endpoint.state().id);
        connections.close_down();
        assert!(supervisor.join().expect("no panic"));
    }
}

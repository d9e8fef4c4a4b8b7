//! All connections that are under way: who is admitted, who waits for their end, and who keeps their deadlines.
//!
//! What is to be done about a connection is collected under the lock and done after it: no system call and no user code
//! runs under it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::Shutdown,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    io::{
        closing::{Closing, GOODBYE},
        shared::Shared,
        state::{ConnectionId, ConnectionInfo, Endpoint},
    },
    options::Options,
    primitives::{Condvar, Mutex, MutexGuard},
};

pub(crate) mod drain;
pub(crate) mod limits;
mod registry;
pub(crate) mod stats;

use drain::{Drain, DrainPhase, DrainReport};
use limits::{Clients, Permits, Returned};
use registry::{ActiveConnection, Registry, Supervisor, after};
use stats::{Counters, Outcome, Stats};

/// How long the handlers have to return once a drain has cut their connections, and to say goodbye once a deadline has
/// ended what they read: no client is waited for any longer.
pub(crate) const GRACE: Duration = GOODBYE;

/// All connections of one server that are under way; on datagrams, all packets.
pub(crate) struct Connections {
    registry: Mutex<Registry>,
    /// Children count in them as well.
    counters: Shared<Counters>,
    /// A connection, a worker thread or the server has ended: for the threads that wait for that.
    ended: Condvar,
    /// A deadline has come into being: for the supervisor.
    deadlines: Condvar,
}

/// A connection that is not admitted: no permit is left, or its client has too many.
pub(crate) struct Rejected;

/// What follows from the admission of a connection.
pub(crate) struct Admission {
    /// Another connection can be admitted after this one.
    pub(crate) has_room: bool,
    pub(crate) supervision: Supervision,
}

/// Whether a thread keeps the deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Supervision {
    /// There are none, or a thread keeps them.
    Provided,
    /// The caller has to start the thread.
    Needed,
}

/// What the supervisor has come to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// The time for which the server goes on accepting after its shutdown is over.
    Drain,
    /// There is nothing left to be supervised.
    Nothing,
}

impl Connections {
    /// `forks`: the connections are served by child processes.
    pub(crate) fn new(capacity: usize, options: &Options, forks: bool) -> io::Result<Connections> {
        let Options { limits, timeouts, .. } = options;
        Ok(Connections {
            registry: Mutex::new(Registry {
                active: BTreeMap::new(),
                clients: Clients::new(limits.per_client),
                permits: Permits::new(capacity),
                lifetime: timeouts.lifetime,
                next_lifetime: ConnectionId::FIRST,
                shutdown: timeouts.shutdown,
                ending: BTreeSet::new(),
                drain_at: None,
                drain: None,
                workers: 0,
                forks,
                is_open: true,
                supervisor: Supervisor::Missing,
            }),
            counters: Shared::new(forks)?,
            ended: Condvar::new(),
            deadlines: Condvar::new(),
        })
    }

    /// Whether one more can be admitted. If not, the end of one wakes the leader.
    pub(crate) fn ask_for_room(&self) -> bool {
        let permits = &mut self.registry.lock().permits;
        if !permits.are_left() {
            permits.wake_leader();
        }
        permits.are_left()
    }

    /// Admits a connection that was accepted.
    pub(crate) fn register(&self, endpoint: &Arc<dyn Endpoint>) -> Result<Admission, Rejected> {
        let state = endpoint.state();
        let client = limits::client_of(&state.client_address);
        let mut registry = self.registry.lock();
        self.counters.count_accepted(state.is_truncated);
        if !registry.permits.are_left() || registry.clients.enter(client).is_err() {
            self.counters.count_ended(Outcome::Rejected);
            return Err(Rejected);
        }
        registry.permits.take();
        let connection = ActiveConnection {
            endpoint: Arc::downgrade(endpoint),
            client,
            accepted_at: state.accepted_at,
            cut_at: None,
        };
        registry.insert(state.id, connection);
        if registry.drain.is_some() {
            // It was being accepted when the server stopped: it is drained as the others are.
            state.mark(Closing::Draining);
        }
        let has_deadline = registry.lifetime.is_some() || registry.drain.is_some();
        // It is overdue no earlier than the connections that a supervisor waits for.
        let supervision = match registry.supervisor {
            Supervisor::Missing | Supervisor::Asleep if has_deadline => self.supervise_more(&mut registry),
            _ => Supervision::Provided,
        };
        Ok(Admission { has_room: registry.permits.are_left(), supervision })
    }

    /// A deadline has come into being, which may be earlier than the one that the supervisor waits for.
    fn supervise_more(&self, registry: &mut Registry) -> Supervision {
        match std::mem::replace(&mut registry.supervisor, Supervisor::Awake) {
            Supervisor::Missing => Supervision::Needed,
            Supervisor::Asleep | Supervisor::Awake => {
                self.deadlines.notify_one();
                Supervision::Provided
            }
        }
    }

    /// Before the client sees the end of the connection.
    pub(crate) fn count_ended(&self, outcome: Outcome) {
        self.counters.count_ended(outcome);
    }

    /// The connection has ended.
    pub(crate) fn unregister(&self, id: ConnectionId) -> Returned {
        let mut registry = self.registry.lock();
        let Some(connection) = registry.remove(id) else { return Returned::Unnoticed };
        registry.clients.leave(connection.client);
        let forks = registry.forks;
        if let Some(drain) = &mut registry.drain {
            drain.count_end(forks);
            if registry.active.is_empty() {
                self.ended.notify_all();
            }
        }
        registry.permits.give_back()
    }

    pub(crate) fn count_accept_error(&self) {
        self.counters.count_accept_error();
    }

    pub(crate) fn stats(&self) -> Stats {
        let _nothing_is_accepted = self.registry.lock();
        self.counters.stats()
    }

    pub(crate) fn list(&self) -> Vec<ConnectionInfo> {
        let endpoints = self.registry.lock().endpoints();
        let now = Instant::now();
        endpoints.iter().map(|endpoint| endpoint.state().info(now)).collect()
    }

    /// Ends one connection: it is cut when its handler has had the time to say goodbye. `None`: there is none of that
    /// number.
    pub(crate) fn close(&self, id: ConnectionId) -> Option<Supervision> {
        let mut registry = self.registry.lock();
        let endpoint = registry.cut_later(id, Instant::now())?.endpoint.upgrade()?;
        let supervision = self.supervise_more(&mut registry);
        drop(registry);
        endpoint.end(Closing::Kicked, Some(Shutdown::Read));
        Some(supervision)
    }

    /// The server drains after this time, and accepts until then; a second call changes nothing.
    pub(crate) fn drain_later(&self, linger: Duration) -> Supervision {
        let mut registry = self.registry.lock();
        if registry.drain.is_some() || registry.drain_at.is_some() {
            return Supervision::Provided;
        }
        registry.drain_at = Some(after(Instant::now(), linger));
        self.supervise_more(&mut registry)
    }

    /// Begins the drain. From here on nothing is registered but a connection that is just being accepted, and idle
    /// connections end.
    pub(crate) fn begin_drain(&self) -> Supervision {
        let mut registry = self.registry.lock();
        if registry.drain.is_some() {
            return Supervision::Provided;
        }
        registry.drain_at = None;
        registry.drain = Some(Drain::new(after(Instant::now(), registry.shutdown)));
        let endpoints = registry.endpoints();
        let is_empty = registry.active.is_empty();
        let supervision = if is_empty { Supervision::Provided } else { self.supervise_more(&mut registry) };
        drop(registry);
        endpoints.iter().for_each(|endpoint| endpoint.drain());
        self.ended.notify_all();
        self.deadlines.notify_all();
        supervision
    }

    /// The server has ended: the threads go on that wait for that.
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

    /// Waits until all connections have ended or been given up; only after [`begin_drain`](Self::begin_drain).
    pub(crate) fn finish_drain(&self) {
        let mut registry = self.registry.lock();
        loop {
            // The supervisor does the same, but there may have been no thread for it.
            let next;
            (registry, next) = self.keep_deadlines(registry);
            if registry.drained().is_some() {
                return;
            }
            self.wait(&self.ended, &mut registry, next);
        }
    }

    /// A worker thread is about to be started.
    pub(crate) fn worker_started(&self) {
        self.registry.lock().workers += 1;
    }

    /// It has let go of everything, or could not be started.
    pub(crate) fn worker_ended(&self) {
        let mut registry = self.registry.lock();
        registry.workers -= 1;
        if registry.drain.is_some() && !registry.has_idle_workers() {
            self.ended.notify_all();
        }
    }

    /// Waits, after a drain, until no worker thread is left but those whose handlers do not return. A hook that does not
    /// return is not waited for either.
    pub(crate) fn join_workers(&self) {
        let deadline = Instant::now() + GRACE;
        let mut registry = self.registry.lock();
        while registry.has_idle_workers() && Instant::now() < deadline {
            self.wait(&self.ended, &mut registry, Some(deadline));
        }
    }

    /// Ends what is overdue, and returns when to look again: for a server that can have no supervisor.
    pub(crate) fn end_overdue(&self) -> Option<Instant> {
        self.keep_deadlines(self.registry.lock()).1
    }

    /// The time is over for which the server has gone on accepting after its shutdown.
    pub(crate) fn is_to_drain(&self) -> bool {
        self.registry.lock().is_to_drain(Instant::now())
    }

    /// How far a drain has come. `None`: it has not begun.
    pub(crate) fn drain_phase(&self) -> Option<DrainPhase> {
        self.registry.lock().drain.as_ref().map(|drain| drain.phase)
    }

    /// Waits until the server has ended.
    pub(crate) fn wait_until_ended(&self) -> DrainReport {
        let mut registry = self.registry.lock();
        let mut given_up_at = None;
        loop {
            let mut next = None;
            // Where no thread keeps the deadlines, a thread that waits for their end does.
            if registry.supervisor == Supervisor::Missing {
                (registry, next) = self.keep_deadlines(registry);
            }
            if let Some(report) = registry.drained() {
                // A handler that does not return may be what the thread runs that would call `server_close`.
                let deadline = *given_up_at.get_or_insert_with(|| Instant::now() + GRACE);
                if !registry.is_open || (!registry.active.is_empty() && Instant::now() >= deadline) {
                    return report;
                }
                next = (!registry.active.is_empty()).then_some(deadline);
            }
            self.wait(&self.ended, &mut registry, next);
        }
    }

    /// No thread could be started: the next caller that needs a supervisor tries again.
    pub(crate) fn supervisor_is_missing(&self) {
        self.registry.lock().supervisor = Supervisor::Missing;
        self.ended.notify_all();
    }

    /// Keeps the deadlines until the server has ended, or is to drain.
    pub(crate) fn supervise(&self) -> Due {
        let mut registry = self.registry.lock();
        while registry.is_open || !registry.active.is_empty() {
            let next;
            (registry, next) = self.keep_deadlines(registry);
            if registry.is_to_drain(Instant::now()) {
                return Due::Drain;
            }
            if registry.drained().is_some() {
                // A connection that was just being accepted may still come.
                registry.supervisor = Supervisor::Missing;
                self.ended.notify_all();
                break;
            }
            registry.supervisor = if next.is_none() { Supervisor::Asleep } else { Supervisor::Awake };
            self.wait(&self.deadlines, &mut registry, next);
            registry.supervisor = Supervisor::Awake;
        }
        Due::Nothing
    }

    /// Ends what is overdue, without the lock, and returns when to look again.
    fn keep_deadlines<'a>(
        &'a self,
        mut registry: MutexGuard<'a, Registry>,
    ) -> (MutexGuard<'a, Registry>, Option<Instant>) {
        loop {
            let mut overdue = Vec::new();
            let next = registry.collect_overdue(Instant::now(), &mut overdue);
            if overdue.is_empty() {
                return (registry, next);
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

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use super::*;
    use crate::{address::Address, io::state::ConnectionState};

    struct Stubborn(ConnectionState);

    impl Endpoint for Stubborn {
        fn state(&self) -> &ConnectionState {
            &self.0
        }

        fn shut_down(&self, _how: Shutdown) {}

        fn drain(&self) {}
    }

    fn end_without_a_supervisor(wait: fn(&Connections)) {
        let mut options = Options::new();
        options.timeouts.shutdown = Duration::ZERO;
        let connections = Arc::new(Connections::new(1, &options, false).expect("no page is needed"));
        let endpoint: Arc<dyn Endpoint> = Arc::new(Stubborn(ConnectionState::new(Address::unix(""))));
        assert!(connections.register(&endpoint).is_ok());
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
}

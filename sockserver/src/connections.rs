//! All requests that are under way: the registry, the deadlines and the drain.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Shutdown},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use crate::{
    concurrency::Concurrency,
    io::{
        record::{Closing, ConnectionId, ConnectionInfo, Tracked},
        shared::Shared,
    },
    limits::{self, Clients, Room},
    options::Options,
    primitives::{Condvar, Mutex, MutexGuard},
    stats::{Counters, Outcome, Stats},
};

/// How the requests that were under way at [`shutdown`](crate::ServerHandle::shutdown) ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// Before `timeouts(shutdown)` was over, however their handlers ended.
    pub in_time: usize,
    /// After their connections had been cut, `timeouts(shutdown)` being over.
    pub forced: usize,
    /// Not at all: their handlers still run, without a connection.
    pub leaked: usize,
}

/// How long the handlers have to return once a drain has cut their connections, and to say goodbye once a deadline has
/// ended what they read: no client is waited for any longer.
pub(crate) const GRACE: Duration = crate::io::GOODBYE;

/// All requests of one server that are under way.
pub(crate) struct Connections {
    registry: Mutex<Registry>,
    /// Children count in them as well.
    counters: Shared<Counters>,
    /// A request ended, or the server: for the threads that wait for that.
    ended: Condvar,
    /// A deadline has come into being: for the supervisor.
    deadlines: Condvar,
}

struct Registry {
    /// Oldest first.
    entries: BTreeMap<ConnectionId, Entry>,
    clients: Clients,
    room: Room,
    lifetime: Option<Duration>,
    shutdown: Duration,
    /// Those that a deadline or the server's handle has ended, and when each is cut.
    ending: Vec<(Instant, ConnectionId)>,
    /// When the server, which still accepts, begins to drain.
    drain_at: Option<Instant>,
    stopping: Option<Stopping>,
    /// The threads that accept and serve, beside the one that waits for the end.
    crew: usize,
    /// Requests are served by child processes.
    forks: bool,
    /// A socket is bound or a request is served: the server has not ended.
    open: bool,
    supervised: bool,
    /// The supervisor knows of no deadline, and waits until it is told of one.
    supervisor_sleeps: bool,
}

struct Entry {
    /// Weak, so that the thread which ends the request decides when its socket is closed: before it is unregistered.
    request: Weak<dyn Tracked>,
    client: Option<IpAddr>,
    accepted_at: Instant,
    /// It is in `Registry::ending`.
    is_ending: bool,
}

struct Stopping {
    /// When `force` is taken a step further.
    deadline: Instant,
    force: Force,
    drained: Drained,
}

/// What a drain does to those who have not ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Force {
    /// It waits.
    None,
    /// Their connections are cut.
    Cut,
    /// They are given up.
    Last,
}

/// There is no room for the request, or its client has too many.
pub(crate) struct Rejected;

/// What is to be done about a connection, when the lock is free again.
type Action = (Weak<dyn Tracked>, Closing, Option<Shutdown>);

/// What the supervisor has come to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// The time for which the server goes on accepting after its shutdown is over.
    Drain,
    /// There is nothing left to be supervised.
    Nothing,
}

impl Connections {
    pub(crate) fn new<C: Concurrency>(options: &Options, forks: bool) -> io::Result<Connections> {
        let Options { limits, timeouts, .. } = options;
        Ok(Connections {
            registry: Mutex::new(Registry {
                entries: BTreeMap::new(),
                clients: Clients::new(limits.per_client),
                room: Room::new(C::connections(options)),
                lifetime: timeouts.lifetime,
                shutdown: timeouts.shutdown,
                ending: Vec::new(),
                drain_at: None,
                stopping: None,
                crew: 0,
                forks,
                open: true,
                supervised: false,
                supervisor_sleeps: false,
            }),
            counters: Shared::new(forks)?,
            ended: Condvar::new(),
            deadlines: Condvar::new(),
        })
    }

    /// Whether one more can be served; if not, the one that makes room is told to wake the acceptor.
    pub(crate) fn has_room(&self) -> bool {
        self.registry.lock().room.want()
    }

    /// `Ok(true)`: there is a deadline to be kept, and no thread yet that keeps it.
    pub(crate) fn register(&self, request: &Arc<dyn Tracked>) -> Result<bool, Rejected> {
        let record = request.record();
        let client = limits::client_of(&record.client_address);
        let mut registry = self.registry.lock();
        self.counters.count_accepted(record.truncated);
        if !registry.room.is_left() || !registry.clients.enter(client) {
            self.counters.count_ended(Outcome::Rejected);
            return Err(Rejected);
        }
        registry.room.enter();
        let entry =
            Entry { request: Arc::downgrade(request), client, accepted_at: record.accepted_at, is_ending: false };
        registry.entries.insert(record.id, entry);
        if registry.stopping.is_some() {
            // It was being accepted when the server stopped: it is drained as the others are.
            record.mark(Closing::Draining);
        }
        if registry.lifetime.is_none() && registry.stopping.is_none() {
            return Ok(false);
        }
        Ok(self.needs_supervisor(&mut registry))
    }

    /// A deadline has come into being. `true`: no thread keeps it yet.
    fn needs_supervisor(&self, registry: &mut Registry) -> bool {
        if std::mem::take(&mut registry.supervisor_sleeps) {
            self.deadlines.notify_one();
        }
        !std::mem::replace(&mut registry.supervised, true)
    }

    /// Before the client sees the end of the request.
    pub(crate) fn count_ended(&self, outcome: Outcome) {
        self.counters.count_ended(outcome);
    }

    /// The request has ended. `true`: the acceptor waits for the room.
    pub(crate) fn unregister(&self, id: ConnectionId) -> bool {
        let mut registry = self.registry.lock();
        let Some(entry) = registry.entries.remove(&id) else { return false };
        registry.clients.leave(entry.client);
        if entry.is_ending {
            registry.ending.retain(|(_, ending)| *ending != id);
        }
        let forks = registry.forks;
        if let Some(stopping) = &mut registry.stopping {
            match stopping.force {
                Force::None => stopping.drained.in_time += 1,
                Force::Cut => stopping.drained.forced += 1,
                // A child process that was killed; a thread was counted as leaked.
                Force::Last => stopping.drained.forced += usize::from(forks),
            }
            if registry.entries.is_empty() {
                self.ended.notify_all();
            }
        }
        registry.room.leave()
    }

    pub(crate) fn count_accept_error(&self) {
        self.counters.count_accept_error();
    }

    pub(crate) fn stats(&self) -> Stats {
        let _nothing_is_accepted = self.registry.lock();
        self.counters.stats()
    }

    pub(crate) fn list(&self) -> Vec<ConnectionInfo> {
        let requests = self.registry.lock().requests();
        let now = Instant::now();
        requests.iter().map(|request| request.record().info(now)).collect()
    }

    /// Ends one connection. `None`: there is none of that number. `Some(true)`: it is to be cut when its handler has
    /// said goodbye, and no thread sees to that yet.
    pub(crate) fn close(&self, id: ConnectionId) -> Option<bool> {
        let mut registry = self.registry.lock();
        let entry = registry.entries.get_mut(&id)?;
        let request = entry.request.upgrade()?;
        let mut unsupervised = false;
        if !std::mem::replace(&mut entry.is_ending, true) {
            registry.ending.push((Instant::now() + GRACE, id));
            unsupervised = self.needs_supervisor(&mut registry);
        }
        drop(registry);
        request.end(Closing::Kicked, Some(Shutdown::Read));
        Some(unsupervised)
    }

    /// The server drains after this time, and accepts until then; a second call changes nothing. `true`: there is no
    /// thread yet that sees to it.
    pub(crate) fn drain_later(&self, linger: Duration) -> bool {
        let mut registry = self.registry.lock();
        if registry.stopping.is_some() || registry.drain_at.is_some() {
            return false;
        }
        registry.drain_at = Some(after(Instant::now(), linger));
        self.needs_supervisor(&mut registry)
    }

    /// From here on nothing is registered but what is just being accepted, and idle connections end. `true`: there is a
    /// drain to be supervised, and no thread yet that does.
    pub(crate) fn stop(&self) -> bool {
        let mut registry = self.registry.lock();
        if registry.stopping.is_some() {
            return false;
        }
        let deadline = after(Instant::now(), registry.shutdown);
        registry.drain_at = None;
        registry.stopping = Some(Stopping { deadline, force: Force::None, drained: Drained::default() });
        let requests = registry.requests();
        let unsupervised = !registry.entries.is_empty() && !std::mem::replace(&mut registry.supervised, true);
        drop(registry);
        requests.iter().for_each(|request| request.drain());
        self.ended.notify_all();
        self.deadlines.notify_all();
        unsupervised
    }

    /// The server has ended: lets the threads go on that wait for that.
    pub(crate) fn close_down(&self) {
        self.registry.lock().open = false;
        self.ended.notify_all();
        self.deadlines.notify_all();
    }

    /// Waits until the server begins to stop.
    pub(crate) fn wait_until_stopping(&self) {
        let mut registry = self.registry.lock();
        while registry.stopping.is_none() {
            self.wait(&self.ended, &mut registry, None);
        }
    }

    /// Waits until all requests have ended or been given up; only after [`stop`](Self::stop).
    pub(crate) fn drain(&self) {
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

    /// A thread is about to be started that serves.
    pub(crate) fn enlist(&self) {
        self.registry.lock().crew += 1;
    }

    /// It has let go of everything, or could not be started.
    pub(crate) fn dismiss(&self) {
        let mut registry = self.registry.lock();
        registry.crew -= 1;
        if registry.stopping.is_some() && !registry.has_crew() {
            self.ended.notify_all();
        }
    }

    /// Waits, after a drain, until no thread is there any more but those whose handlers do not return. A hook that does
    /// not return is not waited for either.
    pub(crate) fn wait_for_crew(&self) {
        let deadline = Instant::now() + GRACE;
        let mut registry = self.registry.lock();
        while registry.has_crew() && Instant::now() < deadline {
            self.wait(&self.ended, &mut registry, Some(deadline));
        }
    }

    /// Ends what is overdue, and returns when to look again: for a server that can have no supervisor.
    pub(crate) fn sweep(&self) -> Option<Instant> {
        self.keep_deadlines(self.registry.lock()).1
    }

    /// The time is over for which the server has gone on accepting after its shutdown.
    pub(crate) fn is_to_drain(&self) -> bool {
        self.registry.lock().is_to_drain(Instant::now())
    }

    /// How far a drain has come.
    pub(crate) fn force(&self) -> Force {
        self.registry.lock().stopping.as_ref().map_or(Force::None, |stopping| stopping.force)
    }

    /// Waits until the server has ended.
    pub(crate) fn wait_until_ended(&self) -> Drained {
        let mut registry = self.registry.lock();
        let mut given_up = None;
        loop {
            let mut next = None;
            // Where no thread keeps the deadlines, a thread that waits for their end does.
            if !registry.supervised {
                (registry, next) = self.keep_deadlines(registry);
            }
            if let Some(drained) = registry.drained() {
                // A handler that does not return may be what the thread runs that would call `server_close`.
                let deadline = *given_up.get_or_insert_with(|| Instant::now() + GRACE);
                if !registry.open || (!registry.entries.is_empty() && Instant::now() >= deadline) {
                    return drained;
                }
                next = (!registry.entries.is_empty()).then_some(deadline);
            }
            self.wait(&self.ended, &mut registry, next);
        }
    }

    /// No thread could be started: the next one who needs a supervisor tries again.
    pub(crate) fn supervisor_is_missing(&self) {
        self.registry.lock().supervised = false;
        self.ended.notify_all();
    }

    /// Keeps the deadlines until the server has ended, or is to drain.
    pub(crate) fn supervise(&self) -> Due {
        let mut registry = self.registry.lock();
        while registry.open || !registry.entries.is_empty() {
            let next;
            (registry, next) = self.keep_deadlines(registry);
            if registry.is_to_drain(Instant::now()) {
                return Due::Drain;
            }
            if registry.drained().is_some() {
                // A connection that was just being accepted may still come.
                registry.supervised = false;
                self.ended.notify_all();
                break;
            }
            registry.supervisor_sleeps = next.is_none();
            self.wait(&self.deadlines, &mut registry, next);
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
            let next = registry.sweep(Instant::now(), &mut overdue);
            if overdue.is_empty() {
                return (registry, next);
            }
            drop(registry);
            for (request, closing, how) in overdue {
                if let Some(request) = request.upgrade() {
                    request.end(closing, how);
                }
            }
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

impl Registry {
    fn requests(&self) -> Vec<Arc<dyn Tracked>> {
        self.entries.values().filter_map(|entry| entry.request.upgrade()).collect()
    }

    /// There are threads that do not have a request, and have not ended.
    fn has_crew(&self) -> bool {
        self.crew > self.entries.len()
    }

    fn is_to_drain(&self, now: Instant) -> bool {
        self.stopping.is_none() && self.drain_at.is_some_and(|drain_at| now >= drain_at)
    }

    /// How the drain has gone, once it is over.
    fn drained(&self) -> Option<Drained> {
        let stopping = self.stopping.as_ref()?;
        // A child process that is killed does end.
        let given_up = stopping.force == Force::Last && !self.forks;
        (self.entries.is_empty() || given_up).then_some(stopping.drained)
    }

    /// Collects what is overdue, and returns when to look again.
    fn sweep(&mut self, now: Instant, overdue: &mut Vec<Action>) -> Option<Instant> {
        let deadlines = [
            self.sweep_lifetimes(now, overdue),
            self.sweep_ending(now, overdue),
            self.sweep_drain(now, overdue),
            self.drain_at.filter(|_| self.stopping.is_none()),
        ];
        deadlines.into_iter().flatten().min()
    }

    fn sweep_lifetimes(&mut self, now: Instant, overdue: &mut Vec<Action>) -> Option<Instant> {
        let lifetime = self.lifetime?;
        if self.stopping.as_ref().is_some_and(|stopping| stopping.force > Force::None) {
            return None;
        }
        // Oldest first: behind the first one that is not overdue there is none.
        for (id, entry) in self.entries.iter_mut().filter(|(_, entry)| !entry.is_ending) {
            let end_of_life = after(entry.accepted_at, lifetime);
            if now < end_of_life {
                return Some(end_of_life);
            }
            entry.is_ending = true;
            self.ending.push((now + GRACE, *id));
            overdue.push((entry.request.clone(), Closing::Lifetime, None));
        }
        // One that comes is overdue no earlier than this, and wakes no supervisor.
        (!self.entries.is_empty()).then(|| after(now, lifetime))
    }

    /// Cuts those whose handlers have had their time to say goodbye.
    fn sweep_ending(&mut self, now: Instant, overdue: &mut Vec<Action>) -> Option<Instant> {
        let Registry { ending, entries, .. } = self;
        ending.retain(|(cut, id)| {
            if now >= *cut
                && let Some(entry) = entries.get(id)
            {
                // The reason is there already.
                overdue.push((entry.request.clone(), Closing::Kicked, Some(Shutdown::Both)));
            }
            now < *cut
        });
        ending.iter().map(|(cut, _)| *cut).min()
    }

    fn sweep_drain(&mut self, now: Instant, overdue: &mut Vec<Action>) -> Option<Instant> {
        let stopping = self.stopping.as_mut()?;
        if now < stopping.deadline || stopping.force == Force::Last {
            return (stopping.force < Force::Last).then_some(stopping.deadline);
        }
        if stopping.force == Force::Cut {
            stopping.force = Force::Last;
            stopping.drained.leaked = if self.forks { 0 } else { self.entries.len() };
            return None;
        }
        stopping.force = Force::Cut;
        stopping.deadline = now + GRACE;
        overdue.extend(
            self.entries.values().map(|entry| (entry.request.clone(), Closing::Draining, Some(Shutdown::Both))),
        );
        Some(stopping.deadline)
    }
}

/// A time that no clock can express is a year away, when it will be looked at again.
fn after(time: Instant, duration: Duration) -> Instant {
    time.checked_add(duration).unwrap_or_else(|| Instant::now() + Duration::from_secs(86_400 * 365))
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use super::*;
    use crate::{address::Address, concurrency::Sync, io::record::Record};

    struct Stubborn(Record);

    impl Tracked for Stubborn {
        fn record(&self) -> &Record {
            &self.0
        }

        fn shut(&self, _how: Shutdown) {}

        fn drain(&self) {}
    }

    fn end_without_a_supervisor(wait: fn(&Connections)) {
        let mut options = Options::new();
        options.timeouts.shutdown = Duration::ZERO;
        let connections = Arc::new(Connections::new::<Sync>(&options, false).expect("no page is needed"));
        let request: Arc<dyn Tracked> = Arc::new(Stubborn(Record::new(Address::unix(""))));
        assert!(connections.register(&request).is_ok());
        assert!(connections.stop(), "a supervisor is asked for");
        connections.supervisor_is_missing();
        let (ended, has_ended) = mpsc::channel();
        let waiting = connections.clone();
        thread::spawn(move || {
            wait(&waiting);
            ended.send(())
        });
        has_ended.recv_timeout(Duration::from_secs(20)).expect("what does not return is given up");
        assert_eq!(connections.wait_until_ended().leaked, 1);
    }

    #[test]
    fn a_drain_ends_without_a_supervisor() {
        end_without_a_supervisor(Connections::drain);
    }

    #[test]
    fn whoever_waits_sees_the_end_without_a_supervisor() {
        end_without_a_supervisor(|connections| assert_eq!(connections.wait_until_ended().leaked, 1));
    }
}

//! All requests that are under way: the registry, the deadlines and the drain.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Shutdown},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use crate::{
    concurrency::Concurrency,
    limits::{self, Clients, Room},
    options::Options,
    primitives::{Condvar, Mutex, MutexGuard},
    record::{Activity, Closing, ConnectionId, ConnectionInfo, Tracked},
    stats::{Outcome, Stats},
};

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

/// How long the handlers have to return once a drain has cut their connections, and to say goodbye once a deadline has
/// ended what they read: they need wait for nobody any more.
const GRACE: Duration = Duration::from_secs(1);

/// The times within `timeouts(idle)` at which the supervisor looks: a connection is ended at most an eighth late.
const IDLE_LOOKS: u32 = 8;

/// The least time between two looks, however short the deadlines are.
const LEAST_LOOK: Duration = Duration::from_millis(1);

/// All requests of one server that are under way.
pub(crate) struct Connections {
    registry: Mutex<Registry>,
    /// A request ended, or the server: for those who wait for that.
    ended: Condvar,
    /// A deadline has come into being: for the supervisor.
    deadlines: Condvar,
}

struct Registry {
    /// Oldest first.
    entries: BTreeMap<ConnectionId, Entry>,
    clients: Clients,
    room: Room,
    stats: Stats,
    idle: Option<Duration>,
    lifetime: Option<Duration>,
    shutdown: Duration,
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
    /// Weak, so that the one who ends the request decides when its socket is closed: before it is unregistered.
    request: Weak<dyn Tracked>,
    client: Option<IpAddr>,
    /// What the peer had done, and when that was seen to have changed. `None`: the handler did not wait for it.
    seen: (Option<Activity>, Instant),
    /// A deadline has ended what the handler reads, for this reason; it will cut the connection.
    ending: Option<(Closing, Instant)>,
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

/// There is no room for the request, its client has too many, or the server is stopping.
pub(crate) struct Rejected;

impl Connections {
    pub(crate) fn new<C: Concurrency>(options: &Options, forks: bool) -> Connections {
        let Options { limits, timeouts, .. } = options;
        Connections {
            registry: Mutex::new(Registry {
                entries: BTreeMap::new(),
                clients: Clients::new(limits.per_client),
                room: Room::new(C::connections(options)),
                stats: Stats::default(),
                idle: timeouts.idle,
                lifetime: timeouts.lifetime,
                shutdown: timeouts.shutdown,
                stopping: None,
                crew: 0,
                forks,
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
        self.registry.lock().room.want()
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
        let entry = Entry {
            request: Arc::downgrade(request),
            client,
            seen: (Some((0, 0, 0)), record.accepted_at),
            ending: None,
        };
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
        let forks = registry.forks;
        if let Some(stopping) = &mut registry.stopping {
            match stopping.force {
                Force::None => stopping.drained.finished += 1,
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
        self.registry.lock().stats.accept_errors += 1;
    }

    pub(crate) fn stats(&self) -> Stats {
        self.registry.lock().stats
    }

    pub(crate) fn list(&self) -> Vec<ConnectionInfo> {
        let now = Instant::now();
        let info = |request: Arc<dyn Tracked>| request.record().info(now);
        self.registry.lock().requests().map(info).collect()
    }

    /// Ends one connection. `false`: there is none of that number.
    pub(crate) fn close(&self, id: ConnectionId) -> bool {
        let request = self.registry.lock().entries.get(&id).and_then(|entry| entry.request.upgrade());
        request.is_some_and(|request| {
            request.end(Closing::Kicked, Shutdown::Both);
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
        registry.stopping = Some(Stopping { deadline, force: Force::None, drained: Drained::default() });
        let between_requests: Vec<_> = registry.requests().filter(|request| request.record().drain()).collect();
        let unsupervised = !registry.entries.is_empty() && !std::mem::replace(&mut registry.supervised, true);
        drop(registry);
        self.ended.notify_all();
        self.deadlines.notify_all();
        // Thousands of system calls, while those that are woken by the first ones end already.
        between_requests.iter().for_each(|request| request.end_of_file());
        unsupervised
    }

    /// The server has ended: lets those go on who wait for that.
    pub(crate) fn close_down(&self) {
        self.registry.lock().open = false;
        self.ended.notify_all();
        self.deadlines.notify_all();
    }

    pub(crate) fn wait_until_stopping(&self) {
        let mut registry = self.registry.lock();
        while registry.stopping.is_none() {
            self.ended.wait(&mut registry);
        }
    }

    /// Waits until all requests have ended or been given up; only after [`stop`](Self::stop).
    pub(crate) fn drain(&self) {
        let mut registry = self.registry.lock();
        loop {
            // The supervisor does the same, but it may have found no thread.
            let next = registry.sweep(Instant::now());
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

    /// Ends what is overdue, and says when to look again: for a server that can have no supervisor.
    pub(crate) fn sweep(&self) -> Option<Instant> {
        self.registry.lock().sweep(Instant::now())
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
            // Where no thread keeps the deadlines, whoever waits for their end does.
            let mut next = if registry.supervised { None } else { registry.sweep(Instant::now()) };
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

fn requests_of(entries: &BTreeMap<ConnectionId, Entry>) -> impl Iterator<Item = Arc<dyn Tracked>> {
    entries.values().filter_map(|entry| entry.request.upgrade())
}

impl Registry {
    fn requests(&self) -> impl Iterator<Item = Arc<dyn Tracked>> {
        requests_of(&self.entries)
    }

    /// There are threads that do not have a request, and have not ended.
    fn has_crew(&self) -> bool {
        self.crew > self.entries.len()
    }

    /// How the drain has gone, once it is over.
    fn drained(&self) -> Option<Drained> {
        let stopping = self.stopping.as_ref()?;
        // A child process that is killed does end.
        let given_up = stopping.force == Force::Last && !self.forks;
        (self.entries.is_empty() || given_up).then_some(stopping.drained)
    }

    /// Ends what is overdue, and says when to look again.
    fn sweep(&mut self, now: Instant) -> Option<Instant> {
        self.sweep_entries(now).into_iter().chain(self.sweep_drain(now)).min()
    }

    fn sweep_entries(&mut self, now: Instant) -> Option<Instant> {
        let Registry { entries, idle, lifetime, stopping, .. } = self;
        let has_deadlines = idle.is_some() || lifetime.is_some();
        if !has_deadlines || stopping.as_ref().is_some_and(|stopping| stopping.force > Force::None) {
            return None;
        }
        let next = entries.values_mut().filter_map(|entry| entry.sweep(*idle, *lifetime, now)).min()?;
        // Whoever comes meanwhile is overdue no earlier than this, and wakes nobody.
        let newcomer = idle.map(|idle| idle / IDLE_LOOKS).into_iter().chain(*lifetime).min();
        let next = newcomer.map_or(next, |newcomer| next.min(after(now, newcomer)));
        Some(next.max(after(now, LEAST_LOOK)))
    }

    fn sweep_drain(&mut self, now: Instant) -> Option<Instant> {
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
        let next = stopping.deadline;
        self.requests().for_each(|request| request.end(Closing::Draining, Shutdown::Both));
        Some(next)
    }
}

impl Entry {
    /// Ends the request if it is overdue; else the time to look again.
    fn sweep(&mut self, idle: Option<Duration>, lifetime: Option<Duration>, now: Instant) -> Option<Instant> {
        let request = self.request.upgrade()?;
        let record = request.record();
        if let Some((closing, cut)) = self.ending {
            if now >= cut {
                request.end(closing, Shutdown::Both);
            }
            return Some(cut).filter(|cut| now < *cut);
        }
        let end_of_life = lifetime.map(|lifetime| after(record.accepted_at, lifetime));
        if end_of_life.is_some_and(|end| now >= end) {
            return self.begin_to_end(&*request, Closing::Lifetime, now);
        }
        let next_look = idle.and_then(|idle| {
            let activity = request.activity();
            if activity.is_none() || activity != self.seen.0 {
                self.seen = (activity, now);
            }
            let idle_at = after(self.seen.1, idle);
            match now >= idle_at {
                true => self.begin_to_end(&*request, Closing::Idle, now),
                false => Some(idle_at.min(after(now, idle / IDLE_LOOKS))),
            }
        });
        end_of_life.into_iter().chain(next_look).min()
    }

    /// Ends what the handler reads, so that it can say goodbye; the connection is cut after the time returned.
    fn begin_to_end(&mut self, request: &dyn Tracked, closing: Closing, now: Instant) -> Option<Instant> {
        request.end(closing, Shutdown::Read);
        let cut = after(now, GRACE);
        self.ending = Some((closing, cut));
        Some(cut)
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
    use crate::{address::Address, concurrency::Sync, record::Record};

    struct Stubborn(Record);

    impl Tracked for Stubborn {
        fn record(&self) -> &Record {
            &self.0
        }

        fn shut(&self, _how: Shutdown) {}

        fn has_input(&self) -> bool {
            false
        }

        fn taken(&self) -> u64 {
            0
        }
    }

    fn end_without_a_supervisor(wait: fn(&Connections)) {
        let mut options = Options::new();
        options.timeouts.shutdown = Duration::ZERO;
        let connections = Arc::new(Connections::new::<Sync>(&options, false));
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

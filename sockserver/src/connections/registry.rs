//! The connections that are under way, and their deadlines: the state that `Connections` keeps under its lock.

use std::{
    collections::{BTreeMap, VecDeque},
    net::Shutdown,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use super::{
    drain::{Drain, DrainPhase, DrainReport},
    limits::{Client, Clients, Handshakes, Permits, Rejected, Returned, Room},
    rates::Pace,
};
use crate::{
    io::{
        closing::{Closing, GOODBYE},
        state::{ConnectionId, Endpoint},
    },
    options::Limits,
};

pub(super) struct Registry {
    /// Oldest first.
    pub(super) active: BTreeMap<ConnectionId, ActiveConnection>,
    pub(super) clients: Clients,
    pub(super) permits: Permits,
    pub(super) pace: Pace,
    pub(super) handshakes: Handshakes,
    pub(super) limits: Limits,
    pub(super) lifetime: Option<Duration>,
    /// Of all connections before this one the lifetimes are over and dealt with.
    pub(super) next_lifetime: ConnectionId,
    pub(super) shutdown: Duration,
    /// The connections that a lifetime or [`ServerHandle::close`](crate::ServerHandle::close) has ended, by the time when
    /// they are cut. Some of them may have ended since.
    pub(super) ending: VecDeque<(Instant, ConnectionId)>,
    /// When the server, which still accepts, begins to drain.
    pub(super) drain_at: Option<Instant>,
    pub(super) drain: Option<Drain>,
    /// How many worker threads there are: they accept and serve. The thread that waits for the end is none of them.
    pub(super) workers: usize,
    /// Connections are served by child processes.
    pub(super) forks: bool,
    /// The server has not ended.
    pub(super) is_open: bool,
    pub(super) supervisor: Supervisor,
}

/// The thread that keeps the deadlines.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Supervisor {
    /// There is no such thread, or it is about to end.
    Missing,
    /// It is about to look at the deadlines.
    Awake,
    /// It waits until then, or until it is woken.
    Waiting(Option<Instant>),
}

pub(super) struct ActiveConnection {
    /// Weak, so that the thread that ends the connection also closes its socket, before it unregisters the connection.
    pub(super) endpoint: Weak<dyn Endpoint>,
    /// `None` also until a proxy has named the client.
    pub(super) client: Option<Client>,
    /// It takes a place of the limits.
    pub(super) has_place: bool,
    pub(super) accepted_at: Instant,
    /// It is in `Registry::ending`, or was.
    pub(super) is_ending: bool,
}

/// What has to be done to a connection after the lock is released.
pub(super) struct Action {
    endpoint: Weak<dyn Endpoint>,
    closing: Closing,
    how: Option<Shutdown>,
}

impl Action {
    pub(super) fn take(self) {
        if let Some(endpoint) = self.endpoint.upgrade() {
            endpoint.end(self.closing, self.how);
        }
    }
}

impl Registry {
    /// The connections whose clients cannot have seen their end.
    pub(super) fn endpoints(&self) -> Vec<Arc<dyn Endpoint>> {
        let lasting = self.active.values().filter(|connection| connection.has_place);
        lasting.filter_map(|connection| connection.endpoint.upgrade()).collect()
    }

    /// Whether a worker thread that serves no connection has not ended yet.
    pub(super) fn has_idle_workers(&self) -> bool {
        self.workers > self.active.len()
    }

    pub(super) fn is_to_drain(&self, now: Instant) -> bool {
        self.drain.is_none() && self.drain_at.is_some_and(|drain_at| now >= drain_at)
    }

    /// `None`: the drain is not over.
    pub(super) fn drained(&self) -> Option<DrainReport> {
        let drain = self.drain.as_ref()?;
        // A killed child process ends, and is waited for.
        let is_given_up = drain.phase == DrainPhase::Abandoned && !self.forks;
        (self.active.is_empty() || is_given_up).then_some(drain.report)
    }

    pub(super) fn insert(&mut self, id: ConnectionId, connection: ActiveConnection) {
        self.active.insert(id, connection);
        // A transport may return its connections in another order than it has made them.
        self.next_lifetime = self.next_lifetime.min(id);
    }

    /// What keeps another connection from being admitted.
    pub(super) fn obstacle(&self) -> Option<Rejected> {
        match self.permits.room() {
            Room::Left if self.handshakes.room() == Room::Left => self.pace.next_token().map(|_| Rejected::Rate),
            _ => Some(Rejected::Limit),
        }
    }

    /// Whether another connection can be admitted, and when `limits(rate)` leaves room if it does not.
    pub(super) fn room(&self) -> (Room, Option<Instant>) {
        let is_full = self.permits.room() == Room::Full || self.handshakes.room() == Room::Full;
        let room_at = self.pace.next_token();
        (if is_full || room_at.is_some() { Room::Full } else { Room::Left }, room_at)
    }

    /// Puts back what the connection takes of the limits. A second call does nothing.
    pub(super) fn put_back(&mut self, id: ConnectionId) -> Returned {
        match self.active.get_mut(&id).filter(|connection| connection.has_place) {
            Some(connection) => {
                connection.has_place = false;
                self.clients.leave(connection.client.take());
                self.handshakes.end(id).or(self.permits.put_back())
            }
            None => Returned::NotAwaited,
        }
    }

    /// Takes a connection out. `None`: there is no such connection.
    pub(super) fn remove(&mut self, id: ConnectionId) -> Option<()> {
        self.active.remove(&id)?;
        // The next deadline is that of a connection that has not ended.
        while let Some((_, first)) = self.ending.front()
            && !self.active.contains_key(first)
        {
            self.ending.pop_front();
        }
        Some(())
    }

    /// Has a connection cut when its handler has had time to say goodbye. `None`: there is no such connection.
    pub(super) fn cut_later(&mut self, id: ConnectionId, now: Instant) -> Option<&ActiveConnection> {
        let connection = self.active.get_mut(&id)?;
        if !connection.is_ending {
            connection.is_ending = true;
            // All have the same time, so that the first to end is the first to be cut.
            self.ending.push_back((now + GOODBYE, id));
        }
        Some(connection)
    }

    /// When the next deadline passes.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let drain = self.drain.as_ref().filter(|drain| drain.phase < DrainPhase::Abandoned);
        let deadlines = [
            self.next_end_of_life().map(|(_, end_of_life)| end_of_life),
            self.ending.front().map(|(cut_at, _)| *cut_at),
            drain.map(|drain| drain.deadline),
            self.drain_at.filter(|_| self.drain.is_none()),
            self.handshakes.next_deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// The oldest connection whose lifetime was not looked after, and when that ends: no later one ends earlier.
    fn next_end_of_life(&self) -> Option<(ConnectionId, Instant)> {
        let lifetime = self.lifetime?;
        if self.drain.as_ref().is_some_and(|drain| drain.phase > DrainPhase::Waiting) {
            return None;
        }
        let (id, connection) = self.active.range(self.next_lifetime..).next()?;
        Some((*id, after(connection.accepted_at, lifetime)))
    }

    /// What to do about the deadlines that have passed.
    pub(super) fn collect_overdue(&mut self, now: Instant) -> Vec<Action> {
        let mut overdue = Vec::new();
        self.collect_lifetimes(now, &mut overdue);
        self.collect_ending(now, &mut overdue);
        self.collect_drain(now, &mut overdue);
        self.collect_handshakes(now, &mut overdue);
        overdue
    }

    fn collect_lifetimes(&mut self, now: Instant, overdue: &mut Vec<Action>) {
        while let Some((id, end_of_life)) = self.next_end_of_life()
            && now >= end_of_life
        {
            self.next_lifetime = id.next();
            if let Some(connection) = self.active.get(&id).filter(|connection| !connection.is_ending) {
                overdue.push(Action { endpoint: connection.endpoint.clone(), closing: Closing::Lifetime, how: None });
                self.cut_later(id, now);
            }
        }
    }

    /// Cuts the connections whose handlers have had time to say goodbye.
    fn collect_ending(&mut self, now: Instant, overdue: &mut Vec<Action>) {
        while let Some(&(cut_at, id)) = self.ending.front()
            && now >= cut_at
        {
            self.ending.pop_front();
            if let Some(connection) = self.active.get(&id) {
                // The connection has its reason already, and keeps it.
                overdue.push(Action {
                    endpoint: connection.endpoint.clone(),
                    closing: Closing::Kicked,
                    how: Some(Shutdown::Both),
                });
            }
        }
    }

    /// Ends the oldest connection that is at its preamble, while another client waits for its place.
    fn collect_handshakes(&mut self, now: Instant, overdue: &mut Vec<Action>) {
        let connection = self.handshakes.make_room(now).and_then(|id| self.active.get(&id));
        overdue.extend(connection.map(|connection| Action {
            endpoint: connection.endpoint.clone(),
            closing: Closing::Handshake,
            how: Some(Shutdown::Both),
        }));
    }

    fn collect_drain(&mut self, now: Instant, overdue: &mut Vec<Action>) {
        let Some(drain) = self.drain.as_mut().filter(|drain| now >= drain.deadline) else { return };
        match drain.phase {
            DrainPhase::Waiting => {
                drain.phase = DrainPhase::ShutDown;
                drain.deadline = now + GOODBYE;
                overdue.extend(self.active.values().map(|connection| Action {
                    endpoint: connection.endpoint.clone(),
                    closing: Closing::Draining,
                    how: Some(Shutdown::Both),
                }));
            }
            DrainPhase::ShutDown => {
                drain.phase = DrainPhase::Abandoned;
                drain.report.leaked = if self.forks { 0 } else { self.active.len() };
            }
            DrainPhase::Abandoned => {}
        }
    }
}

/// A time that `Instant` cannot express becomes one a year from now, when it is computed again.
pub(super) fn after(time: Instant, duration: Duration) -> Instant {
    time.checked_add(duration).unwrap_or_else(|| Instant::now() + Duration::from_secs(86_400 * 365))
}

//! What the leader works with, and what it comes back with.

use std::{io, time::Instant};

use super::{
    errors::AcceptBackoff,
    leader_lock::LeaderLock,
    listeners::{Listener, Listeners},
};
use crate::{
    connections::limits::{Rejected, Room},
    service::Service,
};

/// What the leader works with.
pub(super) struct Leader<S: Service> {
    /// `None` once the server stops.
    pub(super) listeners: Option<Listeners<Listener<S>>>,
    pub(super) backoff: AcceptBackoff,
    /// How often the leader has tried to accept since the last wait.
    pub(super) in_a_row: u32,
    /// `Left` stays true until the next connection is admitted, since only the leader admits connections.
    pub(super) room: Room,
    /// Its predecessor, if there is one, knows that the server serves.
    pub(super) has_announced: bool,
}

impl<S: Service> Leader<S> {
    pub(super) fn new(listeners: Option<Listeners<Listener<S>>>) -> Leader<S> {
        Leader { listeners, backoff: AcceptBackoff::default(), in_a_row: 0, room: Room::Full, has_announced: false }
    }
}

/// What ended the wait of the leader.
pub(crate) enum LeaderEvent<R> {
    Request(R),
    /// A request is not admitted.
    Rejected(R, Rejected),
    TimedOut,
    /// The event source of the concurrency has something to do.
    Source,
    /// Accepting has failed, for the first time in this episode.
    AcceptFailed(io::Error),
    /// The server is stopping, and the listening sockets are closed.
    Stopped,
}

/// What accepting without waiting has come to.
pub(crate) enum Accepted<R> {
    Request(R),
    /// No client waits.
    Empty,
    /// Nothing is accepted before the waker is used, or until then.
    Paused(Option<Instant>),
    /// A request is not admitted.
    Rejected(R, Rejected),
    /// Accepting has failed, for the first time in this episode.
    Failed(io::Error),
    /// The server is stopping, and the listening sockets are closed.
    Stopped,
}

/// Closes the listening sockets, unless a leader has them: that leader sees that the server is stopping, and closes them.
pub(super) fn close_listeners<S: Service>(leader: &LeaderLock<Leader<S>>) {
    let listeners = leader.try_value().and_then(|mut leader| leader.listeners.take());
    // They are closed after the lock is released.
    drop(listeners);
}

//! `limits(per_client)` across processes: a forked child learns only after the fork who its client is.

use std::{
    io,
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use super::limits::{Client, Rejected};
use crate::{
    io::state::ConnectionId,
    options::Limits,
    primitives::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
};

/// So many children can be counted at once. The model, which has none, has too small stacks for so many of its atomics.
const CAPACITY: usize = if cfg!(sockserver_model) { 1 } else { 1024 };

/// Which connection belongs to which client, in memory that all children of a server share.
pub(super) struct SharedClients {
    /// The connection whose process has the lock; zero for none. The parent unlocks for a child that was killed.
    locked_for: AtomicU64,
    /// As many of the entries, from the first on, have ever been used.
    used: AtomicUsize,
    entries: [Entry; CAPACITY],
}

struct Entry {
    /// Zero: the entry is free.
    connection: AtomicU64,
    client: [AtomicU64; 2],
}

impl Default for SharedClients {
    fn default() -> SharedClients {
        SharedClients {
            locked_for: AtomicU64::new(0),
            used: AtomicUsize::new(0),
            entries: [const { Entry { connection: AtomicU64::new(0), client: [AtomicU64::new(0), AtomicU64::new(0)] } };
                CAPACITY],
        }
    }
}

impl SharedClients {
    /// Refuses more connections than are counted here.
    pub(super) fn check(limits: &Limits, capacity: usize) -> io::Result<()> {
        if limits.per_client.is_none() || capacity <= CAPACITY {
            return Ok(());
        }
        let message = format!(
            "a server that forks counts the clients behind a proxy (`per_client`) in at most {CAPACITY} connections, and \
             `connections` is {capacity}"
        );
        Err(io::Error::new(io::ErrorKind::InvalidInput, message))
    }

    /// Counts a connection of this client, unless the client has so many already.
    pub(super) fn enter(&self, id: ConnectionId, client: Client, limit: usize) -> Result<(), Rejected> {
        self.lock(id);
        let entered = self.enter_locked(id, words(client), limit);
        self.unlock(id);
        entered
    }

    /// In the parent, when the child of this connection has ended.
    pub(super) fn leave(&self, id: ConnectionId) {
        // It was killed while it had the lock. What it has written is whole, entry by entry.
        self.unlock(id);
        if let Some(entry) = self.used().iter().find(|entry| entry.connection.load(SeqCst) == id.number()) {
            entry.connection.store(0, SeqCst);
        }
    }

    fn enter_locked(&self, id: ConnectionId, client: [u64; 2], limit: usize) -> Result<(), Rejected> {
        let is_of_client = |entry: &&Entry| {
            entry.connection.load(SeqCst) != 0 && entry.client.each_ref().map(|word| word.load(SeqCst)) == client
        };
        if self.used().iter().filter(is_of_client).count() >= limit {
            return Err(Rejected::PerClient);
        }
        let free =
            self.entries.iter().position(|entry| entry.connection.load(SeqCst) == 0).ok_or(Rejected::PerClient)?;
        self.entries[free].client.iter().zip(client).for_each(|(word, value)| word.store(value, SeqCst));
        self.entries[free].connection.store(id.number(), SeqCst);
        self.used.fetch_max(free + 1, SeqCst);
        Ok(())
    }

    fn used(&self) -> &[Entry] {
        &self.entries[..self.used.load(SeqCst)]
    }

    /// The lock is held for some microseconds, and given up by the parent if the process that has it is killed.
    fn lock(&self, id: ConnectionId) {
        /// Without a parent that unlocks, the count can only be wrong.
        const PATIENCE: Duration = Duration::from_secs(2);
        let began = Instant::now();
        while self.locked_for.compare_exchange(0, id.number(), SeqCst, SeqCst).is_err() && began.elapsed() < PATIENCE {
            thread::sleep(Duration::from_micros(50));
        }
    }

    fn unlock(&self, id: ConnectionId) {
        let _ = self.locked_for.compare_exchange(id.number(), 0, SeqCst, SeqCst);
    }
}

/// A client as numbers, the first of which is the kind of client.
fn words(client: Client) -> [u64; 2] {
    match client {
        Client::Network(IpAddr::V4(ip)) => [0, ip.to_bits().into()],
        Client::Network(IpAddr::V6(ip)) => [1, (ip.to_bits() >> 64) as u64],
        Client::LinkLocal(ip, interface) => [2 + (u64::from(interface) << 32), ip.to_bits() as u64],
        Client::User(user) => [3, user.into()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids() -> impl Iterator<Item = ConnectionId> {
        std::iter::successors(Some(ConnectionId::FIRST), |id| Some(id.next()))
    }

    #[test]
    fn a_client_has_as_many_connections_as_it_may() {
        let clients = Box::<SharedClients>::default();
        let [one, other] = ["192.0.2.1", "2001:db8::"].map(|ip| Client::Network(ip.parse().expect("an address")));
        let ids: Vec<_> = ids().take(6).collect();
        for id in &ids[..2] {
            assert!(clients.enter(*id, one, 2).is_ok());
        }
        assert!(clients.enter(ids[2], one, 2).is_err());
        assert!(clients.enter(ids[3], other, 2).is_ok());
        clients.leave(ids[0]);
        clients.leave(ids[2]);
        assert!(clients.enter(ids[4], one, 2).is_ok());
        assert!(clients.enter(ids[5], one, 2).is_err());
    }

    #[test]
    fn the_lock_of_a_process_that_was_killed_is_given_up() {
        let clients = Box::<SharedClients>::default();
        let ids: Vec<_> = ids().take(2).collect();
        clients.lock(ids[0]);
        clients.leave(ids[0]);
        assert!(clients.enter(ids[1], Client::User(1000), 1).is_ok());
        assert_eq!(clients.locked_for.load(SeqCst), 0);
    }
}

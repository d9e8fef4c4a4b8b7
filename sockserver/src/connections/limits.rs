//! How many connections are served at once: in all, for one client, and before their handlers.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use crate::{io::state::ConnectionId, options::Limits};

/// `limits(connections)`.
pub(crate) struct Permits {
    limit: usize,
    /// More than the limit, if that was lowered.
    taken: usize,
    /// The leader waits for a permit, and must be woken when one is returned.
    is_awaited: bool,
}

impl Permits {
    pub(crate) fn new(connections: usize) -> Permits {
        Permits { limit: connections, taken: 0, is_awaited: false }
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    pub(crate) fn left(&self) -> usize {
        self.limit.saturating_sub(self.taken)
    }

    pub(crate) fn set_limit(&mut self, limit: usize) -> Returned {
        self.limit = limit;
        self.notice_return()
    }

    pub(crate) fn room(&self) -> Room {
        if self.taken < self.limit { Room::Left } else { Room::Full }
    }

    /// From now on the leader waits for a permit.
    pub(crate) fn await_return(&mut self) {
        self.is_awaited = true;
    }

    pub(crate) fn take(&mut self) {
        self.taken += 1;
    }

    pub(crate) fn put_back(&mut self) -> Returned {
        self.taken -= 1;
        self.notice_return()
    }

    fn notice_return(&mut self) -> Returned {
        match self.room() == Room::Left && std::mem::take(&mut self.is_awaited) {
            true => Returned::Awaited,
            false => Returned::NotAwaited,
        }
    }
}

/// Whether another connection can be admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    Left,
    Full,
}

/// Whether the leader waits for the permit that was returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Returned {
    /// It does, and must be woken.
    Awaited,
    NotAwaited,
}

impl Returned {
    pub(crate) fn or(self, other: Returned) -> Returned {
        if self == Returned::Awaited { self } else { other }
    }
}

/// `limits(handshakes)`: the connections that are at their PROXY header or their TLS handshake.
pub(crate) struct Handshakes {
    limit: usize,
    /// With the time when each was accepted. Oldest first.
    under_way: BTreeMap<ConnectionId, Instant>,
    /// Since when the leader waits for a place. It must be woken when one is free.
    awaited_since: Option<Instant>,
    /// One of them was ended, and leaves its place in a moment.
    is_making_room: bool,
}

/// How long both may take while all places are taken: a packet that was lost is sent again by then.
const TIME_UNDER_PRESSURE: Duration = Duration::from_secs(3);

/// How long all places must have been taken before one is cleared: most clients are quick, and free theirs.
const PRESSURE: Duration = Duration::from_millis(100);

impl Handshakes {
    /// `capacity`: how many connections are served at once.
    pub(crate) fn limit(limits: &Limits, capacity: usize) -> usize {
        limits.handshakes.unwrap_or(capacity / 2).max(1)
    }

    pub(crate) fn new(limit: usize) -> Handshakes {
        Handshakes { limit, under_way: BTreeMap::new(), awaited_since: None, is_making_room: false }
    }

    pub(crate) fn set_limit(&mut self, limit: usize) -> Returned {
        self.limit = limit;
        self.notice_place()
    }

    pub(crate) fn count(&self) -> usize {
        self.under_way.len()
    }

    pub(crate) fn room(&self) -> Room {
        if self.under_way.len() < self.limit { Room::Left } else { Room::Full }
    }

    /// From now on the leader waits for a place.
    pub(crate) fn await_place(&mut self) {
        self.awaited_since.get_or_insert_with(Instant::now);
    }

    pub(crate) fn begin(&mut self, id: ConnectionId, accepted_at: Instant) {
        self.under_way.insert(id, accepted_at);
    }

    /// Does nothing for a connection that has ended its handshake, or had none.
    pub(crate) fn end(&mut self, id: ConnectionId) -> Returned {
        if self.under_way.remove(&id).is_none() {
            return Returned::NotAwaited;
        }
        self.is_making_room = false;
        self.notice_place()
    }

    fn notice_place(&mut self) -> Returned {
        match self.room() == Room::Left && self.awaited_since.take().is_some() {
            true => Returned::Awaited,
            false => Returned::NotAwaited,
        }
    }

    /// When the oldest connection has to make room. `None`: it need not.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let (_, accepted_at) = self.under_way.first_key_value().filter(|_| !self.is_making_room)?;
        let pressure = self.awaited_since? + PRESSURE;
        Some(pressure.max(*accepted_at + TIME_UNDER_PRESSURE))
    }

    /// The connection that has to make room now. The caller ends it.
    pub(crate) fn make_room(&mut self, now: Instant) -> Option<ConnectionId> {
        self.next_deadline().filter(|deadline| now >= *deadline)?;
        self.is_making_room = true;
        self.under_way.first_key_value().map(|(id, _)| *id)
    }
}

/// What counts as one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Client {
    /// An IPv4 address, or the /64 network of an IPv6 address: a site has at least such a network, and can use any address
    /// of it.
    Network(IpAddr),
    /// A link-local IPv6 address with its interface: all hosts of a link are in the same /64 network.
    LinkLocal(Ipv6Addr, u32),
    /// The user at the other end of a Unix socket.
    User(u32),
}

impl Client {
    pub(crate) fn at(address: &SocketAddr) -> Client {
        match address.ip().to_canonical() {
            IpAddr::V6(ip) if ip.is_unicast_link_local() => {
                let SocketAddr::V6(address) = address else { return Client::LinkLocal(ip, 0) };
                Client::LinkLocal(ip, address.scope_id())
            }
            IpAddr::V6(ip) => Client::Network(IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)))),
            ip => Client::Network(ip),
        }
    }
}

/// `limits(per_client)`.
pub(crate) struct Clients {
    limit: Option<usize>,
    /// How many connections each client has. A client without a connection is not in it.
    counts: HashMap<Client, usize>,
}

impl Clients {
    pub(crate) fn new(limit: Option<usize>) -> Clients {
        Clients { limit, counts: HashMap::new() }
    }

    /// Sets another limit, and counts the connections that are under way.
    pub(crate) fn set_limit(&mut self, limit: Option<usize>, under_way: impl Iterator<Item = Client>) {
        self.limit = limit;
        self.counts.clear();
        if limit.is_some() {
            under_way.for_each(|client| *self.counts.entry(client).or_default() += 1);
        }
    }

    /// Counts a connection of this client, unless the client has reached its limit.
    pub(crate) fn enter(&mut self, client: Option<Client>) -> Result<(), Rejected> {
        let (Some(limit), Some(client)) = (self.limit, client) else { return Ok(()) };
        let count = self.counts.entry(client).or_default();
        if *count >= limit {
            return Err(Rejected::PerClient);
        }
        *count += 1;
        Ok(())
    }

    pub(crate) fn leave(&mut self, client: Option<Client>) {
        let (Some(_), Some(client)) = (self.limit, client) else { return };
        if let Entry::Occupied(mut count) = self.counts.entry(client) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// Why a connection is not admitted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rejected {
    /// No permit is left.
    Limit,
    /// Its client has reached its limit.
    PerClient,
    /// Connections come faster than `limits(rate)`.
    Rate,
    /// Its client comes faster than `limits(rate_per_client)`.
    RatePerClient,
    /// Its client is banned.
    Banned,
    /// `access(…)` does not let its client in.
    Denied,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(address: &str) -> Client {
        Client::at(&address.parse().expect("an address"))
    }

    #[test]
    fn a_client_is_an_ipv4_address_or_an_ipv6_network() {
        assert_eq!(client("[::ffff:192.0.2.1]:1"), client("192.0.2.1:2"));
        assert_eq!(client("[2001:db8::1]:1"), client("[2001:db8::ffff:1]:2"));
        assert_ne!(client("[2001:db8::1]:1"), client("[2001:db8:0:1::1]:1"));
    }

    #[test]
    fn a_host_of_a_link_is_a_client() {
        assert_eq!(client("[fe80::1%2]:1"), client("[fe80::1%2]:2"));
        assert_ne!(client("[fe80::1%2]:1"), client("[fe80::2%2]:1"));
        assert_ne!(client("[fe80::1%2]:1"), client("[fe80::1%3]:1"));
    }

    #[test]
    fn the_oldest_handshake_makes_room_under_pressure() {
        let [first, second] = [ConnectionId::FIRST, ConnectionId::FIRST.next()];
        let mut handshakes = Handshakes::new(2);
        let accepted_at = Instant::now();
        let later = accepted_at + Duration::from_secs(60);
        handshakes.begin(first, accepted_at);
        assert_eq!((handshakes.room(), handshakes.make_room(later)), (Room::Left, None));
        handshakes.begin(second, accepted_at);
        assert_eq!((handshakes.room(), handshakes.make_room(later)), (Room::Full, None));
        handshakes.await_place();
        assert_eq!(handshakes.make_room(accepted_at + TIME_UNDER_PRESSURE - Duration::from_millis(1)), None);
        assert_eq!(handshakes.make_room(later), Some(first));
        // One at a time.
        assert_eq!((handshakes.next_deadline(), handshakes.make_room(later)), (None, None));
        assert_eq!(handshakes.end(first), Returned::Awaited);
        assert_eq!((handshakes.room(), handshakes.make_room(later)), (Room::Left, None));
        assert_eq!(handshakes.end(first), Returned::NotAwaited);
        assert_eq!(handshakes.end(second), Returned::NotAwaited);
    }

    #[test]
    fn a_client_that_has_left_is_forgotten() {
        let mut clients = Clients::new(Some(1));
        clients.enter(Some(client("192.0.2.1:1"))).expect("the first one");
        clients.enter(Some(client("192.0.2.1:1"))).expect_err("the second one");
        clients.enter(Some(client("192.0.2.2:1"))).expect("another client");
        clients.leave(Some(client("192.0.2.1:1")));
        assert_eq!(clients.counts.len(), 1);
        clients.enter(Some(client("192.0.2.1:1"))).expect("the first one");
    }
}

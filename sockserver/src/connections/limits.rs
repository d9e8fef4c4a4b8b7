//! How many connections are served at once: in all, and for one client.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

/// `limits(connections)`.
pub(crate) struct Permits {
    limit: usize,
    left: usize,
    /// The leader waits for a permit, and must be woken when one is returned.
    is_awaited: bool,
}

impl Permits {
    pub(crate) fn new(connections: usize) -> Permits {
        Permits { limit: connections, left: connections, is_awaited: false }
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    pub(crate) fn left(&self) -> usize {
        self.left
    }

    pub(crate) fn room(&self) -> Room {
        match self.left {
            0 => Room::Full,
            _ => Room::Left,
        }
    }

    /// From now on the leader waits for a permit.
    pub(crate) fn await_return(&mut self) {
        self.is_awaited = true;
    }

    pub(crate) fn take(&mut self) {
        self.left -= 1;
    }

    pub(crate) fn put_back(&mut self) -> Returned {
        self.left += 1;
        match std::mem::take(&mut self.is_awaited) {
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
pub(crate) enum Returned {
    /// It does, and must be woken.
    Awaited,
    NotAwaited,
}

/// What counts as one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

    /// Counts a connection of this client, unless the client has reached its limit.
    pub(crate) fn enter(&mut self, client: Option<Client>) -> Result<(), TooMany> {
        let (Some(limit), Some(client)) = (self.limit, client) else { return Ok(()) };
        let count = self.counts.entry(client).or_default();
        if *count >= limit {
            return Err(TooMany);
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

/// The client has reached its limit.
#[derive(Debug)]
pub(crate) struct TooMany;

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

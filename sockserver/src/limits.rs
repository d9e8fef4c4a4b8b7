//! How much is served at once: in all, and for one client.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{IpAddr, Ipv6Addr},
};

use crate::address::Address;

/// `limits(connections)`.
pub(crate) struct Room {
    left: usize,
    /// The acceptor waits for room, and whoever makes some must wake it.
    wanted: bool,
}

impl Room {
    pub(crate) fn new(connections: usize) -> Room {
        Room { left: connections, wanted: false }
    }

    pub(crate) fn is_left(&self) -> bool {
        self.left > 0
    }

    /// As [`is_left`](Self::is_left); if there is none, whoever makes some is to wake the acceptor.
    pub(crate) fn want(&mut self) -> bool {
        self.wanted = !self.is_left();
        self.is_left()
    }

    pub(crate) fn enter(&mut self) {
        self.left -= 1;
    }

    /// `true`: the acceptor waits for it.
    pub(crate) fn leave(&mut self) -> bool {
        self.left += 1;
        std::mem::take(&mut self.wanted)
    }
}

/// `limits(per_client)`.
pub(crate) struct Clients {
    limit: Option<usize>,
    /// Only those who have a connection.
    counts: HashMap<IpAddr, usize>,
}

impl Clients {
    pub(crate) fn new(limit: Option<usize>) -> Clients {
        Clients { limit, counts: HashMap::new() }
    }

    /// `false`: this client has as many as it may.
    pub(crate) fn enter(&mut self, client: Option<IpAddr>) -> bool {
        let (Some(limit), Some(client)) = (self.limit, client) else { return true };
        let count = self.counts.entry(client).or_default();
        let allowed = *count < limit;
        *count += usize::from(allowed);
        allowed
    }

    pub(crate) fn leave(&mut self, client: Option<IpAddr>) {
        let (Some(_), Some(client)) = (self.limit, client) else { return };
        if let Entry::Occupied(mut count) = self.counts.entry(client) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// Whom an address counts for: an IPv6 site has a /64 at least, of which it can use any address.
pub(crate) fn client_of(address: &Address) -> Option<IpAddr> {
    Some(match address.ip()? {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
        ip => ip,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(ip: &str) -> Address {
        Address::Inet((ip.parse::<IpAddr>().expect("an address"), 1).into())
    }

    #[test]
    fn a_client_is_an_ipv4_address_or_an_ipv6_network() {
        assert_eq!(client_of(&client("::ffff:192.0.2.1")), client_of(&client("192.0.2.1")));
        assert_eq!(client_of(&client("2001:db8::1")), client_of(&client("2001:db8::ffff:1")));
        assert_ne!(client_of(&client("2001:db8::1")), client_of(&client("2001:db8:0:1::1")));
        assert_eq!(client_of(&Address::unix("")), None);
    }

    #[test]
    fn a_client_that_has_left_is_forgotten() {
        let mut clients = Clients::new(Some(1));
        assert!(clients.enter(client_of(&client("192.0.2.1"))));
        assert!(!clients.enter(client_of(&client("192.0.2.1"))));
        assert!(clients.enter(client_of(&client("192.0.2.2"))));
        clients.leave(client_of(&client("192.0.2.1")));
        assert_eq!(clients.counts.len(), 1);
        assert!(clients.enter(client_of(&client("192.0.2.1"))));
    }
}

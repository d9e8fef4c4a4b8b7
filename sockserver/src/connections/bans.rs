//! The clients that are banned for a time.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use super::limits::Client;

/// So many clients are banned at most. Above that, the ban that ends first is lifted.
const MAX_BANS: usize = 65_536;

/// The bans that may not have ended.
#[derive(Default)]
pub(crate) struct Bans {
    /// The end of each ban, and the address that it was made for.
    bans: HashMap<Client, (Instant, IpAddr)>,
    /// The same clients by the ends of their bans.
    ends: BTreeSet<(Instant, Client)>,
}

impl Bans {
    /// A second ban of the same client replaces the first.
    pub(super) fn add(&mut self, ip: IpAddr, end: Instant, now: Instant) {
        let client = client_at(ip);
        self.remove(client);
        while let Some(&(its_end, first)) = self.ends.first()
            && (its_end <= now || self.ends.len() >= MAX_BANS)
        {
            self.remove(first);
        }
        self.bans.insert(client, (end, ip));
        self.ends.insert((end, client));
    }

    /// Whether there was a ban.
    pub(crate) fn lift(&mut self, ip: IpAddr, now: Instant) -> bool {
        self.remove(client_at(ip)).is_some_and(|end| end > now)
    }

    fn remove(&mut self, client: Client) -> Option<Instant> {
        let (end, _) = self.bans.remove(&client)?;
        self.ends.remove(&(end, client));
        Some(end)
    }

    pub(super) fn include(&self, client: Client) -> bool {
        self.bans.get(&on_any_interface(client)).is_some_and(|(end, _)| *end > Instant::now())
    }

    /// The bans that have not ended, and how long they last. The one that ends first is the first.
    pub(crate) fn list(&self, now: Instant) -> Vec<(IpAddr, Duration)> {
        let lasting = self.ends.iter().filter(|(end, _)| *end > now);
        lasting.filter_map(|(end, client)| Some((self.bans.get(client)?.1, *end - now))).collect()
    }
}

fn client_at(ip: IpAddr) -> Client {
    on_any_interface(Client::at(&SocketAddr::new(ip, 0)))
}

/// An `IpAddr` has no interface.
fn on_any_interface(client: Client) -> Client {
    match client {
        Client::LinkLocal(ip, _) => Client::LinkLocal(ip, 0),
        client => client,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An hour from now.
    fn hour() -> Instant {
        Instant::now() + Duration::from_secs(3600)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn client(text: &str) -> Client {
        client_at(ip(text))
    }

    #[test]
    fn a_ban_ends() {
        let mut bans = Bans::default();
        bans.add(ip("192.0.2.1"), Instant::now(), Instant::now());
        assert!(!bans.include(client("192.0.2.1")));
        bans.add(ip("192.0.2.1"), hour(), Instant::now());
        assert!(bans.include(client("192.0.2.1")));
        assert!(!bans.include(client("192.0.2.2")));
        assert!(bans.lift(ip("192.0.2.1"), Instant::now()));
        assert!(!bans.lift(ip("192.0.2.1"), Instant::now()));
        assert!(!bans.include(client("192.0.2.1")));
    }

    #[test]
    fn a_ban_is_of_a_client() {
        let mut bans = Bans::default();
        bans.add(ip("2001:db8::1"), hour(), Instant::now());
        bans.add(ip("::ffff:192.0.2.1"), hour(), Instant::now());
        assert!(bans.include(client("2001:db8::ffff")));
        assert!(bans.include(client("192.0.2.1")));
        bans.add(ip("fe80::1"), hour(), Instant::now());
        let at = |address: &str| Client::at(&address.parse().expect("an address"));
        assert!(bans.include(at("[fe80::1%2]:1")));
        assert!(!bans.include(at("[fe80::2%2]:1")));
    }

    #[test]
    fn the_table_is_bounded() {
        let mut bans = Bans::default();
        let (now, end) = (Instant::now(), hour());
        for number in 0..=MAX_BANS as u32 {
            bans.add(IpAddr::from(number.to_be_bytes()), end + Duration::from_secs(number.into()), now);
        }
        let list = bans.list(now);
        assert_eq!(list.len(), MAX_BANS);
        assert_eq!(list[0].0, ip("0.0.0.1"), "the ban that ended first was lifted");
    }
}

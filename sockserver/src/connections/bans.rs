//! The clients that are banned for a time.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use super::{expiring::Expiring, limits::Client};

/// The bans that may not have ended, each with the address that it was made for.
#[derive(Default)]
pub(crate) struct Bans(Expiring<IpAddr>);

impl Bans {
    /// A second ban of the same client replaces the first.
    pub(super) fn add(&mut self, ip: IpAddr, end: Instant, now: Instant) {
        self.0.insert(client_at(ip), end, ip, now);
    }

    /// Whether there was a ban.
    pub(super) fn lift(&mut self, ip: IpAddr, now: Instant) -> bool {
        self.0.remove(client_at(ip)).is_some_and(|end| end > now)
    }

    pub(super) fn include(&self, client: Client, now: Instant) -> bool {
        self.0.end(on_any_interface(client)).is_some_and(|end| end > now)
    }

    /// The bans that have not ended, and how long they last. The one that ends first is the first.
    pub(super) fn list(&self, now: Instant) -> Vec<(IpAddr, Duration)> {
        self.0.iter(now).map(|(end, ip)| (*ip, end - now)).collect()
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
        assert!(!bans.include(client("192.0.2.1"), Instant::now()));
        bans.add(ip("192.0.2.1"), hour(), Instant::now());
        assert!(bans.include(client("192.0.2.1"), Instant::now()));
        assert!(!bans.include(client("192.0.2.2"), Instant::now()));
        assert!(bans.lift(ip("192.0.2.1"), Instant::now()));
        assert!(!bans.lift(ip("192.0.2.1"), Instant::now()));
        assert!(!bans.include(client("192.0.2.1"), Instant::now()));
    }

    #[test]
    fn a_ban_is_of_a_client() {
        let mut bans = Bans::default();
        bans.add(ip("2001:db8::1"), hour(), Instant::now());
        bans.add(ip("::ffff:192.0.2.1"), hour(), Instant::now());
        assert!(bans.include(client("2001:db8::ffff"), Instant::now()));
        assert!(bans.include(client("192.0.2.1"), Instant::now()));
        bans.add(ip("fe80::1"), hour(), Instant::now());
        let at = |address: &str| Client::at(&address.parse().expect("an address"));
        assert!(bans.include(at("[fe80::1%2]:1"), Instant::now()));
        assert!(!bans.include(at("[fe80::2%2]:1"), Instant::now()));
    }
}

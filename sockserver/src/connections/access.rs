//! Which networks are let in.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
};

use crate::{network::Network, options::Access};

/// `access(…)`, in the order in which an address is looked up: the longest prefix first.
#[derive(Default)]
pub(super) struct AccessLists {
    networks: HashMap<Network, Verdict>,
    /// The lengths of their prefixes, so that a lookup takes as many steps, however many networks there are.
    prefixes_v4: BTreeSet<u8>,
    prefixes_v6: BTreeSet<u8>,
    /// For an address in none of the networks.
    otherwise: Verdict,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Verdict {
    #[default]
    Allowed,
    Denied,
}

impl AccessLists {
    pub(super) fn new(access: &Access) -> AccessLists {
        let mut lists = AccessLists::default();
        if access.allow.is_some() {
            lists.otherwise = Verdict::Denied;
        }
        let allowed = access.allow.unwrap_or_default().iter().map(|network| (network, Verdict::Allowed));
        // After the others: a network on both lists is denied.
        let denied = access.deny.unwrap_or_default().iter().map(|network| (network, Verdict::Denied));
        for (network, verdict) in allowed.chain(denied) {
            let prefixes = if network.address().is_ipv4() { &mut lists.prefixes_v4 } else { &mut lists.prefixes_v6 };
            prefixes.insert(network.prefix());
            lists.networks.insert(*network, verdict);
        }
        lists
    }

    pub(super) fn verdict(&self, ip: IpAddr) -> Verdict {
        let ip = ip.to_canonical();
        let prefixes = if ip.is_ipv4() { &self.prefixes_v4 } else { &self.prefixes_v6 };
        let mut networks = prefixes.iter().rev().map(|prefix| Network::around(ip, *prefix));
        networks.find_map(|network| self.networks.get(&network)).copied().unwrap_or(self.otherwise)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> &'static [Network] {
        texts.iter().map(|text| text.parse().expect("a network")).collect::<Vec<_>>().leak()
    }

    fn verdicts(access: &Access, addresses: &[&str]) -> Vec<Verdict> {
        let lists = AccessLists::new(access);
        addresses.iter().map(|address| lists.verdict(address.parse().expect("an address"))).collect()
    }

    #[test]
    fn the_longest_prefix_decides() {
        let access =
            Access::new().allow(networks(&["10.0.0.0/8", "10.1.2.3"])).deny(networks(&["10.1.0.0/16", "0.0.0.0/0"]));
        let addresses = ["10.1.2.3", "10.1.2.4", "10.2.0.1", "192.0.2.1", "::ffff:10.2.0.1"];
        use Verdict::{Allowed, Denied};
        assert_eq!(verdicts(&access, &addresses), [Allowed, Denied, Allowed, Denied, Allowed]);
    }

    #[test]
    fn without_a_list_of_the_allowed_all_others_are() {
        let access = Access::new().deny(networks(&["2001:db8::/32"]));
        let addresses = ["2001:db8::1", "2001:db9::1", "127.0.0.1"];
        use Verdict::{Allowed, Denied};
        assert_eq!(verdicts(&access, &addresses), [Denied, Allowed, Allowed]);
        assert_eq!(verdicts(&Access::new(), &addresses), [Allowed; 3]);
    }

    #[test]
    fn with_a_list_of_the_allowed_no_other_is() {
        let access = Access::new().allow(networks(&["10.0.0.0/8", "fd00::/8"]));
        let addresses = ["10.0.0.1", "fd00::1", "11.0.0.1", "::1"];
        use Verdict::{Allowed, Denied};
        assert_eq!(verdicts(&access, &addresses), [Allowed, Allowed, Denied, Denied]);
    }

    #[test]
    fn a_network_on_both_lists_is_denied() {
        let both = networks(&["10.0.0.0/8"]);
        assert_eq!(verdicts(&Access::new().allow(both).deny(both), &["10.0.0.1"]), [Verdict::Denied]);
    }
}

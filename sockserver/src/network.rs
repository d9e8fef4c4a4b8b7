//! Networks of IP addresses, as lists of peers name them.

use std::{
    error::Error,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// All IP addresses that begin with the same bits: `10.0.0.0/8`, `2001:db8::/32`, or one address alone.
///
/// ```
/// use sockserver::Network;
///
/// let private: Network = "10.0.0.0/8".parse()?;
/// assert!(private.contains("10.1.2.3".parse()?));
/// assert!(!private.contains("11.0.0.1".parse()?));
/// assert_eq!("192.0.2.1".parse::<Network>()?.to_string(), "192.0.2.1/32");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    /// The bits behind the prefix are zero. It is no IPv4 address in the form of an IPv6 one.
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// The network of the addresses whose first `prefix` bits are those of `address`. `None` if the prefix is longer than
    /// the address, or if a bit of the address behind it is set: `10.0.0.1/8` would say less than it seems to.
    ///
    /// An IPv4 network in the form of an IPv6 one (`::ffff:10.0.0.0/104`) is the IPv4 network.
    pub const fn new(address: IpAddr, prefix: u8) -> Option<Network> {
        let (address, prefix) = match address {
            IpAddr::V6(mapped) if prefix >= 96 => match mapped.to_ipv4_mapped() {
                Some(ip) => (IpAddr::V4(ip), prefix - 96),
                None => (address, prefix),
            },
            address => (address, prefix),
        };
        if prefix > length(address) || bits(address) & host_mask(address, prefix) != 0 {
            return None;
        }
        Some(Network { address, prefix })
    }

    /// The network of this prefix, which the address has at most, that this address is in.
    pub(crate) fn around(address: IpAddr, prefix: u8) -> Network {
        let bits = bits(address) & !host_mask(address, prefix);
        let address = match address {
            IpAddr::V4(_) => Ipv4Addr::from_bits(bits as u32).into(),
            IpAddr::V6(_) => Ipv6Addr::from_bits(bits).into(),
        };
        Network { address, prefix }
    }

    /// Its first address.
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// How many bits all its addresses begin with.
    pub const fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether this address is one of the network. An IPv4 address in the form of an IPv6 one, as a server that is bound to
    /// `[::]` sees it, counts as the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && Network::around(address, self.prefix) == *self
    }
}

const fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(ip) => ip.to_bits() as u128,
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

const fn length(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The bits of an address that a prefix leaves free.
const fn host_mask(address: IpAddr, prefix: u8) -> u128 {
    match length(address) - prefix {
        128 => u128::MAX,
        free => (1 << free) - 1,
    }
}

impl FromStr for Network {
    type Err = NotANetwork;

    /// Parses an address with the length of its prefix, `10.0.0.0/8`, or an address alone.
    fn from_str(text: &str) -> Result<Network, NotANetwork> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let parsed = address.parse().ok().and_then(|address| {
            // `parse` would take a sign.
            let digits =
                |prefix: &str| prefix.bytes().all(|byte| byte.is_ascii_digit()).then(|| prefix.parse().ok())?;
            Network::new(address, prefix.map_or(Some(length(address)), digits)?)
        });
        parsed.ok_or_else(|| NotANetwork(text.to_owned()))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// A text names no [`Network`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotANetwork(String);

impl fmt::Display for NotANetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is no network: expected an address, or one with the length of a prefix behind which no bit is set, \
             like 10.0.0.0/8",
            self.0
        )
    }
}

impl Error for NotANetwork {}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn a_network_has_the_addresses_that_begin_with_its_bits() {
        for (net, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("192.0.2.128/25", "192.0.2.129", "192.0.2.127"),
            ("192.0.2.1", "192.0.2.1", "192.0.2.0"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("::/0", "2001:db8::1", "10.0.0.1"),
            ("fd00::/8", "fd12::1", "fe00::1"),
            ("::1", "::1", "::2"),
            ("10.0.0.0/8", "::ffff:10.0.0.1", "::ffff:11.0.0.1"),
            ("::ffff:10.0.0.0/104", "10.0.0.1", "11.0.0.1"),
        ] {
            let has = |address: &str| network(net).contains(address.parse().expect("an address"));
            assert!(has(inside), "{inside} in {net}");
            assert!(!has(outside), "{outside} in {net}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in [
            "",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "::1/0",
            "10.0.0/8",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "localhost",
            "fe80::1%eth0",
        ] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_network_is_displayed_as_it_is_parsed() {
        for text in ["10.0.0.0/8", "0.0.0.0/0", "2001:db8::/32", "192.0.2.1/32"] {
            assert_eq!(network(text).to_string(), text);
        }
    }
}

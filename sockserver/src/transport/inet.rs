//! What the internet transports share: the addresses that a server can be bound to.

use std::{
    fmt::Display,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs},
};

use socket2::{Domain, SockAddr, Socket, Type};

use super::Transport;
use crate::{
    address::Address,
    inheritance,
    options::{Options, SocketOptions},
    sys,
};

/// How often port 0 is tried for a name that stands for several addresses: the port that the first one gets may be taken
/// at another.
const PORTS: u32 = 16;

/// Binds to all of the addresses that a name stands for and this machine has. With port 0 all get the same port.
///
/// `beside`: where the sockets are bound that stand before this name in a list.
pub(super) fn bind_to_all<T: Transport>(
    name: impl Display,
    addresses: io::Result<Vec<SocketAddr>>,
    options: &Options,
    beside: &[Address],
    bind: fn(SocketAddr, &Options) -> io::Result<T::Listener>,
) -> io::Result<Vec<T::Listener>> {
    let bind_once = || {
        let mut bound: Vec<_> = beside.iter().filter_map(inet).collect();
        let (mut listeners, mut port, mut missing) = (Vec::new(), 0, None);
        for mut address in addresses.as_ref().map_err(copy_of)?.iter().copied() {
            if address.port() == 0 {
                address.set_port(port);
            }
            if is_covered(&address, &bound, options) {
                continue;
            }
            let leaves_ipv4 = address.ip() == Ipv6Addr::UNSPECIFIED && has_ipv4(&bound, address.port());
            let result = match leaves_ipv4 {
                true => bind(address, &options.clone().socket(options.socket.clone().only_v6(true))),
                false => bind(address, options),
            };
            match result {
                Ok(listener) => {
                    let address = inet(&T::server_address(&listener)?).unwrap_or(address);
                    port = address.port();
                    bound.push(address);
                    listeners.push(listener);
                }
                // A machine without IPv6 may know the name of an IPv6 address all the same.
                Err(error) if is_missing(&error) => missing = Some(error),
                Err(error) => return Err(error),
            }
        }
        match missing {
            Some(error) if listeners.is_empty() => Err(error),
            _ => Ok(listeners),
        }
    };
    let takes_any_port =
        addresses.as_ref().is_ok_and(|addresses| addresses.len() > 1 && addresses.iter().all(|one| one.port() == 0));
    let mut result = bind_once();
    for _ in 1..PORTS {
        if !takes_any_port || result.as_ref().err().is_none_or(|error| error.kind() != io::ErrorKind::AddrInUse) {
            break;
        }
        result = bind_once();
    }
    result.map_err(|error| cannot_bind(name, error))
}

fn inet(address: &Address) -> Option<SocketAddr> {
    match address {
        Address::Inet(address) => Some(*address),
        Address::Unix(_) => None,
    }
}

/// Whether the bound sockets serve the address already.
fn is_covered(address: &SocketAddr, bound: &[SocketAddr], options: &Options) -> bool {
    let port = address.port();
    let is_bound = |ip: IpAddr| port != 0 && bound.iter().any(|bound| bound.port() == port && bound.ip() == ip);
    // Where an IPv4 address stood before it, `[::]` has left IPv4 to that.
    let takes_ipv4 = || !options.socket.only_v6 && !has_ipv4(bound, port) && is_bound(Ipv6Addr::UNSPECIFIED.into());
    match address {
        SocketAddr::V4(_) => is_bound([0; 4].into()) || takes_ipv4(),
        SocketAddr::V6(_) => is_bound(Ipv6Addr::UNSPECIFIED.into()),
    }
}

fn has_ipv4(bound: &[SocketAddr], port: u16) -> bool {
    bound.iter().any(|bound| bound.is_ipv4() && bound.port() == port)
}

/// Whether this machine does not have the address, or not its family.
fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(libc::EAFNOSUPPORT)
}

fn copy_of(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}

/// The addresses that `host:port` stands for, each once.
pub(super) fn resolve(name: &str) -> io::Result<Vec<SocketAddr>> {
    if let Some((host, port)) = name.strip_prefix('[').and_then(|rest| rest.split_once("]:"))
        && let (Some(address), Ok(port)) = (with_zone(host), port.parse())
    {
        return Ok(vec![at_port(address?, port)]);
    }
    match name.rsplit_once(':').map(|(host, port)| (host, port.parse())) {
        Some((host, Ok(port))) if is_localhost(host) => Ok(loopback(port)),
        _ => each_once(name.to_socket_addrs()).map_err(|error| explain_resolver_error(name, error)),
    }
}

/// The addresses that the host stands for, each once, with this port.
pub(super) fn resolve_host(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    match with_zone(host) {
        Some(address) => Ok(vec![at_port(address?, port)]),
        None if is_localhost(host) => Ok(loopback(port)),
        None => each_once((host, port).to_socket_addrs())
            .map_err(|error| explain_resolver_error(&format!("{host}:{port}"), error)),
    }
}

/// RFC 6761: the name stands for both loopback addresses, although the hosts file of many a machine has only one of them.
fn is_localhost(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
}

fn loopback(port: u16) -> Vec<SocketAddr> {
    vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]
}

fn each_once(found: io::Result<impl Iterator<Item = SocketAddr>>) -> io::Result<Vec<SocketAddr>> {
    let mut addresses = Vec::new();
    for address in found? {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    match addresses.is_empty() {
        true => Err(io::Error::new(io::ErrorKind::InvalidInput, "no address was found")),
        false => Ok(addresses),
    }
}

/// An IPv6 address with its zone, such as `fe80::1%eth0`, which the resolver does not know: the name of an interface, or
/// its number. `None`: the host is something else.
fn with_zone(host: &str) -> Option<io::Result<(Ipv6Addr, u32)>> {
    let (ip, zone) = host.split_once('%')?;
    let ip = ip.parse().ok()?;
    let number = zone.parse().or_else(|_| sys::interface_number(zone)).map_err(|error| {
        io::Error::new(io::ErrorKind::AddrNotAvailable, format!("there is no network interface `{zone}`: {error}"))
    });
    Some(number.map(|number| (ip, number)))
}

fn at_port((ip, zone): (Ipv6Addr, u32), port: u16) -> SocketAddr {
    SocketAddrV6::new(ip, port, 0, zone).into()
}

/// Replaces the resolver's error for a name that is wrongly written: the resolver reports it like an unknown host.
fn explain_resolver_error(name: &str, error: io::Error) -> io::Error {
    let advice = match name.rsplit_once(':') {
        Some(("" | "*", _)) => "a host is needed; for all addresses of this machine, 0.0.0.0 or [::]",
        Some((_, port)) if port.parse::<u16>().is_ok() => return error,
        _ => "a host and a port up to 65535 are needed, like 127.0.0.1:9999",
    };
    io::Error::new(io::ErrorKind::InvalidInput, advice)
}

/// Names the address, and keeps the kind of the error.
pub(super) fn cannot_bind(address: impl Display, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot bind to {address}: {error}"))
}

/// Makes a socket for an internet address, sets the options that must precede bind(2), and binds it. If a predecessor has
/// handed over a socket at this address, it is that one.
pub(super) fn bind_inet(address: SocketAddr, kind: Type, options: &Options) -> io::Result<Socket> {
    let fits = |bound: &SockAddr| {
        let is_same = |bound: SocketAddr| bound.ip() == address.ip() && [bound.port(), 0].contains(&address.port());
        bound.as_socket().is_some_and(is_same)
    };
    if let Some(socket) = inheritance::take_bound(kind, fits) {
        set_options(&socket, address.is_ipv6(), &options.socket)?;
        return Ok(socket);
    }
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(options.socket.only_v6)?;
    }
    // On UDP two servers could share the port by this option, and one of them would receive nothing.
    if kind == Type::STREAM {
        socket.set_reuse_address(options.socket.allow_reuse_address)?;
    }
    if options.socket.allow_reuse_port {
        socket.set_reuse_port(true)?;
    }
    set_options(&socket, address.is_ipv6(), &options.socket)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Sets the options that all internet sockets have: before bind(2), so that the interface is known, and before listen(2), so
/// that the window of a TCP connection fits its buffer.
pub(super) fn set_options(socket: &Socket, is_ipv6: bool, options: &SocketOptions) -> io::Result<()> {
    set_buffers(socket, options)?;
    if let Some(dscp) = options.dscp {
        // The two bits below it are for congestion.
        sys::set_traffic_class(socket, is_ipv6, dscp << 2)?;
    }
    if let Some(device) = options.device {
        let bound = sys::bind_to_device(socket, device);
        bound.map_err(|error| io::Error::new(error.kind(), format!("the interface {device}: {error}")))?;
    }
    Ok(())
}

/// SO_RCVBUF and SO_SNDBUF.
pub(super) fn set_buffers(socket: &Socket, options: &SocketOptions) -> io::Result<()> {
    if let Some(bytes) = options.receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(bytes) = options.send_buffer {
        socket.set_send_buffer_size(bytes)?;
    }
    Ok(())
}

/// Implements [`BindTo`](crate::BindTo) for the types of internet addresses, once for each transport that has them.
macro_rules! inet_addresses {
    ($transport:ty: $($address:ty = |$value:ident| $name:expr, $addresses:expr;)*) => { $(
        impl crate::transport::BindTo<$transport> for $address {
            fn server_bind(
                self,
                options: &Options,
                beside: &[Address],
            ) -> io::Result<Vec<<$transport as Transport>::Listener>> {
                let $value = &self;
                crate::transport::inet::bind_to_all::<$transport>($name, $addresses, options, beside, <$transport>::bind)
            }
        }
    )* };
    ($transport:ty) => {
        crate::transport::inet::inet_addresses! { $transport:
            &str = |name| name, crate::transport::inet::resolve(name);
            String = |name| name, crate::transport::inet::resolve(name);
            &String = |name| name, crate::transport::inet::resolve(name);
            Address = |address| address, crate::transport::inet::resolve_address(address);
            &Address = |address| address, crate::transport::inet::resolve_address(address);
        }
        crate::transport::inet::inet_addresses!($transport, without text);
    };
    ($transport:ty, without text) => {
        crate::transport::inet::inet_addresses! { $transport:
            std::net::SocketAddr = |address| address, Ok(vec![*address]);
            std::net::SocketAddrV4 = |address| address, Ok(vec![(*address).into()]);
            std::net::SocketAddrV6 = |address| address, Ok(vec![(*address).into()]);
            (&str, u16) = |pair| format!("{}:{}", pair.0, pair.1), crate::transport::inet::resolve_host(pair.0, pair.1);
            (String, u16) = |pair| format!("{}:{}", pair.0, pair.1), crate::transport::inet::resolve_host(&pair.0, pair.1);
            (std::net::IpAddr, u16) = |pair| std::net::SocketAddr::from(*pair), Ok(vec![(*pair).into()]);
            (std::net::Ipv4Addr, u16) = |pair| std::net::SocketAddr::from(*pair), Ok(vec![(*pair).into()]);
            (std::net::Ipv6Addr, u16) = |pair| std::net::SocketAddr::from(*pair), Ok(vec![(*pair).into()]);
        }
    };
}
pub(super) use inet_addresses;

/// The address itself, unless it is that of a Unix socket.
pub(super) fn resolve_address(address: &Address) -> io::Result<Vec<SocketAddr>> {
    address.to_socket_addrs().map(Iterator::collect)
}

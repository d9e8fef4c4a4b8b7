//! What TCP and UDP share: the addresses that a server can be bound to.

use std::{fmt::Display, io, net::SocketAddr};

use socket2::{Domain, Socket, Type};

use crate::options::Options;

/// Binds to the first of the addresses that can be bound.
pub(super) fn bind_to_first<L>(
    name: impl Display,
    addresses: io::Result<impl Iterator<Item = SocketAddr>>,
    bind: impl Fn(SocketAddr) -> io::Result<L>,
) -> io::Result<L> {
    let mut last = io::Error::new(io::ErrorKind::InvalidInput, "no address was found");
    for address in addresses.map_err(|error| cannot_bind(&name, explain_resolver_error(&name.to_string(), error)))? {
        match bind(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(cannot_bind(&name, last))
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

/// Makes a socket for an internet address, sets the options that must precede bind(2), and binds it.
pub(super) fn bind_inet(address: SocketAddr, kind: Type, options: &Options) -> io::Result<Socket> {
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
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Implements [`BindTo`](crate::BindTo) for all types of addresses, once for both internet transports.
macro_rules! inet_addresses {
    ($transport:ty: $($address:ty = |$value:ident| $name:expr;)*) => { $(
        impl BindTo<$transport> for $address {
            fn server_bind(self, options: &Options) -> io::Result<<$transport as Transport>::Listener> {
                let $value = &self;
                crate::transport::inet::bind_to_first($name, std::net::ToSocketAddrs::to_socket_addrs(&self), |address| <$transport>::bind(address, options))
            }
        }
    )* };
    ($transport:ty) => {
        crate::transport::inet::inet_addresses! { $transport:
            &str = |name| name;
            String = |name| name;
            &String = |name| name;
            std::net::SocketAddr = |address| address;
            std::net::SocketAddrV4 = |address| address;
            std::net::SocketAddrV6 = |address| address;
            (&str, u16) = |pair| format!("{}:{}", pair.0, pair.1);
            (String, u16) = |pair| format!("{}:{}", pair.0, pair.1);
            (std::net::IpAddr, u16) = |pair| std::net::SocketAddr::from(*pair);
            (std::net::Ipv4Addr, u16) = |pair| std::net::SocketAddr::from(*pair);
            (std::net::Ipv6Addr, u16) = |pair| std::net::SocketAddr::from(*pair);
            Address = |address| address;
            &Address = |address| address;
        }
    };
}
pub(super) use inet_addresses;

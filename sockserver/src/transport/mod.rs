//! Where requests come from: Python's `TCPServer`, `UDPServer`, `UnixStreamServer` and `UnixDatagramServer`.

use std::{
    fmt::Display,
    io,
    net::{SocketAddr, ToSocketAddrs},
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use socket2::{Domain, Socket, Type};

use crate::{
    address::Address,
    datagram::Datagram,
    file::{Files, Reader, Writer},
    io::{
        bell::Bell,
        connection::{Connection, End},
        record::{ConnectionId, Record, Tracked},
    },
    options::{Options, Timeouts},
    stream::Stream,
};

mod tcp;
mod udp;
mod unix;
mod unix_datagram;

pub use crate::datagram::DatagramListener;
pub use tcp::{Tcp, TcpListener};
pub use udp::Udp;
pub use unix::{Unix, UnixListener};
pub use unix_datagram::{UnixDatagram, UnixDatagramListener};

/// Where the requests of a server come from. In `transport = "…"` the words `"tcp"`, `"udp"`, `"unix"` and
/// `"unix_datagram"` stand for [`Tcp`], [`Udp`], [`Unix`] and [`UnixDatagram`]; a path names a type of your own.
///
/// A transport of your own usually wraps one of these, to do something with each connection before it is verified and
/// counted. It must not wait there, as no other client is accepted meanwhile: what reads from the client first, like a
/// PROXY protocol header or the handshake of an encryption, is a type that implements
/// [`FromRequest`](crate::FromRequest).
///
/// ```
/// use sockserver::{Address, BindTo, Options, Stream, Transport, transport::{StreamTransport, Tcp, TcpListener}};
/// use std::{io, os::fd::OwnedFd};
///
/// /// TCP with an answer to each connection before its handler is made.
/// struct Greeting;
///
/// impl Transport for Greeting {
///     type Listener = TcpListener;
///     type Request = Stream;
///
///     fn adopt(socket: OwnedFd, options: &Options) -> io::Result<TcpListener> {
///         Tcp::adopt(socket, options)
///     }
///
///     fn server_address(listener: &TcpListener) -> io::Result<Address> {
///         Tcp::server_address(listener)
///     }
///
///     fn get_request(listener: &TcpListener) -> io::Result<Stream> {
///         let stream = Tcp::get_request(listener)?;
///         io::Write::write_all(&mut &stream, b"hello\n")?;
///         Ok(stream)
///     }
/// }
///
/// impl StreamTransport for Greeting {}
///
/// impl BindTo<Greeting> for &str {
///     fn server_bind(self, options: &Options) -> io::Result<TcpListener> {
///         BindTo::<Tcp>::server_bind(self, options)
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no transport",
    label = "`transport` is \"tcp\", \"udp\", \"unix\", \"unix_datagram\" or a type that implements `Transport`"
)]
pub trait Transport: Sized + Send + Sync + 'static {
    /// The bound socket. Dropping it closes the port.
    type Listener: AsFd + Send + Sync + 'static;

    /// What a request is: a [`Stream`] or a [`Datagram`].
    type Request: AnyRequest;

    /// Makes a listener of a socket that was bound elsewhere. It must not block: see
    /// [`get_request`](Self::get_request).
    fn adopt(socket: OwnedFd, options: &Options) -> io::Result<Self::Listener>;

    /// Where the socket is bound.
    fn server_address(listener: &Self::Listener) -> io::Result<Address>;

    /// Accepts the next request, **without waiting**: if there is none, it fails with [`io::ErrorKind::WouldBlock`],
    /// and is called again when the listener is readable. Python's `get_request`.
    ///
    /// It is called by one thread at a time, and until it returns the server accepts nothing else and cannot stop.
    ///
    /// # Errors
    ///
    /// One that concerns only the connection that was accepted (reset, broken pipe, any that does not come from the
    /// system) is passed over without a word. A shortage, or what nobody knows, is told to `handle_error` once, and the
    /// server rests before it tries again; `EBADF` and the like end it. A panic is an error that does not
    /// come from the system.
    fn get_request(listener: &Self::Listener) -> io::Result<Self::Request>;
}

/// A transport whose requests are [`Stream`]s.
#[diagnostic::on_unimplemented(
    message = "a `Stream` cannot be taken from a request of the transport `{Self}`",
    label = "only \"tcp\" and \"unix\" have streams",
    note = "for \"udp\" and \"unix_datagram\" take a `Datagram`; a `Reader` and a `Writer` work with every transport"
)]
pub trait StreamTransport: Transport<Request = Stream> {}

/// A transport whose requests are [`Datagram`]s.
#[diagnostic::on_unimplemented(
    message = "a `Datagram` cannot be taken from a request of the transport `{Self}`",
    label = "only \"udp\" and \"unix_datagram\" have datagrams",
    note = "for \"tcp\" and \"unix\" take a `Stream`; a `Reader` and a `Writer` work with every transport"
)]
pub trait DatagramTransport: Transport<Request = Datagram> {}

/// A transport whose clients have an IP address and a port.
#[diagnostic::on_unimplemented(
    message = "a `SocketAddr` cannot be taken from a request of the transport `{Self}`",
    label = "only the clients of \"tcp\" and \"udp\" have one",
    note = "an `Address` works with every transport"
)]
pub trait InetTransport: Transport {}

/// A transport whose peers the kernel knows.
#[diagnostic::on_unimplemented(
    message = "a `PeerCred` cannot be taken from a request of the transport `{Self}`",
    label = "only the clients of \"unix\" have credentials"
)]
pub trait UnixTransport: StreamTransport {}

/// An address that a server of the transport `T` can be bound to.
///
/// For tcp and udp: a string like `"127.0.0.1:9999"`, `"[::]:9999"` or `"localhost:9999"`, a pair of host (or IP
/// address) and port, a [`SocketAddr`], an [`Address`]. For Unix sockets: a path as a string, [`Path`](std::path::Path)
/// or [`PathBuf`](std::path::PathBuf), where a leading zero byte makes an abstract name on Linux, or an [`Address`].
///
/// All addresses of the machine are `"0.0.0.0:9999"` or, with IPv6, `"[::]:9999"`; Python's empty host is refused.
#[diagnostic::on_unimplemented(
    message = "a server of the transport `{T}` cannot be bound to a `{Self}`",
    label = "this is no address of that transport",
    note = "\"tcp\" and \"udp\" take \"host:port\", (host, port) or a `SocketAddr`; \"unix\" and \"unix_datagram\" take \
            a path; all take an `Address`"
)]
pub trait BindTo<T: Transport> {
    /// Makes the socket, binds it, and has it listen: Python's `server_bind` and `server_activate`.
    fn server_bind(self, options: &Options) -> io::Result<T::Listener>;
}

/// What a handler is made from: a [`Stream`] or a [`Datagram`]. It cannot be implemented outside of this crate.
pub trait AnyRequest: Internals + Clone + Send + Sync + 'static {
    /// Where the request comes from.
    fn client_address(&self) -> &Address;

    /// The number of this request, which no other request of this process has.
    fn id(&self) -> ConnectionId;
}

mod sealed {
    use super::*;

    pub trait Internals {
        /// The client can do something while the request is under way, and fail to.
        const HAS_PEER: bool;

        fn tracked(&self) -> Arc<dyn Tracked>;
        fn record(&self) -> &Record;
        fn reader(&self, files: &Files) -> io::Result<Reader>;
        fn writer(&self, files: &Files) -> Writer;
        fn set_timeout(&self, timeout: Duration) -> io::Result<()>;
        /// What wakes the handler that waits for the client, and how long it waits at most.
        fn attach(&self, bell: &Arc<Bell>, timeouts: &Timeouts);
        /// The connection, whose socket is the request's own and not the listener's.
        fn connection(&self) -> Option<&Arc<Connection>>;
        /// Sends what was written.
        fn flush(&self) -> io::Result<()>;
        /// Python's `shutdown_request`.
        fn end(&self) -> End;
    }
}
pub(crate) use sealed::Internals;

impl AnyRequest for Stream {
    fn client_address(&self) -> &Address {
        self.peer_address()
    }

    fn id(&self) -> ConnectionId {
        Stream::id(self)
    }
}

impl Internals for Stream {
    const HAS_PEER: bool = true;

    fn attach(&self, bell: &Arc<Bell>, timeouts: &Timeouts) {
        Stream::connection(self).attach(bell, timeouts.idle, timeouts.lifetime);
    }

    fn connection(&self) -> Option<&Arc<Connection>> {
        Some(Stream::connection(self))
    }

    fn tracked(&self) -> Arc<dyn Tracked> {
        Stream::connection(self).clone()
    }

    fn record(&self) -> &Record {
        Stream::record(self)
    }

    fn reader(&self, files: &Files) -> io::Result<Reader> {
        Reader::of_stream(self, files)
    }

    fn writer(&self, files: &Files) -> Writer {
        Writer::of_stream(self, files)
    }

    fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(timeout))?;
        self.set_write_timeout(Some(timeout))
    }

    fn flush(&self) -> io::Result<()> {
        Stream::connection(self).flush()
    }

    fn end(&self) -> End {
        Stream::end(self)
    }
}

impl AnyRequest for Datagram {
    fn client_address(&self) -> &Address {
        Datagram::client_address(self)
    }

    fn id(&self) -> ConnectionId {
        Datagram::id(self)
    }
}

impl Internals for Datagram {
    const HAS_PEER: bool = false;

    fn attach(&self, _bell: &Arc<Bell>, _timeouts: &Timeouts) {}

    fn connection(&self) -> Option<&Arc<Connection>> {
        None
    }

    fn tracked(&self) -> Arc<dyn Tracked> {
        Datagram::tracked(self)
    }

    fn record(&self) -> &Record {
        Datagram::record(self)
    }

    fn reader(&self, files: &Files) -> io::Result<Reader> {
        Ok(Reader::of_datagram(self, files))
    }

    fn writer(&self, _files: &Files) -> Writer {
        Writer::of_datagram(self)
    }

    fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        Datagram::set_timeout(self, timeout);
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Datagram::flush(self)
    }

    fn end(&self) -> End {
        End::Complete
    }
}

/// What `"host:port"` and the like stand for: implemented once for both internet transports.
macro_rules! inet_addresses {
    ($transport:ty: $($address:ty = |$value:ident| $name:expr;)*) => { $(
        impl BindTo<$transport> for $address {
            fn server_bind(self, options: &Options) -> io::Result<<$transport as Transport>::Listener> {
                let $value = &self;
                super::bind_to_first($name, std::net::ToSocketAddrs::to_socket_addrs(&self), |address| <$transport>::bind(address, options))
            }
        }
    )* };
    ($transport:ty) => {
        super::inet_addresses! { $transport:
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
use inet_addresses;

impl ToSocketAddrs for Address {
    type Iter = std::option::IntoIter<SocketAddr>;

    /// Fails with [`io::ErrorKind::InvalidInput`] for the address of a Unix socket.
    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        match self {
            Address::Inet(address) => Ok(Some(*address).into_iter()),
            Address::Unix(_) => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "this is the address of a Unix socket; an internet one is like 127.0.0.1:9999",
            )),
        }
    }
}

/// Binds to the first of the addresses that can be bound.
fn bind_to_first<L>(
    name: impl Display,
    addresses: io::Result<impl Iterator<Item = SocketAddr>>,
    bind: impl Fn(SocketAddr) -> io::Result<L>,
) -> io::Result<L> {
    let mut last = io::Error::new(io::ErrorKind::InvalidInput, "it stands for no address");
    for address in addresses.map_err(|error| cannot_bind(&name, unknown(&name.to_string(), error)))? {
        match bind(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(cannot_bind(&name, last))
}

/// What is wrong with a name that stands for no address, where that can be seen: the system says as much of a typing
/// error as of a host that is not there.
fn unknown(name: &str, error: io::Error) -> io::Error {
    let advice = match name.rsplit_once(':') {
        Some(("" | "*", _)) => "a host is needed; for all addresses of this machine, 0.0.0.0 or [::]",
        Some((_, port)) if port.parse::<u16>().is_ok() => return error,
        _ => "a host and a port up to 65535 are needed, like 127.0.0.1:9999",
    };
    io::Error::new(io::ErrorKind::InvalidInput, advice)
}

/// Names the address, and keeps the kind of the error.
fn cannot_bind(address: impl Display, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot bind to {address}: {error}"))
}

/// A socket for an internet address with the options that have to be set before it is bound.
fn bind_inet(address: SocketAddr, kind: Type, options: &Options) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(options.socket.only_v6)?;
    }
    // On a UDP socket the option would let two servers share the port, one of them receiving nothing.
    if kind == Type::STREAM {
        socket.set_reuse_address(options.socket.allow_reuse_address)?;
    }
    if options.socket.allow_reuse_port {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// What a socket that was bound elsewhere must be.
fn check_adopted(socket: &Socket, kind: Type, unix: bool) -> io::Result<()> {
    let refuse = |reason: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    if socket.r#type()? != kind {
        return refuse(if kind == Type::STREAM { "it is not a stream socket" } else { "it is not a datagram socket" });
    }
    if socket.local_addr()?.is_unix() != unix {
        return refuse(if unix { "it is not a Unix socket" } else { "it is not an internet socket" });
    }
    if kind == Type::STREAM && socket.peer_addr().is_ok() {
        return refuse("it is a connection, which `serve_connection` serves");
    }
    Ok(())
}

/// listen(2), and from here on accepting does not wait. On a socket that listens already it changes the queue's length.
fn listen(socket: &Socket, options: &Options) -> io::Result<()> {
    socket.listen(options.socket.request_queue_size.try_into().unwrap_or(i32::MAX))?;
    socket.set_nonblocking(true)
}

/// One system call on Linux, where a connection does not inherit that its listener does not wait.
fn accept(socket: &Socket) -> io::Result<Stream> {
    let (connection, address) = socket.accept()?;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    // A connection that has ended already may refuse it, which says nothing about the listening socket.
    connection.set_nonblocking(false).map_err(|_| io::Error::from(io::ErrorKind::ConnectionAborted))?;
    Ok(Stream::new(connection, Address::from_system(&address)?))
}

//! Where requests come from: Python's `TCPServer`, `UDPServer`, `UnixStreamServer` and `UnixDatagramServer`.

use std::{
    any::TypeId,
    io,
    os::fd::{AsFd, OwnedFd},
};

use crate::{
    address::Address,
    options::Options,
    request::{AnyRequest, datagram::Datagram, stream::Stream},
};

mod any_stream;
mod datagram_listener;
mod inet;
mod inherited;
mod list;
mod stream_socket;
mod tcp;
mod udp;
mod unix;
mod unix_datagram;
mod unix_file;

pub use any_stream::{AnyStream, AnyStreamAcceptor};
pub use datagram_listener::DatagramListener;
pub use inherited::{Inherited, InheritedOr, inherited};
pub use tcp::{Tcp, TcpAcceptor};
pub use udp::Udp;
pub use unix::{Unix, UnixAcceptor};
pub use unix_datagram::{UnixDatagram, UnixDatagramListener};

/// Where the requests of a server come from. In `transport = "…"` the words `"tcp"`, `"udp"`, `"unix"`,
/// `"unix_datagram"` and `"stream"` stand for [`Tcp`], [`Udp`], [`Unix`], [`UnixDatagram`] and [`AnyStream`]; a path names
/// a type of your own.
///
/// A transport of your own usually wraps one of these, to do something with each connection before the server verifies
/// and counts it. It must not wait, as the server accepts no other client meanwhile. To read from the client first,
/// such as a TLS handshake, implement [`FromRequest`](crate::FromRequest) for a type of your
/// own.
///
/// ```
/// use sockserver::{Address, BindTo, Options, Stream, Transport, transport::{StreamTransport, Tcp, TcpAcceptor}};
/// use std::{io, os::fd::OwnedFd};
///
/// /// TCP with an answer to each connection before its handler is made.
/// struct Greeting;
///
/// impl Transport for Greeting {
///     type Listener = TcpAcceptor;
///     type Request = Stream;
///
///     fn from_listener(socket: OwnedFd, options: &Options) -> io::Result<TcpAcceptor> {
///         Tcp::from_listener(socket, options)
///     }
///
///     fn server_address(listener: &TcpAcceptor) -> io::Result<Address> {
///         Tcp::server_address(listener)
///     }
///
///     fn get_request(listener: &TcpAcceptor) -> io::Result<Stream> {
///         let stream = Tcp::get_request(listener)?;
///         io::Write::write_all(&mut &stream, b"hello\n")?;
///         Ok(stream)
///     }
/// }
///
/// impl StreamTransport for Greeting {}
///
/// impl BindTo<Greeting> for &str {
///     fn server_bind(self, options: &Options, beside: &[Address]) -> io::Result<Vec<TcpAcceptor>> {
///         BindTo::<Tcp>::server_bind(self, options, beside)
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no transport",
    label = "`transport` is \"tcp\", \"udp\", \"unix\", \"unix_datagram\", \"stream\" or a type that implements `Transport`"
)]
pub trait Transport: Sized + Send + Sync + 'static {
    /// The bound socket. Dropping it closes the port.
    type Listener: AsFd + Send + Sync + 'static;

    /// The type of its requests: [`Stream`] or [`Datagram`].
    type Request: AnyRequest;

    /// Makes a listener from a socket that was bound elsewhere. It must make the socket ready for
    /// [`get_request`](Self::get_request), which must not wait.
    fn from_listener(socket: OwnedFd, options: &Options) -> io::Result<Self::Listener>;

    /// The address that the socket is bound to.
    fn server_address(listener: &Self::Listener) -> io::Result<Address>;

    /// Accepts the next request, **without waiting**: Python's `get_request`. If there is no request, it must fail with
    /// [`io::ErrorKind::WouldBlock`]; the server calls it again when the listener is readable.
    ///
    /// One thread at a time calls it. Until it returns, the server accepts nothing else and cannot stop.
    ///
    /// # Errors
    ///
    /// * An error of the accepted connection alone is ignored: a reset, a broken pipe, any error without an OS error code,
    ///   and a panic.
    /// * `EBADF` and other errors of the listening socket end the server.
    /// * A shortage, and any other error, is reported to `handle_error` once. The server pauses before it tries again.
    fn get_request(listener: &Self::Listener) -> io::Result<Self::Request>;
}

/// The word for a transport in the attribute. `None`: it is a type of the user's own.
pub(crate) fn word<T: Transport>() -> Option<&'static str> {
    let words = [
        (TypeId::of::<Tcp>(), "tcp"),
        (TypeId::of::<Udp>(), "udp"),
        (TypeId::of::<Unix>(), "unix"),
        (TypeId::of::<UnixDatagram>(), "unix_datagram"),
        (TypeId::of::<AnyStream>(), "stream"),
    ];
    words.into_iter().find(|(id, _)| *id == TypeId::of::<T>()).map(|(_, word)| word)
}

/// A transport whose requests are [`Stream`]s.
#[diagnostic::on_unimplemented(
    message = "a `Stream` cannot be taken from a request of the transport `{Self}`",
    label = "only \"tcp\", \"unix\" and \"stream\" have streams",
    note = "for \"udp\" and \"unix_datagram\" take a `Datagram`; a `Reader` and a `Writer` work with every transport"
)]
pub trait StreamTransport: Transport<Request = Stream> {}

/// A transport whose requests are [`Datagram`]s.
#[diagnostic::on_unimplemented(
    message = "a `Datagram` cannot be taken from a request of the transport `{Self}`",
    label = "only \"udp\" and \"unix_datagram\" have datagrams",
    note = "for \"tcp\", \"unix\" and \"stream\" take a `Stream`; a `Reader` and a `Writer` work with every transport"
)]
pub trait DatagramTransport: Transport<Request = Datagram> {}

/// A transport whose clients have an IP address and a port.
#[diagnostic::on_unimplemented(
    message = "a `SocketAddr` cannot be taken from a request of the transport `{Self}`",
    label = "only the clients of \"tcp\" and \"udp\" have one",
    note = "an `Address` and an `Option<SocketAddr>` work with every transport"
)]
pub trait InetTransport: Transport {}

/// A transport whose clients' credentials the kernel knows.
#[diagnostic::on_unimplemented(
    message = "a `PeerCred` cannot be taken from a request of the transport `{Self}`",
    label = "only the clients of \"unix\" have credentials",
    note = "an `Option<PeerCred>` works with \"tcp\", \"unix\" and \"stream\""
)]
pub trait UnixTransport: StreamTransport {}

/// An address that a server of the transport `T` can be bound to, or several.
///
/// For tcp and udp: a string like `"127.0.0.1:9999"`, `"[::]:9999"` or `"localhost:9999"`, a pair of a host (or an IP
/// address) and a port, a [`SocketAddr`](std::net::SocketAddr), an [`Address`]. For Unix sockets: a path as a string,
/// [`Path`](std::path::Path) or [`PathBuf`](std::path::PathBuf), where a leading zero byte makes an abstract name on
/// Linux, or an [`Address`]. For `"stream"` ([`AnyStream`]): all of these, but the path in a string is written
/// `unix:/run/app.sock`. For sockets that systemd has bound: [`inherited`].
///
/// To listen on all addresses of the machine, use `"0.0.0.0:9999"` or, with IPv6, `"[::]:9999"`. Python's empty host is
/// refused. A link-local IPv6 address has its interface with it: `"[fe80::1%eth0]:9999"`.
///
/// # Several sockets
///
/// A host name stands for all its addresses that this machine has: `"localhost:9999"` is `127.0.0.1` and `::1`, on two
/// sockets. With port 0 they get the same port. An array, a [`Vec`], a reference to one of them, a slice or a tuple of addresses
/// is bound as a whole or not at all. The server accepts from its sockets in turn.
///
/// ```
/// # use sockserver::{HandlerResult, RequestHandler, Server, Writer, request_handler};
/// # #[request_handler]
/// # #[server(transport = "tcp", concurrency = "threading")]
/// # struct Hello {
/// #     wfile: Writer,
/// # }
/// # impl RequestHandler for Hello {
/// #     fn handle(&mut self) -> HandlerResult { Ok(()) }
/// # }
/// # fn main() -> std::io::Result<()> {
/// let server = HelloServer.bind(["127.0.0.1:0", "127.0.0.2:0"])?;
/// assert_eq!(server.server_addresses().len(), 2);
/// # Ok(()) }
/// ```
///
/// `[::]` takes IPv4 clients too. After an IPv4 address with the same port, as in `["0.0.0.0:80", "[::]:80"]`, it leaves
/// them to that. An address that a socket before it in the list serves already gets no socket of its own.
#[diagnostic::on_unimplemented(
    message = "a server of the transport `{T}` cannot be bound to a `{Self}`",
    label = "this is no address of that transport",
    note = "\"tcp\" and \"udp\" take \"host:port\", (host, port) or a `SocketAddr`; \"unix\" and \"unix_datagram\" take \
            a path; \"stream\" takes all of these, and \"unix:/path\"; all take an `Address`, and lists"
)]
pub trait BindTo<T: Transport> {
    /// Makes the sockets, binds them, and has them listen: Python's `server_bind` and `server_activate`.
    ///
    /// `beside`: where the sockets are bound that stand before this address in a list. It may return no socket if one of
    /// them serves the address.
    fn server_bind(self, options: &Options, beside: &[Address]) -> io::Result<Vec<T::Listener>>;
}

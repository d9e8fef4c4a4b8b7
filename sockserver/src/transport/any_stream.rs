//! TCP or Unix stream sockets, as the addresses say at run time.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use socket2::Socket;

use super::{BindTo, StreamTransport, Tcp, TcpAcceptor, Transport, Unix, UnixAcceptor, inet};
use crate::{address::Address, options::Options, request::stream::Stream};

/// `"stream"`: TCP or Unix stream sockets, which the addresses decide at run time.
///
/// Text that begins with `unix:` is the path of a Unix socket, and `unix:@name` an abstract name on Linux. Other text is a
/// host and a port. A path that is no text, such as a [`Path`], is that of a Unix socket.
///
/// ```
/// use sockserver::{HandlerResult, Reader, RequestHandler, Server, Writer, request_handler};
/// use std::io::Write;
///
/// #[request_handler]
/// #[server(transport = "stream", concurrency = "threading")]
/// struct Upper {
///     rfile: Reader,
///     wfile: Writer,
/// }
///
/// # impl RequestHandler for Upper {
/// #     fn handle(&mut self) -> HandlerResult {
/// #         while let Some(line) = self.rfile.next_line()? {
/// #             writeln!(self.wfile, "{}", line.to_uppercase())?;
/// #         }
/// #         Ok(())
/// #     }
/// # }
/// # fn main() -> std::io::Result<()> {
/// # let path = std::env::temp_dir().join(format!("sockserver-doc-{}", std::process::id()));
/// # let path = path.display();
/// // From a configuration file, for example.
/// let addresses = vec!["127.0.0.1:0".to_owned(), format!("unix:{path}")];
/// let server = UpperServer.bind(addresses)?;
/// # Ok(()) }
/// ```
///
/// A handler's field takes a [`SocketAddr`] and a [`PeerCred`](crate::PeerCred) as an [`Option`]: a client has one or the
/// other. Options of TCP hold for the TCP sockets, those of socket files for the Unix sockets.
#[derive(Clone, Copy, Debug)]
pub struct AnyStream;

/// A listening TCP or Unix stream socket.
#[derive(Debug)]
#[non_exhaustive]
pub enum AnyStreamAcceptor {
    /// A TCP socket.
    Tcp(TcpAcceptor),
    /// A Unix stream socket.
    Unix(UnixAcceptor),
}

impl Transport for AnyStream {
    type Listener = AnyStreamAcceptor;
    type Request = Stream;

    fn from_listener(socket: OwnedFd, options: &Options) -> io::Result<AnyStreamAcceptor> {
        let socket = Socket::from(socket);
        match socket.local_addr()?.is_unix() {
            true => Unix::from_listener(socket.into(), options).map(AnyStreamAcceptor::Unix),
            false => Tcp::from_listener(socket.into(), options).map(AnyStreamAcceptor::Tcp),
        }
    }

    fn server_address(listener: &AnyStreamAcceptor) -> io::Result<Address> {
        match listener {
            AnyStreamAcceptor::Tcp(listener) => Tcp::server_address(listener),
            AnyStreamAcceptor::Unix(listener) => Unix::server_address(listener),
        }
    }

    fn get_request(listener: &AnyStreamAcceptor) -> io::Result<Stream> {
        match listener {
            AnyStreamAcceptor::Tcp(listener) => Tcp::get_request(listener),
            AnyStreamAcceptor::Unix(listener) => Unix::get_request(listener),
        }
    }
}

impl StreamTransport for AnyStream {}

impl AsFd for AnyStreamAcceptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            AnyStreamAcceptor::Tcp(listener) => listener.as_fd(),
            AnyStreamAcceptor::Unix(listener) => listener.as_fd(),
        }
    }
}

impl AnyStream {
    fn bind(address: SocketAddr, options: &Options) -> io::Result<AnyStreamAcceptor> {
        Tcp::bind(address, options).map(AnyStreamAcceptor::Tcp)
    }

    fn bind_unix(address: &Address, options: &Options) -> io::Result<Vec<AnyStreamAcceptor>> {
        let bound = BindTo::<Unix>::server_bind(address, options, &[])?;
        Ok(bound.into_iter().map(AnyStreamAcceptor::Unix).collect())
    }
}

inet::inet_addresses!(AnyStream, without text);

impl BindTo<AnyStream> for &str {
    fn server_bind(self, options: &Options, beside: &[Address]) -> io::Result<Vec<AnyStreamAcceptor>> {
        match self.strip_prefix("unix:").map(|name| (name, name.strip_prefix('@'))) {
            Some((_, Some(name))) => AnyStream::bind_unix(&Address::unix(format!("\0{name}")), options),
            Some((path, None)) => AnyStream::bind_unix(&Address::unix(path), options),
            None if self.contains('/') => Err(inet::cannot_bind(
                self,
                io::Error::new(io::ErrorKind::InvalidInput, format!("the path of a socket is written `unix:{self}`")),
            )),
            None => inet::bind_to_all::<AnyStream>(self, inet::resolve(self), options, beside, AnyStream::bind),
        }
    }
}

/// The types that are bound as another one is.
macro_rules! as_other {
    ($($address:ty = |$value:ident| $other:expr;)*) => { $(
        impl BindTo<AnyStream> for $address {
            fn server_bind(self, options: &Options, beside: &[Address]) -> io::Result<Vec<AnyStreamAcceptor>> {
                let $value = &self;
                BindTo::<AnyStream>::server_bind($other, options, beside)
            }
        }
    )* };
}

as_other! {
    String = |text| text.as_str();
    &String = |text| text.as_str();
    &Path = |path| &Address::unix(path);
    PathBuf = |path| &Address::unix(path);
    &PathBuf = |path| &Address::unix(path);
    Address = |address| address;
}

impl BindTo<AnyStream> for &Address {
    fn server_bind(self, options: &Options, beside: &[Address]) -> io::Result<Vec<AnyStreamAcceptor>> {
        match self {
            Address::Inet(address) => BindTo::<AnyStream>::server_bind(*address, options, beside),
            Address::Unix(_) => AnyStream::bind_unix(self, options),
        }
    }
}

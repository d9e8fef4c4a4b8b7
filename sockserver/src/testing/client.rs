//! A client that is about to connect.

use std::{
    any::Any,
    fmt, io,
    net::{SocketAddr, TcpListener, TcpStream},
    os::{fd::OwnedFd, unix::net::UnixStream},
    sync::{Arc, mpsc},
    thread,
};

use socket2::Socket;

use super::{packets::Packets, peer::Peer, running::Running};
use crate::{
    address::{Address, UnixAddress},
    job::Job,
    proxy_header::ProxyHeader,
    request::stream::Stream,
    server::Server,
    transport::{self, DatagramTransport, StreamTransport},
};

/// A client of a [`TestServer`](super::TestServer) that is about to connect.
pub struct Client<'a, S: Server> {
    server: &'a Arc<Running<S>>,
    address: Option<Address>,
    proxy: Option<Address>,
}

impl<'a, S: Server> Client<'a, S> {
    pub(super) fn new(server: &'a Arc<Running<S>>) -> Client<'a, S> {
        Client { server, address: None, proxy: None }
    }

    /// Where the client is: an IP address with a port, or `unix:/path`. By default it is `192.0.2.9:50000`, and on
    /// `"unix"` and `"unix_datagram"` a socket without a name or one of a new name.
    ///
    /// # Panics
    ///
    /// If it is no address.
    #[track_caller]
    pub fn from(mut self, address: &str) -> Client<'a, S> {
        self.address = Some(parse(address));
        self
    }

    /// A proxy at this address passes the connection on, with a PROXY header of version 2 that names the client. It is for
    /// servers with `proxy(trust = […])`, which decide whether they trust it.
    ///
    /// ```
    /// # use sockserver::{HandlerResult, Address, RequestHandler, Server, Writer, request_handler, testing};
    /// # use std::io::Write;
    /// #[request_handler]
    /// #[server(transport = "tcp", concurrency = "threading", proxy(trust = ["10.0.0.0/8"]))]
    /// struct Whois {
    ///     wfile: Writer,
    ///     client: Address,
    /// }
    ///
    /// # impl RequestHandler for Whois {
    /// #     fn handle(&mut self) -> HandlerResult {
    /// #         Ok(writeln!(self.wfile, "{}", self.client)?)
    /// #     }
    /// # }
    /// let server = testing::serve(WhoisServer);
    /// server.from("203.0.113.9:5000").through("10.0.0.1:4000").connect().expect("203.0.113.9:5000\n");
    /// // Nobody else may speak for others.
    /// server.from("203.0.113.9:5000").through("192.0.2.66:4000").connect().expect_end();
    /// ```
    ///
    /// # Panics
    ///
    /// If it is no address.
    #[track_caller]
    pub fn through(mut self, proxy: &str) -> Client<'a, S> {
        self.proxy = Some(parse(proxy));
        self
    }

    /// Connects the client, and serves it on a thread of its own.
    ///
    /// # Panics
    ///
    /// If this machine has no sockets or threads left.
    #[track_caller]
    pub fn connect(self) -> Peer
    where
        S::Transport: StreamTransport,
    {
        self.try_connect().unwrap_or_else(|error| panic!("the client cannot be connected: {error}"))
    }

    fn try_connect(self) -> io::Result<Peer>
    where
        S::Transport: StreamTransport,
    {
        let running = self.server.clone();
        let acceptor = running.0.clone();
        let is_unix = transport::word::<S::Transport>() == Some("unix");
        let at = |default: u8| match is_unix {
            true => Address::Unix(UnixAddress::Unnamed),
            false => Address::Inet(SocketAddr::from(([192, 0, 2, default], 50000))),
        };
        let client = self.address.unwrap_or_else(|| at(9));
        let header =
            self.proxy.as_ref().map(|_| ProxyHeader::new(client.clone(), acceptor.handle().server_address().clone()));
        let peer_address = self.proxy.unwrap_or(client);
        let (ours, theirs) = if matches!(peer_address, Address::Unix(_)) { unix_pair()? } else { tcp_pair()? };
        let stream = Stream::new(theirs, peer_address);
        let (report, result) = mpsc::sync_channel(1);
        let serve = move || {
            let served = match acceptor.admit(&stream) {
                Ok(()) => Job::new(&acceptor, stream).verify_and_process(),
                Err(why) => {
                    acceptor.reject(stream, why);
                    Ok(())
                }
            };
            // The test may not want to know.
            let _ = report.send(served);
        };
        thread::Builder::new().name("sockserver test connection".into()).spawn(serve)?;
        let mut peer = Peer::new(Socket::from(ours), result, running as Arc<dyn Any + Send + Sync>)?;
        if let Some(header) = header {
            peer.send(header.to_v2()?);
        }
        Ok(peer)
    }

    /// A client that sends packets.
    ///
    /// # Panics
    ///
    /// If this machine has no sockets left, or if a proxy was named: packets have no PROXY header.
    #[track_caller]
    pub fn packets(self) -> Packets
    where
        S::Transport: DatagramTransport,
    {
        assert!(self.proxy.is_none(), "packets have no PROXY header");
        Packets::new(self.server, self.address).unwrap_or_else(|error| panic!("the client cannot be made: {error}"))
    }
}

#[track_caller]
fn parse(address: &str) -> Address {
    match address.strip_prefix("unix:") {
        Some(path) => Address::unix(path),
        None => address.parse().map(Address::Inet).unwrap_or_else(|_| {
            panic!("`{address}` is no address: expected one like 203.0.113.9:5000, [2001:db8::1]:5000 or unix:/path")
        }),
    }
}

fn unix_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = UnixStream::pair()?;
    Ok((ours.into(), theirs.into()))
}

/// Both ends of a new TCP connection. A pair of Unix sockets cannot be reset.
fn tcp_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let ours = TcpStream::connect(listener.local_addr()?)?;
    loop {
        let (theirs, from) = listener.accept()?;
        // Somebody else may have been quicker.
        if from == ours.local_addr()? {
            ours.set_nodelay(true)?;
            theirs.set_nodelay(true)?;
            return Ok((ours.into(), theirs.into()));
        }
    }
}

impl<S: Server> fmt::Debug for Client<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("address", &self.address).field("proxy", &self.proxy).finish_non_exhaustive()
    }
}

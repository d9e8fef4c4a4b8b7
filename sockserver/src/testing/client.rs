//! A client that is about to connect.

use std::{
    any::Any,
    fmt,
    io::{self, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::{fd::OwnedFd, unix::net::UnixStream},
    sync::{Arc, mpsc},
    thread,
};

use socket2::Socket;

#[cfg(feature = "tls")]
use super::trust::Trust;
use super::{packets::Packets, peer::Peer, running::Running, wire::Wire};
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
    /// `None`: it takes any certificate.
    #[cfg(feature = "tls")]
    trust: Option<Trust>,
}

impl<'a, S: Server> Client<'a, S> {
    pub(super) fn new(server: &'a Arc<Running<S>>) -> Client<'a, S> {
        Client {
            server,
            address: None,
            proxy: None,
            #[cfg(feature = "tls")]
            trust: None,
        }
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

    /// How the client shakes hands with a server that has TLS. The name is what it asks for (SNI), and what the server's
    /// certificate has to be for. Without it the client asks for `localhost`, and takes any certificate.
    ///
    /// The kit's own certificate is signed with its own key, so a configuration that verifies certificates refuses it with
    /// `UnknownIssuer`. For a client with a certificate of its own, [`certificate`](Self::certificate) is simpler.
    ///
    /// ```
    /// # use sockserver::{HandlerResult, Reader, RequestHandler, Server, Writer, request_handler, testing};
    /// # use std::{io::Write, sync::Arc};
    /// // The kit has a certificate in place of the files.
    /// #[request_handler]
    /// #[server(transport = "tcp", concurrency = "threading", tls(certificate = "/etc/app.pem", key = "/etc/app.key"))]
    /// struct Hello {
    ///     wfile: Writer,
    /// }
    ///
    /// # impl RequestHandler for Hello {
    /// #     fn handle(&mut self) -> HandlerResult {
    /// #         Ok(self.wfile.write_all(b"hello")?)
    /// #     }
    /// # }
    /// let server = testing::serve(HelloServer);
    /// server.connect().expect("hello");
    ///
    /// use sockserver::rustls;
    ///
    /// let provider = Arc::new(rustls::crypto::ring::default_provider());
    /// let nothing = rustls::ClientConfig::builder_with_provider(provider)
    ///     .with_safe_default_protocol_versions()
    ///     .unwrap()
    ///     .with_root_certificates(rustls::RootCertStore::empty())
    ///     .with_no_client_auth();
    /// let distrustful = server.from("203.0.113.9:5000").tls(nothing, "localhost").connect();
    /// assert!(distrustful.result().is_err());
    /// ```
    ///
    /// # Panics
    ///
    /// If it is no name of a server.
    #[cfg(feature = "tls")]
    #[track_caller]
    pub fn tls(mut self, config: impl Into<Arc<rustls::ClientConfig>>, name: &str) -> Client<'a, S> {
        let trust = Trust::new(config.into(), name);
        match trust {
            Ok(trust) => self.trust = Some(trust),
            Err(error) => panic!("`{name}` is no name of a server: {error}"),
        }
        self
    }

    /// The certificate of the client, with the chain behind it, and its private key, both in PEM: for servers with
    /// `tls(client_auth = …)`. The client takes any certificate of the server, as one without [`tls`](Self::tls) does.
    ///
    /// ```no_run
    /// # use sockserver::{HandlerResult, PeerCertificate, RequestHandler, Server, Writer, request_handler, testing::TestServer};
    /// # use std::{fs, io::Write};
    /// #[request_handler]
    /// #[server(
    ///     transport = "tcp",
    ///     concurrency = "threading",
    ///     tls(certificate = "/etc/app.pem", key = "/etc/app.key", client_auth = "required", client_ca = "/etc/clients.pem"),
    /// )]
    /// struct Whoami {
    ///     wfile: Writer,
    ///     client: PeerCertificate,
    /// }
    ///
    /// # impl RequestHandler for Whoami {
    /// #     fn handle(&mut self) -> HandlerResult {
    /// #         Ok(write!(self.wfile, "{}", self.client.dns_names().concat())?)
    /// #     }
    /// # }
    /// # fn main() -> std::io::Result<()> {
    /// let mut options = WhoamiServer::OPTIONS;
    /// options.tls.client_ca = Some("tests/ca.pem");
    /// let server = TestServer::new(WhoamiServer, options);
    /// let alice = server.from("203.0.113.9:5000").certificate(fs::read("tests/alice.pem")?, fs::read("tests/alice.key")?);
    /// alice.connect().expect("alice.example");
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    ///
    /// If there is no certificate or no key in them, or the two do not belong together.
    #[cfg(feature = "tls")]
    #[track_caller]
    pub fn certificate(mut self, certificate: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Client<'a, S> {
        match Trust::blind_as(certificate.as_ref(), key.as_ref()) {
            Ok(trust) => self.trust = Some(trust),
            Err(error) => panic!("this is no certificate for the client: {error}"),
        }
        self
    }

    /// Connects the client, and serves it on a thread of its own. With TLS it shakes hands with the first that is sent or
    /// expected.
    ///
    /// # Panics
    ///
    /// If this machine has no sockets or threads left.
    #[track_caller]
    pub fn connect(self) -> Peer
    where
        S::Transport: StreamTransport,
    {
        match self.try_connect() {
            Ok(peer) => peer,
            Err(error) => panic!("the client cannot be connected: {error}"),
        }
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
        let mut wire = Wire::new(
            Socket::from(ours),
            #[cfg(feature = "tls")]
            self.trust.map_or_else(Trust::blind, Ok)?,
        )?;
        if let Some(header) = header {
            wire.write_all(&header.to_v2()?)?;
        }
        #[cfg(feature = "tls")]
        if running.0.state().shakes_hands() {
            wire.encrypt()?;
        }
        Ok(Peer::new(wire, result, running as Arc<dyn Any + Send + Sync>))
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
        match Packets::new(self.server, self.address) {
            Ok(packets) => packets,
            Err(error) => panic!("the client cannot be made: {error}"),
        }
    }
}

#[track_caller]
fn parse(address: &str) -> Address {
    match address.parse() {
        Ok(address) => address,
        Err(error) => panic!("{error}"),
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

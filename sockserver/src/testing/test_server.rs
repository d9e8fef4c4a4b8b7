//! A server without a port.

use std::{fmt, sync::Arc};

#[cfg(feature = "tls")]
use super::trust;
use super::{client::Client, packets::Packets, peer::Peer, running::Running};
use crate::{
    acceptor::Acceptor,
    address::Address,
    concurrency::Concurrency,
    connections::drain::DrainReport,
    handle::ServerHandle,
    options::Options,
    server::{self, Server},
    transport::{self, DatagramTransport, StreamTransport},
};

/// A server without a port: what [`serve`](super::serve) returns.
///
/// It serves each connection on a thread of its own, whatever its concurrency, and packets on the thread of the test. All
/// else is as in the real server: the limits, the timeouts, the PROXY header, and the hooks but `handle_error`, as
/// [`Peer::result`] returns the error. With TLS, its clients speak TLS.
///
/// When it and all its clients are dropped, the server drains, and `server_close` is called.
pub struct TestServer<S: Server> {
    running: Arc<Running<S>>,
}

impl<S: Server> TestServer<S> {
    /// A server with options that the test decides.
    ///
    /// Where they name the same certificate as the attribute, the kit has one for `localhost` in its place, and its files need
    /// not exist. The file of `tls(client_ca)` is read.
    ///
    /// # Panics
    ///
    /// If the server cannot be bound with these options, or its hook `server_activate` panics.
    #[track_caller]
    pub fn new(server: S, options: Options) -> TestServer<S> {
        if let Err(error) = server::check_options::<S, S::Concurrency>(&server, &options) {
            panic!("the server cannot be bound: {error}");
        }
        // An address that no machine has.
        let server_address = match transport::word::<S::Transport>() {
            Some("unix" | "unix_datagram") => Address::unix("/nowhere/server.sock"),
            _ => Address::Inet(([192, 0, 2, 1], 9999).into()),
        };
        let capacity = Box::new(|options: &Options| Some(S::Concurrency::default().max_connections(options)));
        #[cfg(feature = "tls")]
        let certificate = {
            let is_declared = options.tls.certificate == S::OPTIONS.tls.certificate;
            let declared = options.tls.certificate.filter(|_| is_declared);
            declared.map(|_| trust::certificate().expect("the certificate of the kit is one"))
        };
        let acceptor = Acceptor::unbound(
            server,
            server_address,
            options,
            capacity,
            #[cfg(feature = "tls")]
            certificate,
        );
        // A closure would not be at the line of the test.
        let acceptor = match acceptor {
            Ok(acceptor) => acceptor,
            Err(error) => panic!("the server cannot be made: {error}"),
        };
        if let Err(message) = acceptor.hooks.server_activate(acceptor.handle()) {
            panic!("server_activate panicked: {message}");
        }
        TestServer { running: Arc::new(Running(acceptor)) }
    }

    /// Connects a client.
    #[track_caller]
    pub fn connect(&self) -> Peer
    where
        S::Transport: StreamTransport,
    {
        Client::new(&self.running).connect()
    }

    /// A client that sends packets.
    #[track_caller]
    pub fn packets(&self) -> Packets
    where
        S::Transport: DatagramTransport,
    {
        Client::new(&self.running).packets()
    }

    /// A client at this address, to be connected next: an IP address with a port, or `unix:/path`.
    ///
    /// # Panics
    ///
    /// If it is no address.
    #[track_caller]
    pub fn from(&self, address: &str) -> Client<'_, S> {
        Client::new(&self.running).from(address)
    }

    /// A client whose connection a proxy passes on, to be connected next: see [`Client::through`].
    ///
    /// # Panics
    ///
    /// If it is no address.
    #[track_caller]
    pub fn through(&self, proxy: &str) -> Client<'_, S> {
        Client::new(&self.running).through(proxy)
    }

    /// The server struct.
    pub fn server(&self) -> &Arc<S> {
        self.running.0.server()
    }

    /// The handle that steers the server. A test calls its [`shutdown`](ServerHandle::shutdown) to see how the handlers say
    /// goodbye.
    pub fn handle(&self) -> ServerHandle {
        self.running.0.handle().clone()
    }

    /// Stops the server, and waits until its handlers have ended.
    pub fn stop(self) -> DrainReport {
        let handle = self.handle();
        self.running.0.close();
        handle.wait().expect("this is no thread of the server")
    }
}

impl<S: Server> fmt::Debug for TestServer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestServer").field("handle", &self.running.0.handle()).finish_non_exhaustive()
    }
}

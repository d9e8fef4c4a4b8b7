//! For tests of servers: clients that need no port, and [clients that mean harm](hostile).
//!
//! A test plays the client of a handler, in the order in which the two take turns. It panics where the handler does not do
//! what is expected, or nothing for 10 seconds, and says why the handler has failed, if it has.
//!
//! ```
//! use sockserver::{HandlerResult, Reader, RequestHandler, Server, Writer, request_handler, testing};
//! use std::io::Write;
//!
//! #[request_handler]
//! #[server(transport = "tcp", concurrency = "threading")]
//! struct Upper {
//!     rfile: Reader,
//!     wfile: Writer,
//! }
//!
//! impl RequestHandler for Upper {
//!     fn handle(&mut self) -> HandlerResult {
//!         while let Some(line) = self.rfile.next_line()? {
//!             writeln!(self.wfile, "{}", line.to_uppercase())?;
//!         }
//!         Ok(())
//!     }
//! }
//!
//! let mut peer = testing::connect(UpperServer);
//! peer.send("hello\n");
//! peer.expect("HELLO\n");
//! peer.end();
//! peer.expect_end();
//! assert!(peer.result().is_ok());
//! ```
//!
//! [The guide](crate::guide::testing) has more.

use crate::{
    server::Server,
    transport::{DatagramTransport, StreamTransport},
};

mod client;
mod difference;
pub mod hostile;
mod packets;
mod peer;
mod running;
mod test_server;
#[cfg(feature = "tls")]
mod trust;
mod wire;

pub use client::Client;
pub use packets::Packets;
pub use peer::Peer;
pub use test_server::TestServer;

/// Connects a client to a server that has no port, and serves it on a thread. For one client;
/// [`serve`] is for several, and for what else a test decides.
#[track_caller]
pub fn connect<S: Server<Transport: StreamTransport>>(server: S) -> Peer {
    serve(server).connect()
}

/// A client that sends packets to a server that has no port.
#[track_caller]
pub fn packets<S: Server<Transport: DatagramTransport>>(server: S) -> Packets {
    serve(server).packets()
}

/// A server without a port, which tests connect their clients to.
///
/// ```
/// # use sockserver::{HandlerResult, Address, RequestHandler, Server, Writer, request_handler, testing};
/// # use std::io::Write;
/// #[request_handler]
/// #[server(transport = "tcp", concurrency = "threading", limits(per_client = 1))]
/// struct Whois {
///     wfile: Writer,
///     client: Address,
/// }
///
/// impl RequestHandler for Whois {
///     fn handle(&mut self) -> HandlerResult {
///         Ok(writeln!(self.wfile, "{}", self.client)?)
///     }
/// }
///
/// let server = testing::serve(WhoisServer);
/// server.from("203.0.113.9:5000").connect().expect("203.0.113.9:5000\n");
/// server.from("[2001:db8::1]:5000").connect().expect("[2001:db8::1]:5000\n");
/// ```
///
/// With the feature `tls`, clients of a server with TLS speak TLS: [`Client::tls`] says how. Where the attribute names the files of
/// a certificate, the kit has one for `localhost` in their place. The file of `tls(client_ca)` is read: [`TestServer::new`] takes
/// the path of another one.
///
/// # Panics
///
/// If the server cannot be bound with the options of its attribute, or its hook `server_activate` panics.
#[track_caller]
pub fn serve<S: Server>(server: S) -> TestServer<S> {
    TestServer::new(server, S::OPTIONS)
}

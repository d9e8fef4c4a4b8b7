//! Socket servers made from annotated structs: Python's `socketserver`, with the composition checked at compile time,
//! servers that stop when you call `shutdown`, and clients that cannot take them down.
//!
//! # A server is a struct
//!
//! A *handler* is a struct with a `handle` method. Its fields are taken from each request by their types. If connections
//! share nothing, that is all there is to write:
//!
//! ```no_run
//! use sockserver::{HandlerResult, Reader, RequestHandler, Server, Writer, request_handler};
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
//! fn main() -> std::io::Result<()> {
//!     UpperServer.bind("127.0.0.1:9999")?.serve_forever()
//! }
//! ```
//!
//! If they share something, the *server* is a struct of its own, which every handler can have as an `Arc`:
//!
//! ```
//! use sockserver::{Address, HandlerResult, Reader, RequestHandler, Server, Stream, Writer, request_handler};
//! use std::{
//!     io::{BufRead, BufReader, Write},
//!     net::TcpStream,
//!     sync::{Arc, atomic::{AtomicU64, Ordering::Relaxed}},
//! };
//!
//! #[derive(Default, Server)]
//! #[server(
//!     transport = "tcp",
//!     concurrency = "pool",
//!     workers = 4,
//!     handler = Session,
//!     limits(per_client = 2),
//!     timeouts(idle = "5m", shutdown = "10s"),
//!     hooks(verify_request = Self::only_local),
//! )]
//! struct Counter {
//!     requests: AtomicU64,
//! }
//!
//! impl Counter {
//!     fn only_local(&self, _request: &Stream, client_address: &Address) -> bool {
//!         client_address.ip().is_some_and(|ip| ip.is_loopback())
//!     }
//! }
//!
//! #[request_handler(timeout = "30s")]
//! struct Session {
//!     rfile: Reader,
//!     wfile: Writer,
//!     server: Arc<Counter>,
//!     #[default]
//!     lines: u64,
//! }
//!
//! impl RequestHandler for Session {
//!     fn handle(&mut self) -> HandlerResult {
//!         while let Some(_line) = self.rfile.next_line()? {
//!             self.lines += 1;
//!             let requests = self.server.requests.fetch_add(1, Relaxed) + 1;
//!             writeln!(self.wfile, "line {} of yours, {requests} of all", self.lines)?;
//!         }
//!         Ok(())
//!     }
//! }
//!
//! # fn main() -> std::io::Result<()> {
//! let server = Counter::default().bind("127.0.0.1:0")?.spawn()?;
//! let mut client = TcpStream::connect(("127.0.0.1", server.server_address().port().unwrap()))?;
//! client.write_all(b"hello\n")?;
//! let mut answer = String::new();
//! BufReader::new(&client).read_line(&mut answer)?;
//! assert_eq!(answer, "line 1 of yours, 1 of all\n");
//! drop(client);
//! server.stop()?;
//! # Ok(()) }
//! ```
//!
//! One word changes the server: `transport` is `"tcp"`, `"udp"`, `"unix"` or `"unix_datagram"`, `concurrency` is
//! `"sync"`, `"threading"`, `"pool"` or `"forking"`. A handler with a [`Reader`] and a [`Writer`] works with all of them
//! unchanged. All keys are documented at [`derive@Server`] and [`macro@request_handler`], all options at [`Options`].
//!
//! # What happens to a request
//!
//! `get_request` ([`Transport`]) → limits → `verify_request` (hook) → `process_request` ([`Concurrency`]) →
//! `finish_request` (handler: [`FromRequest`], `setup`, `handle`,
//! `closing` if the server ends the connection, `finish`) → `handle_error` (hook, if it failed) →
//! `shutdown_request` (end of file to the client) → `close_request` (the socket is dropped).
//!
//! # Stopping
//!
//! [`ServerHandle::shutdown`] works from anywhere and never blocks. The port closes at once; a datagram server's closes
//! when the last [`Datagram`] is dropped.
//!
//! - [Idle](Stream#idle-and-busy) connections end at once, after the handler has answered what the server had received.
//!   Busy connections are cut after [`timeouts(shutdown)`](Timeouts::shutdown).
//! - A handler that waits for its client gets an error with [`Closing`] inside, never an end of file that the client has
//!   not sent. It can say goodbye in [`RequestHandler::closing`].
//! - What the handler has sent arrives, even if the client had sent more than the handler has read.
//! - [`RunningServer::stop`] and [`ServerHandle::wait`] return a [`DrainReport`].
//! - With [`timeouts(linger)`](Timeouts::linger) the server goes on accepting for a while before it drains, so that load
//!   balancers notice that it is not [ready](ServerHandle::is_ready).
#![cfg_attr(
    feature = "signals",
    doc = "\nWith the feature `signals`, [`SocketServer::shutdown_on_signals`] does the same on SIGINT and SIGTERM."
)]
//!
//! # Coming from Python
//!
//! Every name of `socketserver` (as of Python 3.15), where it lives here, and what differs:
//!
//! | Python | here | what differs |
//! |---|---|---|
//! | `BaseServer` | [`trait Server`](trait@Server), [`SocketServer`] | what the user writes, and the bound server, are two types |
//! | `TCPServer`, `UDPServer`, `UnixStreamServer`, `UnixDatagramServer` | `transport = "tcp"`, `"udp"`, `"unix"`, `"unix_datagram"` | also types: [`transport`] |
//! | `ThreadingMixIn`, `ThreadingTCPServer`, `ThreadingUDPServer`, `ThreadingUnixStreamServer`, `ThreadingUnixDatagramServer` | `concurrency = "threading"` | threads are reused and limited; see [`concurrency::Threading`] |
//! | `ForkingMixIn`, `ForkingTCPServer`, `ForkingUDPServer`, `ForkingUnixStreamServer`, `ForkingUnixDatagramServer` | `concurrency = "forking"` | a process with several threads is refused; see [`concurrency::Forking`] |
//! | (none) | `concurrency = "pool"` | a fixed number of threads |
//! | `BaseRequestHandler` | [`RequestHandler`] | only the fields that are declared are there |
//! | `StreamRequestHandler`, `DatagramRequestHandler` | a [`RequestHandler`] with a [`Reader`] and a [`Writer`] | one handler serves both |
//! | `BaseServer(server_address, RequestHandlerClass)` | [`Server::bind`], `handler = …` | port 0 and host names as in Python |
//! | `bind_and_activate=False` | [`Server::with_listener`] | a socket that was made and bound elsewhere |
//! | `RequestHandlerClass` | [`Server::Handler`] | |
//! | `server_address` | [`SocketServer::server_address`], [`ServerHandle::server_address`] | an [`Address`] |
//! | `socket`, `fileno()` | [`SocketServer`] as [`AsFd`](std::os::fd::AsFd) | |
//! | `address_family`, `socket_type` | the `transport`; the family follows from the address | IPv6 without a subclass |
//! | `request_queue_size` | `socket(request_queue_size)` | 1024 (Python: 5, since 3.15 `SOMAXCONN`) |
//! | `allow_reuse_address` | `socket(allow_reuse_address)` | true (Python: false); not on UDP |
//! | `allow_reuse_port` | `socket(allow_reuse_port)` | |
//! | `max_packet_size` | `socket(max_packet_size)` | 65 535 (Python: 8192); what is longer is [flagged](Datagram::is_truncated) |
//! | `timeout` of a server | `timeouts(handle_request)` | |
//! | `server_bind()` | [`BindTo::server_bind`] | a method of the address |
//! | `server_activate()` | [`Server::server_activate`] | a hook, called when the socket listens |
//! | `serve_forever(poll_interval)` | [`SocketServer::serve_forever`], `timeouts(poll)` | no polling: an idle server does not wake up |
//! | `shutdown()` | [`ServerHandle::shutdown`], [`ServerHandle::wait`] | does not block, drains, works in a handler |
//! | `server_close()`, `with` | [`Server::server_close`]; dropping | the port closes by itself |
//! | `block_on_close`, `daemon_threads` | `timeouts(shutdown)` | requests under way get that long, in every concurrency |
//! | `handle_request()` | [`SocketServer::handle_request`] | |
//! | `service_actions()` | [`Server::service_actions`] | |
//! | `handle_timeout()` | [`Server::handle_timeout`] | |
//! | `get_request()` | [`Transport::get_request`] | |
//! | `verify_request()` | [`Server::verify_request`] | |
//! | `process_request()`, `process_request_thread()` | [`Concurrency::process_request`] | |
//! | `finish_request()` | [`Job::process`] | |
//! | `shutdown_request()`, `close_request()` | dropping a [`Job`] | |
//! | `handle_error()` | [`Server::handle_error`] | a [`HandlerError`]; a client that hung up is not printed |
//! | `max_children` | `limits(connections)` | for every concurrency |
//! | `active_children` | [`ServerHandle::connections`] | for every concurrency |
//! | `collect_children()` | (inside) | children are waited for as they end, and only those of the server |
//! | `request`, `connection` of a handler | a field of type [`Stream`] or [`Datagram`] | |
//! | `packet`, `socket` of a `DatagramRequestHandler` | [`Datagram::payload`], [`Datagram::reply`] | a reply leaves from where the request came to |
//! | `client_address` | a field of type [`Address`] or [`SocketAddr`](std::net::SocketAddr) | |
//! | `server` | a field of type `Arc<TheServer>` | |
//! | `setup()`, `handle()`, `finish()` | [`RequestHandler`] | `finish` is also called after a panic |
//! | `rfile`, `wfile` | fields of type [`Reader`], [`Writer`] | tied: reading sends what was written; no empty datagram reply |
//! | `rfile.readline()` | [`Reader::next_line`], [`Reader::next_line_bytes`] | without the line's end, and limited |
//! | `rbufsize`, `wbufsize`, `timeout` of a handler | `#[request_handler(rbufsize, wbufsize, timeout)]` | both buffers 8 KiB (Python: default, 0) |
//! | `disable_nagle_algorithm` | `socket(nodelay)` | true (Python: false) |

#![deny(missing_docs)]

#[cfg(not(unix))]
compile_error!("sockserver is for Unix systems: Linux, macOS and the BSDs");

mod acceptor;
mod address;
mod callbacks;
pub mod concurrency;
mod connections;
mod error;
mod exits;
mod extractors;
mod finish_request;
pub mod framing;
mod handle;
mod handler;
mod hooks;
mod io;
mod job;
mod lingering;
mod options;
mod primitives;
mod request;
mod running_server;
mod server;
mod server_state;
mod service;
#[cfg(feature = "signals")]
mod signals;
mod socket_server;
mod sys;
pub mod transport;
mod unwind;

pub use acceptor::{Acceptor, EventSource};
pub use address::{Address, UnixAddress};
pub use callbacks::OnStopping;
pub use concurrency::Concurrency;
pub use connections::{drain::DrainReport, stats::Stats};
pub use error::{HandlerError, Stage};
pub use extractors::PeerCred;
pub use handle::ServerHandle;
pub use handler::{BoxError, HandlerResult, RequestHandler};
pub use io::{
    closing::Closing,
    state::{ConnectionId, ConnectionInfo},
};
pub use job::Job;
pub use options::{Limits, OnLimit, Options, SocketOptions, Timeouts};
pub use request::{
    AnyRequest,
    datagram::{Datagram, UnnamedPeer},
    reader::{LineTooLong, Reader, ReaderTaken},
    stream::Stream,
    writer::Writer,
};
pub use running_server::RunningServer;
pub use server::Server;
pub use service::{Context, FromRequest, Request, Service};
pub use socket_server::{Handled, SocketServer};
pub use transport::{BindTo, Transport};

#[doc = include_str!("../docs/server.md")]
#[doc = include_str!("../docs/keys.md")]
pub use sockserver_macros::Server;

#[doc = include_str!("../docs/request_handler.md")]
pub use sockserver_macros::request_handler;

#[doc(hidden)]
pub mod __private;

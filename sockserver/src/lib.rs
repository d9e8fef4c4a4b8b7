//! Socket servers out of annotated structs: Python's `socketserver` for Rust, with the composition checked at compile
//! time, servers that stop when they are told to, and limits for clients that mean harm.
//!
//! # What it is for
//!
//! For servers that keep a connection open and talk over it: line protocols, devices, game and chat servers, proxies,
//! daemons on a Unix socket, collectors and responders on UDP. A handler is ordinary blocking code, with a thread or a
//! process of its own, up to some thousands of connections at once; or it is called once a message, on an event loop, for as
//! many connections as the process may open.
//!
//! Take something else for web applications (axum, actix-web), or where the program is asynchronous already and shares its
//! tasks with the connections (tokio). It is for Unix systems, and tested on Linux.
//!
//! # The smallest server
//!
//! ```no_run
//! use sockserver::{HandlerResult, MessageHandler, Server, Writer, message_handler};
//! use std::io::Write;
//!
//! #[message_handler(framing = "line")]
//! #[server(transport = "tcp", concurrency = "threading")]
//! struct Upper {
//!     wfile: Writer,
//! }
//!
//! impl MessageHandler for Upper {
//!     type Message = str;
//!
//!     fn message(&mut self, line: &str) -> HandlerResult {
//!         Ok(writeln!(self.wfile, "{}", line.to_uppercase())?)
//!     }
//! }
//!
//! fn main() -> std::io::Result<()> {
//!     UpperServer.bind("127.0.0.1:9999")?.serve_forever()
//! }
//! ```
//!
//! `Upper` is the handler: one is made for each connection, and each field is taken from the connection by its type.
//! `UpperServer` is the server, which the macro writes. What it writes amounts to this:
//!
//! ```
//! # use sockserver::{HandlerResult, MessageHandler, Writer};
//! # struct Upper { wfile: Writer }
//! # impl MessageHandler for Upper { type Message = str; fn message(&mut self, _: &str) -> HandlerResult { Ok(()) } }
//! use sockserver::{
//!     Context, FromRequest, Handler, MessageLoop, Options, Server, concurrency::Threading, framing::Line, transport::Tcp,
//! };
//!
//! impl<S: Server> FromRequest<S> for Upper {
//!     fn from_request(cx: &mut Context<'_, S>) -> std::io::Result<Upper> {
//!         Ok(Upper { wfile: Writer::from_request(cx)? })
//!     }
//! }
//!
//! impl Handler for Upper {
//!     type Runner = MessageLoop<Self, Line>;
//! }
//!
//! #[derive(Clone, Copy, Debug, Default)]
//! struct UpperServer;
//!
//! impl Server for UpperServer {
//!     type Transport = Tcp;
//!     type Concurrency = Threading;
//!     type Handler = Upper;
//!     const OPTIONS: Options = Options::new();
//! }
//! ```
//!
//! One word changes the server: `transport` is `"tcp"`, `"udp"`, `"unix"`, `"unix_datagram"` or `"stream"`, `concurrency` is
//! `"sync"`, `"threading"`, `"pool"`, `"forking"` or `"event_loop"`. The handler stays as it is.
//! [All keys](derive@Server#all-keys) are in one table.
//!
//! # A handler that waits
//!
//! A [`MessageHandler`] is called once a message. A [`RequestHandler`] has the whole connection, as a class with a `handle`
//! method has it in Python. It waits for its client wherever it likes, so a thread or a process waits with it: `concurrency`
//! is any word but `"event_loop"`.
//!
//! ```
//! use sockserver::{HandlerResult, Reader, RequestHandler, Writer, request_handler};
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
//! ```
//!
//! # Connections that share something
//!
//! Then the *server* is a struct of its own, which every handler can have as an `Arc`:
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
//!     concurrency = "threading",
//!     handler = Session,
//!     limits(connections = 500, per_client = 20),
//!     timeouts(idle = "5m", shutdown = "10s"),
//!     hooks(verify_request = Self::only_local),
//! )]
//! struct Counter {
//!     lines: AtomicU64,
//! }
//!
//! impl Counter {
//!     fn only_local(&self, _request: &Stream, client_address: &Address) -> bool {
//!         client_address.ip().is_some_and(|ip| ip.is_loopback())
//!     }
//! }
//!
//! #[request_handler]
//! struct Session {
//!     rfile: Reader,
//!     wfile: Writer,
//!     server: Arc<Counter>,
//!     #[default]
//!     own_lines: u64,
//! }
//!
//! impl RequestHandler for Session {
//!     fn handle(&mut self) -> HandlerResult {
//!         while let Some(_line) = self.rfile.next_line()? {
//!             self.own_lines += 1;
//!             let lines = self.server.lines.fetch_add(1, Relaxed) + 1;
//!             writeln!(self.wfile, "line {} of yours, {lines} of all", self.own_lines)?;
//!         }
//!         Ok(())
//!     }
//! }
//!
//! fn main() -> std::io::Result<()> {
//!     let server = Counter::default().bind("127.0.0.1:0")?.spawn()?;
//!     let mut client = TcpStream::connect(server.server_address())?;
//!     client.write_all(b"hello\n")?;
//!     let mut answer = String::new();
//!     BufReader::new(&client).read_line(&mut answer)?;
//!     assert_eq!(answer, "line 1 of yours, 1 of all\n");
//!     drop(client);
//!     server.stop()?;
//!     Ok(())
//! }
//! ```
//!
//! # Where things are
//!
//! | | |
//! |---|---|
//! | [`guide`] | pages on one subject each: choosing a concurrency, testing, stopping, facing the internet, … |
//! | [`guide::python`] | every name of Python's module, and its home here |
//! | [`macro@request_handler`], [`macro@message_handler`], [`derive@Server`] | the macros, and all their keys |
//! | [`RequestHandler`], [`MessageHandler`] | the two kinds of handler: one has the whole connection, one is called for each message |
//! | [`FromRequest`], [`Context`] | where a handler's fields come from |
//! | [`Reader`], [`Writer`], [`Frames`], [`FrameWriter`], [`Mailbox`], [`Stream`], [`Datagram`], [`Address`], [`PeerCred`], [`ConnectionId`], [`ServerHandle`], `Arc<TheServer>`, [`ProxyHeader`], and with TLS `TlsInfo`, `Alpn`, `ServerName`, `PeerCertificate` | what a field can be |
//! | [`trait Server`](trait@Server), [`Options`] | binding, the hooks, and the options of run time |
//! | [`SocketServer`], [`RunningServer`], [`ServerHandle`] | a bound server, one on a thread of its own, and steering it |
//! | [`transport`], [`concurrency`] | the types behind the words of the attribute, and how to write others |
//! | [`framing`] | lines, netstrings, length prefixes and frames of one's own |
//!
//! # What happens to a request
//!
//! `get_request` ([`Transport`]) → limits → PROXY header (behind a proxy) → `verify_request` (hook) → `process_request` ([`Concurrency`]) →
//! `finish_request` (handler: [`FromRequest`], `setup`, `handle`,
//! `closing` if the server ends the connection, `finish`) → `handle_error` (hook, if it failed) →
//! `shutdown_request` (end of file to the client) → `close_request` (the socket is dropped).
//!
//! An error or a panic in a handler ends its own request only.
//!
//! # Stopping
//!
//! [`ServerHandle::shutdown`] works from anywhere and never blocks. The port closes at once. Idle connections end, after
//! what they had sent is answered; busy ones have [`timeouts(shutdown)`](Timeouts::shutdown), and then are cut.
//! [`RunningServer::stop`] and [`ServerHandle::wait`] return how that went. [The guide](guide::draining) has the rest.
#![cfg_attr(
    feature = "signals",
    doc = "\nWith the feature `signals`, [`SocketServer::shutdown_on_signals`] does the same on SIGINT and SIGTERM."
)]
//!
//! # Features
//!
//! None is on by default.
//!
//! | feature | what it adds | and brings |
//! |---|---|---|
//! | `signals` | `SocketServer::shutdown_on_signals`: a clean end on Ctrl-C and SIGTERM | `signal-hook` |
//! | `tls` | the group `tls(…)`, `Reader::start_tls`, `StartTls`: the page `tls` of the guide | `rustls` with `ring` |
//! | `systemd` | `SocketServer::notify_systemd`: `Type=notify` services, with their watchdog | `sd-notify` |
//! | `json` | `framing::Json`: typed messages in JSON | `serde_core`, `serde_json` |
//! | `metrics` | counters, gauges and a histogram for the recorder of the crate `metrics`: [the guide](guide::metrics) | `metrics` |
//! | `tracing` | a span for each connection: [the guide](guide::logs) | `tracing` |
//! | `testing` | for tests: clients without a port, and hostile ones: [the guide](guide::testing) | nothing |
//! | `serde` | `Options` from TOML, JSON and the like, in the words of the attributes | `serde_core` |

#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(missing_docs)]
// The pages tell of all features, as docs.rs shows them.
#![cfg_attr(
    not(all(feature = "json", feature = "signals", feature = "systemd", feature = "testing", feature = "tls")),
    allow(rustdoc::broken_intra_doc_links)
)]

#[cfg(not(unix))]
compile_error!("sockserver is for Unix systems: Linux, macOS and the BSDs");

mod acceptor;
mod address;
mod callbacks;
pub mod concurrency;
#[cfg(feature = "serde")]
mod configuration;
mod connections;
mod error;
mod event;
mod exits;
mod extractors;
mod finish_request;
pub mod framing;
pub mod guide;
mod hand_over;
mod handle;
mod handler;
mod hooks;
mod inheritance;
mod io;
mod job;
mod lingering;
mod message_handler;
mod message_loop;
mod network;
mod options;
mod preamble;
mod primitives;
mod proxy_header;
mod rate;
mod request;
mod runner;
mod running_server;
mod server;
mod server_state;
mod service;
#[cfg(feature = "signals")]
mod signals;
mod socket_server;
mod sys;
#[cfg(feature = "systemd")]
mod systemd;
mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "tls")]
mod tls;
pub mod transport;
mod unwind;

pub use acceptor::{Acceptor, EventSource};
pub use address::{Address, NotAnAddress, UnixAddress};
pub use callbacks::OnStopping;
pub use concurrency::Concurrency;
pub use connections::{
    drain::DrainReport,
    stats::{Outcome, Stats},
};
pub use error::{HandlerError, Stage};
pub use event::{ConnectionRef, Event, TurnedAway};
pub use extractors::PeerCred;
pub use handle::ServerHandle;
pub use handler::{BoxError, HandlerResult, RequestHandler};
pub use io::{
    closing::Closing,
    state::{ConnectionId, ConnectionInfo},
};
pub use job::Job;
#[cfg(feature = "tls")]
pub use message_handler::StartTls;
pub use message_handler::{HangUp, HasMailbox, MailHandler, MessageHandler};
pub use message_loop::{MailLoop, MessageLoop};
pub use network::{Network, NotANetwork};
pub use options::{
    Access, HandlerOptions, Limits, OnLimit, Options, ProxyOptions, ProxyVersions, SocketOptions, Timeouts,
    TrustedProxy, UntrustedPeer,
};
#[cfg(feature = "tls")]
pub use options::{ClientAuth, TlsOptions, TlsStart, TlsVersions};
pub use proxy_header::{ProxyHeader, ProxySsl};
pub use rate::{NotARate, Rate};
pub use request::{
    AnyRequest,
    datagram::{Datagram, UnnamedPeer},
    end_of_file::EndOfFile,
    frame_writer::FrameWriter,
    frames::Frames,
    mailbox::{Arrival, Mailbox, SendError, Sender},
    reader::{LineTooLong, Reader, ReaderTaken},
    stream::Stream,
    writer::Writer,
};
pub use runner::Handler;
pub use running_server::RunningServer;
pub use server::Server;
#[cfg(feature = "tls")]
pub use service::{AsksForCertificates, Encrypted, RequiresCertificates};
pub use service::{BehindProxy, Context, FromRequest, Request, Service};
pub use socket_server::{Handled, SocketServer};
#[cfg(feature = "tls")]
pub use tls::{
    certificates::Tls,
    info::{Alpn, PeerCertificate, ServerName, TlsInfo},
};
pub use transport::{BindTo, Transport, inherited};

/// The crate that does the work of TLS, in the version whose types [`Tls`] and `testing::Client::tls` take.
#[cfg(feature = "tls")]
pub use rustls;

#[doc = include_str!("../docs/server.md")]
#[doc = include_str!("../docs/keys.md")]
pub use sockserver_macros::Server;

#[doc = include_str!("../docs/request_handler.md")]
pub use sockserver_macros::request_handler;

#[doc = include_str!("../docs/message_handler.md")]
pub use sockserver_macros::message_handler;

#[doc(hidden)]
pub mod __private;

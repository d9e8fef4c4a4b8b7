//! Socket servers out of annotated structs.

#![deny(missing_docs)]

mod accepted;
mod acceptor;
mod address;
mod buffers;
mod children;
pub mod concurrency;
mod connections;
mod datagram;
mod file;
mod handle;
mod handler;
mod limits;
mod options;
mod record;
mod server;
mod socket_server;
mod stats;
mod stream;
mod sys;
pub mod transport;
mod unwind;
mod waker;

pub use accepted::Accepted;
pub use acceptor::Acceptor;
pub use address::{Address, UnixAddress};
pub use concurrency::Concurrency;
pub use connections::Drained;
pub use datagram::{Datagram, ReplyError};
pub use file::{Reader, Writer};
pub use handle::{Running, ServerHandle};
pub use handler::{BoxError, Context, FromRequest, HandlerError, HandlerResult, PeerCred, RequestHandler, Stage};
pub use options::{Limits, OnLimit, Options, SocketOptions, Timeouts};
pub use record::{Closing, ConnectionId, ConnectionInfo};
pub use server::{Request, Server};
pub use socket_server::SocketServer;
pub use sockserver_macros::{Server, request_handler};
pub use stats::Stats;
pub use stream::Stream;
pub use transport::{BindTo, Transport};

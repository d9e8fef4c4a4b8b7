//! Socket servers out of annotated structs.

#![deny(missing_docs)]

mod accepted;
mod acceptor;
mod address;
mod buffers;
pub mod concurrency;
mod connections;
mod datagram;
mod file;
mod handle;
mod handler;
mod limits;
mod options;
mod server;
mod socket_server;
mod stream;
mod sys;
pub mod transport;
mod unwind;
mod waker;

pub use accepted::Accepted;
pub use acceptor::Acceptor;
pub use address::{Address, UnixAddress};
pub use concurrency::Concurrency;
pub use connections::{Closing, ConnectionId, ConnectionInfo, Drained, Stats};
pub use datagram::{Datagram, ReplyError};
pub use file::{Reader, Writer};
pub use handle::{Running, ServerHandle};
pub use handler::{BoxError, Context, FromRequest, HandlerError, HandlerResult, PeerCred, RequestHandler, Stage};
pub use options::{Limits, OnLimit, Options, SocketOptions, Timeouts};
pub use server::{Request, Server};
pub use socket_server::SocketServer;
pub use stream::Stream;
pub use transport::{BindTo, Transport};

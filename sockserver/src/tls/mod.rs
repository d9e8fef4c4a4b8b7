//! TLS as bytes in and bytes out: the session of a connection, and what it is made from. Nothing here knows a socket, or
//! waits: `io/encryption.rs` is between this room and the socket.

pub(crate) mod certificates;
pub(crate) mod info;
pub(crate) mod material;
pub(crate) mod session;
mod watch;

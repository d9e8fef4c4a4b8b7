//! What TCP and Unix stream sockets share, and what a socket must be that was bound elsewhere.

use std::io;

use socket2::{Socket, Type};

use crate::{address::Address, options::Options, request::stream::Stream};

/// What a socket that was bound elsewhere must be.
pub(super) fn check_kind(socket: &Socket, kind: Type, unix: bool) -> io::Result<()> {
    let refuse = |reason: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    if socket.r#type()? != kind {
        return refuse(if kind == Type::STREAM { "it is not a stream socket" } else { "it is not a datagram socket" });
    }
    if socket.local_addr()?.is_unix() != unix {
        return refuse(if unix { "it is not a Unix socket" } else { "it is not an internet socket" });
    }
    if kind == Type::STREAM && socket.peer_addr().is_ok() {
        return refuse("it is a connection, which `serve_connection` serves");
    }
    Ok(())
}

/// listen(2), and from here on accepting does not wait. On a socket that listens already it changes the queue's length.
pub(super) fn listen(socket: &Socket, options: &Options) -> io::Result<()> {
    socket.listen(options.socket.request_queue_size.try_into().unwrap_or(i32::MAX))?;
    socket.set_nonblocking(true)
}

/// One system call on Linux, where a connection does not inherit that its listener does not wait.
pub(super) fn accept(socket: &Socket) -> io::Result<Stream> {
    let (connection, address) = socket.accept()?;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    // A connection that has ended already may refuse it, which says nothing about the listening socket.
    connection.set_nonblocking(false).map_err(|_| io::Error::from(io::ErrorKind::ConnectionAborted))?;
    Ok(Stream::new(connection, Address::from_sockaddr(&address)?))
}

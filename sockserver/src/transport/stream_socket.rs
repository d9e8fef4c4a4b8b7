//! What TCP and Unix stream sockets share, and the check of a socket that was bound elsewhere.

use std::io;

use socket2::{Socket, Type};

use crate::{address::Address, options::Options, request::stream::Stream};

/// Refuses a socket that was bound elsewhere if it is of the wrong type or family, or is connected.
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

/// listen(2). Then accept(2) on the socket does not wait. On a socket that listens already, it changes the queue's
/// length.
pub(super) fn listen(socket: &Socket, options: &Options) -> io::Result<()> {
    socket.listen(options.socket.request_queue_size.try_into().unwrap_or(i32::MAX))?;
    socket.set_nonblocking(true)
}

/// accept(2). On Linux a connection does not inherit the non-blocking mode of its listener, which saves a system call.
pub(super) fn accept(socket: &Socket) -> io::Result<Stream> {
    let (connection, address) = socket.accept()?;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    // This can fail for a connection that has ended already. That must not count as an error of the listening socket.
    connection.set_nonblocking(false).map_err(|_| io::Error::from(io::ErrorKind::ConnectionAborted))?;
    Ok(Stream::new(connection, Address::from_sockaddr(&address)?))
}

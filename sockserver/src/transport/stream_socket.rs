//! What TCP and Unix stream sockets share, and the check of a socket that was bound elsewhere.

use std::io;

use socket2::{Socket, Type};

use crate::{address::Address, options::Options, request::stream::Stream, sys};

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

/// listen(2). Then accept(2) on the socket does not wait. A socket that listens already keeps the length of its queue, if
/// the system reports that it listens.
pub(super) fn listen(socket: &Socket, options: &Options) -> io::Result<()> {
    if sys::is_listener(socket)? != Some(true) {
        socket.listen(options.socket.request_queue_size.try_into().unwrap_or(i32::MAX))?;
    }
    socket.set_nonblocking(true)
}

/// Who has a listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// This process has bound it.
    This,
    /// It was bound elsewhere: another owner may have it too, and may make it blocking at any time.
    Several,
}

/// accept(2), without waiting. On a socket that others have too, it first looks whether there is a connection: in blocking
/// mode accept(2) would wait, and nothing could wake the leader. On Linux a connection does not inherit the non-blocking
/// mode of its listener, which saves a system call.
pub(super) fn accept(socket: &Socket, owner: Owner) -> io::Result<Stream> {
    if owner == Owner::Several {
        if !sys::is_readable(socket)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // Another owner may take the connection meanwhile.
        socket.set_nonblocking(true)?;
    }
    let (connection, address) = socket.accept()?;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    // This can fail for a connection that has ended already. That must not count as an error of the listening socket.
    connection.set_nonblocking(false).map_err(|_| io::Error::from(io::ErrorKind::ConnectionAborted))?;
    Ok(Stream::new(connection, Address::from_sockaddr(&address)?))
}

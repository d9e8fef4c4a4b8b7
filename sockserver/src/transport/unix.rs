//! Unix stream sockets.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use socket2::{Socket, Type};

use super::{
    BindTo, StreamTransport, Transport, UnixTransport,
    stream_socket::{self, Owner},
    unix_file::{SocketFile, bind_unix},
};
use crate::{address::Address, options::Options, request::stream::Stream};

/// `"unix"`: Python's `UnixStreamServer`.
///
/// Binding replaces a stale socket file, at which no server listens. It fails with [`io::ErrorKind::AddrInUse`] if a
/// server listens there, or if the file is not a socket. If several servers find the same stale file at once and can
/// lock its directory, one of them replaces it.
///
/// The server removes the socket file when it closes the listening socket, unless another file has taken its place. If
/// several servers of a process share the socket, the last one does.
#[derive(Clone, Copy, Debug)]
pub struct Unix;

/// A listening Unix stream socket.
#[derive(Debug)]
pub struct UnixAcceptor {
    /// Dropped before the socket: until the socket closes, no other file can have the inode number that identifies this
    /// one.
    _file: Option<Arc<SocketFile>>,
    socket: Socket,
    owner: Owner,
}

impl Transport for Unix {
    type Listener = UnixAcceptor;
    type Request = Stream;

    fn from_listener(socket: OwnedFd, options: &Options) -> io::Result<UnixAcceptor> {
        let socket = Socket::from(socket);
        stream_socket::check_kind(&socket, Type::STREAM, true)?;
        stream_socket::listen(&socket, options)?;
        Ok(UnixAcceptor { _file: SocketFile::of_shared(&socket)?, socket, owner: Owner::Several })
    }

    fn server_address(listener: &UnixAcceptor) -> io::Result<Address> {
        Address::from_sockaddr(&listener.socket.local_addr()?)
    }

    fn get_request(listener: &UnixAcceptor) -> io::Result<Stream> {
        stream_socket::accept(&listener.socket, listener.owner)
    }
}

impl StreamTransport for Unix {}
impl UnixTransport for Unix {}

impl Unix {
    fn bind(address: &Address, options: &Options) -> io::Result<UnixAcceptor> {
        let (socket, file) = bind_unix(address, Type::STREAM, options)?;
        Ok(UnixAcceptor { socket, owner: Owner::This, _file: file })
    }
}

impl AsFd for UnixAcceptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The paths that a Unix socket can be bound to.
macro_rules! unix_addresses {
    ($transport:ty: $($path:ty),*) => { $(
        impl BindTo<$transport> for $path {
            fn server_bind(
                self,
                options: &Options,
                beside: &[Address],
            ) -> io::Result<Vec<<$transport as Transport>::Listener>> {
                BindTo::<$transport>::server_bind(&Address::unix(self), options, beside)
            }
        }
    )* };
    ($transport:ty) => {
        super::unix::unix_addresses!($transport:
            &str, String, &String, &std::path::Path, std::path::PathBuf, &std::path::PathBuf,
            &std::ffi::OsStr, std::ffi::OsString
        );

        impl BindTo<$transport> for Address {
            fn server_bind(
                self,
                options: &Options,
                beside: &[Address],
            ) -> io::Result<Vec<<$transport as Transport>::Listener>> {
                BindTo::<$transport>::server_bind(&self, options, beside)
            }
        }

        impl BindTo<$transport> for &Address {
            fn server_bind(
                self,
                options: &Options,
                _beside: &[Address],
            ) -> io::Result<Vec<<$transport as Transport>::Listener>> {
                let bound = <$transport>::bind(self, options);
                Ok(vec![bound.map_err(|error| crate::transport::inet::cannot_bind(self, error))?])
            }
        }
    };
}
pub(super) use unix_addresses;

unix_addresses!(Unix);

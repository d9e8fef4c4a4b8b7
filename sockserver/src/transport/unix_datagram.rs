//! Unix datagram sockets.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use socket2::{Socket, Type};

use super::{
    BindTo, DatagramListener, DatagramTransport, Transport, inet, stream_socket,
    unix::unix_addresses,
    unix_file::{SocketFile, bind_unix},
};
use crate::{address::Address, options::Options, request::datagram::Datagram};

/// `"unix_datagram"`: Python's `UnixDatagramServer`. It binds to and removes its socket file as [`Unix`](super::Unix)
/// does.
#[derive(Clone, Copy, Debug)]
pub struct UnixDatagram;

/// The receiving side of a Unix datagram socket.
#[derive(Debug)]
pub struct UnixDatagramListener {
    /// Dropped before the socket, as in [`UnixAcceptor`](super::UnixAcceptor).
    _file: Option<Arc<SocketFile>>,
    packets: DatagramListener,
}

impl Transport for UnixDatagram {
    type Listener = UnixDatagramListener;
    type Request = Datagram;

    fn from_listener(socket: OwnedFd, options: &Options) -> io::Result<UnixDatagramListener> {
        let socket = Socket::from(socket);
        stream_socket::check_kind(&socket, Type::DGRAM, true)?;
        inet::set_buffers(&socket, &options.socket)?;
        let file = SocketFile::of_shared(&socket)?;
        let packets = DatagramListener::new(socket, options.socket.max_packet_size)?;
        Ok(UnixDatagramListener { packets, _file: file })
    }

    fn server_address(listener: &UnixDatagramListener) -> io::Result<Address> {
        Ok(listener.packets.server_address().clone())
    }

    fn get_request(listener: &UnixDatagramListener) -> io::Result<Datagram> {
        listener.packets.receive()
    }
}

impl DatagramTransport for UnixDatagram {}

impl UnixDatagram {
    fn bind(address: &Address, options: &Options) -> io::Result<UnixDatagramListener> {
        let (socket, file) = bind_unix(address, Type::DGRAM, options)?;
        inet::set_buffers(&socket, &options.socket)?;
        let packets = DatagramListener::new(socket, options.socket.max_packet_size)?;
        Ok(UnixDatagramListener { packets, _file: file })
    }
}

impl AsFd for UnixDatagramListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.packets.as_fd()
    }
}

unix_addresses!(UnixDatagram);

//! TCP over IPv4 and IPv6.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use socket2::{Socket, TcpKeepalive, Type};

use super::{BindTo, InetTransport, StreamTransport, Transport};
use crate::{address::Address, options::Options, stream::Stream};

/// `"tcp"`: Python's `TCPServer`. Connections inherit the options of the listening socket.
#[derive(Clone, Copy, Debug)]
pub struct Tcp;

/// A listening TCP socket.
#[derive(Debug)]
pub struct TcpListener {
    socket: Socket,
}

impl Transport for Tcp {
    type Listener = TcpListener;
    type Request = Stream;

    fn adopt(socket: OwnedFd, options: &Options) -> io::Result<TcpListener> {
        let socket = Socket::from(socket);
        super::check_adopted(&socket, Type::STREAM, false)?;
        Tcp::listen(socket, options)
    }

    fn server_address(listener: &TcpListener) -> io::Result<Address> {
        Address::from_system(&listener.socket.local_addr()?)
    }

    fn get_request(listener: &TcpListener) -> io::Result<Stream> {
        super::accept(&listener.socket)
    }
}

impl StreamTransport for Tcp {}
impl InetTransport for Tcp {}

impl Tcp {
    fn bind(address: SocketAddr, options: &Options) -> io::Result<TcpListener> {
        Tcp::listen(super::bind_inet(address, Type::STREAM, options)?, options)
    }

    fn listen(socket: Socket, options: &Options) -> io::Result<TcpListener> {
        socket.set_tcp_nodelay(options.socket.nodelay)?;
        if let Some(time) = options.socket.keepalive {
            // The system counts in seconds, and has no zero.
            let time = time.max(Duration::from_secs(1));
            socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(time))?;
        }
        super::listen(&socket, options)?;
        Ok(TcpListener { socket })
    }
}

impl AsFd for TcpListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

super::inet_addresses!(Tcp);

//! TCP over IPv4 and IPv6.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use socket2::{Socket, Type};

use super::{
    InetTransport, StreamTransport, Transport, inet,
    stream_socket::{self, Owner},
};
use crate::{
    address::Address,
    options::{Options, SocketOptions},
    request::stream::Stream,
    sys,
};

/// `"tcp"`: Python's `TCPServer`. Connections inherit the options of the listening socket.
#[derive(Clone, Copy, Debug)]
pub struct Tcp;

/// A listening TCP socket.
#[derive(Debug)]
pub struct TcpAcceptor {
    socket: Socket,
    owner: Owner,
}

impl Transport for Tcp {
    type Listener = TcpAcceptor;
    type Request = Stream;

    fn from_listener(socket: OwnedFd, options: &Options) -> io::Result<TcpAcceptor> {
        let socket = Socket::from(socket);
        stream_socket::check_kind(&socket, Type::STREAM, false)?;
        inet::set_options(&socket, socket.local_addr()?.is_ipv6(), &options.socket)?;
        Tcp::listen(socket, options, Owner::Several)
    }

    fn server_address(listener: &TcpAcceptor) -> io::Result<Address> {
        Address::from_sockaddr(&listener.socket.local_addr()?)
    }

    fn get_request(listener: &TcpAcceptor) -> io::Result<Stream> {
        stream_socket::accept(&listener.socket, listener.owner)
    }
}

impl StreamTransport for Tcp {}
impl InetTransport for Tcp {}

impl Tcp {
    pub(super) fn bind(address: SocketAddr, options: &Options) -> io::Result<TcpAcceptor> {
        Tcp::listen(inet::bind_inet(address, Type::STREAM, options)?, options, Owner::This)
    }

    fn listen(socket: Socket, options: &Options, owner: Owner) -> io::Result<TcpAcceptor> {
        socket.set_tcp_nodelay(options.socket.nodelay)?;
        let SocketOptions { keepalive, keepalive_interval, keepalive_retries, user_timeout, defer_accept, .. } =
            options.socket;
        if keepalive.is_some() || keepalive_interval.is_some() || keepalive_retries.is_some() {
            let in_seconds = |time: Option<Duration>| time.map(|time| time.max(Duration::from_secs(1)));
            sys::set_keepalive(&socket, in_seconds(keepalive), in_seconds(keepalive_interval), keepalive_retries)?;
        }
        if let Some(time) = user_timeout {
            sys::set_user_timeout(&socket, time)?;
        }
        if let Some(time) = defer_accept {
            sys::set_defer_accept(&socket, time)?;
        }
        stream_socket::listen(&socket, options)?;
        Ok(TcpAcceptor { socket, owner })
    }
}

impl AsFd for TcpAcceptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

inet::inet_addresses!(Tcp);

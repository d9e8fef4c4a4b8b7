//! UDP over IPv4 and IPv6.

use std::{io, net::SocketAddr, os::fd::OwnedFd};

use socket2::{Socket, Type};

use super::{DatagramListener, DatagramTransport, InetTransport, Transport, inet, stream_socket};
use crate::{address::Address, options::Options, request::datagram::Datagram, sys};

/// `"udp"`: Python's `UDPServer`. A reply leaves from the address that the request arrived at.
#[derive(Clone, Copy, Debug)]
pub struct Udp;

impl Transport for Udp {
    type Listener = DatagramListener;
    type Request = Datagram;

    fn from_listener(socket: OwnedFd, options: &Options) -> io::Result<DatagramListener> {
        let socket = Socket::from(socket);
        stream_socket::check_kind(&socket, Type::DGRAM, false)?;
        inet::set_options(&socket, socket.local_addr()?.is_ipv6(), &options.socket)?;
        sys::disable_recverr(&socket);
        DatagramListener::new(socket, options.socket.max_packet_size)
    }

    fn server_address(listener: &DatagramListener) -> io::Result<Address> {
        Ok(listener.server_address().clone())
    }

    fn get_request(listener: &DatagramListener) -> io::Result<Datagram> {
        listener.receive()
    }
}

impl DatagramTransport for Udp {}
impl InetTransport for Udp {}

impl Udp {
    fn bind(address: SocketAddr, options: &Options) -> io::Result<DatagramListener> {
        let socket = inet::bind_inet(address, Type::DGRAM, options)?;
        DatagramListener::new(socket, options.socket.max_packet_size)
    }
}

inet::inet_addresses!(Udp);

//! UDP over IPv4 and IPv6.

use std::{io, net::SocketAddr, os::fd::OwnedFd};

use socket2::{Socket, Type};

use super::{BindTo, DatagramListener, DatagramTransport, InetTransport, Transport};
use crate::{address::Address, datagram::Datagram, options::Options, sys};

/// `"udp"`: Python's `UDPServer`. A reply leaves from the address that the request came to.
#[derive(Clone, Copy, Debug)]
pub struct Udp;

impl Transport for Udp {
    type Listener = DatagramListener;
    type Request = Datagram;

    fn adopt(socket: OwnedFd, options: &Options) -> io::Result<DatagramListener> {
        let socket = Socket::from(socket);
        super::check_adopted(&socket, Type::DGRAM, false)?;
        sys::keep_no_errors(&socket);
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
        let socket = super::bind_inet(address, Type::DGRAM, options)?;
        DatagramListener::new(socket, options.socket.max_packet_size)
    }
}

super::inet_addresses!(Udp);

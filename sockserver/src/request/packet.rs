//! A received packet, and the socket that it came from.

use std::{
    io,
    net::{Shutdown, SocketAddr},
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::Duration,
};

use socket2::{SockAddr, Socket};

use crate::{
    address::{Address, UnixAddress},
    io::{
        closing::Closing,
        state::{ConnectionState, Endpoint},
    },
    primitives::Mutex,
    sys,
};

/// A received packet, with what it takes to reply to it.
pub(crate) struct Packet {
    pub(super) state: ConnectionState,
    pub(super) socket: Arc<DatagramSocket>,
    /// Its capacity is `max_packet_size` and one byte. A packet that fills that byte is too long.
    pub(super) bytes: Vec<u8>,
    pub(super) client: SockAddr,
    /// The address and interface that the packet arrived at, if the socket is bound to all addresses.
    pub(super) destination: Option<sys::Destination>,
    pub(super) reply: Mutex<Reply>,
}

/// The reply that a `Writer` collects, and how long sending it may take.
pub(super) struct Reply {
    pub(super) bytes: Vec<u8>,
    pub(super) timeout: Duration,
}

/// How long a reply waits for room if the handler has no `timeout`. It waits only for a Unix receiver whose queue is
/// full.
const REPLY_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a send waits in the kernel before its thread checks whether the server has stopped.
const SLICE: Duration = Duration::from_millis(20);

/// No kernel sends a longer packet, so a larger `max_packet_size` needs no larger buffer.
const MAX_PACKET_SIZE: usize = 16 << 20;

/// The socket that receives the packets and sends the replies.
///
/// It is in blocking mode. Receives do not wait, by `MSG_DONTWAIT`. Sends wait in the kernel, as poll(2) does not watch
/// the queue of a Unix receiver.
pub(crate) struct DatagramSocket {
    pub(super) socket: Socket,
    pub(super) server_address: Address,
    pub(super) max_packet_size: usize,
    /// The socket is bound to all addresses, and the kernel reports which of them a packet arrived at.
    pub(super) reports_destinations: bool,
}

impl DatagramSocket {
    pub(crate) fn new(socket: Socket, max_packet_size: usize) -> io::Result<DatagramSocket> {
        let server_address = Address::from_sockaddr(&socket.local_addr()?)?;
        let reports_destinations = match server_address {
            Address::Inet(address) if address.ip().is_unspecified() => {
                sys::receive_destinations(&socket, address.is_ipv6())?;
                true
            }
            _ => false,
        };
        socket.set_nonblocking(false)?;
        socket.set_write_timeout(Some(SLICE))?;
        let max_packet_size = max_packet_size.min(MAX_PACKET_SIZE);
        Ok(DatagramSocket { socket, server_address, max_packet_size, reports_destinations })
    }

    pub(crate) fn server_address(&self) -> &Address {
        &self.server_address
    }
}

impl AsFd for DatagramSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Packet {
    pub(crate) fn new(socket: &Arc<DatagramSocket>) -> Packet {
        Packet {
            state: ConnectionState::new(Address::Unix(UnixAddress::Unnamed)),
            socket: socket.clone(),
            bytes: Vec::with_capacity(socket.max_packet_size + 1),
            client: SockAddr::from(SocketAddr::from(([0; 4], 0))),
            destination: None,
            reply: Mutex::new(Reply { bytes: Vec::new(), timeout: REPLY_TIMEOUT }),
        }
    }

    /// Has the packet come from this address, as the handler sees it. The reply goes where it really came from.
    #[cfg(feature = "testing")]
    pub(crate) fn set_client_address(&mut self, address: Address) {
        let is_truncated = self.state.is_truncated;
        self.state = ConnectionState::new(address);
        self.state.is_truncated = is_truncated;
        self.state.count_in(self.bytes.len());
    }

    /// Receives the next packet into this one, without waiting.
    pub(crate) fn receive(&mut self) -> io::Result<()> {
        let DatagramSocket { socket, max_packet_size, reports_destinations, .. } = &*self.socket;
        let envelope = match reports_destinations {
            true => sys::receive_packet_with_destination(socket, &mut self.bytes)?,
            false => sys::receive_packet(socket, &mut self.bytes)?,
        };
        self.state = ConnectionState::new(Address::from_sockaddr(&envelope.from)?);
        self.state.is_truncated = self.bytes.len() > *max_packet_size;
        self.bytes.truncate(*max_packet_size);
        self.client = envelope.from;
        self.destination = envelope.destination;
        let reply = self.reply.get_mut();
        reply.bytes.clear();
        reply.timeout = REPLY_TIMEOUT;
        self.state.count_in(self.bytes.len());
        Ok(())
    }
}

impl Endpoint for Packet {
    fn state(&self) -> &ConnectionState {
        &self.state
    }

    fn user(&self) -> Option<u32> {
        None
    }

    fn shut_down(&self, _how: Shutdown) {}

    fn drain(&self) {
        self.state.mark(Closing::Draining);
    }
}

//! What UDP and Unix datagram sockets share: receiving packets.

use std::{
    fmt, io,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

use socket2::Socket;

use crate::{
    address::Address,
    primitives::Mutex,
    request::{
        datagram::Datagram,
        packet::{DatagramSocket, Packet},
    },
};

/// How many packets are kept for reuse.
const MAX_SPARE_PACKETS: usize = 16;

/// The receiving side of a datagram socket.
pub struct DatagramListener {
    socket: Arc<DatagramSocket>,
    /// Packets that handlers have or had. A packet without other handles is reused for the next one received.
    packets: Mutex<Vec<Arc<Packet>>>,
}

impl DatagramListener {
    pub(crate) fn new(socket: Socket, max_packet_size: usize) -> io::Result<DatagramListener> {
        let socket = Arc::new(DatagramSocket::new(socket, max_packet_size)?);
        Ok(DatagramListener { socket, packets: Mutex::default() })
    }

    pub(crate) fn server_address(&self) -> &Address {
        self.socket.server_address()
    }

    /// Receives without waiting.
    pub(crate) fn receive(&self) -> io::Result<Datagram> {
        let mut packets = self.packets.lock();
        let unused = packets.iter_mut().position(|packet| Arc::get_mut(packet).is_some());
        let unused = unused.unwrap_or_else(|| {
            packets.push(Arc::new(Packet::new(&self.socket)));
            packets.len() - 1
        });
        if let Some(unused) = Arc::get_mut(&mut packets[unused]) {
            unused.receive()?;
        }
        let packet = packets[unused].clone();
        if packets.len() > MAX_SPARE_PACKETS {
            packets.swap_remove(unused);
        }
        Ok(Datagram::new(packet))
    }
}

impl AsFd for DatagramListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl fmt::Debug for DatagramListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatagramListener").field("server_address", self.server_address()).finish_non_exhaustive()
    }
}

//! The user's handle on one received packet.

use std::{
    fmt,
    fs::File,
    io,
    ops::Range,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use socket2::SockAddr;

use super::packet::Packet;
use crate::{
    address::{Address, UnixAddress},
    io::{
        backlog,
        state::{ConnectionId, ConnectionState, Endpoint},
    },
    sys,
    unwind::unwind_safe,
};

/// A handle on one received packet: Python's `request` of a datagram server, which is a pair of packet and socket.
///
/// Clones are handles on the same packet. A handle that outlives its request keeps the server's socket open, and so its
/// port.
///
/// ```
/// use sockserver::{Datagram, HandlerResult, RequestHandler, Server, request_handler};
/// use std::net::UdpSocket;
///
/// #[request_handler]
/// #[server(transport = "udp", concurrency = "sync")]
/// struct Length {
///     packet: Datagram,
/// }
///
/// impl RequestHandler for Length {
///     fn handle(&mut self) -> HandlerResult {
///         Ok(self.packet.reply(self.packet.payload().len().to_string().as_bytes())?)
///     }
/// }
///
/// # fn main() -> std::io::Result<()> {
/// let server = LengthServer.bind("127.0.0.1:0")?.spawn()?;
/// let client = UdpSocket::bind("127.0.0.1:0")?;
/// client.send_to(b"hello", server.server_address())?;
/// let mut reply = [0; 8];
/// let length = client.recv(&mut reply)?;
/// assert_eq!(reply[..length], *b"5");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Datagram {
    packet: Arc<Packet>,
}

/// The length of a packet is in 16 bits of its header.
const MAX_UDP: u64 = u16::MAX as u64;

impl Datagram {
    pub(crate) fn new(packet: Arc<Packet>) -> Datagram {
        Datagram { packet }
    }

    /// The bytes of the packet: Python's `packet`. Also by [`AsRef`].
    pub fn payload(&self) -> &[u8] {
        &self.packet.bytes
    }

    /// Whether the packet was longer than `max_packet_size`, so that its end is lost.
    pub fn is_truncated(&self) -> bool {
        self.packet.state.is_truncated
    }

    /// The number of this request, which no other request of this process has.
    pub fn id(&self) -> ConnectionId {
        self.packet.state.id
    }

    /// Where the packet came from: Python's `client_address`.
    ///
    /// # Errors
    ///
    /// None today. The result is an [`io::Result`] as that of [`Stream::peer_addr`](crate::Stream::peer_addr) is.
    pub fn peer_addr(&self) -> io::Result<Address> {
        Ok(self.state().client_address().clone())
    }

    /// The address of this machine that the packet arrived at, even if the server listens on all of them.
    ///
    /// # Errors
    ///
    /// None today, as [`peer_addr`](Self::peer_addr).
    pub fn local_addr(&self) -> io::Result<Address> {
        Ok(match (&self.packet.destination, &self.packet.socket.server_address) {
            (Some(destination), Address::Inet(address)) => Address::Inet(destination.at_port(address.port())),
            (_, address) => address.clone(),
        })
    }

    /// Sends a packet to the client at once, even an empty one, from the address that the request arrived at.
    ///
    /// # Errors
    ///
    /// * [`io::ErrorKind::AddrNotAvailable`] with an [`UnnamedPeer`] inside if the client has no address: its Unix socket
    ///   has no name, or its port is 0, which a client can forge.
    /// * [`io::ErrorKind::TimedOut`] if the client's queue stays full for the handler's `timeout`, or for a second if the
    ///   handler has none.
    /// * What sending fails with otherwise.
    ///
    /// An error that the client's address causes [is a disconnect](crate::HandlerError::is_disconnect), and is not
    /// printed.
    pub fn reply(&self, bytes: &[u8]) -> io::Result<()> {
        let failures = self.packet.state.failures();
        let cannot_be_answered = match self.state().client_address() {
            Address::Unix(address) => *address == UnixAddress::Unnamed,
            Address::Inet(address) => address.port() == 0,
        };
        if cannot_be_answered {
            failures.note_unreachable();
            return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, UnnamedPeer));
        }
        let sent = self.send(bytes, &self.packet.client, self.packet.destination.as_ref());
        if sent.as_ref().is_err_and(is_about_the_client) {
            failures.note_unreachable();
        }
        sent
    }

    /// Sends a packet from the server's socket to any address.
    ///
    /// # Errors
    ///
    /// * [`io::ErrorKind::InvalidInput`] for a Unix socket without a name, and for a path that is too long or contains a zero
    ///   byte.
    /// * [`io::ErrorKind::TimedOut`] if the receiver's queue stays full, after the time that holds for [`reply`](Self::reply).
    /// * What sending fails with otherwise.
    pub fn send_to(&self, bytes: &[u8], address: &Address) -> io::Result<()> {
        self.send(bytes, &address.to_sockaddr()?, None)
    }

    fn send(&self, bytes: &[u8], to: &SockAddr, from: Option<&sys::Destination>) -> io::Result<()> {
        let Packet { state, socket, reply, .. } = &*self.packet;
        let mut began = None;
        loop {
            match sys::send_packet(&socket.socket, bytes, to, from) {
                Ok(sent) => {
                    state.count_out(sent);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if let Some(closing) = state.shut_for() {
                        return Err(state.closing_error(closing));
                    }
                    if began.get_or_insert_with(Instant::now).elapsed() >= reply.lock().timeout {
                        return Err(state.client_error(io::ErrorKind::TimedOut, "the client's queue stayed full"));
                    }
                }
                Err(error) => return Err(state.note_error(error)),
            }
        }
    }

    pub(crate) fn set_timeout(&self, timeout: Duration) {
        self.packet.reply.lock().timeout = timeout;
    }

    pub(crate) fn endpoint(&self) -> Weak<dyn Endpoint> {
        Arc::downgrade(&self.packet) as Weak<dyn Endpoint>
    }

    pub(crate) fn state(&self) -> &ConnectionState {
        &self.packet.state
    }

    pub(crate) fn write_later(&self, bytes: &[u8]) {
        self.packet.reply.lock().bytes.extend_from_slice(bytes);
    }

    pub(crate) fn write_file_later(&self, file: &File, part: &Range<u64>) -> io::Result<()> {
        let length = part.end.saturating_sub(part.start);
        // On Unix sockets a packet has to fit into the send buffer.
        let most = match &self.packet.socket.server_address {
            Address::Inet(_) => MAX_UDP,
            Address::Unix(_) => self.packet.socket.socket.send_buffer_size()? as u64,
        };
        if length > most {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{length} bytes of a file do not fit into a packet, which has {most} at most"),
            ));
        }
        let mut bytes = Vec::new();
        backlog::read(file, part, usize::MAX, &mut bytes)?;
        self.write_later(&bytes);
        Ok(())
    }

    /// Sends the collected reply, unless it is empty.
    pub(crate) fn flush(&self) -> io::Result<()> {
        let mut bytes = std::mem::take(&mut self.packet.reply.lock().bytes);
        if bytes.is_empty() {
            return Ok(());
        }
        let sent = self.reply(&bytes);
        // The next packet reuses the buffer, unless another thread has written meanwhile.
        bytes.clear();
        let mut reply = self.packet.reply.lock();
        if reply.bytes.is_empty() {
            reply.bytes = bytes;
        }
        sent
    }
}

/// Whether a reply failed because of the address that its packet came from.
pub(crate) fn is_about_the_client(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<UnnamedPeer>()) || sys::is_about_the_receiver(error)
}

impl AsRef<[u8]> for Datagram {
    fn as_ref(&self) -> &[u8] {
        self.payload()
    }
}

unwind_safe!(Datagram);

impl fmt::Debug for Datagram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Datagram")
            .field("id", &self.id())
            .field("peer_addr", self.state().client_address())
            .field("length", &self.packet.bytes.len())
            .finish()
    }
}

/// A packet cannot be answered because it has no sender address: the client has not bound its Unix socket, or the
/// packet came from port 0. It is inside the [`io::Error`] of [`Datagram::reply`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnnamedPeer;

impl fmt::Display for UnnamedPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the packet came from no address that can be replied to: the client must bind its socket to get an answer",
        )
    }
}

impl std::error::Error for UnnamedPeer {}

//! A client that sends packets to a server without a port.

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    os::fd::AsFd,
    sync::Arc,
};

use socket2::Socket;

use super::{difference::Difference, peer::chain, running::Running, wire::PATIENCE};
use crate::{
    address::Address,
    error::HandlerError,
    job::Job,
    request::{
        datagram::Datagram,
        packet::{DatagramSocket, Packet},
    },
    server::Server,
    sys::{self, Watched},
    transport::DatagramTransport,
};

/// No longer packet fits into UDP.
const MAX_PACKET: usize = 1 << 16;

/// A client that sends packets to a handler under test: what [`packets`](super::packets) returns.
///
/// Its methods panic where the handler does not do what is expected, at the line of the test.
///
/// ```
/// use sockserver::{Datagram, HandlerResult, RequestHandler, Server, request_handler, testing};
///
/// #[request_handler]
/// #[server(transport = "udp", concurrency = "sync")]
/// struct Length {
///     packet: Datagram,
/// }
///
/// impl RequestHandler for Length {
///     fn handle(&mut self) -> HandlerResult {
///         match self.packet.payload().len() {
///             0 => Ok(()),
///             length => Ok(self.packet.reply(length.to_string().as_bytes())?),
///         }
///     }
/// }
///
/// let mut packets = testing::packets(LengthServer);
/// packets.send("hello");
/// packets.expect("5");
/// packets.send("");
/// packets.expect_nothing();
/// assert!(packets.result().is_ok());
/// ```
pub struct Packets {
    socket: UdpSocket,
    /// Handles the next packet, on this thread.
    serve: Box<dyn FnMut() -> io::Result<Result<(), HandlerError>> + Send>,
    /// How the handler of the last packet has ended.
    result: Result<(), HandlerError>,
}

impl Packets {
    pub(super) fn new<S: Server<Transport: DatagramTransport>>(
        server: &Arc<Running<S>>,
        address: Option<Address>,
    ) -> io::Result<Packets> {
        let running = server.clone();
        let acceptor = running.0.clone();
        let is_unix = matches!(acceptor.handle().server_address(), Address::Unix(_));
        let address = address.unwrap_or_else(|| match is_unix {
            true => Address::unix("/nowhere/client.sock"),
            false => Address::Inet(SocketAddr::from(([192, 0, 2, 9], 50000))),
        });
        let [ours, theirs] = pair()?;
        let theirs = Arc::new(DatagramSocket::new(Socket::from(theirs), acceptor.options().socket.max_packet_size)?);
        let serve = move || {
            // A packet to this machine is there at once, on the systems that this was tested on.
            sys::poll(&mut [Watched::new(theirs.as_fd())], Some(PATIENCE))?;
            let mut packet = Packet::new(&theirs);
            packet.receive()?;
            packet.set_client_address(address.clone());
            let datagram = Datagram::new(Arc::new(packet));
            // It keeps the server.
            let acceptor = &running.0;
            Ok(match acceptor.admit(&datagram) {
                Ok(()) => Job::new(acceptor, datagram).verify_and_process(),
                Err(why) => {
                    acceptor.reject(datagram, why);
                    Ok(())
                }
            })
        };
        Ok(Packets { socket: ours, serve: Box::new(serve), result: Ok(()) })
    }

    /// Sends a packet. When it returns, the handler of this packet has ended.
    ///
    /// # Panics
    ///
    /// If the packet is too long for the kernel.
    #[track_caller]
    pub fn send(&mut self, packet: impl AsRef<[u8]>) {
        let served = self.socket.send(packet.as_ref()).and_then(|_| (self.serve)());
        match served {
            Ok(result) => self.result = result,
            Err(error) => panic!("the packet has not come to the server: {error}"),
        }
    }

    /// Waits for a packet, and for this one.
    ///
    /// # Panics
    ///
    /// If another comes, or none for 10 seconds.
    #[track_caller]
    pub fn expect(&mut self, packet: impl AsRef<[u8]>) {
        let received = self.receive();
        if received != packet.as_ref() {
            let difference = Difference { expected: packet.as_ref(), received: &received };
            panic!("the handler has replied something else:\n{difference}{}", self.why());
        }
    }

    /// Waits for a packet.
    ///
    /// # Panics
    ///
    /// If none comes for 10 seconds.
    #[track_caller]
    pub fn receive(&mut self) -> Vec<u8> {
        let mut packet = vec![0; MAX_PACKET];
        match self.socket.recv(&mut packet) {
            Ok(length) => packet[..length].to_vec(),
            Err(error) => panic!("no packet has come: {error}{}", self.why()),
        }
    }

    /// Makes sure that no packet is there.
    ///
    /// # Panics
    ///
    /// If one is.
    #[track_caller]
    pub fn expect_nothing(&mut self) {
        let is_there = sys::is_readable(&self.socket).expect("poll(2) takes an open socket");
        if is_there {
            panic!("the handler has replied \"{}\"{}", self.receive().escape_ascii(), self.why());
        }
    }

    /// How the handler of the last packet has ended: with the error that `handle_error` would get. It is `Ok` also where the
    /// server has turned the packet away.
    pub fn result(&mut self) -> Result<(), HandlerError> {
        std::mem::replace(&mut self.result, Ok(()))
    }

    /// For the message of a test that fails.
    fn why(&self) -> String {
        match &self.result {
            Ok(()) => String::new(),
            Err(error) => format!("\nThe handler has failed: {}", chain(error)),
        }
    }
}

/// Two sockets that take packets from each other only.
fn pair() -> io::Result<[UdpSocket; 2]> {
    let free = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
    let (ours, theirs) = (free()?, free()?);
    ours.connect(theirs.local_addr()?)?;
    theirs.connect(ours.local_addr()?)?;
    ours.set_read_timeout(Some(PATIENCE))?;
    Ok([ours, theirs])
}

impl fmt::Debug for Packets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packets").field("result", &self.result).finish_non_exhaustive()
    }
}

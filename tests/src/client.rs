//! Clients that never wait longer than a test may.

use std::{
    ffi::OsStr,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, UdpSocket},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{ffi::OsStrExt, net::UnixDatagram},
    },
    path::Path,
    time::{Duration, Instant},
};

use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use sockserver::{Address, UnixAddress};

use crate::place::Place;

/// How long a test waits for what is about to happen: long enough for a machine that is busy with others.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until the condition holds.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What succeeds after a few attempts. An address is not free as soon as it was closed: a process that another test starts
/// has a copy of the socket until it becomes its program.
#[track_caller]
pub fn soon<T>(what: &str, mut attempt: impl FnMut() -> io::Result<T>) -> T {
    let mut done = None;
    eventually(what, || {
        done = attempt().ok();
        done.is_some()
    });
    done.expect("it has succeeded")
}

/// A client of a stream server. What fails or takes longer than [`PATIENCE`] is a panic.
#[derive(Debug)]
pub struct Client {
    socket: BufReader<Socket>,
}

impl Client {
    #[track_caller]
    pub fn connect(server: &Address) -> Client {
        Client::try_connect(server).unwrap_or_else(|error| panic!("connecting to {server}: {error}"))
    }

    pub fn try_connect(server: &Address) -> io::Result<Client> {
        let address = system_address(server)?;
        let socket = Socket::new(Domain::from(i32::from(address.family())), Type::STREAM, None)?;
        be_patient(&socket);
        loop {
            match socket.connect(&address) {
                // As std does: it goes on meanwhile.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::EISCONN) => break,
                connected => {
                    connected?;
                    break;
                }
            }
        }
        Ok(Client::new(socket))
    }

    /// The peer of a socket that the server has the other end of.
    pub fn new(socket: impl Into<OwnedFd>) -> Client {
        let socket = Socket::from(socket.into());
        be_patient(&socket);
        Client { socket: BufReader::new(socket) }
    }

    /// Where this end is: what the server calls the client's address.
    pub fn address(&self) -> Address {
        let address = self.socket().local_addr().expect("a connected socket has an address");
        address.as_socket().map_or(Address::unix(""), Address::Inet)
    }

    pub fn socket(&self) -> &Socket {
        self.socket.get_ref()
    }

    /// The socket, from which what was received and not read is missing.
    pub fn into_socket(self) -> Socket {
        self.socket.into_inner()
    }

    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.get_mut().write_all(bytes.as_ref()).expect("the server takes it");
    }

    /// Sends nothing more: the server sees the end of file.
    #[track_caller]
    pub fn finish(&mut self) {
        self.socket().shutdown(Shutdown::Write).expect("the connection is up");
    }

    /// Ends the connection with a reset.
    #[track_caller]
    pub fn reset(self) {
        self.socket().set_linger(Some(Duration::ZERO)).expect("a TCP socket lingers");
    }

    /// The next line without its end; an empty one at the end of file.
    #[track_caller]
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.socket.read_line(&mut line).expect("a line comes");
        line.trim_end_matches('\n').to_owned()
    }

    /// Sends a line, and returns the line that is answered.
    #[track_caller]
    pub fn ask(&mut self, line: &str) -> String {
        self.send(format!("{line}\n"));
        self.line()
    }

    /// What one system call receives; empty at the end of file.
    #[track_caller]
    pub fn receive(&mut self) -> Vec<u8> {
        loop {
            match self.socket.fill_buf() {
                Ok(received) => {
                    let received = received.to_vec();
                    self.socket.consume(received.len());
                    return received;
                }
                // A receive with a timeout does not go on by itself.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => panic!("nothing comes: {error}"),
            }
        }
    }

    /// So many bytes.
    #[track_caller]
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.socket.read_exact(&mut bytes).expect("the server sends them all");
        bytes
    }

    /// Waits until the connection has ended, in whichever way.
    #[track_caller]
    pub fn wait_for_end(&mut self) {
        match self.socket.read_to_end(&mut Vec::new()) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            Err(error) => panic!("the connection has not ended: {error}"),
        }
    }

    /// Everything until the end of file.
    #[track_caller]
    pub fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        self.socket.read_to_end(&mut rest).expect("the server closes the connection");
        String::from_utf8(rest).expect("text")
    }
}

/// A client of a datagram server, with an address of its own. What fails or takes longer than [`PATIENCE`] is a panic.
#[derive(Debug)]
pub struct DatagramClient {
    socket: Packets,
    server: Address,
    /// The file of a Unix socket.
    _place: Place,
}

#[derive(Debug)]
enum Packets {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

impl DatagramClient {
    /// The server is not asked whether it is there.
    #[track_caller]
    pub fn connect(server: &Address) -> DatagramClient {
        let place = match server {
            Address::Inet(SocketAddr::V4(_)) => Place::inet("127.0.0.1:0"),
            Address::Inet(SocketAddr::V6(_)) => Place::inet("[::1]:0"),
            _ => Place::unix(),
        };
        let socket = match place.address() {
            Address::Inet(address) => Packets::Udp(UdpSocket::bind(address).expect("a free port")),
            _ => Packets::Unix(UnixDatagram::bind(place.path()).expect("a free path")),
        };
        DatagramClient { socket, server: server.clone(), _place: place }.patient()
    }

    /// A Unix client that cannot be answered.
    #[track_caller]
    pub fn unnamed(server: &Address) -> DatagramClient {
        let socket = Packets::Unix(UnixDatagram::unbound().expect("a socket"));
        DatagramClient { socket, server: server.clone(), _place: Place::unix() }
    }

    fn patient(self) -> DatagramClient {
        match &self.socket {
            Packets::Udp(socket) => be_patient(socket),
            Packets::Unix(socket) => be_patient(socket),
        }
        self
    }

    /// Where this client is: what the server calls the client's address.
    pub fn address(&self) -> Address {
        match &self.socket {
            Packets::Udp(socket) => socket.local_addr().expect("a bound socket").into(),
            Packets::Unix(socket) => unix(&socket.local_addr().expect("a bound socket")),
        }
    }

    #[track_caller]
    pub fn send(&self, packet: impl AsRef<[u8]>) {
        let packet = packet.as_ref();
        let sent = match (&self.socket, &self.server) {
            (Packets::Udp(socket), Address::Inet(server)) => socket.send_to(packet, server),
            (Packets::Unix(socket), Address::Unix(_)) => {
                SockRef::from(socket).send_to(packet, &system_address(&self.server).expect("a name of a socket"))
            }
            _ => panic!("{} is of another transport", self.server),
        };
        assert_eq!(sent.expect("the server's queue takes it"), packet.len());
    }

    /// The next packet, and where it came from.
    #[track_caller]
    pub fn receive_from(&self) -> (Vec<u8>, Address) {
        self.try_receive().expect("a packet comes")
    }

    /// The next packet.
    #[track_caller]
    pub fn receive(&self) -> Vec<u8> {
        self.receive_from().0
    }

    /// The next packet, if it is there already.
    #[track_caller]
    pub fn received(&self) -> Option<Vec<u8>> {
        self.set_nonblocking(true);
        let received = self.try_receive();
        self.set_nonblocking(false);
        match received {
            Ok((packet, _)) => Some(packet),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => panic!("receiving: {error}"),
        }
    }

    fn set_nonblocking(&self, nonblocking: bool) {
        match &self.socket {
            Packets::Udp(socket) => socket.set_nonblocking(nonblocking),
            Packets::Unix(socket) => socket.set_nonblocking(nonblocking),
        }
        .expect("an open socket");
    }

    fn try_receive(&self) -> io::Result<(Vec<u8>, Address)> {
        loop {
            match self.receive_once() {
                // A receive with a timeout does not go on by itself.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn receive_once(&self) -> io::Result<(Vec<u8>, Address)> {
        let mut packet = vec![0; 1 << 16];
        let (length, from) = match &self.socket {
            Packets::Udp(socket) => socket.recv_from(&mut packet).map(|(length, from)| (length, from.into()))?,
            Packets::Unix(socket) => socket.recv_from(&mut packet).map(|(length, from)| (length, unix(&from)))?,
        };
        packet.truncate(length);
        Ok((packet, from))
    }

    /// Sends a line in a packet, and returns the line that is answered, without its end.
    #[track_caller]
    pub fn ask(&mut self, line: &str) -> String {
        self.send(format!("{line}\n"));
        self.line()
    }

    /// The line in the next packet, without its end.
    #[track_caller]
    pub fn line(&mut self) -> String {
        let packet = String::from_utf8(self.receive()).expect("text");
        packet.strip_suffix('\n').unwrap_or(&packet).to_owned()
    }

    /// As for a stream, so that tests can be written for both: a packet needs no end.
    pub fn finish(&mut self) {}
}

fn be_patient(socket: &impl AsFd) {
    let socket = SockRef::from(socket);
    socket.set_read_timeout(Some(PATIENCE)).expect("an open socket");
    socket.set_write_timeout(Some(PATIENCE)).expect("an open socket");
}

fn unix(address: &std::os::unix::net::SocketAddr) -> Address {
    Address::unix(address.as_pathname().unwrap_or(Path::new("")))
}

fn system_address(address: &Address) -> io::Result<SockAddr> {
    match address {
        Address::Inet(address) => Ok(SockAddr::from(*address)),
        Address::Unix(UnixAddress::Abstract(name)) => SockAddr::unix(OsStr::from_bytes(&[b"\0", &name[..]].concat())),
        _ => SockAddr::unix(path_of(address)),
    }
}

fn path_of(address: &Address) -> &Path {
    address.path().unwrap_or_else(|| panic!("{address} has no path"))
}

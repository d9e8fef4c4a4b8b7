//! The program `behind`, a server behind proxies, and what a proxy says to it.

use std::{net::SocketAddr, ops::Deref, process::Command};

use socket2::{Domain, Socket, Type};
use sockserver::Address;

use crate::{
    client::{Client, eventually},
    concurrencies::Word,
    place::Place,
    process::ServerProcess,
};

/// A server in a process of its own.
#[derive(Debug)]
pub struct Behind {
    process: ServerProcess,
}

impl Behind {
    /// Starts the program, which is in that file: `env!("CARGO_BIN_EXE_behind")`.
    #[track_caller]
    pub fn start<C: Word>(program: &str, settings: &[&str]) -> Behind {
        Behind::start_on::<C>(program, "tcp", settings)
    }

    #[track_caller]
    pub fn start_on<C: Word>(program: &str, transport: &str, settings: &[&str]) -> Behind {
        let mut command = Command::new(program);
        command.args([transport, C::WORD]).args(settings);
        Behind { process: ServerProcess::start(command, Place::of(transport)) }
    }

    /// A peer that has said nothing yet.
    #[track_caller]
    pub fn connect(&self) -> Client {
        Client::connect(self.address())
    }

    /// A peer at another address of this machine.
    #[track_caller]
    pub fn connect_from(&self, ip: &str) -> Client {
        let Address::Inet(server) = self.address() else { panic!("it is no server on the internet") };
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let local: SocketAddr = (ip.parse::<std::net::IpAddr>().expect("an address"), 0).into();
        socket.bind(&local.into()).expect("a free port");
        socket.connect(&(*server).into()).expect("the server listens");
        Client::new(socket)
    }

    /// A proxy, which has said that this is its client.
    #[track_caller]
    pub fn connect_for(&self, client: &str) -> Client {
        let mut proxy = self.connect();
        proxy.send(line(client));
        proxy
    }

    /// A number of what the server's `stats` says, by its name.
    #[track_caller]
    pub fn stat(&self, name: &str) -> u64 {
        let stats = self.connect_for("198.51.100.200:1").ask("stats");
        let number = stats.split_once(&format!(" {name}: ")).and_then(|(_, rest)| rest.split([',', ' ']).next());
        number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no {name} in {stats}"))
    }

    #[track_caller]
    pub fn counts(&self, name: &str, number: u64) {
        eventually(&format!("{name} is {number}"), || self.stat(name) == number);
    }

    /// Waits until the server has ended, and returns what it has printed.
    #[track_caller]
    pub fn output(self) -> String {
        self.process.output()
    }
}

impl Deref for Behind {
    type Target = ServerProcess;

    fn deref(&self) -> &ServerProcess {
        &self.process
    }
}

/// The header of version 1 for a client, that has connected to 192.0.2.1:25.
pub fn line(client: &str) -> Vec<u8> {
    let client: SocketAddr = client.parse().expect("an address");
    format!("PROXY TCP4 {} 192.0.2.1 {} 25\r\n", client.ip(), client.port()).into_bytes()
}

/// The header of version 2 for a client, that has connected to 192.0.2.1:25, with these fields.
pub fn binary(client: &str, fields: &[(u8, &[u8])]) -> Vec<u8> {
    let client: SocketAddr = client.parse().expect("an address");
    let SocketAddr::V4(client) = client else { panic!("{client} has another family") };
    let mut rest = [&client.ip().octets()[..], &[192, 0, 2, 1], &client.port().to_be_bytes(), &[0, 25]].concat();
    for (kind, value) in fields {
        rest.extend([&[*kind], &(value.len() as u16).to_be_bytes()[..], value].concat());
    }
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11", &(rest.len() as u16).to_be_bytes()[..], &rest].concat()
}

/// The header of a connection that is the proxy's own, as HAProxy 2.6.12 sends it in a health check.
pub const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\x0f\x03\0\x04\x88\x9d\xa1\xdf\x20\0\x05\0\0\0\0\0";

//! Where servers and clients are bound.

use std::{
    env, fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU8, AtomicUsize, Ordering::Relaxed},
};

use sockserver::{
    Address, Options, Server, SocketServer, Transport,
    transport::{AnyStream, Tcp, Udp, Unix, UnixDatagram},
};

use crate::concurrencies::set_workers;

/// An address that nobody else uses, until it is dropped.
#[derive(Debug)]
pub struct Place {
    address: Address,
    /// Holds the file of a Unix socket.
    _directory: Option<Directory>,
}

impl Place {
    /// A place for a server or a client of this transport, by its word in the attribute.
    pub fn of(transport: &str) -> Place {
        match transport {
            "tcp" | "udp" | "stream" => Place::inet("127.0.0.1:0"),
            "unix" | "unix_datagram" => Place::unix(),
            unknown => panic!("there is no transport {unknown}"),
        }
    }

    pub fn inet(address: &str) -> Place {
        Place { address: Address::Inet(address.parse().expect("an address")), _directory: None }
    }

    pub fn unix() -> Place {
        let directory = Directory::new();
        Place { address: Address::unix(directory.path().join("socket")), _directory: Some(directory) }
    }

    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The path of a Unix socket.
    #[track_caller]
    pub fn path(&self) -> &Path {
        self.address.path().expect("the place of a Unix socket")
    }
}

/// An address of this machine that no other test uses: all its ports are free, and stay free while a program is restarted.
pub fn own_ip() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(100);
    let [_, _, high, low] = process::id().to_be_bytes();
    Ipv4Addr::new(127, NEXT.fetch_add(1, Relaxed), high, low)
}

/// A new directory, which is removed with everything in it when this is dropped.
#[derive(Debug)]
pub struct Directory(PathBuf);

impl Directory {
    #[expect(clippy::new_without_default, reason = "making one makes a directory")]
    pub fn new() -> Directory {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        loop {
            // Short, as the path of a socket has about a hundred bytes.
            let name = format!("sockserver-{}-{}", process::id(), NEXT.fetch_add(1, Relaxed));
            let path = env::temp_dir().join(name);
            match fs::create_dir(&path) {
                Ok(()) => return Directory(path),
                // An earlier process of this number has crashed.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => panic!("creating {}: {error}", path.display()),
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A transport that the tests have places for.
pub trait Local: Transport {
    fn place() -> Place;

    fn bind<S: Server<Transport = Self>>(server: S, address: &Address, options: Options)
    -> io::Result<SocketServer<S>>;
}

macro_rules! local {
    ($($transport:ty: $place:expr;)*) => { $(
        impl Local for $transport {
            fn place() -> Place {
                $place
            }

            fn bind<S: Server<Transport = Self>>(
                server: S,
                address: &Address,
                mut options: Options,
            ) -> io::Result<SocketServer<S>> {
                set_workers(&mut options);
                server.bind_with(address, options)
            }
        }
    )* };
}

local! {
    AnyStream: Place::of("stream");
    Tcp: Place::of("tcp");
    Udp: Place::of("udp");
    Unix: Place::of("unix");
    UnixDatagram: Place::of("unix_datagram");
}

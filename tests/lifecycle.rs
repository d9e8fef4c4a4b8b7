//! From `bind` to `server_close`: binding, serving, hooks, errors on the way, and stopping.

use std::{
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsFd, AsRawFd},
        unix::net::{UnixDatagram as StdUnixDatagram, UnixListener as StdUnixListener, UnixStream},
    },
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};
use sockserver::{
    Address, BindTo, Context, Drained, FromRequest, HandlerError, HandlerResult, Options, Reader, RequestHandler, Running,
    Server, ServerHandle, SocketServer, Stage, Stream, UnixAddress, Writer,
    concurrency::{Pool, Sync, Threading},
    request_handler,
    transport::{Tcp, Udp, Unix, UnixDatagram},
};
use sockserver_tests::{
    client::{Client, DatagramClient, PATIENCE, eventually},
    place::{Directory, Place},
    script::{Report, Script},
    served::{Served, Watchdog},
};

// The hooks, and what happens around them.

/// A server that writes down what is called, and does as the plan says.
#[derive(Server)]
#[server(
    transport = "tcp",
    concurrency = "sync",
    handler = Planned,
    hooks(
        server_activate = Self::activate,
        verify_request = Self::verify,
        handle_error = Self::error,
        handle_timeout = Self::timeout,
        service_actions = Self::actions,
        server_close = Self::close,
    ),
)]
struct Plan {
    calls: Sender<&'static str>,
    reports: Sender<Report>,
    /// What goes wrong, and where.
    fault: Option<(Fault, Place_)>,
    handle: OnceLock<ServerHandle>,
}

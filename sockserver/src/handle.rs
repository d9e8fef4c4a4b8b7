//! Steering a server from elsewhere.

use std::{
    fmt, io,
    net::IpAddr,
    process::{Child, Command},
    sync::Arc,
    time::Duration,
};

use crate::{
    address::Address,
    callbacks::OnStopping,
    connections::{drain::DrainReport, stats::Stats},
    hand_over,
    io::state::{ConnectionId, ConnectionInfo},
    options::{Access, Limits},
    server_state::ServerState,
    unwind::unwind_safe,
};

#[cfg(feature = "systemd")]
use crate::{primitives::atomic::Ordering::SeqCst, systemd::Reload};

/// Steers a server from anywhere: its handlers, its hooks, other threads.
///
/// A handler takes one from its request by having a field of this type.
#[derive(Clone)]
pub struct ServerHandle {
    state: Arc<ServerState>,
}

impl ServerHandle {
    pub(crate) fn new(state: Arc<ServerState>) -> ServerHandle {
        ServerHandle { state }
    }

    pub(crate) fn state(&self) -> &Arc<ServerState> {
        &self.state
    }

    /// Where the server listens: Python's `server_address`. Of several sockets it is the address of the first.
    pub fn server_address(&self) -> &Address {
        &self.state.sockets.addresses[0]
    }

    /// Where the server listens, in the order in which [`bind`](crate::Server::bind) got the addresses.
    pub fn server_addresses(&self) -> &[Address] {
        &self.state.sockets.addresses
    }

    /// Stops the server, without waiting: [`wait`](Self::wait) is what you want to call next, unless this is one of the
    /// server's own handlers.
    ///
    /// With [`timeouts(linger)`](crate::Timeouts::linger) the server goes on accepting for that long, while
    /// [`is_ready`](Self::is_ready) is false. Then it drains:
    ///
    /// - The port closes at once if the server serves, else when the [`SocketServer`](crate::SocketServer) is dropped. The
    ///   port of a datagram server closes when the last [`Datagram`](crate::Datagram) is dropped. A connection that the
    ///   server is just accepting is still served.
    /// - A connection that is [idle](crate::Stream#idle-and-busy) ends: its handler gets an error with
    ///   [`Closing::Draining`](crate::Closing::Draining) inside. First it gets what the kernel has received from the client
    ///   until now, and no more. A client that has sent nothing yet has a second, counted from its accept.
    /// - A busy connection is cut after [`timeouts(shutdown)`](crate::Timeouts::shutdown).
    ///
    /// It can be called from anywhere, at any time, any number of times. A server that does not serve yet ends as soon as
    /// it does.
    ///
    /// Python's `shutdown` waits until the loop has ended and deadlocks in a handler; this one returns at once.
    pub fn shutdown(&self) {
        self.state.shut_down();
    }

    /// Replaces this server by a program that is started here, without a refused connection. It gets the listening sockets,
    /// and this server is [shut down](Self::shutdown) once the successor serves.
    ///
    /// The successor needs no code for it: where it binds to the address of one of the sockets, or takes it by
    /// [`inherited`](crate::inherited), it gets that socket. It is ready when it
    /// [serves](crate::SocketServer::serve_forever) all of them. Port 0 stands for any port here. The file of a Unix socket
    /// belongs to the successor from then on.
    ///
    /// It waits for the successor, for a minute at most, while this server goes on. Call it from a thread of your own, or in
    /// `service_actions`.
    ///
    /// ```no_run
    /// # fn hand_over(handle: &sockserver::ServerHandle) -> std::io::Result<()> {
    /// use std::{env, process::Command};
    ///
    /// let mut command_line = env::args_os();
    /// let mut successor = Command::new(command_line.next().ok_or(std::io::ErrorKind::InvalidInput)?);
    /// handle.hand_over(successor.args(command_line))?;
    /// # Ok(()) }
    /// ```
    ///
    /// On Linux, [`current_exe`](std::env::current_exe) names a deleted file once a new version has taken the program's place.
    ///
    /// # Errors
    ///
    /// The program cannot be started, ends before it is ready, or is not ready in time, when it is killed. This server then
    /// goes on as if nothing had happened. [`io::ErrorKind::NotConnected`] if this server was shut down or handed over
    /// already, [`io::ErrorKind::ResourceBusy`] while another successor is being started,
    /// [`io::ErrorKind::Unsupported`] in the child of a server that forks.
    pub fn hand_over(&self, successor: &mut Command) -> io::Result<Child> {
        ServerHandle::hand_over_all([self], successor)
    }

    /// As [`hand_over`](Self::hand_over), of several servers of this process to one successor, which has to serve all their
    /// sockets. If it fails, all servers go on.
    ///
    /// ```no_run
    /// # fn hand_over(web: &sockserver::RunningServer, admin: &sockserver::RunningServer) -> std::io::Result<()> {
    /// use sockserver::ServerHandle;
    /// use std::process::Command;
    ///
    /// ServerHandle::hand_over_all([&**web, &**admin], &mut Command::new("/usr/local/bin/app"))?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`hand_over`](Self::hand_over). [`io::ErrorKind::InvalidInput`] without any server.
    pub fn hand_over_all<'a>(
        servers: impl IntoIterator<Item = &'a ServerHandle>,
        successor: &mut Command,
    ) -> io::Result<Child> {
        let servers: Vec<_> = servers.into_iter().map(|server| &server.state).collect();
        hand_over::hand_over(&servers, successor)
    }

    /// Tells systemd that the service reloads, while the function runs: for what a unit with `Type=notify-reload` or
    /// `ExecReload=` has the service do, on SIGHUP as a rule. With [`notify_systemd`](crate::SocketServer::notify_systemd) it
    /// sends `RELOADING=1` with the time before, and `READY=1` after, also where the function panics. Else it only calls the
    /// function. The server goes on meanwhile. [`hand_over`](Self::hand_over) tells systemd of a reload by itself.
    ///
    /// ```no_run
    /// # fn reload(handle: &sockserver::ServerHandle) -> std::io::Result<()> {
    /// let users = handle.notify_reload(|| std::fs::read_to_string("/etc/app/users"))?;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "systemd")]
    pub fn notify_reload<T>(&self, reload: impl FnOnce() -> T) -> T {
        let _reload = self.state.tells_systemd.load(SeqCst).then(Reload::begin);
        reload()
    }

    /// Whether new clients are welcome: the answer to a load balancer. `false` after [`shutdown`](Self::shutdown), also
    /// while the server still accepts because of [`timeouts(linger)`](crate::Timeouts::linger), and while it is
    /// [suspended](Self::suspend).
    pub fn is_ready(&self) -> bool {
        self.state.is_ready()
    }

    /// Whether the server drains. A handler that works for long, or waits for something else than its client, should ask
    /// and return. With [`timeouts(linger)`](crate::Timeouts::linger) the drain begins later than the shutdown.
    pub fn is_stopping(&self) -> bool {
        self.state.is_stopping() || self.state.is_stopping_in_parent()
    }

    /// Has the server call a function once when it begins to drain, or at once if it drains already. A thread that stops
    /// the server calls it, and it should return soon. Dropping what this returns unregisters the function; the drop does
    /// not wait for a thread that is calling it.
    ///
    /// For a handler that waits for something else than its client, such as a channel:
    ///
    /// ```
    /// # use sockserver::{HandlerResult, RequestHandler, ServerHandle, Server, Writer, request_handler};
    /// use std::{io::Write, sync::mpsc};
    ///
    /// #[request_handler]
    /// #[server(transport = "tcp", concurrency = "threading")]
    /// struct Feed {
    ///     wfile: Writer,
    ///     server: ServerHandle,
    /// }
    ///
    /// impl RequestHandler for Feed {
    ///     fn handle(&mut self) -> HandlerResult {
    ///         let (news, incoming) = mpsc::channel();
    ///         let _on_stopping = self.server.on_stopping({
    ///             let news = news.clone();
    ///             move || _ = news.send(None)
    ///         });
    ///         # let server = self.server.clone();
    ///         # std::thread::spawn(move || { news.send(Some("first")).unwrap(); server.shutdown() });
    ///         // `news` goes to whatever makes them.
    ///         while let Some(line) = incoming.recv()? {
    ///             writeln!(self.wfile, "{line}")?;
    ///             self.wfile.flush()?;
    ///         }
    ///         Ok(())
    ///     }
    /// }
    /// # fn main() -> std::io::Result<()> {
    /// # let server = FeedServer.bind("127.0.0.1:0")?.spawn()?;
    /// # let mut client = std::net::TcpStream::connect(("127.0.0.1", server.server_address().port().unwrap()))?;
    /// # assert_eq!(std::io::read_to_string(&mut client)?, "first\n");
    /// # server.wait()?;
    /// # Ok(()) }
    /// ```
    ///
    /// With `"forking"` it is not called in the child that serves a connection: a handler there asks
    /// [`is_stopping`](Self::is_stopping).
    pub fn on_stopping(&self, callback: impl FnOnce() + Send + 'static) -> OnStopping {
        let on_stopping = self.state.callbacks.add(callback);
        // The flag is set before the functions are called.
        if self.state.is_stopping() {
            self.state.callbacks.call_all(self.state.id);
        }
        on_stopping
    }

    /// Waits until the server has ended: [`serve_forever`](crate::SocketServer::serve_forever) is about to return, or
    /// the [`SocketServer`](crate::SocketServer) was dropped. It does not end the server, and it does not wait for a handler
    /// that was given up.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Deadlock`] in one of the server's own handlers or hooks, since it would wait for itself.
    pub fn wait(&self) -> io::Result<DrainReport> {
        if self.state.runs_here() {
            return Err(io::Error::new(
                io::ErrorKind::Deadlock,
                "a handler or a hook cannot wait for the end of its own server, which waits for it; \
                 `shutdown` alone is enough",
            ));
        }
        Ok(self.state.connections.wait_until_ended())
    }

    /// Stops accepting for the time being. The port stays bound: new clients wait in the kernel's queue.
    pub fn suspend(&self) {
        self.state.set_suspended(true);
    }

    /// Accepts again, beginning with the clients in the kernel's queue.
    pub fn resume(&self) {
        self.state.set_suspended(false);
    }

    /// Reads the certificates again, or calls the hook `tls` again. Handshakes that begin after it use the new ones;
    /// connections go on as they are. With `"forking"` it is called in the parent.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or a key is not that of its certificate, as when one of two files has not been replaced yet:
    /// then the old certificates stay. [`io::ErrorKind::Unsupported`] for a server without TLS.
    #[cfg(feature = "tls")]
    pub fn reload(&self) -> io::Result<()> {
        match &self.state.terms.tls {
            Some(material) => material.reload(),
            None => Err(io::Error::new(io::ErrorKind::Unsupported, "the server has no TLS, and nothing to read again")),
        }
    }

    /// What the server has done so far.
    pub fn stats(&self) -> Stats {
        self.state.connections.stats()
    }

    /// The limits that new connections meet now: of the last [`set_limits`](Self::set_limits), or the limits that the server
    /// was bound with.
    pub fn limits(&self) -> Limits {
        self.state.connections.limits()
    }

    /// Changes the limits while the server runs. New connections meet them at once; connections that are under way go on,
    /// also above a lower limit, and count.
    ///
    /// ```
    /// # use sockserver::{HandlerResult, RequestHandler, Server, Writer, request_handler};
    /// # #[request_handler]
    /// # #[server(transport = "tcp", concurrency = "threading", limits(connections = 100))]
    /// # struct Hello {
    /// #     wfile: Writer,
    /// # }
    /// # impl RequestHandler for Hello {
    /// #     fn handle(&mut self) -> HandlerResult { Ok(()) }
    /// # }
    /// # fn main() -> std::io::Result<()> {
    /// let server = HelloServer.bind("127.0.0.1:0")?.spawn()?;
    /// server.set_limits(server.limits().connections(500))?;
    /// assert_eq!(server.limits().connections, Some(500));
    /// # Ok(()) }
    /// ```
    ///
    /// As in the options, `"pool"` serves at most as many as it has workers, and `"sync"` serves one. On Unix sockets, a first
    /// `per_client` counts the connections that come after it. A new rate counts from then on. In a child of `"forking"` it
    /// changes nothing.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] for a limit of zero, and for another `on_limit` or number of `threads`, which are
    /// decided when the server is bound.
    pub fn set_limits(&self, limits: Limits) -> io::Result<()> {
        self.state.set_limits(limits)
    }

    /// Which clients are let in now: what the server was bound with, or the last [`set_access`](Self::set_access).
    pub fn access(&self) -> Access {
        self.state.connections.gate.access()
    }

    /// Changes which clients are let in, as after a look at a configuration. It is asked about each connection that comes
    /// from now on; connections that are under way go on. In a child of `"forking"` it changes nothing.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] if [`allow`](Access::allow) is an empty list.
    pub fn set_access(&self, access: Access) -> io::Result<()> {
        self.state.set_access(access)
    }

    /// Turns away a client for this time: the connections that come from now on. One that is under way goes on;
    /// [`close`](Self::close) ends it. A second ban of the same client replaces the first.
    ///
    /// A client is what [`limits(per_client)`](crate::Limits::per_client) counts as one: for an IPv6 address its /64 network.
    /// At most 65,536 clients are banned at once; one more lifts the ban that ends first. A time that is too long for an
    /// [`Instant`](std::time::Instant), such as [`Duration::MAX`], becomes a year, and bans are not kept when the process ends:
    /// a client that is never to come back belongs in [`set_access`](Self::set_access). In a child of `"forking"` this changes
    /// nothing.
    pub fn ban(&self, ip: IpAddr, duration: Duration) {
        self.state.connections.ban(ip, duration);
    }

    /// Lifts the ban of this client. `false`: it was not banned.
    pub fn unban(&self, ip: IpAddr) -> bool {
        self.state.connections.gate.lift_ban(ip)
    }

    /// The addresses that were banned, and how long their bans last. The one that ends first is the first.
    pub fn bans(&self) -> Vec<(IpAddr, Duration)> {
        self.state.connections.gate.bans()
    }

    /// The requests that are under way, oldest first.
    pub fn connections(&self) -> Vec<ConnectionInfo> {
        self.state.connections.list()
    }

    /// Ends one connection: its handler's reads fail with [`Closing::Kicked`](crate::Closing::Kicked), and a second later
    /// the connection is cut. `false`: the request has ended already.
    ///
    /// To wake the handler, this shuts the socket down for reading. A client that goes on sending may therefore be reset
    /// before it has read a long goodbye. A datagram has no connection, and its handler goes on; only a reply that waits
    /// for room fails.
    pub fn close(&self, id: ConnectionId) -> bool {
        self.state.close_connection(id)
    }
}

impl fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandle").field("server_address", self.server_address()).finish_non_exhaustive()
    }
}

unwind_safe!(ServerHandle);

//! The bound server, and how it serves.

use std::{
    fmt, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    sync::Arc,
    time::Instant,
};

use crate::{
    acceptor::{Acceptor, LeaderEvent, Listener, Strategy},
    address::Address,
    concurrency::Concurrency,
    event::Event,
    handle::ServerHandle,
    job::Job,
    options::Options,
    primitives::thread,
    running_server::RunningServer,
    service::Service,
};

/// A server that is bound and does not serve yet: an instance of Python's `TCPServer` and the like.
///
/// [`serve_forever`](Self::serve_forever), [`spawn`](Self::spawn) or [`handle_request`](Self::handle_request) serve.
/// Other threads steer it by its [`handle`](Self::handle). As a file descriptor (Python's `fileno`) it is the listening
/// socket, or the first of several.
///
/// Dropping it closes the port, drains the requests that `handle_request` has left under way (see
/// [`timeouts(shutdown)`](crate::Timeouts::shutdown)), and calls `server_close`: Python's `server_close`. If a program
/// forks while it has one, only one process may serve or drop it; the others call [`mem::forget`](std::mem::forget).
#[must_use = "dropping it closes the port: call `serve_forever` or `spawn`"]
pub struct SocketServer<S: Service> {
    /// Kept for `AsFd` until serving begins: a shutdown before that closes the port only when this is dropped.
    listeners: Arc<[Listener<S>]>,
    concurrency: Arc<dyn Serve<S>>,
    acceptor: CloseGuard<S>,
}

/// A [`Concurrency`] of any type, for servers of one type.
trait Serve<S: Service>: Send + Sync {
    fn process_request(&self, job: Job<S>);
    fn serve(&self, acceptor: &Arc<Acceptor<S>>);
}

impl<S: Service, C: Concurrency> Serve<S> for C {
    fn process_request(&self, job: Job<S>) {
        Concurrency::process_request(self, job);
    }

    fn serve(&self, acceptor: &Arc<Acceptor<S>>) {
        Concurrency::serve(self, acceptor);
    }
}

/// Closes the acceptor when it is dropped.
struct CloseGuard<S: Service>(Arc<Acceptor<S>>);

/// What [`SocketServer::handle_request`] has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub enum Handled {
    /// It processed a request, or `verify_request` refused one. With `"threading"` and `"forking"` the request may still be
    /// under way.
    Request,
    /// No request came within `timeouts(handle_request)`, and `handle_timeout` was called.
    TimedOut,
    /// The server was shut down.
    Stopped,
}

impl<S: Service> SocketServer<S> {
    pub(crate) fn new<C: Concurrency>(
        server: S,
        listeners: Vec<Listener<S>>,
        options: Options,
        concurrency: C,
    ) -> io::Result<SocketServer<S>> {
        if listeners.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "cannot bind to an empty list of addresses"));
        }
        let listeners = Arc::<[_]>::from(listeners);
        let concurrency = Arc::new(concurrency);
        let strategy = Strategy {
            capacity: {
                // A handle can outlive the server.
                let concurrency = Arc::downgrade(&concurrency);
                Box::new(move |options| Some(concurrency.upgrade()?.max_connections(options)))
            },
            forks: C::FORKS,
            source: concurrency.event_source(),
        };
        let acceptor = CloseGuard(Acceptor::bound(server, listeners.clone(), options, strategy)?);
        match acceptor.0.hooks.server_activate(acceptor.0.handle()) {
            Ok(()) => {
                for address in acceptor.0.handle().server_addresses() {
                    acceptor.0.hooks.event(&Event::Listening(address));
                }
                Ok(SocketServer { listeners, concurrency, acceptor })
            }
            Err(message) => Err(io::Error::other(format!("server_activate panicked: {message}"))),
        }
    }

    /// Where the server listens, with the port that was picked for port 0: Python's `server_address`. Of several sockets
    /// it is the address of the first.
    pub fn server_address(&self) -> &Address {
        self.acceptor.0.handle().server_address()
    }

    /// Where the server listens, in the order in which [`bind`](crate::Server::bind) got the addresses.
    pub fn server_addresses(&self) -> &[Address] {
        self.acceptor.0.handle().server_addresses()
    }

    /// The server struct.
    pub fn server(&self) -> &Arc<S> {
        self.acceptor.0.server()
    }

    /// The handle that steers the server, also while it serves.
    pub fn handle(&self) -> ServerHandle {
        self.acceptor.0.handle().clone()
    }

    /// Waits for one request and processes it by the server's concurrency: Python's `handle_request`.
    ///
    /// It waits for `timeouts(handle_request)` at most. Requests above a limit do not count.
    ///
    /// # Errors
    ///
    /// The listening socket is broken. A lack of descriptors and the like is no error here: it waits, as `serve_forever`
    /// does. If no process can be started for the request, it calls `handle_error`.
    pub fn handle_request(&self) -> io::Result<Handled> {
        let acceptor = &self.acceptor.0;
        let timeout = acceptor.options().timeouts.handle_request;
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            match acceptor.wait_until(deadline) {
                LeaderEvent::Request(request) => {
                    if let Some(job) = Job::new(acceptor, request).verify() {
                        self.concurrency.process_request(job);
                    }
                    return Ok(Handled::Request);
                }
                LeaderEvent::Rejected(request, why) => acceptor.reject(request, why),
                LeaderEvent::AcceptFailed(error) => acceptor.accept_failed(error),
                LeaderEvent::TimedOut => {
                    acceptor.hooks.handle_timeout();
                    return Ok(Handled::TimedOut);
                }
                LeaderEvent::Source => acceptor.process_source(),
                LeaderEvent::Stopped => return acceptor.state().take_failure().map_or(Ok(Handled::Stopped), Err),
            }
        }
    }

    /// Serves until [`ServerHandle::shutdown`] is called, and returns when all requests have ended or been given up:
    /// Python's `serve_forever`, and its `server_close`. With `"sync"` the handlers run in it, so that it cannot return
    /// before a handler that was given up does.
    ///
    /// The handle says how it went: `let handle = server.handle(); server.serve_forever()?; let report = handle.wait()?;`.
    ///
    /// # Errors
    ///
    /// The listening socket is broken. [`io::ErrorKind::Unsupported`] with `"forking"` in a process that has several
    /// threads, unless `allow_threads` is set.
    pub fn serve_forever(self) -> io::Result<()> {
        let SocketServer { listeners, concurrency, acceptor: CloseGuard(ref acceptor) } = self;
        // From now on only the leader has the listening sockets, so that a stop closes them.
        drop(listeners);
        acceptor.state().begin_serving();
        concurrency.serve(acceptor);
        acceptor.drain();
        acceptor.state().take_failure().map_or(Ok(()), Err)
    }

    /// Has the first SIGINT or SIGTERM call [`ServerHandle::shutdown`], so that the server drains and the program can end
    /// with success. The second signal ends the process at once, with the status 128 + signal. Call it before serving.
    ///
    /// One signal stops all servers of the process that have called it. When the last of them has ended, either signal
    /// ends the process. It costs the requests nothing: a small thread, one for the process, waits for the signals; only
    /// `"forking"` does without.
    ///
    /// On Linux, the children of `"forking"` end with their parent, however it ends, and with the thread that has forked
    /// them. Elsewhere they end on the second SIGINT.
    ///
    /// # Errors
    ///
    /// The signal handler, a pipe or the thread cannot be made.
    #[cfg(feature = "signals")]
    pub fn shutdown_on_signals(&self) -> io::Result<()> {
        let state = self.acceptor.0.state();
        let own_pipe = state.forks().then(|| state.waker.writer()).transpose()?;
        let weak = Arc::downgrade(state);
        let shut_down = move || {
            if let Some(state) = weak.upgrade() {
                state.shut_down();
            }
        };
        crate::signals::stop_on_signals(state.id, own_pipe, Arc::new(shut_down))
    }

    /// Tells systemd how the service does, for a unit with `Type=notify` (`sd_notify(3)`). Call it when all servers of the
    /// program are bound, before serving.
    ///
    /// * `READY=1` now: clients can connect.
    /// * `STOPPING=1` when the server begins to drain, with `EXTEND_TIMEOUT_USEC`: `timeouts(shutdown)` may be longer than the
    ///   unit's `TimeoutStopSec=`.
    /// * `WATCHDOG=1`, twice in each `WatchdogSec=` of the unit, from the wait of the accept loop. If no thread can wait for
    ///   requests any more, systemd restarts the service. With `"sync"` and `"pool"` that is also so while each thread serves a
    ///   client: `WatchdogSec=` must then be longer than a connection may last.
    ///
    /// Outside of systemd it does nothing.
    ///
    /// # Errors
    ///
    /// The message cannot be sent to the socket that the environment names in `NOTIFY_SOCKET`.
    #[cfg(feature = "systemd")]
    pub fn notify_systemd(&self) -> io::Result<()> {
        self.acceptor.0.notify_systemd()
    }

    /// Serves on a thread of its own, until the [`RunningServer`] is dropped or [stopped](RunningServer::stop).
    ///
    /// # Errors
    ///
    /// The thread cannot be started. [`io::ErrorKind::Unsupported`] with `"forking"`, which must not fork beside other
    /// threads, unless `allow_threads` is set.
    pub fn spawn(self) -> io::Result<RunningServer> {
        if self.acceptor.0.state().forks() && !self.acceptor.0.options().allow_threads {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "a server that forks cannot run beside other threads, whose locks would stay locked in its children: \
                 use `serve_forever` on the main thread, or concurrency = \"threading\", or set `allow_threads = true` if \
                 the handler uses no lock that another thread can hold",
            ));
        }
        let handle = self.handle();
        // A shutdown may come before the thread runs.
        handle.state().begin_serving();
        let name = format!("sockserver {}", self.server_address());
        let thread = thread::Builder::new().name(name).spawn(move || self.serve_forever())?;
        Ok(RunningServer::new(handle, thread))
    }
}

impl<S: Service> Drop for CloseGuard<S> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<S: Service> AsFd for SocketServer<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listeners[0].as_fd()
    }
}

impl<S: Service> AsRawFd for SocketServer<S> {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl<S: Service> fmt::Debug for SocketServer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketServer").field("server_address", self.server_address()).finish_non_exhaustive()
    }
}

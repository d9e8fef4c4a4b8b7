//! A bound server, and serving.

use std::{
    fmt, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    sync::Arc,
    time::Instant,
};

use crate::{
    acceptor::{Acceptor, Event, Listener, Strategy},
    address::Address,
    concurrency::Concurrency,
    error::Stage,
    handle::ServerHandle,
    job::Job,
    options::Options,
    primitives::thread,
    running_server::RunningServer,
    service::Service,
};

/// A server that is bound and does not serve yet: an instance of Python's `TCPServer` and the like.
///
/// [`serve_forever`](Self::serve_forever), [`spawn`](Self::spawn) or [`handle_request`](Self::handle_request) serve;
/// what steers it meanwhile, from other threads, is its [`handle`](Self::handle).
///
/// Dropping it closes the port, drains the requests that `handle_request` has left under way (see
/// [`timeouts(shutdown)`](crate::Timeouts::shutdown)), and calls `server_close`: Python's `server_close`. Of several
/// processes that have it after a fork, one serves it, and the others leave it alone
/// ([`mem::forget`](std::mem::forget)). As a file descriptor (Python's `fileno`) it is the listening socket.
#[must_use = "dropping it closes the port: call `serve_forever` or `spawn`"]
pub struct SocketServer<S: Service> {
    /// Kept for `AsFd` until serving begins: a shutdown before that closes the port only when this is dropped.
    listener: Arc<Listener<S>>,
    concurrency: Box<dyn Serve<S>>,
    acceptor: Closing<S>,
}

/// A [`Concurrency`] of whatever type, for servers of one type.
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
struct Closing<S: Service>(Arc<Acceptor<S>>);

/// What has come of [`SocketServer::handle_request`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub enum Handled {
    /// A request was processed, or `verify_request` did not want it. With `"threading"` and `"forking"` it may still be
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
        listener: Listener<S>,
        options: Options,
        concurrency: C,
    ) -> io::Result<SocketServer<S>> {
        let listener = Arc::new(listener);
        let strategy = Strategy {
            capacity: concurrency.max_connections(&options),
            forks: C::FORKS,
            source: concurrency.event_source(),
        };
        let acceptor = Closing(Acceptor::bound(server, listener.clone(), options, strategy)?);
        match acceptor.0.hooks.server_activate(acceptor.0.handle()) {
            Ok(()) => Ok(SocketServer { listener, concurrency: Box::new(concurrency), acceptor }),
            Err(message) => Err(io::Error::other(format!("server_activate panicked: {message}"))),
        }
    }

    /// Where the server listens, with the port that was picked for port 0: Python's `server_address`.
    pub fn server_address(&self) -> &Address {
        self.acceptor.0.handle().server_address()
    }

    /// The server struct.
    pub fn server(&self) -> &Arc<S> {
        self.acceptor.0.server()
    }

    /// The handle that steers the server, also while it serves.
    pub fn handle(&self) -> ServerHandle {
        self.acceptor.0.handle().clone()
    }

    /// Waits for one request and processes it, in the way of its `concurrency`: Python's `handle_request`.
    ///
    /// It waits for `timeouts(handle_request)`. Requests above a limit do not count.
    ///
    /// # Errors
    ///
    /// The listening socket is broken. While descriptors and the like are short it waits, as `serve_forever` does; where
    /// no process can be started for the request, `handle_error` is called.
    pub fn handle_request(&self) -> io::Result<Handled> {
        let acceptor = &self.acceptor.0;
        let timeout = acceptor.options().timeouts.handle_request;
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            match acceptor.wait_until(deadline) {
                Event::Request(request) => {
                    if let Some(job) = Job::new(acceptor, request).verify() {
                        self.concurrency.process_request(job);
                    }
                    return Ok(Handled::Request);
                }
                Event::AcceptFailed(error) => acceptor.report(Stage::GetRequest, error),
                Event::TimedOut => {
                    acceptor.hooks.handle_timeout();
                    return Ok(Handled::TimedOut);
                }
                Event::Source => acceptor.process_source(),
                Event::Stopped => return acceptor.state().take_failure().map_or(Ok(Handled::Stopped), Err),
            }
        }
    }

    /// Serves until [`ServerHandle::shutdown`] is called, and returns when all requests have ended or been given up:
    /// Python's `serve_forever`, and its `server_close`. With `"sync"` the handler runs in it, and one that is given up
    /// has to return all the same.
    ///
    /// # Errors
    ///
    /// The listening socket is broken. [`io::ErrorKind::Unsupported`] with `"forking"` in a process that has several
    /// threads, unless `allow_threads` is set.
    pub fn serve_forever(self) -> io::Result<()> {
        let SocketServer { listener, concurrency, acceptor: Closing(ref acceptor) } = self;
        // From here on the port is closed as soon as the server stops.
        drop(listener);
        acceptor.state().begin_serving();
        concurrency.serve(acceptor);
        acceptor.drain();
        acceptor.state().take_failure().map_or(Ok(()), Err)
    }

    /// Lets the first SIGINT or SIGTERM shut the server down, which drains it as [`ServerHandle::shutdown`] does, so
    /// that the program can end with success; the second one ends the process at once, with the status 128 + signal. To
    /// be called before serving. It works with every concurrency, and costs the requests nothing: but for `"forking"`, a
    /// small thread sees the signals, one for all servers of the process. Several servers can each ask for it: one
    /// signal stops them all. When the last of them has ended, either signal ends the process. With `"forking"` the
    /// children end with their parent, however that ends (on Linux, where they also end with the thread that has forked
    /// them; elsewhere on the second SIGINT).
    ///
    /// # Errors
    ///
    /// The system refuses the signal handler, a pipe, or the thread.
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

    /// Serves on a thread of its own, until what is returned is dropped or told to [`stop`](RunningServer::stop).
    ///
    /// # Errors
    ///
    /// No thread can be started. [`io::ErrorKind::Unsupported`] with `"forking"`, which must not fork beside other
    /// threads, unless `allow_threads` is set.
    pub fn spawn(self) -> io::Result<RunningServer> {
        if self.acceptor.0.state().forks() && !self.acceptor.0.options().allow_threads {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "a server that forks is not served beside other threads, whose locks would stay locked in its children: \
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

impl<S: Service> Drop for Closing<S> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<S: Service> AsFd for SocketServer<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
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

//! Steering a server from elsewhere.

use std::{
    collections::BTreeMap,
    fmt, io,
    ops::Deref,
    sync::{Arc, OnceLock, Weak},
    time::{Duration, Instant},
};

use crate::{
    address::Address,
    concurrency::Concurrency,
    connections::{Connections, Drained, Due, GRACE},
    exits::Exits,
    io::{
        bell::Bell,
        record::{ConnectionId, ConnectionInfo},
        shared::Shared,
        waker::Waker,
    },
    lingering::Lingering,
    options::Options,
    primitives::{
        Condvar, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
        thread::{self, JoinHandle},
    },
    stats::Stats,
    unwind,
};

/// Steers a server from anywhere: its handlers, its hooks, other threads.
///
/// A handler takes one from its request by having a field of this type.
#[derive(Clone)]
pub struct ServerHandle {
    control: Arc<Control>,
}

/// What all parts of one server share, whatever its types.
pub(crate) struct Control {
    address: Address,
    pub(crate) connections: Connections,
    /// Ends the wait of the thread that waits for requests.
    pub(crate) waker: Waker,
    /// Ends the waits of the threads that wait for their clients.
    pub(crate) bell: Arc<Bell>,
    pub(crate) lingering: Arc<Lingering>,
    /// Shared with the threads that serve, which exit last.
    pub(crate) exits: Arc<Exits>,
    /// `timeouts(linger)`.
    linger: Duration,
    /// `serve_forever` has begun.
    serving: AtomicBool,
    /// The server was told to shut down, which its children see as well.
    leaving: Shared<AtomicBool>,
    /// It drains.
    stopping: AtomicBool,
    callbacks: Mutex<Callbacks>,
    callbacks_called: Condvar,
    suspended: AtomicBool,
    /// This process is a child that serves one request, and this its copy.
    is_copy: AtomicBool,
    /// A thread may be started to keep deadlines; a server that forks keeps them itself.
    threads: bool,
    /// The listening socket, for `shutdown` to close when no thread waits on it.
    port: OnceLock<Weak<dyn Port>>,
    /// Why serving ended by itself.
    failure: Mutex<Option<io::Error>>,
}

/// What is called when the server begins to drain.
#[derive(Default)]
struct Callbacks {
    next: u64,
    waiting: BTreeMap<u64, Box<dyn FnOnce() + Send>>,
    /// How many threads are calling them, or about to.
    callers: usize,
}

/// A function that is called when a server stops, as long as this is kept: what [`ServerHandle::on_stopping`] returns.
#[must_use = "dropping it takes the function away again"]
pub struct OnStopping {
    control: Weak<Control>,
    number: u64,
}

impl Drop for OnStopping {
    fn drop(&mut self) {
        let control = self.control.upgrade();
        // It is the user's, and is dropped without the lock.
        let callback = control.as_ref().and_then(|control| control.callbacks.lock().waiting.remove(&self.number));
        drop(callback);
    }
}

impl fmt::Debug for OnStopping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnStopping").finish_non_exhaustive()
    }
}

/// The listening socket, without its type.
pub(crate) trait Port: Send + Sync {
    /// Closes it unless a thread is using it, which will see that the server is stopping.
    fn try_close(&self);
}

impl ServerHandle {
    pub(crate) fn new<C: Concurrency>(address: Address, options: &Options, forks: bool) -> io::Result<ServerHandle> {
        let control = Control {
            address,
            connections: Connections::new::<C>(options, forks)?,
            waker: Waker::new()?,
            bell: Arc::new(Bell::new()?),
            lingering: Arc::default(),
            exits: Arc::default(),
            linger: options.timeouts.linger,
            serving: AtomicBool::new(false),
            leaving: Shared::new(forks)?,
            stopping: AtomicBool::new(false),
            callbacks: Mutex::default(),
            callbacks_called: Condvar::new(),
            suspended: AtomicBool::new(false),
            is_copy: AtomicBool::new(false),
            threads: !forks,
            port: OnceLock::new(),
            failure: Mutex::new(None),
        };
        Ok(ServerHandle { control: Arc::new(control) })
    }

    pub(crate) fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// Where the server listens: Python's `server_address`.
    pub fn server_address(&self) -> &Address {
        &self.control.address
    }

    /// Stops the server, without waiting: [`wait`](Self::wait) is what you want to call next, unless this is one of the
    /// server's own handlers.
    ///
    /// With [`timeouts(linger)`](crate::Timeouts::linger) the server goes on accepting for that long, while
    /// [`is_ready`](Self::is_ready) is false. Then it drains:
    ///
    /// - The port closes: at once where the server serves, else when the [`SocketServer`](crate::SocketServer) is
    ///   dropped; that of a datagram server when the last [`Datagram`](crate::Datagram) is. A connection that is just
    ///   being accepted is still served.
    /// - A connection that is [idle](crate::Stream#idle-and-busy) ends: its handler gets an error with
    ///   [`Closing::Draining`](crate::Closing::Draining) inside. What the kernel had received for it by then is answered
    ///   first, and no more. A client that has sent nothing yet has a second from when it was accepted.
    /// - A busy connection has [`timeouts(shutdown)`](crate::Timeouts::shutdown), and is then cut.
    ///
    /// It can be called at any time, also before serving has begun (it then ends at once), from anywhere, any number of
    /// times.
    ///
    /// Python's `shutdown` waits until the loop has ended and deadlocks in a handler; this one returns at once.
    pub fn shutdown(&self) {
        self.control.shut_down();
    }

    /// Whether new clients are welcome, as a load balancer asks: `false` once the server was told to shut down, also
    /// while it still accepts because of [`timeouts(linger)`](crate::Timeouts::linger), and while it is
    /// [suspended](Self::suspend).
    pub fn is_ready(&self) -> bool {
        !self.control.leaving.load(SeqCst) && !self.is_stopping() && !self.control.is_suspended()
    }

    /// Whether the server drains: a handler that works for long, or waits for something else than its client, should
    /// come to an end. With [`timeouts(linger)`](crate::Timeouts::linger) that begins later than the shutdown.
    pub fn is_stopping(&self) -> bool {
        self.control.is_stopping() || self.control.is_copy.load(SeqCst) && self.control.bell.has_rung()
    }

    /// Has the function called once when the server begins to drain, at once if it does already. It is called on one of
    /// the threads that stop the server, and should return soon. It is taken away when what this returns is dropped; a
    /// thread that is just calling it is not waited for.
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
        let mut callbacks = self.control.callbacks.lock();
        let number = callbacks.next;
        callbacks.next += 1;
        callbacks.waiting.insert(number, Box::new(callback));
        drop(callbacks);
        // The flag is set before the functions are called.
        if self.control.is_stopping() {
            self.control.callbacks.lock().callers += 1;
            self.control.call_back();
        }
        OnStopping { control: Arc::downgrade(&self.control), number }
    }

    /// Waits until the server has ended: [`serve_forever`](crate::SocketServer::serve_forever) is about to return, or
    /// the [`SocketServer`](crate::SocketServer) was dropped. Of a handler that was given up, and which the thread that
    /// serves runs itself (`"sync"`), it does not wait for the end. It does not end the server.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Deadlock`] in one of the server's own handlers or hooks, for which it would wait.
    pub fn wait(&self) -> io::Result<Drained> {
        if self.control.runs_here() {
            return Err(io::Error::new(
                io::ErrorKind::Deadlock,
                "a handler or a hook cannot wait for the end of its own server, which waits for it; \
                 `shutdown` alone is enough",
            ));
        }
        Ok(self.control.connections.wait_until_ended())
    }

    /// Stops accepting for the time being. The port stays bound: new clients wait in the kernel's queue.
    pub fn suspend(&self) {
        self.control.suspended.store(true, SeqCst);
        self.control.waker.wake();
    }

    /// Accepts again, first those who have waited.
    pub fn resume(&self) {
        self.control.suspended.store(false, SeqCst);
        self.control.waker.wake();
    }

    /// What the server has done so far.
    pub fn stats(&self) -> Stats {
        self.control.connections.stats()
    }

    /// The requests that are under way, oldest first.
    pub fn connections(&self) -> Vec<ConnectionInfo> {
        self.control.connections.list()
    }

    /// Ends one connection: what its handler reads ends with [`Closing::Kicked`](crate::Closing::Kicked), and a second
    /// later the connection is cut. `false`: the request has ended already.
    ///
    /// To wake the handler the socket is shut down for reading. A client that goes on sending may therefore be reset
    /// before it has read a long goodbye. A datagram has no connection: of its handler only a reply that waits for room
    /// is given up.
    pub fn close(&self, id: ConnectionId) -> bool {
        let closed = self.control.connections.close(id);
        if closed == Some(true) {
            self.control.start_supervisor();
        }
        if closed.is_some() && !self.control.threads {
            // The thread that waits for requests keeps the deadlines.
            self.control.waker.wake();
        }
        closed.is_some()
    }
}

impl fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandle").field("server_address", self.server_address()).finish_non_exhaustive()
    }
}

impl Control {
    pub(crate) fn set_port(&self, port: Weak<dyn Port>) {
        // A server has one port in its life, so that a second one cannot come.
        let _ = self.port.set(port);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(SeqCst)
    }

    pub(crate) fn is_suspended(&self) -> bool {
        self.suspended.load(SeqCst)
    }

    pub(crate) fn enter_child(&self) {
        self.is_copy.store(true, SeqCst);
    }

    /// `serve_forever` has begun.
    pub(crate) fn begin_serving(&self) {
        self.serving.store(true, SeqCst);
    }

    /// Stops, after `timeouts(linger)` where the server serves.
    pub(crate) fn shut_down(self: &Arc<Control>) {
        if self.linger.is_zero() || !self.serving.load(SeqCst) || self.is_copy.load(SeqCst) {
            return self.stop();
        }
        self.leaving.store(true, SeqCst);
        let unsupervised = self.connections.drain_later(self.linger);
        // A server that forks keeps the time itself.
        self.waker.wake();
        if unsupervised {
            self.start_supervisor();
        }
    }

    /// Drains.
    pub(crate) fn stop(self: &Arc<Control>) {
        if self.is_copy.load(SeqCst) {
            // The parent is the one to be stopped. The pipe has room for one byte of each child, but not for any number
            // of them.
            if !self.leaving.swap(true, SeqCst) {
                self.waker.ask_to_stop();
            }
            return;
        }
        // The flag, then the wake-up, then the port: a thread that uses the port looks at the flag again after it has
        // let go of it, so that one of the two closes it.
        self.leaving.store(true, SeqCst);
        self.stopping.store(true, SeqCst);
        self.waker.wake();
        if let Some(port) = self.port.get().and_then(Weak::upgrade) {
            port.try_close();
        }
        // The server has not ended before they are called.
        self.callbacks.lock().callers += 1;
        let unsupervised = self.connections.stop();
        self.exits.hold();
        self.bell.ring();
        if unsupervised {
            self.start_supervisor();
        }
        self.call_back();
    }

    /// After the caller has counted itself in.
    fn call_back(self: &Arc<Control>) {
        // One after the other: each can take away those after it.
        while let Some((_, callback)) = self.next_callback() {
            // A panic changes nothing about the stop.
            let _ = unwind::run(self, callback);
        }
        self.callbacks.lock().callers -= 1;
        self.callbacks_called.notify_all();
    }

    fn next_callback(&self) -> Option<(u64, Box<dyn FnOnce() + Send>)> {
        self.callbacks.lock().waiting.pop_first()
    }

    /// After a drain. A function that does not return is not waited for.
    pub(crate) fn wait_for_callbacks(&self) {
        let deadline = Instant::now() + GRACE;
        let mut callbacks = self.callbacks.lock();
        while callbacks.callers > 0 && Instant::now() < deadline {
            self.callbacks_called.wait_until(&mut callbacks, deadline);
        }
    }

    /// The listening socket is broken: ends the server with this error.
    pub(crate) fn fail(self: &Arc<Control>, error: io::Error) {
        self.failure.lock().get_or_insert(error);
        self.stop();
    }

    pub(crate) fn take_failure(&self) -> Option<io::Error> {
        self.failure.lock().take()
    }

    /// Keeps the deadlines of connections and of the drain. Where no thread can be started, the latter is kept by the
    /// thread that has served.
    pub(crate) fn start_supervisor(self: &Arc<Control>) {
        if !self.threads {
            return;
        }
        let control = self.clone();
        let supervise = move || {
            while control.connections.supervise() == Due::Drain {
                control.stop();
            }
        };
        let thread = thread::Builder::new().name("sockserver-deadlines".into()).stack_size(128 * 1024);
        if thread.spawn(supervise).is_err() {
            self.connections.supervisor_is_missing();
            if self.leaving.load(SeqCst) {
                self.stop();
            }
        }
    }

    /// This thread is in one of the server's own handlers or hooks.
    pub(crate) fn runs_here(&self) -> bool {
        unwind::is_running(self)
    }
}

/// A server on a thread of its own: what [`SocketServer::spawn`](crate::SocketServer::spawn) returns.
///
/// It dereferences to its [`ServerHandle`]. Dropping it stops the server and waits for its end, which makes it the
/// natural thing in a test:
///
/// ```
/// # use sockserver::{HandlerResult, RequestHandler, Server, Writer, request_handler};
/// use std::{io::{Read, Write}, net::TcpStream};
///
/// #[request_handler]
/// #[server(transport = "tcp", concurrency = "threading")]
/// struct Hello {
///     wfile: Writer,
/// }
///
/// impl RequestHandler for Hello {
///     fn handle(&mut self) -> HandlerResult {
///         Ok(write!(self.wfile, "hello")?)
///     }
/// }
///
/// # fn main() -> std::io::Result<()> {
/// let server = HelloServer.bind("127.0.0.1:0")?.spawn()?;
/// let mut client = TcpStream::connect(("127.0.0.1", server.server_address().port().unwrap()))?;
/// let mut answer = String::new();
/// client.read_to_string(&mut answer)?;
/// assert_eq!(answer, "hello");
/// let drained = server.stop()?;
/// assert_eq!(drained.leaked, 0);
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "dropping it stops the server"]
pub struct Running {
    handle: ServerHandle,
    /// Taken once it is joined.
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Running {
    pub(crate) fn new(handle: ServerHandle, thread: JoinHandle<io::Result<()>>) -> Running {
        Running { handle, thread: Some(thread) }
    }

    /// The handle that steers the server, for as long as somebody wants it: unlike this, it does not stop the server.
    pub fn handle(&self) -> ServerHandle {
        self.handle.clone()
    }

    /// Stops the server and waits until it has ended.
    ///
    /// # Errors
    ///
    /// What [`serve_forever`](crate::SocketServer::serve_forever) failed with, unless a handler was given up;
    /// [`io::ErrorKind::Deadlock`] in one of the server's own handlers, where it is stopped but not waited for.
    ///
    /// # Panics
    ///
    /// With what a [`Concurrency`] of your own has panicked with.
    pub fn stop(mut self) -> io::Result<Drained> {
        self.shutdown();
        let drained = self.wait()?;
        // A handler that is given up may be the one that the serving thread runs.
        if drained.leaked == 0 {
            self.join()?;
        }
        Ok(drained)
    }

    fn join(&mut self) -> io::Result<()> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(served)) => served,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Ok(()),
        }
    }
}

impl Deref for Running {
    type Target = ServerHandle;

    fn deref(&self) -> &ServerHandle {
        &self.handle
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.shutdown();
            // The one error is that this is a handler of the server, which is stopping all the same.
            let _ = self.wait();
        }
    }
}

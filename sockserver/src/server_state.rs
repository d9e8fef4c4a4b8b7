//! What all parts of one server share, whatever its types.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    address::Address,
    callbacks::Callbacks,
    connections::{Connections, Due, GRACE, Supervision},
    exits::Exits,
    io::{bell::Bell, shared::Shared, state::ConnectionId, waker::Waker},
    lingering::Lingering,
    options::Options,
    primitives::{
        Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
        thread,
    },
    unwind::{self, ServerId},
};

/// What all parts of one server share, whatever its types.
pub(crate) struct ServerState {
    pub(crate) id: ServerId,
    pub(crate) address: Address,
    pub(crate) connections: Connections,
    /// Ends the wait of the leader, which waits for connections.
    pub(crate) waker: Waker,
    /// Ends the waits of the threads that wait for their clients.
    pub(crate) bell: Arc<Bell>,
    pub(crate) lingering: Arc<Lingering>,
    /// Shared with the worker threads, which exit last.
    pub(crate) exits: Arc<Exits>,
    pub(crate) callbacks: Arc<Callbacks>,
    /// `timeouts(linger)`.
    linger: Duration,
    /// `serve_forever` has begun.
    is_serving: AtomicBool,
    /// The server was told to shut down, which its children see as well.
    is_leaving: Shared<AtomicBool>,
    /// It drains.
    is_stopping: AtomicBool,
    is_suspended: AtomicBool,
    /// This process is a child that serves one connection, and this its copy.
    is_copy: AtomicBool,
    /// No thread may be started, as the server forks: the thread that serves keeps the deadlines.
    forks: bool,
    /// Closes the listening socket unless a thread waits on it, which then does it itself.
    close_listener: Box<dyn Fn() + Send + Sync>,
    /// Why serving ended by itself.
    failure: Mutex<Option<io::Error>>,
}

impl ServerState {
    /// `capacity`: how many connections are served at once.
    pub(crate) fn new(
        address: Address,
        capacity: usize,
        options: &Options,
        forks: bool,
        close_listener: Box<dyn Fn() + Send + Sync>,
    ) -> io::Result<ServerState> {
        Ok(ServerState {
            id: ServerId::new(),
            address,
            connections: Connections::new(capacity, options, forks)?,
            waker: Waker::new()?,
            bell: Arc::new(Bell::new()?),
            lingering: Arc::default(),
            exits: Arc::default(),
            callbacks: Arc::default(),
            linger: options.timeouts.linger,
            is_serving: AtomicBool::new(false),
            is_leaving: Shared::new(forks)?,
            is_stopping: AtomicBool::new(false),
            is_suspended: AtomicBool::new(false),
            is_copy: AtomicBool::new(false),
            forks,
            close_listener,
            failure: Mutex::new(None),
        })
    }

    pub(crate) fn is_ready(&self) -> bool {
        !self.is_leaving.load(SeqCst) && !self.is_stopping() && !self.is_suspended()
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.load(SeqCst)
    }

    /// In a child that serves one connection, whose own flag its parent does not reach.
    pub(crate) fn is_copy_of_a_stopping_one(&self) -> bool {
        self.is_copy.load(SeqCst) && self.bell.has_rung()
    }

    pub(crate) fn is_suspended(&self) -> bool {
        self.is_suspended.load(SeqCst)
    }

    pub(crate) fn set_suspended(&self, is_suspended: bool) {
        self.is_suspended.store(is_suspended, SeqCst);
        self.waker.wake();
    }

    pub(crate) fn forks(&self) -> bool {
        self.forks
    }

    /// From here on this is the copy of a child that serves one connection.
    pub(crate) fn enter_child(&self) {
        self.is_copy.store(true, SeqCst);
    }

    /// `serve_forever` has begun.
    pub(crate) fn begin_serving(&self) {
        self.is_serving.store(true, SeqCst);
    }

    /// Stops, after `timeouts(linger)` where the server serves.
    pub(crate) fn shut_down(self: &Arc<ServerState>) {
        if self.linger.is_zero() || !self.is_serving.load(SeqCst) || self.is_copy.load(SeqCst) {
            return self.stop();
        }
        self.is_leaving.store(true, SeqCst);
        let supervision = self.connections.drain_later(self.linger);
        // A server that forks keeps the time itself.
        self.waker.wake();
        self.supervise(supervision);
    }

    /// Drains.
    pub(crate) fn stop(self: &Arc<ServerState>) {
        if self.is_copy.load(SeqCst) {
            // The parent is to be stopped. The pipe has room for one byte of each child, but not for any number of them.
            if !self.is_leaving.swap(true, SeqCst) {
                self.waker.ask_to_stop();
            }
            return;
        }
        // The flag, then the wake-up, then the listener: a thread that uses it looks at the flag again after it has let
        // go of it, so that one of the two closes it.
        self.is_leaving.store(true, SeqCst);
        self.is_stopping.store(true, SeqCst);
        self.waker.wake();
        (self.close_listener)();
        // The server has not ended before they are called.
        self.callbacks.announce();
        let supervision = self.connections.begin_drain();
        self.exits.hold();
        self.bell.ring();
        self.supervise(supervision);
        self.callbacks.call_announced(self.id);
    }

    /// After a drain. A function that does not return is not waited for.
    pub(crate) fn wait_for_callbacks(&self) {
        self.callbacks.wait(Instant::now() + GRACE);
    }

    /// The listening socket is broken: ends the server with this error.
    pub(crate) fn fail(self: &Arc<ServerState>, error: io::Error) {
        self.failure.lock().get_or_insert(error);
        self.stop();
    }

    pub(crate) fn take_failure(&self) -> Option<io::Error> {
        self.failure.lock().take()
    }

    /// Ends one connection. `false`: there is none of that number.
    pub(crate) fn close_connection(self: &Arc<ServerState>, id: ConnectionId) -> bool {
        let Some(supervision) = self.connections.close(id) else { return false };
        self.supervise(supervision);
        if self.forks {
            // The thread that waits for connections keeps the deadlines.
            self.waker.wake();
        }
        true
    }

    /// Has a thread keep the deadlines of connections and of the drain. Where none can be started, the latter is kept by
    /// the thread that has served.
    pub(crate) fn supervise(self: &Arc<ServerState>, supervision: Supervision) {
        if self.forks || supervision == Supervision::Provided {
            return;
        }
        let state = self.clone();
        let supervise = move || {
            while state.connections.supervise() == Due::Drain {
                state.stop();
            }
        };
        let thread = thread::Builder::new().name("sockserver-deadlines".into()).stack_size(128 * 1024);
        if thread.spawn(supervise).is_err() {
            self.connections.supervisor_is_missing();
            if self.is_leaving.load(SeqCst) {
                self.stop();
            }
        }
    }

    /// This thread is in one of the server's own handlers or hooks.
    pub(crate) fn runs_here(&self) -> bool {
        unwind::is_running(self.id)
    }
}

//! The state of a server that does not depend on its types.

use std::{io, os::fd::OwnedFd, sync::Arc, time::Instant};

#[cfg(feature = "tls")]
use crate::tls::material::Material;
use crate::{
    address::Address,
    callbacks::Callbacks,
    connections::{Connections, Due, GRACE, Supervision, limits::Returned},
    event::Event,
    exits::Exits,
    inheritance,
    io::{shared::Shared, state::ConnectionId, terms::Terms, waker::Waker},
    lingering::Lingering,
    options::{Access, Limits, Options},
    primitives::{
        Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
        thread,
    },
    unwind::{self, ServerId},
};

/// Calls the hook for events of a server, whatever its type.
pub(crate) type EventHook = Box<dyn Fn(&Event<'_>) + Send + Sync>;

/// Says how many connections are served at once with such options. `None`: the server has ended.
pub(crate) type Capacity = Box<dyn Fn(&Options) -> Option<usize> + Send + Sync>;

/// The state of a server that does not depend on its types. All its parts share it.
pub(crate) struct ServerState {
    pub(crate) id: ServerId,
    pub(crate) sockets: ListeningSockets,
    pub(crate) connections: Connections,
    /// The options that the server was bound with.
    options: Options,
    capacity: Capacity,
    /// Ends the wait of the leader.
    pub(crate) waker: Waker,
    pub(crate) terms: Arc<Terms>,
    pub(crate) lingering: Arc<Lingering>,
    /// Shared with the worker threads, which end after the server.
    pub(crate) exits: Arc<Exits>,
    pub(crate) callbacks: Arc<Callbacks>,
    /// Connections begin with a TLS handshake.
    shakes_hands: bool,
    /// `serve_forever` has begun.
    is_serving: AtomicBool,
    /// `shutdown` was called. Child processes share it.
    is_leaving: Shared<AtomicBool>,
    /// The server drains.
    is_stopping: AtomicBool,
    is_suspended: AtomicBool,
    /// This process is a child that serves one connection, and this is its copy of the parent's state.
    is_copy: AtomicBool,
    /// The server forks, and so starts no threads: the thread that serves keeps the deadlines.
    forks: bool,
    /// Calls the hook for events. `None`: there is none.
    on_event: Option<EventHook>,
    /// A successor is being started.
    pub(crate) is_handing_over: AtomicBool,
    /// Another process serves in place of this one.
    pub(crate) has_successor: AtomicBool,
    /// `notify_systemd` was called.
    #[cfg(feature = "systemd")]
    pub(crate) tells_systemd: AtomicBool,
    /// Why the server ended without a shutdown.
    failure: Mutex<Option<io::Error>>,
}

/// The listening sockets of a server, whatever their type.
pub(crate) struct ListeningSockets {
    /// At least one.
    pub(crate) addresses: Vec<Address>,
    /// Closes them, unless a leader waits on them: that leader closes them.
    pub(crate) close: Box<dyn Fn() + Send + Sync>,
    /// Duplicates them for a successor. None are left once they are closed.
    pub(crate) duplicate: Box<dyn Fn() -> io::Result<Vec<OwnedFd>> + Send + Sync>,
}

impl ServerState {
    pub(crate) fn new(
        id: ServerId,
        sockets: ListeningSockets,
        capacity: Capacity,
        options: &Options,
        forks: bool,
        on_event: Option<EventHook>,
        #[cfg(feature = "tls")] tls: Option<Material>,
    ) -> io::Result<ServerState> {
        #[cfg(feature = "tls")]
        let shakes_hands = tls.as_ref().is_some_and(|tls| tls.starts_at_accept());
        #[cfg(not(feature = "tls"))]
        let shakes_hands = false;
        let terms = Arc::new(Terms::new(
            &options.timeouts,
            #[cfg(feature = "tls")]
            tls,
        )?);
        Ok(ServerState {
            id,
            sockets,
            connections: Connections::new(capacity(options).unwrap_or(1), options, forks, shakes_hands)?,
            options: options.clone(),
            capacity,
            waker: Waker::new()?,
            lingering: Arc::default(),
            exits: Arc::default(),
            callbacks: Arc::default(),
            terms,
            shakes_hands,
            is_serving: AtomicBool::new(false),
            is_leaving: Shared::new(forks)?,
            is_stopping: AtomicBool::new(false),
            is_suspended: AtomicBool::new(false),
            is_copy: AtomicBool::new(false),
            forks,
            on_event,
            is_handing_over: AtomicBool::new(false),
            has_successor: AtomicBool::new(false),
            #[cfg(feature = "systemd")]
            tells_systemd: AtomicBool::new(false),
            failure: Mutex::new(None),
        })
    }

    pub(crate) fn is_ready(&self) -> bool {
        !self.is_leaving.load(SeqCst) && !self.is_stopping() && !self.is_suspended()
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.load(SeqCst)
    }

    #[cfg(feature = "tls")]
    pub(crate) fn has_tls(&self) -> bool {
        self.terms.tls.is_some()
    }

    #[cfg(not(feature = "tls"))]
    pub(crate) fn has_tls(&self) -> bool {
        false
    }

    /// Whether connections begin with a TLS handshake.
    pub(crate) fn shakes_hands(&self) -> bool {
        self.shakes_hands
    }

    /// Whether this process is a child whose parent drains: the parent cannot set the flag of the child.
    pub(crate) fn is_stopping_in_parent(&self) -> bool {
        self.is_copy.load(SeqCst) && self.terms.bell.has_rung()
    }

    pub(crate) fn is_suspended(&self) -> bool {
        self.is_suspended.load(SeqCst)
    }

    pub(crate) fn set_suspended(&self, is_suspended: bool) {
        let was_suspended = self.is_suspended.swap(is_suspended, SeqCst);
        self.waker.wake();
        if is_suspended != was_suspended {
            self.event(if is_suspended { &Event::Suspended } else { &Event::Resumed });
        }
    }

    /// Calls the hook for events. In a child it is not called: the hooks are the parent's.
    fn event(&self, event: &Event<'_>) {
        if let Some(on_event) = self.on_event.as_ref().filter(|_| !self.is_copy.load(SeqCst)) {
            on_event(event);
        }
    }

    /// Whether `shutdown` was called.
    pub(crate) fn is_leaving(&self) -> bool {
        self.is_leaving.load(SeqCst)
    }

    /// Whether this process is a child that serves one connection.
    pub(crate) fn is_copy(&self) -> bool {
        self.is_copy.load(SeqCst)
    }

    pub(crate) fn forks(&self) -> bool {
        self.forks
    }

    /// From now on this is the copy of a child that serves one connection.
    pub(crate) fn enter_child(&self) {
        self.is_copy.store(true, SeqCst);
    }

    /// `serve_forever` has begun.
    pub(crate) fn begin_serving(&self) {
        self.is_serving.store(true, SeqCst);
    }

    pub(crate) fn is_serving(&self) -> bool {
        self.is_serving.load(SeqCst)
    }

    /// Tells the predecessor, if there is one, that it is not needed any more.
    pub(crate) fn announce(&self) {
        if inheritance::is_awaited() {
            // If they cannot be duplicated, the predecessor waits in vain, and goes on.
            let sockets = (self.sockets.duplicate)().unwrap_or_default();
            inheritance::serving(&sockets);
        }
    }

    /// Drains the server: after `timeouts(linger)` if it serves, else at once.
    pub(crate) fn shut_down(self: &Arc<ServerState>) {
        if self.options.timeouts.linger.is_zero() || !self.is_serving.load(SeqCst) || self.is_copy.load(SeqCst) {
            return self.stop();
        }
        self.is_leaving.store(true, SeqCst);
        let supervision = self.connections.drain_later(self.options.timeouts.linger);
        // The leader of a server that forks keeps the deadline itself.
        self.waker.wake();
        self.supervise(supervision);
    }

    /// Drains the server. In a child: has the parent drain.
    pub(crate) fn stop(self: &Arc<ServerState>) {
        if self.is_copy.load(SeqCst) {
            // The pipe has room for one byte of each child, but not for any number of bytes.
            if !self.is_leaving.swap(true, SeqCst) {
                self.waker.ask_to_stop();
            }
            return;
        }
        // First the flag, then the wake-up, then the listener. A leader that has the listener looks at the flag after it
        // has released it, so that either this thread or the leader closes it.
        self.is_leaving.store(true, SeqCst);
        let was_stopping = self.is_stopping.swap(true, SeqCst);
        self.waker.wake();
        (self.sockets.close)();
        // Announced before the drain begins, so that the server does not end before the callbacks are called.
        self.callbacks.announce();
        if !was_stopping {
            self.event(&Event::Stopping);
        }
        let supervision = self.connections.begin_drain();
        self.exits.hold();
        self.terms.bell.ring();
        self.supervise(supervision);
        self.callbacks.call_announced(self.id);
    }

    /// To be called after a drain. It waits no longer than [`GRACE`] for a callback that does not return.
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

    /// Sets other limits, and accepts by them.
    pub(crate) fn set_limits(&self, limits: Limits) -> io::Result<()> {
        let options = self.options.clone().limits(limits);
        options.check()?;
        options.check_needs(self.has_tls())?;
        let Some(capacity) = (self.capacity)(&options) else { return Ok(()) };
        if self.connections.set_limits(options.limits, capacity)? == Returned::Awaited {
            self.waker.wake();
        }
        Ok(())
    }

    /// Lets in whom these lists let in.
    pub(crate) fn set_access(&self, access: Access) -> io::Result<()> {
        let options = self.options.clone().access(access);
        options.check()?;
        self.connections.gate.set_access(options.access);
        Ok(())
    }

    /// Ends one connection. `false`: no connection has this number.
    pub(crate) fn close_connection(self: &Arc<ServerState>, id: ConnectionId) -> bool {
        let Some(supervision) = self.connections.close(id) else { return false };
        self.supervise(supervision);
        if self.forks {
            // The leader keeps the deadlines.
            self.waker.wake();
        }
        true
    }

    /// Starts the supervisor if it is needed. If its thread cannot be started, only the threads that wait for the end keep
    /// the deadlines, and lingering is left out.
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

    /// Whether this thread is in a handler or a hook of this server.
    pub(crate) fn runs_here(&self) -> bool {
        unwind::is_running(self.id)
    }
}

//! What accepts the requests of a server, admits them, and ends with it.

use std::{
    fmt, io, mem,
    os::fd::AsFd,
    sync::{Arc, Weak},
};

#[cfg(feature = "tls")]
use crate::tls::{certificates::Tls, material::Material};
use crate::{
    address::Address,
    connections::limits::{Rejected, Returned, Room},
    error::Stage,
    event::Event,
    handle::ServerHandle,
    hooks::Hooks,
    io::{connection::Connection, state::ConnectionId},
    lingering,
    options::Options,
    preamble::Preamble,
    primitives::atomic::{AtomicBool, Ordering::SeqCst},
    request,
    server_state::{Capacity, ListeningSockets, ServerState},
    service::{Request, Service},
    sys,
    transport::Transport,
    unwind::ServerId,
};

mod accepting;
mod errors;
mod event_source;
mod heartbeat;
mod leader;
mod leader_lock;
mod listeners;

pub use event_source::EventSource;
pub(crate) use leader::{Accepted, LeaderEvent};
use leader::{Leader, close_listeners};
use leader_lock::LeaderLock;
pub(crate) use listeners::Listener;
use listeners::Listeners;

#[cfg(feature = "systemd")]
use {crate::systemd::Notifications, std::sync::OnceLock};

/// Accepts the requests of one server, for all its threads.
///
/// One thread at a time is the leader, and it alone waits for a request. When it has accepted one, the next thread
/// becomes the leader.
pub struct Acceptor<S: Service> {
    pub(crate) hooks: Hooks<S>,
    handle: ServerHandle,
    options: Options,
    /// What connections begin with. `None`: with their first request.
    preamble: Option<Preamble>,
    /// The server has listening sockets. `false`: it serves connections that were accepted elsewhere.
    is_bound: bool,
    leader: Arc<LeaderLock<Leader<S>>>,
    /// What the concurrency waits for besides requests.
    source: Option<Arc<dyn EventSource>>,
    /// `Event::LimitReached` was the last of its kind.
    has_reached_limit: AtomicBool,
    #[cfg(feature = "systemd")]
    notifications: OnceLock<Notifications>,
}

/// What the acceptor has to know about the concurrency of its server.
pub(crate) struct Strategy {
    pub(crate) capacity: Capacity,
    pub(crate) forks: bool,
    pub(crate) source: Option<Arc<dyn EventSource>>,
}

impl<S: Service> Acceptor<S> {
    pub(crate) fn bound(
        server: S,
        listeners: Arc<[Listener<S>]>,
        mut options: Options,
        strategy: Strategy,
    ) -> io::Result<Arc<Acceptor<S>>> {
        if !request::is_stream::<Request<S>>() {
            let timeouts = &mut options.timeouts;
            (timeouts.idle, timeouts.lifetime, timeouts.message) = (None, None, None);
            options.proxy.trust = None;
        }
        let addresses = listeners.iter().map(S::Transport::server_address).collect::<io::Result<_>>()?;
        Acceptor::new(
            server,
            Some(Listeners::new(listeners)),
            addresses,
            options,
            strategy,
            #[cfg(feature = "tls")]
            None,
        )
    }

    /// For connections that were accepted elsewhere. `certificate` replaces the ones that the hook or the options name.
    pub(crate) fn unbound(
        server: S,
        server_address: Address,
        options: Options,
        capacity: Capacity,
        #[cfg(feature = "tls")] certificate: Option<Tls>,
    ) -> io::Result<Arc<Acceptor<S>>> {
        // The connections are handled on threads of the caller.
        let strategy = Strategy { capacity, forks: false, source: None };
        Acceptor::new(
            server,
            None,
            vec![server_address],
            options,
            strategy,
            #[cfg(feature = "tls")]
            certificate,
        )
    }

    fn new(
        server: S,
        listeners: Option<Listeners<Listener<S>>>,
        addresses: Vec<Address>,
        options: Options,
        strategy: Strategy,
        #[cfg(feature = "tls")] certificate: Option<Tls>,
    ) -> io::Result<Arc<Acceptor<S>>> {
        let Strategy { capacity, forks, source } = strategy;
        let is_bound = listeners.is_some();
        let weak = listeners.as_ref().map(Listeners::downgrade);
        let sockets = Box::new(move || {
            let sockets = weak.as_ref().and_then(Weak::upgrade).unwrap_or_default();
            sockets.iter().map(|socket| socket.as_fd().try_clone_to_owned()).collect()
        });
        let leader = Arc::new(LeaderLock::new(Leader::new(listeners)));
        let close_listeners = {
            let leader = leader.clone();
            Box::new(move || close_listeners(&leader))
        };
        let sockets = ListeningSockets { addresses, close: close_listeners, duplicate: sockets };
        let id = ServerId::new();
        let hooks = Hooks::new(server, id, &sockets.addresses[0]);
        #[cfg(feature = "tls")]
        let tls = match request::is_stream::<Request<S>>() {
            true => {
                let by_hook = hooks.on_tls();
                let certificates = move || certificate.clone().map_or_else(&by_hook, |tls| Ok(Some(tls)));
                Material::new(&options, certificates, hooks.on_failed_reload(&sockets.addresses[0]))?
            }
            false => None,
        };
        let state = ServerState::new(
            id,
            sockets,
            capacity,
            &options,
            forks,
            hooks.on_event(),
            #[cfg(feature = "tls")]
            tls,
        )?;
        options.check_needs(state.has_tls())?;
        let preamble = Preamble::new(&options, state.shakes_hands());
        let handle = ServerHandle::new(Arc::new(state));
        let has_reached_limit = AtomicBool::new(false);
        Ok(Arc::new(Acceptor {
            hooks,
            handle,
            options,
            preamble,
            is_bound,
            leader,
            source,
            has_reached_limit,
            #[cfg(feature = "systemd")]
            notifications: OnceLock::new(),
        }))
    }

    /// The server whose requests these are.
    pub fn server(&self) -> &Arc<S> {
        &self.hooks.server
    }

    /// The handle that steers the server.
    pub fn handle(&self) -> &ServerHandle {
        &self.handle
    }

    /// The options that the server was bound with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    pub(crate) fn preamble(&self) -> Option<&Preamble> {
        self.preamble.as_ref()
    }

    pub(crate) fn state(&self) -> &Arc<ServerState> {
        self.handle.state()
    }

    /// Admits a request, and returns whether there is room for another one.
    fn register(&self, request: &Request<S>) -> Result<Room, Rejected> {
        let state = self.state();
        let kind = request::kind(request);
        if let Some(connection) = kind.connection() {
            connection.attach(&state.terms);
        }
        let admission = state.connections.register(kind.state(), kind.endpoint())?;
        state.supervise(admission.supervision);
        Ok(admission.room)
    }

    /// Admits a request that was accepted elsewhere.
    pub(crate) fn admit(&self, request: &Request<S>) -> Result<(), Rejected> {
        let room = self.register(request)?;
        self.accepted(request, room);
        Ok(())
    }

    /// The preamble of a connection is complete, and its client is known.
    pub(crate) fn introduce(&self, id: ConnectionId, client_address: &Address) -> Result<(), Rejected> {
        let (entered, returned) = self.state().connections.introduce(id, client_address);
        self.wake_leader(returned);
        entered
    }

    /// Must be called before the client can see the end.
    pub(crate) fn put_place_back(&self, id: ConnectionId) {
        self.wake_leader(self.state().connections.put_place_back(id));
    }

    pub(crate) fn unregister(&self, id: ConnectionId) {
        let connections = &self.state().connections;
        self.wake_leader(connections.unregister(id));
        if Hooks::<S>::HAS_EVENTS
            && self.has_reached_limit.load(SeqCst)
            && connections.has_left_limit()
            && self.has_reached_limit.swap(false, SeqCst)
        {
            self.hooks.event(&Event::LimitLeft(connections.limit()));
        }
    }

    fn wake_leader(&self, returned: Returned) {
        if returned == Returned::Awaited {
            self.state().waker.wake();
        }
    }

    /// Keeps a connection open until its client has received everything, and closes it then.
    pub(crate) fn linger(&self, connection: Arc<Connection>) {
        let state = self.state();
        if !self.is_bound && connection.has_to_linger() {
            // This thread has nothing else to do than to wait for its only connection. The caller may read what the client
            // still sends.
            lingering::linger_here(&connection, &state.terms.bell, || state.connections.time_left_to_drain());
        } else if self.is_bound && state.forks() {
            state.lingering.add_on_leader(connection);
            if self.options.allow_threads {
                // The leader may be another thread, whose wait does not include this connection yet.
                state.waker.wake();
            }
        } else if self.is_bound {
            state.lingering.add(connection);
        }
    }

    /// Waits until the server begins to drain: for a thread that leaves the serving to others.
    pub(crate) fn wait_for_stop(&self) {
        self.state().connections.wait_until_draining();
    }

    /// Stops, and waits until all requests have ended or been given up.
    pub(crate) fn drain(&self) {
        let state = self.state();
        state.stop();
        // A handler or a hook of this server would wait for itself.
        if !state.runs_here() {
            self.drain_source();
            state.connections.finish_drain();
            state.connections.join_workers();
            state.wait_for_callbacks();
            state.lingering.finish(state.connections.time_left_to_drain());
        }
    }

    /// In a child that serves one request: closes the parent's listening sockets. It cannot if another thread, which this
    /// process does not have, was the leader at the fork.
    pub(crate) fn close_listeners_in_child(&self) {
        let Some(mut leader) = self.leader.try_value() else { return };
        let listeners = leader.listeners.take();
        // To unlock could take a lock that another thread held at the fork.
        mem::forget(leader);
        if let Some(listeners) = listeners {
            // Under `handle_request` the `SocketServer` holds the listeners too: dropping them here would not close them.
            listeners.sockets().iter().for_each(|socket| sys::replace_with_closed_pipe(socket.as_fd()));
            // Dropping a listener would remove the file of a Unix socket.
            mem::forget(listeners);
        }
    }

    /// Closes the listening socket, drains, calls `server_close`, and then releases the threads that wait for the end.
    pub(crate) fn close(&self) {
        let state = self.state();
        // `stop` does not close the listening sockets while a leader has them, and wakes that leader.
        state.stop();
        let listeners = self.leader.value().listeners.take();
        // They are closed after the lock is released.
        drop(listeners);
        // `handle_request` may have left requests under way.
        self.drain();
        // A panic in the hook changes nothing about the end.
        self.hooks.server_close();
        if let Some(report) = state.connections.drained() {
            self.hooks.event(&Event::Stopped(report));
        }
        #[cfg(feature = "signals")]
        crate::signals::forget(state.id);
        state.connections.close_down();
        state.exits.release();
    }

    /// Reports an error that concerns no client.
    pub(crate) fn report(&self, stage: Stage, error: io::Error) {
        self.hooks.report(stage, error, self.handle.server_address());
    }
}

impl<S: Service> fmt::Debug for Acceptor<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").field("handle", &self.handle).finish_non_exhaustive()
    }
}

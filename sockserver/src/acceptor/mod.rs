//! Waiting for connections and accepting them.

use std::{
    fmt, io, mem,
    ops::ControlFlow,
    os::fd::{AsFd, BorrowedFd},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

#[cfg(feature = "tls")]
use crate::tls::material::Material;
use crate::{
    address::Address,
    connections::{
        GRACE,
        limits::{Rejected, Returned, Room},
    },
    error::Stage,
    event::{ConnectionRef, Event},
    handle::ServerHandle,
    hooks::Hooks,
    io::{connection::Connection, state::ConnectionId},
    lingering,
    options::{OnLimit, Options},
    preamble::Preamble,
    primitives::{
        atomic::{AtomicBool, Ordering::SeqCst},
        thread,
    },
    request,
    server_state::{Capacity, ListeningSockets, ServerState},
    service::{Request, Service},
    sys,
    transport::Transport,
    unwind::ServerId,
};

mod errors;
mod event_source;
mod leader_lock;
mod listeners;

use errors::{AcceptBackoff, BACK_OFF, Retry};
pub use event_source::EventSource;
use leader_lock::LeaderLock;
use listeners::Listeners;

#[cfg(feature = "systemd")]
use {
    crate::{
        options::Timeouts,
        systemd::{self, Notifications},
    },
    std::sync::OnceLock,
};

/// After this many accepts in a row the leader looks at the waker: otherwise a flood of clients would starve a shutdown.
const IN_A_ROW: u32 = 16;

pub(crate) type Listener<S> = <<S as Service>::Transport as Transport>::Listener;

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

/// What the leader works with.
struct Leader<S: Service> {
    /// `None` once the server stops.
    listeners: Option<Listeners<Listener<S>>>,
    backoff: AcceptBackoff,
    /// How often the leader has tried to accept since the last wait.
    in_a_row: u32,
    /// `Left` stays true until the next connection is admitted, since only the leader admits connections.
    room: Room,
}

/// What ended the wait of the leader.
pub(crate) enum LeaderEvent<R> {
    Request(R),
    /// A request is not admitted.
    Rejected(R, Rejected),
    TimedOut,
    /// The event source of the concurrency has something to do.
    Source,
    /// Accepting has failed, for the first time in this episode.
    AcceptFailed(io::Error),
    /// The server is stopping, and the listening sockets are closed.
    Stopped,
}

/// What accepting without waiting has come to.
pub(crate) enum Accepted<R> {
    Request(R),
    /// No client waits.
    Empty,
    /// Nothing is accepted before the waker is used, or until then.
    Paused(Option<Instant>),
    /// A request is not admitted.
    Rejected(R, Rejected),
    /// Accepting has failed, for the first time in this episode.
    Failed(io::Error),
    /// The server is stopping, and the listening sockets are closed.
    Stopped,
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
        Acceptor::new(server, Some(Listeners::new(listeners)), addresses, options, strategy)
    }

    /// For connections that were accepted elsewhere.
    pub(crate) fn unbound(
        server: S,
        server_address: Address,
        options: Options,
        capacity: Capacity,
    ) -> io::Result<Arc<Acceptor<S>>> {
        // The connections are handled on threads of the caller.
        let strategy = Strategy { capacity, forks: false, source: None };
        Acceptor::new(server, None, vec![server_address], options, strategy)
    }

    fn new(
        server: S,
        listeners: Option<Listeners<Listener<S>>>,
        addresses: Vec<Address>,
        options: Options,
        strategy: Strategy,
    ) -> io::Result<Arc<Acceptor<S>>> {
        let Strategy { capacity, forks, source } = strategy;
        let is_bound = listeners.is_some();
        let weak = listeners.as_ref().map(Listeners::downgrade);
        let sockets = Box::new(move || {
            let sockets = weak.as_ref().and_then(Weak::upgrade).unwrap_or_default();
            sockets.iter().map(|socket| socket.as_fd().try_clone_to_owned()).collect()
        });
        let leader = Leader { listeners, backoff: AcceptBackoff::default(), in_a_row: 0, room: Room::Full };
        let leader = Arc::new(LeaderLock::new(leader));
        let close_listeners = {
            let leader = leader.clone();
            Box::new(move || close_listeners(&leader))
        };
        let sockets = ListeningSockets { addresses, close: close_listeners, duplicate: sockets };
        let id = ServerId::new();
        let hooks = Hooks::new(server, id, &sockets.addresses[0]);
        #[cfg(feature = "tls")]
        let tls = match request::is_stream::<Request<S>>() {
            true => Material::new(&options, hooks.on_tls())?.map(Arc::new),
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

    /// Waits for the next request that the limits let through; `None` when the server is stopping.
    pub(crate) fn wait_for_request(&self) -> Option<Request<S>> {
        loop {
            if !self.state().is_stopping() {
                self.hooks.service_actions();
            }
            // The interval begins when this thread becomes the leader: until then it has nothing to poll for.
            let poll = self.options.timeouts.poll;
            match self.lead(None, || poll.and_then(|poll| Instant::now().checked_add(poll))) {
                LeaderEvent::Request(request) => return Some(request),
                LeaderEvent::Rejected(request, why) => self.reject(request, why),
                LeaderEvent::AcceptFailed(error) => self.accept_failed(error),
                LeaderEvent::Source => self.process_source(),
                LeaderEvent::TimedOut => {}
                LeaderEvent::Stopped => return None,
            }
        }
    }

    /// Waits for one request, until the deadline.
    pub(crate) fn wait_until(&self, deadline: Option<Instant>) -> LeaderEvent<Request<S>> {
        self.lead(deadline, || deadline)
    }

    /// Accepts without waiting, for a loop that waits for the listening sockets by itself. `has_clients`: one of them has
    /// become ready.
    pub(crate) fn try_accept(&self, has_clients: bool) -> Accepted<Request<S>> {
        // Another thread leads only while a turn of the loop accepts there.
        let Some(mut leader) = self.leader.lock(Some(Instant::now())) else { return Accepted::Paused(None) };
        if has_clients && let Some(listeners) = &mut leader.listeners {
            listeners.try_all();
        }
        let accepted = self.accept_as_leader(&mut leader);
        let room = leader.room;
        drop(leader);
        if self.state().is_stopping() {
            close_listeners(&self.leader);
        }
        if Hooks::<S>::HAS_EVENTS
            && let Accepted::Request(request) = &accepted
        {
            self.accepted(request, room);
        }
        accepted
    }

    fn accept_as_leader(&self, leader: &mut Leader<S>) -> Accepted<Request<S>> {
        let state = self.state();
        if state.is_stopping() {
            leader.listeners = None;
        }
        let Leader { listeners: Some(listeners), backoff, room, .. } = leader else { return Accepted::Stopped };
        loop {
            let pause_end = backoff.pause_end();
            if pause_end.is_some() || state.is_suspended() {
                return Accepted::Paused(pause_end);
            }
            if *room == Room::Full {
                let admission = state.connections.look_for_room();
                state.supervise(admission.supervision);
                *room = admission.room;
                if *room == Room::Full && self.options.limits.on_limit != OnLimit::Reject {
                    return Accepted::Paused(admission.room_at);
                }
            }
            match self.accept_once(listeners, backoff, room) {
                ControlFlow::Break(LeaderEvent::Request(request)) => return Accepted::Request(request),
                ControlFlow::Break(LeaderEvent::Rejected(request, why)) => return Accepted::Rejected(request, why),
                ControlFlow::Break(LeaderEvent::AcceptFailed(error)) => return Accepted::Failed(error),
                ControlFlow::Break(_) => return Accepted::Stopped,
                ControlFlow::Continue(Retry::WhenReady) => return Accepted::Empty,
                ControlFlow::Continue(_) => {}
            }
        }
    }

    /// Calls a function for each listening socket, for a loop that waits for them. There is none once the server stops.
    pub(crate) fn with_listeners(&self, watch: impl FnMut(BorrowedFd<'_>) -> io::Result<()>) -> io::Result<()> {
        let leader = self.leader.value();
        let sockets = leader.listeners.as_ref().map(Listeners::sockets).unwrap_or_default();
        sockets.iter().map(AsFd::as_fd).try_for_each(watch)
    }

    pub(crate) fn process_source(&self) {
        if let Some(source) = &self.source {
            source.process(&self.handle);
        }
    }

    /// Becomes the leader until the first deadline, and waits as the leader until the second.
    fn lead(&self, deadline: Option<Instant>, until: impl FnOnce() -> Option<Instant>) -> LeaderEvent<Request<S>> {
        let Some(mut leader) = self.leader.lock(deadline) else { return LeaderEvent::TimedOut };
        let event = self.next_event(&mut leader, until());
        let room = leader.room;
        drop(leader);
        if self.state().is_stopping() {
            // `stop` could not close the listening sockets while this thread held the lock.
            close_listeners(&self.leader);
        }
        if Hooks::<S>::HAS_EVENTS
            && let LeaderEvent::Request(request) = &event
        {
            self.accepted(request, room);
        }
        event
    }

    fn accepted(&self, request: &Request<S>, room: Room) {
        self.hooks.event(&Event::Accepted(ConnectionRef::new(request::kind(request).state())));
        // The places of handshakes may be full instead.
        if room == Room::Full && self.state().connections.has_reached_limit() {
            let limit = self.state().connections.limit();
            // With `"sync"` every request would reach it.
            if limit > 1 && !self.has_reached_limit.swap(true, SeqCst) {
                self.hooks.event(&Event::LimitReached(limit));
            }
        }
    }

    /// Turns away a request that was not admitted.
    pub(crate) fn reject(&self, request: Request<S>, why: Rejected) {
        let connection = ConnectionRef::new(request::kind(&request).state());
        self.hooks.event(&Event::Accepted(connection));
        self.hooks.event(&Event::TurnedAway { connection, why: why.into() });
        request::kind(&request).end();
    }

    /// Reports that accepting has failed, once an episode.
    pub(crate) fn accept_failed(&self, error: io::Error) {
        self.hooks.event(&Event::AcceptError(&error));
        self.report(Stage::GetRequest, error);
    }

    fn next_event(&self, leader: &mut Leader<S>, deadline: Option<Instant>) -> LeaderEvent<Request<S>> {
        let state = self.state();
        loop {
            if state.is_stopping() {
                leader.listeners = None;
            }
            let Leader { listeners: Some(listeners), backoff, in_a_row, room } = leader else {
                return LeaderEvent::Stopped;
            };
            let pause_end = backoff.pause_end();
            let is_due_to_poll = *in_a_row == IN_A_ROW;
            let mut room_at = None;
            let mut may_accept = !is_due_to_poll && !state.is_suspended() && pause_end.is_none();
            if may_accept && *room == Room::Full {
                let admission = state.connections.look_for_room();
                state.supervise(admission.supervision);
                (*room, room_at) = (admission.room, admission.room_at);
                // Without room a client is accepted only to be turned away.
                may_accept = *room == Room::Left || self.options.limits.on_limit == OnLimit::Reject;
            }
            if may_accept {
                *in_a_row += 1;
                match self.accept_once(listeners, backoff, room) {
                    ControlFlow::Break(event) => return event,
                    ControlFlow::Continue(Retry::WhenReady) => {}
                    ControlFlow::Continue(_) => continue,
                }
            } else {
                listeners.try_all();
            }
            let source_due = self.source.as_ref().and_then(|source| source.deadline(&self.handle));
            *in_a_row = 0;
            let until = match is_due_to_poll {
                true => Some(Instant::now()),
                false => deadline.into_iter().chain(pause_end).chain(source_due).chain(room_at).min(),
            };
            match self.wait(may_accept.then_some(&mut *listeners), until) {
                Ok(WaitEnd::Source) => return LeaderEvent::Source,
                Ok(WaitEnd::Other) => {
                    let has_passed = |time: Option<Instant>| time.is_some_and(|time| Instant::now() >= time);
                    if has_passed(source_due) {
                        return LeaderEvent::Source;
                    }
                    if !is_due_to_poll && has_passed(deadline) {
                        return LeaderEvent::TimedOut;
                    }
                }
                Err(error) => {
                    listeners.try_all();
                    let retry = backoff.after(&error);
                    if retry == Retry::Never {
                        return self.give_up(error);
                    }
                    state.connections.count_accept_error();
                    // poll(2) fails, so the pause cannot be waited for there.
                    thread::sleep(BACK_OFF);
                    if retry == Retry::LaterReported {
                        return LeaderEvent::AcceptFailed(error);
                    }
                }
            }
        }
    }

    /// Accepts without waiting, from the next socket in turn that has a client.
    fn accept_once(
        &self,
        listeners: &mut Listeners<Listener<S>>,
        backoff: &mut AcceptBackoff,
        room: &mut Room,
    ) -> ControlFlow<LeaderEvent<Request<S>>, Retry> {
        let request = loop {
            let Some(socket) = listeners.next() else { return ControlFlow::Continue(Retry::WhenReady) };
            let error = match self.hooks.get_request(&listeners.sockets()[socket]) {
                Ok(request) => break request,
                Err(error) => error,
            };
            let retry = backoff.after(&error);
            if matches!(retry, Retry::Later | Retry::LaterReported) {
                self.state().connections.count_accept_error();
            }
            match retry {
                Retry::WhenReady => listeners.has_no_client(socket),
                Retry::LaterReported => return ControlFlow::Break(LeaderEvent::AcceptFailed(error)),
                Retry::Never => return ControlFlow::Break(self.give_up(error)),
                retry => return ControlFlow::Continue(retry),
            }
        };
        backoff.end();
        match self.register(&request) {
            Ok(room_after) => {
                *room = room_after;
                ControlFlow::Break(LeaderEvent::Request(request))
            }
            Err(why) => ControlFlow::Break(LeaderEvent::Rejected(request, why)),
        }
    }

    /// The listening socket is broken: ends the server.
    fn give_up<R>(&self, error: io::Error) -> LeaderEvent<R> {
        self.state().fail(error);
        LeaderEvent::Stopped
    }

    /// The only place where a server waits for new clients.
    fn wait(&self, listeners: Option<&mut Listeners<Listener<S>>>, until: Option<Instant>) -> io::Result<WaitEnd> {
        let state = self.state();
        let until = self.next_beat().into_iter().chain(until).min();
        let timeout = until.map(|until| until.saturating_duration_since(Instant::now()));
        let waker = sys::Watched::new(state.waker.as_fd());
        let (sockets, may_be_ready) = listeners.map(Listeners::watch).unwrap_or_default();
        let (is_woken, end) = match (&self.source, sockets) {
            (None, []) => {
                let mut watched = [waker];
                sys::poll(&mut watched, timeout)?;
                (watched[0].is_ready(), WaitEnd::Other)
            }
            (None, [socket]) => {
                let mut watched = [waker, sys::Watched::new(socket.as_fd())];
                sys::poll(&mut watched, timeout)?;
                may_be_ready[0] = watched[1].is_ready();
                (watched[0].is_ready(), WaitEnd::Other)
            }
            (source, sockets) => {
                let descriptors = source.as_ref().map(|source| source.descriptors()).unwrap_or_default();
                let of_source = descriptors.iter().map(|descriptor| sys::Watched::new(descriptor.as_fd()));
                let sockets = sockets.iter().map(|socket| sys::Watched::new(socket.as_fd()));
                let mut watched: Vec<_> = [waker].into_iter().chain(of_source).chain(sockets).collect();
                sys::poll(&mut watched, timeout)?;
                let (of_source, sockets) = watched[1..].split_at(descriptors.len());
                may_be_ready.iter_mut().zip(sockets).for_each(|(is_ready, socket)| *is_ready = socket.is_ready());
                let is_of_source = of_source.iter().any(sys::Watched::is_ready);
                (watched[0].is_ready(), if is_of_source { WaitEnd::Source } else { WaitEnd::Other })
            }
        };
        self.beat();
        if is_woken && state.waker.take_stop_request() {
            state.shut_down();
        }
        Ok(end)
    }

    /// Admits a request, and returns whether there is room for another one.
    fn register(&self, request: &Request<S>) -> Result<Room, Rejected> {
        let state = self.state();
        let kind = request::kind(request);
        kind.attach(&state.bell, &self.options.timeouts);
        #[cfg(feature = "tls")]
        if let (Some(connection), Some(material)) = (kind.connection(), &state.tls) {
            connection.offer_tls(material);
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
            lingering::linger_here(&connection, &state.bell, GRACE);
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

    /// Tells systemd about the server from now on.
    #[cfg(feature = "systemd")]
    pub(crate) fn notify_systemd(&self) -> io::Result<()> {
        let Timeouts { linger, shutdown, .. } = self.options.timeouts;
        // A handler that was cut has a while to return, and so has a client that lingers.
        let time = linger.saturating_add(shutdown).saturating_add(3 * GRACE);
        let state = Arc::downgrade(self.handle.state());
        let on_stopping = self.handle.on_stopping(move || {
            // With a successor the service goes on.
            if state.upgrade().is_none_or(|state| !state.has_successor.load(SeqCst)) {
                systemd::stopping(time);
            }
        });
        let notifications = Notifications::begin(on_stopping)?;
        self.state().tells_systemd.store(true, SeqCst);
        // It was called before.
        let _ = self.notifications.set(notifications);
        Ok(())
    }

    /// When systemd has to hear next that the server can accept.
    #[cfg_attr(not(feature = "systemd"), expect(clippy::unused_self, reason = "with the feature, it is used"))]
    pub(crate) fn next_beat(&self) -> Option<Instant> {
        #[cfg(feature = "systemd")]
        return self.notifications.get().and_then(Notifications::due);
        #[cfg(not(feature = "systemd"))]
        None
    }

    /// Tells systemd that the server can accept, if that is due.
    #[cfg_attr(not(feature = "systemd"), expect(clippy::unused_self, reason = "with the feature, it is used"))]
    pub(crate) fn beat(&self) {
        #[cfg(feature = "systemd")]
        self.notifications.get().into_iter().for_each(Notifications::beat);
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
            state.lingering.finish(GRACE);
        }
    }

    /// Waits until the event source has nothing left.
    fn drain_source(&self) {
        let Some(source) = &self.source else { return };
        loop {
            source.process(&self.handle);
            if source.is_done() {
                return;
            }
            if self.wait(None, source.deadline(&self.handle)).is_err() {
                // poll(2) fails where RLIMIT_NOFILE is lower by now than the number of descriptors. What the source waits
                // for ends all the same.
                thread::sleep(Duration::from_millis(10));
            }
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
        self.leader.value().listeners = None;
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

/// What ended a wait.
enum WaitEnd {
    /// A descriptor of the event source is readable.
    Source,
    /// Another descriptor is, or the time is over.
    Other,
}

/// Closes the listening sockets, unless a leader has them: that leader sees that the server is stopping, and closes them.
fn close_listeners<S: Service>(leader: &LeaderLock<Leader<S>>) {
    let listeners = leader.try_value().and_then(|mut leader| leader.listeners.take());
    // They are closed after the lock is released.
    drop(listeners);
}

impl<S: Service> fmt::Debug for Acceptor<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").field("handle", &self.handle).finish_non_exhaustive()
    }
}

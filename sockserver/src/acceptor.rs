//! Waiting for requests and accepting them.

use std::{
    fmt, io, mem,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    accept_errors::{BACK_OFF, Then, Trouble},
    accepted::Accepted,
    address::Address,
    baton::Baton,
    children::Children,
    concurrency::Concurrency,
    connections::{GRACE, Rejected},
    handle::{Port, ServerHandle},
    handler::{HandlerError, Stage},
    io::{connection::Connection, record::ConnectionId},
    lingering,
    options::{OnLimit, Options},
    primitives::{Mutex, thread},
    server::{Request, Server},
    sys,
    transport::{AnyRequest, Internals, Transport},
    unwind,
};

/// Accepts the requests of one server, for all its threads.
///
/// The thread that holds the baton is the leader: it alone waits for a request, and lays the baton down when it has
/// accepted one.
pub struct Acceptor<S: Server> {
    server: Arc<S>,
    handle: ServerHandle,
    options: Options,
    /// It has a port, and not just one connection that was accepted elsewhere.
    is_bound: bool,
    baton: Baton,
    /// Locked by the leader as long as it waits, and by others only to close the port.
    leader: Mutex<Leader<S>>,
    pub(crate) children: Children<S>,
}

/// What belongs to the thread that waits.
struct Leader<S: Server> {
    /// Taken when the server stops; shared only with a `SocketServer` that does not serve yet.
    listener: Option<Arc<Listener<S>>>,
    trouble: Trouble,
    /// How often accepting was tried since it has waited, or looked whether it was woken.
    in_a_row: u32,
}

/// So often accepting is tried before a look at who wakes the server, which clients without end would keep it from.
const IN_A_ROW: u32 = 16;

pub(crate) type Listener<S> = <<S as Server>::Transport as Transport>::Listener;

/// What the leader has come by.
pub(crate) enum Turn<S: Server> {
    Request(Request<S>),
    /// The time was over.
    TimedOut,
    /// It is time to look which child processes have ended.
    ChildEnded,
    /// Accepting has failed, for the first time in this episode.
    Trouble(io::Error),
    /// The server is stopping, and the port is closed.
    Stopped,
}

impl<S: Server> Acceptor<S> {
    pub(crate) fn bound(server: S, listener: Arc<Listener<S>>, mut options: Options) -> io::Result<Arc<Acceptor<S>>> {
        if !Request::<S>::HAS_PEER {
            (options.timeouts.idle, options.timeouts.lifetime) = (None, None);
        }
        let server_address = S::Transport::server_address(&listener)?;
        let handle = ServerHandle::new::<S::Concurrency>(server_address, &options, S::Concurrency::FORKS)?;
        let acceptor = Acceptor::new(server, Some(listener), handle, options);
        let port: Arc<dyn Port> = acceptor.clone();
        acceptor.handle.control().set_port(Arc::downgrade(&port));
        Ok(acceptor)
    }

    /// For connections that are accepted elsewhere.
    pub(crate) fn unbound(server: S, server_address: Address, options: Options) -> io::Result<Arc<Acceptor<S>>> {
        // Its one connection is handled in place.
        let handle = ServerHandle::new::<S::Concurrency>(server_address, &options, false)?;
        Ok(Acceptor::new(server, None, handle, options))
    }

    fn new(server: S, listener: Option<Arc<Listener<S>>>, handle: ServerHandle, options: Options) -> Arc<Acceptor<S>> {
        Arc::new(Acceptor {
            server: Arc::new(server),
            handle,
            options,
            is_bound: listener.is_some(),
            baton: Baton::new(),
            leader: Mutex::new(Leader { listener, trouble: Trouble::default(), in_a_row: 0 }),
            children: Children::default(),
        })
    }

    /// The server whose requests these are.
    pub fn server(&self) -> &Arc<S> {
        &self.server
    }

    /// The handle that steers the server.
    pub fn handle(&self) -> &ServerHandle {
        &self.handle
    }

    /// The options that the server was bound with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Waits for the next request that the limits and `verify_request` let through. `None`: the server is stopping, and
    /// there will be no further one.
    ///
    /// Any number of threads can call it at once.
    pub fn next(self: &Arc<Self>) -> Option<Accepted<S>> {
        loop {
            if let Some(accepted) = self.next_unverified()?.verify() {
                return Some(accepted);
            }
        }
    }

    /// As [`next`](Self::next), before `verify_request`.
    pub(crate) fn next_unverified(self: &Arc<Self>) -> Option<Accepted<S>> {
        loop {
            if !self.handle.control().is_stopping() {
                self.service_actions();
            }
            let baton = self.baton.take(None);
            // Only the leader's time runs: its followers have nothing to do.
            let deadline = self.options.timeouts.poll.and_then(|poll| Instant::now().checked_add(poll));
            let turn = self.lead(deadline);
            drop(baton);
            match turn {
                Turn::Request(request) => return Some(Accepted::new(self, request)),
                Turn::Trouble(error) => self.report(Stage::GetRequest, error),
                Turn::ChildEnded => self.children.reap(),
                Turn::TimedOut => {}
                Turn::Stopped => return None,
            }
        }
    }

    /// Waits for one request, until the deadline.
    pub(crate) fn next_within(&self, deadline: Option<Instant>) -> Turn<S> {
        self.baton.take(deadline).map_or(Turn::TimedOut, |_held| self.lead(deadline))
    }

    fn lead(&self, deadline: Option<Instant>) -> Turn<S> {
        let turn = self.take_turn(&mut self.leader.lock(), deadline);
        if self.handle.control().is_stopping() {
            // `stop` may have found the lock taken.
            self.try_close();
        }
        turn
    }

    fn take_turn(&self, leader: &mut Leader<S>, deadline: Option<Instant>) -> Turn<S> {
        let control = self.handle.control();
        loop {
            if S::Concurrency::FORKS && control.connections.is_to_drain() {
                control.stop();
            }
            if control.is_stopping() {
                leader.listener = None;
            }
            let Leader { listener: Some(listener), trouble, in_a_row } = leader else { return Turn::Stopped };
            let is_over = || deadline.is_some_and(|deadline| Instant::now() >= deadline);
            let rests_until = trouble.rests_until();
            let is_busy = *in_a_row == IN_A_ROW;
            let accepts = !is_busy && !control.is_suspended() && self.may_accept() && rests_until.is_none();
            if accepts {
                *in_a_row += 1;
                match self.try_next(listener, trouble) {
                    Ok(turn) => return turn,
                    Err(Then::Wait) => {}
                    Err(_) => continue,
                }
            }
            let due = match S::Concurrency::FORKS {
                true => {
                    let looks = [self.children.next_look(), self.children.look_at_lingering()];
                    control.connections.sweep().into_iter().chain(looks.into_iter().flatten()).min()
                }
                false => None,
            };
            *in_a_row = 0;
            let until = match is_busy {
                true => Some(Instant::now()),
                false => deadline.into_iter().chain(rests_until).chain(due).min(),
            };
            match self.wait(accepts.then(|| listener.as_fd()), until) {
                Ok(true) => return Turn::ChildEnded,
                Ok(false) if !is_busy && is_over() => return Turn::TimedOut,
                Ok(false) => {}
                Err(error) => {
                    let then = trouble.after(&error);
                    if then == Then::GiveUp {
                        return self.give_up(error);
                    }
                    control.connections.count_accept_error();
                    // Nothing can be waited for, not even the end of the rest.
                    thread::sleep(BACK_OFF);
                    if then == Then::Report {
                        return Turn::Trouble(error);
                    }
                }
            }
        }
    }

    /// Accepts without waiting. `Err`: there is nothing to be told, and this is what to do next.
    fn try_next(&self, listener: &Listener<S>, trouble: &mut Trouble) -> Result<Turn<S>, Then> {
        let control = self.handle.control();
        let request = match self.get_request(listener) {
            Ok(request) => request,
            Err(error) => {
                let then = trouble.after(&error);
                if matches!(then, Then::Rest | Then::Report) {
                    control.connections.count_accept_error();
                }
                return match then {
                    Then::Report => Ok(Turn::Trouble(error)),
                    Then::GiveUp => Ok(self.give_up(error)),
                    then => Err(then),
                };
            }
        };
        trouble.end();
        match self.register(&request) {
            Ok(()) => Ok(Turn::Request(request)),
            Err(Rejected) => {
                request.end();
                Err(Then::Retry)
            }
        }
    }

    fn give_up(&self, error: io::Error) -> Turn<S> {
        self.handle.control().fail(error);
        Turn::Stopped
    }

    /// The one place where a server waits for its clients. `true`: a child process has ended.
    fn wait(&self, listener: Option<BorrowedFd<'_>>, until: Option<Instant>) -> io::Result<bool> {
        let control = self.handle.control();
        let timeout = until.map(|until| until.saturating_duration_since(Instant::now()));
        let waker = sys::Watched::new(control.waker.as_fd());
        let listener = listener.map(sys::Watched::new);
        let (woken, child_ended) = if S::Concurrency::FORKS {
            let pipes = self.children.pipes();
            let children = pipes.iter().map(|pipe| sys::Watched::new(pipe.as_fd()));
            let mut watched: Vec<_> = [waker].into_iter().chain(children).chain(listener).collect();
            sys::poll(&mut watched, timeout)?;
            let children = &watched[1..=pipes.len()];
            let looked = self.children.next_look().is_some_and(|next| Instant::now() >= next);
            (watched[0].is_ready(), looked || children.iter().any(sys::Watched::is_ready))
        } else if let Some(listener) = listener {
            let mut watched = [waker, listener];
            sys::poll(&mut watched, timeout)?;
            (watched[0].is_ready(), false)
        } else {
            let mut watched = [waker];
            sys::poll(&mut watched, timeout)?;
            (watched[0].is_ready(), false)
        };
        if woken && control.waker.clear() {
            control.shut_down();
        }
        Ok(child_ended)
    }

    /// Whether a client may be accepted, if only to turn it away.
    fn may_accept(&self) -> bool {
        self.handle.control().connections.has_room() || self.options.limits.on_limit == OnLimit::Reject
    }

    fn register(&self, request: &Request<S>) -> Result<(), Rejected> {
        let control = self.handle.control();
        request.attach(&control.bell, &self.options.timeouts);
        if control.connections.register(&request.tracked())? {
            control.start_supervisor();
        }
        Ok(())
    }

    pub(crate) fn unregister(&self, id: ConnectionId) {
        let control = self.handle.control();
        if control.connections.unregister(id) {
            control.waker.wake();
        }
    }

    /// Closes a connection whose client may not have received everything yet, when it has.
    pub(crate) fn linger(&self, connection: Arc<Connection>) {
        if !self.is_bound && connection.has_to_linger() {
            // Its one connection has this thread for itself. What the client may still send is left to the caller.
            lingering::linger_here(&connection, &self.handle.control().bell, GRACE);
        } else if self.is_bound && S::Concurrency::FORKS {
            self.children.linger(connection);
            if self.options.allow_threads {
                // Another thread may be waiting without a look at it.
                self.handle.control().waker.wake();
            }
        } else if self.is_bound {
            self.handle.control().lingering.add(connection);
        }
    }

    /// Takes in a connection that was accepted elsewhere.
    pub(crate) fn accept(self: &Arc<Self>, request: Request<S>) -> Option<Accepted<S>> {
        self.register(&request).ok()?;
        Accepted::new(self, request).verify()
    }

    /// For a thread that serves by others.
    pub(crate) fn wait_for_stop(&self) {
        self.handle.control().connections.wait_until_stopping();
    }

    /// Stops, and waits until all requests have ended or been given up.
    pub(crate) fn drain(&self) {
        let control = self.handle.control();
        control.stop();
        // One of its own handlers or hooks that waited would wait for itself.
        if !control.runs_here() {
            self.drain_children();
            control.connections.drain();
            control.connections.wait_for_crew();
            control.wait_for_callbacks();
            control.lingering.finish(GRACE);
            self.children.finish_lingering(GRACE);
        }
    }

    /// Waits until all children have ended, with the force that the drain comes to.
    fn drain_children(&self) {
        let connections = &self.handle.control().connections;
        loop {
            self.children.reap();
            if self.children.is_empty() {
                return;
            }
            let next = connections.sweep();
            self.children.end(connections.force());
            let looks = [next, self.children.next_look(), self.children.look_at_lingering()];
            if self.wait(None, looks.into_iter().flatten().min()).is_err() {
                // As where the process may have fewer descriptors by now than it has: the children end all the same.
                thread::sleep(Duration::from_millis(10));
            }
        }
    }

    /// In a child that serves one request: closes what is only the parent's.
    #[cfg_attr(not(feature = "signals"), expect(unused_variables, reason = "signals end the child of a parent"))]
    pub(crate) fn enter_child(&self, has_socket: bool, parent: u32) {
        #[cfg(feature = "signals")]
        crate::signals::enter_child(parent);
        self.handle.control().enter_child();
        self.children.abandon();
        // Another thread that leads keeps it for ever. A datagram is answered by the socket that it came to.
        if has_socket && let Some(mut leader) = self.leader.try_lock() {
            if let Some(listener) = leader.listener.take() {
                // A `SocketServer` that processes single requests holds it too.
                sys::let_go(listener.as_fd());
                // The file of a Unix socket is its parent's to remove.
                mem::forget(listener);
            }
            // Giving it back could take a lock that another thread held.
            mem::forget(leader);
        }
    }

    /// Closes the port, drains, calls `server_close`, and then lets those go on who wait for the end.
    pub(crate) fn close(&self) {
        // Whoever still waits in `next` has the lock.
        self.handle.control().stop();
        self.leader.lock().listener = None;
        // `handle_request` may have left some under way.
        self.drain();
        // A panic in the hook changes nothing about the end.
        let control = self.handle.control();
        let _ = unwind::run(control, || self.server.server_close());
        #[cfg(feature = "signals")]
        crate::signals::forget(control);
        control.connections.close_down();
    }

    fn get_request(&self, listener: &Listener<S>) -> io::Result<Request<S>> {
        unwind::run(self.handle.control(), || S::Transport::get_request(listener))
            .unwrap_or_else(|message| Err(io::Error::other(format!("get_request panicked: {message}"))))
    }

    pub(crate) fn server_activate(&self) -> Result<(), String> {
        unwind::run(self.handle.control(), || self.server.server_activate(&self.handle))
    }

    pub(crate) fn verify_request(&self, request: &Request<S>) -> Result<bool, String> {
        unwind::run(self.handle.control(), || self.server.verify_request(request, request.client_address()))
    }

    pub(crate) fn handle_error(&self, error: HandlerError, client_address: &Address) {
        // The panic hook has reported a panic already, and there is nobody else to tell. The error is the user's, and
        // is dropped here too.
        let _ = unwind::run(self.handle.control(), move || self.server.handle_error(&error, client_address));
    }

    pub(crate) fn handle_timeout(&self) {
        let _ = unwind::run(self.handle.control(), || self.server.handle_timeout());
    }

    pub(crate) fn service_actions(&self) {
        let _ = unwind::run(self.handle.control(), || self.server.service_actions());
    }

    /// Tells `handle_error` of what concerns no client.
    pub(crate) fn report(&self, stage: Stage, error: io::Error) {
        self.handle_error(HandlerError::new(stage, error), self.handle.server_address());
    }
}

impl<S: Server> Port for Acceptor<S> {
    fn try_close(&self) {
        let listener = self.leader.try_lock().and_then(|mut leader| leader.listener.take());
        // Closed when the lock is free again.
        drop(listener);
    }
}

impl<S: Server> fmt::Debug for Acceptor<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").field("handle", &self.handle).finish_non_exhaustive()
    }
}

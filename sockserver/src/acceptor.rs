//! Waiting for requests and accepting them.

use std::{
    fmt, io,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    accepted::Accepted,
    address::Address,
    children::Children,
    concurrency::Concurrency,
    connections::Rejected,
    handle::{Port, ServerHandle},
    handler::{HandlerError, Stage},
    options::{OnLimit, Options},
    primitives::{Mutex, MutexGuard},
    record::ConnectionId,
    server::{Request, Server},
    stats::Outcome,
    sys,
    transport::{AnyRequest, Internals, Transport},
    unwind,
};

/// How long accepting rests after an error of the class [`AcceptError::BackOff`].
const BACK_OFF: Duration = Duration::from_millis(50);

/// How many errors in a row can be those of connections that died in the queue. What comes more often than that would
/// come for ever.
const DEAD_IN_A_ROW: u32 = 1024;

/// Accepts the requests of one server, for all its threads.
///
/// The lock around the listening socket is what makes one thread the leader: it alone waits for a request, and lets go
/// of the lock when it has accepted one.
pub struct Acceptor<S: Server> {
    server: Arc<S>,
    handle: ServerHandle,
    options: Options,
    leader: Mutex<Leader<S>>,
    pub(crate) children: Children<S>,
}

/// What belongs to the thread that waits.
struct Leader<S: Server> {
    /// Taken when the server stops; shared only with a `SocketServer` that does not serve yet.
    listener: Option<Arc<Listener<S>>>,
    /// Accepting rests until then.
    back_off: Option<Instant>,
    /// Accepting has failed and was reported, and has not worked since.
    in_trouble: bool,
    /// The errors of the class [`AcceptError::Retry`] since something else has come of accepting.
    dead: u32,
}

pub(crate) type Listener<S> = <<S as Server>::Transport as Transport>::Listener;

/// What the leader has come by.
pub(crate) enum Turn<S: Server> {
    Request(Request<S>),
    /// The time was over.
    TimedOut,
    /// A child process has ended, or is about to.
    ChildEnded,
    /// Accepting has failed, for the first time in this episode.
    Trouble(io::Error),
    /// The server is stopping, and the port is closed.
    Stopped,
}

/// What an error of accept(2) means.
enum AcceptError {
    /// Nobody is there: wait.
    WouldBlock,
    /// It concerns the one connection that was accepted, which had died in the queue or which the transport would not
    /// have, or a signal came: go on.
    Retry,
    /// Something is short that others have to give back, or nobody knows what it is: go on, but slowly.
    BackOff,
    /// The listening socket itself is broken: nothing will ever be accepted again.
    Fatal,
}

impl AcceptError {
    fn of(error: &io::Error) -> AcceptError {
        match error.raw_os_error() {
            _ if error.kind() == io::ErrorKind::WouldBlock => AcceptError::WouldBlock,
            _ if error.kind() == io::ErrorKind::Interrupted => AcceptError::Retry,
            // A transport of the user's own does not like the connection, or cannot read or write it.
            None | Some(libc::EPIPE | libc::ENOTCONN | libc::ETIMEDOUT) => AcceptError::Retry,
            // accept(2): errors that are pending on the new connection come out of accept as well. A datagram socket
            // reports of earlier packets that nobody received them.
            Some(
                libc::ECONNABORTED
                | libc::ECONNRESET
                | libc::ECONNREFUSED
                | libc::EPROTO
                | libc::ENETDOWN
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH
                | libc::ENOPROTOOPT
                | libc::EOPNOTSUPP,
            ) => AcceptError::Retry,
            Some(libc::EBADF | libc::ENOTSOCK | libc::EINVAL | libc::EFAULT) => AcceptError::Fatal,
            // EMFILE, ENFILE, ENOBUFS and ENOMEM among them; also EPERM and EACCES, with which seccomp(2) and the like
            // forbid the call, and the connection stays in the queue.
            _ => AcceptError::BackOff,
        }
    }
}

impl<S: Server> Acceptor<S> {
    pub(crate) fn bound(server: S, listener: Arc<Listener<S>>, options: Options) -> io::Result<Arc<Acceptor<S>>> {
        let server_address = S::Transport::server_address(&listener)?;
        let acceptor = Acceptor::new(server, Some(listener), server_address, options)?;
        let port: Arc<dyn Port> = acceptor.clone();
        acceptor.handle.control().set_port(Arc::downgrade(&port));
        Ok(acceptor)
    }

    /// For connections that are accepted elsewhere.
    pub(crate) fn unbound(server: S, server_address: Address, options: Options) -> io::Result<Arc<Acceptor<S>>> {
        Acceptor::new(server, None, server_address, options)
    }

    fn new(
        server: S,
        listener: Option<Arc<Listener<S>>>,
        server_address: Address,
        options: Options,
    ) -> io::Result<Arc<Acceptor<S>>> {
        let handle = ServerHandle::new::<S::Concurrency>(server_address, &options)?;
        let leader = Mutex::new(Leader { listener, back_off: None, in_trouble: false, dead: 0 });
        Ok(Arc::new(Acceptor { server: Arc::new(server), handle, options, leader, children: Children::default() }))
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
            self.service_actions();
            let leader = self.leader.lock();
            // Only the leader's time runs: its followers have nothing to do.
            let deadline = self.options.timeouts.poll.and_then(|poll| Instant::now().checked_add(poll));
            match self.lead(leader, deadline) {
                Turn::Request(request) => {
                    if let Some(accepted) = Accepted::new(self, request).verify() {
                        return Some(accepted);
                    }
                }
                Turn::Trouble(error) => self.report_trouble(error),
                Turn::ChildEnded => self.children.reap(),
                Turn::TimedOut => {}
                Turn::Stopped => return None,
            }
        }
    }

    /// Waits for one request, until the deadline.
    pub(crate) fn next_within(&self, deadline: Option<Instant>) -> Turn<S> {
        let leader = match deadline {
            Some(deadline) => self.leader.try_lock_until(deadline),
            None => Some(self.leader.lock()),
        };
        leader.map_or(Turn::TimedOut, |leader| self.lead(leader, deadline))
    }

    fn lead(&self, mut leader: MutexGuard<'_, Leader<S>>, deadline: Option<Instant>) -> Turn<S> {
        let turn = self.take_turn(&mut leader, deadline);
        drop(leader);
        if self.handle.control().is_stopping() {
            // `stop` may have found the lock taken.
            self.try_close();
        }
        turn
    }

    fn take_turn(&self, leader: &mut Leader<S>, deadline: Option<Instant>) -> Turn<S> {
        let control = self.handle.control();
        loop {
            if control.is_stopping() {
                leader.listener = None;
            }
            let Some(listener) = &leader.listener else { return Turn::Stopped };
            let mut waits_for = Some(listener.as_fd());
            let mut until = deadline;
            if control.is_suspended() || !self.may_accept() {
                waits_for = None;
            } else if let Some(rested) = leader.back_off.take_if(|rested| Instant::now() < *rested) {
                leader.back_off = Some(rested);
                until = Some(deadline.map_or(rested, |deadline| deadline.min(rested)));
                waits_for = None;
            } else {
                match self.get_request(listener) {
                    Ok(request) => {
                        (leader.in_trouble, leader.dead) = (false, 0);
                        match self.register(&request) {
                            Ok(()) => return Turn::Request(request),
                            Err(Rejected) => request.shutdown(),
                        }
                        continue;
                    }
                    Err(error) => match AcceptError::of(&error) {
                        AcceptError::WouldBlock => leader.dead = 0,
                        AcceptError::Retry if leader.dead < DEAD_IN_A_ROW => {
                            leader.dead += 1;
                            continue;
                        }
                        AcceptError::Retry | AcceptError::BackOff => {
                            control.connections.count_accept_error();
                            leader.back_off = Instant::now().checked_add(BACK_OFF);
                            if !std::mem::replace(&mut leader.in_trouble, true) {
                                return Turn::Trouble(error);
                            }
                            continue;
                        }
                        AcceptError::Fatal => {
                            leader.listener = None;
                            control.fail(error);
                            return Turn::Stopped;
                        }
                    },
                }
            }
            if S::Concurrency::FORKS {
                let due = control.connections.sweep().into_iter().chain(self.children.next_look()).min();
                until = until.into_iter().chain(due).min();
            }
            match self.wait(waits_for, until) {
                Ok(true) => return Turn::ChildEnded,
                Ok(false) if deadline.is_some_and(|deadline| Instant::now() >= deadline) => return Turn::TimedOut,
                Ok(false) => {}
                Err(error) => {
                    control.fail(error);
                    return Turn::Stopped;
                }
            }
        }
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
            control.stop();
        }
        Ok(child_ended)
    }

    /// Whether a client may be accepted, if only to turn it away.
    fn may_accept(&self) -> bool {
        self.handle.control().connections.has_room() || self.options.limits.on_limit == OnLimit::Reject
    }

    fn register(&self, request: &Request<S>) -> Result<(), Rejected> {
        let control = self.handle.control();
        if control.connections.register(&request.tracked())? {
            control.start_supervisor();
        }
        Ok(())
    }

    pub(crate) fn unregister(&self, id: ConnectionId, outcome: Outcome) {
        let control = self.handle.control();
        if control.connections.unregister(id, outcome) {
            control.waker.wake();
        }
    }

    /// Takes in a connection that was accepted elsewhere.
    pub(crate) fn accept(self: &Arc<Self>, request: Request<S>) -> Option<Accepted<S>> {
        self.register(&request).ok()?;
        Accepted::new(self, request).verify()
    }

    /// Stops, and waits until all requests have ended or been given up.
    pub(crate) fn drain(&self) -> io::Result<()> {
        let control = self.handle.control();
        control.stop();
        // One of its own handlers or hooks that waited would wait for itself.
        if control.runs_here() {
            return Ok(());
        }
        let drained = self.drain_children();
        control.connections.drain();
        drained
    }

    /// Waits until all children have ended, with the force that the drain comes to.
    fn drain_children(&self) -> io::Result<()> {
        let connections = &self.handle.control().connections;
        loop {
            self.children.reap();
            if self.children.is_empty() {
                return Ok(());
            }
            let next = connections.sweep();
            self.children.end(connections.force());
            self.wait(None, next.into_iter().chain(self.children.next_look()).min())?;
        }
    }

    /// In a child that serves one request: closes what is only the parent's.
    pub(crate) fn enter_child(&self, has_socket: bool) {
        #[cfg(feature = "signals")]
        crate::signals::enter_child();
        self.children.abandon();
        // Whether the lock is free depends on threads that are not here any more. A datagram is answered by the socket
        // that it came to.
        if has_socket && let Some(mut leader) = self.leader.try_lock() {
            leader.listener = None;
        }
    }

    /// There is no socket any more and nobody who serves.
    pub(crate) fn close(&self) {
        self.leader.lock().listener = None;
        // `handle_request` may have left some under way. What fails is told by `serve_forever`.
        let _ = self.drain();
        // A panic in the hook changes nothing about the end.
        let _ = unwind::run(self.handle.control(), || self.server.server_close());
        #[cfg(feature = "signals")]
        crate::signals::forget(self.handle.control());
        self.handle.control().connections.close_down();
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
        // The panic hook has reported a panic already, and there is nobody else to tell. The error is the user's, and is
        // dropped here too.
        let _ = unwind::run(self.handle.control(), move || self.server.handle_error(&error, client_address));
    }

    pub(crate) fn handle_timeout(&self) {
        let _ = unwind::run(self.handle.control(), || self.server.handle_timeout());
    }

    pub(crate) fn service_actions(&self) {
        let _ = unwind::run(self.handle.control(), || self.server.service_actions());
    }

    pub(crate) fn report_trouble(&self, error: io::Error) {
        self.handle_error(HandlerError::new(Stage::GetRequest, error), self.handle.server_address());
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

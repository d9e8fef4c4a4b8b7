//! A process for each request.

use std::{
    fmt,
    io::{self, PipeWriter},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use crate::{
    acceptor::{Acceptor, EventSource},
    concurrency::Concurrency,
    io::closing::Closing,
    job::Job,
    options::Options,
    request,
    service::Service,
    sys, unwind,
};

mod children;
mod report;

use children::{Child, Children};

/// `"forking"`: a child process for each request. Python's `ForkingMixIn`.
///
/// What a handler changes in the server struct stays in its child. What it does with its
/// [`ServerHandle`](crate::ServerHandle) stays there too, except for `shutdown`: the parent stops when the call returns or
/// a little later. The parent calls [`handle_error`](crate::Server::handle_error), also for a child that was killed.
///
/// A handler may end its child, with `exit(0)` for example. The request has finished if the exit status is success, and
/// has failed otherwise. Unflushed output to the client is lost then. So is what the handler has printed without a line
/// end, if the process has several threads.
///
/// A child has only the thread that forked it, and a lock that another thread held at the fork stays locked in it for
/// ever. So this refuses to fork a process that has several threads, and one whose number of threads is unknown (Linux
/// without proc(5), the BSDs). [`serve_forever`](crate::SocketServer::serve_forever) fails then, and so does
/// [`spawn`](crate::SocketServer::spawn), which serves on a second thread.
/// [`handle_request`](crate::SocketServer::handle_request) turns the client away and calls `handle_error`.
///
/// With `allow_threads` such a process is forked. The handler must then take no lock that another thread may have held;
/// the methods `stats`, `connections`, `close` and `on_stopping` of [`ServerHandle`](crate::ServerHandle) take some. If
/// several threads serve one server, a child may keep its port open until it ends.
///
/// If the client may not have received everything when its handler ends, the parent keeps the connection open as other
/// servers do. It then needs no child and does not count in `limits(connections)`. The thread that waits for requests
/// looks after it: [`handle_request`](crate::SocketServer::handle_request) while it waits, and the end of the server.
///
/// A server that stops gives its children `timeouts(shutdown)`. Then it sends them SIGTERM, and a second later SIGKILL.
#[derive(Clone, Default)]
pub struct Forking {
    children: Arc<Children>,
}

impl Concurrency for Forking {
    const FORKS: bool = true;

    fn process_request<S: Service>(&self, job: Job<S>) {
        if job.is_too_late() {
            return;
        }
        match self.fork(&job) {
            Ok(Forked::Child(pipe, parent)) => self.serve_in_child(job, pipe, &parent),
            Ok(Forked::Parent(process, pipe)) => {
                let acceptor = job.acceptor().clone();
                job.started();
                self.children.add(Child::new(process, pipe, job));
                if acceptor.options().allow_threads {
                    // The leader may be another thread, whose wait does not include this child yet.
                    acceptor.state().waker.wake();
                }
            }
            Err(error) => job.fail(error),
        }
    }

    fn serve<S: Service>(&self, acceptor: &Arc<Acceptor<S>>) {
        if let Err(error) = check_threads(acceptor.options()) {
            return acceptor.state().fail(error);
        }
        while let Some(job) = acceptor.accept() {
            self.process_request(job);
        }
    }

    /// Python's `max_children`.
    fn max_connections(&self, options: &Options) -> usize {
        // The parent has the connection, the pipe and the pidfd of each child.
        options.limits.connections.unwrap_or_else(|| super::within_descriptors(40, 3))
    }

    fn event_source(&self) -> Option<Arc<dyn EventSource>> {
        Some(self.children.clone())
    }
}

impl fmt::Debug for Forking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forking").finish_non_exhaustive()
    }
}

enum Forked {
    Parent(sys::ChildProcess, io::PipeReader),
    Child(PipeWriter, Parent),
}

/// What a child knows about its parent.
struct Parent {
    #[cfg(feature = "signals")]
    id: u32,
    has_one_thread: bool,
}

/// Held by the thread that forks, for servers on several threads of one process.
static FORKING: Mutex<()> = Mutex::new(());

impl Forking {
    /// Other threads do not exist in the child, but the locks that they held stay locked, and what they were changing stays
    /// half changed. So between the fork and its handler the child calls what signal-safety(7) allows, and besides that
    /// does only this:
    ///
    /// - It unlocks and takes the locks that this function holds at the fork. They are `std`'s: to unlock a lock of
    ///   `parking_lot` that threads wait for takes another lock, which all threads share.
    /// - It frees memory, as the handler does: the allocators of the C libraries work in a child.
    fn fork<S: Service>(&self, job: &Job<S>) -> io::Result<Forked> {
        let acceptor = job.acceptor();
        check_threads(acceptor.options())?;
        let state = request::kind(job.request()).state();
        state.share()?;
        // Another thread may have stopped the server meanwhile, and marked the state before it was shared.
        if acceptor.state().is_stopping() {
            state.mark(Closing::Draining);
        }
        // A child that is forked at the same time must not inherit this pipe.
        let _one_at_a_time = FORKING.lock().unwrap_or_else(PoisonError::into_inner);
        let (reader, writer) = io::pipe()?;
        let parent = Parent {
            #[cfg(feature = "signals")]
            id: std::process::id(),
            has_one_thread: sys::threads() == Some(1),
        };
        let _children = self.children.lock();
        let _lingering = acceptor.state().lingering.lock_leader_clients();
        let _bans = acceptor.state().connections.gate.lock();
        #[cfg(feature = "signals")]
        let _signals = crate::signals::lock();
        Ok(match sys::fork(parent.has_one_thread)? {
            sys::Fork::Parent(process) => {
                drop(writer);
                Forked::Parent(process, reader)
            }
            sys::Fork::Child => Forked::Child(writer, parent),
        })
    }

    /// Serves and exits. It does not return and drops nothing, since the parent goes on with what both processes share.
    fn serve_in_child<S: Service>(&self, job: Job<S>, mut pipe: PipeWriter, parent: &Parent) -> ! {
        self.enter_child(&job, parent);
        let introduce = || {
            // Writing fails if the parent has ended.
            let _ = report::introduce(&mut &pipe, request::kind(job.request()).state().client_address());
        };
        let ended = match job.introduce(introduce) {
            Ok(()) => job.run(),
            Err(ended) => ended,
        };
        // Without signals, since a SIGTERM of the drain in the middle would leave the request uncounted.
        sys::without_signals(|| job.count(ended.how.outcome()));
        if let Some(connection) = request::kind(job.request()).connection() {
            // The parent has the socket too, and lingers if it must.
            connection.end(false);
        }
        let status = i32::from(ended.error.is_some());
        // Writing fails if the parent has ended. The error is the user's, and may panic when it is displayed.
        let _ = unwind::run(job.acceptor().state().id, || report::report(&mut pipe, &ended));
        sys::exit_child(status, parent.has_one_thread)
    }

    /// In a child: closes what belongs only to the parent.
    #[cfg_attr(not(feature = "signals"), expect(unused_variables, reason = "signals end the child of a parent"))]
    fn enter_child<S: Service>(&self, job: &Job<S>, parent: &Parent) {
        #[cfg(feature = "signals")]
        crate::signals::enter_child(parent.id);
        let acceptor = job.acceptor();
        acceptor.state().enter_child();
        self.children.abandon();
        acceptor.state().lingering.lock_leader_clients().abandon();
        // A datagram server keeps its socket, which sends the replies.
        if request::kind(job.request()).connection().is_some() {
            acceptor.close_listeners_in_child();
        }
    }
}

/// How often the threads of the process are counted, a millisecond apart: the kernel may still count a thread that was
/// joined a moment ago, and on a busy machine for many milliseconds.
const LOOKS: u32 = 250;

fn check_threads(options: &Options) -> io::Result<()> {
    if options.allow_threads {
        return Ok(());
    }
    let refuse = |reason: String| Err(io::Error::new(io::ErrorKind::Unsupported, reason));
    for look in 1..=LOOKS {
        match sys::threads() {
            Some(1) => return Ok(()),
            None => {
                return refuse(
                    "the number of threads of this process is unknown, and a process that has several threads cannot be \
                     forked safely: in the child, the locks of the other threads would stay locked; use concurrency = \
                     \"threading\", or set `allow_threads = true` if the process has one thread, or the handler uses no \
                     lock that another thread can hold"
                        .into(),
                );
            }
            Some(threads) if look == LOOKS => {
                return refuse(format!(
                    "a process that has {threads} threads cannot be forked safely: in the child, the locks of the \
                     other threads would stay locked; serve before threads are started, or on the main thread \
                     (`serve_forever`, not `spawn`), or use concurrency = \"threading\", or set `allow_threads = true` if \
                     the handler uses no lock that another thread can hold"
                ));
            }
            Some(_) => thread::sleep(Duration::from_millis(1)),
        }
    }
    Ok(())
}

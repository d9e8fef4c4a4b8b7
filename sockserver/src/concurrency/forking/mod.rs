//! A process for each request.

use std::{
    fmt,
    io::{self, PipeWriter},
    mem,
    os::fd::AsFd,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use crate::{
    acceptor::{Acceptor, EventSource},
    concurrency::Concurrency,
    finish_request::Ended,
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
/// What a handler changes in the server struct stays in its child, and so does what it does with its
/// [`ServerHandle`](crate::ServerHandle): only `shutdown` reaches the parent, and takes effect there when it returns or
/// a little later. Errors are reported to [`handle_error`](crate::Server::handle_error) in the parent, also those of a child
/// that was killed.
///
/// A child that ends before its handler does has finished if it ended with success, as after `exit(0)` in Python, and
/// failed otherwise. What it had written and not flushed is lost; so is what it has printed without a line end where the
/// process has several threads.
///
/// A child has only the thread that forked it, and locks that other threads held then stay locked in it for ever. So a
/// process that has several threads is not forked, nor one whose number of threads the system does not tell (Linux
/// without proc(5), the BSDs), unless `allow_threads` is set:
/// [`serve_forever`](crate::SocketServer::serve_forever) fails then, and so does [`spawn`](crate::SocketServer::spawn),
/// which serves on a second thread; [`handle_request`](crate::SocketServer::handle_request) turns the client away and
/// tells `handle_error`. Where several threads of such a process serve one server, a child may keep its port until it
/// ends. Of a [`ServerHandle`](crate::ServerHandle), the methods `stats`, `connections`, `close` and `on_stopping` take
/// such locks.
///
/// Where a client may not have received everything when its handler ends, its connection lingers as with the other
/// servers, without its child and without a place in `limits(connections)`. The thread that waits for requests looks after
/// it: [`handle_request`](crate::SocketServer::handle_request) as long as it waits, and the end of the server.
///
/// A server that stops gives its children `timeouts(shutdown)`, and then sends SIGTERM, and a second later SIGKILL.
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
                self.children.add(Child::new(process, pipe, job));
                if acceptor.options().allow_threads {
                    // Another thread may be waiting for the children that there were before.
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
        options.limits.connections.unwrap_or(40)
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

/// What a child knows of the process that it was forked from.
struct Parent {
    #[cfg(feature = "signals")]
    id: u32,
    has_one_thread: bool,
}

/// For the servers of a process that fork on several threads.
static FORKING: Mutex<()> = Mutex::new(());

impl Forking {
    /// Of the other threads of the process, the child has only what they were changing, and the locks that they held, for ever.
    /// So between the fork and its handler it calls what signal-safety(7) allows, and beyond that only this:
    ///
    /// - It takes and gives back locks that its own thread held at the fork, those below. They are of `std`: a lock of
    ///   `parking_lot` that threads wait for takes one of all threads when it is given back.
    /// - It frees memory, as the handler does: the allocators of the C libraries are made to be used in a child.
    fn fork<S: Service>(&self, job: &Job<S>) -> io::Result<Forked> {
        let acceptor = job.acceptor();
        check_threads(acceptor.options())?;
        let state = request::kind(job.request()).state();
        state.share()?;
        // Another thread may have stopped the server meanwhile, and marked what was not shared yet.
        if acceptor.state().is_stopping() {
            state.mark(Closing::Draining);
        }
        // No child has the end of a pipe that is its sibling's.
        let _one_at_a_time = FORKING.lock().unwrap_or_else(PoisonError::into_inner);
        let (reader, writer) = io::pipe()?;
        let parent = Parent {
            #[cfg(feature = "signals")]
            id: std::process::id(),
            has_one_thread: sys::threads() == Some(1),
        };
        let _children = self.children.lock();
        let _lingering = acceptor.state().lingering.lock_leader_clients();
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

    /// Everything that the parent will go on with is left as it is: this does not return, and nothing is dropped.
    fn serve_in_child<S: Service>(&self, job: Job<S>, mut pipe: PipeWriter, parent: &Parent) -> ! {
        self.enter_child(&job, parent);
        let Ended { outcome, error } = job.run();
        // A drain that ends this process in the middle of it would leave the end counted nowhere.
        sys::without_signals(|| job.count(outcome));
        if let Some(connection) = request::kind(job.request()).connection() {
            // The parent has the socket as well, and lingers.
            connection.end(false);
        }
        let status = i32::from(error.is_some());
        // A parent that is not there any more need not be told. The error is the user's, and may panic when it is told.
        let _ = unwind::run(job.acceptor().state().id, || report::report(&mut pipe, outcome, error));
        sys::exit_child(status, parent.has_one_thread)
    }

    /// In a child: closes what is only the parent's.
    #[cfg_attr(not(feature = "signals"), expect(unused_variables, reason = "signals end the child of a parent"))]
    fn enter_child<S: Service>(&self, job: &Job<S>, parent: &Parent) {
        #[cfg(feature = "signals")]
        crate::signals::enter_child(parent.id);
        let acceptor = job.acceptor();
        acceptor.state().enter_child();
        self.children.abandon();
        acceptor.state().lingering.lock_leader_clients().abandon();
        // A datagram is answered by the socket that it came to.
        if request::kind(job.request()).connection().is_some()
            && let Some(listener) = acceptor.take_listener_in_child()
        {
            // A `SocketServer` that processes single requests holds it too.
            sys::replace_with_closed_pipe(listener.as_fd());
            // The file of a Unix socket is its parent's to remove.
            mem::forget(listener);
        }
    }
}

/// How often a process is asked for its threads, a millisecond apart: one that was joined can be there a moment longer.
const LOOKS: u32 = 10;

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
                    "the system does not tell how many threads this process has, and one that has several cannot be \
                     forked safely: in the child, the locks of the others would stay locked; use concurrency = \
                     \"threading\", or set `allow_threads = true` if the process has one thread, or the handler uses no \
                     lock that another thread can hold"
                        .into(),
                );
            }
            Some(threads) if look == LOOKS => {
                return refuse(format!(
                    "a process that has {threads} threads cannot be forked safely: in the child, the locks of the \
                     others would stay locked; serve before threads are started, or on the main thread \
                     (`serve_forever`, not `spawn`), or use concurrency = \"threading\", or set `allow_threads = true` if \
                     the handler uses no lock that another thread can hold"
                ));
            }
            Some(_) => thread::sleep(Duration::from_millis(1)),
        }
    }
    Ok(())
}

//! How requests are served side by side: Python's `ThreadingMixIn` and `ForkingMixIn`.

use std::{any::TypeId, io, sync::Arc};

use crate::{
    acceptor::{Acceptor, EventSource},
    handle::ServerHandle,
    job::Job,
    options::Options,
    primitives::thread,
    service::Service,
    sys,
};

mod event_loop;
mod forking;
mod pool;
mod synchronous;
mod threading;

pub use event_loop::EventLoop;
pub use forking::Forking;
pub use pool::Pool;
pub use synchronous::Synchronous;
pub use threading::Threading;

/// A way of running one loop: accept a request, process it. In `concurrency = "…"` the words `"sync"`, `"threading"`,
/// `"pool"`, `"forking"` and `"event_loop"` stand for [`Synchronous`], [`Threading`], [`Pool`], [`Forking`] and
/// [`EventLoop`]; a path names a type of your
/// own:
///
/// ```
/// use sockserver::{Concurrency, Job, Service};
///
/// /// A new thread for each request.
/// #[derive(Default)]
/// struct ThreadEach;
///
/// impl Concurrency for ThreadEach {
///     fn process_request<S: Service>(&self, job: Job<S>) {
///         // If no thread can be started, the closure is dropped, and the request with it: the client is turned away.
///         let _ = std::thread::Builder::new().spawn(|| job.process());
///     }
/// }
/// ```
///
/// `bind` makes the value with [`Default`]; [`Server::bind_as`](crate::Server::bind_as) takes one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no way to serve requests",
    label = "`concurrency` is \"sync\", \"threading\", \"pool\", \"forking\", \"event_loop\" or a type that implements `Concurrency`"
)]
pub trait Concurrency: Send + Sync + Sized + 'static {
    /// Whether the server forks. Such a server starts no threads: the thread that serves keeps the deadlines itself.
    const FORKS: bool = false;

    /// Processes one accepted request: in place, on a thread, in a child process. Python's `process_request`.
    ///
    /// [`SocketServer::handle_request`](crate::SocketServer::handle_request) calls it, and unless it is overridden the
    /// loop of [`serve`](Self::serve).
    fn process_request<S: Service>(&self, job: Job<S>);

    /// Serves until [`Acceptor::accept`] returns `None`. After that the server waits for the requests that are still being
    /// processed.
    ///
    /// The place to make what the loop needs, like the threads of a pool and the channel that feeds them:
    ///
    /// ```
    /// use sockserver::{Acceptor, Concurrency, Job, Service};
    /// use std::{sync::{Arc, Mutex, mpsc}, thread};
    ///
    /// /// Two threads, each of which takes the next request from a channel.
    /// #[derive(Default)]
    /// struct Two;
    ///
    /// impl Concurrency for Two {
    ///     fn process_request<S: Service>(&self, job: Job<S>) {
    ///         job.process();
    ///     }
    ///
    ///     fn serve<S: Service>(&self, acceptor: &Arc<Acceptor<S>>) {
    ///         let (requests, queue) = mpsc::sync_channel::<Job<S>>(0);
    ///         let queue = Mutex::new(queue);
    ///         let next = || queue.lock().ok()?.recv().ok();
    ///         thread::scope(|scope| {
    ///             for _ in 0..2 {
    ///                 scope.spawn(|| while let Some(job) = next() { job.process() });
    ///             }
    ///             while let Some(job) = acceptor.accept() {
    ///                 // It fails only when both threads have ended, which they do after this loop.
    ///                 let _ = requests.send(job);
    ///             }
    ///             drop(requests);
    ///         });
    ///     }
    /// }
    /// ```
    fn serve<S: Service>(&self, acceptor: &Arc<Acceptor<S>>) {
        while let Some(job) = acceptor.accept() {
            self.process_request(job);
        }
    }

    /// How many requests are served at once. Default: `limits(connections)`, or 1024, or less where the process may not
    /// open that many descriptors.
    fn max_connections(&self, options: &Options) -> usize {
        options.limits.connections.unwrap_or_else(|| within_descriptors(1024, 1))
    }

    /// What the accept loop waits for besides requests. Default: nothing.
    fn event_source(&self) -> Option<Arc<dyn EventSource>> {
        None
    }
}

/// The word for a concurrency in the attribute. `None`: it is a type of the user's own.
pub(crate) fn word<C: Concurrency>() -> Option<&'static str> {
    let words = [
        (TypeId::of::<Synchronous>(), "sync"),
        (TypeId::of::<Threading>(), "threading"),
        (TypeId::of::<Pool>(), "pool"),
        (TypeId::of::<Forking>(), "forking"),
        (TypeId::of::<EventLoop>(), "event_loop"),
    ];
    words.into_iter().find(|(id, _)| *id == TypeId::of::<C>()).map(|(_, word)| word)
}

/// At most this many requests, if three quarters of the descriptors that the process may open are enough for them. The rest
/// is for the program: without descriptors the server could only wait and try again, while clients wait in the kernel's
/// queue in either case.
fn within_descriptors(requests: usize, descriptors_each: usize) -> usize {
    (sys::descriptor_limit() / 4 * 3 / descriptors_each).clamp(1, requests)
}

/// How many threads of this process can run at once.
fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Starts a worker thread of the server. The end of the server waits for it.
fn start_worker<S: Service>(
    acceptor: &Arc<Acceptor<S>>,
    name: String,
    serve: impl FnOnce(&Arc<Acceptor<S>>) + Send + 'static,
) -> io::Result<()> {
    let acceptor_of_thread = acceptor.clone();
    let worker = Worker::new(acceptor.handle());
    let work = move || {
        serve(&acceptor_of_thread);
        drop(acceptor_of_thread);
        let exits = worker.0.state().exits.clone();
        drop(worker);
        exits.wait();
    };
    thread(name, acceptor.options()).spawn(work).map(drop)
}

/// A worker thread is counted while there is one of these, also if it panics or cannot be started.
struct Worker(ServerHandle);

impl Worker {
    fn new(handle: &ServerHandle) -> Worker {
        handle.state().connections.worker_started();
        Worker(handle.clone())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.0.state().connections.worker_ended();
    }
}

/// Makes a thread with the stack size of the options.
fn thread(name: String, options: &Options) -> thread::Builder {
    let builder = thread::Builder::new().name(name);
    match options.stack_size {
        Some(bytes) => builder.stack_size(bytes),
        None => builder,
    }
}

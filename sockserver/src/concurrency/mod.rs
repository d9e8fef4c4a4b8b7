//! How requests are served side by side: Python's `ThreadingMixIn` and `ForkingMixIn`.

use std::{io, sync::Arc};

use crate::{accepted::Accepted, acceptor::Acceptor, options::Options, primitives::thread, server::Server};

mod forking;
mod pool;
mod sync;
mod threading;

pub use forking::Forking;
pub use pool::Pool;
pub use sync::Sync;
pub use threading::Threading;

/// A way of running one loop: accept a request, process it. In `concurrency = "…"` the words `"sync"`, `"threading"`,
/// `"pool"` and `"forking"` stand for [`Sync`], [`Threading`], [`Pool`] and [`Forking`]; a path names a type of your
/// own:
///
/// ```
/// use sockserver::{Accepted, Concurrency, Server};
///
/// /// A new thread for each request.
/// #[derive(Default)]
/// struct ThreadEach;
///
/// impl Concurrency for ThreadEach {
///     fn process_request<S: Server<Concurrency = Self>>(&self, accepted: Accepted<S>) {
///         // Where no thread can be had, the request is dropped with the closure: its client is turned away.
///         let _ = std::thread::Builder::new().spawn(|| accepted.process());
///     }
/// }
/// ```
///
/// A server makes its value with [`Default`] when it is bound.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no way to serve requests",
    label = "`concurrency` is \"sync\", \"threading\", \"pool\", \"forking\" or a type that implements `Concurrency`"
)]
pub trait Concurrency: Default + Send + std::marker::Sync + Sized + 'static {
    /// The server forks: no thread is started beside the one that serves, which keeps the deadlines itself.
    const FORKS: bool = false;

    /// Processes one accepted request: in place, on a thread, in a child process. Python's `process_request`.
    ///
    /// [`SocketServer::handle_request`](crate::SocketServer::handle_request) calls it, and unless it is overridden the
    /// loop of [`serve`](Self::serve).
    fn process_request<S: Server<Concurrency = Self>>(&self, accepted: Accepted<S>);

    /// Serves until the acceptor has no more. Requests that are still processed when this returns are waited for.
    ///
    /// What the loop needs is made here, like the threads of a pool and the channel that feeds them:
    ///
    /// ```
    /// use sockserver::{Accepted, Acceptor, Concurrency, Server};
    /// use std::{sync::{Arc, Mutex, mpsc}, thread};
    ///
    /// /// Two threads, each of which takes the next request from a channel.
    /// #[derive(Default)]
    /// struct Two;
    ///
    /// impl Concurrency for Two {
    ///     fn process_request<S: Server<Concurrency = Self>>(&self, accepted: Accepted<S>) {
    ///         accepted.process();
    ///     }
    ///
    ///     fn serve<S: Server<Concurrency = Self>>(&self, acceptor: &Arc<Acceptor<S>>) {
    ///         let (requests, queue) = mpsc::sync_channel::<Accepted<S>>(0);
    ///         let queue = Mutex::new(queue);
    ///         let next = || queue.lock().ok()?.recv().ok();
    ///         thread::scope(|scope| {
    ///             for _ in 0..2 {
    ///                 scope.spawn(|| while let Some(accepted) = next() { accepted.process() });
    ///             }
    ///             while let Some(accepted) = acceptor.next() {
    ///                 // It fails when nobody receives, which is so after the loop only.
    ///                 let _ = requests.send(accepted);
    ///             }
    ///             drop(requests);
    ///         });
    ///     }
    /// }
    /// ```
    fn serve<S: Server<Concurrency = Self>>(&self, acceptor: &Arc<Acceptor<S>>) {
        while let Some(accepted) = acceptor.next() {
            self.process_request(accepted);
        }
    }

    /// How many requests are served at once. Default: `limits(connections)`, or 1024.
    fn connections(options: &Options) -> usize {
        options.limits.connections.unwrap_or(1024)
    }
}

/// Starts a thread of the server, whose end is waited for.
fn enlist<S: Server>(
    acceptor: &Arc<Acceptor<S>>,
    name: String,
    serve: impl FnOnce(&Arc<Acceptor<S>>) + Send + 'static,
) -> io::Result<()> {
    let handle = acceptor.handle().clone();
    handle.control().connections.enlist();
    let acceptor_of_thread = acceptor.clone();
    let dismissed = handle.clone();
    let exits = handle.control().exits.clone();
    let serve_and_leave = move || {
        serve(&acceptor_of_thread);
        drop(acceptor_of_thread);
        dismissed.control().connections.dismiss();
        drop(dismissed);
        exits.wait();
    };
    thread(name, acceptor.options())
        .spawn(serve_and_leave)
        .map(drop)
        .inspect_err(|_| handle.control().connections.dismiss())
}

/// A thread with the stack that the options ask for.
fn thread(name: String, options: &Options) -> thread::Builder {
    let builder = thread::Builder::new().name(name);
    match options.stack_size {
        Some(bytes) => builder.stack_size(bytes),
        None => builder,
    }
}

//! A fixed number of threads.

use std::sync::Arc;

use crate::{
    acceptor::Acceptor,
    concurrency::Concurrency,
    error::Stage,
    job::Job,
    options::{OnLimit, Options},
    service::Service,
};

/// `"pool"`: a fixed number of threads (`workers`), each of which serves one request at a time.
///
/// A connection holds its worker until it ends, also while its client is silent: as many silent clients as there are workers
/// keep all others out. [`timeouts(idle = …)`](crate::Timeouts::idle) ends silent connections, and
/// [the guide](crate::guide::choosing#how-a-pool-starves) shows how.
///
/// The thread that calls `serve_forever` only waits for the end, unless a worker cannot be started: then it serves in its
/// place. [`handle_request`](crate::SocketServer::handle_request) starts no workers and processes its request itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pool;

impl Concurrency for Pool {
    fn process_request<S: Service>(&self, job: Job<S>) {
        job.process();
    }

    fn serve<S: Service>(&self, acceptor: &Arc<Acceptor<S>>) {
        let Options { limits, .. } = acceptor.options();
        // One more thread, so that new clients are rejected while all workers are busy.
        let rejecting = usize::from(limits.on_limit == OnLimit::Reject);
        let threads = workers(acceptor.options()).saturating_add(rejecting);
        for number in 1..=threads {
            if let Err(error) = super::start_worker(acceptor, format!("sockserver-pool-{number}"), work) {
                acceptor.report(Stage::Serve, error);
                work(acceptor);
                break;
            }
        }
        acceptor.wait_for_stop();
    }

    fn max_connections(&self, options: &Options) -> usize {
        workers(options).min(options.limits.connections.unwrap_or(usize::MAX))
    }
}

fn workers(options: &Options) -> usize {
    options.workers.unwrap_or_else(|| 4 * super::processors())
}

fn work<S: Service>(acceptor: &Arc<Acceptor<S>>) {
    while let Some(job) = acceptor.accept() {
        job.process();
    }
}

//! A fixed number of threads.

use std::{sync::Arc, thread};

use crate::{
    accepted::Accepted,
    acceptor::Acceptor,
    concurrency::Concurrency,
    handler::Stage,
    options::{OnLimit, Options},
    server::Server,
};

/// `"pool"`: a fixed number of threads (`workers`), each of which serves one request at a time.
///
/// The thread that serves only waits for the end, unless one of the others cannot be started. Under
/// [`handle_request`](crate::SocketServer::handle_request) it is the only one, and the request is processed in place.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pool;

impl Concurrency for Pool {
    fn process_request<S: Server<Concurrency = Self>>(&self, accepted: Accepted<S>) {
        accepted.process();
    }

    fn serve<S: Server<Concurrency = Self>>(&self, acceptor: &Arc<Acceptor<S>>) {
        let Options { limits, .. } = acceptor.options();
        // While all workers are busy, one more turns away those who come.
        let bouncers = usize::from(limits.on_limit == OnLimit::Reject);
        let threads = workers(acceptor.options()).saturating_add(bouncers);
        for number in 1..=threads {
            if let Err(error) = super::enlist(acceptor, format!("sockserver-pool-{number}"), work) {
                acceptor.report(Stage::Serve, error);
                work(acceptor);
                break;
            }
        }
        acceptor.wait_for_stop();
    }

    fn connections(options: &Options) -> usize {
        workers(options).min(options.limits.connections.unwrap_or(usize::MAX))
    }
}

fn workers(options: &Options) -> usize {
    options.workers.unwrap_or_else(|| 4 * thread::available_parallelism().map_or(1, usize::from))
}

fn work<S: Server>(acceptor: &Arc<Acceptor<S>>) {
    while let Some(accepted) = acceptor.next() {
        accepted.process();
    }
}

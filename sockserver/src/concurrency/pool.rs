//! A fixed number of threads.

use std::{sync::Arc, thread};

use crate::{
    accepted::Accepted,
    acceptor::Acceptor,
    concurrency::Concurrency,
    handler::{HandlerError, Stage},
    options::Options,
    server::Server,
};

/// `"pool"`: a fixed number of threads (`workers`), each of which serves one request at a time.
///
/// The thread that serves is one of them. Under [`handle_request`](crate::SocketServer::handle_request) there are no
/// others, and the request is processed in place.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pool;

impl Concurrency for Pool {
    fn process_request<S: Server<Concurrency = Self>>(&self, accepted: Accepted<S>) {
        accepted.process();
    }

    fn serve<S: Server<Concurrency = Self>>(&self, acceptor: &Arc<Acceptor<S>>) {
        for number in 1..workers(acceptor.options()) {
            let worker = acceptor.clone();
            let name = format!("sockserver-pool-{number}");
            if let Err(error) = super::thread(name, acceptor.options()).spawn(move || work(&worker)) {
                let error = HandlerError::new(Stage::ProcessRequest, error);
                acceptor.handle_error(error, acceptor.handle().server_address());
                break;
            }
        }
        work(acceptor);
    }

    fn connections(options: &Options) -> usize {
        workers(options)
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

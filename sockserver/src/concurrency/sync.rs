//! One request at a time.

use crate::{accepted::Accepted, concurrency::Concurrency, options::Options, server::Server};

/// `"sync"`: one request at a time, on the thread that serves. Python's servers without a mix-in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sync;

impl Concurrency for Sync {
    fn process_request<S: Server<Concurrency = Self>>(&self, accepted: Accepted<S>) {
        accepted.process();
    }

    fn connections(_options: &Options) -> usize {
        1
    }
}

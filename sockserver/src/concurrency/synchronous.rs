//! One request at a time.

use crate::{concurrency::Concurrency, job::Job, options::Options, service::Service};

/// `"sync"`: one request at a time, on the thread that serves. Python's servers without a mix-in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Synchronous;

impl Concurrency for Synchronous {
    fn process_request<S: Service>(&self, job: Job<S>) {
        job.process();
    }

    fn max_connections(&self, _options: &Options) -> usize {
        1
    }
}

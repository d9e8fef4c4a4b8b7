//! As many threads as there are requests: leader and followers.

use std::{io, sync::Arc};

use crate::{
    acceptor::Acceptor,
    concurrency::Concurrency,
    error::Stage,
    job::Job,
    primitives::{
        Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    service::Service,
};

/// `"threading"`: a thread for each request that is under way. Python's `ThreadingMixIn`.
///
/// One idle thread, the leader, waits for a request and processes it itself. If it was the last idle thread, it starts
/// another one first. A thread that has finished becomes idle again, or ends if 16 threads are idle already. So a
/// request costs a new thread only when no thread is idle.
///
/// If no thread can be started, the request is processed all the same, and the server accepts again when a thread has
/// finished. The thread that calls `serve_forever` only waits for the end, unless no other thread can be started.
#[derive(Debug, Default)]
pub struct Threading {
    /// Shared with the threads, which can outlive this value.
    threads: Arc<Threads>,
}

#[derive(Debug, Default)]
struct Threads {
    /// How many threads serve no request: the leader, the threads that wait to lead, and the threads just started.
    idle: AtomicUsize,
    started: AtomicUsize,
}

/// So many threads stay idle at most. As many requests can come at once without costing a new thread.
const MAX_IDLE: usize = 16;

impl Concurrency for Threading {
    /// Starts a thread for the request: `handle_request` calls this, `serve_forever` does not.
    fn process_request<S: Service>(&self, job: Job<S>) {
        if job.is_too_late() {
            return;
        }
        let acceptor = job.acceptor().clone();
        // If `spawn` fails it drops the closure: the job stays outside of it, so that it can be processed here.
        let job = Arc::new(Mutex::new(Some(job)));
        let job_of_thread = job.clone();
        let process = |job: &Mutex<Option<Job<S>>>| {
            // The lock is released before the handler runs.
            let job = job.lock().take();
            job.map(Job::process)
        };
        if super::thread(self.threads.name(), acceptor.options()).spawn(move || process(&job_of_thread)).is_err() {
            process(&job);
        }
    }

    fn serve<S: Service>(&self, acceptor: &Arc<Acceptor<S>>) {
        if let Err(error) = self.threads.start_another(acceptor) {
            acceptor.report(Stage::Serve, error);
            self.threads.idle.fetch_add(1, SeqCst);
            self.threads.lead_and_follow(acceptor);
        }
        acceptor.wait_for_stop();
    }
}

impl Threads {
    fn name(&self) -> String {
        format!("sockserver-{}", self.started.fetch_add(1, SeqCst) + 1)
    }

    /// Serves, until the server stops or enough other threads are idle.
    fn lead_and_follow<S: Service>(self: &Arc<Self>, acceptor: &Arc<Acceptor<S>>) {
        while let Some(job) = acceptor.accept_unverified() {
            if self.idle.fetch_sub(1, SeqCst) == 1 {
                // If no thread can be started, nothing is accepted until this request has ended.
                let _ = self.start_another(acceptor);
            }
            if let Some(job) = job.verify() {
                job.process();
            }
            // Compared and counted in one step: another thread that accepts meanwhile must not count this thread as idle
            // when it is about to end.
            let stay = |idle| (idle < MAX_IDLE).then_some(idle + 1);
            if self.idle.fetch_update(SeqCst, SeqCst, stay).is_err() {
                return;
            }
        }
        self.idle.fetch_sub(1, SeqCst);
    }

    fn start_another<S: Service>(self: &Arc<Self>, acceptor: &Arc<Acceptor<S>>) -> io::Result<()> {
        self.idle.fetch_add(1, SeqCst);
        let threads = self.clone();
        super::start_worker(acceptor, self.name(), move |acceptor| threads.lead_and_follow(acceptor)).inspect_err(
            |_| {
                self.idle.fetch_sub(1, SeqCst);
            },
        )
    }
}

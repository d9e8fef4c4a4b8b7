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
/// One idle thread, the leader, waits for a request and processes it itself; if it was the last idle one it starts
/// another first. A thread that has finished becomes idle again, or ends if there are several already. So a request
/// costs a new thread only when no thread is idle.
///
/// If no thread can be started, the request is processed all the same, and no further one is accepted until a thread is
/// free. The thread that serves only waits for the end, unless it is the only one there is.
#[derive(Debug, Default)]
pub struct Threading {
    /// Shared with the threads, which can outlive the serving.
    threads: Arc<Threads>,
}

#[derive(Debug, Default)]
struct Threads {
    /// The leader, those who wait to be it, and those who have been started to do so.
    idle: AtomicUsize,
    started: AtomicUsize,
}

/// How many threads stay idle: enough for the next requests of as many clients that come one after the other.
const IDLE: usize = 16;

impl Concurrency for Threading {
    /// Outside of the loop of `serve_forever` a new thread is started for the request.
    fn process_request<S: Service>(&self, job: Job<S>) {
        if job.is_too_late() {
            return;
        }
        let acceptor = job.acceptor().clone();
        // If `spawn` fails it drops the closure: the job stays outside of it, so that it can be processed here.
        let job = Arc::new(Mutex::new(Some(job)));
        let job_of_thread = job.clone();
        let process = |job: &Mutex<Option<Job<S>>>| {
            // The lock is free again when the user's code runs.
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

    /// Serves as an idle thread, until there are enough others.
    fn lead_and_follow<S: Service>(self: &Arc<Self>, acceptor: &Arc<Acceptor<S>>) {
        while let Some(job) = acceptor.accept_unverified() {
            if self.idle.fetch_sub(1, SeqCst) == 1 {
                // If there is none, this request is served first.
                let _ = self.start_another(acceptor);
            }
            if let Some(job) = job.verify() {
                job.process();
            }
            // In one step: the others may accept at any moment, and none of them is to count on a thread that is
            // leaving.
            let stay = |idle| (idle < IDLE).then_some(idle + 1);
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

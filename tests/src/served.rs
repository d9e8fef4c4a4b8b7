//! Servers that never run longer than a test may.

use std::{
    ops::Deref,
    process,
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread,
    time::Duration,
};

use sockserver::{DrainReport, RunningServer, Server, ServerHandle, SocketServer};

/// A server on a thread of its own, which is stopped when this is dropped.
#[derive(Debug)]
pub struct Served {
    running: RunningServer,
    _watchdog: Watchdog,
}

impl Served {
    #[track_caller]
    pub fn new<S: Server>(server: SocketServer<S>) -> Served {
        Served { _watchdog: Watchdog::new(), running: server.spawn().expect("a thread") }
    }

    /// Stops the server and waits until it has ended.
    #[track_caller]
    pub fn stop(self) -> DrainReport {
        self.running.stop().expect("it has served")
    }
}

impl Deref for Served {
    type Target = ServerHandle;

    fn deref(&self) -> &ServerHandle {
        &self.running
    }
}

/// Ends the test process if a test hangs where no deadline can reach it: in the code under test.
#[derive(Debug)]
pub struct Watchdog {
    _test_has_ended: Sender<()>,
}

impl Watchdog {
    const LIFE: Duration = Duration::from_secs(120);

    #[expect(clippy::new_without_default, reason = "making one starts a thread")]
    pub fn new() -> Watchdog {
        let test = thread::current().name().unwrap_or("a test").to_owned();
        let (sender, receiver) = mpsc::channel::<()>();
        thread::spawn(move || {
            if receiver.recv_timeout(Watchdog::LIFE) == Err(RecvTimeoutError::Timeout) {
                eprintln!("{test} hangs");
                process::abort();
            }
        });
        Watchdog { _test_has_ended: sender }
    }
}

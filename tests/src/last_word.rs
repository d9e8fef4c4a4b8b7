//! The server `last_word`, started by a test, and looked at from outside.

use std::ops::{Deref, DerefMut};

use crate::{
    client::Client,
    concurrencies::Word,
    place::Place,
    process::{ServerProcess, server},
};

/// What its handlers write: no two places of it look the same for long.
pub fn word(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at % 251) as u8).collect()
}

/// A server in a process of its own, whose handlers end before their clients.
#[derive(Debug)]
pub struct LastWord {
    process: ServerProcess,
    /// How many it has without a client.
    sockets: usize,
}

impl LastWord {
    #[track_caller]
    pub fn start<C: Word>(transport: &str, when: &str, bytes: usize, options: &[&str]) -> LastWord {
        let mut command = server("last_word");
        command.args([transport, C::WORD, when, &bytes.to_string()]).args(options);
        let process = ServerProcess::start(command, Place::of(transport));
        LastWord { sockets: process.observed().sockets(), process }
    }

    #[track_caller]
    pub fn connect(&self) -> Client {
        Client::connect(self.address())
    }

    /// Waits until so many handlers have ended.
    #[track_caller]
    pub fn wait_for_ends(&self, handlers: usize) {
        (0..handlers).for_each(|_| drop(self.line_after("ended")));
    }

    /// How many connections it has, those included whose handlers have ended.
    pub fn connections(&self) -> usize {
        self.observed().sockets().saturating_sub(self.sockets)
    }

    /// How many threads it has that wait for clients whose handlers have ended.
    pub fn lingering_threads(&self) -> usize {
        // The kernel keeps 15 bytes of a name.
        self.observed().thread_names().iter().filter(|name| *name == "sockserver-ling").count()
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub fn expect_success(mut self) {
        let status = self.ended();
        assert!(status.success(), "{status}");
    }
}

impl Deref for LastWord {
    type Target = ServerProcess;

    fn deref(&self) -> &ServerProcess {
        &self.process
    }
}

impl DerefMut for LastWord {
    fn deref_mut(&mut self) -> &mut ServerProcess {
        &mut self.process
    }
}

//! The server `lines`, started by a test, and looked at from outside.

use std::{
    io::{Read, Write},
    net::Shutdown,
    ops::{Deref, DerefMut},
    process::Command,
};

use crate::{
    client::Client,
    concurrencies::Word,
    place::Place,
    process::{ServerProcess, server, server_program},
    resources::Observed,
};

/// A server in a process of its own.
#[derive(Debug)]
pub struct LineServer {
    process: ServerProcess,
}

impl LineServer {
    #[track_caller]
    pub fn start<C: Word>(options: &[&str]) -> LineServer {
        let mut command = server("lines");
        command.arg(C::WORD).args(options);
        LineServer { process: ServerProcess::start(command, Place::of("tcp")) }
    }

    /// As [`start`](Self::start), in a process that may open so many descriptors.
    #[track_caller]
    pub fn start_within<C: Word>(descriptors: usize) -> LineServer {
        let mut command = Command::new("sh");
        command.args(["-c", r#"ulimit -n "$1" && shift && exec "$@""#, "sh"]);
        command.arg(descriptors.to_string()).arg(server_program()).args(["lines", C::WORD]);
        LineServer { process: ServerProcess::start(command, Place::of("tcp")) }
    }

    pub fn observed(&self) -> Observed {
        Observed::of(self.id())
    }

    #[track_caller]
    pub fn connect(&self) -> Client {
        Client::connect(self.address())
    }

    /// What it answers to one line on a connection of its own.
    #[track_caller]
    pub fn ask(&self, line: &str) -> String {
        self.connect().ask(line)
    }

    /// As [`ask`](Self::ask), or `None` if it turns the client away.
    pub fn try_ask(&self, line: &str) -> Option<String> {
        let client = Client::try_connect(self.address()).ok()?;
        let mut socket = client.socket();
        socket.write_all(format!("{line}\n").as_bytes()).ok()?;
        client.socket().shutdown(Shutdown::Write).ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).ok()?;
        Some(answer.strip_suffix('\n')?.to_owned())
    }

    /// Stops it and waits for its end.
    #[track_caller]
    pub fn stop(self) {
        self.connect().send("stop\n");
        self.expect_success();
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub fn expect_success(mut self) {
        let status = self.ended();
        assert!(status.success(), "{status}");
    }
}

impl Deref for LineServer {
    type Target = ServerProcess;

    fn deref(&self) -> &ServerProcess {
        &self.process
    }
}

impl DerefMut for LineServer {
    fn deref_mut(&mut self) -> &mut ServerProcess {
        &mut self.process
    }
}

/// One of the counters that the answer to `stats` has.
#[track_caller]
pub fn stat(stats: &str, name: &str) -> u64 {
    let value = stats.split([' ', ',']).skip_while(|&word| word.strip_suffix(':') != Some(name)).nth(1);
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {stats}"))
}

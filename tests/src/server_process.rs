//! The program `line-server`, started by a test and measured from outside.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr},
    process::{Child, ChildStdout, Command, Stdio},
};

use sockserver::Address;

use crate::{
    client::{Client, eventually},
    concurrencies::Word,
    place::Place,
    resources::Process,
};

/// A server in a process of its own, which ends with this value.
pub struct ServerProcess {
    child: Child,
    address: Address,
    /// Open until the end, so that printing does not fail.
    _stdout: BufReader<ChildStdout>,
    /// What it has written to its standard error: in a file, as a pipe that nobody reads would hold it up.
    stderr: Place,
}

impl ServerProcess {
    /// Starts `line-server`, which is in that file, and waits until it is bound.
    pub fn start<C: Word>(program: &str, options: &[&str]) -> ServerProcess {
        let place = Place::unix();
        let stderr = File::create_new(place.path()).expect("a file");
        let mut child = Command::new(program)
            .arg(C::WORD)
            .args(options)
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut address = String::new();
        stdout.read_line(&mut address).expect("text");
        let address = address.trim_end().parse::<SocketAddr>().expect("its address").into();
        ServerProcess { child, address, _stdout: stdout, stderr: place }
    }

    pub fn address(&self) -> &Address {
        &self.address
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn process(&self) -> Process {
        Process::of(self.pid())
    }

    pub fn connect(&self) -> Client {
        Client::connect(&self.address)
    }

    /// What it answers to one line on a connection of its own.
    pub fn ask(&self, line: &str) -> String {
        self.connect().ask(line)
    }

    /// As [`ask`](Self::ask), or `None` if it turns the client away.
    pub fn try_ask(&self, line: &str) -> Option<String> {
        let client = Client::try_connect(&self.address).ok()?;
        let mut socket = client.socket();
        socket.write_all(format!("{line}\n").as_bytes()).ok()?;
        client.socket().shutdown(Shutdown::Write).ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).ok()?;
        Some(answer.strip_suffix('\n')?.to_owned())
    }

    /// What it has written to its standard error so far.
    pub fn said(&self) -> String {
        fs::read_to_string(self.stderr.path()).expect("text")
    }

    /// One of the counters of its `Stats`.
    pub fn stat(&self, name: &str) -> u64 {
        stat(&self.ask("stats"), name)
    }

    /// Stops it, waits for its end, and returns what it has written to its standard error.
    pub fn stop(mut self) -> String {
        self.connect().send("stop\n");
        let mut status = None;
        eventually("the server has ended", || {
            status = self.child.try_wait().expect("its status");
            status.is_some()
        });
        let said = self.said();
        assert!(status.is_some_and(|status| status.success()), "{status:?}: {said}");
        said
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One of the counters that the answer to `stats` has.
pub fn stat(stats: &str, name: &str) -> u64 {
    let value = stats.split([' ', ',']).skip_while(|&word| word.strip_suffix(':') != Some(name)).nth(1);
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {stats}"))
}

//! The servers under test. Each answers lines with themselves (after having computed, if the line says so), lines with
//! 64 KiB, or packets with themselves, in the way that a careful user of it would write.

use std::{
    env,
    io::{self, Read, Write},
    path::PathBuf,
    process::{self, Command},
    time::{Duration, Instant},
};

pub mod limit;
pub mod may;
pub mod ours;
pub mod std_threads;
pub mod tokio;

/// What a server does for its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Answers each line with itself, on connections that come for one line.
    OneLine,
    /// Answers each line with itself, on connections that stay.
    Lines,
    /// The same, but computes before it answers a line that begins with [`COMPUTE`].
    Computing,
    /// Answers each line with [`BULK`].
    Bulk,
    /// Answers each packet with itself.
    Packets,
}

/// An answer of [`Service::Bulk`].
pub static BULK: [u8; 64 * 1024] = [b'x'; 64 * 1024];

/// How a line begins that makes [`Service::Computing`] compute. The peers in other languages know it too.
pub const COMPUTE: u8 = b'c';

/// Keeps its thread busy for 100 ms, if the line says so. That is time as the clock on the wall has it, since a goroutine
/// has no other one.
fn compute_if_told(line: &[u8]) {
    if line.first() == Some(&COMPUTE) {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(100) {
            std::hint::spin_loop();
        }
    }
}

impl Service {
    const ALL: [(Service, &str); 5] = [
        (Service::OneLine, "one-line"),
        (Service::Lines, "lines"),
        (Service::Computing, "computing"),
        (Service::Bulk, "bulk"),
        (Service::Packets, "packets"),
    ];

    pub fn name(self) -> &'static str {
        Service::ALL.iter().find(|(service, _)| *service == self).map_or("", |(_, name)| name)
    }

    fn named(name: &str) -> Option<Service> {
        Service::ALL.iter().find(|(_, its)| *its == name).map(|(service, _)| *service)
    }
}

/// A server that can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    Ours,
    /// Ours, which also stops on signals: what that costs. Next to [`Ours`](Peer::Ours) in [`ALL`](Peer::ALL), so that
    /// in nearly all rounds the two are measured one right after the other.
    OursOnSignals,
    Limit,
    StdThreads,
    Tokio,
    May,
    Go,
    Python,
}

impl Peer {
    pub const ALL: [Peer; 8] = [
        Peer::Ours,
        Peer::OursOnSignals,
        Peer::Limit,
        Peer::StdThreads,
        Peer::Tokio,
        Peer::May,
        Peer::Go,
        Peer::Python,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Peer::Ours => "sockserver",
            Peer::OursOnSignals => "sockserver with signals",
            Peer::Limit => "limit",
            Peer::StdThreads => "std thread each",
            Peer::Tokio => "tokio",
            Peer::May => "may",
            Peer::Go => "Go",
            Peer::Python => "CPython",
        }
    }

    pub fn named(name: &str) -> Option<Peer> {
        Peer::ALL.into_iter().find(|peer| peer.name() == name)
    }

    /// The program that serves, or `None` where it is not installed.
    pub fn program(self) -> Option<Program> {
        match self {
            Peer::Go => Some(Program { path: go_program()?, arguments: Vec::new() }),
            Peer::Python => {
                let script = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/server.py");
                let installed = succeeds(Command::new("python3").arg("--version"));
                installed.then(|| Program { path: "python3".into(), arguments: vec![script] })
            }
            _ => Some(Program { path: env::current_exe().ok()?, arguments: vec!["serve", self.name()] }),
        }
    }
}

pub struct Program {
    path: PathBuf,
    arguments: Vec<&'static str>,
}

impl Program {
    pub fn command(&self, service: Service) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).arg(service.name());
        command
    }
}

/// What this program does as `serve PEER SERVICE`: prints its port, and serves until its input ends.
pub fn serve(peer: &str, service: &str) -> io::Result<()> {
    let unknown = || io::Error::new(io::ErrorKind::InvalidInput, "serve PEER SERVICE");
    let service = Service::named(service).ok_or_else(unknown)?;
    match Peer::named(peer).ok_or_else(unknown)? {
        Peer::Ours => ours::serve(service, false),
        Peer::OursOnSignals => ours::serve(service, true),
        Peer::Limit => limit::serve(service),
        Peer::StdThreads => std_threads::serve(service),
        Peer::Tokio => tokio::serve(service),
        Peer::May => may::serve(service),
        Peer::Go | Peer::Python => Err(unknown()),
    }
}

fn announce(port: u16) {
    println!("{port}");
}

fn stopped() {
    println!("stopped");
}

/// Calls `stop` when standard input ends.
fn when_told(stop: impl FnOnce() + Send + 'static) {
    std::thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        stop();
    });
}

/// For servers that cannot be stopped.
fn exit_when_told() {
    when_told(|| process::exit(0));
}

/// Compiles the Go server once, beside this program.
fn go_program() -> Option<PathBuf> {
    let program = env::current_exe().ok()?.with_file_name("sockserver-benches-go");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/server.go");
    succeeds(Command::new("go").arg("build").arg("-o").arg(&program).arg(source)).then_some(program)
}

fn succeeds(command: &mut Command) -> bool {
    match command.output() {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            let _ = io::stderr().write_all(&output.stderr);
            false
        }
        Err(_) => false,
    }
}

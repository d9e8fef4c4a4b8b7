//! The servers under test. Each answers lines with themselves (after having computed, if the line says so), lines with
//! 64 KiB, or packets with themselves, or sends lines to all, in the way that a careful user of it would write. Two of
//! them are stores that redis-benchmark talks to.

use std::{
    env,
    io::{self, Read, Write},
    net::TcpListener,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{self, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::workload::LINE;

pub mod limit;
pub mod may;
pub mod nginx;
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
    /// The same, until the server is stopped while they are idle.
    Stopping,
    /// The same, but computes before it answers a line that begins with [`COMPUTE`] or [`COMPUTE_BRIEFLY`], and blocks before
    /// one with [`BLOCK`].
    Computing,
    /// Answers each line with [`BULK`].
    Bulk,
    /// Greets each connection with a [`GREETING`], and sends each line to all connections.
    Broadcast,
    /// Stores what Redis's clients send.
    Store,
    /// Answers each packet with itself.
    Packets,
    /// [`Lines`](Service::Lines) over TLS.
    TlsLines,
    /// [`Bulk`](Service::Bulk) over TLS.
    TlsBulk,
}

/// The certificate of all servers, for `localhost`, and its key, which everybody has.
pub const CERTIFICATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/localhost.pem");
pub const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/localhost.key");

/// What a connection of [`Service::Broadcast`] is sent once it is a member: as long as each of the lines.
pub static GREETING: [u8; LINE] = [b'\n'; LINE];

/// An answer of [`Service::Bulk`].
pub static BULK: [u8; 64 * 1024] = [b'x'; 64 * 1024];

/// How a line begins that makes [`Service::Computing`] compute. The peers in other languages know it too.
pub const COMPUTE: u8 = b'c';

/// How a line begins that makes [`Service::Computing`] compute for 20 µs.
pub const COMPUTE_BRIEFLY: u8 = b's';

/// How a line begins that makes [`Service::Computing`] wait for something else.
pub const BLOCK: u8 = b'b';

const SLOW: Duration = Duration::from_millis(100);
const BRIEF: Duration = Duration::from_micros(20);

/// Keeps its thread busy, or blocked, if the line says so. That is time as the clock on the wall has it, since a goroutine
/// has no other one.
fn be_slow_if_told(line: &[u8]) {
    let compute = |time: Duration| {
        let begun = Instant::now();
        while begun.elapsed() < time {
            std::hint::spin_loop();
        }
    };
    match line.first() {
        Some(&COMPUTE) => compute(SLOW),
        Some(&COMPUTE_BRIEFLY) => compute(BRIEF),
        Some(&BLOCK) => thread::sleep(SLOW),
        _ => {}
    }
}

impl Service {
    const ALL: [(Service, &str); 10] = [
        (Service::OneLine, "one-line"),
        (Service::Lines, "lines"),
        (Service::Stopping, "stopping"),
        (Service::Computing, "computing"),
        (Service::Bulk, "bulk"),
        (Service::Broadcast, "broadcast"),
        (Service::Store, "store"),
        (Service::Packets, "packets"),
        (Service::TlsLines, "tls-lines"),
        (Service::TlsBulk, "tls-bulk"),
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
    /// Ours with a message handler in place of a request handler: what the framing costs.
    OursOnMessages,
    /// Ours on an event loop.
    OursOnLoop,
    /// Ours on two event loops.
    OursOnLoops,
    /// Ours on an event loop that may not start another one.
    OursOnOneLoop,
    Limit,
    StdThreads,
    Tokio,
    May,
    Go,
    Python,
    Redis,
    Nginx,
}

impl Peer {
    pub const ALL: [Peer; 14] = [
        Peer::Ours,
        Peer::OursOnSignals,
        Peer::OursOnMessages,
        Peer::OursOnLoop,
        Peer::OursOnLoops,
        Peer::OursOnOneLoop,
        Peer::Limit,
        Peer::StdThreads,
        Peer::Tokio,
        Peer::May,
        Peer::Go,
        Peer::Python,
        Peer::Redis,
        Peer::Nginx,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Peer::Ours => "sockserver",
            Peer::OursOnSignals => "sockserver with signals",
            Peer::OursOnMessages => "sockserver on messages",
            Peer::OursOnLoop => "sockserver on a loop",
            Peer::OursOnLoops => "sockserver on two loops",
            Peer::OursOnOneLoop => "sockserver on one loop",
            Peer::Limit => "limit",
            Peer::StdThreads => "std thread each",
            Peer::Tokio => "tokio",
            Peer::May => "may",
            Peer::Go => "Go",
            Peer::Python => "CPython",
            Peer::Redis => "redis-server",
            Peer::Nginx => "nginx",
        }
    }

    /// What sets a sockserver apart from [`Ours`](Peer::Ours), with which it is compared.
    pub fn variant(self) -> Option<&'static str> {
        match self {
            Peer::OursOnSignals => Some(" with signals"),
            Peer::OursOnMessages => Some(" on messages"),
            _ => None,
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
            Peer::Redis if !succeeds(Command::new("redis-server").arg("--version")) => None,
            Peer::Nginx if !succeeds(Command::new("nginx").arg("-v")) => None,
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
        Peer::Ours if service == Service::Store => Err(kv_example()?.arg("127.0.0.1:0").exec()),
        Peer::Ours => ours::serve(service, false),
        Peer::OursOnSignals => ours::serve(service, true),
        Peer::OursOnMessages => ours::serve_messages(),
        Peer::OursOnLoop if service == Service::Store => kv_on_loop::main(),
        Peer::OursOnLoop => ours::serve_on_loops(service, None),
        Peer::OursOnLoops => ours::serve_on_loops(service, Some(2)),
        Peer::OursOnOneLoop => ours::serve_on_loops(service, Some(1)),
        Peer::Limit => limit::serve(service),
        Peer::StdThreads => std_threads::serve(service),
        Peer::Tokio => tokio::serve(service),
        Peer::May => may::serve(service),
        Peer::Redis => Err(redis_server()?.exec()),
        Peer::Nginx => nginx::serve(),
        Peer::Go | Peer::Python => Err(unknown()),
    }
}

// The example `kv` with another word: see build.rs.
include!(concat!(env!("OUT_DIR"), "/kv_on_loop.rs"));

fn announce(port: u16) {
    println!("{port}");
}

fn stopped() {
    println!("stopped");
}

/// Calls `stop` when standard input ends.
fn when_told(stop: impl FnOnce() + Send + 'static) {
    thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        stop();
    });
}

/// For servers that cannot be stopped.
fn exit_when_told() {
    when_told(|| process::exit(0));
}

/// The example `kv`, which is compiled beside this program unless it is up to date.
fn kv_example() -> io::Result<Command> {
    let this = env::current_exe()?;
    let target = this.ancestors().nth(2).ok_or(io::ErrorKind::NotFound)?;
    let mut cargo = Command::new("cargo");
    cargo.args([
        "build",
        "--quiet",
        "--release",
        "--package",
        "sockserver-examples",
        "--example",
        "kv",
        "--target-dir",
    ]);
    match succeeds(cargo.arg(target).current_dir(env!("CARGO_MANIFEST_DIR").to_owned() + "/../..")) {
        true => Ok(Command::new(target.join("release/examples/kv"))),
        false => Err(io::Error::other("the example `kv` cannot be built")),
    }
}

/// A Redis that saves nothing, as `kv` does. It does not say which port it takes, so it is told.
fn redis_server() -> io::Result<Command> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    announce(port);
    let mut redis = Command::new("redis-server");
    redis.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port", &port.to_string()]);
    redis.stdout(Stdio::null());
    Ok(redis)
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

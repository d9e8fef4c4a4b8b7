//! A server for a storm: clients of all kinds at once, while it is steered and in the end shut down.

use std::{
    io::Write,
    marker::PhantomData,
    panic, process,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use signal_hook::{
    consts::{SIGKILL, SIGTERM},
    low_level,
};
use sockserver::{
    Address, Concurrency, HandlerError, HandlerResult, MessageHandler, Reader, RequestHandler, Server, ServerHandle,
    Stats, Stream, Writer, message_handler, request_handler,
};

use crate::either::Either;

/// How long one server lasts.
pub const ROUND: Duration = Duration::from_millis(500);

/// How many connections a server has at once.
pub const CONNECTIONS: u64 = 8;

/// How long a handler works that does not look at its client.
pub const HANG: Duration = Duration::from_millis(100);

#[derive(Debug, Server)]
#[server(
    transport = "tcp",
    concurrency = C,
    handler = Either<Session<C>, LineSession<C>>,
    workers = 8,
    limits(connections = 8, on_limit = "reject"),
    timeouts(idle = "20ms", lifetime = "50ms", shutdown = "10s"),
    hooks(
        server_activate = Self::keep,
        verify_request = Self::is_welcome,
        handle_error = Self::ignore,
        service_actions = Self::take_turn,
    ),
)]
pub struct Ship<C: Concurrency + Default> {
    /// How many handlers have started.
    pub started: AtomicU64,
    /// What the thread that serves does between two requests.
    turn: fn(&ServerHandle),
    handle: OnceLock<ServerHandle>,
    concurrency: PhantomData<C>,
}

#[derive(Debug)]
#[request_handler]
pub struct Session<C: Concurrency + Default> {
    rfile: Reader,
    wfile: Writer,
    server: Arc<Ship<C>>,
}

impl<C: Concurrency + Default> Ship<C> {
    pub fn new(turn: fn(&ServerHandle)) -> Ship<C> {
        Ship { started: AtomicU64::new(0), turn, handle: OnceLock::new(), concurrency: PhantomData }
    }

    fn keep(&self, handle: &ServerHandle) {
        self.handle.set(handle.clone()).expect("a server is activated once");
    }

    fn is_welcome(&self, _request: &Stream, client_address: &Address) -> bool {
        client_address.port().is_some_and(|port| port % 16 != 0)
    }

    fn ignore(&self, _error: &HandlerError, _client_address: &Address) {}

    fn take_turn(&self) {
        (self.turn)(self.handle.get().expect("a server is activated first"));
    }
}

impl<C: Concurrency + Default> RequestHandler for Session<C> {
    fn handle(&mut self) -> HandlerResult {
        self.server.started.fetch_add(1, SeqCst);
        while let Some(line) = self.rfile.next_line()? {
            obey(&line, &mut self.wfile)?;
        }
        Ok(())
    }
}

/// The handler on an event loop.
#[derive(Debug)]
#[message_handler(framing = "line")]
pub struct LineSession<C: Concurrency + Default> {
    wfile: Writer,
    server: Arc<Ship<C>>,
}

impl<C: Concurrency + Default> MessageHandler for LineSession<C> {
    type Message = str;

    fn setup(&mut self) -> HandlerResult {
        self.server.started.fetch_add(1, SeqCst);
        Ok(())
    }

    fn message(&mut self, line: &str) -> HandlerResult {
        obey(line, &mut self.wfile)
    }
}

fn obey(line: &str, wfile: &mut Writer) -> HandlerResult {
    match line {
        "fail" => return Err("as it was told to".into()),
        // Without the message of a panic: there would be thousands.
        "panic" => panic::resume_unwind(Box::new("as it was told to")),
        // These end the process of the handler, or its drain.
        "hang" => thread::sleep(HANG),
        "abort" => process::abort(),
        "kill" => low_level::raise(SIGKILL)?,
        "terminate" => low_level::raise(SIGTERM)?,
        _ => writeln!(wfile, "{}", line.to_uppercase())?,
    }
    Ok(())
}

/// Numbers that look random, as of Marsaglia's xorshift.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    /// For a generator of its own.
    pub fn seed(&mut self) -> u64 {
        self.below(u64::MAX) | 1
    }
}

/// Suspends or resumes the server, or closes one of its connections.
pub fn steer(server: &ServerHandle, random: &mut Random) {
    match random.below(3) {
        0 => server.suspend(),
        1 => server.resume(),
        _ => {
            let connections = server.connections();
            if let Some(any) = connections.get(random.below(CONNECTIONS) as usize) {
                server.close(any.id);
            }
        }
    }
}

/// What holds at each moment, and what the counters are.
pub fn check(server: &ServerHandle, before: &Stats) -> Stats {
    let now = server.stats();
    assert_eq!(now.accepted, now.active + ends(&now), "{now:?}");
    assert!(now.active <= CONNECTIONS, "{now:?}");
    assert!(now.accepted >= before.accepted && ends(&now) >= ends(before), "{before:?}, then {now:?}");
    assert!(server.connections().len() as u64 <= CONNECTIONS);
    now
}

fn ends(stats: &Stats) -> u64 {
    handled(stats) + stats.refused + stats.rejected
}

/// Those whose handlers have ended.
pub fn handled(stats: &Stats) -> u64 {
    stats.finished + stats.failed + stats.panicked + stats.disconnected + stats.timed_out
}

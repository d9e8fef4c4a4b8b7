//! Clients of all kinds at once, while the server is suspended and resumed, its connections are closed, and in the end
//! it is shut down in the middle of it.

use std::{
    env,
    io::{self, ErrorKind, Read, Write},
    marker::PhantomData,
    net::Shutdown,
    panic,
    sync::{
        Arc, Mutex,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    thread,
    time::{Duration, Instant},
};

use sockserver::{
    Address, Concurrency, HandlerError, HandlerResult, Reader, RequestHandler, Server, ServerHandle, Stats, Stream,
    Writer, request_handler,
};
use sockserver_tests::{
    client::{Client, eventually},
    in_each_concurrency,
    resources::Observed,
    served::Served,
};

/// How long the storm of one test lasts: `SOCKSERVER_STORM_SECONDS`, or two seconds.
fn duration() -> Duration {
    let seconds =
        env::var("SOCKSERVER_STORM_SECONDS").map_or(2, |seconds| seconds.parse().expect("a number of seconds"));
    Duration::from_secs(seconds)
}

/// How long one server lasts in it.
const ROUND: Duration = Duration::from_millis(500);

const CLIENTS: u64 = 20;

const CONNECTIONS: u64 = 8;

/// This process is counted in: one storm at a time.
static ALONE: Mutex<()> = Mutex::new(());

#[derive(Server)]
#[server(
    transport = "tcp",
    concurrency = C,
    handler = Session<C>,
    workers = 8,
    limits(connections = 8, on_limit = "reject"),
    timeouts(idle = "20ms", lifetime = "50ms", shutdown = "10s"),
    hooks(verify_request = Self::is_welcome, handle_error = Self::ignore),
)]
struct Ship<C: Concurrency> {
    /// How many handlers have started.
    started: AtomicU64,
    concurrency: PhantomData<C>,
}

#[request_handler]
struct Session<C: Concurrency> {
    rfile: Reader,
    wfile: Writer,
    server: Arc<Ship<C>>,
}

impl<C: Concurrency> Ship<C> {
    fn is_welcome(&self, _request: &Stream, client_address: &Address) -> bool {
        client_address.port().is_some_and(|port| port % 16 != 0)
    }

    fn ignore(&self, _error: &HandlerError, _client_address: &Address) {}
}

impl<C: Concurrency> RequestHandler for Session<C> {
    fn handle(&mut self) -> HandlerResult {
        self.server.started.fetch_add(1, SeqCst);
        while let Some(line) = self.rfile.next_line()? {
            match line.as_str() {
                "fail" => return Err("as it was told to".into()),
                // Without the message of a panic, of which there would be thousands.
                "panic" => panic::resume_unwind(Box::new("as it was told to")),
                _ => writeln!(self.wfile, "{}", line.to_uppercase())?,
            }
        }
        Ok(())
    }
}

/// Numbers that look random, as of Marsaglia's xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// What the threads of a round share.
struct Round<'a> {
    server: &'a ServerHandle,
    is_over: AtomicBool,
    answered: AtomicU64,
}

impl Round<'_> {
    /// Comes again and again, each time as another kind of client.
    fn attack(&self, mut random: Random) {
        while !self.is_over.load(Relaxed) {
            match self.connect_as(random.below(10), &mut random) {
                Ok(()) => {}
                // The server has its reasons.
                Err(error) if is_cut(&error) => {}
                // All local ports were used a moment ago.
                Err(error) if error.kind() == ErrorKind::AddrNotAvailable => thread::sleep(Duration::from_millis(1)),
                Err(error) => panic!("the server leaves a client alone: {error}"),
            }
        }
    }

    fn connect_as(&self, kind: u64, random: &mut Random) -> io::Result<()> {
        let client = Client::try_connect(self.server.server_address())?;
        let mut socket = client.socket();
        match kind {
            0 => {}
            1 => client.reset(),
            2 => socket.write_all(b"half")?,
            3 => {
                socket.write_all(b"half")?;
                client.reset();
            }
            4 => {
                socket.write_all(b"a line\n")?;
                client.reset();
            }
            5 => thread::sleep(Duration::from_millis(random.below(60))),
            6 => socket.write_all(b"fail\n")?,
            7 => socket.write_all(b"panic\n")?,
            8 => socket.write_all(b"\xff\x00\n\xfe")?,
            _ => self.ask(&client, random)?,
        }
        Ok(())
    }

    /// The good client: it is answered, or turned away, and never anything between.
    fn ask(&self, client: &Client, random: &mut Random) -> io::Result<()> {
        let mut socket = client.socket();
        let line = format!("line {}\n", random.below(1 << 32));
        socket.write_all(line.as_bytes())?;
        socket.shutdown(Shutdown::Write)?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        assert!(answer.is_empty() || answer == line.to_uppercase(), "{answer:?} to {line:?}");
        self.answered.fetch_add(u64::from(!answer.is_empty()), Relaxed);
        Ok(())
    }

    /// Suspends and resumes the server, and closes connections.
    fn steer(&self, mut random: Random) {
        while !self.is_over.load(Relaxed) {
            match random.below(3) {
                0 => self.server.suspend(),
                1 => self.server.resume(),
                _ => {
                    let connections = self.server.connections();
                    if let Some(any) = connections.get(random.below(CONNECTIONS) as usize) {
                        self.server.close(any.id);
                    }
                }
            }
            thread::sleep(Duration::from_micros(random.below(3000)));
            self.server.resume();
        }
    }

    /// Holds at each moment.
    fn check(&self) {
        let mut before = Stats::default();
        while !self.is_over.load(Relaxed) {
            let now = self.server.stats();
            assert_eq!(now.accepted, now.active + ends(&now), "{now:?}");
            assert!(now.active <= CONNECTIONS, "{now:?}");
            assert!(now.accepted >= before.accepted && ends(&now) >= ends(&before), "{before:?}, then {now:?}");
            assert!(self.server.connections().len() as u64 <= CONNECTIONS);
            before = now;
        }
    }
}

fn is_cut(error: &io::Error) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, NotConnected};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionRefused | ConnectionReset | NotConnected)
}

fn ends(stats: &Stats) -> u64 {
    handled(stats) + stats.refused + stats.rejected
}

/// Those whose handlers have ended.
fn handled(stats: &Stats) -> u64 {
    stats.finished + stats.failed + stats.panicked + stats.disconnected + stats.timed_out
}

/// The threads of servers in this process, and all its descriptors.
fn held() -> (usize, usize) {
    let names = Observed::this().thread_names();
    (names.iter().filter(|name| name.starts_with("sockserver")).count(), Observed::this().descriptors())
}

fn a_storm_breaks_nothing<C: Concurrency>() {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let before = held();
    let begin = Instant::now();
    let mut seed = 0;
    let mut answered = 0;
    while begin.elapsed() < duration() {
        let ship = Ship::<C> { started: AtomicU64::new(0), concurrency: PhantomData };
        let server = ship.bind("127.0.0.1:0").expect("a free port");
        let ship = server.server().clone();
        let server = Served::new(server);
        let round = Round { server: &server, is_over: AtomicBool::new(false), answered: AtomicU64::new(0) };
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                seed += 1;
                let random = Random(seed << 32 | 1);
                let round = &round;
                scope.spawn(move || round.attack(random));
            }
            scope.spawn(|| round.check());
            let steering = scope.spawn(|| round.steer(Random(seed)));
            thread::sleep(ROUND);
            server.shutdown();
            let drained = server.wait().expect("this is no handler");
            let (started, stats) = (ship.started.load(SeqCst), server.stats());
            // Some have come since then, to find nobody.
            round.is_over.store(true, Relaxed);
            steering.join().expect("the server lives");
            assert_eq!((drained.forced, drained.leaked), (0, 0));
            assert_eq!((stats.active, handled(&stats)), (0, started), "{stats:?}");
            assert_eq!((ship.started.load(SeqCst), server.stats()), (started, stats));
        });
        answered += round.answered.load(Relaxed);
        server.stop();
    }
    assert!(answered > 0, "good clients are served in a storm");
    eventually("nothing is held any more", || {
        let (threads, descriptors) = held();
        threads <= before.0 && descriptors <= before.1
    });
}

in_each_concurrency! { [sync threading pool]: a_storm_breaks_nothing }

//! Clients of all kinds at once, while the server is suspended and resumed, its connections are closed, and in the end
//! it is shut down in the middle of it.

use std::{
    env,
    io::{self, ErrorKind, Read, Write},
    net::Shutdown,
    sync::{
        Mutex,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    thread,
    time::{Duration, Instant},
};

use sockserver::{Address, Concurrency, Server, ServerHandle, Stats};
use sockserver_tests::{
    client::{Client, eventually},
    in_each_concurrency,
    place::Place,
    process::{ServerProcess, server},
    resources::Observed,
    served::Served,
    ship::{ROUND, Random, Ship, check, handled, steer},
};

/// How long the storm of one test lasts: `SOCKSERVER_STORM_SECONDS`, or two seconds.
fn duration() -> Duration {
    let seconds =
        env::var("SOCKSERVER_STORM_SECONDS").map_or(2, |seconds| seconds.parse().expect("a number of seconds"));
    Duration::from_secs(seconds)
}

const CLIENTS: u64 = 20;

/// What the threads of a round share.
struct Round<'a> {
    server: &'a Address,
    /// Each handler has a process of its own.
    forks: bool,
    is_over: AtomicBool,
    answered: AtomicU64,
}

impl Round<'_> {
    fn new(server: &Address, forks: bool) -> Round<'_> {
        Round { server, forks, is_over: AtomicBool::new(false), answered: AtomicU64::new(0) }
    }

    fn begin<'scope>(&'scope self, scope: &'scope thread::Scope<'scope, '_>, seeds: &mut Random) {
        for _ in 0..CLIENTS {
            let random = Random(seeds.seed());
            scope.spawn(move || self.attack(random));
        }
    }

    /// Comes again and again, each time as another kind of client.
    fn attack(&self, mut random: Random) {
        while !self.is_over.load(Relaxed) {
            let kinds = if self.forks { 14 } else { 10 };
            match self.connect_as(random.below(kinds), &mut random) {
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
        let client = Client::try_connect(self.server)?;
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
            9 => self.ask(&client, random)?,
            10 => socket.write_all(b"abort\n")?,
            11 => socket.write_all(b"an answer\nkill\n")?,
            12 => socket.write_all(b"terminate\n")?,
            13 if random.below(20) == 0 => socket.write_all(b"hang\n")?,
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

    fn steer(&self, server: &ServerHandle, mut random: Random) {
        while !self.is_over.load(Relaxed) {
            steer(server, &mut random);
            thread::sleep(Duration::from_micros(random.below(3000)));
            server.resume();
        }
    }

    fn check(&self, server: &ServerHandle) {
        let mut stats = Stats::default();
        while !self.is_over.load(Relaxed) {
            stats = check(server, &stats);
        }
    }
}

fn is_cut(error: &io::Error) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, NotConnected};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionRefused | ConnectionReset | NotConnected)
}

/// The threads of servers in this process, and all its descriptors.
fn held() -> (usize, usize) {
    let names = Observed::this().thread_names();
    (names.iter().filter(|name| name.starts_with("sockserver")).count(), Observed::this().descriptors())
}

/// Rounds of a storm, each of which tells how many clients were answered. There is one storm at a time, as this process
/// is counted in.
fn storm(round: impl Fn(&mut Random) -> u64) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let before = held();
    let begin = Instant::now();
    let mut seeds = Random(1);
    let mut answered = 0;
    while begin.elapsed() < duration() {
        answered += round(&mut seeds);
    }
    assert!(answered > 0, "good clients are served in a storm");
    eventually("nothing is held any more", || {
        let (threads, descriptors) = held();
        threads <= before.0 && descriptors <= before.1
    });
}

fn a_storm_breaks_nothing<C: Concurrency + Default>() {
    storm(|seeds| {
        let server = Ship::<C>::new(|_| {}).bind("127.0.0.1:0").expect("a free port");
        let ship = server.server().clone();
        let server = Served::new(server);
        let address = server.server_address().clone();
        let round = Round::new(&address, false);
        thread::scope(|scope| {
            round.begin(scope, seeds);
            scope.spawn(|| round.check(&server));
            let random = Random(seeds.seed());
            let steering = scope.spawn(|| round.steer(&server, random));
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
        server.stop();
        round.answered.into_inner()
    });
}

/// `src/bin/server/fleet.rs` steers and checks itself, and starts its server anew.
fn a_storm_breaks_no_server_that_forks(kind: &str) {
    storm(|seeds| {
        let mut ship = server("fleet");
        ship.arg(kind);
        let mut ship = ServerProcess::start(ship, Place::of("tcp"));
        let address = ship.address().clone();
        let round = Round::new(&address, true);
        let status = thread::scope(|scope| {
            round.begin(scope, seeds);
            let status = ship.ended();
            round.is_over.store(true, Relaxed);
            status
        });
        assert!(status.success(), "{status}");
        round.answered.into_inner()
    });
}

#[test]
fn a_storm_breaks_no_server_that_forks_on_one_thread() {
    a_storm_breaks_no_server_that_forks("one");
}

#[test]
fn a_storm_breaks_no_server_that_forks_on_several_threads() {
    a_storm_breaks_no_server_that_forks("several");
}

in_each_concurrency! { [sync threading pool event_loop]: a_storm_breaks_nothing }

//! Clients that want the server to fail those who mean well. After each attack, in each concurrency, a good client is
//! served, and the server holds what it held before.

use std::{
    io::{ErrorKind, Read, Write},
    marker::PhantomData,
    net::Shutdown,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    thread,
};

use sockserver::Address;
use sockserver_tests::{
    client::{Client, eventually},
    concurrencies::Word,
    in_each_concurrency,
    line_server::{LineServer, stat},
    resources::{Observed, Resources},
    served::Watchdog,
};

/// How often a server is attacked. What it holds after the first time is what it keeps for the next clients.
const ATTACKS: usize = 3;

/// The idle threads that `"threading"` keeps, with the one that is started next and the one for deadlines.
const KEPT_THREADS: usize = 18;

/// What the allocator may keep of the memory that an attack took: an answer of 10 MB for each of several clients.
const SLACK: usize = 32 << 20;

struct Attack<C, A> {
    options: &'static [&'static str],
    /// Returns the attackers that stay.
    attack: A,
    concurrency: PhantomData<C>,
}

impl<C: Word, A: Fn(&Address) -> Vec<Client>> Attack<C, A> {
    /// A good client is served when the attackers are gone.
    fn survived(self) {
        self.run(drop);
    }

    /// A good client is served while the attackers are still there.
    fn withstood(self) {
        self.run(|attackers| attackers);
    }

    fn run<Held>(self, hold: impl Fn(Vec<Client>) -> Held) {
        let server = LineServer::start::<C>(self.options);
        // It has begun to serve.
        assert_eq!(server.ask("hello"), "HELLO");
        let fresh = server.observed().resources();
        let mut kept = Resources { threads: fresh.threads + KEPT_THREADS, memory: usize::MAX, ..fresh };
        let mut stats = String::new();
        for _ in 0..ATTACKS {
            let attackers = hold((self.attack)(server.address()));
            self.expect_good_service(&server);
            drop(attackers);
            eventually("only the client that asks is left", || {
                stats = server.try_ask("stats").unwrap_or_default();
                !stats.is_empty() && stat(&stats, "active") == 1
            });
            server.observed().returns_to(kept, SLACK);
            // Some of the memory that the first attack took is kept for the next clients.
            kept.memory = kept.memory.min(server.observed().resources().memory);
        }
        let ends = ["finished", "failed", "panicked", "disconnected", "timed_out", "refused", "rejected"];
        let ends: u64 = ends.iter().map(|end| stat(&stats, end)).sum();
        assert_eq!(stat(&stats, "accepted"), stat(&stats, "active") + ends, "{stats}");
        server.stop();
    }

    fn expect_good_service(&self, server: &LineServer) {
        match self.options.contains(&"on_limit=reject") {
            // Those who have left may still count.
            true => eventually("there is room", || server.try_ask("hello").as_deref() == Some("HELLO")),
            false => assert_eq!(server.ask("hello"), "HELLO"),
        }
    }
}

fn attack<C: Word, A: Fn(&Address) -> Vec<Client>>(options: &'static [&'static str], attack: A) -> Attack<C, A> {
    Attack { options, attack, concurrency: PhantomData }
}

/// As many attackers as the server serves at once, and some more.
fn crowd<C: Word>() -> usize {
    match C::WORD {
        "sync" => 2,
        "pool" => 10,
        _ => 20,
    }
}

fn connect(server: &Address, count: usize) -> Vec<Client> {
    (0..count).map(|_| Client::connect(server)).collect()
}

/// Whether the server has ended the connection. What it has sent before is taken.
fn is_ended(client: &Client) -> bool {
    let mut socket = client.socket();
    socket.set_nonblocking(true).expect("an open socket");
    let ended = loop {
        match socket.read(&mut [0; 4096]) {
            Ok(0) => break true,
            Ok(_) => {}
            Err(error) => break error.kind() != ErrorKind::WouldBlock,
        }
    };
    socket.set_nonblocking(false).expect("an open socket");
    ended
}

fn wait_until_ended(clients: &[Client]) {
    eventually("the server has ended them all", || clients.iter().all(is_ended));
}

/// Sends what the server may refuse.
fn press(client: &Client, bytes: &[u8]) {
    let _ = client.socket().write_all(bytes);
}

fn a_slow_loris_that_connects_and_says_nothing<C: Word>() {
    attack::<C, _>(&["idle=500"], |server| connect(server, crowd::<C>())).withstood();
}

fn a_slow_loris_in_mid_line<C: Word>() {
    let dribble = |server: &Address| {
        let clients = connect(server, crowd::<C>());
        eventually("the server has ended them all", || {
            clients.iter().for_each(|client| press(client, b"x"));
            clients.iter().all(is_ended)
        });
        clients
    };
    attack::<C, _>(&["lifetime=1000"], dribble).withstood();
}

fn clients_that_close_one_half<C: Word>() {
    let close_halves = |server: &Address| {
        for (said, answered) in [("", ""), ("half", "HALF\n"), ("a line\nhalf", "A LINE\nHALF\n")] {
            let mut client = Client::connect(server);
            client.send(said);
            client.finish();
            assert_eq!(client.rest(), answered);

            let mut client = Client::connect(server);
            client.socket().shutdown(Shutdown::Read).expect("connected");
            client.send(said);
        }
        Vec::new()
    };
    attack::<C, _>(&[], close_halves).survived();
}

fn resets_at_every_stage<C: Word>() {
    let reset = |server: &Address| {
        for _ in 0..crowd::<C>() {
            for said in ["", "half", "a line\n", "send 10000000\n"] {
                let mut unanswered = Client::connect(server);
                unanswered.send(said);
                unanswered.reset();

                let mut answered = Client::connect(server);
                answered.send("first\n");
                answered.send(said);
                assert_eq!(answered.line(), "FIRST");
                answered.reset();
            }
        }
        Vec::new()
    };
    attack::<C, _>(&[], reset).survived();
}

fn clients_that_never_read<C: Word>() {
    let ask_for_much = |server: &Address| {
        let mut clients = connect(server, 2);
        clients.iter_mut().for_each(|client| client.send("send 100000000\n"));
        clients
    };
    attack::<C, _>(&["idle=500"], ask_for_much).withstood();
}

fn a_line_without_end<C: Word>() {
    let press_on = |server: &Address| {
        let clients = connect(server, crowd::<C>());
        for client in &clients {
            (0..64).for_each(|_| press(client, &[b'x'; 16 << 10]));
        }
        wait_until_ended(&clients);
        clients
    };
    attack::<C, _>(&[], press_on).withstood();
}

fn garbage<C: Word>() {
    let throw = |server: &Address| {
        let clients = connect(server, crowd::<C>());
        // A linear congruential generator: the same garbage each time.
        let random =
            std::iter::successors(Some(1u32), |&last| Some(last.wrapping_mul(1_664_525).wrapping_add(1_013_904_223)));
        let garbage: Vec<u8> = random.map(|number| (number >> 24) as u8).take(1 << 16).collect();
        clients.iter().for_each(|client| press(client, &garbage));
        wait_until_ended(&clients);
        clients
    };
    attack::<C, _>(&[], throw).withstood();
}

fn one_byte_a_packet<C: Word>() {
    let trickle = |server: &Address| {
        let mut client = Client::connect(server);
        client.socket().set_tcp_nodelay(true).expect("a TCP socket");
        for byte in b"one byte a packet\n".repeat(50) {
            client.send([byte]);
        }
        client.finish();
        assert_eq!(client.rest(), "ONE BYTE A PACKET\n".repeat(50));
        Vec::new()
    };
    attack::<C, _>(&[], trickle).survived();
}

/// What one client leaves behind is little, and so there are many.
fn clients_without_end<C: Word>() {
    let come_and_go = |server: &Address| {
        let clients = if C::WORD == "forking" { 300 } else { 2000 };
        for _ in 0..clients {
            assert_eq!(Client::connect(server).ask("hello"), "HELLO");
        }
        Vec::new()
    };
    attack::<C, _>(&[], come_and_go).survived();
}

fn a_flood_above_the_limit<C: Word>() {
    let flood = |server: &Address| connect(server, 300);
    attack::<C, _>(&["connections=4"], flood).survived();
}

fn connects_that_die_in_the_queue<C: Word>() {
    let die = |server: &Address| {
        let mut served = Client::connect(server);
        assert_eq!(served.ask("first"), "FIRST");
        for mut waiting in connect(server, 200) {
            waiting.send("half");
            waiting.reset();
        }
        Vec::new()
    };
    attack::<C, _>(&["connections=1"], die).survived();
}

fn thousands_of_idle_ones<C: Word>() {
    if C::WORD == "threading" {
        // Here and in the server a descriptor for each, and other tests need some as well.
        let count = 2000.min(Observed::this().descriptor_limit() / 4);
        attack::<C, _>(&["connections=5000"], |server| connect(server, count)).withstood();
    } else {
        // Most of them wait in the kernel's queue.
        attack::<C, _>(&[], |server| connect(server, 1000)).survived();
    }
}

/// `"sync"` turns nobody away: it accepts one only when it has ended the one before.
fn a_flood_that_is_rejected<C: Word>() {
    let flood = |server: &Address| {
        let attackers = connect(server, 300);
        let ended = || attackers.iter().filter(|client| is_ended(client)).count();
        eventually("the server has ended those above the limit", || ended() >= 296);
        attackers
    };
    attack::<C, _>(&["connections=4", "on_limit=reject"], flood).survived();
}

fn what_a_client_has_sent_makes_no_lines_of_its_own_in_the_log<C: Word>() {
    let server = LineServer::start::<C>(&[]);
    let mut client = server.connect();
    client.send("fail with\rtwo lines\x1b[2J\n");
    client.wait_for_end();
    server.reports(&format!("sockserver: request from {}: handle failed: with two lines [2J", client.address()));
}

/// Those who are turned away without end keep nobody from the room that others have left.
fn a_flood_of_rejects_that_goes_on<C: Word>() {
    let server = LineServer::start::<C>(&["connections=4", "on_limit=reject"]);
    let _watchdog = Watchdog::new();
    let (address, is_over, rejected) = (server.address(), AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let mut served = connect(address, 4);
        served.iter_mut().for_each(|client| assert_eq!(client.ask("first"), "FIRST"));
        for _ in 0..32 {
            scope.spawn(|| {
                while !is_over.load(Relaxed) {
                    // It fails where there is no local port any more.
                    let _ = Client::try_connect(address).map(Client::reset);
                    rejected.fetch_add(1, Relaxed);
                }
            });
        }
        eventually("the flood is there", || rejected.load(Relaxed) > 1000);
        drop(served);
        eventually("there is room", || server.try_ask("hello").as_deref() == Some("HELLO"));
        is_over.store(true, Relaxed);
    });
}

in_each_concurrency! { [sync threading pool forking event_loop two_loops]:
    a_slow_loris_that_connects_and_says_nothing
    a_slow_loris_in_mid_line
    clients_that_close_one_half
    resets_at_every_stage
    clients_that_never_read
    a_line_without_end
    clients_without_end
    a_flood_above_the_limit
    connects_that_die_in_the_queue
    garbage
    one_byte_a_packet
    what_a_client_has_sent_makes_no_lines_of_its_own_in_the_log
    thousands_of_idle_ones
}
in_each_concurrency! { [threading pool forking event_loop two_loops]:
    a_flood_that_is_rejected
    a_flood_of_rejects_that_goes_on
}

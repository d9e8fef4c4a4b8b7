//! What requests may cost, counted and not timed: allocations, system calls, and the crates that a build takes.

use std::{
    alloc::System,
    collections::BTreeSet,
    fs,
    io::{BufRead, Read, Write},
    marker::PhantomData,
    net::{Shutdown, SocketAddr, TcpStream, UdpSocket},
    path::Path,
    process::Command,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use sockserver::{
    Address, Concurrency, Datagram, Event, HandlerResult, MessageHandler, Reader, RequestHandler, Server, Stream,
    Writer, message_handler, request_handler,
};
use sockserver_tests::{
    client::{Client, DatagramClient, eventually},
    concurrencies::Word,
    in_each_concurrency,
    place::{Directory, Place},
    process::{Process, ServerProcess, example_with, installed, server, skip},
    resources::Observed,
    served::Served,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The allocator counts for the whole process: its tests are run one after the other.
fn alone() -> MutexGuard<'static, ()> {
    static RUNNING: Mutex<()> = Mutex::new(());
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Allocated {
    times: usize,
    bytes: usize,
}

/// What the work allocates once it has been done before. It is done several times, and the least counts: what the test
/// harness does on its threads can only add to it.
fn allocated_by(mut work: impl FnMut()) -> Allocated {
    work();
    let attempts = (0..5).map(|_| {
        let region = Region::new(ALLOCATOR);
        work();
        let change = region.change();
        Allocated { times: change.allocations + change.reallocations, bytes: change.bytes_allocated }
    });
    attempts.min().expect("there were five")
}

const NOTHING: Allocated = Allocated { times: 0, bytes: 0 };

/// How often each is done, so that what happens now and then is seen too.
const TIMES: usize = 200;

const LINE: [u8; 64] = [b'a'; 64];

#[derive(Server)]
#[server(transport = "tcp", concurrency = C, handler = Echo)]
struct Echoes<C: Concurrency + Default>(PhantomData<C>);

#[request_handler]
#[server(transport = "tcp", concurrency = "threading")]
struct Echo {
    rfile: Reader,
    wfile: Writer,
}

impl RequestHandler for Echo {
    fn handle(&mut self) -> HandlerResult {
        let mut buffer = [0; LINE.len()];
        loop {
            match self.rfile.read(&mut buffer)? {
                0 => return Ok(()),
                read => self.wfile.write_all(&buffer[..read])?,
            }
        }
    }
}

fn a_connection_costs_one_allocation_and_no_buffer<C: Concurrency + Default>() {
    let _alone = alone();
    let server = Served::new(Echoes::<C>(PhantomData).bind("127.0.0.1:0").expect("a free port"));
    let address = inet(server.server_address());
    let mut answer = [0; LINE.len()];
    let allocated = allocated_by(|| {
        for _ in 0..TIMES {
            let mut client = TcpStream::connect(address).expect("it listens");
            client.write_all(&LINE).expect("it reads");
            client.shutdown(Shutdown::Write).expect("it is connected");
            client.read_exact(&mut answer).expect("it answers");
            assert_eq!(client.read(&mut answer).expect("it ends"), 0);
            // Its thread is free again, and no other one is started.
            while server.stats().active > 0 {
                std::thread::yield_now();
            }
        }
    });
    // Now and then there is one more, as where a table grows.
    assert!(allocated.times < 2 * TIMES, "{allocated:?} by {TIMES} connections");
    assert!(allocated.bytes < 1024 * TIMES, "{allocated:?} by {TIMES} connections");
}

in_each_concurrency! {
    [sync threading pool]: a_connection_costs_one_allocation_and_no_buffer
}

#[request_handler]
#[server(transport = "tcp", concurrency = "threading")]
struct Lines {
    rfile: Reader,
    wfile: Writer,
    #[default]
    line: String,
}

impl RequestHandler for Lines {
    fn handle(&mut self) -> HandlerResult {
        while self.rfile.read_line(&mut self.line)? > 0 {
            write!(self.wfile, "{}", self.line)?;
            self.line.clear();
        }
        Ok(())
    }
}

#[request_handler]
#[server(transport = "tcp", concurrency = "threading")]
struct Direct {
    request: Stream,
}

impl RequestHandler for Direct {
    fn handle(&mut self) -> HandlerResult {
        let mut buffer = [0; LINE.len()];
        loop {
            match self.request.read(&mut buffer)? {
                0 => return Ok(()),
                read => self.request.write_all(&buffer[..read])?,
            }
        }
    }
}

/// What the exchanges of one connection allocate.
fn allocated_by_exchanges(server: impl Server<Transport = sockserver::transport::Tcp>) -> Allocated {
    let _alone = alone();
    let server = Served::new(server.bind("127.0.0.1:0").expect("a free port"));
    let mut client = TcpStream::connect(inet(server.server_address())).expect("it listens");
    let mut line = LINE;
    line[LINE.len() - 1] = b'\n';
    let mut answer = [0; LINE.len()];
    allocated_by(|| {
        for _ in 0..TIMES {
            client.write_all(&line).expect("it reads");
            client.read_exact(&mut answer).expect("it answers");
        }
    })
}

#[test]
fn reading_and_writing_allocate_nothing() {
    assert_eq!(allocated_by_exchanges(EchoServer), NOTHING);
}

#[test]
fn a_line_allocates_nothing() {
    assert_eq!(allocated_by_exchanges(LinesServer), NOTHING);
}

#[message_handler(framing = "line")]
#[server(transport = "tcp", concurrency = "event_loop")]
struct Messages {
    wfile: Writer,
}

impl MessageHandler for Messages {
    type Message = str;

    fn message(&mut self, line: &str) -> HandlerResult {
        Ok(writeln!(self.wfile, "{line}")?)
    }
}

#[test]
fn a_message_on_an_event_loop_allocates_nothing() {
    assert_eq!(allocated_by_exchanges(MessagesServer), NOTHING);
}

#[test]
fn reading_and_writing_directly_allocate_nothing() {
    assert_eq!(allocated_by_exchanges(DirectServer), NOTHING);
}

#[request_handler]
#[server(transport = "udp", concurrency = "sync")]
struct Packet {
    request: Datagram,
}

impl RequestHandler for Packet {
    fn handle(&mut self) -> HandlerResult {
        Ok(self.request.reply(self.request.payload())?)
    }
}

#[request_handler]
#[server(transport = "udp", concurrency = "sync")]
struct PacketFiles {
    rfile: Reader,
    wfile: Writer,
}

impl RequestHandler for PacketFiles {
    fn handle(&mut self) -> HandlerResult {
        let mut buffer = [0; LINE.len()];
        let read = self.rfile.read(&mut buffer)?;
        Ok(self.wfile.write_all(&buffer[..read])?)
    }
}

fn allocated_by_packets(server: impl Server<Transport = sockserver::transport::Udp>, bound_to: &str) -> Allocated {
    let _alone = alone();
    let server = Served::new(server.bind((bound_to, 0)).expect("a free port"));
    let client = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    client.connect(("127.0.0.1", inet(server.server_address()).port())).expect("UDP always connects");
    let mut answer = [0; LINE.len()];
    allocated_by(|| {
        for _ in 0..TIMES {
            client.send(&LINE).expect("there is room");
            client.recv(&mut answer).expect("it answers");
        }
    })
}

#[test]
fn a_packet_allocates_nothing() {
    assert_eq!(allocated_by_packets(PacketServer, "127.0.0.1"), NOTHING);
}

#[derive(Server)]
#[server(transport = "udp", concurrency = "sync", handler = Packet, hooks(event = Self::count))]
struct CountedPackets(AtomicU64);

impl CountedPackets {
    fn count(&self, event: &Event<'_>) {
        if let Event::Ended { connection, .. } = event {
            self.0.fetch_add(connection.bytes_out(), Ordering::Relaxed);
        }
    }
}

#[test]
fn an_event_allocates_nothing() {
    assert_eq!(allocated_by_packets(CountedPackets(AtomicU64::new(0)), "127.0.0.1"), NOTHING);
}

#[test]
fn a_packet_whose_destination_is_asked_for_allocates_nothing() {
    assert_eq!(allocated_by_packets(PacketServer, "0.0.0.0"), NOTHING);
}

#[test]
fn the_files_of_a_packet_allocate_nothing() {
    assert_eq!(allocated_by_packets(PacketFilesServer, "127.0.0.1"), NOTHING);
}

fn inet(address: &Address) -> SocketAddr {
    match address {
        Address::Inet(address) => *address,
        _ => panic!("{address} is no internet address"),
    }
}

/// The system calls of a server for so many visits that come one after the other.
struct Trace {
    calls: Vec<String>,
}

impl Trace {
    /// `None`: they cannot be seen here.
    fn of(server: &ServerProcess, visit: impl Fn(&mut Client)) -> Option<Trace> {
        // Until it serves, it can have others.
        eventually("the server waits", || server.observed().is_asleep());
        let descriptors = Observed::of(server.id()).descriptors();
        // More threads than will be needed, each of which has its buffers then.
        let mut together: Vec<_> = (0..8).map(|_| Client::connect(server.address())).collect();
        eventually("they are accepted", || Observed::of(server.id()).descriptors() == descriptors + together.len());
        together.iter_mut().for_each(&visit);
        drop(together);
        eventually("they are closed", || Observed::of(server.id()).descriptors() == descriptors);
        (0..8).for_each(|_| visit(&mut Client::connect(server.address())));
        eventually("they are closed", || Observed::of(server.id()).descriptors() == descriptors);
        let visits = || (0..TIMES).for_each(|_| visit(&mut Client::connect(server.address())));
        Trace::until(server, visits, |trace| trace.count("close") >= TIMES)
    }

    /// Those of one piece of work, once they are all there.
    fn until(server: &ServerProcess, work: impl FnOnce(), is_over: impl Fn(&Trace) -> bool) -> Option<Trace> {
        // One that is only starting opens a file for a moment.
        eventually("all threads wait", || server.observed().is_asleep());
        let directory = Directory::new();
        let trace = directory.path().join("trace");
        let mut strace = installed("strace")?;
        let mut strace = Process::start(strace.arg("-f").arg("-o").arg(&trace).arg("-p").arg(server.id().to_string()));
        let said = strace.error_line();
        if !said.contains("attached") {
            skip(said);
            return None;
        }
        work();
        eventually("it is over", || is_over(&Trace { calls: calls(&trace) }));
        strace.signal("INT");
        strace.ended();
        Some(Trace { calls: calls(&trace) })
    }

    fn count(&self, name: &str) -> usize {
        self.calls.iter().filter(|call| *call == name).count()
    }

    /// Expects that there are so many of these.
    fn expect_counts<const KINDS: usize>(&self, of_connections: [(&str, usize); KINDS]) {
        assert_eq!(of_connections.map(|(name, _)| (name, self.count(name))), of_connections);
    }

    /// Expects that there are so many of these, and beside them those only of threads that wait for connections.
    fn expect<const KINDS: usize>(&self, of_connections: [(&str, usize); KINDS]) {
        self.expect_counts(of_connections);
        // The leader waits where there is no connection, and nobody else does. Of those that come in a row each
        // sixteenth has it look who wakes it.
        assert!(self.count("poll") <= self.count("accept4: EAGAIN") + 1 + TIMES / 16);
        // A client can be late on a busy machine, but most are not.
        assert!(self.count("recvfrom: EAGAIN") <= TIMES / 16);
        // Its socket gets its timeout then.
        assert!(self.count("setsockopt") <= self.count("recvfrom: EAGAIN"));
        let others: BTreeSet<&str> = self.calls.iter().map(String::as_str).collect();
        let names = of_connections.map(|(name, _)| name);
        let others: Vec<&str> = others.into_iter().filter(|call| !names.contains(call)).collect();
        assert!(others.iter().all(|call| OF_WAITING.contains(call)), "{others:?}");
    }
}

#[test]
fn a_connection_takes_five_system_calls() {
    let _alone = alone();
    let server = ServerProcess::start(example_with("upper", "tcp", "threading"), Place::of("tcp"));
    let visit = |client: &mut Client| {
        client.send("hello\n");
        client.finish();
        assert_eq!(client.rest(), "HELLO\n");
    };
    let Some(trace) = Trace::of(&server, visit) else { return };
    // The client has ended, so that closing the socket loses nothing, and is the end of file as well.
    trace.expect([("accept4", TIMES), ("recvfrom", 2 * TIMES), ("sendto", TIMES), ("close", TIMES)]);
}

#[test]
fn a_connection_that_its_handler_ends_takes_eight_system_calls() {
    let _alone = alone();
    let mut http = server("http");
    http.arg("threading");
    let server = ServerProcess::start(http, Place::of("tcp"));
    let visit = |client: &mut Client| {
        client.send("GET / HTTP/1.1\r\nConnection: close\r\n\r\n");
        assert!(client.rest().ends_with("hello"));
    };
    let Some(trace) = Trace::of(&server, visit) else { return };
    // The client may send more, so that closing the socket could lose what it was sent. One receive that finds nothing
    // looks whether the client has ended; then the end of file is sent, and the thread that lingers reads that of the
    // client. Beside them there are those of the start of that thread.
    trace.expect_counts([
        ("accept4", TIMES),
        ("recvfrom", 2 * TIMES),
        ("sendto", TIMES),
        ("shutdown", TIMES),
        ("close", TIMES),
    ]);
    // That thread looks at a connection once when it comes, and then now and then.
    assert!((TIMES..4 * TIMES).contains(&trace.count("recvfrom: EAGAIN")));
}

#[test]
fn a_message_on_an_event_loop_takes_a_receive_a_send_and_a_share_of_a_wait() {
    const CLIENTS: usize = 8;
    let _alone = alone();
    let mut command = server("messages");
    command.arg("tcp_event_loop");
    let server = ServerProcess::start(command, Place::of("tcp"));
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::connect(server.address())).collect();
    for client in &mut clients {
        assert_eq!(client.ask("hello"), "HELLO");
    }
    let work = || {
        for _ in 0..TIMES {
            clients.iter_mut().for_each(|client| client.send("hello\n"));
            clients.iter_mut().for_each(|client| assert_eq!(client.line(), "HELLO"));
        }
    };
    let messages = CLIENTS * TIMES;
    let Some(trace) = Trace::until(&server, work, |trace| trace.count("sendto") == messages) else { return };
    trace.expect_counts([("recvfrom", messages), ("recvfrom: EAGAIN", 0), ("sendto", messages), ("epoll_ctl", 0)]);
    // A wait returns all clients that have sent something by then. None of them is waited for by itself.
    assert!(trace.count("epoll_wait") <= messages + 2, "{} waits", trace.count("epoll_wait"));
}

#[test]
fn a_packet_on_an_event_loop_takes_a_receive_a_send_and_a_share_of_a_wait() {
    const AT_ONCE: usize = 32;
    let _alone = alone();
    let mut command = server("messages");
    command.arg("udp_event_loop");
    let server = ServerProcess::start(command, Place::of("udp"));
    let client = DatagramClient::connect(server.address());
    client.send("hello");
    assert_eq!(client.receive(), b"HELLO\n");
    let work = || {
        for _ in 0..TIMES {
            (0..AT_ONCE).for_each(|_| client.send("hello"));
            (0..AT_ONCE).for_each(|_| assert_eq!(client.receive(), b"HELLO\n"));
        }
    };
    let packets = AT_ONCE * TIMES;
    let Some(trace) = Trace::until(&server, work, |trace| trace.count("sendto") == packets) else { return };
    trace.expect_counts([("recvfrom", packets), ("sendto", packets), ("epoll_ctl", 0)]);
    // A client that is slower than the server is waited for more often.
    assert!(trace.count("epoll_wait") < packets / 2, "{} waits", trace.count("epoll_wait"));
}

fn shutdown_on_signals_costs_no_system_call_for_a_line<C: Word>() {
    let _alone = alone();
    let mut command = server("signalled");
    command.args([C::WORD, "0"]);
    let server = ServerProcess::start(command, Place::of("tcp"));
    let ask = || {
        let mut client = Client::connect(server.address());
        (0..TIMES).for_each(|_| assert_eq!(client.ask("hello"), "HELLO"));
    };
    // A child is followed as well, as it is forked meanwhile.
    let Some(trace) = Trace::until(&server, ask, |trace| trace.count("sendto") == TIMES) else { return };

    // After a client that a busy machine has made slow, a handler waits by other calls, once or twice.
    let slow = trace.count("recvfrom: EAGAIN");
    assert!(slow < TIMES / 4, "of {TIMES} answers {slow} were waited for");
    let others: BTreeSet<&str> = trace.calls.iter().map(String::as_str).collect();
    for name in others.into_iter().filter(|name| !["sendto", "recvfrom", "recvfrom: EAGAIN"].contains(name)) {
        let count = trace.count(name);
        assert!(count <= TIMES / 4 + 3 * slow, "{count} {name} by {TIMES} lines");
    }
}

in_each_concurrency! {
    [sync threading pool forking]: shutdown_on_signals_costs_no_system_call_for_a_line
}

/// The system calls of threads that wait: for a lock, to be woken as the next leader, as the leader for a connection, or
/// for a client that is late. A debug build calls fcntl(2) before each close(2), and `http` looks who its parent
/// is.
const OF_WAITING: [&str; 10] = [
    "accept4: EAGAIN",
    "fcntl",
    "futex",
    "futex: EAGAIN",
    "getppid",
    "poll",
    "recvfrom: EAGAIN",
    "restart_syscall",
    "sched_yield",
    "setsockopt",
];

/// The system calls that have returned, by their names.
fn calls(trace: &Path) -> Vec<String> {
    let trace = fs::read_to_string(trace).expect("strace writes it");
    let mut calls: Vec<String> = trace.lines().filter_map(returned).collect();
    // When a thread returns memory, the C library looks into a file of the kernel's, which it closes again.
    for _ in 0..calls.iter().filter(|call| *call == "openat").count() {
        calls.iter().position(|call| call == "close").map(|close| calls.remove(close));
    }
    calls
}

/// Of a line like `PID name(…) = 0`, `PID <... name resumed>…) = 0` or `PID name(… <unfinished ...>`.
fn returned(line: &str) -> Option<String> {
    let (_, call) = line.split_once(char::is_whitespace)?;
    let (name, rest) = call.trim_start().trim_start_matches("<... ").split_once(['(', ' '])?;
    let (_, result) = rest.rsplit_once(" = ")?;
    Some(if result.contains("EAGAIN") { format!("{name}: EAGAIN") } else { name.to_owned() })
}

#[test]
fn the_library_takes_fifteen_crates_at_most() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--package", "sockserver", "--edges", "normal", "--prefix", "none"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo has built this test");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).expect("text");
    let crates: BTreeSet<&str> = tree.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    assert!(crates.len() <= 15, "{} crates: {crates:#?}", crates.len());
    assert_eq!(crates.iter().filter(|name| name.starts_with("syn ")).count(), 1, "{crates:#?}");
}

//! What a server tells its event hook: a program prints it, in each concurrency.

use std::{
    collections::BTreeSet,
    io::Write,
    net::{Shutdown, SocketAddr},
    process::Command,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::Duration,
};

use socket2::{Domain, Socket, Type};
use sockserver::{
    Address, Datagram, Event, HandlerResult, RequestHandler, Server, ServerHandle, Writer, concurrency::Threading,
    request_handler,
};
use sockserver_tests::{
    client::{Client, DatagramClient, PATIENCE, eventually},
    concurrencies::Word,
    in_each_concurrency,
    place::Place,
    process::{ServerProcess, server, server_program},
    served::Served,
    tls::Authority,
};

/// The program, with what it prints.
struct Log {
    server: ServerProcess,
}

impl Log {
    fn start<C: Word>(options: &str) -> Log {
        Log::run::<C>(server("event_log"), options)
    }

    fn run<C: Word>(mut command: Command, options: &str) -> Log {
        command.args([C::WORD, options]);
        Log { server: ServerProcess::start(command, Place::of("tcp")) }
    }

    fn connect(&self) -> Client {
        Client::connect(self.server.address())
    }

    fn connect_from(&self, ip: &str) -> Client {
        connect_from(ip, self.server.address())
    }

    #[track_caller]
    fn expect(&self, lines: &[&str]) {
        for line in lines {
            assert_eq!(self.server.line(), *line);
        }
    }

    /// How so many connections have ended, without their numbers.
    #[track_caller]
    fn ends(&self, count: usize) -> Vec<String> {
        let (mut accepted, mut ended, mut ends) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        while ends.len() < count {
            let line = self.server.line();
            let Some((id, what)) = line.split_once(' ').filter(|(id, _)| id.parse::<u64>().is_ok()) else { continue };
            match what {
                "accepted" => assert!(accepted.insert(id.to_owned()), "{line}"),
                "started" => assert!(accepted.contains(id), "{line}"),
                end => {
                    assert!(accepted.contains(id) && ended.insert(id.to_owned()), "{line}");
                    let is_word = |word: &&str| word.parse::<u64>().is_err();
                    let bytes_and_error = end.split(": ").next().filter(|_| !end.starts_with("turned away"));
                    let words: Vec<_> = bytes_and_error.unwrap_or(end).split(' ').filter(is_word).collect();
                    ends.push(words.join(" "));
                }
            }
        }
        ends
    }

    /// Says this on a connection of its own, to its end.
    fn say(&self, said: &str) -> String {
        let mut client = self.connect();
        client.send(said);
        // The server may have ended the connection already.
        let _ = client.socket().shutdown(Shutdown::Write);
        client.rest()
    }
}

fn connect_from(ip: &str, server: &Address) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let local = SocketAddr::new(ip.parse().expect("an address"), 0);
    socket.bind(&local.into()).expect("every address of 127.0.0.0/8 is one of this machine");
    let Address::Inet(server) = server else { unreachable!("it is a TCP server") };
    socket.connect(&(*server).into()).expect("it listens");
    Client::new(socket)
}

fn the_life_of_a_connection_and_of_the_server_are_told<C: Word>() {
    let log = Log::start::<C>("{}");
    assert_eq!(log.say("hello\n"), "HELLO\n");
    log.expect(&["1 accepted", "1 started", "1 finished 6 6"]);
    log.say("stop\n");
    log.expect(&["2 accepted", "2 started"]);
    let mut rest: Vec<_> = log.server.rest().lines().map(str::to_owned).collect();
    // The server stops while the connection ends.
    rest.sort();
    assert_eq!(rest[0], "2 finished 5 0 Draining", "{rest:?}");
    assert!(rest[1].starts_with("Stopped(DrainReport { "), "{rest:?}");
    assert_eq!(rest[2..], ["Stopping"]);
}

fn every_end_is_told_with_its_reason<C: Word>() {
    let log = Log::start::<C>(r#"{ "timeouts": { "shutdown": "10s" } }"#);
    log.say("fail\n");
    log.expect(&["1 accepted", "1 started", "1 failed 5 0: handle failed"]);
    log.say("one\npanic\n");
    log.expect(&["2 accepted", "2 started", "2 panicked 10 4: handle panicked: no luck"]);
    log.say("exact\nthis is no 100 bytes");
    log.expect(&["3 accepted", "3 started", "3 disconnected 26 0: handle failed"]);
    let mut client = log.connect();
    client.ask("hello");
    client.reset();
    log.expect(&["4 accepted", "4 started", "4 disconnected 6 6: handle failed"]);
    if C::WORD == "forking" {
        log.say("exit\n");
        log.expect(&["5 accepted", "5 started", "5 failed 5 0: handle failed"]);
    } else {
        let mut client = log.connect();
        client.send("kick\n");
        client.wait_for_end();
        log.expect(&["5 accepted", "5 started", "5 disconnected 5 0 Kicked"]);
    }
    if C::WORD == "sync" {
        return;
    }
    let mut idle = log.connect();
    idle.ask("hello");
    log.expect(&["6 accepted", "6 started"]);
    log.say("stop\n");
    let rest = log.server.rest();
    assert!(rest.contains("6 finished 6 6 Draining\n"), "{rest}");
}

#[test]
fn every_way_in_which_a_connection_can_end_is_one_event_with_its_reason() {
    let log = |options: &str| Log::start::<Threading>(options);
    let mut ends = Vec::new();

    // The handler, the client and the server end it.
    let server = log(r#"{ "timeouts": { "shutdown": "50ms" } }"#);
    server.say("hello\n");
    server.say("fail\n");
    server.say("panic\n");
    server.say("exact\nno 100 bytes");
    let mut client = server.connect();
    client.send("kick\n");
    client.wait_for_end();
    let mut idle = server.connect();
    idle.ask("hello");
    let mut busy = server.connect();
    busy.ask("hello");
    busy.send("exact\nno 100 bytes");
    ends.extend(server.ends(5));
    eventually("it waits for the rest", || server.say("bytes\n").contains(" 24 "));
    server.say("stop\n");
    let rest = server.server.rest();
    for end in ["finished 6 6 Draining", "disconnected 24 6 Draining"] {
        assert!(rest.lines().any(|line| line.ends_with(end) || line.contains(&format!("{end}: "))), "{end}: {rest}");
    }
    ends.extend(["finished Draining", "disconnected Draining"].map(str::to_owned));

    // A deadline ends it.
    for options in [
        r#"{ "timeouts": { "idle": "50ms" } }"#,
        r#"{ "timeouts": { "lifetime": "50ms" } }"#,
        r#"{ "handler": { "timeout": "50ms" } }"#,
    ] {
        let server = log(options);
        server.connect().wait_for_end();
        ends.extend(server.ends(1));
    }

    // It is turned away by the program,
    let server = log(r#"{ "timeouts": { "lifetime": "50ms" } }"#);
    server.connect_from("127.0.3.1").wait_for_end();
    ends.extend(server.ends(1));
    let server = log(r#"{ "access": { "deny": ["127.0.4.0/24"] } }"#);
    for ip in ["127.0.1.1", "127.0.2.1", "127.0.4.1"] {
        server.connect_from(ip).wait_for_end();
    }
    server.say("ban\n");
    server.connect().wait_for_end();
    ends.extend(server.ends(5));
    // by a limit,
    for options in [
        r#"{ "limits": { "connections": 1, "on_limit": "reject" } }"#,
        r#"{ "limits": { "per_client": 1 } }"#,
        r#"{ "limits": { "rate": "1/h", "on_limit": "reject" } }"#,
        r#"{ "limits": { "rate_per_client": "1/h" } }"#,
    ] {
        let server = log(options);
        let mut first = server.connect();
        first.ask("hello");
        server.connect().wait_for_end();
        ends.extend(server.ends(1));
    }
    // or by what it begins with.
    let server = log(r#"{ "proxy": { "trust": ["127.0.0.1"] } }"#);
    assert_eq!(server.say("no header\n"), "");
    server.connect_from("127.0.1.1").wait_for_end();
    ends.extend(server.ends(2));
    let authority = Authority::new();
    authority.tls(&authority.certify("localhost"));
    let [certificate, key] = ["cert.pem", "key.pem"].map(|file| authority.option(file));
    let server = log(&format!(r#"{{ "tls": {{ "certificate": "{certificate}", "key": "{key}" }} }}"#));
    let mut client = server.connect();
    client.send("no TLS\n");
    client.finish();
    ends.extend(server.ends(1));

    assert_eq!(
        ends,
        [
            "finished",
            "failed",
            "panicked",
            "disconnected",
            "disconnected Kicked",
            "finished Draining",
            "disconnected Draining",
            "timed_out Idle",
            "timed_out Lifetime",
            "timed_out",
            "turned away: not_started",
            "turned away: refused",
            "panicked",
            "turned away: denied",
            "finished",
            "turned away: banned",
            "turned away: limit",
            "turned away: per_client",
            "turned away: rate",
            "turned away: rate_per_client",
            "turned away: preamble",
            "turned away: untrusted",
            "turned away: handshake",
        ]
    );
    // That is all there is.
    let (_, ways) = METRICS_PAGE.split_once("turned_away_total{why}` | counter: ").expect("the page has them");
    for why in ways.split_once(" |").expect("a cell").0.split(", ") {
        assert!(ends.contains(&format!("turned away: {}", why.trim_matches('`'))), "{why}");
    }
    let stats = sockserver::Stats::default().to_string();
    for outcome in stats.split("outcome=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
        let is_turned_away = ["refused", "rejected", "bad_preamble", "bad_handshake"].contains(&outcome);
        assert!(is_turned_away || ends.iter().any(|end| end.starts_with(outcome)), "{outcome}");
    }
}

const METRICS_PAGE: &str = include_str!("../../../sockserver/docs/guide/metrics.md");

fn an_end_by_a_deadline_is_told<C: Word>() {
    let log = Log::start::<C>(r#"{ "timeouts": { "idle": "50ms" } }"#);
    log.connect().wait_for_end();
    log.expect(&["1 accepted", "1 started", "1 timed_out 0 0 Idle"]);
    let log = Log::start::<C>(r#"{ "timeouts": { "lifetime": "50ms" } }"#);
    log.connect().wait_for_end();
    log.expect(&["1 accepted", "1 started", "1 timed_out 0 0 Lifetime"]);
}

fn who_is_turned_away_is_told_with_the_reason<C: Word>() {
    let log = Log::start::<C>(r#"{ "limits": { "per_client": 1 } }"#);
    log.connect_from("127.0.1.1").wait_for_end();
    log.expect(&["1 accepted", "1 turned away: refused"]);
    log.connect_from("127.0.2.1").wait_for_end();
    log.expect(&["2 accepted", "2 panicked 0 0: verify_request panicked: an unwelcome guest"]);
    if C::WORD == "sync" {
        return;
    }
    let mut first = log.connect();
    first.ask("hello");
    log.connect().wait_for_end();
    log.expect(&["3 accepted", "3 started", "4 accepted", "4 turned away: per_client"]);
}

fn who_is_not_let_in_is_told_with_the_reason<C: Word>() {
    let log = Log::start::<C>(r#"{ "access": { "deny": ["127.0.4.0/24"] }, "limits": { "rate_per_client": "1/h" } }"#);
    log.connect_from("127.0.4.1").wait_for_end();
    log.expect(&["1 accepted", "1 turned away: denied"]);
    log.say("hello\n");
    log.expect(&["2 accepted", "2 started", "2 finished 6 6"]);
    log.connect().wait_for_end();
    log.expect(&["3 accepted", "3 turned away: rate_per_client"]);
    if C::WORD == "sync" {
        return;
    }
    let log = Log::start::<C>(r#"{ "limits": { "rate": "1/h", "on_limit": "reject" } }"#);
    log.say("hello\n");
    log.expect(&["1 accepted", "1 started", "1 finished 6 6"]);
    log.connect().wait_for_end();
    log.expect(&["2 accepted", "2 turned away: rate"]);
}

fn a_connection_that_is_ended_before_its_handler_starts_is_turned_away<C: Word>() {
    let log = Log::start::<C>(r#"{ "timeouts": { "lifetime": "50ms" } }"#);
    log.connect_from("127.0.3.1").wait_for_end();
    log.expect(&["1 accepted", "1 turned away: not_started"]);
}

/// Options with a limit above which clients are rejected.
fn rejecting<C: Word>(connections: usize) -> String {
    match C::WORD {
        "sync" => "{}".to_owned(),
        "pool" => format!(r#"{{ "workers": {connections}, "limits": {{ "on_limit": "reject" }} }}"#),
        _ => format!(r#"{{ "limits": {{ "connections": {connections}, "on_limit": "reject" }} }}"#),
    }
}

fn a_limit_is_told_once_until_it_is_left<C: Word>() {
    let log = Log::start::<C>(&rejecting::<C>(16));
    let client = || {
        let mut client = log.connect();
        client.ask("hello");
        client
    };
    let mut clients: Vec<_> = (0..16).map(|_| client()).collect();
    for _ in 0..2 {
        log.connect().wait_for_end();
    }
    let mut lines: Vec<_> = (0..16 + 16 + 1 + 4).map(|_| log.server.line()).collect();
    lines.retain(|line| !line.ends_with(" started"));
    let accepted = (1..=16).map(|id| format!("{id} accepted"));
    let turned_away = (17..=18).flat_map(|id| [format!("{id} accepted"), format!("{id} turned away: limit")]);
    let expected: Vec<_> = accepted.chain(["LimitReached(16)".to_owned()]).chain(turned_away).collect();
    assert_eq!(lines, expected);
    // One place is an eighth less than the rest of 16: it is not left yet.
    for (id, mut client) in (1..=2).zip(clients.drain(..2)) {
        client.finish();
        client.wait_for_end();
        log.expect(&[&format!("{id} finished 6 6")]);
    }
    log.expect(&["LimitLeft(16)"]);
    let mut again = log.connect();
    again.ask("hello");
    log.expect(&["19 accepted", "19 started"]);
}

fn a_shortage_is_told_once<C: Word>() {
    let mut command = Command::new("sh");
    command.args(["-c", r#"ulimit -n 24 && exec "$@""#, "sh"]).arg(server_program()).arg("event_log");
    let options = r#"{ "limits": { "connections": 1000 } }"#;
    let log = Log::run::<C>(command, options);
    let mut clients: Vec<_> = (0..24).map(|_| log.connect()).collect();
    let error = log.server.line_after("AcceptError");
    assert!(error.contains("Too many open files"), "{error}");
    // It tries again several times.
    thread::sleep(Duration::from_millis(200));
    clients.iter_mut().for_each(|client| client.finish());
    clients.iter_mut().for_each(Client::wait_for_end);
    log.say("stop\n");
    assert!(!log.server.rest().contains("AcceptError"));
}

fn a_pause_is_told<C: Word>() {
    let log = Log::start::<C>("{}");
    // The hook panics, which is nothing to the server.
    assert_eq!(log.say("suspend\nhello\n"), "HELLO\n");
    log.expect(&["1 accepted", "1 started", "Suspended", "Resumed", "1 finished 14 6"]);
}

/// Whatever happens to them.
fn each_accepted_connection_has_one_end<C: Word>() {
    let log = Log::start::<C>(&rejecting::<C>(8));
    let words = ["hello\n", "fail\n", "panic\n", "exact\n", "half", ""];
    thread::scope(|scope| {
        for number in 0..12 {
            let address = log.server.address();
            scope.spawn(move || {
                for turn in 0..20 {
                    let mut client =
                        connect_from(&format!("127.0.{}.1", [0, 0, 0, 1, 2][(number + turn) % 5]), address);
                    // It may have been turned away already.
                    let _ = client.socket().send(words[(number * 7 + turn) % words.len()].as_bytes());
                    match turn % 3 {
                        0 => client.reset(),
                        1 => drop(client),
                        _ => {
                            let _ = client.socket().shutdown(std::net::Shutdown::Write);
                            client.wait_for_end();
                        }
                    }
                }
            });
        }
    });
    // Until there is room.
    while log.say("stop\nok\n") != "OK\n" {}
    let lines = log.server.rest();
    let with = |part: &str| lines.lines().filter(|line| line.contains(part)).count();
    let of = |line: &str| line.split(' ').next().and_then(|id| id.parse::<u64>().ok());
    let mut accepted: Vec<_> = lines.lines().filter(|line| line.ends_with(" accepted")).filter_map(of).collect();
    let is_end = |line: &&str| !line.ends_with(" accepted") && !line.ends_with(" started");
    let mut ended: Vec<_> = lines.lines().filter(is_end).filter_map(of).collect();
    accepted.sort();
    ended.sort();
    assert!(accepted.len() >= 240, "{lines}");
    assert_eq!(accepted, ended, "{lines}");
    assert!(with("turned away: refused") > 0 && with("panicked") > 0, "{lines}");
}

#[derive(Server)]
#[server(
    transport = "tcp",
    concurrency = "threading",
    handler = Greeting,
    hooks(server_activate = Self::keep, event = Self::tell),
)]
struct Greeter {
    events: Sender<String>,
    handle: Mutex<Option<ServerHandle>>,
    _alive: Arc<()>,
}

impl Greeter {
    fn keep(&self, handle: &ServerHandle) {
        *self.handle.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle.clone());
    }

    fn tell(&self, event: &Event<'_>) {
        let told = match event {
            Event::Listening(_) => "listening".to_owned(),
            Event::Accepted(_) => "accepted".to_owned(),
            Event::Started(_) => "started".to_owned(),
            Event::Ended { connection, outcome, .. } => format!("{outcome} {}", connection.bytes_out()),
            Event::TurnedAway { why, .. } => format!("turned away: {why}"),
            event => format!("{event:?}"),
        };
        // A test that does not look has dropped the receiver.
        let _ = self.events.send(told);
    }
}

#[request_handler]
struct Greeting {
    wfile: Writer,
}

impl RequestHandler for Greeting {
    fn handle(&mut self) -> HandlerResult {
        Ok(self.wfile.write_all(b"hello")?)
    }
}

fn greeter() -> (Greeter, Receiver<String>, Arc<()>) {
    let (events, told) = mpsc::channel();
    let alive = Arc::new(());
    (Greeter { events, handle: Mutex::new(None), _alive: alive.clone() }, told, alive)
}

fn all(told: &Receiver<String>) -> Vec<String> {
    told.try_iter().collect()
}

#[test]
fn a_connection_that_was_accepted_elsewhere_has_its_events() {
    let (greeter, told, _) = greeter();
    let (client, server) = std::os::unix::net::UnixStream::pair().expect("a pair");
    greeter.serve_connection(server).expect("it is served");
    assert_eq!(Client::new(client).rest(), "hello");
    assert_eq!(all(&told)[..3], ["accepted", "started", "finished 5"]);
}

#[test]
fn one_request_by_hand_has_its_events() {
    let (greeter, told, _) = greeter();
    let server = greeter.bind("127.0.0.1:0").expect("a free port");
    let mut client = Client::connect(server.server_address());
    let _ = server.handle_request().expect("a request");
    assert_eq!(client.rest(), "hello");
    assert_eq!(all(&told), ["listening", "accepted", "started", "finished 5"]);
    drop(server);
    // The drain may find the connection whose end the client has seen.
    let stopped = [0, 1].map(|in_time| format!("Stopped(DrainReport {{ in_time: {in_time}, forced: 0, leaked: 0 }})"));
    let told = all(&told);
    assert!(stopped.iter().any(|stopped| told == ["Stopping", stopped]), "{told:?}");
}

#[test]
fn a_server_that_keeps_its_handle_is_dropped_all_the_same() {
    let (greeter, told, alive) = greeter();
    let server = Served::new(greeter.bind("127.0.0.1:0").expect("a free port"));
    assert_eq!(Client::connect(server.server_address()).rest(), "hello");
    server.stop();
    assert!(all(&told).contains(&"Stopping".to_owned()));
    eventually("the server is dropped", || Arc::strong_count(&alive) == 1);
}

#[derive(Server)]
#[server(transport = "udp", concurrency = "pool", workers = 2, handler = Reply, hooks(event = Self::tell))]
struct Packets(Sender<String>);

impl Packets {
    fn tell(&self, event: &Event<'_>) {
        if let Event::Ended { connection, outcome, .. } = event {
            assert!(format!("{connection:?}").starts_with("ConnectionRef { id: ConnectionId("));
            let _ = self.0.send(format!("{outcome} {} {}", connection.bytes_in(), connection.bytes_out()));
        }
    }
}

#[request_handler]
struct Reply {
    packet: Datagram,
}

impl RequestHandler for Reply {
    fn handle(&mut self) -> HandlerResult {
        Ok(self.packet.reply(b"four")?)
    }
}

#[test]
fn a_packet_is_a_connection_to_the_hook() {
    let (events, told) = mpsc::channel();
    let server = Served::new(Packets(events).bind("127.0.0.1:0").expect("a free port"));
    let client = DatagramClient::connect(server.server_address());
    client.send("three");
    assert_eq!(client.receive(), b"four");
    assert_eq!(told.recv_timeout(PATIENCE), Ok("finished 5 4".to_owned()));
}

in_each_concurrency! { [sync threading pool forking event_loop]:
    the_life_of_a_connection_and_of_the_server_are_told
    every_end_is_told_with_its_reason
    an_end_by_a_deadline_is_told
    who_is_turned_away_is_told_with_the_reason
    who_is_not_let_in_is_told_with_the_reason
    each_accepted_connection_has_one_end
}
in_each_concurrency! { [threading pool forking event_loop]: a_limit_is_told_once_until_it_is_left }
in_each_concurrency! { [sync threading pool event_loop]: a_connection_that_is_ended_before_its_handler_starts_is_turned_away a_pause_is_told }
in_each_concurrency! { [threading event_loop]: a_shortage_is_told_once }

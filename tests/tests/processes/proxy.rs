//! Servers behind proxies: the PROXY header at the start of each connection. The servers are processes, as one that forks
//! has to be: see `src/bin/behind.rs`. The proxies are the tests themselves; `proxies.rs` has real ones.

use std::{
    io::{self, Read, Write},
    sync::{
        Mutex,
        mpsc::{self, Receiver},
    },
    thread,
    time::{Duration, Instant},
};

use sockserver::{Concurrency, Job, Options, ProxyOptions, Server, Service, Stats, transport::Tcp};
use sockserver_tests::{
    behind::{Behind, LOCAL, binary, line},
    client::{Client, eventually},
    concurrencies::Word,
    in_each_concurrency,
    script::{Script, upper},
    served::Served,
};

fn start<C: Word>(settings: &[&str]) -> Behind {
    Behind::start::<C>(env!("CARGO_BIN_EXE_behind"), settings)
}

fn the_client_is_whom_the_proxy_names<C: Word>() {
    let server = start::<C>(&[]);
    for header in [line("203.0.113.9:5000"), binary("203.0.113.9:5000", &[(2, b"example.net"), (0xEA, b"aws")])] {
        let is_binary = header[0] != b'P';
        let mut proxy = server.connect();
        proxy.send(header);
        let who = format!("203.0.113.9:5000 by {} at 192.0.2.1:25", proxy.address());
        assert_eq!(proxy.ask("who"), who);
        let header = proxy.ask("header");
        assert_eq!(header.contains("authority: Some(\"example.net\")"), is_binary, "{header}");
        assert_eq!(header.contains("tlvs: [(234, [97, 119, 115])]"), is_binary, "{header}");
        assert_eq!(proxy.ask("fail"), "");
        let report = server.line_after("Handle of 203.0.113.9:5000 in ");
        assert_eq!(report, format!("{}: handle failed: as it was told to", server.id()));
    }
    for unknown in [LOCAL, b"PROXY UNKNOWN\r\n"] {
        let mut proxy = server.connect();
        proxy.send(unknown);
        let address = proxy.address();
        assert_eq!(proxy.ask("who"), format!("{address} by {address} at {}", server.address()));
    }
}

fn bytes_behind_the_header_are_the_handlers<C: Word>() {
    let server = start::<C>(&[]);
    let mut proxy = server.connect();
    proxy.send([&line("203.0.113.9:5000")[..], b"hello\nraw\n"].concat());
    assert_eq!(proxy.line(), "HELLO");
    proxy.send(b"\x00\x01\x02\x03");
    assert_eq!(proxy.line(), r"\x00\x01\x02\x03");
    drop(proxy);
    // More than is looked at in one piece, before and behind the end of the header.
    let long = [b'x'; 3000];
    let mut proxy = server.connect();
    proxy.send([&binary("203.0.113.9:5000", &[(0xE0, &long[..])])[..], &long, b"\n"].concat());
    assert_eq!(proxy.line(), "X".repeat(long.len()));
}

fn a_header_can_come_byte_by_byte<C: Word>() {
    let server = start::<C>(&[]);
    for header in [line("203.0.113.9:5000"), binary("203.0.113.9:5000", &[(4, b"")])] {
        let mut proxy = server.connect();
        proxy.socket().set_tcp_nodelay(true).expect("an open socket");
        for byte in header.chunks(1) {
            proxy.send(byte);
            thread::sleep(Duration::from_millis(1));
        }
        assert!(proxy.ask("who").starts_with("203.0.113.9:5000 by "));
    }
}

fn what_is_no_header_ends_the_connection<C: Word>() {
    let server = start::<C>(&[]);
    let mut refused = 0;
    for liar in [
        &b"GET / HTTP/1.1\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n"[..],
        b"PROXY TCP4 203.0.113.9 192.0.2.1 5000 99999\r\n",
        b"PROXY TCP4 203.0.113.9 192.0.2.1 5000 25\nwho\n",
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0",
        &binary("203.0.113.9:5000", &[(3, &[0; 4])]),
        &[&b"PROXY UNKNOWN "[..], &[b'x'; 200]].concat(),
    ] {
        let mut peer = server.connect();
        peer.send(liar);
        peer.wait_for_end();
        refused += 1;
        server.counts("bad_preamble", refused);
        // A child that is forked before the parent has heard of the last report would report as well.
        eventually("no child is left", || server.observed().resources().children == 0);
    }
    let mut half = server.connect();
    half.send(b"PROXY TCP4 203");
    half.finish();
    half.wait_for_end();
    server.counts("bad_preamble", refused + 1);
    // The first one, and no other of the same proxy within an hour.
    let report = server.line_after("Preamble of 127.0.0.1:");
    assert!(report.contains(&format!("in {}: reading the PROXY header failed", server.id())), "{report}");
    assert!(report.contains(r#"begins with "GET / HTTP/1" and not with a PROXY header"#), "{report}");
    assert_eq!(stopped(server), "");
}

/// Stops the server, and returns what it has said since.
fn stopped(server: Behind) -> String {
    server.connect_for("198.51.100.200:1").send("stop\n");
    server.output()
}

fn a_header_of_an_untrusted_peer_is_not_read<C: Word>() {
    let server = start::<C>(&[]);
    for _ in 0..2 {
        let mut peer = server.connect_from("127.0.0.2");
        let _ = peer.socket().write_all(&line("203.0.113.9:5000"));
        peer.wait_for_end();
    }
    server.counts("rejected", 2);
    let report = server.line_after("Preamble of 127.0.0.2:");
    assert!(report.contains("the peer is not named in `proxy(trust = […])`"), "{report}");
    assert_eq!(stopped(server), "");
}

fn an_untrusted_peer_can_be_served_directly<C: Word>() {
    let server = start::<C>(&["untrusted=direct"]);
    let mut peer = server.connect_from("127.0.0.2");
    let address = peer.address();
    // For such a peer a header is a line like others.
    peer.send(line("203.0.113.9:5000"));
    assert_eq!(peer.line(), "PROXY TCP4 203.0.113.9 192.0.2.1 5000 25");
    assert_eq!(peer.ask("who"), format!("{address} by itself at {}", server.address()));
}

fn silence_ends_at_the_deadline<C: Word>() {
    let server = start::<C>(&["handshake=300"]);
    let mut silent = server.connect();
    silent.wait_for_end();
    // However steadily the bytes come.
    let mut dribbling = server.connect();
    let header = line("203.0.113.9:5000");
    for byte in header.iter().cycle().take(10_000) {
        if dribbling.socket().write_all(if header.ends_with(&[*byte]) { b"x" } else { b"P" }).is_err() {
            break;
        }
        thread::sleep(Duration::from_millis(30));
    }
    dribbling.wait_for_end();
    server.counts("bad_preamble", 2);
    let report = server.line_after("Preamble of 127.0.0.1:");
    assert!(report.contains("no PROXY header came in time"), "{report}");
    // The handler has as long as it likes.
    let mut proxy = server.connect_for("203.0.113.9:5000");
    thread::sleep(Duration::from_millis(600));
    assert_eq!(proxy.ask("hello"), "HELLO");
}

fn half_a_header_ends_at_the_deadline<C: Word>() {
    let server = start::<C>(&["handshake=200"]);
    let mut half = server.connect();
    half.send(&binary("203.0.113.9:5000", &[])[..20]);
    half.wait_for_end();
    let report = server.line_after("Preamble of 127.0.0.1:");
    assert!(report.contains("the PROXY header was not complete in time"), "{report}");
    server.counts("bad_preamble", 1);
}

fn a_silent_peer_holds_up_nobody<C: Word>() {
    let server = start::<C>(&["handshake=100000"]);
    let _silent = [server.connect(), server.connect()];
    for _ in 0..3 {
        assert_eq!(server.connect_for("203.0.113.9:5000").ask("hello"), "HELLO");
    }
}

fn a_drain_cuts_the_wait_for_a_header<C: Word>() {
    let server = start::<C>(&["handshake=100000", "shutdown=100000"]);
    let mut silent = [server.connect(), server.connect()];
    silent[1].send(b"PROXY TCP4 ");
    let mut busy = server.connect_for("203.0.113.9:5000");
    assert_eq!(busy.ask("hello"), "HELLO");
    assert_eq!(stopped(server), "");
    silent.iter_mut().for_each(Client::wait_for_end);
    assert_eq!(busy.rest(), "");
}

/// Processes a connection only when it is told to.
struct Later(Mutex<Receiver<()>>);

impl Default for Later {
    fn default() -> Later {
        unreachable!("the tests make it")
    }
}

impl Concurrency for Later {
    fn process_request<S: Service>(&self, job: Job<S>) {
        self.0.lock().expect("one thread at a time").recv().expect("the test goes on");
        job.process();
    }
}

fn process_after_the_drain_has_begun(received_before: &[u8]) -> (String, Stats) {
    let (go_on, told) = mpsc::channel();
    let (script, _reports) = Script::<Tcp, Later>::new(upper);
    let everybody = ["127.0.0.0/8".parse().expect("a network")].to_vec();
    let options = Options::new().proxy(ProxyOptions::new().trust(everybody.leak()));
    let server = script.bind_as("127.0.0.1:0", options, Later(Mutex::new(told))).expect("a free port");
    let handle = server.handle();
    let server = Served::new(server);
    let mut client = Client::connect(server.server_address());
    client.send(received_before);
    eventually("it is accepted", || handle.stats().handshaking == 1);
    handle.shutdown();
    go_on.send(()).expect("it is waited for");
    let rest = client.rest();
    server.stop();
    (rest, handle.stats())
}

#[test]
fn what_had_come_before_the_drain_is_answered() {
    let (answer, stats) =
        process_after_the_drain_has_begun(&[&line("203.0.113.9:5000")[..], b"hello\nagain\n"].concat());
    assert_eq!((answer.as_str(), stats.finished), ("HELLO\nAGAIN\n", 1));
}

#[test]
fn half_a_header_that_had_come_before_the_drain_is_not_waited_for() {
    let (answer, stats) = process_after_the_drain_has_begun(b"PROXY TCP4 ");
    assert_eq!((answer.as_str(), stats.rejected, stats.bad_preamble), ("", 1, 0));
}

fn each_client_has_its_own_limit<C: Word>() {
    let server = start::<C>(&["per_client=2"]);
    let served = |client| {
        let mut proxy = server.connect_for(client);
        assert_eq!(proxy.ask("hello"), "HELLO");
        proxy
    };
    let rejected = |client| server.connect_for(client).wait_for_end();
    let first = served("203.0.113.9:1");
    let _second = served("203.0.113.9:2");
    rejected("203.0.113.9:3");
    let _others = [served("203.0.113.10:1"), served("203.0.113.10:2")];
    rejected("203.0.113.10:3");
    drop(first);
    eventually("there is room for the client", || {
        let proxy = server.connect_for("203.0.113.9:4");
        let mut socket = proxy.socket();
        let _ = socket.write_all(b"hello\n");
        socket.read(&mut [0; 16]).is_ok_and(|read| read > 0)
    });
    assert!(server.stat("rejected") >= 2);
}

fn a_limit_of_each_client_can_come_later<C: Word>() {
    let server = start::<C>(&[]);
    assert_eq!(server.connect_for("203.0.113.8:1").ask("one each"), "");
    server.line_after("Handle of 203.0.113.8:1 in ");
    let mut first = server.connect_for("203.0.113.9:1");
    assert_eq!(first.ask("hello"), "HELLO");
    server.connect_for("203.0.113.9:2").wait_for_end();
    assert_eq!(server.connect_for("203.0.113.10:1").ask("hello"), "HELLO");
}

fn a_client_behind_the_proxy_is_banned<C: Word>() {
    let server = start::<C>(&[]);
    assert_eq!(server.connect_for("203.0.113.9:1").ask("ban"), "");
    server.line_after("Handle of 203.0.113.9:1 in ");
    server.connect_for("203.0.113.9:2").wait_for_end();
    assert_eq!(server.connect_for("203.0.113.10:1").ask("hello"), "HELLO");
    server.counts("rejected", 1);
}

fn the_lists_are_about_the_client_behind_the_proxy<C: Word>() {
    let server = start::<C>(&["deny=203.0.113.0/24"]);
    server.connect_for("203.0.113.9:1").wait_for_end();
    assert_eq!(server.connect_for("198.51.100.1:1").ask("hello"), "HELLO");
    server.counts("rejected", 1);
}

fn a_client_behind_the_proxy_comes_as_often_as_the_rate_says<C: Word>() {
    let server = start::<C>(&["rate_per_client=2/h"]);
    let is_served = |client: &str| server.connect_for(client).ask("hello") == "HELLO";
    assert!(is_served("203.0.113.9:1"));
    assert!(is_served("203.0.113.9:2"));
    // A child knows of the clients whose headers had come before it was forked.
    eventually("the client is turned away", || {
        let proxy = server.connect();
        let _ = proxy.socket().write_all(&[&line("203.0.113.9:3")[..], b"hello\n"].concat());
        proxy.socket().read(&mut [0; 16]).is_ok_and(|read| read == 0)
    });
    assert!(is_served("203.0.113.10:1"));
}

fn connections_are_accepted_at_a_rate<C: Word>() {
    let server = start::<C>(&["rate=10/s"]);
    let started = Instant::now();
    for _ in 0..14 {
        assert_eq!(server.connect_for("203.0.113.9:1").ask("hello"), "HELLO");
    }
    // Ten at once, and four more.
    assert!(started.elapsed() >= Duration::from_millis(400), "{:?}", started.elapsed());
}

fn the_server_knows_the_clients<C: Word>() {
    let server = start::<C>(&[]);
    let mut first = server.connect_for("203.0.113.9:5000");
    assert_eq!(first.ask("hello"), "HELLO");
    eventually("the client is listed", || {
        server.connect_for("203.0.113.10:5000").ask("fail");
        server.line_after("clients: ").split(' ').any(|client| client == "203.0.113.9:5000")
    });
}

fn verify_request_decides_by_the_client<C: Word>() {
    let server = start::<C>(&[]);
    server.connect_for("203.0.113.66:5000").wait_for_end();
    server.counts("refused", 1);
    assert_eq!(server.connect_for("203.0.113.67:5000").ask("hello"), "HELLO");
}

fn health_checks_make_no_noise<C: Word>() {
    let server = start::<C>(&[]);
    for header in [LOCAL, &line("127.0.0.1:43780"), b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"] {
        let mut check = server.connect();
        check.send(header);
        check.reset();
        let mut check = server.connect();
        check.send(header);
        drop(check);
    }
    // Of a load balancer that sends no header.
    server.connect().reset();
    drop(server.connect());
    // A reset can outrun the header.
    let ended = || ["finished", "disconnected", "bad_preamble"].map(|name| server.stat(name)).iter().sum::<u64>();
    eventually("all have ended", || ended() >= 8);
    let output = stopped(server);
    // `handle_error` is told of a client that has hung up, and is silent about it by default.
    assert!(!output.contains("Preamble"), "{output}");
}

fn silent_peers_make_room_for_others<C: Word>() {
    let server = start::<C>(&["handshakes=2", "handshake=100000"]);
    let mut silent = [server.connect(), server.connect()];
    // The places are taken, and the oldest one is given to this client after three seconds.
    assert_eq!(server.connect_for("203.0.113.9:5000").ask("hello"), "HELLO");
    silent[0].wait_for_end();
    // The thread or child of the silent client counts it when it has seen the end. On a busy machine the client itself may
    // have needed more than three seconds, and have got both places.
    eventually("it is counted", || (1..=2).contains(&server.stat("bad_preamble")));
    drop(silent);
}

fn a_connection_with_a_header_takes_no_place_of_handshakes<C: Word>() {
    let server = start::<C>(&["handshakes=1", "handshake=100000"]);
    let mut clients: Vec<Client> = (1..=3).map(|port| server.connect_for(&format!("203.0.113.9:{port}"))).collect();
    for client in &mut clients {
        assert_eq!(client.ask("hello"), "HELLO");
    }
}

fn a_server_can_reject_above_the_limit_of_handshakes<C: Word>() {
    let server = start::<C>(&["handshakes=1", "handshake=100000", "on_limit=reject"]);
    let silent = server.connect();
    eventually("another one is rejected", || {
        let mut other = server.connect();
        let mut socket = other.socket();
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("an open socket");
        let ended = !matches!(socket.read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        if ended {
            return true;
        }
        // This one has the place.
        other.send(line("203.0.113.9:5000"));
        false
    });
    drop(silent);
    eventually("there is room again", || {
        let proxy = server.connect_for("203.0.113.9:5000");
        let mut socket = proxy.socket();
        let _ = socket.write_all(b"hello\n");
        socket.read(&mut [0; 16]).is_ok_and(|read| read > 0)
    });
}

fn a_proxy_on_a_unix_socket_names_the_client<C: Word>() {
    let settings = ["per_client=1"];
    let server = Behind::start_on::<C>(env!("CARGO_BIN_EXE_behind"), "unix", &settings);
    let mut proxy = server.connect_for("203.0.113.9:5000");
    assert_eq!(proxy.ask("who"), "203.0.113.9:5000 by (unnamed) at 192.0.2.1:25");
    server.connect_for("203.0.113.9:5001").wait_for_end();
}

fn only_the_version_that_was_chosen_is_accepted<C: Word>() {
    for (setting, good, bad) in [
        ("versions=1", line("203.0.113.9:5000"), binary("203.0.113.9:5000", &[])),
        ("versions=2", binary("203.0.113.9:5000", &[]), line("203.0.113.9:5000")),
    ] {
        let server = start::<C>(&[setting]);
        let mut proxy = server.connect();
        proxy.send(good);
        assert_eq!(proxy.ask("hello"), "HELLO");
        let mut proxy = server.connect();
        proxy.send(bad);
        proxy.wait_for_end();
        assert!(server.line_after("Preamble of ").contains("has another version than"));
    }
}

in_each_concurrency! { [sync threading pool forking event_loop two_loops]:
    the_client_is_whom_the_proxy_names
    bytes_behind_the_header_are_the_handlers
    a_header_can_come_byte_by_byte
    what_is_no_header_ends_the_connection
    a_header_of_an_untrusted_peer_is_not_read
    an_untrusted_peer_can_be_served_directly
    silence_ends_at_the_deadline
    half_a_header_ends_at_the_deadline
    verify_request_decides_by_the_client
    the_lists_are_about_the_client_behind_the_proxy
    a_client_behind_the_proxy_comes_as_often_as_the_rate_says
    health_checks_make_no_noise
}

in_each_concurrency! { [threading pool forking event_loop two_loops]:
    a_silent_peer_holds_up_nobody
    a_drain_cuts_the_wait_for_a_header
    each_client_has_its_own_limit
    a_limit_of_each_client_can_come_later
    a_client_behind_the_proxy_is_banned
    the_server_knows_the_clients
    silent_peers_make_room_for_others
    a_connection_with_a_header_takes_no_place_of_handshakes
    a_server_can_reject_above_the_limit_of_handshakes
    a_proxy_on_a_unix_socket_names_the_client
}

in_each_concurrency! { [forking event_loop two_loops]: connections_are_accepted_at_a_rate }

in_each_concurrency! { [threading]:
    only_the_version_that_was_chosen_is_accepted
}

//! The handshake as the last part of the preamble: its deadline, its limit, the drain, and the PROXY header before it. The
//! servers are processes, as one that forks has to be: see `src/bin/behind.rs`.

use std::{io::Write, ops::Deref, thread, time::Duration};

use rustls::ClientConfig;
use sockserver_tests::{
    behind::{Behind, line},
    client::{Client, eventually},
    concurrencies::Word,
    in_each_concurrency,
    tls::{Authority, TlsClient},
};

struct Encrypted {
    server: Behind,
    config: ClientConfig,
    /// Each connection begins with a PROXY header.
    is_behind_proxy: bool,
    _authority: Authority,
}

impl Encrypted {
    fn start<C: Word>(settings: &[&str]) -> Encrypted {
        let authority = Authority::new();
        authority.options();
        let files = ["certificate=cert.pem", "key=key.pem"].map(|setting| {
            let (key, file) = setting.split_once('=').expect("it has a value");
            format!("{key}={}", authority.option(file))
        });
        let settings: Vec<&str> = files.iter().map(String::as_str).chain(settings.iter().copied()).collect();
        let server = Behind::start::<C>(env!("CARGO_BIN_EXE_behind"), &settings);
        let is_behind_proxy = !settings.contains(&"trust=none");
        Encrypted { server, config: authority.client(), is_behind_proxy, _authority: authority }
    }

    /// A client that has not begun the handshake.
    #[track_caller]
    fn silent(&self) -> Client {
        self.silent_for("203.0.113.9:5000")
    }

    #[track_caller]
    fn silent_for(&self, client: &str) -> Client {
        if self.is_behind_proxy { self.server.connect_for(client) } else { self.server.connect() }
    }

    #[track_caller]
    fn client_for(&self, client: &str) -> TlsClient {
        TlsClient::begin(self.silent_for(client).into_socket(), "localhost", &self.config)
    }

    /// A client that was answered, if it is served.
    fn try_client_for(&self, client: &str) -> Option<TlsClient> {
        let client = TlsClient::try_begin(self.silent_for(client).into_socket(), "localhost", &self.config);
        client.ok().and_then(|mut client| (client.try_ask("hello").ok()? == "HELLO").then_some(client))
    }

    fn serves(&self, client: &str) -> bool {
        self.try_client_for(client).is_some()
    }

    #[track_caller]
    fn counts(&self, name: &str, number: u64) {
        eventually(&format!("{name} is {number}"), || {
            let stats = self.client_for("198.51.100.200:1").ask("stats");
            stats.contains(&format!(" {name}: {number}"))
        });
    }

    /// Stops the server, and returns what it has said since.
    #[track_caller]
    fn stop(self) -> String {
        let mut client = self.client_for("198.51.100.200:1");
        client.send("stop\n");
        self.server.output()
    }
}

impl Deref for Encrypted {
    type Target = Behind;

    fn deref(&self) -> &Behind {
        &self.server
    }
}

/// The first bytes of a ClientHello.
const BEGUN: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

fn the_header_comes_first_and_in_clear<C: Word>() {
    let server = Encrypted::start::<C>(&[]);
    let mut client = server.client_for("203.0.113.9:5000");
    assert!(client.ask("who").starts_with("203.0.113.9:5000 by 127.0.0.1:"));
    drop(client);
    // Both in one segment.
    let mut socket = server.connect();
    let mut session = rustls::ClientConnection::new(
        server.config.clone().into(),
        rustls::pki_types::ServerName::try_from("localhost").expect("a name"),
    )
    .expect("a valid configuration");
    let mut first = line("203.0.113.10:5000");
    session.write_tls(&mut first).expect("a vector takes all");
    socket.send(first);
    let mut client = TlsClient::resume(socket.into_socket(), session).expect("the server agrees");
    assert!(client.ask("who").starts_with("203.0.113.10:5000 by 127.0.0.1:"));
    drop(client);
    // The other way round the header is missing.
    let failed = TlsClient::try_begin(server.connect().into_socket(), "localhost", &server.config);
    failed.expect_err("the server has no header");
    server.counts("bad_preamble", 1);
    server.counts("bad_handshake", 0);
}

fn verify_request_decides_after_the_handshake<C: Word>() {
    let server = Encrypted::start::<C>(&[]);
    let mut refused = server.client_for("203.0.113.66:5000");
    refused.wait_for_end();
    server.counts("refused", 1);
    assert!(server.serves("203.0.113.67:5000"));
}

fn a_handshake_ends_at_the_deadline<C: Word>() {
    let server = Encrypted::start::<C>(&["handshake=500"]);
    // Nothing is said about a client that says nothing.
    server.silent().wait_for_end();
    // However steadily the bytes come.
    let dribbling = server.silent_for("203.0.113.10:5000");
    let mut bytes = BEGUN.iter().chain(std::iter::repeat(&0));
    while bytes.next().is_some_and(|byte| dribbling.socket().write_all(&[*byte]).is_ok()) {
        thread::sleep(Duration::from_millis(30));
    }
    server.counts("bad_handshake", 2);
    let report = server.line_after("Handshake of 203.0.113.10:5000 in ");
    assert!(
        report.ends_with("the TLS handshake failed: it was not complete in time (`timeouts(handshake)`)"),
        "{report}"
    );
    // The handler has as long as it likes.
    let mut client = server.client_for("203.0.113.9:5000");
    thread::sleep(Duration::from_millis(800));
    assert_eq!(client.ask("hello"), "HELLO");
    drop(client);
    assert_eq!(server.stop(), "");
}

fn failures_are_told_apart_and_reported_once<C: Word>() {
    let server = Encrypted::start::<C>(&[]);
    for _ in 0..2 {
        let mut no_header = server.connect();
        no_header.send("GET / HTTP/1.1\r\n\r\n");
        no_header.wait_for_end();
        let mut no_handshake = server.silent();
        no_handshake.send("GET / HTTP/1.1\r\n\r\n");
        no_handshake.wait_for_end();
    }
    server.counts("bad_preamble", 2);
    server.counts("bad_handshake", 2);
    let output = server.stop();
    for stage in ["Preamble of 127.0.0.1:", "Handshake of "] {
        assert_eq!(output.matches(stage).count(), 1, "{stage}: {output}");
    }
}

fn a_silent_client_holds_up_nobody<C: Word>() {
    let server = Encrypted::start::<C>(&["handshake=100000"]);
    let _silent = [server.silent(), server.silent()];
    for _ in 0..3 {
        assert!(server.serves("203.0.113.9:5000"));
    }
}

fn a_drain_cuts_a_handshake<C: Word>() {
    let server = Encrypted::start::<C>(&["handshake=100000", "shutdown=100000"]);
    let mut silent = [server.silent(), server.silent()];
    silent[1].send(BEGUN);
    let mut busy = server.client_for("203.0.113.9:5000");
    assert_eq!(busy.ask("hello"), "HELLO");
    assert_eq!(server.stop(), "");
    silent.iter_mut().for_each(Client::wait_for_end);
    assert_eq!(busy.rest(), "");
}

fn each_client_has_its_own_limit<C: Word>() {
    let server = Encrypted::start::<C>(&["per_client=2"]);
    let mut first = [server.client_for("203.0.113.9:1"), server.client_for("203.0.113.9:2")];
    first.iter_mut().for_each(|client| assert_eq!(client.ask("hello"), "HELLO"));
    assert!(!server.serves("203.0.113.9:3"));
    assert!(server.serves("203.0.113.10:1"));
    drop(first);
    eventually("there is room for the client", || server.serves("203.0.113.9:4"));
}

/// Its address is known without a header. It is turned away before it costs a handshake.
fn a_client_is_counted_before_the_handshake<C: Word>() {
    let server = Encrypted::start::<C>(&["trust=none", "per_client=2", "handshake=100000"]);
    let silent = [server.silent(), server.silent()];
    let mut third = server.silent();
    third.wait_for_end();
    drop(silent);
    eventually("there is room for the client", || server.serves(""));
    // It is counted once, and until it ends.
    eventually("there is room for two", || {
        let first = server.try_client_for("");
        let second = server.try_client_for("");
        first.is_some() && second.is_some()
    });
}

fn silent_clients_make_room_for_others<C: Word>() {
    for trust in ["trust=none", "versions=1"] {
        let server = Encrypted::start::<C>(&["handshakes=2", "handshake=100000", trust]);
        let mut silent = [server.silent(), server.silent()];
        // The places are taken, and the oldest one is given to this client after three seconds.
        assert!(server.serves("203.0.113.9:5000"));
        silent[0].wait_for_end();
        eventually("it is counted", || {
            !server.client_for("198.51.100.200:1").ask("stats").contains(" bad_handshake: 0")
        });
        drop(silent);
    }
}

fn a_connection_that_has_shaken_hands_takes_no_place_of_handshakes<C: Word>() {
    let server = Encrypted::start::<C>(&["handshakes=1", "handshake=100000", "trust=none"]);
    let mut clients: Vec<TlsClient> = (0..3).map(|_| server.client_for("")).collect();
    for client in &mut clients {
        assert_eq!(client.ask("hello"), "HELLO");
    }
}

in_each_concurrency! { [sync threading pool forking event_loop two_loops]:
    the_header_comes_first_and_in_clear
    verify_request_decides_after_the_handshake
    a_handshake_ends_at_the_deadline
    failures_are_told_apart_and_reported_once
}

in_each_concurrency! { [threading pool forking event_loop two_loops]:
    a_silent_client_holds_up_nobody
    a_drain_cuts_a_handshake
    each_client_has_its_own_limit
    a_client_is_counted_before_the_handshake
    silent_clients_make_room_for_others
    a_connection_that_has_shaken_hands_takes_no_place_of_handshakes
}

//! Clients that stop half-way, and bytes that come in pieces or were changed on their way. Nothing is left behind.

use std::{
    io::{ErrorKind, Read, Write},
    time::Duration,
};

use rustls::{ClientConnection, pki_types::ServerName};
use sockserver::{Concurrency, Options, concurrency::Threading, transport::Tcp};
use sockserver_tests::{
    behind::Behind,
    client::{Client, eventually},
    concurrencies::Word,
    in_each_concurrency,
    script::{Script, upper},
    tls::{Authority, TlsClient},
};

fn session(authority: &Authority) -> ClientConnection {
    let name = ServerName::try_from("localhost").expect("a name");
    ClientConnection::new(authority.client().into(), name).expect("a valid configuration")
}

/// What the allocator may keep of the memory that the clients took, of up to a thousand at a time on a busy machine. A
/// session takes 20 KiB, so that ten thousand that were left would be 200 MB.
const SLACK: usize = 48 << 20;

/// The idle threads that `"threading"` keeps, with the one that is started next and the one for deadlines.
const KEPT_THREADS: usize = 18;

fn handshakes_that_stop_half_way(clients: usize, program: &Behind, authority: &Authority) {
    let mut hello = Vec::new();
    session(authority).write_tls(&mut hello).expect("a vector takes all");
    for round in 0..clients / 50 {
        let mut held = Vec::new();
        for number in 0..50 {
            let mut client = program.connect();
            // Nothing, a part of the first message, or all of it and not the answer.
            let sent = [0, 1, 5, hello.len() / 2, hello.len()][number % 5];
            client.send(&hello[..sent]);
            if (round + number) % 2 == 0 { client.reset() } else { held.push(client) }
        }
    }
}

fn nothing_is_left_of_handshakes_that_stop_half_way<C: Word>(clients: usize) {
    let authority = Authority::new();
    authority.options();
    let files = [("certificate", "cert.pem"), ("key", "key.pem")];
    let files = files.map(|(key, file)| format!("{key}={}", authority.option(file)));
    let program = Behind::start::<C>(env!("CARGO_BIN_EXE_behind"), &[&files[0], &files[1], "trust=none"]);
    let stats = || TlsClient::connect(program.address(), &authority.client()).ask("stats");
    handshakes_that_stop_half_way(500, &program, &authority);
    eventually("they are counted", || stats().contains(" bad_handshake: 500,"));
    let mut before = program.observed().resources();
    before.threads = before.threads.max(KEPT_THREADS);
    handshakes_that_stop_half_way(clients, &program, &authority);
    let all = format!(" bad_handshake: {},", 500 + clients);
    eventually("they are counted", || stats().contains(&all));
    // With a forking server, that of the client that asks.
    eventually("no handshake is under way", || {
        let stats = stats();
        stats.contains(" active: 1,") && stats.ends_with(if C::WORD == "forking" { "1 }" } else { "0 }" })
    });
    program.observed().returns_to(before, SLACK);
}

fn nothing_is_left_of_ten_thousand_handshakes_that_stop_half_way<C: Word>() {
    nothing_is_left_of_handshakes_that_stop_half_way::<C>(10_000);
}

/// A process each takes its time.
fn nothing_is_left_of_a_thousand_handshakes_that_stop_half_way<C: Word>() {
    nothing_is_left_of_handshakes_that_stop_half_way::<C>(1000);
}

in_each_concurrency! { [threading pool event_loop two_loops]:
    nothing_is_left_of_ten_thousand_handshakes_that_stop_half_way
}

in_each_concurrency! { [forking]:
    nothing_is_left_of_a_thousand_handshakes_that_stop_half_way
}

/// xorshift64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

/// Sends what the session has to send, in pieces. From this byte on, one bit is wrong.
fn send_in_pieces(session: &mut ClientConnection, client: &Client, dice: &mut Dice, wrong: &mut Option<usize>) -> bool {
    let mut bytes = Vec::new();
    while session.wants_write() {
        session.write_tls(&mut bytes).expect("a vector takes all");
    }
    if let Some(place) = wrong {
        match bytes.get_mut(*place) {
            Some(byte) => {
                *byte ^= 1 << dice.below(8);
                *wrong = None;
            }
            None => *place -= bytes.len(),
        }
    }
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let piece = rest.split_off(..(1 + dice.below(200)).min(rest.len())).expect("it is no longer");
        if client.socket().write_all(piece).is_err() {
            return false;
        }
    }
    true
}

/// Says hello, and returns what was answered.
fn talk(mut session: ClientConnection, client: &Client, dice: &mut Dice, mut wrong: Option<usize>) -> String {
    client.socket().set_tcp_nodelay(true).expect("an open socket");
    session.writer().write_all(b"hello\n").expect("a buffer takes it");
    let mut answer = String::new();
    loop {
        if !send_in_pieces(&mut session, client, dice, &mut wrong) {
            return answer;
        }
        match session.read_tls(&mut client.socket()) {
            Ok(1..) => {}
            Ok(0) => return answer,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return answer,
            // It waits for the rest of a record whose length was changed.
            Err(error) if error.kind() == ErrorKind::WouldBlock => return answer,
            Err(error) => panic!("{error}"),
        }
        if session.process_new_packets().is_err() {
            return answer;
        }
        // There is no plaintext yet, or no more.
        let _ = session.reader().read_to_string(&mut answer);
        if answer.ends_with('\n') {
            return answer;
        }
    }
}

fn rounds<C: Concurrency + Default>(options: Options, authority: &Authority, rounds: u64, is_wrong: bool) {
    let server = Script::<Tcp, C>::serve_with(upper, options);
    for round in 1..=rounds {
        let mut dice = Dice(0x9E37_79B9_7F4A_7C15 ^ round);
        let client = Client::connect(server.server_address());
        client.socket().set_read_timeout(Some(Duration::from_secs(if is_wrong { 1 } else { 20 }))).expect("open");
        let wrong = is_wrong.then(|| dice.below(600));
        let answer = talk(session(authority), &client, &mut dice, wrong);
        // The wrong byte may be one of the last, which nobody looks at.
        assert!(answer == "HELLO\n" || (is_wrong && answer.is_empty()), "round {round}: {answer:?}");
    }
    eventually("all have ended", || server.stats().active == 0);
    assert_eq!(server.stats().panicked, 0);
    assert_eq!(TlsClient::connect(server.server_address(), &authority.client()).ask("hello"), "HELLO");
}

#[test]
fn bytes_can_come_in_any_pieces() {
    let authority = Authority::new();
    rounds::<Threading>(authority.options(), &authority, 100, false);
}

#[test]
fn a_wrong_bit_is_never_taken_for_a_right_one() {
    let authority = Authority::new();
    rounds::<Threading>(authority.options(), &authority, 300, true);
}

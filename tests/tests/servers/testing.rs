//! The kit for tests: clients without a port.

use std::{
    io::{Read, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
};

use sockserver::{
    Address, Closing, Datagram, HandlerResult, MailHandler, Mailbox, MessageHandler, Options, PeerCred, Reader,
    RequestHandler, Sender, Server, ServerHandle, Stage, Writer, message_handler, request_handler,
    testing::{self, Packets, Peer, TestServer},
};
use sockserver_tests::client::eventually;

#[request_handler]
#[server(transport = "tcp", concurrency = "forking", limits(per_client = 2))]
struct Lines {
    rfile: Reader,
    wfile: Writer,
    client: Address,
}

impl RequestHandler for Lines {
    fn handle(&mut self) -> HandlerResult {
        while let Some(line) = self.rfile.next_line()? {
            match &*line {
                "who" => writeln!(self.wfile, "{}", self.client)?,
                "fail" => return Err("the disk is full".into()),
                "panic" => panic!("at the disk"),
                "end" => return Ok(()),
                line => writeln!(self.wfile, "{}", line.to_uppercase())?,
            }
        }
        Ok(())
    }

    fn closing(&mut self, why: Closing) -> HandlerResult {
        Ok(writeln!(self.wfile, "goodbye: {why}")?)
    }
}

/// What a test that fails says.
fn complaint(test: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(test)).expect_err("the test fails");
    match panic.downcast::<String>() {
        Ok(message) => *message,
        Err(panic) => panic.downcast_ref::<&str>().expect("a message").to_string(),
    }
}

#[test]
fn a_peer_talks_with_a_request_handler() {
    let mut peer = testing::connect(LinesServer);
    peer.send("hello\nagain\n");
    peer.expect("HELLO\n");
    assert_eq!(peer.line(), "AGAIN");
    peer.send("half");
    peer.end();
    peer.expect("HALF\n");
    peer.expect_end();
    assert!(peer.result().is_ok());
}

#[test]
fn what_was_not_expected_can_be_read() {
    let mut peer = testing::connect(LinesServer);
    peer.send("one\ntwo\nend\n");
    peer.expect("ONE\nT");
    let mut rest = String::new();
    peer.read_to_string(&mut rest).expect("text");
    assert_eq!(rest, "WO\n");
}

#[test]
fn the_difference_is_shown_with_what_the_handler_has_failed_with() {
    let mut peer = testing::connect(LinesServer);
    let said = complaint(|| {
        peer.send("hello\nfail\n");
        peer.expect("HELP\n");
    });
    let lines = [
        "the handler has sent something else:",
        "  expected: \"HELP\\n\"",
        "  received: \"HELLO\\n\"",
        "                ^",
        "The handler has failed: handle failed: the disk is full",
    ];
    assert_eq!(said, lines.join("\n"));
}

#[test]
fn an_end_that_comes_too_early_or_not_at_all_is_a_failure() {
    let mut peer = testing::connect(LinesServer);
    let said = complaint(|| {
        peer.send("hel\nend\n");
        peer.expect("HEL\nLO");
    });
    assert!(said.starts_with("the handler has sent something else, and then the end:"), "{said}");
    assert!(said.ends_with("The handler has ended without an error."), "{said}");

    let mut peer = testing::connect(LinesServer);
    peer.send("hello\n");
    let said = complaint(|| peer.expect_end());
    assert_eq!(said, "instead of the end came \"HELLO\\n\"");
}

#[test]
fn the_error_and_the_panic_of_the_handler_are_the_result() {
    let mut peer = testing::connect(LinesServer);
    peer.send("fail\n");
    assert_eq!(peer.result().expect_err("it fails").stage(), Stage::Handle);
    let mut peer = testing::connect(LinesServer);
    peer.send("panic\n");
    peer.expect_end();
    assert!(peer.result().expect_err("it fails").is_panic());
}

#[test]
fn a_reset_is_a_disconnect() {
    let server = testing::serve(LinesServer);
    let mut peer = server.connect();
    peer.send("hello\n");
    peer.expect("HELLO\n");
    peer.reset();
    eventually("the handler has seen it", || server.handle().stats().disconnected == 1);
    assert_eq!(server.stop().leaked, 0);
}

#[test]
fn clients_come_from_where_the_test_says() {
    let server = testing::serve(LinesServer);
    let mut here = server.from("203.0.113.9:5000").connect();
    let mut there = server.from("[2001:db8::1]:5000").connect();
    let mut nowhere = server.connect();
    for (peer, address) in
        [(&mut here, "203.0.113.9:5000"), (&mut there, "[2001:db8::1]:5000"), (&mut nowhere, "192.0.2.9:50000")]
    {
        peer.send("who\n");
        peer.expect(format!("{address}\n"));
    }
    let said = complaint(|| _ = server.from("somewhere"));
    assert!(said.starts_with("`somewhere` is no address: expected one like 203.0.113.9:5000"), "{said}");
}

#[test]
fn the_limits_of_the_server_hold() {
    let server = testing::serve(LinesServer);
    let mut peers: Vec<Peer> = (0..2).map(|_| server.from("203.0.113.9:5000").connect()).collect();
    for peer in &mut peers {
        peer.send("hello\n");
        peer.expect("HELLO\n");
    }
    server.from("203.0.113.9:5001").connect().expect_end();
    drop(peers);
}

#[test]
fn a_handler_says_goodbye_when_the_test_stops_the_server() {
    let server = testing::serve(LinesServer);
    let mut peer = server.connect();
    peer.send("hello\n");
    peer.expect("HELLO\n");
    server.handle().shutdown();
    peer.expect(format!("goodbye: {}\n", Closing::Draining));
    peer.expect_end();
    assert!(peer.result().is_ok());
}

#[test]
fn options_can_be_the_tests_own() {
    let mut options = Options::new();
    options.handler.max_line = Some(4);
    let server = TestServer::new(LinesServer, options);
    let mut peer = server.connect();
    peer.send("hello\n");
    let error = peer.result().expect_err("the line is too long");
    assert_eq!(error.stage(), Stage::Handle);
    let mut options = Options::new();
    options.limits.connections = Some(0);
    let said = complaint(|| _ = TestServer::new(LinesServer, options));
    assert!(said.starts_with("the server cannot be bound: "), "{said}");
}

/// Counts its calls.
#[derive(Default, Server)]
#[server(transport = "unix", concurrency = "threading", handler = Member, hooks(verify_request = Self::verify))]
struct Room {
    members: Mutex<Vec<Sender<String>>>,
    is_full: AtomicBool,
    closed: Arc<AtomicUsize>,
}

impl Room {
    fn verify(&self, _: &sockserver::Stream, _: &Address) -> bool {
        !self.is_full.load(SeqCst)
    }
}

#[message_handler(framing = "line")]
struct Member {
    wfile: Writer,
    mailbox: Mailbox<String>,
    room: Arc<Room>,
    cred: PeerCred,
    handle: ServerHandle,
}

impl MessageHandler for Member {
    type Message = String;

    fn setup(&mut self) -> HandlerResult {
        self.room.members.lock().expect("no panic").push(self.mailbox.sender());
        Ok(writeln!(self.wfile, "welcome, process {}", self.cred.pid.unwrap_or_default())?)
    }

    fn message(&mut self, line: String) -> HandlerResult {
        if line == "stop" {
            self.handle.shutdown();
        }
        let members = self.room.members.lock().expect("no panic");
        members.iter().for_each(|member| _ = member.try_send(line.clone()));
        Ok(())
    }

    fn finish(&mut self) -> HandlerResult {
        self.room.closed.fetch_add(1, SeqCst);
        Ok(())
    }
}

impl MailHandler for Member {
    type Mail = String;

    fn mail(&mut self, line: String) -> HandlerResult {
        Ok(writeln!(self.wfile, "{line}")?)
    }
}

fn joined(server: &TestServer<Room>) -> Peer {
    let mut peer = server.connect();
    peer.expect(format!("welcome, process {}\n", std::process::id()));
    peer
}

#[test]
fn several_peers_talk_to_one_server_of_message_handlers() {
    let server = testing::serve(Room::default());
    let (mut alice, mut bob) = (joined(&server), joined(&server));
    alice.send("hello\n");
    alice.expect("hello\n");
    bob.expect("hello\n");
    server.server().is_full.store(true, SeqCst);
    server.connect().expect_end();
}

#[test]
fn a_server_ends_when_its_test_and_all_its_clients_have_gone() {
    let server = testing::serve(Room::default());
    let closed = server.server().closed.clone();
    let (alice, mut bob) = (joined(&server), joined(&server));
    let handle = server.handle();
    drop(server);
    drop(alice);
    bob.send("hello\n");
    bob.expect("hello\n");
    assert!(!handle.is_stopping());
    drop(bob);
    assert!(handle.is_stopping());
    // The drop has waited for the handlers.
    assert_eq!(closed.load(SeqCst), 2);
}

#[request_handler]
#[server(transport = "tcp", concurrency = "threading", proxy(trust = ["10.0.0.0/8"]), limits(per_client = 1))]
struct Behind {
    rfile: Reader,
    wfile: Writer,
    client: Address,
}

impl RequestHandler for Behind {
    fn handle(&mut self) -> HandlerResult {
        while self.rfile.next_line()?.is_some() {
            writeln!(self.wfile, "{}", self.client)?;
        }
        Ok(())
    }
}

#[test]
fn a_proxy_names_the_client() {
    let server = testing::serve(BehindServer);
    let mut peer = server.from("203.0.113.9:5000").through("10.0.0.1:4000").connect();
    peer.send("who\n");
    peer.expect("203.0.113.9:5000\n");
    let mut peer = server.from("[2001:db8::1]:5000").through("10.0.0.1:4000").connect();
    peer.send("who\n");
    peer.expect("[2001:db8::1]:5000\n");
    // The same client again, while it is there.
    server.from("[2001:db8::1]:5001").through("10.0.0.2:4000").connect().expect_end();
}

#[test]
fn a_proxy_that_is_not_trusted_or_says_nothing_is_turned_away() {
    let server = testing::serve(BehindServer);
    let peer = server.from("203.0.113.9:5000").through("192.0.2.66:4000").connect();
    assert_eq!(peer.result().expect_err("it is not trusted").stage(), Stage::Preamble);
    let mut peer = server.from("10.0.0.1:4000").connect();
    peer.send("who\n");
    peer.expect_end();
    assert_eq!(peer.result().expect_err("there is no header").stage(), Stage::Preamble);
}

#[request_handler]
#[server(transport = "udp", concurrency = "sync")]
struct Length {
    packet: Datagram,
    client: Address,
}

impl RequestHandler for Length {
    fn handle(&mut self) -> HandlerResult {
        match self.packet.payload() {
            b"" => Ok(()),
            b"who" => Ok(self.packet.reply(self.client.to_string().as_bytes())?),
            b"fail" => Err("the disk is full".into()),
            payload => Ok(self.packet.reply(payload.len().to_string().as_bytes())?),
        }
    }
}

#[test]
fn packets_are_answered_or_not() {
    let mut packets = testing::packets(LengthServer);
    packets.send("hello");
    packets.expect("5");
    packets.send("");
    packets.expect_nothing();
    packets.send("who");
    packets.expect("192.0.2.9:50000");
    packets.send("fail");
    let said = complaint(|| {
        let mut twice = testing::packets(LengthServer);
        twice.send("hello");
        twice.expect("6");
    });
    assert!(said.starts_with("the handler has replied something else:\n  expected: \"6\""), "{said}");
    assert_eq!(packets.result().expect_err("it has failed").stage(), Stage::Handle);
    assert!(packets.result().is_ok());
}

#[test]
fn packets_come_from_where_the_test_says() {
    let server = testing::serve(LengthServer);
    let mut packets: Packets = server.from("203.0.113.9:5000").packets();
    packets.send("who");
    packets.expect("203.0.113.9:5000");
    let mut forged = server.from("203.0.113.9:0").packets();
    forged.send("who");
    forged.expect_nothing();
    assert!(forged.result().expect_err("it cannot be answered").is_disconnect());
}

#[message_handler(framing = "line")]
#[server(transport = "unix_datagram", concurrency = "sync")]
struct Upper {
    wfile: Writer,
}

impl MessageHandler for Upper {
    type Message = str;

    fn message(&mut self, text: &str) -> HandlerResult {
        Ok(write!(self.wfile, "{}", text.to_uppercase())?)
    }
}

#[test]
fn a_message_handler_gets_packets() {
    let mut packets = testing::packets(UpperServer);
    packets.send("hello");
    assert_eq!(packets.receive(), b"HELLO");
}

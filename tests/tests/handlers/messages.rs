//! Message handlers: which of their methods is called when, and how their connections end.

use std::{
    io::{Read, Write},
    marker::PhantomData,
    sync::{Arc, mpsc},
};

use sockserver::{
    Address, BoxError, Closing, Concurrency, HandlerError, HandlerResult, HangUp, MessageHandler, Server, Stage,
    Writer,
    framing::{FrameError, FromFrame},
    message_handler,
};
use sockserver_tests::{
    client::{Client, DatagramClient, PATIENCE, eventually},
    concurrencies, in_each_concurrency,
    place::Place,
    process::{ServerProcess, server},
    served::Served,
};

#[test]
fn one_handler_serves_every_transport_with_every_concurrency() {
    for transport in ["tcp", "udp", "unix", "unix_datagram"] {
        for concurrency in concurrencies::FOR_MESSAGES {
            let cell = format!("{transport}_{concurrency}");
            let mut command = server("messages");
            command.arg(&cell);
            let server = ServerProcess::start(command, Place::of(transport));
            if matches!(transport, "udp" | "unix_datagram") {
                let mut client = DatagramClient::connect(server.address());
                assert_eq!([client.ask("hello"), client.ask("again")], ["HELLO", "AGAIN"], "{cell}");
            } else {
                let mut client = Client::connect(server.address());
                assert_eq!([client.ask("hello"), client.ask("again")], ["HELLO", "AGAIN"], "{cell}");
            }
        }
    }
}

/// What was called, and which error was reported.
#[derive(Server)]
#[server(transport = "tcp", concurrency = "threading", handler = Diary, hooks(handle_error = Self::note))]
struct Library {
    entries: mpsc::Sender<String>,
}

impl Library {
    fn enter(&self, entry: impl ToString) {
        let _ = self.entries.send(entry.to_string());
    }

    fn note(&self, error: &HandlerError, _: &Address) {
        self.enter(format!("{:?} failed", error.stage()));
        assert_eq!(error.stage() == Stage::Finish, error.is_panic(), "{error}");
    }
}

/// What is no `bad` line, and fails or panics where it is told to.
#[message_handler(framing = "line", max_frame = 8)]
struct Diary {
    wfile: Writer,
    library: Arc<Library>,
    #[default]
    panics: bool,
}

struct Entry(String);

impl FromFrame for Entry {
    type Message<'a> = Entry;

    fn from_frame(frame: &[u8]) -> Result<Entry, BoxError> {
        match str::from_utf8(frame)? {
            "bad" => Err("it is bad".into()),
            text => Ok(Entry(text.to_owned())),
        }
    }
}

impl MessageHandler for Diary {
    type Message = Entry;

    fn setup(&mut self) -> HandlerResult {
        self.library.enter("setup");
        Ok(())
    }

    fn message(&mut self, Entry(text): Entry) -> HandlerResult {
        self.library.enter(format!("message {text}"));
        match &*text {
            "fail" => Err("as it was told".into()),
            "quit" => Err(HangUp.into()),
            "panic" => {
                self.panics = true;
                Ok(())
            }
            _ => Ok(writeln!(self.wfile, "{text}")?),
        }
    }

    fn malformed(&mut self, error: FrameError) -> HandlerResult {
        match error {
            FrameError::Malformed(_) => Err(error.into()),
            error => Ok(writeln!(self.wfile, "{error}")?),
        }
    }

    fn closing(&mut self, why: Closing) -> HandlerResult {
        Ok(writeln!(self.wfile, "{why:?}")?)
    }

    fn finish(&mut self) -> HandlerResult {
        self.library.enter("finish");
        assert!(!self.panics, "as it was told");
        Ok(())
    }
}

fn library() -> (Served, mpsc::Receiver<String>) {
    let (entries, receiver) = mpsc::channel();
    (Served::new(Library { entries }.bind("127.0.0.1:0").expect("a free port")), receiver)
}

/// What was entered, once the only request has ended.
fn entries(server: Served, receiver: mpsc::Receiver<String>) -> Vec<String> {
    let _ = server.stop();
    receiver.iter().collect()
}

#[test]
fn the_methods_are_called_in_their_order() {
    let (server, receiver) = library();
    let mut client = Client::connect(server.server_address());
    client.send("one\ntwo\n");
    client.finish();
    assert_eq!(client.rest(), "one\ntwo\n");
    assert_eq!(entries(server, receiver), ["setup", "message one", "message two", "finish"]);
}

#[test]
fn a_handler_that_hangs_up_has_not_failed() {
    let (server, receiver) = library();
    let mut client = Client::connect(server.server_address());
    client.send("one\nquit\ntwo\n");
    assert_eq!(client.rest(), "one\n");
    eventually("it has ended", || server.stats().finished == 1);
    assert_eq!(server.stats().failed, 0);
    assert_eq!(entries(server, receiver), ["setup", "message one", "message quit", "finish"]);
}

#[test]
fn an_error_ends_its_connection_only() {
    let (server, receiver) = library();
    let mut other = Client::connect(server.server_address());
    assert_eq!(other.ask("one"), "one");
    let mut client = Client::connect(server.server_address());
    client.send("fail\ntwo\n");
    assert_eq!(client.rest(), "");
    assert_eq!(other.ask("three"), "three");
    eventually("it has failed", || server.stats().failed == 1);
    other.finish();
    assert_eq!(other.rest(), "");
    let entries = entries(server, receiver);
    assert_eq!(entries[2..6], ["setup", "message fail", "finish", "Handle failed"]);
    assert_eq!(entries[6..], ["message three", "finish"]);
}

#[test]
fn a_panic_ends_its_connection_only() {
    let (server, receiver) = library();
    let mut client = Client::connect(server.server_address());
    client.send("panic\n");
    client.finish();
    assert_eq!(client.rest(), "");
    assert_eq!(Client::connect(server.server_address()).ask("one"), "one");
    eventually("both have ended", || server.stats().active == 0);
    assert_eq!(server.stats().panicked, 1);
    assert_eq!(entries(server, receiver)[..4], ["setup", "message panic", "finish", "Finish failed"]);
}

#[test]
fn what_is_no_message_is_told_and_the_talk_can_go_on() {
    let (server, receiver) = library();
    let mut client = Client::connect(server.server_address());
    assert!(client.ask("much too long").contains("longer than max_frame (8 bytes)"));
    assert_eq!(client.ask("one"), "one");
    client.send("bad\ntwo\n");
    assert_eq!(client.rest(), "");
    assert_eq!(entries(server, receiver), ["setup", "message one", "finish", "Handle failed"]);
}

/// Answers each string with its length.
#[message_handler(framing = "netstring")]
#[server(transport = "tcp", concurrency = "threading")]
struct Lengths {
    wfile: Writer,
}

impl MessageHandler for Lengths {
    type Message = [u8];

    fn message(&mut self, string: &[u8]) -> HandlerResult {
        Ok(writeln!(self.wfile, "{}", string.len())?)
    }

    fn malformed(&mut self, error: FrameError) -> HandlerResult {
        Ok(writeln!(self.wfile, "{error}")?)
    }
}

#[test]
fn what_does_not_follow_the_framing_is_told_before_the_connection_ends() {
    let server = Served::new(LengthsServer.bind("127.0.0.1:0").expect("a free port"));
    let mut client = Client::connect(server.server_address());
    client.send("5:hello,hello,5:hello,");
    assert_eq!(client.line(), "5");
    assert!(client.line().starts_with("the bytes do not follow the framing: "));
    assert_eq!(client.rest(), "");
    eventually("it has ended", || server.stats().finished == 1);
}

#[test]
fn a_client_that_ends_inside_a_message_is_told_nothing() {
    let server = Served::new(LengthsServer.bind("127.0.0.1:0").expect("a free port"));
    let mut client = Client::connect(server.server_address());
    client.send("5:hel");
    client.finish();
    assert_eq!(client.rest(), "");
    eventually("it has hung up", || server.stats().disconnected == 1);
}

#[derive(Server)]
#[server(transport = "tcp", concurrency = C, handler = Filing, hooks(handle_error = Self::note))]
struct Archive<C: Concurrency + Default> {
    reports: mpsc::Sender<(Stage, bool)>,
    concurrency: PhantomData<C>,
}

impl<C: Concurrency + Default> Archive<C> {
    fn note(&self, error: &HandlerError, _client_address: &Address) {
        let _ = self.reports.send((error.stage(), error.is_disconnect()));
    }
}

#[message_handler(framing = "netstring")]
struct Filing {
    wfile: Writer,
    #[default]
    has_file: bool,
}

impl MessageHandler for Filing {
    type Message = str;

    fn message(&mut self, message: &str) -> HandlerResult {
        self.has_file = message == "file";
        Ok(writeln!(self.wfile, "{message}")?)
    }

    fn finish(&mut self) -> HandlerResult {
        let mut file: &[u8] = if self.has_file { b"ab" } else { b"abcd" };
        Ok(file.read_exact(&mut [0; 4])?)
    }
}

fn an_error_at_the_end_is_the_clients_if_it_has_hung_up<C: Concurrency + Default>() {
    let (reports, reported) = mpsc::channel();
    let server = Archive::<C> { reports, concurrency: PhantomData };
    let mut options = Archive::<C>::OPTIONS;
    concurrencies::set_workers(&mut options);
    let server = Served::new(server.bind_with("127.0.0.1:0", options).expect("a free port"));
    let connect = || Client::connect(server.server_address());
    let reported = || reported.recv_timeout(PATIENCE).expect("handle_error is called");

    let mut client = connect();
    client.send("4:file,");
    client.finish();
    assert_eq!(client.rest(), "file\n");
    assert_eq!(reported(), (Stage::Finish, false));

    let mut client = connect();
    client.send("5:hello,5:he");
    client.finish();
    assert_eq!(client.rest(), "hello\n");
    assert_eq!(reported(), (Stage::Handle, true));

    let mut client = connect();
    client.send("5:hello,");
    assert_eq!(client.line(), "hello");
    client.reset();
    assert_eq!(reported(), (Stage::Handle, true));

    eventually("all have ended", || server.stats().active == 0);
    assert_eq!((server.stats().failed, server.stats().disconnected), (1, 2));
}

in_each_concurrency! { [sync threading pool event_loop two_loops]:
    an_error_at_the_end_is_the_clients_if_it_has_hung_up
}

#[test]
fn the_handler_says_goodbye_when_the_server_ends_the_connection() {
    let (server, receiver) = library();
    let mut client = Client::connect(server.server_address());
    assert_eq!(client.ask("one"), "one");
    let report = server.stop();
    assert_eq!((report.in_time, report.forced), (1, 0));
    assert_eq!(client.rest(), "Draining\n");
    assert_eq!(receiver.iter().collect::<Vec<_>>(), ["setup", "message one", "finish"]);
}

//! `Frames`: what a handler reads and sends message by message, and when its connection is idle.

use std::{
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

use sockserver::{
    Address, Closing, FrameWriter, Frames, HandlerError, HandlerResult, RequestHandler, Server, ServerHandle,
    framing::{FrameError, Line, U32},
    request_handler,
};
use sockserver_tests::{
    client::{Client, DatagramClient, eventually},
    place::Place,
    served::Served,
};

/// Answers in upper case, and says what is wrong with what is no message.
#[request_handler(max_frame = "1KiB")]
#[server(transport = "tcp", concurrency = "threading", timeouts(message = "200ms"))]
struct Lines {
    frames: Frames<Line, str>,
    answers: FrameWriter<Line>,
}

impl RequestHandler for Lines {
    fn handle(&mut self) -> HandlerResult {
        loop {
            match self.frames.next() {
                Ok(Some(line)) => self.answers.send(&line.to_uppercase())?,
                Ok(None) => return Ok(()),
                Err(error) => {
                    let error = error.downcast::<FrameError>()?;
                    if !error.is_recoverable() {
                        return Err(error.into());
                    }
                    self.frames.send(&error.to_string())?;
                }
            }
        }
    }
}

fn lines() -> Served {
    Served::new(LinesServer.bind("127.0.0.1:0").expect("a free port"))
}

#[test]
fn a_handler_reads_and_sends_messages() {
    let server = lines();
    let mut client = Client::connect(server.server_address());
    client.send("one\r\nt");
    assert_eq!(client.line(), "ONE");
    client.send("wo\nlast");
    assert_eq!(client.line(), "TWO");
    client.finish();
    assert_eq!(client.line(), "LAST");
    eventually("the request has ended", || server.stats().finished == 1);
}

#[test]
fn a_talk_goes_on_after_what_is_no_message() {
    let server = lines();
    let mut client = Client::connect(server.server_address());
    client.send([b'x'; 5000]);
    assert!(client.line().contains("longer than max_frame (1024 bytes)"));
    client.send(b"\n\xff\n");
    assert!(client.line().starts_with("malformed message: "));
    assert_eq!(client.ask("good"), "GOOD");
}

#[test]
fn a_packet_is_a_message_without_a_header() {
    #[request_handler]
    #[server(transport = "udp", concurrency = "sync")]
    struct Twice {
        frames: Frames<U32, String>,
    }

    impl RequestHandler for Twice {
        fn handle(&mut self) -> HandlerResult {
            while let Some(message) = self.frames.next()? {
                self.frames.send(&message)?;
                self.frames.send(&message.to_uppercase())?;
            }
            Ok(())
        }
    }

    let server = Served::new(TwiceServer.bind("127.0.0.1:0").expect("a free port"));
    let client = DatagramClient::connect(server.server_address());
    client.send("hello");
    assert_eq!(client.receive(), b"hello");
    assert_eq!(client.receive(), b"HELLO");
    client.send("");
    assert_eq!(client.receive(), b"");
}

#[test]
fn a_message_larger_than_the_buffers_comes_and_goes_in_pieces() {
    #[request_handler(rbufsize = 16, wbufsize = 16, max_frame = "1MiB")]
    #[server(transport = "unix", concurrency = "threading")]
    struct Echo {
        frames: Frames<U32, [u8]>,
        answers: FrameWriter<U32>,
    }

    impl RequestHandler for Echo {
        fn handle(&mut self) -> HandlerResult {
            while let Some(message) = self.frames.next()? {
                self.answers.send(message)?;
            }
            Ok(())
        }
    }

    let place = Place::of("unix");
    let server = Served::new(EchoServer.bind(place.address()).expect("a free place"));
    let mut client = Client::connect(server.server_address());
    let mut frame = 50_000_u32.to_be_bytes().to_vec();
    frame.extend((0..50_000_u32).map(|number| number.to_le_bytes()[0]));
    for _ in 0..2 {
        client.send(&frame);
        assert!(client.bytes(frame.len()) == frame);
    }
}

#[test]
fn what_cannot_be_sent_is_an_error_and_sends_nothing() {
    #[request_handler]
    #[server(transport = "tcp", concurrency = "threading")]
    struct Two {
        frames: Frames<Line, String>,
    }

    impl RequestHandler for Two {
        fn handle(&mut self) -> HandlerResult {
            let error = self.frames.send("two\nlines").expect_err("it is no line");
            assert!(matches!(error.downcast::<FrameError>(), Ok(FrameError::Unsendable(_))));
            Ok(self.frames.send("one line")?)
        }
    }

    let server = Served::new(TwoServer.bind("127.0.0.1:0").expect("a free port"));
    assert_eq!(Client::connect(server.server_address()).rest(), "one line\n");
}

#[test]
fn a_message_that_is_not_complete_in_time_ends_its_connection_however_steadily_it_comes() {
    let server = lines();
    let mut between = Client::connect(server.server_address());
    assert_eq!(between.ask("one"), "ONE");
    let mut slow = Client::connect(server.server_address());
    let began = Instant::now();
    // Until the server has closed.
    while slow.socket().send(b"x").is_ok() && server.stats().timed_out == 0 {
        assert!(began.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(40));
    }
    slow.wait_for_end();
    assert!(began.elapsed() >= Duration::from_millis(200));
    eventually("it was counted", || server.stats().timed_out == 1);
    // The time runs from a message's first byte on: none runs between two.
    assert_eq!(between.ask("two"), "TWO");
}

/// A handler that answers all lines but `log`, and waits for a word before it answers `wait`.
#[derive(Server)]
#[server(
    transport = "tcp",
    concurrency = "threading",
    handler = Gated,
    timeouts(shutdown = "60s"),
    hooks(handle_error = Self::note),
)]
struct Gate {
    words: Mutex<mpsc::Receiver<()>>,
    errors: mpsc::Sender<String>,
}

impl Gate {
    fn note(&self, error: &HandlerError, _: &Address) {
        let _ = self.errors.send(error.to_string());
    }
}

#[request_handler]
struct Gated {
    frames: Frames<Line, String>,
    gate: Arc<Gate>,
}

impl RequestHandler for Gated {
    fn handle(&mut self) -> HandlerResult {
        while let Some(line) = self.frames.next()? {
            if line == "wait" {
                self.gate.words.lock().expect("nothing panics").recv()?;
            }
            if line != "log" {
                self.frames.send(&line)?;
            }
        }
        Ok(())
    }

    fn closing(&mut self, why: Closing) -> HandlerResult {
        Ok(self.frames.send(&format!("{why:?}"))?)
    }
}

fn gated() -> (Served, mpsc::Sender<()>, mpsc::Receiver<String>) {
    let (word, words) = mpsc::channel();
    let (errors, noted) = mpsc::channel();
    let gate = Gate { words: words.into(), errors };
    (Served::new(gate.bind("127.0.0.1:0").expect("a free port")), word, noted)
}

fn has_received(server: &ServerHandle, bytes: u64) -> bool {
    server.connections().iter().any(|connection| connection.bytes_in == bytes)
}

/// Where the boundaries are only guessed, such a connection is idle after a quiet second.
#[test]
fn between_two_messages_a_connection_ends_at_once_although_nothing_was_answered() {
    let (server, _word, errors) = gated();
    let mut client = Client::connect(server.server_address());
    client.send("log\n");
    eventually("the line has come", || has_received(&server, 4));
    let began = Instant::now();
    let report = server.stop();
    assert!(began.elapsed() < Duration::from_millis(900), "as after a quiet second: {:?}", began.elapsed());
    assert_eq!((report.in_time, report.forced), (1, 0));
    assert_eq!(client.rest(), "Draining\n");
    assert_eq!(errors.try_recv(), Err(mpsc::TryRecvError::Disconnected));
}

#[test]
fn a_message_that_has_begun_is_waited_for_and_answered_before_the_end() {
    let (server, _word, _errors) = gated();
    let mut client = Client::connect(server.server_address());
    client.send("one\nhal");
    assert_eq!(client.line(), "one");
    server.shutdown();
    // A quiet second makes no connection idle that is in a message.
    std::thread::sleep(Duration::from_millis(1200));
    assert_eq!(server.stats().active, 1);
    client.send("f\nnext\nand more");
    assert_eq!(client.rest(), "half\nnext\nDraining\n");
    assert_eq!(server.stop().forced, 0);
}

#[test]
fn a_message_that_is_being_handled_is_answered_before_the_end() {
    let (server, word, errors) = gated();
    let mut client = Client::connect(server.server_address());
    client.send("wait\n");
    eventually("the line has come", || has_received(&server, 5));
    server.shutdown();
    word.send(()).expect("the handler waits");
    assert_eq!(client.rest(), "wait\nDraining\n");
    server.stop();
    assert_eq!(errors.try_recv(), Err(mpsc::TryRecvError::Disconnected));
}

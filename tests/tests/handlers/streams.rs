//! `Stream`, `Reader` and `Writer` over real connections, and what a handler can take from a request.

use std::{
    fs, io,
    io::{BufRead, Read, Write},
    net::{Shutdown, SocketAddr},
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    process,
    sync::{
        Arc,
        mpsc::{self, Receiver},
    },
    thread,
    time::Duration,
};

use socket2::{Domain, Socket, Type};
use sockserver::{
    Address, ConnectionId, Context, EndOfFile, FromRequest, HandlerResult, LineTooLong, PeerCred, Reader, ReaderTaken,
    RequestHandler, Server, ServerHandle, SocketServer, Stage, Stream, Writer,
    concurrency::{Synchronous, Threading},
    request_handler,
    transport::{StreamTransport, Tcp, Unix},
};
use sockserver_tests::{
    client::{Client, PATIENCE, eventually},
    place::Place,
    process::{ServerProcess, server},
    resources::Observed,
    script::{Handle, Script, words_of},
    served::Served,
};

/// What a client receives that sends this input at once and then nothing more.
fn talk<S: Server<Transport: StreamTransport>>(server: S, kind: Type, input: &str) -> Vec<String> {
    let (client, request) = Socket::pair(Domain::UNIX, kind, None).expect("a socket pair");
    // It all fits into the queues of the socket, so that nobody has to wait.
    client.send(input.as_bytes()).expect("room for the input");
    client.shutdown(Shutdown::Write).expect("a connection");
    server.serve_connection(request).expect("a connected socket");
    let receive = || {
        let mut packet = vec![0; 1 << 16];
        // A reset is how a connection ends whose input was not all read.
        let length = (&client).read(&mut packet).unwrap_or(0);
        packet.truncate(length);
        String::from_utf8(packet).expect("text")
    };
    std::iter::from_fn(|| Some(receive()).filter(|packet| !packet.is_empty())).collect()
}

/// What each send(2) of a handler was given: a `SEQPACKET` socket keeps the borders.
fn sends<S: Server<Transport: StreamTransport>>(server: S, input: &str) -> Vec<String> {
    talk(server, Type::SEQPACKET, input)
}

fn sends_of(handle: impl Handle<Unix, Synchronous>, input: &str) -> Vec<String> {
    sends(Script::new(handle).0, input)
}

/// What a handler has found, which reads this input and then the end of file.
fn reads<T: Send + std::marker::Sync + 'static>(
    input: impl AsRef<[u8]>,
    read: impl Fn(&mut Reader) -> T + Send + std::marker::Sync + 'static,
) -> T {
    let (found, findings) = mpsc::channel();
    let server = Script::<Unix, Synchronous>::serve(move |session| Ok(found.send(read(&mut session.rfile))?));
    let mut client = Client::connect(server.server_address());
    client.send(input);
    client.finish();
    findings.recv_timeout(PATIENCE).expect("the handler runs")
}

/// Numbers that the compiler does not put into the format string.
fn fragments() -> [u8; 2] {
    std::hint::black_box([1, 2])
}

fn kind<T: std::fmt::Debug>(result: io::Result<T>) -> io::ErrorKind {
    result.expect_err("it fails").kind()
}

// Tied files.

#[test]
fn an_answer_needs_no_flush() {
    let server = Script::<Tcp, Synchronous>::serve(|session| {
        write!(session.wfile, "name? ")?;
        let name = session.rfile.next_line()?.unwrap_or_default();
        write!(session.wfile, "hello {name}, age? ")?;
        let age = session.rfile.next_line()?.unwrap_or_default();
        Ok(write!(session.wfile, "{age} it is")?)
    });
    let mut client = Client::connect(server.server_address());
    assert_eq!(client.bytes(6), b"name? ");
    client.send("Ada\n");
    assert_eq!(client.bytes(16), b"hello Ada, age? ");
    client.send("36\n");
    assert_eq!(client.rest(), "36 it is");
}

#[test]
fn replies_to_pipelined_requests_leave_in_one_packet() {
    let sent = sends_of(
        |session| {
            while let Some(line) = session.rfile.next_line()? {
                writeln!(session.wfile, "{}", line.to_uppercase())?;
            }
            Ok(())
        },
        "one\ntwo\nthree\n",
    );
    assert_eq!(sent, ["ONE\nTWO\nTHREE\n"]);
}

#[test]
fn the_fragments_of_a_write_leave_in_one_packet() {
    let [one, two] = fragments();
    let sent = sends_of(move |session| Ok(write!(session.wfile, "<{one}, {two}>")?), "");
    assert_eq!(sent, ["<1, 2>"]);
}

#[request_handler(wbufsize = 0)]
#[server(transport = "unix", concurrency = "sync")]
struct Unbuffered {
    wfile: Writer,
}

impl RequestHandler for Unbuffered {
    fn handle(&mut self) -> HandlerResult {
        let [one, two] = fragments();
        Ok(write!(self.wfile, "<{one}, {two}>")?)
    }
}

#[test]
fn without_a_buffer_every_write_is_sent_at_once() {
    assert_eq!(sends(UnbufferedServer, ""), ["<", "1", ", ", "2", ">"]);
}

#[request_handler(wbufsize = 4)]
#[server(transport = "unix", concurrency = "sync")]
struct SmallBuffer {
    wfile: Writer,
}

impl RequestHandler for SmallBuffer {
    fn handle(&mut self) -> HandlerResult {
        for piece in ["ab", "cd", "e", "longer", "f", "gh", "i"] {
            self.wfile.write_all(piece.as_bytes())?;
        }
        Ok(())
    }
}

#[test]
fn a_full_buffer_is_sent_and_what_is_longer_goes_past_it_in_order() {
    assert_eq!(sends(SmallBufferServer, ""), ["abcd", "e", "longer", "fghi"]);
}

#[test]
fn writing_to_the_stream_directly_keeps_the_order() {
    let sent = sends_of(
        |session| {
            session.wfile.write_all(b"one ")?;
            (&session.request).write_all(b"two ")?;
            session.wfile.write_all(b"three ")?;
            session.request.clone().write_all(b"four")?;
            Ok(())
        },
        "",
    );
    assert_eq!(sent, ["one ", "two ", "three ", "four"]);
}

#[test]
fn reading_from_the_stream_directly_sends_what_was_written_first() {
    let server = Script::<Tcp, Synchronous>::serve(|session| {
        session.wfile.write_all(b"ready?")?;
        let mut answer = [0; 3];
        session.request.read_exact(&mut answer)?;
        Ok(session.wfile.write_all(&answer)?)
    });
    let mut client = Client::connect(server.server_address());
    assert_eq!(client.bytes(6), b"ready?");
    client.send("yes");
    assert_eq!(client.rest(), "yes");
}

#[test]
fn two_writers_share_one_buffer() {
    #[request_handler]
    #[server(transport = "unix", concurrency = "sync")]
    struct Both {
        one: Writer,
        two: Writer,
    }

    impl RequestHandler for Both {
        fn handle(&mut self) -> HandlerResult {
            write!(self.one, "1")?;
            write!(self.two, "2")?;
            Ok(write!(self.one, "3")?)
        }
    }

    assert_eq!(sends(BothServer, ""), ["123"]);
}

#[test]
fn flush_sends_at_once() {
    let sent = sends_of(
        |session| {
            write!(session.wfile, "first")?;
            session.wfile.flush()?;
            write!(session.wfile, "second")?;
            session.request.flush()?;
            Ok(write!(session.wfile, "third")?)
        },
        "",
    );
    assert_eq!(sent, ["first", "second", "third"]);
}

#[test]
fn shutting_the_stream_down_sends_what_was_written_first() {
    let server = Script::<Tcp, Synchronous>::serve(|session| {
        write!(session.wfile, "goodbye")?;
        session.request.shutdown(Shutdown::Write)?;
        // The other direction is still open.
        assert_eq!(session.rfile.next_line()?.as_deref(), Some("goodbye yourself"));
        Ok(())
    });
    let mut client = Client::connect(server.server_address());
    assert_eq!(client.rest(), "goodbye");
    client.send("goodbye yourself\n");
    eventually("the request ends", || server.stats().finished == 1);
}

#[request_handler(rbufsize = 18_446_744_073_709_551_615)]
#[server(transport = "tcp", concurrency = "sync")]
struct Greedy {
    rfile: Reader,
    wfile: Writer,
}

impl RequestHandler for Greedy {
    fn handle(&mut self) -> HandlerResult {
        Ok(write!(self.wfile, "{:?}", self.rfile.next_line()?)?)
    }
}

#[test]
fn an_rbufsize_that_no_memory_has_is_bounded() {
    let server = Served::new(GreedyServer.bind("127.0.0.1:0").expect("a free port"));
    let mut client = Client::connect(server.server_address());
    client.send("hello\n");
    assert_eq!(client.rest(), "Some(\"hello\")");
}

#[test]
fn reading_into_no_room_waits_for_nobody() {
    let server = Script::<Tcp, Synchronous>::serve(|session| {
        let read = session.request.read(&mut [])?;
        Ok(write!(session.wfile, "{read}")?)
    });
    assert_eq!(Client::connect(server.server_address()).rest(), "0");
}

#[test]
fn cutting_the_stream_sends_what_was_written_first() {
    let server = Script::<Tcp, Synchronous>::serve(|session| {
        write!(session.wfile, "goodbye")?;
        Ok(session.request.shutdown(Shutdown::Both)?)
    });
    assert_eq!(Client::connect(server.server_address()).rest(), "goodbye");
}

#[test]
fn nothing_follows_a_write_that_has_failed_half_way() {
    let (found, findings) = mpsc::channel();
    let server = Script::<Tcp, Synchronous>::serve(move |session| {
        session.request.set_write_timeout(Some(Duration::from_millis(10)))?;
        // More than the socket takes, of which it takes some.
        session.wfile.write_all(&vec![b'x'; 64 << 20]).expect_err("nobody reads");
        session.request.set_write_timeout(None)?;
        found.send(session.wfile.write_all(b"what follows"))?;
        found.send(session.request.write_all(b"what follows directly"))?;
        Ok(session.request.shutdown(Shutdown::Both)?)
    });
    let mut client = Client::connect(server.server_address());
    for _ in 0..2 {
        let result = findings.recv_timeout(PATIENCE).expect("the handler goes on");
        assert_eq!(kind(result), io::ErrorKind::BrokenPipe);
    }
    assert!(client.rest().bytes().all(|byte| byte == b'x'));
}

#[test]
fn a_write_of_which_nothing_was_sent_can_be_made_again() {
    let (found, findings) = mpsc::channel();
    let server = Script::<Unix, Synchronous>::serve(move |session| {
        session.request.set_write_timeout(Some(Duration::from_millis(10)))?;
        while session.request.write(&[b'x'; 1 << 10]).is_ok() {}
        found.send(session.request.write_all(b"!"))?;
        session.request.set_write_timeout(None)?;
        Ok(session.request.write_all(b"!")?)
    });
    let mut client = Client::connect(server.server_address());
    let first = findings.recv_timeout(PATIENCE).expect("the handler goes on");
    assert_eq!(kind(first), io::ErrorKind::TimedOut);
    assert!(client.rest().ends_with("x!"));
}

#[test]
fn cutting_the_stream_waits_for_no_client_that_takes_nothing() {
    let (found, findings) = mpsc::channel();
    let server = Script::<Tcp, Synchronous>::serve(move |session| {
        session.request.set_write_timeout(Some(Duration::from_millis(10)))?;
        while session.request.write(&[0; 1 << 16]).is_ok() {}
        session.request.set_write_timeout(None)?;
        write!(session.wfile, "held back")?;
        Ok(found.send(session.request.shutdown(Shutdown::Both))?)
    });
    let _client = Client::connect(server.server_address());
    findings.recv_timeout(PATIENCE).expect("the handler goes on").expect("the connection is cut");
}

#[test]
fn what_was_written_before_an_error_or_a_panic_is_sent() {
    let server = Script::<Tcp, Synchronous>::serve(|session| {
        let line = session.rfile.next_line()?.unwrap_or_default();
        write!(session.wfile, "sorry")?;
        if line == "panic" { panic!("as told") } else { Err("as told".into()) }
    });
    for how in ["panic", "fail"] {
        let mut client = Client::connect(server.server_address());
        client.send(format!("{how}\n"));
        assert_eq!(client.rest(), "sorry");
        assert_eq!(server.report().is_panic, how == "panic");
    }
}

#[request_handler]
#[server(transport = "unix", concurrency = "sync")]
struct Polite {
    wfile: Writer,
}

impl RequestHandler for Polite {
    fn setup(&mut self) -> HandlerResult {
        Ok(write!(self.wfile, "hello ")?)
    }

    fn handle(&mut self) -> HandlerResult {
        Ok(write!(self.wfile, "and ")?)
    }

    fn finish(&mut self) -> HandlerResult {
        Ok(write!(self.wfile, "goodbye")?)
    }
}

#[test]
fn what_setup_handle_and_finish_write_leaves_together() {
    assert_eq!(sends(PoliteServer, ""), ["hello and goodbye"]);
}

// Lines.

#[test]
fn lines_end_with_either_line_end_or_the_end_of_file() {
    let lines = reads("one\r\ntwo\n\n\r\na\rb\nlast", |rfile| {
        std::iter::from_fn(|| rfile.next_line().expect("lines")).collect::<Vec<_>>()
    });
    assert_eq!(lines, ["one", "two", "", "", "a\rb", "last"]);
}

#[test]
fn a_carriage_return_at_the_end_of_file_belongs_to_the_line() {
    assert_eq!(reads("last\r", |rfile| rfile.next_line().expect("a line")).as_deref(), Some("last\r"));
}

#[test]
fn after_the_end_of_file_there_is_no_line_and_no_error() {
    let lines = reads("one\n", |rfile| [rfile.next_line(), rfile.next_line(), rfile.next_line()].map(Result::ok));
    assert_eq!(lines, [Some(Some("one".into())), Some(None), Some(None)]);
}

#[test]
fn a_line_that_is_not_utf8_is_consumed() {
    let lines = reads(b"\xff\xfe\nnext\n", |rfile| [rfile.next_line(), rfile.next_line()]);
    let [bad, next] = lines;
    assert_eq!(kind(bad), io::ErrorKind::InvalidData);
    assert_eq!(next.expect("the next line").as_deref(), Some("next"));
}

#[test]
fn read_line_leaves_the_string_as_it_was_on_bytes_that_are_not_utf8() {
    let (kind, line) = reads(b"\xff\nnext\n", |rfile| {
        let mut line = String::from("before ");
        let error = rfile.read_line(&mut line).expect_err("no text");
        assert_eq!(line, "before ");
        rfile.read_line(&mut line).expect("the next line");
        (error.kind(), line)
    });
    assert_eq!((kind, line.as_str()), (io::ErrorKind::InvalidData, "before next\n"));
}

#[test]
fn a_read_that_fails_in_the_middle_of_a_character_tells_its_own_error() {
    let server = Script::<Tcp, Synchronous>::serve(|session| {
        session.request.set_read_timeout(Some(Duration::from_millis(10)))?;
        let mut line = String::from("before ");
        // The first byte of two comes, or nothing yet.
        assert_eq!(kind(session.rfile.read_line(&mut line)), io::ErrorKind::TimedOut);
        assert_eq!(line, "before ");
        Ok(())
    });
    let mut client = Client::connect(server.server_address());
    client.send([0xc3]);
    assert_eq!(client.rest(), "");
    eventually("the handler ends", || server.stats().active == 0);
    assert_eq!(server.reported(), None);
}

#[test]
fn a_line_that_comes_byte_by_byte_is_whole() {
    let server = Script::<Tcp, Synchronous>::serve(|session| {
        let line = session.rfile.next_line()?.unwrap_or_default();
        Ok(write!(session.wfile, "{line}")?)
    });
    let mut client = Client::connect(server.server_address());
    for byte in "ünïcödé\r\n".bytes() {
        client.send([byte]);
    }
    assert_eq!(client.rest(), "ünïcödé");
}

#[request_handler(max_line = 5, rbufsize = 3)]
#[server(transport = "unix", concurrency = "sync")]
struct Short {
    rfile: Reader,
    wfile: Writer,
}

impl RequestHandler for Short {
    fn handle(&mut self) -> HandlerResult {
        loop {
            match self.rfile.next_line() {
                Ok(Some(line)) => write!(self.wfile, "[{line}]")?,
                Ok(None) => return Ok(()),
                Err(error) => {
                    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<LineTooLong>());
                    return Ok(write!(self.wfile, "{:?}: {error}, {inner:?}", error.kind())?);
                }
            }
        }
    }
}

#[test]
fn a_line_may_be_as_long_as_max_line_whatever_its_end_and_the_buffer() {
    assert_eq!(talk(ShortServer, Type::STREAM, "12345\n1234\r\n\n12345"), ["[12345][1234][][12345]"]);
}

#[test]
fn a_line_longer_than_max_line_is_an_error() {
    for (input, length) in [("123456\n", 6), ("123456", 6), ("1234567890123456", 6)] {
        // The buffer has room for three bytes, so that no more than six are received.
        let error = LineTooLong { length, limit: 5 };
        assert_eq!(talk(ShortServer, Type::STREAM, input), [format!("InvalidData: {error}, {:?}", Some(error))]);
    }
}

/// Goes on after a line that is too long.
#[request_handler(max_line = 5)]
#[server(transport = "unix", concurrency = "sync")]
struct Lenient {
    rfile: Reader,
    wfile: Writer,
}

impl RequestHandler for Lenient {
    fn handle(&mut self) -> HandlerResult {
        loop {
            match self.rfile.next_line() {
                Ok(Some(line)) => write!(self.wfile, "[{line}]")?,
                Ok(None) => return Ok(()),
                Err(error) => write!(self.wfile, "{error}")?,
            }
        }
    }
}

#[test]
fn the_rest_of_a_line_that_is_too_long_is_read_next() {
    let error = LineTooLong { length: 9, limit: 5 };
    assert_eq!(talk(LenientServer, Type::STREAM, "123456789\nnext\n"), [format!("{error}[789][next]")]);
}

/// Drops the rest of a line that is too long.
#[request_handler(max_line = 5, rbufsize = 3)]
#[server(transport = "unix", concurrency = "sync")]
struct Skipping {
    rfile: Reader,
    wfile: Writer,
}

impl RequestHandler for Skipping {
    fn handle(&mut self) -> HandlerResult {
        loop {
            match self.rfile.next_line() {
                Ok(Some(line)) => write!(self.wfile, "[{line}]")?,
                Ok(None) => return Ok(()),
                Err(_) => {
                    self.rfile.skip_until(b'\n')?;
                    write!(self.wfile, "skipped")?;
                }
            }
        }
    }
}

#[test]
fn the_rest_of_a_line_that_is_too_long_can_be_skipped() {
    assert_eq!(talk(SkippingServer, Type::STREAM, "123456789 more\nnext\n123456"), ["skipped[next]skipped"]);
}

/// Goes on after a line that is too long.
#[request_handler(max_line = 5, rbufsize = 3)]
#[server(transport = "unix", concurrency = "sync")]
struct ShortBytes {
    rfile: Reader,
    wfile: Writer,
}

impl RequestHandler for ShortBytes {
    fn handle(&mut self) -> HandlerResult {
        loop {
            match self.rfile.next_line_bytes() {
                Ok(Some(line)) => write!(self.wfile, "{line:?}")?,
                Ok(None) => return Ok(()),
                Err(error) => write!(self.wfile, "{:?}", error.kind())?,
            }
        }
    }
}

#[test]
fn a_line_of_bytes_keeps_to_max_line_as_a_line_of_text_does() {
    let input = "12345\n1234\r\n\r\n\0\0\n123456789\r\nend\r";
    let lines = ["12345", "1234", "", "\0\0"].map(|line| format!("{:?}", line.as_bytes())).concat();
    let rest = ["789", "end\r"].map(|line| format!("{:?}", line.as_bytes())).concat();
    assert_eq!(talk(ShortBytesServer, Type::STREAM, input), [format!("{lines}InvalidData{rest}")]);
}

#[test]
fn a_line_that_is_not_utf8_and_times_out_is_whole_afterwards() {
    let (timed_out, timeouts) = mpsc::channel();
    let server = Script::<Tcp, Synchronous>::serve(move |session| {
        session.request.set_read_timeout(Some(Duration::from_millis(10)))?;
        loop {
            match session.rfile.next_line_bytes() {
                Err(error) if error.kind() == io::ErrorKind::TimedOut => timed_out.send(())?,
                line => return Ok(write!(session.wfile, "{:?}", line?)?),
            }
        }
    });
    let mut client = Client::connect(server.server_address());
    for piece in [&b"\xff\0"[..], b"\xfe", b"\r"] {
        client.send(piece);
        timeouts.recv_timeout(PATIENCE).expect("it takes longer than that");
    }
    client.send("\nnext");
    assert_eq!(client.rest(), "Some([255, 0, 254])");
}

#[test]
fn more_than_has_come_can_be_consumed_and_what_comes_then_is_read() {
    let server = Script::<Tcp, Synchronous>::serve(|session| {
        // Nothing is there yet.
        session.rfile.consume(usize::MAX);
        session.rfile.fill_buf()?;
        session.rfile.consume(1);
        session.rfile.consume(usize::MAX);
        writeln!(session.wfile, "consumed")?;
        session.rfile.consume(usize::MAX - 1);
        Ok(write!(session.wfile, "{:?}", session.rfile.next_line()?)?)
    });
    let mut client = Client::connect(server.server_address());
    assert_eq!(client.ask("first"), "consumed");
    client.send("second\n");
    assert_eq!(client.rest(), "Some(\"second\")");
}

#[test]
fn a_reader_is_a_buf_read() {
    let read = reads("a line\nto;the rest", |rfile| {
        let mut line = String::new();
        rfile.read_line(&mut line)?;
        let mut part = Vec::new();
        rfile.read_until(b';', &mut part)?;
        let mut rest = String::new();
        rfile.read_to_string(&mut rest)?;
        io::Result::Ok((line, part, rest))
    });
    assert_eq!(read.expect("it can be read"), ("a line\n".into(), b"to;".to_vec(), "the rest".into()));
}

#[test]
fn a_large_input_is_read_whole() {
    let input: Vec<u8> = (0..1_000_000_u32).map(|number| (number % 251) as u8).collect();
    let expected = input.clone();
    let read = reads(input, |rfile| {
        let mut bytes = Vec::new();
        rfile.read_to_end(&mut bytes).map(|_| bytes)
    });
    assert!(read.expect("it can be read") == expected, "other bytes have come");
}

#[test]
fn a_read_that_is_larger_than_the_buffer_does_without_it() {
    let input = "x".repeat(20 << 10);
    let sent = sends_of(
        |session| {
            let read = session.rfile.read(&mut [0; 32 << 10])?;
            Ok(write!(session.wfile, "{read}")?)
        },
        &input,
    );
    assert_eq!(sent, ["20480"]);
}

// Timeouts.

#[request_handler(timeout = "50ms")]
struct Impatient {
    rfile: Reader,
    wfile: Writer,
    server: Arc<ImpatientServer>,
}

#[derive(Server)]
#[server(transport = "tcp", concurrency = "sync", handler = Impatient)]
struct ImpatientServer {
    kinds: mpsc::Sender<io::ErrorKind>,
}

impl RequestHandler for Impatient {
    fn handle(&mut self) -> HandlerResult {
        let result = match self.rfile.next_line()? {
            // Until the queues of both sockets are full.
            Some(_) => loop {
                if let Err(error) = self.wfile.write_all(&[0; 1 << 20]) {
                    break Err(error);
                }
            },
            None => Ok(()),
        };
        if let Err(error) = &result {
            self.server.kinds.send(error.kind())?;
        }
        Ok(result?)
    }
}

fn bind_impatiently() -> (SocketServer<ImpatientServer>, Receiver<io::ErrorKind>) {
    let (kinds, receiver) = mpsc::channel();
    (ImpatientServer { kinds }.bind("127.0.0.1:0").expect("a free port"), receiver)
}

#[test]
fn a_client_that_sends_nothing_is_timed_out() {
    let (server, _kinds) = bind_impatiently();
    let server = Served::new(server);
    let mut client = Client::connect(server.server_address());
    assert_eq!(client.rest(), "");
    eventually("it is counted", || server.stats().timed_out == 1);
    assert_eq!(server.stats().failed, 0);
}

#[test]
fn a_client_that_takes_nothing_is_timed_out() {
    let (server, kinds) = bind_impatiently();
    let mut client = Client::connect(server.server_address());
    // The handler would not wait for it for long.
    client.send("go on\n");
    let server = Served::new(server);
    assert_eq!(kinds.recv_timeout(PATIENCE).expect("the write ends"), io::ErrorKind::TimedOut);
    eventually("it is counted", || server.stats().timed_out == 1);
}

#[test]
fn a_timeout_can_be_set_and_taken_back() {
    let server = Script::<Tcp, Threading>::serve(|session| {
        session.request.set_read_timeout(Some(Duration::from_millis(10)))?;
        assert_eq!(kind(session.rfile.next_line()), io::ErrorKind::TimedOut);
        session.request.set_read_timeout(None)?;
        writeln!(session.wfile, "take your time")?;
        assert_eq!(session.rfile.next_line()?.as_deref(), Some("thank you"));
        Ok(())
    });
    let mut client = Client::connect(server.server_address());
    assert_eq!(client.line(), "take your time");
    client.send("thank you\n");
    assert_eq!(client.rest(), "");
    eventually("the handler ends", || server.stats().active == 0);
    assert_eq!(server.reported(), None);
}

#[test]
fn a_line_that_takes_longer_than_the_timeout_is_not_lost() {
    let (timed_out, timeouts) = mpsc::channel();
    let server = Script::<Tcp, Synchronous>::serve(move |session| {
        session.request.set_read_timeout(Some(Duration::from_millis(10)))?;
        loop {
            match session.rfile.next_line() {
                Err(error) if error.kind() == io::ErrorKind::TimedOut => timed_out.send(())?,
                line => return Ok(writeln!(session.wfile, "{:?}", line?)?),
            }
        }
    });
    let mut client = Client::connect(server.server_address());
    for piece in ["a line ", "in three "] {
        client.send(piece);
        timeouts.recv_timeout(PATIENCE).expect("it takes longer than that");
    }
    client.send("pieces\n");
    assert_eq!(client.line(), "Some(\"a line in three pieces\")");
}

#[test]
fn the_shortest_timeout_is_one() {
    let server = Script::<Tcp, Synchronous>::serve(|session| {
        session.request.set_read_timeout(Some(Duration::from_nanos(1)))?;
        assert_eq!(kind(session.rfile.next_line()), io::ErrorKind::TimedOut);
        Ok(())
    });
    assert_eq!(Client::connect(server.server_address()).rest(), "");
    eventually("the handler ends", || server.stats().active == 0);
    assert_eq!(server.reported(), None);
}

#[test]
fn a_timeout_of_zero_is_refused() {
    let server = Script::<Tcp, Synchronous>::serve(|session| {
        assert_eq!(kind(session.request.set_read_timeout(Some(Duration::ZERO))), io::ErrorKind::InvalidInput);
        assert_eq!(kind(session.request.set_write_timeout(Some(Duration::ZERO))), io::ErrorKind::InvalidInput);
        Ok(())
    });
    assert_eq!(Client::connect(server.server_address()).rest(), "");
    eventually("the handler ends", || server.stats().active == 0);
    assert_eq!(server.reported(), None);
}

// What can be taken from a request.

#[derive(Server)]
#[server(transport = "tcp", concurrency = "sync", handler = Inet)]
struct InetServer {
    seen: mpsc::Sender<SocketAddr>,
}

#[request_handler]
struct Inet {
    request: Stream,
    rfile: Reader,
    wfile: Writer,
    client_address: Address,
    client: SocketAddr,
    id: ConnectionId,
    handle: ServerHandle,
    server: Arc<InetServer>,
    #[default]
    nothing: Option<u8>,
    #[default(7)]
    number: u8,
}

impl RequestHandler for Inet {
    fn handle(&mut self) -> HandlerResult {
        assert_eq!(self.id, self.request.id());
        assert_eq!(self.client_address, self.client);
        assert_eq!(self.request.peer_addr()?, self.client_address);
        assert_eq!(self.request.local_addr()?, *self.handle.server_address());
        assert_eq!((self.nothing, self.number), (None, 7));
        assert_eq!(self.rfile.next_line()?.as_deref(), Some("hello"));
        writeln!(self.wfile, "hello")?;
        Ok(self.server.seen.send(self.client)?)
    }
}

#[test]
fn a_handler_takes_what_it_names_from_a_tcp_request() {
    let (seen, addresses) = mpsc::channel();
    let server = Served::new(InetServer { seen }.bind("127.0.0.1:0").expect("a free port"));
    let mut client = Client::connect(server.server_address());
    assert_eq!(client.ask("hello"), "hello");
    let address = addresses.recv_timeout(PATIENCE).expect("the handler has found all as it should be");
    assert_eq!(client.address(), address);
}

#[request_handler]
#[server(transport = "unix", concurrency = "sync")]
struct Whoami {
    peer: PeerCred,
    client_address: Address,
    wfile: Writer,
}

impl RequestHandler for Whoami {
    fn handle(&mut self) -> HandlerResult {
        let PeerCred { uid, gid, pid, .. } = self.peer;
        Ok(write!(self.wfile, "{uid} {gid} {pid:?} {}", self.client_address)?)
    }
}

#[test]
fn a_unix_client_has_credentials_and_no_name() {
    let place = Place::unix();
    let server = Served::new(WhoamiServer.bind(place.path()).expect("a free path"));
    let myself = fs::metadata("/proc/self").expect("a process");
    let expected = format!("{} {} {:?} (unnamed)", myself.uid(), myself.gid(), Some(process::id()));
    assert_eq!(Client::connect(server.server_address()).rest(), expected);
}

#[test]
fn an_internet_client_has_no_credentials() {
    let server = Script::<Tcp, Synchronous>::serve(|session| {
        assert_eq!(kind(PeerCred::of(&session.request)), io::ErrorKind::Unsupported);
        Ok(())
    });
    assert_eq!(Client::connect(server.server_address()).rest(), "");
    eventually("the handler ends", || server.stats().active == 0);
    assert_eq!(server.reported(), None);
}

/// The first line of a connection.
struct Greeting(String);

impl<S: Server> FromRequest<S> for Greeting
where
    Reader: FromRequest<S>,
{
    fn from_request(cx: &mut Context<'_, S>) -> io::Result<Greeting> {
        Ok(Greeting(Reader::from_request(cx)?.next_line()?.ok_or(EndOfFile)?))
    }
}

#[request_handler]
#[server(transport = "tcp", concurrency = "sync")]
struct Greeted {
    greeting: Greeting,
    rfile: Reader,
    wfile: Writer,
}

impl RequestHandler for Greeted {
    fn handle(&mut self) -> HandlerResult {
        let Greeting(greeting) = &self.greeting;
        while let Some(line) = self.rfile.next_line()? {
            writeln!(self.wfile, "{greeting}: {line}")?;
        }
        Ok(())
    }
}

#[test]
fn a_type_of_the_users_own_reads_before_the_handlers_reader_which_misses_nothing() {
    let server = Served::new(GreetedServer.bind("127.0.0.1:0").expect("a free port"));
    let mut client = Client::connect(server.server_address());
    client.send("Ada\none\ntwo\n");
    client.finish();
    assert_eq!(client.rest(), "Ada: one\nAda: two\n");
}

#[test]
fn a_failure_to_make_the_handler_ends_the_request_before_setup() {
    let server = Served::new(GreetedServer.bind("127.0.0.1:0").expect("a free port"));
    let mut client = Client::connect(server.server_address());
    client.finish();
    assert_eq!(client.rest(), "");
    eventually("an unexpected end of file counts as a hang-up", || server.stats().disconnected == 1);
}

#[test]
fn a_request_has_one_reader_at_a_time() {
    /// Two, of which the second is refused.
    struct Second(io::Error, Reader);

    impl<S: Server> FromRequest<S> for Second {
        fn from_request(cx: &mut Context<'_, S>) -> io::Result<Second> {
            let first = Reader::from_request(cx)?;
            Ok(Second(Reader::from_request(cx).expect_err("the first one is in use"), first))
        }
    }

    #[request_handler]
    #[server(transport = "unix", concurrency = "sync")]
    struct Two {
        second: Second,
        wfile: Writer,
    }

    impl RequestHandler for Two {
        fn handle(&mut self) -> HandlerResult {
            let Second(refused, first) = &mut self.second;
            let inner = refused.get_ref().and_then(|inner| inner.downcast_ref::<ReaderTaken>());
            Ok(write!(self.wfile, "{:?} {inner:?} {:?}", refused.kind(), first.next_line()?)?)
        }
    }

    assert_eq!(sends(TwoServer, "line\n"), ["ResourceBusy Some(ReaderTaken) Some(\"line\")"]);
}

#[test]
fn a_handler_with_two_readers_says_so_when_it_is_made() {
    #[derive(Server)]
    #[server(transport = "tcp", concurrency = "sync", handler = Two, hooks(handle_error = Self::note))]
    struct TwoServer {
        noted: mpsc::Sender<(Stage, String)>,
    }

    impl TwoServer {
        fn note(&self, error: &sockserver::HandlerError, _: &Address) {
            self.noted.send((error.stage(), words_of(error))).expect("the test waits");
        }
    }

    #[request_handler]
    struct Two {
        #[expect(dead_code, reason = "it is what makes the other one too many")]
        first: Reader,
        #[expect(dead_code, reason = "it cannot be made")]
        second: Another,
    }

    /// The attribute refuses a second reader that it recognises.
    type Another = Reader;

    impl RequestHandler for Two {
        fn handle(&mut self) -> HandlerResult {
            unreachable!("there is no such handler")
        }
    }

    let (noted, errors) = mpsc::channel();
    let server = Served::new(TwoServer { noted }.bind("127.0.0.1:0").expect("a free port"));
    assert_eq!(Client::connect(server.server_address()).rest(), "");
    let (stage, message) = errors.recv_timeout(PATIENCE).expect("it is reported");
    assert_eq!(stage, Stage::Construction);
    assert!(message.contains("one `Reader`"), "{message}");
}

#[test]
fn the_options_of_the_files_can_be_set_by_a_type_of_the_users_own() {
    struct Unheld(Writer);

    impl<S: Server> FromRequest<S> for Unheld {
        fn from_request(cx: &mut Context<'_, S>) -> io::Result<Unheld> {
            cx.set_wbufsize(0);
            Writer::from_request(cx).map(Unheld)
        }
    }

    #[request_handler]
    #[server(transport = "unix", concurrency = "sync")]
    struct Eager {
        wfile: Unheld,
    }

    impl RequestHandler for Eager {
        fn handle(&mut self) -> HandlerResult {
            let [one, two] = fragments();
            Ok(write!(self.wfile.0, "{one}{two}")?)
        }
    }

    assert_eq!(sends(EagerServer, ""), ["1", "2"]);
}

// Clones of a stream.

#[test]
fn clones_share_one_descriptor_and_number() {
    let server = Script::<Tcp, Synchronous>::serve(|session| {
        let clone = session.request.clone();
        assert_eq!(clone.as_raw_fd(), session.request.as_raw_fd());
        assert_eq!(clone.id(), session.id);
        Ok(())
    });
    assert_eq!(Client::connect(server.server_address()).rest(), "");
    eventually("the handler ends", || server.stats().active == 0);
    assert_eq!(server.reported(), None);
}

#[test]
fn numbers_of_connections_are_never_used_again() {
    let (ids, seen) = mpsc::channel();
    let server = Script::<Tcp, Synchronous>::serve(move |session| Ok(ids.send(session.id)?));
    for _ in 0..10 {
        assert_eq!(Client::connect(server.server_address()).rest(), "");
    }
    let mut ids: Vec<_> = seen.try_iter().collect();
    ids.dedup();
    assert_eq!(ids.len(), 10);
    assert!(ids.is_sorted());
}

#[test]
fn the_number_of_a_connection_can_be_shown_and_read_again() {
    let (ids, seen) = mpsc::channel();
    let server = Script::<Tcp, Synchronous>::serve(move |session| Ok(ids.send(session.id)?));
    for _ in 0..3 {
        assert_eq!(Client::connect(server.server_address()).rest(), "");
        let id = seen.recv_timeout(PATIENCE).expect("the handler runs");
        assert_eq!(id.to_string().parse(), Ok(id));
    }
    for text in ["", "-1", "one", "1 2", "18446744073709551616"] {
        assert!(text.parse::<ConnectionId>().is_err(), "{text}");
    }
}

#[test]
fn a_clone_that_another_thread_has_writes_to_the_same_client() {
    let (clones, clone) = mpsc::channel();
    let server = Script::<Tcp, Threading>::serve(move |session| {
        clones.send(session.request.clone())?;
        writeln!(session.wfile, "wait")?;
        assert_eq!(session.rfile.next_line()?.as_deref(), Some("thanks"));
        Ok(())
    });
    let mut client = Client::connect(server.server_address());
    assert_eq!(client.line(), "wait");
    let mut clone = clone.recv_timeout(PATIENCE).expect("the handler gives it away");
    writeln!(clone, "from elsewhere").expect("the connection is up");
    assert_eq!(client.line(), "from elsewhere");

    client.send("thanks\n");
    // The request ends for the client although there is a clone of it.
    assert_eq!(client.rest(), "");
    eventually("the request has ended", || server.stats().finished == 1);
    assert_eq!(kind(clone.write(b"too late")), io::ErrorKind::BrokenPipe);
}

#[test]
fn a_handler_reads_while_another_of_its_threads_writes() {
    // More than the queues of both sockets take, in either direction.
    const LENGTH: usize = 4 << 20;
    let server = Script::<Unix, Synchronous>::serve(|session| {
        thread::scope(|scope| {
            let mut stream = &session.request;
            scope.spawn(move || stream.write_all(&vec![b'x'; LENGTH]));
            eventually("it writes", || session.server.connections()[0].bytes_out > 0);
            session.rfile.read_exact(&mut vec![0; LENGTH])
        })?;
        Ok(())
    });
    let mut client = Client::connect(server.server_address());
    // It reads when it has sent all.
    client.send(vec![b'y'; LENGTH]);
    assert_eq!(client.rest().len(), LENGTH);
}

#[test]
fn what_two_threads_write_is_not_mixed() {
    const LINES: usize = 9;
    // More than is sent at once.
    const LENGTH: usize = 500_000;
    let server = Script::<Unix, Synchronous>::serve(|session| {
        thread::scope(|scope| {
            for letter in ["a", "b", "c"] {
                let mut stream = &session.request;
                let line = letter.repeat(LENGTH - 1) + "\n";
                scope.spawn(move || (0..LINES / 3).try_for_each(|_| stream.write_all(line.as_bytes())));
            }
        });
        Ok(())
    });
    let mut client = Client::connect(server.server_address());
    for _ in 0..LINES {
        let mut line = Vec::new();
        while line.len() < LENGTH {
            // So that whoever writes has to wait, and the others come by.
            thread::sleep(Duration::from_millis(1));
            line.extend(client.bytes(LENGTH / 10));
        }
        let (end, letters) = line.split_last().expect("it is not empty");
        assert!(*end == b'\n' && letters.iter().all(|letter| *letter == letters[0]), "lines are mixed");
    }
}

#[test]
fn a_peer_that_hangs_up_is_a_disconnect() {
    let server = Script::<Tcp, Synchronous>::serve(|session| {
        session.rfile.next_line()?;
        Ok(())
    });
    let mut client = Client::connect(server.server_address());
    client.send("half a li");
    client.reset();
    let report = server.report();
    assert!(report.is_disconnect, "{report:?}");
    eventually("it is counted", || server.stats().disconnected == 1);
    assert_eq!(server.stats().failed, 0);
}

// Signals. That they do not harm a write is in `parity.rs`, as CPython tests it.

/// A server whose handlers run on the one thread of a process, which no signal can miss.
fn obedient(concurrency: &str) -> ServerProcess {
    let mut command = server("obedient");
    command.args(["tcp", concurrency]);
    ServerProcess::start(command, Place::of("tcp"))
}

#[test]
fn a_read_that_signals_interrupt_goes_on() {
    for concurrency in ["sync", "forking"] {
        let server = obedient(concurrency);
        let mut client = Client::connect(server.address());
        let pid = client.ask("bulk 0");
        let handler = Observed::of(pid.parse().expect("the number of a process"));
        assert_eq!(client.line(), "interrupted false");
        for _ in 0..5 {
            handler.signal("USR1");
        }
        client.send("echo inter");
        handler.signal("USR1");
        assert_eq!(client.ask("rupted"), "interrupted");
    }
}

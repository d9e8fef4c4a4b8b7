//! What an error says of the client, how a request is counted, and that errors are told without harm.

use std::{
    error::Error,
    fmt,
    fs::File,
    io::{self, BufRead, ErrorKind, Read, Write},
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::mpsc,
    time::Duration,
};

use socket2::{Domain, Socket, Type};
use sockserver::{
    Address, BoxError, Concurrency, ConnectionId, ConnectionInfo, EndOfFile, HandlerError, HandlerResult, Options,
    Reader, RequestHandler, Server, Stage, Stats, Writer,
    concurrency::Synchronous,
    request_handler,
    transport::{Tcp, Udp},
};
use sockserver_tests::{
    client::{Client, DatagramClient, PATIENCE, eventually},
    concurrencies::Word,
    in_each_concurrency,
    line_server::{LineServer, stat},
    place::{Directory, Place},
    process::{ServerProcess, server, server_program},
    script::{Handle, Script, Session},
    served::Served,
};

const KINDS: [ErrorKind; 6] = [
    ErrorKind::BrokenPipe,
    ErrorKind::ConnectionAborted,
    ErrorKind::ConnectionReset,
    ErrorKind::NotConnected,
    ErrorKind::TimedOut,
    ErrorKind::UnexpectedEof,
];

/// What another connection of the handler has failed with, as an error of its own.
#[derive(Debug)]
struct Upstream(io::Error);

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("upstream")
    }
}

impl Error for Upstream {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

struct Clerk(mpsc::Sender<(Option<ConnectionInfo>, Stage)>);

impl Server for Clerk {
    type Transport = Tcp;
    type Concurrency = Synchronous;
    type Handler = Failing;

    const OPTIONS: Options = Options::new();

    fn handle_error(&self, error: &HandlerError, client_address: &Address) {
        if let Some(connection) = error.connection() {
            assert_eq!(connection.client_address, *client_address);
        }
        let _ = self.0.send((error.connection().cloned(), error.stage()));
    }
}

#[request_handler]
struct Failing {
    rfile: Reader,
    wfile: Writer,
    id: ConnectionId,
}

impl RequestHandler for Failing {
    fn handle(&mut self) -> HandlerResult {
        self.rfile.next_line()?;
        writeln!(self.wfile, "{}", self.id)?;
        Err("no disk".into())
    }
}

#[test]
fn an_error_has_the_connection() {
    let (errors, reported) = mpsc::channel();
    let server = Served::new(Clerk(errors).bind("127.0.0.1:0").expect("a free port"));
    for _ in 0..2 {
        let mut client = Client::connect(server.server_address());
        let id = client.ask("four");
        client.wait_for_end();
        let (connection, stage) = reported.recv_timeout(PATIENCE).expect("it is reported");
        let connection = connection.expect("a handler has one");
        assert_eq!((connection.id.to_string(), stage), (id.clone(), Stage::Handle));
        let bytes = (connection.bytes_in, connection.bytes_out);
        assert_eq!((bytes, connection.closing), ((5, id.len() as u64 + 1), None));
    }
    assert!(HandlerError::new(Stage::Handle, "by hand").connection().is_none());
}

fn an_error_of_another_connection_is_a_failure<C: Concurrency + Default>() {
    for is_wrapped in [false, true] {
        for kind in KINDS {
            let server = Script::<Tcp, C>::serve(move |session| {
                session.rfile.next_line()?;
                let error = io::Error::from(kind);
                Err(if is_wrapped { Upstream(error).into() } else { error.into() })
            });
            let mut client = Client::connect(server.server_address());
            // The client has not ended: its end of file would be one of its own.
            client.send("hello\n");
            let report = server.report();
            assert!(!report.is_disconnect && !report.is_timeout, "{report:?}");
            client.wait_for_end();
            assert_eq!(server.stats().failed, 1);
        }
    }
}

/// Does something to a connection that then fails, and tells how that is counted.
fn counted<C: Concurrency + Default>(
    fail: impl Fn(&mut Session<Tcp, C>) -> io::Result<()> + Send + std::marker::Sync + 'static,
    provoke: impl FnOnce(Client),
) -> (bool, bool, Stats) {
    let server = Script::<Tcp, C>::serve(move |session| Err(Upstream(fail(session).expect_err("it fails")).into()));
    provoke(Client::connect(server.server_address()));
    let report = server.report();
    eventually("it is counted", || server.stats().active == 0);
    (report.is_disconnect, report.is_timeout, server.stats())
}

fn an_error_of_the_clients_own_connection_is_its_doing<C: Concurrency + Default>() {
    let read = |session: &mut Session<Tcp, C>| session.rfile.read_exact(&mut [0; 10]);
    let (is_disconnect, is_timeout, stats) = counted::<C>(read, |mut client| client.send("half"));
    assert!(is_disconnect && !is_timeout);
    assert_eq!(stats.disconnected, 1);

    let (is_disconnect, is_timeout, stats) = counted::<C>(read, Client::reset);
    assert!(is_disconnect && !is_timeout);
    assert_eq!(stats.disconnected, 1);

    let impatient = |session: &mut Session<Tcp, C>| {
        session.request.set_read_timeout(Some(Duration::from_millis(50)))?;
        session.rfile.fill_buf().map(drop)
    };
    let (is_disconnect, is_timeout, stats) = counted::<C>(impatient, |mut client| client.wait_for_end());
    assert!(!is_disconnect && is_timeout);
    assert_eq!(stats.timed_out, 1);
}

/// How a request is counted.
#[derive(Debug, PartialEq, Eq)]
enum Counted {
    Failed,
    Disconnected,
    TimedOut,
}

/// Serves a client by a handler that fails, and tells what `handle_error` and the counters say of it.
fn told<C: Concurrency + Default>(handle: impl Handle<Tcp, C>, client: impl FnOnce(Client)) -> Counted {
    let server = Script::<Tcp, C>::serve(handle);
    client(Client::connect(server.server_address()));
    let report = server.report();
    eventually("it is counted", || server.stats().active == 0);
    let stats = server.stats();
    match (report.is_disconnect, report.is_timeout, stats.failed, stats.disconnected, stats.timed_out) {
        (false, false, 1, 0, 0) => Counted::Failed,
        (true, false, 0, 1, 0) => Counted::Disconnected,
        (false, true, 0, 0, 1) => Counted::TimedOut,
        _ => panic!("{report:?}, {stats:?}"),
    }
}

/// Sends a line, and nothing more.
fn ask_and_end(mut client: Client) {
    client.send("hello\n");
    client.finish();
    client.wait_for_end();
}

fn end_of_another_stream() -> io::Error {
    let mut file: &[u8] = b"ab";
    file.read_exact(&mut [0; 4]).expect_err("it is too short")
}

fn an_end_of_another_stream_after_that_of_the_client_is_a_failure<C: Concurrency + Default>() {
    for read_to_end in [
        |session: &mut Session<Tcp, C>| session.rfile.read_to_string(&mut String::new()).map(drop),
        |session: &mut Session<Tcp, C>| (&session.request).read_to_string(&mut String::new()).map(drop),
        |session: &mut Session<Tcp, C>| {
            while session.rfile.next_line()?.is_some() {}
            Ok(())
        },
    ] {
        let handle = move |session: &mut Session<Tcp, C>| {
            read_to_end(session)?;
            Err(end_of_another_stream().into())
        };
        assert_eq!(told(handle, ask_and_end), Counted::Failed);
    }
}

type HandleFunction<C> = fn(&mut Session<Tcp, C>) -> HandlerResult;

fn an_early_end_of_the_client_is_its_doing<C: Concurrency + Default>() {
    let ways: [HandleFunction<C>; 6] = [
        |session| Ok(session.rfile.read_exact(&mut [0; 10])?),
        |session| Ok(session.request.read_exact(&mut [0; 10])?),
        |session| Ok((&session.request).read_exact(&mut [0; 10])?),
        |session| Err(io::Error::other(session.rfile.read_exact(&mut [0; 10]).expect_err("too few")).into()),
        |session| {
            while session.rfile.next_line()?.is_some() {}
            Err(EndOfFile.into())
        },
        // The handler tells the client what is wrong, and returns the error then.
        |session| {
            let ended = session.rfile.read_exact(&mut [0; 10]);
            writeln!(session.wfile, "that is too little")?;
            session.wfile.flush()?;
            Ok(ended?)
        },
    ];
    for way in ways {
        assert_eq!(told(way, ask_and_end), Counted::Disconnected);
    }
    // The client has not ended.
    let handle = |session: &mut Session<Tcp, C>| {
        session.rfile.next_line()?;
        Err(EndOfFile.into())
    };
    let wait = |mut client: Client| {
        client.send("hello\n");
        client.wait_for_end();
    };
    assert_eq!(told::<C>(handle, wait), Counted::Failed);
}

/// A read timeout of the client, which sends something after that.
fn read_timeout<C: Concurrency + Default>(session: &mut Session<Tcp, C>) -> io::Result<io::Error> {
    session.request.set_read_timeout(Some(Duration::from_millis(20)))?;
    let timeout = session.rfile.next_line().expect_err("the client is silent");
    session.request.set_read_timeout(None)?;
    writeln!(session.wfile, "still there?")?;
    session.wfile.flush()?;
    Ok(timeout)
}

fn pong(mut client: Client) {
    assert_eq!(client.line(), "still there?");
    client.send("yes\n");
    client.wait_for_end();
}

fn a_failure_that_was_caught_says_nothing_of_later_ones<C: Concurrency + Default>() {
    for has_answered in [false, true] {
        for is_text in [false, true] {
            let handle = move |session: &mut Session<Tcp, C>| {
                read_timeout(session)?;
                if has_answered {
                    session.rfile.next_line()?;
                }
                Err(if is_text { "a database".into() } else { io::Error::from(ErrorKind::TimedOut).into() })
            };
            assert_eq!(told(handle, pong), Counted::Failed);
        }
    }
}

fn a_timeout_stays_one_when_the_client_was_told_of_it<C: Concurrency + Default>() {
    assert_eq!(told::<C>(|session| Err(read_timeout(session)?.into()), pong), Counted::TimedOut);
    assert_eq!(told::<C>(|session| Err(Upstream(read_timeout(session)?).into()), pong), Counted::TimedOut);
}

/// Ways to make another error of one.
const WRAPPINGS: [fn(io::Error) -> BoxError; 6] = [
    |error| io::Error::other(error).into(),
    |error| io::Error::other(Upstream(io::Error::other(error))).into(),
    |error| io::Error::new(error.kind(), format!("reading: {error}")).into(),
    |error| io::Error::other(format!("reading: {error}")).into(),
    |error| format!("reading: {error}").into(),
    |error| serde_json::from_reader::<_, serde_json::Value>(Broken(Some(error))).expect_err("it is broken").into(),
];

/// Fails with this error.
struct Broken(Option<io::Error>);

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(self.0.take().expect("it is read once"))
    }
}

fn the_clients_own_error_is_found_in_what_is_made_of_it<C: Concurrency + Default>() {
    for wrap in WRAPPINGS {
        let read = move |session: &mut Session<Tcp, C>| -> HandlerResult {
            writeln!(session.wfile, "hello")?;
            Err(wrap(session.rfile.next_line().expect_err("the client is silent or gone")))
        };
        let reset = |mut client: Client| {
            assert_eq!(client.line(), "hello");
            client.reset();
        };
        assert_eq!(told(read, reset), Counted::Disconnected);
        let impatient = move |session: &mut Session<Tcp, C>| {
            session.request.set_read_timeout(Some(Duration::from_millis(20)))?;
            read(session)
        };
        assert_eq!(told(impatient, |mut client| client.wait_for_end()), Counted::TimedOut);
    }
}

fn an_error_that_says_it_is_from_elsewhere_is_a_failure_although_the_client_is_gone<C: Concurrency + Default>() {
    let elsewhere: [fn() -> io::Error; 3] = [
        || File::open("/no/such/file").expect_err("there is none"),
        end_of_another_stream,
        || ErrorKind::NotConnected.into(),
    ];
    for elsewhere in elsewhere {
        let handle = move |session: &mut Session<Tcp, C>| {
            writeln!(session.wfile, "hello")?;
            session.rfile.next_line().expect_err("the client is gone");
            Err(Upstream(elsewhere()).into())
        };
        let reset = |mut client: Client| {
            assert_eq!(client.line(), "hello");
            client.reset();
        };
        assert_eq!(told::<C>(handle, reset), Counted::Failed);
    }
}

fn a_request_is_counted_before_its_client_sees_the_end<C: Concurrency + Default>() {
    let server = Script::<Tcp, C>::serve(|session| match session.rfile.next_line()?.as_deref() {
        Some("fail") => Err("as it was told to".into()),
        Some("panic") => std::panic::resume_unwind(Box::new("as it was told to")),
        Some("time out") => {
            session.request.set_read_timeout(Some(Duration::from_millis(1)))?;
            Ok(session.rfile.fill_buf().map(drop)?)
        }
        _ => Ok(()),
    });
    for round in 1..=25 {
        for (said, count) in [
            ("finish", (|stats| stats.finished) as fn(Stats) -> u64),
            ("fail", |stats| stats.failed),
            ("panic", |stats| stats.panicked),
            ("time out", |stats| stats.timed_out),
        ] {
            let mut client = Client::connect(server.server_address());
            client.send(format!("{said}\n"));
            client.wait_for_end();
            assert_eq!(count(server.stats()), round, "{said}: {:?}", server.stats());
        }
    }
}

/// An error that panics when it is asked for its source.
#[derive(Debug)]
struct Unfathomable;

impl fmt::Display for Unfathomable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unfathomable")
    }
}

impl Error for Unfathomable {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        std::panic::resume_unwind(Box::new("it has none that could be told"))
    }
}

fn an_error_that_panics_when_it_is_asked_for_its_source_ends_its_request_only<C: Concurrency + Default>() {
    let server = Script::<Tcp, C>::serve(|session| match session.rfile.next_line()?.as_deref() {
        Some("fail") => Err(Unfathomable.into()),
        _ => Ok(writeln!(session.wfile, "still there")?),
    });
    for _ in 0..20 {
        let mut client = Client::connect(server.server_address());
        client.send("fail\n");
        client.wait_for_end();
    }
    assert_eq!(Client::connect(server.server_address()).ask("?"), "still there");
    assert_eq!(server.stats().failed, 20);
}

in_each_concurrency! { [sync threading pool]:
    an_error_that_panics_when_it_is_asked_for_its_source_ends_its_request_only
}

in_each_concurrency! { [sync threading pool]:
    an_error_of_another_connection_is_a_failure
    an_error_of_the_clients_own_connection_is_its_doing
    an_end_of_another_stream_after_that_of_the_client_is_a_failure
    an_early_end_of_the_client_is_its_doing
    a_failure_that_was_caught_says_nothing_of_later_ones
    a_timeout_stays_one_when_the_client_was_told_of_it
    the_clients_own_error_is_found_in_what_is_made_of_it
    an_error_that_says_it_is_from_elsewhere_is_a_failure_although_the_client_is_gone
    a_request_is_counted_before_its_client_sees_the_end
}

fn a_connection_that_was_cut_off_is_counted_before_its_client_sees_the_end<C: Concurrency + Default>() {
    let server = Script::<Tcp, C>::serve(|session| {
        let half = session.rfile.next_line()?;
        Ok(session.rfile.read_exact(&mut vec![0; half.map_or(1, |half| half.len())])?)
    });
    for round in 1..=100 {
        let mut client = Client::connect(server.server_address());
        client.send("half of it is this\nand it ends he");
        client.finish();
        client.wait_for_end();
        assert_eq!(server.stats().disconnected, 2 * round - 1, "{:?}", server.stats());

        let mut client = Client::connect(server.server_address());
        client.send("more\n");
        eventually("it has a handler", || server.connections().first().is_some_and(|info| info.bytes_in > 0));
        assert!(server.close(server.connections()[0].id));
        client.wait_for_end();
        assert_eq!(server.stats().disconnected, 2 * round, "{:?}", server.stats());
    }
}

fn a_client_that_is_turned_away_by_a_limit_is_counted_before_it_sees_the_end<C: Concurrency + Default>() {
    let mut options = Options::new();
    options.limits.per_client = Some(1);
    let server = Script::<Tcp, C>::serve_upper(options);
    let mut first = Client::connect(server.server_address());
    assert_eq!(first.ask("hello"), "HELLO");
    for round in 1..=100 {
        assert_eq!(Client::connect(server.server_address()).rest(), "");
        assert_eq!(server.stats().rejected, round, "{:?}", server.stats());
    }
}

in_each_concurrency! {
    [sync threading pool]: a_connection_that_was_cut_off_is_counted_before_its_client_sees_the_end
}
in_each_concurrency! {
    [threading pool]: a_client_that_is_turned_away_by_a_limit_is_counted_before_it_sees_the_end
}

fn another_connection_learns_how_a_request_has_ended_once_its_client_sees_the_end<C: Word>() {
    let server = LineServer::start::<C>(&[]);
    for round in 1..=100 {
        for (said, counter) in [
            ("finish", "finished"),
            ("fail", "failed"),
            ("resume", "panicked"),
            ("hurry 1", "timed_out"),
            ("exact 9", "disconnected"),
        ] {
            let mut client = server.connect();
            client.send(format!("{said}\n"));
            if counter != "timed_out" {
                client.finish();
            }
            client.wait_for_end();
            let stats = stats(&server);
            // Those that ask have finished as well.
            let finished = u64::from(counter == "finished") * (round - 1) * 6;
            assert_eq!(stat(&stats, counter), round + finished, "{said}: {stats}");
        }
        let mut client = connect_from([127, 0, 1, 1], server.address());
        client.wait_for_end();
        let stats = stats(&server);
        assert_eq!(stat(&stats, "refused"), round, "{stats}");
    }
    server.stop();
}

/// What a connection of its own is told, which has ended then.
#[track_caller]
fn stats(server: &LineServer) -> String {
    let mut client = server.connect();
    let stats = client.ask("stats");
    client.finish();
    assert_eq!(client.rest(), "");
    stats
}

fn connect_from(ip: [u8; 4], server: &Address) -> Client {
    let Address::Inet(server) = *server else { panic!("an internet server") };
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((ip, 0)).into()).expect("this machine has all of 127.0.0.0/8");
    socket.connect(&server.into()).expect("it listens");
    Client::new(socket)
}

fn another_connection_learns_of_a_client_that_was_turned_away_once_that_sees_the_end<C: Word>() {
    let server = LineServer::start::<C>(&["per_client=1"]);
    let mut first = server.connect();
    for round in 1..=100 {
        assert_eq!(stat(&first.ask("stats"), "rejected"), round - 1);
        assert_eq!(server.connect().rest(), "");
        assert_eq!(stat(&first.ask("stats"), "rejected"), round);
    }
}

in_each_concurrency! { [sync threading pool forking]:
    another_connection_learns_how_a_request_has_ended_once_its_client_sees_the_end
}
in_each_concurrency! { [threading pool forking]:
    another_connection_learns_of_a_client_that_was_turned_away_once_that_sees_the_end
}

/// A server whose default `handle_error` prints to where the shell puts it, and in which a panic ends the process, as
/// with `panic = "abort"`.
fn start_with_stderr<C: Word>(redirection: &str, directory: &Directory) -> ServerProcess {
    let mut command = Command::new("sh");
    command.current_dir(directory.path()).args(["-c", &format!("{redirection}; exec \"$@\""), "sh"]);
    command.arg(server_program()).args(["lines", C::WORD, "panic=abort"]);
    ServerProcess::start(command, Place::of("tcp"))
}

fn a_failure_that_cannot_be_printed_harms_nobody<C: Word>() {
    // The reader of the named pipe has ended once it is opened for writing.
    let abandoned = "mkfifo pipe && (true <pipe &) && exec 2>pipe";
    for redirection in ["exec 2>/dev/full", abandoned, "exec 2>&-"] {
        if redirection.contains("/dev/full") && !Path::new("/dev/full").exists() {
            continue;
        }
        let directory = Directory::new();
        let server = start_with_stderr::<C>(redirection, &directory);
        for _ in 0..20 {
            let mut client = Client::connect(server.address());
            client.send("fail badly\n");
            client.wait_for_end();
        }
        assert_eq!(Client::connect(server.address()).ask("still there"), "STILL THERE", "{redirection}");
        let stats = Client::connect(server.address()).ask("stats");
        assert_eq!(stat(&stats, "failed"), 20, "{redirection}: {stats}");
    }
}

in_each_concurrency! { [sync threading pool forking]: a_failure_that_cannot_be_printed_harms_nobody }

#[test]
fn an_error_of_another_connection_is_a_failure_in_a_child_too() {
    let mut command = server("lines");
    command.arg("forking");
    let server = ServerProcess::start(command, Place::of("tcp"));
    let mut client = Client::connect(server.address());
    client.send("reset elsewhere\n");
    client.wait_for_end();
    // The parent counts what its child tells.
    let stats = Client::connect(server.address()).ask("stats");
    assert!(stats.contains("failed: 1") && stats.contains("disconnected: 0"), "{stats}");
}

#[test]
fn lines_of_bytes_need_not_be_text() {
    let (lines, received) = mpsc::channel();
    let server = Script::<Tcp, Synchronous>::serve(move |session| {
        while let Some(line) = session.rfile.next_line_bytes()? {
            lines.send(line)?;
        }
        Ok(())
    });
    let mut client = Client::connect(server.server_address());
    client.send(b"caf\xe9\r\n\0\xff\n\n\r\nlast");
    client.finish();
    client.wait_for_end();
    let expected: [&[u8]; 5] = [b"caf\xe9", b"\0\xff", b"", b"", b"last"];
    assert_eq!(received.try_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn a_line_of_bytes_has_the_same_limit_and_can_be_read_on_after_a_timeout() {
    let (results, received) = mpsc::channel();
    let server = Script::<Tcp, Synchronous>::serve(move |session| {
        session.request.set_read_timeout(Some(Duration::from_millis(50)))?;
        loop {
            let result = session.rfile.next_line_bytes().map_err(|error| error.kind());
            let has_ended = matches!(result, Ok(None) | Err(ErrorKind::InvalidData));
            results.send(result)?;
            if has_ended {
                return Ok(());
            }
        }
    });
    let mut client = Client::connect(server.server_address());
    client.send("ha");
    assert_eq!(received.recv_timeout(PATIENCE), Ok(Err(ErrorKind::TimedOut)));
    client.send("lf\n");
    let next = std::iter::from_fn(|| received.recv_timeout(PATIENCE).ok());
    let line = { next }.find(|result| *result != Err(ErrorKind::TimedOut));
    assert_eq!(line, Some(Ok(Some(b"half".to_vec()))));
    client.send(vec![b'x'; (64 << 10) + 1]);
    let next = std::iter::from_fn(|| received.recv_timeout(PATIENCE).ok());
    assert_eq!({ next }.find(|result| *result != Err(ErrorKind::TimedOut)), Some(Err(ErrorKind::InvalidData)));
}

#[test]
fn more_than_there_is_can_be_consumed() {
    fn consume_all(rfile: &mut sockserver::Reader) -> HandlerResult {
        assert!(!rfile.fill_buf()?.is_empty());
        rfile.consume(1);
        rfile.consume(usize::MAX);
        Ok(())
    }
    let server = Script::<Tcp, Synchronous>::serve(|session| {
        consume_all(&mut session.rfile)?;
        assert_eq!(session.rfile.next_line()?, None);
        Ok(())
    });
    let mut client = Client::connect(server.server_address());
    client.send("abc");
    // Whatever came together is consumed.
    client.finish();
    client.wait_for_end();
    assert_eq!(server.stats().finished, 1);

    let server = Script::<Udp, Synchronous>::serve(|session| {
        consume_all(&mut session.rfile)?;
        assert_eq!(session.rfile.next_line()?, None);
        Ok(())
    });
    DatagramClient::connect(server.server_address()).send("abc");
    eventually("it is handled", || server.stats().finished == 1);
}

// Whose error it is, in every stage, and across the processes of a server that forks.

const STAGES: [&str; 4] = ["construction", "setup", "handle", "finish"];

/// A server whose handlers fail, one in each of these ways.
fn failing<C: Word>(transport: &str, cases: &[String]) -> ServerProcess {
    let mut command = server("failures");
    command.args([transport, C::WORD, &cases.join(",")]);
    ServerProcess::start(command, Place::of(transport))
}

/// The cases in each stage and in each of these ways, and one with which the server stops.
fn cases<'a>(stages: &[&str], ways: &[&str], kinds: impl IntoIterator<Item = &'a ErrorKind> + Clone) -> Vec<String> {
    let kinds = || kinds.clone().into_iter();
    let of_stage = |stage| ways.iter().flat_map(move |way| kinds().map(move |kind| format!("{stage}:{way}:{kind:?}")));
    stages.iter().flat_map(of_stage).collect()
}

#[track_caller]
fn assert_told(server: &ServerProcess, case: &str, disconnect: bool, timeout: bool) {
    let stage = case.split(':').next().expect("a case has a stage");
    let told = server.line();
    let expected = format!("{stage}, disconnect {disconnect}, timeout {timeout}, panic false: ");
    // A stage is shown as it is called.
    let told = told.split_at_checked(1).map(|(first, rest)| first.to_lowercase() + rest).unwrap_or_default();
    assert!(told.starts_with(&expected), "{case}: {told}");
}

/// Has the server stop, by a client of its own, and returns its counters.
#[track_caller]
fn stop(server: ServerProcess, is_told: bool) -> String {
    let mut client = Client::connect(server.address());
    client.wait_for_end();
    if is_told {
        assert_told(&server, LAST, false, false);
    }
    server.line_after("stats ")
}

const LAST: &str = "closing:made:ConnectionReset";

fn an_error_that_is_not_the_clients_is_a_failure_in_every_stage<C: Word>() {
    let ways = ["made", "told", "other", "late", "wrapped-made", "wrapped-other", "wrapped-late", "hidden-other"];
    let mut cases = cases(&STAGES, &ways, &KINDS);
    // As if the server had ended the connection.
    cases.extend(STAGES.map(|stage| format!("{stage}:closing:ConnectionAborted")));
    for transport in ["tcp", "unix"] {
        let server = failing::<C>(transport, &[&cases[..], &[LAST.into()]].concat());
        for case in &cases {
            let mut client = Client::connect(server.address());
            if case.contains("late") {
                client.finish();
            }
            assert_eq!(client.rest(), "", "{case}");
            assert_told(&server, case, false, false);
        }
        let stats = stop(server, true);
        let ended = ["failed", "disconnected", "timed_out", "finished"].map(|name| stat(&stats, name));
        assert_eq!(ended, [cases.len() as u64 + 1, 0, 0, 0], "{stats}");
    }
}

fn an_error_of_the_clients_own_connection_is_a_disconnect_or_a_timeout_in_every_stage<C: Word>() {
    let kinds = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe, ErrorKind::UnexpectedEof, ErrorKind::TimedOut];
    let mut cases = cases(&STAGES, &["own", "wrapped-own"], &kinds);
    // An end of file is no failure, so that nothing is known of an error that hides it.
    cases.extend(self::cases(&STAGES, &["hidden-own"], &kinds).into_iter().filter(|case| !case.ends_with("Eof")));
    let server = failing::<C>("tcp", &[&cases[..], &[LAST.into()]].concat());
    for case in &cases {
        let mut client = Client::connect(server.address());
        client.send("half a li");
        let is_timeout = case.ends_with("TimedOut");
        match case.rsplit(':').next() {
            Some("TimedOut") => assert_eq!(client.rest(), "", "{case}"),
            Some("UnexpectedEof") => client.finish(),
            _ => client.reset(),
        }
        assert_told(&server, case, !is_timeout, is_timeout);
    }
    let stats = stop(server, true);
    let ended = ["failed", "disconnected", "timed_out", "finished"].map(|name| stat(&stats, name));
    let timed_out = cases.iter().filter(|case| case.ends_with("TimedOut")).count() as u64;
    assert_eq!(ended, [1, cases.len() as u64 - timed_out, timed_out, 0], "{stats}");
}

fn an_error_that_panics_when_it_is_dropped_harms_nobody_although_handle_error_panics_too<C: Word>() {
    let cases = ["handle:bomb-made:TimedOut", "finish:bomb-made:TimedOut", "handle:made:TimedOut"].map(String::from);
    let server = failing::<C>("tcp", &[&cases[..], &[LAST.into()]].concat());
    for case in &cases {
        assert_eq!(Client::connect(server.address()).rest(), "", "{case}");
        assert_told(&server, case, false, false);
    }
    let stats = stop(server, true);
    assert_eq!(stat(&stats, "failed"), 4, "{stats}");
}

fn an_error_of_a_packets_handler_that_is_not_the_clients_is_a_failure<C: Word>() {
    let cases = cases(&STAGES, &["made", "other", "wrapped-made"], &KINDS);
    for transport in ["udp", "unix_datagram"] {
        let server = failing::<C>(transport, &cases);
        let client = DatagramClient::connect(server.address());
        for case in &cases {
            client.send("a packet");
            assert_told(&server, case, false, false);
        }
    }
}

in_each_concurrency! { [sync threading pool forking]:
    an_error_that_is_not_the_clients_is_a_failure_in_every_stage
    an_error_of_the_clients_own_connection_is_a_disconnect_or_a_timeout_in_every_stage
    an_error_of_a_packets_handler_that_is_not_the_clients_is_a_failure
    an_error_that_panics_when_it_is_dropped_harms_nobody_although_handle_error_panics_too
}

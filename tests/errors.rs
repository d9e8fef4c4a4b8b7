//! What an error says of the client, how a request is counted, and that errors are told without harm.

use std::{
    error::Error,
    fmt,
    fs::OpenOptions,
    io::{self, BufRead, ErrorKind, Read},
    process::{Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use sockserver::{
    Concurrency, HandlerResult, Stats,
    concurrency::Sync,
    transport::{Tcp, Udp},
};
use sockserver_tests::{
    client::{Client, DatagramClient, PATIENCE, eventually},
    concurrencies::Word,
    in_each_concurrency,
    place::Place,
    process::ServerProcess,
    script::{Script, Session},
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

fn an_error_of_another_connection_is_a_failure<C: Concurrency>() {
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
fn counted<C: Concurrency>(
    fail: impl Fn(&mut Session<Tcp, C>) -> io::Result<()> + Send + std::marker::Sync + 'static,
    provoke: impl FnOnce(Client),
) -> (bool, bool, Stats) {
    let server = Script::<Tcp, C>::serve(move |session| Err(Upstream(fail(session).expect_err("it fails")).into()));
    provoke(Client::connect(server.server_address()));
    let report = server.report();
    eventually("it is counted", || server.stats().active == 0);
    (report.is_disconnect, report.is_timeout, server.stats())
}

fn an_error_of_the_clients_own_connection_is_its_doing<C: Concurrency>() {
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

fn a_request_is_counted_before_its_client_sees_the_end<C: Concurrency>() {
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

in_each_concurrency! { [sync threading pool]:
    an_error_of_another_connection_is_a_failure
    an_error_of_the_clients_own_connection_is_its_doing
    a_request_is_counted_before_its_client_sees_the_end
}

/// A server whose default `handle_error` prints to this, and in which a panic ends the process, as with
/// `panic = "abort"`.
fn start_with_stderr<C: Word>(stderr: Stdio) -> ServerProcess {
    let mut command = Command::new(env!("CARGO_BIN_EXE_line-server"));
    command.args([C::WORD, "panic=abort"]).stderr(stderr);
    ServerProcess::start(command, Place::of("tcp"))
}

fn a_failure_that_cannot_be_printed_harms_nobody<C: Word>() {
    let (reader, closed) = io::pipe().expect("a pipe");
    drop(reader);
    let full = OpenOptions::new().write(true).open("/dev/full");
    for stderr in full.map(Stdio::from).into_iter().chain([Stdio::from(closed)]) {
        let server = start_with_stderr::<C>(stderr);
        for _ in 0..3 {
            let mut client = Client::connect(server.address());
            client.send("fail badly\n");
            client.wait_for_end();
        }
        assert_eq!(Client::connect(server.address()).ask("still there"), "STILL THERE");
    }
}

in_each_concurrency! { [sync threading pool forking]: a_failure_that_cannot_be_printed_harms_nobody }

#[test]
fn an_error_of_another_connection_is_a_failure_in_a_child_too() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_line-server"));
    command.arg("forking").stderr(Stdio::piped());
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
    let server = Script::<Tcp, Sync>::serve(move |session| {
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
    let server = Script::<Tcp, Sync>::serve(move |session| {
        session.request.set_read_timeout(Some(Duration::from_millis(50)))?;
        loop {
            let result = session.rfile.next_line_bytes().map_err(|error| error.kind());
            let has_ended = matches!(result, Ok(None) | Err(ErrorKind::FileTooLarge));
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
    assert_eq!({ next }.find(|result| *result != Err(ErrorKind::TimedOut)), Some(Err(ErrorKind::FileTooLarge)));
}

#[test]
fn more_than_there_is_can_be_consumed() {
    fn consume_all(rfile: &mut sockserver::Reader) -> HandlerResult {
        assert!(!rfile.fill_buf()?.is_empty());
        rfile.consume(1);
        rfile.consume(usize::MAX);
        Ok(())
    }
    let server = Script::<Tcp, Sync>::serve(|session| {
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

    let server = Script::<Udp, Sync>::serve(|session| {
        consume_all(&mut session.rfile)?;
        assert_eq!(session.rfile.next_line()?, None);
        Ok(())
    });
    DatagramClient::connect(server.server_address()).send("abc");
    eventually("it is handled", || server.stats().finished == 1);
}

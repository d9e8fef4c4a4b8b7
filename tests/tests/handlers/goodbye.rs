//! What `RequestHandler::closing` is called for, and what it can do: the server's goodbye.

use std::{
    error::Error,
    fmt, fs,
    io::{self, Write},
    thread,
    time::{Duration, Instant},
};

use sockserver::{
    Closing, Concurrency, DrainReport, HandlerResult, Options, Stage, Stats, Timeouts, concurrency::Threading,
};
use sockserver_tests::{
    client::eventually,
    farewell::{Call, End, Farewell, Guest, Hosted, said_goodbye, say_why, upper},
    in_each_concurrency,
};

const REASONS: [Closing; 4] = [Closing::Draining, Closing::Idle, Closing::Lifetime, Closing::Kicked];

/// Options with which a connection ends for this reason, if that is a deadline.
fn options_for(why: Closing) -> Options {
    let mut options = Options::new();
    match why {
        Closing::Idle => options.timeouts.idle = Some(Duration::from_millis(500)),
        Closing::Lifetime => options.timeouts.lifetime = Some(Duration::from_millis(500)),
        _ => {}
    }
    options
}

/// Has the server end its one connection for this reason.
fn end(server: &Hosted, why: Closing) {
    // Before its handler has started, closing it turns it away.
    eventually("it is handled", || server.started() == 1);
    match why {
        Closing::Draining => server.shutdown(),
        Closing::Kicked => assert!(server.connections().iter().all(|info| server.close(info.id))),
        _ => {}
    }
}

/// How one connection is counted that has ended for this reason.
fn counted(why: Closing) -> Stats {
    let mut stats = Stats::default();
    stats.accepted = 1;
    match why {
        Closing::Draining => stats.finished = 1,
        Closing::Kicked => stats.disconnected = 1,
        _ => stats.timed_out = 1,
    }
    stats
}

fn drained_in_time() -> DrainReport {
    let mut drained = DrainReport::default();
    drained.in_time = 1;
    drained
}

/// Serves what says why the server ends a connection.
fn serve_polite<C: Concurrency + Default>(
    handle: impl Fn(&mut Guest<C>) -> HandlerResult + Send + Sync + 'static,
    options: Options,
) -> Hosted {
    Farewell::new(handle).closing(say_why).serve(options)
}

fn the_client_is_told_why_the_server_ends_the_connection<C: Concurrency + Default>() {
    for why in REASONS {
        let server = serve_polite(upper::<C>, options_for(why));
        let mut client = server.connect();
        end(&server, why);
        // All that is sent, and then a clean end of file.
        assert_eq!(client.rest(), format!("421 {why}\r\n"));
        assert_eq!(server.calls(), said_goodbye(why));
        assert_eq!(server.stats(), counted(why), "{why:?}");
        assert_eq!(server.stop().1, [], "{why:?}");
    }
}

/// Waits until the server ends the connection, as a handler can that is not reading.
fn wait_for_the_end<C: Concurrency + Default>(guest: &Guest<C>) {
    eventually("the server ends it", || guest.request.closing().is_some());
}

fn the_goodbye_stands_behind_what_was_answered<C: Concurrency + Default>() {
    let held_back = |guest: &mut Guest<C>| {
        guest.rfile.next_line()?;
        guest.request.write_all(b"250 sent\r\n")?;
        write!(guest.wfile, "250 held back\r\n")?;
        wait_for_the_end(guest);
        upper(guest)
    };
    for why in [Closing::Draining, Closing::Lifetime, Closing::Kicked] {
        let server = serve_polite(held_back, options_for(why));
        let mut client = server.connect();
        assert_eq!(client.ask("hello"), "250 sent\r");
        end(&server, why);
        assert_eq!(client.rest(), format!("250 held back\r\n421 {why}\r\n"));
        assert_eq!(server.calls(), said_goodbye(why));
    }
}

/// More than the kernel of a client takes that has little room.
const MUCH: usize = 300_000;

#[track_caller]
fn goodbye_arrives_although_the_client_goes_on_sending<C: Concurrency + Default>(why: Closing) {
    let go_on = |guest: &mut Guest<C>| -> HandlerResult {
        guest.rfile.next_line()?;
        writeln!(guest.wfile, "ready")?;
        guest.wfile.flush()?;
        wait_for_the_end(guest);
        // What the client sends now comes after the end. It stays unread, which would make the kernel reset a
        // connection that is closed.
        guest.request.write_all(b"now\n")?;
        guest.request.write_all(&[b'y'; MUCH])?;
        thread::sleep(Duration::from_millis(100));
        upper(guest)
    };
    let server = serve_polite(go_on, options_for(why));
    let mut client = server.connect();
    client.socket().set_recv_buffer_size(1 << 15).expect("an open socket");
    assert_eq!(client.ask("hello"), "ready");
    end(&server, why);
    assert_eq!(client.line(), "now");
    for _ in 0..10 {
        client.send([b'x'; 10_000]);
    }
    eventually("the request has ended", || server.stats().active == 0);
    assert_eq!(client.bytes(MUCH), [b'y'; MUCH]);
    assert_eq!(client.rest(), format!("421 {why}\r\n"));
    assert_eq!(server.calls(), said_goodbye(why));
    drop(client);
    assert_eq!(server.stop().1, []);
}

fn the_goodbye_of_a_drain_arrives_although_the_client_goes_on_sending<C: Concurrency + Default>() {
    goodbye_arrives_although_the_client_goes_on_sending::<C>(Closing::Draining);
}

fn the_goodbye_of_a_lifetime_arrives_although_the_client_goes_on_sending<C: Concurrency + Default>() {
    goodbye_arrives_although_the_client_goes_on_sending::<C>(Closing::Lifetime);
}

fn nobody_is_told_of_an_end_that_the_server_does_not_make<C: Concurrency + Default>() {
    let obey = |guest: &mut Guest<C>| match guest.rfile.next_line()?.as_deref() {
        None | Some("return") => Ok(()),
        Some("drain and return") => {
            guest.server.shutdown();
            Ok(())
        }
        Some("drain and fail") => {
            guest.server.shutdown();
            Err("for another reason".into())
        }
        Some("fail") => Err("for a reason".into()),
        // Errors of the same type that are not of this connection's end.
        Some("fail as if kicked") => Err(io::Error::new(io::ErrorKind::ConnectionAborted, Closing::Kicked).into()),
        Some("drain and fail as if kicked") => {
            guest.server.shutdown();
            Err(io::Error::new(io::ErrorKind::ConnectionAborted, Closing::Kicked).into())
        }
        Some(unknown) => panic!("as it was told to: {unknown}"),
    };
    let returns = [("return\n", End::Fine), ("", End::Fine), ("drain and return\n", End::Fine)];
    for (line, end) in returns {
        let server = serve_polite(obey, Options::new());
        let mut client = server.connect();
        client.send(line);
        client.finish();
        assert_eq!(client.rest(), "", "{line}");
        assert_eq!(server.calls(), [Call::Handled(end), Call::Finish], "{line}");
        assert_eq!(server.stats(), counted(Closing::Draining), "{line}");
    }
    let failures = [
        ("fail\n", End::Other("for a reason".into())),
        ("drain and fail\n", End::Other("for another reason".into())),
        ("fail as if kicked\n", End::Server(Closing::Kicked)),
        ("drain and fail as if kicked\n", End::Server(Closing::Kicked)),
    ];
    for (line, end) in failures {
        let server = serve_polite(obey, Options::new());
        let mut client = server.connect();
        client.send(line);
        assert_eq!(client.rest(), "", "{line}");
        let calls = server.calls();
        let [handled, Call::Finish, Call::Error { stage: Stage::Handle, is_panic: false, is_disconnect, .. }] =
            &calls[..]
        else {
            panic!("{line}: {calls:?}")
        };
        assert_eq!((handled, *is_disconnect), (&Call::Handled(end), false), "{line}");
        let stats = server.stats();
        assert_eq!((stats.failed, stats.accepted), (1, 1), "{line}");
    }
}

fn a_client_that_resets_is_told_nothing<C: Concurrency + Default>() {
    let server = serve_polite(upper::<C>, Options::new());
    let mut client = server.connect();
    assert_eq!(client.ask("hello"), "HELLO");
    client.reset();
    assert_eq!(server.call(), Call::Handled(End::Io(io::ErrorKind::ConnectionReset)));
    assert_eq!(server.call(), Call::Finish);
    assert!(matches!(server.call(), Call::Error { stage: Stage::Handle, is_disconnect: true, .. }));
    eventually("it is counted", || server.stats().disconnected == 1);
}

/// An error that has the error of a connection as its source.
#[derive(Debug)]
struct Wrapped(io::Error);

impl fmt::Display for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("reading a request")
    }
}

impl Error for Wrapped {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

fn the_servers_end_is_found_inside_other_errors<C: Concurrency + Default>() {
    let ways: [fn(&mut Guest<C>) -> HandlerResult; 7] = [
        |guest| Ok(guest.rfile.next_line().map(drop).map_err(|error| Wrapped(io::Error::other(Wrapped(error))))?),
        |guest| Ok(guest.rfile.next_line().map(drop).map_err(io::Error::other)?),
        |guest| {
            Ok(guest.rfile.next_line().map(drop).map_err(|error| io::Error::new(error.kind(), error.to_string()))?)
        },
        |guest| Ok(guest.rfile.next_line().map(drop).map_err(|error| io::Error::other(error.to_string()))?),
        |guest| Ok(guest.rfile.next_line().map(drop).map_err(|error| format!("reading: {error}"))?),
        |guest| Ok(serde_json::from_reader::<_, serde_json::Value>(&mut guest.rfile).map(drop)?),
        // What is only held back is not sent.
        |guest| {
            let read = guest.rfile.next_line();
            write!(guest.wfile, "")?;
            Ok(read.map(drop).map_err(|_| "no request")?)
        },
    ];
    for why in REASONS {
        for way in ways {
            let mut options = options_for(why);
            for timeout in [&mut options.timeouts.idle, &mut options.timeouts.lifetime] {
                *timeout = timeout.map(|timeout| timeout / 4);
            }
            let server = serve_polite(way, options);
            let mut client = server.connect();
            end(&server, why);
            assert_eq!(client.rest(), format!("421 {why}\r\n"));
            assert_eq!(server.calls()[1..], [Call::Closing(why), Call::Finish]);
            assert_eq!(server.stats(), counted(why));
        }
    }
}

fn a_goodbye_that_the_client_does_not_take_is_given_up<C: Concurrency + Default>() {
    for why in REASONS {
        let flood = |guest: &mut Guest<C>| -> HandlerResult {
            for _ in 0..1000 {
                guest.wfile.write_all(&[b'x'; 100_000])?;
            }
            Ok(())
        };
        let server = Farewell::new(upper::<C>)
            .closing(move |guest, _| flood(guest))
            .finish(move |guest| {
                // It has no time of its own.
                let _ = flood(guest);
                Ok(())
            })
            .serve(options_for(why));
        let client = server.connect();
        let begin = Instant::now();
        end(&server, why);
        eventually("it has ended", || server.stats().active == 0);
        // A second, where `timeouts(shutdown)` has 25.
        assert!(begin.elapsed() >= Duration::from_millis(900), "{why:?}: {:?}", begin.elapsed());
        assert!(begin.elapsed() < Duration::from_secs(10), "{why:?}: {:?}", begin.elapsed());
        let (calls, stats) = (server.calls(), server.stats());
        assert_eq!((calls, stats), (said_goodbye(why), counted(why)), "{why:?}");
        drop(client);
        let (drained, calls) = server.stop();
        assert_eq!((drained.forced, drained.leaked, calls), (0, 0, vec![]));
    }
}

fn a_goodbye_does_not_wait_for_an_answer<C: Concurrency + Default>() {
    for why in REASONS {
        let wait = |guest: &mut Guest<C>, _| -> HandlerResult {
            writeln!(guest.wfile, "goodbye?")?;
            guest.rfile.set_busy(true);
            guest.rfile.next_line()?;
            Err("there is no answer".into())
        };
        let server = Farewell::new(upper::<C>).closing(wait).serve(options_for(why));
        let mut client = server.connect();
        let begin = Instant::now();
        end(&server, why);
        assert_eq!(client.rest(), "goodbye?\n");
        assert!(begin.elapsed() < Duration::from_secs(10), "{why:?}: {:?}", begin.elapsed());
        assert_eq!((server.calls(), server.stats()), (said_goodbye(why), counted(why)), "{why:?}");
    }
}

fn a_goodbye_that_fails_or_panics_is_reported<C: Concurrency + Default>() {
    for is_panic in [false, true] {
        let closing = move |guest: &mut Guest<C>, why| -> HandlerResult {
            say_why(guest, why)?;
            assert!(!is_panic, "as it was told to");
            Err("as it was told to".into())
        };
        let server = Farewell::new(upper::<C>).closing(closing).serve(Options::new());
        let mut client = server.connect();
        end(&server, Closing::Draining);
        assert_eq!(client.rest(), "421 the server is stopping\r\n");
        let verb = if is_panic { "panicked" } else { "failed" };
        let error = Call::Error {
            stage: Stage::Closing,
            is_panic,
            is_disconnect: false,
            is_timeout: false,
            message: format!("closing {verb}: as it was told to"),
        };
        assert_eq!(server.calls(), [said_goodbye(Closing::Draining), vec![error]].concat());
        let stats = server.stats();
        assert_eq!((stats.panicked, stats.failed), (u64::from(is_panic), u64::from(!is_panic)));
        assert_eq!(server.stop(), (drained_in_time(), vec![]));
    }
}

fn of_a_goodbye_and_its_finish_the_first_error_is_reported<C: Concurrency + Default>() {
    for closing_fails in [true, false] {
        let closing = move |_: &mut Guest<C>, _| if closing_fails { Err("closing".into()) } else { Ok(()) };
        let server = Farewell::new(upper::<C>).closing(closing).finish(|_| Err("finish".into())).serve(Options::new());
        let mut client = server.connect();
        end(&server, Closing::Draining);
        assert_eq!(client.rest(), "");
        let calls = server.calls();
        let Some(Call::Error { stage, .. }) = calls.last() else { panic!("{calls:?}") };
        assert_eq!(*stage, if closing_fails { Stage::Closing } else { Stage::Finish });
        assert_eq!(calls.len(), 4);
        assert_eq!(server.stats().failed, 1);
    }
}

fn setup_that_the_server_ends_is_no_failure<C: Concurrency + Default>() {
    for why in REASONS {
        let server = Farewell::new(upper::<C>)
            .setup(|guest| {
                guest.rfile.next_line()?;
                Ok(())
            })
            .serve(options_for(why));
        let mut client = server.connect();
        end(&server, why);
        client.wait_for_end();
        // There is no `handle` that could be told.
        assert_eq!((server.calls(), server.stats()), (vec![], counted(why)), "{why:?}");
    }
}

fn a_handler_that_catches_the_servers_end_can_go_on_writing<C: Concurrency + Default>() {
    let go_on = |guest: &mut Guest<C>| -> HandlerResult {
        let end = End::of(&guest.rfile.next_line());
        assert_eq!(end, End::Server(Closing::Draining));
        for number in 0..15 {
            writeln!(guest.wfile, "line {number}")?;
            guest.wfile.flush()?;
            // Longer than a goodbye may take.
            thread::sleep(Duration::from_millis(100));
        }
        // It stays so.
        assert_eq!(End::of(&guest.rfile.next_line()), end);
        Ok(())
    };
    let server = serve_polite(go_on, Options::new());
    let mut client = server.connect();
    end(&server, Closing::Draining);
    let lines: String = (0..15).map(|number| format!("line {number}\n")).collect();
    assert_eq!(client.rest(), lines);
    assert_eq!(server.calls(), [Call::Handled(End::Fine), Call::Finish]);
    assert_eq!(server.stats(), counted(Closing::Draining));
    assert_eq!(server.stop(), (drained_in_time(), vec![]));
}

fn a_handler_that_catches_the_servers_end_can_fail_otherwise<C: Concurrency + Default>() {
    let ways: [fn(&mut Guest<C>) -> HandlerResult; 4] = [
        // What was sent since shows that the connection was not what failed.
        |guest| {
            writeln!(guest.wfile, "goodbye")?;
            guest.wfile.flush()?;
            Err("no memory".into())
        },
        |guest| {
            guest.request.write_all(b"goodbye\n")?;
            Err(io::Error::from(io::ErrorKind::ConnectionAborted).into())
        },
        // The error says that it is of something else.
        |guest| {
            writeln!(guest.wfile, "goodbye")?;
            Ok(fs::read("/no/such/file").map(drop)?)
        },
        |guest| {
            writeln!(guest.wfile, "goodbye")?;
            Err(Wrapped(io::ErrorKind::UnexpectedEof.into()).into())
        },
    ];
    for way in ways {
        let handle = move |guest: &mut Guest<C>| -> HandlerResult {
            assert_eq!(End::of(&guest.rfile.next_line()), End::Server(Closing::Draining));
            way(guest)
        };
        let server = serve_polite(handle, Options::new());
        let mut client = server.connect();
        end(&server, Closing::Draining);
        assert_eq!(client.rest(), "goodbye\n", "a handler that catches the end says its own goodbye");
        let calls = server.calls();
        let [Call::Handled(_), Call::Finish, Call::Error { stage, is_disconnect, is_timeout, .. }] = &calls[..] else {
            panic!("{calls:?}")
        };
        assert_eq!((*stage, *is_disconnect, *is_timeout), (Stage::Handle, false, false), "{calls:?}");
        assert_eq!(server.stats().failed, 1);
    }
}

fn finish_can_fail_after_a_handler_that_has_caught_the_servers_end<C: Concurrency + Default>() {
    let handle = |guest: &mut Guest<C>| -> HandlerResult {
        assert_eq!(End::of(&guest.rfile.next_line()), End::Server(Closing::Draining));
        Ok(())
    };
    let server = Farewell::new(handle).finish(|_| Err("no disk".into())).serve(Options::new());
    let mut client = server.connect();
    end(&server, Closing::Draining);
    assert_eq!(client.rest(), "");
    let calls = server.calls();
    assert!(matches!(calls[..], [_, Call::Finish, Call::Error { stage: Stage::Finish, .. }]), "{calls:?}");
    assert_eq!(server.stats().failed, 1);
}

/// The supervisor sleeps until the end of the lifetime, unless something wakes it.
fn a_closed_connection_is_cut_after_a_second_although_its_lifetime_ends_later<C: Concurrency + Default>() {
    let options = Options::new().timeouts(Timeouts::new().lifetime(Duration::from_secs(3600)));
    let stay = |guest: &mut Guest<C>| -> HandlerResult {
        eventually("the server stops", || guest.server.is_stopping());
        Ok(())
    };
    let server = Farewell::new(stay).serve(options);
    let mut client = server.connect();
    eventually("it is handled", || server.started() == 1);
    let closed_at = Instant::now();
    end(&server, Closing::Kicked);
    client.wait_for_end();
    assert!(closed_at.elapsed() >= Duration::from_secs(1), "{:?}", closed_at.elapsed());
    assert_eq!(server.calls(), [], "the handler has not returned");
    assert_eq!(server.stop().1, [Call::Handled(End::Fine), Call::Finish]);
}

fn the_first_reason_stays<C: Concurrency + Default>() {
    let mut options = Options::new();
    options.timeouts.lifetime = Some(Duration::from_secs(60));
    let linger = |guest: &mut Guest<C>, why| -> HandlerResult {
        say_why(guest, why)?;
        // Meanwhile the server is stopped.
        guest.server.shutdown();
        assert_eq!(guest.request.closing(), Some(why));
        Ok(())
    };
    let server = Farewell::new(upper::<C>).closing(linger).serve(options);
    let mut client = server.connect();
    end(&server, Closing::Kicked);
    assert_eq!(client.rest(), "421 the server has closed this connection\r\n");
    assert_eq!(server.calls(), said_goodbye(Closing::Kicked));
    assert_eq!(server.stats(), counted(Closing::Kicked));
}

in_each_concurrency! { [sync threading pool]:
    the_client_is_told_why_the_server_ends_the_connection
    the_goodbye_stands_behind_what_was_answered
    the_goodbye_of_a_drain_arrives_although_the_client_goes_on_sending
    the_goodbye_of_a_lifetime_arrives_although_the_client_goes_on_sending
    nobody_is_told_of_an_end_that_the_server_does_not_make
    a_client_that_resets_is_told_nothing
    the_servers_end_is_found_inside_other_errors
    a_goodbye_that_the_client_does_not_take_is_given_up
    a_goodbye_does_not_wait_for_an_answer
    a_goodbye_that_fails_or_panics_is_reported
    of_a_goodbye_and_its_finish_the_first_error_is_reported
    setup_that_the_server_ends_is_no_failure
    a_handler_that_catches_the_servers_end_can_go_on_writing
    a_handler_that_catches_the_servers_end_can_fail_otherwise
    finish_can_fail_after_a_handler_that_has_caught_the_servers_end
    a_closed_connection_is_cut_after_a_second_although_its_lifetime_ends_later
    the_first_reason_stays
}

#[test]
fn a_goodbye_that_took_longer_than_its_second_arrives_if_the_client_need_not_be_waited_for() {
    let closing = |guest: &mut Guest<Threading>, why| -> HandlerResult {
        say_why(guest, why)?;
        thread::sleep(Duration::from_millis(1500));
        Ok(())
    };
    let server = Farewell::new(upper::<Threading>).closing(closing).serve(Options::new());
    let mut client = server.connect();
    end(&server, Closing::Draining);
    assert_eq!(client.rest(), "421 the server is stopping\r\n");
}

//! How connections end, and how a server lingers, where it is a process of its own that is sent signals, and where each
//! connection has a process.

use std::{
    io::ErrorKind,
    thread,
    time::{Duration, Instant},
};

use sockserver::Closing;
use sockserver_tests::{
    client::{Client, eventually},
    concurrencies::Word,
    farewell::{Call, said_goodbye},
    in_each_concurrency,
    line_server::stat,
    place::Place,
    process::{ServerProcess, server},
};

const QUIET: Duration = Duration::from_secs(1);

/// How long the servers of these tests linger.
const LINGER: Duration = Duration::from_millis(1500);
const LINGERS: &str = "linger=1500";

/// Starts a server in a process of its own, which speaks this protocol.
fn start<C: Word>(protocol: &str, options: &[&str]) -> ServerProcess {
    let mut command = server("farewell");
    command.args([C::WORD, protocol]).args(options);
    ServerProcess::start(command, Place::of("tcp"))
}

#[track_caller]
fn connect(server: &ServerProcess) -> Client {
    Client::connect(server.address())
}

/// Starts a server, which serves already: one that does not has no reason to linger.
fn start_serving<C: Word>(options: &[&str]) -> ServerProcess {
    let server = start::<C>("orders", options);
    assert_eq!(connect(&server).ask("hello"), "HELLO");
    server
}

fn is_refused(server: &ServerProcess) -> bool {
    Client::try_connect(server.address()).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

fn lines(calls: &[Call]) -> Vec<String> {
    calls.iter().map(|call| format!("{call:?}")).collect()
}

/// What the server has printed when it has ended with success.
#[derive(Debug)]
struct Printed {
    calls: Vec<String>,
    drained: String,
    stats: String,
}

#[track_caller]
fn ended(mut server: ServerProcess) -> Printed {
    let mut printed: Vec<_> = std::iter::from_fn(|| Some(server.line()).filter(|line| !line.is_empty())).collect();
    let status = server.ended();
    assert!(status.success(), "{status}");
    assert!(printed.iter().filter(|line| *line == "on_stopping").count() <= 1, "{printed:?}");
    printed.retain(|line| line != "on_stopping");
    let (stats, drained) = (printed.pop().unwrap_or_default(), printed.pop().unwrap_or_default());
    Printed { calls: printed, drained, stats }
}

/// Tells the server to stop. Its connections are idle: this takes far less than the 25 s of those that are busy, and less
/// than the 10 s for which a client is waited for that goes on sending after its end.
#[track_caller]
fn stops_as_idle(server: ServerProcess, connections: usize) {
    let begin = Instant::now();
    server.signal("TERM");
    let printed = ended(server);
    assert!(begin.elapsed() < 7 * QUIET, "{:?}", begin.elapsed());
    assert_eq!(printed.calls, vec![lines(&said_goodbye(Closing::Draining)); connections].concat());
    assert_eq!(printed.drained, format!("DrainReport {{ in_time: {connections}, forced: 0, leaked: 0 }}"));
    assert_eq!(stat(&printed.stats, "finished"), connections as u64, "{}", printed.stats);
}

fn a_one_way_client_ends_after_the_quiet_second<C: Word>() {
    let begin = Instant::now();
    let server = start::<C>("log", &[]);
    let mut client = connect(&server);
    client.send("a line\n");
    assert_eq!(server.line(), "a line");
    let sent = Instant::now();
    let stopping = thread::spawn(|| stops_as_idle(server, 1));
    assert_eq!(client.rest(), "421 the server is stopping\r\n");
    assert!(begin.elapsed() >= QUIET);
    assert!(sent.elapsed() < 10 * QUIET, "{:?}", sent.elapsed());
    stopping.join().expect("it is idle");
}

fn a_first_line_shortly_after_the_signal_is_answered<C: Word>() {
    let is_in_time = |_| {
        let server = start::<C>("orders", &[]);
        let connecting = Instant::now();
        let mut client = connect(&server);
        if C::WORD == "forking" {
            eventually("it is accepted", || server.observed().resources().children == 1);
        }
        // The thread that accepts may be a moment behind.
        thread::sleep(QUIET / 20);
        server.signal("TERM");
        eventually("the port is closed", || is_refused(&server));
        thread::sleep(QUIET / 10);
        client.send("hello\n");
        let is_in_time = connecting.elapsed() < QUIET * 4 / 5;
        let rest = client.rest();
        assert!(rest == "HELLO\n421 the server is stopping\r\n" || !is_in_time, "{rest:?}");
        is_in_time
    };
    assert!((0..5).any(is_in_time), "the machine is too busy");
}

fn a_mail_that_is_marked_busy_arrives_whole<C: Word>() {
    let server = start::<C>("busy_mail", &[]);
    let mut client = connect(&server);
    assert_eq!(client.ask("DATA"), "354 go on");
    server.signal("TERM");
    eventually("the port is closed", || is_refused(&server));
    client.send("a line\n");
    thread::sleep(QUIET * 3 / 2);
    client.send("another line\n.\n");
    assert_eq!(client.line(), "250 mail of 2 lines");
    assert_eq!(client.rest(), "421 the server is stopping\r\n");
    // Before it there may be clients that have looked whether the port is closed.
    let printed = ended(server);
    assert!(printed.calls.ends_with(&lines(&said_goodbye(Closing::Draining))), "{printed:?}");
}

fn what_is_cut_short_by_a_drain_is_not_complete<C: Word>() {
    let server = start::<C>("mail", &[]);
    let mut client = connect(&server);
    assert_eq!(client.ask("DATA"), "354 go on");
    stops_as_idle(server, 1);
    assert_eq!(client.rest(), "421 the server is stopping\r\n");

    let server = start::<C>("upload", &[]);
    let mut client = connect(&server);
    for _ in 0..3 {
        client.send("four");
        assert_eq!(client.line(), "ack");
    }
    stops_as_idle(server, 1);
    assert_eq!(client.rest(), "421 the server is stopping\r\n");
}

fn those_that_are_busy_to_the_end_are_cut<C: Word>() {
    let server = start::<C>("busy_mail", &["shutdown=300"]);
    let mut client = connect(&server);
    assert_eq!(client.ask("DATA"), "354 go on");
    server.signal("TERM");
    client.wait_for_end();
    let printed = ended(server);
    assert_eq!(printed.drained, "DrainReport { in_time: 0, forced: 1, leaked: 0 }");
    assert_eq!(stat(&printed.stats, "disconnected"), 1, "{}", printed.stats);
}

fn every_client_is_told_why_it_is_ended<C: Word>() {
    for (option, why) in [("idle=200", Closing::Idle), ("lifetime=500", Closing::Lifetime)] {
        let server = start::<C>("orders", &[option]);
        let mut client = connect(&server);
        assert_eq!(client.rest(), format!("421 {why}\r\n"));
        server.signal("TERM");
        let printed = ended(server);
        assert_eq!(printed.calls, lines(&said_goodbye(why)));
        assert_eq!(stat(&printed.stats, "timed_out"), 1, "{}", printed.stats);
    }
}

fn a_goodbye_that_the_client_does_not_take_is_given_up<C: Word>() {
    let server = start::<C>("orders", &[]);
    let mut client = connect(&server);
    let begin = Instant::now();
    client.send("kick\n");
    let calls: Vec<_> = (0..3).map(|_| server.line()).collect();
    assert_eq!(calls, lines(&said_goodbye(Closing::Kicked)));
    assert!(begin.elapsed() >= QUIET * 9 / 10 && begin.elapsed() < 10 * QUIET, "{:?}", begin.elapsed());
    drop(client);
    server.signal("TERM");
    let printed = ended(server);
    assert_eq!(printed.calls, [""; 0]);
    assert_eq!(stat(&printed.stats, "disconnected"), 1, "{}", printed.stats);
}

fn urgent_bytes_are_no_request<C: Word>() {
    let server = start::<C>("orders", &[]);
    let mut clients: Vec<_> = (0..20).map(|_| connect(&server)).collect();
    for client in &mut clients {
        assert_eq!(client.ask("x"), "X");
        client.socket().send_out_of_band(b"!").expect("a TCP socket");
    }
    let begin = Instant::now();
    server.signal("TERM");
    let printed = ended(server);
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    assert_eq!(printed.drained, "DrainReport { in_time: 20, forced: 0, leaked: 0 }");
    assert!(!printed.calls.iter().any(|line| line.starts_with("Error")), "{printed:?}");
}

fn requests_without_a_pause_do_not_hold_up_the_stop<C: Word>() {
    let server = start::<C>("orders", &["shutdown=20000"]);
    let mut client = connect(&server);
    assert_eq!(client.ask("hello"), "HELLO");
    let taking = client.socket().try_clone().expect("a descriptor");
    thread::scope(|scope| {
        let (sent, has_sent) = std::sync::mpsc::channel();
        scope.spawn(move || {
            let requests = "a request\n".repeat(1000);
            let mut socket = client.socket();
            while std::io::Write::write_all(&mut socket, requests.as_bytes()).is_ok() {
                let _ = sent.send(());
            }
        });
        scope.spawn(move || std::io::copy(&mut { taking }, &mut std::io::sink()));
        (0..10).for_each(|_| has_sent.recv().expect("the talk goes on"));
        stops_as_idle(server, 1);
    });
}

fn a_handler_elsewhere_can_ask_whether_the_server_is_stopping<C: Word>() {
    let server = start::<C>("orders", &[]);
    let mut client = connect(&server);
    assert_eq!(client.ask("is_stopping"), "false");
    assert_eq!(client.ask("is_ready"), "true");
    assert_eq!(client.ask("ignore the client"), "ignored");
    server.signal("TERM");
    assert_eq!(client.rest(), "it is stopping\n");
    let printed = ended(server);
    assert_eq!(printed.calls, ["Handled(Fine)", "Finish"]);
    // The handler may have ended before the drain began: the server says first that it is stopping.
    assert!(printed.drained.ends_with("forced: 0, leaked: 0 }"), "{printed:?}");
}

/// The server was told to stop, and lingers: it serves those who come, and then drains.
#[track_caller]
fn lingers(server: ServerProcess, begin: Instant) {
    let mut client = connect(&server);
    assert_eq!(client.ask("hello"), "HELLO");
    assert_eq!(client.ask("is_stopping"), "false");
    assert_eq!(client.rest(), "421 the server is stopping\r\n");
    assert!(begin.elapsed() >= LINGER, "{:?}", begin.elapsed());
    let printed = ended(server);
    assert!(begin.elapsed() < LINGER + Duration::from_secs(10), "{:?}", begin.elapsed());
    assert!(printed.drained.ends_with("forced: 0, leaked: 0 }"), "{printed:?}");
}

fn a_signal_makes_a_server_linger<C: Word>() {
    let server = start_serving::<C>(&[LINGERS]);
    let begin = Instant::now();
    server.signal("TERM");
    // What is not ready is what has seen the signal.
    eventually("it is not ready", || connect(&server).ask("is_ready") == "false");
    lingers(server, begin);
}

fn a_handler_makes_a_server_linger<C: Word>() {
    let server = start_serving::<C>(&[LINGERS]);
    let begin = Instant::now();
    connect(&server).send("stop\n");
    eventually("it is not ready", || connect(&server).ask("is_ready") == "false");
    // That it has been told already changes nothing.
    connect(&server).send("stop\n");
    lingers(server, begin);
}

fn a_connection_from_before_the_signal_sees_that_the_server_is_not_ready<C: Word>() {
    let server = start::<C>("orders", &[LINGERS]);
    let mut client = connect(&server);
    assert_eq!(client.ask("is_ready"), "true");
    server.signal("TERM");
    eventually("it is not ready", || client.ask("is_ready") == "false");
    assert_eq!(client.ask("is_stopping"), "false");
}

fn a_handler_that_has_stopped_its_server_lingers_as_the_others_do<C: Word>() {
    let server = start::<C>("orders", &[LINGERS]);
    let mut client = connect(&server);
    let begin = Instant::now();
    client.send("stop\n");
    assert_eq!(client.ask("is_ready"), "false", "is_ready");
    assert_eq!(client.ask("is_stopping"), "false", "is_stopping");
    assert_eq!(client.ask("hello"), "HELLO");
    assert_eq!(client.rest(), "421 the server is stopping\r\n");
    assert!(begin.elapsed() >= LINGER, "{:?}", begin.elapsed());
}

fn the_second_signal_ends_a_server_that_lingers<C: Word>() {
    let mut server = start_serving::<C>(&["linger=3600000"]);
    server.signal("TERM");
    eventually("it is not ready", || connect(&server).ask("is_ready") == "false");
    server.signal("TERM");
    let status = server.ended();
    assert_eq!(status.code(), Some(128 + 15), "{status}");
}

in_each_concurrency! { [threading forking]:
    a_one_way_client_ends_after_the_quiet_second
    a_first_line_shortly_after_the_signal_is_answered
    a_mail_that_is_marked_busy_arrives_whole
    what_is_cut_short_by_a_drain_is_not_complete
    those_that_are_busy_to_the_end_are_cut
    every_client_is_told_why_it_is_ended
    a_goodbye_that_the_client_does_not_take_is_given_up
    urgent_bytes_are_no_request
    requests_without_a_pause_do_not_hold_up_the_stop
    a_handler_elsewhere_can_ask_whether_the_server_is_stopping
    a_connection_from_before_the_signal_sees_that_the_server_is_not_ready
    a_handler_that_has_stopped_its_server_lingers_as_the_others_do
}
in_each_concurrency! { [sync threading pool forking]:
    a_signal_makes_a_server_linger
    a_handler_makes_a_server_linger
    the_second_signal_ends_a_server_that_lingers
}

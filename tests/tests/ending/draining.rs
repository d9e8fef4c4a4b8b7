//! What a drain does to connections: who is idle, who is busy, and how each end is told to the handler.

use std::{
    fs,
    io::{self, BufRead, Read, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use sockserver::{Closing, Concurrency, DrainReport, Options, ServerHandle};
use sockserver_tests::{
    client::{Client, PATIENCE, eventually},
    farewell::{Call, End, Farewell, Gate, Guest, Hosted, LineGuest, mail, said_goodbye, upper},
    in_each_concurrency,
};

/// How long a connection has been quiet that is idle without a reply.
const QUIET: Duration = Duration::from_secs(1);

/// What takes no time takes no longer than this, unless the machine is busy with others.
const AT_ONCE: Duration = Duration::from_millis(500);

fn shutdown_after(shutdown: Duration) -> Options {
    let mut options = Options::new();
    options.timeouts.shutdown = shutdown;
    options
}

fn drained(in_time: usize, forced: usize, leaked: usize) -> DrainReport {
    let mut drained = DrainReport::default();
    (drained.in_time, drained.forced, drained.leaked) = (in_time, forced, leaked);
    drained
}

/// Tries again where a machine that is busy with others has taken its time.
#[track_caller]
fn in_one_of_five(what: &str, mut is_so: impl FnMut() -> bool) {
    assert!((0..5).any(|_| is_so()), "not once in five times: {what}");
}

/// Stops the server; its connections were idle, and nothing is reported.
#[track_caller]
fn stops_as_idle(server: Hosted, connections: usize) -> Duration {
    let (begin, handle) = (Instant::now(), ServerHandle::clone(&server));
    let (report, calls) = server.stop();
    let time = begin.elapsed();
    assert_eq!(report, drained(connections, 0, 0));
    assert_eq!(handle.stats().finished, connections as u64, "{:?}", handle.stats());
    assert_eq!(calls, vec![said_goodbye(Closing::Draining); connections].concat());
    time
}

/// A client of a log receiver, which has taken a line of it.
fn logging<C: Concurrency + Default>(options: Options) -> (Hosted, Client, Arc<AtomicUsize>) {
    let lines = Arc::new(AtomicUsize::new(0));
    let count = lines.clone();
    let handle = move |guest: &mut Guest<C>| {
        while guest.rfile.next_line()?.is_some() {
            count.fetch_add(1, SeqCst);
        }
        Ok(())
    };
    let server = Farewell::new(handle).serve(options);
    let mut client = server.connect();
    client.send("a line\n");
    eventually("the line is taken", || lines.load(SeqCst) == 1);
    (server, client, lines)
}

fn a_one_way_client_that_has_been_quiet_ends_at_once<C: Concurrency + Default>() {
    in_one_of_five("without a further second", || {
        let (server, _client, _lines) = logging::<C>(Options::new());
        // The quiet second is what this is about.
        thread::sleep(QUIET);
        stops_as_idle(server, 1) < AT_ONCE
    });
}

fn a_one_way_client_that_has_just_sent_ends_after_the_quiet_second<C: Concurrency + Default>() {
    let begin = Instant::now();
    let (server, mut client, _lines) = logging::<C>(Options::new());
    let time = stops_as_idle(server, 1);
    assert!(begin.elapsed() >= QUIET);
    assert!(time < 10 * QUIET, "{time:?}: it is not left its 25 s");
    assert_eq!(client.rest(), "");
}

fn a_one_way_client_is_not_cut_while_it_goes_on<C: Concurrency + Default>() {
    in_one_of_five("without a pause that this machine has made", || {
        let (server, mut client, lines) = logging::<C>(Options::new());
        server.shutdown();
        let (mut sent, mut longest_pause) = (Instant::now(), Duration::ZERO);
        for _ in 0..25 {
            thread::sleep(Duration::from_millis(100));
            longest_pause = longest_pause.max(sent.elapsed());
            sent = Instant::now();
            // It fails when the connection has ended.
            let _ = client.socket().send(b"a further line\n");
        }
        let last = Instant::now();
        client.wait_for_end();
        let was_quiet = last.elapsed() > QUIET / 2;
        stops_as_idle(server, 1);
        let is_complete = lines.load(SeqCst) == 26 && was_quiet;
        assert!(is_complete || longest_pause > QUIET / 2, "{} lines", lines.load(SeqCst));
        is_complete
    });
}

fn a_one_way_client_that_never_pauses_is_cut_at_the_end<C: Concurrency + Default>() {
    let shutdown = Duration::from_secs(2);
    let (server, client, lines) = logging::<C>(shutdown_after(shutdown));
    let begin = Instant::now();
    let sending = thread::spawn(move || {
        while client.socket().send(b"a further line\n").is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    let (report, calls) = server.stop();
    assert!(begin.elapsed() >= shutdown);
    assert_eq!(report, drained(0, 1, 0));
    assert_eq!(calls, said_goodbye(Closing::Draining));
    assert!(lines.load(SeqCst) > 2);
    sending.join().expect("no panic");
}

fn a_client_that_was_only_greeted_has_a_second_from_when_it_was_accepted<C: Concurrency + Default>() {
    let greet = |guest: &mut Guest<C>| {
        writeln!(guest.wfile, "220 hello")?;
        upper(guest)
    };
    let begin = Instant::now();
    let server = Farewell::new(greet).serve(Options::new());
    let mut client = server.connect();
    assert_eq!(client.line(), "220 hello");
    let time = stops_as_idle(server, 1);
    assert!(begin.elapsed() >= QUIET && time < 10 * QUIET, "{time:?}");
}

fn a_first_line_shortly_after_the_shutdown_is_answered<C: Concurrency + Default>() {
    in_one_of_five("the client is in time", || {
        let server = Farewell::<C>::upper().serve(Options::new());
        let connecting = Instant::now();
        let mut client = server.connect();
        eventually("it is accepted", || server.stats().active == 1);
        server.shutdown();
        thread::sleep(QUIET / 5);
        client.send("hello\n");
        let is_in_time = connecting.elapsed() < QUIET * 4 / 5;
        let rest = client.rest();
        stops_as_idle(server, 1);
        assert!(rest == "HELLO\n" || !is_in_time, "{rest:?}");
        is_in_time
    });
}

fn a_client_that_has_been_silent_for_a_second_ends_at_once<C: Concurrency + Default>() {
    in_one_of_five("without a further second", || {
        let server = Farewell::<C>::upper().serve(Options::new());
        let _client = server.connect();
        eventually("it is accepted", || server.stats().active == 1);
        thread::sleep(QUIET);
        stops_as_idle(server, 1) < AT_ONCE
    });
}

fn a_mail_that_is_marked_busy_arrives_whole<C: Concurrency + Default>() {
    let server = Farewell::new(|guest: &mut Guest<C>| mail(guest, true)).serve(Options::new());
    let mut client = server.connect();
    assert_eq!(client.ask("DATA"), "354 go on");
    server.shutdown();
    assert!(server.is_stopping());
    client.send("a line\n");
    // A quiet second would end what is not marked.
    thread::sleep(QUIET * 3 / 2);
    assert_eq!(server.calls(), []);
    client.send("another line\n.\n");
    assert_eq!(client.line(), "250 mail of 2 lines");
    assert_eq!(client.rest(), "");
    stops_as_idle(server, 1);
}

fn a_mail_that_is_not_marked_ends_with_an_error<C: Concurrency + Default>() {
    let server = Farewell::new(|guest: &mut Guest<C>| mail(guest, false)).serve(Options::new());
    let mut client = server.connect();
    assert_eq!(client.ask("DATA"), "354 go on");
    stops_as_idle(server, 1);
    assert_eq!(client.rest(), "", "a mail that is cut short is not accepted");
}

fn a_mail_that_takes_too_long_ends_with_an_error<C: Concurrency + Default>() {
    let server = Farewell::new(|guest: &mut Guest<C>| mail(guest, true)).serve(shutdown_after(QUIET / 5));
    let mut client = server.connect();
    assert_eq!(client.ask("DATA"), "354 go on");
    let handle = ServerHandle::clone(&server);
    let (report, calls) = server.stop();
    assert_eq!(report, drained(0, 1, 0));
    assert_eq!(calls, said_goodbye(Closing::Draining));
    assert_eq!(handle.stats().disconnected, 1);
    client.wait_for_end();
}

/// Serves a handler that never answers, and calls this for each line.
fn marking<C: Concurrency + Default>(mark: impl Fn(&mut Guest<C>) + Send + Sync + 'static) -> (Hosted, Client) {
    let (sender, marked) = mpsc::channel();
    let handle = move |guest: &mut Guest<C>| {
        while guest.rfile.next_line()?.is_some() {
            mark(guest);
            sender.send(())?;
        }
        Ok(())
    };
    let server = Farewell::new(handle).serve(Options::new());
    let mut client = server.connect();
    client.send("a line\n");
    marked.recv_timeout(PATIENCE).expect("the line comes");
    (server, client)
}

fn a_connection_that_is_marked_idle_ends_at_once<C: Concurrency + Default>() {
    let by_reader = |guest: &mut Guest<C>| guest.rfile.set_busy(false);
    let by_stream = |guest: &mut Guest<C>| guest.request.set_busy(false);
    for mark in [by_reader, by_stream] {
        in_one_of_five("without the quiet second", || {
            let (server, _client) = marking::<C>(mark);
            stops_as_idle(server, 1) < AT_ONCE
        });
    }
}

fn another_thread_can_mark_a_connection_idle_that_is_waited_for<C: Concurrency + Default>() {
    let (sender, streams) = mpsc::channel();
    let (server, _client) = marking::<C>(move |guest| {
        guest.request.set_busy(true);
        sender.send(guest.request.clone()).expect("the test waits for it");
    });
    let stream = streams.recv_timeout(PATIENCE).expect("it is marked");
    server.shutdown();
    // The handler has been woken by the shutdown, and waits again.
    thread::sleep(QUIET / 5);
    assert_eq!(server.calls(), []);
    stream.set_busy(false);
    let time = stops_as_idle(server, 1);
    assert!(time < Duration::from_secs(10), "{time:?}: as if it were busy");
}

/// A way of reading.
type Way<C> = (&'static str, fn(&mut Guest<C>) -> io::Result<()>);

fn ways_of_reading<C: Concurrency + Default>() -> Vec<Way<C>> {
    vec![
        ("Reader::read", |guest| guest.rfile.read(&mut [0; 100]).map(drop)),
        ("Reader::read of much", |guest| guest.rfile.read(&mut [0; 1 << 16]).map(drop)),
        ("Stream::read", |guest| guest.request.read(&mut [0; 100]).map(drop)),
        ("&Stream::read", |guest| { &guest.request }.read(&mut [0; 100]).map(drop)),
        ("Stream::read_exact", |guest| guest.request.read_exact(&mut [0; 4])),
        ("Stream::read_to_end", |guest| guest.request.read_to_end(&mut Vec::new()).map(drop)),
        ("read_vectored", |guest| guest.rfile.read_vectored(&mut [io::IoSliceMut::new(&mut [0; 4])]).map(drop)),
        ("read_exact", |guest| guest.rfile.read_exact(&mut [0; 4])),
        ("read_to_end", |guest| guest.rfile.read_to_end(&mut Vec::new()).map(drop)),
        ("read_to_string", |guest| guest.rfile.read_to_string(&mut String::new()).map(drop)),
        ("next_line", |guest| guest.rfile.next_line().map(drop)),
        ("next_line_bytes", |guest| guest.rfile.next_line_bytes().map(drop)),
        ("read_line", |guest| guest.rfile.read_line(&mut String::new()).map(drop)),
        ("read_until", |guest| guest.rfile.read_until(b'.', &mut Vec::new()).map(drop)),
        ("skip_until", |guest| guest.rfile.skip_until(b'.').map(drop)),
        ("fill_buf", |guest| guest.rfile.fill_buf().map(drop)),
        ("bytes", |guest| { &mut guest.rfile }.bytes().try_for_each(|byte| byte.map(drop))),
        ("lines", |guest| { &mut guest.rfile }.lines().try_for_each(|line| line.map(drop))),
        ("split", |guest| { &mut guest.rfile }.split(b'.').try_for_each(|part| part.map(drop))),
        ("take", |guest| { &mut guest.rfile }.take(4).read_to_end(&mut Vec::new()).map(drop)),
        ("io::copy of the reader", |guest| io::copy(&mut guest.rfile, &mut io::sink()).map(drop)),
        ("io::copy of the stream", |guest| io::copy(&mut guest.request, &mut io::sink()).map(drop)),
    ]
}

/// Takes chunks and acknowledges them, the fourth one in this way.
fn upload<C: Concurrency + Default>(way: fn(&mut Guest<C>) -> io::Result<()>) -> (Hosted, Client) {
    let take = move |guest: &mut Guest<C>| {
        for number in 1..=3 {
            guest.rfile.read_exact(&mut [0; 4])?;
            writeln!(guest.wfile, "ack {number}")?;
        }
        // All of it would be taken for a complete upload.
        Ok(way(guest)?)
    };
    // There is a second for what is cut, to see how that ends.
    let server = Farewell::new(take).serve(Options::new());
    let mut client = server.connect();
    for number in 1..=3 {
        client.send(format!("{number:4}"));
        assert_eq!(client.line(), format!("ack {number}"));
    }
    (server, client)
}

fn no_way_of_reading_takes_the_end_of_a_drain_for_that_of_a_file<C: Concurrency + Default>() {
    for (name, way) in ways_of_reading::<C>() {
        let (server, mut client) = upload(way);
        server.shutdown();
        assert_eq!(server.call(), Call::Handled(End::Server(Closing::Draining)), "{name}");
        assert_eq!(client.rest(), "");
        let handle = ServerHandle::clone(&server);
        assert_eq!(server.stop(), (drained(1, 0, 0), vec![Call::Closing(Closing::Draining), Call::Finish]), "{name}");
        assert_eq!(handle.stats().finished, 1, "{name}");
    }
}

fn no_way_of_reading_takes_being_closed_for_the_end_of_a_file<C: Concurrency + Default>() {
    for (name, way) in ways_of_reading::<C>() {
        let (server, mut client) = upload(way);
        assert!(server.close(server.connections()[0].id));
        assert_eq!(server.call(), Call::Handled(End::Server(Closing::Kicked)), "{name}");
        client.wait_for_end();
        assert_eq!(server.calls(), [Call::Closing(Closing::Kicked), Call::Finish], "{name}");
    }
}

fn every_way_of_reading_sees_the_end_of_file_of_the_client<C: Concurrency + Default>() {
    for (name, way) in ways_of_reading::<C>() {
        let (server, mut client) = upload(way);
        client.finish();
        let end = match name {
            "read_exact" | "Stream::read_exact" => End::Io(io::ErrorKind::UnexpectedEof),
            _ => End::Fine,
        };
        assert_eq!(server.call(), Call::Handled(end), "{name}");
        client.wait_for_end();
        assert_eq!(server.calls().first(), Some(&Call::Finish), "{name}");
    }
}

#[test]
fn no_way_of_reading_takes_half_a_chunk_for_the_whole() {
    let servers = ways_of_reading::<sockserver::concurrency::Threading>().into_iter().map(|(name, way)| {
        let (server, mut client) = upload(way);
        client.send("ha");
        eventually("the half has come", || server.connections().iter().all(|info| info.bytes_in == 14));
        (name, server, client)
    });
    // What returns with the half is over.
    let takes_a_part = |name| {
        ["Reader::read", "Reader::read of much", "Stream::read", "&Stream::read", "read_vectored", "fill_buf"]
            .contains(&name)
    };
    let servers: Vec<_> = servers.filter(|(name, ..)| !takes_a_part(name)).collect();
    servers.iter().for_each(|(_, server, _)| server.shutdown());
    for (name, server, _client) in servers {
        assert_eq!(server.call(), Call::Handled(End::Server(Closing::Draining)), "{name}");
        assert_eq!(server.stop().0, drained(1, 0, 0), "{name}");
    }
}

/// Answers each line in upper case, and waits at the gate before the first answer.
fn gated<C: Concurrency + Default>() -> (Hosted, Gate) {
    let (gate, pass) = Gate::new();
    let pass = Arc::new(pass);
    let (pass_once, has_passed) = (pass.clone(), AtomicBool::new(false));
    let handle = move |guest: &mut Guest<C>| {
        if guest.rfile.fill_buf()?.is_empty() {
            return Ok(());
        }
        pass();
        upper(guest)
    };
    let line = move |guest: &mut LineGuest<C>, line: &str| {
        if !has_passed.swap(true, SeqCst) {
            pass_once();
        }
        Ok(writeln!(guest.wfile, "{}", line.to_uppercase())?)
    };
    (Farewell::new(handle).line(line).serve(Options::new()), gate)
}

fn what_had_come_before_the_shutdown_is_answered_and_no_more<C: Concurrency + Default>() {
    let (server, gate) = gated::<C>();
    let mut client = server.connect();
    // More than the reader takes at once.
    let requests: String = (0..5000).map(|number| format!("request {number}\n")).collect();
    client.send(&requests);
    gate.is_reached();
    eventually("the kernel has received it", || unacknowledged(&client) == 0);
    server.shutdown();
    for number in 0..5000 {
        client.send(format!("too late {number}\n"));
    }
    gate.open();
    assert_eq!(client.rest(), requests.to_uppercase());
    let time = stops_as_idle(server, 1);
    assert!(time < Duration::from_secs(10), "{time:?}");
}

/// How many bytes the server's kernel has not confirmed, as /proc/net/tcp tells.
fn unacknowledged(client: &Client) -> usize {
    let table = fs::read_to_string("/proc/net/tcp").expect("Linux tells it");
    let local = format!(":{:04X}", client.address().port().expect("an internet client"));
    let fields = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let queues = fields.filter(|fields| fields[1].ends_with(&local)).map(|fields| fields[4].to_owned()).next();
    let queues = queues.expect("the connection is up");
    usize::from_str_radix(queues.split_once(':').expect("two queues").0, 16).expect("a number")
}

/// A talk that goes on for ever does not hold up a stop, which takes no longer than a request.
fn is_not_held_up(server: Hosted, talk: impl FnOnce(Client) -> Result<(), io::Error> + Send + 'static) {
    let client = server.connect();
    let talking = thread::spawn(move || talk(client));
    let has_begun = || server.connections().first().is_some_and(|info| info.bytes_out > 1000);
    eventually("the talk has begun", has_begun);
    let begin = Instant::now();
    let handle = ServerHandle::clone(&server);
    let (report, calls) = server.stop();
    let time = begin.elapsed();
    // The talk ends with the connection.
    let _ = talking.join().expect("no panic");
    assert_eq!(report, drained(1, 0, 0), "after {time:?}");
    assert!(time < Duration::from_secs(10), "{time:?}");
    assert_eq!(calls, said_goodbye(Closing::Draining));
    assert_eq!(handle.stats().finished, 1);
}

fn two_requests_in_flight_for_ever_do_not_hold_up_the_stop<C: Concurrency + Default>() {
    let slowly = |guest: &mut Guest<C>| {
        while let Some(line) = guest.rfile.next_line()? {
            thread::sleep(Duration::from_millis(10));
            writeln!(guest.wfile, "{}", line.repeat(20).to_uppercase())?;
        }
        Ok(())
    };
    let slowly_a_line = |guest: &mut LineGuest<C>, line: &str| {
        thread::sleep(Duration::from_millis(10));
        Ok(writeln!(guest.wfile, "{}", line.repeat(20).to_uppercase())?)
    };
    let server = Farewell::new(slowly).line(slowly_a_line).serve(shutdown_after(Duration::from_secs(20)));
    is_not_held_up(server, |mut client| {
        client.send("a request\n");
        loop {
            client.socket().send(b"a request\n")?;
            if client.line().is_empty() {
                return Ok(());
            }
        }
    });
}

/// Sends without a pause, and takes the answers.
fn stream_requests(requests: &'static [u8]) -> impl FnOnce(Client) -> io::Result<()> + Send {
    move |client| {
        let taking = client.socket().try_clone()?;
        thread::scope(|scope| {
            let sending = scope.spawn(move || while client.socket().send(requests).is_ok() {});
            // It may end with a reset, as the client does not stop.
            let _ = io::copy(&mut { taking }, &mut io::sink());
            sending.join().expect("no panic");
        });
        Ok(())
    }
}

fn requests_without_a_pause_do_not_hold_up_the_stop<C: Concurrency + Default>() {
    for requests in [&b"a request\n"[..], "request\n".repeat(1024).as_bytes().to_vec().leak()] {
        let server = Farewell::<C>::upper().serve(shutdown_after(Duration::from_secs(20)));
        is_not_held_up(server, stream_requests(requests));
    }
}

fn requests_in_pieces_without_a_pause_do_not_hold_up_the_stop<C: Concurrency + Default>() {
    // What the server receives ends in the middle of a request nearly each time.
    for requests in [&b"quest\nre"[..], b"a request of an odd length\n".repeat(997).leak()] {
        let server = Farewell::<C>::upper().serve(shutdown_after(Duration::from_secs(20)));
        is_not_held_up(server, stream_requests(requests));
    }
}

fn send_urgent(client: &Client) {
    assert_eq!(client.socket().send_out_of_band(b"!").expect("a TCP socket"), 1);
}

fn urgent_bytes_are_no_request<C: Concurrency + Default>(clients: usize) {
    let server = Farewell::<C>::upper().serve(shutdown_after(Duration::from_secs(20)));
    let mut clients: Vec<_> = (0..clients).map(|_| server.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.ask("x"), "X");
        send_urgent(client);
    }
    let last = clients.last().expect("there are clients");
    eventually("the kernel has received it", || unacknowledged(last) == 0);
    let (begin, handle) = (Instant::now(), ServerHandle::clone(&server));
    let (report, calls) = server.stop();
    let time = begin.elapsed();
    assert_eq!((report, handle.stats().finished), (drained(clients.len(), 0, 0), clients.len() as u64));
    assert!(time < Duration::from_secs(10), "{time:?}");
    assert!(!calls.iter().any(|call| matches!(call, Call::Error { .. })), "{calls:?}");
}

#[test]
fn a_hundred_clients_with_urgent_bytes_do_not_hold_up_the_stop() {
    urgent_bytes_are_no_request::<sockserver::concurrency::Threading>(100);
}

fn a_client_with_an_urgent_byte_does_not_hold_up_the_stop<C: Concurrency + Default>() {
    urgent_bytes_are_no_request::<C>(1);
}

fn what_came_around_an_urgent_byte_is_answered<C: Concurrency + Default>() {
    let (server, gate) = gated::<C>();
    let mut client = server.connect();
    client.send("one\n");
    gate.is_reached();
    client.send("two\n");
    send_urgent(&client);
    client.send("three\n");
    eventually("the kernel has received it", || unacknowledged(&client) == 0);
    server.shutdown();
    client.send("too late\n");
    gate.open();
    // How much is behind an urgent byte the kernel does not tell: what is behind it at the stop may be a line more.
    let rest = client.rest();
    assert!(rest.starts_with("ONE\nTWO\nTHREE\n"), "{rest}");
    stops_as_idle(server, 1);
}

fn an_answer_is_not_lost_to_what_is_behind_an_urgent_byte<C: Concurrency + Default>() {
    let (gate, pass) = Gate::new();
    let answer_one = move |guest: &mut Guest<C>| {
        let line = guest.rfile.next_line()?.unwrap_or_default();
        pass();
        Ok(writeln!(guest.wfile, "{}", line.to_uppercase())?)
    };
    let server = Farewell::new(answer_one).serve(Options::new());
    let mut client = server.connect();
    client.send("one\n");
    gate.is_reached();
    send_urgent(&client);
    client.send("never read\n");
    eventually("the kernel has received it", || unacknowledged(&client) == 0);
    gate.open();
    assert_eq!(client.rest(), "ONE\n");
}

in_each_concurrency! { [sync threading pool]:
    a_one_way_client_that_has_been_quiet_ends_at_once
    a_one_way_client_that_has_just_sent_ends_after_the_quiet_second
    a_one_way_client_is_not_cut_while_it_goes_on
    a_one_way_client_that_never_pauses_is_cut_at_the_end
    a_client_that_was_only_greeted_has_a_second_from_when_it_was_accepted
    a_mail_that_is_marked_busy_arrives_whole
    a_mail_that_is_not_marked_ends_with_an_error
    a_mail_that_takes_too_long_ends_with_an_error
    a_connection_that_is_marked_idle_ends_at_once
    another_thread_can_mark_a_connection_idle_that_is_waited_for
    no_way_of_reading_takes_the_end_of_a_drain_for_that_of_a_file
    no_way_of_reading_takes_being_closed_for_the_end_of_a_file
    every_way_of_reading_sees_the_end_of_file_of_the_client
    an_answer_is_not_lost_to_what_is_behind_an_urgent_byte
}
in_each_concurrency! { [sync threading pool event_loop two_loops]:
    a_first_line_shortly_after_the_shutdown_is_answered
    a_client_that_has_been_silent_for_a_second_ends_at_once
    what_had_come_before_the_shutdown_is_answered_and_no_more
    two_requests_in_flight_for_ever_do_not_hold_up_the_stop
    requests_without_a_pause_do_not_hold_up_the_stop
    requests_in_pieces_without_a_pause_do_not_hold_up_the_stop
    a_client_with_an_urgent_byte_does_not_hold_up_the_stop
    what_came_around_an_urgent_byte_is_answered
}

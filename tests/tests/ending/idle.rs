//! What bounds how long a connection may take: `timeouts(idle)`, `Stream::set_idle_timeout`, `Reader::set_deadline`.

use std::{
    io::{BufRead, ErrorKind, Read, Write},
    net::Shutdown,
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, SockAddr, Socket, Type};
use sockserver::{Closing, Concurrency, HandlerResult, Options, Stage};
use sockserver_tests::{
    client::{Client, PATIENCE, eventually},
    farewell::{Call, End, Farewell, Guest, Hosted, said_goodbye, upper},
    in_each_concurrency,
};

const IDLE: Duration = Duration::from_millis(400);

/// How often something is transferred where a connection is not to be idle.
const OFTEN: Duration = Duration::from_millis(20);

/// So often, that is five times as long as the timeout.
const TRANSFERS: usize = 100;

fn idle(idle: Duration) -> Options {
    let mut options = Options::new();
    options.timeouts.idle = Some(idle);
    options
}

/// Sleeps, and tells the longest time that it has taken from one to the next: on a machine that is busy with others a
/// transfer can come too late.
struct Pace {
    last: Instant,
    longest: Duration,
}

impl Pace {
    fn new() -> Pace {
        Pace { last: Instant::now(), longest: Duration::ZERO }
    }

    fn step(&mut self) {
        thread::sleep(OFTEN);
        self.longest = self.longest.max(self.last.elapsed());
        self.last = Instant::now();
    }

    fn was_kept(&self) -> bool {
        self.longest < IDLE / 4
    }
}

/// Tries again where the machine has not kept the pace.
#[track_caller]
fn at_a_pace(mut is_over: impl FnMut(&mut Pace) -> Result<(), String>) {
    let mut failure = String::new();
    for _ in 0..5 {
        let mut pace = Pace::new();
        match is_over(&mut pace) {
            Ok(()) => return,
            Err(error) if pace.was_kept() => panic!("{error}"),
            Err(error) => failure = error,
        }
    }
    panic!("the machine is too busy; the last time: {failure}");
}

#[track_caller]
fn is_idle_in_the_end(server: &Hosted, client: &mut Client) {
    client.wait_for_end();
    assert_eq!(server.calls(), said_goodbye(Closing::Idle));
    assert_eq!(server.stats().timed_out, 1);
}

/// A handler that copies with two threads, between its client and an upstream.
fn proxy<C: Concurrency + Default>(options: Options) -> (Hosted, Client, Socket) {
    let (upstream, other_end) = Socket::pair(Domain::UNIX, Type::STREAM, None).expect("two sockets");
    let handle = move |guest: &mut Guest<C>| -> HandlerResult {
        let (mut down, mut up) = (upstream.try_clone()?, upstream.try_clone()?);
        let mut to_client = guest.request.clone();
        thread::scope(|scope| {
            // Its end is that of the connection.
            scope.spawn(move || _ = std::io::copy(&mut down, &mut to_client));
            let copied = std::io::copy(&mut guest.rfile, &mut up);
            upstream.shutdown(Shutdown::Both)?;
            copied.map(drop)
        })?;
        Ok(())
    };
    let server = Farewell::new(handle).serve(options);
    let client = server.connect();
    (server, client, other_end)
}

fn a_proxy_lives_while_its_client_only_receives<C: Concurrency + Default>() {
    at_a_pace(|pace| {
        let (server, mut client, mut upstream) = proxy::<C>(idle(IDLE));
        for number in 0..TRANSFERS {
            // It fails when the connection has been ended.
            upstream.write_all(b"a piece\n").map_err(|error| format!("piece {number}: {error}"))?;
            pace.step();
        }
        for number in 0..TRANSFERS {
            let line = client.line();
            if line != "a piece" {
                return Err(format!("{line:?} in place of piece {number}"));
            }
        }
        is_idle_in_the_end(&server, &mut client);
        Ok(())
    });
}

fn a_proxy_lives_while_its_client_only_sends<C: Concurrency + Default>() {
    at_a_pace(|pace| {
        let (server, mut client, mut upstream) = proxy::<C>(idle(IDLE));
        for number in 0..TRANSFERS {
            client.socket().send(b"a piece\n").map_err(|error| format!("piece {number}: {error}"))?;
            pace.step();
        }
        is_idle_in_the_end(&server, &mut client);
        let mut sent = String::new();
        upstream.read_to_string(&mut sent).expect("text");
        if sent == "a piece\n".repeat(TRANSFERS) { Ok(()) } else { Err(format!("{} bytes", sent.len())) }
    });
}

/// A client that the kernel holds little for.
fn narrow_client(server: &Hosted) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4096).expect("an open socket");
    let address = SockAddr::from(std::net::SocketAddr::from((
        [127, 0, 0, 1],
        server.server_address().port().expect("an internet server"),
    )));
    socket.connect(&address).expect("the server listens");
    Client::new(socket)
}

fn what_the_client_takes_of_what_the_kernel_holds_is_a_transfer<C: Concurrency + Default>() {
    const PIECE: usize = 4096;
    at_a_pace(|pace| {
        let (sender, sent) = mpsc::channel();
        let server = Farewell::new(move |guest: &mut Guest<C>| {
            guest.wfile.write_all(&[b'x'; TRANSFERS * PIECE])?;
            guest.wfile.flush()?;
            sender.send(())?;
            upper(guest)
        });
        let server = server.serve(idle(IDLE));
        let mut client = narrow_client(&server);
        sent.recv_timeout(PATIENCE).expect("the kernel takes it all");
        for number in 0..TRANSFERS {
            let mut piece = [0; PIECE];
            let read = { client.socket() }.read_exact(&mut piece);
            read.map_err(|error| format!("piece {number}: {error}"))?;
            pace.step();
        }
        // The client would get what the kernel holds in any case.
        let calls = server.calls();
        if !calls.is_empty() {
            return Err(format!("{calls:?}"));
        }
        assert_eq!(client.rest(), "");
        assert_eq!(server.calls(), said_goodbye(Closing::Idle));
        Ok(())
    });
}

fn a_client_that_takes_nothing_of_what_the_kernel_holds_is_idle<C: Concurrency + Default>() {
    let server = Farewell::new(|guest: &mut Guest<C>| {
        guest.wfile.write_all(&[b'x'; 400_000])?;
        upper(guest)
    });
    let server = server.serve(idle(IDLE));
    let client = narrow_client(&server);
    assert_eq!(server.call(), Call::Handled(End::Server(Closing::Idle)));
    drop(client);
}

fn a_handler_that_computes_is_not_idle<C: Concurrency + Default>() {
    let (sender, waits) = mpsc::channel();
    let compute = move |guest: &mut Guest<C>| -> HandlerResult {
        let mut answered = Instant::now();
        loop {
            let line = guest.rfile.next_line();
            sender.send(answered.elapsed())?;
            let Some(line) = line? else { return Ok(()) };
            thread::sleep(2 * IDLE);
            assert_eq!(guest.request.closing(), None);
            answered = Instant::now();
            writeln!(guest.wfile, "{}", line.to_uppercase())?;
        }
    };
    let server = Farewell::new(compute).serve(idle(IDLE));
    let mut client = server.connect();
    client.send("one\ntwo\n");
    assert_eq!(client.line(), "ONE");
    assert_eq!(client.line(), "TWO");
    is_idle_in_the_end(&server, &mut client);
    // The time is counted from the answer.
    let last = waits.try_iter().last().expect("three reads");
    assert!(last >= IDLE, "{last:?}");
}

/// A handler that sets its own timeout, and tells what that has returned.
fn setting<C: Concurrency + Default>(
    timeout: Option<Duration>,
    options: Options,
) -> (Hosted, Receiver<Result<(), ErrorKind>>) {
    let (sender, results) = mpsc::channel();
    let handle = move |guest: &mut Guest<C>| {
        let set = guest.request.set_idle_timeout(timeout).map_err(|error| error.kind());
        sender.send(set)?;
        upper(guest)
    };
    (Farewell::new(handle).serve(options), results)
}

fn one_connection_can_have_an_idle_timeout<C: Concurrency + Default>() {
    let (server, _results) = setting::<C>(Some(IDLE), Options::new());
    let begin = Instant::now();
    is_idle_in_the_end(&server, &mut server.connect());
    assert!(begin.elapsed() >= IDLE);
}

fn one_connection_can_be_without_the_idle_timeout<C: Concurrency + Default>() {
    let (server, results) = setting::<C>(None, idle(IDLE));
    let mut client = server.connect();
    assert_eq!(results.recv_timeout(PATIENCE), Ok(Ok(())));
    thread::sleep(3 * IDLE);
    assert_eq!(client.ask("still here"), "STILL HERE");
    assert_eq!(server.calls(), []);
}

fn one_connection_can_have_a_shorter_idle_timeout<C: Concurrency + Default>() {
    let (server, _results) = setting::<C>(Some(IDLE), idle(Duration::from_secs(60)));
    is_idle_in_the_end(&server, &mut server.connect());
}

fn an_idle_timeout_of_zero_is_refused<C: Concurrency + Default>() {
    let (server, results) = setting::<C>(Some(Duration::ZERO), Options::new());
    let mut client = server.connect();
    assert_eq!(results.recv_timeout(PATIENCE), Ok(Err(ErrorKind::InvalidInput)));
    // It changes nothing.
    assert_eq!(client.ask("hello"), "HELLO");
}

#[test]
fn another_thread_can_set_the_idle_timeout_of_a_connection_that_is_waited_for() {
    let (sender, streams) = mpsc::channel();
    let handle = move |guest: &mut Guest<sockserver::concurrency::Threading>| {
        sender.send(guest.request.clone())?;
        upper(guest)
    };
    let server = Farewell::new(handle).serve(idle(Duration::from_secs(60)));
    let mut client = server.connect();
    let stream = streams.recv_timeout(PATIENCE).expect("it is handled");
    thread::sleep(OFTEN);
    stream.set_idle_timeout(Some(IDLE)).expect("a time");
    // It holds from the next wait on, if not from now.
    assert_eq!(client.ask("hello"), "HELLO");
    is_idle_in_the_end(&server, &mut client);
}

const DEADLINE: Duration = Duration::from_millis(400);

/// Timeouts that a client which sends a byte every now and then does not meet.
fn generous<C: Concurrency + Default>(guest: &Guest<C>) -> HandlerResult {
    Ok(guest.request.set_read_timeout(Some(Duration::from_secs(10)))?)
}

/// A client that sends a byte each 50 ms, until the server ends the connection.
fn dribble(client: &Client) {
    while client.socket().send(b"x").is_ok() {
        thread::sleep(Duration::from_millis(50));
    }
}

fn a_message_that_comes_byte_by_byte_has_a_deadline<C: Concurrency + Default>() {
    type Read<C> = fn(&mut Guest<C>) -> std::io::Result<()>;
    let ways: [Read<C>; 4] = [
        |guest| guest.rfile.next_line().map(drop),
        |guest| guest.rfile.read_exact(&mut [0; 10_000]),
        |guest| { &guest.request }.read_exact(&mut [0; 10_000]),
        |guest| guest.rfile.skip_until(b'\n').map(drop),
    ];
    for read in ways {
        let (sender, times) = mpsc::channel();
        let handle = move |guest: &mut Guest<C>| -> HandlerResult {
            generous(guest)?;
            let begin = Instant::now();
            guest.rfile.set_deadline(begin + DEADLINE);
            let result = read(guest);
            sender.send(begin.elapsed())?;
            Ok(result?)
        };
        let server = Farewell::new(handle).serve(idle(Duration::from_secs(10)));
        let client = server.connect();
        thread::scope(|scope| {
            scope.spawn(|| dribble(&client));
            // Not an end that the server makes: no `closing`.
            assert_eq!(server.call(), Call::Handled(End::Io(ErrorKind::TimedOut)));
            assert_eq!(server.call(), Call::Finish);
            let error = server.call();
            let Call::Error { stage: Stage::Handle, is_timeout: true, is_disconnect: false, is_panic: false, .. } =
                error
            else {
                panic!("{error:?}")
            };
        });
        let time = times.recv_timeout(PATIENCE).expect("it has read");
        assert!(time >= DEADLINE && time < 5 * DEADLINE + Duration::from_secs(3), "{time:?}");
        assert_eq!(server.stats().timed_out, 1);
    }
}

fn a_deadline_can_be_taken_away<C: Concurrency + Default>() {
    let handle = |guest: &mut Guest<C>| -> HandlerResult {
        guest.rfile.set_deadline(Instant::now());
        let early = End::of(&guest.rfile.next_line());
        assert_eq!(early, End::Io(ErrorKind::TimedOut));
        guest.rfile.set_deadline(None);
        writeln!(guest.wfile, "go on")?;
        upper(guest)
    };
    let server = Farewell::new(handle).serve(Options::new());
    let mut client = server.connect();
    assert_eq!(client.line(), "go on");
    thread::sleep(OFTEN);
    assert_eq!(client.ask("hello"), "HELLO");
}

fn a_far_deadline_changes_nothing<C: Concurrency + Default>() {
    let handle = |guest: &mut Guest<C>| -> HandlerResult {
        guest.rfile.set_deadline(Instant::now() + Duration::from_secs(86_400 * 365 * 100));
        upper(guest)
    };
    let server = Farewell::new(handle).serve(Options::new());
    let mut client = server.connect();
    assert_eq!(client.ask("hello"), "HELLO");
    // A connection with a deadline is drained as well.
    server.shutdown();
    assert_eq!(client.rest(), "");
    assert_eq!(server.stop().1, said_goodbye(Closing::Draining));
}

fn what_has_been_received_is_given_out_after_the_deadline<C: Concurrency + Default>() {
    let handle = |guest: &mut Guest<C>| -> HandlerResult {
        // Both have come, as one packet.
        assert_eq!(guest.rfile.fill_buf()?, b"one\ntwo\nthr");
        guest.rfile.set_deadline(Instant::now());
        for expected in ["one", "two"] {
            assert_eq!(guest.rfile.next_line()?.as_deref(), Some(expected));
        }
        assert_eq!(End::of(&guest.rfile.next_line()), End::Io(ErrorKind::TimedOut));
        // And nothing is lost of what is not complete.
        guest.rfile.set_deadline(None);
        writeln!(guest.wfile, "go on")?;
        upper(guest)
    };
    let server = Farewell::new(handle).serve(Options::new());
    let mut client = server.connect();
    client.send("one\ntwo\nthr");
    assert_eq!(client.line(), "go on");
    client.send("ee\n");
    assert_eq!(client.line(), "THREE");
}

fn a_deadline_does_not_bound_writing<C: Concurrency + Default>() {
    let handle = |guest: &mut Guest<C>| -> HandlerResult {
        guest.rfile.set_deadline(Instant::now());
        Ok(guest.wfile.write_all(&[b'x'; 1 << 23])?)
    };
    let server = Farewell::new(handle).serve(Options::new());
    let mut client = server.connect();
    thread::sleep(OFTEN);
    assert_eq!(client.rest().len(), 1 << 23);
    assert_eq!(server.calls(), [Call::Handled(End::Fine), Call::Finish]);
}

fn the_earlier_of_deadline_and_timeout_counts<C: Concurrency + Default>() {
    let handle = |guest: &mut Guest<C>| -> HandlerResult {
        guest.request.set_read_timeout(Some(DEADLINE / 4))?;
        guest.rfile.set_deadline(Instant::now() + Duration::from_secs(60));
        assert_eq!(End::of(&guest.rfile.next_line()), End::Io(ErrorKind::TimedOut));
        writeln!(guest.wfile, "timeout")?;
        guest.request.set_read_timeout(Some(Duration::from_secs(60)))?;
        guest.rfile.set_deadline(Instant::now() + DEADLINE / 4);
        assert_eq!(End::of(&guest.rfile.next_line()), End::Io(ErrorKind::TimedOut));
        writeln!(guest.wfile, "deadline")?;
        Ok(())
    };
    let server = Farewell::new(handle).serve(Options::new());
    let mut client = server.connect();
    assert_eq!(client.rest(), "timeout\ndeadline\n");
    eventually("it has ended well", || server.stats().finished == 1);
}

in_each_concurrency! { [sync threading pool]:
    a_proxy_lives_while_its_client_only_receives
    a_proxy_lives_while_its_client_only_sends
    what_the_client_takes_of_what_the_kernel_holds_is_a_transfer
    a_client_that_takes_nothing_of_what_the_kernel_holds_is_idle
    a_handler_that_computes_is_not_idle
    one_connection_can_have_an_idle_timeout
    one_connection_can_be_without_the_idle_timeout
    one_connection_can_have_a_shorter_idle_timeout
    an_idle_timeout_of_zero_is_refused
    a_message_that_comes_byte_by_byte_has_a_deadline
    a_deadline_can_be_taken_away
    a_far_deadline_changes_nothing
    what_has_been_received_is_given_out_after_the_deadline
    a_deadline_does_not_bound_writing
    the_earlier_of_deadline_and_timeout_counts
}

//! What the design says of stopping, sentence by sentence.

use std::{
    io::{BufRead, ErrorKind, Write},
    marker::PhantomData,
    mem::MaybeUninit,
    sync::{
        Mutex, OnceLock,
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use sockserver::{
    Address, Closing, Concurrency, DrainReport, Handled, HandlerError, HandlerResult, Options, RequestHandler, Server,
    ServerHandle, SocketServer, Stream, concurrency::Synchronous, request_handler, transport::Tcp,
};
use sockserver_tests::{
    client::{Client, PATIENCE, eventually},
    concurrencies::{Word, set_workers},
    in_each_concurrency,
    line_server::LineServer,
    script::{Script, Scripted, Session, upper},
    served::{Served, Watchdog},
};

/// Serves what answers in upper case.
fn serve<C: Concurrency + Default>() -> Scripted {
    Script::<Tcp, C>::serve_upper(Options::new())
}

fn shutdown_after(shutdown: Duration) -> Options {
    let mut options = Options::new();
    options.timeouts.shutdown = shutdown;
    options
}

fn drained(finished: usize, forced: usize, leaked: usize) -> DrainReport {
    let mut drained = DrainReport::default();
    (drained.in_time, drained.forced, drained.leaked) = (finished, forced, leaked);
    drained
}

/// A client that the server has answered, and waits for again.
fn client_between_requests(server: &ServerHandle) -> Client {
    let mut client = Client::connect(server.server_address());
    assert_eq!(client.ask("hello"), "HELLO");
    client
}

/// A client of whose request the server has the first half.
fn client_in_mid_line(server: &ServerHandle) -> Client {
    let mut client = Client::connect(server.server_address());
    client.send("half");
    let address = client.address();
    let has_come = || server.connections().iter().any(|info| info.client_address == address && info.bytes_in == 4);
    eventually("the half has come", has_come);
    client
}

fn is_refused(server: &Address) -> bool {
    Client::try_connect(server).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

/// Answers in upper case, and says that it is always in the middle of something.
fn busy_upper<C: Concurrency + Default>(session: &mut Session<Tcp, C>) -> HandlerResult {
    session.rfile.set_busy(true);
    upper(session)
}

/// Handlers that care for nothing but this.
struct Stubborn {
    started: Receiver<()>,
    end: Sender<()>,
}

impl Stubborn {
    /// Answers in upper case, and on the line `be stubborn` waits until it is told to end.
    fn serve<C: Concurrency + Default>(options: Options) -> (Scripted, Stubborn) {
        let (start, started) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        let ended = Mutex::new(ended);
        let handle = move |session: &mut Session<Tcp, C>| -> HandlerResult {
            if session.rfile.fill_buf()?.starts_with(b"be stubborn\n") {
                start.send(())?;
                ended.lock().unwrap().recv()?;
            }
            upper(session)
        };
        (Script::<Tcp, C>::serve_with(handle, options), Stubborn { started, end })
    }

    fn start(&self, server: &ServerHandle) -> Client {
        let mut client = Client::connect(server.server_address());
        client.send("be stubborn\n");
        self.started.recv_timeout(PATIENCE).expect("the handler runs");
        client
    }

    fn end(&self) {
        self.end.send(()).expect("the handler waits");
    }
}

fn shutdown_never_blocks<C: Concurrency + Default>() {
    let (server, stubborn) = Stubborn::serve::<C>(Options::new());
    let mut client = stubborn.start(&server);
    server.shutdown();
    // Only now the handler ends, for which it could have waited.
    stubborn.end();
    assert_eq!(client.rest(), "BE STUBBORN\n");
    assert_eq!(server.stop(), drained(1, 0, 0));
}

fn shutdown_works_from_a_handler<C: Concurrency + Default>() {
    let server = Script::<Tcp, C>::serve(|session| {
        session.server.shutdown();
        upper(session)
    });
    let mut client = Client::connect(server.server_address());
    assert_eq!(client.rest(), "");
    assert_eq!(server.wait().expect("no handler of the server"), drained(1, 0, 0));
}

/// A server that one of its hooks shuts down.
struct ShutBy<C> {
    hook: &'static str,
    handle: OnceLock<ServerHandle>,
    concurrency: PhantomData<fn() -> C>,
}

/// Fails.
#[request_handler]
struct Failure;

impl RequestHandler for Failure {
    fn handle(&mut self) -> HandlerResult {
        Err("as always".into())
    }
}

impl<C: Concurrency + Default> ShutBy<C> {
    fn bind(hook: &'static str) -> SocketServer<ShutBy<C>> {
        let mut options = Options::new();
        options.timeouts.handle_request = Some(Duration::from_millis(1));
        set_workers(&mut options);
        let server = ShutBy { hook, handle: OnceLock::new(), concurrency: PhantomData };
        server.bind_with("127.0.0.1:0", options).expect("a free port")
    }

    fn enter(&self, hook: &str) {
        if self.hook == hook {
            let handle = self.handle.get().expect("it is activated");
            handle.shutdown();
            assert_eq!(handle.wait().expect_err("the server waits for this hook").kind(), ErrorKind::Deadlock);
        }
    }
}

impl<C: Concurrency + Default> Server for ShutBy<C> {
    type Transport = Tcp;
    type Concurrency = C;
    type Handler = Failure;
    const OPTIONS: Options = Options::new();

    fn server_activate(&self, handle: &ServerHandle) {
        self.handle.set(handle.clone()).expect("it is activated once");
        self.enter("server_activate");
    }

    fn verify_request(&self, _request: &Stream, _client_address: &Address) -> bool {
        self.enter("verify_request");
        true
    }

    fn handle_error(&self, _error: &HandlerError, _client_address: &Address) {
        self.enter("handle_error");
    }

    fn handle_timeout(&self) {
        self.enter("handle_timeout");
    }

    fn service_actions(&self) {
        self.enter("service_actions");
    }

    fn server_close(&self) {
        self.enter("server_close");
    }
}

fn shutdown_works_from_a_hook_where_wait_is_a_deadlock<C: Concurrency + Default>() {
    let _watchdog = Watchdog::new();
    for hook in ["server_activate", "verify_request", "handle_error", "service_actions"] {
        let server = ShutBy::<C>::bind(hook);
        let _client = Client::connect(server.server_address());
        server.serve_forever().expect("it is shut down");
    }
    let server = ShutBy::<C>::bind("handle_timeout");
    assert_ne!(server.handle_request().expect("a time out"), Handled::Request);
    server.serve_forever().expect("it is shut down");
    drop(ShutBy::<C>::bind("server_close"));
}

fn a_single_request_during_whose_verification_the_server_is_shut_down_is_handled<C: Concurrency + Default>() {
    let _watchdog = Watchdog::new();
    let server = ShutBy::<C>::bind("verify_request");
    let mut client = Client::connect(server.server_address());
    assert_eq!(server.handle_request().expect("a client is there"), Handled::Request);
    client.wait_for_end();
    let handle = server.handle();
    drop(server);
    assert_eq!((handle.stats().rejected, handle.stats().failed), (0, 1));
}

fn shutdown_before_serving_is_kept<C: Concurrency + Default>() {
    let _watchdog = Watchdog::new();
    let (server, _reports, _place) = Script::<Tcp, C>::bind_upper(Options::new());
    let mut client = Client::connect(server.server_address());
    server.handle().shutdown();
    assert_ne!(server.handle_request().expect("it is shut down"), Handled::Request);
    let handle = server.handle();
    server.serve_forever().expect("it is shut down");
    assert_eq!(handle.stats().accepted, 0);
    client.wait_for_end();
    assert_eq!(handle.wait().expect("no handler"), DrainReport::default());
}

fn shutdown_can_be_called_any_number_of_times<C: Concurrency + Default>() {
    let server = serve::<C>();
    let mut client = client_between_requests(&server);
    let handle = ServerHandle::clone(&server);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..100).for_each(|_| handle.shutdown()));
        }
    });
    assert_eq!(client.rest(), "");
    server.shutdown();
    assert_eq!(server.wait().expect("no handler"), drained(1, 0, 0));
    server.shutdown();
    assert_eq!(server.stop(), drained(1, 0, 0));
}

fn an_idle_server_makes_no_wakeups<C: Word>() {
    // The second has a thread that keeps deadlines.
    for options in [&[][..], &["idle=600000", "lifetime=600000"]] {
        let server = LineServer::start::<C>(options);
        let mut clients: Vec<_> = (0..5).map(|_| server.connect()).collect();
        clients.iter_mut().for_each(|client| client.send("hello\n"));
        for mut client in clients {
            client.finish();
            assert_eq!(client.rest(), "HELLO\n");
        }
        let mut sleeps = 0;
        let is_settled = || {
            thread::sleep(Duration::from_millis(50));
            // A child has answered before it ends.
            let children = server.observed().resources().children;
            let before = std::mem::replace(&mut sleeps, server.observed().sleeps());
            children == 0 && server.observed().is_asleep() && before == sleeps
        };
        eventually("it is idle", is_settled);
        // What does not happen can only be waited for.
        thread::sleep(Duration::from_millis(1500));
        assert_eq!(server.observed().sleeps(), sleeps, "{options:?}");
        server.stop();
    }
}

fn an_idle_server_stops_at_once<C: Concurrency + Default>() {
    let stop_one = |_| {
        let server = serve::<C>();
        let _client = client_between_requests(&server);
        let begin = Instant::now();
        server.stop();
        begin.elapsed()
    };
    let mut times: Vec<_> = (0..21).map(stop_one).collect();
    times.sort();
    // It is far less than 5 ms where the machine is not busy with others. A server that looked every half second, as
    // Python's does, would take 250 ms.
    assert!(times[10] < Duration::from_millis(220), "{times:?}");
}

fn wait_in_a_handler_is_a_deadlock<C: Concurrency + Default>() {
    let (sender, errors) = mpsc::channel();
    let server = Script::<Tcp, C>::serve(move |session| {
        sender.send(session.server.wait().expect_err("the server waits for this handler").kind())?;
        Ok(())
    });
    let _client = Client::connect(server.server_address());
    assert_eq!(errors.recv_timeout(PATIENCE), Ok(ErrorKind::Deadlock));
    // Nothing has been shut down.
    let _client = Client::connect(server.server_address());
    assert_eq!(errors.recv_timeout(PATIENCE), Ok(ErrorKind::Deadlock));
}

#[test]
fn wait_within_the_handler_of_another_server_is_a_deadlock_too() {
    let (sender, errors) = mpsc::channel();
    let outer = Script::<Tcp, Synchronous>::serve(move |session| {
        let (outer, sender) = (session.server.clone(), sender.clone());
        let wait = move |_: &mut Session<Tcp, Synchronous>| -> HandlerResult {
            Ok(sender.send(outer.wait().expect_err("the outer handler waits for this one").kind())?)
        };
        let (inner, _reports, _place) = Script::<Tcp, Synchronous>::bind(wait, Options::new());
        let _client = Client::connect(inner.server_address());
        assert_eq!(inner.handle_request()?, Handled::Request);
        Ok(())
    });
    let _client = Client::connect(outer.server_address());
    assert_eq!(errors.recv_timeout(PATIENCE), Ok(ErrorKind::Deadlock));
}

fn a_handler_can_wait_for_another_server<C: Concurrency + Default>() {
    let other = serve::<Synchronous>();
    let handle = ServerHandle::clone(&other);
    let (sender, waited) = mpsc::channel();
    let server = Script::<Tcp, C>::serve(move |_| {
        handle.shutdown();
        sender.send(handle.wait()?)?;
        Ok(())
    });
    let _client = Client::connect(server.server_address());
    assert_eq!(waited.recv_timeout(PATIENCE), Ok(DrainReport::default()));
}

fn the_port_closes_at_once<C: Concurrency + Default>() {
    let (server, stubborn) = Stubborn::serve::<C>(Options::new());
    let mut client = stubborn.start(&server);
    let address = server.server_address().clone();
    server.shutdown();
    eventually("the port is closed", || is_refused(&address));
    let (next, _reports) = Script::<Tcp, Synchronous>::upper();
    let next = next.bind(&address).expect("the port is free");
    let next = Served::new(next);
    assert_eq!(client_between_requests(&next).ask("the next server"), "THE NEXT SERVER");
    stubborn.end();
    assert_eq!(client.rest(), "BE STUBBORN\n");
    assert_eq!(server.stop(), drained(1, 0, 0));
}

/// How the reading of a connection ends that the server drains.
const DRAINED: (Result<(), ErrorKind>, Option<Closing>) = (Err(ErrorKind::ConnectionAborted), Some(Closing::Draining));

/// A handler that tells how its reading ended, and why.
fn telling<C: Concurrency + Default>(
    sender: Sender<(Result<(), ErrorKind>, Option<Closing>)>,
) -> impl Fn(&mut Session<Tcp, C>) -> HandlerResult {
    move |session| {
        let result = upper(session);
        let end = match &result {
            Ok(()) => Ok(()),
            Err(error) => Err(error.downcast_ref::<std::io::Error>().expect("of reading or writing").kind()),
        };
        sender.send((end, session.request.closing()))?;
        result
    }
}

fn connections_between_requests_end_at_once<C: Concurrency + Default>() {
    let (sender, ends) = mpsc::channel();
    let server = Script::<Tcp, C>::serve(telling(sender));
    let mut answered = client_between_requests(&server);
    server.shutdown();
    assert_eq!(answered.rest(), "");
    assert_eq!(ends.recv_timeout(PATIENCE), Ok(DRAINED));
    assert_eq!(server.stop(), drained(1, 0, 0));
}

fn connections_that_were_answered_directly_are_between_requests<C: Concurrency + Default>() {
    let answer = |session: &mut Session<Tcp, C>| {
        while let Some(line) = session.rfile.next_line()? {
            writeln!(session.request, "{}", line.to_uppercase())?;
        }
        Ok(())
    };
    let server = Script::<Tcp, C>::serve(answer);
    let mut answered = client_between_requests(&server);
    assert_eq!(server.stop(), drained(1, 0, 0));
    assert_eq!(answered.rest(), "");
}

fn a_connection_that_has_sent_nothing_has_a_second_from_when_it_was_accepted<C: Concurrency + Default>() {
    let (sender, ends) = mpsc::channel();
    let server = Script::<Tcp, C>::serve(telling(sender));
    let connecting = Instant::now();
    let mut silent = Client::connect(server.server_address());
    eventually("it is accepted", || server.stats().active == 1);
    let accepted = Instant::now();
    server.shutdown();
    assert_eq!(silent.rest(), "");
    assert!(connecting.elapsed() >= Duration::from_secs(1));
    assert_eq!(server.stop(), drained(1, 0, 0));
    assert!(accepted.elapsed() < Duration::from_secs(5), "it is not left its 25 s");
    assert_eq!(ends.recv_timeout(PATIENCE), Ok(DRAINED));
}

fn a_request_that_has_come_already_is_answered<C: Concurrency + Default>() {
    let (server, stubborn) = Stubborn::serve::<C>(Options::new());
    let mut client = stubborn.start(&server);
    client.send("sent before the shutdown\n");
    server.shutdown();
    stubborn.end();
    assert_eq!(client.rest(), "BE STUBBORN\nSENT BEFORE THE SHUTDOWN\n");
    assert_eq!(server.stop(), drained(1, 0, 0));
}

fn those_in_the_middle_of_a_request_have_time_to_end<C: Concurrency + Default>() {
    let (sender, ends) = mpsc::channel();
    let server = Script::<Tcp, C>::serve(telling(sender));
    let mut client = client_in_mid_line(&server);
    server.shutdown();
    assert_eq!(server.connections()[0].closing, Some(Closing::Draining));
    client.send(" and the other half\n");
    assert_eq!(client.rest(), "HALF AND THE OTHER HALF\n");
    assert_eq!(ends.recv_timeout(PATIENCE), Ok(DRAINED));
    assert_eq!(server.stop(), drained(1, 0, 0));
}

fn those_that_take_longer_are_cut<C: Concurrency + Default>() {
    for shutdown in [Duration::ZERO, Duration::from_millis(300)] {
        let (sender, ends) = mpsc::channel();
        let server = Script::<Tcp, C>::serve_with(telling(sender), shutdown_after(shutdown));
        let mut client = client_in_mid_line(&server);
        let begin = Instant::now();
        server.shutdown();
        client.wait_for_end();
        assert!(begin.elapsed() >= shutdown);
        assert_eq!(ends.recv_timeout(PATIENCE), Ok(DRAINED));
        assert_eq!(server.stop(), drained(0, 1, 0));
    }
}

fn a_handler_that_cannot_send_is_cut<C: Concurrency + Default>() {
    let server = Script::<Tcp, C>::serve_with(
        |session| loop {
            session.wfile.write_all(&[b'x'; 1 << 16])?;
        },
        shutdown_after(Duration::from_millis(100)),
    );
    let _client = Client::connect(server.server_address());
    let mut sent = 0;
    let is_stuck = || {
        thread::sleep(Duration::from_millis(50));
        let before = sent;
        sent = server.connections().first().map_or(0, |info| info.bytes_out);
        sent > 0 && sent == before
    };
    eventually("the client's queue is full", is_stuck);
    assert_eq!(server.stop(), drained(0, 1, 0));
}

fn what_still_does_not_return_is_reported_as_leaked<C: Concurrency + Default>() {
    let (server, stubborn) = Stubborn::serve::<C>(shutdown_after(Duration::from_millis(50)));
    let mut client = stubborn.start(&server);
    assert_eq!(server.stop(), drained(0, 0, 1));
    client.wait_for_end();
    stubborn.end();
}

fn serving_ends_although_a_handler_does_not<C: Concurrency + Default>() {
    let (start, started) = mpsc::channel();
    let (end, ended) = mpsc::channel::<()>();
    let ended = Mutex::new(ended);
    let wait = move |_: &mut Session<Tcp, C>| {
        start.send(())?;
        // The test drops the other end.
        let _ = ended.lock().unwrap().recv();
        Ok(())
    };
    let (server, _reports, _place) = Script::<Tcp, C>::bind(wait, shutdown_after(Duration::from_millis(50)));
    let _watchdog = Watchdog::new();
    let handle = server.handle();
    let serving = thread::spawn(|| server.serve_forever());
    let _client = Client::connect(handle.server_address());
    started.recv_timeout(PATIENCE).expect("the handler runs");
    handle.shutdown();
    serving.join().expect("no panic").expect("it is shut down");
    assert_eq!(handle.wait().expect("no handler"), drained(0, 0, 1));
    drop(end);
}

fn there_is_one_deadline_for_all<C: Concurrency + Default>() {
    let server = Script::<Tcp, C>::serve_with(busy_upper, shutdown_after(Duration::from_secs(2)));
    let _clients: Vec<_> = (0..8).map(|_| client_in_mid_line(&server)).collect();
    let begin = Instant::now();
    assert_eq!(server.stop(), drained(0, 8, 0));
    assert!(begin.elapsed() < Duration::from_secs(12), "{:?}, one after the other takes 16 s", begin.elapsed());
}

fn all_ends_are_counted<C: Concurrency + Default>() {
    // Time enough for those between two requests.
    let (server, stubborn) = Stubborn::serve::<C>(shutdown_after(Duration::from_millis(600)));
    let _between_requests = [client_between_requests(&server), client_between_requests(&server)];
    let _in_mid_line = [client_in_mid_line(&server), client_in_mid_line(&server), client_in_mid_line(&server)];
    let _stubborn = stubborn.start(&server);
    let handle = ServerHandle::clone(&server);
    assert_eq!(server.stop(), drained(2, 3, 1));
    assert_eq!(handle.stats().active, 1);
    stubborn.end();
    eventually("the last one has ended", || handle.stats().active == 0);
    let stats = handle.stats();
    assert_eq!((stats.accepted, stats.finished, stats.disconnected), (6, 2, 4));
}

fn a_request_during_whose_verification_the_server_is_shut_down_is_handled<C: Concurrency + Default>() {
    let _watchdog = Watchdog::new();
    let server = ShutBy::<C>::bind("verify_request");
    let handle = server.handle();
    let mut client = Client::connect(server.server_address());
    server.serve_forever().expect("it is shut down");
    assert_eq!(client.rest(), "");
    let stats = handle.stats();
    assert_eq!((stats.accepted, stats.rejected, stats.failed), (1, 0, 1));
}

fn a_suspended_server_keeps_its_port_and_loses_no_waiting_client<C: Concurrency + Default>() {
    let server = serve::<C>();
    assert_eq!(client_between_requests(&server).ask("before"), "BEFORE");
    for round in 1..=3 {
        server.suspend();
        let before = server.stats().accepted;
        let mut waiting: Vec<_> = (0..20).map(|_| Client::connect(server.server_address())).collect();
        waiting.iter_mut().for_each(|client| client.send("hello\n"));
        // One thread may have been about to accept.
        assert!(server.stats().accepted <= before + 1, "in round {round}");
        server.resume();
        for mut client in waiting {
            assert_eq!(client.line(), "HELLO");
        }
    }
}

fn a_server_that_is_suspended_before_it_serves_waits<C: Concurrency + Default>() {
    let (server, _reports, _place) = Script::<Tcp, C>::bind_upper(Options::new());
    server.handle().suspend();
    let server = Served::new(server);
    let mut client = Client::connect(server.server_address());
    client.send("hello\n");
    client.socket().set_read_timeout(Some(Duration::from_millis(100))).expect("an open socket");
    assert!(client.socket().recv(&mut [MaybeUninit::uninit()]).is_err(), "nothing has come");
    client.socket().set_read_timeout(Some(PATIENCE)).expect("an open socket");
    assert_eq!(server.stats().accepted, 0);
    server.resume();
    assert_eq!(client.line(), "HELLO");
}

#[test]
fn steering_a_server_that_does_not_serve_never_blocks() {
    let _watchdog = Watchdog::new();
    let (server, _reports, _place) = Script::<Tcp, Synchronous>::bind_upper(Options::new());
    // More often than a pipe has room for wake-ups.
    for _ in 0..100_000 {
        server.handle().resume();
    }
}

fn a_suspended_server_serves_those_it_has<C: Concurrency + Default>() {
    let server = serve::<C>();
    let mut client = client_between_requests(&server);
    server.suspend();
    assert_eq!(client.ask("meanwhile"), "MEANWHILE");
}

fn a_suspended_server_can_be_shut_down<C: Concurrency + Default>() {
    let server = serve::<C>();
    server.suspend();
    let mut waiting = Client::connect(server.server_address());
    let DrainReport { forced, leaked, .. } = server.stop();
    // One thread may have been about to accept.
    assert_eq!((forced, leaked), (0, 0));
    waiting.wait_for_end();
}

fn a_drain_goes_the_same_way_in_every_process<C: Word>() {
    let server = LineServer::start::<C>(&["shutdown=60000"]);
    let [mut between_requests, mut in_mid_line] = [server.connect(), server.connect()];
    for client in [&mut between_requests, &mut in_mid_line] {
        assert_eq!(client.ask("hello"), "HELLO");
    }
    in_mid_line.send("half");
    server.connect().send("stop\n");
    assert_eq!(between_requests.rest(), "");
    eventually("the port is closed", || is_refused(server.address()));
    in_mid_line.send(" and the other half\n");
    assert_eq!(in_mid_line.rest(), "HALF AND THE OTHER HALF\n");
    server.expect_success();
}

fn those_that_take_longer_are_cut_in_every_process<C: Word>() {
    let server = LineServer::start::<C>(&["shutdown=200"]);
    let mut in_mid_line = server.connect();
    assert_eq!(in_mid_line.ask("hello"), "HELLO");
    in_mid_line.send("half");
    server.connect().send("stop\n");
    in_mid_line.wait_for_end();
    server.expect_success();
}

#[test]
fn waiting_ends_when_a_server_is_dropped_that_never_served() {
    let _watchdog = Watchdog::new();
    let (server, _reports, _place) = Script::<Tcp, Synchronous>::bind_upper(Options::new());
    let handle = server.handle();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| handle.wait().expect("not in a handler"));
        drop(server);
        assert_eq!(waiting.join().expect("no panic"), DrainReport::default());
    });
}

fn dropping_a_running_server_stops_it<C: Concurrency + Default>() {
    let (server, _reports, _place) = Script::<Tcp, C>::bind_upper(Options::new());
    let address = server.server_address().clone();
    let _watchdog = Watchdog::new();
    let running = server.spawn().expect("a thread");
    let mut client = Client::connect(&address);
    assert_eq!(client.ask("hello"), "HELLO");
    drop(running);
    assert_eq!(client.rest(), "");
    eventually("the port is closed", || is_refused(&address));
}

in_each_concurrency! { [sync threading pool]:
    shutdown_never_blocks
    shutdown_works_from_a_handler
    shutdown_works_from_a_hook_where_wait_is_a_deadlock
    a_single_request_during_whose_verification_the_server_is_shut_down_is_handled
    wait_in_a_handler_is_a_deadlock
    a_handler_can_wait_for_another_server
    the_port_closes_at_once
    connections_between_requests_end_at_once
    connections_that_were_answered_directly_are_between_requests
    a_connection_that_has_sent_nothing_has_a_second_from_when_it_was_accepted
    a_request_that_has_come_already_is_answered
    those_in_the_middle_of_a_request_have_time_to_end
    those_that_take_longer_are_cut
    a_handler_that_cannot_send_is_cut
    what_still_does_not_return_is_reported_as_leaked
    a_request_during_whose_verification_the_server_is_shut_down_is_handled
}
in_each_concurrency! { [sync threading pool event_loop two_loops]:
    shutdown_before_serving_is_kept
    shutdown_can_be_called_any_number_of_times
    an_idle_server_stops_at_once
    a_suspended_server_keeps_its_port_and_loses_no_waiting_client
    a_server_that_is_suspended_before_it_serves_waits
    a_suspended_server_serves_those_it_has
    a_suspended_server_can_be_shut_down
    dropping_a_running_server_stops_it
}
in_each_concurrency! { [threading pool]:
    serving_ends_although_a_handler_does_not
    there_is_one_deadline_for_all
    all_ends_are_counted
}
in_each_concurrency! { [threading pool forking event_loop two_loops]:
    a_drain_goes_the_same_way_in_every_process
    those_that_take_longer_are_cut_in_every_process
}
in_each_concurrency! { [sync threading pool forking event_loop two_loops]: an_idle_server_makes_no_wakeups }

//! A server's hooks, from `server_activate` to `server_close`, and what goes wrong in them.

use std::{
    cell::RefCell,
    error::Error,
    fmt,
    io::{self, Read, Write},
    marker::PhantomData,
    net::{TcpListener, TcpStream},
    os::unix::net::{UnixDatagram, UnixStream},
    panic,
    sync::{
        Arc, Barrier, Mutex, OnceLock,
        mpsc::{self, Receiver, Sender},
    },
    thread::{self, ThreadId},
    time::Duration,
};

use socket2::{Domain, Socket, Type};
use sockserver::{
    Address, Concurrency, Context, DrainReport, FromRequest, Handled, HandlerError, HandlerResult, HangUp, Job,
    MessageHandler, Options, Reader, RequestHandler, RunningServer, Server, ServerHandle, Service, SocketServer, Stage,
    Stats, Stream, Writer,
    concurrency::{Pool, Synchronous, Threading},
    message_handler, request_handler,
    transport::Tcp,
};
use sockserver_tests::{
    client::{Client, PATIENCE, eventually},
    concurrencies::set_workers,
    either::Either,
    in_each_concurrency,
    place::Local,
    script::{Report, Script, Session, words_of},
    served::{Served, Watchdog},
};

// Hooks, stages and what goes wrong in them.

/// A server that tells what of it is called, and in which some of that goes wrong.
#[derive(Server)]
#[server(
    transport = "tcp",
    concurrency = C,
    handler = Either<Step<C>, LineStep<C>>,
    timeouts(handle_request = "10ms"),
    hooks(
        server_activate = Self::activate,
        verify_request = Self::verify,
        handle_error = Self::error,
        handle_timeout = Self::timeout,
        service_actions = Self::actions,
        server_close = Self::close,
    ),
)]
struct Stepwise<C: Concurrency + Default> {
    faults: &'static [Fault],
    calls: Sender<&'static str>,
    reports: Sender<Report>,
    concurrency: std::marker::PhantomData<fn() -> C>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Error(&'static str),
    Panic(&'static str),
}

impl<C: Concurrency + Default> Stepwise<C> {
    fn new(faults: &'static [Fault]) -> (Stepwise<C>, Calls) {
        let (calls, called) = mpsc::channel();
        let (reports, reported) = mpsc::channel();
        (Stepwise { faults, calls, reports, concurrency: std::marker::PhantomData }, Calls { called, reported })
    }

    fn call(&self, name: &'static str) -> HandlerResult {
        self.calls.send(name)?;
        assert!(!self.faults.contains(&Fault::Panic(name)), "no {name}");
        if self.faults.contains(&Fault::Error(name)) { Err(format!("no {name}").into()) } else { Ok(()) }
    }

    /// For hooks, which have no errors.
    fn note(&self, name: &'static str) {
        let _ = self.call(name);
    }

    fn activate(&self, handle: &ServerHandle) {
        assert_ne!(handle.server_address().port(), Some(0));
        self.note("server_activate");
    }

    fn verify(&self, request: &Stream, client_address: &Address) -> bool {
        assert_eq!(request.peer_addr().ok().as_ref(), Some(client_address));
        self.call("verify_request").is_ok()
    }

    fn error(&self, error: &HandlerError, client_address: &Address) {
        let _ = self.reports.send(Report::new(error, client_address));
        self.note("handle_error");
    }

    fn timeout(&self) {
        self.note("handle_timeout");
    }

    fn actions(&self) {
        self.note("service_actions");
    }

    fn close(&self) {
        self.note("server_close");
    }
}

#[request_handler]
struct Step<C: Concurrency + Default> {
    made: Made<C>,
    wfile: Writer,
}

/// A part of the handler that tells when it is made and dropped.
struct Made<C: Concurrency + Default>(Arc<Stepwise<C>>);

impl<C: Concurrency + Default> FromRequest<Stepwise<C>> for Made<C> {
    fn from_request(cx: &mut Context<'_, Stepwise<C>>) -> io::Result<Made<C>> {
        cx.server().call("from_request").map_err(io::Error::other)?;
        Ok(Made(cx.server().clone()))
    }
}

impl<C: Concurrency + Default> Drop for Made<C> {
    fn drop(&mut self) {
        self.0.note("drop");
    }
}

impl<C: Concurrency + Default> RequestHandler for Step<C> {
    fn setup(&mut self) -> HandlerResult {
        self.made.0.call("setup")
    }

    fn handle(&mut self) -> HandlerResult {
        write!(self.wfile, "handled")?;
        self.made.0.call("handle")
    }

    fn finish(&mut self) -> HandlerResult {
        self.made.0.call("finish")
    }
}

/// The handler on an event loop.
#[message_handler(framing = "line")]
struct LineStep<C: Concurrency + Default> {
    made: Made<C>,
    wfile: Writer,
}

impl<C: Concurrency + Default> MessageHandler for LineStep<C> {
    type Message = str;

    fn setup(&mut self) -> HandlerResult {
        self.made.0.call("setup")
    }

    fn message(&mut self, _: &str) -> HandlerResult {
        write!(self.wfile, "handled")?;
        self.made.0.call("handle")?;
        Err(HangUp.into())
    }

    fn finish(&mut self) -> HandlerResult {
        self.made.0.call("finish")
    }
}

struct Calls {
    called: Receiver<&'static str>,
    reported: Receiver<Report>,
}

impl Calls {
    /// In order, without those that come again and again.
    fn made(&self) -> Vec<&'static str> {
        self.called.try_iter().filter(|&call| call != "service_actions").collect()
    }
}

/// What one request has come to.
struct Outcome {
    /// Between `server_activate` and `server_close`.
    calls: Vec<&'static str>,
    reports: Vec<Report>,
    stats: Stats,
    /// What the client got.
    answer: String,
}

fn one_request<C: Concurrency + Default>(faults: &'static [Fault]) -> Outcome {
    let (server, calls) = Stepwise::<C>::new(faults);
    let mut options = Stepwise::<C>::OPTIONS;
    set_workers(&mut options);
    let server = Served::new(server.bind_with("127.0.0.1:0", options).expect("a free port"));
    let mut client = Client::connect(server.server_address());
    // It may have been turned away.
    let _ = client.socket().send(b"a line\n");
    let answer = client.rest();
    eventually("the request has ended", || server.stats().active == 0);
    let stats = server.stats();
    server.stop();
    let made = calls.made();
    let ["server_activate", between @ .., "server_close"] = &made[..] else { panic!("{made:?}") };
    Outcome { calls: between.to_vec(), reports: calls.reported.try_iter().collect(), stats, answer }
}

in_each_concurrency!([sync threading pool event_loop two_loops]:
    the_steps_of_a_request_have_pythons_order
    a_request_that_is_not_verified_gets_no_handler
    an_error_is_handled_after_finish
    a_panic_is_handled_after_finish
    a_panic_in_verify_request_turns_the_client_away
    a_panic_in_handle_error_goes_no_further
    of_two_errors_the_first_is_told
);

fn the_steps_of_a_request_have_pythons_order<C: Concurrency + Default>() {
    let Outcome { calls, reports, stats, answer } = one_request::<C>(&[]);
    assert_eq!(calls, ["verify_request", "from_request", "setup", "handle", "finish", "drop"]);
    assert_eq!(reports, []);
    assert_eq!((stats.accepted, stats.finished), (1, 1));
    assert_eq!(answer, "handled");
}

fn a_request_that_is_not_verified_gets_no_handler<C: Concurrency + Default>() {
    let Outcome { calls, reports, stats, answer } = one_request::<C>(&[Fault::Error("verify_request")]);
    assert_eq!(calls, ["verify_request"]);
    assert_eq!(reports, []);
    assert_eq!((stats.accepted, stats.refused), (1, 1));
    assert_eq!(answer, "");
}

/// What is called when this goes wrong.
fn calls_until_error(at: &str) -> &'static [&'static str] {
    match at {
        "from_request" => &["verify_request", "from_request", "handle_error"],
        "setup" => &["verify_request", "from_request", "setup", "drop", "handle_error"],
        _ => &["verify_request", "from_request", "setup", "handle", "finish", "drop", "handle_error"],
    }
}

fn an_error_is_handled_after_finish<C: Concurrency + Default>() {
    let stages: [(_, &'static [Fault], _); 4] = [
        ("from_request", &[Fault::Error("from_request")], Stage::Construction),
        ("setup", &[Fault::Error("setup")], Stage::Setup),
        ("handle", &[Fault::Error("handle")], Stage::Handle),
        ("finish", &[Fault::Error("finish")], Stage::Finish),
    ];
    for (at, faults, stage) in stages {
        let Outcome { calls, reports, stats, .. } = one_request::<C>(faults);
        assert_eq!(calls, calls_until_error(at));
        let [report] = &reports[..] else { panic!("{at}: {reports:?}") };
        assert_eq!((report.stage, report.is_panic), (stage, false));
        assert!(report.message.ends_with(&format!("failed: no {at}")), "{report:?}");
        assert_eq!((stats.accepted, stats.failed), (1, 1), "{at}");
    }
}

fn a_panic_is_handled_after_finish<C: Concurrency + Default>() {
    let stages: [(_, &'static [Fault], _); 5] = [
        ("from_request", &[Fault::Panic("from_request")], Stage::Construction),
        ("setup", &[Fault::Panic("setup")], Stage::Setup),
        ("handle", &[Fault::Panic("handle")], Stage::Handle),
        ("finish", &[Fault::Panic("finish")], Stage::Finish),
        ("drop", &[Fault::Panic("drop")], Stage::Finish),
    ];
    for (at, faults, stage) in stages {
        let Outcome { calls, reports, stats, .. } = one_request::<C>(faults);
        assert_eq!(calls, calls_until_error(at));
        let [report] = &reports[..] else { panic!("{at}: {reports:?}") };
        assert_eq!((report.stage, report.is_panic), (stage, true));
        assert!(report.message.ends_with(&format!("panicked: no {at}")), "{report:?}");
        assert_eq!((stats.accepted, stats.panicked), (1, 1), "{at}");
    }
}

fn a_panic_in_verify_request_turns_the_client_away<C: Concurrency + Default>() {
    let Outcome { calls, reports, stats, answer } = one_request::<C>(&[Fault::Panic("verify_request")]);
    assert_eq!(calls, ["verify_request", "handle_error"]);
    assert_eq!(reports[0].stage, Stage::VerifyRequest);
    assert_eq!((stats.accepted, stats.panicked), (1, 1));
    assert_eq!(answer, "");
}

fn a_panic_in_handle_error_goes_no_further<C: Concurrency + Default>() {
    let Outcome { calls, stats, .. } = one_request::<C>(&[Fault::Error("setup"), Fault::Panic("handle_error")]);
    assert_eq!(calls, calls_until_error("setup"));
    assert_eq!((stats.accepted, stats.failed), (1, 1));
}

fn of_two_errors_the_first_is_told<C: Concurrency + Default>() {
    let Outcome { calls, reports, .. } = one_request::<C>(&[Fault::Error("handle"), Fault::Panic("finish")]);
    assert_eq!(calls, calls_until_error("handle"));
    let [report] = &reports[..] else { panic!("{reports:?}") };
    assert_eq!(report.stage, Stage::Handle);
}

#[test]
fn the_client_sees_the_end_only_after_handle_error() {
    #[derive(Default, Server)]
    #[server(transport = "tcp", concurrency = "sync", handler = Failing, hooks(handle_error = Self::apologize))]
    struct Sorry {
        request: OnceLock<Stream>,
    }

    impl Sorry {
        fn apologize(&self, error: &HandlerError, _: &Address) {
            let mut request = self.request.get().expect("the handler has left it");
            write!(request, "sorry: {}", words_of(error)).expect("the connection is up");
        }
    }

    #[request_handler]
    struct Failing {
        request: Stream,
        server: Arc<Sorry>,
    }

    impl RequestHandler for Failing {
        fn handle(&mut self) -> HandlerResult {
            self.server.request.get_or_init(|| self.request.clone());
            Err("out of paper".into())
        }
    }

    let server = Served::new(Sorry::default().bind("127.0.0.1:0").expect("a free port"));
    assert_eq!(Client::connect(server.server_address()).rest(), "sorry: handle failed: out of paper");
}

#[test]
fn a_panic_in_server_activate_is_an_error_of_bind() {
    let (server, calls) = Stepwise::<Synchronous>::new(&[Fault::Panic("server_activate")]);
    let error = server.bind("127.0.0.1:0").expect_err("it is not activated");
    assert!(error.to_string().contains("server_activate panicked: no server_activate"), "{error}");
    assert_eq!(calls.made(), ["server_activate", "server_close"]);
}

#[test]
fn panics_in_the_other_hooks_do_not_end_the_server() {
    let faults = &[Fault::Panic("service_actions"), Fault::Panic("handle_timeout"), Fault::Panic("server_close")];
    let (server, calls) = Stepwise::<Synchronous>::new(faults);
    let server = server.bind("127.0.0.1:0").expect("a free port");
    assert_ne!(server.handle_request().expect("it goes on"), Handled::Request);
    let server = Served::new(server);
    assert_eq!(Client::connect(server.server_address()).rest(), "handled");
    server.stop();
    assert_eq!(calls.made().last(), Some(&"server_close"));
}

#[test]
fn service_actions_are_called_while_no_client_comes() {
    let (server, calls) = Stepwise::<Synchronous>::new(&[]);
    let mut options = Stepwise::<Synchronous>::OPTIONS;
    options.timeouts.poll = Some(Duration::from_millis(1));
    let server = Served::new(server.bind_with("127.0.0.1:0", options).expect("a free port"));
    let mut called = 0;
    eventually("they are called again and again", || {
        called += calls.called.try_iter().filter(|&call| call == "service_actions").count();
        called >= 5
    });
    drop(server);
}

#[test]
fn service_actions_are_not_called_any_more_when_the_server_stops() {
    let (server, calls) = Stepwise::<Synchronous>::new(&[]);
    let server = server.bind("127.0.0.1:0").expect("a free port");
    server.handle().shutdown();
    server.serve_forever().expect("it is shut down");
    assert_eq!(calls.called.try_iter().collect::<Vec<_>>(), ["server_activate", "server_close"]);
}

#[test]
fn service_actions_are_called_before_each_request() {
    let (server, calls) = Stepwise::<Synchronous>::new(&[]);
    let server = Served::new(server.bind("127.0.0.1:0").expect("a free port"));
    for _ in 0..3 {
        assert_eq!(Client::connect(server.server_address()).rest(), "handled");
    }
    server.stop();
    let actions = calls.called.try_iter().filter(|&call| call == "service_actions").count();
    // The last time before the stop, if that has not come first.
    assert!((3..=4).contains(&actions), "{actions}");
}

// One request at a time.

#[test]
fn handle_request_handles_one_request() {
    let (server, calls) = Stepwise::<Synchronous>::new(&[]);
    let mut options = Stepwise::<Synchronous>::OPTIONS;
    options.timeouts.handle_request = Some(PATIENCE);
    let server = server.bind_with("127.0.0.1:0", options).expect("a free port");
    let mut clients = [(); 2].map(|()| Client::connect(server.server_address()));
    assert_eq!(server.handle_request().expect("it works"), Handled::Request);
    assert_eq!(clients[0].rest(), "handled");
    assert_eq!(server.handle().stats().accepted, 1);
    assert_eq!(server.handle_request().expect("it works"), Handled::Request);
    assert_eq!(clients[1].rest(), "handled");
    let one = ["verify_request", "from_request", "setup", "handle", "finish", "drop"];
    assert_eq!(calls.made(), [&["server_activate"], &one[..], &one[..]].concat());
}

#[test]
fn handle_request_gives_up_after_the_timeout() {
    let (server, calls) = Stepwise::<Synchronous>::new(&[]);
    let server = server.bind("127.0.0.1:0").expect("a free port");
    assert_ne!(server.handle_request().expect("it works"), Handled::Request);
    assert_eq!(calls.made(), ["server_activate", "handle_timeout"]);
}

#[test]
fn handle_request_with_a_timeout_of_zero_only_looks() {
    let (server, _calls) = Stepwise::<Synchronous>::new(&[]);
    let mut options = Stepwise::<Synchronous>::OPTIONS;
    options.timeouts.handle_request = Some(Duration::ZERO);
    let server = server.bind_with("127.0.0.1:0", options).expect("a free port");
    assert_ne!(server.handle_request().expect("it works"), Handled::Request);
    let mut client = Client::connect(server.server_address());
    eventually("the connection is there", || server.handle_request().expect("it works") == Handled::Request);
    assert_eq!(client.rest(), "handled");
}

#[test]
fn handle_request_counts_a_client_that_was_turned_away() {
    let (server, _calls) = Stepwise::<Synchronous>::new(&[Fault::Error("verify_request")]);
    let server = server.bind("127.0.0.1:0").expect("a free port");
    let mut client = Client::connect(server.server_address());
    eventually("the connection is there", || server.handle_request().expect("it works") == Handled::Request);
    assert_eq!(client.rest(), "");
}

#[test]
fn handle_request_without_time_takes_all_that_wait() {
    let mut options = Options::new();
    options.timeouts.handle_request = Some(Duration::ZERO);
    let (server, _reports, _place) = Script::<Tcp, Synchronous>::bind(|_| Ok(()), options);
    let _clients: Vec<_> = (0..40).map(|_| Client::connect(server.server_address())).collect();
    // The last one's handshake may be under way.
    eventually("one is there", || server.handle_request().expect("it works") == Handled::Request);
    let taken = (1..40).take_while(|_| server.handle_request().expect("it works") == Handled::Request).count();
    assert_eq!(taken, 39);
}

in_each_concurrency!([threading pool]: a_slow_verify_request_holds_up_no_other_client);

fn a_slow_verify_request_holds_up_no_other_client<C: Concurrency + Default>() {
    #[derive(Server)]
    #[server(transport = "tcp", concurrency = C, handler = Prompt, hooks(verify_request = Self::wait_for_all))]
    struct Meeting<C: Concurrency + Default> {
        all: Barrier,
        concurrency: PhantomData<C>,
    }

    impl<C: Concurrency + Default> Meeting<C> {
        fn wait_for_all(&self, _: &Stream, _: &Address) -> bool {
            self.all.wait();
            true
        }
    }

    #[request_handler]
    struct Prompt {
        wfile: Writer,
    }

    impl RequestHandler for Prompt {
        fn handle(&mut self) -> HandlerResult {
            Ok(self.wfile.write_all(b"hello")?)
        }
    }

    let _watchdog = Watchdog::new();
    let meeting = Meeting::<C> { all: Barrier::new(3), concurrency: PhantomData };
    let server = Served::new(meeting.bind("127.0.0.1:0").expect("a free port"));
    let clients = [(); 3].map(|()| Client::connect(server.server_address()));
    for mut client in clients {
        assert_eq!(client.rest(), "hello");
    }
}

#[test]
fn handle_request_returns_at_once_when_the_server_is_shut_down() {
    let _watchdog = Watchdog::new();
    let (server, _reports, _place) = Script::<Tcp, Synchronous>::bind(|_| Ok(()), Options::new());
    server.handle().shutdown();
    assert_ne!(server.handle_request().expect("it works"), Handled::Request);
}

#[test]
fn shutdown_wakes_a_handle_request_that_waits() {
    let _watchdog = Watchdog::new();
    let (server, _reports, _place) = Script::<Tcp, Synchronous>::bind(|_| Ok(()), Options::new());
    let handle = server.handle();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| server.handle_request().expect("it works"));
        handle.shutdown();
        assert_eq!(waiting.join().expect("no panic"), Handled::Stopped);
    });
}

#[test]
fn handle_request_serves_in_the_servers_own_way() {
    fn thread_of_handler<C: Concurrency + Default>() -> ThreadId {
        let (found, findings) = mpsc::channel();
        let ran = move |_: &mut Session<Tcp, C>| Ok(found.send(thread::current().id())?);
        let (server, _reports, _place) = Script::<Tcp, C>::bind(ran, Options::new());
        let _client = Client::connect(server.server_address());
        assert_eq!(server.handle_request().expect("it works"), Handled::Request);
        findings.recv_timeout(PATIENCE).expect("it is handled")
    }

    let _watchdog = Watchdog::new();
    let here = thread::current().id();
    assert_eq!(thread_of_handler::<Synchronous>(), here);
    assert_eq!(thread_of_handler::<Pool>(), here);
    assert_ne!(thread_of_handler::<Threading>(), here);
}

fn echo<T: Local, C: Concurrency + Default>(session: &mut Session<T, C>) -> HandlerResult {
    while let Some(line) = session.rfile.next_line()? {
        writeln!(session.wfile, "{line}")?;
    }
    Ok(())
}

// Connections that come from elsewhere.

#[test]
fn serve_connection_handles_one_end_of_a_socket_pair() {
    let (server, calls) = Stepwise::<Synchronous>::new(&[]);
    let (client, request) = UnixStream::pair().expect("a socket pair");
    server.serve_connection(request).expect("a connected socket");
    assert_eq!(Client::new(client).rest(), "handled");
    let expected = ["verify_request", "from_request", "setup", "handle", "finish", "drop", "server_close"];
    assert_eq!(calls.made(), expected);
}

#[test]
fn serve_connection_returns_what_goes_wrong() {
    let (server, calls) = Stepwise::<Threading>::new(&[Fault::Panic("handle")]);
    let (client, request) = UnixStream::pair().expect("a socket pair");
    let error = server.serve_connection(request).expect_err("the handler panics");
    assert_eq!(error.to_string(), "handle panicked: no handle");
    assert_eq!(Client::new(client).rest(), "handled");
    assert!(calls.reported.try_recv().is_err(), "it is not reported as well");
}

#[test]
fn serve_connection_returns_the_panic_of_verify_request() {
    let (server, calls) = Stepwise::<Threading>::new(&[Fault::Panic("verify_request")]);
    let (client, request) = UnixStream::pair().expect("a socket pair");
    let error = server.serve_connection(request).expect_err("the hook panics");
    assert_eq!(error.to_string(), "verify_request panicked: no verify_request");
    assert_eq!(Client::new(client).rest(), "");
    assert!(calls.reported.try_recv().is_err(), "it is not reported as well");
}

#[test]
fn serve_connection_takes_options() {
    let (server, _calls) = Stepwise::<Threading>::new(&[]);
    let (_client, request) = UnixStream::pair().expect("a socket pair");
    let mut options = Options::new();
    options.timeouts.lifetime = Some(Duration::ZERO);
    let error = server.serve_connection_with(request, options).expect_err("no connection could last that long");
    assert_eq!(error.stage(), Stage::GetRequest);
}

#[request_handler]
#[server(transport = "unix", concurrency = "forking", timeouts(idle = "50ms"))]
struct Listen {
    rfile: Reader,
}

impl RequestHandler for Listen {
    fn handle(&mut self) -> HandlerResult {
        assert_eq!(self.rfile.next_line()?, None);
        Ok(())
    }
}

#[test]
fn serve_connection_keeps_the_deadlines_also_of_a_server_that_forks() {
    let _watchdog = Watchdog::new();
    let (_silent, request) = UnixStream::pair().expect("a socket pair");
    ListenServer.serve_connection(request).expect("a connected socket");
}

#[test]
fn serve_connection_refuses_a_socket_that_is_not_connected() {
    let (server, calls) = Stepwise::<Synchronous>::new(&[]);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let error = server.serve_connection(socket).expect_err("nobody is there");
    let cause = error.source().expect("an error of the system").to_string();
    assert!(cause.starts_with("cannot serve the connection: "), "{cause}");
    assert_eq!(error.stage(), Stage::GetRequest);
    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::NotConnected);
    assert_eq!(calls.made(), <[&str; 0]>::default());
}

#[test]
fn serve_connection_refuses_datagrams() {
    let (server, _calls) = Stepwise::<Synchronous>::new(&[]);
    let (_client, socket) = UnixDatagram::pair().expect("a socket pair");
    let error = server.serve_connection(socket).expect_err("there would be no end of file");
    let cause = error.source().expect("an error of the system").to_string();
    assert!(cause.ends_with("it is a datagram socket"), "{cause}");
    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn a_connection_that_was_read_from_elsewhere_is_drained_like_any_other() {
    let _watchdog = Watchdog::new();
    let (handles, handle) = mpsc::channel();
    let (script, _reports) = Script::<Tcp, Synchronous>::new(move |session: &mut Session<Tcp, Synchronous>| {
        handles.send(session.server.clone())?;
        echo(session)
    });
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let mut client = Client::new(TcpStream::connect(listener.local_addr().expect("it is bound")).expect("it listens"));
    client.send("header\nhello\n");
    let (mut connection, _) = listener.accept().expect("a client");
    connection.read_exact(&mut [0; 7]).expect("the header");
    thread::scope(|scope| {
        scope.spawn(|| script.serve_connection(connection).expect("it is connected"));
        assert_eq!(client.line(), "hello");
        handle.recv_timeout(PATIENCE).expect("it is handled").shutdown();
        // Else it would have thirty seconds.
        assert_eq!(client.rest(), "");
    });
}

/// Something that panics with another one when it is dropped.
#[derive(Debug)]
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !thread::panicking() {
            panic::panic_any(Bomb);
        }
    }
}

impl fmt::Display for Bomb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a bomb")
    }
}

impl Error for Bomb {}

/// Whose failures are bombs.
#[request_handler]
#[server(transport = "tcp", concurrency = "sync")]
struct Bomber {
    rfile: Reader,
}

impl RequestHandler for Bomber {
    fn handle(&mut self) -> HandlerResult {
        match self.rfile.next_line()?.as_deref() {
            Some("panic") => panic::panic_any(Bomb),
            _ => Err("the first".into()),
        }
    }

    fn finish(&mut self) -> HandlerResult {
        Err(Box::new(Bomb))
    }
}

#[test]
fn what_panics_when_it_is_dropped_goes_no_further() {
    let server = Served::new(BomberServer.bind("127.0.0.1:0").expect("a free port"));
    for line in ["panic\n", "fail\n", "panic\n"] {
        let mut client = Client::connect(server.server_address());
        client.send(line);
        client.wait_for_end();
    }
    eventually("all have ended", || server.stats().active == 0);
    assert_eq!((server.stats().panicked, server.stats().failed), (2, 1));
}

// The end.

/// A server whose handlers wait for the end of their clients' input.
#[derive(Server)]
#[server(transport = "tcp", concurrency = "threading", handler = Held, hooks(server_close = Self::close))]
struct Holding {
    called: Sender<&'static str>,
}

impl Holding {
    fn close(&self) {
        self.called.send("server_close").expect("the test waits");
    }
}

#[request_handler]
struct Held {
    rfile: Reader,
    server: Arc<Holding>,
}

impl RequestHandler for Held {
    fn handle(&mut self) -> HandlerResult {
        self.rfile.next_line()?;
        self.server.called.send("handle")?;
        // In the middle of a request, which a server that stops waits for.
        self.rfile.next_line()?;
        Ok(self.server.called.send("handled")?)
    }
}

#[test]
fn server_close_is_called_after_the_last_request() {
    let (called, calls) = mpsc::channel();
    let server = Served::new(Holding { called }.bind("127.0.0.1:0").expect("a free port"));
    let mut clients = [(); 2].map(|()| {
        let mut client = Client::connect(server.server_address());
        client.send("hold\n");
        assert_eq!(calls.recv_timeout(PATIENCE), Ok("handle"));
        client
    });
    server.shutdown();
    // The port is closed while the handlers still run.
    eventually("the port is closed", || Client::try_connect(server.server_address()).is_err());
    for client in &mut clients {
        client.finish();
        assert_eq!(client.rest(), "");
        assert_eq!(calls.try_recv(), Ok("handled"));
    }
    assert_eq!(server.stop().in_time, 2);
    assert_eq!(calls.try_iter().collect::<Vec<_>>(), ["server_close"]);
}

#[test]
fn server_close_is_called_before_a_stop_returns_that_gives_a_request_up() {
    #[derive(Server)]
    #[server(
        transport = "tcp",
        concurrency = "threading",
        handler = Endless,
        timeouts(shutdown = "0s"),
        hooks(server_close = Self::close),
    )]
    struct Closing {
        started: Sender<()>,
        end: Mutex<Receiver<()>>,
        closed: OnceLock<()>,
    }

    impl Closing {
        fn close(&self) {
            thread::sleep(Duration::from_millis(50));
            self.closed.get_or_init(|| ());
        }
    }

    #[request_handler]
    struct Endless {
        server: Arc<Closing>,
    }

    impl RequestHandler for Endless {
        fn handle(&mut self) -> HandlerResult {
            self.server.started.send(())?;
            // The test drops the other end.
            let _ = self.server.end.lock().unwrap().recv();
            Ok(())
        }
    }

    let (started, starts) = mpsc::channel();
    let (end, ended) = mpsc::channel();
    let closing = Closing { started, end: Mutex::new(ended), closed: OnceLock::new() };
    let server = closing.bind("127.0.0.1:0").expect("a free port");
    let closed = server.server().clone();
    let server = Served::new(server);
    let _client = Client::connect(server.server_address());
    starts.recv_timeout(PATIENCE).expect("the handler runs");
    assert_eq!(server.stop().leaked, 1);
    assert!(closed.closed.get().is_some(), "server_close has not been called");
    drop(end);
}

#[test]
fn a_server_in_a_thread_local_ends_with_its_thread() {
    thread_local! {
        static SERVER: RefCell<Option<RunningServer>> = const { RefCell::new(None) };
    }
    let serve_and_end = || {
        // Before the server is bound, so that what that has put there is gone first.
        SERVER.with_borrow_mut(|server| assert!(server.is_none()));
        let (server, _reports, _place) = Script::<Tcp, Threading>::bind(echo, Options::new());
        let running = server.spawn().expect("a thread");
        let handle = running.handle();
        SERVER.set(Some(running));
        handle
    };
    let handle = thread::spawn(serve_and_end).join().expect("no panic");
    assert_eq!(handle.wait().expect("not in a handler"), DrainReport::default());
}

/// A thread for each request, which then waits for another one.
#[derive(Default)]
struct Greedy;

impl Concurrency for Greedy {
    fn process_request<S: Service>(&self, accepted: Job<S>) {
        let acceptor = accepted.acceptor().clone();
        accepted.process();
        thread::spawn(move || while acceptor.accept().is_some() {});
    }
}

#[test]
fn dropping_a_server_ends_whoever_waits_for_its_requests() {
    let _watchdog = Watchdog::new();
    let (server, _reports, _place) = Script::<Tcp, Greedy>::bind(|_| Ok(()), Options::new());
    let _client = Client::connect(server.server_address());
    assert_eq!(server.handle_request().expect("it works"), Handled::Request);
    // The thread either waits already or finds the server stopped.
    thread::sleep(Duration::from_millis(50));
    drop(server);
}

#[test]
fn a_server_that_its_own_handler_drops_does_not_wait_for_it() {
    let _watchdog = Watchdog::new();
    let (give, given) = mpsc::channel::<SocketServer<Script<Tcp, Threading>>>();
    let given = Mutex::new(given);
    let drop_server = move |session: &mut Session<Tcp, Threading>| {
        drop(given.lock().unwrap().recv()?);
        Ok(write!(session.wfile, "dropped")?)
    };
    let (server, _reports, _place) = Script::<Tcp, Threading>::bind(drop_server, Options::new());
    let mut client = Client::connect(server.server_address());
    assert_eq!(server.handle_request().expect("a client is there"), Handled::Request);
    give.send(server).expect("the handler waits");
    // Else it would be cut after thirty seconds.
    assert_eq!(client.rest(), "dropped");
}

/// A server that says when it is dropped, and whose hook takes its time.
#[derive(Server)]
#[server(
    transport = "tcp",
    concurrency = C,
    workers = 3,
    handler = Unheard,
    hooks(service_actions = Self::act, server_close = Self::close),
)]
struct Late<C: Concurrency + Default> {
    called: Sender<&'static str>,
    concurrency: std::marker::PhantomData<fn() -> C>,
}

#[request_handler]
struct Unheard;

impl RequestHandler for Unheard {
    fn handle(&mut self) -> HandlerResult {
        Ok(())
    }
}

impl<C: Concurrency + Default> Late<C> {
    fn act(&self) {
        thread::sleep(Duration::from_millis(20));
        self.called.send("service_actions").expect("the test waits");
    }

    fn close(&self) {
        self.called.send("server_close").expect("the test waits");
    }
}

impl<C: Concurrency + Default> Drop for Late<C> {
    fn drop(&mut self) {
        self.called.send("drop").expect("the test waits");
    }
}

in_each_concurrency!([sync threading pool]: nothing_of_a_server_is_left_when_it_has_stopped);

fn nothing_of_a_server_is_left_when_it_has_stopped<C: Concurrency + Default>() {
    let (called, calls) = mpsc::channel();
    let server = Late::<C> { called, concurrency: std::marker::PhantomData };
    let server = Served::new(server.bind("127.0.0.1:0").expect("a free port"));
    Client::connect(server.server_address()).wait_for_end();
    server.stop();
    let calls: Vec<_> = calls.try_iter().collect();
    assert!(calls.ends_with(&["server_close", "drop"]), "{calls:?}");
}

#[test]
fn wait_returns_after_server_close() {
    let (called, calls) = mpsc::channel();
    let server = Holding { called }.bind("127.0.0.1:0").expect("a free port");
    let handle = server.handle();
    let _server = Served::new(server);
    handle.shutdown();
    handle.wait().expect("no handler waits");
    assert_eq!(calls.try_iter().collect::<Vec<_>>(), ["server_close"]);
}

#[test]
fn server_close_is_called_after_the_requests_that_handle_request_has_started() {
    let _watchdog = Watchdog::new();
    let (called, calls) = mpsc::channel();
    let server = Holding { called }.bind("127.0.0.1:0").expect("a free port");
    let address = server.server_address().clone();
    let mut client = Client::connect(&address);
    client.send("hold\n");
    assert_eq!(server.handle_request().expect("a client is there"), Handled::Request);
    assert_eq!(calls.recv_timeout(PATIENCE), Ok("handle"));
    thread::scope(|scope| {
        scope.spawn(|| drop(server));
        eventually("the port is closed", || Client::try_connect(&address).is_err());
        client.finish();
        assert_eq!(client.rest(), "");
    });
    assert_eq!(calls.try_iter().collect::<Vec<_>>(), ["handled", "server_close"]);
}

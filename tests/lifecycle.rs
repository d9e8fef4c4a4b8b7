//! From `bind` to `server_close`: hooks, errors on the way, binding, serving and stopping.

use std::{
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::{UnixDatagram as StdUnixDatagram, UnixListener, UnixStream},
    },
    sync::{
        Arc, OnceLock,
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::Duration,
};

use socket2::{Domain, SockRef, Socket, Type};
use sockserver::{
    Address, BindTo, Concurrency, Context, Drained, FromRequest, HandlerError, HandlerResult, Options, Reader,
    RequestHandler, Server, ServerHandle, SocketServer, Stage, Stats, Stream, UnixAddress, Writer,
    concurrency::{Pool, Sync, Threading},
    request_handler,
    transport::{Tcp, Udp, Unix, UnixDatagram},
};
use sockserver_tests::{
    client::{Client, DatagramClient, PATIENCE, eventually},
    in_each_concurrency,
    place::{Directory, Local, Place},
    script::{Report, Script, Session},
    served::{Served, Watchdog},
};

// Hooks, stages and what goes wrong in them.

/// A server that tells what of it is called, and in which some of that goes wrong.
#[derive(Server)]
#[server(
    transport = "tcp",
    concurrency = C,
    handler = Step<C>,
    timeouts(request = "10ms"),
    hooks(
        server_activate = Self::activate,
        verify_request = Self::verify,
        handle_error = Self::error,
        handle_timeout = Self::timeout,
        service_actions = Self::actions,
        server_close = Self::close,
    ),
)]
struct Stepwise<C: Concurrency> {
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

impl<C: Concurrency> Stepwise<C> {
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
        assert_eq!(request.peer_address(), client_address);
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
struct Step<C: Concurrency> {
    made: Made<C>,
    wfile: Writer,
}

/// A part of the handler that tells when it is made and dropped.
struct Made<C: Concurrency>(Arc<Stepwise<C>>);

impl<C: Concurrency> FromRequest<Stepwise<C>> for Made<C> {
    fn from_request(cx: &mut Context<'_, Stepwise<C>>) -> io::Result<Made<C>> {
        cx.server().call("from_request").map_err(io::Error::other)?;
        Ok(Made(cx.server().clone()))
    }
}

impl<C: Concurrency> Drop for Made<C> {
    fn drop(&mut self) {
        self.0.note("drop");
    }
}

impl<C: Concurrency> RequestHandler for Step<C> {
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

fn one_request<C: Concurrency>(faults: &'static [Fault]) -> Outcome {
    let (server, calls) = Stepwise::<C>::new(faults);
    let server = Served::new(server.bind("127.0.0.1:0").expect("a free port"));
    let answer = Client::connect(server.server_address()).rest();
    eventually("the request has ended", || server.stats().active == 0);
    let stats = server.stats();
    server.stop();
    let made = calls.made();
    let ["server_activate", between @ .., "server_close"] = &made[..] else { panic!("{made:?}") };
    Outcome { calls: between.to_vec(), reports: calls.reported.try_iter().collect(), stats, answer }
}

in_each_concurrency!([sync threading pool]:
    the_steps_of_a_request_have_pythons_order
    a_request_that_is_not_verified_gets_no_handler
    an_error_is_handled_after_finish
    a_panic_is_handled_after_finish
    a_panic_in_verify_request_turns_the_client_away
    a_panic_in_handle_error_goes_no_further
    of_two_errors_the_first_is_told
);

fn the_steps_of_a_request_have_pythons_order<C: Concurrency>() {
    let Outcome { calls, reports, stats, answer } = one_request::<C>(&[]);
    assert_eq!(calls, ["verify_request", "from_request", "setup", "handle", "finish", "drop"]);
    assert_eq!(reports, []);
    assert_eq!((stats.accepted, stats.finished), (1, 1));
    assert_eq!(answer, "handled");
}

fn a_request_that_is_not_verified_gets_no_handler<C: Concurrency>() {
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

fn an_error_is_handled_after_finish<C: Concurrency>() {
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

fn a_panic_is_handled_after_finish<C: Concurrency>() {
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

fn a_panic_in_verify_request_turns_the_client_away<C: Concurrency>() {
    let Outcome { calls, reports, stats, answer } = one_request::<C>(&[Fault::Panic("verify_request")]);
    assert_eq!(calls, ["verify_request", "handle_error"]);
    assert_eq!(reports[0].stage, Stage::VerifyRequest);
    assert_eq!((stats.accepted, stats.panicked), (1, 1));
    assert_eq!(answer, "");
}

fn a_panic_in_handle_error_goes_no_further<C: Concurrency>() {
    let Outcome { calls, stats, .. } = one_request::<C>(&[Fault::Error("setup"), Fault::Panic("handle_error")]);
    assert_eq!(calls, calls_until_error("setup"));
    assert_eq!((stats.accepted, stats.failed), (1, 1));
}

fn of_two_errors_the_first_is_told<C: Concurrency>() {
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
            write!(request, "sorry: {error}").expect("the connection is up");
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
    let (server, calls) = Stepwise::<Sync>::new(&[Fault::Panic("server_activate")]);
    let error = server.bind("127.0.0.1:0").expect_err("it is not activated");
    assert!(error.to_string().contains("server_activate panicked: no server_activate"), "{error}");
    assert_eq!(calls.made(), ["server_activate", "server_close"]);
}

#[test]
fn panics_in_the_other_hooks_do_not_end_the_server() {
    let faults = &[Fault::Panic("service_actions"), Fault::Panic("handle_timeout"), Fault::Panic("server_close")];
    let (server, calls) = Stepwise::<Sync>::new(faults);
    let server = server.bind("127.0.0.1:0").expect("a free port");
    assert!(!server.handle_request().expect("it goes on"));
    let server = Served::new(server);
    assert_eq!(Client::connect(server.server_address()).rest(), "handled");
    server.stop();
    assert_eq!(calls.made().last(), Some(&"server_close"));
}

#[test]
fn service_actions_are_called_while_no_client_comes() {
    let (server, calls) = Stepwise::<Sync>::new(&[]);
    let mut options = Stepwise::<Sync>::OPTIONS;
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
fn service_actions_are_called_before_each_request() {
    let (server, calls) = Stepwise::<Sync>::new(&[]);
    let server = Served::new(server.bind("127.0.0.1:0").expect("a free port"));
    for _ in 0..3 {
        assert_eq!(Client::connect(server.server_address()).rest(), "handled");
    }
    server.stop();
    let actions = calls.called.try_iter().filter(|&call| call == "service_actions").count();
    assert_eq!(actions, 4);
}

// One request at a time.

#[test]
fn handle_request_handles_one_request() {
    let (server, calls) = Stepwise::<Sync>::new(&[]);
    let server = server.bind("127.0.0.1:0").expect("a free port");
    let mut clients = [(); 2].map(|()| Client::connect(server.server_address()));
    assert!(server.handle_request().expect("it works"));
    assert_eq!(clients[0].rest(), "handled");
    assert_eq!(server.handle().stats().accepted, 1);
    assert!(server.handle_request().expect("it works"));
    assert_eq!(clients[1].rest(), "handled");
    let one = ["verify_request", "from_request", "setup", "handle", "finish", "drop"];
    assert_eq!(calls.made(), [&["server_activate"], &one[..], &one[..]].concat());
}

#[test]
fn handle_request_gives_up_after_the_timeout() {
    let (server, calls) = Stepwise::<Sync>::new(&[]);
    let server = server.bind("127.0.0.1:0").expect("a free port");
    assert!(!server.handle_request().expect("it works"));
    assert_eq!(calls.made(), ["server_activate", "handle_timeout"]);
}

#[test]
fn handle_request_with_a_timeout_of_zero_only_looks() {
    let (server, _calls) = Stepwise::<Sync>::new(&[]);
    let mut options = Stepwise::<Sync>::OPTIONS;
    options.timeouts.request = Some(Duration::ZERO);
    let server = server.bind_with("127.0.0.1:0", options).expect("a free port");
    assert!(!server.handle_request().expect("it works"));
    let mut client = Client::connect(server.server_address());
    eventually("the connection is there", || server.handle_request().expect("it works"));
    assert_eq!(client.rest(), "handled");
}

#[test]
fn handle_request_counts_a_client_that_was_turned_away() {
    let (server, _calls) = Stepwise::<Sync>::new(&[Fault::Error("verify_request")]);
    let server = server.bind("127.0.0.1:0").expect("a free port");
    let mut client = Client::connect(server.server_address());
    eventually("the connection is there", || server.handle_request().expect("it works"));
    assert_eq!(client.rest(), "");
}

#[test]
fn handle_request_returns_at_once_when_the_server_is_shut_down() {
    let _watchdog = Watchdog::new();
    let (server, _reports, _place) = Script::<Tcp, Sync>::bind(|_| Ok(()), Options::new());
    server.handle().shutdown();
    assert!(!server.handle_request().expect("it works"));
}

#[test]
fn shutdown_wakes_a_handle_request_that_waits() {
    let _watchdog = Watchdog::new();
    let (server, _reports, _place) = Script::<Tcp, Sync>::bind(|_| Ok(()), Options::new());
    let handle = server.handle();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| server.handle_request().expect("it works"));
        handle.shutdown();
        assert!(!waiting.join().expect("no panic"));
    });
}

in_each_concurrency!([threading pool]: handle_request_serves_in_the_servers_own_way);

fn handle_request_serves_in_the_servers_own_way<C: Concurrency>() {
    let (server, _reports, _place) = Script::<Tcp, C>::bind(echo, Options::new());
    let _watchdog = Watchdog::new();
    let mut client = Client::connect(server.server_address());
    client.send("hello\n");
    client.finish();
    assert!(server.handle_request().expect("it works"));
    assert_eq!(client.rest(), "hello\n");
}

fn echo<T: Local, C: Concurrency>(session: &mut Session<T, C>) -> HandlerResult {
    while let Some(line) = session.rfile.next_line()? {
        writeln!(session.wfile, "{line}")?;
    }
    Ok(())
}

// Connections that come from elsewhere.

#[test]
fn serve_connection_handles_one_end_of_a_socket_pair() {
    let (server, calls) = Stepwise::<Sync>::new(&[]);
    let (client, request) = UnixStream::pair().expect("a socket pair");
    server.serve_connection(request).expect("a connected socket");
    assert_eq!(Client::new(client).rest(), "handled");
    let expected = ["verify_request", "from_request", "setup", "handle", "finish", "drop", "server_close"];
    assert_eq!(calls.made(), expected);
}

#[test]
fn serve_connection_tells_handle_error_what_goes_wrong() {
    let (server, calls) = Stepwise::<Threading>::new(&[Fault::Panic("handle")]);
    let (client, request) = UnixStream::pair().expect("a socket pair");
    server.serve_connection(request).expect("a connected socket");
    assert_eq!(Client::new(client).rest(), "handled");
    assert!(calls.reported.try_recv().is_ok_and(|report| report.is_panic));
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
    let (server, calls) = Stepwise::<Sync>::new(&[]);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let error = server.serve_connection(socket).expect_err("nobody is there");
    assert_eq!(error.kind(), io::ErrorKind::NotConnected);
    assert!(error.to_string().starts_with("cannot serve the connection: "), "{error}");
    assert_eq!(calls.made(), <[&str; 0]>::default());
}

/// Adopts the socket, and finds that it is served.
#[track_caller]
fn assert_adopts<T: Local>(socket: impl Into<OwnedFd>, connect: impl FnOnce(&Address) -> String) {
    let (script, _reports) = Script::<T, Sync>::new(echo);
    let server = Served::new(script.adopt(socket, Options::new()).expect("a socket of this transport"));
    assert_eq!(connect(server.server_address()), "hello");
}

fn ask_stream(server: &Address) -> String {
    Client::connect(server).ask("hello")
}

fn ask_datagram(server: &Address) -> String {
    DatagramClient::connect(server).ask("hello")
}

#[test]
fn sockets_that_were_bound_elsewhere_are_adopted() {
    let loopback = (Ipv4Addr::LOCALHOST, 0);
    assert_adopts::<Tcp>(TcpListener::bind(loopback).expect("a free port"), ask_stream);
    assert_adopts::<Udp>(UdpSocket::bind(loopback).expect("a free port"), ask_datagram);
    let not_listening = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    not_listening.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a free port");
    assert_adopts::<Tcp>(not_listening, ask_stream);

    let [stream, datagram] = [Place::unix(), Place::unix()];
    assert_adopts::<Unix>(UnixListener::bind(stream.path()).expect("a free path"), ask_stream);
    assert_adopts::<UnixDatagram>(StdUnixDatagram::bind(datagram.path()).expect("a free path"), ask_datagram);
    // Their files are whoever bound them's.
    assert!(stream.path().exists() && datagram.path().exists());
}

#[test]
fn a_socket_of_another_transport_is_not_adopted() {
    #[track_caller]
    fn refuses<T: Local>(socket: impl Into<OwnedFd>, reason: &str) {
        let error = Script::<T, Sync>::new(echo).0.adopt(socket, Options::new()).expect_err("the wrong kind");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let message = error.to_string();
        assert!(message.starts_with("cannot adopt the socket: ") && message.contains(reason), "{message}");
    }

    let place = Place::unix();
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let unix = UnixListener::bind(place.path()).expect("a free path");
    refuses::<Tcp>(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"), "not a stream socket");
    refuses::<Tcp>(unix.try_clone().expect("a descriptor"), "not an internet socket");
    refuses::<Udp>(tcp.try_clone().expect("a descriptor"), "not a datagram socket");
    let connection = TcpStream::connect(tcp.local_addr().expect("an address")).expect("it listens");
    refuses::<Tcp>(connection, "it is a connection");
    refuses::<Unix>(tcp, "not a Unix socket");
    refuses::<UnixDatagram>(unix, "not a datagram socket");
}

// Addresses.

#[track_caller]
fn bound<T: Local>(address: impl BindTo<T>) -> SocketServer<Script<T, Sync>> {
    let (script, _reports) = Script::<T, Sync>::new(echo);
    script.bind(address).expect("a free place")
}

#[track_caller]
fn error_of_bind<T: Local>(address: impl BindTo<T>) -> io::Error {
    let (script, _reports) = Script::<T, Sync>::new(echo);
    script.bind(address).expect_err("it cannot be bound")
}

#[test]
fn internet_servers_are_bound_to_all_that_names_a_host_and_a_port() {
    fn serves<T: Local>(address: impl BindTo<T>, ask: fn(&Address) -> String) {
        let server = Served::new(bound(address));
        assert_ne!(server.server_address().port(), Some(0));
        assert_eq!(ask(server.server_address()), "hello");
    }

    let v4 = (Ipv4Addr::LOCALHOST, 0);
    for address in ["127.0.0.1:0", "localhost:0"] {
        serves::<Tcp>(address, ask_stream);
        serves::<Tcp>(address.to_owned(), ask_stream);
        serves::<Udp>(address, ask_datagram);
    }
    serves::<Tcp>(("localhost", 0), ask_stream);
    serves::<Tcp>(("127.0.0.1".to_owned(), 0), ask_stream);
    serves::<Tcp>(v4, ask_stream);
    serves::<Tcp>((IpAddr::from(v4.0), 0), ask_stream);
    serves::<Tcp>(SocketAddr::from(v4), ask_stream);
    serves::<Udp>(SocketAddr::from(v4), ask_datagram);
    serves::<Tcp>(Address::from(SocketAddr::from(v4)), ask_stream);
    serves::<Udp>(&Address::from(SocketAddr::from(v4)), ask_datagram);
}

#[test]
fn internet_servers_are_bound_to_ipv6_addresses() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return println!("skipped: no IPv6 here");
    }
    let server = Served::new(bound::<Tcp>("[::1]:0"));
    assert_eq!(server.server_address().ip(), Some(Ipv6Addr::LOCALHOST.into()));
    assert_eq!(ask_stream(server.server_address()), "hello");
    let server = Served::new(bound::<Udp>((Ipv6Addr::LOCALHOST, 0)));
    assert_eq!(ask_datagram(server.server_address()), "hello");
}

#[test]
fn an_ipv6_server_serves_ipv4_unless_it_is_told_not_to() {
    if TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).is_err() {
        return println!("skipped: no IPv6 here");
    }
    let over_ipv4 = |only_v6| {
        let mut options = Options::new();
        options.socket.only_v6 = only_v6;
        let (script, _reports) = Script::<Tcp, Sync>::new(echo);
        let server = Served::new(script.bind_with("[::]:0", options).expect("a free port"));
        let port = server.server_address().port().expect("a port");
        Client::try_connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()).map(|mut client| client.ask("hello"))
    };
    assert_eq!(over_ipv4(false).expect("it serves both"), "hello");
    assert_eq!(over_ipv4(true).expect_err("it does not").kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
fn unix_servers_are_bound_to_all_that_names_a_path() {
    fn serves<T: Local>(address: impl BindTo<T>, ask: fn(&Address) -> String) {
        assert_eq!(ask(Served::new(bound(address)).server_address()), "hello");
    }

    let place = Place::unix();
    let path = place.path();
    let text = path.to_str().expect("text");
    serves::<Unix>(text, ask_stream);
    serves::<Unix>(text.to_owned(), ask_stream);
    serves::<Unix>(path, ask_stream);
    serves::<Unix>(path.to_owned(), ask_stream);
    serves::<Unix>(path.as_os_str(), ask_stream);
    serves::<Unix>(place.address(), ask_stream);
    serves::<UnixDatagram>(path, ask_datagram);
    serves::<UnixDatagram>(place.address().clone(), ask_datagram);
}

#[cfg(target_os = "linux")]
#[test]
fn unix_servers_are_bound_to_abstract_names() {
    let name = format!("sockserver-tests-{}", std::process::id());
    let server = Served::new(bound::<Unix>(format!("\0{name}")));
    assert_eq!(*server.server_address(), Address::Unix(UnixAddress::Abstract(name.clone().into_bytes())));
    assert_eq!(server.server_address().to_string(), format!("@{name}"));
    assert_eq!(ask_stream(server.server_address()), "hello");
    let error = error_of_bind::<Unix>(format!("\0{name}"));
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&format!("@{name}")), "{error}");
}

#[test]
fn errors_of_bind_name_the_address_and_keep_their_kind() {
    #[track_caller]
    fn assert_says(error: &io::Error, kind: io::ErrorKind, address: &str) {
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().starts_with(&format!("cannot bind to {address}: ")), "{error}");
    }

    let taken = bound::<Tcp>("127.0.0.1:0");
    let address = taken.server_address().to_string();
    assert_says(&error_of_bind::<Tcp>(&address[..]), io::ErrorKind::AddrInUse, &address);
    let port = taken.server_address().port().expect("a port");
    assert_says(&error_of_bind::<Tcp>(("127.0.0.1", port)), io::ErrorKind::AddrInUse, &address);
    let taken = bound::<Udp>("127.0.0.1:0");
    let address = taken.server_address();
    assert_says(&error_of_bind::<Udp>(address), io::ErrorKind::AddrInUse, &address.to_string());

    // An address for documentation, which this machine does not have.
    assert_says(&error_of_bind::<Tcp>("192.0.2.1:0"), io::ErrorKind::AddrNotAvailable, "192.0.2.1:0");
    assert_says(&error_of_bind::<Tcp>("no port"), io::ErrorKind::InvalidInput, "no port");
    assert_says(&error_of_bind::<Udp>("127.0.0.1:65536"), io::ErrorKind::InvalidInput, "127.0.0.1:65536");
    let unix = Address::unix("/run/app.sock");
    assert_says(&error_of_bind::<Tcp>(unix), io::ErrorKind::InvalidInput, "/run/app.sock");

    let directory = Directory::new();
    let missing = directory.path().join("missing/socket");
    assert_says(&error_of_bind::<Unix>(&missing), io::ErrorKind::NotFound, &missing.to_string_lossy());
    let too_long = directory.path().join("long".repeat(50));
    assert_says(&error_of_bind::<UnixDatagram>(&too_long), io::ErrorKind::InvalidInput, &too_long.to_string_lossy());
    let inet = Address::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 80)));
    assert_says(&error_of_bind::<Unix>(inet), io::ErrorKind::InvalidInput, "127.0.0.1:80");
}

#[test]
fn an_address_that_cannot_be_meant_is_refused_with_advice() {
    #[track_caller]
    fn advises<T: Local>(address: impl BindTo<T>, advice: &str) {
        let error = error_of_bind::<T>(address);
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains(advice), "{error}");
    }

    for no_host in [":8080", "*:8080"] {
        advises::<Tcp>(no_host, "0.0.0.0 or [::]");
    }
    advises::<Udp>(("", 8080), "0.0.0.0 or [::]");
    for no_port in ["", "localhost", "/run/app.sock", "localhost:http", "http://localhost:80/"] {
        advises::<Tcp>(no_port, "like 127.0.0.1:9999");
    }
    advises::<Unix>("127.0.0.1:80", "./127.0.0.1:80");
    advises::<UnixDatagram>("[::1]:80", "./[::1]:80");
}

#[test]
fn a_host_name_that_does_not_exist_is_named() {
    let error = error_of_bind::<Tcp>("no..host:80");
    assert!(error.to_string().starts_with("cannot bind to no..host:80: "), "{error}");
}

#[test]
fn options_with_which_nothing_could_be_served_are_refused() {
    #[track_caller]
    fn refuses(name: &str, change: impl Fn(&mut Options)) {
        let mut options = Options::new();
        change(&mut options);
        let (script, _reports) = Script::<Tcp, Pool>::new(echo);
        let error = script.bind_with("127.0.0.1:0", options).expect_err("nothing could be served");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains(&format!("`{name}` is zero")), "{error}");
    }

    refuses("workers", |options| options.workers = Some(0));
    refuses("stack_size", |options| options.stack_size = Some(0));
    refuses("limits.connections", |options| options.limits.connections = Some(0));
    refuses("limits.per_client", |options| options.limits.per_client = Some(0));
    refuses("socket.max_packet_size", |options| options.socket.max_packet_size = 0);
    refuses("socket.keepalive", |options| options.socket.keepalive = Some(Duration::ZERO));
    refuses("timeouts.idle", |options| options.timeouts.idle = Some(Duration::ZERO));
    refuses("timeouts.lifetime", |options| options.timeouts.lifetime = Some(Duration::ZERO));
    refuses("timeouts.poll", |options| options.timeouts.poll = Some(Duration::ZERO));
}

#[test]
fn options_of_the_socket_are_in_force() {
    let mut options = Options::new();
    options.socket.nodelay = false;
    options.socket.keepalive = Some(Duration::from_secs(60));
    let (seen, connections) = mpsc::channel();
    let (server, _reports, _place) = Script::<Tcp, Sync>::bind(
        move |session| {
            let socket = SockRef::from(&session.request);
            Ok(seen.send((socket.tcp_nodelay()?, socket.keepalive()?, socket.tcp_keepalive_time()?))?)
        },
        options,
    );
    let listening = SockRef::from(&server);
    assert!(listening.reuse_address().expect("an open socket"));
    assert!(listening.is_listener().expect("an open socket"));
    let server = Served::new(server);
    assert_eq!(Client::connect(server.server_address()).rest(), "");
    let connection = connections.recv_timeout(PATIENCE).expect("it is handled");
    assert_eq!(connection, (false, true, Duration::from_secs(60)));
}

// Serving and its end.

#[test]
fn a_bound_server_knows_its_address_its_server_and_its_descriptor() {
    let (server, _calls) = Stepwise::<Sync>::new(&[]);
    let server = server.bind("127.0.0.1:0").expect("a free port");
    let local_address = SockRef::from(&server).local_addr().expect("it is bound").as_socket();
    assert_eq!(*server.server_address(), local_address.expect("an internet address"));
    assert_eq!(server.handle().server_address(), server.server_address());
    assert_eq!(server.server().faults, []);
    assert!(server.as_raw_fd() >= 0);
}

#[test]
fn clients_that_connect_before_the_server_serves_are_served() {
    let (server, _reports, _place) = Script::<Tcp, Sync>::bind(echo, Options::new());
    let mut clients: Vec<_> = (0..5).map(|_| Client::connect(server.server_address())).collect();
    for client in &mut clients {
        client.send("hello\n");
        client.finish();
    }
    let _server = Served::new(server);
    for client in &mut clients {
        assert_eq!(client.rest(), "hello\n");
    }
}

in_each_concurrency!([sync threading pool]:
    dropping_a_running_server_stops_it
    stop_tells_how_the_requests_ended
    shutdown_before_serving_ends_it_at_once
    shutdown_can_be_called_again_and_again
    a_handler_can_shut_its_server_down
    a_broken_socket_ends_serving_with_its_error
);

#[track_caller]
fn assert_nobody_listens(address: &Address) {
    // A process that another test starts has a copy of the socket until it becomes its program.
    eventually("the port is closed", || {
        Client::try_connect(address).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    });
}

fn dropping_a_running_server_stops_it<C: Concurrency>() {
    let (server, _reports, _place) = Script::<Tcp, C>::bind(echo, Options::new());
    let address = server.server_address().clone();
    let _watchdog = Watchdog::new();
    let running = server.spawn().expect("a thread");
    let mut client = Client::connect(&address);
    assert_eq!(client.ask("hello"), "hello");
    drop(running);
    assert_eq!(client.rest(), "");
    assert_nobody_listens(&address);
}

fn stop_tells_how_the_requests_ended<C: Concurrency>() {
    let server = Script::<Tcp, C>::serve(echo);
    let mut client = Client::connect(server.server_address());
    assert_eq!(client.ask("hello"), "hello");
    let Drained { finished, forced, leaked, .. } = server.stop();
    assert_eq!((finished, forced, leaked), (1, 0, 0));
}

fn shutdown_before_serving_ends_it_at_once<C: Concurrency>() {
    let _watchdog = Watchdog::new();
    let (server, _reports, _place) = Script::<Tcp, C>::bind(echo, Options::new());
    let address = server.server_address().clone();
    let mut client = Client::connect(&address);
    server.handle().shutdown();
    server.serve_forever().expect("it is not an error");
    client.wait_for_end();
    assert_nobody_listens(&address);
}

fn shutdown_can_be_called_again_and_again<C: Concurrency>() {
    let server = Script::<Tcp, C>::serve(echo);
    let handle: &ServerHandle = &server;
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..100).for_each(|_| handle.shutdown()));
        }
    });
    assert_eq!(server.wait().expect("not in a handler"), Drained::default());
    server.shutdown();
    assert_eq!(server.wait().expect("not in a handler"), Drained::default());
}

fn a_handler_can_shut_its_server_down<C: Concurrency>() {
    let server = Script::<Tcp, C>::serve(|session| {
        session.server.shutdown();
        Ok(write!(session.wfile, "goodbye")?)
    });
    assert_eq!(Client::connect(server.server_address()).rest(), "goodbye");
    let drained = server.wait().expect("not in a handler");
    assert_eq!((drained.finished, drained.leaked), (1, 0));
    assert_nobody_listens(server.server_address());
}

fn a_broken_socket_ends_serving_with_its_error<C: Concurrency>() {
    let _watchdog = Watchdog::new();
    let (server, _reports, _place) = Script::<Tcp, C>::bind(echo, Options::new());
    // shutdown(2) breaks a listening socket for all who share it.
    SockRef::from(&server).shutdown(std::net::Shutdown::Both).expect("a listening socket");
    let error = server.serve_forever().expect_err("nothing can be accepted");
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn the_hooks_can_shut_their_server_down() {
    #[derive(Server)]
    #[server(
        transport = "tcp",
        concurrency = "sync",
        handler = Failing,
        hooks(server_activate = Self::keep, verify_request = Self::verify, handle_error = Self::error,
              service_actions = Self::actions),
    )]
    struct Stops {
        at: &'static str,
        handle: OnceLock<ServerHandle>,
    }

    impl Stops {
        fn keep(&self, handle: &ServerHandle) {
            self.handle.get_or_init(|| handle.clone());
        }

        fn stop_at(&self, at: &str) {
            if self.at == at {
                self.handle.get().expect("the server is active").shutdown();
            }
        }

        fn verify(&self, _: &Stream, _: &Address) -> bool {
            self.stop_at("verify_request");
            true
        }

        fn error(&self, _: &HandlerError, _: &Address) {
            self.stop_at("handle_error");
        }

        fn actions(&self) {
            self.stop_at("service_actions");
        }
    }

    #[request_handler]
    struct Failing;

    impl RequestHandler for Failing {
        fn handle(&mut self) -> HandlerResult {
            Err("on purpose".into())
        }
    }

    for at in ["verify_request", "handle_error", "service_actions"] {
        let server = Stops { at, handle: OnceLock::new() }.bind("127.0.0.1:0").expect("a free port");
        let mut client = Client::connect(server.server_address());
        let server = Served::new(server);
        let drained = server.wait().expect("not in a hook");
        assert_eq!(drained.leaked, 0, "{at}");
        client.wait_for_end();
    }
}

#[test]
fn no_handler_starts_for_a_request_during_whose_verification_the_server_is_shut_down() {
    #[derive(Default, Server)]
    #[server(
        transport = "tcp",
        concurrency = "threading",
        handler = Never,
        hooks(server_activate = Self::keep, verify_request = Self::verify),
    )]
    struct Late {
        handle: OnceLock<ServerHandle>,
    }

    impl Late {
        fn keep(&self, handle: &ServerHandle) {
            self.handle.get_or_init(|| handle.clone());
        }

        fn verify(&self, _: &Stream, _: &Address) -> bool {
            self.handle.get().expect("the server is active").shutdown();
            true
        }
    }

    #[request_handler]
    struct Never {
        wfile: Writer,
    }

    impl RequestHandler for Never {
        fn handle(&mut self) -> HandlerResult {
            Ok(write!(self.wfile, "started")?)
        }
    }

    let server = Served::new(Late::default().bind("127.0.0.1:0").expect("a free port"));
    assert_eq!(Client::connect(server.server_address()).rest(), "");
    server.wait().expect("not in a hook");
    assert_eq!(server.stats().rejected, 1);
}

in_each_concurrency!([sync threading pool]: a_handler_cannot_wait_for_its_own_server);

fn a_handler_cannot_wait_for_its_own_server<C: Concurrency>() {
    let server = Script::<Tcp, C>::serve(|session| {
        session.server.shutdown();
        let error = session.server.wait().expect_err("it would wait for itself");
        Ok(write!(session.wfile, "{:?}: {error}", error.kind())?)
    });
    let answer = Client::connect(server.server_address()).rest();
    assert!(answer.starts_with("Deadlock: a handler or a hook cannot wait"), "{answer}");
}

#[test]
fn a_handler_can_wait_for_another_server() {
    let other = Script::<Tcp, Sync>::serve(echo);
    let handle = ServerHandle::clone(&other);
    let server = Script::<Tcp, Sync>::serve(move |session| {
        handle.shutdown();
        Ok(write!(session.wfile, "{:?}", handle.wait()?)?)
    });
    assert!(Client::connect(server.server_address()).rest().starts_with("Drained"));
}

#[test]
fn waiting_ends_when_a_server_is_dropped_that_never_served() {
    let _watchdog = Watchdog::new();
    let (server, _reports, _place) = Script::<Tcp, Sync>::bind(echo, Options::new());
    let handle = server.handle();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| handle.wait().expect("not in a handler"));
        drop(server);
        assert_eq!(waiting.join().expect("no panic"), Drained::default());
    });
}

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
    // The first was taken by the thread that serves.
    for client in &mut clients {
        client.finish();
        assert_eq!(client.rest(), "");
        assert_eq!(calls.try_recv(), Ok("handled"));
    }
    assert_eq!(server.stop().finished, 2);
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
    assert!(server.handle_request().expect("a client is there"));
    assert_eq!(calls.recv_timeout(PATIENCE), Ok("handle"));
    thread::scope(|scope| {
        scope.spawn(|| drop(server));
        eventually("the port is closed", || Client::try_connect(&address).is_err());
        client.finish();
        assert_eq!(client.rest(), "");
    });
    assert_eq!(calls.try_iter().collect::<Vec<_>>(), ["handled", "server_close"]);
}

#[test]
fn a_client_that_resets_one_that_is_silent_and_one_that_sends_rubbish_harm_no_other() {
    let server = Script::<Tcp, Threading>::serve(echo);
    let _silent = Client::connect(server.server_address());
    let mut rubbish = Client::connect(server.server_address());
    rubbish.send(b"\xff\xfe\xfd\n");
    assert_eq!(rubbish.rest(), "");
    let mut resets = Client::connect(server.server_address());
    resets.send("in the middle of a l");
    resets.reset();
    eventually("both have ended", || server.stats().active == 1);
    assert_eq!(Client::connect(server.server_address()).ask("hello"), "hello");
    assert_eq!((server.stats().failed, server.stats().disconnected), (1, 1));
}

#[test]
fn a_connection_that_std_makes_is_served_like_any_other() {
    let server = Script::<Tcp, Sync>::serve(echo);
    let Address::Inet(address) = *server.server_address() else { panic!("a TCP server") };
    let mut client = Client::new(TcpStream::connect(address).expect("the server listens"));
    assert_eq!(client.ask("hello"), "hello");
}

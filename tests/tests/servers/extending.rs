//! What users write themselves in place of the runtime's parts: fields, concurrencies, transports, event sources, and
//! tests of their own hooks.

use std::{
    error::Error,
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::{Arc, Mutex, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};
use sockserver::{
    Address, BindTo, Concurrency, Context, EndOfFile, EventSource, FromRequest, HandlerError, HandlerResult, Job,
    Options, Reader, RequestHandler, Server, ServerHandle, Service, Stage, Stream, Transport, Writer,
    concurrency::{Synchronous, Threading},
    request_handler,
    transport::{StreamTransport, Tcp, TcpAcceptor},
};
use sockserver_tests::{
    client::{Client, PATIENCE, eventually},
    script::{Script, Session},
    served::Served,
};

/// The user, from the first line of the connection, whichever field asks first.
#[derive(Clone)]
struct User(String);

impl<S: Server> FromRequest<S> for User {
    fn from_request(cx: &mut Context<'_, S>) -> io::Result<User> {
        if let Some(user) = cx.get::<User>() {
            return Ok(user.clone());
        }
        let name = Reader::from_request(cx)?.next_line()?.ok_or(EndOfFile)?;
        assert!(cx.insert(User(name.clone())).is_none(), "this connection has had no user yet");
        Ok(User(name))
    }
}

/// What the user may do.
struct Rights(&'static str);

impl<S: Server> FromRequest<S> for Rights {
    fn from_request(cx: &mut Context<'_, S>) -> io::Result<Rights> {
        let User(name) = User::from_request(cx)?;
        Ok(Rights(if name == "root" { "write" } else { "read" }))
    }
}

#[request_handler]
#[server(transport = "tcp", concurrency = "threading")]
struct UserFirst {
    user: User,
    rights: Rights,
    rfile: Reader,
    wfile: Writer,
}

#[request_handler]
#[server(transport = "tcp", concurrency = "threading")]
struct RightsFirst {
    rights: Rights,
    user: User,
    rfile: Reader,
    wfile: Writer,
}

fn greet(user: &User, rights: &Rights, rfile: &mut Reader, wfile: &mut Writer) -> HandlerResult {
    let line = rfile.next_line()?.unwrap_or_default();
    Ok(writeln!(wfile, "{} may {} {line}", user.0, rights.0)?)
}

impl RequestHandler for UserFirst {
    fn handle(&mut self) -> HandlerResult {
        greet(&self.user, &self.rights, &mut self.rfile, &mut self.wfile)
    }
}

impl RequestHandler for RightsFirst {
    fn handle(&mut self) -> HandlerResult {
        greet(&self.user, &self.rights, &mut self.rfile, &mut self.wfile)
    }
}

#[test]
fn two_fields_share_what_the_first_of_them_has_made() {
    let servers = [
        Served::new(UserFirstServer.bind("127.0.0.1:0").expect("a free port")),
        Served::new(RightsFirstServer.bind("127.0.0.1:0").expect("a free port")),
    ];
    for server in &servers {
        for (name, right) in [("root", "write"), ("guest", "read")] {
            let mut client = Client::connect(server.server_address());
            client.send(format!("{name}\nthis\n"));
            assert_eq!(client.rest(), format!("{name} may {right} this\n"));
        }
    }
}

/// What the fields of one handler have left for each other.
#[derive(Debug, PartialEq, Eq)]
struct Trail(Vec<&'static str>);

struct Leaves;
struct Changes;
struct Replaces;
struct Takes(Trail);
struct FindsNothing;

impl<S: Server> FromRequest<S> for Leaves {
    fn from_request(cx: &mut Context<'_, S>) -> io::Result<Leaves> {
        // Another type is another value.
        assert_eq!(cx.insert("not a trail"), None);
        assert_eq!(cx.insert(Trail(vec!["left"])), None);
        Ok(Leaves)
    }
}

impl<S: Server> FromRequest<S> for Changes {
    fn from_request(cx: &mut Context<'_, S>) -> io::Result<Changes> {
        cx.get_mut::<Trail>().expect("it was left").0.push("changed");
        Ok(Changes)
    }
}

impl<S: Server> FromRequest<S> for Replaces {
    fn from_request(cx: &mut Context<'_, S>) -> io::Result<Replaces> {
        let mut before = cx.insert(Trail(Vec::new())).expect("it was left");
        before.0.push("replaced");
        assert_eq!(cx.insert(before), Some(Trail(Vec::new())));
        Ok(Replaces)
    }
}

impl<S: Server> FromRequest<S> for Takes {
    fn from_request(cx: &mut Context<'_, S>) -> io::Result<Takes> {
        Ok(Takes(cx.remove().expect("it was left")))
    }
}

impl<S: Server> FromRequest<S> for FindsNothing {
    fn from_request(cx: &mut Context<'_, S>) -> io::Result<FindsNothing> {
        assert!(cx.get::<Trail>().is_none() && cx.get_mut::<Trail>().is_none() && cx.remove::<Trail>().is_none());
        assert_eq!(cx.get(), Some(&"not a trail"));
        Ok(FindsNothing)
    }
}

#[request_handler]
#[server(transport = "tcp", concurrency = "threading")]
struct Fields {
    _leaves: Leaves,
    _changes: Changes,
    _replaces: Replaces,
    takes: Takes,
    _finds_nothing: FindsNothing,
    wfile: Writer,
}

impl RequestHandler for Fields {
    fn handle(&mut self) -> HandlerResult {
        Ok(writeln!(self.wfile, "{}", self.takes.0.0.join(", "))?)
    }
}

#[test]
fn a_field_can_change_replace_and_take_what_an_earlier_one_has_left() {
    let server = Served::new(FieldsServer.bind("127.0.0.1:0").expect("a free port"));
    // Each connection begins with nothing.
    for _ in 0..2 {
        assert_eq!(Client::connect(server.server_address()).rest(), "left, changed, replaced\n");
    }
}

type Work = Box<dyn FnOnce() + Send>;

/// Two threads that are there before the server and after it.
struct ThreadPool {
    work: mpsc::Sender<Work>,
    threads: [JoinHandle<()>; 2],
}

impl ThreadPool {
    fn new() -> ThreadPool {
        let (work, queue) = mpsc::channel::<Work>();
        let queue = Arc::new(Mutex::new(queue));
        let threads = [1, 2].map(|number| {
            let queue = queue.clone();
            let next = move || queue.lock().expect("no panic under the lock").recv().ok();
            let serve = move || std::iter::from_fn(next).for_each(|work| work());
            thread::Builder::new().name(format!("own-{number}")).spawn(serve).expect("a thread")
        });
        ThreadPool { work, threads }
    }
}

/// Processes the requests of a server on a thread pool that it was given.
struct OnThreads(mpsc::Sender<Work>);

impl Concurrency for OnThreads {
    fn process_request<S: Service>(&self, job: Job<S>) {
        // Without threads the request is dropped: its client is turned away.
        let _ = self.0.send(Box::new(|| job.process()));
    }
}

#[test]
fn a_concurrency_can_be_given_a_thread_pool() {
    let pool = ThreadPool::new();
    let name_the_thread = |session: &mut Session<Tcp, Synchronous>| -> HandlerResult {
        while session.rfile.next_line()?.is_some() {
            writeln!(session.wfile, "{}", thread::current().name().unwrap_or_default())?;
        }
        Ok(())
    };
    // The second server is given the same pool.
    for _ in 0..2 {
        let (script, _reports) = Script::<Tcp, Synchronous>::new(name_the_thread);
        let concurrency = OnThreads(pool.work.clone());
        let server = Served::new(script.bind_as("127.0.0.1:0", Options::new(), concurrency).expect("a free port"));
        let mut clients = [(); 2].map(|()| Client::connect(server.server_address()));
        let mut names = clients.each_mut().map(|client| client.ask("who?"));
        names.sort();
        assert_eq!(names, ["own-1", "own-2"], "both are served at the same time");
        drop(clients);
        assert_eq!(server.stop().leaked, 0);
    }
    let ThreadPool { work, threads } = pool;
    drop(work);
    threads.into_iter().for_each(|thread| thread.join().expect("the servers have left the threads alone"));
}

/// TCP for the clients on a list.
struct Guarded;

struct GuardedAcceptor {
    acceptor: TcpAcceptor,
    allowed: Vec<IpAddr>,
}

/// Where to listen, and for whom.
struct AllowOnly<A> {
    address: A,
    allowed: Vec<IpAddr>,
}

impl Transport for Guarded {
    type Listener = GuardedAcceptor;
    type Request = Stream;

    fn from_listener(_socket: OwnedFd, _options: &Options) -> io::Result<GuardedAcceptor> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "bind to `AllowOnly`, which has the list"))
    }

    fn server_address(listener: &GuardedAcceptor) -> io::Result<Address> {
        Tcp::server_address(&listener.acceptor)
    }

    fn get_request(listener: &GuardedAcceptor) -> io::Result<Stream> {
        let stream = Tcp::get_request(&listener.acceptor)?;
        match stream.peer_addr()?.ip() {
            Some(ip) if listener.allowed.contains(&ip) => Ok(stream),
            _ => Err(io::Error::new(io::ErrorKind::PermissionDenied, "the client is not on the list")),
        }
    }
}

impl StreamTransport for Guarded {}

impl<A: BindTo<Tcp>> BindTo<Guarded> for AllowOnly<A> {
    fn server_bind(self, options: &Options, beside: &[Address]) -> io::Result<Vec<GuardedAcceptor>> {
        let bound = self.address.server_bind(options, beside)?;
        Ok(bound.into_iter().map(|acceptor| GuardedAcceptor { acceptor, allowed: self.allowed.clone() }).collect())
    }
}

impl AsFd for GuardedAcceptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.acceptor.as_fd()
    }
}

/// A client at this address of the machine.
fn client_at(ip: &str, server: &Address) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let local = SocketAddr::new(ip.parse().expect("an address"), 0);
    socket.bind(&local.into()).expect("an address of this machine");
    let &Address::Inet(server) = server else { panic!("{server} is no internet address") };
    socket.connect(&server.into()).expect("the server listens");
    Client::new(socket)
}

#[test]
fn a_transport_can_be_given_an_address_list() {
    let (script, reports) = Script::<Guarded, Threading>::upper();
    let list = ["127.0.0.1", "127.0.0.2"].map(|ip| ip.parse().expect("an address"));
    let address = AllowOnly { address: "127.0.0.1:0", allowed: list.into() };
    let server = Served::new(Server::bind(script, address).expect("a free port"));
    for (ip, answer) in [("127.0.0.3", None), ("127.0.0.1", Some("HELLO")), ("127.0.0.2", Some("HELLO"))] {
        let mut client = client_at(ip, server.server_address());
        match answer {
            None => client.wait_for_end(),
            Some(answer) => assert_eq!(client.ask("hello"), answer, "{ip}"),
        }
    }
    assert_eq!(server.stats().accepted, 2);
    server.stop();
    assert_eq!(reports.try_iter().count(), 0, "a client that is not on the list is no error");
}

/// Serves one request at a time, and does what a timer and a pipe ask for in between.
struct WithEvents(Arc<Events>);

struct Events {
    /// Each byte is one thing to do.
    pipe: Arc<UnixStream>,
    state: Mutex<EventState>,
    seen: mpsc::Sender<Seen>,
}

struct EventState {
    timer: Option<Instant>,
    /// After so many bytes the server may end.
    bytes_left: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Timer,
    Byte(u8),
    Stopping,
}

impl Concurrency for WithEvents {
    fn process_request<S: Service>(&self, job: Job<S>) {
        job.process();
    }

    fn event_source(&self) -> Option<Arc<dyn EventSource>> {
        Some(self.0.clone())
    }
}

impl EventSource for Events {
    fn descriptors(&self) -> Vec<Arc<dyn AsFd + Send + Sync>> {
        vec![self.pipe.clone()]
    }

    fn deadline(&self, _server: &ServerHandle) -> Option<Instant> {
        self.state.lock().expect("no panic under the lock").timer
    }

    fn process(&self, server: &ServerHandle) {
        // The test has stopped looking once it has seen the last byte.
        let see = |seen| _ = self.seen.send(seen);
        let mut state = self.state.lock().expect("no panic under the lock");
        if state.timer.take_if(|timer| Instant::now() >= *timer).is_some() {
            see(Seen::Timer);
        }
        let mut byte = [0];
        while let Ok(1) = (&*self.pipe).read(&mut byte) {
            state.bytes_left -= 1;
            see(Seen::Byte(byte[0]));
        }
        if server.is_stopping() {
            see(Seen::Stopping);
        }
    }

    fn is_done(&self) -> bool {
        self.state.lock().expect("no panic under the lock").bytes_left == 0
    }
}

#[test]
fn a_concurrency_can_have_events_of_its_own() {
    let (mut pipe, other_end) = UnixStream::pair().expect("a pipe");
    other_end.set_nonblocking(true).expect("a socket");
    let (seen, events) = mpsc::channel();
    let timer = Instant::now() + Duration::from_millis(50);
    let state = Mutex::new(EventState { timer: Some(timer), bytes_left: 2 });
    let concurrency = WithEvents(Arc::new(Events { pipe: Arc::new(other_end), state, seen }));
    let (script, _reports) = Script::<Tcp, Synchronous>::upper();
    let server = Served::new(script.bind_as("127.0.0.1:0", Options::new(), concurrency).expect("a free port"));

    assert_eq!(events.recv_timeout(PATIENCE), Ok(Seen::Timer), "the server has nothing else to wait for");
    assert!(Instant::now() >= timer);
    pipe.write_all(b"a").expect("the server has the other end");
    assert_eq!(events.recv_timeout(PATIENCE), Ok(Seen::Byte(b'a')));
    let mut client = Client::connect(server.server_address());
    assert_eq!(client.ask("hello"), "HELLO");
    drop(client);

    let handle = ServerHandle::clone(&server);
    let stop = thread::spawn(|| server.stop());
    assert_eq!(events.recv_timeout(PATIENCE), Ok(Seen::Stopping));
    assert!(handle.is_stopping() && !stop.is_finished(), "the source is not done");
    pipe.write_all(b"b").expect("the server has the other end");
    eventually("the last byte is seen", || events.recv_timeout(PATIENCE) == Ok(Seen::Byte(b'b')));
    stop.join().expect("no panic");
}

/// Keeps the errors of its handlers, as a user's server might.
#[derive(Default, Server)]
#[server(transport = "tcp", concurrency = "threading", handler = Failing, hooks(handle_error = Self::keep))]
struct ErrorLog {
    lines: Mutex<Vec<String>>,
}

impl ErrorLog {
    fn keep(&self, error: &HandlerError, _client_address: &Address) {
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        let line = format!("{:?} {} {error}{cause}", error.stage(), error.is_panic());
        self.lines.lock().expect("no panic under the lock").push(line);
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("no panic under the lock").clone()
    }
}

#[request_handler]
struct Failing {
    rfile: Reader,
}

impl RequestHandler for Failing {
    fn handle(&mut self) -> HandlerResult {
        match self.rfile.next_line()?.as_deref() {
            Some("panic") => panic!("no memory"),
            _ => Err("no disk".into()),
        }
    }
}

#[test]
fn handle_error_can_be_tested_without_a_client() {
    let tested = ErrorLog::default();
    let client_address = Address::unix("");
    Server::handle_error(&tested, &HandlerError::new(Stage::Handle, "no disk"), &client_address);
    Server::handle_error(&tested, &HandlerError::panic(Stage::Handle, "no memory"), &client_address);
    assert_eq!(tested.lines(), ["Handle false handle failed: no disk", "Handle true handle panicked: no memory"]);

    // The errors of real handlers are no others.
    let server = ErrorLog::default().bind("127.0.0.1:0").expect("a free port");
    let log = server.server().clone();
    let server = Served::new(server);
    for (line, errors) in [("fail", 1), ("panic", 2)] {
        let mut client = Client::connect(server.server_address());
        client.send(format!("{line}\n"));
        client.wait_for_end();
        eventually("the error is reported", || log.lines().len() == errors);
    }
    assert_eq!(log.lines(), tested.lines());
}

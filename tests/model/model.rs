//! The protocol between the threads of a server, run through its interleavings by `shuttle`: the leader's hand-over, the
//! last idle thread that starts another, shutdown against accept, room against drain. A lost wake-up or a deadlock is a
//! run that does not end, which shuttle reports with the schedule that leads to it.
//!
//! The servers are real ones on real Unix sockets, whose clients never make them wait; only the waiting is modelled.

use std::{
    fs::File,
    io::{self, ErrorKind, Read, Write},
    iter,
    marker::PhantomData,
    net::TcpStream,
    os::{
        fd::{AsFd, OwnedFd},
        linux::net::SocketAddrExt,
        unix::net,
    },
    sync::{Arc, OnceLock},
};

use shuttle::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    thread,
};
use sockserver::{
    Address, Context, FromRequest, HandlerResult, MailHandler, Mailbox, MessageHandler, Options, Reader, RequestHandler,
    RunningServer, Sender, Server, ServerHandle, SocketServer, Stats, Stream, UnixAddress, Writer, message_handler,
    request_handler,
    transport::{StreamTransport, Tcp, Unix},
};

/// How many schedules each test runs through.
const SCHEDULES: usize = 3000;

#[derive(Server)]
#[server(transport = "unix", concurrency = "threading", handler = Nothing)]
struct Threading;

#[derive(Server)]
#[server(transport = "unix", concurrency = "pool", workers = 2, handler = Nothing)]
struct Pool;

#[derive(Server)]
#[server(transport = "unix", concurrency = "sync", handler = Nothing)]
struct Sync;

/// Gives the scheduler a place to switch threads while a request is under way.
#[request_handler]
struct Nothing;

impl RequestHandler for Nothing {
    fn handle(&mut self) -> HandlerResult {
        thread::yield_now();
        Ok(())
    }
}

/// Whose requests end when two are under way at once.
#[derive(Default, Server)]
#[server(transport = "unix", concurrency = "threading", handler = Pair)]
struct Pairs {
    under_way: AtomicUsize,
}

#[request_handler]
struct Pair {
    server: Arc<Pairs>,
}

impl RequestHandler for Pair {
    fn handle(&mut self) -> HandlerResult {
        self.server.under_way.fetch_add(1, SeqCst);
        while self.server.under_way.load(SeqCst) < 2 {
            thread::yield_now();
        }
        Ok(())
    }
}

/// Which verifies a request when the port is closed, once a shutdown has returned.
#[derive(Default, Server)]
#[server(
    transport = "unix",
    concurrency = "sync",
    handler = Nothing,
    hooks(server_activate = Self::keep, verify_request = Self::wait_until_closed),
)]
struct Closing {
    shut_down: AtomicBool,
    handle: OnceLock<ServerHandle>,
    stayed_open: AtomicBool,
}

/// Whose requests have begun, and not come whole, when the server is shut down.
#[derive(Server)]
#[server(transport = T, concurrency = "threading", handler = Half<T>)]
struct Halves<T: StreamTransport> {
    shut_down: AtomicBool,
    transport: PhantomData<T>,
}

#[request_handler]
struct Half<T: StreamTransport> {
    request: Stream,
    server: Arc<Halves<T>>,
}

impl<T: StreamTransport> RequestHandler for Half<T> {
    fn handle(&mut self) -> HandlerResult {
        self.request.read_exact(&mut [0; 4])?;
        while !self.server.shut_down.load(SeqCst) {
            thread::yield_now();
        }
        // The connection as it is, whatever family it is of.
        let mut connection = TcpStream::from(self.request.as_fd().try_clone_to_owned()?);
        connection.set_nonblocking(true)?;
        // Where it is to be waited for, the rest can still come.
        let rest = connection.read(&mut [0; 4]).map_err(|error| error.kind());
        assert_eq!(rest, Err(ErrorKind::WouldBlock));
        Ok(())
    }
}

/// Whose clients are silent.
#[derive(Server)]
#[server(transport = "unix", concurrency = "threading", handler = Silent)]
struct Silence;

#[request_handler]
struct Silent {
    request: Stream,
}

impl RequestHandler for Silent {
    fn handle(&mut self) -> HandlerResult {
        let error = self.request.read(&mut [0]).expect_err("the client says nothing, and does not end");
        assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
        Err(error.into())
    }
}

/// Which answers each byte with itself.
#[derive(Server)]
#[server(transport = "unix", concurrency = "threading", handler = Echo)]
struct Echoes;

#[request_handler]
struct Echo {
    request: Stream,
}

impl RequestHandler for Echo {
    fn handle(&mut self) -> HandlerResult {
        let mut byte = [0];
        while self.request.read(&mut byte)? > 0 {
            thread::yield_now();
            self.request.write_all(&byte)?;
        }
        Ok(())
    }
}

/// Whose handlers write on one thread while they read on another.
#[derive(Server)]
#[server(transport = "unix", concurrency = "threading", handler = Push)]
struct Pushes;

#[request_handler]
struct Push {
    rfile: Reader,
    wfile: Pushed,
}

/// A `Writer` that goes to another thread.
struct Pushed(Option<Writer>);

impl<S: Server> FromRequest<S> for Pushed {
    fn from_request(cx: &mut Context<'_, S>) -> io::Result<Pushed> {
        Writer::from_request(cx).map(Some).map(Pushed)
    }
}

impl RequestHandler for Push {
    fn handle(&mut self) -> HandlerResult {
        let mut wfile = self.wfile.0.take().expect("it is handled once");
        let writing = thread::spawn(move || wfile.write_all(b"news").expect("the client is there"));
        // The client says nothing before it has the news.
        let read = self.rfile.read(&mut [0; 8]);
        writing.join().expect("it does not panic");
        Ok(read.map(drop)?)
    }
}

/// On a loop, which every handler may hold up: each turn may be taken for slow.
#[derive(Server)]
#[server(transport = "unix", concurrency = "event_loop", handler = Letters)]
struct Looped;

/// Answers each line with itself.
#[message_handler(framing = "line")]
struct Letters {
    wfile: Writer,
}

impl MessageHandler for Letters {
    type Message = str;

    fn message(&mut self, line: &str) -> HandlerResult {
        thread::yield_now();
        Ok(writeln!(self.wfile, "{line}")?)
    }
}

/// The first message of which is handled until the second one is, of another connection.
#[derive(Default, Server)]
#[server(transport = "unix", concurrency = "event_loop", handler = Meeting)]
struct Meetings {
    begun: AtomicUsize,
}

#[message_handler(framing = "line")]
struct Meeting {
    server: Arc<Meetings>,
}

impl MessageHandler for Meeting {
    type Message = str;

    fn message(&mut self, _line: &str) -> HandlerResult {
        self.server.begun.fetch_add(1, SeqCst);
        while self.server.begun.load(SeqCst) < 2 {
            thread::yield_now();
        }
        Ok(())
    }
}

/// Whose handlers have another thread write to their clients.
#[derive(Default, Server)]
#[server(transport = "unix", concurrency = "event_loop", handler = Handed)]
struct Handing;

#[message_handler(framing = "line")]
struct Handed {
    wfile: Pushed,
}

impl MessageHandler for Handed {
    type Message = str;

    fn message(&mut self, _line: &str) -> HandlerResult {
        let mut wfile = self.wfile.0.take().expect("one message comes");
        thread::spawn(move || wfile.write_all(b"news").expect("the client is there"));
        Ok(())
    }
}

/// Which sends its mail to its client.
#[derive(Default, Server)]
#[server(transport = "unix", concurrency = "event_loop", handler = Addressee)]
struct Post {
    senders: std::sync::Mutex<Vec<Sender<&'static str>>>,
}

#[message_handler(framing = "line")]
struct Addressee {
    wfile: Writer,
    mailbox: Mailbox<&'static str>,
    server: Arc<Post>,
}

impl MessageHandler for Addressee {
    type Message = str;

    fn setup(&mut self) -> HandlerResult {
        self.server.senders.lock().expect("no panic").push(self.mailbox.sender());
        Ok(())
    }

    fn message(&mut self, _line: &str) -> HandlerResult {
        Ok(())
    }
}

impl MailHandler for Addressee {
    type Mail = &'static str;

    fn mail(&mut self, mail: &'static str) -> HandlerResult {
        Ok(self.wfile.write_all(mail.as_bytes())?)
    }
}

/// How often a client may still get through to a server that is closing its port.
const ATTEMPTS: usize = 50;

impl Closing {
    fn keep(&self, handle: &ServerHandle) {
        self.handle.set(handle.clone()).expect("a server is activated once");
    }

    fn wait_until_closed(&self, _request: &Stream, _client_address: &Address) -> bool {
        let handle = self.handle.get().expect("a server is activated first");
        while !self.shut_down.load(SeqCst) {
            thread::yield_now();
        }
        // Whoever stops may be still on its way to the port.
        let attempts = iter::repeat_with(|| {
            thread::yield_now();
            connect(handle)
        });
        self.stayed_open.store(attempts.take(ATTEMPTS).all(|attempt| attempt.is_some()), SeqCst);
        true
    }
}

/// Explores schedules with the scheduler that finds bugs of few switches, and with the one that is fair.
fn explore(run: impl Fn() + Send + std::marker::Sync + Clone + 'static) {
    shuttle::check_random(run.clone(), SCHEDULES);
    shuttle::check_pct(run, SCHEDULES, 3);
}

fn serve<S: Server<Transport = Unix>>(server: S, options: Options) -> RunningServer {
    bind(server, options).spawn().expect("a thread")
}

fn bind<S: Server<Transport = Unix>>(server: S, options: Options) -> SocketServer<S> {
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let name = format!("\0sockserver-model-{}-{number}", std::process::id());
    server.bind_with(name, options).expect("the name is free")
}

/// A client's connection, for as long as the server is to have it in its queue.
fn connect(server: &ServerHandle) -> Option<net::UnixStream> {
    let Address::Unix(UnixAddress::Abstract(name)) = server.server_address() else {
        unreachable!("the servers are bound to abstract names")
    };
    let address = net::SocketAddr::from_abstract_name(name).expect("the name is one");
    net::UnixStream::connect_addr(&address).ok()
}

/// Waits, by yielding, until the server has done what is expected: if it never does, the run never ends.
fn wait_until(server: &ServerHandle, expected: impl Fn(&Stats) -> bool) {
    while !expected(&server.stats()) {
        thread::yield_now();
    }
}

fn every_client_is_served<S: Server<Transport = Unix>>(server: S, connections: Option<usize>) {
    const CLIENTS: u64 = 3;
    let mut options = S::OPTIONS;
    options.limits.connections = connections;
    let server = serve(server, options);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let handle = (*server).clone();
            thread::spawn(move || connect(&handle))
        })
        .collect();
    let connections: Vec<_> = clients.into_iter().map(|client| client.join().expect("a client")).collect();
    wait_until(&server, |stats| stats.finished == CLIENTS);
    let drained = server.stop().expect("the socket is sound");
    assert_eq!(drained.leaked + drained.forced, 0);
    drop(connections);
}

fn every_client_is_answered<S: Server<Transport = Unix>>(server: S) {
    let server = serve(server, S::OPTIONS);
    let clients: Vec<_> = (0..2)
        .map(|_| {
            let handle = (*server).clone();
            thread::spawn(move || {
                let mut client = connect(&handle).expect("the port is open");
                client.write_all(b"a\nb\n").expect("the server is there");
                thread::yield_now();
                client.write_all(b"c\n").expect("the server is there");
                receive(&mut client, b"a\nb\nc\n");
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().expect("a client"));
    wait_until(&server, |stats| stats.finished == 2);
    assert_eq!(server.stop().expect("the socket is sound").leaked, 0);
}

/// Receives, by yielding, until all of it has come.
fn receive(client: &mut net::UnixStream, expected: &[u8]) {
    client.set_nonblocking(true).expect("an open socket");
    let mut received = Vec::new();
    while received != expected {
        let mut room = [0; 16];
        match client.read(&mut room) {
            Ok(count) => {
                assert!(count > 0, "the connection has ended after {received:?}");
                received.extend_from_slice(&room[..count]);
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                thread::yield_now();
            }
        }
    }
}

fn a_stop_meets_clients<S: Server<Transport = Unix>>(server: S) {
    let server = serve(server, S::OPTIONS);
    let client = thread::spawn({
        let handle = (*server).clone();
        move || [connect(&handle), connect(&handle)]
    });
    let stopper = thread::spawn({
        let handle = (*server).clone();
        move || {
            handle.shutdown();
            let before = handle.stats();
            handle.wait().expect("this is no handler");
            let after = handle.stats();
            // One can have been on its way from the kernel to the registry.
            assert!(after.accepted <= before.accepted + 1);
            // None is turned away that was accepted.
            assert_eq!(after.finished, after.accepted, "{after:?}");
        }
    });
    drop(client.join().expect("a client"));
    stopper.join().expect("no handler starts after the shutdown");
    server.stop().expect("the socket is sound");
}

macro_rules! of_each {
    ($($test:ident($($argument:expr),*) as $name:ident: $server:expr;)*) => { $(
        #[test]
        fn $name() {
            explore(|| $test($server, $($argument),*));
        }
    )* };
}

of_each! {
    every_client_is_served(None) as threads_hand_over_the_lead: Threading;
    every_client_is_served(None) as workers_hand_over_the_lead: Pool;
    every_client_is_served(None) as one_thread_serves_all: Sync;
    every_client_is_served(Some(1)) as room_is_not_lost_by_threads: Threading;
    every_client_is_served(Some(1)) as room_is_not_lost_by_workers: Pool;
    a_stop_meets_clients() as threads_stop: Threading;
    a_stop_meets_clients() as workers_stop: Pool;
    a_stop_meets_clients() as one_thread_stops: Sync;
    every_client_is_answered() as a_loop_serves_all: Looped;
    a_stop_meets_clients() as a_loop_stops: Looped;
}

#[test]
fn the_last_idle_thread_starts_another() {
    explore(|| {
        let server = serve(Pairs::default(), Pairs::OPTIONS);
        let connections = [connect(&server), connect(&server)];
        wait_until(&server, |stats| stats.finished == 2);
        server.stop().expect("the socket is sound");
        drop(connections);
    });
}

#[test]
fn a_loop_goes_on_while_a_handler_is_slow() {
    explore(|| {
        let server = serve(Meetings::default(), Meetings::OPTIONS);
        let mut connections = [connect(&server), connect(&server)].map(|client| client.expect("the port is open"));
        connections.iter_mut().for_each(|client| client.write_all(b"\n").expect("the server is there"));
        drop(connections);
        wait_until(&server, |stats| stats.finished == 2);
        server.stop().expect("the socket is sound");
    });
}

#[test]
fn mail_wakes_a_loop() {
    explore(|| {
        let post = bind(Post::default(), Post::OPTIONS);
        let server = post.server().clone();
        let post = post.spawn().expect("a thread");
        let mut client = connect(&post).expect("the port is open");
        let sender = loop {
            if let Some(sender) = server.senders.lock().expect("no panic").pop() {
                break sender;
            }
            thread::yield_now();
        };
        for _ in 0..2 {
            sender.try_send("news").expect("the mailbox has room");
        }
        receive(&mut client, b"newsnews");
        post.shutdown();
        assert_eq!(post.wait().expect("this is no handler").forced, 0);
    });
}

#[test]
fn what_another_thread_writes_is_sent_while_a_loop_waits() {
    explore(|| {
        let server = serve(Handing::default(), Handing::OPTIONS);
        let mut client = connect(&server).expect("the port is open");
        client.write_all(b"\n").expect("the server is there");
        receive(&mut client, b"news");
        drop(client);
        wait_until(&server, |stats| stats.finished == 1);
        server.stop().expect("the socket is sound");
    });
}

#[test]
fn what_had_come_to_a_loop_before_a_stop_is_answered() {
    explore(|| {
        let server = serve(Looped, Looped::OPTIONS);
        let mut client = connect(&server).expect("the port is open");
        client.write_all(b"a\n").expect("the server is there");
        wait_until(&server, |stats| stats.accepted == 1);
        client.write_all(b"b\n").expect("the server is there");
        server.shutdown();
        let drained = server.wait().expect("this is no handler");
        assert_eq!((drained.forced, drained.leaked), (0, 0));
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).expect("the connection is closed");
        assert_eq!(answer, b"a\nb\n");
    });
}

#[test]
fn a_limit_that_is_raised_lets_the_next_client_in() {
    explore(|| {
        let mut options = Silence::OPTIONS;
        options.limits.connections = Some(1);
        let server = serve(Silence, options);
        let connections = [connect(&server), connect(&server)];
        let raiser = thread::spawn({
            let handle = (*server).clone();
            move || handle.set_limits(handle.limits().connections(2)).expect("more than zero")
        });
        wait_until(&server, |stats| stats.accepted == 2);
        raiser.join().expect("it does not panic");
        server.stop().expect("the socket is sound");
        drop(connections);
    });
}

#[test]
fn the_port_closes_while_the_only_thread_is_in_a_hook() {
    explore(|| {
        let closing = bind(Closing::default(), Closing::OPTIONS);
        let server = closing.server().clone();
        let closing = closing.spawn().expect("a thread");
        let connection = connect(&closing);
        let stopper = thread::spawn({
            let (handle, server) = ((*closing).clone(), server.clone());
            move || {
                handle.shutdown();
                server.shut_down.store(true, SeqCst);
            }
        });
        stopper.join().expect("a shutdown returns");
        closing.stop().expect("the socket is sound");
        assert!(!server.stayed_open.load(SeqCst));
        drop(connection);
    });
}

#[test]
fn a_suspended_server_goes_on_where_it_was() {
    explore(|| {
        let server = serve(Threading, Threading::OPTIONS);
        server.suspend();
        let client = thread::spawn({
            let handle = (*server).clone();
            move || connect(&handle)
        });
        let resumer = thread::spawn({
            let handle = (*server).clone();
            move || handle.resume()
        });
        let connection = client.join().expect("a client");
        resumer.join().expect("resuming does not fail");
        wait_until(&server, |stats| stats.finished == 1);
        server.stop().expect("the socket is sound");
        drop(connection);
    });
}

#[test]
fn a_stop_by_several_and_twice_is_one_stop() {
    explore(|| {
        let server = serve(Threading, Threading::OPTIONS);
        let stops = Arc::new(AtomicUsize::new(0));
        let stoppers: Vec<_> = (0..2)
            .map(|_| {
                let (handle, stops) = ((*server).clone(), stops.clone());
                thread::spawn(move || {
                    handle.shutdown();
                    handle.shutdown();
                    handle.wait().expect("this is no handler");
                    stops.fetch_add(1, SeqCst);
                })
            })
            .collect();
        stoppers.into_iter().for_each(|stopper| stopper.join().expect("a stop ends"));
        assert_eq!(stops.load(SeqCst), 2);
        server.stop().expect("the socket is sound");
    });
}

#[test]
fn a_handler_that_waits_for_a_request_sees_the_stop() {
    explore(|| {
        let server = serve(Silence, Silence::OPTIONS);
        let connections = [connect(&server), connect(&server)];
        wait_until(&server, |stats| stats.active > 0);
        server.shutdown();
        let drained = server.wait().expect("this is no handler");
        assert_eq!((drained.forced, drained.leaked), (0, 0));
        let stats = server.stats();
        assert_eq!(stats.finished, stats.accepted, "{stats:?}");
        drop(connections);
    });
}

#[test]
fn what_had_come_before_a_stop_is_answered() {
    explore(|| {
        let server = serve(Echoes, Echoes::OPTIONS);
        let mut client = connect(&server).expect("the port is open");
        client.write_all(b"ab").expect("the server is there");
        // Else it may be in the kernel's queue when the port closes.
        wait_until(&server, |stats| stats.accepted == 1);
        client.write_all(b"cd").expect("the server is there");
        server.shutdown();
        let drained = server.wait().expect("this is no handler");
        assert_eq!((drained.forced, drained.leaked), (0, 0));
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).expect("the connection is closed");
        assert_eq!(answer, b"abcd");
    });
}

#[test]
fn what_one_thread_writes_is_sent_while_another_waits() {
    explore(|| {
        let server = serve(Pushes, Pushes::OPTIONS);
        let mut client = connect(&server).expect("the port is open");
        client.set_nonblocking(true).expect("an open socket");
        let mut news = [0; 4];
        while let Err(error) = client.read_exact(&mut news) {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            thread::yield_now();
        }
        assert_eq!(news, *b"news");
        drop(client);
        wait_until(&server, |stats| stats.finished == 1);
        server.stop().expect("the socket is sound");
    });
}

fn a_request_has_begun<T: StreamTransport>(
    bind: impl FnOnce(Halves<T>) -> SocketServer<Halves<T>>,
    connect: impl FnOnce(&ServerHandle) -> OwnedFd,
) {
    let halves = bind(Halves { shut_down: AtomicBool::new(false), transport: PhantomData });
    let server = halves.server().clone();
    let halves = halves.spawn().expect("a thread");
    let mut client = File::from(connect(&halves));
    client.write_all(b"half").expect("the server is there");
    wait_until(&halves, |stats| stats.active == 1);
    halves.shutdown();
    server.shut_down.store(true, SeqCst);
    halves.wait().expect("this is no handler");
    let stats = halves.stats();
    assert_eq!(stats.finished, 1, "{stats:?}");
}

#[test]
fn a_request_that_has_begun_is_not_cut_by_a_stop() {
    explore(|| {
        a_request_has_begun::<Unix>(
            |halves| bind(halves, Options::new()),
            |handle| connect(handle).expect("the port is open").into(),
        );
    });
}

#[test]
fn a_request_that_has_begun_over_tcp_is_not_cut_by_a_stop() {
    explore(|| {
        a_request_has_begun::<Tcp>(
            |halves| halves.bind("127.0.0.1:0").expect("a free port"),
            |handle| TcpStream::connect(handle.server_address()).expect("the port is open").into(),
        );
    });
}

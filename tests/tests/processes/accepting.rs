//! Faults of the system around accepting: injected through a transport, and real ones.

use std::{
    collections::VecDeque,
    error::Error,
    fs::File,
    io::{self, ErrorKind, Write},
    marker::PhantomData,
    mem::MaybeUninit,
    net::Shutdown,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use socket2::SockRef;
use sockserver::{
    Address, BindTo, Concurrency, Handled, HandlerError, HandlerResult, Options, Reader, RequestHandler, Server,
    ServerHandle, Stage, Stream, Transport, Writer, request_handler,
    transport::{StreamTransport, Tcp, TcpAcceptor},
};
use sockserver_tests::{
    client::{Client, PATIENCE, eventually},
    concurrencies::{Word, set_workers},
    in_each_concurrency,
    line_server::LineServer,
    process::{Process, installed, skip},
    resources::Observed,
    script::{Report, Script},
    served::{Served, Watchdog},
};

/// TCP that fails as its script says.
struct Faulty;

struct FaultyListener {
    inner: TcpAcceptor,
    faults: Faults,
}

/// What happens instead of accepting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Error(i32),
    /// What a transport of the user's own makes of a connection.
    Refusal(ErrorKind),
    Panic,
    /// A request is accepted, and its descriptor is none of a socket: setsockopt(2) fails for it.
    NoSocket,
}

/// A script of faults. What is left of it at the end was not reached.
#[derive(Clone, Default)]
struct Faults(Arc<Mutex<FaultScript>>);

#[derive(Default)]
struct FaultScript {
    next: VecDeque<Fault>,
    /// After those.
    forever: Option<Fault>,
    tries: u32,
}

impl FaultScript {
    fn next(&mut self) -> Option<Fault> {
        self.tries += 1;
        self.next.pop_front().or(self.forever)
    }
}

impl Faults {
    fn new(errors: &[i32]) -> Faults {
        let faults = Faults::default();
        errors.iter().for_each(|&error| faults.add(Fault::Error(error)));
        faults
    }

    fn forever(error: i32) -> Faults {
        let faults = Faults::default();
        faults.repeat(Some(error));
        faults
    }

    fn add(&self, fault: Fault) {
        self.0.lock().unwrap().next.push_back(fault);
    }

    fn repeat(&self, error: Option<i32>) {
        self.0.lock().unwrap().forever = error.map(Fault::Error);
    }

    /// How often it was tried to accept.
    fn tries(&self) -> u32 {
        self.0.lock().unwrap().tries
    }

    #[track_caller]
    fn assert_used_up(&self) {
        assert_eq!(self.0.lock().unwrap().next, [], "faults that were not reached");
    }
}

impl Transport for Faulty {
    type Listener = FaultyListener;
    type Request = Stream;

    fn from_listener(socket: OwnedFd, options: &Options) -> io::Result<FaultyListener> {
        Ok(FaultyListener { inner: Tcp::from_listener(socket, options)?, faults: Faults::default() })
    }

    fn server_address(listener: &FaultyListener) -> io::Result<Address> {
        Tcp::server_address(&listener.inner)
    }

    fn get_request(listener: &FaultyListener) -> io::Result<Stream> {
        let mut script = listener.faults.0.lock().unwrap();
        let Some(fault) = script.next() else {
            // Still locked: a fault that is added meets whoever connects after that.
            return Tcp::get_request(&listener.inner);
        };
        // A panic would poison it.
        drop(script);
        match fault {
            Fault::Error(error) => Err(io::Error::from_raw_os_error(error)),
            Fault::Refusal(kind) => Err(io::Error::new(kind, "not with that one")),
            Fault::Panic => panic!("as it is told"),
            Fault::NoSocket => Ok(Stream::new(File::open("/dev/null")?, Faulty::server_address(listener)?)),
        }
    }
}

impl StreamTransport for Faulty {}

impl AsFd for FaultyListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl BindTo<Faulty> for &Faults {
    fn server_bind(self, options: &Options, beside: &[Address]) -> io::Result<Vec<FaultyListener>> {
        let bound = BindTo::<Tcp>::server_bind("127.0.0.1:0", options, beside)?;
        Ok(bound.into_iter().map(|inner| FaultyListener { inner, faults: self.clone() }).collect())
    }
}

fn serve<C: Concurrency + Default>(faults: &Faults) -> (Served, Receiver<Report>) {
    serve_with::<C>(faults, Options::new())
}

fn serve_with<C: Concurrency + Default>(faults: &Faults, mut options: Options) -> (Served, Receiver<Report>) {
    let (script, reports) = Script::<Faulty, C>::upper();
    set_workers(&mut options);
    (Served::new(script.bind_with(faults, options).expect("a free port")), reports)
}

fn ask_once(server: &ServerHandle, line: &str) -> String {
    Client::connect(server.server_address()).ask(line)
}

fn errors_of_a_connection_that_died_are_passed_over<C: Concurrency + Default>() {
    let faults = Faults::new(&[
        libc::ECONNABORTED,
        libc::EINTR,
        libc::ECONNRESET,
        libc::ECONNREFUSED,
        libc::EPROTO,
        libc::ENETDOWN,
        libc::ENETUNREACH,
        libc::EHOSTDOWN,
        libc::EHOSTUNREACH,
        libc::ENOPROTOOPT,
        libc::EINTR,
    ]);
    let (server, reports) = serve::<C>(&faults);
    assert_eq!(ask_once(&server, "hello"), "HELLO");
    // That client has left the queue, as far as the server knows. It looks again when another one comes.
    faults.add(Fault::Error(libc::EAGAIN));
    let mut passed_over = Client::connect(server.server_address());
    passed_over.send("hello\n");
    passed_over.finish();
    eventually("it has looked", || faults.0.lock().unwrap().next.is_empty());
    assert_eq!(ask_once(&server, "hello"), "HELLO");
    assert_eq!(passed_over.line(), "HELLO");
    faults.assert_used_up();
    assert_eq!(server.stats().accept_errors, 0);
    server.stop();
    assert_eq!(reports.try_recv().ok(), None);
}

fn a_connection_that_the_transport_will_not_have_holds_up_no_other<C: Concurrency + Default>() {
    let faults = Faults::default();
    for _ in 0..20 {
        for error in [libc::EPIPE, libc::ENOTCONN, libc::ETIMEDOUT] {
            faults.add(Fault::Error(error));
        }
        faults.add(Fault::Refusal(ErrorKind::InvalidData));
        faults.add(Fault::Panic);
    }
    let (server, reports) = serve::<C>(&faults);
    assert_eq!(ask_once(&server, "hello"), "HELLO");
    faults.assert_used_up();
    assert_eq!(server.stats().accept_errors, 0);
    server.stop();
    assert_eq!(reports.try_recv().ok(), None);
}

fn shortages_are_waited_for_and_reported_once_an_episode<C: Concurrency + Default>() {
    let shortages = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EPERM, libc::ENOTTY];
    let faults = Faults::new(&shortages);
    let begin = Instant::now();
    let (server, reports) = serve::<C>(&faults);
    // That accepting works in between ends no episode.
    for time in 1..=2 {
        assert_eq!(ask_once(&server, "hello"), "HELLO");
        faults.assert_used_up();
        assert_eq!(server.stats().accept_errors, time * 6);
        shortages.iter().for_each(|&error| faults.add(Fault::Error(error)));
    }
    let report = reports.recv_timeout(PATIENCE).expect("the episode is reported");
    assert_eq!(report.stage, Stage::GetRequest);
    assert_eq!(report.client_address, *server.server_address());
    assert_eq!(reports.try_recv().ok(), None);
    assert!(begin.elapsed() > Duration::from_millis(500), "twelve tries take longer than half a second");
}

fn the_server_never_spins<C: Concurrency + Default>() {
    // The second is passed over, as long as it does not come all the time.
    for error in [libc::EMFILE, libc::ECONNABORTED] {
        let faults = Faults::forever(error);
        let (server, _reports) = serve::<C>(&faults);
        eventually("the server rests", || server.stats().accept_errors > 0);
        let (begin, before) = (Instant::now(), faults.tries());
        eventually("it tries again", || faults.tries() > before + 5);
        // Counted before the time is taken, which can be too long but not too short. One try may have been made between
        // the first two lines.
        let tries = faults.tries() - before;
        let most = begin.elapsed().as_millis() / 50 + 2;
        assert!(u128::from(tries) <= most, "{tries} tries, and at most {most} are allowed");
        server.stop();
    }
}

fn live_connections_are_unharmed_by_a_shortage<C: Concurrency + Default>() {
    let faults = Faults::default();
    let (server, _reports) = serve::<C>(&faults);
    let mut live = Client::connect(server.server_address());
    assert_eq!(live.ask("before"), "BEFORE");
    faults.repeat(Some(libc::EMFILE));
    let mut waiting = Client::connect(server.server_address());
    eventually("the server is short of descriptors", || server.stats().accept_errors > 1);
    assert_eq!(live.ask("meanwhile"), "MEANWHILE");
    faults.repeat(None);
    assert_eq!(waiting.ask("at last"), "AT LAST");
    assert_eq!(live.ask("after"), "AFTER");
}

fn a_broken_socket_ends_the_server_with_its_error<C: Concurrency + Default>() {
    let _watchdog = Watchdog::new();
    for error in [libc::EBADF, libc::ENOTSOCK, libc::EINVAL, libc::EFAULT] {
        let faults = Faults::new(&[libc::ECONNABORTED, error]);
        let (script, _reports) = Script::<Faulty, C>::upper();
        let server = script.bind(&faults).expect("a free port");
        let address = server.server_address().clone();
        let ended = server.serve_forever().expect_err("the socket is broken");
        assert_eq!(ended.raw_os_error(), Some(error));
        faults.assert_used_up();
        // A process that another test starts has a copy of the socket until it becomes its program.
        eventually("the port is closed", || {
            Client::try_connect(&address).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
        });

        let (script, _reports) = Script::<Faulty, C>::upper();
        let server = script.bind(&Faults::new(&[error])).expect("a free port");
        let failed = server.handle_request().expect_err("the socket is broken");
        assert_eq!(failed.raw_os_error(), Some(error));
    }
}

fn a_socket_that_somebody_has_shut_ends_the_server<C: Concurrency + Default>() {
    let _watchdog = Watchdog::new();
    let (server, _reports, _place) = Script::<Tcp, C>::bind_upper(Options::new());
    // shutdown(2) breaks a listening socket for all who share it.
    SockRef::from(&server).shutdown(Shutdown::Both).expect("a listening socket");
    let error = server.serve_forever().expect_err("nothing can be accepted");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

fn no_stack_to_start_a_thread_with() -> Options {
    let mut options = Options::new();
    // More than a process has addresses for.
    options.stack_size = Some(1 << 47);
    options
}

fn without_threads_requests_are_served_one_by_one<C: Concurrency + Default>() {
    let (server, _reports) = serve_with::<C>(&Faults::default(), no_stack_to_start_a_thread_with());
    let mut first = Client::connect(server.server_address());
    assert_eq!(first.ask("first"), "FIRST");
    let mut second = Client::connect(server.server_address());
    second.send("second\n");
    for _ in 0..100 {
        assert_eq!(first.ask("again"), "AGAIN");
    }
    assert_eq!(server.stats().accepted, 1, "no more are taken while the one thread is busy");
    drop(first);
    assert_eq!(second.line(), "SECOND");
    drop(second);
    assert_eq!(ask_once(&server, "third"), "THIRD");
    assert_eq!(server.stop().leaked, 0);
}

fn handle_request_serves_in_place_without_threads<C: Concurrency + Default>() {
    let _watchdog = Watchdog::new();
    let (script, _reports) = Script::<Faulty, C>::upper();
    let faults = Faults::default();
    let server = script.bind_with(&faults, no_stack_to_start_a_thread_with()).expect("a free port");
    let mut client = Client::connect(server.server_address());
    client.send("hello\n");
    client.finish();
    assert_eq!(server.handle_request().expect("a request"), Handled::Request);
    assert_eq!(client.rest(), "HELLO\n");
}

#[test]
fn a_pool_reports_that_it_has_fewer_threads() {
    let options = no_stack_to_start_a_thread_with();
    let (server, reports) = serve_with::<sockserver::concurrency::Pool>(&Faults::default(), options);
    let report = reports.recv_timeout(PATIENCE).expect("it is reported");
    assert_eq!(report.stage, Stage::Serve);
    assert_eq!(report.client_address, *server.server_address());
}

/// A server whose handler has a timeout, and whose `handle_error` panics.
#[derive(Server)]
#[server(transport = Faulty, concurrency = C, handler = Answer, hooks(handle_error = Self::report_and_panic))]
struct Panicky<C: Concurrency + Default> {
    reports: Sender<(Stage, Option<i32>)>,
    concurrency: PhantomData<C>,
}

impl<C: Concurrency + Default> Panicky<C> {
    fn report_and_panic(&self, error: &HandlerError, _client_address: &Address) {
        let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>()).expect("an error of the system");
        self.reports.send((error.stage(), cause.raw_os_error())).expect("the test looks");
        panic!("and nobody is to notice");
    }
}

#[request_handler(timeout = "20s")]
struct Answer {
    rfile: Reader,
    wfile: Writer,
}

impl RequestHandler for Answer {
    fn handle(&mut self) -> HandlerResult {
        let line = self.rfile.next_line()?.unwrap_or_default();
        Ok(writeln!(self.wfile, "{}", line.to_uppercase())?)
    }
}

fn a_connection_that_is_no_socket_ends_that_request_only<C: Concurrency + Default>() {
    let (reports, reported) = mpsc::channel();
    let faults = Faults::new(&[libc::EMFILE]);
    let panicky = Panicky::<C> { reports, concurrency: PhantomData };
    let server = Served::new(panicky.bind(&faults).expect("a free port"));
    assert_eq!(reported.recv_timeout(PATIENCE), Ok((Stage::GetRequest, Some(libc::EMFILE))));
    for failed in 1..=20 {
        faults.add(Fault::NoSocket);
        assert_eq!(ask_once(&server, "hello"), "HELLO");
        faults.assert_used_up();
        assert_eq!(reported.recv_timeout(PATIENCE), Ok((Stage::Handle, Some(libc::ENOTSOCK))));
        eventually("the request has ended", || server.stats().failed == failed);
    }
    server.stop();
}

fn start<C: Word>() -> LineServer {
    LineServer::start::<C>(&["connections=10"])
}

fn set_descriptor_limit(prlimit: &mut Command, soft: usize) {
    let status = prlimit.arg(format!("--nofile={soft}:")).status().expect("it is installed");
    assert!(status.success(), "{status}");
}

fn a_server_that_is_out_of_descriptors_rests_and_goes_on<C: Word>() {
    let server = start::<C>();
    let mut live = server.connect();
    assert_eq!(live.ask("before"), "BEFORE");
    let Some(mut prlimit) = installed("prlimit") else { return };
    prlimit.arg(format!("--pid={}", server.id()));
    let limit = server.observed().descriptor_limit();
    // A parent may still have the end of a pipe that is its child's, and which would leave room when it is closed.
    eventually("the server waits for the next client", || server.observed().is_asleep());
    set_descriptor_limit(&mut prlimit, server.observed().next_descriptor());
    let mut waiting = server.connect();
    waiting.send("at last\n");
    server.reports("accepting failed");

    let (begin, before) = (Instant::now(), server.observed().processor_time());
    while begin.elapsed() < Duration::from_millis(500) {
        assert_eq!(live.ask("meanwhile"), "MEANWHILE");
        thread::sleep(Duration::from_millis(10));
    }
    let processor_time = server.observed().processor_time() - before;
    assert!(processor_time < begin.elapsed() / 4, "{processor_time:?} of {:?}", begin.elapsed());

    set_descriptor_limit(&mut prlimit, limit);
    assert_eq!(waiting.line(), "AT LAST");
    assert_eq!(live.ask("after"), "AFTER");
    drop((waiting, live));
    server.stop();
}

fn a_wait_that_the_system_refuses_is_tried_again<C: Word>() {
    let server = start::<C>();
    assert_eq!(server.ask("before"), "BEFORE");
    let Some(mut strace) = installed("strace") else { return };
    strace.args(["-f", "-e", "trace=poll", "-e", "inject=poll:error=ENOMEM:when=1..20", "-o", "/dev/null", "-p"]);
    let mut strace = Process::start(strace.arg(server.id().to_string()));
    let said = strace.error_line();
    if !said.contains("attached") {
        return skip(said);
    }
    assert_eq!(server.ask("meanwhile"), "MEANWHILE");
    server.reports(&format!("server at {}: accepting failed", server.address()));
    assert_eq!(server.ask("after"), "AFTER");
    strace.signal("INT");
    strace.ended();
    server.stop();
}

/// A process that is stopped and goes on finds its system calls interrupted where they have a timeout, though it
/// handles no signal: signal(7).
fn interrupt(process: Observed) {
    for (signal, stopped) in [("STOP", true), ("CONT", false)] {
        process.signal(signal);
        eventually("the signal has come", || process.is_stopped() == stopped);
    }
}

/// The process that serves this client.
fn process_of(client: &mut Client) -> Observed {
    Observed::of(client.ask("pid").parse().expect("its number"))
}

fn an_interrupted_read_goes_on<C: Word>() {
    let server = start::<C>();
    let mut client = server.connect();
    let process = process_of(&mut client);
    for byte in b"a line in pieces" {
        client.send([*byte]);
        interrupt(process);
    }
    assert_eq!(client.ask("."), "A LINE IN PIECES.");
    interrupt(process);
    drop(client);
    assert_eq!(server.ask("another"), "ANOTHER");
    server.stop();
}

fn an_interrupted_or_short_write_is_completed<C: Word>() {
    const SENT: usize = 20_000_000;
    let server = start::<C>();
    let mut client = server.connect();
    let process = process_of(&mut client);
    client.send(format!("send {SENT}\n"));
    for _ in 0..10 {
        assert_eq!(client.bytes(SENT / 20), vec![b'x'; SENT / 20]);
        interrupt(process);
    }
    assert_eq!(client.bytes(SENT / 2), vec![b'x'; SENT / 2]);
    assert_eq!(client.ask("nothing else"), "NOTHING ELSE");
}

fn interruptions_do_not_prolong_a_timeout<C: Word>() {
    let server = start::<C>();
    let mut client = server.connect();
    let process = client.ask("pid");
    client.socket().set_nonblocking(true).expect("an open socket");
    eventually("the read has taken its three seconds", || {
        for signal in ["-STOP", "-CONT"] {
            // It fails when a child has ended, which is what is waited for.
            let _ = Command::new("kill").args([signal, &process]).stderr(Stdio::null()).status();
            thread::sleep(Duration::from_millis(50));
        }
        matches!(client.socket().recv(&mut [MaybeUninit::uninit()]), Ok(0))
    });
    server.reports("the client sent nothing within the read timeout");
}

in_each_concurrency! { [sync threading pool]: a_connection_that_is_no_socket_ends_that_request_only }
in_each_concurrency! { [sync threading pool event_loop]:
    errors_of_a_connection_that_died_are_passed_over
    a_connection_that_the_transport_will_not_have_holds_up_no_other
    shortages_are_waited_for_and_reported_once_an_episode
    the_server_never_spins
    a_broken_socket_ends_the_server_with_its_error
    a_socket_that_somebody_has_shut_ends_the_server
}
in_each_concurrency! { [threading pool]: without_threads_requests_are_served_one_by_one }
in_each_concurrency! { [threading pool event_loop]:
    live_connections_are_unharmed_by_a_shortage
    handle_request_serves_in_place_without_threads
}
in_each_concurrency! { [threading pool forking event_loop]:
    a_server_that_is_out_of_descriptors_rests_and_goes_on
}
in_each_concurrency! { [sync threading pool forking]: a_wait_that_the_system_refuses_is_tried_again }
in_each_concurrency! { [sync threading pool forking event_loop]:
    an_interrupted_read_goes_on
    an_interrupted_or_short_write_is_completed
    interruptions_do_not_prolong_a_timeout
}

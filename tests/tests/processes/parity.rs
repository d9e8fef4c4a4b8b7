//! What CPython's `test_socketserver.py` (of 3.13) tests, one test for each of its own, which is named in its comment;
//! and the same conversation with a server of Python's.

use std::{fs, io::Write, net::TcpListener, os::fd::AsRawFd, path::Path, process::Command, sync::mpsc};

use sockserver::{
    Address, Concurrency, Handled, HandlerResult, Options, Server,
    concurrency::{Synchronous, Threading},
    transport::{Tcp, Udp, Unix, UnixDatagram},
};
use sockserver_tests::{
    client::{Client, DatagramClient, PATIENCE, eventually},
    concurrencies,
    place::{Local, Place},
    process::{Process, ServerProcess, example_with, installed, server},
    resources::Observed,
    script::{Script, Session},
    served::Watchdog,
};

// SocketServerTest: every server, three clients each.

fn stream_examine(server: &Address) {
    let mut client = Client::connect(server);
    assert_eq!(client.ask("hello world"), "hello world");
    assert_eq!(client.rest(), "");
}

fn dgram_examine(server: &Address) {
    assert_eq!(DatagramClient::connect(server).ask("hello world"), "hello world");
}

/// Python's handler of this test: one line comes, and goes back.
fn handle<T: Local, C: Concurrency + Default>(session: &mut Session<T, C>) -> HandlerResult {
    let line = session.rfile.next_line()?.unwrap_or_default();
    Ok(writeln!(session.wfile, "{line}")?)
}

fn run_server<T: Local, C: Concurrency + Default>(examine: fn(&Address)) {
    let server = Script::<T, C>::serve(handle);
    for _ in 0..3 {
        examine(server.server_address());
    }
    assert_eq!(server.stop().leaked, 0);
}

/// test_TCPServer
#[test]
fn tcp_server() {
    run_server::<Tcp, Synchronous>(stream_examine);
}

/// test_ThreadingTCPServer
#[test]
fn threading_tcp_server() {
    run_server::<Tcp, Threading>(stream_examine);
}

/// test_UnixStreamServer
#[test]
fn unix_stream_server() {
    run_server::<Unix, Synchronous>(stream_examine);
}

/// test_ThreadingUnixStreamServer
#[test]
fn threading_unix_stream_server() {
    run_server::<Unix, Threading>(stream_examine);
}

/// test_UDPServer
#[test]
fn udp_server() {
    run_server::<Udp, Synchronous>(dgram_examine);
}

/// test_ThreadingUDPServer
#[test]
fn threading_udp_server() {
    run_server::<Udp, Threading>(dgram_examine);
}

/// test_UnixDatagramServer
#[test]
fn unix_datagram_server() {
    run_server::<UnixDatagram, Synchronous>(dgram_examine);
}

/// test_ThreadingUnixDatagramServer
#[test]
fn threading_unix_datagram_server() {
    run_server::<UnixDatagram, Threading>(dgram_examine);
}

fn obedient(transport: &str, settings: &[&str]) -> ServerProcess {
    let mut command = server("obedient");
    command.args([transport, "forking"]).args(settings);
    ServerProcess::start(command, Place::of(transport))
}

/// Also Python's `simple_subprocess`: a child of the program's own is not waited for.
fn run_forking_server(transport: &str, ask: fn(&Address, &str) -> Option<String>) {
    let server = obedient(transport, &["foreign=72"]);
    for _ in 0..3 {
        assert_eq!(ask(server.address(), "echo hello world").as_deref(), Some("hello world"));
    }
    ask(server.address(), "shutdown");
    let output = server.output();
    assert!(output.contains("foreign exit status: 72"), "{output}");
    assert!(output.contains("active: 0"), "{output}");
}

/// The answer to an order, if there is one.
fn order_over_stream(server: &Address, order: &str) -> Option<String> {
    let mut client = Client::connect(server);
    client.send(format!("{order}\n"));
    client.finish();
    client.rest().strip_suffix('\n').map(str::to_owned)
}

fn order_in_a_packet(server: &Address, order: &str) -> Option<String> {
    let mut client = DatagramClient::connect(server);
    if order == "shutdown" {
        client.send(order);
        return None;
    }
    Some(client.ask(order))
}

/// test_ForkingTCPServer
#[test]
fn forking_tcp_server() {
    run_forking_server("tcp", order_over_stream);
}

/// test_ForkingUnixStreamServer
#[test]
fn forking_unix_stream_server() {
    run_forking_server("unix", order_over_stream);
}

/// test_ForkingUDPServer
#[test]
fn forking_udp_server() {
    run_forking_server("udp", order_in_a_packet);
}

/// test_ForkingUnixDatagramServer
#[test]
fn forking_unix_datagram_server() {
    run_forking_server("unix_datagram", order_in_a_packet);
}

/// test_shutdown: it ends a serve_forever that has just begun, or has not yet.
#[test]
fn shutdown() {
    let servers: Vec<_> =
        (0..20).map(|_| Script::<Tcp, Synchronous>::serve(handle)).inspect(|server| server.shutdown()).collect();
    for server in servers {
        assert_eq!(server.stop().leaked, 0);
    }
}

/// test_close_immediately
#[test]
fn close_immediately() {
    let _watchdog = Watchdog::new();
    let (server, _reports, _place) = Script::<Tcp, Threading>::bind(handle, Options::new());
    drop(server);
}

/// test_tcpserver_bind_leak: a bind that fails leaves no socket open.
#[test]
fn tcpserver_bind_leak() {
    const BINDS: usize = 1024;
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound");
    let before = Observed::this().descriptors();
    for _ in 0..BINDS {
        Script::<Tcp, Synchronous>::new(handle).0.bind(address).expect_err("the port is taken");
    }
    // The other tests of this process have some too.
    assert!(Observed::this().descriptors() < before + BINDS / 2);
}

/// test_context_manager: the end of its scope closes the server.
#[test]
fn context_manager() {
    let address = {
        let (server, _reports, _place) = Script::<Tcp, Synchronous>::bind(handle, Options::new());
        server.server_address().clone()
    };
    // A process that another test starts has a copy of the socket until it becomes its program.
    eventually("the port is closed", || Client::try_connect(&address).is_err());
}

// ErrorHandlerTest: the handler is called, then `handle_error`. Python lets exits through; in Rust an exit is none of
// the server's business, and a panic is handled as an error is.

fn error_handled<C: Concurrency + Default>(panics: bool) {
    let (called, calls) = mpsc::channel();
    let bad_handler = move |_: &mut Session<Tcp, C>| -> HandlerResult {
        called.send("Handler called")?;
        if panics { panic!("Test error") } else { Err("Test error".into()) }
    };
    let (server, reports, _place) = Script::bind(bad_handler, Options::new());
    let mut client = Client::connect(server.server_address());
    let _watchdog = Watchdog::new();
    assert_eq!(server.handle_request().expect("a client is there"), Handled::Request);
    assert_eq!(client.rest(), "");
    assert_eq!(calls.recv(), Ok("Handler called"));
    let report = reports.recv_timeout(PATIENCE).expect("Error handled");
    assert_eq!(report.is_panic, panics);
    assert!(report.message.ends_with("Test error"), "{report:?}");
    assert!(reports.try_recv().is_err(), "an error is handled once");
}

/// test_sync_handled
#[test]
fn sync_handled() {
    error_handled::<Synchronous>(false);
}

/// test_sync_not_handled
#[test]
fn sync_panic_handled() {
    error_handled::<Synchronous>(true);
}

/// test_threading_handled
#[test]
fn threading_handled() {
    error_handled::<Threading>(false);
}

/// test_threading_not_handled
#[test]
fn threading_panic_handled() {
    error_handled::<Threading>(true);
}

/// What a server prints that is ordered this in a child of its one `handle_request`, and handles so many errors.
fn handled_in_parent(order: &str, errors: usize) -> String {
    let server = obedient("tcp", &["requests=1", &format!("first={order}")]);
    assert_eq!(Client::connect(server.address()).rest(), "");
    let output = server.output();
    assert_eq!(output.matches("error in").count(), errors, "{output}");
    output
}

/// test_forking_handled
#[test]
fn forking_handled() {
    assert!(handled_in_parent("fail Test error", 1).contains("panic false: handle failed: Test error"));
}

/// test_forking_not_handled
#[test]
fn forking_exit_not_handled() {
    assert!(handled_in_parent("exit 0", 0).contains("finished: 1, failed: 0"));
}

/// A panic takes the place of the exits of Python that are errors.
#[test]
fn forking_panic_handled() {
    assert!(handled_in_parent("panic Test error", 1).contains("panic true: handle panicked: Test error"));
}

// SocketWriterTest

/// test_basics: `wfile` writes to the very socket of the request.
#[test]
fn writer_basics() {
    let (kept, streams) = mpsc::channel();
    let server = Script::<Tcp, Synchronous>::serve(move |session| {
        let wfile: &mut dyn Write = &mut session.wfile;
        wfile.write_all(b"over the same socket")?;
        Ok(kept.send((session.request.clone(), session.request.as_raw_fd()))?)
    });
    assert_eq!(Client::connect(server.server_address()).rest(), "over the same socket");
    let (request, descriptor) = streams.recv_timeout(PATIENCE).expect("it is handled");
    assert_eq!(request.as_raw_fd(), descriptor);
}

/// test_write: what is written arrives without a flush, and a large write whole although signals interrupt it.
#[test]
fn writer_write() {
    const SOCK_MAX_SIZE: usize = 16 * 1024 * 1024 + 1;
    for concurrency in ["sync", "forking"] {
        // The handler runs on the one thread of a process, which no signal can miss.
        let mut command = server("obedient");
        command.args(["tcp", concurrency]);
        let server = ServerProcess::start(command, Place::of("tcp"));
        let mut client = Client::connect(server.address());
        let pid = client.ask(&format!("bulk {SOCK_MAX_SIZE}"));
        let handler = Observed::of(pid.parse().expect("the number of a process"));
        client.bytes(100);
        // By now it waits for room, most of the time.
        for _ in 0..20 {
            handler.signal("USR1");
            client.bytes(1000);
        }
        assert!(client.bytes(SOCK_MAX_SIZE - 100 - 20 * 1000).iter().all(|&byte| byte == 0));
        assert_eq!(client.line(), "interrupted true");
        assert_eq!(client.ask("echo still there"), "still there");
    }
}

// MiscTestCase

/// test_all: every public name of the module has a home here, which a page of the guide tells.
#[test]
fn all_names_have_a_home() {
    let Some(mut python) = installed("python3") else { return };
    let script = "
import socketserver
names = set(socketserver.__all__)
for name in socketserver.__all__:
    names.update(member for member in vars(getattr(socketserver, name)) if not member.startswith('_'))
print(*sorted(names))";
    let names = Process::start(python.args(["-c", script])).output();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sockserver/docs/guide/python.md");
    let page = fs::read_to_string(page).expect("the page is there");
    let missing: Vec<_> = names
        .split_whitespace()
        .filter(|name| !page.contains(&format!("`{name}`")) && !page.contains(&format!("`{name}(")))
        .collect();
    assert!(names.contains("ThreadingMixIn") && names.contains("max_children"), "{names}");
    assert_eq!(missing, <[&str; 0]>::default());
}

/// test_shutdown_request_called_if_verify_request_false
#[test]
fn shutdown_request_called_if_verify_request_false() {
    use sockserver::{RequestHandler, Stream, request_handler};

    #[derive(Server)]
    #[server(transport = "tcp", concurrency = "sync", handler = Never, hooks(verify_request = Self::refuse))]
    struct Refusing;

    impl Refusing {
        fn refuse(&self, _: &Stream, _: &Address) -> bool {
            false
        }
    }

    #[request_handler]
    struct Never;

    impl RequestHandler for Never {
        fn handle(&mut self) -> HandlerResult {
            unreachable!("it was refused")
        }
    }

    let server = Refusing.bind("127.0.0.1:0").expect("a free port");
    let mut client = Client::connect(server.server_address());
    assert_eq!(server.handle_request().expect("a client is there"), Handled::Request);
    assert_eq!(client.rest(), "");
    assert_eq!(server.handle().stats().refused, 1);
}

/// test_threads_reaped: threads are not kept for as many requests as there have been.
#[test]
fn threads_reaped() {
    let server = upper("tcp", "threading");
    for _ in 0..100 {
        assert_eq!(Client::connect(server.address()).ask("hello"), "HELLO");
    }
    eventually("threads are not kept", || server.observed().thread_names().len() < 50);
}

// Python's clients and servers.

/// The example `upper` in that cell.
fn upper(transport: &str, concurrency: &str) -> ServerProcess {
    ServerProcess::start(example_with("upper", transport, concurrency), Place::of(transport))
}

/// A Python program of this package; `None` where there is no Python.
fn python(program: &str, arguments: &[&str]) -> Option<Command> {
    let mut python = installed("python3")?;
    python.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(program)).args(arguments);
    Some(python)
}

/// What Python's client hears from this server.
fn transcript(transport: &str, server: &ServerProcess) -> Option<String> {
    let mut client = python("client.py", &[transport, &server.address().to_string()])?;
    Some(Process::start(&mut client).output())
}

fn has_the_conversation_that_pythons_server_has(transport: &str) {
    let Some(expected) = python("server.py", &[transport, "threading"])
        .and_then(|command| transcript(transport, &ServerProcess::start(command, Place::of(transport))))
    else {
        return;
    };
    assert!(expected.contains("HELLO WORLD"), "{expected}");
    for concurrency in concurrencies::FOR_MESSAGES {
        let heard = transcript(transport, &upper(transport, concurrency)).expect("Python is there");
        assert!(heard == expected, "{transport} {concurrency}: {heard}\nPython: {expected}");
    }
}

#[test]
fn python_hears_the_same_over_tcp_as_from_its_own_server() {
    has_the_conversation_that_pythons_server_has("tcp");
}

#[test]
fn python_hears_the_same_over_udp_as_from_its_own_server() {
    has_the_conversation_that_pythons_server_has("udp");
}

#[test]
fn python_hears_the_same_over_unix_sockets_as_from_its_own_server() {
    has_the_conversation_that_pythons_server_has("unix");
}

#[test]
fn python_hears_the_same_in_unix_datagrams_as_from_its_own_server() {
    has_the_conversation_that_pythons_server_has("unix_datagram");
}

//! The feature `signals`: each server is a process of its own, which is sent real signals.

use std::{
    fs,
    io::{self, Read},
    net::SocketAddr,
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Command, ExitStatus},
    thread,
    time::Duration,
};

use socket2::{Domain, Socket, Type};
use sockserver::Address;
use sockserver_tests::{
    client::{Client, eventually},
    concurrencies::{self, Word},
    in_each_concurrency,
    place::{Directory, Place},
    process::{Process, ServerProcess, server, server_program},
    resources::Observed,
};

fn start<C: Word>() -> ServerProcess {
    start_after::<C>(0)
}

/// Starts a server in whose process so many others have ended.
fn start_after<C: Word>(earlier: usize) -> ServerProcess {
    let mut command = server("signalled");
    // A group of its own can be sent what a terminal sends to all processes of a program.
    command.arg(C::WORD).arg(earlier.to_string()).process_group(0);
    ServerProcess::start(command, Place::of("tcp"))
}

/// A client whose handler waits for the next request.
fn served(server: &ServerProcess) -> Client {
    let mut client = Client::connect(server.address());
    assert_eq!(client.ask("hello"), "HELLO");
    client
}

/// A client whose handler has received half of a request.
fn in_mid_request(server: &ServerProcess) -> Client {
    let mut client = served(server);
    client.send("ha");
    eventually("the server has read it", || unread(client.address().port()) == Some(0));
    client
}

/// How many bytes the other end of the connection from this port has received and not read, as /proc/net/tcp tells.
fn unread(port: Option<u16>) -> Option<usize> {
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let remote = format!(":{:04X}", port?);
    let fields = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let queues = fields.filter(|fields| fields[2].ends_with(&remote)).map(|fields| fields[4].to_owned()).next()?;
    usize::from_str_radix(queues.split_once(':')?.1, 16).ok()
}

fn kill_group(server: &ServerProcess, signal: &str) {
    let killed = Command::new("kill").args([&format!("-{signal}"), "--", &format!("-{}", server.id())]).status();
    assert!(killed.expect("every Unix has a kill").success());
}

fn is_listening(server: &ServerProcess) -> bool {
    Client::try_connect(server.address()).is_ok()
}

/// Ended with the status of a shell for a program that a signal has ended.
fn ended_by(status: ExitStatus, signal: i32) -> bool {
    status.code() == Some(128 + signal) && status.signal().is_none()
}

const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

fn the_first_signal_ends_an_idle_server_with_success<C: Word>() {
    for signal in ["INT", "TERM"] {
        let mut server = start::<C>();
        server.signal(signal);
        assert!(server.ended().success());
    }
}

fn a_client_between_requests_sees_the_end<C: Word>() {
    let mut server = start::<C>();
    let mut client = served(&server);
    server.signal("TERM");
    assert_eq!(client.rest(), "");
    assert!(server.ended().success());
}

/// After the signal, a client in the middle of a request is answered.
#[track_caller]
fn ends_gently(mut server: ServerProcess, send_signal: impl FnOnce(&ServerProcess)) {
    let mut client = in_mid_request(&server);
    send_signal(&server);
    eventually("the port is closed", || !is_listening(&server));
    client.send("lf\n");
    assert_eq!(client.rest(), "HALF\n");
    assert!(server.ended().success());
}

fn a_client_in_the_middle_of_a_request_is_answered<C: Word>() {
    ends_gently(start::<C>(), |server| server.signal("TERM"));
}

fn the_second_signal_ends_the_process_at_once<C: Word>() {
    for (name, number) in [("INT", SIGINT), ("TERM", SIGTERM)] {
        let mut server = start::<C>();
        let _client = in_mid_request(&server);
        server.signal(name);
        eventually("the port is closed", || !is_listening(&server));
        server.signal(name);
        let status = server.ended();
        assert!(ended_by(status, number), "{status}");
    }
}

fn a_server_that_has_ended_leaves_the_signals_to_the_next<C: Word>() {
    ends_gently(start_after::<C>(1), |server| server.signal("TERM"));
}

fn clients_without_end_do_not_keep_it_from_the_signal<C: Word>() {
    let mut server = start::<C>();
    let address = &server.address().clone();
    thread::scope(|scope| {
        // While one is turned away the next is there already.
        for number in 1..=3 {
            let come = move || come_unwelcome([127, 0, 1, number], address);
            come().expect("the server is there");
            scope.spawn(move || while come().is_ok() {});
        }
        server.signal("TERM");
        assert!(server.ended().success());
    });
}

/// From where the server, after a while, turns everybody away. It fails when the port is closed.
fn come_unwelcome(ip: [u8; 4], server: &Address) -> io::Result<()> {
    let Address::Inet(server) = *server else { panic!("an internet server") };
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((ip, 0)).into())?;
    socket.connect(&server.into())?;
    // A client of a port that is being closed may be connected to nobody, and never learn of it.
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let _ = (&socket).read(&mut [0]);
    Ok(())
}

in_each_concurrency! { [sync threading pool forking event_loop two_loops]:
    clients_without_end_do_not_keep_it_from_the_signal
    the_first_signal_ends_an_idle_server_with_success
    a_client_between_requests_sees_the_end
    a_client_in_the_middle_of_a_request_is_answered
    the_second_signal_ends_the_process_at_once
    a_server_that_has_ended_leaves_the_signals_to_the_next
}

/// One server of a process is in a handler that does not read, and another one, which is idle, ends first.
fn one_signal_stops_all_servers_of_the_process<C: Word>() {
    for idle in concurrencies::WORDS {
        for ends_between in [None, Some("server"), Some("connection")] {
            let mut program = Process::start(server("several").args([C::WORD, idle]));
            let [busy, idle] = [(); 2].map(|()| program.line_after("listening on "));
            let directory = Directory::new();
            let is_done = directory.path().join("is_done");
            let mut client = Client::connect(&Address::Inet(busy.parse().expect("an address")));
            assert_eq!(client.ask(is_done.to_str().expect("text")), "working");
            let end_another = |program: &mut Process| {
                if let Some(what) = ends_between {
                    program.enter(what);
                    assert_eq!(program.line(), format!("ended {what}"));
                }
            };
            end_another(&mut program);
            program.signal("TERM");
            assert_eq!(program.line(), format!("ended {idle}"));
            end_another(&mut program);
            fs::write(is_done, "").expect("a place for a file");
            // The handler reads again, from a client that goes on waiting.
            assert_eq!(client.rest(), "done\n");
            assert_eq!(program.line(), format!("ended {busy}"));
            assert!(program.ended().success());
        }
    }
}

in_each_concurrency! { [sync threading pool forking]: one_signal_stops_all_servers_of_the_process }

#[test]
fn when_the_last_server_has_ended_a_signal_ends_the_process() {
    for (name, number) in [("INT", SIGINT), ("TERM", SIGTERM)] {
        let mut program = Process::start(server("signalled").arg("2"));
        assert_eq!(program.line(), "ended");
        program.signal(name);
        let status = program.ended();
        assert!(ended_by(status, number), "{status}");
    }
}

#[test]
fn servers_that_have_ended_keep_no_descriptors() {
    let descriptors =
        |earlier| Observed::of(start_after::<sockserver::concurrency::Synchronous>(earlier).id()).descriptors();
    assert_eq!(descriptors(20), descriptors(1));
}

#[test]
fn an_interrupt_from_the_terminal_spares_the_children() {
    ends_gently(start::<sockserver::concurrency::Forking>(), |server| kill_group(server, "INT"));
}

#[test]
fn the_second_signal_ends_the_children_as_well() {
    for (name, number) in [("INT", SIGINT), ("TERM", SIGTERM)] {
        let mut server = start::<sockserver::concurrency::Forking>();
        let mut client = in_mid_request(&server);
        server.signal(name);
        eventually("the port is closed", || !is_listening(&server));
        server.signal(name);
        assert!(ended_by(server.ended(), number));
        client.wait_for_end();
    }
}

#[test]
fn a_busy_pool_sees_the_signal() {
    let mut server = start::<sockserver::concurrency::Pool>();
    let clients = [served(&server), served(&server)];
    server.signal("TERM");
    for mut client in clients {
        assert_eq!(client.rest(), "");
    }
    assert!(server.ended().success());
}

#[test]
fn one_thread_is_started_for_signals() {
    let server = start::<sockserver::concurrency::Synchronous>();
    let _client = served(&server);
    let threads = fs::read_dir(format!("/proc/{}/task", server.id())).expect("the server runs").count();
    assert_eq!(threads, 2);
}

#[test]
fn a_signal_that_was_ignored_at_the_start_stays_ignored() {
    let mut command = Command::new("env");
    command.arg("--ignore-signal=TERM").arg(server_program()).args(["signalled", "sync", "1"]);
    let server = ServerProcess::start(command, Place::of("tcp"));
    let mut client = Client::connect(server.address());
    assert_eq!(client.ask("hello"), "HELLO");
    server.signal("TERM");
    assert_eq!(client.ask("still there"), "STILL THERE");
    // The other one is not ignored. What it does, it does after what the first would have done.
    server.signal("INT");
    assert_eq!(client.rest(), "");
}

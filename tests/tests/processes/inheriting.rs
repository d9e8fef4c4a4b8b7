//! Sockets that a server is started with: by systemd, by inetd, and by a test.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::OwnedFd,
        unix::net::{UnixListener, UnixStream},
    },
    process::{Command, Stdio},
};

use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use sockserver::{
    Address, Options, Server,
    concurrency::{Synchronous, Threading},
    inherited,
    transport::{Tcp, Unix},
};
use sockserver_tests::{
    client::{Client, eventually},
    concurrencies::Word,
    in_each_concurrency,
    place::{Place, own_ip},
    process::{Process, installed, server, server_program},
    script::{Script, upper},
    served::Served,
};

/// Starts the server `lines` as systemd would, with these sockets from descriptor 3 on.
#[track_caller]
fn activate(names: &str, sockets: Vec<OwnedFd>, arguments: &[&str]) -> Process {
    let [first, rest @ ..] = &sockets[..] else { panic!("a socket") };
    // The number of the process is known in it alone. Its standard input is the first socket, its standard error the second.
    let second = if rest.is_empty() { "" } else { " 4<&2" };
    let script = format!("exec 3<&0{second} 0</dev/null; LISTEN_PID=$$ exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script]).arg(server_program()).arg("lines").args(arguments);
    command.env("LISTEN_FDS", sockets.len().to_string()).env("LISTEN_FDNAMES", names);
    assert!(rest.len() <= 1);
    match rest.first() {
        Some(second) => Process::start_with_stderr(&mut command, clone(first), clone(second)),
        None => Process::start_with(&mut command, clone(first)),
    }
}

fn clone(socket: &OwnedFd) -> OwnedFd {
    socket.try_clone().expect("a descriptor")
}

fn tcp() -> (OwnedFd, Address) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("it is bound").into();
    (listener.into(), address)
}

fn address_of(process: &Process) -> Address {
    let line = process.line_after("listening on ");
    line.parse::<SocketAddr>().map_or_else(|_| Address::unix(line), Address::Inet)
}

fn inherited_sockets_are_served_by_their_names<C: Word>() {
    let place = Place::unix();
    let unix = UnixListener::bind(place.path()).expect("a free path").into();
    let (tcp, address) = tcp();
    let process = activate("web:local", vec![tcp, unix], &[C::WORD, "inherited:local,inherited:web"]);
    assert_eq!([address_of(&process), address_of(&process)], [place.address().clone(), address.clone()]);
    for address in [place.address(), &address] {
        assert_eq!(Client::connect(address).ask("hello"), "HELLO");
    }
    Client::connect(&address).send("stop\n");
    let mut process = process;
    assert!(process.ended().success());
    // It belongs to whatever has bound it.
    assert!(place.path().exists());
}

in_each_concurrency! { [sync threading pool forking event_loop]: inherited_sockets_are_served_by_their_names }

#[test]
fn all_sockets_of_one_name_are_served() {
    let [(first, first_address), (second, second_address)] = [tcp(), tcp()];
    let process = activate("web.socket:web.socket", vec![first, second], &["threading", "inherited:web"]);
    assert_eq!([address_of(&process), address_of(&process)], [first_address.clone(), second_address.clone()]);
    for address in [first_address, second_address] {
        assert_eq!(Client::connect(&address).ask("hello"), "HELLO");
    }
}

#[test]
fn an_address_takes_the_place_of_a_socket_that_was_not_inherited() {
    let (socket, address) = tcp();
    let process = activate("web", vec![socket], &["sync", "inherited:admin|127.0.0.1:0,inherited:web|127.0.0.1:1"]);
    let admin = address_of(&process);
    assert_ne!(admin, address);
    assert_eq!(address_of(&process), address);
    assert_eq!(Client::connect(&admin).ask("hello"), "HELLO");
}

#[test]
fn sockets_that_are_for_another_process_are_left_alone() {
    let (socket, address) = tcp();
    let mut command = server("lines");
    command.args(["sync", "inherited:web|127.0.0.1:0"]).env("LISTEN_FDS", "1").env("LISTEN_PID", "1");
    let process = Process::start_with(command.env("LISTEN_FDNAMES", "web"), socket);
    assert_ne!(address_of(&process), address);
}

#[test]
fn descriptors_that_are_not_open_were_not_inherited() {
    let (socket, address) = tcp();
    let mut command = Command::new("sh");
    let script = "exec 3<&0 0</dev/null; LISTEN_PID=$$ exec \"$0\" \"$@\"";
    command.args(["-c", script]).arg(server_program()).args(["lines", "sync", "inherited:x"]);
    // Descriptor 3 and descriptor 202; those between may be open here.
    let names = format!("x:{}x", "y:".repeat(198));
    command.env("LISTEN_FDS", "200").env("LISTEN_FDNAMES", names);
    assert_eq!(address_of(&Process::start_with(&mut command, socket)), address);
}

#[track_caller]
fn refuses(socket: impl Into<OwnedFd>, names: &str, address: &str, reason: &str) {
    let mut process = activate(names, vec![socket.into()], &["sync", address]);
    let error = process.error_line();
    assert!(error.contains(reason), "{error}");
    assert!(!process.ended().success());
}

#[test]
fn what_cannot_be_served_is_named() {
    let packets = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    refuses(packets, "web", "inherited:web", "the inherited socket `web`: it is not a stream socket");
    let (socket, address) = tcp();
    let connection = TcpStream::connect(&address).expect("it listens");
    refuses(connection, "web", "inherited:web", "the inherited socket `web`: it is a connection");
    refuses(clone(&socket), "web", "inherited:wbe", "no inherited socket is named `wbe`; their names are `web`");
    refuses(socket, "web", "inherited:web,inherited:web|127.0.0.1:0", "the inherited socket `web` was taken before");
}

#[test]
fn without_any_inherited_socket_the_error_says_what_to_do() {
    let (script, _reports) = Script::<Tcp, Synchronous>::new(upper);
    let error = script.bind(inherited("web")).expect_err("a test inherits none");
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    let message = error.to_string();
    assert!(message.contains("`FileDescriptorName=web`") && message.contains("`inherited(\"web\").or("), "{message}");
}

#[test]
fn programs_that_the_server_starts_do_not_inherit_its_sockets() {
    let (socket, address) = tcp();
    let process = activate("web", vec![socket], &["threading", "inherited:web"]);
    address_of(&process);
    let mut client = Client::connect(&address);
    let sockets = client.ask("run ls -l /proc/self/fd");
    assert!(!sockets.contains("socket:"), "{sockets}");
}

fn a_successor_inherits_what_its_predecessor_has_inherited<C: Word>() {
    let place = Place::unix();
    let unix = UnixListener::bind(place.path()).expect("a free path").into();
    let (tcp, address) = tcp();
    let arguments = [C::WORD, "poll=20", "inherited:local,inherited:web"];
    let mut process = activate("web:local", vec![tcp, unix], &arguments);
    let addresses = [place.address().clone(), address.clone()];
    assert_eq!([address_of(&process), address_of(&process)], addresses);
    process.signal("USR2");
    assert_eq!([address_of(&process), address_of(&process)], addresses);
    let successor = process.line_after("handed over to ");
    assert!(process.ended().success());
    for address in [place.address(), &address] {
        assert_eq!(Client::connect(address).ask("pid"), successor);
    }
    Client::connect(&address).send("stop\n");
    // It belongs to whatever has bound it.
    eventually("the successor ends", || Client::try_connect(&address).is_err());
    assert!(place.path().exists());
}

in_each_concurrency! { [sync threading pool event_loop]: a_successor_inherits_what_its_predecessor_has_inherited }

/// Any port, of an address of the test's own.
const PORT: u16 = 7000;

/// The server `lines` with these arguments, started by systemd-socket-activate with those.
fn systemd_socket_activate(how: &[&str], arguments: &[&str]) -> Option<Process> {
    let mut command = installed("systemd-socket-activate")?;
    command.args(how).arg(server_program()).arg("lines").args(arguments);
    Some(Process::start(&mut command))
}

/// Connects once something listens.
#[track_caller]
fn connect(address: &Address) -> Client {
    let mut client = None;
    eventually("it listens", || {
        client = Client::try_connect(address).ok();
        client.is_some()
    });
    client.expect("it listens")
}

#[test]
fn systemd_activates_a_server_on_several_sockets() {
    let (address, place) = (SocketAddr::from((own_ip(), PORT)), Place::unix());
    let [tcp, unix] = [format!("--listen={address}"), format!("--listen={}", place.address())];
    let how = [&tcp, &unix, "--fdname=web:local"];
    let Some(process) = systemd_socket_activate(&how, &["threading", "inherited:local,inherited:web"]) else { return };
    // It starts the server when the first client connects.
    assert_eq!(connect(&address.into()).ask("hello"), "HELLO");
    assert_eq!([address_of(&process), address_of(&process)], [place.address().clone(), address.into()]);
    assert_eq!(connect(place.address()).ask("hello"), "HELLO");
    connect(&address.into()).send("stop\n");
    let mut process = process;
    assert!(process.ended().success());
}

#[test]
fn systemd_starts_a_server_for_each_connection() {
    let address = SocketAddr::from((own_ip(), PORT));
    let listen = format!("--listen={address}");
    let Some(_process) = systemd_socket_activate(&[&listen, "--accept", "--inetd"], &["sync", "inetd"]) else { return };
    for _ in 0..2 {
        let mut client = connect(&address.into());
        assert_eq!(client.ask("hello"), "HELLO");
        client.send("print what the program prints\n");
        assert_eq!(client.ask("again"), "AGAIN");
    }
}

fn inetd_passes_a_listening_socket<C: Word>() {
    let (socket, address) = tcp();
    let mut process = Process::start_with(server("lines").args([C::WORD, "inetd"]), socket);
    for _ in 0..2 {
        assert_eq!(Client::connect(&address).ask("hello"), "HELLO");
    }
    Client::connect(&address).send("stop\n");
    assert!(process.ended().success());
}

in_each_concurrency! { [sync threading pool forking event_loop]: inetd_passes_a_listening_socket }

#[test]
fn inetd_passes_a_connection_and_what_is_printed_does_not_reach_it() {
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    let theirs = OwnedFd::from(theirs);
    let mut command = server("lines");
    command.args(["sync", "inetd"]).stdin(clone(&theirs)).stdout(clone(&theirs)).stderr(theirs);
    let mut child = command.spawn().expect("the program");
    drop(command);
    let mut client = Client::new(ours);
    assert_eq!(client.ask("hello"), "HELLO");
    client.send("print this\n");
    client.send("fail this as well\n");
    assert_eq!(client.rest(), "");
    // The handler's error is what it returns.
    assert!(!child.wait().expect("a child").success());
}

#[test]
fn a_standard_input_that_is_no_socket_is_refused() {
    let mut process = Process::start_with(server("lines").args(["sync", "inetd"]), Stdio::null());
    let error = process.error_line();
    assert!(error.contains("not a socket"), "{error}");
    assert!(!process.ended().success());
}

// Sockets that another owner has too.

#[test]
fn a_socket_that_listens_keeps_the_length_of_its_queue() {
    let place = Place::unix();
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
    let name = SockAddr::unix(place.path()).expect("a path");
    socket.bind(&name).expect("a free path");
    socket.listen(1).expect("it is bound");
    let (script, _reports) = Script::<Unix, Synchronous>::new(upper);
    let _server = script.with_listener(socket, Options::new()).expect("a Unix socket");
    let client = || {
        let client = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
        client.set_nonblocking(true).expect("an open socket");
        client.connect(&name).map(|()| client)
    };
    let waiting: Vec<_> = (0..10).map_while(|_| client().ok()).collect();
    assert!(waiting.len() < 10, "the queue is longer");
}

#[test]
fn a_socket_that_its_other_owner_makes_blocking_does_not_hold_up_the_end() {
    fn ends<S: Into<OwnedFd>>(socket: S, other_owner: &SockRef<'_>, script: impl FnOnce(OwnedFd) -> Served) {
        let server = script(socket.into());
        for _ in 0..3 {
            other_owner.set_nonblocking(false).expect("an open socket");
            assert_eq!(Client::connect(server.server_address()).ask("hello"), "HELLO");
        }
        other_owner.set_nonblocking(false).expect("an open socket");
        assert_eq!(server.stop().leaked, 0);
    }

    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let other = socket.try_clone().expect("a descriptor");
    ends(socket, &SockRef::from(&other), |socket| {
        let (script, _reports) = Script::<Tcp, Threading>::new(upper);
        Served::new(script.with_listener(socket, Options::new()).expect("a TCP socket"))
    });
    let place = Place::unix();
    let socket = UnixListener::bind(place.path()).expect("a free path");
    let other = socket.try_clone().expect("a descriptor");
    ends(socket, &SockRef::from(&other), |socket| {
        let (script, _reports) = Script::<Unix, Synchronous>::new(upper);
        Served::new(script.with_listener(socket, Options::new()).expect("a Unix socket"))
    });
}

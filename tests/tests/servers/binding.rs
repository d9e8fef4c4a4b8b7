//! Binding: addresses, adopted sockets, and the options that are in force from then on.

use std::{
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::{UnixDatagram as StdUnixDatagram, UnixListener},
    },
    sync::mpsc,
    time::Duration,
};

use socket2::{Domain, SockRef, Socket, Type};
use sockserver::{
    Address, BindTo, Concurrency, HandlerResult, Job, Options, Server, Service, SocketServer,
    concurrency::{Pool, Synchronous},
    transport::{Tcp, Udp, Unix, UnixDatagram},
};
use sockserver_tests::{
    client::{Client, DatagramClient, PATIENCE},
    place::{Directory, Local, Place},
    script::{Script, Session},
    served::Served,
};

fn echo<T: Local, C: Concurrency + Default>(session: &mut Session<T, C>) -> HandlerResult {
    while let Some(line) = session.rfile.next_line()? {
        writeln!(session.wfile, "{line}")?;
    }
    Ok(())
}

// Sockets from elsewhere.

/// Adopts the socket, and finds that it is served.
#[track_caller]
fn assert_adopts<T: Local>(socket: impl Into<OwnedFd>, connect: impl FnOnce(&Address) -> String) {
    let (script, _reports) = Script::<T, Synchronous>::new(echo);
    let server = Served::new(script.with_listener(socket, Options::new()).expect("a socket of this transport"));
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
        let error =
            Script::<T, Synchronous>::new(echo).0.with_listener(socket, Options::new()).expect_err("the wrong kind");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let message = error.to_string();
        assert!(message.starts_with("cannot serve on the socket: ") && message.contains(reason), "{message}");
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
fn bound<T: Local>(address: impl BindTo<T>) -> SocketServer<Script<T, Synchronous>> {
    let (script, _reports) = Script::<T, Synchronous>::new(echo);
    script.bind(address).expect("a free place")
}

#[track_caller]
fn error_of_bind<T: Local>(address: impl BindTo<T>) -> io::Error {
    let (script, _reports) = Script::<T, Synchronous>::new(echo);
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
    serves::<Tcp>(&["127.0.0.1:0"], ask_stream);
    serves::<Udp>(&vec![SocketAddr::from(v4)], ask_datagram);
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
    for (only_v6, accepted) in [(false, 2), (true, 1)] {
        let mut options = Options::new();
        options.socket.only_v6 = only_v6;
        let (script, _reports) = Script::<Tcp, Synchronous>::new(echo);
        let server = Served::new(script.bind_with("[::]:0", options).expect("a free port"));
        let port = server.server_address().port().expect("a port");
        // With IPv4 the port may be somebody else's.
        drop(Client::try_connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()));
        let ipv6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        assert_eq!(Client::connect(&ipv6.into()).ask("hello"), "hello");
        assert_eq!(server.stats().accepted, accepted, "only_v6 = {only_v6}");
    }
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
    assert_eq!(*server.server_address(), Address::Unix(sockserver::UnixAddress::Abstract(name.clone().into_bytes())));
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
    let longest = if cfg!(any(target_os = "linux", target_os = "android")) { 107 } else { 103 };
    let limit = format!("can have {longest} bytes at most, and this one has {}", longest + 1);
    advises::<Unix>(&*format!("/{}", "x".repeat(longest)), &limit);
    advises::<UnixDatagram>(&*format!("\0{}", "x".repeat(longest + 1)), &limit);
}

#[test]
fn a_host_name_that_does_not_exist_is_named() {
    let error = error_of_bind::<Tcp>("no..host:80");
    assert!(error.to_string().starts_with("cannot bind to no..host:80: "), "{error}");
}

#[test]
fn options_that_the_attribute_refuses_are_refused_at_run_time() {
    #[track_caller]
    fn refuses(name: &str, change: impl Fn(&mut Options)) {
        let mut options = Options::new();
        change(&mut options);
        let (script, _reports) = Script::<Tcp, Pool>::new(echo);
        let error = script.bind_with("127.0.0.1:0", options).expect_err("it makes no sense");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let refusal = if name == "socket.mode" { "can be at most `0o777`" } else { "cannot be zero: " };
        assert!(error.to_string().starts_with(&format!("the option `{name}` {refusal}")), "{error}");
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
    // The permissions 660, but in decimal.
    refuses("socket.mode", |options| options.socket.mode = Some(660));
}

#[test]
fn a_path_with_a_zero_byte_is_refused() {
    let mut options = Options::new();
    options.socket.unlink = false;
    let (script, _reports) = Script::<Unix, Synchronous>::new(echo);
    let error = script.bind_with("/tmp/sockserver\0tail", options).expect_err("it would be cut off there");
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn a_keepalive_that_the_system_would_refuse_is_named() {
    let mut options = Options::new();
    options.socket.keepalive = Some(Duration::from_secs(36_000));
    let (script, _reports) = Script::<Tcp, Pool>::new(echo);
    let error = script.bind_with("127.0.0.1:0", options).expect_err("the system takes no more than 32767 s");
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert!(error.to_string().starts_with("the option `socket.keepalive` can be at most `\"32767s\"`"), "{error}");
}

#[test]
fn options_of_the_socket_are_in_force() {
    assert_eq!(connection_with(Options::new()), (true, false, None));
    let mut options = Options::new();
    options.socket.nodelay = false;
    options.socket.keepalive = Some(Duration::from_secs(60));
    assert_eq!(connection_with(options), (false, true, Some(Duration::from_secs(60))));
}

/// Whether a connection has nodelay and keepalive, and the time of that.
fn connection_with(options: Options) -> (bool, bool, Option<Duration>) {
    let (seen, connections) = mpsc::channel();
    let (server, _reports, _place) = Script::<Tcp, Synchronous>::bind(
        move |session| {
            let socket = SockRef::from(&session.request);
            let time = socket.keepalive()?.then(|| socket.tcp_keepalive_time()).transpose()?;
            Ok(seen.send((socket.tcp_nodelay()?, socket.keepalive()?, time))?)
        },
        options,
    );
    let listening = SockRef::from(&server);
    assert!(listening.reuse_address().expect("an open socket"));
    let server = Served::new(server);
    assert_eq!(Client::connect(server.server_address()).rest(), "");
    connections.recv_timeout(PATIENCE).expect("it is handled")
}

#[test]
fn servers_that_both_allow_it_share_a_port() {
    let mut shared = Options::new();
    shared.socket.allow_reuse_port = true;
    let bind = |address: &Address, options| Script::<Tcp, Synchronous>::new(echo).0.bind_with(address, options);
    let first = bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into(), shared.clone()).expect("a free port");
    drop(bind(first.server_address(), shared).expect("both allow it"));
    let error = bind(first.server_address(), Options::new()).expect_err("this one does not");
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn a_bound_server_knows_its_address_and_its_descriptor() {
    let server = bound::<Tcp>("127.0.0.1:0");
    let local_address = SockRef::from(&server).local_addr().expect("it is bound").as_socket();
    assert_eq!(*server.server_address(), local_address.expect("an internet address"));
    assert_eq!(server.handle().server_address(), server.server_address());
    assert!(server.as_raw_fd() >= 0);
}

#[test]
fn clients_that_connect_before_the_server_serves_are_served() {
    let (server, _reports, _place) = Script::<Tcp, Synchronous>::bind(echo, Options::new());
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

#[test]
fn options_that_mean_nothing_in_the_composition_are_refused() {
    let refusal = |options: Options| {
        let (script, _reports) = Script::<Tcp, Synchronous>::new(echo);
        script.bind_with("127.0.0.1:0", options).expect_err("it means nothing").to_string()
    };
    let mut workers = Options::new();
    workers.workers = Some(4);
    let words = refusal(workers);
    assert!(
        words.starts_with(
            "the option `workers` means nothing with concurrency = \"sync\", only with \"pool\", \"event_loop\": "
        ),
        "{words}"
    );
    let mut packets = Options::new();
    packets.socket.max_packet_size = 512;
    let words = refusal(packets);
    let expected = "the option `socket.max_packet_size` means nothing with transport = \"tcp\", only with \"udp\", \"unix_datagram\": ";
    assert!(words.starts_with(expected), "{words}");
    // A type of the user's own fits all.
    let (script, _reports) = Script::<Tcp, Synchronous>::new(echo);
    let mut workers = Options::new();
    workers.workers = Some(4);
    drop(script.bind_as("127.0.0.1:0", workers, InPlace).expect("it may have workers"));
}

struct InPlace;

impl Concurrency for InPlace {
    fn process_request<S: Service>(&self, job: Job<S>) {
        job.process();
    }
}

//! Servers on several sockets.

use std::{
    fs,
    io::{self, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    os::{fd::OwnedFd, unix::net::UnixListener},
    path::PathBuf,
    sync::mpsc,
    thread,
    time::Duration,
};

use sockserver::{
    Address, BindTo, HandlerResult, Options, PeerCred, RequestHandler, Server, SocketServer, Writer,
    concurrency::{Forking, Synchronous, Threading},
    request_handler,
    transport::{AnyStream, Tcp, Udp, Unix, UnixDatagram},
};
use sockserver_tests::{
    client::{Client, DatagramClient, PATIENCE, eventually, soon},
    concurrencies::Word,
    in_each_concurrency,
    place::{Directory, Local, Place, own_ip},
    process::{Process, server},
    resources::Observed,
    script::Script,
    served::Served,
};

type Bound<T> = SocketServer<Script<T, Synchronous>>;

fn try_bind<T: Local>(address: impl BindTo<T>) -> io::Result<Bound<T>> {
    Script::<T, Synchronous>::upper().0.bind(address)
}

#[track_caller]
fn bind<T: Local>(address: impl BindTo<T>) -> Bound<T> {
    try_bind(address).expect("free places")
}

#[track_caller]
fn ports<T: Local>(server: &Bound<T>) -> Vec<u16> {
    server.server_addresses().iter().map(|address| address.port().expect("a port")).collect()
}

fn has_ipv6() -> bool {
    let has = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    if !has {
        println!("skipped: no IPv6 here");
    }
    has
}

/// A port that is free for both families, and stays so: the kernel picks none of these.
fn free_port() -> u16 {
    let is_free = |port: &u16| TcpListener::bind((Ipv6Addr::UNSPECIFIED, *port)).is_ok();
    (20_000..30_000).find(is_free).expect("a free port")
}

/// The server `lines` on two ports.
struct TwoPorts {
    process: Process,
    addresses: [Address; 2],
}

impl TwoPorts {
    fn start<C: Word>(options: &[&str]) -> TwoPorts {
        let mut command = server("lines");
        let process = Process::start(command.arg(C::WORD).args(options).arg("127.0.0.1:0,127.0.0.2:0"));
        let address = || {
            let address: SocketAddr = process.line_after("listening on ").parse().expect("an address");
            Address::from(address)
        };
        TwoPorts { addresses: [address(), address()], process }
    }
}

fn each_socket_is_served<C: Word>() {
    let mut server = TwoPorts::start::<C>(&[]);
    for _ in 0..3 {
        for address in &server.addresses {
            assert_eq!(Client::connect(address).ask("hello"), "HELLO");
        }
    }
    Client::connect(&server.addresses[1]).send("stop\n");
    assert!(server.process.ended().success());
}

fn clients_that_wait_at_any_socket_are_served_when_there_is_room<C: Word>() {
    let server = TwoPorts::start::<C>(&["connections=1", "workers=1"]);
    let mut first = Client::connect(&server.addresses[0]);
    assert_eq!(first.ask("hello"), "HELLO");
    let mut waiting: Vec<_> = server.addresses.iter().map(Client::connect).collect();
    waiting.iter_mut().for_each(|client| client.send("hello\n"));
    drop(first);
    for client in &mut waiting {
        assert_eq!(client.line(), "HELLO");
        client.finish();
        client.wait_for_end();
    }
}

in_each_concurrency! { [sync threading pool forking event_loop]:
each_socket_is_served clients_that_wait_at_any_socket_are_served_when_there_is_room }

#[test]
fn a_child_has_none_of_the_sockets() {
    let server = TwoPorts::start::<Forking>(&[]);
    let mut client = Client::connect(&server.addresses[1]);
    let child = Observed::of(client.ask("pid").parse().expect("the number of a process"));
    // Its client's.
    assert_eq!(child.sockets(), 1);
}

#[test]
fn the_sockets_take_turns() {
    let (served, order) = mpsc::channel();
    let (script, _reports) =
        Script::<Tcp, Synchronous>::new(move |session| Ok(served.send(session.request.local_addr()?)?));
    let server = Served::new(script.bind(["127.0.0.1:0", "127.0.0.2:0"]).expect("free places"));
    let [crowded, other] = server.server_addresses() else { panic!("two sockets") };
    server.suspend();
    // It may have to accept one to notice.
    let first = Client::connect(crowded);
    let crowd: Vec<_> = (0..20).map(|_| Client::connect(crowded)).collect();
    let one = Client::connect(other);
    server.resume();
    let order: Vec<_> = (0..22).map(|_| order.recv_timeout(PATIENCE).expect("each is served")).collect();
    let turn = order.iter().position(|address| address == other);
    assert!(turn.is_some_and(|turn| turn <= 2), "{turn:?}");
    drop((first, crowd, one));
}

#[test]
fn an_idle_server_on_several_sockets_sleeps() {
    let server = Served::new(bind::<Tcp>(["127.0.0.1:0", "127.0.0.2:0", "127.0.0.3:0"]));
    assert_eq!(Client::connect(&server.server_addresses()[2]).ask("hello"), "HELLO");
    eventually("it has ended", || server.stats().active == 0);
    eventually("it sleeps", || {
        let before = Observed::this().processor_time();
        thread::sleep(Duration::from_millis(100));
        Observed::this().processor_time() - before < Duration::from_millis(20)
    });
}

#[test]
fn a_shutdown_closes_every_socket() {
    let server = Served::new(bind::<Tcp>(["127.0.0.1:0", "127.0.0.2:0"]));
    let addresses = server.server_addresses().to_vec();
    server.stop();
    for address in addresses {
        let Address::Inet(address) = address else { panic!("an internet address") };
        drop(soon("it is free", || TcpListener::bind(address)));
    }
}

#[test]
fn all_sockets_are_bound_or_none() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = listener.local_addr().expect("it is bound");
    let free = SocketAddr::from((own_ip(), 7000));
    let error = try_bind::<Tcp>([free, taken]).expect_err("one is taken");
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert!(error.to_string().starts_with(&format!("cannot bind to {taken}: ")), "{error}");
    drop(soon("it was closed again", || TcpListener::bind(free)));

    let directory = Directory::new();
    let [file, no_directory] = ["socket", "missing/socket"].map(|name| directory.path().join(name));
    try_bind::<Unix>([&file, &no_directory]).expect_err("there is no such directory");
    assert!(!file.exists());
}

#[test]
fn an_empty_list_is_refused() {
    let error = try_bind::<Tcp>([""; 0]).expect_err("it has no address");
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn lists_are_arrays_vectors_slices_and_tuples() {
    fn binds(count: usize, addresses: impl BindTo<Tcp>) {
        assert_eq!(bind(addresses).server_addresses().len(), count);
    }
    let texts = ["127.0.0.1:0", "127.0.0.2:0"].map(str::to_owned);
    binds(2, texts.clone());
    binds(2, texts.to_vec());
    binds(2, &texts[..]);
    binds(2, ("127.0.0.1:0", (Ipv4Addr::LOCALHOST, 0)));
    binds(4, (("127.0.0.1", 0), SocketAddr::from(([127, 0, 0, 1], 0)), texts));
}

#[test]
fn a_name_stands_for_all_its_addresses_at_one_port() {
    if !has_ipv6() {
        return;
    }
    fn asked<T: Local>(address: impl BindTo<T>, ask: fn(&Address) -> String) {
        let server = bind(address);
        let ips: Vec<_> = server.server_addresses().iter().filter_map(Address::ip).collect();
        assert!(ips.contains(&Ipv4Addr::LOCALHOST.into()) && ips.contains(&Ipv6Addr::LOCALHOST.into()), "{ips:?}");
        assert_eq!(ports(&server)[0], ports(&server)[1]);
        let server = Served::new(server);
        for address in server.server_addresses() {
            assert_eq!(ask(address), "HELLO");
        }
    }
    asked::<Tcp>("localhost:0", |address| Client::connect(address).ask("hello"));
    asked::<Tcp>(("localhost", 0), |address| Client::connect(address).ask("hello"));
    asked::<Udp>("localhost:0", |address| DatagramClient::connect(address).ask("hello"));
}

#[test]
fn a_name_is_bound_as_a_whole_or_not_at_all() {
    if !has_ipv6() {
        return;
    }
    let taken = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).expect("a free port");
    let port = taken.local_addr().expect("it is bound").port();
    let error = try_bind::<Tcp>(("localhost", port)).expect_err("half of it is taken");
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert!(error.to_string().starts_with(&format!("cannot bind to localhost:{port}: ")), "{error}");
    drop(soon("it was closed again", || TcpListener::bind((Ipv4Addr::LOCALHOST, port))));
}

#[test]
fn both_wildcards_share_a_port_in_either_order() {
    if !has_ipv6() {
        return;
    }
    let port = free_port();
    let [v4, v6] = [format!("0.0.0.0:{port}"), format!("[::]:{port}")];
    fn bind_soon<'a, T: Local>(list: [&'a String; 2], options: &Options) -> Bound<T>
    where
        &'a String: BindTo<T>,
    {
        soon("the port is free", || Script::<T, Synchronous>::upper().0.bind_with(list, options.clone()))
    }
    let both = Options::new();
    // The second socket takes IPv6 only, or the first one takes both.
    for (list, sockets) in [([&v4, &v6], 2), ([&v6, &v4], 1), ([&v4, &v4], 1), ([&v6, &v6], 1)] {
        let server = Served::new(bind_soon::<Tcp>(list, &both));
        assert_eq!(server.server_addresses().len(), sockets, "{list:?}");
        assert_eq!(Client::connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()).ask("hello"), "HELLO");
        if list.contains(&&v6) {
            assert_eq!(Client::connect(&SocketAddr::from((Ipv6Addr::LOCALHOST, port)).into()).ask("hello"), "HELLO");
        }
    }
    let server = Served::new(bind_soon::<Udp>([&v4, &v6], &both));
    for address in [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))] {
        assert_eq!(DatagramClient::connect(&address.into()).ask("hello"), "HELLO");
    }
    drop(server);
    let mut only_v6 = Options::new();
    only_v6.socket.only_v6 = true;
    let server = bind_soon::<Tcp>([&v6, &v4], &only_v6);
    assert_eq!(server.server_addresses().len(), 2);
}

#[test]
fn the_files_of_all_sockets_are_removed_at_the_end() {
    fn removes<T: Local>(ask: fn(&Address) -> String)
    where
        PathBuf: BindTo<T>,
    {
        let directory = Directory::new();
        let files = ["first", "second"].map(|name| directory.path().join(name));
        let server = Served::new(bind::<T>(files.clone()));
        for address in server.server_addresses() {
            assert_eq!(ask(address), "HELLO");
        }
        server.stop();
        assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 0);
    }
    removes::<Unix>(|address| Client::connect(address).ask("hello"));
    removes::<UnixDatagram>(|address| DatagramClient::connect(address).ask("hello"));
}

#[test]
fn a_thread_that_serves_is_enough_for_several_sockets() {
    let (script, _reports) = Script::<Tcp, Threading>::upper();
    let server = Served::new(script.bind(["127.0.0.1:0", "127.0.0.2:0"]).expect("free places"));
    let mut clients: Vec<_> = server.server_addresses().iter().cycle().take(20).map(Client::connect).collect();
    for client in &mut clients {
        assert_eq!(client.ask("hello"), "HELLO");
    }
}

// TCP and Unix sockets side by side.

fn a_server_has_tcp_and_unix_sockets_at_once<C: Word>() {
    let place = Place::unix();
    let addresses = format!("127.0.0.1:0,unix:{}", place.address());
    let process = Process::start(server("lines").args([C::WORD, &addresses]));
    let tcp: SocketAddr = process.line_after("listening on ").parse().expect("an address");
    assert_eq!(process.line_after("listening on "), place.address().to_string());
    for _ in 0..3 {
        assert_eq!(Client::connect(&tcp.into()).ask("hello"), "HELLO");
        assert_eq!(Client::connect(place.address()).ask("hello"), "HELLO");
    }
    Client::connect(place.address()).send("stop\n");
    let mut process = process;
    assert!(process.ended().success());
    assert!(!place.path().exists());
}

in_each_concurrency! { [sync threading pool forking event_loop]: a_server_has_tcp_and_unix_sockets_at_once }

#[test]
fn a_stream_server_is_bound_to_all_that_names_a_host_or_a_path() {
    fn serves(address: impl BindTo<AnyStream>) {
        let server = Served::new(bind::<AnyStream>(address));
        assert_eq!(Client::connect(server.server_address()).ask("hello"), "HELLO");
    }
    let place = Place::unix();
    let text = format!("unix:{}", place.address());
    serves(&text[..]);
    serves(text);
    serves(place.path());
    serves(place.path().to_owned());
    serves(place.address());
    serves("127.0.0.1:0");
    serves(("localhost", 0));
    serves(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    serves(Address::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))));
    serves((place.path(), "127.0.0.1:0"));
    if cfg!(target_os = "linux") {
        let name = format!("sockserver-tests-stream-{}", std::process::id());
        let server = bind::<AnyStream>(format!("unix:@{name}"));
        assert_eq!(server.server_address().to_string(), format!("@{name}"));
    }
}

#[test]
fn a_path_without_its_prefix_is_refused_with_advice() {
    let error = try_bind::<AnyStream>("/run/app.sock").expect_err("a host has no slash");
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert!(error.to_string().ends_with("is written `unix:/run/app.sock`"), "{error}");
}

#[test]
fn a_stream_server_adopts_sockets_of_either_kind() {
    let place = Place::unix();
    let unix = UnixListener::bind(place.path()).expect("a free path");
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    for socket in [OwnedFd::from(unix), OwnedFd::from(tcp)] {
        let (script, _reports) = Script::<AnyStream, Synchronous>::upper();
        let server = Served::new(script.with_listener(socket, Options::new()).expect("a stream socket"));
        assert_eq!(Client::connect(server.server_address()).ask("hello"), "HELLO");
    }
    let packets = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let (script, _reports) = Script::<AnyStream, Synchronous>::upper();
    let error = script.with_listener(packets, Options::new()).expect_err("it has no connections");
    assert!(error.to_string().contains("not a stream socket"), "{error}");
}

#[test]
fn a_client_of_a_stream_server_has_an_internet_address_or_credentials() {
    #[request_handler]
    #[server(transport = "stream", concurrency = "threading")]
    struct Who {
        address: Option<SocketAddr>,
        credentials: Option<PeerCred>,
        wfile: Writer,
    }

    impl RequestHandler for Who {
        fn handle(&mut self) -> HandlerResult {
            let uid = self.credentials.map(|credentials| credentials.uid);
            Ok(writeln!(self.wfile, "{:?} {}", self.address.map(|address| address.ip()), uid.is_some())?)
        }
    }

    let place = Place::unix();
    let server = Served::new(WhoServer.bind(("127.0.0.1:0", place.path())).expect("free places"));
    assert_eq!(Client::connect(&server.server_addresses()[0]).rest(), "Some(127.0.0.1) false\n");
    assert_eq!(Client::connect(&server.server_addresses()[1]).rest(), "None true\n");
}

// Zones.

/// A link-local address of this machine, and the name of its interface.
fn link_local() -> Option<(Ipv6Addr, String)> {
    let table = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let found = table.lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let ip = Ipv6Addr::from_bits(u128::from_str_radix(fields.first()?, 16).ok()?);
        ip.is_unicast_link_local().then(|| Some((ip, (*fields.last()?).to_owned())))?
    });
    if found.is_none() {
        println!("skipped: no link-local address here");
    }
    found
}

#[test]
fn a_link_local_address_is_bound_by_the_name_of_its_interface() {
    let Some((ip, interface)) = link_local() else { return };
    let serves = |address: Bound<Tcp>| {
        let server = Served::new(address);
        let Address::Inet(SocketAddr::V6(address)) = server.server_address() else { panic!("IPv6") };
        assert_ne!(address.scope_id(), 0);
        assert_eq!(Client::connect(server.server_address()).ask("hello"), "HELLO");
    };
    serves(bind(format!("[{ip}%{interface}]:0")));
    serves(bind((format!("{ip}%{interface}"), 0)));
}

#[test]
fn an_interface_that_is_not_there_is_named() {
    for error in [try_bind::<Tcp>("[fe80::1%nowhere0]:0"), try_bind::<Tcp>(("fe80::1%nowhere0", 0))] {
        let error = error.expect_err("there is no such interface");
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
        assert!(error.to_string().contains("there is no network interface `nowhere0`"), "{error}");
    }
}

#[test]
fn the_address_that_a_packet_came_to_can_be_bound() {
    let Some((ip, interface)) = link_local() else { return };
    let (seen, addresses) = mpsc::channel();
    let (script, _reports) =
        Script::<Udp, Synchronous>::new(move |session| Ok(seen.send(session.request.local_addr()?)?));
    let server = Served::new(script.bind("[::]:0").expect("a free port"));
    let port = server.server_address().port().expect("a port");
    let client = UdpSocket::bind("[::]:0").expect("a free port");
    client
        .send_to(b"hello", format!("[{ip}%{}]:{port}", number_of(&interface)))
        .expect("it is an address of this machine");
    let address = addresses.recv_timeout(PATIENCE).expect("it is handled");
    drop(server);
    assert_eq!(address.ip(), Some(ip.into()));
    let Address::Inet(address) = address else { panic!("an internet address") };
    drop(UdpSocket::bind(address).expect("it has its interface"));
}

fn number_of(interface: &str) -> String {
    let number = fs::read_to_string(format!("/sys/class/net/{interface}/ifindex")).expect("an interface");
    number.trim().to_owned()
}

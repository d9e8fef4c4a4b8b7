//! How much is served at once, how long a connection may last, and what is known of each.

use std::{
    fs,
    io::{self, BufRead, ErrorKind, Write},
    marker::PhantomData,
    mem::MaybeUninit,
    net::{IpAddr, SocketAddr},
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};
use sockserver::{
    Access, Address, Closing, Concurrency, HandlerResult, Limits, OnLimit, Options, Rate, RequestHandler, Server,
    ServerHandle, Stream,
    concurrency::{Pool, Synchronous, Threading},
    request_handler,
    transport::{StreamTransport, Tcp, Udp, Unix},
};
use sockserver_tests::{
    client::{Client, PATIENCE, eventually},
    concurrencies::Word,
    in_each_concurrency,
    line_server::{LineServer, stat},
    place::Local,
    process::{Process, installed},
    script::{Script, Scripted, Session, upper},
    served::Served,
};

/// Serves what answers in upper case, with these options.
fn serve<C: Concurrency + Default>(set: impl FnOnce(&mut Options)) -> Scripted {
    Script::<Tcp, C>::serve_upper(options(set))
}

fn options(set: impl FnOnce(&mut Options)) -> Options {
    let mut options = Options::new();
    set(&mut options);
    options
}

/// A client that comes from another address of this machine.
fn client_from(ip: &str, server: &Address) -> Client {
    let local = SocketAddr::new(ip.parse().expect("an address"), 0);
    let server_ip = if local.is_ipv6() { "::1" } else { "127.0.0.1" };
    let server = SocketAddr::new(server_ip.parse().expect("an address"), server.port().expect("an internet server"));
    let socket = Socket::new(Domain::for_address(local), Type::STREAM, None).expect("a socket");
    socket.bind(&local.into()).expect("a free port");
    socket.connect(&server.into()).expect("the server listens");
    Client::new(socket)
}

#[track_caller]
fn assert_served(mut client: Client) -> Client {
    assert_eq!(client.ask("hello"), "HELLO");
    client
}

#[track_caller]
fn assert_rejected(mut client: Client) {
    assert_eq!(client.rest(), "");
}

/// Ends a connection, as far as its client can see.
fn end(mut client: Client) {
    client.finish();
    client.wait_for_end();
}

fn above_the_limit_clients_wait<C: Concurrency + Default>() {
    let server = serve::<C>(|options| options.limits.connections = Some(3));
    let connect = || Client::connect(server.server_address());
    let mut served: Vec<_> = (0..3).map(|_| assert_served(connect())).collect();
    let mut waiting: Vec<_> = (0..3).map(|_| connect()).collect();
    waiting.iter_mut().for_each(|client| client.send("at last\n"));
    for _ in 0..20 {
        served.iter_mut().for_each(|client| assert_eq!(client.ask("meanwhile"), "MEANWHILE"));
    }
    assert_eq!(server.stats().accepted, 3);
    for mut waiting in waiting {
        drop(served.pop());
        assert_eq!(waiting.line(), "AT LAST");
        served.insert(0, waiting);
    }
    drop(served);
    eventually("all have ended", || server.stats().finished == 6);
    assert_eq!(server.stats().rejected, 0);
}

fn above_the_limit_clients_are_rejected<C: Concurrency + Default>() {
    let server = serve::<C>(|options| {
        options.limits.connections = Some(3);
        options.limits.on_limit = OnLimit::Reject;
    });
    let connect = || Client::connect(server.server_address());
    let mut served: Vec<_> = (0..3).map(|_| assert_served(connect())).collect();
    for rejected in 1..=20 {
        assert_rejected(connect());
        assert_eq!(server.stats().rejected, rejected);
    }
    end(served.pop().expect("there are three"));
    served.push(assert_served(connect()));
    assert_rejected(connect());
}

fn whoever_has_seen_the_end_of_a_connection_can_have_the_next_one<C: Concurrency + Default>() {
    let limits = [Limits::new().connections(1).on_limit(OnLimit::Reject), Limits::new().connections(2).per_client(1)];
    for limits in limits {
        let server = serve::<C>(|options| options.limits = limits);
        for _ in 0..200 {
            end(assert_served(Client::connect(server.server_address())));
        }
    }
}

#[test]
fn a_pool_whose_workers_are_all_busy_rejects() {
    for connections in [None, Some(10)] {
        let server = serve::<Pool>(|options| {
            options.workers = Some(2);
            options.limits.connections = connections;
            options.limits.on_limit = OnLimit::Reject;
        });
        let connect = || Client::connect(server.server_address());
        let _served = [assert_served(connect()), assert_served(connect())];
        assert_rejected(connect());
    }
}

fn a_client_has_its_own_limit<C: Concurrency + Default>() {
    let server = serve::<C>(|options| options.limits.per_client = Some(2));
    let connect = |ip| client_from(ip, server.server_address());
    let first = assert_served(connect("127.0.0.1"));
    let _second = assert_served(connect("127.0.0.1"));
    assert_rejected(connect("127.0.0.1"));
    let _other = [assert_served(connect("127.0.0.2")), assert_served(connect("127.0.0.2"))];
    assert_rejected(connect("127.0.0.2"));
    end(first);
    let _third = assert_served(connect("127.0.0.1"));
    assert_rejected(connect("127.0.0.1"));
    assert_eq!(server.stats().rejected, 3);
}

/// Three quarters of the descriptors are for connections, of which `forking` takes three for each.
fn by_default_a_server_leaves_descriptors_to_the_program<C: Word>() {
    let served = if C::WORD == "forking" { 16 } else { 48 };
    let server = LineServer::start_within::<C>(64);
    let mut clients: Vec<_> = (0..served).map(|_| assert_served(server.connect())).collect();
    let mut waiting: Vec<_> = (0..10).map(|_| server.connect()).collect();
    waiting.iter_mut().for_each(|client| client.send("at last\n"));
    eventually("the connections that wait wake nobody", || {
        let sleeps = server.observed().sleeps();
        thread::sleep(Duration::from_millis(300));
        server.observed().sleeps() == sleeps
    });
    let stats = clients[0].ask("stats");
    assert_eq!((stat(&stats, "active"), stat(&stats, "accept_errors")), (served, 0), "{stats}");
    for mut client in waiting {
        drop(clients.pop());
        assert_eq!(client.line(), "AT LAST");
        clients.insert(0, client);
    }
    drop(clients);
    server.stop();
}

#[test]
fn a_user_is_a_client_of_a_unix_server() {
    let options = options(|options| {
        options.limits.per_client = Some(1);
        options.socket.mode = Some(0o666);
    });
    let server = Script::<Unix, Threading>::serve_upper(options);
    let connect = || Client::connect(server.server_address());
    let first = assert_served(connect());
    assert_rejected(connect());
    // Only root can be another user.
    if let Some(mut nc) = installed("nc")
        && fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
    {
        let path = server.server_address().path().expect("a socket file");
        // The directory is open to its owner only.
        let directory = path.parent().expect("it is in a directory");
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).expect("its own directory");
        let mut other = Process::start(nc.uid(65_534).arg("-N").arg("-U").arg(path));
        other.enter("hello");
        assert_eq!(other.line(), "HELLO");
        other.end_input();
    }
    end(first);
    assert_served(connect());
}

fn a_limit_is_raised_and_lowered_while_the_server_runs<C: Concurrency + Default>() {
    let server = serve::<C>(|options| options.limits.connections = Some(1));
    let first = assert_served(Client::connect(server.server_address()));
    let mut second = Client::connect(server.server_address());
    second.send("at last\n");
    server.set_limits(server.limits().connections(2)).expect("more than zero");
    assert_eq!(second.line(), "AT LAST");
    server.set_limits(server.limits().connections(1)).expect("more than zero");
    let mut third = Client::connect(server.server_address());
    third.send("at last\n");
    drop(first);
    // Both clients that were there go on, and a place above the limit is none.
    eventually("the first has ended", || server.stats().active == 1);
    assert_eq!(second.ask("meanwhile"), "MEANWHILE");
    assert_eq!(server.stats().accepted, 2);
    drop(second);
    assert_eq!(third.line(), "AT LAST");
    assert_eq!(server.stats().rejected, 0);
}

#[test]
fn a_pool_serves_no_more_than_it_has_workers_whatever_the_limit_becomes() {
    let server = serve::<Pool>(|options| options.workers = Some(1));
    let first = assert_served(Client::connect(server.server_address()));
    let mut second = Client::connect(server.server_address());
    second.send("at last\n");
    server.set_limits(server.limits().connections(10)).expect("more than zero");
    assert_eq!(server.stats().accepted, 1);
    drop(first);
    assert_eq!(second.line(), "AT LAST");
}

#[test]
fn a_limit_of_each_client_counts_those_that_are_there() {
    let server = serve::<Threading>(|_| {});
    let connect = |ip| client_from(ip, server.server_address());
    let _first = assert_served(connect("127.0.0.1"));
    server.set_limits(server.limits().per_client(2)).expect("more than zero");
    let second = assert_served(connect("127.0.0.1"));
    assert_rejected(connect("127.0.0.1"));
    let _other = assert_served(connect("127.0.0.2"));
    end(second);
    let _third = assert_served(connect("127.0.0.1"));
    assert_rejected(connect("127.0.0.1"));
    server.set_limits(Limits::new()).expect("no limit");
    let _fourth = assert_served(connect("127.0.0.1"));
}

#[test]
fn limits_that_could_not_be_bound_with_are_refused() {
    let server = serve::<Threading>(|options| options.limits.connections = Some(5));
    let before = server.limits();
    let zero = server.set_limits(Limits::new().connections(0)).expect_err("nobody could be served");
    assert!(zero.to_string().starts_with("the option `limits.connections` cannot be zero"), "{zero}");
    let rejecting = server.set_limits(Limits::new().on_limit(OnLimit::Reject)).expect_err("it is decided at first");
    assert!(rejecting.to_string().contains("`limits.on_limit` cannot change"), "{rejecting}");
    assert_eq!(server.limits(), before);
}

fn a_banned_client_is_turned_away_until_its_ban_ends<C: Concurrency + Default>() {
    let server = serve::<C>(|_| {});
    let connect = |ip| client_from(ip, server.server_address());
    let banned: IpAddr = "127.0.0.1".parse().expect("an address");
    let mut before = assert_served(connect("127.0.0.1"));
    server.ban(banned, Duration::from_secs(3600));
    // A connection that is under way goes on.
    assert_eq!(before.ask("still"), "STILL");
    drop(before);
    assert_rejected(connect("127.0.0.1"));
    drop(assert_served(connect("127.0.0.2")));
    let bans = server.bans();
    assert_eq!(bans.iter().map(|(ip, _)| *ip).collect::<Vec<_>>(), [banned]);
    assert!(bans[0].1 > Duration::from_secs(3500), "{bans:?}");
    assert!(server.unban(banned));
    assert!(!server.unban(banned));
    drop(assert_served(connect("127.0.0.1")));
    server.ban(banned, SHORT);
    assert!(server.bans().iter().all(|(_, left)| *left <= SHORT));
    eventually("the ban has ended", || server.bans().is_empty());
    assert_served(connect("127.0.0.1"));
}

#[test]
fn a_handler_can_ban_its_client() {
    let handle = |session: &mut Session<Tcp, Threading>| {
        if session.rfile.next_line()?.as_deref() == Some("let me in") {
            let ip = session.client_address.ip().ok_or("a TCP client has one")?;
            session.server.ban(ip, Duration::from_secs(60));
        }
        Ok(write!(session.wfile, "goodbye")?)
    };
    let server = Script::<Tcp, Threading>::serve(handle);
    for (said, answer) in [("hello\n", "goodbye"), ("let me in\n", "goodbye"), ("", "")] {
        let mut client = Client::connect(server.server_address());
        if !said.is_empty() {
            client.send(said);
        }
        assert_eq!(client.rest(), answer);
    }
}

/// Lets the connections of these addresses of this machine in, as TOML has it.
fn access(options: &str) -> Access {
    let options: Options = toml::from_str(options).expect("it is right");
    options.access
}

fn who_is_let_in_is_decided_by_the_longest_prefix<C: Concurrency + Default>() {
    let server =
        serve::<C>(|options| options.access = access("access.deny = ['127.0.0.0/8']\naccess.allow = ['127.0.0.2']"));
    let connect = |ip| client_from(ip, server.server_address());
    let mut before = assert_served(connect("127.0.0.2"));
    assert_rejected(connect("127.0.0.1"));
    assert_rejected(connect("127.0.0.3"));
    assert_eq!(server.stats().rejected, 2);
    let others = access("access.deny = ['127.0.0.2/31']");
    server.set_access(others.clone()).expect("it is right");
    assert_eq!(server.access(), others);
    // A connection that is under way goes on.
    assert_eq!(before.ask("still"), "STILL");
    drop(before);
    assert_rejected(connect("127.0.0.2"));
    drop(assert_served(connect("127.0.0.1")));
    server.set_access(Access::new()).expect("everybody is let in");
    drop(assert_served(connect("127.0.0.2")));
}

#[test]
fn access_that_could_not_be_bound_with_is_refused() {
    let server = serve::<Threading>(|_| {});
    let error = server.set_access(Access::new().allow(&[])).expect_err("nobody would be let in");
    assert!(error.to_string().starts_with("the option `access.allow` cannot be empty"), "{error}");
    assert_served(Client::connect(server.server_address()));
}

#[test]
fn a_packet_is_let_in_as_a_connection_is() {
    let options = options(|options| options.access = access("access.deny = ['127.0.0.1']"));
    let server = Script::<Udp, Threading>::serve_with(upper, options);
    let Address::Inet(address) = *server.server_address() else { unreachable!("it is a UDP server") };
    let from = |ip: &str| std::net::UdpSocket::bind((ip, 0)).expect("a free port");
    from("127.0.0.1").send_to(b"hello\n", address).expect("it is sent");
    let other = from("127.0.0.2");
    other.send_to(b"hello\n", address).expect("it is sent");
    let mut reply = [0; 16];
    other.set_read_timeout(Some(PATIENCE)).expect("an open socket");
    assert_eq!(other.recv(&mut reply).expect("it is let in"), 6);
    eventually("both have ended", || (server.stats().finished, server.stats().rejected) == (1, 1));
}

#[test]
fn a_client_of_a_unix_socket_is_let_in() {
    let options = options(|options| options.access = access("access.allow = ['192.0.2.1']"));
    let server = Script::<Unix, Threading>::serve_with(upper, options);
    assert_served(Client::connect(server.server_address()));
}

fn connections_that_come_too_fast_wait<C: Concurrency + Default>() {
    let server = serve::<C>(|options| options.limits.rate = Some(Rate::per_hour(2)));
    let connect = || Client::connect(server.server_address());
    drop(assert_served(connect()));
    drop(assert_served(connect()));
    let mut third = connect();
    third.send("at last\n");
    assert_eq!(server.stats().accepted, 2);
    // The share of the hour that the third waits for does not end meanwhile.
    server.set_limits(server.limits().rate(Rate::per_second(1000))).expect("more than zero");
    assert_eq!(third.line(), "AT LAST");
}

fn each_share_of_the_time_lets_one_in<C: Concurrency + Default>() {
    let server = serve::<C>(|options| options.limits.rate = Some(Rate::per_second(10)));
    let started = Instant::now();
    for _ in 0..14 {
        drop(assert_served(Client::connect(server.server_address())));
    }
    // Ten at once, and four more.
    assert!(started.elapsed() >= Duration::from_millis(400), "{:?}", started.elapsed());
    assert_eq!(server.stats().rejected, 0);
}

fn connections_that_come_too_fast_are_rejected<C: Concurrency + Default>() {
    let server = serve::<C>(|options| {
        options.limits.rate = Some(Rate::per_hour(2));
        options.limits.on_limit = OnLimit::Reject;
    });
    let connect = || Client::connect(server.server_address());
    let _served = [assert_served(connect()), assert_served(connect())];
    assert_rejected(connect());
    assert_rejected(connect());
    assert_eq!(server.stats().rejected, 2);
}

fn a_client_that_comes_too_often_is_rejected<C: Concurrency + Default>() {
    let server = serve::<C>(|options| options.limits.rate_per_client = Some(Rate::per_hour(2)));
    let connect = |ip| client_from(ip, server.server_address());
    drop(assert_served(connect("127.0.0.1")));
    drop(assert_served(connect("127.0.0.1")));
    assert_rejected(connect("127.0.0.1"));
    drop(assert_served(connect("127.0.0.2")));
    assert_eq!(server.stats().rejected, 1);
    server.set_limits(server.limits().rate_per_client(Rate::per_hour(3))).expect("more than zero");
    assert_served(connect("127.0.0.1"));
}

#[test]
fn a_user_of_a_unix_socket_comes_as_often_as_the_rate_says() {
    let options = options(|options| options.limits.rate_per_client = Some(Rate::per_hour(1)));
    let server = Script::<Unix, Threading>::serve_with(upper, options);
    drop(assert_served(Client::connect(server.server_address())));
    assert_rejected(Client::connect(server.server_address()));
}

/// As IPv6 addresses they all are in one network.
fn ipv4_clients_of_an_ipv6_server_have_a_limit_each<C: Concurrency + Default>() {
    let (script, _reports) = Script::<Tcp, C>::upper();
    let server = match script.bind_with("[::]:0", options(|options| options.limits.per_client = Some(1))) {
        Ok(server) => Served::new(server),
        Err(error) => return println!("skipped: there is no IPv6 here: {error}"),
    };
    let connect = |ip| client_from(ip, server.server_address());
    let _clients =
        [assert_served(connect("127.0.0.1")), assert_served(connect("127.0.0.2")), assert_served(connect("::1"))];
    for ip in ["127.0.0.1", "127.0.0.2", "::1"] {
        assert_rejected(connect(ip));
    }
}

/// How the handler's reading or writing ended, and why the server says it did.
type End = (Result<(), ErrorKind>, Option<Closing>);

/// Serves with a handler that tells how it has ended.
fn serve_telling<C: Concurrency + Default>(
    handle: impl Fn(&mut Session<Tcp, C>) -> HandlerResult + Send + std::marker::Sync + 'static,
    set: impl FnOnce(&mut Options),
) -> (Scripted, Receiver<End>) {
    let (sender, ends) = mpsc::channel();
    let telling = move |session: &mut Session<Tcp, C>| {
        let result = handle(session);
        let kind = |error: &sockserver::BoxError| error.downcast_ref::<io::Error>().expect("an I/O error").kind();
        sender.send((result.as_ref().map(|_| ()).map_err(kind), session.request.closing()))?;
        result
    };
    (Script::<Tcp, C>::serve_with(telling, options(set)), ends)
}

const SHORT: Duration = Duration::from_millis(200);

fn idle(options: &mut Options) {
    options.timeouts.idle = Some(SHORT);
}

fn lifetime(options: &mut Options) {
    options.timeouts.lifetime = Some(SHORT);
}

/// A client that has said this already when it is accepted, from when on its time runs.
fn client_that_says(said: &str, server: &ServerHandle) -> Client {
    server.suspend();
    let mut client = Client::connect(server.server_address());
    client.send(said);
    server.resume();
    client
}

fn a_silent_client_is_ended_after_the_idle_timeout<C: Concurrency + Default>() {
    let (server, ends) = serve_telling::<C>(upper, idle);
    for said in ["", "half"] {
        let begin = Instant::now();
        client_that_says(said, &server).wait_for_end();
        assert!(begin.elapsed() >= SHORT);
        assert_eq!(ends.recv_timeout(PATIENCE), Ok((Err(ErrorKind::TimedOut), Some(Closing::Idle))));
    }
    eventually("both are counted", || server.stats().timed_out == 2);
}

fn a_silent_client_that_comes_after_a_pause_is_ended_too<C: Concurrency + Default>() {
    let (server, ends) = serve_telling::<C>(upper, idle);
    assert_eq!(client_that_says("hello\n", &server).line(), "HELLO");
    let _how = ends.recv_timeout(PATIENCE).expect("it has ended");
    // Meanwhile there is no deadline to be kept.
    thread::sleep(2 * SHORT);
    Client::connect(server.server_address()).wait_for_end();
    assert_eq!(ends.recv_timeout(PATIENCE), Ok((Err(ErrorKind::TimedOut), Some(Closing::Idle))));
}

fn the_handler_of_a_silent_client_can_say_goodbye<C: Concurrency + Default>() {
    let say_goodbye = |session: &mut Session<Tcp, C>| {
        while let Ok(Some(_)) = session.rfile.next_line() {}
        thread::sleep(Duration::from_millis(50));
        Ok(write!(session.wfile, "goodbye")?)
    };
    let (server, ends) = serve_telling::<C>(say_goodbye, idle);
    assert_eq!(Client::connect(server.server_address()).rest(), "goodbye");
    assert_eq!(ends.recv_timeout(PATIENCE), Ok((Ok(()), Some(Closing::Idle))));
    eventually("it is counted", || server.stats().timed_out == 1);
}

fn a_handler_that_says_no_goodbye_is_cut_off<C: Concurrency + Default>() {
    let write_slowly = |session: &mut Session<Tcp, C>| {
        while let Ok(Some(_)) = session.rfile.next_line() {}
        loop {
            session.request.write_all(b"x")?;
            thread::sleep(Duration::from_millis(5));
        }
    };
    let (server, ends) = serve_telling::<C>(write_slowly, lifetime);
    Client::connect(server.server_address()).wait_for_end();
    assert_eq!(ends.recv_timeout(PATIENCE), Ok((Err(ErrorKind::TimedOut), Some(Closing::Lifetime))));
}

fn a_client_that_takes_nothing_is_ended_after_the_idle_timeout<C: Concurrency + Default>() {
    let write_for_ever = |session: &mut Session<Tcp, C>| loop {
        session.wfile.write_all(&[b'x'; 1 << 16])?;
    };
    let (server, ends) = serve_telling::<C>(write_for_ever, idle);
    let _client = Client::connect(server.server_address());
    assert_eq!(ends.recv_timeout(PATIENCE), Ok((Err(ErrorKind::TimedOut), Some(Closing::Idle))));
    eventually("it is counted", || server.stats().timed_out == 1);
}

fn a_client_that_takes_a_long_answer_piece_by_piece_is_not_idle<C: Concurrency + Default>() {
    takes_a_long_answer::<Tcp, C>(|client| {
        for _ in 0..16 {
            client.bytes(1 << 21);
            thread::sleep(SHORT);
        }
    });
}

#[test]
fn a_unix_client_that_takes_all_there_is_each_time_is_not_idle() {
    takes_a_long_answer::<Unix, Threading>(|client| {
        // The queue is full again whenever the server looks.
        for _ in 0..16 {
            client.socket().recv(&mut vec![MaybeUninit::uninit(); 1 << 20]).expect("more comes");
            thread::sleep(SHORT);
        }
    });
}

fn takes_a_long_answer<T: Local + StreamTransport, C: Concurrency + Default>(take: impl FnOnce(&mut Client)) {
    // One call, which ends when the last piece finds room.
    let answer = |session: &mut Session<T, C>| Ok(session.wfile.write_all(&vec![b'x'; 1 << 25])?);
    let idle = options(|options| options.timeouts.idle = Some(8 * SHORT));
    let server = Script::<T, C>::serve_with(answer, idle);
    let mut client = Client::connect(server.server_address());
    take(&mut client);
    client.rest();
    eventually("the request has ended", || server.stats().active == 0);
    assert_eq!(server.stats().finished, 1);
}

fn a_client_that_says_something_now_and_then_is_not_idle<C: Concurrency + Default>() {
    let server = serve::<C>(|options| options.timeouts.idle = Some(10 * SHORT));
    let mut client = Client::connect(server.server_address());
    let begin = Instant::now();
    while begin.elapsed() < 15 * SHORT {
        client.send("x");
        thread::sleep(SHORT / 4);
    }
    client.send("\n");
    assert!(client.line().starts_with("XXX"));
    assert_eq!(server.stats().timed_out, 0);
}

fn a_client_that_waits_for_its_answer_is_not_idle<C: Concurrency + Default>() {
    let think = |session: &mut Session<Tcp, C>| {
        session.rfile.fill_buf()?;
        thread::sleep(8 * SHORT);
        assert_eq!(session.request.closing(), None);
        upper(session)
    };
    let (server, ends) = serve_telling::<C>(think, |options| options.timeouts.idle = Some(4 * SHORT));
    let mut client = client_that_says("hello\n", &server);
    assert_eq!(client.line(), "HELLO");
    drop(client);
    assert_eq!(ends.recv_timeout(PATIENCE).map(|(end, _)| end), Ok(Ok(())));
}

fn a_client_cannot_stay_longer_than_the_lifetime<C: Concurrency + Default>() {
    let (server, ends) = serve_telling::<C>(upper, |options| {
        lifetime(options);
        options.timeouts.idle = Some(PATIENCE);
    });
    let begin = Instant::now();
    let client = client_that_says("x", &server);
    let mut socket = client.socket();
    while socket.write_all(b"x").is_ok() {
        assert!(begin.elapsed() < PATIENCE);
        thread::sleep(Duration::from_millis(5));
    }
    assert!(begin.elapsed() >= SHORT);
    assert_eq!(ends.recv_timeout(PATIENCE), Ok((Err(ErrorKind::TimedOut), Some(Closing::Lifetime))));
    eventually("it is counted", || server.stats().timed_out == 1);
    assert_eq!(server.stats().active, 0);
}

fn a_connection_reaches_its_lifetime_while_the_server_drains<C: Concurrency + Default>() {
    let (start, started) = mpsc::channel();
    let begin = move |session: &mut Session<Tcp, C>| {
        session.rfile.fill_buf()?;
        start.send(())?;
        upper(session)
    };
    let (server, ends) = serve_telling::<C>(begin, lifetime);
    let mut client = client_that_says("half", &server);
    started.recv_timeout(PATIENCE).expect("the half has come");
    // There are thirty seconds for the rest.
    server.shutdown();
    client.wait_for_end();
    assert!(ends.recv_timeout(PATIENCE).is_ok_and(|(end, _)| end.is_err()));
    assert_eq!(server.stop().forced, 0);
}

#[test]
fn a_newcomer_is_ended_in_time_while_another_says_goodbye() {
    // A machine that is busy with others may take its time now and then.
    let is_in_time = |_| wait_of_a_newcomer() < 4 * SHORT;
    assert!((0..3).any(is_in_time), "each time it was the cut of the other one after a second");
}

fn wait_of_a_newcomer() -> Duration {
    let (sender, waits) = mpsc::channel();
    let dawdle = move |session: &mut Session<Tcp, Threading>| {
        let begin = Instant::now();
        while let Ok(Some(_)) = session.rfile.next_line() {}
        sender.send(begin.elapsed())?;
        // The supervisor has nothing to do for this one but to cut it in a second.
        thread::sleep(Duration::from_secs(2));
        Ok(())
    };
    let idle = options(|options| options.timeouts.idle = Some(SHORT));
    let server = Script::<Tcp, Threading>::serve_with(dawdle, idle);
    let _first = Client::connect(server.server_address());
    waits.recv_timeout(PATIENCE).expect("its time is over");
    let _second = Client::connect(server.server_address());
    waits.recv_timeout(PATIENCE).expect("its time is over too")
}

fn a_request_whose_time_is_over_before_its_handler_starts_is_rejected<C: Concurrency + Default>() {
    #[derive(Server)]
    #[server(transport = "tcp", concurrency = C, handler = Never, hooks(verify_request = Self::dawdle))]
    struct Dawdling<C: Concurrency + Default>(PhantomData<C>);

    impl<C: Concurrency + Default> Dawdling<C> {
        fn dawdle(&self, request: &Stream, _: &Address) -> bool {
            eventually("its time is over", || request.closing().is_some());
            true
        }
    }

    #[request_handler]
    struct Never;

    impl RequestHandler for Never {
        fn handle(&mut self) -> HandlerResult {
            unreachable!("its time is over")
        }
    }

    let server = Dawdling::<C>(PhantomData).bind_with("127.0.0.1:0", options(lifetime)).expect("a free port");
    let server = Served::new(server);
    assert_rejected(Client::connect(server.server_address()));
    eventually("it is counted", || server.stats().rejected == 1);
    assert_eq!(server.stats().timed_out, 0);
}

#[test]
fn a_datagram_has_no_lifetime() {
    let (script, _reports) = Script::<Udp, Synchronous>::upper();
    let error = script.bind_with("127.0.0.1:0", options(lifetime)).expect_err("it means nothing");
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

fn a_busy_handler_finds_its_connection_cut_at_the_end_of_its_life<C: Concurrency + Default>() {
    let (server, ends) = serve_telling::<C>(
        |session| {
            eventually("the connection is cut", || session.request.closing().is_some());
            upper(session)
        },
        lifetime,
    );
    let mut client = Client::connect(server.server_address());
    client.send("half");
    client.wait_for_end();
    let (_, closing) = ends.recv_timeout(PATIENCE).expect("the handler returns");
    assert_eq!(closing, Some(Closing::Lifetime));
    eventually("it is counted", || server.stats().timed_out == 1);
}

#[test]
fn deadlines_are_kept_by_a_thread_that_is_there_only_where_one_is_set() {
    for (options, expected) in [(&["connections=10"], false), (&["idle=60000"], false), (&["lifetime=60000"], true)] {
        let server = LineServer::start::<Threading>(options);
        assert_eq!(server.ask("hello"), "HELLO");
        // The system cuts names after 15 bytes.
        let keeps_deadlines = |name: &String| name.starts_with("sockserver-dead");
        let has_one = || server.observed().thread_names().iter().any(keeps_deadlines);
        match expected {
            true => eventually("there is a thread", has_one),
            false => assert!(!has_one()),
        }
        server.stop();
    }
}

fn connections_are_listed_oldest_first<C: Concurrency + Default>() {
    let server = serve::<C>(|_| {});
    let mut clients: Vec<_> = (0..3).map(|_| assert_served(Client::connect(server.server_address()))).collect();
    assert_eq!(clients[2].ask("more"), "MORE");
    // A client may have its answer before its bytes are counted.
    eventually("all is counted", || server.connections().iter().map(|info| info.bytes_out).sum::<u64>() == 23);
    let list = server.connections();
    let addresses: Vec<_> = list.iter().map(|info| info.client_address.clone()).collect();
    assert_eq!(addresses, clients.iter().map(Client::address).collect::<Vec<_>>());
    assert!(list.is_sorted_by_key(|info| info.id));
    assert!(list.is_sorted_by(|older, younger| older.age >= younger.age));
    let counted: Vec<_> = list.iter().map(|info| (info.bytes_in, info.bytes_out)).collect();
    assert_eq!(counted, [(6, 6), (6, 6), (11, 11)]);
    assert!(list.iter().all(|info| info.closing.is_none()));
    drop(clients.remove(1));
    eventually("it is not listed any more", || server.connections().len() == 2);
    assert_eq!(server.connections()[1].id, list[2].id);
}

fn a_connection_can_be_closed_by_its_number<C: Concurrency + Default>() {
    let (server, ends) = serve_telling::<C>(upper, |_| {});
    for said in ["", "half"] {
        let mut client = assert_served(Client::connect(server.server_address()));
        client.send(said);
        let [info] = &server.connections()[..] else { panic!("there is one client") };
        let received = 6 + said.len() as u64;
        eventually("all has come", || server.connections()[0].bytes_in == received);
        assert!(server.close(info.id));
        client.wait_for_end();
        assert_eq!(ends.recv_timeout(PATIENCE), Ok((Err(ErrorKind::ConnectionAborted), Some(Closing::Kicked))));
        eventually("it has ended", || server.stats().active == 0);
        assert!(!server.close(info.id));
    }
    assert_eq!(server.stats().disconnected, 2);
}

fn a_handler_can_close_its_own_connection<C: Concurrency + Default>() {
    let (server, ends) = serve_telling::<C>(
        |session| {
            assert!(session.server.close(session.id));
            upper(session)
        },
        |_| {},
    );
    let mut client = Client::connect(server.server_address());
    client.wait_for_end();
    assert_eq!(ends.recv_timeout(PATIENCE), Ok((Err(ErrorKind::ConnectionAborted), Some(Closing::Kicked))));
}

in_each_concurrency! { [threading forking event_loop two_loops]: by_default_a_server_leaves_descriptors_to_the_program }
in_each_concurrency! { [threading pool event_loop two_loops]:
    a_limit_is_raised_and_lowered_while_the_server_runs
    above_the_limit_clients_wait
    above_the_limit_clients_are_rejected
    whoever_has_seen_the_end_of_a_connection_can_have_the_next_one
    connections_that_come_too_fast_are_rejected
    who_is_let_in_is_decided_by_the_longest_prefix
    a_client_has_its_own_limit
    ipv4_clients_of_an_ipv6_server_have_a_limit_each
    connections_are_listed_oldest_first
}
in_each_concurrency! { [sync threading pool]:
    a_silent_client_is_ended_after_the_idle_timeout
    a_silent_client_that_comes_after_a_pause_is_ended_too
    the_handler_of_a_silent_client_can_say_goodbye
    a_handler_that_says_no_goodbye_is_cut_off
    a_client_that_takes_nothing_is_ended_after_the_idle_timeout
    a_client_that_takes_a_long_answer_piece_by_piece_is_not_idle
    a_connection_reaches_its_lifetime_while_the_server_drains
    a_request_whose_time_is_over_before_its_handler_starts_is_rejected
    a_client_that_waits_for_its_answer_is_not_idle
    a_client_cannot_stay_longer_than_the_lifetime
    a_busy_handler_finds_its_connection_cut_at_the_end_of_its_life
    a_connection_can_be_closed_by_its_number
    a_handler_can_close_its_own_connection
}
in_each_concurrency! { [sync threading pool event_loop two_loops]:
    a_banned_client_is_turned_away_until_its_ban_ends
    connections_that_come_too_fast_wait
    each_share_of_the_time_lets_one_in
    a_client_that_comes_too_often_is_rejected
    a_client_that_says_something_now_and_then_is_not_idle
}

//! What a handler has sent arrives, although its client had sent more than was read: lingering close, and its limits.

use std::{
    fs,
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            fs::{MetadataExt, chown},
            net::UnixStream,
            process::CommandExt,
        },
    },
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use sockserver::{
    Address, Concurrency, HangUp, Options, Server,
    concurrency::{Synchronous, Threading},
    transport::{Tcp, Unix},
};
use sockserver_tests::{
    client::{Client, eventually},
    concurrencies::Word,
    farewell::{Farewell, Gate, Guest, LineGuest},
    in_each_concurrency,
    last_word::{LastWord, word},
    place::{Directory, Place, own_ip},
    process::{Process, ServerProcess, installed, server},
    script::{Script, Session},
    served::Watchdog,
};

const MIB: usize = 1 << 20;

fn start<C: Word>(transport: &str, when: &str, bytes: usize, options: &[&str]) -> LastWord {
    LastWord::start::<C>(transport, when, bytes, options)
}

/// Reads until the end of file, at a rate that keeps the server waiting.
#[track_caller]
fn read_slowly(client: &mut Client) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let received = client.receive();
        if received.is_empty() {
            return all;
        }
        all.extend(received);
        thread::sleep(Duration::from_micros(100));
    }
}

#[track_caller]
fn expect_word(client: &mut Client, bytes: usize) {
    expect_rest(client, Vec::new(), bytes);
}

/// Expects what is missing behind this begin.
#[track_caller]
fn expect_rest(client: &mut Client, begin: Vec<u8>, bytes: usize) {
    let received = [begin, read_slowly(client)].concat();
    assert_eq!(received.len(), bytes);
    assert!(received == word(bytes), "the bytes are other ones");
}

/// A client whose kernel takes little before the client reads.
#[track_caller]
fn narrow_client(server: &Address) -> Client {
    let address = match server {
        Address::Inet(address) => SockAddr::from(*address),
        unix => SockAddr::unix(unix.path().expect("a path")).expect("a short path"),
    };
    let socket = Socket::new(Domain::from(i32::from(address.family())), Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(16 << 10).expect("an open socket");
    socket.connect(&address).expect("it listens");
    Client::new(socket)
}

/// Sends as long as the server takes it. `false`: it does not any more.
fn is_taken(client: &Client, byte: u8) -> bool {
    match client.socket().write_all(&[byte]) {
        Ok(()) => true,
        Err(error) if [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset].contains(&error.kind()) => false,
        Err(error) => panic!("sending: {error}"),
    }
}

// All bytes, and the end of file.

fn a_client_that_was_not_read_from_gets_everything<C: Word>() {
    for transport in ["tcp", "unix"] {
        for when in ["handle", "directly", "finish", "setup", "fail", "panic", "kept", "shut", "refuse"] {
            println!("{transport}, {when}");
            let server = start::<C>(transport, when, MIB, &[]);
            let mut client = narrow_client(server.address());
            client.send("?\n");
            expect_word(&mut client, MIB);
        }
    }
}

fn a_client_that_sends_when_the_handler_has_ended_gets_everything<C: Word>() {
    // A Unix socket takes no more than this before its client reads.
    for (transport, bytes) in [("tcp", MIB), ("unix", 100_000)] {
        for (first, options) in [("", &["unasked"][..]), ("?", &[])] {
            println!("{transport}, {first:?} first");
            let server = start::<C>(transport, "handle", bytes, options);
            let mut client = narrow_client(server.address());
            client.send(first);
            server.wait_for_ends(1);
            is_taken(&client, b'!');
            let begin = client.bytes(10_000);
            is_taken(&client, b'!');
            expect_rest(&mut client, begin, bytes);
        }
    }
}

fn a_client_that_has_ended_its_side_gets_everything<C: Word>() {
    for transport in ["tcp", "unix"] {
        for sent in ["", "?"] {
            let server = start::<C>(transport, "handle", MIB, &[]);
            let mut client = narrow_client(server.address());
            client.send(sent);
            client.finish();
            expect_word(&mut client, MIB);
        }
    }
}

fn the_goodbye_of_a_drain_arrives<C: Word>() {
    for transport in ["tcp", "unix"] {
        println!("{transport}");
        let bytes = 100_000;
        let server = start::<C>(transport, "closing", bytes, &[]);
        let mut client = narrow_client(server.address());
        eventually("it is accepted", || server.connections() == 1);
        server.signal("TERM");
        let begin = client.bytes(10_000);
        // What the client of a protocol sends that has not seen the goodbye yet.
        for _ in 0..100 {
            is_taken(&client, b'!');
        }
        expect_rest(&mut client, begin, bytes);
        drop(client);
        server.expect_success();
    }
}

in_each_concurrency! { [sync threading pool forking event_loop two_loops]:
    a_client_that_was_not_read_from_gets_everything
    a_client_that_sends_when_the_handler_has_ended_gets_everything
    a_client_that_has_ended_its_side_gets_everything
    the_goodbye_of_a_drain_arrives
}

fn the_end_is_seen_although_a_copy_of_the_descriptor_is_kept<C: Concurrency + Default>() {
    let (keep, kept) = mpsc::channel();
    let server = Script::<Tcp, C>::serve(move |session: &mut Session<Tcp, C>| {
        // As for another runtime, which does not know of the end.
        keep.send(session.request.as_fd().try_clone_to_owned()?)?;
        session.rfile.next_line()?;
        Ok(session.wfile.write_all(b"hello")?)
    });
    for unread in ["", "unread"] {
        let mut client = Client::connect(server.server_address());
        client.send(format!("hello\n{unread}"));
        assert_eq!(client.bytes(5), b"hello");
        // The end of file, which ends no later than this.
        client.socket().set_read_timeout(Some(Duration::from_secs(5))).expect("an open socket");
        assert_eq!(client.rest(), "");
    }
    drop(kept);
}

in_each_concurrency! { [sync threading pool]: the_end_is_seen_although_a_copy_of_the_descriptor_is_kept }

// Answers that come before the request's end.

const CLIENT: &str = r#"
import http.client, sys
seen = 0
for _ in range(int(sys.argv[2])):
    connection = http.client.HTTPConnection(sys.argv[1], timeout=20)
    try:
        connection.request("POST", "/", body=b"x" * 5_000_000)
        seen += connection.getresponse().status == 413
    except OSError as error:
        print(repr(error), file=sys.stderr)
    connection.close()
print(seen)
"#;

/// How many of the visits of Python's `http.client` see the answer 413 to their 5 MB.
fn seen_by_python(server: &Address, visits: usize) -> Option<usize> {
    let mut python = installed("python3")?;
    let python = Process::start(python.args(["-c", CLIENT, &server.to_string(), &visits.to_string()]));
    Some(python.output().trim().parse().expect("a number"))
}

fn seen_by_curl(server: &Address, visits: usize) -> Option<usize> {
    let directory = Directory::new();
    let body = directory.path().join("body");
    fs::write(&body, vec![b'x'; 5_000_000]).expect("room for 5 MB");
    let mut seen = 0;
    for _ in 0..visits {
        let mut curl = installed("curl")?;
        // Without `Expect: 100-continue`, with which the body would never be sent.
        curl.args(["--silent", "--show-error", "--max-time", "20", "--header", "Expect:"]);
        curl.args(["--write-out", "%{http_code}", "--output", "/dev/null", "--data-binary"]);
        curl.arg(format!("@{}", body.display())).arg(format!("http://{server}/"));
        let curl = curl.output().expect("it can be started");
        let is_seen = curl.status.success() && curl.stdout == b"413";
        if !is_seen {
            eprintln!("curl: {}", String::from_utf8_lossy(&curl.stderr));
        }
        seen += usize::from(is_seen);
    }
    Some(seen)
}

fn http_server<C: Word>() -> ServerProcess {
    let mut command = server("http");
    command.arg(C::WORD);
    ServerProcess::start(command, Place::of("tcp"))
}

fn python_sees_an_answer_to_half_a_body<C: Word>() {
    let server = http_server::<C>();
    let Some(seen) = seen_by_python(server.address(), 30) else { return };
    assert_eq!(seen, 30);
}

fn curl_sees_an_answer_to_half_a_body<C: Word>() {
    let server = http_server::<C>();
    let Some(seen) = seen_by_curl(server.address(), 10) else { return };
    assert_eq!(seen, 10);
}

in_each_concurrency! { [sync threading pool forking]:
    python_sees_an_answer_to_half_a_body
    curl_sees_an_answer_to_half_a_body
}

/// An nginx of its own, which is no service of this machine.
struct Nginx {
    address: Address,
    _process: Process,
    _directory: Directory,
}

impl Nginx {
    fn start() -> Option<Nginx> {
        let mut nginx = installed("nginx")?;
        let address = SocketAddr::from((own_ip(), 7000));
        let directory = Directory::new();
        let prefix = directory.path().display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {prefix}/{kind};\n"))
            .concat();
        let configuration = format!(
            "daemon off; master_process off; pid {prefix}/pid; error_log {prefix}/error.log;
            events {{ worker_connections 64; }}
            http {{
                access_log off; {temporary}
                server {{ listen {address}; client_max_body_size 1m; location / {{ return 200; }} }}
            }}"
        );
        let file = directory.path().join("nginx.conf");
        fs::write(&file, configuration).expect("it can be written");
        nginx.arg("-p").arg(directory.path()).arg("-c").arg(&file);
        nginx.arg("-e").arg(directory.path().join("error.log"));
        become_nobody(&mut nginx, directory.path());
        let mut process = Process::start(&mut nginx);
        eventually("nginx serves", || {
            assert!(!process.has_ended(), "nginx ended: {}", process.error_line());
            TcpStream::connect(address).is_ok()
        });
        Some(Nginx { address: address.into(), _process: process, _directory: directory })
    }
}

/// Lets a program run without the rights that this test may have, in a directory that is its own.
fn become_nobody(command: &mut Command, directory: &Path) {
    const NOBODY: u32 = 65_534;
    let is_root = fs::metadata(directory).expect("it is there").uid() == 0;
    if is_root {
        command.uid(NOBODY).gid(NOBODY);
        chown(directory, Some(NOBODY), Some(NOBODY)).expect("root may");
    }
}

#[test]
fn as_many_answers_are_seen_as_of_nginx() {
    let Some(nginx) = Nginx::start() else { return };
    let server = http_server::<Threading>();
    for (name, seen_by) in [("python", seen_by_python as fn(&Address, usize) -> _), ("curl", seen_by_curl)] {
        let (Some(of_nginx), Some(of_server)) = (seen_by(&nginx.address, 30), seen_by(server.address(), 30)) else {
            return;
        };
        println!("{name}: {of_nginx} of nginx, {of_server} of sockserver");
        assert!(of_nginx > 0, "{name}: nginx does not answer as it was told to");
        assert!(of_server >= of_nginx, "{name}: {of_nginx} of nginx, {of_server} of sockserver");
    }
}

// What it costs the server.

/// Clients that were sent what they do not read, after they had sent what was not read.
#[track_caller]
fn lingering_clients(server: &LastWord, count: usize) -> Vec<Client> {
    let connect = |_| {
        let mut client = narrow_client(server.address());
        client.send("?");
        client
    };
    (0..count).map(connect).collect()
}

/// Keeps the clients from being silent, until the condition holds.
#[track_caller]
fn eventually_while_sending(clients: &[Client], what: &str, mut holds: impl FnMut() -> bool) {
    eventually(what, || {
        clients.iter().for_each(|client| _ = is_taken(client, b'!'));
        holds()
    });
}

fn a_connection_that_lingers_holds_no_thread_and_no_place<C: Word>() {
    let server = start::<C>("tcp", "handle", MIB, &["connections=2", "workers=2"]);
    let clients = lingering_clients(&server, 8);
    eventually_while_sending(&clients, "all linger", || server.connections() == clients.len());
    // A ninth one is served meanwhile.
    let mut honest = server.connect();
    honest.send("?");
    expect_word(&mut honest, MIB);
    drop(honest);
    eventually_while_sending(&clients, "the others linger still", || server.connections() == clients.len());
}

fn a_connection_that_lingers_ends_with_its_client<C: Word>() {
    let server = start::<C>("tcp", "handle", 1000, &[]);
    let begin = Instant::now();
    for ends_its_side in [true, false].repeat(4) {
        let mut client = server.connect();
        client.send("?");
        server.wait_for_ends(1);
        if ends_its_side {
            client.finish();
        } else {
            expect_word(&mut client, 1000);
            drop(client);
        }
        eventually("it is closed", || server.connections() == 0);
    }
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}, where silence takes 16 s", begin.elapsed());
}

fn a_connection_that_lingers_ends_after_two_seconds_of_silence<C: Word>() {
    let server = start::<C>("tcp", "handle", MIB, &[]);
    let mut client = narrow_client(server.address());
    client.send("?");
    server.wait_for_ends(1);
    // It has not been silent for two seconds.
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(3) {
        let before = Instant::now();
        thread::sleep(Duration::from_millis(100));
        is_taken(&client, b'!');
        if before.elapsed() < Duration::from_millis(1500) {
            assert_eq!(server.connections(), 1);
        }
    }
    let last = Instant::now();
    is_taken(&client, b'!');
    eventually("it is closed", || server.connections() == 0);
    assert!(last.elapsed() >= Duration::from_secs(2), "after {:?}", last.elapsed());
    assert!(begin.elapsed() < Duration::from_secs(10), "after {:?}", begin.elapsed());
    // It was only waited for.
    expect_word(&mut client, MIB);
}

fn a_connection_that_lingers_ends_after_ten_seconds_of_sending<C: Word>() {
    let server = start::<C>("tcp", "handle", 1000, &[]);
    let begin = Instant::now();
    let clients = lingering_clients(&server, 1);
    server.wait_for_ends(1);
    eventually_while_sending(&clients, "it is closed", || server.connections() == 0);
    assert!(begin.elapsed() >= Duration::from_secs(10), "after {:?}", begin.elapsed());
}

in_each_concurrency! { [sync threading pool forking event_loop two_loops]:
    a_connection_that_lingers_holds_no_thread_and_no_place
    a_connection_that_lingers_ends_with_its_client
    a_connection_that_lingers_ends_after_two_seconds_of_silence
}

// The times themselves are tested beside the code, by a clock of their own.
in_each_concurrency! { [threading]: a_connection_that_lingers_ends_after_ten_seconds_of_sending }

fn of_many_connections_that_linger_the_latest_512_are_kept<C: Word>() {
    // On a busy machine it can take longer than the ten seconds after which the first ones end for that reason.
    let is_in_time = (0..5).any(|_| {
        let server = start::<C>("tcp", "handle", 1000, &[]);
        let begin = Instant::now();
        let mut clients = lingering_clients(&server, 88);
        server.wait_for_ends(88);
        eventually("they linger", || server.observed().is_asleep());
        for _ in 0..16 {
            clients.extend(lingering_clients(&server, 32));
            server.wait_for_ends(32);
            // None ends as it is silent.
            clients.iter().for_each(|client| _ = is_taken(client, b'!'));
        }
        // One by one they can be told apart: what comes to a closed socket is answered with a reset.
        let latest_are_kept = || {
            let kept: Vec<_> = clients.iter().map(|client| is_taken(client, b'!')).collect();
            kept[..88] == [false; 88] && kept[88..] == [true; 512] && server.connections() == 512
        };
        while begin.elapsed() < Duration::from_secs(10) {
            if latest_are_kept() {
                return true;
            }
            thread::sleep(Duration::from_millis(10));
        }
        false
    });
    assert!(is_in_time, "never in less than ten seconds");
}

fn one_thread_lingers_which_ends_when_there_is_nothing_to_do<C: Word>() {
    let server = start::<C>("tcp", "handle", 1000, &[]);
    let visits = || {
        let clients = lingering_clients(&server, 20);
        server.wait_for_ends(clients.len());
        eventually_while_sending(&clients, "the thread is there", || server.lingering_threads() > 0);
        assert_eq!((server.connections(), server.lingering_threads()), (clients.len(), 1));
    };
    let is_over = || server.connections() == 0 && server.lingering_threads() == 0;
    visits();
    eventually("the thread has ended", is_over);
    let before = server.observed().descriptors();
    visits();
    eventually("the thread has ended", is_over);
    eventually("its descriptors are closed", || server.observed().descriptors() <= before);
}

in_each_concurrency! { [sync threading pool forking event_loop]: of_many_connections_that_linger_the_latest_512_are_kept }
in_each_concurrency! { [sync threading pool event_loop]:
    one_thread_lingers_which_ends_when_there_is_nothing_to_do
}

// Stopping.

fn a_stop_ends_a_client_that_sends_for_ever_when_its_time_is_over<C: Word>() {
    let server = start::<C>("tcp", "handle", 1000, &["shutdown=2000"]);
    let mut clients = lingering_clients(&server, 2);
    server.wait_for_ends(2);
    clients.iter_mut().for_each(|client| assert_eq!(client.bytes(1000), word(1000)));
    let stopped = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stopped.load(SeqCst) {
                clients.iter().for_each(|client| _ = is_taken(client, b'!'));
                thread::sleep(Duration::from_millis(1));
            }
        });
        let begin = Instant::now();
        server.signal("TERM");
        server.expect_success();
        stopped.store(true, SeqCst);
        assert!(begin.elapsed() < Duration::from_secs(6), "{:?}", begin.elapsed());
    });
}

fn a_stop_waits_until_the_client_has_everything<C: Word>() {
    let server = start::<C>("tcp", "handle", MIB, &[]);
    let mut clients = lingering_clients(&server, 2);
    server.wait_for_ends(2);
    server.signal("TERM");
    eventually("the port is closed", || Client::try_connect(server.address()).is_err());
    for client in &mut clients {
        assert!(receive_while_sending(client).expect("no reset") == word(MIB), "the bytes are other ones");
    }
    drop(clients);
    server.expect_success();
}

/// Sends a body that takes half a second, to a server that takes all of it.
#[track_caller]
fn send_a_body(client: &mut Client) {
    for _ in 0..50 {
        client.send(vec![b'x'; 100_000]);
        thread::sleep(Duration::from_millis(10));
    }
}

fn a_stop_lets_a_client_send_the_rest_of_what_was_answered<C: Word>() {
    for transport in ["tcp", "unix"] {
        println!("{transport}");
        let server = start::<C>(transport, "handle", 1000, &[]);
        let mut client = server.connect();
        client.send("?");
        server.wait_for_ends(1);
        client.send("the begin of a body");
        server.signal("TERM");
        eventually("the port is closed", || Client::try_connect(server.address()).is_err());
        send_a_body(&mut client);
        expect_word(&mut client, 1000);
        drop(client);
        server.expect_success();
    }
}

fn an_answer_within_a_drain_reaches_a_client_that_still_sends<C: Concurrency + Default>() {
    let (gate, pass) = Gate::new();
    let pass = Arc::new(pass);
    let pass_line = pass.clone();
    let refuse = move |guest: &mut Guest<C>| {
        guest.rfile.next_line()?;
        pass();
        Ok(writeln!(guest.wfile, "413")?)
    };
    let refuse_line = move |guest: &mut LineGuest<C>, _: &str| {
        pass_line();
        writeln!(guest.wfile, "413")?;
        Err(HangUp.into())
    };
    let server = Farewell::new(refuse).line(refuse_line).serve(Options::new());
    let mut client = server.connect();
    client.send("POST\nthe begin of a body");
    gate.is_reached();
    server.shutdown();
    gate.open();
    send_a_body(&mut client);
    assert_eq!(client.rest(), "413\n");
    drop(client);
    assert_eq!(server.stop().0.in_time, 1);
}

fn a_stop_hardly_waits_for_a_client_that_is_silent<C: Concurrency + Default>() {
    let is_quick = (0..5).any(|_| {
        let answer = |guest: &mut Guest<C>| {
            guest.rfile.next_line()?;
            Ok(writeln!(guest.wfile, "hello")?)
        };
        let answer_line = |guest: &mut LineGuest<C>, _: &str| {
            writeln!(guest.wfile, "hello")?;
            Err(HangUp.into())
        };
        let server = Farewell::new(answer).line(answer_line).serve(Options::new());
        let mut client = server.connect();
        assert_eq!(client.ask("hello"), "hello");
        let begin = Instant::now();
        server.stop();
        begin.elapsed() < Duration::from_millis(500)
    });
    assert!(is_quick, "not once in five times");
}

/// What the server has sent, to a client that goes on sending itself.
fn receive_while_sending(client: &mut Client) -> io::Result<Vec<u8>> {
    let mut received = Vec::new();
    let mut bytes = vec![0; 32 << 10];
    loop {
        is_taken(client, b'!');
        let length = client.socket().read(&mut bytes)?;
        if length == 0 {
            return Ok(received);
        }
        received.extend_from_slice(&bytes[..length]);
    }
}

fn a_stop_gives_a_client_that_takes_nothing_two_seconds<C: Word>() {
    let server = start::<C>("tcp", "handle", MIB, &[]);
    let _clients = lingering_clients(&server, 4);
    server.wait_for_ends(4);
    let begin = Instant::now();
    server.signal("TERM");
    server.expect_success();
    assert!(begin.elapsed() >= Duration::from_secs(1), "{:?}", begin.elapsed());
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

in_each_concurrency! { [sync threading pool forking event_loop two_loops]:
    a_stop_ends_a_client_that_sends_for_ever_when_its_time_is_over
    a_stop_waits_until_the_client_has_everything
    a_stop_lets_a_client_send_the_rest_of_what_was_answered
    a_stop_gives_a_client_that_takes_nothing_two_seconds
}
in_each_concurrency! { [sync threading pool event_loop two_loops]:
    an_answer_within_a_drain_reaches_a_client_that_still_sends
    a_stop_hardly_waits_for_a_client_that_is_silent
}

// One connection that was accepted elsewhere.

/// Both ends of a connection of TCP.
fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let client = TcpStream::connect(listener.local_addr().expect("it is bound")).expect("it listens");
    (client, listener.accept().expect("a client").0)
}

/// Serves the connection on a thread of its own, by a handler that reads nothing.
fn lingers_in_place(mut client: Client, serve: impl FnOnce() + Send) {
    let _watchdog = Watchdog::new();
    client.send("?");
    thread::scope(|scope| {
        let serving = scope.spawn(serve);
        expect_word(&mut client, MIB);
        let last = Instant::now();
        is_taken(&client, b'!');
        let is_over = serving.is_finished();
        assert!(!is_over || last.elapsed() >= Duration::from_secs(2), "it lingers as long as the client is there");
        drop(client);
    });
}

#[test]
fn serve_connection_lingers_in_place_over_a_socket_pair() {
    let (script, _reports) = Script::<Unix, Synchronous>::new(|session: &mut Session<Unix, Synchronous>| {
        Ok(session.wfile.write_all(&word(MIB))?)
    });
    let (client, request) = UnixStream::pair().expect("a socket pair");
    lingers_in_place(Client::new(client), || {
        script.serve_connection(request).expect("a connected socket");
    });
}

#[test]
fn serve_connection_lingers_in_place_over_tcp() {
    let (script, _reports) = Script::<Tcp, Threading>::new(|session: &mut Session<Tcp, Threading>| {
        Ok(session.wfile.write_all(&word(MIB))?)
    });
    let (client, request) = connection();
    lingers_in_place(Client::new(client), || {
        script.serve_connection(request).expect("a connected socket");
    });
}

fn a_process_that_inetd_has_started_lingers_before_it_ends<C: Word>() {
    for transport in ["tcp", "unix"] {
        let (client, request): (Client, OwnedFd) = if transport == "tcp" {
            let (client, request) = connection();
            SockRef::from(&client).set_recv_buffer_size(16 << 10).expect("an open socket");
            (Client::new(client), request.into())
        } else {
            let (client, request) = UnixStream::pair().expect("a socket pair");
            (Client::new(client), request.into())
        };
        let mut client = client;
        client.send("?");
        let mut command = server("last_word");
        command.args([transport, C::WORD, "handle", &MIB.to_string(), "-"]);
        let mut process = Process::start_with(&mut command, request);
        // The command keeps the descriptor.
        drop(command);
        expect_word(&mut client, MIB);
        drop(client);
        assert!(process.ended().success());
    }
}

in_each_concurrency! { [sync threading pool forking]: a_process_that_inetd_has_started_lingers_before_it_ends }

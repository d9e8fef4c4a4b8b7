//! A server that is replaced by a program to which it hands its sockets over, while clients ask it.

use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr},
    panic::{self, AssertUnwindSafe},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
};

use socket2::{Domain, SockAddr, Socket, Type};
use sockserver::{Address, Server, ServerHandle, concurrency::Threading, transport::Tcp};
use sockserver_tests::{
    client::{Client, PATIENCE, eventually},
    concurrencies::Word,
    in_each_concurrency,
    place::{Directory, Place, own_ip},
    process::{Process, server},
    resources::Observed,
    script::Script,
    served::Served,
};

/// How often the server is replaced.
const TIMES: usize = 10;

const CLIENTS: usize = 8;

/// A server and its successors. The test knows the first as its child, and the others by their numbers.
struct Dynasty {
    first: Process,
    serving: u32,
    addresses: [Address; 2],
    _place: Place,
}

impl Dynasty {
    /// One server on both sockets.
    fn found<C: Word>(successor: Option<&str>) -> Dynasty {
        let mut command = server("lines");
        // A signal does not end the wait of the accept loop.
        command.args([C::WORD, "poll=20", "workers=16", "shutdown=20000"]);
        command.envs(successor.map(|program| ("SUCCESSOR", program)));
        Dynasty::start(command)
    }

    /// A server for each of the sockets.
    fn found_together<C: Word>(successor: Option<&str>) -> Dynasty {
        let mut command = server("together");
        command.arg(C::WORD).envs(successor.map(|program| ("SUCCESSOR", program)));
        Dynasty::start(command)
    }

    fn start(mut command: Command) -> Dynasty {
        let place = Place::unix();
        let free = SocketAddr::from((own_ip(), 7000));
        let first = Process::start(command.arg(format!("{free},unix:{}", place.address())));
        (0..2).for_each(|_| drop(first.line_after("listening on ")));
        Dynasty { serving: first.id(), first, addresses: [free.into(), place.address().clone()], _place: place }
    }

    /// Returns once the old one has said that the new one, which says so first, serves on both sockets.
    #[track_caller]
    fn replace(&mut self) {
        Observed::of(self.serving).signal("USR2");
        (0..2).for_each(|_| drop(self.first.line_after("listening on ")));
        self.serving = self.first.line_after("handed over to ").parse().expect("the number of a process");
    }

    /// Whether the process has ended; nobody may have reaped it.
    fn has_ended(pid: u32) -> bool {
        fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
    }
}

impl Drop for Dynasty {
    fn drop(&mut self) {
        if !Dynasty::has_ended(self.serving) {
            Observed::of(self.serving).signal("KILL");
        }
    }
}

fn try_ask(server: &Address) -> io::Result<String> {
    let (domain, address) = match server {
        Address::Inet(address) => (Domain::IPV4, SockAddr::from(*address)),
        address => (Domain::UNIX, SockAddr::unix(address.path().expect("a path"))?),
    };
    let mut client = Socket::new(domain, Type::STREAM, None)?;
    client.set_read_timeout(Some(PATIENCE))?;
    client.connect(&address)?;
    client.write_all(b"pid\n")?;
    client.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    BufReader::new(&client).read_line(&mut answer)?;
    (&client).read_to_end(&mut Vec::new())?;
    match answer.strip_suffix('\n') {
        Some(answer) => Ok(answer.to_owned()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Asks until it is told to stop, and returns how often it was answered and what has failed.
fn ask(server: &Address, is_over: &AtomicBool) -> (usize, Vec<String>) {
    let (mut answered, mut failures) = (0, Vec::new());
    while !is_over.load(SeqCst) {
        match try_ask(server) {
            Ok(_) => answered += 1,
            Err(error) => failures.push(error.to_string()),
        }
    }
    (answered, failures)
}

fn no_client_notices_ten_successors<C: Word>() {
    no_client_notices(Dynasty::found::<C>(None));
}

#[track_caller]
fn no_client_notices(mut dynasty: Dynasty) {
    let addresses = dynasty.addresses.clone();
    let file = addresses[1].path().expect("a path");
    let is_over = &AtomicBool::new(false);
    let (answered, failures) = thread::scope(|scope| {
        let clients = addresses.iter().cycle().take(CLIENTS);
        let clients: Vec<_> = clients.map(|address| scope.spawn(|| ask(address, is_over))).collect();
        let replaced = panic::catch_unwind(AssertUnwindSafe(|| {
            for _ in 0..TIMES {
                let old = dynasty.serving;
                dynasty.replace();
                assert_ne!(dynasty.serving, old);
                eventually("the old one ends", || {
                    assert!(file.exists());
                    Dynasty::has_ended(old)
                });
            }
        }));
        // Also where it fails, the clients end.
        is_over.store(true, SeqCst);
        let clients = clients.into_iter().map(|client| client.join().expect("no panic"));
        let total = clients.reduce(|all, one| (all.0 + one.0, [all.1, one.1].concat())).expect("clients");
        replaced.unwrap_or_else(|failed| panic::resume_unwind(failed));
        total
    });
    println!("{answered} answered");
    assert!(failures.is_empty(), "{failures:?} beside {answered}");
    assert!(file.exists());
    // It belongs to the last one, which removes it.
    Client::connect(&addresses[0]).send("stop\n");
    eventually("the last one ends", || Dynasty::has_ended(dynasty.serving));
    assert!(!file.exists());
}

fn a_server_goes_on_if_its_successor_dies<C: Word>() {
    goes_on_if_its_successor_dies(Dynasty::found::<C>(Some("/bin/false")));
}

#[track_caller]
fn goes_on_if_its_successor_dies(mut dynasty: Dynasty) {
    Observed::of(dynasty.serving).signal("USR2");
    let error = dynasty.first.line_after("not handed over: ");
    assert!(error.contains("has ended before it was ready") && error.contains("exit status: 1"), "{error}");
    for address in &dynasty.addresses {
        try_ask(address).expect("it goes on");
    }
    Client::connect(&dynasty.addresses[1]).send("stop\n");
    assert!(dynasty.first.ended().success());
    assert!(!dynasty.addresses[1].path().expect("a path").exists());
}

in_each_concurrency! { [sync threading pool forking event_loop two_loops]:
no_client_notices_ten_successors a_server_goes_on_if_its_successor_dies }

fn no_client_notices_ten_successors_of_two_servers<C: Word>() {
    no_client_notices(Dynasty::found_together::<C>(None));
}

fn two_servers_go_on_if_their_successor_dies<C: Word>() {
    goes_on_if_its_successor_dies(Dynasty::found_together::<C>(Some("/bin/false")));
}

in_each_concurrency! { [sync threading pool event_loop two_loops]:
no_client_notices_ten_successors_of_two_servers two_servers_go_on_if_their_successor_dies }

#[test]
fn servers_are_handed_over_all_or_none() {
    let serve = || Served::new(Script::<Tcp, Threading>::upper().0.bind("127.0.0.1:0").expect("a free port"));
    let [first, second] = [serve(), serve()];
    let handles = [ServerHandle::clone(&first), ServerHandle::clone(&second)];
    let mut successor = Command::new("/bin/false");
    let error = ServerHandle::hand_over_all([&handles[0], &handles[0]], &mut successor).expect_err("it is one server");
    assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
    let error = ServerHandle::hand_over_all([], &mut successor).expect_err("none");
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    let address = second.server_address().to_string();
    second.stop();
    let error = ServerHandle::hand_over_all(&handles, &mut successor).expect_err("one is shut down");
    assert_eq!(error.kind(), io::ErrorKind::NotConnected);
    assert!(error.to_string().contains(&address), "{error}");
    assert!(first.is_ready());
    assert_eq!(Client::connect(first.server_address()).ask("hello"), "HELLO");
    // It can still be handed over.
    let error = first.hand_over(&mut successor).expect_err("the program ends at once");
    assert!(error.to_string().contains("has ended before it was ready"), "{error}");
}

#[test]
fn a_command_that_is_tried_again_passes_on_nothing_else() {
    let serve = || Served::new(Script::<Tcp, Threading>::upper().0.bind("127.0.0.1:0").expect("a free port"));
    let [first, second] = [serve(), serve()];
    let directory = Directory::new();
    let file = directory.path().join("descriptors");
    let mut successor = Command::new("sh");
    successor.args(["-c", "ls -l /proc/self/fd >$0; exit 1"]).arg(&file).stdin(Stdio::null()).stderr(Stdio::null());
    let mut descriptors_after = |servers: &[&ServerHandle]| {
        let error = ServerHandle::hand_over_all(servers.iter().copied(), &mut successor).expect_err("it ends at once");
        assert!(error.to_string().contains("has ended before it was ready"), "{error}");
        let descriptors = fs::read_to_string(&file).expect("it has written");
        assert_eq!(descriptors.matches("socket:").count(), servers.len(), "{descriptors}");
        descriptors.lines().count()
    };
    // The program may have others, of whatever has started this test.
    assert_eq!(descriptors_after(&[&first, &second]), descriptors_after(&[&first]) + 1);
}

#[test]
fn a_server_that_stops_has_nothing_to_hand_over() {
    let (script, _reports) = Script::<Tcp, Threading>::upper();
    let server = Served::new(script.bind("127.0.0.1:0").expect("a free port"));
    let handle = ServerHandle::clone(&server);
    server.stop();
    let error = handle.hand_over(&mut Command::new("/bin/false")).expect_err("it has no socket");
    assert_eq!(error.kind(), io::ErrorKind::NotConnected);
}

#[test]
fn a_successor_that_cannot_be_started_changes_nothing() {
    let (script, _reports) = Script::<Tcp, Threading>::upper();
    let server = Served::new(script.bind("127.0.0.1:0").expect("a free port"));
    let error = server.hand_over(&mut Command::new("/nowhere")).expect_err("there is no such program");
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    assert!(server.is_ready());
    assert_eq!(Client::connect(server.server_address()).ask("hello"), "HELLO");
}

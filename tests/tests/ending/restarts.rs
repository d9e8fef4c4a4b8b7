//! A server that is replaced while clients ask it: the next one takes the listening socket over, and when it serves the
//! old one is told to shut down. Nothing that was sent remains without its answer.

use std::{
    collections::BTreeSet,
    io::{self, BufRead, BufReader, ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
};

use sockserver_tests::{
    client::{PATIENCE, eventually},
    concurrencies::Word,
    in_each_concurrency,
    process::{Process, installed, server},
};

/// How often the server is replaced.
const TIMES: usize = 3;

/// How many clients there are at once.
const CLIENTS: usize = 32;

/// `timeouts(linger)`, in milliseconds: the time in which a client that keeps its connection hears that it is the last
/// answer there.
const LINGER: &str = "500";

/// The process that serves, and what it hands over.
struct Succession {
    listener: TcpListener,
    options: Vec<String>,
    serving: Process,
}

impl Succession {
    fn start<C: Word>(linger: &str) -> Succession {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        // A pool has a thread for each client.
        let options: Vec<_> = [C::WORD, "workers=64", &format!("linger={linger}"), "-"].map(str::to_owned).into();
        Succession { serving: serve(&listener, &options), listener, options }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("it is bound")
    }

    /// Starts the next one, and when it serves has the old one end.
    #[track_caller]
    fn replace(&mut self) {
        let next = serve(&self.listener, &self.options);
        let mut old = std::mem::replace(&mut self.serving, next);
        old.signal("TERM");
        let status = old.ended();
        assert!(status.success(), "{status}");
    }
}

fn serve(listener: &TcpListener, options: &[String]) -> Process {
    let listener = OwnedFd::from(listener.try_clone().expect("a descriptor"));
    let process = Process::start_with(server("http").args(options), listener);
    process.line_after("listening on ");
    process
}

#[derive(Debug, Default)]
struct Tally {
    answered: usize,
    /// Requests that were sent, and not answered in full.
    unanswered: Vec<String>,
    /// Requests that could not be sent.
    unsent: Vec<String>,
    /// The processes that have answered.
    servers: BTreeSet<String>,
}

impl Tally {
    fn add(mut self, other: Tally) -> Tally {
        self.answered += other.answered;
        self.unanswered.extend(other.unanswered);
        self.unsent.extend(other.unsent);
        self.servers.extend(other.servers);
        self
    }
}

struct Answer {
    server: String,
    is_last: bool,
}

/// Asks until it is told to stop.
fn ask(server: SocketAddr, keeps_alive: bool, is_over: &AtomicBool) -> Tally {
    let mut tally = Tally::default();
    let connection = if keeps_alive { "keep-alive" } else { "close" };
    let request = format!("GET / HTTP/1.1\r\nHost: test\r\nConnection: {connection}\r\n\r\n");
    let mut open = None;
    while !is_over.load(SeqCst) {
        let sent = match open.take() {
            Some(client) => Ok(client),
            None => connect(server),
        };
        let sent = sent.and_then(|mut client: BufReader<TcpStream>| {
            client.get_mut().write_all(request.as_bytes())?;
            Ok(client)
        });
        let mut client = match sent {
            Ok(client) => client,
            Err(error) => {
                tally.unsent.push(error.to_string());
                continue;
            }
        };
        match answer(&mut client) {
            Ok(answer) => {
                tally.answered += 1;
                tally.servers.insert(answer.server);
                open = (!answer.is_last).then_some(client);
            }
            Err(error) => tally.unanswered.push(error.to_string()),
        }
    }
    tally
}

fn connect(server: SocketAddr) -> io::Result<BufReader<TcpStream>> {
    let client = TcpStream::connect(server)?;
    client.set_nodelay(true)?;
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    Ok(BufReader::new(client))
}

fn answer(client: &mut impl BufRead) -> io::Result<Answer> {
    let mut answer = Answer { server: String::new(), is_last: false };
    loop {
        let mut line = String::new();
        if client.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end().split_once(": ") {
            Some(("Server", server)) => answer.server = server.to_owned(),
            Some(("Connection", value)) => answer.is_last = value == "close",
            None if line == "\r\n" => break,
            _ => {}
        }
    }
    client.read_exact(&mut [0; 5])?;
    Ok(answer)
}

/// Replaces the server while clients ask it.
#[track_caller]
fn replace_while_asked<C: Word>(linger: &str, keeps_alive: bool, times: usize) -> Tally {
    let mut succession = Succession::start::<C>(linger);
    let server = succession.address();
    let is_over = &AtomicBool::new(false);
    let tally = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(move || ask(server, keeps_alive, is_over))).collect();
        for _ in 0..times {
            // Also where it fails, the clients end.
            let replaced = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| succession.replace()));
            if let Err(panic) = replaced {
                is_over.store(true, SeqCst);
                std::panic::resume_unwind(panic);
            }
        }
        is_over.store(true, SeqCst);
        clients.into_iter().map(|client| client.join().expect("no panic")).fold(Tally::default(), Tally::add)
    });
    println!("{} answered, {} unanswered, {} unsent", tally.answered, tally.unanswered.len(), tally.unsent.len());
    tally
}

#[track_caller]
fn nothing_fails<C: Word>(keeps_alive: bool) {
    let Tally { answered, unanswered, unsent, servers } = replace_while_asked::<C>(LINGER, keeps_alive, TIMES);
    assert_eq!((&unanswered[..], &unsent[..]), (&[][..], &[][..]), "beside {answered}");
    // The last one may have had no time for it.
    assert!(servers.len() >= TIMES, "of {servers:?}");
}

fn no_client_that_closes_its_connections_notices<C: Word>() {
    nothing_fails::<C>(false);
}

fn no_client_that_keeps_its_connection_notices<C: Word>() {
    nothing_fails::<C>(true);
}

in_each_concurrency! { [sync threading pool forking]: no_client_that_closes_its_connections_notices }
// Without threads or processes a client that keeps its connection has the server for itself.
in_each_concurrency! { [threading pool forking]: no_client_that_keeps_its_connection_notices }

/// What wrk says that has asked while the server was replaced.
fn wrk_reports<C: Word>(linger: &str, arguments: &[&str], times: usize) -> Option<String> {
    let mut wrk = installed("wrk")?;
    let mut succession = Succession::start::<C>(linger);
    wrk.args(["--threads", "2", "--connections", &CLIENTS.to_string(), "--duration", "60s"]).args(arguments);
    let wrk = Process::start(wrk.arg(format!("http://{}/", succession.address())));
    eventually("it asks", || succession.serving.observed().sockets() > CLIENTS / 4);
    (0..times).for_each(|_| succession.replace());
    // It ends, and says how it went.
    wrk.signal("INT");
    let report = wrk.output();
    println!("{report}");
    Some(report)
}

fn wrk_sees_no_error<C: Word>() {
    for arguments in [&["--header", "Connection: close"][..], &[]] {
        let Some(report) = wrk_reports::<C>(LINGER, arguments, TIMES) else { return };
        assert!(report.contains(" requests in "), "{report}");
        for error in ["Socket errors", "Non-2xx"] {
            assert!(!report.contains(error), "{arguments:?}: {report}");
        }
    }
}

in_each_concurrency! { [threading pool]: wrk_sees_no_error }

/// How it is without `timeouts(linger)`: nothing is promised to those that keep their connections. It shows by
/// `--ignored --nocapture`.
#[test]
#[ignore = "it measures"]
fn without_linger() {
    use sockserver::concurrency::{Forking, Pool, Threading};

    const TIMES: usize = 50;
    for keeps_alive in [false, true] {
        println!("keep-alive {keeps_alive}");
        replace_while_asked::<Threading>("0", keeps_alive, TIMES);
        replace_while_asked::<Pool>("0", keeps_alive, TIMES);
        replace_while_asked::<Forking>("0", keeps_alive, TIMES);
    }
    wrk_reports::<Threading>("0", &["--header", "Connection: close"], TIMES);
    wrk_reports::<Threading>("0", &[], TIMES);
}

#[test]
fn a_client_that_waits_in_the_queue_is_served_by_the_next_one() {
    use sockserver::concurrency::Synchronous;

    let mut succession = Succession::start::<Synchronous>("0");
    // It has the server for itself.
    let mut first = connect(succession.address()).expect("it listens");
    first.get_mut().write_all(b"GET / HTTP/1.1\r\n\r\n").expect("it reads");
    let served_by = answer(&mut first).expect("an answer").server;
    let mut waiting = connect(succession.address()).expect("it listens");
    waiting.get_mut().write_all(b"GET / HTTP/1.1\r\n\r\n").expect("there is room");
    let next = serve(&succession.listener, &succession.options);
    let mut old = std::mem::replace(&mut succession.serving, next);
    old.signal("TERM");
    assert_ne!(answer(&mut waiting).expect("an answer").server, served_by);
    eventually("the old one ends", || first.read(&mut [0]).is_ok_and(|read| read == 0));
    assert!(old.ended().success());
}

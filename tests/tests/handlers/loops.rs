//! Several event loops of one server.

use std::{
    hint,
    io::Write,
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use sockserver::{HandlerResult, MailHandler, Mailbox, MessageHandler, Server, Writer, message_handler};
use sockserver_tests::{
    client::{Client, eventually},
    served::Served,
};

/// Two loops and no other thread: while a handler waits, so does its loop.
#[derive(Server)]
#[server(
    transport = "tcp",
    concurrency = "event_loop",
    handler = Visitor,
    workers = 2,
    limits(threads = 2),
    timeouts(shutdown = "1s")
)]
struct Meeting {
    barrier: Barrier,
}

#[message_handler(framing = "line")]
struct Visitor {
    wfile: Writer,
    server: Arc<Meeting>,
}

impl MessageHandler for Visitor {
    type Message = str;

    fn message(&mut self, line: &str) -> HandlerResult {
        if line == "meet" {
            self.server.barrier.wait();
        }
        Ok(writeln!(self.wfile, "{line}")?)
    }
}

fn serve() -> Served {
    Served::new(Meeting { barrier: Barrier::new(2) }.bind("127.0.0.1:0").expect("a free port"))
}

fn connect(server: &Served) -> Client {
    let mut client = Client::connect(server.server_address());
    client.send("hello\n");
    assert_eq!(client.line(), "hello");
    client
}

/// Both are answered only if they are on two loops.
#[track_caller]
fn meet(clients: [&mut Client; 2]) {
    let clients = clients.map(|client| {
        client.send("meet\n");
        client
    });
    clients.into_iter().for_each(|client| assert_eq!(client.line(), "meet"));
}

#[test]
fn handlers_of_two_loops_run_at_once() {
    let server = serve();
    let (mut first, mut second) = (connect(&server), connect(&server));
    (0..100).for_each(|_| meet([&mut first, &mut second]));
}

#[test]
fn a_connection_is_given_to_the_loop_that_has_the_fewest() {
    let server = serve();
    let mut clients: Vec<_> = (0..4).map(|_| connect(&server)).collect();
    // The first and the third are on one loop.
    drop(clients.remove(2));
    drop(clients.remove(0));
    eventually("two are left", || server.stats().active == 2);
    let mut new = [connect(&server), connect(&server)];
    for old in &mut clients {
        new.iter_mut().for_each(|new| meet([old, new]));
    }
}

/// Two loops with a monitor.
#[derive(Default, Server)]
#[server(transport = "tcp", concurrency = "event_loop", handler = Worker, workers = 2)]
struct Workshop {
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    working: AtomicUsize,
    /// How often a handler has begun to work while another one worked.
    overlaps: AtomicUsize,
}

/// Computes for so short a time that the monitor leaves it its loop. Another thread sends each answer to it as mail.
#[message_handler(framing = "line", mailbox = 1024)]
struct Worker {
    wfile: Writer,
    mailbox: Mailbox<String>,
    server: Arc<Workshop>,
    #[default]
    postman: Option<std::sync::mpsc::Sender<String>>,
}

impl MessageHandler for Worker {
    type Message = str;

    fn setup(&mut self) -> HandlerResult {
        let (postman, letters) = std::sync::mpsc::channel::<String>();
        let sender = self.mailbox.sender();
        thread::spawn(move || letters.into_iter().try_for_each(|letter| sender.send(letter)));
        self.postman = Some(postman);
        Ok(())
    }

    fn message(&mut self, line: &str) -> HandlerResult {
        let counts = &self.server.counts;
        if counts.working.fetch_add(1, SeqCst) > 0 {
            counts.overlaps.fetch_add(1, SeqCst);
        }
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_micros(20) {
            hint::spin_loop();
        }
        counts.working.fetch_sub(1, SeqCst);
        self.postman.as_ref().map(|postman| postman.send(line.to_owned()));
        Ok(())
    }
}

impl MailHandler for Worker {
    type Mail = String;

    fn mail(&mut self, line: String) -> HandlerResult {
        Ok(writeln!(self.wfile, "{line}")?)
    }
}

#[test]
fn a_loop_that_has_too_much_to_do_gives_a_connection_to_one_that_has_nothing_to_do() {
    let counts = Arc::new(Counts::default());
    let server = Served::new(Workshop { counts: counts.clone() }.bind("127.0.0.1:0").expect("a free port"));
    for _ in 0..5 {
        let mut clients: Vec<_> = (0..4).map(|_| connect(&server)).collect();
        // The first and the third are on one loop.
        drop(clients.remove(3));
        drop(clients.remove(1));
        eventually("two are left", || server.stats().active == 2);
        counts.overlaps.store(0, SeqCst);
        let overlap = || counts.overlaps.load(SeqCst) >= 500;
        thread::scope(|scope| {
            for mut client in clients {
                scope.spawn(move || {
                    let mut lines = 0..;
                    // They overlap when each has a loop for itself.
                    while !overlap() {
                        let batch: Vec<_> = lines.by_ref().take(64).map(|line: usize| line.to_string()).collect();
                        client.send(batch.join("\n") + "\n");
                        batch.iter().for_each(|line| assert_eq!(client.line(), *line));
                    }
                });
            }
        });
        eventually("all have left", || server.stats().active == 0);
    }
}

/// It has one thread and so no monitor: the loop stands still while a handler waits.
#[derive(Server)]
#[server(transport = "tcp", concurrency = "event_loop", handler = Guest, limits(threads = 1))]
struct Party {
    /// A handler waits there for the test.
    barrier: Arc<Barrier>,
    handled: Arc<AtomicUsize>,
    /// For each guest, how many messages had been handled when it came.
    guests: Arc<Mutex<Vec<usize>>>,
}

#[message_handler(framing = "line")]
struct Guest {
    wfile: Writer,
    server: Arc<Party>,
}

impl MessageHandler for Guest {
    type Message = str;

    fn setup(&mut self) -> HandlerResult {
        self.server.guests.lock().expect("no panic").push(self.server.handled.load(SeqCst));
        Ok(())
    }

    fn message(&mut self, line: &str) -> HandlerResult {
        if line == "wait" {
            self.server.barrier.wait();
            self.server.barrier.wait();
        }
        self.server.handled.fetch_add(1, SeqCst);
        Ok(writeln!(self.wfile, "{line}")?)
    }
}

#[test]
fn busy_connections_do_not_keep_new_ones_out() {
    const BUSY: usize = 64;
    const LINES: usize = 200;
    let (barrier, handled, guests) = (Arc::new(Barrier::new(2)), Arc::default(), Arc::<Mutex<Vec<_>>>::default());
    let party = Party { barrier: barrier.clone(), handled: Arc::clone(&handled), guests: guests.clone() };
    let server = Served::new(party.bind("127.0.0.1:0").expect("a free port"));
    let mut busy: Vec<_> = (0..BUSY).map(|_| connect(&server)).collect();
    let mut host = connect(&server);
    host.send("wait\n");
    barrier.wait();
    // The loop stands still. When it goes on, all of this has come.
    busy.iter_mut().for_each(|client| client.send("dance\n".repeat(LINES)));
    let before = handled.load(SeqCst);
    let late: Vec<_> = (0..10).map(|_| Client::connect(server.server_address())).collect();
    barrier.wait();
    busy.iter_mut().for_each(|client| (0..LINES).for_each(|_| assert_eq!(client.line(), "dance")));
    eventually("all have come", || guests.lock().expect("no panic").len() == BUSY + 1 + late.len());
    let last = guests.lock().expect("no panic").last().expect("many") - before;
    assert!(last < BUSY * LINES / 2, "the last one has come after {last} of {} messages", BUSY * LINES);
}

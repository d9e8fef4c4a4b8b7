//! Message handlers beside which other threads write to the client.

use std::{
    fs::File,
    io::{self, Read, Write},
    marker::PhantomData,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc::{self, Receiver, Sender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use sockserver::{
    Concurrency, Context, FromRequest, HandlerResult, HangUp, MessageHandler, Server, Stream, Writer, message_handler,
};
use sockserver_tests::{
    client::{Client, PATIENCE, eventually},
    in_each_concurrency,
    served::Served,
};

/// What another thread sends at once: more than the kernel takes.
const MUCH: usize = 8 << 20;

/// A file that is longer than what is sent at once.
const PROGRAM: &str = "/proc/self/exe";
const FILE: u64 = 1 << 20;

const IDLE: Duration = Duration::from_millis(500);

#[derive(Server)]
#[server(transport = "tcp", concurrency = C, handler = Host<C>)]
struct Party<C: Concurrency + Default> {
    signals: Arc<Signals>,
    concurrency: PhantomData<fn() -> C>,
}

/// What a test and the handler tell each other.
struct Signals {
    /// The handler has come to the end of a message that the test waits for.
    reached: Sender<()>,
    /// The handler may go on.
    go_on: Mutex<Receiver<()>>,
    /// How often the memory of a client was filled.
    filled: AtomicUsize,
}

#[message_handler(framing = "line")]
struct Host<C: Concurrency + Default> {
    request: Stream,
    wfile: Writer,
    spare: Spare,
    server: Arc<Party<C>>,
    #[default]
    sender: Option<JoinHandle<io::Result<()>>>,
    #[default]
    push: Option<Sender<()>>,
}

/// A writer for another thread.
struct Spare(Option<Writer>);

impl<S: Server> FromRequest<S> for Spare {
    fn from_request(cx: &mut Context<'_, S>) -> io::Result<Spare> {
        Ok(Spare(Some(Writer::from_request(cx)?)))
    }
}

impl<C: Concurrency + Default> MessageHandler for Host<C> {
    type Message = str;

    fn message(&mut self, line: &str) -> HandlerResult {
        let signals = self.server.signals.clone();
        match line {
            "stream" => {
                let request = self.request.clone();
                self.sender = Some(thread::spawn(move || (&request).write_all(&vec![b'x'; MUCH])));
            }
            "push" => {
                let (push, pushes) = mpsc::channel();
                let mut wfile = self.spare.0.take().ok_or("it pushes")?;
                // More at once would be more than the client takes.
                thread::spawn(move || pushes.iter().all(|()| (0..64).all(|_| writeln!(wfile, "push").is_ok())));
                self.push = Some(push);
            }
            "ping" => {
                self.push.as_ref().map(|push| push.send(()));
                writeln!(self.wfile, "pong")?;
            }
            "file" => {
                writeln!(self.wfile, "a file")?;
                // On an event loop it is sent after this turn; elsewhere it waits for the other thread.
                signals.reached.send(())?;
                self.wfile.send_file(File::open(PROGRAM)?, 0..FILE)?;
                // The other thread finishes before this turn sends.
                self.sender.take().ok_or("it streams")?.join().expect("no panic")?;
            }
            "fill" => {
                signals.filled.fetch_add(1, SeqCst);
                self.wfile.write_all(&[b'y'; 1024])?;
            }
            "be busy" => {
                self.request.set_idle_timeout(Some(IDLE))?;
                // The last transfer before it is busy.
                writeln!(self.wfile, "busy")?;
                self.wfile.flush()?;
                signals.go_on.lock().expect("no panic").recv_timeout(PATIENCE)?;
                // The client has sent its next line. Nothing is received in this time.
                thread::sleep(2 * IDLE);
            }
            _ => {
                writeln!(self.wfile, "bye")?;
                signals.reached.send(())?;
                return Err(HangUp.into());
            }
        }
        Ok(())
    }
}

struct Guest {
    server: Served,
    client: Client,
    signals: Arc<Signals>,
    reached: Receiver<()>,
    go_on: Sender<()>,
}

impl Guest {
    fn of<C: Concurrency + Default>() -> Guest {
        let ((reached, is_reached), (go_on, may_go_on)) = (mpsc::channel(), mpsc::channel());
        let signals = Arc::new(Signals { reached, go_on: Mutex::new(may_go_on), filled: AtomicUsize::new(0) });
        let party = Party::<C> { signals: signals.clone(), concurrency: PhantomData };
        let server = Served::new(party.bind("127.0.0.1:0").expect("a free port"));
        let client = Client::connect(server.server_address());
        Guest { server, client, signals, reached: is_reached, go_on }
    }

    /// Has another thread send more than this client takes.
    fn stream(&mut self) {
        self.client.send("stream\n");
        let sent = || self.server.connections().first().map_or(0, |info| info.bytes_out);
        eventually("another thread sends", || sent() > 0);
    }

    /// Sends a line, and waits until the handler says that it has come to it.
    fn reach(&mut self, line: &str) {
        self.client.send(format!("{line}\n"));
        self.reached.recv_timeout(PATIENCE).expect("the handler is called");
    }
}

fn a_connection_ends_behind_what_another_thread_is_sending<C: Concurrency + Default>() {
    let mut guest = Guest::of::<C>();
    guest.stream();
    guest.reach("quit");
    let all = guest.client.rest();
    assert_eq!((all.len(), all.ends_with("xbye\n")), (MUCH + 4, true));
}

fn a_file_is_sent_behind_what_another_thread_is_sending<C: Concurrency + Default>() {
    let mut guest = Guest::of::<C>();
    guest.stream();
    guest.reach("file");
    assert!(guest.client.bytes(MUCH).iter().all(|byte| *byte == b'x'));
    assert_eq!(guest.client.line(), "a file");
    let mut file = vec![0; FILE as usize];
    File::open(PROGRAM).and_then(|mut program| program.read_exact(&mut file)).expect("a long file");
    assert!(guest.client.bytes(file.len()) == file);
    guest.client.send("quit\n");
    assert_eq!(guest.client.rest(), "bye\n");
}

fn a_writer_of_another_thread_leaves_no_message_unanswered<C: Concurrency + Default>() {
    let mut guest = Guest::of::<C>();
    guest.client.send("push\n");
    for _ in 0..5000 {
        guest.client.send("ping\n");
        while guest.client.line() != "pong" {}
    }
}

fn messages_wait_while_the_client_takes_nothing_of_another_thread<C: Concurrency + Default>() {
    const LINES: usize = 20_000;
    let mut guest = Guest::of::<C>();
    guest.stream();
    guest.client.send("fill\n".repeat(LINES));
    let mut before = 0;
    eventually("no more is handled", || {
        thread::sleep(Duration::from_millis(50));
        let filled = guest.signals.filled.load(SeqCst);
        std::mem::replace(&mut before, filled) == filled && filled > 0
    });
    // What was handled is kept in memory.
    assert!(before < LINES / 10, "{before} messages were handled");
    guest.client.reset();
}

fn a_client_that_sends_while_the_handler_is_busy_is_not_idle<C: Concurrency + Default>() {
    let mut guest = Guest::of::<C>();
    assert_eq!(guest.client.ask("be busy"), "busy");
    guest.client.send("ping\n");
    guest.go_on.send(()).expect("the handler waits");
    assert_eq!(guest.client.line(), "pong");
}

in_each_concurrency! { [sync threading pool event_loop two_loops]:
    a_connection_ends_behind_what_another_thread_is_sending
    a_file_is_sent_behind_what_another_thread_is_sending
    a_writer_of_another_thread_leaves_no_message_unanswered
    a_client_that_sends_while_the_handler_is_busy_is_not_idle
}

in_each_concurrency! { [threading event_loop two_loops]:
    messages_wait_while_the_client_takes_nothing_of_another_thread
}

//! A message handler that does what it is told, in each concurrency that serves several connections at once: with plain
//! clients, and in the program `tls` over TLS.

use std::{
    fs::{self, File},
    io::Write,
    marker::PhantomData,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use sockserver::{
    Address, Closing, Concurrency, Context, FromRequest, HandlerError, HandlerResult, MailHandler, Mailbox,
    MessageHandler, Options, Rate, Sender, Server, Stage, Stream, Writer, message_handler,
};
use sockserver_tests::{
    client::{PATIENCE, eventually},
    concurrencies::set_workers,
    in_each_concurrency,
    place::Directory,
    served::Served,
};

use crate::peers::{Peer, Peers};

/// What all its handlers share.
#[derive(Server)]
#[server(
    transport = "tcp",
    concurrency = C,
    handler = Obedient<C>,
    limits(connections = 200),
    hooks(handle_error = Self::note, verify_request = Self::is_welcome),
)]
struct Commander<C: Concurrency + Default> {
    gate: Arc<Gate>,
    senders: Mutex<Vec<Sender<String>>>,
    errors: mpsc::Sender<(Stage, String)>,
    /// How many connections `verify_request` refuses.
    unwelcome: AtomicUsize,
    concurrency: PhantomData<fn() -> C>,
}

/// What handlers wait at.
#[derive(Default)]
struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
    waiting: AtomicUsize,
}

impl Gate {
    fn wait(&self) {
        self.waiting.fetch_add(1, SeqCst);
        let mut is_open = self.is_open.lock().expect("no panic");
        while !*is_open {
            is_open = self.opened.wait(is_open).expect("no panic");
        }
    }

    fn open(&self) {
        *self.is_open.lock().expect("no panic") = true;
        self.opened.notify_all();
    }

    fn is_waited_at_by(&self, handlers: usize) {
        eventually("the handlers wait", || self.waiting.load(SeqCst) >= handlers);
    }
}

impl<C: Concurrency + Default> Commander<C> {
    fn note(&self, error: &HandlerError, _: &Address) {
        let _ = self.errors.send((error.stage(), error.to_string()));
    }

    fn is_welcome(&self, _: &Stream, _: &Address) -> bool {
        self.unwelcome.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_err()
    }
}

/// A writer for another thread.
struct Spare(Option<Writer>);

impl<S: Server> FromRequest<S> for Spare {
    fn from_request(cx: &mut Context<'_, S>) -> std::io::Result<Spare> {
        Writer::from_request(cx).map(Some).map(Spare)
    }
}

#[message_handler(framing = "line", max_frame = "1MiB")]
struct Obedient<C: Concurrency + Default> {
    wfile: Writer,
    spare: Spare,
    mailbox: Mailbox<String>,
    server: Arc<Commander<C>>,
    #[default]
    at_the_end: String,
}

impl<C: Concurrency + Default> MessageHandler for Obedient<C> {
    type Message = str;

    fn message(&mut self, line: &str) -> HandlerResult {
        let (order, rest) = line.split_once(' ').unwrap_or((line, ""));
        match order {
            "echo" => writeln!(self.wfile, "{rest}")?,
            "wait" => {
                self.server.gate.wait();
                writeln!(self.wfile, "{rest}")?;
            }
            "sleep" => {
                thread::sleep(Duration::from_micros(rest.parse()?));
                writeln!(self.wfile, "slept")?;
            }
            "compute" => {
                let until = Instant::now() + Duration::from_millis(rest.parse()?);
                while Instant::now() < until {}
                writeln!(self.wfile, "computed")?;
            }
            "bytes" => {
                let mut line = vec![b'x'; rest.parse()?];
                line.push(b'\n');
                self.wfile.write_all(&line)?;
            }
            "lines" => {
                // Of a kibibyte each.
                (0..rest.parse()?).try_for_each(|_: u32| writeln!(self.wfile, "{:01023}", 0))?;
                self.server.gate.wait();
                writeln!(self.wfile, "all")?;
            }
            "file" => {
                let (name, end) = rest.split_once(' ').ok_or("a name and an end")?;
                write!(self.wfile, "file: ")?;
                self.wfile.send_file(File::open(name)?, 3..end.parse()?)?;
                writeln!(self.wfile, " :file")?;
            }
            "join" => {
                self.server.senders.lock().expect("no panic").push(self.mailbox.sender());
                writeln!(self.wfile, "joined")?;
            }
            "tell" => {
                let senders = self.server.senders.lock().expect("no panic").clone();
                senders.iter().for_each(|sender| _ = sender.try_send(rest.to_owned()));
            }
            "later" => {
                let mut writer = self.spare.0.take().ok_or("once")?;
                let (text, gate) = (rest.to_owned(), self.server.gate.clone());
                thread::spawn(move || {
                    gate.wait();
                    writeln!(writer, "{text}").expect("the client is there");
                });
            }
            "end" => self.at_the_end = rest.to_owned(),
            "fail" => return Err(rest.into()),
            "panic" => panic!("as it was told"),
            order => writeln!(self.wfile, "{order}?")?,
        }
        Ok(())
    }

    fn closing(&mut self, why: Closing) -> HandlerResult {
        Ok(writeln!(self.wfile, "{why:?}")?)
    }

    fn finish(&mut self) -> HandlerResult {
        match &*self.at_the_end {
            "" => Ok(()),
            "fail" => Err("at the end".into()),
            "panic" => panic!("at the end"),
            text => Ok(writeln!(self.wfile, "{text}")?),
        }
    }
}

impl<C: Concurrency + Default> MailHandler for Obedient<C> {
    type Mail = String;

    fn mail(&mut self, mail: String) -> HandlerResult {
        Ok(writeln!(self.wfile, "mail {mail}")?)
    }
}

struct Scene {
    server: Served,
    gate: Arc<Gate>,
    errors: mpsc::Receiver<(Stage, String)>,
    peers: Peers,
}

impl Scene {
    fn of<C: Concurrency + Default>() -> Scene {
        Scene::with::<C>(|_| {})
    }

    fn with<C: Concurrency + Default>(change: impl FnOnce(&mut Options)) -> Scene {
        Scene::turning_away::<C>(0, change)
    }

    fn turning_away<C: Concurrency + Default>(unwelcome: usize, change: impl FnOnce(&mut Options)) -> Scene {
        let (sender, errors) = mpsc::channel();
        let gate = Arc::new(Gate::default());
        let server = Commander::<C> {
            gate: gate.clone(),
            senders: Mutex::default(),
            errors: sender,
            unwelcome: AtomicUsize::new(unwelcome),
            concurrency: PhantomData,
        };
        let mut options = Commander::<C>::OPTIONS;
        set_workers(&mut options);
        change(&mut options);
        let peers = Peers::new();
        peers.change(&mut options);
        let server = Served::new(server.bind_with("127.0.0.1:0", options).expect("a free port"));
        Scene { server, gate, errors, peers }
    }

    fn client(&self) -> Peer {
        self.peers.connect(self.server.server_address())
    }
}

fn messages_are_answered_in_order<C: Concurrency + Default>() {
    let scene = Scene::of::<C>();
    let mut client = scene.client();
    assert_eq!(client.ask("echo one"), "one");
    let orders: String = (0..1000).map(|number| format!("echo {number}\n")).collect();
    client.send(orders);
    (0..1000).for_each(|number| assert_eq!(client.line(), number.to_string()));
    assert_eq!(client.ask("echo two"), "two");
    client.send("echo last");
    client.finish();
    assert_eq!(client.rest(), "last\n");
}

fn handlers_that_wait_hold_up_nobody<C: Concurrency + Default>() {
    let scene = Scene::of::<C>();
    let mut others: Vec<_> = (0..8).map(|_| scene.client()).collect();
    others.iter_mut().for_each(|other| assert_eq!(other.ask("echo one"), "one"));
    let mut waiting: Vec<_> = (0..8).map(|_| scene.client()).collect();
    waiting.iter_mut().for_each(|client| client.send("wait one\necho two\n"));
    scene.gate.is_waited_at_by(8);
    others.iter_mut().for_each(|other| assert_eq!(other.ask("echo two"), "two"));
    assert_eq!(scene.client().ask("echo three"), "three");
    scene.gate.open();
    waiting.iter_mut().for_each(|client| assert_eq!([client.line(), client.line()], ["one", "two"]));
    waiting.iter_mut().for_each(|client| assert_eq!(client.ask("echo three"), "three"));
}

fn a_handler_that_computes_holds_up_nobody<C: Concurrency + Default>() {
    let scene = Scene::of::<C>();
    let mut other = scene.client();
    assert_eq!(other.ask("echo one"), "one");
    let mut computing = scene.client();
    computing.send("compute 3000\n");
    let began = Instant::now();
    let mut answers = 0;
    while began.elapsed() < Duration::from_secs(1) {
        assert_eq!(other.ask("echo two"), "two");
        answers += 1;
    }
    assert!(answers > 10, "{answers} answers in a second");
    assert_eq!(computing.line(), "computed");
}

fn slow_and_quick_messages_stay_in_order<C: Concurrency + Default>() {
    let scene = Scene::of::<C>();
    let address = scene.server.server_address().clone();
    let clients: Vec<_> = (0..12)
        .map(|client| {
            let (address, peers) = (address.clone(), scene.peers.clone());
            thread::spawn(move || {
                let mut connection = peers.connect(&address);
                for round in 0..20 {
                    let slow = format!("sleep {}\n", 37 * client * round % 4000);
                    let orders: String = (0..20).map(|number| format!("echo {number}\n")).collect();
                    connection.send(format!("{slow}{orders}"));
                    assert_eq!(connection.line(), "slept");
                    (0..20).for_each(|number| assert_eq!(connection.line(), number.to_string()));
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().expect("all answers come in order"));
    eventually("all connections have ended", || scene.server.stats().finished == 12);
}

fn a_client_that_does_not_read_holds_up_nobody<C: Concurrency + Default>() {
    let scene = Scene::of::<C>();
    let mut lazy = scene.client();
    lazy.send("bytes 1000000\n".repeat(20));
    lazy.send("echo end\n");
    let mut other = scene.client();
    (0..100).for_each(|_| assert_eq!(other.ask("echo one"), "one"));
    for _ in 0..20 {
        assert_eq!(lazy.bytes(1_000_001)[1_000_000], b'\n');
    }
    assert_eq!(lazy.line(), "end");
}

fn a_long_answer_is_sent_while_it_is_written<C: Concurrency + Default>() {
    let scene = Scene::of::<C>();
    let mut client = scene.client();
    client.send("lines 200\n");
    // The handler has not ended.
    (0..128).for_each(|_| assert_eq!(client.line().len(), 1023));
    scene.gate.is_waited_at_by(1);
    scene.gate.open();
    (128..200).for_each(|_| assert_eq!(client.line().len(), 1023));
    assert_eq!(client.line(), "all");
}

/// A file of so many bytes in a directory of its own, and its path.
fn file_of(length: usize) -> (Directory, String, Vec<u8>) {
    let directory = Directory::new();
    let path = directory.path().join("file");
    let bytes: Vec<u8> = (0..length).map(|byte| (byte % 251) as u8).collect();
    fs::write(&path, &bytes).expect("a file");
    let path = path.display().to_string();
    (directory, path, bytes)
}

#[track_caller]
fn is_sent(client: &mut Peer, part: &[u8]) {
    assert_eq!(client.bytes(6), b"file: ");
    assert!(client.bytes(part.len()) == part);
    assert_eq!(client.line(), " :file");
}

fn parts_of_files_are_sent_in_their_places<C: Concurrency + Default>() {
    let scene = Scene::of::<C>();
    let (_directory, path, bytes) = file_of(3_000_000);
    let mut client = scene.client();
    for end in [3, 4, 1000, 65_538, 65_539, 65_540, 131_075, 3_000_000] {
        client.send(format!("file {path} {end}\necho next\n"));
        is_sent(&mut client, &bytes[3..end]);
        assert_eq!(client.line(), "next");
    }
    // Several at once, and what is written between them.
    client.send(format!("echo one\nfile {path} 100\nfile {path} 3000000\nfile {path} 2000000\necho two\n"));
    assert_eq!(client.line(), "one");
    [100, 3_000_000, 2_000_000].iter().for_each(|&end| is_sent(&mut client, &bytes[3..end]));
    assert_eq!(client.line(), "two");
}

fn clients_that_do_not_take_their_files_hold_up_nobody<C: Concurrency + Default>() {
    let scene = Scene::of::<C>();
    let (_directory, path, bytes) = file_of(20_000_000);
    let mut lazy: Vec<_> = (0..10).map(|_| scene.client()).collect();
    lazy.iter_mut().for_each(|client| client.send(format!("file {path} 20000000\nend bye\n")));
    let mut other = scene.client();
    (0..100).for_each(|_| assert_eq!(other.ask("echo one"), "one"));
    for mut client in lazy {
        is_sent(&mut client, &bytes[3..]);
        client.finish();
        assert_eq!(client.rest(), "bye\n");
    }
}

fn a_file_that_is_too_short_ends_the_connection<C: Concurrency + Default>() {
    let scene = Scene::of::<C>();
    let (_directory, path, _) = file_of(3_000_000);
    for end in [3_000_001, 100_000_000] {
        let mut client = scene.client();
        client.send(format!("file {path} {end}\necho next\n"));
        client.wait_for_end();
        assert_eq!(scene.errors.recv_timeout(PATIENCE).map(|(stage, _)| stage), Ok(Stage::Handle));
    }
}

fn mail_reaches_clients_that_say_nothing<C: Concurrency + Default>() {
    let scene = Scene::of::<C>();
    let mut members: Vec<_> = (0..5).map(|_| scene.client()).collect();
    members.iter_mut().for_each(|member| assert_eq!(member.ask("join"), "joined"));
    let mut other = scene.client();
    for round in 0..50 {
        other.send(format!("tell {round}\n"));
        members.iter_mut().for_each(|member| assert_eq!(member.line(), format!("mail {round}")));
    }
}

fn another_thread_writes_to_a_client_that_says_nothing<C: Concurrency + Default>() {
    let scene = Scene::of::<C>();
    let mut client = scene.client();
    client.send("later news\n");
    assert_eq!(client.ask("echo one"), "one");
    scene.gate.open();
    assert_eq!(client.line(), "news");
}

fn errors_and_panics_end_their_connection_only<C: Concurrency + Default>() {
    let scene = Scene::of::<C>();
    let mut other = scene.client();
    assert_eq!(other.ask("echo one"), "one");
    for (order, stage) in [
        ("fail so", Stage::Handle),
        ("panic", Stage::Handle),
        ("end fail", Stage::Finish),
        ("end panic", Stage::Finish),
    ] {
        let mut client = scene.client();
        client.send(format!("echo before\n{order}\n"));
        client.finish();
        assert_eq!(client.rest(), "before\n", "{order}");
        assert_eq!(scene.errors.recv().expect("it is reported").0, stage, "{order}");
    }
    assert_eq!(other.ask("echo two"), "two");
    let stats = scene.server.stats();
    assert_eq!((stats.failed, stats.panicked), (2, 2));
}

fn the_last_words_are_sent<C: Concurrency + Default>() {
    let scene = Scene::of::<C>();
    let mut client = scene.client();
    client.send("end goodbye\nbytes 3000000\n");
    client.finish();
    assert_eq!(client.rest(), format!("{}\ngoodbye\n", "x".repeat(3_000_000)));
}

fn idle_connections_end_with_a_drain<C: Concurrency + Default>() {
    let scene = Scene::of::<C>();
    let mut clients: Vec<_> = (0..20).map(|_| scene.client()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.ask("echo one"), "one"));
    let report = scene.server.stop();
    assert_eq!((report.in_time, report.forced, report.leaked), (20, 0, 0));
    clients.iter_mut().for_each(|client| assert_eq!(client.rest(), "Draining\n"));
}

fn a_handler_finishes_during_a_drain<C: Concurrency + Default>() {
    let scene = Scene::of::<C>();
    let mut busy = scene.client();
    busy.send("wait one\necho two\n");
    scene.gate.is_waited_at_by(1);
    let gate = scene.gate.clone();
    scene.server.shutdown();
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(100));
        gate.open();
    });
    let report = scene.server.stop();
    assert_eq!((report.in_time, report.forced), (1, 0));
    assert_eq!(busy.rest(), "one\ntwo\nDraining\n");
}

fn a_connection_is_kicked<C: Concurrency + Default>() {
    let scene = Scene::of::<C>();
    let mut client = scene.client();
    assert_eq!(client.ask("echo one"), "one");
    let id = scene.server.connections()[0].id;
    assert!(scene.server.close(id));
    assert_eq!(client.rest(), "Kicked\n");
    eventually("it has ended", || scene.server.stats().active == 0);
}

fn idle_and_lifetime_end_connections<C: Concurrency + Default>() {
    let scene = Scene::with::<C>(|options| options.timeouts.idle = Some(Duration::from_millis(300)));
    let mut client = scene.client();
    assert_eq!(client.rest(), "Idle\n");
    let scene = Scene::with::<C>(|options| options.timeouts.lifetime = Some(Duration::from_secs(2)));
    let mut client = scene.client();
    assert_eq!(client.rest(), "Lifetime\n");
    assert_eq!(scene.server.stats().finished, 0);
}

fn a_message_has_its_time<C: Concurrency + Default>() {
    let scene = Scene::with::<C>(|options| options.timeouts.message = Some(Duration::from_millis(100)));
    let mut client = scene.client();
    assert_eq!(client.ask("echo one"), "one");
    thread::sleep(Duration::from_millis(200));
    assert_eq!(client.ask("echo two"), "two");
    client.send("ec");
    client.wait_for_end();
    assert_eq!(scene.errors.recv().expect("it is reported").0, Stage::Handle);
}

fn clients_wait_for_room<C: Concurrency + Default>() {
    let scene = Scene::with::<C>(|options| options.limits.connections = Some(2));
    let mut first = scene.client();
    let mut second = scene.client();
    let mut third = scene.client();
    third.send("echo three\n");
    assert_eq!(first.ask("echo one"), "one");
    assert_eq!(second.ask("echo two"), "two");
    assert_eq!(scene.server.stats().accepted, 2);
    drop(first);
    assert_eq!(third.line(), "three");
}

fn clients_are_accepted_at_a_rate<C: Concurrency + Default>() {
    let scene = Scene::with::<C>(|options| options.limits.rate = Some(Rate::per_second(10)));
    let started = Instant::now();
    for _ in 0..14 {
        assert_eq!(scene.client().ask("echo one"), "one");
    }
    // Ten at once, and four more.
    assert!(started.elapsed() >= Duration::from_millis(400), "{:?}", started.elapsed());
}

fn a_rate_that_is_raised_lets_the_next_client_in<C: Concurrency + Default>() {
    let scene = Scene::with::<C>(|options| options.limits.rate = Some(Rate::per_hour(1)));
    assert_eq!(scene.client().ask("echo one"), "one");
    let mut second = scene.client();
    second.send("echo two\n");
    assert_eq!(scene.server.stats().accepted, 1);
    scene.server.set_limits(scene.server.limits().rate(Rate::per_second(1000))).expect("more than zero");
    assert_eq!(second.line(), "two");
}

fn a_suspended_server_goes_on_with_its_connections<C: Concurrency + Default>() {
    let scene = Scene::of::<C>();
    let mut first = scene.client();
    assert_eq!(first.ask("echo one"), "one");
    scene.server.suspend();
    // One may be on its way already.
    let mut clients: Vec<_> = (0..3).map(|_| scene.client()).collect();
    clients.iter_mut().for_each(|client| client.send("echo two\n"));
    assert_eq!(first.ask("echo one"), "one");
    assert!(scene.server.stats().accepted <= 2);
    scene.server.resume();
    clients.iter_mut().for_each(|client| assert_eq!(client.line(), "two"));
}

fn a_client_that_is_not_welcome_is_turned_away<C: Concurrency + Default>() {
    let scene = Scene::turning_away::<C>(1, |_| {});
    assert_eq!(scene.client().rest(), "");
    assert_eq!(scene.client().ask("echo one"), "one");
    assert_eq!(scene.server.stats().refused, 1);
}

in_each_concurrency! { [threading event_loop two_loops]:
    messages_are_answered_in_order
    handlers_that_wait_hold_up_nobody
    a_handler_that_computes_holds_up_nobody
    slow_and_quick_messages_stay_in_order
    a_client_that_does_not_read_holds_up_nobody
    a_long_answer_is_sent_while_it_is_written
    parts_of_files_are_sent_in_their_places
    clients_that_do_not_take_their_files_hold_up_nobody
    a_file_that_is_too_short_ends_the_connection
    mail_reaches_clients_that_say_nothing
    another_thread_writes_to_a_client_that_says_nothing
    errors_and_panics_end_their_connection_only
    the_last_words_are_sent
    idle_connections_end_with_a_drain
    a_handler_finishes_during_a_drain
    a_connection_is_kicked
    idle_and_lifetime_end_connections
    a_message_has_its_time
    clients_wait_for_room
    clients_are_accepted_at_a_rate
    a_rate_that_is_raised_lets_the_next_client_in
    a_suspended_server_goes_on_with_its_connections
    a_client_that_is_not_welcome_is_turned_away
}

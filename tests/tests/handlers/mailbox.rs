//! `Mailbox`: a handler waits for its client and for what other threads send, whichever comes first.

use std::{
    fmt::Display,
    io::Write,
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use sockserver::{
    Address, Arrival, BoxError, FrameWriter, Frames, HandlerError, HandlerResult, MailHandler, Mailbox, MessageHandler,
    Reader, RequestHandler, SendError, Sender, Server, ServerHandle, Writer, concurrency::Threading, framing::Line,
    message_handler, request_handler,
};
use sockserver_tests::{
    client::{Client, eventually},
    served::Served,
};

/// Gives out the sender of each connection, and notes the errors.
macro_rules! office {
    ($office:ident, $handler:ident) => {
        #[derive(Server)]
        #[server(transport = "tcp", concurrency = "threading", handler = $handler, hooks(handle_error = Self::note))]
        struct $office {
            senders: mpsc::Sender<Sender<String>>,
            errors: mpsc::Sender<String>,
        }

        impl $office {
            fn note(&self, error: &HandlerError, _: &Address) {
                let _ = self.errors.send(format!("{error}: {:?}", std::error::Error::source(error)));
            }

            fn open() -> Office {
                let (senders, new_senders) = mpsc::channel();
                let (errors, noted) = mpsc::channel();
                let server = $office { senders, errors }.bind("127.0.0.1:0").expect("a free port");
                Office { server: Served::new(server), new_senders, errors: noted }
            }
        }
    };
}

struct Office {
    server: Served,
    new_senders: mpsc::Receiver<Sender<String>>,
    errors: mpsc::Receiver<String>,
}

impl Office {
    fn connect(&self) -> (Client, Sender<String>) {
        let client = Client::connect(self.server.server_address());
        (client, self.new_senders.recv_timeout(Duration::from_secs(60)).expect("the handler starts"))
    }
}

office!(LineOffice, Lines);

#[request_handler(mailbox = 4)]
struct Lines {
    rfile: Reader,
    wfile: Writer,
    mailbox: Mailbox<String>,
    office: Arc<LineOffice>,
}

impl RequestHandler for Lines {
    fn handle(&mut self) -> HandlerResult {
        self.office.senders.send(self.mailbox.sender())?;
        while let Some(arrival) = self.rfile.next_line_or(&mut self.mailbox)? {
            match arrival {
                Arrival::Message(line) => writeln!(self.wfile, "line {line}")?,
                Arrival::Mail(mail) => writeln!(self.wfile, "mail {mail}")?,
            }
        }
        Ok(())
    }
}

office!(ByteOffice, ByteLines);

#[request_handler(mailbox = 4)]
struct ByteLines {
    rfile: Reader,
    wfile: Writer,
    mailbox: Mailbox<String>,
    office: Arc<ByteOffice>,
}

impl RequestHandler for ByteLines {
    fn handle(&mut self) -> HandlerResult {
        self.office.senders.send(self.mailbox.sender())?;
        while let Some(arrival) = self.rfile.next_line_bytes_or(&mut self.mailbox)? {
            match arrival {
                Arrival::Message(line) => writeln!(self.wfile, "line {}", line.escape_ascii())?,
                Arrival::Mail(mail) => writeln!(self.wfile, "mail {mail}")?,
            }
        }
        Ok(())
    }
}

office!(FrameOffice, Framed);

#[request_handler(mailbox = 4)]
struct Framed {
    frames: Frames<Line, str>,
    answers: FrameWriter<Line>,
    mailbox: Mailbox<String>,
    office: Arc<FrameOffice>,
}

impl RequestHandler for Framed {
    fn handle(&mut self) -> HandlerResult {
        self.office.senders.send(self.mailbox.sender())?;
        while let Some(arrival) = self.frames.next_or(&mut self.mailbox)? {
            match arrival {
                Arrival::Message(line) => self.answers.send(&format!("line {line}"))?,
                Arrival::Mail(mail) => self.answers.send(&format!("mail {mail}"))?,
            }
        }
        Ok(())
    }
}

office!(MessageOffice, Messages);

#[message_handler(framing = "line", mailbox = 4)]
struct Messages {
    wfile: Writer,
    mailbox: Mailbox<String>,
    office: Arc<MessageOffice>,
}

impl MessageHandler for Messages {
    type Message = str;

    fn setup(&mut self) -> HandlerResult {
        Ok(self.office.senders.send(self.mailbox.sender())?)
    }

    fn message(&mut self, line: &str) -> HandlerResult {
        Ok(writeln!(self.wfile, "line {line}")?)
    }
}

impl MailHandler for Messages {
    type Mail = String;

    fn mail(&mut self, mail: String) -> HandlerResult {
        Ok(writeln!(self.wfile, "mail {mail}")?)
    }
}

/// Each test with a reader, with frames, and with a message handler.
macro_rules! in_each_kind {
    ($($test:ident)*) => { $(mod $test {
        #[test]
        fn lines() {
            super::$test(super::LineOffice::open());
        }

        #[test]
        fn lines_of_bytes() {
            super::$test(super::ByteOffice::open());
        }

        #[test]
        fn frames() {
            super::$test(super::FrameOffice::open());
        }

        #[test]
        fn messages() {
            super::$test(super::MessageOffice::open());
        }
    })* };
}

in_each_kind! {
    mail_comes_while_the_client_is_silent_and_lines_while_no_mail_comes
    mail_keeps_its_order
    a_line_that_has_half_come_outlasts_mail
    a_handler_that_waits_for_mail_is_no_hindrance_to_a_stop
    a_client_that_hangs_up_ends_the_wait_and_closes_the_mailbox
    a_line_that_has_begun_is_answered_before_the_stop
    a_flood_of_mail_does_not_keep_the_client_from_being_heard
}

fn mail_comes_while_the_client_is_silent_and_lines_while_no_mail_comes(office: Office) {
    let (mut client, sender) = office.connect();
    for round in 0..3 {
        sender.send(format!("{round}")).expect("the handler is there");
        assert_eq!(client.line(), format!("mail {round}"));
        assert_eq!(client.ask("hello"), "line hello");
        assert_eq!(client.ask("again"), "line again");
    }
}

#[test]
fn a_handler_with_a_mailbox_can_read_lines_that_are_no_text() {
    let office = ByteOffice::open();
    let (mut client, sender) = office.connect();
    client.send(b"\xff\r\n");
    assert_eq!(client.line(), "line \\xff");
    sender.send("hello".into()).expect("the handler is there");
    assert_eq!(client.line(), "mail hello");
}

fn mail_keeps_its_order(office: Office) {
    let (mut client, sender) = office.connect();
    thread::scope(|scope| {
        // More than the mailbox holds: it waits for room.
        scope.spawn(|| (0..1000).for_each(|number| sender.send(number.to_string()).expect("the handler is there")));
        for number in 0..1000 {
            assert_eq!(client.line(), format!("mail {number}"));
        }
    });
}

fn a_line_that_has_half_come_outlasts_mail(office: Office) {
    let (mut client, sender) = office.connect();
    client.send("ha");
    eventually("the half has come", || bytes_in(&office.server) == 2);
    sender.send("between".into()).expect("the handler is there");
    assert_eq!(client.line(), "mail between");
    client.send("lf\n");
    assert_eq!(client.line(), "line half");
}

fn a_line_that_has_begun_is_answered_before_the_stop(office: Office) {
    let (mut client, sender) = office.connect();
    let (mut idle, _) = office.connect();
    assert_eq!(idle.ask("one"), "line one");
    assert_eq!(client.ask("one"), "line one");
    client.send("tw");
    eventually("the part has come", || bytes_in(&office.server) == 10);
    // What is pushed answers nothing.
    sender.send("between".into()).expect("the handler is there");
    assert_eq!(client.line(), "mail between");
    office.server.shutdown();
    assert_eq!(idle.rest(), "", "the drain has begun, and ends what is idle");
    client.send("o\n");
    assert_eq!(client.line(), "line two");
    assert_eq!(client.rest(), "");
}

/// Fault 10: the handler used to wait on a channel, where nothing could reach it.
fn a_handler_that_waits_for_mail_is_no_hindrance_to_a_stop(office: Office) {
    let (mut client, sender) = office.connect();
    sender.send("one".into()).expect("the handler is there");
    assert_eq!(client.line(), "mail one");
    let report = office.server.stop();
    assert_eq!((report.in_time, report.forced, report.leaked), (1, 0, 0));
    assert_eq!(client.rest(), "");
    assert!(sender.is_closed());
    assert_eq!(office.errors.try_iter().collect::<Vec<_>>(), [""; 0]);
}

fn a_client_that_hangs_up_ends_the_wait_and_closes_the_mailbox(office: Office) {
    let (client, sender) = office.connect();
    drop(client);
    eventually("the handler has ended", || sender.is_closed());
    assert_eq!(sender.try_send("late".into()), Err(SendError::Closed("late".into())));
    assert_eq!(sender.send("late".into()), Err(SendError::Closed("late".into())));
}

fn a_flood_of_mail_does_not_keep_the_client_from_being_heard(office: Office) {
    let (mut client, sender) = office.connect();
    let flood = thread::spawn(move || while sender.send("flood".into()).is_ok() {});
    client.send("hello\n");
    while client.line() != "line hello" {}
    // Nor the server.
    let stopping = thread::spawn(move || office.server.stop());
    while !client.line().is_empty() {}
    assert_eq!(stopping.join().expect("it has stopped").forced, 0);
    flood.join().expect("it has ended");
}

/// Its mailbox is never empty.
#[message_handler(framing = "line")]
#[server(transport = "tcp", concurrency = "threading")]
struct Haunted {
    wfile: Writer,
    mailbox: Mailbox<()>,
}

impl MessageHandler for Haunted {
    type Message = str;

    fn setup(&mut self) -> HandlerResult {
        Ok(self.mailbox.sender().try_send(())?)
    }

    fn message(&mut self, line: &str) -> HandlerResult {
        Ok(writeln!(self.wfile, "line {line}")?)
    }
}

impl MailHandler for Haunted {
    type Mail = ();

    fn mail(&mut self, _: ()) -> HandlerResult {
        self.setup()
    }
}

#[test]
fn a_handler_that_always_has_mail_hears_its_client_and_the_server() {
    let server = Served::new(HauntedServer.bind("127.0.0.1:0").expect("a free port"));
    let mut client = Client::connect(server.server_address());
    assert_eq!(client.ask("one"), "line one");
    assert_eq!(client.ask("two"), "line two");
    assert_eq!(server.stop().in_time, 1);
    assert_eq!(client.rest(), "");
}

/// For mail of any type.
#[message_handler(framing = "line")]
struct Forwarding<T: Default + Display + Send + 'static> {
    wfile: Writer,
    mailbox: Mailbox<T>,
}

impl<T: Default + Display + Send + 'static> MessageHandler for Forwarding<T> {
    type Message = str;

    fn message(&mut self, _: &str) -> HandlerResult {
        Ok(self.mailbox.sender().try_send(T::default()).map_err(|error| error.to_string())?)
    }
}

impl<T: Default + Display + Send + 'static> MailHandler for Forwarding<T> {
    type Mail = T;

    fn mail(&mut self, mail: T) -> HandlerResult {
        Ok(writeln!(self.wfile, "mail {mail}")?)
    }
}

#[test]
fn a_handler_may_be_generic_over_its_mail() {
    #[derive(Server)]
    #[server(transport = "tcp", concurrency = "threading", handler = Forwarding<u32>)]
    struct Numbers;

    let server = Served::new(Numbers.bind("127.0.0.1:0").expect("a free port"));
    assert_eq!(Client::connect(server.server_address()).ask("hello"), "mail 0");
}

fn bytes_in(server: &ServerHandle) -> u64 {
    server.connections().iter().map(|connection| connection.bytes_in).sum()
}

/// Answers a line once it is told to.
#[derive(Server)]
#[server(transport = "tcp", concurrency = "threading", handler = Busy)]
struct Counter {
    words: Mutex<mpsc::Receiver<()>>,
    senders: mpsc::Sender<Sender<u32>>,
}

#[message_handler(framing = "line", mailbox = 2)]
struct Busy {
    mailbox: Mailbox<u32>,
    counter: Arc<Counter>,
}

impl MessageHandler for Busy {
    type Message = String;

    fn setup(&mut self) -> HandlerResult {
        self.counter.senders.send(self.mailbox.sender())?;
        Ok(self.counter.words.lock().expect("nothing panics").recv()?)
    }

    fn message(&mut self, _: String) -> HandlerResult {
        Ok(())
    }
}

impl MailHandler for Busy {
    type Mail = u32;

    fn mail(&mut self, _: u32) -> Result<(), BoxError> {
        Ok(self.counter.words.lock().expect("nothing panics").recv()?)
    }
}

#[test]
fn a_full_mailbox_says_so_or_is_waited_for() {
    let (word, words) = mpsc::channel();
    let (senders, new_senders) = mpsc::channel();
    let counter = Counter { words: words.into(), senders };
    let server = Served::new(counter.bind("127.0.0.1:0").expect("a free port"));
    let client = Client::connect(server.server_address());
    let sender: Sender<u32> = new_senders.recv().expect("the handler starts");
    assert_eq!(sender.try_send(1), Ok(()));
    assert_eq!(sender.clone().try_send(2), Ok(()));
    assert_eq!(sender.try_send(3), Err(SendError::Full(3)));
    let began = Instant::now();
    assert_eq!(sender.send_timeout(3, Duration::from_millis(50)), Err(SendError::Full(3)));
    assert!(began.elapsed() >= Duration::from_millis(50));
    thread::scope(|scope| {
        let sending = scope.spawn(|| sender.send(3));
        let sending_in_time = scope.spawn(|| sender.send_timeout(4, Duration::from_secs(600)));
        (0..3).for_each(|_| word.send(()).expect("the handler waits"));
        assert_eq!([sending.join().expect("no panic"), sending_in_time.join().expect("no panic")], [Ok(()), Ok(())]);
        // Full again, until the handler fails.
        let sending = scope.spawn(|| std::iter::repeat_with(|| sender.send(5)).find_map(Result::err));
        drop(word);
        assert_eq!(sending.join().expect("no panic"), Some(SendError::Closed(5)));
    });
    drop(client);
    assert!(sender.is_closed());
}

#[test]
fn a_server_that_forks_is_not_bound_with_a_mailbox() {
    // The compiler refuses those without a parameter.
    #[derive(Server)]
    #[server(transport = "tcp", concurrency = "forking", handler = Elsewhere)]
    struct Forks<const N: usize>;

    #[derive(Server)]
    #[server(transport = "tcp", concurrency = "forking", handler = Loop)]
    struct ForksToo<const N: usize>;

    /// What the macro does not know by its name.
    type Letters = Mailbox<String>;

    #[request_handler]
    struct Elsewhere {
        _letters: Letters,
    }

    impl RequestHandler for Elsewhere {
        fn handle(&mut self) -> HandlerResult {
            Ok(())
        }
    }

    #[message_handler(framing = "line")]
    struct Loop {
        _mailbox: Mailbox<String>,
    }

    impl MessageHandler for Loop {
        type Message = String;

        fn message(&mut self, _: String) -> HandlerResult {
            Ok(())
        }
    }

    impl MailHandler for Loop {
        type Mail = String;

        fn mail(&mut self, _: String) -> HandlerResult {
            Ok(())
        }
    }

    for refused in [Forks::<0>.bind("127.0.0.1:0").map(drop), ForksToo::<0>.bind("127.0.0.1:0").map(drop)] {
        let error = refused.expect_err("it forks").to_string();
        assert!(error.contains("for each request: use \"threading\""), "{error}");
    }
    drop(Forks::<0>.bind_as("127.0.0.1:0", Forks::<0>::OPTIONS, Threading::default()).expect("threads share it"));
}

//! What a service tells systemd. The test is systemd: it has the socket that the messages are sent to.

use std::{os::unix::net::UnixDatagram, process::Command, thread, time::Duration};

use sockserver::Address;
use sockserver_tests::{
    client::{Client, PATIENCE},
    concurrencies::Word,
    in_each_concurrency,
    place::Place,
    process::{Process, ServerProcess, server},
};

const WATCHDOG: Duration = Duration::from_millis(100);

struct Service {
    process: ServerProcess,
    messages: UnixDatagram,
    _place: Place,
}

impl Service {
    #[track_caller]
    fn start<C: Word>(options: &[&str]) -> Service {
        let mut command = server("lines");
        command.arg(C::WORD).args(options);
        Service::of(command)
    }

    #[track_caller]
    fn of(mut command: Command) -> Service {
        let place = Place::unix();
        let messages = UnixDatagram::bind(place.path()).expect("a free path");
        messages.set_read_timeout(Some(PATIENCE)).expect("an open socket");
        command.env("NOTIFY_SOCKET", place.path()).env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
        Service { process: ServerProcess::start(command, Place::of("stream")), messages, _place: place }
    }

    #[track_caller]
    fn message(&self) -> String {
        let mut message = [0; 4096];
        let length = self.messages.recv(&mut message).expect("a message");
        String::from_utf8_lossy(&message[..length]).into_owned()
    }

    /// The next message that is not the watchdog's.
    #[track_caller]
    fn other_message(&self) -> String {
        std::iter::repeat_with(|| self.message()).find(|message| message != "WATCHDOG=1\n").expect("a message")
    }

    /// The next message says that the service reloads, and at what time it began, in microseconds.
    #[track_caller]
    fn reloading(&self) -> u64 {
        let message = self.other_message();
        let time = message.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("it reloads");
        time.trim_end().parse().expect("microseconds")
    }

    fn address(&self) -> &Address {
        self.process.address()
    }
}

fn a_service_tells_when_it_is_up_that_it_lives_and_when_it_stops<C: Word>() {
    let mut service = Service::start::<C>(&[]);
    assert_eq!(service.message(), "READY=1\n");
    for _ in 0..3 {
        assert_eq!(service.message(), "WATCHDOG=1\n");
    }
    assert_eq!(Client::connect(service.address()).ask("hello"), "HELLO");
    Client::connect(service.address()).send("stop\n");
    let stopping = service.other_message();
    let extended = stopping.strip_prefix("STOPPING=1\nEXTEND_TIMEOUT_USEC=").expect("it extends the timeout");
    let extended = Duration::from_micros(extended.trim_end().parse().expect("microseconds"));
    assert!(extended > Duration::from_secs(25), "{extended:?}");
    assert!(service.process.ended().success());
}

fn a_service_lives_while_it_is_busy<C: Word>() {
    let service = Service::start::<C>(&[]);
    assert_eq!(service.message(), "READY=1\n");
    let mut clients: Vec<_> = (0..3).map(|_| Client::connect(service.address())).collect();
    for client in &mut clients {
        assert_eq!(client.ask("hello"), "HELLO");
    }
    for _ in 0..3 {
        assert_eq!(service.message(), "WATCHDOG=1\n");
    }
}

in_each_concurrency! { [sync threading pool forking event_loop]: a_service_tells_when_it_is_up_that_it_lives_and_when_it_stops }
in_each_concurrency! { [threading pool forking event_loop]: a_service_lives_while_it_is_busy }

#[test]
fn a_server_whose_only_thread_is_stuck_is_not_said_to_live() {
    use sockserver::concurrency::Synchronous;

    let service = Service::start::<Synchronous>(&[]);
    let mut client = Client::connect(service.address());
    assert_eq!(client.ask("hello"), "HELLO");
    // The messages of the time before.
    service.messages.set_nonblocking(true).expect("an open socket");
    while service.messages.recv(&mut [0; 64]).is_ok() {}
    thread::sleep(3 * WATCHDOG);
    assert!(service.messages.recv(&mut [0; 64]).is_err());
}

fn a_successor_becomes_the_main_process_of_the_service<C: Word>() {
    let mut service = Service::start::<C>(&["poll=20"]);
    assert_eq!(service.other_message(), "READY=1\n");
    service.process.signal("USR2");
    service.reloading();
    // The successor says so too; systemd does not listen to it yet.
    assert_eq!(service.other_message(), "READY=1\n");
    let successor = service.process.line_after("handed over to ");
    assert_eq!(service.other_message(), format!("MAINPID={successor}\nREADY=1\n"));
    // They are the successor's once the old one has ended.
    assert!(service.process.ended().success());
    service.messages.set_nonblocking(true).expect("an open socket");
    while service.messages.recv(&mut [0; 64]).is_ok() {}
    service.messages.set_nonblocking(false).expect("an open socket");
    assert_eq!(service.message(), "WATCHDOG=1\n");
    Client::connect(service.address()).send("stop\n");
    assert!(service.other_message().starts_with("STOPPING=1\n"));
}

fn a_service_tells_that_it_reloads<C: Word>() {
    let service = Service::start::<C>(&[]);
    assert_eq!(service.other_message(), "READY=1\n");
    let mut last = 0;
    for _ in 0..2 {
        assert_eq!(Client::connect(service.address()).ask("reload"), "reloaded");
        let time = service.reloading();
        assert!(time > last, "{time} after {last}");
        last = time;
        assert_eq!(service.other_message(), "READY=1\n");
    }
}

in_each_concurrency! { [sync threading pool forking event_loop]:
    a_successor_becomes_the_main_process_of_the_service
    a_service_tells_that_it_reloads
}

#[test]
fn a_successor_that_dies_ends_the_reload() {
    let mut command = server("lines");
    command.args(["threading", "poll=20"]).env("SUCCESSOR", "/bin/false");
    let service = Service::of(command);
    assert_eq!(service.other_message(), "READY=1\n");
    service.process.signal("USR2");
    service.reloading();
    service.process.line_after("not handed over: ");
    assert_eq!(service.other_message(), "READY=1\n");
    Client::connect(service.address()).send("stop\n");
    assert!(service.other_message().starts_with("STOPPING=1\n"));
}

#[test]
fn nothing_is_told_outside_of_systemd() {
    let mut command = server("lines");
    command.args(["threading", "127.0.0.1:0"]).env_remove("NOTIFY_SOCKET");
    Process::start(&mut command).line_after("listening on ");
}

#[test]
fn a_socket_of_systemd_that_is_not_there_is_an_error() {
    let mut command = server("lines");
    let mut process = Process::start(command.args(["sync", "127.0.0.1:0"]).env("NOTIFY_SOCKET", "/nowhere"));
    assert!(!process.ended().success());
}

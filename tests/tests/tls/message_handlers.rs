//! TLS that a message handler begins.

use std::{
    io::{self, Write},
    marker::PhantomData,
    sync::{Mutex, mpsc},
    thread,
    time::Duration,
};

use rustls::ClientConnection;
use sockserver::{
    Address, Concurrency, Context, FromRequest, HandlerError, HandlerResult, MailHandler, Mailbox, MessageHandler,
    Options, Server, StartTls, Stream, TlsStart, Writer, message_handler, transport::AnyStream,
};
use sockserver_tests::{
    client::{Client, PATIENCE, eventually},
    concurrencies, in_each_concurrency,
    place::Place,
    process::{ServerProcess, server},
    script::Report,
    served::Served,
    tls::{Authority, TlsClient},
};

/// What its handlers and its errors say.
#[derive(Server)]
#[server(transport = AnyStream, concurrency = C, handler = Session<C>, hooks(handle_error = Self::note))]
struct Chatty<C: Concurrency + Default> {
    reports: mpsc::Sender<Report>,
    /// The writers of a connection that is about to begin TLS, for another thread.
    writers: Mutex<mpsc::Sender<(Stream, Writer)>>,
    concurrency: PhantomData<fn() -> C>,
}

/// Answers in upper case, and before TLS with `plain` before it.
#[message_handler(framing = "line")]
struct Session<C: Concurrency + Default> {
    request: Stream,
    wfile: Writer,
    spare: Spare,
    mailbox: Mailbox<()>,
    server: std::sync::Arc<Chatty<C>>,
}

/// A writer for another thread.
struct Spare(Option<Writer>);

impl<S: Server> FromRequest<S> for Spare {
    fn from_request(cx: &mut Context<'_, S>) -> io::Result<Spare> {
        Writer::from_request(cx).map(|writer| Spare(Some(writer)))
    }
}

/// More than the kernel takes for a client that does not read.
const MUCH: usize = 16 << 20;

impl<C: Concurrency + Default> MessageHandler for Session<C> {
    type Message = str;

    fn message(&mut self, line: &str) -> HandlerResult {
        match line {
            "STARTTLS" => {
                writeln!(self.wfile, "220 go ahead")?;
                if let Some(writer) = self.spare.0.take() {
                    let writers = self.server.writers.lock().expect("nobody panics with it");
                    // Most tests do not write.
                    let _ = writers.send((self.request.clone(), writer));
                }
                return Err(StartTls.into());
            }
            "STARTTLS by mail" => self.mailbox.sender().try_send(()).map_err(|_| "the mailbox is full")?,
            "STARTTLS behind much" => {
                self.wfile.write_all(&vec![b'x'; MUCH])?;
                return Err(StartTls.into());
            }
            line if self.request.tls_info().is_some() => writeln!(self.wfile, "{}", line.to_uppercase())?,
            line => writeln!(self.wfile, "plain {line}")?,
        }
        Ok(())
    }
}

impl<C: Concurrency + Default> MailHandler for Session<C> {
    type Mail = ();

    fn mail(&mut self, (): ()) -> HandlerResult {
        writeln!(self.wfile, "220 go ahead")?;
        Err(StartTls.into())
    }
}

impl<C: Concurrency + Default> Chatty<C> {
    fn note(&self, error: &HandlerError, client: &Address) {
        let _ = self.reports.send(Report::new(error, client));
    }
}

/// A [`Chatty`] that is served.
struct Chat {
    server: Served,
    reports: mpsc::Receiver<Report>,
    writers: mpsc::Receiver<(Stream, Writer)>,
    authority: Authority,
}

impl Chat {
    fn serve<C: Concurrency + Default>() -> Chat {
        Chat::serve_with::<C>(Duration::from_secs(60))
    }

    fn serve_with<C: Concurrency + Default>(handshake: Duration) -> Chat {
        let authority = Authority::new();
        let mut options = Options::new().tls(authority.options().tls.start(TlsStart::Handler));
        options.timeouts.handshake = handshake;
        Chat::serve_by::<C>(authority, options)
    }

    fn serve_by<C: Concurrency + Default>(authority: Authority, options: Options) -> Chat {
        let ((to_reports, reports), (to_writers, writers)) = (mpsc::channel(), mpsc::channel());
        let server: Chatty<C> =
            Chatty { reports: to_reports, writers: Mutex::new(to_writers), concurrency: PhantomData };
        let server = Served::new(server.bind_with("127.0.0.1:0", options).expect("a free port"));
        Chat { server, reports, writers, authority }
    }

    fn connect(&self) -> Client {
        Client::connect(self.server.server_address())
    }

    /// A client that has asked for TLS, and was told to go ahead.
    fn asked(&self) -> Client {
        let mut client = self.connect();
        assert_eq!(client.ask("STARTTLS"), "220 go ahead");
        client
    }

    fn encrypted(&self, client: Client) -> TlsClient {
        TlsClient::begin(client.into_socket(), "localhost", &self.authority.client())
    }

    #[track_caller]
    fn report(&self) -> Report {
        self.reports.recv_timeout(PATIENCE).expect("handle_error is called")
    }

    /// How many bytes of the only connection were received.
    fn bytes_in(&self) -> u64 {
        self.server.connections().iter().map(|connection| connection.bytes_in).sum()
    }
}

fn a_connection_goes_on_encrypted<C: Concurrency + Default>() {
    let chat = Chat::serve::<C>();
    for request in ["STARTTLS", "STARTTLS by mail"] {
        let mut client = chat.connect();
        assert_eq!(client.ask("hello"), "plain hello");
        assert_eq!(client.ask(request), "220 go ahead");
        let mut client = chat.encrypted(client);
        for number in 0..50 {
            assert_eq!(client.ask(&format!("request {number}")), format!("REQUEST {number}"));
        }
        client.finish();
        assert_eq!(client.rest(), "");
    }
    eventually("the connections have ended", || chat.server.stats().finished == 2);
    assert_eq!(chat.reports.try_recv().ok(), None);
}

#[test]
fn a_connection_goes_on_encrypted_in_every_concurrency_also_in_a_process_of_its_own() {
    for concurrency in concurrencies::FOR_MESSAGES {
        let authority = Authority::new();
        authority.options();
        let mut command = server("tls");
        command.args([concurrency, "handler", authority.option("cert.pem"), authority.option("key.pem")]);
        let server = ServerProcess::start(command, Place::of("tcp"));
        for _ in 0..2 {
            let mut client = Client::connect(server.address());
            assert_eq!([client.ask("hello"), client.ask("STARTTLS")], ["plain hello", "220 go ahead"], "{concurrency}");
            let mut client = TlsClient::begin(client.into_socket(), "localhost", &authority.client());
            assert_eq!(client.ask("hello"), "HELLO", "{concurrency}");
            client.finish();
            assert_eq!(client.rest(), "", "{concurrency}");
        }
    }
}

fn bytes_behind_the_request_for_tls_are_refused<C: Concurrency + Default>() {
    let chat = Chat::serve::<C>();
    let mut client = chat.connect();
    client.send("STARTTLS\nsomebody added this\n");
    // Not even that TLS may begin is sent.
    assert_eq!(client.rest(), "");
    let report = chat.report();
    assert!(report.message.contains("an attacker on the way"), "{report:?}");
}

/// What comes until the end, an alert perhaps.
fn everything(client: &mut Client) -> Vec<u8> {
    let mut received = Vec::new();
    while let piece = client.receive()
        && !piece.is_empty()
    {
        received.extend(piece);
    }
    received
}

fn find(what: &[u8], bytes: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn bytes_that_come_before_the_handshake_are_no_message<C: Concurrency + Default>() {
    let chat = Chat::serve::<C>();
    let mut client = chat.asked();
    client.send("somebody added this\n");
    assert_eq!(find(b"added", &everything(&mut client)), None);
    let report = chat.report();
    assert!(report.message.contains("corrupt message"), "{report:?}");
}

fn a_client_that_ends_before_the_handshake_has_hung_up<C: Concurrency + Default>() {
    let chat = Chat::serve::<C>();
    let mut client = chat.asked();
    client.finish();
    assert_eq!(client.rest(), "");
    let report = chat.report();
    assert!(report.is_disconnect && report.message.contains("within the TLS handshake"), "{report:?}");
    // It is in the last line, without an end.
    let mut client = chat.connect();
    client.send("STARTTLS");
    client.finish();
    client.wait_for_end();
    let report = chat.report();
    assert!(report.is_disconnect && report.message.contains("ended the connection"), "{report:?}");
}

fn a_silent_client_has_the_time_of_a_handshake<C: Concurrency + Default>() {
    let chat = Chat::serve_with::<C>(Duration::from_millis(50));
    let mut client = chat.asked();
    assert_eq!(client.rest(), "");
    assert!(chat.report().is_timeout);
}

fn a_drain_does_not_wait_for_the_handshake<C: Concurrency + Default>() {
    let chat = Chat::serve::<C>();
    let mut client = chat.asked();
    let report = chat.server.stop();
    assert_eq!((report.in_time, report.forced, report.leaked), (1, 0, 0), "{report:?}");
    assert_eq!(client.rest(), "");
}

fn what_was_written_is_sent_in_plain_text_first<C: Concurrency + Default>() {
    let chat = Chat::serve::<C>();
    let mut client = chat.connect();
    client.send("STARTTLS behind much\n");
    assert_eq!(client.bytes(MUCH), vec![b'x'; MUCH]);
    assert_eq!(chat.encrypted(client).ask("hello"), "HELLO");
}

/// The client's first message of a handshake.
fn client_hello(authority: &Authority) -> (ClientConnection, Vec<u8>) {
    let name = "localhost".try_into().expect("a name");
    let mut connection = ClientConnection::new(authority.client().into(), name).expect("a valid configuration");
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).expect("a buffer takes all");
    (connection, hello)
}

fn what_other_threads_write_during_the_handshake_is_sent_encrypted_after_it<C: Concurrency + Default>() {
    let chat = Chat::serve::<C>();
    let mut client = chat.asked();
    let (connection, hello) = client_hello(&chat.authority);
    let before = chat.bytes_in();
    client.send(&hello[..1]);
    // Now the connection knows that it is encrypted.
    eventually("the handshake has begun", || chat.bytes_in() > before);
    let (request, mut writer) = chat.writers.recv_timeout(PATIENCE).expect("the handler has left them");
    thread::scope(|scope| {
        scope.spawn(move || Write::write_all(&mut &request, b"written\n").expect("the handshake succeeds"));
        scope.spawn(move || writer.write_all(b"held back\n").and_then(|()| writer.flush()).expect("it succeeds"));
        client.send(&hello[1..]);
        let mut client = TlsClient::resume(client.into_socket(), connection).expect("it is a handshake");
        let mut lines = [client.line(), client.line()];
        lines.sort();
        assert_eq!(lines, ["held back", "written"]);
        assert_eq!(client.ask("hello"), "HELLO");
    });
}

fn other_threads_cannot_write_after_a_failed_handshake<C: Concurrency + Default>() {
    let chat = Chat::serve::<C>();
    let mut client = chat.asked();
    let (_, hello) = client_hello(&chat.authority);
    let before = chat.bytes_in();
    client.send(&hello[..1]);
    eventually("the handshake has begun", || chat.bytes_in() > before);
    let (request, mut writer) = chat.writers.recv_timeout(PATIENCE).expect("the handler has left them");
    thread::scope(|scope| {
        let written = scope.spawn(move || Write::write_all(&mut &request, b"secret\n"));
        // It may be held back, and is lost with the connection then.
        scope.spawn(move || writer.write_all(b"secret\n").and_then(|()| writer.flush()));
        client.send(b"no TLS at all");
        client.finish();
        assert_eq!(find(b"secret", &everything(&mut client)), None);
        written.join().expect("it does not panic").expect_err("nothing can be written");
    });
    chat.report();
}

fn a_server_without_a_certificate_cannot_start<C: Concurrency + Default>() {
    let chat = Chat::serve_by::<C>(Authority::new(), Options::new());
    let mut client = chat.connect();
    client.send("STARTTLS\n");
    client.wait_for_end();
    let report = chat.report();
    assert!(report.message.contains("has no certificate"), "{report:?}");
}

fn a_connection_is_encrypted_once<C: Concurrency + Default>() {
    let chat = Chat::serve::<C>();
    let mut client = chat.encrypted(chat.asked());
    client.send("STARTTLS\n");
    client.wait_for_end();
    let report = chat.report();
    assert!(report.message.contains("encrypted already"), "{report:?}");
}

in_each_concurrency! {
    [sync threading pool event_loop]:
    a_connection_goes_on_encrypted
    bytes_behind_the_request_for_tls_are_refused
    bytes_that_come_before_the_handshake_are_no_message
    a_client_that_ends_before_the_handshake_has_hung_up
    a_silent_client_has_the_time_of_a_handshake
    a_drain_does_not_wait_for_the_handshake
    what_was_written_is_sent_in_plain_text_first
    what_other_threads_write_during_the_handshake_is_sent_encrypted_after_it
    other_threads_cannot_write_after_a_failed_handshake
    a_server_without_a_certificate_cannot_start
    a_connection_is_encrypted_once
}

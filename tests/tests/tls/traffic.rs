//! What is read and written on a connection with TLS.

use std::{
    io::{self, Read, Write},
    sync::{Mutex, mpsc},
    thread,
};

use sockserver::{
    Arrival, Concurrency, Frames, HandlerResult, Mailbox, MessageHandler, Reader, RequestHandler, Server, Writer,
    framing::U32,
    message_handler, request_handler,
    transport::{StreamTransport, Tcp, Unix},
};
use sockserver_tests::{
    client::eventually,
    in_each_concurrency,
    place::Local,
    script::{Script, Session, upper},
    served::Served,
    tls::{Authority, TlsClient},
};

fn lines_are_answered<C: Concurrency + Default>() {
    fn answered<T: Local + StreamTransport, C: Concurrency + Default>() {
        let authority = Authority::new();
        let server = Script::<T, C>::serve_with(upper, authority.options());
        let mut client = TlsClient::connect(server.server_address(), &authority.client());
        for number in 0..50 {
            assert_eq!(client.ask(&format!("request {number}")), format!("REQUEST {number}"));
        }
        client.finish();
        assert_eq!(client.rest(), "");
        eventually("the request has ended", || server.stats().finished == 1);
        assert_eq!(server.reported(), None);
    }
    answered::<Tcp, C>();
    answered::<Unix, C>();
}

/// More than the kernel takes for a client that does not read.
const MUCH: usize = 16 << 20;

fn one_thread_reads_while_another_writes<C: Concurrency + Default>() {
    let authority = Authority::new();
    let server = Script::<Tcp, C>::serve_with(
        |session| {
            let Session { request, rfile, .. } = session;
            thread::scope(|scope| {
                let writing = scope.spawn(|| Write::write_all(&mut &*request, &vec![b'x'; MUCH]));
                let read = io::copy(rfile, &mut io::sink())?;
                writing.join().expect("it does not panic")?;
                Ok(write!(&*request, "{read}")?)
            })
        },
        authority.options(),
    );
    let mut client = TlsClient::connect(server.server_address(), &authority.client());
    // Nothing is read meanwhile: the writing thread waits, and must not keep the reading one from taking all of this.
    for _ in 0..MUCH >> 16 {
        client.send([b'y'; 1 << 16]);
    }
    client.finish();
    assert_eq!(client.count_rest(), MUCH + MUCH.to_string().len());
    assert_eq!(server.reported(), None);
}

fn what_one_thread_writes_arrives_while_another_waits_for_the_client<C: Concurrency + Default>() {
    let authority = Authority::new();
    let (news, is_news) = mpsc::channel::<String>();
    let is_news = Mutex::new(is_news);
    let server = Script::<Tcp, C>::serve_with(
        move |session| {
            let Session { rfile, wfile, .. } = session;
            thread::scope(|scope| {
                scope.spawn(|| {
                    let is_news = is_news.lock().expect("no other thread has it");
                    while let Ok(news) = is_news.recv() {
                        writeln!(wfile, "{news}").expect("the client reads");
                    }
                });
                while rfile.next_line()?.is_some() {}
                Ok(())
            })
        },
        authority.options(),
    );
    let mut client = TlsClient::connect(server.server_address(), &authority.client());
    for number in 0..20 {
        news.send(number.to_string()).expect("the handler runs");
        assert_eq!(client.line(), number.to_string());
    }
    drop(news);
    client.finish();
    assert_eq!(client.rest(), "");
}

fn a_read_into_a_small_buffer_leaves_the_rest_for_later<C: Concurrency + Default>() {
    let authority = Authority::new();
    let server = Script::<Tcp, C>::serve_with(
        |session| {
            let mut stream = &session.request;
            let mut seen = Vec::new();
            while !seen.ends_with(b"\n") {
                let mut piece = [0; 7];
                let length = stream.read(&mut piece)?;
                assert!(length > 0, "the client goes on");
                seen.extend_from_slice(&piece[..length]);
            }
            stream.write_all(&seen)?;
            // The rest of one record goes to the reader as well.
            upper(session)
        },
        authority.options(),
    );
    let mut client = TlsClient::connect(server.server_address(), &authority.client());
    let line = "x".repeat(6999);
    client.send(format!("{line}\nhello\n"));
    assert_eq!(client.line(), line);
    assert_eq!(client.line(), "HELLO");
}

fn keys_are_changed_under_way<C: Concurrency + Default>() {
    let authority = Authority::new();
    let server = Script::<Tcp, C>::serve_with(upper, authority.options());
    let mut client = TlsClient::connect(server.server_address(), &authority.client());
    for number in 0..20 {
        client.connection().refresh_traffic_keys().expect("it is TLS 1.3");
        assert_eq!(client.ask(&format!("key {number}")), format!("KEY {number}"));
    }
    client.finish();
    assert_eq!(client.rest(), "");
}

fn a_long_answer_arrives_in_full_at_the_end<C: Concurrency + Default>() {
    let authority = Authority::new();
    let server =
        Script::<Tcp, C>::serve_with(|session| Ok(session.wfile.write_all(&vec![b'x'; MUCH])?), authority.options());
    let mut client = TlsClient::connect(server.server_address(), &authority.client());
    assert_eq!(client.count_rest(), MUCH);
    assert_eq!(server.reported(), None);
}

fn the_counters_are_of_the_wire<C: Concurrency + Default>() {
    let authority = Authority::new();
    // The handler's thread has counted what it has sent before.
    let server = Script::<Tcp, C>::serve_with(
        |session| {
            while session.rfile.next_line()?.is_some() {
                let counted = session.server.connections().swap_remove(0);
                writeln!(session.wfile, "{:010} {:010}", counted.bytes_in, counted.bytes_out)?;
            }
            Ok(())
        },
        authority.options(),
    );
    let mut client = TlsClient::connect(server.server_address(), &authority.client());
    let mut counts = || {
        let line = client.ask("hello");
        let (received, sent) = line.split_once(' ').expect("both");
        [received, sent].map(|count| count.parse::<u64>().expect("a number"))
    };
    let first = counts();
    assert!(first[0] > 200 && first[1] > 500, "the handshake counts: {first:?}");
    let second = counts();
    // TLS 1.3 has a header of 5 bytes, a tag of 16 and the type beside the plaintext.
    let records = ["hello\n".len(), "0000000000 0000000000\n".len()].map(|plain| plain as u64 + 5 + 16 + 1);
    assert_eq!([second[0] - first[0], second[1] - first[1]], records);
}

in_each_concurrency! { [sync threading pool]:
    lines_are_answered
    one_thread_reads_while_another_writes
    what_one_thread_writes_arrives_while_another_waits_for_the_client
    a_read_into_a_small_buffer_leaves_the_rest_for_later
    keys_are_changed_under_way
    a_long_answer_arrives_in_full_at_the_end
}

in_each_concurrency! { [threading]:
    the_counters_are_of_the_wire
}

#[request_handler]
#[server(transport = "tcp", concurrency = "threading")]
struct Reverse {
    frames: Frames<U32, Vec<u8>>,
}

impl RequestHandler for Reverse {
    fn handle(&mut self) -> HandlerResult {
        while let Some(mut message) = self.frames.next()? {
            message.reverse();
            self.frames.send(&message)?;
        }
        Ok(())
    }
}

#[message_handler(framing = "line")]
#[server(transport = "unix", concurrency = "pool", workers = 2)]
struct Shout {
    wfile: Writer,
}

impl MessageHandler for Shout {
    type Message = String;

    fn message(&mut self, line: String) -> HandlerResult {
        Ok(writeln!(self.wfile, "{}", line.to_uppercase())?)
    }
}

#[test]
fn messages_come_and_go() {
    let authority = Authority::new();
    let server = ReverseServer.bind_with("127.0.0.1:0", authority.options()).expect("a free port");
    let server = Served::new(server);
    let mut client = TlsClient::connect(server.server_address(), &authority.client());
    for piece in [&b"\0\0"[..], b"\0\x03a", b"bc\0\0\0\x01d"] {
        client.send(piece);
    }
    client.finish();
    assert_eq!(client.rest(), "\0\0\0\x03cba\0\0\0\x01d");
}

#[test]
fn a_message_handler_is_called_for_each_message() {
    let authority = Authority::new();
    let place = sockserver_tests::place::Place::unix();
    let options = ShoutServer::OPTIONS.tls(authority.options().tls);
    let server = Served::new(ShoutServer.bind_with(place.address(), options).expect("a free path"));
    let mut client = TlsClient::connect(server.server_address(), &authority.client());
    assert_eq!(client.ask("hello"), "HELLO");
    assert_eq!(client.ask("again"), "AGAIN");
}

#[request_handler]
#[server(transport = "tcp", concurrency = "threading")]
struct Listener {
    rfile: Reader,
    wfile: Writer,
    mailbox: Mailbox<String>,
}

static MAIL: Mutex<Option<sockserver::Sender<String>>> = Mutex::new(None);

impl RequestHandler for Listener {
    fn handle(&mut self) -> HandlerResult {
        *MAIL.lock().expect("nobody panics with it") = Some(self.mailbox.sender());
        writeln!(self.wfile, "ready")?;
        while let Some(arrival) = self.rfile.next_line_or(&mut self.mailbox)? {
            match arrival {
                Arrival::Message(line) => writeln!(self.wfile, "line {line}")?,
                Arrival::Mail(mail) => writeln!(self.wfile, "mail {mail}")?,
            }
        }
        Ok(())
    }
}

#[test]
fn a_handler_waits_for_its_client_and_for_mail() {
    let authority = Authority::new();
    let server = ListenerServer.bind_with("127.0.0.1:0", authority.options()).expect("a free port");
    let server = Served::new(server);
    let mut client = TlsClient::connect(server.server_address(), &authority.client());
    assert_eq!(client.line(), "ready");
    let mail = MAIL.lock().expect("nobody panics with it").clone().expect("the handler runs");
    for number in 0..10 {
        mail.try_send(number.to_string()).expect("there is room");
        assert_eq!(client.line(), format!("mail {number}"));
        assert_eq!(client.ask("hello"), "line hello");
    }
}

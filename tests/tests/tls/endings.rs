//! How a connection with TLS ends.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::Shutdown,
    sync::{Mutex, mpsc},
    time::Duration,
};

use sockserver::{Closing, Concurrency, Options, Stage, Timeouts, transport::Tcp};
use sockserver_tests::{
    client::{Client, PATIENCE, eventually},
    farewell::End,
    in_each_concurrency,
    script::{Script, upper},
    tls::{Authority, TlsClient},
};

fn options(authority: &Authority, timeouts: Timeouts) -> Options {
    authority.options().timeouts(timeouts)
}

fn an_idle_connection_ends_with_a_close_notify_when_the_server_stops<C: Concurrency + Default>() {
    let authority = Authority::new();
    let server = Script::<Tcp, C>::serve_with(upper, authority.options());
    let mut client = TlsClient::connect(server.server_address(), &authority.client());
    assert_eq!(client.ask("hello"), "HELLO");
    server.shutdown();
    assert_eq!(client.rest(), "");
    eventually("it is counted", || server.stats().finished == 1);
}

fn a_request_that_was_received_is_answered_when_the_server_stops<C: Concurrency + Default>() {
    let authority = Authority::new();
    let ((begun, has_begun), (go_on, may_go_on)) = (mpsc::channel(), mpsc::channel::<()>());
    let (begun, may_go_on) = (Mutex::new(begun), Mutex::new(may_go_on));
    let server = Script::<Tcp, C>::serve_with(
        move |session| {
            while let Some(line) = session.rfile.next_line()? {
                begun.lock().expect("nobody panics with it").send(())?;
                may_go_on.lock().expect("nobody panics with it").recv()?;
                writeln!(session.wfile, "{}", line.to_uppercase())?;
            }
            Ok(())
        },
        authority.options(),
    );
    let mut client = TlsClient::connect(server.server_address(), &authority.client());
    // Else the second one would wait until the first one is acknowledged.
    client.socket().set_tcp_nodelay(true).expect("a TCP socket");
    // In records of their own. The second one is decrypted with the first, or still in the kernel.
    client.send("one\n");
    client.send("two\n");
    has_begun.recv().expect("the handler runs");
    server.shutdown();
    go_on.send(()).expect("the handler waits");
    go_on.send(()).expect("the handler waits");
    assert_eq!(client.rest(), "ONE\nTWO\n");
}

fn a_cut_sends_what_was_written_but_no_close_notify<C: Concurrency + Default>() {
    let authority = Authority::new();
    let ((begun, has_begun), (go_on, may_go_on)) = (mpsc::channel(), mpsc::channel::<()>());
    let (tell, told) = mpsc::channel();
    let (begun, may_go_on, tell) = (Mutex::new(begun), Mutex::new(may_go_on), Mutex::new(tell));
    let server = Script::<Tcp, C>::serve_with(
        move |session| {
            // The rest of the record is decrypted, too.
            session.request.read_exact(&mut [0; 4])?;
            writeln!(session.wfile, "half of an answer")?;
            begun.lock().expect("nobody panics with it").send(())?;
            // A test that has failed has dropped it.
            let _ = may_go_on.lock().expect("nobody panics with it").recv();
            let read = session.request.read(&mut [0; 4]);
            tell.lock().expect("nobody panics with it").send(End::of(&read))?;
            read?;
            Ok(())
        },
        options(&authority, Timeouts::new().shutdown(Duration::from_millis(50))),
    );
    let mut client = TlsClient::connect(server.server_address(), &authority.client());
    client.send("a long request");
    has_begun.recv_timeout(PATIENCE).expect("the handler runs");
    server.shutdown();
    assert_eq!(client.line(), "half of an answer");
    let end = client.stream().read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(end, Err(ErrorKind::UnexpectedEof), "it is not the whole answer");
    go_on.send(()).expect("the handler waits");
    assert_eq!(told.recv_timeout(PATIENCE), Ok(End::Server(Closing::Draining)));
}

fn a_quiet_connection_ends_after_the_idle_timeout<C: Concurrency + Default>() {
    let authority = Authority::new();
    let timeouts = Timeouts::new().idle(Duration::from_millis(100));
    let server = Script::<Tcp, C>::serve_with(upper, options(&authority, timeouts));
    let mut client = TlsClient::connect(server.server_address(), &authority.client());
    assert_eq!(client.rest(), "");
    eventually("it is counted", || server.stats().timed_out == 1);
    assert_eq!(server.reported(), None);
}

/// Ends the socket of a client, and not its session.
fn cut(client: &TlsClient) {
    client.socket().shutdown(Shutdown::Write).expect("the connection is up");
}

fn an_end_without_a_close_notify_is_clean_between_requests<C: Concurrency + Default>() {
    let authority = Authority::new();
    let server = Script::<Tcp, C>::serve_with(upper, authority.options());
    let mut client = TlsClient::connect(server.server_address(), &authority.client());
    cut(&client);
    assert_eq!(client.rest(), "");
    let mut client = TlsClient::connect(server.server_address(), &authority.client());
    assert_eq!(client.ask("hello"), "HELLO");
    cut(&client);
    assert_eq!(client.rest(), "");
    eventually("both have ended", || server.stats().finished == 2);
}

fn an_end_without_a_close_notify_within_a_request_is_an_error<C: Concurrency + Default>() {
    let authority = Authority::new();
    let (tell, told) = mpsc::channel();
    let tell = Mutex::new(tell);
    let server = Script::<Tcp, C>::serve_with(
        move |session| {
            let read = io::read_to_string(&mut session.rfile);
            tell.lock().expect("nobody panics with it").send(read.map_err(|error| error.kind()))?;
            Ok(())
        },
        authority.options(),
    );
    let mut whole = TlsClient::connect(server.server_address(), &authority.client());
    whole.send("all of it");
    whole.finish();
    assert_eq!(told.recv().expect("the handler reads"), Ok("all of it".to_owned()));
    let mut short = TlsClient::connect(server.server_address(), &authority.client());
    short.send("all of i");
    cut(&short);
    assert_eq!(told.recv().expect("the handler reads"), Err(ErrorKind::UnexpectedEof));
}

fn an_end_within_a_record_is_an_error<C: Concurrency + Default>() {
    let authority = Authority::new();
    let server = Script::<Tcp, C>::serve_with(upper, authority.options());
    let client = TlsClient::connect(server.server_address(), &authority.client());
    client.socket().write_all(&[23, 3, 3, 0, 100, 1, 2, 3]).expect("the server takes it");
    cut(&client);
    // That the client has gone is no news.
    eventually("it is counted", || server.stats().disconnected == 1);
    assert!(server.report().is_disconnect);
}

fn what_was_sent_arrives_although_the_client_had_sent_more<C: Concurrency + Default>() {
    let authority = Authority::new();
    let server = Script::<Tcp, C>::serve_with(
        |session| {
            let line = session.rfile.next_line()?;
            Ok(writeln!(session.wfile, "{line:?} is enough")?)
        },
        authority.options(),
    );
    let mut client = TlsClient::connect(server.server_address(), &authority.client());
    client.send(format!("hello\n{}", "more\n".repeat(20_000)));
    assert_eq!(client.rest(), "Some(\"hello\") is enough\n");
}

fn a_garbled_record_ends_the_connection_with_an_alert<C: Concurrency + Default>() {
    let authority = Authority::new();
    let server = Script::<Tcp, C>::serve_with(upper, authority.options());
    let mut client = TlsClient::connect(server.server_address(), &authority.client());
    assert_eq!(client.ask("hello"), "HELLO");
    client.socket().write_all(&[[23, 3, 3, 0, 100].as_slice(), &[7; 100]].concat()).expect("the server takes it");
    let mut rest = Vec::new();
    let error = io::Read::read_to_end(client.stream(), &mut rest).expect_err("the server refuses");
    assert!(error.to_string().contains("BadRecordMac"), "{error}");
    assert!(server.report().message.contains("decrypt"), "the handler is told");
}

fn the_handler_says_goodbye_when_the_connection_is_closed<C: Concurrency + Default>() {
    let authority = Authority::new();
    let server = Script::<Tcp, C>::serve_with(
        |session| match session.rfile.next_line() {
            Err(error) if error.get_ref().is_some_and(|inner| inner.is::<Closing>()) => {
                Ok(writeln!(session.wfile, "goodbye")?)
            }
            other => panic!("{other:?}"),
        },
        authority.options(),
    );
    let mut client = TlsClient::connect(server.server_address(), &authority.client());
    eventually("it is there", || server.connections().len() == 1);
    // The handshake has ended for the client before it has for the server.
    std::thread::sleep(Duration::from_millis(100));
    assert!(server.close(server.connections()[0].id));
    assert_eq!(client.rest(), "goodbye\n");
}

in_each_concurrency! { [sync threading pool]:
    an_idle_connection_ends_with_a_close_notify_when_the_server_stops
    a_request_that_was_received_is_answered_when_the_server_stops
    a_cut_sends_what_was_written_but_no_close_notify
    a_quiet_connection_ends_after_the_idle_timeout
    an_end_without_a_close_notify_is_clean_between_requests
    an_end_without_a_close_notify_within_a_request_is_an_error
    an_end_within_a_record_is_an_error
    what_was_sent_arrives_although_the_client_had_sent_more
    a_garbled_record_ends_the_connection_with_an_alert
    the_handler_says_goodbye_when_the_connection_is_closed
}

#[test]
fn a_plain_client_is_told_and_reported_once_in_an_hour() {
    let authority = Authority::new();
    let server = Script::<Tcp, sockserver::concurrency::Threading>::serve_with(upper, authority.options());
    // Nothing is reported of a client that has said nothing.
    drop(Client::connect(server.server_address()));
    for _ in 0..2 {
        let mut plain = Client::connect(server.server_address());
        plain.send("GET / HTTP/1.1\r\n\r\n");
        // An alert, in plain text.
        assert_eq!(plain.receive().first(), Some(&21));
        plain.wait_for_end();
    }
    eventually("all are counted", || server.stats().bad_handshake == 3);
    let report = server.report();
    assert_eq!(report.stage, Stage::Handshake);
    assert!(report.message.starts_with("the TLS handshake failed: received corrupt message"), "{}", report.message);
    eventually("both are over", || server.stats().active == 0);
    assert_eq!(server.reported(), None);
}

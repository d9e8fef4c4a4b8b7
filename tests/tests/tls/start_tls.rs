//! TLS that the handler begins.

use std::{
    io::{self, ErrorKind, Write},
    time::{Duration, Instant},
};

use sockserver::{HandlerResult, Options, TlsStart, concurrency::Threading, transport::Tcp};
use sockserver_tests::{
    client::Client,
    script::{Script, Scripted, Session, upper},
    tls::{Authority, TlsClient},
};

/// A mail server's first steps.
fn starts_on_request(session: &mut Session<Tcp, Threading>) -> HandlerResult {
    writeln!(session.wfile, "220 ready")?;
    while let Some(line) = session.rfile.next_line()? {
        if line != "STARTTLS" {
            writeln!(session.wfile, "plain {line}")?;
            continue;
        }
        writeln!(session.wfile, "220 go ahead")?;
        session.rfile.start_tls()?;
        assert!(session.request.tls_info().is_some());
        return upper(session);
    }
    Ok(())
}

fn serve(authority: &Authority) -> Scripted {
    let tls = authority.options().tls.start(TlsStart::Handler);
    Script::<Tcp, Threading>::serve_with(starts_on_request, Options::new().tls(tls))
}

fn greeted(server: &Scripted) -> Client {
    let mut client = Client::connect(server.server_address());
    assert_eq!(client.line(), "220 ready");
    client
}

#[test]
fn a_connection_goes_on_encrypted() {
    let authority = Authority::new();
    let server = serve(&authority);
    let mut client = greeted(&server);
    assert_eq!(client.ask("hello"), "plain hello");
    assert_eq!(client.ask("STARTTLS"), "220 go ahead");
    let mut client = TlsClient::begin(client.into_socket(), "localhost", &authority.client());
    assert_eq!(client.ask("hello"), "HELLO");
    client.finish();
    assert_eq!(client.rest(), "");
}

#[test]
fn bytes_behind_the_request_for_tls_are_refused() {
    let authority = Authority::new();
    let server = serve(&authority);
    let mut client = greeted(&server);
    client.send("STARTTLS\nsomebody added this\n");
    // The handler has written that TLS may begin, and nothing is sent any more.
    assert_eq!(client.rest(), "");
    let report = server.report();
    assert!(report.message.contains("an attacker on the way"), "{report:?}");
}

#[test]
fn nothing_is_sent_in_plain_text_after_a_failed_handshake() {
    let authority = Authority::new();
    let tls = authority.options().tls.start(TlsStart::Handler);
    let server = Script::<Tcp, Threading>::serve_with(
        |session| {
            session.rfile.next_line()?;
            session.wfile.write_all(b"go ahead\n")?;
            session.wfile.flush()?;
            let failed = session.rfile.start_tls().expect_err("the client speaks no TLS");
            let written = session.wfile.write_all(b"secret").and_then(|()| session.wfile.flush());
            let direct = Write::write_all(&mut &session.request, b"secret");
            let kinds = [written, direct].map(|written| written.expect_err("nothing can be written").kind());
            Err(io::Error::other(format!("{} {kinds:?}", failed.kind())).into())
        },
        Options::new().tls(tls),
    );
    for garbage in ["no TLS\n", ""] {
        let mut client = Client::connect(server.server_address());
        assert_eq!(client.ask("STARTTLS"), "go ahead");
        client.send(garbage);
        client.finish();
        let mut received = Vec::new();
        while let piece = client.receive()
            && !piece.is_empty()
        {
            received.extend(piece);
        }
        assert!(!received.windows(6).any(|bytes| bytes == b"secret"), "{received:?}");
        let report = server.report();
        let kinds = format!("{:?}", [ErrorKind::BrokenPipe; 2]);
        assert!(report.message.contains(&kinds), "{report:?}");
    }
}

#[test]
fn a_deadline_of_the_handler_holds_behind_the_handshake() {
    let authority = Authority::new();
    let tls = authority.options().tls.start(TlsStart::Handler);
    let server = Script::<Tcp, Threading>::serve_with(
        |session| {
            session.rfile.next_line()?;
            session.rfile.set_deadline(Instant::now() + Duration::from_secs(1));
            writeln!(session.wfile, "go ahead")?;
            session.rfile.start_tls()?;
            upper(session)
        },
        Options::new().tls(tls),
    );
    let mut client = Client::connect(server.server_address());
    assert_eq!(client.ask("STARTTLS"), "go ahead");
    let mut client = TlsClient::begin(client.into_socket(), "localhost", &authority.client());
    assert_eq!(client.ask("hello"), "HELLO");
    client.wait_for_end();
    let report = server.report();
    assert!(report.message.contains("by the reader's deadline"), "{report:?}");
}

#[test]
fn a_server_without_a_certificate_cannot_start() {
    let server = Script::<Tcp, Threading>::serve(|session| Ok(session.rfile.start_tls()?));
    let mut client = Client::connect(server.server_address());
    assert_eq!(client.rest(), "");
    let report = server.report();
    assert!(report.message.contains("has no certificate"), "{report:?}");
}

#[test]
fn a_connection_is_encrypted_once() {
    let authority = Authority::new();
    let server = Script::<Tcp, Threading>::serve_with(|session| Ok(session.rfile.start_tls()?), authority.options());
    let mut client = TlsClient::connect(server.server_address(), &authority.client());
    client.wait_for_end();
    let report = server.report();
    assert!(report.message.contains("encrypted already"), "{report:?}");
}

//! The kit for tests of servers, where they have TLS.

use std::{
    cell::RefCell,
    io::{self, Write},
    panic::{self, AssertUnwindSafe, catch_unwind},
    sync::Once,
};

use sockserver::{
    HandlerResult, MessageHandler, Options, PeerCertificate, Reader, RequestHandler, Server, Stage, StartTls, Stream,
    Tls, TlsInfo, TlsVersions, Writer, message_handler, request_handler,
    testing::{self, TestServer},
};
use sockserver_tests::{client::eventually, tls::Authority};

/// The files of its attribute are nowhere.
#[request_handler]
#[server(
    transport = "tcp",
    concurrency = "threading",
    tls(certificate = "/nowhere/cert.pem", key = "/nowhere/key.pem"),
    limits(per_client = 1),
    proxy(trust = ["10.0.0.0/8"], untrusted = "direct"),
)]
struct Upper {
    rfile: Reader,
    wfile: Writer,
    info: TlsInfo,
}

impl RequestHandler for Upper {
    fn handle(&mut self) -> HandlerResult {
        while let Some(line) = self.rfile.next_line()? {
            match line.as_str() {
                "version" => writeln!(self.wfile, "{}", self.info.version)?,
                "fail" => return Err("the disk is full".into()),
                line => writeln!(self.wfile, "{}", line.to_uppercase())?,
            }
        }
        Ok(())
    }
}

#[test]
fn a_peer_speaks_tls_with_a_request_handler_without_its_files() {
    let mut peer = testing::connect(UpperServer);
    peer.send("hello\n");
    peer.expect("HELLO\n");
    peer.send("version\n");
    assert_eq!(peer.line(), "TLSv1.3");
    peer.end();
    peer.expect_end();
    assert!(peer.result().is_ok());
}

#[test]
fn a_peer_behind_a_proxy_speaks_tls_behind_the_header() {
    let server = testing::serve(UpperServer);
    let mut peer = server.from("203.0.113.9:5000").through("10.0.0.1:4000").connect();
    peer.send("hello\n");
    peer.expect("HELLO\n");
    // The place of this client is taken.
    server.from("203.0.113.9:5001").connect().expect_end();
}

#[test]
fn a_handler_that_fails_over_tls_says_so() {
    let mut peer = testing::connect(UpperServer);
    peer.send("fail\n");
    let error = peer.result().expect_err("the disk is full");
    assert_eq!(error.stage(), Stage::Handle);
    let mut peer = testing::connect(UpperServer);
    peer.send("fail\n");
    let panic = catch_unwind(AssertUnwindSafe(|| peer.expect("FAIL\n"))).expect_err("the end comes");
    let message = panic.downcast::<String>().expect("a message");
    assert!(message.contains("the disk is full"), "{message}");
}

#[test]
fn a_client_that_hangs_up_before_the_handshake_is_silent() {
    let server = testing::serve(UpperServer);
    server.connect().reset();
    eventually("it is counted", || server.handle().stats().bad_handshake == 1);
    assert_eq!(server.stop().leaked, 0);
}

/// Tells the client who it is.
#[request_handler]
#[server(
    transport = "unix",
    concurrency = "threading",
    tls(certificate = "c.pem", key = "k.pem", client_auth = "required", client_ca = "ca.pem")
)]
struct Whoami {
    wfile: Writer,
    peer: PeerCertificate,
}

impl RequestHandler for Whoami {
    fn handle(&mut self) -> HandlerResult {
        Ok(writeln!(self.wfile, "{}", self.peer.dns_names().join(" "))?)
    }
}

#[test]
fn certificates_of_both_sides_can_be_given() {
    let authority = Authority::new();
    let options = Options::new().tls(
        authority
            .tls(&authority.certify("server.example"))
            .client_auth(sockserver::ClientAuth::Required)
            .client_ca(authority.option("ca.pem")),
    );
    let server = TestServer::new(WhoamiServer, options);
    let alice = authority.client_as(&authority.certify("alice.example"));
    let client = || server.from("unix:/client");
    client().tls(alice.clone(), "server.example").connect().expect("alice.example\n");
    let refused = client().tls(alice, "elsewhere.example").connect().result().expect_err("the client ends it");
    assert_eq!(refused.stage(), Stage::Handshake);
    // Without a configuration it has no certificate of its own.
    let refused = client().connect().result().expect_err("the server ends it");
    assert_eq!(refused.stage(), Stage::Handshake);
}

#[test]
fn a_client_with_a_certificate_takes_any_server() {
    let authority = Authority::new();
    let mut options = WhoamiServer::OPTIONS;
    options.tls.client_ca = Some(authority.option("ca.pem"));
    // The files of its own certificate are nowhere.
    let server = TestServer::new(WhoamiServer, options);
    let alice = authority.certify("alice.example");
    let mut peer = server.from("unix:/client").certificate(&alice.certificate, &alice.key).connect();
    peer.expect("alice.example\n");
    let stranger = Authority::new().certify("alice.example");
    let peer = server.from("unix:/client").certificate(&stranger.certificate, &stranger.key).connect();
    assert_eq!(peer.result().expect_err("another authority has signed it").stage(), Stage::Handshake);
}

#[test]
fn a_test_that_cannot_begin_panics_at_its_own_line() {
    let certified = Authority::new().certify("alice.example");
    let without_authority = || drop(testing::serve(WhoamiServer));
    assert_eq!(
        panic_of(without_authority),
        "the server cannot be made: ca.pem: No such file or directory (os error 2)"
    );
    let without_key = || {
        let client = testing::serve(UpperServer);
        client.from("192.0.2.9:1").certificate(&certified.certificate, "");
    };
    assert!(panic_of(without_key).starts_with("this is no certificate for the client: "));
    let no_name = || drop(testing::serve(UpperServer).from("192.0.2.9:1").tls(Authority::new().client(), "no name"));
    assert!(panic_of(no_name).starts_with("`no name` is no name of a server: "));
}

/// The message of a panic that is at a line of this file.
#[track_caller]
fn panic_of(test: impl FnOnce()) -> String {
    thread_local! {
        static PANICKED_IN: RefCell<String> = const { RefCell::new(String::new()) };
    }
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICKED_IN.set(info.location().map_or("", |location| location.file()).to_owned());
            before(info);
        }));
    });
    let panic = catch_unwind(AssertUnwindSafe(test)).expect_err("it cannot begin");
    assert_eq!(PANICKED_IN.take(), file!());
    *panic.downcast::<String>().expect("a message")
}

/// Begins TLS when its client asks for it.
#[derive(Server)]
#[server(
    transport = "tcp",
    concurrency = "event_loop",
    handler = Session,
    tls(start = "handler"),
    hooks(tls = Self::certificate),
)]
struct Upgrading {
    tls: Tls,
}

impl Upgrading {
    fn new() -> Upgrading {
        let certified = Authority::new().certify("localhost");
        Upgrading { tls: Tls::pem(certified.certificate, certified.key).expect("they belong together") }
    }

    fn certificate(&self) -> io::Result<Tls> {
        Ok(self.tls.clone())
    }
}

#[message_handler(framing = "line")]
struct Session {
    request: Stream,
    wfile: Writer,
}

impl MessageHandler for Session {
    type Message = str;

    fn message(&mut self, line: &str) -> HandlerResult {
        match line {
            "STARTTLS" => {
                writeln!(self.wfile, "220 go ahead")?;
                return Err(StartTls.into());
            }
            _ if self.request.tls_info().is_some() => writeln!(self.wfile, "{}", line.to_uppercase())?,
            _ => writeln!(self.wfile, "plain {line}")?,
        }
        Ok(())
    }
}

#[test]
fn a_peer_begins_tls_with_a_message_handler() {
    let mut peer = testing::connect(Upgrading::new());
    peer.send("hello\n");
    peer.expect("plain hello\n");
    peer.send("STARTTLS\n");
    peer.expect("220 go ahead\n");
    peer.start_tls();
    peer.send("hello\n");
    peer.expect("HELLO\n");
    peer.end();
    peer.expect_end();
    assert!(peer.result().is_ok());
}

#[test]
fn a_peer_that_has_not_taken_all_plain_text_cannot_begin_tls() {
    let mut peer = testing::connect(Upgrading::new());
    peer.send("hello\n");
    peer.expect("plain ");
    let panic = catch_unwind(AssertUnwindSafe(|| peer.start_tls())).expect_err("the rest was not taken");
    let message = panic.downcast::<String>().expect("a message");
    assert!(message.contains("hello"), "{message}");
}

#[test]
fn options_of_the_test_decide_about_tls() {
    let authority = Authority::new();
    let tls = authority.tls(&authority.certify("localhost")).versions(TlsVersions::Tls12);
    let server = TestServer::new(UpperServer, UpperServer::OPTIONS.tls(tls));
    let mut peer = server.from("203.0.113.9:5000").tls(authority.client(), "localhost").connect();
    peer.send("version\n");
    assert_eq!(peer.line(), "TLSv1.2");
}

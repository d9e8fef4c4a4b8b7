//! What client and server agree on, and whom they refuse.

use std::{io, sync::Arc};

use rustls::HandshakeKind;
use sockserver::{
    Alpn, ClientAuth, HandlerResult, Options, PeerCertificate, RequestHandler, Server, ServerName, TlsInfo,
    TlsVersions, Writer, concurrency::Threading, request_handler, transport::Tcp,
};
use sockserver_tests::{
    client::{Client, eventually},
    script::{Script, upper},
    served::Served,
    tls::{Authority, TlsClient},
};
use std::io::Write;

/// Tells what the handshake has agreed on. The paths are replaced at run time.
#[request_handler]
#[server(transport = "tcp", concurrency = "threading", tls(certificate = "cert.pem", key = "key.pem", alpn = ["h2", "http/1.1"]))]
struct Agreed {
    wfile: Writer,
    info: TlsInfo,
    alpn: Alpn,
    name: ServerName,
}

impl RequestHandler for Agreed {
    fn handle(&mut self) -> HandlerResult {
        let Agreed { wfile, info, alpn, name } = self;
        Ok(write!(wfile, "{} {:?} {:?}", info.version, alpn.0, name.0)?)
    }
}

fn agreed(authority: &Authority) -> Served {
    let mut options = AgreedServer::OPTIONS;
    let files = authority.options().tls;
    (options.tls.certificate, options.tls.key) = (files.certificate, files.key);
    Served::new(AgreedServer.bind_with("127.0.0.1:0", options).expect("a free port"))
}

#[test]
fn a_handler_knows_what_was_agreed_on() {
    let authority = Authority::new();
    let server = agreed(&authority);
    let mut config = authority.client();
    let mut client = TlsClient::connect(server.server_address(), &config);
    assert_eq!(client.rest(), "TLSv1.3 None Some(\"localhost\")");
    config.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
    let mut client = TlsClient::connect(server.server_address(), &config);
    assert_eq!(client.rest(), "TLSv1.3 Some(\"h2\") Some(\"localhost\")");
}

#[test]
fn a_client_without_a_common_protocol_is_refused() {
    let authority = Authority::new();
    let server = agreed(&authority);
    let mut config = authority.client();
    config.alpn_protocols = vec![b"smtp".to_vec()];
    let socket = Client::connect(server.server_address()).into_socket();
    let error = TlsClient::try_begin(socket, "localhost", &config).expect_err("the server refuses");
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
}

#[test]
fn a_client_of_another_version_is_refused() {
    let authority = Authority::new();
    let tls = authority.options().tls.versions(TlsVersions::Tls13);
    let server = Script::<Tcp, Threading>::serve_with(upper, Options::new().tls(tls));
    let old = authority.client_of(&[&rustls::version::TLS12]);
    let socket = Client::connect(server.server_address()).into_socket();
    let error = TlsClient::try_begin(socket, "localhost", &old).expect_err("the server refuses");
    assert!(error.to_string().contains("ProtocolVersion"), "{error}");
    let new = authority.client_of(&[&rustls::version::TLS13]);
    assert_eq!(TlsClient::connect(server.server_address(), &new).ask("hello"), "HELLO");
}

#[test]
fn a_session_is_resumed_unless_tickets_are_off() {
    for (tickets, second) in [(true, HandshakeKind::Resumed), (false, HandshakeKind::Full)] {
        let authority = Authority::new();
        let tls = authority.options().tls.tickets(tickets);
        let server = Script::<Tcp, Threading>::serve_with(upper, Options::new().tls(tls));
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let config = authority.client_of(&[version]);
            for expected in [HandshakeKind::Full, second] {
                let mut client = TlsClient::connect(server.server_address(), &config);
                assert_eq!(client.connection().handshake_kind(), Some(expected), "{version:?}, {tickets}");
                // The ticket comes with the first answer.
                assert_eq!(client.ask("hello"), "HELLO");
            }
        }
    }
}

#[request_handler]
#[server(
    transport = "tcp",
    concurrency = "threading",
    tls(certificate = "cert.pem", key = "key.pem", client_auth = "required", client_ca = "ca.pem")
)]
struct Known {
    wfile: Writer,
    peer: PeerCertificate,
}

impl RequestHandler for Known {
    fn handle(&mut self) -> HandlerResult {
        Ok(write!(self.wfile, "{:?} {:?}", self.peer.dns_names(), self.peer.uri_names())?)
    }
}

fn known(authority: &Authority, client_auth: ClientAuth) -> Options {
    let files = authority.options().tls;
    Options::new().tls(files.client_auth(client_auth).client_ca(authority.option("ca.pem")))
}

#[test]
fn a_client_is_known_by_its_certificate() {
    let authority = Authority::new();
    let options = known(&authority, ClientAuth::Required);
    let server = Served::new(KnownServer.bind_with("127.0.0.1:0", options).expect("a free port"));
    let certified = authority.certify_with("billing.example", &["spiffe://example.org/billing"]);
    let config = authority.client_as(&certified);
    for _ in 0..2 {
        let mut client = TlsClient::connect(server.server_address(), &config);
        // A resumed session would not show the certificate again.
        assert_eq!(client.connection().handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(client.rest(), "[\"billing.example\"] [\"spiffe://example.org/billing\"]");
    }
}

#[test]
fn a_client_without_a_certificate_or_with_a_strange_one_is_refused() {
    let authority = Authority::new();
    let options = known(&authority, ClientAuth::Required);
    let server = Served::new(KnownServer.bind_with("127.0.0.1:0", options).expect("a free port"));
    let strange = Authority::new().certify("billing.example");
    for config in [authority.client(), authority.client_as(&strange)] {
        let mut client = TlsClient::connect(server.server_address(), &config);
        // In TLS 1.3 the client has done its part before the server looks at it.
        let error = io::Read::read_to_end(client.stream(), &mut Vec::new()).expect_err("the server refuses");
        assert!(error.to_string().contains("alert"), "{error}");
    }
    eventually("both are counted", || server.stats().active == 0);
    assert_eq!(server.stats().finished, 0);
}

#[request_handler]
#[server(
    transport = "tcp",
    concurrency = "threading",
    tls(certificate = "cert.pem", key = "key.pem", client_auth = "optional", client_ca = "ca.pem")
)]
struct PerhapsKnown {
    wfile: Writer,
    peer: Option<PeerCertificate>,
}

impl RequestHandler for PerhapsKnown {
    fn handle(&mut self) -> HandlerResult {
        Ok(write!(self.wfile, "{:?}", self.peer.as_ref().map(PeerCertificate::dns_names))?)
    }
}

#[test]
fn a_client_need_not_have_an_optional_certificate() {
    let authority = Authority::new();
    let options = known(&authority, ClientAuth::Optional);
    let server = Served::new(PerhapsKnownServer.bind_with("127.0.0.1:0", options).expect("a free port"));
    let mut client = TlsClient::connect(server.server_address(), &authority.client());
    assert_eq!(client.rest(), "None");
    let config = authority.client_as(&authority.certify("billing.example"));
    let mut client = TlsClient::connect(server.server_address(), &config);
    assert_eq!(client.rest(), "Some([\"billing.example\"])");
}

#[test]
fn clients_may_come_as_a_configuration_of_their_own() {
    let authority = Authority::new();
    let config = Arc::new(authority.client());
    let server = Script::<Tcp, Threading>::serve_with(upper, authority.options());
    let mut clients: Vec<_> = (0..20).map(|_| TlsClient::connect(server.server_address(), &config)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.ask(&format!("client {number}")), format!("CLIENT {number}"));
    }
}

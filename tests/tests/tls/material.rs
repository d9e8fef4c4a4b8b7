//! Certificates and keys: where they come from, and how they are replaced.

use std::{
    error::Error,
    fs,
    io::{self, ErrorKind, Write},
    marker::PhantomData,
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use rustls::{
    crypto::{CryptoProvider, ring},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use sockserver::{
    Address, ClientAuth, Concurrency, HandlerError, HandlerResult, MessageHandler, Options, PeerCertificate,
    RequestHandler, Server, Stage, Tls, TlsOptions, Writer,
    concurrency::{Forking, Threading},
    message_handler, request_handler,
    transport::Tcp,
};
use sockserver_tests::{
    behind::Behind,
    client::{Client, PATIENCE, eventually},
    in_each_concurrency,
    place::Place,
    process::{ServerProcess, server},
    script::{Script, upper},
    served::Served,
    tls::{Authority, Certified, TlsClient},
};

/// A server whose certificates come from its own hook.
#[derive(Server)]
#[server(transport = "tcp", concurrency = "threading", handler = Greet, hooks(tls = Self::certificates))]
struct Greeter {
    tls: Arc<Mutex<io::Result<Tls>>>,
}

#[request_handler]
struct Greet {
    wfile: Writer,
}

impl RequestHandler for Greet {
    fn handle(&mut self) -> HandlerResult {
        Ok(self.wfile.write_all(b"hello")?)
    }
}

impl Greeter {
    fn certificates(&self) -> io::Result<Tls> {
        match &*self.tls.lock().expect("nobody panics with it") {
            Ok(tls) => Ok(tls.clone()),
            Err(error) => Err(error.kind().into()),
        }
    }

    fn with(tls: io::Result<Tls>) -> Greeter {
        Greeter { tls: Arc::new(Mutex::new(tls)) }
    }
}

fn pem(certified: &Certified) -> Tls {
    Tls::pem(&certified.certificate, &certified.key).expect("they belong together")
}

#[test]
fn the_certificate_is_that_of_the_name() {
    let authority = Authority::new();
    let [default, second, wild] = ["localhost", "b.example", "*.c.example"].map(|name| authority.certify(name));
    let tls = pem(&default)
        .with("B.example", &second.certificate, &second.key)
        .and_then(|tls| tls.with("*.c.example", &wild.certificate, &wild.key));
    let server = Served::new(Greeter::with(tls).bind("127.0.0.1:0").expect("a free port"));
    for name in ["localhost", "b.example", "x.c.example", "y.c.example"] {
        // The client compares the name with the certificate.
        let mut client = TlsClient::connect_to(server.server_address(), name, &authority.client());
        assert_eq!(client.rest(), "hello");
    }
    for unknown in ["d.example", "c.example"] {
        let socket = Client::connect(server.server_address()).into_socket();
        let error = TlsClient::try_begin(socket, unknown, &authority.client()).expect_err("it is another name's");
        assert!(error.to_string().contains("not valid for name"), "{error}");
    }
}

#[test]
fn a_whole_configuration_is_taken_as_it_is() {
    let authority = Authority::new();
    let tls = Tls::from(authority.server(&authority.certify("localhost")));
    let server = Served::new(Greeter::with(Ok(tls)).bind("127.0.0.1:0").expect("a free port"));
    assert_eq!(TlsClient::connect(server.server_address(), &authority.client()).rest(), "hello");
}

/// A provider with one cipher suite stands for providers other than ring.
#[test]
fn the_provider_of_a_whole_configuration_is_used() {
    let authority = Authority::new();
    let suite = ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256;
    let provider = CryptoProvider { cipher_suites: vec![suite], ..ring::default_provider() };
    let tls = Tls::from(authority.server_by(provider, &authority.certify("localhost")));
    let server = Served::new(Greeter::with(Ok(tls)).bind("127.0.0.1:0").expect("a free port"));
    let mut client = TlsClient::connect(server.server_address(), &authority.client());
    assert_eq!(client.connection().negotiated_cipher_suite(), Some(suite));
    assert_eq!(client.rest(), "hello");
}

/// The certificate that the server shows, after a line was answered.
fn certificate_of(server: &Address, authority: &Authority) -> Vec<u8> {
    let mut client = TlsClient::connect(server, &authority.client());
    assert_eq!(client.ask("hello"), "HELLO");
    client.connection().peer_certificates().expect("it has shown one")[0].to_vec()
}

#[test]
fn a_hang_up_reloads_the_certificate_of_a_server_under_load() {
    for concurrency in ["threading", "forking", "event_loop"] {
        let authority = Authority::new();
        authority.options();
        let mut command = server("tls");
        command.args([concurrency, "accept", authority.option("cert.pem"), authority.option("key.pem")]);
        let server = ServerProcess::start(command, Place::of("tcp"));
        let address = server.address();
        let before = certificate_of(address, &authority);
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let ask_on = || {
                let mut lasting = TlsClient::connect(address, &authority.client());
                while !is_over.load(SeqCst) {
                    certificate_of(address, &authority);
                    assert_eq!(lasting.ask("still here"), "STILL HERE");
                }
            };
            let clients = [(); 4].map(|()| scope.spawn(ask_on));
            authority.options();
            server.signal("HUP");
            assert_eq!(server.line(), "reloaded");
            let after = certificate_of(address, &authority);
            assert_ne!(after, before, "{concurrency}");
            authority.write("cert.pem", "no certificate");
            server.signal("HUP");
            let report = server.line();
            assert!(report.starts_with("not reloaded: ") && report.contains("cert.pem"), "{report}");
            assert_eq!(certificate_of(address, &authority), after, "{concurrency}");
            is_over.store(true, SeqCst);
            for client in clients {
                client.join().expect("no connection is dropped");
            }
        });
    }
}

#[test]
fn a_resolver_chooses_the_certificate() {
    let authority = Authority::new();
    let config = authority.server(&authority.certify("localhost"));
    let tls = Tls::resolver(config.cert_resolver.clone());
    let server = Served::new(Greeter::with(Ok(tls)).bind("127.0.0.1:0").expect("a free port"));
    assert_eq!(TlsClient::connect(server.server_address(), &authority.client()).rest(), "hello");
}

#[test]
fn a_hook_that_fails_or_panics_fails_the_bind() {
    let failing =
        Greeter::with(Err(ErrorKind::NotFound.into())).bind("127.0.0.1:0").expect_err("it has no certificate");
    assert_eq!(failing.kind(), ErrorKind::NotFound);
}

#[test]
fn a_reload_replaces_the_certificate_and_drops_no_connection() {
    let (old, new) = (Authority::new(), Authority::new());
    let server = Script::<Tcp, Threading>::serve_with(upper, old.options());
    let mut before = TlsClient::connect(server.server_address(), &old.client());
    let replacement = new.certify("localhost");
    // The one file is there before the other: the pair does not fit.
    old.write("cert.pem", &replacement.certificate);
    let error = server.reload().expect_err("the key is the old one's");
    assert!(
        error.to_string().contains("cert.pem") && error.to_string().contains("not that of the certificate"),
        "{error}"
    );
    assert_eq!(TlsClient::connect(server.server_address(), &old.client()).ask("old"), "OLD");
    old.write("key.pem", &replacement.key);
    server.reload().expect("the pair fits");
    assert_eq!(TlsClient::connect(server.server_address(), &new.client()).ask("new"), "NEW");
    assert_eq!(before.ask("still here"), "STILL HERE");
}

#[test]
fn reloads_under_load_drop_no_connection() {
    let authority = Authority::new();
    let server = Script::<Tcp, Threading>::serve_with(upper, authority.options());
    let (address, config) = (server.server_address().clone(), authority.client());
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let clients = || {
            let mut asked = 0;
            while !is_over.load(SeqCst) {
                let mut client = TlsClient::connect(&address, &config);
                for _ in 0..3 {
                    assert_eq!(client.ask("hello"), "HELLO");
                    asked += 1;
                }
            }
            asked
        };
        let clients = [(); 4].map(|()| scope.spawn(clients));
        let until = Instant::now() + Duration::from_secs(1);
        let mut reloads = 0;
        while reloads < 20 || Instant::now() < until {
            // Both files are there, of an old pair or of a new one.
            authority.options();
            server.reload().expect("the pair fits");
            reloads += 1;
        }
        is_over.store(true, SeqCst);
        let asked: u32 = clients.into_iter().map(|client| client.join().expect("no answer is missing")).sum();
        assert!(asked > 20, "{asked} answers");
    });
    eventually("all have ended", || server.stats().active == 0);
    let stats = server.stats();
    assert_eq!(stats.finished, stats.accepted, "{stats:?}");
}

/// The options of a server that looks at its files so often.
fn reloading(authority: &Authority, interval: Duration) -> Options {
    let mut options = authority.options();
    options.tls.reload = Some(interval);
    options
}

fn a_certificate_that_is_renewed_is_used_by_itself<C: Concurrency + Default>() {
    let (old, new) = (Authority::new(), Authority::new());
    let server = Script::<Tcp, C>::serve_upper(reloading(&old, Duration::ZERO));
    let ask = |authority: &Authority| TlsClient::connect(server.server_address(), &authority.client()).ask("hello");
    assert_eq!(ask(&old), "HELLO");
    let replacement = new.certify("localhost");
    old.write("cert.pem", &replacement.certificate);
    // The pair does not fit. That is reported once.
    assert_eq!([ask(&old), ask(&old)], ["HELLO", "HELLO"]);
    let report = server.report();
    assert_eq!(report.stage, Stage::Reload);
    assert!(report.message.contains("cert.pem"), "{}", report.message);
    assert_eq!(report.client_address, *server.server_address());
    old.write("key.pem", &replacement.key);
    assert_eq!([ask(&new), ask(&new)], ["HELLO", "HELLO"]);
    assert!(server.reported().is_none());
}

in_each_concurrency! { [sync threading pool event_loop two_loops]: a_certificate_that_is_renewed_is_used_by_itself }

#[test]
fn a_certificate_that_is_renewed_is_used_by_the_children_of_a_forking_server() {
    let authority = Authority::new();
    authority.options();
    let files = [("certificate", "cert.pem"), ("key", "key.pem")];
    let [certificate, key] = files.map(|(key, file)| format!("{key}={}", authority.option(file)));
    let program =
        Behind::start::<Forking>(env!("CARGO_BIN_EXE_behind"), &[&certificate, &key, "reload=0", "trust=none"]);
    let shown = || {
        let mut client = TlsClient::connect(program.address(), &authority.client());
        client.ask("stats");
        client.connection().peer_certificates().expect("it has shown one")[0].to_vec()
    };
    let before = shown();
    authority.options();
    assert_ne!(shown(), before);
}

#[test]
fn a_certificate_is_not_looked_at_before_it_is_time() {
    let authority = Authority::new();
    let server = Script::<Tcp, Threading>::serve_upper(reloading(&authority, Duration::from_secs(3600)));
    let before = certificate_of(server.server_address(), &authority);
    authority.options();
    assert_eq!(certificate_of(server.server_address(), &authority), before);
    server.reload().expect("the pair fits");
    assert_ne!(certificate_of(server.server_address(), &authority), before);
}

#[test]
fn a_hook_that_names_the_certificate_is_called_again() {
    let (old, new) = (Authority::new(), Authority::new());
    let mut options = Greeter::OPTIONS;
    options.tls.reload = Some(Duration::ZERO);
    let greeter = Greeter::with(Ok(pem(&old.certify("localhost"))));
    let tls = greeter.tls.clone();
    let server = Served::new(greeter.bind_with("127.0.0.1:0", options).expect("a free port"));
    let greeting = |authority: &Authority| TlsClient::connect(server.server_address(), &authority.client()).rest();
    assert_eq!(greeting(&old), "hello");
    *tls.lock().expect("nobody panics with it") = Ok(pem(&new.certify("localhost")));
    assert_eq!(greeting(&new), "hello");
}

/// It panics for one name.
#[derive(Debug)]
struct Choosy(Arc<dyn ResolvesServerCert>);

impl ResolvesServerCert for Choosy {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        assert!(hello.server_name() != Some("panic.example"), "no certificate");
        self.0.resolve(hello)
    }
}

#[derive(Server)]
#[server(
    transport = "tcp",
    concurrency = C,
    handler = Upper,
    limits(connections = 2),
    timeouts(shutdown = "20s"),
    hooks(tls = Self::certificates, handle_error = Self::note),
)]
struct Resolving<C: Concurrency + Default> {
    certificates: Tls,
    errors: mpsc::Sender<String>,
    concurrency: PhantomData<C>,
}

impl<C: Concurrency + Default> Resolving<C> {
    fn certificates(&self) -> io::Result<Tls> {
        Ok(self.certificates.clone())
    }

    fn note(&self, error: &HandlerError, _: &Address) {
        let _ = self.errors.send(error.to_string());
    }
}

#[message_handler(framing = "line")]
struct Upper {
    wfile: Writer,
}

impl MessageHandler for Upper {
    type Message = str;

    fn message(&mut self, line: &str) -> HandlerResult {
        Ok(writeln!(self.wfile, "{}", line.to_uppercase())?)
    }
}

fn a_resolver_that_panics_ends_its_own_connection_only<C: Concurrency + Default>() {
    let authority = Authority::new();
    let resolver = Choosy(authority.server(&authority.certify("localhost")).cert_resolver.clone());
    let (errors, reports) = mpsc::channel();
    let certificates = Tls::resolver(Arc::new(resolver));
    let resolving = Resolving::<C> { certificates, errors, concurrency: PhantomData };
    let server = Served::new(resolving.bind("127.0.0.1:0").expect("a free port"));
    for _ in 0..5 {
        let client = Client::connect(server.server_address());
        let shaken = TlsClient::try_begin(client.into_socket(), "panic.example", &authority.client());
        assert!(shaken.is_err());
    }
    assert_eq!(TlsClient::connect(server.server_address(), &authority.client()).ask("hello"), "HELLO");
    // The failures of handshakes are reported once an hour.
    let report = reports.recv_timeout(PATIENCE).expect("a report");
    assert!(report.contains("panicked") && report.contains("no certificate"), "{report}");
    eventually("all are counted", || server.stats().panicked == 5);
    assert_eq!(server.stop().leaked, 0);
}

in_each_concurrency! { [sync threading pool event_loop two_loops]:
    a_resolver_that_panics_ends_its_own_connection_only
}

#[test]
fn a_reload_without_tls_is_an_error() {
    let server = Script::<Tcp, Threading>::serve(upper);
    assert_eq!(server.reload().expect_err("there is nothing to read").kind(), ErrorKind::Unsupported);
}

#[test]
fn what_is_wrong_with_the_files_is_said_at_the_bind() {
    let authority = Authority::new();
    let good = authority.certify("localhost");
    let other = authority.certify("localhost");
    let bind = |tls: TlsOptions| {
        let (script, _reports) = Script::<Tcp, Threading>::new(upper);
        script.bind_with("127.0.0.1:0", Options::new().tls(tls)).map(drop).expect_err("it cannot serve")
    };
    let tls = authority.tls(&good);
    let missing = bind(tls.clone().key(authority.option("nothing.pem")));
    assert!(missing.kind() == ErrorKind::NotFound && missing.to_string().contains("nothing.pem"), "{missing}");
    authority.write("key.pem", &other.key);
    let mixed = bind(tls.clone());
    assert!(mixed.to_string().contains("the key is not that of the certificate"), "{mixed}");
    authority.write("key.pem", "no key");
    let no_key = bind(tls.clone());
    assert!(no_key.to_string().contains("no private key in PEM"), "{no_key}");
    authority.write("cert.pem", "no certificate");
    let no_certificate = bind(tls);
    assert!(no_certificate.to_string().contains("no certificate in PEM"), "{no_certificate}");
    let half = bind(TlsOptions::new().certificate(authority.option("cert.pem")));
    assert!(half.to_string().contains("`tls.key`"), "{half}");
    let no_ca = bind(authority.tls(&good).client_auth(ClientAuth::Required));
    assert!(no_ca.to_string().contains("`tls.client_ca`"), "{no_ca}");
}

#[test]
fn a_certificate_is_shared_by_reference() {
    let authority = Authority::new();
    let tls = pem(&authority.certify("localhost"));
    let config: Arc<rustls::ServerConfig> = authority.server(&authority.certify("localhost"));
    // Whoever has a whole configuration has its certificates in it.
    let error = Tls::from(config).with("b.example", "", "").expect_err("it has a resolver of its own");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(tls.with("b.example", "", "").is_err(), "there is no certificate");
}

/// Its certificate is in the files that the attribute names.
#[request_handler]
#[server(
    transport = "tcp",
    concurrency = "threading",
    tls(
        certificate = "/nowhere/cert.pem",
        key = "/nowhere/key.pem",
        client_auth = "required",
        client_ca = "/nowhere/ca.pem"
    )
)]
struct Whoami {
    wfile: Writer,
    peer: PeerCertificate,
}

impl RequestHandler for Whoami {
    fn handle(&mut self) -> HandlerResult {
        Ok(self.wfile.write_all(self.peer.dns_names().concat().as_bytes())?)
    }
}

#[test]
fn options_that_lack_the_tls_of_the_attribute_are_refused() {
    let refusal = |options: Options| {
        let bound = WhoamiServer.bind_with("127.0.0.1:0", options.clone()).expect_err("it would be in plain text");
        let (_client, connection) = UnixStream::pair().expect("two sockets");
        let served = WhoamiServer.serve_connection_with(connection, options).expect_err("it would be in plain text");
        let served = served.source().expect("a cause").to_string();
        assert!(served.ends_with(&bound.to_string()), "{served}");
        assert_eq!(bound.kind(), ErrorKind::InvalidInput);
        bound.to_string()
    };
    let authority = Authority::new();
    assert_eq!(
        refusal(Options::new().workers(1)),
        "`tls(client_auth)` of the attribute is missing in these options: begin with `WhoamiServer::OPTIONS`"
    );
    let asking = TlsOptions::new().client_auth(ClientAuth::Required).client_ca(authority.option("ca.pem"));
    assert_eq!(
        refusal(Options::new().tls(asking)),
        "`tls(certificate)` of the attribute is missing in these options: begin with `WhoamiServer::OPTIONS`"
    );
    let optional = authority.options().tls.client_auth(ClientAuth::Optional).client_ca(authority.option("ca.pem"));
    assert!(refusal(Options::new().tls(optional)).starts_with("`tls(client_auth)` of the attribute"));
}

#[test]
fn options_can_name_other_files_than_the_attribute() {
    let authority = Authority::new();
    let mut options = WhoamiServer::OPTIONS;
    options.tls = authority.options().tls.client_auth(ClientAuth::Required).client_ca(authority.option("ca.pem"));
    let server = Served::new(WhoamiServer.bind_with("127.0.0.1:0", options).expect("a free port"));
    let alice = authority.client_as(&authority.certify("alice.example"));
    assert_eq!(TlsClient::connect(server.server_address(), &alice).rest(), "alice.example");
}

/// Its files are named at run time.
#[derive(Server)]
#[server(
    transport = "tcp",
    concurrency = "threading",
    handler = Whoami,
    tls(client_auth = "required"),
    hooks(tls = Self::certificates),
)]
struct Configured {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: PathBuf,
}

impl Configured {
    fn certificates(&self) -> io::Result<Tls> {
        Tls::files(&self.certificate, &self.key)?.client_ca(fs::read(&self.client_ca)?)
    }
}

#[test]
fn the_hook_can_name_who_signs_the_certificates_of_clients() {
    let authority = Authority::new();
    authority.options();
    let [certificate, key, client_ca] = ["cert.pem", "key.pem", "ca.pem"].map(|file| authority.path(file));
    let server = Served::new(Configured { certificate, key, client_ca }.bind("127.0.0.1:0").expect("a free port"));
    let alice = authority.client_as(&authority.certify("alice.example"));
    assert_eq!(TlsClient::connect(server.server_address(), &alice).rest(), "alice.example");
}

/// Without the derive a server can have both, and its hook goes before the files.
struct ByHand(Tls);

impl Server for ByHand {
    type Transport = Tcp;
    type Concurrency = Threading;
    type Handler = Greet;
    const OPTIONS: Options =
        Options::new().tls(TlsOptions::new().certificate("/nowhere/cert.pem").key("/nowhere/key.pem"));

    fn tls(&self) -> io::Result<Option<Tls>> {
        Ok(Some(self.0.clone()))
    }
}

#[test]
fn options_without_files_are_taken_where_the_hook_has_the_certificate() {
    let authority = Authority::new();
    let server = ByHand(pem(&authority.certify("localhost"))).bind_with("127.0.0.1:0", Options::new());
    let server = Served::new(server.expect("a free port"));
    assert_eq!(TlsClient::connect(server.server_address(), &authority.client()).rest(), "hello");
}

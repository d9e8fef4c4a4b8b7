//! Authorities, certificates, and clients that speak TLS.

use std::{
    fs,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned, SupportedProtocolVersion,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    version::TLS13,
};
use socket2::Socket;
use sockserver::{Address, Options, TlsOptions};

use crate::{client::Client, place::Directory};

/// An authority, and the files of what it has signed.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    directory: Directory,
}

/// A certificate and its key, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certified {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    #[expect(clippy::new_without_default, reason = "making one makes a directory")]
    pub fn new() -> Authority {
        let mut params = CertificateParams::default();
        // OpenSSL takes a certificate of the issuer's name for self-signed.
        params.distinguished_name.push(DnType::CommonName, "The authority of the tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate").pem();
        let authority = Authority { issuer: Issuer::new(params, key), certificate, directory: Directory::new() };
        authority.write("ca.pem", &authority.certificate);
        authority
    }

    /// The certificate of the authority, in PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A certificate for servers and clients of this name.
    pub fn certify(&self, name: &str) -> Certified {
        self.certify_with(name, &[])
    }

    /// Likewise, with URIs beside the name.
    pub fn certify_with(&self, name: &str, uris: &[&str]) -> Certified {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, name);
        let uris = uris.iter().map(|uri| SanType::URI((*uri).try_into().expect("a URI")));
        params.subject_alt_names.extend(uris);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Certified { certificate, key: key.serialize_pem() }
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    pub fn write(&self, file: &str, contents: &str) {
        fs::write(self.path(file), contents).expect("a new file");
    }

    /// The path of a file, as options have it.
    pub fn option(&self, file: &str) -> &'static str {
        self.path(file).to_str().expect("text").to_owned().leak()
    }

    /// Writes the files of this certificate, and returns the options that name them.
    pub fn tls(&self, certified: &Certified) -> TlsOptions {
        self.write("cert.pem", &certified.certificate);
        self.write("key.pem", &certified.key);
        TlsOptions::new().certificate(self.option("cert.pem")).key(self.option("key.pem"))
    }

    /// The options of a server for `localhost`.
    pub fn options(&self) -> Options {
        Options::new().tls(self.tls(&self.certify("localhost")))
    }

    /// A client that trusts this authority.
    pub fn client(&self) -> ClientConfig {
        self.builder().with_no_client_auth()
    }

    /// Likewise, with a certificate of its own.
    pub fn client_as(&self, certified: &Certified) -> ClientConfig {
        let key = PrivateKeyDer::from_pem_slice(certified.key.as_bytes()).expect("a key");
        self.builder().with_client_auth_cert(chain(&certified.certificate), key).expect("they belong together")
    }

    /// A client that speaks these versions.
    pub fn client_of(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        self.builder_of(versions).with_no_client_auth()
    }

    /// A whole configuration of a server.
    pub fn server(&self, certified: &Certified) -> Arc<ServerConfig> {
        self.server_by(ring::default_provider(), certified)
    }

    /// Likewise, by this provider.
    pub fn server_by(&self, provider: CryptoProvider, certified: &Certified) -> Arc<ServerConfig> {
        let key = PrivateKeyDer::from_pem_slice(certified.key.as_bytes()).expect("a key");
        let versions = if provider.cipher_suites.iter().all(|suite| suite.tls13().is_some()) {
            &[&TLS13][..]
        } else {
            rustls::DEFAULT_VERSIONS
        };
        let builder = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .expect("the provider has them");
        let config = builder.with_no_client_auth().with_single_cert(chain(&certified.certificate), key);
        Arc::new(config.expect("they belong together"))
    }

    fn builder(&self) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
        self.builder_of(rustls::DEFAULT_VERSIONS)
    }

    fn builder_of(
        &self,
        versions: &[&'static SupportedProtocolVersion],
    ) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
        trusting(&self.certificate, versions)
    }
}

/// A client that trusts this certificate.
pub fn client_of(certificate: &str) -> ClientConfig {
    trusting(certificate, rustls::DEFAULT_VERSIONS).with_no_client_auth()
}

fn trusting(
    certificate: &str,
    versions: &[&'static SupportedProtocolVersion],
) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(chain(certificate));
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .expect("ring has both")
        .with_root_certificates(roots)
}

fn chain(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().expect("certificates")
}

/// Goes on with the handshake, unless the server does not answer, as it may be full.
fn is_answered(StreamOwned { conn, sock }: &mut StreamOwned<ClientConnection, Socket>) -> std::io::Result<bool> {
    let patience = sock.read_timeout()?;
    sock.set_read_timeout(Some(Duration::from_secs(3)))?;
    while conn.is_handshaking() {
        match conn.complete_io(sock) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            done => drop(done?),
        }
    }
    sock.set_read_timeout(patience)?;
    Ok(!conn.is_handshaking())
}

/// A client that speaks TLS. What fails or takes longer than [`PATIENCE`](crate::client::PATIENCE) is a panic.
#[derive(Debug)]
pub struct TlsClient {
    stream: BufReader<StreamOwned<ClientConnection, Socket>>,
}

impl TlsClient {
    /// Connects to `localhost`, and shakes hands.
    #[track_caller]
    pub fn connect(server: &Address, config: &ClientConfig) -> TlsClient {
        TlsClient::connect_to(server, "localhost", config)
    }

    #[track_caller]
    pub fn connect_to(server: &Address, name: &str, config: &ClientConfig) -> TlsClient {
        TlsClient::begin(Client::connect(server).into_socket(), name, config)
    }

    /// Shakes hands on a connection that is there.
    #[track_caller]
    pub fn begin(socket: Socket, name: &str, config: &ClientConfig) -> TlsClient {
        TlsClient::try_begin(socket, name, config).unwrap_or_else(|error| panic!("shaking hands: {error}"))
    }

    /// Connects to `localhost`, and shakes hands with what is sent and received later.
    #[track_caller]
    pub fn connect_silently(server: &Address, config: &ClientConfig) -> TlsClient {
        let name = ServerName::try_from("localhost").expect("a name");
        let mut connection = ClientConnection::new(Arc::new(config.clone()), name).expect("a valid configuration");
        // Of what is sent before the server has answered.
        connection.set_buffer_limit(None);
        TlsClient { stream: BufReader::new(StreamOwned::new(connection, Client::connect(server).into_socket())) }
    }

    pub fn try_begin(socket: Socket, name: &str, config: &ClientConfig) -> std::io::Result<TlsClient> {
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let connection = ClientConnection::new(Arc::new(config.clone()), name).expect("a valid configuration");
        TlsClient::resume(socket, connection)
    }

    /// Goes on with the handshake of a session.
    pub fn resume(mut socket: Socket, mut connection: ClientConnection) -> std::io::Result<TlsClient> {
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        Ok(TlsClient { stream: BufReader::new(StreamOwned::new(connection, socket)) })
    }

    pub fn connection(&mut self) -> &mut ClientConnection {
        &mut self.stream.get_mut().conn
    }

    pub fn socket(&self) -> &Socket {
        &self.stream.get_ref().sock
    }

    /// What is received, as it is.
    pub fn stream(&mut self) -> &mut impl Read {
        &mut self.stream
    }

    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let stream = self.stream.get_mut();
        if is_answered(stream).expect("the server agrees") {
            stream.write_all(bytes.as_ref()).and_then(|()| stream.flush()).expect("the server takes it");
        } else {
            // It is sent when the server has answered.
            stream.conn.writer().write_all(bytes.as_ref()).expect("a buffer takes all");
        }
    }

    /// The next line without its end; an empty one at the end.
    #[track_caller]
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a line comes");
        line.trim_end_matches('\n').to_owned()
    }

    /// The answer; an empty one at the end. The server may have ended the connection.
    pub fn try_ask(&mut self, line: &str) -> std::io::Result<String> {
        let stream = self.stream.get_mut();
        stream.write_all(format!("{line}\n").as_bytes())?;
        stream.flush()?;
        let mut answer = String::new();
        self.stream.read_line(&mut answer)?;
        Ok(answer.trim_end_matches('\n').to_owned())
    }

    #[track_caller]
    pub fn ask(&mut self, line: &str) -> String {
        self.send(format!("{line}\n"));
        self.line()
    }

    #[track_caller]
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).expect("the bytes come");
        bytes
    }

    /// Sends a close_notify, and the end of file of the socket.
    #[track_caller]
    pub fn finish(&mut self) {
        let stream = self.stream.get_mut();
        stream.conn.send_close_notify();
        stream.flush().expect("the server takes it");
        stream.sock.shutdown(std::net::Shutdown::Write).expect("the connection is up");
    }

    /// Everything until the server's close_notify, without which this panics.
    #[track_caller]
    pub fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).expect("the server says that it has sent everything");
        String::from_utf8(rest).expect("text")
    }

    /// Likewise, with bytes whose values do not matter.
    #[track_caller]
    pub fn count_rest(&mut self) -> usize {
        std::io::copy(&mut self.stream, &mut std::io::sink()).expect("the server says that it has sent everything")
            as usize
    }

    /// Waits until the connection has ended, in whichever way.
    pub fn wait_for_end(&mut self) {
        let _ = self.stream.read_to_end(&mut Vec::new());
    }
}

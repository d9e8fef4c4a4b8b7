//! The certificates of servers under test, and what their clients think of them.

use std::{io, sync::Arc};

use rustls::{
    ClientConfig, ClientConnection, ConfigBuilder, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        WantsClientCert,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};

use crate::tls::certificates::Tls;

/// A certificate for `localhost`, in place of the files that the attribute names. Anybody has its key.
pub(super) fn certificate() -> io::Result<Tls> {
    Tls::pem(CERTIFICATE, KEY)
}

const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBPTCB5aADAgECAgEBMAoGCCqGSM49BAMCMBQxEjAQBgNVBAMMCWxvY2FsaG9z\n\
dDAgFw0yMDAxMDEwMDAwMDBaGA80MDk2MDEwMTAwMDAwMFowFDESMBAGA1UEAwwJ\n\
bG9jYWxob3N0MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEScwi/WZLm68EyxjC\n\
l7xkW7gvUY9empT4J6PWv8UkCtK9pQkjToKhKKlLKmYl/Y938JqOwKPG0K+qk0Va\n\
D5GpEqMmMCQwFAYDVR0RBA0wC4IJbG9jYWxob3N0MAwGA1UdEwEB/wQCMAAwCgYI\n\
KoZIzj0EAwIDRwAwRAIgIdJvSOZo1v3/pDp9xdocseNbyP6THVDgYASEyfK86NMC\n\
ICK6ctxD9AJ8DmsDqpMzYpUHGEUPPL3QaJe9r3H/22E+\n\
-----END CERTIFICATE-----\n\
";

const KEY: &str = "\
-----BEGIN PRIVATE KEY-----\n\
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgwyA46lYaTgntQMmc\n\
uKKYWLd3Te49JaWJL8kioZmR0U6hRANCAARJzCL9ZkubrwTLGMKXvGRbuC9Rj16a\n\
lPgno9a/xSQK0r2lCSNOgqEoqUsqZiX9j3fwmo7Ao8bQr6qTRVoPkakS\n\
-----END PRIVATE KEY-----\n\
";

/// How a client shakes hands, and with which server.
#[derive(Clone)]
pub(super) struct Trust {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Trust {
    pub(super) fn new(config: Arc<ClientConfig>, name: &str) -> io::Result<Trust> {
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        Ok(Trust { config, name })
    }

    /// In each certificate.
    pub(super) fn blind() -> io::Result<Trust> {
        let config = blind_builder().map_err(io::Error::other)?.with_no_client_auth();
        Trust::new(Arc::new(config), "localhost")
    }

    /// In each certificate, by a client with this one, in PEM.
    pub(super) fn blind_as(certificate: &[u8], key: &[u8]) -> io::Result<Trust> {
        let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<_, _>>().map_err(io::Error::other)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(io::Error::other)?;
        let config = blind_builder().and_then(|builder| builder.with_client_auth_cert(chain, key));
        Trust::new(Arc::new(config.map_err(io::Error::other)?), "localhost")
    }

    pub(super) fn session(&self) -> io::Result<ClientConnection> {
        ClientConnection::new(self.config.clone(), self.name.clone()).map_err(io::Error::other)
    }
}

fn blind_builder() -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, Error> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(TakesAny(provider))))
}

/// Takes each certificate whose key the server has.
#[derive(Debug)]
struct TakesAny(Arc<CryptoProvider>);

impl ServerCertVerifier for TakesAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

//! What the handshake of a connection has agreed on, and who the client is.

use std::{fmt, sync::Arc};

use rustls::{HandshakeKind, ProtocolVersion, pki_types::CertificateDer};

use super::session::Session;

/// How a connection is encrypted. A field of a handler, or [`Stream::tls_info`](crate::Stream::tls_info).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsInfo {
    /// `"TLSv1.3"` or `"TLSv1.2"`.
    pub version: &'static str,
    /// The name of the cipher suite, such as `"TLS13_AES_256_GCM_SHA384"`.
    pub cipher_suite: &'static str,
    /// The client has resumed a session, and the server has not shown its certificate again.
    pub is_resumed: bool,
}

/// The protocol above TLS that client and server have agreed on, of those in `tls(alpn = […])`. A field of a handler.
/// `None` inside: the client has asked for none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alpn(pub Option<String>);

/// The name that the client has asked for (SNI). A field of a handler. `None` inside: it has asked for none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerName(pub Option<String>);

/// The certificate of the client, which was verified. A field of a handler of a server with
/// `tls(client_auth = "required")`; with `"optional"` the field is an `Option<PeerCertificate>`.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    /// The client's own, then those of its authorities. Never empty.
    chain: Arc<[CertificateDer<'static>]>,
}

impl PeerCertificate {
    /// The certificate in DER.
    pub fn der(&self) -> &[u8] {
        self.chain.first().map_or(&[], |certificate| certificate.as_ref())
    }

    /// The certificates that the client has sent, in DER: its own, then those of its authorities.
    pub fn chain(&self) -> impl Iterator<Item = &[u8]> {
        self.chain.iter().map(|certificate| certificate.as_ref())
    }

    /// The DNS names that the certificate is for, `*.example.com` among them.
    pub fn dns_names(&self) -> Vec<String> {
        self.parsed().map(|parsed| parsed.valid_dns_names().map(str::to_owned).collect()).unwrap_or_default()
    }

    /// The URIs that the certificate is for, such as `spiffe://example.org/billing`.
    pub fn uri_names(&self) -> Vec<String> {
        self.parsed().map(|parsed| parsed.valid_uri_names().map(str::to_owned).collect()).unwrap_or_default()
    }

    /// The subject in DER, without its outer `SEQUENCE`.
    pub fn subject(&self) -> Vec<u8> {
        self.parsed().map(|parsed| parsed.subject().to_vec()).unwrap_or_default()
    }

    /// It was parsed when it was verified.
    fn parsed(&self) -> Option<webpki::EndEntityCert<'_>> {
        webpki::EndEntityCert::try_from(self.chain.first()?).ok()
    }
}

impl fmt::Debug for PeerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerCertificate")
            .field("dns_names", &self.dns_names())
            .field("uri_names", &self.uri_names())
            .finish_non_exhaustive()
    }
}

impl Session {
    /// `None` before the end of the handshake.
    pub(crate) fn info(&self) -> Option<TlsInfo> {
        let connection = self.connection();
        let version = match connection.protocol_version()? {
            ProtocolVersion::TLSv1_3 => "TLSv1.3",
            ProtocolVersion::TLSv1_2 => "TLSv1.2",
            _ => return None,
        };
        Some(TlsInfo {
            version,
            cipher_suite: connection.negotiated_cipher_suite()?.suite().as_str().unwrap_or_default(),
            is_resumed: connection.handshake_kind()? == HandshakeKind::Resumed,
        })
    }

    pub(crate) fn alpn(&self) -> Alpn {
        Alpn(self.connection().alpn_protocol().map(|protocol| String::from_utf8_lossy(protocol).into_owned()))
    }

    pub(crate) fn server_name(&self) -> ServerName {
        ServerName(self.requested_name().map(str::to_owned))
    }

    pub(crate) fn peer_certificate(&self) -> Option<PeerCertificate> {
        let chain = self.connection().peer_certificates().filter(|chain| !chain.is_empty())?;
        Some(PeerCertificate { chain: chain.iter().map(|certificate| certificate.clone().into_owned()).collect() })
    }
}

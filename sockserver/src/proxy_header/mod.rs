//! The header of the PROXY protocol: what a proxy in front says of the client.
//!
//! Nothing here reads a socket: [`Decoder`](decoder::Decoder) is fed with bytes.

use crate::address::Address;

mod crc32c;
pub(crate) mod decoder;
mod v1;
mod v2;

/// What a proxy has said of a connection in its PROXY header, as the field of a handler. It needs `proxy(…)` in the server's
/// attribute.
///
/// A connection that the proxy has made on its own account, such as a health check, has a header that says nothing, and so
/// has a peer that `proxy(untrusted = "direct")` serves without one: all fields are `None` then.
///
/// ```
/// use sockserver::{HandlerResult, ProxyHeader, RequestHandler, Writer, request_handler};
/// use std::io::Write;
///
/// #[request_handler]
/// #[server(transport = "tcp", concurrency = "threading", proxy(trust = ["127.0.0.1"]))]
/// struct Greeter {
///     wfile: Writer,
///     header: ProxyHeader,
/// }
///
/// impl RequestHandler for Greeter {
///     fn handle(&mut self) -> HandlerResult {
///         let name = self.header.ssl.as_ref().and_then(|ssl| ssl.common_name.as_deref());
///         Ok(writeln!(self.wfile, "hello, {}", name.unwrap_or("stranger"))?)
///     }
/// }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProxyHeader {
    /// Where the client is. `None`: the proxy does not know, or the connection is its own.
    pub source: Option<Address>,
    /// Where the client has connected to.
    pub destination: Option<Address>,
    /// The host name that the client has asked for, as in TLS's server name indication.
    pub authority: Option<String>,
    /// The protocol that the client and the proxy have agreed on in TLS, such as `h2`.
    pub alpn: Option<Vec<u8>>,
    /// What the proxy calls the connection, for the logs of both.
    pub unique_id: Option<Vec<u8>>,
    /// What the proxy knows of the client's TLS.
    pub ssl: Option<ProxySsl>,
    /// The other fields by their type, in their order: those of a cloud provider have the types `0xE0` to `0xEF`.
    pub tlvs: Vec<(u8, Vec<u8>)>,
}

/// What a proxy that ends TLS says of it, in a [`ProxyHeader`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProxySsl {
    /// The client talks TLS to the proxy.
    pub is_encrypted: bool,
    /// The client has shown a certificate, in this connection or in the TLS session that it resumes.
    pub has_certificate: bool,
    /// The proxy has found that certificate valid. It is `false` if there is none.
    pub is_verified: bool,
    /// The version of TLS, such as `TLSv1.3`.
    pub version: Option<String>,
    /// The common name in the client's certificate. It says who the client is only if [`is_verified`](Self::is_verified).
    pub common_name: Option<String>,
    /// The cipher, such as `TLS_AES_256_GCM_SHA384`.
    pub cipher: Option<String>,
}

//! The header of the PROXY protocol: what a proxy in front says of the client.
//!
//! Nothing here reads a socket: [`Decoder`](decoder::Decoder) is fed with bytes.

use std::{io, net::SocketAddr};

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

impl ProxyHeader {
    /// What a proxy says of a connection that it passes on: where its client is, and where that has connected to.
    ///
    /// ```
    /// use sockserver::{Address, ProxyHeader};
    ///
    /// let address = |text: &str| text.parse().map(Address::Inet);
    /// let header = ProxyHeader::new(address("203.0.113.9:5000")?, address("192.0.2.1:25")?);
    /// assert_eq!(header.to_v1(), b"PROXY TCP4 203.0.113.9 192.0.2.1 5000 25\r\n");
    /// # Ok::<(), std::net::AddrParseError>(())
    /// ```
    pub fn new(source: Address, destination: Address) -> ProxyHeader {
        ProxyHeader { source: Some(source), destination: Some(destination), ..ProxyHeader::default() }
    }

    /// The header as a line of version 1, which has the addresses only. It says `UNKNOWN` unless both addresses are known and
    /// are internet addresses.
    pub fn to_v1(&self) -> Vec<u8> {
        v1::encode(self)
    }

    /// The header in the form of version 2, with all its fields. An empty header is `LOCAL`: the connection is the proxy's
    /// own.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] if the fields do not fit: together they have 65535 bytes at most.
    pub fn to_v2(&self) -> io::Result<Vec<u8>> {
        v2::encode(self).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "the fields of a PROXY header are longer than 65535 bytes together",
            )
        })
    }
}

/// Both ends of a connection as addresses of one family. `None`: they are not known, or no internet addresses.
fn inet_ends(header: &ProxyHeader) -> Option<[SocketAddr; 2]> {
    let (Some(Address::Inet(source)), Some(Address::Inet(destination))) = (&header.source, &header.destination) else {
        return None;
    };
    let ends = [source, destination].map(|end| SocketAddr::new(end.ip().to_canonical(), end.port()));
    if ends[0].is_ipv4() == ends[1].is_ipv4() {
        return Some(ends);
    }
    Some(ends.map(|end| match end {
        SocketAddr::V4(end) => SocketAddr::new(end.ip().to_ipv6_mapped().into(), end.port()),
        end => end,
    }))
}

//! From bytes to a header, in whatever pieces they come.

use std::{error::Error, fmt, io};

use super::{ProxyHeader, v1, v2};
use crate::options::ProxyVersions;

/// The header at the start of a connection, as far as it has come. It is fed with what is received, by a thread that waits
/// for the rest or by whatever else waits for many clients.
pub(crate) struct Decoder {
    versions: ProxyVersions,
    /// At most one header, and what came with its last bytes.
    received: Vec<u8>,
}

/// How far a header has come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// All bytes belong to it, and more are missing.
    Incomplete,
    /// It ends after so many of the bytes. Those behind it belong to the handler.
    Complete { taken: usize, header: Box<ProxyHeader> },
}

/// Why the start of a connection is no PROXY header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BadProxyHeader {
    /// It begins with these bytes.
    Missing(Vec<u8>),
    /// Its version is not one of `proxy(versions)`.
    Version(ProxyVersions),
    Malformed(&'static str),
}

impl ProxyHeader {
    /// The header that these bytes begin with, and how long it is: for what receives its connections in its own way, and for
    /// tests. `None`: more bytes are missing.
    ///
    /// A server with `proxy(…)` reads its headers itself.
    ///
    /// ```
    /// use sockserver::ProxyHeader;
    ///
    /// let received = b"PROXY TCP4 203.0.113.9 192.0.2.1 5000 25\r\nhello\n";
    /// let (header, length) = ProxyHeader::parse(received)?.expect("a whole header");
    /// assert_eq!(header.source.unwrap().to_string(), "203.0.113.9:5000");
    /// assert_eq!(&received[length..], b"hello\n");
    /// assert_eq!(ProxyHeader::parse(b"PROXY TCP")?, None);
    /// assert!(ProxyHeader::parse(b"hello\n").is_err());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidData`] for bytes that cannot become a header of version 1 or 2.
    pub fn parse(bytes: &[u8]) -> io::Result<Option<(ProxyHeader, usize)>> {
        match Decoder::new(ProxyVersions::Both).feed(bytes) {
            Ok(Progress::Complete { taken, header }) => Ok(Some((*header, taken))),
            Ok(Progress::Incomplete) => Ok(None),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }
}

impl Decoder {
    pub(crate) fn new(versions: ProxyVersions) -> Decoder {
        Decoder { versions, received: Vec::new() }
    }

    /// Whether nothing has come yet.
    pub(crate) fn is_untouched(&self) -> bool {
        self.received.is_empty()
    }

    /// Takes the bytes that were received next. After [`Progress::Complete`] and after an error the decoder is done.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<Progress, BadProxyHeader> {
        let before = self.received.len();
        self.received.extend_from_slice(bytes);
        let (length, version) = self.length()?;
        match length.and_then(|length| self.received.get(..length)) {
            None => Ok(Progress::Incomplete),
            Some(header) => {
                let parsed = match version {
                    ProxyVersions::One => v1::parse(header),
                    _ => v2::parse(header),
                };
                let parsed = Box::new(parsed.map_err(BadProxyHeader::Malformed)?);
                Ok(Progress::Complete { taken: header.len() - before, header: parsed })
            }
        }
    }

    /// The length of the header, as soon as it is known, and its version.
    fn length(&self) -> Result<(Option<usize>, ProxyVersions), BadProxyHeader> {
        let begins_with = |signature: &[u8]| {
            let length = self.received.len().min(signature.len());
            self.received[..length] == signature[..length]
        };
        let found = if begins_with(v2::SIGNATURE) {
            (v2::length(&self.received), ProxyVersions::Two)
        } else if begins_with(v1::SIGNATURE) {
            (v1::length(&self.received).map_err(BadProxyHeader::Malformed)?, ProxyVersions::One)
        } else {
            let start = &self.received[..self.received.len().min(v2::SIGNATURE.len())];
            return Err(BadProxyHeader::Missing(start.to_vec()));
        };
        match self.versions == ProxyVersions::Both || self.versions == found.1 {
            true => Ok(found),
            false => Err(BadProxyHeader::Version(self.versions)),
        }
    }
}

impl fmt::Display for BadProxyHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadProxyHeader::Missing(start) => write!(
                f,
                "the connection begins with \"{}\" and not with a PROXY header: have the proxy send one (`send-proxy-v2` \
                 in HAProxy, `proxy_protocol on` in nginx)",
                start.escape_ascii()
            ),
            BadProxyHeader::Version(versions) => write!(
                f,
                "the PROXY header has another version than {}, the only one that `proxy(versions)` lets through",
                if *versions == ProxyVersions::One { 1 } else { 2 }
            ),
            BadProxyHeader::Malformed(why) => write!(f, "the PROXY header is malformed: {why}"),
        }
    }
}

impl Error for BadProxyHeader {}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::{
        address::{Address, UnixAddress},
        proxy_header::ProxySsl,
    };

    fn feed(bytes: &[u8]) -> Result<Progress, BadProxyHeader> {
        Decoder::new(ProxyVersions::Both).feed(bytes)
    }

    /// The header of exactly these bytes, and of the same bytes with others behind them, one by one.
    #[track_caller]
    fn header(bytes: &[u8]) -> ProxyHeader {
        let Ok(Progress::Complete { taken, header }) = feed(bytes) else { panic!("{:?}", feed(bytes)) };
        assert_eq!(taken, bytes.len());
        let mut decoder = Decoder::new(ProxyVersions::Both);
        for byte in &bytes[..bytes.len() - 1] {
            assert_eq!(decoder.feed(&[*byte]), Ok(Progress::Incomplete));
        }
        let last = [bytes[bytes.len() - 1], b'x', b'\n'];
        assert_eq!(decoder.feed(&last), Ok(Progress::Complete { taken: 1, header: header.clone() }));
        *header
    }

    #[track_caller]
    fn refused(bytes: &[u8]) -> String {
        feed(bytes).expect_err("it is refused").to_string()
    }

    fn inet(address: &str) -> Option<Address> {
        Some(address.parse::<SocketAddr>().expect("an address").into())
    }

    /// A header of version 2 with the right length.
    fn v2(command: u8, family: u8, rest: &[&[u8]]) -> Vec<u8> {
        let rest = rest.concat();
        [v2::SIGNATURE, &[command, family], &(rest.len() as u16).to_be_bytes(), &rest].concat()
    }

    const TCP4: &[u8] = &[203, 0, 113, 9, 10, 0, 0, 1, 0x13, 0x88, 0, 80];

    fn field(kind: u8, value: &[u8]) -> Vec<u8> {
        [&[kind], &(value.len() as u16).to_be_bytes()[..], value].concat()
    }

    #[test]
    fn a_line_has_two_ends() {
        for (line, source, destination) in [
            ("PROXY TCP4 203.0.113.9 10.0.0.1 5000 80\r\n", "203.0.113.9:5000", "10.0.0.1:80"),
            ("PROXY TCP4 255.255.255.255 255.255.255.255 65535 0\r\n", "255.255.255.255:65535", "255.255.255.255:0"),
            ("PROXY TCP6 2001:db8::9 ::1 5000 80\r\n", "[2001:db8::9]:5000", "[::1]:80"),
        ] {
            let header = header(line.as_bytes());
            assert_eq!((header.source, header.destination), (inet(source), inet(destination)));
        }
        for unknown in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN ffff:f...f:ffff 65535 and more\r\n"] {
            assert_eq!(header(unknown.as_bytes()), ProxyHeader::default());
        }
    }

    #[test]
    fn a_line_that_is_not_exact_is_refused() {
        for line in [
            "PROXY TCP4 203.0.113.9 10.0.0.1 5000 80\n",
            "PROXY  TCP4 203.0.113.9 10.0.0.1 5000 80\r\n",
            "PROXY TCP4 203.0.113.9 10.0.0.1 5000 80 \r\n",
            "PROXY TCP4 203.0.113.9 10.0.0.1 5000\r\n",
            "PROXY TCP4 203.0.113.09 10.0.0.1 5000 80\r\n",
            "PROXY TCP4 203.0.113.9 10.0.0.1 05000 80\r\n",
            "PROXY TCP4 203.0.113.9 10.0.0.1 +5000 80\r\n",
            "PROXY TCP4 203.0.113.9 10.0.0.1 65536 80\r\n",
            "PROXY TCP4 203.0.113.9 10.0.0.1  80\r\n",
            "PROXY TCP4 ::1 ::1 5000 80\r\n",
            "PROXY TCP6 203.0.113.9 10.0.0.1 5000 80\r\n",
            "PROXY TCP6 fe80::1%eth0 ::1 5000 80\r\n",
            "PROXY UDP4 203.0.113.9 10.0.0.1 5000 80\r\n",
            "PROXY \r\n",
        ] {
            assert!(refused(line.as_bytes()).starts_with("the PROXY header is malformed: "), "{line}");
        }
        assert!(refused(b"PROXY TCP4 203.0.113.9 10.0.0.1 5000 80\xff\r\n").contains("is no text"));
        assert!(refused(format!("PROXY UNKNOWN {}\r\n", "x".repeat(100)).as_bytes()).contains("107 bytes"));
        assert_eq!(feed(&[b"PROXY UNKNOWN ", &[b'x'; 92][..]].concat()), Ok(Progress::Incomplete));
    }

    #[test]
    fn what_begins_otherwise_is_no_header() {
        for (bytes, shown) in
            [(&b"GET / HTTP/1.1\r\n"[..], "GET / HTTP/1"), (b"\x16\x03", r"\x16\x03"), (b"PROXX", "PROXX")]
        {
            assert!(refused(bytes).contains(&format!("begins with \"{shown}\"")), "{}", refused(bytes));
        }
        assert_eq!(feed(b"\r\n\r\n\0\r\nQUIS"), Err(BadProxyHeader::Missing(b"\r\n\r\n\0\r\nQUIS".to_vec())));
        assert_eq!(feed(b""), Ok(Progress::Incomplete));
    }

    #[test]
    fn only_the_versions_that_were_chosen_are_accepted() {
        let (one, two) = (&b"PROXY UNKNOWN\r\n"[..], v2(0x20, 0, &[]));
        for (versions, good, bad) in [(ProxyVersions::One, one, &two[..]), (ProxyVersions::Two, &two[..], one)] {
            let feed = |bytes| Decoder::new(versions).feed(bytes);
            assert!(matches!(feed(good), Ok(Progress::Complete { .. })));
            // At once, and not when it is complete.
            assert_eq!(feed(&bad[..1]), Err(BadProxyHeader::Version(versions)));
        }
    }

    #[test]
    fn a_binary_header_has_two_ends() {
        let found = header(&v2(0x21, 0x11, &[TCP4]));
        assert_eq!((found.source, found.destination), (inet("203.0.113.9:5000"), inet("10.0.0.1:80")));
        let (source, destination) = ("2001:db8::9".parse::<std::net::Ipv6Addr>(), "::1".parse::<std::net::Ipv6Addr>());
        let [source, destination] = [source, destination].map(|ip| ip.expect("an address").octets());
        let found = header(&v2(0x21, 0x21, &[&source, &destination, &[0x13, 0x88, 0, 80]]));
        assert_eq!((found.source, found.destination), (inet("[2001:db8::9]:5000"), inet("[::1]:80")));
    }

    #[test]
    fn a_binary_header_can_be_of_unix_sockets() {
        let padded = |name: &[u8]| [name, &vec![0; 108 - name.len()]].concat();
        let found = |source: &[u8], destination: &[u8]| {
            let found = header(&v2(0x21, 0x31, &[&padded(source), &padded(destination)]));
            (found.source.expect("one"), found.destination.expect("one"))
        };
        let unnamed = Address::Unix(UnixAddress::Unnamed);
        assert_eq!(found(b"", b"/run/app.sock"), (unnamed, Address::unix("/run/app.sock")));
        let long = [b'x'; 108];
        let name = Address::Unix(UnixAddress::Abstract(b"name".to_vec()));
        assert_eq!(found(b"\0name", &long), (name, Address::unix("x".repeat(108))));
    }

    #[test]
    fn a_connection_of_the_proxy_itself_has_no_ends() {
        let checked = b"\x03\0\x04\x88\x9d\xa1\xdf\x20\0\x05\0\0\0\0\0";
        for rest in [&b""[..], checked, TCP4, b"\x01\xff\xff"] {
            assert_eq!(header(&v2(0x20, 0, &[rest])), ProxyHeader::default());
            assert_eq!(header(&v2(0x20, 0x11, &[rest])), ProxyHeader::default());
        }
        let found = header(&v2(0x21, 0, &[&field(AUTHORITY, b"example.net")]));
        assert_eq!((found.source, found.authority.as_deref()), (None, Some("example.net")));
    }

    const AUTHORITY: u8 = 2;

    #[test]
    fn fields_follow_the_addresses() {
        let ssl = [&[1 | 2, 0, 0, 0, 0][..], &field(0x21, b"TLSv1.3"), &field(0x22, b"client"), &field(0x25, b"EC256")];
        let fields = [
            field(1, b"h2"),
            field(AUTHORITY, b"example.net"),
            field(4, &[0; 7]),
            field(5, b"id"),
            field(0x20, &ssl.concat()),
            field(0xEA, b"\x01vpce-1"),
        ];
        let found = header(&v2(0x21, 0x11, &[TCP4, &fields.concat()]));
        let ssl = ProxySsl {
            is_encrypted: true,
            has_certificate: true,
            is_verified: true,
            version: Some("TLSv1.3".into()),
            common_name: Some("client".into()),
            cipher: None,
        };
        let expected = ProxyHeader {
            source: inet("203.0.113.9:5000"),
            destination: inet("10.0.0.1:80"),
            authority: Some("example.net".into()),
            alpn: Some(b"h2".to_vec()),
            unique_id: Some(b"id".to_vec()),
            ssl: Some(ssl),
            tlvs: vec![(0xEA, b"\x01vpce-1".to_vec())],
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn a_certificate_counts_as_verified_only_if_there_is_one() {
        for (client, verify, has_certificate, is_verified) in [
            (1, [0; 4], false, false),
            (3, [0; 4], true, true),
            (5, [0; 4], true, true),
            (3, [0, 0, 0, 18], true, false),
        ] {
            let field = field(0x20, &[&[client][..], &verify].concat());
            let ssl = header(&v2(0x21, 0x11, &[TCP4, &field])).ssl.expect("the field");
            assert_eq!((ssl.has_certificate, ssl.is_verified), (has_certificate, is_verified));
        }
    }

    #[test]
    fn a_checksum_is_compared() {
        // As HAProxy 2.6.12 sends it, to a server on port 7001.
        let with = |checksum: [u8; 4]| v2(0x21, 0x11, &[TCP4, &field(3, &checksum), &field(4, b"x")]);
        let right = crate::proxy_header::crc32c::crc32c([&with([0; 4])[..]]);
        assert_eq!(header(&with(right.to_be_bytes())).source, inet("203.0.113.9:5000"));
        assert!(refused(&with((right ^ 1).to_be_bytes())).contains("checksum"));
        assert!(refused(&v2(0x21, 0x11, &[TCP4, &field(3, b"abc")])).contains("checksum"));
    }

    #[test]
    fn a_binary_header_that_is_not_exact_is_refused() {
        for (header, why) in [
            (v2(0x11, 0x11, &[TCP4]), "version"),
            (v2(0x22, 0x11, &[TCP4]), "command"),
            (v2(0x21, 0x41, &[TCP4]), "family"),
            (v2(0x21, 0x13, &[TCP4]), "transport protocol"),
            (v2(0x21, 0x11, &[&TCP4[1..]]), "addresses are cut off"),
            (v2(0x21, 0x21, &[TCP4]), "addresses are cut off"),
            (v2(0x21, 0x31, &[&[0; 215]]), "addresses are cut off"),
            (v2(0x21, 0x11, &[TCP4, b"\x01"]), "a field is cut off"),
            (v2(0x21, 0x11, &[TCP4, b"\x01\0\x02a"]), "a field is cut off"),
            (v2(0x21, 0x11, &[TCP4, &field(0x20, b"\x01\0\0\0")]), "SSL is cut off"),
            (v2(0x21, 0x11, &[TCP4, &field(0x20, b"\x01\0\0\0\0\x21\0\x01")]), "SSL is cut off"),
            (v2(0x21, 0x11, &[TCP4, &field(AUTHORITY, b"\xff")]), "UTF-8"),
        ] {
            assert!(refused(&header).contains(why), "{}", refused(&header));
        }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let ssl = ProxySsl {
            is_encrypted: true,
            has_certificate: true,
            is_verified: true,
            version: Some("TLSv1.3".into()),
            common_name: Some("client".into()),
            cipher: None,
        };
        let of = |source: &str, destination: &str| ProxyHeader {
            source: inet(source),
            destination: inet(destination),
            ..ProxyHeader::default()
        };
        let fields = ProxyHeader {
            authority: Some("www.example.test".into()),
            alpn: Some(b"h2".into()),
            unique_id: Some(b"7".into()),
            ssl: Some(ssl),
            tlvs: vec![(0xe0, b"zone".into()), (0xe1, Vec::new())],
            ..of("203.0.113.9:5000", "10.0.0.1:80")
        };
        let unverified = ProxyHeader { ssl: Some(ProxySsl::default()), ..ProxyHeader::default() };
        let unix =
            ProxyHeader::new(Address::unix("/run/client"), Address::Unix(UnixAddress::Abstract(b"server".into())));
        let v4 = of("203.0.113.9:5000", "10.0.0.1:80");
        let v6 = of("[2001:db8::1]:5000", "[::1]:80");
        for sent in [&fields, &unverified, &unix, &v4, &v6, &ProxyHeader::default()] {
            assert_eq!(header(&sent.to_v2().expect("it fits")), *sent);
        }
        for sent in [&v4, &v6, &ProxyHeader::default()] {
            assert_eq!(header(&sent.to_v1()), *sent);
        }
        assert_eq!(header(&unix.to_v1()), ProxyHeader::default());
        let mixed = of("203.0.113.9:5000", "[2001:db8::1]:80");
        assert_eq!(header(&mixed.to_v2().expect("it fits")), of("[::ffff:203.0.113.9]:5000", "[2001:db8::1]:80"));
        let long = ProxyHeader { tlvs: vec![(0xe0, vec![0; 40_000]); 2], ..ProxyHeader::default() };
        assert!(long.to_v2().is_err());
    }
}

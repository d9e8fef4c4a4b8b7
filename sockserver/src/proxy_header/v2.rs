//! Version 2: binary, with addresses of a fixed size and further fields behind them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{ProxyHeader, ProxySsl, crc32c::crc32c, inet_ends};
use crate::address::{Address, UnixAddress};

pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The signature, version and command, family and protocol, and the length of the rest.
const FIXED: usize = 16;

/// How long the header is. `None`: the part that says it has not come.
pub(super) fn length(received: &[u8]) -> Option<usize> {
    let &[high, low] = received.get(FIXED - 2..FIXED)? else { return None };
    Some(FIXED + usize::from(u16::from_be_bytes([high, low])))
}

pub(super) fn parse(header: &[u8]) -> Result<ProxyHeader, &'static str> {
    let (fixed, rest) = header.split_at_checked(FIXED).ok_or("it is too short")?;
    let (version_and_command, family_and_protocol) = (fixed[12], fixed[13]);
    if version_and_command >> 4 != 2 {
        return Err("its version is not 2");
    }
    match version_and_command & 0xf {
        // LOCAL: what else the header has is to be ignored.
        0 => return Ok(ProxyHeader::default()),
        1 => {}
        _ => return Err("its command is neither LOCAL nor PROXY"),
    }
    if family_and_protocol & 0xf > 2 {
        return Err("its transport protocol is unknown");
    }
    let mut rest = Fields { rest };
    let too_short = "its addresses are cut off";
    let (source, destination) = match family_and_protocol >> 4 {
        0 => (None, None),
        1 => {
            let [source, destination] = [rest.take::<4>(), rest.take()].map(|ip| ip.map(Ipv4Addr::from));
            inet(source, destination, &mut rest).ok_or(too_short)?
        }
        2 => {
            let [source, destination] = [rest.take::<16>(), rest.take()].map(|ip| ip.map(Ipv6Addr::from));
            inet(source, destination, &mut rest).ok_or(too_short)?
        }
        3 => {
            let [source, destination] = [rest.take::<108>(), rest.take()].map(|name| name.map(|name| unix(&name)));
            (Some(source.ok_or(too_short)?), Some(destination.ok_or(too_short)?))
        }
        _ => return Err("its address family is unknown"),
    };
    let mut parsed = ProxyHeader { source, destination, ..ProxyHeader::default() };
    while let Some(field) = rest.next_field() {
        let (kind, value) = field.ok_or("a field is cut off")?;
        match kind {
            ALPN => parsed.alpn = Some(value.to_vec()),
            AUTHORITY => parsed.authority = Some(text(value)?),
            CRC32C => check(header, header.len() - rest.rest.len() - value.len(), value)?,
            NOOP => {}
            UNIQUE_ID => parsed.unique_id = Some(value.to_vec()),
            SSL => parsed.ssl = Some(ssl(value)?),
            other => parsed.tlvs.push((other, value.to_vec())),
        }
    }
    Ok(parsed)
}

/// `None`: it is too long.
pub(super) fn encode(header: &ProxyHeader) -> Option<Vec<u8>> {
    let mut encoded = SIGNATURE.to_vec();
    if *header == ProxyHeader::default() {
        // LOCAL.
        encoded.extend_from_slice(&[0x20, 0, 0, 0]);
        return Some(encoded);
    }
    let mut rest = Vec::new();
    let family_and_protocol = match (inet_ends(header), &header.source, &header.destination) {
        (Some(ends), ..) => {
            for end in ends {
                match end.ip() {
                    IpAddr::V4(ip) => rest.extend_from_slice(&ip.octets()),
                    IpAddr::V6(ip) => rest.extend_from_slice(&ip.octets()),
                }
            }
            ends.iter().for_each(|end| rest.extend_from_slice(&end.port().to_be_bytes()));
            if ends[0].is_ipv4() { 0x11 } else { 0x21 }
        }
        (None, Some(Address::Unix(source)), Some(Address::Unix(destination))) => {
            rest.extend_from_slice(&sun_path(source)?);
            rest.extend_from_slice(&sun_path(destination)?);
            0x31
        }
        _ => 0,
    };
    let mut field = |kind: u8, value: &[u8]| put_field(&mut rest, kind, value);
    if let Some(alpn) = &header.alpn {
        field(ALPN, alpn)?;
    }
    if let Some(authority) = &header.authority {
        field(AUTHORITY, authority.as_bytes())?;
    }
    if let Some(unique_id) = &header.unique_id {
        field(UNIQUE_ID, unique_id)?;
    }
    if let Some(ssl) = &header.ssl {
        field(SSL, &encode_ssl(ssl)?)?;
    }
    for (kind, value) in &header.tlvs {
        field(*kind, value)?;
    }
    encoded.extend_from_slice(&[0x21, family_and_protocol]);
    encoded.extend_from_slice(&u16::try_from(rest.len()).ok()?.to_be_bytes());
    encoded.extend_from_slice(&rest);
    Some(encoded)
}

/// `None`: the value is too long.
fn put_field(fields: &mut Vec<u8>, kind: u8, value: &[u8]) -> Option<()> {
    fields.push(kind);
    fields.extend_from_slice(&u16::try_from(value.len()).ok()?.to_be_bytes());
    fields.extend_from_slice(value);
    Some(())
}

const ALPN: u8 = 0x01;
const AUTHORITY: u8 = 0x02;
const CRC32C: u8 = 0x03;
const NOOP: u8 = 0x04;
const UNIQUE_ID: u8 = 0x05;
const SSL: u8 = 0x20;

/// What is left of a header, or of a field that has fields in it.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*taken)
    }

    /// The next field, a type and a value. `Some(None)`: it is cut off.
    fn next_field(&mut self) -> Option<Option<(u8, &'a [u8])>> {
        if self.rest.is_empty() {
            return None;
        }
        Some(self.take().and_then(|[kind, high, low]| {
            let (value, rest) = self.rest.split_at_checked(u16::from_be_bytes([high, low]).into())?;
            self.rest = rest;
            Some((kind, value))
        }))
    }
}

type Ends = (Option<Address>, Option<Address>);

fn inet<I: Into<std::net::IpAddr>>(source: Option<I>, destination: Option<I>, ports: &mut Fields<'_>) -> Option<Ends> {
    let [source_port, destination_port] = [ports.take(), ports.take()].map(|port| port.map(u16::from_be_bytes));
    let end = |ip: Option<I>, port: Option<u16>| Some(Address::Inet(SocketAddr::new(ip?.into(), port?)));
    Some((Some(end(source, source_port)?), Some(end(destination, destination_port)?)))
}

/// The address of a Unix socket in the form of `sun_path`.
fn unix(name: &[u8; 108]) -> Address {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let end = |byte: u8| name.iter().position(|&it| it == byte).unwrap_or(name.len());
    match end(0) {
        0 => match name.iter().rposition(|&byte| byte != 0) {
            None => Address::Unix(UnixAddress::Unnamed),
            Some(last) => Address::Unix(UnixAddress::Abstract(name[1..=last].to_vec())),
        },
        length => Address::unix(OsStr::from_bytes(&name[..length])),
    }
}

/// The reverse of [`unix`]. `None`: the name is too long.
fn sun_path(address: &UnixAddress) -> Option<[u8; 108]> {
    use std::os::unix::ffi::OsStrExt;
    let mut name = [0; 108];
    match address {
        UnixAddress::Path(path) => {
            let path = path.as_os_str().as_bytes();
            name.get_mut(..path.len())?.copy_from_slice(path);
        }
        UnixAddress::Abstract(abstract_name) => name.get_mut(1..=abstract_name.len())?.copy_from_slice(abstract_name),
        UnixAddress::Unnamed => {}
    }
    Some(name)
}

fn text(value: &[u8]) -> Result<String, &'static str> {
    String::from_utf8(value.to_vec()).map_err(|_| "a field that has to be UTF-8 is not")
}

/// The checksum, which starts there, is that of the whole header, with zeros in its own place.
fn check(header: &[u8], start: usize, checksum: &[u8]) -> Result<(), &'static str> {
    let &[a, b, c, d] = checksum else {
        return Err("its checksum is not 4 bytes long");
    };
    let computed = crc32c([&header[..start], &[0; 4], &header[start + 4..]]);
    match computed == u32::from_be_bytes([a, b, c, d]) {
        true => Ok(()),
        false => Err("its checksum is not that of its bytes"),
    }
}

const CLIENT_SSL: u8 = 1;
const CLIENT_CERTIFICATE: u8 = 2 | 4;
const VERSION: u8 = 0x21;
const COMMON_NAME: u8 = 0x22;
const CIPHER: u8 = 0x23;

/// `None`: a value is too long.
fn encode_ssl(ssl: &ProxySsl) -> Option<Vec<u8>> {
    let client =
        if ssl.is_encrypted { CLIENT_SSL } else { 0 } | if ssl.has_certificate { CLIENT_CERTIFICATE } else { 0 };
    let mut value = vec![client];
    value.extend_from_slice(&u32::from(!ssl.is_verified).to_be_bytes());
    for (kind, text) in [(VERSION, &ssl.version), (COMMON_NAME, &ssl.common_name), (CIPHER, &ssl.cipher)] {
        if let Some(text) = text {
            put_field(&mut value, kind, text.as_bytes())?;
        }
    }
    Some(value)
}

fn ssl(value: &[u8]) -> Result<ProxySsl, &'static str> {
    let cut_off = "its field on SSL is cut off";
    let mut fields = Fields { rest: value };
    let [client, verify @ ..] = fields.take::<5>().ok_or(cut_off)?;
    let has_certificate = client & CLIENT_CERTIFICATE != 0;
    let mut ssl = ProxySsl {
        is_encrypted: client & CLIENT_SSL != 0,
        has_certificate,
        is_verified: has_certificate && verify == [0; 4],
        ..ProxySsl::default()
    };
    while let Some(field) = fields.next_field() {
        let (kind, value) = field.ok_or(cut_off)?;
        match kind {
            VERSION => ssl.version = Some(text(value)?),
            COMMON_NAME => ssl.common_name = Some(text(value)?),
            CIPHER => ssl.cipher = Some(text(value)?),
            _ => {}
        }
    }
    Ok(ssl)
}

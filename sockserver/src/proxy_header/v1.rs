//! Version 1: one line of text.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use super::{ProxyHeader, inet_ends};
use crate::address::Address;

pub(super) const SIGNATURE: &[u8] = b"PROXY ";

/// The longest line, with its end.
const MAX_LENGTH: usize = 107;

/// How long the header is. `None`: its end has not come.
pub(super) fn length(received: &[u8]) -> Result<Option<usize>, &'static str> {
    let line = &received[..received.len().min(MAX_LENGTH)];
    match line.iter().position(|&byte| byte == b'\n') {
        Some(end) => Ok(Some(end + 1)),
        None if line.len() == MAX_LENGTH => Err("its line has no end within 107 bytes"),
        None => Ok(None),
    }
}

pub(super) fn parse(line: &[u8]) -> Result<ProxyHeader, &'static str> {
    let line = line.strip_suffix(b"\r\n").ok_or("its line does not end in CR LF")?;
    let line = str::from_utf8(line).map_err(|_| "its line is no text")?;
    let words: Vec<&str> = line.split(' ').skip(1).collect();
    match words[..] {
        // What follows it may be anything.
        ["UNKNOWN", ..] => Ok(ProxyHeader::default()),
        ["TCP4", source, destination, source_port, destination_port] => {
            addresses::<Ipv4Addr>([(source, source_port), (destination, destination_port)])
        }
        ["TCP6", source, destination, source_port, destination_port] => {
            addresses::<Ipv6Addr>([(source, source_port), (destination, destination_port)])
        }
        ["TCP4" | "TCP6", ..] => Err("its line has not two addresses and two ports"),
        _ => Err("its protocol is none of TCP4, TCP6 and UNKNOWN"),
    }
}

pub(super) fn encode(header: &ProxyHeader) -> Vec<u8> {
    let Some([source, destination]) = inet_ends(header) else { return b"PROXY UNKNOWN\r\n".to_vec() };
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let [source_ip, destination_ip] = [source, destination].map(|end| end.ip());
    let line = format!("PROXY {family} {source_ip} {destination_ip} {} {}\r\n", source.port(), destination.port());
    line.into_bytes()
}

fn addresses<I: FromStr + Into<IpAddr>>(ends: [(&str, &str); 2]) -> Result<ProxyHeader, &'static str> {
    let end = |(ip, port): (&str, &str)| {
        let ip = ip.parse::<I>().map_err(|_| "an address is not of its protocol")?;
        let port = self::port(port).ok_or("a port is no number up to 65535")?;
        Ok(Some(Address::Inet(SocketAddr::new(ip.into(), port))))
    };
    let [source, destination] = ends;
    Ok(ProxyHeader { source: end(source)?, destination: end(destination)?, ..ProxyHeader::default() })
}

/// A port without a sign and without leading zeros.
fn port(text: &str) -> Option<u16> {
    let is_canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    is_canonical.then(|| text.parse().ok())?
}

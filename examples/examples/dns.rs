//! A name server for a small zone, given on the command line: packets in, packets out, and whatever is in them.
//!
//! ```console
//! $ cargo run --example dns -- 127.0.0.1:5300 www.example.test=192.0.2.1 mail.example.test=192.0.2.2
//! listening on 127.0.0.1:5300
//! ```
//!
//! ```console
//! $ dig @127.0.0.1 -p 5300 +short www.example.test
//! 192.0.2.1
//! ```
//!
//! It answers queries of type A (RFC 1035), says that other names do not exist and that these have nothing of another
//! type, and knows no extensions: the OPT record of an EDNS query is not looked at. Without arguments it serves
//! `www.example.test` at 127.0.0.1:5300.

use std::{collections::HashMap, env, error::Error, net::Ipv4Addr, sync::Arc};

use sockserver::{Datagram, HandlerResult, RequestHandler, Server, request_handler};

#[derive(Server)]
#[server(transport = "udp", concurrency = "sync", handler = Query)]
struct Dns {
    /// By name, as it is in a packet, in lower case.
    zone: HashMap<Vec<u8>, Ipv4Addr>,
}

#[request_handler]
struct Query {
    packet: Datagram,
    server: Arc<Dns>,
}

impl RequestHandler for Query {
    fn handle(&mut self) -> HandlerResult {
        if let Some(reply) = self.server.reply_to(self.packet.payload()) {
            self.packet.reply(&reply)?;
        }
        Ok(())
    }
}

// Of the third byte of a header.
const RESPONSE: u8 = 0x80;
const OPCODE: u8 = 0x78;
const AUTHORITATIVE: u8 = 0x04;
const RECURSION_DESIRED: u8 = 0x01;

const TYPE_A: u16 = 1;
const CLASS_IN: u16 = 1;

/// RCODE, the low half of the fourth byte.
#[derive(Clone, Copy, PartialEq)]
enum Code {
    NoError = 0,
    FormatError = 1,
    NameError = 3,
    NotImplemented = 4,
    Refused = 5,
}

impl Dns {
    /// `None` for what must not be answered: it has no whole header, or is a response itself, and two servers could
    /// answer each other for ever.
    fn reply_to(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let (header, body) = packet.split_first_chunk::<12>()?;
        if header[2] & RESPONSE != 0 {
            return None;
        }
        let question = if header[4..6] == [0, 1] { Question::parse(body) } else { None };
        let (code, address) = match &question {
            _ if header[2] & OPCODE != 0 => (Code::NotImplemented, None),
            None => (Code::FormatError, None),
            Some(question) if question.class != CLASS_IN => (Code::Refused, None),
            Some(question) => match self.zone.get(&question.name.to_ascii_lowercase()) {
                None => (Code::NameError, None),
                Some(address) => (Code::NoError, (question.kind == TYPE_A).then_some(address)),
            },
        };
        let authoritative = if matches!(code, Code::NoError | Code::NameError) { AUTHORITATIVE } else { 0 };
        let flags = RESPONSE | header[2] & (OPCODE | RECURSION_DESIRED) | authoritative;

        let mut reply = vec![header[0], header[1], flags, code as u8];
        reply.extend([0, question.is_some().into(), 0, address.is_some().into(), 0, 0, 0, 0]);
        reply.extend(question.iter().flat_map(|question| question.bytes));
        if let Some(address) = address {
            // A pointer to the name in the question, TYPE, CLASS, a TTL of a minute, and the length of the address.
            reply.extend([0xc0, 12, 0, TYPE_A as u8, 0, CLASS_IN as u8, 0, 0, 0, 60, 0, 4]);
            reply.extend(address.octets());
        }
        Some(reply)
    }
}

struct Question<'a> {
    bytes: &'a [u8],
    /// Labels with their lengths, and the zero at the end. No length is a letter, so that changing the case is safe.
    name: &'a [u8],
    kind: u16,
    class: u16,
}

impl<'a> Question<'a> {
    fn parse(body: &'a [u8]) -> Option<Question<'a>> {
        let length = name_length(body)?;
        let (name, rest) = body.split_at(length);
        let [kind_1, kind_2, class_1, class_2] = *rest.first_chunk()?;
        Some(Question {
            bytes: &body[..length + 4],
            name,
            kind: u16::from_be_bytes([kind_1, kind_2]),
            class: u16::from_be_bytes([class_1, class_2]),
        })
    }
}

/// How many bytes the name has; `None` if it is cut off, too long, or has a pointer, for which there is nothing before
/// the first question to point to.
fn name_length(bytes: &[u8]) -> Option<usize> {
    let mut end = 0;
    loop {
        match *bytes.get(end)? {
            0 => return (end < 255).then_some(end + 1),
            label @ 1..64 => end += 1 + usize::from(label),
            64.. => return None,
        }
    }
}

/// `www.example.test=192.0.2.1`
fn parse_record(record: &str) -> Option<(Vec<u8>, Ipv4Addr)> {
    let (name, address) = record.split_once('=')?;
    let mut bytes = Vec::new();
    for label in name.trim_end_matches('.').to_ascii_lowercase().split('.') {
        bytes.push(u8::try_from(label.len()).ok()?);
        bytes.extend(label.bytes());
    }
    bytes.push(0);
    (name_length(&bytes)? == bytes.len()).then_some((bytes, address.parse().ok()?))
}

fn main() -> Result<(), Box<dyn Error>> {
    let (mut records, addresses): (Vec<_>, Vec<_>) = env::args().skip(1).partition(|argument| argument.contains('='));
    if records.is_empty() {
        records.push("www.example.test=192.0.2.1".into());
    }
    let record =
        |record: String| parse_record(&record).ok_or(format!("{record} is not like www.example.test=192.0.2.1"));
    let zone = records.into_iter().map(record).collect::<Result<_, _>>()?;
    let address = addresses.first().map_or("127.0.0.1:5300", String::as_str);
    let server = Dns { zone }.bind(address)?;
    println!("listening on {}", server.server_address());
    Ok(server.serve_forever()?)
}

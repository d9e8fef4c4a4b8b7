//! WebSocket (RFC 6455): the request of HTTP that a connection begins with, and the frames that follow it.

use std::{
    fmt,
    io::{self, Write},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use sha1_smol::Sha1;
use sockserver::{
    BoxError,
    framing::{Framing, FromFrame, Scan},
};

/// Where the request ends, and where each frame does.
#[derive(Default)]
pub(crate) struct WebSocket {
    /// The request has come.
    has_begun: bool,
    /// The last frame without its mask.
    unmasked: Vec<u8>,
}

/// What a client has sent.
pub(crate) enum Incoming<'a> {
    /// The request for a page.
    Get(&'a str),
    /// The request for a WebSocket.
    Upgrade(Upgrade),
    /// A part of a text, or all of it.
    Text {
        part: &'a [u8],
        is_last: bool,
    },
    Ping(&'a [u8]),
    Pong,
    Close,
}

/// The request for a WebSocket, with the answer to its key.
pub(crate) struct Upgrade(String);

/// What is wrong with the request.
#[derive(Debug)]
pub(crate) struct BadRequest(&'static str);

/// Why a connection is closed.
#[derive(Clone, Copy)]
pub(crate) enum Status {
    Normal = 1000,
    GoingAway = 1001,
    Protocol = 1002,
    NotText = 1007,
    TooLong = 1009,
}

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// The bit of the last frame of a message.
const FINAL: u8 = 0x80;

/// The bits of extensions. They are zero in a frame here, and not all zero in a letter.
const RESERVED: u8 = 0x70;

/// The bit of a frame that is masked, as those of clients are.
const MASKED: u8 = 0x80;

/// How long a mask is.
const MASK: usize = 4;

impl Framing for WebSocket {
    fn scan(&mut self, bytes: &[u8]) -> Result<Scan, BoxError> {
        if !self.has_begun {
            let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
            // The last bytes may be the start of the end.
            let Some(end) = end else { return Ok(Scan::More(bytes.len().saturating_sub(3))) };
            self.has_begun = true;
            return Ok(Scan::End { length: end + 4, header: 0, trailer: 0 });
        }
        let &[first, second, ref rest @ ..] = bytes else { return Ok(Scan::More(0)) };
        if first & RESERVED != 0 {
            return Err("an extension is used that was not agreed on".into());
        }
        if second & MASKED == 0 {
            return Err("a frame of a client is masked".into());
        }
        let (length, size): (u64, usize) = match (second & !MASKED, rest) {
            (126, &[high, low, ..]) => (u16::from_be_bytes([high, low]).into(), 2),
            (127, rest) if rest.len() >= 8 => (u64::from_be_bytes(rest[..8].try_into()?), 8),
            (126 | 127, _) => return Ok(Scan::More(0)),
            (length, _) => (length.into(), 0),
        };
        if first & 0x0f >= CLOSE && (length > 125 || first & FINAL == 0) {
            return Err("a control frame is short, and one".into());
        }
        let length = usize::try_from(length)?.checked_add(2 + size + MASK).ok_or("a frame is endless")?;
        // All of it is needed to take the mask off.
        Ok(Scan::End { length, header: 0, trailer: 0 })
    }

    /// As a text.
    fn encode(&self, payload: &[u8], outgoing: &mut Vec<u8>) -> Result<(), BoxError> {
        put_frame(TEXT, payload, outgoing);
        Ok(())
    }

    /// Takes the mask off, and leaves the first byte in front of the payload.
    fn unescape<'a>(&'a mut self, frame: &'a [u8]) -> Result<&'a [u8], BoxError> {
        let &[first, second, ..] = frame else { return Ok(frame) };
        if first & RESERVED != 0 {
            // The request: a letter is first.
            return Ok(frame);
        }
        let start = match second & !MASKED {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        let (mask, payload) = frame[start..].split_at(MASK);
        self.unmasked.clear();
        self.unmasked.push(first);
        self.unmasked.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        Ok(&self.unmasked)
    }
}

fn put_frame(opcode: u8, payload: &[u8], outgoing: &mut Vec<u8>) {
    outgoing.push(FINAL | opcode);
    match payload.len() {
        length @ 0..126 => outgoing.push(length as u8),
        length @ 126..0x1_0000 => {
            outgoing.push(126);
            outgoing.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            outgoing.push(127);
            outgoing.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    outgoing.extend_from_slice(payload);
}

impl FromFrame for Incoming<'_> {
    type Message<'a> = Incoming<'a>;

    fn from_frame(frame: &[u8]) -> Result<Incoming<'_>, BoxError> {
        let (&first, payload) = frame.split_first().ok_or("a frame is empty")?;
        if first & RESERVED != 0 {
            return request(frame).map_err(|why| BadRequest(why).into());
        }
        Ok(match first & 0x0f {
            CONTINUATION | TEXT => Incoming::Text { part: payload, is_last: first & FINAL != 0 },
            CLOSE => Incoming::Close,
            PING => Incoming::Ping(payload),
            PONG => Incoming::Pong,
            _ => return Err("only texts are understood".into()),
        })
    }
}

/// The request that a connection begins with.
fn request(head: &[u8]) -> Result<Incoming<'_>, &'static str> {
    let head = str::from_utf8(head).map_err(|_| "the request is no text")?;
    let mut lines = head.split("\r\n");
    let path = match lines.next().unwrap_or_default().split(' ').collect::<Vec<_>>()[..] {
        ["GET", path, "HTTP/1.1"] => path,
        _ => return Err("the request is no GET of HTTP/1.1"),
    };
    let headers: Vec<_> = lines.filter_map(|line| line.split_once(':')).collect();
    let header = |name: &str| {
        let found = headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value.trim())
    };
    if !header("upgrade").eq_ignore_ascii_case("websocket") {
        return Ok(Incoming::Get(path));
    }
    if header("sec-websocket-version") != "13" {
        return Err("the version of WebSocket is not 13");
    }
    // A page from elsewhere could talk here in the name of the person who looks at it. Only browsers send this header.
    let (_, origin) = header("origin").split_once("://").unwrap_or_default();
    if !origin.is_empty() && origin != header("host") {
        return Err("the page is from another server");
    }
    match header("sec-websocket-key") {
        "" => Err("there is no Sec-WebSocket-Key"),
        key => Ok(Incoming::Upgrade(Upgrade(accept_key(key)))),
    }
}

/// What shows that this server has understood the request.
fn accept_key(key: &str) -> String {
    let digest = Sha1::from(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11")).digest();
    BASE64_STANDARD.encode(digest.bytes())
}

impl Upgrade {
    pub(crate) fn accept(&self, client: &mut impl Write) -> io::Result<()> {
        write!(
            client,
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
            self.0
        )
    }
}

impl fmt::Display for BadRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for BadRequest {}

pub(crate) fn write_page(client: &mut impl Write, status: &str, page: &str) -> io::Result<()> {
    let length = page.len();
    write!(
        client,
        "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {length}\r\nConnection: close\r\n\
         X-Frame-Options: DENY\r\n\r\n{page}"
    )
}

pub(crate) fn write_pong(client: &mut impl Write, payload: &[u8]) -> io::Result<()> {
    write_control(client, PONG, payload)
}

/// The last frame of a connection.
pub(crate) fn write_close(client: &mut impl Write, status: Status, why: &str) -> io::Result<()> {
    write_control(client, CLOSE, &[&(status as u16).to_be_bytes(), why.as_bytes()].concat())
}

fn write_control(client: &mut impl Write, opcode: u8, payload: &[u8]) -> io::Result<()> {
    let mut frame = Vec::new();
    put_frame(opcode, &payload[..payload.len().min(125)], &mut frame);
    client.write_all(&frame)
}

//! RESP, the protocol of Redis: how a request ends, what its words are, and how a reply is written.
//!
//! A request is an array of strings, each with its length in front, so that it can hold any bytes:
//! `*2\r\n$3\r\nGET\r\n$5\r\nhello\r\n`. Or it is an inline command, a line of words, for people: `GET hello\r\n`.
//! <https://redis.io/docs/latest/develop/reference/protocol-spec/>

use std::{
    io::{self, Write},
    sync::Arc,
};

use sockserver::{
    BoxError,
    framing::{Framing, FromFrame, Line, Scan, ToFrame},
};

/// Where a request ends.
#[derive(Default)]
pub(crate) enum Resp {
    /// The next byte is the first of a request.
    #[default]
    Start,
    /// Inside an array, before so many of its strings.
    Array(usize),
    /// Inside an inline command.
    Inline,
}

/// As many strings as Redis takes in one request.
const MAX_STRINGS: i64 = 1024 * 1024;

/// A string is no longer than this in Redis. The server's `max_frame` is less.
const MAX_STRING: i64 = 512 * 1024 * 1024;

impl Framing for Resp {
    fn scan(&mut self, bytes: &[u8]) -> Result<Scan, BoxError> {
        let (mut strings, mut scanned) = match self {
            Resp::Array(strings) => (*strings, 0),
            Resp::Start if bytes[0] == b'*' => match header(bytes).ok_or("invalid multibulk length")? {
                Header::Incomplete => return Ok(Scan::More(0)),
                Header::Number(MAX_STRINGS.., _) => return Err("invalid multibulk length".into()),
                // Redis takes less than nothing for nothing.
                Header::Number(strings, length) => (usize::try_from(strings).unwrap_or(0), length),
            },
            Resp::Start | Resp::Inline => {
                let scan = Line.scan(bytes)?;
                *self = if let Scan::End { .. } = scan { Resp::Start } else { Resp::Inline };
                return Ok(scan);
            }
        };
        while strings > 0 {
            *self = Resp::Array(strings);
            // The last string may end behind what has come.
            let Some(rest @ [first, ..]) = bytes.get(scanned..) else { return Ok(Scan::More(scanned)) };
            if *first != b'$' {
                return Err(format!("expected '$', got '{}'", first.escape_ascii()).into());
            }
            match header(rest).ok_or("invalid bulk length")? {
                Header::Incomplete => return Ok(Scan::More(scanned)),
                Header::Number(length @ 0..=MAX_STRING, header) => scanned += header + length as usize + CRLF.len(),
                Header::Number(..) => return Err("invalid bulk length".into()),
            }
            strings -= 1;
        }
        *self = Resp::Start;
        Ok(Scan::End { length: scanned, header: 0, trailer: 0 })
    }

    /// A reply says by itself where it ends.
    fn encode(&self, reply: &[u8], outgoing: &mut Vec<u8>) -> Result<(), BoxError> {
        outgoing.extend_from_slice(reply);
        Ok(())
    }
}

const CRLF: &[u8] = b"\r\n";

/// The start of an array or a string: a sign, a number and a line end.
enum Header {
    /// The number, and how many bytes all of it has.
    Number(i64, usize),
    /// The line end has not come.
    Incomplete,
}

/// Enough for a number of 64 bits.
const MAX_HEADER: usize = 24;

/// `None`: there is no number.
fn header(bytes: &[u8]) -> Option<Header> {
    let (is_negative, start) = if bytes.get(1) == Some(&b'-') { (true, 2) } else { (false, 1) };
    let mut number: i64 = 0;
    for (index, &byte) in bytes.iter().enumerate().take(MAX_HEADER).skip(start) {
        match byte {
            b'0'..=b'9' => number = number.checked_mul(10)?.checked_add((byte - b'0').into())?,
            b'\r' if index > start => {
                return match bytes.get(index + 1) {
                    Some(b'\n') => Some(Header::Number(if is_negative { -number } else { number }, index + 2)),
                    Some(_) => None,
                    None => Some(Header::Incomplete),
                };
            }
            _ => return None,
        }
    }
    (bytes.len() < MAX_HEADER).then_some(Header::Incomplete)
}

/// A request: the name of a command and its arguments. It has no words where the client has sent an empty line.
pub(crate) struct Request<'a> {
    pub(crate) words: Vec<&'a [u8]>,
}

impl FromFrame for Request<'_> {
    type Message<'a> = Request<'a>;

    fn from_frame(frame: &[u8]) -> Result<Request<'_>, BoxError> {
        let words = match frame {
            [b'*', ..] => strings(frame).ok_or("invalid bulk length")?,
            line => line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect(),
        };
        Ok(Request { words })
    }
}

/// The strings of an array. `None`: it is not complete.
fn strings(array: &[u8]) -> Option<Vec<&[u8]>> {
    let Header::Number(count, length) = header(array)? else { return None };
    let mut strings = Vec::new();
    let mut rest = array.get(length..)?;
    for _ in 0..count {
        let Header::Number(length, header) = header(rest)? else { return None };
        let (string, after) = rest.get(header..)?.split_at_checked(length.try_into().ok()?)?;
        strings.push(string);
        // Redis does not look at these two bytes either.
        rest = after.get(CRLF.len()..)?;
    }
    Some(strings)
}

pub(crate) enum Reply {
    /// A short text.
    Status(&'static str),
    /// A text that starts with a word in capitals, the kind of the error.
    Error(String),
    Integer(i64),
    Bulk(Arc<[u8]>),
    /// There is no such value.
    Nil,
    Array(Vec<Reply>),
}

impl Reply {
    pub(crate) fn bulk(bytes: impl AsRef<[u8]>) -> Reply {
        Reply::Bulk(bytes.as_ref().into())
    }

    fn write_to(&self, buffer: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Reply::Status(text) => write!(buffer, "+{text}\r\n"),
            // The text can have words of the client in it, and must stay one line.
            Reply::Error(text) => write!(buffer, "-{}\r\n", text.replace(['\r', '\n'], " ")),
            Reply::Integer(number) => write!(buffer, ":{number}\r\n"),
            Reply::Bulk(bytes) => {
                write!(buffer, "${}\r\n", bytes.len())?;
                buffer.extend_from_slice(bytes);
                buffer.write_all(CRLF)
            }
            Reply::Nil => buffer.write_all(b"$-1\r\n"),
            Reply::Array(replies) => {
                write!(buffer, "*{}\r\n", replies.len())?;
                replies.iter().try_for_each(|reply| reply.write_to(buffer))
            }
        }
    }
}

impl ToFrame for Reply {
    fn to_frame<'a>(&'a self, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], BoxError> {
        self.write_to(buffer)?;
        Ok(buffer)
    }
}

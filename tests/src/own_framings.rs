//! Framings that a user would write.

use std::str;

use sockserver::{
    BoxError,
    framing::{Framing, FromFrame, Line, Nul, Scan},
};

/// Consistent overhead byte stuffing: zero bytes end a frame, and its payload is escaped so that it has none. Each block
/// is a byte, one more than how many bytes follow it, and those bytes; a zero is left out between two blocks, unless the
/// first has 254 bytes.
#[derive(Debug, Default)]
pub struct Cobs {
    unescaped: Vec<u8>,
}

impl Framing for Cobs {
    fn scan(&mut self, bytes: &[u8]) -> Result<Scan, BoxError> {
        Nul.scan(bytes)
    }

    fn unescape<'a>(&'a mut self, mut payload: &'a [u8]) -> Result<&'a [u8], BoxError> {
        self.unescaped.clear();
        while let Some((&code, rest)) = payload.split_first() {
            let block =
                rest.get(..usize::from(code).saturating_sub(1)).ok_or("a block has fewer bytes than it says")?;
            self.unescaped.extend_from_slice(block);
            payload = &rest[block.len()..];
            if block.len() < 254 && !payload.is_empty() {
                self.unescaped.push(0);
            }
        }
        Ok(&self.unescaped)
    }

    fn encode(&self, payload: &[u8], outgoing: &mut Vec<u8>) -> Result<(), BoxError> {
        let mut code = outgoing.len();
        outgoing.push(1);
        for &byte in payload {
            if byte != 0 {
                outgoing.push(byte);
                outgoing[code] += 1;
            }
            if byte == 0 || outgoing[code] == 255 {
                code = outgoing.len();
                outgoing.push(1);
            }
        }
        outgoing.push(0);
        Ok(())
    }
}

/// What clients send to Redis: values of RESP, arrays in arrays among them, and lines that people type.
#[derive(Debug, Default)]
pub struct Resp {
    part: Part,
}

#[derive(Clone, Copy, Debug, Default)]
enum Part {
    #[default]
    Start,
    /// A line that somebody has typed.
    Inline,
    /// So many values are still to come, wherever they belong.
    Values(u64),
}

impl Framing for Resp {
    fn scan(&mut self, bytes: &[u8]) -> Result<Scan, BoxError> {
        let values = match (self.part, bytes[0]) {
            (Part::Start, b'*' | b'$' | b':' | b'+' | b'-') => 1,
            (Part::Start | Part::Inline, _) => {
                let scan = Line.scan(bytes)?;
                self.part = if let Scan::End { .. } = scan { Part::Start } else { Part::Inline };
                return Ok(scan);
            }
            (Part::Values(values), _) => values,
        };
        let Some(header) = Header::parse(bytes)? else { return Ok(Scan::More(0)) };
        let (length, inner) = match (header.kind, header.number) {
            (b'$', Some(number)) => (usize::try_from(number)?.saturating_add(header.length + 2), 0),
            (b'*', Some(number)) => (header.length, number),
            _ => (header.length, 0),
        };
        let left = values.saturating_add(inner) - 1;
        self.part = if left == 0 { Part::Start } else { Part::Values(left) };
        Ok(if left == 0 { Scan::End { length, header: 0, trailer: 0 } } else { Scan::More(length) })
    }

    fn encode(&self, payload: &[u8], outgoing: &mut Vec<u8>) -> Result<(), BoxError> {
        outgoing.extend_from_slice(payload);
        Ok(())
    }
}

/// The first line of a value.
struct Header {
    kind: u8,
    length: usize,
    /// How many bytes or values follow. Null has none, and neither has what is on the line itself.
    number: Option<u64>,
}

impl Header {
    const LONGEST: usize = 64;

    /// `None`: it has not all come.
    fn parse(bytes: &[u8]) -> Result<Option<Header>, BoxError> {
        let Some(end) = bytes.iter().take(Header::LONGEST).position(|&byte| byte == b'\n') else {
            let is_too_long = bytes.len() >= Header::LONGEST;
            return if is_too_long { Err("the first line of a value is too long".into()) } else { Ok(None) };
        };
        let (kind, rest) = bytes[..end].split_first().ok_or("an empty line is no value")?;
        let rest = rest.strip_suffix(b"\r").ok_or("a line of RESP ends with \\r\\n")?;
        let number = match kind {
            b'$' | b'*' if rest != b"-1" => Some(str::from_utf8(rest)?.parse()?),
            b'$' | b'*' | b':' | b'+' | b'-' => None,
            other => return Err(format!("no value starts with `{}`", other.escape_ascii()).into()),
        };
        Ok(Some(Header { kind: *kind, length: end + 1, number }))
    }
}

/// A command to Redis with its arguments.
#[derive(Debug, PartialEq, Eq)]
pub struct Command<'a>(pub Vec<&'a [u8]>);

impl FromFrame for Command<'_> {
    type Message<'a> = Command<'a>;

    fn from_frame(frame: &[u8]) -> Result<Command<'_>, BoxError> {
        if !frame.starts_with(b"*") {
            let words = frame.split(u8::is_ascii_whitespace);
            return Ok(Command(words.filter(|word| !word.is_empty()).collect()));
        }
        let array = Header::parse(frame)?.ok_or("the array is not complete")?;
        let (mut words, mut rest) = (Vec::new(), &frame[array.length..]);
        for _ in 0..array.number.unwrap_or(0) {
            let header = Header::parse(rest)?.ok_or("the array is not complete")?;
            let length = header.number.filter(|_| header.kind == b'$').ok_or("a command has only bulk strings")?;
            let word = rest[header.length..].split_at_checked(usize::try_from(length)?);
            let (word, after) = word.ok_or("the bulk string is not complete")?;
            words.push(word);
            rest = after.strip_prefix(b"\r\n").ok_or("a bulk string ends with \\r\\n")?;
        }
        Ok(Command(words))
    }
}

//! Frames that end with a mark: lines, and strings that end with a zero byte.

use std::error::Error;

use super::{Framing, Scan};
use crate::sys;

/// The word `line`: a frame ends with `\n` or `\r\n`, and is sent with `\n`. As in Python, a last line without an end is
/// a line.
#[derive(Clone, Copy, Debug, Default)]
pub struct Line;

impl Framing for Line {
    const ENDS_WITH_STREAM: bool = true;

    #[inline]
    fn scan(&mut self, bytes: &[u8]) -> Result<Scan, Box<dyn Error + Send + Sync>> {
        Ok(match sys::position(b'\n', bytes) {
            Some(end) => {
                let trailer = if bytes[..end].ends_with(b"\r") { 2 } else { 1 };
                Scan::End { length: end + 1, header: 0, trailer }
            }
            None => Scan::More(without_carriage_return(bytes).len()),
        })
    }

    fn encode(&self, payload: &[u8], outgoing: &mut Vec<u8>) -> Result<(), Box<dyn Error + Send + Sync>> {
        if sys::position(b'\n', payload).is_some() {
            return Err(r"a line cannot contain \n".into());
        }
        if payload.ends_with(b"\r") {
            return Err(r"a line cannot end with \r: it would be taken for a part of the line's end".into());
        }
        outgoing.extend_from_slice(payload);
        outgoing.push(b'\n');
        Ok(())
    }

    fn packet<'a>(&self, packet: &'a [u8]) -> &'a [u8] {
        packet.strip_suffix(b"\n").map_or(packet, without_carriage_return)
    }
}

/// The word `crlf`: a frame ends with `\r\n` and nothing else, so a single `\r` or `\n` is a part of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Crlf;

impl Crlf {
    /// Where the first `\r\n` is.
    fn position(bytes: &[u8]) -> Option<usize> {
        let mut from = 0;
        loop {
            let line_feed = from + sys::position(b'\n', &bytes[from..])?;
            if bytes[..line_feed].ends_with(b"\r") {
                return Some(line_feed - 1);
            }
            from = line_feed + 1;
        }
    }
}

impl Framing for Crlf {
    #[inline]
    fn scan(&mut self, bytes: &[u8]) -> Result<Scan, Box<dyn Error + Send + Sync>> {
        Ok(match Crlf::position(bytes) {
            Some(end) => Scan::End { length: end + 2, header: 0, trailer: 2 },
            None => Scan::More(without_carriage_return(bytes).len()),
        })
    }

    fn encode(&self, payload: &[u8], outgoing: &mut Vec<u8>) -> Result<(), Box<dyn Error + Send + Sync>> {
        if Crlf::position(payload).is_some() {
            return Err(r"a line cannot contain \r\n".into());
        }
        outgoing.extend_from_slice(payload);
        outgoing.extend_from_slice(b"\r\n");
        Ok(())
    }

    fn packet<'a>(&self, packet: &'a [u8]) -> &'a [u8] {
        packet.strip_suffix(b"\r\n").unwrap_or(packet)
    }
}

/// The word `nul`: a frame ends with a zero byte, as C's strings do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nul;

impl Framing for Nul {
    #[inline]
    fn scan(&mut self, bytes: &[u8]) -> Result<Scan, Box<dyn Error + Send + Sync>> {
        Ok(match sys::position(0, bytes) {
            Some(end) => Scan::End { length: end + 1, header: 0, trailer: 1 },
            None => Scan::More(bytes.len()),
        })
    }

    fn encode(&self, payload: &[u8], outgoing: &mut Vec<u8>) -> Result<(), Box<dyn Error + Send + Sync>> {
        if sys::position(0, payload).is_some() {
            return Err("a frame that ends with a zero byte cannot contain one".into());
        }
        outgoing.extend_from_slice(payload);
        outgoing.push(0);
        Ok(())
    }

    fn packet<'a>(&self, packet: &'a [u8]) -> &'a [u8] {
        packet.strip_suffix(b"\0").unwrap_or(packet)
    }
}

fn without_carriage_return(bytes: &[u8]) -> &[u8] {
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}

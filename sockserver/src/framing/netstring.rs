//! D. J. Bernstein's netstrings.

use std::error::Error;

use super::{Framing, Scan};

/// The word `netstring`: the length in decimal digits, a colon, the payload, a comma: `5:hello,`. As the
/// [specification](https://cr.yp.to/proto/netstrings.txt) demands, a length has no leading zeros.
#[derive(Clone, Copy, Debug, Default)]
pub struct Netstring {
    /// How long the header of the frame is whose comma has yet to be scanned. Zero: there is no such frame.
    header: usize,
}

impl Framing for Netstring {
    #[inline]
    fn scan(&mut self, bytes: &[u8]) -> Result<Scan, Box<dyn Error + Send + Sync>> {
        match (std::mem::take(&mut self.header), bytes[0]) {
            (0, _) => self.scan_header(bytes),
            (header, b',') => Ok(Scan::End { length: 1, header, trailer: 1 }),
            (_, other) => Err(format!("a netstring ends with a comma, not with `{}`", other.escape_ascii()).into()),
        }
    }

    fn encode(&self, payload: &[u8], outgoing: &mut Vec<u8>) -> Result<(), Box<dyn Error + Send + Sync>> {
        use std::io::Write;

        write!(outgoing, "{}:", payload.len())?;
        outgoing.extend_from_slice(payload);
        outgoing.push(b',');
        Ok(())
    }
}

impl Netstring {
    fn scan_header(&mut self, bytes: &[u8]) -> Result<Scan, Box<dyn Error + Send + Sync>> {
        let mut length = None::<usize>;
        for (index, &byte) in bytes.iter().enumerate() {
            length = match (length, byte) {
                (Some(length), b':') => {
                    self.header = index + 1;
                    return Ok(Scan::More(length.checked_add(self.header).ok_or(TOO_MANY)?));
                }
                (Some(0), b'0'..=b'9') => return Err("the length of a netstring has no leading zeros".into()),
                (_, b'0'..=b'9') => {
                    let tens = length.unwrap_or(0).checked_mul(10);
                    Some(tens.and_then(|tens| tens.checked_add((byte - b'0').into())).ok_or(TOO_MANY)?)
                }
                (_, other) => {
                    let expected = if length.is_some() { "a colon" } else { "digits" };
                    return Err(format!("a netstring has {expected} here, not `{}`", other.escape_ascii()).into());
                }
            };
        }
        Ok(Scan::More(0))
    }
}

const TOO_MANY: &str = "the netstring has more bytes than any frame can have";

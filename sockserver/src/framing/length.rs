//! Frames that start with their length.

use std::error::Error;

use super::{Framing, Scan};

macro_rules! fixed_lengths {
    ($($(#[$doc:meta])* $name:ident: $integer:ident, $from:ident, $to:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default)]
        pub struct $name;

        impl Framing for $name {
            #[inline]
            fn scan(&mut self, bytes: &[u8]) -> Result<Scan, Box<dyn Error + Send + Sync>> {
                match bytes.first_chunk() {
                    Some(header) => frame(header.len(), $integer::$from(*header).into()),
                    None => Ok(Scan::More(0)),
                }
            }

            fn encode(&self, payload: &[u8], outgoing: &mut Vec<u8>) -> Result<(), Box<dyn Error + Send + Sync>> {
                let length = $integer::try_from(payload.len()).map_err(|_| {
                    format!("{} bytes are more than the length before them can say ({})", payload.len(), $integer::MAX)
                })?;
                outgoing.extend_from_slice(&length.$to());
                outgoing.extend_from_slice(payload);
                Ok(())
            }
        }
    )*};
}

fixed_lengths! {
    /// The word `u8`: the length in one byte, then the payload.
    U8: u8, from_be_bytes, to_be_bytes;
    /// The word `u16`: the length in two bytes, the high one first, then the payload. DNS over TCP is framed so.
    U16: u16, from_be_bytes, to_be_bytes;
    /// The word `u32`: the length in four bytes, the highest first, then the payload.
    U32: u32, from_be_bytes, to_be_bytes;
    /// The word `u16_le`: the length in two bytes, the low one first, then the payload.
    U16Le: u16, from_le_bytes, to_le_bytes;
    /// The word `u32_le`: the length in four bytes, the lowest first, then the payload.
    U32Le: u32, from_le_bytes, to_le_bytes;
}

/// The word `varint`: the length in LEB128, then the payload. This is how protobuf delimits messages.
///
/// The length has seven bits a byte, the lowest first; the high bit says that a byte follows. It has ten bytes at most.
#[derive(Clone, Copy, Debug, Default)]
pub struct Varint;

impl Varint {
    /// Seven bits in each byte make 64 bits.
    const MAX_BYTES: usize = 10;
}

impl Framing for Varint {
    #[inline]
    fn scan(&mut self, bytes: &[u8]) -> Result<Scan, Box<dyn Error + Send + Sync>> {
        let mut length = 0;
        for (index, &byte) in bytes.iter().enumerate().take(Varint::MAX_BYTES) {
            let (bits, shift) = (u64::from(byte & 0x7f), 7 * index);
            if bits << shift >> shift != bits {
                return Err("the length has more than 64 bits".into());
            }
            length |= bits << shift;
            if byte & 0x80 == 0 {
                return frame(index + 1, length);
            }
        }
        if bytes.len() >= Varint::MAX_BYTES {
            Err("the length has more than 64 bits".into())
        } else {
            Ok(Scan::More(0))
        }
    }

    fn encode(&self, payload: &[u8], outgoing: &mut Vec<u8>) -> Result<(), Box<dyn Error + Send + Sync>> {
        let mut length = payload.len();
        while length > 0x7f {
            outgoing.push(length as u8 | 0x80);
            length >>= 7;
        }
        outgoing.push(length as u8);
        outgoing.extend_from_slice(payload);
        Ok(())
    }
}

/// A frame of a header and a payload.
fn frame(header: usize, payload: u64) -> Result<Scan, Box<dyn Error + Send + Sync>> {
    let length = usize::try_from(payload).ok().and_then(|payload| payload.checked_add(header));
    let length = length.ok_or_else(|| format!("{payload} bytes are more than any frame can have"))?;
    Ok(Scan::End { length, header, trailer: 0 })
}

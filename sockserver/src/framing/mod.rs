//! From bytes to messages and back: what a frame is.
//!
//! A protocol is made of messages, and a stream has none. A [`Framing`] says where a frame ends and how one is written:
//!
//! | word | type | a frame |
//! |---|---|---|
//! | `line` | [`Line`] | ends with `\n` or `\r\n` |
//! | `crlf` | [`Crlf`] | ends with `\r\n` |
//! | `nul` | [`Nul`] | ends with a zero byte |
//! | `netstring` | [`Netstring`] | `5:hello,` |
//! | `u8`, `u16`, `u32` | [`U8`], [`U16`], [`U32`] | starts with its length, the high byte first |
//! | `u16_le`, `u32_le` | [`U16Le`], [`U32Le`] | starts with its length, the low byte first |
//! | `varint` | [`Varint`] | starts with its length in LEB128, as protobuf's |
//!
//! Then the frame is parsed, by the type of the messages: [`FromFrame`]. These are two steps, so that every framing goes
//! with every type: a `String`, bytes, JSON or a type of one's own is read from a line as from a netstring or a packet.
//!
//! # How a connection uses it
//!
//! The connection has the bytes, and a [`Decoder`] that says what is a frame. The decoder neither reads nor waits, so the
//! same one serves a thread that waits for its client and an event loop that does not:
//!
//! ```
//! use sockserver::framing::{self, DEFAULT_MAX_FRAME, Decoder, FrameError, Line};
//! use std::io::{self, Read, Write};
//!
//! fn upper(mut client: impl Read + Write) -> io::Result<()> {
//!     let mut decoder = Decoder::new(Line, DEFAULT_MAX_FRAME);
//!     let (mut incoming, mut outgoing, mut spare) = (Vec::new(), Vec::new(), Vec::new());
//!     loop {
//!         let mut room = [0; 1024];
//!         let received = client.read(&mut room)?;
//!         incoming.extend_from_slice(&room[..received]);
//!         let mut position = 0;
//!         loop {
//!             let frame = match decoder.next_frame(&incoming, &mut position) {
//!                 Ok(None) if received == 0 => decoder.last_frame(&incoming, &mut position)?,
//!                 Err(error @ FrameError::TooLong { .. }) => {
//!                     framing::encode(&Line, &error.to_string(), &mut spare, &mut outgoing)?;
//!                     continue; // with the next line
//!                 }
//!                 frame => frame?,
//!             };
//!             let Some(frame) = frame else { break };
//!             // It borrows from `incoming`: there is no copy.
//!             let line: &str = decoder.message::<str>(&incoming[frame])?;
//!             framing::encode(&Line, &line.to_uppercase(), &mut spare, &mut outgoing)?;
//!         }
//!         incoming.drain(..position);
//!         client.write_all(&outgoing)?;
//!         outgoing.clear();
//!         if received == 0 {
//!             return Ok(());
//!         }
//!     }
//! }
//! # struct Client(&'static [u8], Vec<u8>);
//! # impl Read for &mut Client {
//! #     fn read(&mut self, room: &mut [u8]) -> io::Result<usize> { self.0.read(room) }
//! # }
//! # impl Write for &mut Client {
//! #     fn write(&mut self, bytes: &[u8]) -> io::Result<usize> { self.1.write(bytes) }
//! #     fn flush(&mut self) -> io::Result<()> { Ok(()) }
//! # }
//! # let mut client = Client(b"one\r\ntwo\nlast", Vec::new());
//! # upper(&mut client)?;
//! # assert_eq!(client.1, b"ONE\nTWO\nLAST\n");
//! # io::Result::Ok(())
//! ```
//!
//! An event loop stops after as many messages as a turn may have, and keeps the bytes from `position` on. It is between
//! two messages, and the connection idle, when there are none and the decoder [skips](Decoder::is_skipping) nothing.
//! Datagrams need no bytes from before: [`Decoder::packet`].

use std::error::Error;

mod decoder;
mod error;
#[cfg(feature = "json")]
mod json;
mod length;
mod lines;
mod message;
mod netstring;

pub use decoder::Decoder;
pub use error::FrameError;
#[cfg(feature = "json")]
pub use json::Json;
pub use length::{U8, U16, U16Le, U32, U32Le, Varint};
pub use lines::{Crlf, Line, Nul};
pub use message::{FromFrame, ToFrame, encode};
pub use netstring::Netstring;

/// How long the payload of a frame may be unless something else is said: 64 KiB.
pub const DEFAULT_MAX_FRAME: usize = 64 * 1024;

/// Where a frame ends, and how one is written.
///
/// Only [`scan`](Self::scan) and [`encode`](Self::encode) have to be written. The [`Decoder`] does the rest: it puts the
/// pieces together, remembers how far they have been scanned, keeps to `max_frame`, and throws away what is too long.
///
/// # A framing of one's own
///
/// A header of three bytes, the kind of the message and its length:
///
/// ```
/// use sockserver::{BoxError, framing::{self, Decoder, FrameError, Framing, Scan}};
///
/// #[derive(Default)]
/// struct Record;
///
/// impl Framing for Record {
///     fn scan(&mut self, bytes: &[u8]) -> Result<Scan, BoxError> {
///         Ok(match *bytes {
///             [kind, ..] if kind > 3 => return Err(format!("{kind} is no kind of record").into()),
///             // The kind is a part of the message, so the header does not end before it.
///             [_, high, low, ..] => {
///                 Scan::End { length: 3 + usize::from(u16::from_be_bytes([high, low])), header: 0, trailer: 0 }
///             }
///             _ => Scan::More(0),
///         })
///     }
///
///     fn encode(&self, payload: &[u8], outgoing: &mut Vec<u8>) -> Result<(), BoxError> {
///         let (&kind, text) = payload.split_first().ok_or("a record starts with its kind")?;
///         outgoing.push(kind);
///         outgoing.extend_from_slice(&u16::try_from(text.len())?.to_be_bytes());
///         outgoing.extend_from_slice(text);
///         Ok(())
///     }
/// }
///
/// let mut decoder = Decoder::new(Record, 1024);
/// let (received, mut position) = (b"\x01\x00\x02hi\x02\x00", 0);
/// assert_eq!(decoder.next_frame(received, &mut position)?, Some(0..5));
/// assert_eq!(decoder.next_frame(received, &mut position)?, None);
/// # let mut outgoing = Vec::new();
/// # framing::encode(&Record, b"\x01hi", &mut Vec::new(), &mut outgoing)?;
/// # assert_eq!(outgoing, b"\x01\x00\x02hi");
/// # assert!(matches!(Decoder::new(Record, 1024).next_frame(b"\x09", &mut 0), Err(FrameError::Broken(_))));
/// # Ok::<(), FrameError>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a framing",
    note = "a framing is one of `sockserver::framing`, or a type that implements `sockserver::framing::Framing`"
)]
pub trait Framing: Send + 'static {
    /// Whether the end of the stream ends a frame, as Python's `readline` has it. Otherwise a frame that has begun by then
    /// is [truncated](FrameError::Truncated).
    const ENDS_WITH_STREAM: bool = false;

    /// Looks for the end of a frame in bytes that follow those which it has scanned already. At first they start with a
    /// frame; there is at least one, and there may be many frames. What has to be known of scanned bytes is kept in
    /// `self`, and forgotten when the frame's end is found.
    ///
    /// # Errors
    ///
    /// What is wrong if the bytes are no frame, nor the start of one. It becomes [`FrameError::Broken`], and `scan` is
    /// not called again.
    fn scan(&mut self, bytes: &[u8]) -> Result<Scan, Box<dyn Error + Send + Sync>>;

    /// Appends a frame with this payload.
    ///
    /// # Errors
    ///
    /// Why there is no such frame. It becomes [`FrameError::Unsendable`]; what was appended is removed.
    fn encode(&self, payload: &[u8], outgoing: &mut Vec<u8>) -> Result<(), Box<dyn Error + Send + Sync>>;

    /// Undoes what `encode` has done to the payload itself, where it is escaped or masked. `self` can have a buffer for it.
    ///
    /// # Errors
    ///
    /// What is wrong with the payload. It becomes [`FrameError::Malformed`].
    fn unescape<'a>(&'a mut self, payload: &'a [u8]) -> Result<&'a [u8], Box<dyn Error + Send + Sync>> {
        Ok(payload)
    }

    /// The message in a packet, which needs no framing. Clients that know lines end them in a packet too, and
    /// [`Line`], [`Crlf`] and [`Nul`] leave that end out.
    fn packet<'a>(&self, packet: &'a [u8]) -> &'a [u8] {
        packet
    }
}

/// What [`Framing::scan`] has found. Both may say more than has come: then nothing is scanned before that has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan {
    /// So many bytes belong to the frame. The next scan starts after them, at once if any are there. Zero: more bytes
    /// are needed, and the next scan starts at the same one.
    ///
    /// A frame is [too long](FrameError::TooLong) when these are more than `max_frame` and 64 bytes, which leave room for
    /// a header and a trailer. It is [broken](FrameError::Broken) when `scan` returns zero for more than that.
    More(usize),
    /// The frame ends after `length` of the bytes. Its first `header` bytes and its last `trailer` bytes are no payload,
    /// whether they were scanned now or before.
    End {
        /// From the first byte of this scan to the end of the frame.
        length: usize,
        /// How many bytes the payload starts after.
        header: usize,
        /// How many bytes follow the payload.
        trailer: usize,
    },
}

//! What cuts the bytes of a connection into frames.

use std::{fmt, ops::Range};

use super::{FrameError, Framing, FromFrame, Scan};

/// Cuts what a connection receives into frames, whatever the pieces in which it comes.
///
/// The decoder holds no bytes: the connection keeps them, and calls [`next_frame`](Self::next_frame) when more have
/// come. [The module](super) shows how. A byte that has been scanned is not scanned again, so a frame that comes byte by
/// byte costs no more than one that comes at once.
///
/// A frame is refused when its payload is longer than `max_frame`. The bytes of such a frame are consumed as they come.
/// So a connection never keeps more of a frame than `max_frame` bytes, 64 bytes of header and trailer, and the few that
/// its framing has left unscanned.
pub struct Decoder<F> {
    framing: F,
    max_frame: usize,
    state: State,
}

/// What is known of the frame at `position`. The numbers count from there, and may go beyond what has come.
enum State {
    /// Its end has not been scanned.
    Scanning { scanned: usize },
    /// Its end is known.
    Ending { length: usize, payload: Range<usize> },
    /// It is too long, and `left` more bytes of it can be consumed. They are all that is left of it, and more than
    /// none; or the framing scans what follows them.
    Skipping { left: usize, is_all: bool },
    /// `Broken` has been returned. Whatever comes is thrown away.
    Lost,
}

const START: State = State::Scanning { scanned: 0 };

/// How many bytes more than `max_frame` are scanned before a frame is too long: a header and a trailer, which do not
/// count, may be among them. A framing that leaves more than that unscanned has a mistake.
const OVERHEAD: usize = 64;

impl<F: Framing> Decoder<F> {
    /// A decoder for a stream from its first byte. A payload may have `max_frame` bytes.
    pub fn new(framing: F, max_frame: usize) -> Decoder<F> {
        Decoder { framing, max_frame, state: START }
    }

    /// The framing, to [`encode`](super::encode) with.
    pub fn framing(&self) -> &F {
        &self.framing
    }

    /// Finds a frame at the start of `buffer[*position..]`, which is what has been received and not been consumed.
    ///
    /// If all of the frame has come, `position` is moved behind it, and its payload is returned as a range of `buffer`,
    /// from which [`message`](Self::message) makes a message. `None` says that more bytes are needed. `position` may
    /// have moved then as well, over bytes that are thrown away.
    ///
    /// The next call must be given the bytes from `position` on, and what has come since.
    ///
    /// # Errors
    ///
    /// [`FrameError::TooLong`] as soon as that is known. The next call goes on with the next frame.
    ///
    /// [`FrameError::Broken`], after which there is no frame any more, and all bytes are thrown away.
    pub fn next_frame(&mut self, buffer: &[u8], position: &mut usize) -> Result<Option<Range<usize>>, FrameError> {
        let found = self.find_frame(buffer, position);
        if let Err(FrameError::Broken(_)) = found {
            self.state = State::Lost;
            *position = buffer.len();
        }
        found
    }

    fn find_frame(&mut self, buffer: &[u8], position: &mut usize) -> Result<Option<Range<usize>>, FrameError> {
        loop {
            let unread = &buffer[*position..];
            match self.state {
                State::Scanning { scanned } => match self.scan(unread.get(scanned..).unwrap_or_default())? {
                    Scan::More(0) => return Ok(None),
                    Scan::More(more) => {
                        let scanned = scanned.saturating_add(more);
                        if scanned > self.most_unfinished() {
                            *position += self.skip(scanned, false, unread.len());
                            return Err(self.too_long(scanned));
                        }
                        self.state = State::Scanning { scanned };
                    }
                    Scan::End { length, header, trailer } => {
                        let length = scanned.saturating_add(length);
                        let payload = header..length.saturating_sub(trailer);
                        if length == 0 || payload.start > payload.end {
                            let scan = Scan::End { length, header, trailer };
                            return Err(FrameError::Broken(
                                format!("`Framing::scan` has returned {scan:?}, which is no frame").into(),
                            ));
                        }
                        if payload.len() > self.max_frame {
                            *position += self.skip(length, true, unread.len());
                            return Err(self.too_long(payload.len()));
                        }
                        if length <= unread.len() {
                            self.state = START;
                            return Ok(Some(consume(position, length, payload)));
                        }
                        self.state = State::Ending { length, payload };
                    }
                },
                State::Ending { length, ref payload } => {
                    if length > unread.len() {
                        return Ok(None);
                    }
                    let payload = payload.clone();
                    self.state = START;
                    return Ok(Some(consume(position, length, payload)));
                }
                State::Skipping { left: 0, .. } => match self.scan(unread)? {
                    Scan::More(0) => return Ok(None),
                    Scan::More(more) => *position += self.skip(more, false, unread.len()),
                    Scan::End { length, .. } => *position += self.skip(length, true, unread.len()),
                },
                State::Skipping { left, is_all } => {
                    if unread.is_empty() {
                        return Ok(None);
                    }
                    *position += self.skip(left, is_all, unread.len());
                }
                State::Lost => {
                    *position = buffer.len();
                    return Ok(None);
                }
            }
        }
    }

    /// What the stream has ended with, when [`next_frame`](Self::next_frame) has returned `None` and no more bytes will
    /// come: a last frame if the end of the stream is a frame's end, as it is for lines. Everything is consumed.
    ///
    /// # Errors
    ///
    /// [`FrameError::Truncated`] if a part of a frame has come, [`FrameError::TooLong`] for a last line.
    pub fn last_frame(&mut self, buffer: &[u8], position: &mut usize) -> Result<Option<Range<usize>>, FrameError> {
        let payload = *position..buffer.len();
        *position = buffer.len();
        match std::mem::replace(&mut self.state, START) {
            State::Skipping { .. } | State::Lost => Ok(None),
            _ if payload.is_empty() => Ok(None),
            State::Scanning { scanned } if F::ENDS_WITH_STREAM && scanned <= payload.len() => {
                if payload.len() > self.max_frame { Err(self.too_long(payload.len())) } else { Ok(Some(payload)) }
            }
            State::Scanning { .. } | State::Ending { .. } => Err(FrameError::Truncated { received: payload.len() }),
        }
    }

    /// The message in a payload that [`next_frame`](Self::next_frame) or [`last_frame`](Self::last_frame) has found.
    ///
    /// # Errors
    ///
    /// [`FrameError::Malformed`].
    pub fn message<'a, M>(&'a mut self, payload: &'a [u8]) -> Result<M::Message<'a>, FrameError>
    where
        M: FromFrame + ?Sized,
    {
        self.framing.unescape(payload).and_then(M::from_frame).map_err(FrameError::Malformed)
    }

    /// The message in a packet. A packet is a message by itself, without a header; a line's end is left out.
    ///
    /// # Errors
    ///
    /// [`FrameError::TooLong`], [`FrameError::Malformed`].
    pub fn packet<'a, M>(&self, packet: &'a [u8]) -> Result<M::Message<'a>, FrameError>
    where
        M: FromFrame + ?Sized,
    {
        let payload = self.framing.packet(packet);
        if payload.len() > self.max_frame {
            return Err(self.too_long(payload.len()));
        }
        M::from_frame(payload).map_err(FrameError::Malformed)
    }

    /// Whether the start of a frame has been thrown away, and the rest is still to come. Where this is false and no byte
    /// is left to be consumed, the connection is between two frames.
    pub fn is_skipping(&self) -> bool {
        matches!(self.state, State::Skipping { .. })
    }

    /// `Framing::scan`, which is not called without bytes.
    #[inline]
    fn scan(&mut self, fresh: &[u8]) -> Result<Scan, FrameError> {
        if fresh.is_empty() {
            return Ok(Scan::More(0));
        }
        match self.framing.scan(fresh) {
            Ok(Scan::More(0)) if fresh.len() > self.most_unfinished() => {
                let error = format!("`Framing::scan` has returned {:?} for {} bytes", Scan::More(0), fresh.len());
                Err(FrameError::Broken(error.into()))
            }
            scan => scan.map_err(FrameError::Broken),
        }
    }

    /// Notes that so many bytes of a frame are to be thrown away, and returns how many of them can be consumed now.
    fn skip(&mut self, length: usize, is_all: bool, available: usize) -> usize {
        let skipped = length.min(available);
        let left = length - skipped;
        self.state = if is_all && left == 0 { START } else { State::Skipping { left, is_all } };
        skipped
    }

    fn most_unfinished(&self) -> usize {
        self.max_frame.saturating_add(OVERHEAD)
    }

    fn too_long(&self, length: usize) -> FrameError {
        FrameError::TooLong { length, limit: self.max_frame }
    }
}

/// Moves `position` behind a frame, and says where in the buffer its payload is.
fn consume(position: &mut usize, length: usize, payload: Range<usize>) -> Range<usize> {
    let start = *position;
    *position += length;
    start + payload.start..start + payload.end
}

impl<F> fmt::Debug for Decoder<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").field("max_frame", &self.max_frame).finish_non_exhaustive()
    }
}

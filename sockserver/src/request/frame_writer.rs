//! Whole messages to the client.

use std::{
    fmt,
    io::{self, Write},
};

use super::writer::Writer;
use crate::framing::{self, FrameError, Framing, ToFrame};

/// Sends whole messages: the sending half of [`Frames`](crate::Frames), for a handler that reads by other means.
///
/// A handler can have a [`Writer`], which sends bytes, beside it.
pub struct FrameWriter<F> {
    framing: F,
    writer: Writer,
    /// The bytes of the message, and the frame with them. They are kept to be filled again.
    buffers: (Vec<u8>, Vec<u8>),
}

impl<F: Framing + Default> FrameWriter<F> {
    pub(crate) fn new(writer: Writer) -> FrameWriter<F> {
        FrameWriter { framing: F::default(), writer, buffers: Default::default() }
    }
}

impl<F: Framing> FrameWriter<F> {
    /// Buffers a message as a frame, which is sent when a [`Writer`] would send it. On datagrams the message is a packet of
    /// its own, which is sent at once.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] with a [`FrameError::Unsendable`] inside: then nothing of the message is sent.
    /// Otherwise the error of the send.
    pub fn send<T: ToFrame + ?Sized>(&mut self, message: &T) -> io::Result<()> {
        let (spare, frame) = &mut self.buffers;
        match self.writer.datagram() {
            Some(datagram) => {
                spare.clear();
                datagram.reply(message.to_frame(spare).map_err(FrameError::Unsendable)?)
            }
            None => {
                frame.clear();
                framing::encode(&self.framing, message, spare, frame)?;
                self.writer.write_all(frame)
            }
        }
    }
}

impl<F> fmt::Debug for FrameWriter<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameWriter").finish_non_exhaustive()
    }
}

//! Whole messages from the client and to it.

use std::{fmt, io};

use super::{
    frame_reader::FrameReader,
    frame_writer::FrameWriter,
    mailbox::{Arrival, Mailbox},
    reader::Reader,
    writer::Writer,
};
use crate::framing::{Framing, FromFrame, ToFrame};

/// Reads and sends whole messages: a [`Reader`] and a [`Writer`] in one, for a protocol with the
/// [framing](crate::framing) `F` and messages of type `M`.
///
/// ```
/// use sockserver::{Frames, HandlerResult, RequestHandler, Server, framing::U32, request_handler};
/// use std::{io::{Read, Write}, net::TcpStream};
///
/// /// Answers each message with its bytes in reverse.
/// #[request_handler(max_frame = "1KiB")]
/// #[server(transport = "tcp", concurrency = "threading", timeouts(message = "10s"))]
/// struct Reverse {
///     frames: Frames<U32, Vec<u8>>,
/// }
///
/// impl RequestHandler for Reverse {
///     fn handle(&mut self) -> HandlerResult {
///         while let Some(mut message) = self.frames.next()? {
///             message.reverse();
///             self.frames.send(&message)?;
///         }
///         Ok(())
///     }
/// }
///
/// # fn main() -> std::io::Result<()> {
/// let server = ReverseServer.bind("127.0.0.1:0")?.spawn()?;
/// let mut client = TcpStream::connect(("127.0.0.1", server.server_address().port().unwrap()))?;
/// client.write_all(b"\0\0\0\x03abc")?;
/// let mut answer = [0; 7];
/// client.read_exact(&mut answer)?;
/// assert_eq!(answer, *b"\0\0\0\x03cba");
/// # Ok(()) }
/// ```
///
/// On datagrams a packet is a message without a header. There is one to read, and each message that is sent is a packet.
///
/// The connection is [idle](crate::Stream#idle-and-busy) exactly when no part of a message has come and the handler has
/// finished the last one, which it has when it asks for the next. Before the client's first byte, the connection is idle
/// after a quiet second.
pub struct Frames<F, M: ?Sized> {
    reader: FrameReader<F, M>,
    writer: FrameWriter<F>,
}

impl<F: Framing + Default, M: FromFrame + ?Sized> Frames<F, M> {
    pub(crate) fn new(reader: Reader, writer: Writer, max_frame: usize) -> Frames<F, M> {
        Frames { reader: FrameReader::new(reader, max_frame), writer: FrameWriter::new(writer) }
    }
}

impl<F: Framing, M: FromFrame + ?Sized> Frames<F, M> {
    /// The next message, or `None` at the end of file. A message of type `str` or `[u8]` borrows from the receive buffer,
    /// without a copy. It keeps the `Frames` borrowed: answer it with a [`FrameWriter`] in a field beside the `Frames`.
    ///
    /// Before it waits for the client, it sends what was written.
    ///
    /// # Errors
    ///
    /// An [`io::Error`] with a [`FrameError`](crate::framing::FrameError) inside. If that
    /// [is recoverable](crate::framing::FrameError::is_recoverable), the next call reads the next message.
    /// [`io::ErrorKind::TimedOut`] after the handler's `timeout`, or after
    /// [`timeouts(message)`](crate::Timeouts::message). Otherwise the error of the receive.
    #[expect(
        clippy::should_implement_trait,
        reason = "messages can borrow from `self`, which those of an iterator cannot"
    )]
    pub fn next(&mut self) -> io::Result<Option<M::Message<'_>>> {
        self.reader.next()
    }

    /// Waits for a message of the client or for mail, whichever comes first: [`next`](Self::next) or what a
    /// [`Sender`](crate::Sender) of the mailbox has sent.
    ///
    /// # Errors
    ///
    /// Those of `next`, and what the system says if it has no descriptors for the mailbox.
    pub fn next_or<T>(&mut self, mailbox: &mut Mailbox<T>) -> io::Result<Option<Arrival<M::Message<'_>, T>>> {
        self.reader.next_or(mailbox)
    }

    /// Begins TLS behind the last message: see [`Reader::start_tls`].
    ///
    /// # Errors
    ///
    /// Those of [`Reader::start_tls`].
    #[cfg(feature = "tls")]
    pub fn start_tls(&mut self) -> io::Result<()> {
        self.reader.start_tls()
    }

    /// Sends a message: see [`FrameWriter::send`].
    pub fn send<T: ToFrame + ?Sized>(&mut self, message: &T) -> io::Result<()> {
        self.writer.send(message)
    }
}

impl<F, M: ?Sized> fmt::Debug for Frames<F, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frames").field("decoder", &self.reader.decoder).finish_non_exhaustive()
    }
}

//! Whole messages from the client and to it.

use std::{
    fmt,
    io::{self, Write},
    marker::PhantomData,
    ops::Range,
    time::Instant,
};

use super::{
    mailbox::{Arrival, Mailbox},
    reader::{Reader, Source},
    writer::Writer,
};
use crate::{
    framing::{self, Decoder, FrameError, Framing, FromFrame, ToFrame},
    io::{connection::Connection, incoming::Incoming, waiting::Patience},
};

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
    reader: Reader,
    decoder: Decoder<F>,
    writer: FrameWriter<F>,
    /// When the first byte of an incomplete message came, if `timeouts(message)` is set.
    began: Option<Instant>,
    has_packet: bool,
    /// The handler has a message, or what was wrong with one: only for [`next_received`](Self::next_received).
    has_message: bool,
    message: PhantomData<fn() -> Box<M>>,
}

/// Where the next message is.
enum Found {
    /// Among the received bytes.
    Frame(Range<usize>),
    Packet,
}

impl<F: Framing + Default, M: FromFrame + ?Sized> Frames<F, M> {
    pub(crate) fn new(reader: Reader, writer: Writer, max_frame: usize) -> Frames<F, M> {
        Frames {
            reader,
            decoder: Decoder::new(F::default(), max_frame),
            writer: FrameWriter::new(writer),
            began: None,
            has_packet: true,
            has_message: false,
            message: PhantomData,
        }
    }
}

impl<F: Framing, M: FromFrame + ?Sized> Frames<F, M> {
    /// The next message, or `None` at the end of file. A message of type `str` or `[u8]` borrows from the receive buffer,
    /// without a copy.
    ///
    /// Before it waits for the client, it sends what was written.
    ///
    /// # Errors
    ///
    /// An [`io::Error`] with a [`FrameError`] inside. If that [is recoverable](FrameError::is_recoverable), the next call
    /// reads the next message. [`io::ErrorKind::TimedOut`] after the handler's `timeout`, or after
    /// [`timeouts(message)`](crate::Timeouts::message). Otherwise the error of the receive.
    #[expect(
        clippy::should_implement_trait,
        reason = "messages can borrow from `self`, which those of an iterator cannot"
    )]
    pub fn next(&mut self) -> io::Result<Option<M::Message<'_>>> {
        let found = self.find(Patience::Unlimited)?;
        self.message(found)
    }

    /// Waits for a message of the client or for mail, whichever comes first: [`next`](Self::next) or what a
    /// [`Sender`](crate::Sender) of the mailbox has sent.
    ///
    /// # Errors
    ///
    /// Those of `next`, and what the system says if it has no descriptors for the mailbox.
    pub fn next_or<T>(&mut self, mailbox: &mut Mailbox<T>) -> io::Result<Option<Arrival<M::Message<'_>, T>>> {
        let mut found = None;
        let mail = mailbox.next_or(|patience| {
            found = self.find(patience)?;
            Ok(())
        })?;
        match mail {
            Some(mail) => Ok(Some(Arrival::Mail(mail))),
            None => Ok(self.message(found)?.map(Arrival::Message)),
        }
    }

    /// Begins TLS behind the last message: see [`Reader::start_tls`].
    ///
    /// # Errors
    ///
    /// Those of [`Reader::start_tls`].
    #[cfg(feature = "tls")]
    pub fn start_tls(&mut self) -> io::Result<()> {
        if let Source::Stream { stream, .. } = &self.reader.source {
            stream.connection().end_message();
        }
        self.reader.start_tls()
    }

    /// Sends a message: see [`FrameWriter::send`].
    pub fn send<T: ToFrame + ?Sized>(&mut self, message: &T) -> io::Result<()> {
        self.writer.send(message)
    }

    /// The next message among the bytes that were received, without a receive. `None`: its end has not come.
    pub(crate) fn next_received(&mut self) -> io::Result<Option<M::Message<'_>>> {
        let Frames { reader, decoder, began, has_packet, has_message, .. } = self;
        let found = match &mut reader.source {
            Source::Datagram { .. } => std::mem::take(has_packet).then_some(Found::Packet),
            Source::Stream { stream, incoming, .. } => {
                let connection = stream.connection();
                // It is called again and again while a message comes, which goes on then.
                if std::mem::take(has_message) {
                    connection.end_message();
                }
                if incoming.unread().is_empty() && !decoder.is_skipping() {
                    return Ok(None);
                }
                let found = next_received(connection, incoming, decoder, &mut MessageWait { connection, began });
                *has_message = !matches!(found, Ok(None));
                found?.map(Found::Frame)
            }
        };
        self.message(found)
    }

    /// The last message, at the end of file.
    pub(crate) fn last_received(&mut self) -> io::Result<Option<M::Message<'_>>> {
        let Frames { reader, decoder, began, .. } = self;
        let Source::Stream { stream, incoming, .. } = &mut reader.source else { return Ok(None) };
        MessageWait { connection: stream.connection(), began }.end();
        let (bytes, position) = incoming.parts();
        let found = decoder.last_frame(bytes, position)?.map(Found::Frame);
        self.message(found)
    }

    /// The received bytes that are not consumed, and how many are received at once. `None` on datagrams.
    pub(crate) fn incoming(&mut self) -> Option<(&mut Incoming, usize)> {
        match &mut self.reader.source {
            Source::Datagram { .. } => None,
            Source::Stream { incoming, rbufsize, .. } => Some((incoming, *rbufsize)),
        }
    }

    fn find(&mut self, patience: Patience<'_>) -> io::Result<Option<Found>> {
        let Frames { reader, decoder, began, has_packet, .. } = self;
        match &mut reader.source {
            Source::Datagram { .. } => Ok(std::mem::take(has_packet).then_some(Found::Packet)),
            Source::Stream { stream, incoming, rbufsize } => {
                let connection = stream.connection();
                let mut wait = MessageWait { connection, began };
                connection.end_message();
                let found = find_frame(connection, incoming, decoder, *rbufsize, patience, &mut wait)?;
                Ok(found.map(Found::Frame))
            }
        }
    }

    fn message(&mut self, found: Option<Found>) -> io::Result<Option<M::Message<'_>>> {
        let Frames { reader, decoder, .. } = self;
        let message = match (found, &reader.source) {
            (None, _) => return Ok(None),
            (Some(Found::Frame(frame)), Source::Stream { incoming, .. }) => {
                decoder.message::<M>(incoming.consumed(frame))
            }
            (Some(_), Source::Datagram { datagram, .. }) if datagram.is_truncated() => {
                let limit = datagram.payload().len();
                Err(FrameError::TooLong { length: limit + 1, limit })
            }
            (Some(_), Source::Datagram { datagram, .. }) => decoder.packet::<M>(datagram.payload()),
            (Some(Found::Packet), Source::Stream { .. }) => return Ok(None),
        };
        Ok(Some(message?))
    }
}

/// The place of the next frame, once all of it has come.
fn find_frame<F: Framing>(
    connection: &Connection,
    incoming: &mut Incoming,
    decoder: &mut Decoder<F>,
    rbufsize: usize,
    patience: Patience<'_>,
    wait: &mut MessageWait<'_>,
) -> io::Result<Option<Range<usize>>> {
    loop {
        if let Some(frame) = next_received(connection, incoming, decoder, wait)? {
            return Ok(Some(frame));
        }
        if connection.fill(incoming, rbufsize, patience)? == 0 {
            wait.end();
            let (bytes, position) = incoming.parts();
            return Ok(decoder.last_frame(bytes, position)?);
        }
    }
}

/// The place of the next frame, if all of it has come.
fn next_received<F: Framing>(
    connection: &Connection,
    incoming: &mut Incoming,
    decoder: &mut Decoder<F>,
    wait: &mut MessageWait<'_>,
) -> io::Result<Option<Range<usize>>> {
    let (bytes, position) = incoming.parts();
    let frame = decoder.next_frame(bytes, position).inspect_err(|_| wait.end())?;
    if frame.is_some() {
        wait.end();
        connection.begin_message();
    } else if incoming.unread().is_empty() && !decoder.is_skipping() {
        wait.end();
        connection.end_message();
    } else {
        wait.begin();
        connection.begin_message();
    }
    Ok(frame)
}

/// Bounds the wait for the rest of a message by `timeouts(message)`.
struct MessageWait<'a> {
    connection: &'a Connection,
    began: &'a mut Option<Instant>,
}

impl MessageWait<'_> {
    fn begin(&mut self) {
        if let (None, Some(timeout)) = (&self.began, self.connection.message_timeout()) {
            let now = Instant::now();
            *self.began = Some(now);
            self.connection.set_deadline(now.checked_add(timeout));
        }
    }

    fn end(&mut self) {
        if self.began.take().is_some() {
            self.connection.set_deadline(None);
        }
    }
}

/// Sends whole messages: the sending half of [`Frames`], for a handler that reads by other means.
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

impl<F, M: ?Sized> fmt::Debug for Frames<F, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frames").field("decoder", &self.decoder).finish_non_exhaustive()
    }
}

impl<F> fmt::Debug for FrameWriter<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameWriter").finish_non_exhaustive()
    }
}

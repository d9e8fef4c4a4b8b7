//! Whole messages from the client.

use std::{io, marker::PhantomData, ops::Range, time::Instant};

use super::{
    mailbox::{Arrival, Mailbox},
    reader::{Reader, Source},
};
use crate::{
    framing::{Decoder, FrameError, Framing, FromFrame},
    io::{connection::Connection, incoming::Incoming, waiting::Patience},
};

/// The receiving half of [`Frames`](super::frames::Frames), and all that a message handler has of it.
pub(crate) struct FrameReader<F, M: ?Sized> {
    reader: Reader,
    pub(super) decoder: Decoder<F>,
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

impl<F: Framing + Default, M: FromFrame + ?Sized> FrameReader<F, M> {
    pub(crate) fn new(reader: Reader, max_frame: usize) -> FrameReader<F, M> {
        FrameReader {
            reader,
            decoder: Decoder::new(F::default(), max_frame),
            began: None,
            has_packet: true,
            has_message: false,
            message: PhantomData,
        }
    }
}

impl<F: Framing, M: FromFrame + ?Sized> FrameReader<F, M> {
    /// [`Frames::next`](super::frames::Frames::next).
    pub(crate) fn next(&mut self) -> io::Result<Option<M::Message<'_>>> {
        let found = self.find(Patience::Unlimited)?;
        self.message(found)
    }

    /// [`Frames::next_or`](super::frames::Frames::next_or).
    pub(crate) fn next_or<T>(&mut self, mailbox: &mut Mailbox<T>) -> io::Result<Option<Arrival<M::Message<'_>, T>>> {
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

    /// [`Frames::start_tls`](super::frames::Frames::start_tls).
    #[cfg(feature = "tls")]
    pub(crate) fn start_tls(&mut self) -> io::Result<()> {
        if let Source::Stream { stream, .. } = &self.reader.source {
            stream.connection().end_message();
        }
        self.reader.start_tls()
    }

    /// The next message among the bytes that were received, without a receive. `None`: its end has not come.
    pub(crate) fn next_received(&mut self) -> io::Result<Option<M::Message<'_>>> {
        let FrameReader { reader, decoder, began, has_packet, has_message, .. } = self;
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
                connection.check_input()?;
                let found = next_received(connection, incoming, decoder, &mut MessageWait { connection, began });
                *has_message = !matches!(found, Ok(None));
                found?.map(Found::Frame)
            }
        };
        self.message(found)
    }

    /// The last message, at the end of file.
    pub(crate) fn last_received(&mut self) -> io::Result<Option<M::Message<'_>>> {
        let FrameReader { reader, decoder, began, .. } = self;
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
        let FrameReader { reader, decoder, began, has_packet, .. } = self;
        match &mut reader.source {
            Source::Datagram { .. } => Ok(std::mem::take(has_packet).then_some(Found::Packet)),
            Source::Stream { stream, incoming, rbufsize } => {
                let connection = stream.connection();
                let mut wait = MessageWait { connection, began };
                connection.end_message();
                connection.check_input()?;
                let found = find_frame(connection, incoming, decoder, *rbufsize, patience, &mut wait)?;
                Ok(found.map(Found::Frame))
            }
        }
    }

    fn message(&mut self, found: Option<Found>) -> io::Result<Option<M::Message<'_>>> {
        let FrameReader { reader, decoder, .. } = self;
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

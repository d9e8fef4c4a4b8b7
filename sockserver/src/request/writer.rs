//! Output to the client: Python's `wfile`.

use std::{
    fmt,
    fs::File,
    io::{self, Write},
    ops::Range,
};

use super::{datagram::Datagram, files::Files, stream::Stream};
use crate::unwind::unwind_safe;

/// Buffered output to the client: Python's `wfile`.
///
/// The buffer is sent:
///
/// * when it is full,
/// * before the [`Reader`](crate::Reader) or the [`Stream`] waits for the client,
/// * at once, while another thread waits for the client there,
/// * before bytes that are written to the `Stream` directly,
/// * on `flush`, and at the end of the request.
///
/// So the answers to requests that came together leave together, when the reader has no further one. A handler that takes long
/// for each of them calls `flush`. On an event loop a slow message has its answer sent by itself.
///
/// On an event loop a write never waits for the client: what the client has not taken is kept in memory, and its next message
/// waits for that. Another thread, which nothing has to wait for, can so fill the memory with what it writes to a slow client:
/// it sends to the [`Mailbox`](crate::Mailbox) of the handler instead, which holds so much and no more.
///
/// With a `wbufsize` of zero every write is sent at once. After sending has failed half-way, all later writes fail with
/// [`io::ErrorKind::BrokenPipe`]: the client would read their bytes as the rest of the failed write.
///
/// For a datagram it collects the reply, and sends it on `flush` or at the end of the request. An empty reply is not
/// sent.
pub struct Writer {
    sink: Sink,
}

enum Sink {
    Stream { stream: Stream, wbufsize: usize },
    Datagram(Datagram),
}

impl Writer {
    pub(crate) fn of_stream(stream: &Stream, files: &Files) -> Writer {
        Writer { sink: Sink::Stream { stream: stream.clone(), wbufsize: files.wbufsize } }
    }

    pub(crate) fn of_datagram(datagram: &Datagram) -> Writer {
        Writer { sink: Sink::Datagram(datagram.clone()) }
    }
}

impl Writer {
    /// Sends a part of a file behind what was written: Python's `socket.sendfile`. The position of the file does not matter,
    /// and is not changed.
    ///
    /// On an event loop it returns at once. The file is read and sent as the client takes it, without a thread or memory that
    /// wait for the client; its next message is handled after that. Elsewhere the method returns when the kernel has taken
    /// everything, as after a `flush`. Bytes of other threads do not come between. A part of at most 64 KiB is as if it was
    /// written.
    ///
    /// # Errors
    ///
    /// What reading the file or sending fails with. If the file cannot be read, or ends within the part, the client has not got
    /// all that it was to get: later writes fail. On an event loop, where this method has returned, the error ends the
    /// connection and is reported.
    ///
    /// ```
    /// use sockserver::{HandlerResult, MessageHandler, Server, Writer, message_handler};
    /// use std::{fs::File, io::Write};
    ///
    /// /// Answers each name of a file with its length and its bytes.
    /// #[message_handler(framing = "line")]
    /// #[server(transport = "tcp", concurrency = "event_loop")]
    /// struct Files {
    ///     wfile: Writer,
    /// }
    ///
    /// impl MessageHandler for Files {
    ///     type Message = str;
    ///
    ///     fn message(&mut self, name: &str) -> HandlerResult {
    ///         let file = File::open(name)?;
    ///         let length = file.metadata()?.len();
    ///         writeln!(self.wfile, "{length}")?;
    ///         Ok(self.wfile.send_file(file, 0..length)?)
    ///     }
    /// }
    /// ```
    pub fn send_file(&mut self, file: File, part: Range<u64>) -> io::Result<()> {
        match &self.sink {
            Sink::Stream { stream, wbufsize } => stream.connection().send_file(file, part, *wbufsize),
            Sink::Datagram(datagram) => datagram.write_file_later(&file, &part),
        }
    }

    /// The packet that a reply goes to.
    pub(super) fn datagram(&self) -> Option<&Datagram> {
        match &self.sink {
            Sink::Stream { .. } => None,
            Sink::Datagram(datagram) => Some(datagram),
        }
    }

    /// Buffers all bytes, or fails. A thread that waits for the client does not make this send them.
    fn hold_back(&self, bytes: &[u8]) -> io::Result<()> {
        match &self.sink {
            Sink::Stream { stream, wbufsize } => stream.connection().hold_back(bytes, *wbufsize),
            Sink::Datagram(datagram) => {
                datagram.write_later(bytes);
                Ok(())
            }
        }
    }

    /// Sends the buffer if another thread waits for the client.
    fn flush_if_receiving(&self) -> io::Result<()> {
        match &self.sink {
            Sink::Stream { stream, .. } => stream.connection().flush_if_receiving(),
            Sink::Datagram(_) => Ok(()),
        }
    }
}

impl Write for Writer {
    /// Writes all bytes, or fails.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hold_back(bytes)?;
        self.flush_if_receiving()
    }

    /// Writes all pieces together: while another thread waits for the client, they are sent as one.
    fn write_fmt(&mut self, text: fmt::Arguments<'_>) -> io::Result<()> {
        struct Pieces<'a> {
            writer: &'a Writer,
            result: io::Result<()>,
        }
        impl fmt::Write for Pieces<'_> {
            fn write_str(&mut self, piece: &str) -> fmt::Result {
                self.result = self.writer.hold_back(piece.as_bytes());
                self.result.as_ref().map_err(|_| fmt::Error).copied()
            }
        }
        let mut pieces = Pieces { writer: self, result: Ok(()) };
        let formatted = fmt::write(&mut pieces, text);
        pieces.result?;
        formatted.map_err(|_| io::Error::other("a value in the arguments failed to format itself"))?;
        self.flush_if_receiving()
    }

    fn flush(&mut self) -> io::Result<()> {
        match &self.sink {
            Sink::Stream { stream, .. } => stream.connection().flush(),
            Sink::Datagram(datagram) => datagram.flush(),
        }
    }
}

unwind_safe!(Writer);

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

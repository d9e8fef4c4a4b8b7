//! What the client is sent: Python's `wfile`.

use std::{
    fmt,
    io::{self, Write},
};

use super::{datagram::Datagram, files::Files, stream::Stream};
use crate::unwind::unwind_safe;

/// What the client is sent: Python's `wfile`. It is buffered.
///
/// What was written is sent when the buffer is full, when the [`Reader`](crate::Reader) or the [`Stream`] is about to wait for the
/// client, at once while another thread waits for it there, before anything that is written to the `Stream` directly, on
/// `flush`, and at the end of the request. With a `wbufsize` of zero every write is sent at once.
///
/// When sending has failed half-way, all later writes fail with [`io::ErrorKind::BrokenPipe`]: what they sent would be
/// taken for the rest.
///
/// For a datagram it collects the reply, which is sent to the client at the end of the request; on `flush` before that.
/// If nothing was written, nothing is sent.
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
    /// Takes all bytes, or fails. They are not sent for a client that another thread waits for.
    fn take(&self, bytes: &[u8]) -> io::Result<()> {
        match &self.sink {
            Sink::Stream { stream, wbufsize } => stream.connection().hold_back(bytes, *wbufsize),
            Sink::Datagram(datagram) => {
                datagram.write_later(bytes);
                Ok(())
            }
        }
    }

    fn taken(&self) -> io::Result<()> {
        match &self.sink {
            Sink::Stream { stream, .. } => stream.connection().flush_if_receiving(),
            Sink::Datagram(_) => Ok(()),
        }
    }
}

impl Write for Writer {
    /// Takes all bytes, or fails.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.take(bytes)?;
        self.taken()?;
        Ok(bytes.len())
    }

    /// Takes all pieces together: while another thread waits for the client, they are sent as one.
    fn write_fmt(&mut self, text: fmt::Arguments<'_>) -> io::Result<()> {
        struct Pieces<'a> {
            writer: &'a Writer,
            taken: io::Result<()>,
        }
        impl fmt::Write for Pieces<'_> {
            fn write_str(&mut self, piece: &str) -> fmt::Result {
                self.taken = self.writer.take(piece.as_bytes());
                self.taken.as_ref().map_err(|_| fmt::Error).copied()
            }
        }
        let mut pieces = Pieces { writer: self, taken: Ok(()) };
        let formatted = fmt::write(&mut pieces, text);
        pieces.taken?;
        formatted.map_err(|_| io::Error::other("a value that was to be written failed to format itself"))?;
        self.taken()
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

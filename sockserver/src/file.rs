//! The files of a request: Python's `rfile` and `wfile`.

use std::{
    fmt,
    io::{self, BufRead, Read, Write},
};

use crate::{
    datagram::Datagram,
    stream::{Incoming, Stream},
};

/// The class variables of Python's `StreamRequestHandler`.
#[derive(Clone, Copy)]
pub struct Files {
    pub(crate) rbufsize: usize,
    pub(crate) wbufsize: usize,
    pub(crate) max_line: usize,
}

impl Default for Files {
    fn default() -> Files {
        Files { rbufsize: 8 * 1024, wbufsize: 8 * 1024, max_line: 64 * 1024 }
    }
}

/// What the client sends: Python's `rfile`. On datagrams it reads the packet.
///
/// It is tied to the [`Writer`] of its request: whenever it is about to wait for the peer, what was written is sent
/// first, so that a handler never needs `flush` to answer.
///
/// [`read_until`](BufRead::read_until) and [`read_line`](BufRead::read_line) keep to `max_line` as
/// [`next_line`](Self::next_line) does.
pub struct Reader {
    source: Source,
    max_line: usize,
}

enum Source {
    Stream { stream: Stream, incoming: Incoming, rbufsize: usize },
    Datagram { datagram: Datagram, consumed: usize },
}

impl Reader {
    pub(crate) fn of_stream(stream: &Stream, files: &Files) -> io::Result<Reader> {
        let Some(incoming) = stream.lend_incoming() else {
            return Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "the request has one `Reader`, which is in use; a second one can be taken when it is dropped",
            ));
        };
        let source = Source::Stream { stream: stream.clone(), incoming, rbufsize: files.rbufsize };
        Ok(Reader { source, max_line: files.max_line })
    }

    pub(crate) fn of_datagram(datagram: &Datagram, files: &Files) -> Reader {
        Reader { source: Source::Datagram { datagram: datagram.clone(), consumed: 0 }, max_line: files.max_line }
    }

    /// The next line without its end (`\n` or `\r\n`), or `None` at the end of file. As in Python, a last line
    /// without an end is a line.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidData`] for a line that is not UTF-8: it is consumed, and the next one can be read.
    /// [`io::ErrorKind::FileTooLarge`] for one that is longer than `max_line`: what is read next is the rest of it, so
    /// that a handler should give up. Otherwise what receiving fails with, for example [`io::ErrorKind::TimedOut`]
    /// after the handler's `timeout`: what has come of the line by then is read again.
    pub fn next_line(&mut self) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        match self.read_until(b'\n', &mut line) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(error) => {
                let is_lost = error.kind() == io::ErrorKind::FileTooLarge;
                if let (false, Source::Stream { incoming, .. }) = (is_lost, &mut self.source) {
                    incoming.put_back(&line);
                }
                return Err(error);
            }
        }
        if line.pop_if(|&mut last| last == b'\n').is_some() {
            line.pop_if(|&mut last| last == b'\r');
        }
        String::from_utf8(line).map(Some).map_err(|_| invalid_utf8())
    }
}

impl BufRead for Reader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match &mut self.source {
            Source::Stream { stream, incoming, rbufsize } => {
                if incoming.unread().is_empty() {
                    incoming.fill(stream, *rbufsize)?;
                }
                Ok(incoming.unread())
            }
            Source::Datagram { datagram, consumed } => Ok(&datagram.packet()[*consumed..]),
        }
    }

    fn consume(&mut self, amount: usize) {
        match &mut self.source {
            Source::Stream { stream, incoming, .. } => {
                incoming.consume(amount);
                if amount > 0 {
                    stream.note_request();
                }
            }
            Source::Datagram { datagram, consumed } => *consumed = (*consumed + amount).min(datagram.packet().len()),
        }
    }

    fn read_until(&mut self, delimiter: u8, line: &mut Vec<u8>) -> io::Result<usize> {
        let mut read = 0;
        loop {
            let room = (self.max_line - read).saturating_add(1);
            let max_line = self.max_line;
            let available = self.fill_buf()?;
            let line_so_far = &available[..room.min(available.len())];
            // std looks at many bytes at a time.
            let taken = { line_so_far }.skip_until(delimiter)?;
            let ended = line_so_far[..taken].last() == Some(&delimiter);
            line.extend_from_slice(&line_so_far[..taken]);
            self.consume(taken);
            if taken == room && !ended {
                return Err(line_too_long(max_line));
            }
            read += taken;
            if taken == 0 || ended {
                return Ok(read);
            }
        }
    }

    fn read_line(&mut self, line: &mut String) -> io::Result<usize> {
        // As in std, what is no text is an error and leaves the line as it was.
        let mut bytes = std::mem::take(line).into_bytes();
        let before = bytes.len();
        let read = self.read_until(b'\n', &mut bytes);
        match String::from_utf8(bytes) {
            Ok(text) => {
                *line = text;
                read
            }
            Err(error) => {
                let mut bytes = error.into_bytes();
                bytes.truncate(before);
                *line = String::from_utf8(bytes).unwrap_or_default();
                read.and(Err(invalid_utf8()))
            }
        }
    }
}

fn invalid_utf8() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the line is not UTF-8")
}

fn line_too_long(max_line: usize) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("the line is longer than max_line ({max_line} bytes)"))
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // As in std: through a buffer that is no larger, the bytes would only come in more pieces.
        if let Source::Stream { stream, incoming, rbufsize } = &self.source
            && incoming.unread().is_empty()
            && buffer.len() >= *rbufsize
        {
            return { stream }.read(buffer);
        }
        let mut available = self.fill_buf()?;
        let read = available.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Source::Stream { stream, incoming, .. } = &mut self.source {
            stream.return_incoming(std::mem::take(incoming));
        }
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("max_line", &self.max_line).finish_non_exhaustive()
    }
}

/// What the client is sent: Python's `wfile`. It is buffered.
///
/// What was written is sent when the buffer is full, when the [`Reader`] or the [`Stream`] is about to wait for the
/// peer, before anything that is written to the `Stream` directly, on `flush`, and at the end of the request. With a
/// `wbufsize` of zero every write is sent at once.
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

impl Write for Writer {
    /// Takes all bytes, or fails.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &self.sink {
            Sink::Stream { stream, wbufsize } => stream.write_later(bytes, *wbufsize)?,
            Sink::Datagram(datagram) => datagram.write_later(bytes),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        match &self.sink {
            Sink::Stream { stream, .. } => stream.flush_outgoing(),
            Sink::Datagram(datagram) => datagram.flush(),
        }
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

//! What the client sends: Python's `rfile`.

use std::{
    error::Error,
    fmt,
    io::{self, BufRead, Read},
    time::Instant,
};

use super::{
    datagram::Datagram,
    end_of_file::read_exact,
    files::Files,
    mailbox::{Arrival, Mailbox},
    stream::Stream,
};
use crate::{
    io::{incoming::Incoming, waiting::Patience},
    sys,
    unwind::unwind_safe,
};

/// What the client sends: Python's `rfile`. On datagrams it reads the packet.
///
/// It is tied to the [`Writer`](crate::Writer) of its request. Before it waits for the client, it sends what the
/// handler has written. While it waits, what another thread writes is sent at once. So a handler never needs `flush` to
/// answer.
///
/// An end of file always comes from the client. If the server ends the connection, reading fails with an error that has
/// a [`Closing`](crate::Closing) inside.
///
/// `max_line` limits [`read_until`](BufRead::read_until) and [`read_line`](BufRead::read_line) as it limits
/// [`next_line`](Self::next_line).
pub struct Reader {
    pub(super) source: Source,
    max_line: usize,
}

pub(super) enum Source {
    Stream { stream: Stream, incoming: Incoming, rbufsize: usize },
    Datagram { datagram: Datagram, consumed: usize },
}

impl Reader {
    pub(crate) fn of_stream(stream: &Stream, files: &Files) -> io::Result<Reader> {
        let Some(incoming) = stream.connection().lend_incoming() else {
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, ReaderTaken));
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
    /// * [`io::ErrorKind::InvalidData`] with a [`LineTooLong`] inside for a line longer than `max_line`. The next read
    ///   returns the rest of that line: the handler ends the connection, or drops the rest with `rfile.skip_until(b'\n')`
    ///   ([`BufRead::skip_until`]), which waits for as much as the client sends before the line ends.
    /// * [`io::ErrorKind::InvalidData`] without it for a line that is not UTF-8. That line is consumed: the handler can
    ///   read the next one.
    /// * What receiving fails with, such as [`io::ErrorKind::TimedOut`] after the handler's `timeout`. The part of the
    ///   line that was received stays in the buffer, and the next read returns it again.
    pub fn next_line(&mut self) -> io::Result<Option<String>> {
        let line = self.next_line_bytes()?;
        line.map(|line| String::from_utf8(line).map_err(|_| invalid_utf8())).transpose()
    }

    /// As [`next_line`](Self::next_line), for lines that need not be UTF-8: Python's `readline`, without the line's
    /// end.
    ///
    /// # Errors
    ///
    /// Those of `next_line`, except that bytes which are not UTF-8 are no error.
    pub fn next_line_bytes(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        match self.read_until(b'\n', &mut line) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(error) => {
                let is_too_long = error.get_ref().is_some_and(|inner| inner.is::<LineTooLong>());
                if let (false, Source::Stream { incoming, .. }) = (is_too_long, &mut self.source) {
                    incoming.put_back(&line);
                }
                return Err(error);
            }
        }
        if line.pop_if(|&mut last| last == b'\n').is_some() {
            line.pop_if(|&mut last| last == b'\r');
        }
        Ok(Some(line))
    }

    /// Waits for a line of the client or for mail, whichever comes first: [`next_line`](Self::next_line), or what a
    /// [`Sender`](crate::Sender) of the mailbox has sent. [`Mailbox`] has an example.
    ///
    /// # Errors
    ///
    /// Those of `next_line`. The error of pipe(2) if the process has no descriptors left for the mailbox.
    pub fn next_line_or<T>(&mut self, mailbox: &mut Mailbox<T>) -> io::Result<Option<Arrival<String, T>>> {
        match self.mail_before_line(mailbox)? {
            Some(mail) => Ok(Some(Arrival::Mail(mail))),
            None => Ok(self.next_line()?.map(Arrival::Message)),
        }
    }

    /// As [`next_line_or`](Self::next_line_or), for lines that need not be UTF-8:
    /// [`next_line_bytes`](Self::next_line_bytes), or mail.
    ///
    /// # Errors
    ///
    /// Those of `next_line_or`, except that bytes which are not UTF-8 are no error.
    pub fn next_line_bytes_or<T>(&mut self, mailbox: &mut Mailbox<T>) -> io::Result<Option<Arrival<Vec<u8>, T>>> {
        match self.mail_before_line(mailbox)? {
            Some(mail) => Ok(Some(Arrival::Mail(mail))),
            None => Ok(self.next_line_bytes()?.map(Arrival::Message)),
        }
    }

    /// `None`: the next line can be read without a receive, or the client has ended the connection.
    fn mail_before_line<T>(&mut self, mailbox: &mut Mailbox<T>) -> io::Result<Option<T>> {
        match self.source {
            Source::Stream { .. } => mailbox.next_or(|patience| self.receive_line(patience)),
            Source::Datagram { .. } => Ok(None),
        }
    }

    /// Receives until `next_line` can return without a receive.
    fn receive_line(&mut self, patience: Patience<'_>) -> io::Result<()> {
        let Source::Stream { stream, incoming, rbufsize } = &mut self.source else { return Ok(()) };
        let mut searched = 0;
        loop {
            let unread = incoming.unread();
            if sys::position(b'\n', &unread[searched..]).is_some() || unread.len() > self.max_line {
                return Ok(());
            }
            searched = unread.len();
            if searched > 0 {
                // `consume` is not called until the line is complete.
                stream.connection().note_request();
            }
            if stream.connection().fill(incoming, *rbufsize, patience)? == 0 {
                return Ok(());
            }
        }
    }

    /// Sets one deadline for a whole message, however steadily its bytes come; `timeout` bounds only the wait for the
    /// next byte. After the deadline a read that has to receive fails with [`io::ErrorKind::TimedOut`]. `None` removes
    /// the deadline. On datagrams, which do not wait, it does nothing.
    ///
    /// ```
    /// # use sockserver::Reader;
    /// # use std::{io, time::{Duration, Instant}};
    /// /// The lines of a head, which the client must send within ten seconds.
    /// fn head(rfile: &mut Reader) -> io::Result<Vec<String>> {
    ///     let mut head = Vec::new();
    ///     rfile.set_deadline(Instant::now() + Duration::from_secs(10));
    ///     while let Some(line) = rfile.next_line()?.filter(|line| !line.is_empty()) {
    ///         head.push(line);
    ///     }
    ///     rfile.set_deadline(None);
    ///     Ok(head)
    /// }
    /// ```
    pub fn set_deadline(&mut self, deadline: impl Into<Option<Instant>>) {
        if let Source::Stream { stream, .. } = &self.source {
            stream.connection().set_deadline(deadline.into());
        }
    }

    /// Begins TLS on a connection that is in plain text, as STARTTLS does: sends what was written, shakes hands, and from
    /// then on all reading and writing of the connection is encrypted. The server needs a certificate, and
    /// `tls(start = "handler")`.
    ///
    /// What the handler has learned from the client before was not protected, and should be forgotten.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidData`] if the client has sent bytes behind its request for TLS. An attacker between client and
    /// server can have added them, to have them taken for the client's: the handler should end the connection. It is also
    /// the kind of a failed handshake, with rustls' error inside. [`io::ErrorKind::TimedOut`] after `timeouts(handshake)`.
    /// Nothing can be written after these: it would go out in plain text.
    ///
    /// [`io::ErrorKind::Unsupported`] without a certificate, and on datagrams. The handler can tell the client so.
    #[cfg(feature = "tls")]
    pub fn start_tls(&mut self) -> io::Result<()> {
        let Source::Stream { stream, incoming, .. } = &self.source else {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "datagrams cannot be encrypted: rustls has no DTLS",
            ));
        };
        stream.connection().start_tls(incoming)
    }

    /// Declares that a request is under way, or that none is: see [`Stream::set_busy`]. On datagrams it does nothing.
    ///
    /// ```
    /// # use sockserver::Reader;
    /// # use std::io;
    /// /// The lines of a mail up to a dot, after the handler has answered `354`. Because of that answer the server would
    /// /// guess that the connection is idle, and end it when the server stops.
    /// fn mail(rfile: &mut Reader) -> io::Result<Vec<String>> {
    ///     let mut mail = Vec::new();
    ///     rfile.set_busy(true);
    ///     while let Some(line) = rfile.next_line()?.filter(|line| line != ".") {
    ///         mail.push(line);
    ///     }
    ///     rfile.set_busy(false);
    ///     Ok(mail)
    /// }
    /// ```
    pub fn set_busy(&self, is_busy: bool) {
        if let Source::Stream { stream, .. } = &self.source {
            stream.set_busy(is_busy);
        }
    }
}

impl BufRead for Reader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match &mut self.source {
            Source::Stream { stream, incoming, rbufsize } => {
                if incoming.unread().is_empty() {
                    stream.connection().fill(incoming, *rbufsize, Patience::Unlimited)?;
                } else {
                    stream.connection().check_input()?;
                }
                Ok(incoming.unread())
            }
            Source::Datagram { datagram, consumed } => Ok(&datagram.payload()[*consumed..]),
        }
    }

    fn consume(&mut self, amount: usize) {
        match &mut self.source {
            Source::Stream { stream, incoming, .. } => {
                incoming.consume(amount);
                if amount > 0 {
                    stream.connection().note_request();
                }
            }
            Source::Datagram { datagram, consumed } => {
                *consumed = consumed.saturating_add(amount).min(datagram.payload().len());
            }
        }
    }

    fn read_until(&mut self, delimiter: u8, line: &mut Vec<u8>) -> io::Result<usize> {
        let mut read = 0;
        loop {
            let room = (self.max_line - read).saturating_add(1);
            let limit = self.max_line;
            let available = self.fill_buf()?;
            let line_so_far = &available[..room.min(available.len())];
            let end = sys::position(delimiter, line_so_far);
            let ended = end.is_some();
            let taken = end.map_or(line_so_far.len(), |end| end + 1);
            line.extend_from_slice(&line_so_far[..taken]);
            if taken == room && !ended {
                let rest = available[taken..].iter().take_while(|&&byte| byte != delimiter).count();
                self.consume(taken);
                let error = LineTooLong { length: read + taken + rest, limit };
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
            self.consume(taken);
            read += taken;
            if taken == 0 || ended {
                return Ok(read);
            }
        }
    }

    fn read_line(&mut self, line: &mut String) -> io::Result<usize> {
        // As in std, input that is not UTF-8 is an error and leaves `line` unchanged.
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

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // As in std: a buffer that is not larger than the caller's would only split the bytes into more pieces.
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

    fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        match &mut self.source {
            Source::Stream { .. } => read_exact(self, buffer),
            Source::Datagram { datagram, consumed } => {
                let mut unread = &datagram.payload()[*consumed..];
                let read = unread.read_exact(buffer);
                *consumed = datagram.payload().len() - unread.len();
                read
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Source::Stream { stream, incoming, .. } = &mut self.source {
            stream.connection().return_incoming(std::mem::take(incoming));
        }
    }
}

/// A line is longer than `max_line`: inside the [`io::Error`] of [`Reader::next_line`] and of the other methods that
/// read a line.
///
/// ```
/// use sockserver::LineTooLong;
/// use std::io;
///
/// fn line_too_long(error: &io::Error) -> Option<LineTooLong> {
///     error.get_ref()?.downcast_ref().copied()
/// }
/// # let error = LineTooLong { length: 70_000, limit: 65_536 };
/// # assert_eq!(line_too_long(&io::Error::new(io::ErrorKind::InvalidData, error)), Some(error));
/// # assert_eq!(line_too_long(&io::ErrorKind::InvalidData.into()), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineTooLong {
    /// How many bytes of the line were received before reading failed. The whole line is at least this long.
    pub length: usize,
    /// The handler's `max_line`.
    pub limit: usize,
}

impl fmt::Display for LineTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the line is longer than max_line ({} bytes): {} bytes were received", self.limit, self.length)
    }
}

impl Error for LineTooLong {}

/// A second [`Reader`] was taken from a request while the first is in use: inside an [`io::Error`] of the kind
/// [`ResourceBusy`](io::ErrorKind::ResourceBusy).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReaderTaken;

impl fmt::Display for ReaderTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a request has one `Reader`, and it is in use: drop it before taking a second one")
    }
}

impl Error for ReaderTaken {}

unwind_safe!(Reader);

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("max_line", &self.max_line).finish_non_exhaustive()
    }
}

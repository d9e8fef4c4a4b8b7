//! The user's handle on one accepted connection.

use std::{
    fmt,
    io::{self, Read, Write},
    net::Shutdown,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    sync::Arc,
    time::Duration,
};

use socket2::Socket;

use crate::{
    address::Address,
    io::{
        closing::Closing,
        connection::Connection,
        ending::End,
        state::{ConnectionId, ConnectionState},
    },
    sys,
    unwind::unwind_safe,
};

/// A handle on one accepted connection: Python's `request` of a stream server.
///
/// Clones are handles on the same connection and share its descriptor, so that a handler can leave one with the server
/// for other threads to write to. The connection is closed when its request has ended and the last handle is dropped;
/// once the request has ended, writing fails.
///
/// Reading and writing work on `Stream` and `&Stream`. Any number of threads can write: what one `write_all` is given
/// is sent in one piece, while a `write!` is several writes. One thread at a time can read, also while others write.
/// What a [`Writer`](crate::Writer) holds back is sent before anything that is written here, and before any wait for
/// the client. What a [`Reader`](crate::Reader) has received and not yet given out is not seen here.
///
/// When a `write_all` or a `Writer` has failed half-way, all later writes fail with [`io::ErrorKind::BrokenPipe`]: what
/// they sent would be taken for the rest.
///
/// # Idle and busy
///
/// A server that stops ends its idle connections at once, and leaves a busy one its time:
/// [`timeouts(shutdown)`](crate::Timeouts::shutdown). A connection is busy from the first byte that the handler takes of
/// a request. At a wait with nothing unread it is idle again: at once if the handler has sent something since, else once
/// it has been quiet for a second. A handler for which that is wrong says so itself: [`set_busy`](Self::set_busy).
///
/// # The descriptor
///
/// As a descriptor the connection is in blocking mode, without timeouts: those that are set here hold for the methods of
/// this type only. What another program or library receives with it is not counted, and a server that stops does not see
/// that a thread waits there. Making it non-blocking changes nothing about the methods here.
#[derive(Clone)]
pub struct Stream {
    connection: Arc<Connection>,
}

impl Stream {
    /// A connected stream socket, for those who write a [`Transport`](crate::transport::Transport).
    pub fn new(socket: impl Into<OwnedFd>, client_address: Address) -> Stream {
        let socket = Socket::from(socket.into());
        // Instead of a flag of send(2), which is unknown there. It fails for what can be no stream either.
        #[cfg(target_vendor = "apple")]
        let _ = socket.set_nosigpipe(true);
        Stream { connection: Arc::new(Connection::new(socket, client_address)) }
    }

    /// The number of this connection, which no other connection of this process has.
    pub fn id(&self) -> ConnectionId {
        self.state().id
    }

    /// The address of the client: Python's `client_address`, known without a system call.
    ///
    /// # Errors
    ///
    /// None today. It returns a result as std's does.
    pub fn peer_addr(&self) -> io::Result<Address> {
        Ok(self.state().client_address.clone())
    }

    /// The address that the client connected to.
    ///
    /// # Errors
    ///
    /// That of getsockname(2), as for want of memory.
    pub fn local_addr(&self) -> io::Result<Address> {
        Address::from_system(&self.connection.socket().local_addr()?)
    }

    /// Bounds each read from now on: one that gets nothing in this time fails with [`io::ErrorKind::TimedOut`].
    /// `None` waits for ever; a zero duration is an error.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.connection.set_read_timeout(positive(timeout)?);
        Ok(())
    }

    /// Bounds each write from now on: one that can send nothing in this time fails with [`io::ErrorKind::TimedOut`].
    /// `None` waits for ever; a zero duration is an error.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.connection.set_write_timeout(positive(timeout)?);
        Ok(())
    }

    /// Ends this connection when nothing was transferred for the time, in place of
    /// [`timeouts(idle)`](crate::Timeouts::idle). `None`: never; a zero duration is an error.
    pub fn set_idle_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.connection.set_idle_timeout(positive(timeout)?);
        Ok(())
    }

    /// Says that a request is under way, or that none is. From here on the server does not guess it for this connection:
    /// see [idle and busy](Self#idle-and-busy).
    pub fn set_busy(&self, is_busy: bool) {
        self.connection.set_busy(is_busy);
    }

    /// Ends one direction or both. [`Shutdown::Write`] first sends what a `Writer` holds back. [`Shutdown::Both`] cuts
    /// the connection without waiting: of what is held back it sends what the kernel takes at once.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match how {
            Shutdown::Read => {}
            Shutdown::Write => self.connection.flush()?,
            Shutdown::Both => self.connection.flush_without_waiting(),
        }
        self.connection.shut_down(how)
    }

    /// Why the server is ending this connection; `None` while it is not.
    ///
    /// A read finds out by itself: it fails with an error that has this inside. This is for a handler that waits for
    /// something else than its client, or works for long.
    pub fn closing(&self) -> Option<Closing> {
        self.state().closing()
    }

    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    pub(crate) fn state(&self) -> &ConnectionState {
        &self.connection.state
    }

    /// Python's `shutdown_request`, after which this handle is dropped.
    pub(crate) fn end(&self) -> End {
        // The registry may have one for a moment: then the end of file takes a system call.
        let is_last = Arc::strong_count(&self.connection) == 1;
        self.connection.end(is_last)
    }
}

fn positive(timeout: Option<Duration>) -> io::Result<Option<Duration>> {
    match timeout {
        Some(Duration::ZERO) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a timeout of zero could never be met; `None` waits for ever",
        )),
        timeout => Ok(timeout),
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }
}

impl Read for &Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let received =
            self.connection.receive(|socket, limit, flags| sys::receive_into(socket, buffer, limit, flags))?;
        if received > 0 {
            self.connection.note_request();
        }
        Ok(received)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        (&*self).write_all(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self).flush()
    }
}

impl Write for &Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.connection.write(bytes)
    }

    /// In one piece: nothing that another thread writes comes between.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.connection.write_all(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.connection.flush()
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.lend_socket().as_fd()
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

unwind_safe!(Stream);

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("id", &self.id()).field("peer_addr", &self.state().client_address).finish()
    }
}

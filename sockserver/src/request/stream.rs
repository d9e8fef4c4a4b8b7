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

use super::end_of_file::read_exact;
#[cfg(feature = "tls")]
use crate::tls::{
    info::{PeerCertificate, TlsInfo},
    session::Session,
};
use crate::{
    address::Address,
    io::{
        closing::Closing,
        connection::Connection,
        ending::End,
        state::{ConnectionId, ConnectionState},
    },
    unwind::unwind_safe,
};

/// A handle on one accepted connection: Python's `request` of a stream server.
///
/// Clones are handles on the same connection and share its descriptor. A handler can leave a clone in the server
/// struct, for other threads to write to. When the request has ended, writing fails. The connection is closed when the
/// request has ended and the last handle is dropped.
///
/// `Stream` and `&Stream` implement [`Read`] and [`Write`]. Any number of threads can write: the bytes of one
/// `write_all` are sent in one piece, while a `write!` is several writes. One thread at a time can read, even while
/// others write. Bytes that a [`Writer`](crate::Writer) holds back are sent before the bytes of any write here, and
/// before any wait for the client. Bytes in the buffer of a [`Reader`](crate::Reader) are not read here.
///
/// After a `write_all` or a `Writer` has failed half-way, all later writes fail with [`io::ErrorKind::BrokenPipe`]: the
/// client would read their bytes as the rest of the failed write.
///
/// # Idle and busy
///
/// A server that stops ends its idle connections at once, and lets busy ones go on for
/// [`timeouts(shutdown)`](crate::Timeouts::shutdown). A connection becomes busy when the handler reads the first byte
/// of a request. It becomes idle when the handler waits with nothing unread: at once if the handler has written
/// something since it read, otherwise after a second without a transfer. A handler that knows better declares it by
/// [`set_busy`](Self::set_busy).
///
/// # The descriptor
///
/// With TLS, what is read from it directly is ciphertext.
///
/// The descriptor is in blocking mode and has no timeouts: the timeouts that are set here hold for the methods of this
/// type only. Bytes that another program or library receives with the descriptor are not counted, and a server that
/// stops does not wake a thread that waits there. The methods here also work if the descriptor is made non-blocking.
#[derive(Clone)]
pub struct Stream {
    connection: Arc<Connection>,
}

impl Stream {
    /// Makes a `Stream` of a connected stream socket, for a [`Transport`](crate::transport::Transport) of your own.
    pub fn new(socket: impl Into<OwnedFd>, client_address: Address) -> Stream {
        let socket = Socket::from(socket.into());
        // In place of MSG_NOSIGNAL, which these systems do not have. This fails only for a socket that cannot send
        // either.
        #[cfg(target_vendor = "apple")]
        let _ = socket.set_nosigpipe(true);
        Stream { connection: Arc::new(Connection::new(socket, client_address)) }
    }

    /// The number of this connection, which no other connection of this process has.
    pub fn id(&self) -> ConnectionId {
        self.state().id
    }

    /// The address of the client: Python's `client_address`, known without a system call. Behind a proxy it is the real
    /// client's, and [`proxy_addr`](Self::proxy_addr) that of the proxy.
    ///
    /// # Errors
    ///
    /// None today. The result is an [`io::Result`] as in std.
    pub fn peer_addr(&self) -> io::Result<Address> {
        Ok(self.state().client_address().clone())
    }

    /// The address of the proxy that has sent a PROXY header for this connection: the other end of the socket. `None`: the
    /// client has connected itself.
    pub fn proxy_addr(&self) -> Option<&Address> {
        self.state().proxy_header().map(|_| &self.state().peer_address)
    }

    /// The address that the client connected to; behind a proxy, the one that the proxy has named.
    ///
    /// # Errors
    ///
    /// What getsockname(2) fails with, such as a shortage of memory.
    pub fn local_addr(&self) -> io::Result<Address> {
        if let Some(destination) = self.state().proxy_header().and_then(|header| header.destination.as_ref()) {
            return Ok(destination.clone());
        }
        Address::from_sockaddr(&self.connection.socket().local_addr()?)
    }

    /// Bounds each later read: it fails with [`io::ErrorKind::TimedOut`] when it receives nothing for this time.
    /// `None` waits for ever; a zero duration is an error.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.connection.set_read_timeout(positive(timeout)?);
        Ok(())
    }

    /// Bounds each later write: it fails with [`io::ErrorKind::TimedOut`] when it can send nothing for this time.
    /// `None` waits for ever; a zero duration is an error.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.connection.set_write_timeout(positive(timeout)?);
        Ok(())
    }

    /// Ends this connection when nothing was transferred for this time, in place of
    /// [`timeouts(idle)`](crate::Timeouts::idle). `None`: never; a zero duration is an error.
    pub fn set_idle_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.connection.set_idle_timeout(positive(timeout)?);
        Ok(())
    }

    /// Declares that a request is under way, or that none is. From then on the server no longer guesses it for this
    /// connection: see [idle and busy](Self#idle-and-busy).
    pub fn set_busy(&self, is_busy: bool) {
        self.connection.set_busy(is_busy);
    }

    /// Ends one direction or both. [`Shutdown::Write`] first sends the bytes that a `Writer` holds back, and waits until the
    /// kernel has taken them, on an event loop too.
    /// [`Shutdown::Both`] does not wait: it sends as many of these bytes as the kernel takes at once.
    ///
    /// # Errors
    ///
    /// Those of shutdown(2), such as [`io::ErrorKind::NotConnected`]. `Shutdown::Write` also has those of sending the bytes that
    /// were held back, such as [`io::ErrorKind::TimedOut`] after the write timeout: then the direction is not ended.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match how {
            Shutdown::Read => {}
            Shutdown::Write => self.connection.finish_output()?,
            Shutdown::Both => self.connection.flush_without_waiting(),
        }
        self.connection.shut_down(how)
    }

    /// Why the server is ending this connection; `None` while it is not.
    ///
    /// A read needs no such check: it fails with an error that has this inside. The method is for a handler that waits
    /// for something other than its client, or computes for a long time.
    pub fn closing(&self) -> Option<Closing> {
        self.state().closing()
    }

    /// How the connection is encrypted. `None`: it is not, or not yet.
    #[cfg(feature = "tls")]
    pub fn tls_info(&self) -> Option<TlsInfo> {
        self.connection.session(Session::info).flatten()
    }

    /// The certificate of the client, which was verified. `None`: it has shown none.
    #[cfg(feature = "tls")]
    pub fn peer_certificate(&self) -> Option<PeerCertificate> {
        self.connection.session(Session::peer_certificate).flatten()
    }

    /// The protocol above TLS that was agreed on (ALPN).
    #[cfg(feature = "tls")]
    pub fn alpn(&self) -> Option<String> {
        self.connection.session(Session::alpn)?.0
    }

    /// The name that the client has asked for in the TLS handshake (SNI).
    #[cfg(feature = "tls")]
    pub fn server_name(&self) -> Option<String> {
        self.connection.session(Session::server_name)?.0
    }

    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    pub(crate) fn state(&self) -> &ConnectionState {
        &self.connection.state
    }

    /// Python's `shutdown_request`. The caller drops this handle next.
    pub(crate) fn end(&self) -> End {
        // The registry may hold a handle for a moment: then the end of file costs a system call.
        let is_last = Arc::strong_count(&self.connection) == 1;
        self.connection.end(is_last)
    }
}

fn positive(timeout: Option<Duration>) -> io::Result<Option<Duration>> {
    match timeout {
        Some(Duration::ZERO) => {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "a timeout must be more than zero; `None` waits for ever"))
        }
        timeout => Ok(timeout),
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        read_exact(self, buffer)
    }
}

impl Read for &Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let received = self.connection.read(buffer)?;
        if received > 0 {
            self.connection.note_request();
        }
        Ok(received)
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        read_exact(self, buffer)
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

    /// Sends the bytes in one piece: no bytes of another thread come between.
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
        f.debug_struct("Stream").field("id", &self.id()).field("peer_addr", self.state().client_address()).finish()
    }
}

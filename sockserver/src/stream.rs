//! One accepted connection.

use std::{
    fmt,
    io::{self, Read, Write},
    mem::MaybeUninit,
    net::Shutdown,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    sync::Arc,
    time::Duration,
};

use socket2::Socket;

use crate::{
    address::Address,
    buffers::{self, INCOMING, OUTGOING},
    patience::{self, MayWait},
    primitives::{
        Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    record::{Closing, ConnectionId, Record, Tracked, Waiting},
    sys,
};

/// A handle on one accepted connection: Python's `request` of a stream server.
///
/// Clones are handles on the same connection and share its descriptor, so that a handler can leave one with the server
/// for others to write to. The connection is closed when its request has ended and the last handle is dropped; once the
/// request has ended, writing fails.
///
/// Reading and writing work on `Stream` and `&Stream`. Any number of threads can write: what one `write_all` is given
/// is sent in one piece, while a `write!` is several writes. One thread at a time can read. What a
/// [`Writer`](crate::Writer) holds back is sent before anything that is written here, and before any wait for the peer.
/// What a [`Reader`](crate::Reader) has received and not yet given out is not seen here.
///
/// What is read by its descriptor is not counted: a server that stops takes such a connection for one in the middle of
/// a request.
///
/// When a `write_all` or a `Writer` has failed half-way, all later writes fail with [`io::ErrorKind::BrokenPipe`]: what
/// they sent would be taken for the rest.
#[derive(Clone)]
pub struct Stream {
    connection: Arc<Connection>,
}

struct Connection {
    record: Record,
    socket: Socket,
    /// How much of what [`sys::tcp_bytes`] counts as received is not in the record. `None`: it does not count here.
    received_before: Option<u64>,
    /// What was received and not consumed, while no `Reader` holds it.
    incoming: Mutex<Option<Incoming>>,
    /// Locked while it is sent: what two threads write is not mixed.
    outgoing: Mutex<Outgoing>,
    /// Something is held back in `outgoing` and nobody is sending it: changed under that lock. Else, whoever is about
    /// to wait for the peer has nothing to send, and does not wait for those who do.
    held_back: AtomicBool,
    /// Nothing was received since the last reply: a server that stops need not let the peer finish anything.
    between_requests: AtomicBool,
}

/// The most that is sent at once where the system does not tell how far that is.
const PIECE: usize = 64 << 10;

/// Received bytes: those from `start` on are not consumed yet.
#[derive(Default)]
pub(crate) struct Incoming {
    buffer: Vec<u8>,
    start: usize,
}

/// Written bytes that were not sent yet.
#[derive(Default)]
struct Outgoing {
    buffer: Vec<u8>,
    /// Sending failed half-way: what is written later must not be taken for the rest. There is nothing in the buffer
    /// any more.
    failed: bool,
}

impl Outgoing {
    fn check(&self) -> io::Result<()> {
        match self.failed {
            false => Ok(()),
            true => Err(io::Error::new(
                io::ErrorKind::BrokenPipe,
                "an earlier write has failed half-way, and what follows it would be taken for the rest",
            )),
        }
    }
}

impl Stream {
    /// A connected stream socket, for those who write a [`Transport`](crate::transport::Transport). It must be in
    /// blocking mode.
    pub fn new(socket: impl Into<OwnedFd>, client_address: Address) -> Stream {
        let socket = Socket::from(socket.into());
        // Instead of a flag of send(2), which is unknown there. It fails for what can be no stream either.
        #[cfg(target_vendor = "apple")]
        let _ = socket.set_nosigpipe(true);
        // Somebody may have read from it already. What comes between the two looks counts as read.
        let unread = sys::bytes_unread(&socket);
        let received_before = sys::tcp_bytes(&socket).map(|bytes| bytes.received.saturating_sub(unread));
        Stream::counting(socket, client_address, received_before)
    }

    /// One that was accepted here just now.
    pub(crate) fn accepted(socket: Socket, client_address: Address) -> Stream {
        let is_tcp = matches!(client_address, Address::Inet(_));
        Stream::counting(socket, client_address, (is_tcp && sys::TELLS_TCP_BYTES).then_some(0))
    }

    fn counting(socket: Socket, client_address: Address, received_before: Option<u64>) -> Stream {
        Stream {
            connection: Arc::new(Connection {
                record: Record::new(client_address),
                socket,
                received_before,
                incoming: Mutex::new(Some(Incoming::default())),
                outgoing: Mutex::default(),
                held_back: AtomicBool::new(false),
                between_requests: AtomicBool::new(true),
            }),
        }
    }

    /// The number of this connection, which no other connection of this process has.
    pub fn id(&self) -> ConnectionId {
        self.connection.record.id
    }

    /// The address of the client: Python's `client_address`, known without asking the system.
    pub fn peer_address(&self) -> &Address {
        &self.connection.record.client_address
    }

    /// The address that the client connected to.
    pub fn local_address(&self) -> io::Result<Address> {
        Address::from_system(&self.connection.socket.local_addr()?)
    }

    /// Bounds each read from now on: one that gets nothing in this time fails with [`io::ErrorKind::TimedOut`].
    /// `None` waits for ever; a zero duration is an error.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.connection.socket.set_read_timeout(positive(timeout)?)
    }

    /// Bounds each write from now on: one that can send nothing in this time fails with [`io::ErrorKind::TimedOut`].
    /// `None` waits for ever; a zero duration is an error.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.connection.socket.set_write_timeout(positive(timeout)?)
    }

    /// Ends one direction or both. [`Shutdown::Write`] first sends what a `Writer` holds back. [`Shutdown::Both`] cuts
    /// the connection without waiting for anybody: of what is held back it sends what the system takes at once.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match how {
            Shutdown::Read => {}
            Shutdown::Write => self.flush_outgoing()?,
            Shutdown::Both => self.flush_without_waiting(),
        }
        self.connection.socket.shutdown(how)
    }

    /// Why the server is ending this connection; `None` while it is not.
    ///
    /// A handler that waits for its peer between two requests sees end of file then, and can ask here whether it was
    /// the peer or the server that ended.
    pub fn closing(&self) -> Option<Closing> {
        self.connection.record.closing()
    }

    pub(crate) fn tracked(&self) -> Arc<dyn Tracked> {
        self.connection.clone()
    }

    pub(crate) fn record(&self) -> &Record {
        &self.connection.record
    }

    pub(crate) fn lend_incoming(&self) -> Option<Incoming> {
        self.connection.incoming.lock().take()
    }

    pub(crate) fn return_incoming(&self, incoming: Incoming) {
        *self.connection.incoming.lock() = Some(incoming);
    }

    /// The handler has taken bytes that a reply is due to.
    pub(crate) fn note_request(&self) {
        self.connection.between_requests.store(false, Relaxed);
    }

    fn note_reply(&self) {
        self.connection.between_requests.store(true, Relaxed);
    }

    /// Holds the bytes back until `capacity` are together or the handler waits for its peer.
    pub(crate) fn write_later(&self, bytes: &[u8], capacity: usize) -> io::Result<()> {
        self.note_reply();
        let mut outgoing = self.connection.outgoing.lock();
        outgoing.check()?;
        if outgoing.buffer.len() + bytes.len() > capacity {
            self.send_pending(&mut outgoing)?;
        }
        if bytes.len() >= capacity {
            return self.send_all(&mut outgoing, bytes);
        }
        if outgoing.buffer.capacity() == 0 {
            // It grows with what is written: where answers are short, a connection that idles holds little memory.
            outgoing.buffer = buffers::take(&OUTGOING);
        }
        outgoing.buffer.extend_from_slice(bytes);
        self.connection.held_back.store(!outgoing.buffer.is_empty(), Relaxed);
        Ok(())
    }

    /// Sends what was held back.
    pub(crate) fn flush_outgoing(&self) -> io::Result<()> {
        self.send_pending(&mut self.connection.outgoing.lock())
    }

    /// Python's `shutdown_request`.
    pub(crate) fn send_end_of_file(&self) {
        // It fails on a connection that the peer has reset, which is an end as well.
        let _ = self.connection.socket.shutdown(Shutdown::Write);
    }

    fn flush_without_waiting(&self) {
        // Whoever has the lock is sending, and will fail.
        if let Some(mut outgoing) = self.connection.outgoing.try_lock()
            && !outgoing.buffer.is_empty()
        {
            // What is not taken is lost with the connection.
            let sent = send(&self.connection.socket, &outgoing.buffer, MayWait::No);
            self.connection.record.count_out(sent.unwrap_or(0));
            outgoing.buffer.clear();
            self.connection.held_back.store(false, Relaxed);
        }
    }

    fn send_pending(&self, outgoing: &mut Outgoing) -> io::Result<()> {
        if outgoing.buffer.is_empty() {
            return Ok(());
        }
        let mut pending = std::mem::take(&mut outgoing.buffer);
        self.connection.held_back.store(false, Relaxed);
        let sent = self.send_all(outgoing, &pending);
        // What was not sent is lost.
        outgoing.failed |= sent.is_err();
        pending.clear();
        outgoing.buffer = pending;
        sent
    }

    fn send_all(&self, outgoing: &mut Outgoing, bytes: &[u8]) -> io::Result<()> {
        outgoing.check()?;
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.send(rest) {
                Ok(sent) => rest = &rest[sent..],
                Err(error) => {
                    outgoing.failed = rest.len() < bytes.len();
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = match self.connection.received_before {
            Some(_) => bytes,
            // What the peer takes of a longer piece may not be seen before its end.
            None => &bytes[..bytes.len().min(PIECE)],
        };
        let sent = self.wait_for_peer(Waiting::ToSend, |socket, may_wait| send(socket, bytes, may_wait))?;
        self.connection.record.count_out(sent);
        Ok(sent)
    }

    /// Receives, after sending what was held back: a peer that waits for its answer would send nothing.
    fn receive(&self, mut call: impl FnMut(&Socket) -> io::Result<usize>) -> io::Result<usize> {
        let Connection { record, between_requests, held_back, .. } = &*self.connection;
        if held_back.load(Relaxed) {
            self.flush_outgoing()?;
        }
        // A server that stops ends the connections that wait between two requests. One that has just taken the
        // beginning of a request is none of them any more: the server can see that, or nothing is taken before the wait
        // is over.
        let waiting = match between_requests.load(Relaxed) {
            true if self.connection.received_before.is_some() => Waiting::BetweenRequests,
            true if self.wait_for_peer(Waiting::BetweenRequests, |socket, _| peek(socket))? == 0 => return Ok(0),
            _ => Waiting::InRequest,
        };
        let received = self.wait_for_peer(waiting, |socket, _| call(socket))?;
        // After the wait, or the server would take it for one that goes on.
        record.count_in(received);
        Ok(received)
    }

    /// The one place where a handler waits for its peer.
    fn wait_for_peer(
        &self,
        waiting: Waiting,
        call: impl FnMut(&Socket, MayWait) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let Connection { record, socket, .. } = &*self.connection;
        let closing = record.begin_wait(waiting);
        let is_over = closing == Some(Closing::Draining) && waiting == Waiting::BetweenRequests;
        let result = match is_over && !sys::is_readable(socket).unwrap_or(true) {
            true => Ok(0),
            false => patience::call(socket, waiting, call),
        };
        let shut = record.end_wait(waiting);
        match (result, shut) {
            (Ok(received), shut) if received > 0 || shut.is_none() => Ok(received),
            // Between requests the end is clean; in the middle of one the handler must not take it for the peer's.
            (_, Some(_)) if waiting == Waiting::BetweenRequests => Ok(0),
            (_, Some(closing)) => Err(closing.into_error()),
            (Err(error), None) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(io::Error::new(io::ErrorKind::TimedOut, waiting.timed_out()))
            }
            (result, None) => result,
        }
    }
}

/// recv(2) of what stays there to be received.
fn peek(socket: &Socket) -> io::Result<usize> {
    socket.peek(&mut [MaybeUninit::uninit()])
}

/// send(2) without SIGPIPE.
fn send(socket: &Socket, bytes: &[u8], may_wait: MayWait) -> io::Result<usize> {
    #[cfg(target_vendor = "apple")]
    const FLAGS: i32 = 0;
    #[cfg(not(target_vendor = "apple"))]
    const FLAGS: i32 = libc::MSG_NOSIGNAL;
    socket.send_with_flags(bytes, if may_wait == MayWait::No { FLAGS | libc::MSG_DONTWAIT } else { FLAGS })
}

fn positive(timeout: Option<Duration>) -> io::Result<Option<Duration>> {
    match timeout {
        Some(Duration::ZERO) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a timeout of zero could never be met; `None` waits for ever",
        )),
        // Less than the system counts in would be none at all.
        timeout => Ok(timeout.map(|timeout| timeout.max(Duration::from_micros(1)))),
    }
}

impl Tracked for Connection {
    fn record(&self) -> &Record {
        &self.record
    }

    fn shut(&self, how: Shutdown) {
        // It fails when the connection is gone already, which is what is wanted.
        let _ = self.socket.shutdown(how);
    }

    fn has_input(&self) -> bool {
        let is_taken = |before| {
            let bytes = sys::tcp_bytes(&self.socket);
            bytes.is_some_and(|bytes| bytes.received > before + self.record.bytes_in())
        };
        sys::is_readable(&self.socket).unwrap_or(true) || self.received_before.is_some_and(is_taken)
    }

    fn taken(&self) -> u64 {
        match self.received_before.and_then(|_| sys::tcp_bytes(&self.socket)) {
            Some(bytes) => bytes.acknowledged,
            None => sys::bytes_unsent(&self.socket),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        buffers::put(&OUTGOING, std::mem::take(&mut self.outgoing.get_mut().buffer));
        buffers::put(&INCOMING, self.incoming.get_mut().take().unwrap_or_default().buffer);
    }
}

impl Incoming {
    pub(crate) fn unread(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    pub(crate) fn consume(&mut self, amount: usize) {
        self.start = (self.start + amount).min(self.buffer.len());
    }

    /// Once everything is consumed.
    pub(crate) fn put_back(&mut self, bytes: &[u8]) {
        self.buffer.clear();
        self.buffer.extend_from_slice(bytes);
        self.start = 0;
    }

    /// Receives anew, once everything is consumed.
    pub(crate) fn fill(&mut self, stream: &Stream, size: usize) -> io::Result<()> {
        if self.buffer.capacity() == 0 {
            self.buffer = buffers::take(&INCOMING);
            if self.buffer.capacity() != size {
                self.buffer = Vec::with_capacity(size);
            }
        }
        // The end of file can come without a system call.
        self.buffer.clear();
        self.start = 0;
        stream.receive(|socket| sys::receive(socket, &mut self.buffer))?;
        Ok(())
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
        let received = self.receive(|mut socket| socket.read(buffer))?;
        if received > 0 {
            self.note_request();
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
        self.note_reply();
        let mut outgoing = self.connection.outgoing.lock();
        outgoing.check()?;
        self.send_pending(&mut outgoing)?;
        self.send(bytes)
    }

    /// Under one lock: nothing that another thread writes comes between.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.note_reply();
        let mut outgoing = self.connection.outgoing.lock();
        self.send_pending(&mut outgoing)?;
        self.send_all(&mut outgoing, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flush_outgoing()
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.socket.as_fd()
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        self.connection.socket.as_raw_fd()
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("id", &self.id()).field("peer_address", self.peer_address()).finish()
    }
}

//! How the reads and writes of a connection have failed: what its handler's errors are judged by.

use std::{error::Error, fmt, io};

use crate::primitives::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};

/// How the reads and writes of a connection or a packet have failed.
#[derive(Default)]
pub(crate) struct Failures {
    /// The failures since the last read or write that succeeded: a bit for each of `KINDS`, [`BY_SERVER`] and
    /// [`UNREACHABLE`].
    recent: AtomicU8,
    /// The client has ended its side, or has reset the connection.
    has_client_ended: AtomicBool,
}

/// The server has ended the connection.
const BY_SERVER: u8 = 1 << 6;
/// A reply failed because of the client's address. The kind of that error is not enough to tell.
const UNREACHABLE: u8 = 1 << 7;

impl Failures {
    /// Kinds that errors from other sources share. An error of such a kind counts as the client's only if its
    /// connection had one of that kind. An end of file is none of them: each read finds it again, whatever else fails.
    const KINDS: [io::ErrorKind; 5] = [
        io::ErrorKind::BrokenPipe,
        io::ErrorKind::ConnectionAborted,
        io::ErrorKind::ConnectionReset,
        io::ErrorKind::NotConnected,
        io::ErrorKind::TimedOut,
    ];

    fn bit(kind: io::ErrorKind) -> u8 {
        Failures::KINDS.iter().position(|known| *known == kind).map_or(0, |position| 1 << position)
    }

    pub(crate) fn note(&self, kind: io::ErrorKind) {
        self.add(Failures::bit(kind));
        if kind == io::ErrorKind::ConnectionReset {
            self.has_client_ended.store(true, Relaxed);
        }
    }

    pub(crate) fn note_end_by_server(&self) {
        self.add(BY_SERVER);
    }

    /// Notes that a reply failed because of the client's address.
    pub(crate) fn note_unreachable(&self) {
        self.add(UNREACHABLE);
    }

    /// Notes the client's end of file, which a reset connection has as well.
    pub(crate) fn note_end_of_file(&self) {
        if !self.has_client_ended.load(Relaxed) {
            self.forget();
            self.has_client_ended.store(true, Relaxed);
        }
    }

    /// A read or a write has succeeded: earlier failures are over. A reset is final, and another thread may have seen it
    /// while this one was sending.
    #[inline]
    pub(crate) fn note_success(&self) {
        let recent = self.recent.load(Relaxed);
        if recent != 0 && recent & Failures::bit(io::ErrorKind::ConnectionReset) == 0 {
            self.forget();
        }
    }

    pub(crate) fn forget(&self) {
        self.recent.store(0, Relaxed);
    }

    fn add(&self, bit: u8) {
        self.recent.fetch_or(bit, Relaxed);
    }

    pub(crate) fn has_client_ended(&self) -> bool {
        self.has_client_ended.load(Relaxed)
    }

    pub(crate) fn contain(&self, kind: io::ErrorKind) -> bool {
        self.recent.load(Relaxed) & Failures::bit(kind) != 0
    }

    pub(crate) fn contain_end_by_server(&self) -> bool {
        self.recent.load(Relaxed) & BY_SERVER != 0
    }

    pub(crate) fn contain_unreachable(&self) -> bool {
        self.recent.load(Relaxed) & UNREACHABLE != 0
    }

    pub(crate) fn are_empty(&self) -> bool {
        self.recent.load(Relaxed) == 0
    }

    /// Whether connections fail with this kind of error.
    pub(crate) fn can_have(kind: io::ErrorKind) -> bool {
        kind == io::ErrorKind::UnexpectedEof || Failures::bit(kind) != 0
    }
}

/// A failure that no system call reports, inside an [`io::Error`]. It names its connection, so that it is known wherever the
/// handler returns it.
#[derive(Debug)]
pub(crate) struct ClientFailure {
    /// The number of the connection.
    pub(super) connection: u64,
    pub(super) kind: io::ErrorKind,
    pub(super) message: &'static str,
}

impl ClientFailure {
    /// The kind of the failure, if it is one of this connection.
    pub(crate) fn kind_on(&self, connection: u64) -> Option<io::ErrorKind> {
        (self.connection == connection).then_some(self.kind)
    }
}

impl fmt::Display for ClientFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message)
    }
}

impl Error for ClientFailure {}

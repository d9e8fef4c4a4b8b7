//! Which errors the client of a connection has caused.

use std::io;

use crate::primitives::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};

/// The kinds of errors that a connection has had.
#[derive(Default)]
pub(crate) struct Failures {
    kinds: AtomicU8,
    /// A reply failed because of the client's address. The kind of that error is not enough to tell.
    unreachable: AtomicBool,
}

impl Failures {
    /// Kinds that errors from other sources share. An error of such a kind counts as the client's only if its
    /// connection had one of that kind.
    const KINDS: [io::ErrorKind; 6] = [
        io::ErrorKind::BrokenPipe,
        io::ErrorKind::ConnectionAborted,
        io::ErrorKind::ConnectionReset,
        io::ErrorKind::NotConnected,
        io::ErrorKind::UnexpectedEof,
        io::ErrorKind::TimedOut,
    ];

    pub(crate) fn note(&self, kind: io::ErrorKind) {
        if let Some(bit) = Failures::KINDS.iter().position(|known| *known == kind) {
            self.kinds.fetch_or(1 << bit, Relaxed);
        }
    }

    /// Notes that a reply failed because of the client's address.
    pub(crate) fn note_unreachable(&self) {
        self.unreachable.store(true, Relaxed);
    }

    pub(crate) fn contain_unreachable(&self) -> bool {
        self.unreachable.load(Relaxed)
    }

    pub(crate) fn contain(&self, kind: io::ErrorKind) -> bool {
        let bit = Failures::KINDS.iter().position(|known| *known == kind);
        bit.is_some_and(|bit| self.kinds.load(Relaxed) & 1 << bit != 0)
    }
}

//! Which errors are about a client.

use std::io;

use crate::primitives::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};

/// The kinds of errors that a connection has had.
#[derive(Default)]
pub(crate) struct Failures {
    kinds: AtomicU8,
    /// The client cannot be answered, whatever the error says.
    unreachable: AtomicBool,
}

impl Failures {
    /// Kinds that other errors of a handler can have as well: whether one is the client's, its connection tells.
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

    /// The sender of a packet has an address that no reply can be sent to.
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

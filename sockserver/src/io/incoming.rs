//! What was received and not consumed.

use super::buffers::{self, INCOMING};

/// Received bytes: those from `start` on are not consumed yet.
#[derive(Default)]
pub(crate) struct Incoming {
    pub(super) buffer: Vec<u8>,
    start: usize,
}

impl Incoming {
    pub(crate) fn unread(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    pub(crate) fn consume(&mut self, amount: usize) {
        self.start = self.start.saturating_add(amount).min(self.buffer.len());
    }

    /// Once everything is consumed.
    pub(crate) fn put_back(&mut self, bytes: &[u8]) {
        self.buffer.clear();
        self.buffer.extend_from_slice(bytes);
        self.start = 0;
    }

    /// Room to receive into, once everything is consumed.
    pub(crate) fn room(&mut self, size: usize) -> &mut Vec<u8> {
        if self.buffer.capacity() == 0 {
            self.buffer = buffers::take(&INCOMING);
            if self.buffer.capacity() != size {
                self.buffer = Vec::with_capacity(size);
            }
        }
        // The end of file can come without a system call.
        self.buffer.clear();
        self.start = 0;
        &mut self.buffer
    }
}

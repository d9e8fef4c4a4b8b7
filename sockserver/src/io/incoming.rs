//! Bytes that were received and not consumed.

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

    /// Makes these bytes unread again. All bytes must be consumed.
    pub(crate) fn put_back(&mut self, bytes: &[u8]) {
        self.buffer.clear();
        self.buffer.extend_from_slice(bytes);
        self.start = 0;
    }

    /// An empty buffer to receive into. All bytes must be consumed.
    pub(crate) fn room(&mut self, size: usize) -> &mut Vec<u8> {
        if self.buffer.capacity() == 0 {
            self.buffer = buffers::take(&INCOMING);
            if self.buffer.capacity() != size {
                self.buffer = Vec::with_capacity(size);
            }
        }
        // A receive can fail or find the end of file without touching the buffer: it must not show old bytes.
        self.buffer.clear();
        self.start = 0;
        &mut self.buffer
    }
}

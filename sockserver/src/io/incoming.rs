//! Bytes that were received and not consumed.

use std::ops::Range;

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

    /// All bytes, and where the first that is not consumed is, for a decoder to move.
    pub(crate) fn parts(&mut self) -> (&[u8], &mut usize) {
        (&self.buffer, &mut self.start)
    }

    /// Bytes that were consumed since the last receive.
    pub(crate) fn consumed(&self, range: Range<usize>) -> &[u8] {
        &self.buffer[range]
    }

    /// The handler waits, maybe for long: keeps no more memory than the bytes that are not consumed.
    pub(crate) fn shrink(&mut self) {
        let unread = self.buffer.len() - self.start;
        if unread == 0 {
            self.start = 0;
            buffers::put(&INCOMING, std::mem::take(&mut self.buffer));
        } else if self.buffer.capacity() > 4 * unread {
            self.buffer = self.unread().to_vec();
            self.start = 0;
        }
    }

    /// A buffer with room to receive into, behind the bytes that are not consumed.
    pub(crate) fn room(&mut self, size: usize) -> &mut Vec<u8> {
        if self.buffer.capacity() == 0 {
            self.buffer = buffers::take(&INCOMING);
            if self.buffer.capacity() != size {
                self.buffer = Vec::with_capacity(size);
            }
        }
        // Also for a receive that fails or finds the end of file: it must not show consumed bytes again.
        self.buffer.drain(..self.start);
        self.start = 0;
        // A small rest in the buffer is no reason for a larger one.
        if self.buffer.capacity() - self.buffer.len() <= size / 4 {
            self.buffer.reserve(size);
        }
        &mut self.buffer
    }
}

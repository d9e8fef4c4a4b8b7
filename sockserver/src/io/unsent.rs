//! Bytes that wait to be sent.

use std::{mem, ops::Deref};

use super::buffers::{self, OUTGOING};

/// A queue of bytes: they are added at its end, and sent from its beginning.
///
/// Sending a piece moves the beginning. The rest is moved to the front of the memory only when it is no longer than what
/// was sent before it, so that each byte is moved once at most, however small the pieces are.
#[derive(Default)]
pub(super) struct Unsent {
    bytes: Vec<u8>,
    /// How many bytes at the front were sent.
    sent: usize,
}

impl Unsent {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        if self.has_no_memory() {
            // The buffer grows as needed: after short answers, an idle connection holds little memory.
            self.bytes = buffers::take(&OUTGOING);
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Takes so many bytes from the beginning: they were sent.
    pub(super) fn remove(&mut self, sent: usize) {
        self.sent += sent;
        if self.sent >= self.len() {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// The memory behind the bytes, to add to it.
    pub(super) fn end(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Removes so many bytes from the end, and the memory that they took.
    pub(super) fn remove_last(&mut self, count: usize) {
        self.bytes.truncate(self.bytes.len() - count.min(self.len()));
        // What was sent takes memory too.
        self.bytes.drain(..mem::take(&mut self.sent));
        self.bytes.shrink_to_fit();
    }

    /// Adds all bytes of another queue, which is empty then.
    pub(super) fn append(&mut self, later: &mut Unsent) {
        if !later.is_empty() {
            self.add(later);
        }
        later.clear();
    }

    pub(super) fn has_no_memory(&self) -> bool {
        self.bytes.capacity() == 0
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.sent = 0;
    }

    /// Keeps the memory for another connection of this thread.
    pub(super) fn put_back(&mut self) {
        self.sent = 0;
        buffers::put(&OUTGOING, mem::take(&mut self.bytes));
    }
}

/// The bytes that were not sent.
impl Deref for Unsent {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }
}

#[cfg(not(sockserver_model))]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_in_their_order() {
        let mut unsent = Unsent::default();
        unsent.add(b"one two");
        unsent.remove(2);
        unsent.add(b" three");
        assert_eq!(&*unsent, b"e two three");
        unsent.remove(9);
        let mut later = Unsent::default();
        later.add(b" four");
        unsent.append(&mut later);
        assert_eq!(&*unsent, b"ee four");
        assert!(later.is_empty());
        unsent.remove(7);
        assert!(unsent.is_empty());
    }

    #[test]
    fn a_long_answer_that_leaves_in_small_pieces_is_moved_once_at_most() {
        const LENGTH: usize = 1 << 20;
        let mut unsent = Unsent::default();
        unsent.add(&vec![0; LENGTH]);
        let mut moved = 0;
        while !unsent.is_empty() {
            unsent.remove(16);
            if unsent.sent == 0 {
                moved += unsent.len();
            }
        }
        assert!(moved <= LENGTH, "{moved} bytes were moved");
    }
}

//! Byte buffers that are used again by the thread's next request.

use std::{cell::Cell, thread::LocalKey};

thread_local! {
    /// For what is received.
    pub(crate) static INCOMING: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    /// For what is to be sent.
    pub(crate) static OUTGOING: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The buffer of the thread's last request, empty; one without room where that is still in use.
pub(crate) fn take(spare: &'static LocalKey<Cell<Vec<u8>>>) -> Vec<u8> {
    spare.try_with(Cell::take).unwrap_or_default()
}

/// Keeps the buffer for the next [`take`].
pub(crate) fn put(spare: &'static LocalKey<Cell<Vec<u8>>>, mut buffer: Vec<u8>) {
    buffer.clear();
    // A thread that is ending has no place to keep it any more, and a request without a buffer has none to keep.
    if buffer.capacity() > 0 {
        let _ = spare.try_with(|spare| spare.set(buffer));
    }
}

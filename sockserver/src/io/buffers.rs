//! Byte buffers that the thread's next request reuses.

use std::{cell::Cell, thread::LocalKey};

thread_local! {
    /// For received bytes.
    pub(crate) static INCOMING: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    /// For bytes to send.
    pub(crate) static OUTGOING: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    /// For records that are received, and are decrypted in place.
    #[cfg(feature = "tls")]
    pub(crate) static RECEIVED_RECORDS: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    /// For records that are encrypted to be sent.
    #[cfg(feature = "tls")]
    pub(crate) static SENT_RECORDS: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Takes the empty buffer of the thread's last request. If that is in use, returns one without capacity.
pub(crate) fn take(spare: &'static LocalKey<Cell<Vec<u8>>>) -> Vec<u8> {
    spare.try_with(Cell::take).unwrap_or_default()
}

/// Keeps the buffer for the next [`take`].
pub(crate) fn put(spare: &'static LocalKey<Cell<Vec<u8>>>, mut buffer: Vec<u8>) {
    buffer.clear();
    // An exiting thread may have destroyed its thread-local storage. A buffer without capacity is not worth keeping.
    if buffer.capacity() > 0 {
        let _ = spare.try_with(|spare| spare.set(buffer));
    }
}

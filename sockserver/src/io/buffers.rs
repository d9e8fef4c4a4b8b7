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

/// A larger buffer is not kept: one long answer would be memory of its thread for ever.
const MAX_KEPT: usize = 256 << 10;

/// Takes the empty buffer of the thread's last request. If that is in use, returns one without capacity.
pub(crate) fn take(spare: &'static LocalKey<Cell<Vec<u8>>>) -> Vec<u8> {
    spare.try_with(Cell::take).unwrap_or_default()
}

/// Keeps the buffer for the next [`take`].
pub(crate) fn put(spare: &'static LocalKey<Cell<Vec<u8>>>, mut buffer: Vec<u8>) {
    buffer.clear();
    // An exiting thread may have destroyed its thread-local storage. A buffer without capacity is not worth keeping.
    if (1..=MAX_KEPT).contains(&buffer.capacity()) {
        let _ = spare.try_with(|spare| spare.set(buffer));
    }
}

#[cfg(not(sockserver_model))]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_kept_unless_it_is_large() {
        put(&OUTGOING, Vec::with_capacity(MAX_KEPT));
        assert_eq!(take(&OUTGOING).capacity(), MAX_KEPT);
        put(&OUTGOING, Vec::with_capacity(MAX_KEPT + 1));
        assert_eq!(take(&OUTGOING).capacity(), 0);
    }
}

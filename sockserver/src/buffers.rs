//! Byte buffers that are used again by the thread's next request.

use std::cell::RefCell;

/// What a thread keeps: the two buffers of a request that runs and of one that it may nest.
const KEPT: usize = 4;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer of `size` bytes, with whatever an earlier request left in it.
pub(crate) fn take(size: usize) -> Vec<u8> {
    let spare = SPARE.try_with(|spare| {
        let mut spare = spare.borrow_mut();
        let fitting = spare.iter().position(|buffer| buffer.capacity() == size)?;
        Some(spare.swap_remove(fitting))
    });
    let mut buffer = spare.ok().flatten().unwrap_or_default();
    match buffer.capacity() {
        // Zeroed by the allocator, which leaves the pages of a fresh buffer untouched.
        0 => buffer = vec![0; size],
        _ => buffer.resize(size, 0),
    }
    buffer
}

/// Keeps the buffer for the next [`take`].
pub(crate) fn put(buffer: Vec<u8>) {
    if buffer.capacity() == 0 {
        return;
    }
    // A thread that is ending has no place to keep it any more.
    let _ = SPARE.try_with(|spare| {
        let mut spare = spare.borrow_mut();
        if spare.len() == KEPT {
            spare.remove(0);
        }
        spare.push(buffer);
    });
}

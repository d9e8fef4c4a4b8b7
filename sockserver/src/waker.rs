//! Wakes the thread that waits for requests.

use std::{
    io::{self, PipeReader, PipeWriter, Read, Write},
    os::fd::{AsFd, BorrowedFd},
    sync::atomic::{AtomicBool, Ordering::SeqCst},
};

/// A pipe that ends a `poll(2)`.
///
/// No wake-up is lost: whoever wakes changes the condition first and then the flag, and whoever was woken empties the
/// pipe, clears the flag, and only then looks at the condition. A wake-up that finds the flag set is one whose condition
/// will still be looked at.
pub(crate) struct Waker {
    reader: PipeReader,
    writer: PipeWriter,
    /// A byte is in the pipe, or about to be: never more than one, so that writing it never blocks.
    woken: AtomicBool,
}

impl Waker {
    pub(crate) fn new() -> io::Result<Waker> {
        let (reader, writer) = io::pipe()?;
        Ok(Waker { reader, writer, woken: AtomicBool::new(false) })
    }

    /// Ends the wait that is under way, or the next one.
    pub(crate) fn wake(&self) {
        if !self.woken.swap(true, SeqCst) {
            // It fails only when the reading end is closed, and both ends live as long as `self`.
            let _ = (&self.writer).write(&[0]);
        }
    }

    /// Makes room for the next wake-up. Only after `poll(2)` has found the pipe readable, by the one thread that waits.
    pub(crate) fn clear(&self) {
        let _ = (&self.reader).read(&mut [0]);
        self.woken.store(false, SeqCst);
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

//! Wakes the thread that waits for requests.

use std::{
    io::{self, PipeReader, PipeWriter, Read, Write},
    os::fd::{AsFd, BorrowedFd},
};

use crate::primitives::atomic::{AtomicBool, Ordering::SeqCst};

/// A pipe that ends a `poll(2)`. A forked child and a signal handler have its writing end too, by which they can ask
/// the server to stop.
///
/// No wake-up is lost: whoever wakes changes the condition first and then the flag, and whoever was woken empties the
/// pipe, clears the flag, and only then looks at the condition. A wake-up that finds the flag set is one whose
/// condition will still be looked at.
pub(crate) struct Waker {
    reader: PipeReader,
    writer: PipeWriter,
    /// A `LOOK` is in the pipe, or about to be: never more than one, so that writing it never blocks.
    woken: AtomicBool,
}

/// There is something to look at.
const LOOK: u8 = 0;
/// The server is to stop: from outside of its memory. It is the byte that signal-hook writes.
const STOP: u8 = b'X';

impl Waker {
    pub(crate) fn new() -> io::Result<Waker> {
        let (reader, writer) = io::pipe()?;
        Ok(Waker { reader, writer, woken: AtomicBool::new(false) })
    }

    /// Ends the wait that is under way, or the next one.
    pub(crate) fn wake(&self) {
        if !self.woken.swap(true, SeqCst) {
            // It fails only when the reading end is closed, and both ends live as long as `self`.
            let _ = (&self.writer).write(&[LOOK]);
        }
    }

    /// Another descriptor of the writing end, for a signal handler to write [`STOP`] to.
    #[cfg(feature = "signals")]
    pub(crate) fn writer(&self) -> io::Result<PipeWriter> {
        self.writer.try_clone()
    }

    /// Asks for a stop from another process.
    pub(crate) fn ask_to_stop(&self) {
        let _ = (&self.writer).write(&[STOP]);
    }

    /// Makes room for the next wake-up. Only after `poll(2)` has found the pipe readable, by the one thread that waits.
    /// `true`: the server is to stop.
    pub(crate) fn clear(&self) -> bool {
        let mut bytes = [LOOK; 16];
        let _ = (&self.reader).read(&mut bytes);
        self.woken.store(false, SeqCst);
        bytes.contains(&STOP)
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

//! Wakes a thread that waits in poll(2): the leader, or a handler with a mailbox.

use std::{
    io::{self, PipeReader, PipeWriter, Read, Write},
    os::fd::{AsFd, BorrowedFd},
};

use crate::primitives::atomic::{AtomicBool, Ordering::SeqCst};

/// A pipe that ends a poll(2). Forked children and signal handlers have its writing end too, and can ask the server to
/// stop.
///
/// No wake-up is lost. The waking thread changes the condition and then sets the flag. The leader empties the pipe,
/// clears the flag, and only then checks the condition. So when the waking thread finds the flag set already, the
/// leader has not checked the condition yet.
pub(crate) struct Waker {
    reader: PipeReader,
    writer: PipeWriter,
    /// A [`CHECK`] is in the pipe or about to be written. There is never more than one, so that the write does not
    /// block.
    woken: AtomicBool,
}

/// The leader should check its conditions.
const CHECK: u8 = 0;
/// A signal handler or another process asks the server to stop. signal-hook writes this byte.
const STOP: u8 = b'X';

impl Waker {
    pub(crate) fn new() -> io::Result<Waker> {
        let (reader, writer) = io::pipe()?;
        Ok(Waker { reader, writer, woken: AtomicBool::new(false) })
    }

    /// Ends the current wait, or else the next one.
    pub(crate) fn wake(&self) {
        if !self.woken.swap(true, SeqCst) {
            // This fails only when the reading end is closed, and both ends live as long as `self`.
            let _ = (&self.writer).write(&[CHECK]);
        }
    }

    /// A duplicate of the writing end, for a signal handler that writes [`STOP`].
    #[cfg(feature = "signals")]
    pub(crate) fn writer(&self) -> io::Result<PipeWriter> {
        self.writer.try_clone()
    }

    /// Asks the server to stop, from another process.
    pub(crate) fn ask_to_stop(&self) {
        let _ = (&self.writer).write(&[STOP]);
    }

    /// Empties the pipe for the next wake-up. Only the waiting thread calls it, and only when poll(2) has found the pipe
    /// readable: the read would block otherwise.
    pub(crate) fn clear(&self) {
        self.take_stop_request();
    }

    /// Empties the pipe for the next wake-up, and returns whether it contained a request to stop. Called like `clear`.
    pub(crate) fn take_stop_request(&self) -> bool {
        let mut bytes = [CHECK; 16];
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

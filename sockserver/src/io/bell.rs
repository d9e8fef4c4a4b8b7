//! Wakes all threads that wait for a client of one server.

use std::{
    io::{self, PipeReader, PipeWriter, Write},
    os::fd::{AsFd, BorrowedFd},
};

use crate::{
    primitives::atomic::{AtomicBool, Ordering::SeqCst},
    sys,
};

/// A pipe that becomes readable when the server begins to drain, and stays so: one write wakes every thread that waits
/// for a client of the server, also those of forked children, which have the pipe from their parent.
pub(crate) struct Bell {
    reader: PipeReader,
    writer: PipeWriter,
    rung: AtomicBool,
}

impl Bell {
    pub(crate) fn new() -> io::Result<Bell> {
        let (reader, writer) = io::pipe()?;
        Ok(Bell { reader, writer, rung: AtomicBool::new(false) })
    }

    pub(crate) fn ring(&self) {
        if !self.rung.swap(true, SeqCst) {
            // The pipe takes its only byte at once, and both ends live as long as `self`.
            let _ = (&self.writer).write(&[0]);
        }
    }

    /// Also for a child process, whose own flag its parent does not reach.
    pub(crate) fn has_rung(&self) -> bool {
        self.rung.load(SeqCst) || sys::is_readable(&self.reader).unwrap_or(false)
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

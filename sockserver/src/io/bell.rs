//! Wakes all threads that wait for the clients of one server.

use std::{
    io::{self, PipeReader, PipeWriter, Write},
    os::fd::{AsFd, BorrowedFd},
};

use crate::{
    primitives::atomic::{AtomicBool, Ordering::SeqCst},
    sys,
};

/// A pipe that becomes readable when the server begins to drain, and stays readable. One write wakes every thread that
/// waits for a client of the server. Forked children inherit the pipe, and so their threads wake too.
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
            // This cannot block or fail: the pipe is empty, and both ends live as long as `self`.
            let _ = (&self.writer).write(&[0]);
        }
    }

    /// In a forked child the pipe tells: its parent cannot set the child's flag.
    pub(crate) fn has_rung(&self) -> bool {
        self.rung.load(SeqCst) || sys::is_readable(&self.reader).unwrap_or(false)
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

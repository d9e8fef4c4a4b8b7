//! The settings of a request's `Reader` and `Writer`.

use crate::framing::DEFAULT_MAX_FRAME;

/// The class variables of Python's `StreamRequestHandler`, and how long lines and frames may be.
#[derive(Clone, Copy)]
pub(crate) struct Files {
    pub(crate) rbufsize: usize,
    pub(crate) wbufsize: usize,
    pub(crate) max_line: usize,
    pub(crate) max_frame: usize,
    /// How much mail a mailbox holds.
    pub(crate) mailbox: usize,
}

impl Default for Files {
    fn default() -> Files {
        Files {
            rbufsize: 8 * 1024,
            wbufsize: 8 * 1024,
            max_line: 64 * 1024,
            max_frame: DEFAULT_MAX_FRAME,
            mailbox: 128,
        }
    }
}

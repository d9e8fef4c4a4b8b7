//! What can be wrong with a frame.

use std::{error::Error, fmt, io};

/// Why there is no message.
///
/// [`io::Error`] is made from it and has it inside:
///
/// ```
/// use sockserver::framing::FrameError;
/// use std::io;
///
/// fn frame_error(error: &io::Error) -> Option<&FrameError> {
///     error.get_ref()?.downcast_ref()
/// }
///
/// let error = io::Error::from(FrameError::TooLong { length: 2000, limit: 1024 });
/// assert!(matches!(frame_error(&error), Some(FrameError::TooLong { limit: 1024, .. })));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum FrameError {
    /// The frame is longer than `max_frame`. It is thrown away as it comes, and the next one can be read.
    TooLong {
        /// How many bytes the frame has, if a header says so or all of it has come. Else how many are known of.
        length: usize,
        /// `max_frame`.
        limit: usize,
    },
    /// The frame is no message of the type that is wanted, for example a line that is not UTF-8. The frame is consumed,
    /// and the next one can be read.
    Malformed(Box<dyn Error + Send + Sync>),
    /// The bytes do not follow the framing, for example a netstring without a length. Where the next frame starts
    /// is unknown: nothing more can be read.
    Broken(Box<dyn Error + Send + Sync>),
    /// The stream has ended inside a frame.
    Truncated {
        /// How many bytes of the frame have come.
        received: usize,
    },
    /// The message cannot be sent in this framing, for example a text with a line feed as one line. Nothing of it is
    /// sent.
    Unsendable(Box<dyn Error + Send + Sync>),
}

impl FrameError {
    /// Whether the next frame can be read.
    pub fn is_recoverable(&self) -> bool {
        matches!(self, FrameError::TooLong { .. } | FrameError::Malformed(_))
    }

    fn kind(&self) -> io::ErrorKind {
        match self {
            FrameError::TooLong { .. } | FrameError::Malformed(_) | FrameError::Broken(_) => io::ErrorKind::InvalidData,
            FrameError::Truncated { .. } => io::ErrorKind::UnexpectedEof,
            FrameError::Unsendable(_) => io::ErrorKind::InvalidInput,
        }
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::TooLong { length, limit } => {
                write!(f, "a frame of {length} bytes or more is longer than max_frame ({limit} bytes)")
            }
            FrameError::Malformed(error) => write!(f, "malformed message: {error}"),
            FrameError::Broken(error) => write!(f, "the bytes do not follow the framing: {error}"),
            FrameError::Truncated { received } => {
                write!(f, "the stream has ended inside a frame, after {received} bytes of it")
            }
            FrameError::Unsendable(error) => write!(f, "the message cannot be sent in this framing: {error}"),
        }
    }
}

impl Error for FrameError {
    /// What is behind the inner error, whose own text is part of this one's.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            FrameError::Malformed(error) | FrameError::Broken(error) | FrameError::Unsendable(error) => error.source(),
            FrameError::TooLong { .. } | FrameError::Truncated { .. } => None,
        }
    }
}

impl From<FrameError> for io::Error {
    fn from(error: FrameError) -> io::Error {
        io::Error::new(error.kind(), error)
    }
}

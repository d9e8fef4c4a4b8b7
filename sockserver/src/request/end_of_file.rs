//! The client's end of file, where a handler needs more.

use std::{
    error::Error,
    fmt,
    io::{self, Read},
};

/// The client has ended the connection, and the handler needs more: inside the [`io::Error`] of
/// [`read_exact`](Read::read_exact), whose kind is [`UnexpectedEof`](io::ErrorKind::UnexpectedEof).
///
/// A handler can return it too. Then the client has [hung up](crate::HandlerError::is_disconnect), which is counted and not
/// printed:
///
/// ```
/// use sockserver::{EndOfFile, Reader};
/// use std::io;
///
/// /// A name, and the password in the line after it.
/// fn credentials(rfile: &mut Reader) -> io::Result<(String, String)> {
///     let name = rfile.next_line()?.ok_or(EndOfFile)?;
///     let password = rfile.next_line()?.ok_or(EndOfFile)?;
///     Ok((name, password))
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndOfFile;

impl fmt::Display for EndOfFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the client ended the connection before it had sent everything")
    }
}

impl Error for EndOfFile {}

impl From<EndOfFile> for io::Error {
    fn from(end: EndOfFile) -> io::Error {
        io::Error::new(io::ErrorKind::UnexpectedEof, end)
    }
}

/// As in std, except that an end of file is known for the client's.
pub(super) fn read_exact(mut source: impl Read, mut buffer: &mut [u8]) -> io::Result<()> {
    while !buffer.is_empty() {
        match source.read(buffer) {
            Ok(0) => return Err(EndOfFile.into()),
            Ok(read) => buffer = &mut buffer[read..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

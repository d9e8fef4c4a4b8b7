//! What was written to a client and not sent: bytes, and parts of files between them.

use std::{collections::VecDeque, fs::File, io, mem, ops::Range};

use super::unsent::Unsent;
use crate::sys;

/// How much of a file is read and sent at once.
pub(super) const PIECE: usize = 64 << 10;

#[derive(Default)]
pub(super) struct Backlog {
    /// Not empty.
    #[expect(clippy::box_collection, reason = "most connections never have any, and each has the room for it")]
    files: Option<Box<VecDeque<FilePart>>>,
    /// Behind all files.
    pub(super) bytes: Unsent,
}

/// A part of a file, and bytes before it.
pub(super) struct FilePart {
    /// What was written before, then what was read last.
    pub(super) bytes: Unsent,
    /// How many of the bytes are the file's.
    read: usize,
    file: File,
    /// What was not read.
    rest: Range<u64>,
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_none() && self.bytes.is_empty()
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        let bytes = self.bytes.len();
        // A server without files asks after each write.
        match &self.files {
            None => bytes,
            Some(files) => files.iter().fold(bytes, |all, part| all.saturating_add(part.len())),
        }
    }

    pub(super) fn clear(&mut self) {
        self.files = None;
        self.bytes.clear();
    }

    pub(super) fn push_file(&mut self, file: File, part: Range<u64>) {
        let bytes = mem::take(&mut self.bytes);
        self.files.get_or_insert_default().push_back(FilePart { bytes, read: 0, file, rest: part });
    }

    pub(super) fn has_files(&self) -> bool {
        self.files.is_some()
    }

    pub(super) fn first_file(&mut self) -> Option<&mut FilePart> {
        self.files.as_mut()?.front_mut()
    }

    pub(super) fn remove_first_file(&mut self) {
        if let Some(files) = &mut self.files {
            files.pop_front();
        }
        self.files.take_if(|files| files.is_empty());
    }

    /// Adds what was written later.
    pub(super) fn append(&mut self, later: &mut Backlog) {
        if let Some(first) = later.first_file() {
            self.bytes.append(&mut first.bytes);
            mem::swap(&mut self.bytes, &mut first.bytes);
        }
        if let Some(mut files) = later.files.take() {
            self.files.get_or_insert_default().append(&mut files);
        }
        self.bytes.append(&mut later.bytes);
    }
}

impl FilePart {
    fn len(&self) -> usize {
        usize::try_from(self.rest.end - self.rest.start).unwrap_or(usize::MAX).saturating_add(self.bytes.len())
    }

    pub(super) fn is_sent(&self) -> bool {
        self.bytes.is_empty() && self.rest.is_empty()
    }

    /// Reads the next piece behind the bytes.
    pub(super) fn read_on(&mut self) -> io::Result<()> {
        let piece = read(&self.file, &self.rest, PIECE.saturating_sub(self.bytes.len()), self.bytes.end())?;
        self.read = piece;
        self.rest.start += piece as u64;
        Ok(())
    }

    /// Forgets what was read and not sent: a client that takes little holds no memory meanwhile.
    pub(super) fn unread(&mut self) {
        let unread = self.read.min(self.bytes.len());
        self.bytes.remove_last(unread);
        self.read = 0;
        self.rest.start -= unread as u64;
    }
}

/// Appends `most` bytes of the part of the file, or all that it has, and returns how many.
pub(crate) fn read(file: &File, part: &Range<u64>, most: usize, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let length = usize::try_from(part.end.saturating_sub(part.start)).map_or(most, |length| length.min(most));
    buffer.reserve(length);
    let mut read = 0;
    while read < length {
        match sys::read_at(file, buffer, length - read, part.start + read as u64) {
            Ok(0) => {
                return Err(io::Error::other(format!(
                    "the file ends before byte {}, up to which it is sent",
                    part.end
                )));
            }
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

#[cfg(not(sockserver_model))]
#[cfg(test)]
mod tests {
    use super::*;

    /// This one. The tests run in the folder of the package.
    fn file() -> File {
        File::open("src/io/backlog.rs").expect("a file")
    }

    /// All of it, piece by piece.
    fn all_of(mut backlog: Backlog) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(part) = backlog.first_file() {
            while !part.is_sent() {
                part.read_on().expect("a file");
                all.extend_from_slice(&part.bytes);
                part.bytes.clear();
            }
            backlog.remove_first_file();
        }
        all.extend_from_slice(&backlog.bytes);
        all
    }

    #[test]
    fn what_was_written_later_comes_later() {
        let mut earlier = Backlog::default();
        earlier.bytes.add(b"one ");
        let mut later = Backlog::default();
        later.bytes.add(b"two ");
        later.push_file(file(), 0..3);
        later.bytes.add(b" three");
        earlier.append(&mut later);
        assert_eq!((earlier.len(), later.len()), (17, 0));
        assert_eq!(all_of(earlier), b"one two //! three");
    }

    #[test]
    fn what_was_not_sent_of_a_file_is_read_again() {
        let mut backlog = Backlog::default();
        backlog.bytes.add(b"before ");
        backlog.push_file(file(), 0..8);
        let part = backlog.first_file().expect("a part of it");
        part.read_on().expect("a file");
        assert_eq!(&*part.bytes, b"before //! What");
        part.bytes.remove(3);
        part.unread();
        assert_eq!(part.bytes.end().capacity(), 4);
        assert_eq!(&*part.bytes, b"ore ");
        part.read_on().expect("a file");
        part.bytes.remove(6);
        part.unread();
        assert_eq!((part.bytes.has_no_memory(), backlog.len()), (true, 6));
        assert_eq!(all_of(backlog), b"! What");
    }
}

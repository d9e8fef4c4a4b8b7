//! Memory.

/// memchr(3): where the first such byte is. std's own search is not public, and several times slower.
pub(crate) fn position(byte: u8, bytes: &[u8]) -> Option<usize> {
    // SAFETY: the pointer is valid for as many bytes as the length says, and memchr(3) only reads them.
    let found = unsafe { libc::memchr(bytes.as_ptr().cast(), byte.into(), bytes.len()) };
    (!found.is_null()).then(|| found.addr() - bytes.as_ptr().addr())
}

//! Files.

use std::{
    ffi::CString,
    fs::File,
    io,
    os::{fd::AsRawFd, unix::ffi::OsStrExt},
    path::Path,
};

/// fchmodat(2), without following a symbolic link: where other users can rename files, one may have replaced the file.
pub(crate) fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the path is a C string, which outlives the call.
    let result =
        unsafe { libc::fchmodat(libc::AT_FDCWD, path.as_ptr(), mode as libc::mode_t, libc::AT_SYMLINK_NOFOLLOW) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// flock(2), with an error of the kind `WouldBlock` while another process has the lock. `File::try_lock` takes Rust 1.89.
pub(crate) fn try_lock(file: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open.
    let result = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// pread(2) of at most `limit` bytes, appended to the buffer within its capacity. The capacity is not zeroed first.
pub(crate) fn read_at(file: &File, buffer: &mut Vec<u8>, limit: usize, offset: u64) -> io::Result<usize> {
    let offset = offset.try_into().map_err(|_| io::ErrorKind::InvalidInput)?;
    let before = buffer.len();
    let room = buffer.spare_capacity_mut();
    let length = room.len().min(limit);
    // SAFETY: the descriptor is open, and the room has space for so many bytes.
    let read = unsafe { libc::pread(file.as_raw_fd(), room.as_mut_ptr().cast(), length, offset) };
    let read = usize::try_from(read).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: pread(2) has written so many bytes to the room that it was given.
    unsafe { buffer.set_len(before + read) };
    Ok(read)
}

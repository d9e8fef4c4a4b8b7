//! Stream sockets.

use std::{
    ffi::CString,
    io,
    mem::{MaybeUninit, offset_of},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    time::Duration,
};

use socket2::Socket;

use super::poll::{Watched, poll};

/// How many bytes the path of a Unix socket can have, with the zero byte behind it.
pub(crate) const UNIX_PATH_SIZE: usize = size_of::<libc::sockaddr_un>() - offset_of!(libc::sockaddr_un, sun_path);

/// What the next receive would find.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    Nothing,
    Bytes,
    EndOfFile,
}

/// recv(2) of one byte, which stays in the queue. It also finds bytes behind an urgent byte, which [`bytes_unread`]
/// does not count.
pub(crate) fn peek(socket: &Socket) -> Input {
    match socket.recv_with_flags(&mut [MaybeUninit::uninit()], libc::MSG_PEEK | libc::MSG_DONTWAIT) {
        Ok(0) => Input::EndOfFile,
        Ok(_) => Input::Bytes,
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Input::Nothing,
        // The connection is gone.
        Err(_) => Input::EndOfFile,
    }
}

/// poll(2) without waiting: whether there is an unread urgent byte (tcp(7)).
pub(crate) fn has_urgent_byte(socket: &Socket) -> bool {
    let mut watched = Watched::new(socket.as_fd());
    watched.inner.events = libc::POLLPRI;
    let mut watched = [watched];
    poll(&mut watched, Some(Duration::ZERO)).is_ok() && watched[0].inner.revents & libc::POLLPRI != 0
}

/// recv(2) of at most `limit` bytes, behind those of the buffer and within its capacity. The capacity is not zeroed first, so
/// that only the pages that were received into take memory.
pub(crate) fn receive(socket: &Socket, buffer: &mut Vec<u8>, limit: usize, flags: i32) -> io::Result<usize> {
    let before = buffer.len();
    let room = buffer.spare_capacity_mut();
    let length = room.len().min(limit);
    let received = socket.recv_with_flags(&mut room[..length], flags)?;
    // SAFETY: recv(2) has written so many bytes to the room that it was given.
    unsafe { buffer.set_len(before + received) };
    Ok(received)
}

/// Whether the socket listens (`SO_ACCEPTCONN`: socket(7)).
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
pub(crate) fn is_listener(socket: &Socket) -> io::Result<Option<bool>> {
    socket.is_listener().map(Some)
}

/// These systems do not report it.
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
pub(crate) fn is_listener(_socket: &Socket) -> io::Result<Option<bool>> {
    Ok(None)
}

/// recv(2) into the first `limit` bytes of the buffer.
pub(crate) fn receive_into(socket: &Socket, buffer: &mut [u8], limit: usize, flags: i32) -> io::Result<usize> {
    let length = buffer.len().min(limit);
    // SAFETY: initialized bytes are valid as `MaybeUninit`, and recv(2) writes initialized bytes only.
    let room = unsafe { &mut *(&raw mut buffer[..length] as *mut [MaybeUninit<u8>]) };
    socket.recv_with_flags(room, flags)
}

/// send(2) of as many bytes as the kernel takes at once, without SIGPIPE.
pub(crate) fn send(socket: &Socket, bytes: &[u8]) -> io::Result<usize> {
    #[cfg(target_vendor = "apple")]
    const FLAGS: i32 = libc::MSG_DONTWAIT;
    #[cfg(not(target_vendor = "apple"))]
    const FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    socket.send_with_flags(bytes, FLAGS)
}

/// How many written bytes have not reached the peer: on TCP the bytes that it has not acknowledged, on a Unix socket
/// the bytes that it has not read (`SIOCOUTQ`: tcp(7), unix(7)).
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn bytes_undelivered(socket: &Socket) -> u64 {
    count(socket, libc::TIOCOUTQ as u32)
}

/// How many written bytes have not reached the peer.
#[cfg(any(target_os = "freebsd", target_os = "netbsd"))]
pub(crate) fn bytes_undelivered(socket: &Socket) -> u64 {
    count(socket, libc::FIONWRITE as u32)
}

/// These systems do not report it.
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_os = "netbsd")))]
pub(crate) fn bytes_undelivered(_socket: &Socket) -> u64 {
    0
}

/// How many written bytes of a TCP connection the kernel has not sent yet (`SIOCOUTQNSD`: linux/sockios.h).
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn bytes_unsent(socket: &Socket) -> u64 {
    count(socket, libc::SIOCOUTQNSD as u32)
}

/// These systems do not distinguish unsent bytes from bytes in flight.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn bytes_unsent(socket: &Socket) -> u64 {
    bytes_undelivered(socket)
}

/// How many bytes were received and not read, as tcp(7) and unix(7) say (`SIOCINQ`).
pub(crate) fn bytes_unread(socket: &Socket) -> u64 {
    count(socket, libc::FIONREAD as u32)
}

/// ioctl(2) with a request that counts bytes. Zero if the system does not support it.
fn count(socket: &Socket, request: u32) -> u64 {
    let mut bytes: libc::c_int = 0;
    // SAFETY: both requests write an `int`, and that is what the pointer points at.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), request as _, &raw mut bytes) };
    if result == 0 { bytes.try_into().unwrap_or(0) } else { 0 }
}

/// The user, the group and the process at the other end of a Unix socket.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn peer_credentials(socket: BorrowedFd<'_>) -> io::Result<(u32, u32, Option<i32>)> {
    let mut credentials = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: SO_PEERCRED (unix(7)) writes at most `length` bytes of a `ucred`, which is what the pointer points at.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut credentials).cast(),
            &raw mut length,
        )
    };
    match result {
        0 => Ok((credentials.uid, credentials.gid, Some(credentials.pid))),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The user and the group at the other end of a Unix socket. getpeereid(3) does not report the process.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn peer_credentials(socket: BorrowedFd<'_>) -> io::Result<(u32, u32, Option<i32>)> {
    let (mut uid, mut gid) = (0, 0);
    // SAFETY: the descriptor is open, and both pointers point at what getpeereid(3) writes.
    match unsafe { libc::getpeereid(socket.as_raw_fd(), &raw mut uid, &raw mut gid) } {
        0 => Ok((uid, gid, None)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// if_nametoindex(3): the number of a network interface.
pub(crate) fn interface_number(name: &str) -> io::Result<u32> {
    let name = CString::new(name)?;
    // SAFETY: the name is a C string, which outlives the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        number => Ok(number),
    }
}

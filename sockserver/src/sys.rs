//! Every `unsafe` block and every system call that neither `std` nor `socket2` wraps.

#![allow(unsafe_code)]

use std::{
    ffi::CString,
    io::{self, Write},
    mem::MaybeUninit,
    net::{IpAddr, Ipv6Addr},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::{ffi::OsStrExt, process::ExitStatusExt},
    },
    path::Path,
    process::ExitStatus,
    ptr::NonNull,
    time::Duration,
};

#[cfg(any(target_os = "linux", target_os = "android"))]
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use socket2::{SockAddr, Socket};

/// One descriptor that [`poll`] watches, for input unless told otherwise.
#[repr(transparent)]
pub(crate) struct Watched<'fd> {
    inner: libc::pollfd,
    /// The descriptor stays open for as long as it is watched.
    lifetime: std::marker::PhantomData<BorrowedFd<'fd>>,
}

impl<'fd> Watched<'fd> {
    pub(crate) fn new(fd: BorrowedFd<'fd>) -> Watched<'fd> {
        let inner = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        Watched { inner, lifetime: std::marker::PhantomData }
    }

    /// Watches for room to send instead.
    pub(crate) fn for_output(fd: BorrowedFd<'fd>) -> Watched<'fd> {
        let mut watched = Watched::new(fd);
        watched.inner.events = libc::POLLOUT;
        watched
    }

    /// There is input, an error or a hang-up: whatever ends the waiting.
    pub(crate) fn is_ready(&self) -> bool {
        self.inner.revents != 0
    }
}

/// poll(2): waits until one of the descriptors is ready. `false`: the time was over, or a signal came.
pub(crate) fn poll(watched: &mut [Watched<'_>], timeout: Option<Duration>) -> io::Result<bool> {
    // Rounded up: a wait that ends early would be a busy loop until its deadline.
    let timeout = timeout.map_or(-1, |timeout| timeout.as_nanos().div_ceil(1_000_000).try_into().unwrap_or(i32::MAX));
    #[cfg(sockserver_model)]
    let (waits, timeout) = (timeout == -1, 0);
    // SAFETY: `Watched` is a transparent `pollfd`, the slice is valid for its length and uniquely borrowed, and its
    // descriptors are open, as each `Watched` borrows its own.
    let ready = unsafe { libc::poll(watched.as_mut_ptr().cast(), watched.len() as libc::nfds_t, timeout) };
    match ready {
        // The threads of the model all run on this one, which must not wait.
        #[cfg(sockserver_model)]
        0 if waits => {
            shuttle::thread::yield_now();
            poll(watched, None)
        }
        -1 => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            error => Err(error),
        },
        ready => Ok(ready > 0),
    }
}

/// poll(2) without waiting: a read would return at once.
pub(crate) fn is_readable(fd: &impl AsFd) -> io::Result<bool> {
    poll(&mut [Watched::new(fd.as_fd())], Some(Duration::ZERO))
}

/// What a receive would find.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    Nothing,
    Bytes,
    EndOfFile,
}

/// recv(2) of one byte that stays there. It sees also what is behind an urgent byte, which [`bytes_unread`] does not.
pub(crate) fn peek(socket: &Socket) -> Input {
    match socket.recv_with_flags(&mut [MaybeUninit::uninit()], libc::MSG_PEEK | libc::MSG_DONTWAIT) {
        Ok(0) => Input::EndOfFile,
        Ok(_) => Input::Bytes,
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Input::Nothing,
        // The connection is gone.
        Err(_) => Input::EndOfFile,
    }
}

/// poll(2) without waiting: there is an urgent byte (tcp(7)) that was not read.
pub(crate) fn has_urgent_byte(socket: &Socket) -> bool {
    let mut watched = Watched::new(socket.as_fd());
    watched.inner.events = libc::POLLPRI;
    let mut watched = [watched];
    poll(&mut watched, Some(Duration::ZERO)).is_ok() && watched[0].inner.revents & libc::POLLPRI != 0
}

/// recv(2) into the room of the buffer, which is empty, of at most `limit` bytes. Memory that was never written to is
/// not written to first, so that only the pages that something was received in are held.
pub(crate) fn receive(socket: &Socket, buffer: &mut Vec<u8>, limit: usize, flags: i32) -> io::Result<usize> {
    debug_assert!(buffer.is_empty());
    let room = buffer.spare_capacity_mut();
    let length = room.len().min(limit);
    let received = socket.recv_with_flags(&mut room[..length], flags)?;
    // SAFETY: recv(2) has written so many bytes to the room that it was given.
    unsafe { buffer.set_len(received) };
    Ok(received)
}

/// recv(2) into the first `limit` bytes of the buffer.
pub(crate) fn receive_into(socket: &Socket, buffer: &mut [u8], limit: usize, flags: i32) -> io::Result<usize> {
    let length = buffer.len().min(limit);
    // SAFETY: bytes that are initialized are valid as ones that need not be, and recv(2) writes nothing else.
    let room = unsafe { &mut *(&raw mut buffer[..length] as *mut [MaybeUninit<u8>]) };
    socket.recv_with_flags(room, flags)
}

/// send(2) of what the kernel takes at once, without SIGPIPE.
pub(crate) fn send(socket: &Socket, bytes: &[u8]) -> io::Result<usize> {
    #[cfg(target_vendor = "apple")]
    const FLAGS: i32 = libc::MSG_DONTWAIT;
    #[cfg(not(target_vendor = "apple"))]
    const FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    socket.send_with_flags(bytes, FLAGS)
}

/// How many bytes were sent that the peer has not taken yet, as tcp(7) and unix(7) say (`SIOCOUTQ`).
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn bytes_unsent(socket: &Socket) -> u64 {
    count(socket, libc::TIOCOUTQ as u32)
}

/// How many bytes were sent that the peer has not taken yet.
#[cfg(any(target_os = "freebsd", target_os = "netbsd"))]
pub(crate) fn bytes_unsent(socket: &Socket) -> u64 {
    count(socket, libc::FIONWRITE as u32)
}

/// The system does not tell.
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_os = "netbsd")))]
pub(crate) fn bytes_unsent(_socket: &Socket) -> u64 {
    0
}

/// How many bytes were received and not read, as tcp(7) and unix(7) say (`SIOCINQ`).
pub(crate) fn bytes_unread(socket: &Socket) -> u64 {
    count(socket, libc::FIONREAD as u32)
}

/// ioctl(2) of a request that counts bytes. None, where the system cannot.
fn count(socket: &Socket, request: u32) -> u64 {
    let mut bytes: libc::c_int = 0;
    // SAFETY: both requests write an `int`, and that is what the pointer points at.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), request as _, &raw mut bytes) };
    if result == 0 { bytes.try_into().unwrap_or(0) } else { 0 }
}

/// Who is at the other end of a Unix socket: user, group and, where the system tells it, process.
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

/// Who is at the other end of a Unix socket: user and group, as getpeereid(3) tells no process.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn peer_credentials(socket: BorrowedFd<'_>) -> io::Result<(u32, u32, Option<i32>)> {
    let (mut uid, mut gid) = (0, 0);
    // SAFETY: the descriptor is open, and both pointers point at what getpeereid(3) writes.
    match unsafe { libc::getpeereid(socket.as_raw_fd(), &raw mut uid, &raw mut gid) } {
        0 => Ok((uid, gid, None)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The address of this machine that a packet was sent to, and the interface it came in by.
pub(crate) struct Destination {
    pub(crate) ip: IpAddr,
    interface: u32,
}

/// Where a packet that was received comes from, and where it came to if that was asked for.
pub(crate) struct Envelope {
    pub(crate) from: SockAddr,
    pub(crate) destination: Option<Destination>,
}

/// Room for control messages, aligned as cmsg(3) wants them: for a `pktinfo` of either family behind whatever else the
/// owner of the socket has asked for, such as time stamps.
#[repr(C, align(8))]
struct Control([u8; 256]);

/// setsockopt(2): asks for the destination of each packet, as ip(7) and ipv6(7) say. Where the system cannot tell that
/// of IPv4 packets, it picks the address that replies leave from.
pub(crate) fn receive_destinations(socket: &Socket, is_ipv6: bool) -> io::Result<()> {
    let (level, name) = match is_ipv6 {
        true => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
        #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
        false => (libc::IPPROTO_IP, libc::IP_PKTINFO),
        #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
        false => return Ok(()),
    };
    let on: libc::c_int = 1;
    // SAFETY: the option value is an `int`, and that is what the pointer and the length describe.
    let result = unsafe {
        let length = size_of::<libc::c_int>() as libc::socklen_t;
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const on).cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// setsockopt(2): makes a socket that was bound elsewhere keep no queue of errors (ip(7), `IP_RECVERR`). One that
/// nobody reads would end each wait at once.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn keep_no_errors(socket: &Socket) {
    let off: libc::c_int = 0;
    for (level, name) in [(libc::IPPROTO_IP, libc::IP_RECVERR), (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)] {
        // SAFETY: the option value is an `int`, and that is what the pointer and the length describe. It fails for a
        // socket of another family, which has no such queue.
        unsafe {
            let length = size_of::<libc::c_int>() as libc::socklen_t;
            libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const off).cast(), length);
        }
    }
}

/// There is no such queue.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn keep_no_errors(_socket: &Socket) {}

/// recvfrom(2) without waiting, into all the room of the buffer, in place of what is in it.
///
/// It takes no control messages: on a Unix socket, they would be where a client passes descriptors, which nobody would
/// close.
pub(crate) fn receive_packet(socket: &Socket, buffer: &mut Vec<u8>) -> io::Result<Envelope> {
    buffer.clear();
    let (length, mut from) = socket.recv_from_with_flags(buffer.spare_capacity_mut(), libc::MSG_DONTWAIT)?;
    // SAFETY: recvfrom(2) has written so many bytes to the room that it was given.
    unsafe { buffer.set_len(length) };
    // Of a path that fills its room Linux counts the zero byte behind it, and does not take the address back then.
    let longest = size_of::<libc::sockaddr_un>() as libc::socklen_t;
    if from.is_unix() && from.len() > longest {
        // SAFETY: the address is initialized up to its old length, which is longer.
        unsafe { from.set_length(longest) };
    }
    Ok(Envelope { from, destination: None })
}

/// As [`receive_packet`], by recvmsg(2), which tells the destination and takes a little longer.
pub(crate) fn receive_packet_with_destination(socket: &Socket, buffer: &mut Vec<u8>) -> io::Result<Envelope> {
    buffer.clear();
    let room = buffer.spare_capacity_mut();
    let mut control = Control([0; 256]);
    let mut slice = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
    // SAFETY: `msghdr` is plain data, of which all zeros is a valid value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut slice;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len() as _;
    // SAFETY: `try_init` passes room for any address and its length; the message points at that, at the room of the
    // buffer and at the control bytes, all of which outlive the call and are not aliased; the kernel writes no further
    // than the lengths say, sets the length of the address, and returns how many bytes of the buffer it has written.
    let ((), from) = unsafe {
        SockAddr::try_init(|storage, address_length| {
            message.msg_name = storage.cast();
            message.msg_namelen = *address_length;
            let received = libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT);
            *address_length = message.msg_namelen;
            match received {
                -1 => Err(io::Error::last_os_error()),
                length => {
                    buffer.set_len(length as usize);
                    Ok(())
                }
            }
        })?
    };
    Ok(Envelope { from, destination: destination_of(&message) })
}

fn destination_of(message: &libc::msghdr) -> Option<Destination> {
    // SAFETY: recvmsg(2) has filled in the control bytes, which `message` still points at, with as many messages as its
    // length says, of which the last may be cut short; cmsg(3) has the macros that find them. Of each, only data that
    // its own length covers is read, unaligned, as its type.
    unsafe {
        let mut control = libc::CMSG_FIRSTHDR(message);
        while let Some(header) = control.as_ref() {
            let holds = |size: usize| header.cmsg_len >= libc::CMSG_LEN(size as u32) as _;
            match (header.cmsg_level, header.cmsg_type) {
                #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
                (libc::IPPROTO_IP, libc::IP_PKTINFO) if holds(size_of::<libc::in_pktinfo>()) => {
                    // `ipi_spec_dst`: of a broadcast packet that is the address that can answer it. XNU leaves it
                    // empty.
                    let info = libc::CMSG_DATA(control).cast::<libc::in_pktinfo>().read_unaligned();
                    let ip = if cfg!(target_vendor = "apple") { info.ipi_addr } else { info.ipi_spec_dst };
                    return Some(Destination { ip: IpAddr::from(ip.s_addr.to_ne_bytes()), interface: 0 });
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) if holds(size_of::<libc::in6_pktinfo>()) => {
                    let info = libc::CMSG_DATA(control).cast::<libc::in6_pktinfo>().read_unaligned();
                    let ip = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                    // Only a link-local address needs its interface to be unambiguous.
                    let interface = if ip.is_unicast_link_local() { info.ipi6_ifindex as u32 } else { 0 };
                    return Some(Destination { ip: IpAddr::V6(ip), interface });
                }
                _ => control = libc::CMSG_NXTHDR(message, control),
            }
        }
    }
    None
}

/// sendto(2); or sendmsg(2), from the address that a packet was sent to, if that is given.
pub(crate) fn send_packet(
    socket: &Socket,
    bytes: &[u8],
    to: &SockAddr,
    from: Option<&Destination>,
) -> io::Result<usize> {
    #[cfg(target_vendor = "apple")]
    const FLAGS: libc::c_int = 0;
    #[cfg(not(target_vendor = "apple"))]
    const FLAGS: libc::c_int = libc::MSG_NOSIGNAL;
    let Some(from) = from else { return socket.send_to_with_flags(bytes, to, FLAGS) };
    let mut control = Control([0; 256]);
    let mut slice = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: `msghdr` is plain data, of which all zeros is a valid value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = to.as_ptr().cast_mut().cast();
    message.msg_namelen = to.len();
    message.msg_iov = &raw mut slice;
    message.msg_iovlen = 1;
    write_destination(&mut message, &mut control, from);
    // SAFETY: the message points at the address, the bytes and the control bytes, all alive; sendmsg(2) only reads.
    match unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, FLAGS) } {
        -1 => match io::Error::last_os_error() {
            // A broadcast or multicast address is no source: the system picks one.
            error if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENETUNREACH | libc::EADDRNOTAVAIL)) => {
                socket.send_to_with_flags(bytes, to, FLAGS)
            }
            error => Err(error),
        },
        sent => Ok(sent as usize),
    }
}

/// Sending a packet has failed because of the address that it was to be sent to, such as one that was forged, or is
/// gone.
pub(crate) fn is_about_the_receiver(error: &io::Error) -> bool {
    let of_addresses = [
        libc::EACCES,
        libc::EADDRNOTAVAIL,
        libc::ECONNREFUSED,
        libc::ECONNRESET,
        libc::EHOSTDOWN,
        libc::EHOSTUNREACH,
        libc::EINVAL,
        libc::ENETDOWN,
        libc::ENETUNREACH,
        libc::ENOENT,
        libc::ENOTDIR,
        libc::EPERM,
        libc::EPROTOTYPE,
    ];
    error.raw_os_error().is_some_and(|code| of_addresses.contains(&code))
}

/// Puts the source address of a packet that is to be sent into its control bytes.
fn write_destination(message: &mut libc::msghdr, control: &mut Control, from: &Destination) {
    message.msg_control = control.0.as_mut_ptr().cast();
    // SAFETY: `control` is aligned for a `cmsghdr` and larger than the space for either `pktinfo`, so that the first
    // header and its data lie inside it; all fields are plain data and written whole.
    unsafe {
        let mut write = |level, kind, data: &[u8]| {
            message.msg_controllen = libc::CMSG_SPACE(data.len() as u32) as _;
            let header = libc::CMSG_FIRSTHDR(message);
            (*header).cmsg_level = level;
            (*header).cmsg_type = kind;
            (*header).cmsg_len = libc::CMSG_LEN(data.len() as u32) as _;
            std::ptr::copy_nonoverlapping(data.as_ptr(), libc::CMSG_DATA(header), data.len());
        };
        match from.ip {
            #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
            IpAddr::V4(ip) => {
                // `struct in_pktinfo`: the interface, the source address, and one that is ignored here.
                let mut data = [0; size_of::<libc::in_pktinfo>()];
                data[4..8].copy_from_slice(&ip.octets());
                write(libc::IPPROTO_IP, libc::IP_PKTINFO, &data);
            }
            #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
            IpAddr::V4(_) => message.msg_controllen = 0,
            IpAddr::V6(ip) => {
                // `struct in6_pktinfo`: the source address and the interface.
                let mut data = [0; size_of::<libc::in6_pktinfo>()];
                data[..16].copy_from_slice(&ip.octets());
                data[16..20].copy_from_slice(&from.interface.to_ne_bytes());
                write(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &data);
            }
        }
    }
}

/// fchmodat(2) of a file, which is not followed if it is a symbolic link: where others can rename files, it may have
/// become one.
pub(crate) fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the path is a C string, which outlives the call.
    let result =
        unsafe { libc::fchmodat(libc::AT_FDCWD, path.as_ptr(), mode as libc::mode_t, libc::AT_SYMLINK_NOFOLLOW) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// dup2(2): closes in this process what a descriptor stands for, although others hold the descriptor too. From here on
/// it is the end of a pipe that nobody has the other end of.
pub(crate) fn let_go(fd: BorrowedFd<'_>) {
    // Without a descriptor to spare it stays open until its holders close it.
    let Ok((end, _)) = io::pipe() else { return };
    // SAFETY: both are open, and the number stays so and its holders' own; no program that is started inherits it.
    unsafe {
        libc::dup2(end.as_raw_fd(), fd.as_raw_fd());
        libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC);
    }
}

/// As [`let_go`], of a descriptor that a signal handler has.
#[cfg(feature = "signals")]
pub(crate) fn let_go_of_number(fd: std::os::fd::RawFd) {
    // SAFETY: the descriptor is open as long as its action is registered.
    let_go(unsafe { BorrowedFd::borrow_raw(fd) });
}

/// sigaction(2): whether the process ignores the signal.
#[cfg(feature = "signals")]
pub(crate) fn is_ignored(signal: libc::c_int) -> bool {
    // SAFETY: `sigaction` is plain data, of which all zeros is a valid value. Without a new action nothing is changed,
    // and the old one is written to where the pointer points.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut action) == 0 && action.sa_sigaction == libc::SIG_IGN
    }
}

/// What [`fork`] returns in either process.
pub(crate) enum Fork {
    Parent(ChildProcess),
    Child,
}

/// prctl(2): when the process that forked this one ends, however it does, this one is sent SIGTERM. If it has ended
/// already, which is no news to anybody any more, this one ends at once.
#[cfg(all(feature = "signals", any(target_os = "linux", target_os = "android")))]
pub(crate) fn end_with_parent(parent: u32) {
    // SAFETY: PR_SET_PDEATHSIG takes the number of a signal, and touches no memory.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM as libc::c_ulong) };
    if std::os::unix::process::parent_id() != parent {
        exit_child(128 + libc::SIGTERM, false);
    }
}

/// The system cannot.
#[cfg(all(feature = "signals", not(any(target_os = "linux", target_os = "android"))))]
pub(crate) fn end_with_parent(_parent: u32) {}

/// fork(2). Whatever is buffered for standard output is written first, so that it is not written twice: where the
/// process has one thread. Else another one could hold that lock for ever, here and in the child.
///
/// The caller has made sure that this thread is the only one, or its user has vouched for the code that runs in the
/// child (`allow_threads`).
pub(crate) fn fork(is_only_thread: bool) -> io::Result<Fork> {
    if is_only_thread {
        write_standard_output();
    }
    // SAFETY: after fork(2), the child of a process with one thread can do anything; where there are more, the user has
    // vouched for its code.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        number => Ok(Fork::Parent(ChildProcess::new(number))),
    }
}

/// _exit(2), after writing what is buffered for standard output where no other thread's lock can be in the way. No
/// destructor of the parent's is run.
pub(crate) fn exit_child(status: i32, was_only_thread: bool) -> ! {
    if was_only_thread {
        write_standard_output();
    }
    // SAFETY: _exit(2) does not return.
    unsafe { libc::_exit(status) }
}

fn write_standard_output() {
    // A closed one has no reader to see it twice.
    let _ = io::stdout().flush();
    // SAFETY: fflush(3) takes a null pointer for all streams.
    unsafe { libc::fflush(std::ptr::null_mut()) };
}

/// pthread_sigmask(3): runs this while no signal can end the process but SIGKILL.
pub(crate) fn without_signals<T>(action: impl FnOnce() -> T) -> T {
    // SAFETY: `sigset_t` is plain data, of which all zeros is a valid value, and the pointers are to two of them.
    unsafe {
        let (mut all, mut before) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        let result = action();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut());
        result
    }
}

/// How many threads this process has. `None`: the system does not tell, as without proc(5).
pub(crate) fn threads() -> Option<usize> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use std::os::unix::fs::MetadataExt;
        // proc(5): a directory for each thread. The links of a directory are two and its subdirectories.
        let links = std::fs::metadata("/proc/self/task").ok()?.nlink();
        usize::try_from(links).ok()?.checked_sub(2)
    }
    #[cfg(target_vendor = "apple")]
    {
        // SAFETY: `proc_taskinfo` is plain data, of which all zeros is a valid value, and the size is that of one.
        unsafe {
            let mut info: libc::proc_taskinfo = std::mem::zeroed();
            let size = size_of::<libc::proc_taskinfo>() as libc::c_int;
            let pointer = (&raw mut info).cast();
            let written = libc::proc_pidinfo(libc::getpid(), libc::PROC_PIDTASKINFO, 0, pointer, size);
            (written == size).then_some(info.pti_threadnum as usize)
        }
    }
    #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
    None
}

/// A child process that was forked here. Where the process ignores SIGCHLD, or waits for any child, others may wait for
/// it, and its number may be that of another process from then on.
pub(crate) enum ChildProcess {
    /// pidfd_open(2): it stands for this child whatever becomes of its number.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    Descriptor(OwnedFd),
    /// Where the system has no such descriptor, or none to spare.
    Number(libc::pid_t),
    /// Others had waited for it before there was a descriptor.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    Gone,
}

impl ChildProcess {
    /// Of a child that was forked just now.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn new(number: libc::pid_t) -> ChildProcess {
        // SAFETY: pidfd_open(2) touches no memory.
        let opened = unsafe { libc::syscall(libc::SYS_pidfd_open, number, 0) };
        if opened == -1 {
            return match io::Error::last_os_error().raw_os_error() {
                Some(libc::ESRCH) => ChildProcess::Gone,
                _ => ChildProcess::Number(number),
            };
        }
        // SAFETY: the descriptor is new, and nobody else owns it.
        let descriptor = unsafe { OwnedFd::from_raw_fd(opened as RawFd) };
        match waitid(libc::P_PIDFD, descriptor.as_raw_fd(), libc::WNOWAIT) {
            // Linux 5.3 opens it, and cannot wait for it.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => ChildProcess::Number(number),
            _ => ChildProcess::Descriptor(descriptor),
        }
    }

    /// There are only numbers.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn new(number: libc::pid_t) -> ChildProcess {
        ChildProcess::Number(number)
    }

    /// Waits for the child without blocking. `None`: it still runs. An error: others have waited for it.
    pub(crate) fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        match self {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            ChildProcess::Descriptor(descriptor) => {
                let info = waitid(libc::P_PIDFD, descriptor.as_raw_fd(), 0)?;
                // SAFETY: all zeros is what waitid(2) leaves where no child has ended, else it sets both fields.
                let (number, status) = unsafe { (info.si_pid(), info.si_status()) };
                // As wait(2) encodes it.
                let status = match info.si_code {
                    libc::CLD_EXITED => status << 8,
                    libc::CLD_DUMPED => status | 0x80,
                    _ => status,
                };
                Ok((number != 0).then(|| ExitStatus::from_raw(status)))
            }
            ChildProcess::Number(number) => {
                let mut status = 0;
                // SAFETY: the pointer is to an `int`.
                match unsafe { libc::waitpid(*number, &raw mut status, libc::WNOHANG) } {
                    0 => Ok(None),
                    -1 => Err(io::Error::last_os_error()),
                    _ => Ok(Some(ExitStatus::from_raw(status))),
                }
            }
            #[cfg(any(target_os = "linux", target_os = "android"))]
            ChildProcess::Gone => Err(io::Error::from_raw_os_error(libc::ECHILD)),
        }
    }

    /// Sends the signal to the child, and never to another process: pidfd_send_signal(2). Where there is only a number,
    /// kill(2), after a look at whether it is still that of a child which was not waited for.
    pub(crate) fn kill(&self, signal: Signal) {
        match self {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            ChildProcess::Descriptor(descriptor) => {
                let no_info = std::ptr::null::<libc::siginfo_t>();
                // SAFETY: the descriptor is open, and pidfd_send_signal(2) takes a null pointer for the signal of kill(2).
                unsafe {
                    libc::syscall(libc::SYS_pidfd_send_signal, descriptor.as_raw_fd(), signal.number(), no_info, 0);
                }
            }
            ChildProcess::Number(number) => {
                // A child that has ended is left to be waited for, so that the number stays its own.
                if waitid(libc::P_PID, *number, libc::WNOWAIT).is_ok() {
                    // SAFETY: kill(2) touches no memory.
                    unsafe { libc::kill(*number, signal.number()) };
                }
            }
            #[cfg(any(target_os = "linux", target_os = "android"))]
            ChildProcess::Gone => {}
        }
    }
}

/// waitid(2), of a child that has ended, without blocking.
fn waitid(kind: libc::idtype_t, id: libc::c_int, options: libc::c_int) -> io::Result<libc::siginfo_t> {
    let options = libc::WEXITED | libc::WNOHANG | options;
    // SAFETY: `siginfo_t` is plain data, of which all zeros is a valid value, and the pointer is to one.
    unsafe {
        let mut info = std::mem::zeroed();
        match libc::waitid(kind, id as libc::id_t, &raw mut info, options) {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(info),
        }
    }
}

/// What a child can be told.
pub(crate) enum Signal {
    Terminate,
    Kill,
}

impl Signal {
    fn number(self) -> libc::c_int {
        match self {
            Signal::Terminate => libc::SIGTERM,
            Signal::Kill => libc::SIGKILL,
        }
    }

    /// Whether it is what has ended a process.
    pub(crate) fn has_ended(self, status: ExitStatus) -> bool {
        status.signal() == Some(self.number())
    }
}

/// Memory that this process shares with the children it forks from now on.
pub(crate) struct Shared<T> {
    value: NonNull<T>,
}

// SAFETY: it owns its value as a `Box` does, and hands out only shared references.
unsafe impl<T: Send + Sync> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Shared<T> {}

impl<T: Sync> Shared<T> {
    /// mmap(2). The value must be plain atomics: it is not dropped, and a pointer in it would mean nothing to the
    /// others.
    pub(crate) fn new(value: T) -> io::Result<Shared<T>> {
        // SAFETY: a new anonymous mapping, at an address of the kernel's choice, aliases nothing. It is aligned to a
        // page and as large as a `T`, which is written before anybody sees it.
        unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_SHARED | libc::MAP_ANON;
            let address = libc::mmap(std::ptr::null_mut(), size_of::<T>(), protection, flags, -1, 0);
            if address == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            let value_there = NonNull::new_unchecked(address.cast::<T>());
            value_there.write(value);
            Ok(Shared { value: value_there })
        }
    }
}

impl<T> std::ops::Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the mapping lives as long as `self`, and holds a `T` that is changed only by its own atomics.
        unsafe { self.value.as_ref() }
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and nobody has a reference any more. `T` needs no drop.
        unsafe { libc::munmap(self.value.as_ptr().cast(), size_of::<T>()) };
    }
}

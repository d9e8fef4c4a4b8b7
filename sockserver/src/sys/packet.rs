//! Datagram sockets, and the addresses that packets arrive at.

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6},
    os::fd::AsRawFd,
};

use socket2::{SockAddr, Socket};

/// The address of this machine that a packet was sent to, and the interface that received it.
pub(crate) struct Destination {
    ip: IpAddr,
    interface: u32,
}

impl Destination {
    pub(crate) fn at_port(&self, port: u16) -> SocketAddr {
        match self.ip {
            IpAddr::V4(_) => SocketAddr::new(self.ip, port),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, self.interface).into(),
        }
    }
}

/// The sender of a received packet and, if [`receive_destinations`] was called, its destination.
pub(crate) struct Envelope {
    pub(crate) from: SockAddr,
    pub(crate) destination: Option<Destination>,
}

/// Room for control messages, aligned as cmsg(3) requires. It has room for a `pktinfo` of either family and for
/// messages that the owner of the socket has enabled, such as time stamps.
#[repr(C, align(8))]
struct ControlBuffer([u8; 256]);

/// setsockopt(2): makes the kernel report the destination of each packet (ip(7), ipv6(7)). Some systems do not report
/// it for IPv4; there the kernel picks the address that replies leave from.
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

/// setsockopt(2): disables the error queue (ip(7), `IP_RECVERR`) of a socket that was bound elsewhere. This crate does
/// not read it, and an error in it would end every wait at once.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn disable_recverr(socket: &Socket) {
    let off: libc::c_int = 0;
    for (level, name) in [(libc::IPPROTO_IP, libc::IP_RECVERR), (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)] {
        // SAFETY: the option value is an `int`, and that is what the pointer and the length describe. The call fails
        // for a socket of another family, which has no such queue.
        unsafe {
            let length = size_of::<libc::c_int>() as libc::socklen_t;
            libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const off).cast(), length);
        }
    }
}

/// These systems have no such queue.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn disable_recverr(_socket: &Socket) {}

/// recvfrom(2) without waiting. The packet replaces the contents of the buffer, up to its capacity.
///
/// It receives no control messages: on a Unix socket, a client could pass descriptors in them, which this crate would
/// have to close.
pub(crate) fn receive_packet(socket: &Socket, buffer: &mut Vec<u8>) -> io::Result<Envelope> {
    buffer.clear();
    let (length, mut from) = socket.recv_from_with_flags(buffer.spare_capacity_mut(), libc::MSG_DONTWAIT)?;
    // SAFETY: recvfrom(2) has written so many bytes to the room that it was given.
    unsafe { buffer.set_len(length) };
    // For a path of full length Linux counts a zero byte behind it, and then refuses that length when sending.
    let longest = size_of::<libc::sockaddr_un>() as libc::socklen_t;
    if from.is_unix() && from.len() > longest {
        // SAFETY: the address is initialized up to its old length, which is longer.
        unsafe { from.set_length(longest) };
    }
    Ok(Envelope { from, destination: None })
}

/// As [`receive_packet`], by recvmsg(2), which also reports the destination and is a little slower.
pub(crate) fn receive_packet_with_destination(socket: &Socket, buffer: &mut Vec<u8>) -> io::Result<Envelope> {
    buffer.clear();
    let room = buffer.spare_capacity_mut();
    let mut control = ControlBuffer([0; 256]);
    let mut slice = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
    // SAFETY: `msghdr` is plain data, for which all zeros is a valid value.
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
    // length says; the last one may be cut short. The macros of cmsg(3) find them. From each message, only data that
    // its own length covers is read, unaligned, as its type.
    unsafe {
        let mut control = libc::CMSG_FIRSTHDR(message);
        while let Some(header) = control.as_ref() {
            let holds = |size: usize| header.cmsg_len >= libc::CMSG_LEN(size as u32) as _;
            match (header.cmsg_level, header.cmsg_type) {
                #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
                (libc::IPPROTO_IP, libc::IP_PKTINFO) if holds(size_of::<libc::in_pktinfo>()) => {
                    // `ipi_spec_dst` is an address that can answer, even for a broadcast packet. XNU leaves it empty.
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

/// sendto(2) or, if a source address is given, sendmsg(2).
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
    let mut control = ControlBuffer([0; 256]);
    let mut slice = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: `msghdr` is plain data, for which all zeros is a valid value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = to.as_ptr().cast_mut().cast();
    message.msg_namelen = to.len();
    message.msg_iov = &raw mut slice;
    message.msg_iovlen = 1;
    write_destination(&mut message, &mut control, from);
    // SAFETY: the message points at the address, the bytes and the control bytes, all alive; sendmsg(2) only reads.
    match unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, FLAGS) } {
        -1 => match io::Error::last_os_error() {
            // A broadcast or multicast address cannot be a source: the kernel picks one.
            error if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENETUNREACH | libc::EADDRNOTAVAIL)) => {
                socket.send_to_with_flags(bytes, to, FLAGS)
            }
            error => Err(error),
        },
        sent => Ok(sent as usize),
    }
}

/// Whether sending a packet failed because of its receiver's address, such as a forged one or one that is gone.
pub(crate) fn is_about_the_receiver(error: &io::Error) -> bool {
    let address_errors = [
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
    error.raw_os_error().is_some_and(|code| address_errors.contains(&code))
}

/// Writes the source address of an outgoing packet into its control bytes.
fn write_destination(message: &mut libc::msghdr, control: &mut ControlBuffer, from: &Destination) {
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
                // `struct in_pktinfo`: the interface, the source address, and an address that sendmsg(2) ignores.
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

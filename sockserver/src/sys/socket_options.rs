//! Socket options that not every system has.

use std::{io, time::Duration};

use socket2::{Socket, TcpKeepalive};

/// SO_KEEPALIVE, and how often the client is probed (tcp(7)). Not below a second.
pub(crate) fn set_keepalive(
    socket: &Socket,
    time: Option<Duration>,
    interval: Option<Duration>,
    retries: Option<u32>,
) -> io::Result<()> {
    let mut keepalive = TcpKeepalive::new();
    if let Some(time) = time {
        keepalive = keepalive.with_time(time);
    }
    if let Some(interval) = interval {
        keepalive = with_interval(keepalive, interval)?;
    }
    if let Some(retries) = retries {
        keepalive = with_retries(keepalive, retries)?;
    }
    socket.set_tcp_keepalive(&keepalive)
}

#[cfg(not(target_os = "openbsd"))]
fn with_interval(keepalive: TcpKeepalive, interval: Duration) -> io::Result<TcpKeepalive> {
    Ok(keepalive.with_interval(interval))
}

#[cfg(not(target_os = "openbsd"))]
fn with_retries(keepalive: TcpKeepalive, retries: u32) -> io::Result<TcpKeepalive> {
    Ok(keepalive.with_retries(retries))
}

#[cfg(target_os = "openbsd")]
fn with_interval(_keepalive: TcpKeepalive, _interval: Duration) -> io::Result<TcpKeepalive> {
    Err(unsupported("socket(keepalive_interval)"))
}

#[cfg(target_os = "openbsd")]
fn with_retries(_keepalive: TcpKeepalive, _retries: u32) -> io::Result<TcpKeepalive> {
    Err(unsupported("socket(keepalive_retries)"))
}

/// TCP_USER_TIMEOUT (tcp(7)).
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn set_user_timeout(socket: &Socket, timeout: Duration) -> io::Result<()> {
    socket.set_tcp_user_timeout(Some(timeout))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn set_user_timeout(_socket: &Socket, _timeout: Duration) -> io::Result<()> {
    Err(unsupported("socket(user_timeout)"))
}

/// TCP_DEFER_ACCEPT (tcp(7)), which counts in seconds, and has none for zero.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn set_defer_accept(socket: &Socket, time: Duration) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    let seconds = libc::c_int::try_from(time.as_secs().max(1)).unwrap_or(libc::c_int::MAX);
    // SAFETY: the option is an `int`, and that is what the pointer points at.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw const seconds).cast(),
            size_of_val(&seconds) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn set_defer_accept(_socket: &Socket, _time: Duration) -> io::Result<()> {
    Err(unsupported("socket(defer_accept)"))
}

/// SO_BINDTODEVICE (socket(7)).
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn bind_to_device(socket: &Socket, device: &str) -> io::Result<()> {
    // Without privileges, a socket is bound to a device only once: the predecessor of this server may have done it.
    match socket.device()? {
        Some(bound) if bound == device.as_bytes() => Ok(()),
        _ => socket.bind_device(Some(device.as_bytes())),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn bind_to_device(_socket: &Socket, _device: &str) -> io::Result<()> {
    Err(unsupported("socket(device)"))
}

/// IP_TOS (ip(7)) or IPV6_TCLASS (ipv6(7)). On Linux an IPv6 socket has both: IP_TOS is for its IPv4 clients.
pub(crate) fn set_traffic_class(socket: &Socket, is_ipv6: bool, class: u32) -> io::Result<()> {
    if is_ipv6 {
        socket.set_tclass_v6(class)?;
    }
    if !is_ipv6 || cfg!(any(target_os = "linux", target_os = "android")) {
        socket.set_tos_v4(class)?;
    }
    Ok(())
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn unsupported(option: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, format!("this system has no such option: {option}"))
}

//! Waiting for descriptors.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    time::Duration,
};

/// One descriptor that [`poll`] watches, for input or for room to send.
#[repr(transparent)]
pub(crate) struct Watched<'fd> {
    pub(super) inner: libc::pollfd,
    /// The descriptor stays open for as long as it is watched.
    lifetime: std::marker::PhantomData<BorrowedFd<'fd>>,
}

impl<'fd> Watched<'fd> {
    /// Watches for input.
    pub(crate) fn new(fd: BorrowedFd<'fd>) -> Watched<'fd> {
        let inner = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        Watched { inner, lifetime: std::marker::PhantomData }
    }

    /// Watches nothing: poll(2) ignores it.
    pub(crate) fn nothing() -> Watched<'fd> {
        Watched { inner: libc::pollfd { fd: -1, events: 0, revents: 0 }, lifetime: std::marker::PhantomData }
    }

    /// Watches for room to send.
    pub(crate) fn for_output(fd: BorrowedFd<'fd>) -> Watched<'fd> {
        let mut watched = Watched::new(fd);
        watched.inner.events = libc::POLLOUT;
        watched
    }

    /// Whether the descriptor has ended the wait: by input or room, an error, or a hang-up.
    pub(crate) fn is_ready(&self) -> bool {
        self.inner.revents != 0
    }
}

/// poll(2): waits until one of the descriptors is ready, and returns whether one is. None is ready if the time is over
/// or a signal has interrupted the wait.
pub(crate) fn poll(watched: &mut [Watched<'_>], timeout: Option<Duration>) -> io::Result<bool> {
    // Rounded up: if a wait ended early, its caller would loop without waiting until the deadline.
    let timeout = timeout.map_or(-1, |timeout| timeout.as_nanos().div_ceil(1_000_000).try_into().unwrap_or(i32::MAX));
    #[cfg(sockserver_model)]
    let (waits, timeout) = (timeout == -1, 0);
    // SAFETY: `Watched` is a transparent `pollfd`, the slice is valid for its length and uniquely borrowed, and its
    // descriptors are open, as each `Watched` borrows its own.
    let ready = unsafe { libc::poll(watched.as_mut_ptr().cast(), watched.len() as libc::nfds_t, timeout) };
    match ready {
        // All threads of the model run on this thread, which must not block.
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

/// poll(2) without waiting: whether a read would return at once.
pub(crate) fn is_readable(fd: &impl AsFd) -> io::Result<bool> {
    poll(&mut [Watched::new(fd.as_fd())], Some(Duration::ZERO))
}

//! What an error of accept(2) means, and when the leader accepts again.

use std::{
    io,
    time::{Duration, Instant},
};

/// How long the leader waits before it accepts again after an error of the class [`ErrorClass::BackOff`].
pub(crate) const BACK_OFF: Duration = Duration::from_millis(50);

/// After so long without an error an episode is over. In a shortage each connection that ends lets another one in, after
/// which accepting fails again: that is one episode.
const QUIET: Duration = Duration::from_secs(10);

/// Up to this many errors of the class [`ErrorClass::Retry`] in a row come from connections that died in the kernel's
/// queue. After more of them the leader backs off, as if they came for ever.
const RETRIES_IN_A_ROW: u32 = 1024;

/// What an error of accept(2) means.
enum ErrorClass {
    /// The queue is empty: wait until the listening socket is readable.
    WouldBlock,
    /// The error concerns only the accepted connection, which died in the queue or was refused by the transport; or a
    /// signal interrupted the call. Accept the next connection at once.
    Retry,
    /// A resource such as descriptors or memory is exhausted, or the error is unknown. Accept again after a pause.
    BackOff,
    /// The listening socket is broken, and accepting will never work again.
    Fatal,
}

impl ErrorClass {
    fn of(error: &io::Error) -> ErrorClass {
        match error.raw_os_error() {
            _ if error.kind() == io::ErrorKind::WouldBlock => ErrorClass::WouldBlock,
            _ if error.kind() == io::ErrorKind::Interrupted => ErrorClass::Retry,
            // A transport of the user's own refuses the connection, or fails to read or write it.
            None | Some(libc::EPIPE | libc::ENOTCONN | libc::ETIMEDOUT) => ErrorClass::Retry,
            // accept(2) also returns errors that are pending on the new connection. A datagram socket reports that
            // earlier packets were not received.
            Some(
                libc::ECONNABORTED
                | libc::ECONNRESET
                | libc::ECONNREFUSED
                | libc::EPROTO
                | libc::ENETDOWN
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH
                | libc::ENOPROTOOPT
                | libc::EOPNOTSUPP,
            ) => ErrorClass::Retry,
            #[cfg(any(target_os = "linux", target_os = "android"))]
            Some(libc::ENONET | libc::ENOSR) => ErrorClass::Retry,
            Some(libc::EBADF | libc::ENOTSOCK | libc::EINVAL | libc::EFAULT) => ErrorClass::Fatal,
            // EMFILE, ENFILE, ENOBUFS and ENOMEM are here. So are EPERM and EACCES, with which seccomp(2) and firewalls
            // forbid the call: the connection stays in the queue.
            _ => ErrorClass::BackOff,
        }
    }
}

/// An episode of accept errors.
#[derive(Default)]
pub(crate) struct AcceptBackoff {
    /// The leader does not accept before this time.
    pause_end: Option<Instant>,
    /// When the last error came that made a pause.
    failed_at: Option<Instant>,
    /// How many errors of the class [`ErrorClass::Retry`] have come in a row.
    retries: u32,
}

/// When the leader accepts again after an error.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    AtOnce,
    /// When the listening socket is readable.
    WhenReady,
    /// After a pause.
    Later,
    /// After a pause. The leader reports the error first, once an episode.
    LaterReported,
    Never,
}

impl AcceptBackoff {
    /// Accepting has worked.
    pub(crate) fn end(&mut self) {
        (self.pause_end, self.retries) = (None, 0);
    }

    /// When the pause ends that the leader makes now. `None`: it may accept.
    pub(crate) fn pause_end(&self) -> Option<Instant> {
        self.pause_end.filter(|pause_end| Instant::now() < *pause_end)
    }

    /// Counts an error.
    pub(crate) fn after(&mut self, error: &io::Error) -> Retry {
        self.after_error_at(error, Instant::now)
    }

    fn after_error_at(&mut self, error: &io::Error, now: impl FnOnce() -> Instant) -> Retry {
        match ErrorClass::of(error) {
            ErrorClass::WouldBlock => {
                self.retries = 0;
                Retry::WhenReady
            }
            ErrorClass::Retry if self.retries < RETRIES_IN_A_ROW => {
                self.retries += 1;
                Retry::AtOnce
            }
            ErrorClass::Retry | ErrorClass::BackOff => {
                let now = now();
                self.pause_end = now.checked_add(BACK_OFF);
                match self.failed_at.replace(now) {
                    Some(before) if now.saturating_duration_since(before) < QUIET => Retry::Later,
                    _ => Retry::LaterReported,
                }
            }
            ErrorClass::Fatal => Retry::Never,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(backoff: &mut AcceptBackoff, error: i32) -> Retry {
        backoff.after(&io::Error::from_raw_os_error(error))
    }

    #[test]
    fn a_shortage_is_reported_once_until_accepting_has_worked_for_some_time() {
        let mut backoff = AcceptBackoff::default();
        assert_eq!(after(&mut backoff, libc::EMFILE), Retry::LaterReported);
        assert!(backoff.pause_end().is_some());
        assert_eq!(after(&mut backoff, libc::ENOMEM), Retry::Later);
        backoff.end();
        assert!(backoff.pause_end().is_none());
        assert_eq!(after(&mut backoff, libc::EMFILE), Retry::Later);
        let error = io::Error::from_raw_os_error(libc::EMFILE);
        let later = Instant::now() + QUIET;
        assert_eq!(backoff.after_error_at(&error, || later + Duration::from_millis(1)), Retry::LaterReported);
        assert_eq!(backoff.after_error_at(&error, || later + QUIET), Retry::Later);
    }

    #[test]
    fn connections_that_died_in_the_queue_are_passed_over_but_not_for_ever() {
        let mut backoff = AcceptBackoff::default();
        let retries = std::iter::repeat_with(|| after(&mut backoff, libc::ECONNABORTED));
        assert_eq!(retries.take_while(|then| *then == Retry::AtOnce).count(), RETRIES_IN_A_ROW as usize);
        assert!(backoff.pause_end().is_some());
        assert_eq!(after(&mut backoff, libc::EAGAIN), Retry::WhenReady);
        assert_eq!(after(&mut backoff, libc::ECONNABORTED), Retry::AtOnce);
    }

    #[test]
    fn a_broken_socket_is_given_up() {
        assert_eq!(after(&mut AcceptBackoff::default(), libc::EBADF), Retry::Never);
    }
}

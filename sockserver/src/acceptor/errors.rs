//! What an error of accepting means, and when to try again.

use std::{
    io,
    time::{Duration, Instant},
};

/// How long accepting rests after an error of the class [`ErrorClass::BackOff`].
pub(crate) const BACK_OFF: Duration = Duration::from_millis(50);

/// How many errors in a row can be those of connections that died in the queue. What comes more often than that would
/// come for ever.
const DEAD_IN_A_ROW: u32 = 1024;

/// What an error of accept(2) means.
enum ErrorClass {
    /// No connection is there: wait.
    WouldBlock,
    /// It concerns the one connection that was accepted, which had died in the queue or which the transport has refused,
    /// or a signal came: go on.
    Retry,
    /// A resource is short that other programs have to give back, or the error is unknown: go on, but slowly.
    BackOff,
    /// The listening socket itself is broken: nothing will ever be accepted again.
    Fatal,
}

impl ErrorClass {
    fn of(error: &io::Error) -> ErrorClass {
        match error.raw_os_error() {
            _ if error.kind() == io::ErrorKind::WouldBlock => ErrorClass::WouldBlock,
            _ if error.kind() == io::ErrorKind::Interrupted => ErrorClass::Retry,
            // A transport of the user's own does not like the connection, or cannot read or write it.
            None | Some(libc::EPIPE | libc::ENOTCONN | libc::ETIMEDOUT) => ErrorClass::Retry,
            // accept(2): errors that are pending on the new connection come out of accept as well. A datagram socket
            // reports that earlier packets were not received.
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
            // EMFILE, ENFILE, ENOBUFS and ENOMEM among them; also EPERM and EACCES, with which seccomp(2) and the like
            // forbid the call, and the connection stays in the queue.
            _ => ErrorClass::BackOff,
        }
    }
}

/// The errors of accepting since it has worked.
#[derive(Default)]
pub(crate) struct AcceptBackoff {
    /// Accepting rests until then.
    rest: Option<Instant>,
    was_reported: bool,
    /// The errors of the class [`ErrorClass::Retry`] since something else has come of accepting.
    dead: u32,
}

/// When to try again after an error.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    AtOnce,
    /// When the listening socket is readable.
    WhenReady,
    /// After a rest.
    Later,
    /// After a rest, and the error is to be reported: once an episode.
    LaterReported,
    Never,
}

impl AcceptBackoff {
    /// Accepting has worked.
    pub(crate) fn end(&mut self) {
        *self = AcceptBackoff::default();
    }

    /// When to try again.
    pub(crate) fn rests_until(&mut self) -> Option<Instant> {
        self.rest = self.rest.filter(|rest| Instant::now() < *rest);
        self.rest
    }

    pub(crate) fn after(&mut self, error: &io::Error) -> Retry {
        match ErrorClass::of(error) {
            ErrorClass::WouldBlock => {
                self.dead = 0;
                Retry::WhenReady
            }
            ErrorClass::Retry if self.dead < DEAD_IN_A_ROW => {
                self.dead += 1;
                Retry::AtOnce
            }
            ErrorClass::Retry | ErrorClass::BackOff => {
                self.rest = Instant::now().checked_add(BACK_OFF);
                match std::mem::replace(&mut self.was_reported, true) {
                    true => Retry::Later,
                    false => Retry::LaterReported,
                }
            }
            ErrorClass::Fatal => Retry::Never,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(trouble: &mut AcceptBackoff, error: i32) -> Retry {
        trouble.after(&io::Error::from_raw_os_error(error))
    }

    #[test]
    fn a_shortage_is_reported_once_until_accepting_has_worked() {
        let mut trouble = AcceptBackoff::default();
        assert_eq!(after(&mut trouble, libc::EMFILE), Retry::LaterReported);
        assert!(trouble.rests_until().is_some());
        assert_eq!(after(&mut trouble, libc::ENOMEM), Retry::Later);
        trouble.end();
        assert!(trouble.rests_until().is_none());
        assert_eq!(after(&mut trouble, libc::EMFILE), Retry::LaterReported);
    }

    #[test]
    fn connections_that_died_in_the_queue_are_passed_over_but_not_for_ever() {
        let mut trouble = AcceptBackoff::default();
        let retries = std::iter::repeat_with(|| after(&mut trouble, libc::ECONNABORTED));
        assert_eq!(retries.take_while(|then| *then == Retry::AtOnce).count(), DEAD_IN_A_ROW as usize);
        assert!(trouble.rests_until().is_some());
        assert_eq!(after(&mut trouble, libc::EAGAIN), Retry::WhenReady);
        assert_eq!(after(&mut trouble, libc::ECONNABORTED), Retry::AtOnce);
    }

    #[test]
    fn a_broken_socket_is_given_up() {
        assert_eq!(after(&mut AcceptBackoff::default(), libc::EBADF), Retry::Never);
    }
}

//! What an error of accepting means, and when to try again.

use std::{
    io,
    time::{Duration, Instant},
};

/// How long accepting rests after an error of the class [`Class::BackOff`].
pub(crate) const BACK_OFF: Duration = Duration::from_millis(50);

/// How many errors in a row can be those of connections that died in the queue. What comes more often than that would
/// come for ever.
const DEAD_IN_A_ROW: u32 = 1024;

/// What an error of accept(2) means.
enum Class {
    /// Nobody is there: wait.
    WouldBlock,
    /// It concerns the one connection that was accepted, which had died in the queue or which the transport would not
    /// have, or a signal came: go on.
    Retry,
    /// Something is short that others have to give back, or nobody knows what it is: go on, but slowly.
    BackOff,
    /// The listening socket itself is broken: nothing will ever be accepted again.
    Fatal,
}

impl Class {
    fn of(error: &io::Error) -> Class {
        match error.raw_os_error() {
            _ if error.kind() == io::ErrorKind::WouldBlock => Class::WouldBlock,
            _ if error.kind() == io::ErrorKind::Interrupted => Class::Retry,
            // A transport of the user's own does not like the connection, or cannot read or write it.
            None | Some(libc::EPIPE | libc::ENOTCONN | libc::ETIMEDOUT) => Class::Retry,
            // accept(2): errors that are pending on the new connection come out of accept as well. A datagram socket
            // reports of earlier packets that nobody received them.
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
            ) => Class::Retry,
            #[cfg(any(target_os = "linux", target_os = "android"))]
            Some(libc::ENONET | libc::ENOSR) => Class::Retry,
            Some(libc::EBADF | libc::ENOTSOCK | libc::EINVAL | libc::EFAULT) => Class::Fatal,
            // EMFILE, ENFILE, ENOBUFS and ENOMEM among them; also EPERM and EACCES, with which seccomp(2) and the like
            // forbid the call, and the connection stays in the queue.
            _ => Class::BackOff,
        }
    }
}

/// The errors of accepting since it has worked.
#[derive(Default)]
pub(crate) struct Trouble {
    /// Accepting rests until then.
    rest: Option<Instant>,
    was_reported: bool,
    /// The errors of the class [`Class::Retry`] since something else has come of accepting.
    dead: u32,
}

/// What to do after an error.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Wait,
    Retry,
    /// First see to it that it is known: once an episode.
    Report,
    Rest,
    GiveUp,
}

impl Trouble {
    /// Accepting has worked.
    pub(crate) fn end(&mut self) {
        *self = Trouble::default();
    }

    /// When to try again.
    pub(crate) fn rests_until(&mut self) -> Option<Instant> {
        self.rest = self.rest.filter(|rest| Instant::now() < *rest);
        self.rest
    }

    pub(crate) fn after(&mut self, error: &io::Error) -> Then {
        match Class::of(error) {
            Class::WouldBlock => {
                self.dead = 0;
                Then::Wait
            }
            Class::Retry if self.dead < DEAD_IN_A_ROW => {
                self.dead += 1;
                Then::Retry
            }
            Class::Retry | Class::BackOff => {
                self.rest = Instant::now().checked_add(BACK_OFF);
                match std::mem::replace(&mut self.was_reported, true) {
                    true => Then::Rest,
                    false => Then::Report,
                }
            }
            Class::Fatal => Then::GiveUp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(trouble: &mut Trouble, error: i32) -> Then {
        trouble.after(&io::Error::from_raw_os_error(error))
    }

    #[test]
    fn a_shortage_is_reported_once_until_accepting_has_worked() {
        let mut trouble = Trouble::default();
        assert_eq!(after(&mut trouble, libc::EMFILE), Then::Report);
        assert!(trouble.rests_until().is_some());
        assert_eq!(after(&mut trouble, libc::ENOMEM), Then::Rest);
        trouble.end();
        assert!(trouble.rests_until().is_none());
        assert_eq!(after(&mut trouble, libc::EMFILE), Then::Report);
    }

    #[test]
    fn connections_that_died_in_the_queue_are_passed_over_but_not_for_ever() {
        let mut trouble = Trouble::default();
        let retries = std::iter::repeat_with(|| after(&mut trouble, libc::ECONNABORTED));
        assert_eq!(retries.take_while(|then| *then == Then::Retry).count(), DEAD_IN_A_ROW as usize);
        assert!(trouble.rests_until().is_some());
        assert_eq!(after(&mut trouble, libc::EAGAIN), Then::Wait);
        assert_eq!(after(&mut trouble, libc::ECONNABORTED), Then::Retry);
    }

    #[test]
    fn a_broken_socket_is_given_up() {
        assert_eq!(after(&mut Trouble::default(), libc::EBADF), Then::GiveUp);
    }
}

//! How a handler waits for its peer: in the system call itself, or by poll(2) where a signal could make that miss its
//! end.

use std::{io, os::fd::AsFd, time::Instant};

use socket2::Socket;

#[cfg(feature = "signals")]
use crate::signals;
use crate::{
    record::Waiting,
    sys::{self, Watched},
};

/// Whether a system call may wait for the peer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum MayWait {
    Yes,
    No,
}

/// Makes a system call that waits for the peer, unless it is told that it must not. A signal does not end it.
pub(crate) fn call(
    socket: &Socket,
    waiting: Waiting,
    mut call: impl FnMut(&Socket, MayWait) -> io::Result<usize>,
) -> io::Result<usize> {
    // A signal that stops the server could come just before the call, and would not be seen in it.
    let mut patience = signals::pipe().map(|_| Patience::new(socket, waiting)).transpose()?;
    loop {
        let may_wait = match &patience {
            None => MayWait::Yes,
            Some(patience) => {
                patience.wait(socket)?;
                MayWait::No
            }
        };
        // The threads of the model all run on one, which must not wait.
        #[cfg(sockserver_model)]
        if waiting != Waiting::ToSend {
            sys::poll(&mut [Watched::new(socket.as_fd())], None)?;
        }
        match call(socket, may_wait) {
            // A call that is made anew begins to count its timeout anew.
            Err(error) if error.kind() == io::ErrorKind::Interrupted && patience.is_none() => {
                patience = Some(Patience::new(socket, waiting)?);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && may_wait == MayWait::No => {}
            result => return result,
        }
    }
}

/// How long the socket's timeout lets a handler wait.
struct Patience {
    deadline: Option<Instant>,
    waiting: Waiting,
}

impl Patience {
    fn new(socket: &Socket, waiting: Waiting) -> io::Result<Patience> {
        let timeout = match waiting {
            Waiting::ToSend => socket.write_timeout()?,
            Waiting::BetweenRequests | Waiting::InRequest => socket.read_timeout()?,
        };
        Ok(Patience { deadline: timeout.and_then(|timeout| Instant::now().checked_add(timeout)), waiting })
    }

    /// Waits until the peer has done what is waited for. After the timeout it fails as the call would, with
    /// [`WouldBlock`](io::ErrorKind::WouldBlock).
    fn wait(&self, socket: &Socket) -> io::Result<()> {
        loop {
            let peer = match self.waiting {
                Waiting::ToSend => Watched::for_output(socket.as_fd()),
                Waiting::BetweenRequests | Waiting::InRequest => Watched::new(socket.as_fd()),
            };
            let timeout = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let is_ready = match signals::pipe() {
                None => sys::poll(&mut [peer], timeout)?,
                Some(pipe) => {
                    let mut watched = [peer, Watched::new(pipe.as_fd())];
                    sys::poll(&mut watched, timeout)?;
                    if watched[1].is_ready() {
                        signals::stop_signalled(pipe)?;
                        continue;
                    }
                    watched[0].is_ready()
                }
            };
            if is_ready {
                return Ok(());
            }
            if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
    }
}

/// No signal stops a server.
#[cfg(not(feature = "signals"))]
mod signals {
    use std::io::{self, PipeReader};

    pub(super) fn pipe() -> Option<&'static PipeReader> {
        None
    }

    pub(super) fn stop_signalled(_pipe: &PipeReader) -> io::Result<()> {
        Ok(())
    }
}

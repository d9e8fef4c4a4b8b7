//! How a loop waits for its sockets.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    time::Duration,
};

use mio::{Events, Interest, Poll, Registry, Token, unix::SourceFd};

/// The sockets of one loop, and what else ends its wait. Each readiness is reported once, when it begins (edge-triggered).
pub(super) struct Poller {
    poll: Poll,
    events: Events,
}

/// What has ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A client has done something.
    Client(Registration, Readiness),
    /// A listening socket has a client.
    Listener,
    /// The waker of the leader is readable.
    Waker,
    /// The bell rings: the server drains.
    Bell,
}

/// What can be done with a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Readiness {
    pub(super) input: bool,
    pub(super) output: bool,
    /// The client sends no more, or urgent bytes: a short receive may not be all.
    pub(super) is_peculiar: bool,
}

impl Readiness {
    pub(super) fn add(&mut self, more: Readiness) {
        self.input |= more.input;
        self.output |= more.output;
        self.is_peculiar |= more.is_peculiar;
    }
}

/// What is registered for a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Registered {
    #[default]
    Nothing,
    Input,
    InputAndOutput,
}

/// By which a socket is registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Registration {
    pub(super) slot: usize,
    /// Of the slot: it tells a socket that outlives its connection, as it lingers or is the user's too, from the socket of a
    /// later one. Not for certain, as it begins anew: a connection can have a turn too many.
    pub(super) generation: u8,
}

impl Registration {
    /// Where the generation is in a token.
    const SHIFT: u32 = usize::BITS - u8::BITS;

    fn token(self) -> Token {
        Token(usize::from(self.generation) << Self::SHIFT | self.slot)
    }

    fn of_token(Token(token): Token) -> Registration {
        Registration { slot: token & !(usize::MAX << Self::SHIFT), generation: (token >> Self::SHIFT) as u8 }
    }
}

const LISTENER: Token = Token(usize::MAX);
const LEADER: Token = Token(usize::MAX - 1);
const BELL: Token = Token(usize::MAX - 2);
const MAILS: Token = Token(usize::MAX - 3);

/// How many events are taken from the kernel at once.
const EVENTS: usize = 256;

#[cfg(any(target_os = "linux", target_os = "android"))]
const INPUT: Interest = Interest::READABLE.add(Interest::PRIORITY);
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const INPUT: Interest = Interest::READABLE;

impl Poller {
    pub(super) fn new() -> io::Result<Poller> {
        Ok(Poller { poll: Poll::new()?, events: Events::with_capacity(EVENTS) })
    }

    /// Ends the waits, from another thread.
    pub(super) fn waker(&self) -> io::Result<mio::Waker> {
        mio::Waker::new(self.poll.registry(), MAILS)
    }

    pub(super) fn watch_listener(&self, listener: BorrowedFd<'_>) -> io::Result<()> {
        register(self.poll.registry(), listener, LISTENER)
    }

    pub(super) fn watch_leader(&self, waker: BorrowedFd<'_>) -> io::Result<()> {
        register(self.poll.registry(), waker, LEADER)
    }

    pub(super) fn watch_bell(&self, bell: BorrowedFd<'_>) -> io::Result<()> {
        register(self.poll.registry(), bell, BELL)
    }

    /// Registers more for a socket than it has been registered for. What is ready already is reported as well. It ends
    /// when the last descriptor of the socket is closed.
    pub(super) fn watch(
        &self,
        of: Registration,
        socket: BorrowedFd<'_>,
        before: Registered,
        now: Registered,
    ) -> io::Result<()> {
        let interest = match now {
            Registered::Nothing => return Ok(()),
            Registered::Input => INPUT,
            Registered::InputAndOutput => INPUT | Interest::WRITABLE,
        };
        let (registry, raw) = (self.poll.registry(), socket.as_raw_fd());
        match before {
            Registered::Nothing => registry.register(&mut SourceFd(&raw), of.token(), interest),
            _ => registry.reregister(&mut SourceFd(&raw), of.token(), interest),
        }
    }

    /// Registers no more for a socket.
    pub(super) fn forget(&self, socket: BorrowedFd<'_>) {
        // It fails only if nothing is registered.
        let _ = self.poll.registry().deregister(&mut SourceFd(&socket.as_raw_fd()));
    }

    /// Waits, for this long at most.
    pub(super) fn wait(&mut self, timeout: Option<Duration>, mut handle: impl FnMut(Event)) {
        // All threads of the model run on this thread, which must not block.
        #[cfg(sockserver_model)]
        let (waits, timeout) = (timeout.is_none(), Some(Duration::ZERO));
        // It fails when a signal interrupts it, and for a descriptor that is no epoll.
        let _ = self.poll.poll(&mut self.events, timeout);
        #[cfg(sockserver_model)]
        while waits && self.events.is_empty() {
            crate::primitives::thread::yield_now();
            let _ = self.poll.poll(&mut self.events, timeout);
        }
        for event in &self.events {
            match event.token() {
                LISTENER => handle(Event::Listener),
                LEADER => handle(Event::Waker),
                BELL => handle(Event::Bell),
                MAILS => {}
                token => {
                    let is_over = event.is_read_closed() || event.is_write_closed() || event.is_error();
                    let readiness = Readiness {
                        input: event.is_readable() || is_over || event.is_priority(),
                        output: event.is_writable() || is_over,
                        is_peculiar: is_over || event.is_priority(),
                    };
                    handle(Event::Client(Registration::of_token(token), readiness));
                }
            }
        }
    }
}

fn register(registry: &Registry, descriptor: BorrowedFd<'_>, token: Token) -> io::Result<()> {
    registry.register(&mut SourceFd(&descriptor.as_raw_fd()), token, Interest::READABLE)
}

#[cfg(not(sockserver_model))]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_tells_the_slot_and_its_generation() {
        for registration in [(0, 0), (1, 7), (123_456, 254)].map(|(slot, generation)| Registration { slot, generation })
        {
            assert_eq!(Registration::of_token(registration.token()), registration);
            assert!(![LISTENER, LEADER, BELL, MAILS].contains(&registration.token()));
        }
    }
}

//! The listening sockets of one server. The leader accepts from them in turn.

use std::sync::{Arc, Weak};

use crate::{service::Service, transport::Transport};

pub(crate) type Listener<S> = <<S as Service>::Transport as Transport>::Listener;

/// The listening sockets of one server, and which of them to try next.
pub(super) struct Listeners<L> {
    /// At least one. Shared only with a `SocketServer` that does not serve yet.
    sockets: Arc<[L]>,
    /// For each socket: clients may wait in its queue.
    may_be_ready: Vec<bool>,
    /// The socket after the one that was tried last.
    next: usize,
}

impl<L> Listeners<L> {
    pub(super) fn new(sockets: Arc<[L]>) -> Listeners<L> {
        Listeners { may_be_ready: vec![true; sockets.len()], sockets, next: 0 }
    }

    pub(super) fn downgrade(&self) -> Weak<[L]> {
        Arc::downgrade(&self.sockets)
    }

    pub(super) fn sockets(&self) -> &[L] {
        &self.sockets
    }

    /// The number of the next socket in turn that may have a client.
    pub(super) fn next(&mut self) -> Option<usize> {
        let (before, from) = self.may_be_ready.split_at(self.next);
        let found = from.iter().position(|may_be_ready| *may_be_ready).map(|position| self.next + position);
        let socket = found.or_else(|| before.iter().position(|may_be_ready| *may_be_ready))?;
        self.next = (socket + 1) % self.sockets.len();
        Some(socket)
    }

    /// No client waits in the queue of this socket, which is left out until it is found ready.
    pub(super) fn has_no_client(&mut self, socket: usize) {
        self.may_be_ready[socket] = false;
    }

    /// The sockets, and for each whether clients may wait in its queue.
    pub(super) fn watch(&mut self) -> (&[L], &mut [bool]) {
        (&self.sockets, &mut self.may_be_ready)
    }

    /// Nothing is known about the queues.
    pub(super) fn try_all(&mut self) {
        self.may_be_ready.fill(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_that_may_have_a_client_take_turns() {
        let mut listeners = Listeners::new(Arc::from(["a", "b", "c"]));
        let turns: Vec<_> = (0..4).map(|_| listeners.next()).collect();
        assert_eq!(turns, [Some(0), Some(1), Some(2), Some(0)]);
        listeners.has_no_client(1);
        assert_eq!([listeners.next(), listeners.next(), listeners.next()], [Some(2), Some(0), Some(2)]);
        listeners.has_no_client(0);
        listeners.has_no_client(2);
        assert_eq!(listeners.next(), None);
        listeners.watch().1[1] = true;
        assert_eq!([listeners.next(), listeners.next()], [Some(1), Some(1)]);
    }
}

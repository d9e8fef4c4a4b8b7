//! The event loop that serves a connection.

use std::sync::Weak;

/// Gives connections a turn.
pub(crate) trait Turns: Send + Sync {
    /// Gives a turn to the connection at this place. Another one may be there by now: it has a turn too many then.
    fn request_turn(&self, place: Place);
}

/// Where a connection is: the number of its loop, and its own number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) of_loop: usize,
    pub(crate) slot: usize,
}

/// The event loop of a connection, for threads that have something for it to do.
#[derive(Clone)]
pub(crate) struct Host {
    /// Weak, as users keep writers and senders beyond the end of the server.
    turns: Weak<dyn Turns>,
    place: Place,
}

impl Host {
    pub(crate) fn new(turns: Weak<dyn Turns>, place: Place) -> Host {
        Host { turns, place }
    }

    pub(crate) fn request_turn(&self) {
        if let Some(turns) = self.turns.upgrade() {
            turns.request_turn(self.place);
        }
    }
}

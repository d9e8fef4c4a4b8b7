//! What other threads give to the owner of a loop.

use std::mem;

use crate::primitives::{
    Mutex,
    atomic::{AtomicBool, Ordering::Relaxed},
};

/// What the owner of a loop has not fetched yet, and whether it sleeps.
///
/// Both are under one lock, so no wake-up is lost: an owner that falls asleep has seen that there is no mail, and a
/// thread that posts mail later sees that the owner sleeps.
pub(super) struct Inbox<M> {
    state: Mutex<State<M>>,
    /// There is mail. A hint for the owner, which looks under the lock before it falls asleep.
    has_mail: AtomicBool,
}

struct State<M> {
    mails: Vec<M>,
    /// The owner waits, or is about to, and no thread has woken it.
    is_asleep: bool,
}

/// What a thread that has posted mail has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Posted {
    /// The owner sleeps: wake it.
    ToSleeper,
    /// The owner fetches the mail before it sleeps.
    ToOwner,
}

/// Whether the owner may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Sleep {
    Begun,
    /// There is mail to fetch first.
    HasMail,
}

impl<M> Inbox<M> {
    pub(super) fn new() -> Inbox<M> {
        Inbox { state: Mutex::new(State { mails: Vec::new(), is_asleep: false }), has_mail: AtomicBool::new(false) }
    }

    pub(super) fn post(&self, mail: M) -> Posted {
        let mut state = self.state.lock();
        state.mails.push(mail);
        self.has_mail.store(true, Relaxed);
        match mem::take(&mut state.is_asleep) {
            true => Posted::ToSleeper,
            false => Posted::ToOwner,
        }
    }

    /// Moves the mail into `fetched`, which is empty.
    pub(super) fn fetch(&self, fetched: &mut Vec<M>) {
        if self.has_mail.load(Relaxed) {
            let mut state = self.state.lock();
            self.has_mail.store(false, Relaxed);
            mem::swap(&mut state.mails, fetched);
        }
    }

    /// The owner is about to wait. If it has begun to, `awake` must follow.
    pub(super) fn fall_asleep(&self) -> Sleep {
        let mut state = self.state.lock();
        if !state.mails.is_empty() {
            return Sleep::HasMail;
        }
        state.is_asleep = true;
        Sleep::Begun
    }

    pub(super) fn awake(&self) {
        self.state.lock().is_asleep = false;
    }

    pub(super) fn is_owner_asleep(&self) -> bool {
        self.state.lock().is_asleep
    }
}

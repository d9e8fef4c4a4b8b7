//! Whether a connection is idle or busy, as far as the server can tell.

use std::time::Instant;

use crate::primitives::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};

/// Where a connection is between a request and its reply, and what the handler has declared about it.
pub(super) struct ActivityTracker {
    /// [`NO_REQUEST`], [`REQUEST_READ`] or [`REPLY_STARTED`]; [`BETWEEN_MESSAGES`] or [`IN_MESSAGE`] where the handler
    /// knows where messages end.
    stage: AtomicU8,
    /// [`UNDECLARED`], [`DECLARED_IDLE`] or [`DECLARED_BUSY`].
    declared: AtomicU8,
    /// How many requests the handler has begun to answer, modulo [`NO_DRAIN`].
    replies: AtomicU32,
    /// The value of `replies` when the drain found the handler in the middle of a request. [`NO_DRAIN`] before that.
    replies_at_drain: AtomicU32,
}

/// The handler has read nothing yet.
const NO_REQUEST: u8 = 0;
/// The handler has read bytes and written nothing since.
const REQUEST_READ: u8 = 1;
/// The handler has written something since it last read bytes.
const REPLY_STARTED: u8 = 2;
/// The handler has finished its last message, and no part of the next one has come.
const BETWEEN_MESSAGES: u8 = 3;
/// A part of a message has come, or the handler has one.
const IN_MESSAGE: u8 = 4;

const UNDECLARED: u8 = 0;
const DECLARED_IDLE: u8 = 1;
const DECLARED_BUSY: u8 = 2;

/// No number of replies.
const NO_DRAIN: u32 = u32::MAX;

/// Whether a connection is idle, when its handler waits and nothing is unread.
pub(super) enum Activity {
    Idle,
    /// The handler has declared it busy.
    Busy,
    /// It is idle if the client sends nothing until then.
    BusyUntil(Instant),
    /// It is busy until the message is complete and the handler has finished it.
    InMessage,
}

/// The request that a drain has found under way.
pub(super) enum DrainedRequest {
    InProgress,
    /// The handler has replied to it. What the handler has read since belongs to the next request.
    Answered,
}

impl ActivityTracker {
    pub(super) fn new() -> ActivityTracker {
        ActivityTracker {
            stage: AtomicU8::new(NO_REQUEST),
            declared: AtomicU8::new(UNDECLARED),
            replies: AtomicU32::new(0),
            replies_at_drain: AtomicU32::new(NO_DRAIN),
        }
    }

    pub(super) fn note_request(&self) {
        self.stage.store(REQUEST_READ, Relaxed);
    }

    pub(super) fn note_reply(&self) {
        // Output before the first request, such as a greeting, answers nothing.
        if self.stage.load(Relaxed) == REQUEST_READ {
            self.stage.store(REPLY_STARTED, Relaxed);
            self.count_reply();
        }
    }

    pub(super) fn begin_message(&self) {
        self.stage.store(IN_MESSAGE, Relaxed);
    }

    pub(super) fn end_message(&self) {
        if self.stage.load(Relaxed) == IN_MESSAGE {
            self.stage.store(BETWEEN_MESSAGES, Relaxed);
            self.count_reply();
        }
    }

    fn count_reply(&self) {
        self.replies.store(self.replies.load(Relaxed).wrapping_add(1) % NO_DRAIN, Relaxed);
    }

    pub(super) fn declare(&self, is_busy: bool) {
        self.declared.store(if is_busy { DECLARED_BUSY } else { DECLARED_IDLE }, Relaxed);
    }

    /// From now on it is guessed again.
    pub(super) fn undeclare(&self) {
        self.declared.store(UNDECLARED, Relaxed);
    }

    pub(super) fn replies(&self) -> u32 {
        self.replies.load(Relaxed)
    }

    /// Whether an end of file now cuts no request short.
    #[cfg(feature = "tls")]
    pub(super) fn is_between_requests(&self) -> bool {
        match self.declared.load(Relaxed) {
            UNDECLARED => !matches!(self.stage.load(Relaxed), REQUEST_READ | IN_MESSAGE),
            declared => declared == DECLARED_IDLE,
        }
    }

    /// `quiet_at` is when the connection will have been quiet for long enough to be idle without a reply.
    pub(super) fn activity(&self, quiet_at: impl FnOnce() -> Instant) -> Activity {
        match (self.declared.load(Relaxed), self.stage.load(Relaxed)) {
            (DECLARED_IDLE, _) => Activity::Idle,
            (DECLARED_BUSY, _) => Activity::Busy,
            (_, REPLY_STARTED | BETWEEN_MESSAGES) => Activity::Idle,
            (_, IN_MESSAGE) => Activity::InMessage,
            _ => {
                let quiet_at = quiet_at();
                if Instant::now() >= quiet_at { Activity::Idle } else { Activity::BusyUntil(quiet_at) }
            }
        }
    }

    /// Compares with the first call, which notes the request that is under way. Only for a connection that drains, has
    /// nothing left to read and is busy.
    pub(super) fn track_drained_request(&self) -> DrainedRequest {
        let replies = self.replies();
        match self.replies_at_drain.compare_exchange(NO_DRAIN, replies, Relaxed, Relaxed) {
            Err(at_drain) if at_drain != replies => DrainedRequest::Answered,
            _ => DrainedRequest::InProgress,
        }
    }
}

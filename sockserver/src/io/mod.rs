//! One connection, and how a thread waits for its client.
//!
//! `connection` never waits: it receives what is there, holds back what is written, and sends what the kernel takes.
//! `blocking` is the one place where a thread waits for a client, for what `connection` could not do at once.

pub(crate) mod bell;
mod blocking;
mod buffers;
pub(crate) mod connection;
mod duration;
pub(crate) mod record;
pub(crate) mod shared;
pub(crate) mod waker;

/// How long a handler has to say goodbye once it has been told that its connection ends.
pub(crate) const GOODBYE: std::time::Duration = std::time::Duration::from_secs(1);

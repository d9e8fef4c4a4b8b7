//! One connection, and how a thread waits for its client.
//!
//! `connection` never waits: it receives what is there, holds back what is written, and sends what the kernel takes.
//! `blocking` is the one place where a thread waits for a client, for what `connection` could not do at once.

pub(crate) mod bell;
mod blocking;
mod buffers;
pub(crate) mod closing;
pub(crate) mod connection;
mod duration;
pub(crate) mod failures;
pub(crate) mod incoming;
pub(crate) mod shared;
pub(crate) mod state;
pub(crate) mod waits;
pub(crate) mod waker;

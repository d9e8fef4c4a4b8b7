//! One connection, and how a thread waits for its client.
//!
//! `connection` has the socket and the buffers, and never waits. `receiving` and `sending` move the bytes, `waiting` is
//! where a thread waits for the client, and `ending` is the end of file. `turns` is in the place of `receiving` and
//! `waiting` where an event loop serves the connection. `encryption` is the layer between the buffers and the socket of a
//! connection with TLS.

mod activity;
pub(crate) mod backlog;
pub(crate) mod bell;
mod buffers;
pub(crate) mod closing;
pub(crate) mod connection;
mod duration;
#[cfg(feature = "tls")]
pub(crate) mod encryption;
pub(crate) mod ending;
pub(crate) mod failures;
mod header;
pub(crate) mod host;
pub(crate) mod incoming;
mod receiving;
mod sending;
pub(crate) mod shared;
pub(crate) mod state;
pub(crate) mod terms;
pub(crate) mod turns;
mod unsent;
pub(crate) mod wait_state;
pub(crate) mod waiting;
pub(crate) mod waker;

//! How long threads wait for the client of a connection, and by which system call.

use super::duration::AtomicDuration;
use crate::primitives::atomic::AtomicBool;

/// How long threads wait for the client. Times are counted from when the connection was accepted.
#[derive(Default)]
pub(super) struct Waits {
    pub(super) read_timeout: AtomicDuration,
    pub(super) write_timeout: AtomicDuration,
    pub(super) idle: AtomicDuration,
    pub(super) lifetime: AtomicDuration,
    /// When all reads end: [`Reader::set_deadline`](crate::Reader::set_deadline).
    pub(super) deadline: AtomicDuration,
    /// When all waits end: the handler has been told of the end, and has had its time to say goodbye.
    pub(super) cut: AtomicDuration,
    /// When bytes were received last or, where `idle` counts, sent.
    pub(super) last_transfer: AtomicDuration,
    /// The client has let the handler wait for long: it is waited for with poll(2) at once.
    pub(super) is_slow: AtomicBool,
    /// The receive timeout that the socket has, which `receiving` needs.
    pub(super) slice: AtomicDuration,
    /// A thread is in a receive that the timeout of the socket is to end.
    pub(super) is_in_slice: AtomicBool,
    /// The descriptor was lent to the user, who may receive with it and make it non-blocking.
    pub(super) is_lent: AtomicBool,
}

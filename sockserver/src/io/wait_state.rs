//! What limits the waits for a client, and by which system call threads wait.

use super::duration::AtomicDuration;
use crate::primitives::atomic::AtomicBool;

/// What all waits for one client share. Points in time are counted from when the connection was accepted.
#[derive(Default)]
pub(super) struct WaitState {
    pub(super) read_timeout: AtomicDuration,
    pub(super) write_timeout: AtomicDuration,
    pub(super) idle: AtomicDuration,
    /// When all reads end: [`Reader::set_deadline`](crate::Reader::set_deadline).
    pub(super) read_deadline: AtomicDuration,
    /// When all waits end: the handler has got a [`Closing`](super::closing::Closing) and its time to say goodbye is
    /// over.
    pub(super) cut_deadline: AtomicDuration,
    /// Since when nothing was transferred: since the last transfer if `idle` is set, else since the first wait after it,
    /// which costs a receive no look at the clock. `None`: no thread has waited since the last transfer.
    pub(super) quiet_since: AtomicDuration,
    /// The client has outlasted a slice: threads wait for it with poll(2) at once.
    pub(super) is_client_slow: AtomicBool,
    /// The receive timeout of the socket, which `receiving` sets.
    pub(super) slice_timeout: AtomicDuration,
    /// A thread is in a receive that relies on the timeout of the socket.
    pub(super) is_in_slice: AtomicBool,
    /// The user has the descriptor, and may receive with it or make it non-blocking.
    pub(super) is_descriptor_lent: AtomicBool,
}

//! The events that a concurrency adds to the wait of the accept loop.

use std::{os::fd::AsFd, sync::Arc, time::Instant};

use crate::handle::ServerHandle;

/// What a [`Concurrency`](crate::Concurrency) waits for besides requests, on the thread that accepts: the child
/// processes of [`Forking`](crate::concurrency::Forking), for example.
///
/// Any thread that serves calls the methods, and several threads may call them at once.
pub trait EventSource: Send + Sync {
    /// The descriptors that become readable when [`process`](Self::process) has something to do.
    fn descriptors(&self) -> Vec<Arc<dyn AsFd + Send + Sync>>;

    /// When [`process`](Self::process) has something to do although no descriptor is readable.
    fn deadline(&self, server: &ServerHandle) -> Option<Instant>;

    /// Does what there is to do, without waiting. The accept loop calls it when a descriptor is readable or the deadline
    /// has passed, and again and again while the server drains. The server holds no lock then.
    fn process(&self, server: &ServerHandle);

    /// Whether the server may end. While it drains it waits until this is true.
    fn is_done(&self) -> bool;
}

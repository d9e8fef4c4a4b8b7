//! What a strategy adds to the wait of the accept loop.

use std::{os::fd::AsFd, sync::Arc, time::Instant};

use crate::handle::ServerHandle;

/// What a [`Concurrency`](crate::Concurrency) waits for beside connections, on the thread that accepts: the child
/// processes of [`Forking`](crate::concurrency::Forking), for example.
///
/// The methods are called by any thread that serves, one at a time or several.
pub trait EventSource: Send + Sync {
    /// Descriptors that become readable when there is something to do.
    fn descriptors(&self) -> Vec<Arc<dyn AsFd + Send + Sync>>;

    /// When there is something to do although no descriptor is readable.
    fn deadline(&self, server: &ServerHandle) -> Option<Instant>;

    /// Does what there is to do. It is called when a descriptor is readable or the deadline is over, and while the server
    /// drains; no lock is held.
    fn process(&self, server: &ServerHandle);

    /// Nothing is left that the end of the server has to wait for.
    fn is_done(&self) -> bool;
}

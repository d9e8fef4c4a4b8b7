//! The server that a test and its clients share.

use std::sync::Arc;

use crate::{acceptor::Acceptor, server::Server};

/// Closes the server when the test and all its clients have dropped it.
pub(super) struct Running<S: Server>(pub(super) Arc<Acceptor<S>>);

impl<S: Server> Drop for Running<S> {
    fn drop(&mut self) {
        // A client may be dropped last in a handler of the server, which cannot wait for itself.
        if self.0.state().runs_here() {
            return self.0.state().stop();
        }
        if self.0.state().connections.drained().is_none() {
            self.0.close();
        }
    }
}

//! The life of one accepted request.

use std::{fmt, sync::Arc};

use crate::{
    acceptor::Acceptor,
    address::Address,
    connections::{ConnectionId, Outcome},
    handler::{HandlerError, Stage, finish_request},
    server::{Request, Server},
    transport::{AnyRequest, Internals},
};

/// A request that was accepted and verified, and waits to be processed.
///
/// It counts as under way until it is dropped, and dropping it shuts the request down: one that is not processed is a
/// client that was turned away.
pub struct Accepted<S: Server> {
    /// Dropped before the registration: a request that is not counted any more has no socket either.
    request: Request<S>,
    registration: Registration<S>,
}

/// The place of a request in the registry, which it leaves when this is dropped.
struct Registration<S: Server> {
    acceptor: Arc<Acceptor<S>>,
    id: ConnectionId,
    outcome: Outcome,
}

impl<S: Server> Accepted<S> {
    /// The request is registered already.
    pub(crate) fn new(acceptor: &Arc<Acceptor<S>>, request: Request<S>) -> Accepted<S> {
        let registration = Registration { acceptor: acceptor.clone(), id: request.id(), outcome: Outcome::Rejected };
        Accepted { request, registration }
    }

    /// Whose request it is.
    pub fn acceptor(&self) -> &Arc<Acceptor<S>> {
        &self.registration.acceptor
    }

    /// Where the request comes from.
    pub fn client_address(&self) -> &Address {
        self.request.client_address()
    }

    /// The request itself.
    pub fn request(&self) -> &Request<S> {
        &self.request
    }

    /// Makes the handler, runs it, reports its error and ends the request, on this thread: Python's `finish_request`,
    /// `handle_error`, `shutdown_request` and `close_request`. It does not unwind.
    pub fn process(mut self) {
        let record = self.request.record();
        if !record.start() {
            return;
        }
        let result = finish_request(self.acceptor(), &self.request);
        self.registration.outcome = Outcome::of(&result, record.closing());
        if let Err(error) = result {
            self.acceptor().handle_error(&error, self.client_address());
        }
    }

    /// Ends the request, as it could not be started.
    pub fn fail(self, error: impl Into<crate::BoxError>) {
        self.end(HandlerError::new(Stage::ProcessRequest, error));
    }

    /// Python's `verify_request`: ends the request if the server does not want it.
    pub(crate) fn verify(mut self) -> Option<Accepted<S>> {
        match self.acceptor().verify_request(&self.request) {
            Ok(true) => Some(self),
            Ok(false) => {
                self.registration.outcome = Outcome::Refused;
                None
            }
            Err(message) => {
                self.end(HandlerError::panic(Stage::VerifyRequest, message));
                None
            }
        }
    }

    fn end(mut self, error: HandlerError) {
        self.registration.outcome = if error.is_panic() { Outcome::Panicked } else { Outcome::Failed };
        self.acceptor().handle_error(&error, self.client_address());
    }
}

impl<S: Server> Drop for Accepted<S> {
    fn drop(&mut self) {
        self.request.shutdown();
    }
}

impl<S: Server> Drop for Registration<S> {
    fn drop(&mut self) {
        self.acceptor.unregister(self.id, self.outcome);
    }
}

impl<S: Server> fmt::Debug for Accepted<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accepted").field("client_address", self.client_address()).finish_non_exhaustive()
    }
}

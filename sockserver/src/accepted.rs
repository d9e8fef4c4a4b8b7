//! The life of one accepted request.

use std::{fmt, sync::Arc};

use crate::{
    acceptor::Acceptor,
    address::Address,
    handler::{HandlerError, Stage, finish_request},
    record::ConnectionId,
    server::{Request, Server},
    stats::Outcome,
    transport::{AnyRequest, Internals},
    unwind,
};

/// A request that was accepted and verified, and waits to be processed.
///
/// It counts as under way until it is dropped, and dropping it shuts the request down: one that is not processed is a
/// client that was turned away.
#[must_use = "a request that is not processed is turned away: call `process`"]
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
    /// This process is a child, and the request its parent's.
    abandoned: bool,
}

impl<S: Server> Accepted<S> {
    /// The request is registered already.
    pub(crate) fn new(acceptor: &Arc<Acceptor<S>>, request: Request<S>) -> Accepted<S> {
        let registration =
            Registration { acceptor: acceptor.clone(), id: request.id(), outcome: Outcome::Rejected, abandoned: false };
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
    pub fn process(self) {
        if !self.is_too_late() {
            self.process_started();
        }
    }

    /// As [`process`](Self::process), of a request that has started already: a server that stops meanwhile waits for
    /// it.
    pub(crate) fn process_started(self) {
        let (outcome, error) = self.run();
        self.settle(outcome, error);
    }

    /// The server has ended the request already. From the moment that it stops no handler starts: the request can only
    /// be dropped.
    pub(crate) fn is_too_late(&self) -> bool {
        self.request.record().closing().is_some()
    }

    /// In a child process: as [`process`](Self::process), but its parent reports the error and then ends the request.
    /// It has started with the fork: a server that stops between that and this waits for it.
    pub(crate) fn process_in_child(&self) -> (Outcome, Option<HandlerError>) {
        let (outcome, error) = self.run();
        if error.is_none() {
            self.request.shutdown();
        }
        (outcome, error)
    }

    fn run(&self) -> (Outcome, Option<HandlerError>) {
        let result = finish_request(self.acceptor(), &self.request);
        // The error is the user's, and is asked for its sources.
        let outcome =
            unwind::run(self.acceptor().handle().control(), || Outcome::of(&result, self.request.record().closing()));
        (outcome.unwrap_or(Outcome::Panicked), result.err())
    }

    /// Reports how the request ended, and ends it.
    pub(crate) fn settle(mut self, outcome: Outcome, error: Option<HandlerError>) {
        self.registration.outcome = outcome;
        if let Some(error) = error {
            self.acceptor().handle_error(error, self.client_address());
        }
    }

    /// In a child process, of a request that is not the child's: closes its socket, and leaves it to the parent.
    pub(crate) fn abandon(mut self) {
        self.registration.abandoned = true;
    }

    /// Ends the request, as it could not be started: it counts as failed, and the error is told to
    /// [`handle_error`](Server::handle_error) with [`Stage::ProcessRequest`](crate::Stage::ProcessRequest).
    pub fn fail(self, error: impl Into<crate::BoxError>) {
        self.settle(Outcome::Failed, Some(HandlerError::new(Stage::ProcessRequest, error)));
    }

    /// Python's `verify_request`: ends the request if the server does not want it.
    pub(crate) fn verify(self) -> Option<Accepted<S>> {
        match self.acceptor().verify_request(&self.request) {
            Ok(true) => Some(self),
            Ok(false) => {
                self.settle(Outcome::Refused, None);
                None
            }
            Err(message) => {
                self.settle(Outcome::Panicked, Some(HandlerError::panic(Stage::VerifyRequest, message)));
                None
            }
        }
    }
}

impl<S: Server> Drop for Accepted<S> {
    fn drop(&mut self) {
        if !self.registration.abandoned {
            self.request.shutdown();
        }
    }
}

impl<S: Server> Drop for Registration<S> {
    fn drop(&mut self) {
        if !self.abandoned {
            self.acceptor.unregister(self.id, self.outcome);
        }
    }
}

impl<S: Server> fmt::Debug for Accepted<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accepted").field("client_address", self.client_address()).finish_non_exhaustive()
    }
}

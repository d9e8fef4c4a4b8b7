//! The life of one accepted request.

use std::{fmt, sync::Arc};

use crate::{
    acceptor::Acceptor,
    address::Address,
    handler::{Ended, HandlerError, Stage, finish_request},
    io::{
        connection::End,
        record::{Closing, ConnectionId},
    },
    server::{Request, Server},
    stats::Outcome,
    sys,
    transport::{AnyRequest, Internals},
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
    /// This process is a child, and the request its parent's.
    abandoned: bool,
}

impl<S: Server> Accepted<S> {
    /// The request is registered already.
    pub(crate) fn new(acceptor: &Arc<Acceptor<S>>, request: Request<S>) -> Accepted<S> {
        let registration = Registration { acceptor: acceptor.clone(), id: request.id(), abandoned: false };
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
            let Ended { outcome, error } = self.run();
            self.settle(outcome, error);
        }
    }

    /// The server has ended the request already, so that it can only be dropped. One that was accepted before the server
    /// drains is handled as any other.
    pub(crate) fn is_too_late(&self) -> bool {
        let record = self.request.record();
        record.shut_for().is_some() || record.closing().is_some_and(|closing| closing != Closing::Draining)
    }

    /// In a child process: runs the handler and ends the request for its client. The parent, which has the socket as well,
    /// reports the error and lingers.
    pub(crate) fn process_in_child(&self) -> Ended {
        let ended = self.run();
        // A drain that ends the process in the middle of it would leave the end counted nowhere.
        sys::without_signals(|| self.count(ended.outcome));
        if let Some(connection) = self.request.connection() {
            connection.end(false);
        }
        ended
    }

    fn run(&self) -> Ended {
        finish_request(self.acceptor(), &self.request)
    }

    /// Counts how the request ended, and reports it; then the request ends.
    pub(crate) fn settle(self, outcome: Outcome, error: Option<HandlerError>) {
        self.count(outcome);
        if let Some(error) = error {
            self.acceptor().handle_error(error, self.client_address());
        }
    }

    /// Before the client can see the end. Only the first outcome counts.
    fn count(&self, outcome: Outcome) {
        if self.request.record().is_to_be_counted() {
            self.acceptor().handle().control().connections.count_ended(outcome);
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
        if self.registration.abandoned {
            return;
        }
        // Before the client can see the end.
        self.count(Outcome::Rejected);
        if let (End::Lingering, Some(connection)) = (self.request.end(), self.request.connection()) {
            self.registration.acceptor.linger(connection.clone());
        }
    }
}

impl<S: Server> Drop for Registration<S> {
    fn drop(&mut self) {
        if !self.abandoned {
            self.acceptor.unregister(self.id);
        }
    }
}

impl<S: Server> fmt::Debug for Accepted<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accepted").field("client_address", self.client_address()).finish_non_exhaustive()
    }
}

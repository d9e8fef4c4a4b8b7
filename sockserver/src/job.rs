//! An accepted request, from `verify_request` to its end.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use crate::{
    acceptor::Acceptor,
    address::Address,
    connections::stats::Outcome,
    error::{HandlerError, Stage},
    event::{ConnectionRef, Ending, Event, TurnedAway},
    finish_request::{Ended, discard, finish_request},
    handler::BoxError,
    io::{closing::Closing, connection::Connection, ending::End, state::ConnectionId},
    preamble::{Failure, Preamble},
    request::{self, AnyRequest},
    service::{Request, Service},
    telemetry::Span,
};

/// A request that was accepted and verified, and waits to be processed. Where connections begin with a PROXY header or a TLS
/// handshake, it is verified when it is processed, as these say who the client is.
///
/// It counts as under way until it is dropped. Dropping it ends the request; if it was not processed, its client is turned
/// away.
#[must_use = "a request that is not processed is turned away: call `process`"]
pub struct Job<S: Service> {
    /// Its end was counted, and the hook for events has heard of it.
    has_ended: bool,
    span: Span,
    /// The span has the address of the client.
    is_client_named: AtomicBool,
    /// Dropped before the registration, so that the socket is closed before the request stops counting.
    request: Request<S>,
    registration: Registration<S>,
}

/// Unregisters the request when it is dropped.
struct Registration<S: Service> {
    acceptor: Arc<Acceptor<S>>,
    id: ConnectionId,
    /// This process is a child, and the parent unregisters the request.
    abandoned: bool,
}

impl<S: Service> Acceptor<S> {
    /// Waits for the next request that the limits and `verify_request` let through. `None`: the server is stopping and
    /// accepts no more.
    ///
    /// Any number of threads can call it at once.
    pub fn accept(self: &Arc<Self>) -> Option<Job<S>> {
        loop {
            if let Some(job) = self.accept_unverified()?.verify() {
                return Some(job);
            }
        }
    }

    /// As [`accept`](Self::accept), before `verify_request`.
    pub(crate) fn accept_unverified(self: &Arc<Self>) -> Option<Job<S>> {
        self.wait_for_request().map(|request| Job::new(self, request))
    }
}

impl<S: Service> Job<S> {
    /// The request must have been registered.
    pub(crate) fn new(acceptor: &Arc<Acceptor<S>>, request: Request<S>) -> Job<S> {
        let registration = Registration { acceptor: acceptor.clone(), id: request.id(), abandoned: false };
        let connection = ConnectionRef::new(request::kind(&request).state());
        let span = Span::new(connection, request::is_stream::<Request<S>>());
        let job = Job { has_ended: false, span, is_client_named: AtomicBool::new(false), request, registration };
        if job.acceptor().preamble().is_none() {
            job.name_client();
        }
        job
    }

    /// The acceptor that has accepted the request.
    pub fn acceptor(&self) -> &Arc<Acceptor<S>> {
        &self.registration.acceptor
    }

    /// Where the request comes from. Behind a proxy it is the proxy's address until the request is processed.
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
            let ended = self.serve();
            self.settle(ended);
        }
    }

    /// Verifies the request and processes it, and returns the error instead of reporting it.
    pub(crate) fn verify_and_process(mut self) -> Result<(), HandlerError> {
        let Ended { how, error } = match self.verify_unless_unknown() {
            Ok(()) if self.is_too_late() => return Ok(()),
            Ok(()) => self.serve(),
            Err(ended) => ended,
        };
        let error = self.of_connection(error);
        self.conclude(how, error.as_ref());
        error.map_or(Ok(()), Err)
    }

    /// The handler is about to be made.
    pub(crate) fn started(&self) {
        self.acceptor().hooks.event(&Event::Started(self.connection()));
    }

    /// What runs code of the handler.
    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    /// The client is known: the span gets its address.
    fn name_client(&self) {
        if !self.is_client_named.swap(true, Relaxed) {
            self.span.name_client(self.connection());
        }
    }

    fn connection(&self) -> ConnectionRef<'_> {
        ConnectionRef::new(request::kind(&self.request).state())
    }

    /// Must be called before the client can see the end.
    fn conclude(&mut self, how: Ending, error: Option<&HandlerError>) {
        self.has_ended = true;
        self.count(how.outcome());
        match how {
            Ending::TurnedAway(TurnedAway::Preamble | TurnedAway::Untrusted | TurnedAway::NotStarted) => {}
            // A child that has read the preamble has named the client in its own copy of the span.
            _ => self.name_client(),
        }
        let connection = self.connection();
        let (event, error) = match how {
            Ending::Ended(outcome) => (Event::Ended { connection, outcome, error }, error),
            Ending::TurnedAway(why) => (Event::TurnedAway { connection, why }, None),
        };
        self.span.end(connection, how.outcome(), error);
        self.acceptor().hooks.event(&event);
    }

    /// Whether the server has ended the request already, so that it can only be dropped. A request that was accepted
    /// before the drain is handled like any other.
    pub(crate) fn is_too_late(&self) -> bool {
        let state = request::kind(&self.request).state();
        state.shut_for().is_some() || state.closing().is_some_and(|closing| closing != Closing::Draining)
    }

    /// Reads the preamble if there is one, makes the handler and runs it.
    fn serve(&self) -> Ended {
        match self.introduce(|| ()) {
            Ok(()) => {
                self.started();
                self.run()
            }
            Err(ended) => ended,
        }
    }

    /// Reads the preamble, if there is one, and decides then whether the client is welcome. `ended` is called in
    /// between, also after a failure.
    pub(crate) fn introduce(&self, ended: impl FnOnce()) -> Result<(), Ended> {
        let Some((preamble, connection)) = self.preamble() else { return Ok(()) };
        let read = preamble.read(connection);
        ended();
        read?;
        self.enter()
    }

    /// What the connection has to begin with, if anything.
    pub(crate) fn preamble(&self) -> Option<(&Preamble, &Connection)> {
        let connection = request::kind(&self.request).connection()?;
        Some((self.acceptor().preamble()?, connection))
    }

    /// The preamble is complete, and the client is known: decides whether it is welcome.
    pub(crate) fn enter(&self) -> Result<(), Ended> {
        self.name_client();
        let acceptor = self.acceptor();
        let entered = acceptor.introduce(self.request.id(), self.client_address());
        entered.map_err(|why| Ended { how: Ending::TurnedAway(why.into()), error: None })?;
        self.verify_request()
    }

    /// Makes the handler and runs it.
    pub(crate) fn run(&self) -> Ended {
        let acceptor = self.acceptor();
        let options = &acceptor.options().handler;
        self.span.run(|| finish_request(acceptor.server(), acceptor.handle(), options, &self.request))
    }

    /// Counts how the request ended, reports its error, and ends it.
    pub(crate) fn settle(mut self, Ended { how, error }: Ended) {
        let error = self.of_connection(error);
        self.conclude(how, error.as_ref());
        match error {
            Some(error) if self.is_to_report(&error) => {
                self.acceptor().hooks.handle_error(error, self.client_address());
            }
            Some(error) => discard(self.acceptor().state().id, error),
            None => {}
        }
    }

    fn of_connection(&self, error: Option<HandlerError>) -> Option<HandlerError> {
        error.map(|error| error.with_connection(self.connection().info()))
    }

    /// Must be called before the client can see the end. Only the first outcome counts.
    pub(crate) fn count(&self, outcome: Outcome) {
        if request::kind(&self.request).state().mark_counted() {
            self.acceptor().state().connections.count_ended(outcome);
        }
    }

    /// In a child process, for a request of another child: closes its socket here, and leaves the rest to the parent.
    pub(crate) fn abandon(mut self) {
        self.registration.abandoned = true;
    }

    /// Ends a request whose processing could not be started. It counts as failed, and
    /// [`handle_error`](crate::Server::handle_error) gets the error with
    /// [`Stage::ProcessRequest`](crate::Stage::ProcessRequest).
    pub fn fail(self, error: impl Into<BoxError>) {
        let error = Some(HandlerError::new(Stage::ProcessRequest, error));
        self.settle(Ended { how: Ending::Ended(Outcome::Failed), error });
    }

    /// The failures of preambles are many and alike.
    fn is_to_report(&self, error: &HandlerError) -> bool {
        let preamble = self.acceptor().preamble();
        preamble.is_none_or(|preamble| preamble.is_to_report(error.stage(), self.client_address()))
    }

    /// Python's `verify_request`: ends the request if the server does not want it. Where there is a preamble, it is
    /// called after that.
    pub(crate) fn verify(self) -> Option<Job<S>> {
        match self.verify_unless_unknown() {
            Ok(()) => Some(self),
            Err(ended) => {
                self.settle(ended);
                None
            }
        }
    }

    fn verify_unless_unknown(&self) -> Result<(), Ended> {
        if self.acceptor().preamble().is_some() { Ok(()) } else { self.verify_request() }
    }

    fn verify_request(&self) -> Result<(), Ended> {
        let hooks = &self.acceptor().hooks;
        match self.span.run(|| hooks.verify_request(&self.request, self.client_address())) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Ended { how: Ending::TurnedAway(TurnedAway::Refused), error: None }),
            Err(message) => {
                let error = HandlerError::panic(Stage::VerifyRequest, message);
                Err(Ended { how: Ending::Ended(Outcome::Panicked), error: Some(error) })
            }
        }
    }
}

impl From<Failure> for Ended {
    fn from(Failure { how, error }: Failure) -> Ended {
        Ended { how, error }
    }
}

impl<S: Service> Drop for Job<S> {
    fn drop(&mut self) {
        if self.registration.abandoned {
            return;
        }
        if !self.has_ended {
            self.conclude(Ending::TurnedAway(TurnedAway::NotStarted), None);
        }
        self.registration.acceptor.put_place_back(self.registration.id);
        let request = request::kind(&self.request);
        if let (End::Lingering, Some(connection)) = (request.end(), request.connection()) {
            self.registration.acceptor.linger(connection.clone());
        }
    }
}

impl<S: Service> Drop for Registration<S> {
    fn drop(&mut self) {
        if !self.abandoned {
            self.acceptor.unregister(self.id);
        }
    }
}

impl<S: Service> fmt::Debug for Job<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("client_address", self.client_address()).finish_non_exhaustive()
    }
}

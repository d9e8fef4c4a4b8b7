//! One connection on a loop, from its first turn to its last.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::Instant,
};

use super::{
    hand_over::{TurnContext, TurnHistory, Work},
    poller::{Readiness, Registered},
};
#[cfg(feature = "tls")]
use crate::io::encryption::StartingTls;
use crate::{
    error::{HandlerError, Stage as HandlerStage},
    finish_request::{Ended, attributed, conclude, drop_handler, finish_handler, first, run, set_up},
    io::{
        closing::Closing,
        connection::Connection,
        host::{self, Host},
        turns::{Flushed, LoopWait, Rest},
    },
    job::Job,
    preamble::{Progress, Reading},
    request,
    runner::{Handler, Messages, Received, Requests, Step, Token},
    service::Service,
    unwind::ServerId,
};

/// How many messages of one connection are handled in a turn, and how often it receives.
const MESSAGES: usize = 16;

/// How many written bytes are collected before they are sent within a turn. While the client does not take what it was
/// sent, its next messages wait.
const BACKLOG: usize = 64 * 1024;

/// The client may have sent something already. The socket is registered when it has not.
const UNKNOWN: Readiness = Readiness { input: true, output: true, is_peculiar: false };

/// A connection that a loop serves.
pub(super) struct Talk<S: Service> {
    job: Job<S>,
    stage: Stage,
    wait: LoopWait,
    /// What the loop has seen of the socket, and the last turn has not used up.
    readiness: Readiness,
    pub(super) registered: Registered,
    pub(super) history: TurnHistory,
    /// Why the loop cannot wait for the client.
    failure: Option<io::Error>,
    /// The handler has asked for TLS, and the handshake has not ended.
    #[cfg(feature = "tls")]
    starting_tls: Option<StartingTls>,
}

enum Stage {
    /// There is no handler yet, and nothing was received.
    New,
    /// The preamble has not come, or not all of it.
    Introducing(Reading),
    Talking(Box<dyn Messages>),
    /// The handler has finished, and what it has written is being sent.
    Ending(Result<Option<Closing>, HandlerError>),
}

/// What a connection needs after a turn.
#[derive(Clone, Copy, Debug)]
pub(super) enum Needs {
    /// Another turn.
    Turn,
    /// To wait for its client to send something, or until then.
    Input(Option<Instant>),
    /// To wait for its client to take what was written, or until then.
    Output(Option<Instant>),
}

/// Whether the client is known and welcome.
enum Introduced {
    Yes,
    NotYet(Needs),
    /// The server has ended the connection.
    TooLate,
}

/// How the messages of a connection have ended.
struct Ending(Result<(), HandlerError>);

impl<S: Service> Talk<S> {
    /// The job is one of a stream.
    pub(super) fn new(job: Job<S>, host: Arc<Host>) -> Box<Talk<S>> {
        let talk = Talk {
            job,
            stage: Stage::New,
            wait: LoopWait::default(),
            readiness: UNKNOWN,
            registered: Registered::Nothing,
            history: TurnHistory::default(),
            failure: None,
            #[cfg(feature = "tls")]
            starting_tls: None,
        };
        if let Some(connection) = talk.connection() {
            connection.enter_loop(host);
        }
        Box::new(talk)
    }

    /// The connection has got a slot in a loop, in which nothing is registered for it. A turn must follow.
    pub(super) fn arrive(&mut self, address: host::SlotAddress) {
        (self.readiness, self.registered) = (UNKNOWN, Registered::Nothing);
        if let Some(host) = self.connection().and_then(Connection::host) {
            host.set_address(address);
        }
    }

    pub(super) fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.connection().map(|connection| connection.socket().as_fd())
    }

    pub(super) fn note(&mut self, readiness: Readiness) {
        self.readiness.add(readiness);
    }

    /// The loop cannot wait for the client: the next turn ends the connection.
    pub(super) fn fail(&mut self, error: io::Error) {
        self.failure = Some(error);
    }

    fn connection(&self) -> Option<&Connection> {
        request::kind(self.job.request()).connection().map(|connection| &**connection)
    }

    /// One turn. `None`: the connection has ended.
    pub(super) fn turn<W: Work>(mut self: Box<Self>, context: &TurnContext<'_, W>) -> Option<(Box<Self>, Needs)> {
        let span = self.job.span().clone();
        self.connection()?.begin_turn();
        if let Stage::New | Stage::Introducing(_) = self.stage {
            match self.introduce() {
                Ok(Introduced::Yes) => {}
                Ok(Introduced::NotYet(needs)) => return Some((self, needs)),
                Ok(Introduced::TooLate) => return None,
                Err(ended) => {
                    self.job.settle(ended);
                    return None;
                }
            }
            self.job.started();
            self.stage = span.run(|| self.set_up());
        }
        let acceptor = self.job.acceptor();
        let id = acceptor.state().id;
        if let Stage::Talking(_) = self.stage {
            let Ending(handled) = match span.run(|| self.talk(id, context)) {
                Ok(needs) => return Some((self, needs)),
                Err(ending) => ending,
            };
            let state = request::kind(self.job.request()).state();
            let handled = handled.map_err(|error| attributed(id, state, error));
            #[cfg(feature = "tls")]
            if self.starting_tls.take().is_some() {
                self.connection()?.refuse_output();
            }
            if let Stage::Talking(mut messages) = std::mem::replace(&mut self.stage, Stage::New) {
                self.stage = Stage::Ending(span.run(|| {
                    let finished = finish_handler(id, self.job.request(), &mut *messages, handled);
                    first(id, finished, drop_handler(id, messages))
                }));
            }
        }
        let connection = request::kind(self.job.request()).connection()?;
        let flushed = match self.failure.take() {
            None => connection.flush_in_turn(&mut self.wait),
            Some(error) => {
                connection.flush_without_waiting();
                Err(error)
            }
        };
        let flushed = match flushed {
            Ok(Flushed::Until(until)) => return Some((self, Needs::Output(until))),
            Ok(Flushed::Done) => Ok(()),
            Err(error) => Err(error),
        };
        let Talk { job, stage, .. } = *self;
        let Stage::Ending(handled) = stage else { return None };
        let ended = conclude(id, job.request(), handled, flushed);
        job.settle(ended);
        None
    }

    /// Reads on in the preamble, if there is one, and decides then whether the client is welcome.
    fn introduce(&mut self) -> Result<Introduced, Ended> {
        let Talk { job, stage, wait, readiness, failure, .. } = self;
        if let Stage::New = stage {
            if job.is_too_late() {
                return Ok(Introduced::TooLate);
            }
            let Some((preamble, connection)) = job.preamble() else { return Ok(Introduced::Yes) };
            if let Some(reading) = preamble.begin(connection)? {
                *stage = Stage::Introducing(reading);
            }
        }
        if let (Stage::Introducing(reading), Some((preamble, connection))) = (stage, job.preamble()) {
            let needs = match failure.take() {
                Some(error) => return Err(reading.fail(connection, error).into()),
                None => match preamble.read_in_turn(reading, connection, &mut readiness.input, wait)? {
                    Progress::Complete => None,
                    Progress::Until(until) => Some(Needs::Input(until)),
                    Progress::Unsent(until) => Some(Needs::Output(until)),
                    Progress::Again => Some(Needs::Turn),
                },
            };
            if let Some(needs) = needs {
                return Ok(Introduced::NotYet(needs));
            }
        }
        job.enter().map(|()| Introduced::Yes)
    }

    /// Makes the handler.
    fn set_up(&self) -> Stage {
        let acceptor = self.job.acceptor();
        let (server, handle, options) = (acceptor.server(), acceptor.handle(), &acceptor.options().handler);
        match set_up(server, handle, options, self.job.request()).map(S::Handler::into_messages) {
            Ok(Ok(messages)) => Stage::Talking(messages),
            Ok(Err(_)) => Stage::Ending(Err(HandlerError::new(HandlerStage::Construction, NO_MESSAGES))),
            Err(error) => Stage::Ending(Err(error)),
        }
    }

    /// Handles messages, and sends what the handler has written.
    fn talk<W: Work>(&mut self, id: ServerId, context: &TurnContext<'_, W>) -> Result<Needs, Ending> {
        if let Some(error) = self.failure.take() {
            return Err(error.into());
        }
        #[cfg(feature = "tls")]
        if let Some(needs) = self.start_tls()? {
            return Ok(needs);
        }
        let Talk { job, stage, wait, readiness, history, .. } = self;
        let (Some(connection), Stage::Talking(messages)) = (request::kind(job.request()).connection(), stage) else {
            return Err(Ending(Ok(())));
        };
        // Whether the next message has to wait until the client has taken more, or another thread has sent its bytes.
        let is_blocked = |wait: &mut LoopWait| {
            let is_unsent = connection.send_in_turn(wait)? > 0;
            Ok::<bool, io::Error>(is_unsent || connection.backlog() >= BACKLOG && connection.awaits_sender())
        };
        if is_blocked(wait)? {
            return Ok(Needs::Output(connection.rest_unsent(wait)?));
        }
        let (mut handled, mut receives) = (0, 0);
        while handled < MESSAGES && receives < MESSAGES {
            let is_to_send = || context.is_off_the_loop() || connection.backlog() >= BACKLOG;
            let step = run(id, &connection.state, HandlerStage::Handle, || {
                loop {
                    let step = messages.handle_next(Token(()))?;
                    handled += usize::from(step == Step::Handled);
                    if step != Step::Handled || handled == MESSAGES || is_to_send() {
                        return Ok(step);
                    }
                }
            })?;
            if handled > 0 {
                history.note_message();
                wait.end_to_receive();
            }
            match step {
                Step::Handled => {
                    if is_to_send() && is_blocked(wait)? {
                        return Ok(Needs::Output(connection.rest_unsent(wait)?));
                    }
                    continue;
                }
                Step::HungUp => return Err(Ending(Ok(()))),
                #[cfg(feature = "tls")]
                Step::StartedTls => {
                    connection.end_message();
                    let received = messages.received(Token(()));
                    let starting = received.map(|received| connection.begin_to_start_tls(received.incoming));
                    self.starting_tls = starting.transpose()?;
                    return Ok(Needs::Turn);
                }
                Step::NothingCame if readiness.input => {}
                Step::NothingCame => match connection.rest(wait)? {
                    Rest::Until(until) => {
                        if connection.host().is_some_and(|host| messages.has_mail(Requests(host))) {
                            return Ok(Needs::Turn);
                        }
                        if let Some(Received { incoming, .. }) = messages.received(Token(())) {
                            incoming.shrink();
                        }
                        return Ok(Needs::Input(until));
                    }
                    Rest::Unsent => return Ok(Needs::Output(connection.rest_unsent(wait)?)),
                    Rest::Receive => {}
                },
            }
            receives += 1;
            let Some(Received { incoming, size }) = messages.received(Token(())) else { return Err(Ending(Ok(()))) };
            match connection.receive_now(incoming, size, wait) {
                Ok(received) if received.bytes == 0 => {
                    let last = || messages.handle_last(Token(()));
                    return Err(Ending(run(id, &connection.state, HandlerStage::Handle, last)));
                }
                Ok(received) => readiness.input = !received.is_all || readiness.is_peculiar,
                // What was peculiar was received, and the kernel reports what comes next.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    (readiness.input, readiness.is_peculiar) = (false, false);
                }
                Err(error) => return Err(error.into()),
            }
        }
        match is_blocked(wait)? {
            false => Ok(Needs::Turn),
            true => Ok(Needs::Output(connection.rest_unsent(wait)?)),
        }
    }

    /// Goes on with the handshake that the handler has asked for. `None`: there is none, or it is done.
    #[cfg(feature = "tls")]
    fn start_tls(&mut self) -> io::Result<Option<Needs>> {
        let Talk { job, wait, readiness, starting_tls, .. } = self;
        let (Some(connection), Some(starting)) = (request::kind(job.request()).connection(), &starting_tls) else {
            return Ok(None);
        };
        let needs = match connection.start_tls_in_turn(starting, &mut readiness.input, wait)? {
            None => {
                *starting_tls = None;
                return Ok(None);
            }
            Some(Rest::Until(until)) => Needs::Input(until),
            Some(Rest::Unsent) => Needs::Output(connection.rest_unsent(wait)?),
            Some(Rest::Receive) => {
                readiness.input = true;
                Needs::Turn
            }
        };
        Ok(Some(needs))
    }
}

/// What no server reaches that was bound.
const NO_MESSAGES: &str = "an event loop calls message handlers only";

impl From<io::Error> for Ending {
    fn from(error: io::Error) -> Ending {
        Ending(Err(HandlerError::new(HandlerStage::Handle, error)))
    }
}

impl From<HandlerError> for Ending {
    fn from(error: HandlerError) -> Ending {
        Ending(Err(error))
    }
}

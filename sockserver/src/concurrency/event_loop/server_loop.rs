//! What a loop of a server does: it accepts, and gives its connections their turns.

use std::{
    collections::VecDeque,
    io,
    os::fd::AsFd,
    sync::{Arc, OnceLock, Weak},
    time::{Duration, Instant},
};

use super::{
    hand_over::{self, HandOver, Next, TurnHistory, Work},
    occupancy::Occupancy,
    poller::{Event, Poller, Readiness, Registered, Registration},
    talk::{Needs, Talk},
    timers::Timers,
};
use crate::{
    acceptor::{Accepted, Acceptor},
    concurrency::start_worker,
    error::Stage,
    io::host::{Host, SlotAddress, Turns},
    job::Job,
    primitives::atomic::{AtomicUsize, Ordering::Relaxed},
    request,
    service::{Request, Service},
    sys, unwind,
};

/// The loops of one server, as their threads share them.
pub(super) struct ServerWork<S: Service> {
    acceptor: Arc<Acceptor<S>>,
    /// By the number of the loop.
    loops: Vec<LoopHandle>,
    /// What loops reach each other by, and connections their loop.
    hand_over: OnceLock<Weak<HandOver<ServerWork<S>>>>,
    threads: AtomicUsize,
}

/// What all threads see of a loop.
#[derive(Default)]
struct LoopHandle {
    /// Ends the wait of the loop. Set before it is started.
    waker: OnceLock<mio::Waker>,
    occupancy: Occupancy,
}

/// How many packets are received before the loop looks at its sockets again. Of connections, one is accepted.
const PACKETS: usize = 16;

/// How many turns connections have before one more is accepted, if the loop does not look at its sockets before that.
const TURNS_BETWEEN: usize = 16;

/// One loop. The first one accepts, for all of them.
pub(super) struct ServerLoop<S: Service> {
    number: usize,
    poller: Poller,
    slots: Vec<Slot<S>>,
    free: Vec<usize>,
    /// Slots whose connections have something to do, each once.
    ready: VecDeque<usize>,
    /// How many of them the loop takes before it looks at its sockets again.
    round: usize,
    timers: Timers,
    accepting: Accepting,
    /// The slot that had the last turn.
    last: usize,
    /// The loop to which it gives the next connection that has a turn after another one had.
    shares_with: Option<usize>,
}

struct Slot<S: Service> {
    /// `None`: the connection has a turn, or there is none.
    talk: Option<Box<Talk<S>>>,
    /// How many connections it has had, modulo 255.
    generation: u8,
    is_used: bool,
    /// It is in `ready`.
    is_queued: bool,
    /// Something has come since the last turn began.
    is_wanted: bool,
    /// What has come since the last turn began.
    readiness: Readiness,
}

/// What the loop knows about the listening sockets.
#[derive(Default)]
struct Accepting {
    /// Clients may wait there.
    has_clients: bool,
    /// One of them has become ready since the last turn began.
    is_reported: bool,
    /// Grows with all that may change what a turn comes to: a turn that has not seen the last of it is not believed.
    news: u64,
    /// Nothing is accepted before the waker is used, or before `pause_end`.
    is_paused: bool,
    pause_end: Option<Instant>,
    /// The waker of the leader is readable.
    is_woken: bool,
    /// When a turn is due although nothing happens.
    poll_at: Option<Instant>,
    is_due_to_poll: bool,
    is_over: bool,
    /// How many turns have begun and not ended. One may come back with a connection.
    under_way: usize,
    /// How many turns may begin before the loop looks at its sockets.
    left: usize,
    /// How many turns connections have had since `left` was set.
    turns_between: usize,
}

/// What other threads tell a loop.
pub(super) enum Notice<S: Service> {
    /// The connection in this slot is to have a turn.
    Turn(usize),
    /// A connection that was accepted, or was another loop's.
    Connection(Box<Talk<S>>),
    /// No more connections will be accepted.
    NoMore,
}

pub(super) enum Turn<S: Service> {
    Accept(AcceptTurn<S>),
    Talk {
        slot: usize,
        /// `None`: the connection has ended.
        talk: Option<Box<Talk<S>>>,
        needs: Needs,
    },
}

pub(super) struct AcceptTurn<S: Service> {
    is_woken: bool,
    /// A listening socket has become ready.
    has_clients: bool,
    /// `Accepting::news` when it began.
    news: u64,
    /// `None`: there may be more to accept.
    accepted: Option<Accepted<Job<S>>>,
}

impl<S: Service> ServerWork<S> {
    /// Starts this number of `loops`. Later there may be `most` of them, and at any time this number of `threads`.
    pub(super) fn start(acceptor: &Arc<Acceptor<S>>, loops: usize, most: usize, threads: usize) -> io::Result<()> {
        let work = ServerWork {
            acceptor: acceptor.clone(),
            loops: std::iter::repeat_with(LoopHandle::default).take(most).collect(),
            hand_over: OnceLock::new(),
            threads: AtomicUsize::new(0),
        };
        // These are made before the first client comes.
        let made: io::Result<Vec<_>> = (0..loops).map(|number| work.make_loop(number)).collect();
        let mut made = made?.into_iter();
        let Some(first) = made.next() else { return Ok(()) };
        let hand_over = HandOver::new(work, most, threads);
        // It is set once, here.
        let _ = hand_over.work().hand_over.set(Arc::downgrade(&hand_over));
        if let Err(error) = hand_over.start(first, made) {
            hand_over.work().report(error);
            hand_over.join();
        }
        Ok(())
    }

    fn hand_over(&self) -> Option<Arc<HandOver<Self>>> {
        self.hand_over.get().and_then(Weak::upgrade)
    }

    /// Has a loop serve a connection that was accepted: the loop that has the fewest.
    fn assign(&self, of: &mut ServerLoop<S>, job: Job<S>) {
        let Some(hand_over) = self.hand_over() else { return };
        let talk = Talk::new(job, Host::new(Arc::downgrade(&hand_over) as Weak<dyn Turns>));
        let count = |number: &usize| self.loops[*number].occupancy.count();
        match (0..hand_over.started()).min_by_key(count) {
            Some(number) if number != of.number && self.loops[number].occupancy.reserve() => {
                hand_over.notify(number, Notice::Connection(talk));
            }
            _ => {
                // It accepts, and so it has not ended.
                let _ = self.loops[of.number].occupancy.reserve();
                of.welcome(talk);
            }
        }
    }

    /// Gives a connection of this loop to another one. Returns the connection if that has ended.
    fn give(&self, of: &mut ServerLoop<S>, to: usize, slot: usize, talk: Box<Talk<S>>) -> Option<Box<Talk<S>>> {
        let Some(hand_over) = self.hand_over().filter(|_| self.loops[to].occupancy.reserve()) else {
            return Some(talk);
        };
        if let Some(socket) = talk.socket() {
            of.poller.forget(socket);
        }
        self.vacate(of, slot);
        hand_over.notify(to, Notice::Connection(talk));
        None
    }

    /// The loop has lost a connection.
    fn vacate(&self, of: &mut ServerLoop<S>, slot: usize) {
        of.vacate(slot);
        self.loops[of.number].occupancy.release();
    }

    fn accept(&self, turn: &mut AcceptTurn<S>) {
        let state = self.acceptor.state();
        self.acceptor.beat();
        if turn.is_woken && state.waker.take_stop_request() {
            state.shut_down();
        }
        if !state.is_stopping() {
            self.acceptor.hooks.service_actions();
        }
        turn.accepted = match self.acceptor.try_accept(turn.has_clients) {
            Accepted::Request(request) => match Job::new(&self.acceptor, request).verify() {
                Some(job) if request::is_stream::<Request<S>>() => Some(Accepted::Request(job)),
                // A packet is all that there is of its request.
                Some(job) => {
                    job.process();
                    None
                }
                None => None,
            },
            Accepted::Rejected(request, why) => {
                self.acceptor.reject(request, why);
                None
            }
            Accepted::Failed(error) => {
                self.acceptor.accept_failed(error);
                None
            }
            Accepted::Empty => Some(Accepted::Empty),
            Accepted::Paused(until) => Some(Accepted::Paused(until)),
            Accepted::Stopped => Some(Accepted::Stopped),
        };
    }
}

impl<S: Service> Turns for HandOver<ServerWork<S>> {
    fn request_turn(&self, SlotAddress { of_loop, slot }: SlotAddress) {
        self.notify(of_loop as usize, Notice::Turn(slot as usize));
    }
}

impl<S: Service> Work for ServerWork<S> {
    type Loop = ServerLoop<S>;
    type Turn = Turn<S>;
    type Notice = Notice<S>;

    fn next(&self, of: &mut ServerLoop<S>) -> Next<Turn<S>> {
        loop {
            if of.accepting.left > 0 && of.accepting.has_something_to_do() {
                return Next::Turn(Turn::Accept(of.accepting.begin()));
            }
            while of.round > 0
                && let Some(slot) = of.ready.pop_front()
            {
                of.round -= 1;
                if let Some(talk) = of.take(slot) {
                    of.accepting.note_turn_between();
                    return Next::Turn(Turn::Talk { slot, talk: Some(talk), needs: Needs::Turn });
                }
            }
            if of.accepting.has_ended() && of.free.len() == of.slots.len() && self.loops[of.number].occupancy.end() {
                return Next::End;
            }
            if of.ready.is_empty() && !of.accepting.has_something_to_do() {
                return Next::Wait;
            }
            of.poll(Some(Duration::ZERO));
        }
    }

    fn wait(&self, of: &mut ServerLoop<S>) {
        let next = of.timers.next().into_iter().chain(of.accepting.pause_end).chain(of.accepting.poll_at).min();
        of.poll(next.map(|next| next.saturating_duration_since(Instant::now())));
    }

    fn wake(&self, number: usize) {
        // It fails only if the counter of the eventfd is full, which ends the wait as well.
        self.loops[number].waker.get().map(mio::Waker::wake);
    }

    fn run(&self, turn: &mut Turn<S>, context: hand_over::TurnContext<'_, ServerWork<S>>) {
        match turn {
            Turn::Accept(accept) => self.accept(accept),
            Turn::Talk { talk, needs, .. } => {
                // The user's code has its panics caught. A mistake here must not cost more than its connection either.
                let rest = unwind::catch(|| talk.take().and_then(|talk| talk.turn(&context)));
                if let Ok(Some((rest, then))) = rest {
                    (*talk, *needs) = (Some(rest), then);
                }
            }
        }
    }

    fn settle(&self, of: &mut ServerLoop<S>, turn: Turn<S>) {
        match turn {
            Turn::Accept(accept) => {
                let poll = self.acceptor.options().timeouts.poll;
                let poll_at = poll.and_then(|poll| Instant::now().checked_add(poll));
                of.accepting.poll_at = self.acceptor.next_beat().into_iter().chain(poll_at).min();
                if let Some(job) = of.accepting.end(accept) {
                    self.assign(of, job);
                }
                if of.accepting.has_ended() {
                    let all = |hand_over: Arc<HandOver<_>>| {
                        (1..self.loops.len()).for_each(|number| hand_over.notify(number, Notice::NoMore));
                    };
                    self.hand_over().map(all);
                }
            }
            Turn::Talk { slot, talk, needs } => {
                let Some(talk) = talk else { return self.vacate(of, slot) };
                // The only one that has anything to do would have as much to do there.
                let is_one_of_several = std::mem::replace(&mut of.last, slot) != slot;
                let kept = match of.shares_with.take_if(|_| is_one_of_several) {
                    Some(to) => self.give(of, to, slot, talk),
                    None => Some(talk),
                };
                if let Some(talk) = kept {
                    of.settle(slot, talk, needs);
                }
            }
        }
    }

    fn notice(&self, of: &mut ServerLoop<S>, notice: Notice<S>) {
        match notice {
            Notice::Turn(slot) => of.make_ready(slot),
            Notice::Connection(talk) => of.welcome(talk),
            Notice::NoMore => of.accepting.is_over = true,
        }
    }

    fn share(&self, of: &mut ServerLoop<S>, with: usize) {
        of.shares_with = Some(with);
    }

    fn history(turn: &mut Turn<S>) -> Option<&mut TurnHistory> {
        match turn {
            Turn::Accept(_) => None,
            Turn::Talk { talk, .. } => talk.as_mut().map(|talk| &mut talk.history),
        }
    }

    fn make_loop(&self, number: usize) -> io::Result<ServerLoop<S>> {
        let of = ServerLoop::new(number, &self.acceptor)?;
        // Each is made once.
        let _ = self.loops[number].waker.set(of.poller.waker()?);
        Ok(of)
    }

    fn idle_time(&self) -> Option<Duration> {
        sys::idle_time()
    }

    fn report(&self, error: io::Error) {
        self.acceptor.report(Stage::Serve, error);
    }

    fn start_thread(&self, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let number = self.threads.fetch_add(1, Relaxed) + 1;
        start_worker(&self.acceptor, format!("sockserver-loop-{number}"), move |_| work())
    }
}

impl<S: Service> ServerLoop<S> {
    fn new(number: usize, acceptor: &Acceptor<S>) -> io::Result<ServerLoop<S>> {
        let poller = Poller::new()?;
        let state = acceptor.state();
        poller.watch_bell(state.terms.bell.as_fd())?;
        let mut accepting = Accepting::default();
        if number == 0 {
            poller.watch_leader(state.waker.as_fd())?;
            acceptor.with_listeners(|listener| poller.watch_listener(listener))?;
            // Clients may have come, and the waker may have been used, before.
            accepting.report_clients();
        }
        Ok(ServerLoop {
            number,
            poller,
            slots: Vec::new(),
            free: Vec::new(),
            ready: VecDeque::new(),
            round: 0,
            timers: Timers::default(),
            accepting,
            last: usize::MAX,
            shares_with: None,
        })
    }

    fn poll(&mut self, timeout: Option<Duration>) {
        let ServerLoop { number, poller, slots, ready, accepting, .. } = self;
        poller.wait(timeout, |event| match event {
            Event::Client(Registration { slot, generation }, readiness) => {
                if slots[slot].generation == generation {
                    slots[slot].readiness.add(readiness);
                    make_ready(slots, ready, slot);
                }
            }
            Event::Listener => {
                accepting.report_clients();
            }
            Event::Waker => {
                accepting.is_woken = true;
                accepting.news += 1;
            }
            Event::Bell => {
                if *number == 0 {
                    // The listening sockets are closed.
                    accepting.report_clients();
                }
                // Connections that have a turn get another one: it may have begun before the drain.
                (0..slots.len()).for_each(|slot| make_ready(slots, ready, slot));
            }
        });
        if self.timers.next().is_some() || self.accepting.is_timed() {
            let now = Instant::now();
            while let Some(slot) = self.timers.pop(now) {
                self.make_ready(slot);
            }
            self.accepting.look_at_the_clock(now);
        }
        self.round = self.ready.len();
        self.accepting.offer(if request::is_stream::<Request<S>>() { 1 } else { PACKETS });
    }

    fn make_ready(&mut self, slot: usize) {
        make_ready(&mut self.slots, &mut self.ready, slot);
    }

    /// Takes the connection of a slot for a turn. `None`: it has one already, or has ended.
    fn take(&mut self, slot: usize) -> Option<Box<Talk<S>>> {
        let slot = &mut self.slots[slot];
        slot.is_queued = false;
        let mut talk = slot.talk.take()?;
        slot.is_wanted = false;
        talk.note(std::mem::take(&mut slot.readiness));
        Some(talk)
    }

    /// Gives a connection a slot, and a turn.
    fn welcome(&mut self, mut talk: Box<Talk<S>>) {
        let slot = self.free_slot();
        talk.arrive(SlotAddress { of_loop: self.number as u32, slot: slot as u32 });
        self.slots[slot].talk = Some(talk);
        self.make_ready(slot);
    }

    /// The connection of a slot is not here any more.
    fn vacate(&mut self, slot: usize) {
        self.slots[slot].is_used = false;
        self.timers.set(slot, None);
        self.free.push(slot);
    }

    fn free_slot(&mut self) -> usize {
        let free = self.free.pop().unwrap_or_else(|| {
            let readiness = Readiness::default();
            let (is_used, is_queued, is_wanted) = (false, false, false);
            self.slots.push(Slot { talk: None, generation: 0, is_used, is_queued, is_wanted, readiness });
            self.slots.len() - 1
        });
        let slot = &mut self.slots[free];
        // The highest generations are those of the tokens that are no clients'.
        slot.generation = (slot.generation + 1) % u8::MAX;
        (slot.is_used, slot.is_wanted, slot.readiness) = (true, false, Readiness::default());
        free
    }

    fn settle(&mut self, slot: usize, mut talk: Box<Talk<S>>, needs: Needs) {
        let (registered, until) = match needs {
            Needs::Turn => (Registered::Nothing, None),
            Needs::Input(until) => (Registered::Input, until),
            Needs::Output(until) => (Registered::InputAndOutput, until),
        };
        let mut is_ready = matches!(needs, Needs::Turn);
        if registered > talk.registered
            && let Some(socket) = talk.socket()
        {
            let of = Registration { slot, generation: self.slots[slot].generation };
            match self.poller.watch(of, socket, talk.registered, registered) {
                Ok(()) => talk.registered = registered,
                Err(error) => {
                    talk.fail(error);
                    is_ready = true;
                }
            }
        }
        self.timers.set(slot, until);
        // The turn may have missed what came meanwhile.
        is_ready |= self.slots[slot].is_wanted;
        self.slots[slot].talk = Some(talk);
        if is_ready {
            self.make_ready(slot);
        }
    }
}

/// Has the connection of a slot get a turn. If it has one now, it gets another after that.
fn make_ready<S: Service>(slots: &mut [Slot<S>], ready: &mut VecDeque<usize>, slot: usize) {
    let Some(of) = slots.get_mut(slot).filter(|of| of.is_used) else { return };
    of.is_wanted = true;
    if !std::mem::replace(&mut of.is_queued, true) {
        ready.push_back(slot);
    }
}

impl Accepting {
    fn has_something_to_do(&self) -> bool {
        !self.is_over && (self.is_woken || self.is_due_to_poll || self.has_clients && !self.is_paused)
    }

    fn has_ended(&self) -> bool {
        self.is_over && self.under_way == 0
    }

    /// So many turns may begin.
    fn offer(&mut self, turns: usize) {
        (self.left, self.turns_between) = (turns, 0);
    }

    /// A connection has a turn. However many do, new ones are accepted.
    fn note_turn_between(&mut self) {
        self.turns_between += 1;
        if self.turns_between == TURNS_BETWEEN {
            self.offer(1);
        }
    }

    fn report_clients(&mut self) {
        (self.has_clients, self.is_reported) = (true, true);
        self.news += 1;
    }

    fn is_timed(&self) -> bool {
        self.pause_end.is_some() || self.poll_at.is_some()
    }

    fn look_at_the_clock(&mut self, now: Instant) {
        if self.pause_end.take_if(|end| *end <= now).is_some() {
            self.is_paused = false;
            self.news += 1;
        }
        self.is_due_to_poll |= self.poll_at.take_if(|time| *time <= now).is_some();
    }

    fn begin<S: Service>(&mut self) -> AcceptTurn<S> {
        (self.is_paused, self.pause_end, self.is_due_to_poll) = (false, None, false);
        self.under_way += 1;
        self.left = self.left.saturating_sub(1);
        AcceptTurn {
            is_woken: std::mem::take(&mut self.is_woken),
            has_clients: std::mem::take(&mut self.is_reported),
            news: self.news,
            accepted: None,
        }
    }

    /// Takes what a turn has come to. Another turn may have begun meanwhile, and have ended.
    fn end<S: Service>(&mut self, turn: AcceptTurn<S>) -> Option<Job<S>> {
        let is_new = self.news == turn.news;
        self.news += 1;
        self.under_way -= 1;
        self.is_paused = false;
        // The turn may have come to nothing before it has looked at the sockets.
        self.is_reported |= turn.has_clients && matches!(turn.accepted, Some(Accepted::Paused(_)));
        match turn.accepted? {
            Accepted::Request(job) => return Some(job),
            Accepted::Paused(until) if is_new => (self.is_paused, self.pause_end) = (true, until),
            Accepted::Empty if is_new => self.has_clients = false,
            Accepted::Paused(_) | Accepted::Empty => {}
            Accepted::Stopped => self.is_over = true,
            Accepted::Rejected(..) | Accepted::Failed(_) => {}
        }
        None
    }
}

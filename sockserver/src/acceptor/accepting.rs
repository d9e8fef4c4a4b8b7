//! How the leader, the one thread that waits for clients, accepts them.

use std::{
    io,
    ops::ControlFlow,
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use super::{
    Acceptor,
    errors::{AcceptBackoff, BACK_OFF, Retry},
    leader::{Accepted, Leader, LeaderEvent, close_listeners},
    listeners::{Listener, Listeners},
};
use crate::{
    connections::limits::{Rejected, Room},
    error::Stage,
    event::{ConnectionRef, Event},
    hooks::Hooks,
    options::OnLimit,
    primitives::{atomic::Ordering::SeqCst, thread},
    request,
    service::{Request, Service},
    sys,
};

/// After this many accepts in a row the leader looks at the waker: otherwise a flood of clients would starve a shutdown.
const IN_A_ROW: u32 = 16;

/// What ended a wait.
enum WaitEnd {
    /// A descriptor of the event source is readable.
    Source,
    /// Another descriptor is, or the time is over.
    Other,
}

impl<S: Service> Acceptor<S> {
    /// Waits for the next request that the limits let through; `None` when the server is stopping.
    pub(crate) fn wait_for_request(&self) -> Option<Request<S>> {
        loop {
            if !self.state().is_stopping() {
                self.hooks.service_actions();
            }
            // The interval begins when this thread becomes the leader: until then it has nothing to poll for.
            let poll = self.options.timeouts.poll;
            match self.lead(None, || poll.and_then(|poll| Instant::now().checked_add(poll))) {
                LeaderEvent::Request(request) => return Some(request),
                LeaderEvent::Rejected(request, why) => self.reject(request, why),
                LeaderEvent::AcceptFailed(error) => self.accept_failed(error),
                LeaderEvent::Source => self.process_source(),
                LeaderEvent::TimedOut => {}
                LeaderEvent::Stopped => return None,
            }
        }
    }

    /// Waits for one request, until the deadline.
    pub(crate) fn wait_until(&self, deadline: Option<Instant>) -> LeaderEvent<Request<S>> {
        self.lead(deadline, || deadline)
    }

    /// Accepts without waiting, for a loop that waits for the listening sockets by itself. `has_clients`: one of them has
    /// become ready.
    pub(crate) fn try_accept(&self, has_clients: bool) -> Accepted<Request<S>> {
        // Another thread leads only while a turn of the loop accepts there.
        let Some(mut leader) = self.leader.try_lock() else { return Accepted::Paused(None) };
        if has_clients && let Some(listeners) = &mut leader.listeners {
            listeners.try_all();
        }
        let accepted = self.accept_as_leader(&mut leader);
        let room = leader.room;
        drop(leader);
        if self.state().is_stopping() {
            close_listeners(&self.leader);
        }
        if Hooks::<S>::HAS_EVENTS
            && let Accepted::Request(request) = &accepted
        {
            self.accepted(request, room);
        }
        accepted
    }

    fn accept_as_leader(&self, leader: &mut Leader<S>) -> Accepted<Request<S>> {
        let state = self.state();
        // The caller closes the listening sockets then, without the lock.
        if state.is_stopping() {
            return Accepted::Stopped;
        }
        self.announce(leader);
        let Leader { listeners: Some(listeners), backoff, room, .. } = leader else { return Accepted::Stopped };
        loop {
            let pause_end = backoff.pause_end();
            if pause_end.is_some() || state.is_suspended() {
                return Accepted::Paused(pause_end);
            }
            if *room == Room::Full {
                let admission = state.connections.look_for_room();
                state.supervise(admission.supervision);
                *room = admission.room;
                if *room == Room::Full && self.options.limits.on_limit != OnLimit::Reject {
                    return Accepted::Paused(admission.room_at);
                }
            }
            match self.accept_once(listeners, backoff, room) {
                ControlFlow::Break(LeaderEvent::Request(request)) => return Accepted::Request(request),
                ControlFlow::Break(LeaderEvent::Rejected(request, why)) => return Accepted::Rejected(request, why),
                ControlFlow::Break(LeaderEvent::AcceptFailed(error)) => return Accepted::Failed(error),
                ControlFlow::Break(_) => return Accepted::Stopped,
                ControlFlow::Continue(Retry::WhenReady) => return Accepted::Empty,
                ControlFlow::Continue(_) => {}
            }
        }
    }

    /// Calls a function for each listening socket, for a loop that waits for them. There is none once the server stops.
    pub(crate) fn with_listeners(&self, watch: impl FnMut(BorrowedFd<'_>) -> io::Result<()>) -> io::Result<()> {
        let leader = self.leader.value();
        let sockets = leader.listeners.as_ref().map(Listeners::sockets).unwrap_or_default();
        sockets.iter().map(AsFd::as_fd).try_for_each(watch)
    }

    pub(crate) fn process_source(&self) {
        if let Some(source) = &self.source {
            source.process(&self.handle);
        }
    }

    /// Becomes the leader until the first deadline, and waits as the leader until the second.
    fn lead(&self, deadline: Option<Instant>, until: impl FnOnce() -> Option<Instant>) -> LeaderEvent<Request<S>> {
        let Some(mut leader) = self.leader.lock(deadline) else { return LeaderEvent::TimedOut };
        let event = self.next_event(&mut leader, until());
        let room = leader.room;
        drop(leader);
        if self.state().is_stopping() {
            // `stop` could not close the listening sockets while this thread held the lock.
            close_listeners(&self.leader);
        }
        if Hooks::<S>::HAS_EVENTS
            && let LeaderEvent::Request(request) = &event
        {
            self.accepted(request, room);
        }
        event
    }

    pub(super) fn accepted(&self, request: &Request<S>, room: Room) {
        self.hooks.event(&Event::Accepted(ConnectionRef::new(request::kind(request).state())));
        // The places of handshakes may be full instead.
        if room == Room::Full && self.state().connections.has_reached_limit() {
            let limit = self.state().connections.limit();
            // With `"sync"` every request would reach it.
            if limit > 1 && !self.has_reached_limit.swap(true, SeqCst) {
                self.hooks.event(&Event::LimitReached(limit));
            }
        }
    }

    /// Turns away a request that was not admitted.
    pub(crate) fn reject(&self, request: Request<S>, why: Rejected) {
        let connection = ConnectionRef::new(request::kind(&request).state());
        self.hooks.event(&Event::Accepted(connection));
        self.hooks.event(&Event::TurnedAway { connection, why: why.into() });
        request::kind(&request).end();
    }

    /// Reports that accepting has failed, once an episode.
    pub(crate) fn accept_failed(&self, error: io::Error) {
        self.hooks.event(&Event::AcceptError(&error));
        self.report(Stage::GetRequest, error);
    }

    fn next_event(&self, leader: &mut Leader<S>, deadline: Option<Instant>) -> LeaderEvent<Request<S>> {
        let state = self.state();
        self.announce(leader);
        loop {
            // The caller closes the listening sockets then, without the lock.
            if state.is_stopping() {
                return LeaderEvent::Stopped;
            }
            let Leader { listeners: Some(listeners), backoff, in_a_row, room, .. } = leader else {
                return LeaderEvent::Stopped;
            };
            let pause_end = backoff.pause_end();
            let is_due_to_poll = *in_a_row == IN_A_ROW;
            let mut room_at = None;
            let mut may_accept = !is_due_to_poll && !state.is_suspended() && pause_end.is_none();
            if may_accept && *room == Room::Full {
                let admission = state.connections.look_for_room();
                state.supervise(admission.supervision);
                (*room, room_at) = (admission.room, admission.room_at);
                // Without room a client is accepted only to be turned away.
                may_accept = *room == Room::Left || self.options.limits.on_limit == OnLimit::Reject;
            }
            if may_accept {
                *in_a_row += 1;
                match self.accept_once(listeners, backoff, room) {
                    ControlFlow::Break(event) => return event,
                    ControlFlow::Continue(Retry::WhenReady) => {}
                    ControlFlow::Continue(_) => continue,
                }
            } else {
                listeners.try_all();
            }
            let source_due = self.source.as_ref().and_then(|source| source.deadline(&self.handle));
            *in_a_row = 0;
            let until = match is_due_to_poll {
                true => Some(Instant::now()),
                false => deadline.into_iter().chain(pause_end).chain(source_due).chain(room_at).min(),
            };
            match self.wait(may_accept.then_some(&mut *listeners), until) {
                Ok(WaitEnd::Source) => return LeaderEvent::Source,
                Ok(WaitEnd::Other) => {
                    let has_passed = |time: Option<Instant>| time.is_some_and(|time| Instant::now() >= time);
                    if has_passed(source_due) {
                        return LeaderEvent::Source;
                    }
                    if !is_due_to_poll && has_passed(deadline) {
                        return LeaderEvent::TimedOut;
                    }
                }
                Err(error) => {
                    listeners.try_all();
                    let retry = backoff.after(&error);
                    if retry == Retry::Never {
                        return self.give_up(error);
                    }
                    state.connections.count_accept_error();
                    // poll(2) fails, so the pause cannot be waited for there.
                    thread::sleep(BACK_OFF);
                    if retry == Retry::LaterReported {
                        return LeaderEvent::AcceptFailed(error);
                    }
                }
            }
        }
    }

    /// The predecessor goes on until a thread of this server leads: what comes before that can fail.
    fn announce(&self, leader: &mut Leader<S>) {
        if self.state().is_serving() && !std::mem::replace(&mut leader.has_announced, true) {
            self.state().announce();
        }
    }

    /// Accepts without waiting, from the next socket in turn that has a client.
    fn accept_once(
        &self,
        listeners: &mut Listeners<Listener<S>>,
        backoff: &mut AcceptBackoff,
        room: &mut Room,
    ) -> ControlFlow<LeaderEvent<Request<S>>, Retry> {
        let request = loop {
            let Some(socket) = listeners.next() else { return ControlFlow::Continue(Retry::WhenReady) };
            let error = match self.hooks.get_request(&listeners.sockets()[socket]) {
                Ok(request) => break request,
                Err(error) => error,
            };
            let retry = backoff.after(&error);
            if matches!(retry, Retry::Later | Retry::LaterReported) {
                self.state().connections.count_accept_error();
            }
            match retry {
                Retry::WhenReady => listeners.has_no_client(socket),
                Retry::LaterReported => return ControlFlow::Break(LeaderEvent::AcceptFailed(error)),
                Retry::Never => return ControlFlow::Break(self.give_up(error)),
                retry => return ControlFlow::Continue(retry),
            }
        };
        backoff.end();
        match self.register(&request) {
            Ok(room_after) => {
                *room = room_after;
                ControlFlow::Break(LeaderEvent::Request(request))
            }
            Err(why) => ControlFlow::Break(LeaderEvent::Rejected(request, why)),
        }
    }

    /// The listening socket is broken: ends the server.
    fn give_up<R>(&self, error: io::Error) -> LeaderEvent<R> {
        self.state().fail(error);
        LeaderEvent::Stopped
    }

    /// The only place where a server waits for new clients.
    fn wait(&self, listeners: Option<&mut Listeners<Listener<S>>>, until: Option<Instant>) -> io::Result<WaitEnd> {
        let state = self.state();
        let until = self.next_beat().into_iter().chain(until).min();
        let timeout = until.map(|until| until.saturating_duration_since(Instant::now()));
        let waker = sys::Watched::new(state.waker.as_fd());
        let (sockets, may_be_ready) = listeners.map(Listeners::watch).unwrap_or_default();
        let (is_woken, end) = match (&self.source, sockets) {
            (None, []) => {
                let mut watched = [waker];
                sys::poll(&mut watched, timeout)?;
                (watched[0].is_ready(), WaitEnd::Other)
            }
            (None, [socket]) => {
                let mut watched = [waker, sys::Watched::new(socket.as_fd())];
                sys::poll(&mut watched, timeout)?;
                may_be_ready[0] = watched[1].is_ready();
                (watched[0].is_ready(), WaitEnd::Other)
            }
            (source, sockets) => {
                let descriptors = source.as_ref().map(|source| source.descriptors()).unwrap_or_default();
                let of_source = descriptors.iter().map(|descriptor| sys::Watched::new(descriptor.as_fd()));
                let sockets = sockets.iter().map(|socket| sys::Watched::new(socket.as_fd()));
                let mut watched: Vec<_> = [waker].into_iter().chain(of_source).chain(sockets).collect();
                sys::poll(&mut watched, timeout)?;
                let (of_source, sockets) = watched[1..].split_at(descriptors.len());
                may_be_ready.iter_mut().zip(sockets).for_each(|(is_ready, socket)| *is_ready = socket.is_ready());
                let is_of_source = of_source.iter().any(sys::Watched::is_ready);
                (watched[0].is_ready(), if is_of_source { WaitEnd::Source } else { WaitEnd::Other })
            }
        };
        self.beat();
        if is_woken && state.waker.take_stop_request() {
            state.shut_down();
        }
        Ok(end)
    }

    /// Waits until the event source has nothing left.
    pub(super) fn drain_source(&self) {
        let Some(source) = &self.source else { return };
        loop {
            source.process(&self.handle);
            if source.is_done() {
                return;
            }
            if self.wait(None, source.deadline(&self.handle)).is_err() {
                // poll(2) fails where RLIMIT_NOFILE is lower by now than the number of descriptors. What the source waits
                // for ends all the same.
                thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

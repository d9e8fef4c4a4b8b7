//! Connections whose requests have ended, and whose clients may not have received everything yet.
//!
//! If the server closes a socket while the client still sends, the kernel resets the connection, and the client loses
//! bytes that it has not received. So the server reads from such a socket and discards the input, until the client
//! closes its end, is silent for `MAX_SILENCE`, or `MAX_LINGER` is over. One thread does this for all connections of
//! the server, and exits when there are none. It checks all of them every `TICK`, so that no connection wakes a thread
//! of its own.
//!
//! A server that stops leaves its clients that time, as far as there is any left of `timeouts(shutdown)`. It does not wait for
//! a client that has everything and sends nothing: see [`Stop`].

use std::{
    collections::VecDeque,
    io,
    mem::MaybeUninit,
    os::fd::AsFd,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    connections::GRACE,
    io::{bell::Bell, connection::Connection},
    primitives::{Condvar, Mutex, MutexGuard, thread},
    sys::{self, Watched},
};

/// How long a client may be silent before its connection is closed.
const MAX_SILENCE: Duration = Duration::from_secs(2);

/// How long a client may be silent while the server stops, if it has everything and has sent nothing since its handler
/// ended: in this time a client shows that it is in the middle of a request.
const LAST_SILENCE: Duration = Duration::from_millis(100);

/// How long a connection lingers at most, even if its client goes on sending.
const MAX_LINGER: Duration = Duration::from_secs(10);

/// How many connections linger at once, and how many may be added between two checks. Above that the oldest one is
/// closed.
const MAX_CLIENTS: usize = 512;

/// How often the thread checks its connections.
const TICK: Duration = Duration::from_millis(20);

/// How often it checks them while the server stops.
const LAST_TICK: Duration = Duration::from_millis(5);

/// How long the thread stays without a connection, so that not every connection starts a thread.
const IDLE_TIME: Duration = Duration::from_secs(1);

/// How many reads one connection gets before the next one is read.
const READS_PER_CHECK: usize = 32;

#[derive(Default)]
pub(crate) struct Lingering {
    state: Mutex<State>,
    /// Signalled when the thread has something to do.
    work_added: Condvar,
    /// Signalled when the thread has ended.
    thread_ended: Condvar,
    leader_clients: std::sync::Mutex<LeaderClients>,
}

#[derive(Default)]
struct State {
    /// Clients that the thread has not taken over yet.
    added: VecDeque<Client>,
    has_thread: bool,
    /// The thread has no connection, and waits for the next one.
    is_thread_idle: bool,
    stop: Option<Stop>,
}

/// The server stops. A connection that its handler has ended lingers on until `finish_by`, unless its client is done. One that
/// the server has ended was idle, or has had its answers: it ends as soon as its client has received everything.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stop {
    began: Instant,
    finish_by: Instant,
}

impl Stop {
    /// `time_left`: of `timeouts(shutdown)`.
    fn new(time_left: Duration) -> Stop {
        let began = Instant::now();
        Stop { began, finish_by: began + time_left.max(GRACE) }
    }
}

/// Whether a connection lingers on.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    Linger,
    Close,
}

/// How long a connection lingers. It reads no clock: the caller passes the time.
struct Patience {
    began: Instant,
    last_input: Instant,
    has_sent: bool,
}

impl Patience {
    fn new(now: Instant) -> Patience {
        Patience { began: now, last_input: now, has_sent: false }
    }

    /// When the connection is closed, unless the client sends something.
    fn deadline(&self) -> Instant {
        (self.last_input + MAX_SILENCE).min(self.began + MAX_LINGER)
    }

    /// `discarded`: how many bytes have come since the last look. `None`: the connection is at its end.
    fn decide(&mut self, discarded: Option<usize>, now: Instant) -> Decision {
        match discarded {
            Some(0) => {}
            Some(_) => {
                self.last_input = now;
                self.has_sent = true;
            }
            None => return Decision::Close,
        }
        if now < self.deadline() { Decision::Linger } else { Decision::Close }
    }

    /// Whether a client that has everything is waited for although the server stops, and has ended the connection itself or
    /// has not.
    fn outlasts(&self, stop: Stop, was_ended_by_server: bool, now: Instant) -> bool {
        !was_ended_by_server && (self.has_sent || now < self.began.max(stop.began) + LAST_SILENCE)
    }
}

struct Client {
    connection: Arc<Connection>,
    patience: Patience,
}

impl Client {
    fn new(connection: Arc<Connection>) -> Client {
        Client { connection, patience: Patience::new(Instant::now()) }
    }

    /// Discards what the client has sent, and decides whether the connection lingers on.
    fn check(&mut self, stop: Option<Stop>) -> Decision {
        // What the client has sent before it had everything is found after that.
        let is_over = stop.is_some_and(|stop| self.is_over(stop));
        let discarded = discard_input(&self.connection);
        let has_sent = discarded.is_some_and(|bytes| bytes > 0);
        match self.patience.decide(discarded, Instant::now()) {
            Decision::Linger if is_over && (self.was_ended_by_server() || !has_sent) => Decision::Close,
            decision => decision,
        }
    }

    fn is_over(&self, stop: Stop) -> bool {
        let now = Instant::now();
        let was_ended = self.was_ended_by_server();
        let is_late = now >= if was_ended { stop.began + GRACE } else { stop.finish_by };
        is_late || !self.patience.outlasts(stop, was_ended, now) && self.has_everything()
    }

    fn was_ended_by_server(&self) -> bool {
        self.connection.state.is_told()
    }

    /// Whether the client has received everything. On a Unix socket it has read everything, too.
    fn has_everything(&self) -> bool {
        sys::bytes_undelivered(self.connection.socket()) == 0
    }
}

/// Receives and discards what has arrived, up to a bound, and returns the number of bytes. `None` if the client has
/// closed its end or the connection has failed.
fn discard_input(connection: &Connection) -> Option<usize> {
    let mut discarded = [MaybeUninit::uninit(); 16 << 10];
    let mut bytes = 0;
    for _ in 0..READS_PER_CHECK {
        match connection.socket().recv_with_flags(&mut discarded, libc::MSG_DONTWAIT) {
            Ok(0) => return None,
            Ok(received) => bytes += received,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(_) => return None,
        }
    }
    Some(bytes)
}

/// Lingers with one client, on this thread. `time_left` is called when the bell rings, as the server stops, and says how much
/// is left of `timeouts(shutdown)`.
pub(crate) fn linger_here(connection: &Arc<Connection>, bell: &Bell, time_left: impl Fn() -> Duration) {
    let mut client = Client::new(connection.clone());
    let mut stop = None;
    while client.check(stop) == Decision::Linger {
        let now = Instant::now();
        let mut deadline = client.patience.deadline();
        if stop.is_none() && bell.has_rung() {
            stop = Some(Stop::new(time_left()));
        }
        if let Some(stop) = stop {
            if now >= stop.finish_by {
                return;
            }
            deadline = deadline.min(now + LAST_TICK);
        }
        let client = Watched::new(connection.socket().as_fd());
        let timeout = Some(deadline.saturating_duration_since(now));
        let polled = match stop {
            None => sys::poll(&mut [client, Watched::new(bell.as_fd())], timeout),
            Some(_) => sys::poll(&mut [client], timeout),
        };
        if polled.is_err() {
            return;
        }
    }
}

/// The lingering connections of a server that forks, and so starts no thread: its leader checks them between requests.
#[derive(Default)]
pub(crate) struct LeaderClients {
    /// Oldest first.
    clients: VecDeque<Client>,
    next_check: Option<Instant>,
}

impl LeaderClients {
    pub(crate) fn add(&mut self, connection: Arc<Connection>) {
        self.clients.push_back(Client::new(connection));
        if self.clients.len() > MAX_CLIENTS {
            self.clients.pop_front();
        }
        self.next_check.get_or_insert_with(|| Instant::now() + TICK);
    }

    /// Drops all connections, in a child that inherited them from its parent.
    pub(crate) fn abandon(&mut self) {
        *self = LeaderClients::default();
    }

    /// Checks the connections if it is time to, and closes each one that is done.
    pub(crate) fn check(&mut self) {
        let now = Instant::now();
        if self.next_check.is_some_and(|next| now >= next) {
            self.clients.retain_mut(|client| client.check(None) == Decision::Linger);
            self.next_check = (!self.clients.is_empty()).then(|| now + TICK);
        }
    }

    /// When to check them. `None`: there are none.
    pub(crate) fn next_check(&self) -> Option<Instant> {
        self.next_check
    }

    /// As [`Lingering::finish`].
    fn finish(&mut self, time_left: Duration) {
        let stop = Stop::new(time_left);
        loop {
            self.clients.retain_mut(|client| client.check(Some(stop)) == Decision::Linger);
            if self.clients.is_empty() || Instant::now() >= stop.finish_by {
                return self.clients.clear();
            }
            thread::sleep(LAST_TICK);
        }
    }
}

impl Lingering {
    /// As [`add`](Self::add), for a server that must not start a thread: the leader checks these connections.
    pub(crate) fn add_on_leader(&self, connection: Arc<Connection>) {
        self.lock_leader_clients().add(connection);
    }

    /// Locks the leader's connections. It is `std`'s lock, as a forked child can unlock it.
    pub(crate) fn lock_leader_clients(&self) -> std::sync::MutexGuard<'_, LeaderClients> {
        self.leader_clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands the connection to the server's lingering thread, which closes it in the end.
    pub(crate) fn add(self: &Arc<Lingering>, connection: Arc<Connection>) {
        // In the model time stands still, and no connection would ever be closed.
        if cfg!(sockserver_model) {
            return;
        }
        // Declared before the lock, so that the connection is closed after the unlock.
        let mut _too_many = None;
        let mut state = self.state.lock();
        state.added.push_back(Client::new(connection));
        if state.added.len() > MAX_CLIENTS {
            _too_many = state.added.pop_front();
        }
        if state.has_thread {
            if std::mem::take(&mut state.is_thread_idle) {
                self.work_added.notify_one();
            }
            return;
        }
        state.has_thread = true;
        drop(state);
        let lingering = self.clone();
        let thread = thread::Builder::new().name("sockserver-linger".into()).stack_size(128 * 1024);
        if thread.spawn(move || lingering.run()).is_err() {
            // The connections are closed after the unlock.
            let _added = self.end(self.state.lock());
        }
    }

    /// The server stops: waits until no connection lingers any more. `time_left`: of `timeouts(shutdown)`.
    pub(crate) fn finish(&self, time_left: Duration) {
        // Taken out of the lock, which `finish` would hold while it sleeps.
        let mut leader_clients = std::mem::take(&mut *self.lock_leader_clients());
        leader_clients.finish(time_left);
        let mut state = self.state.lock();
        state.stop = Some(Stop::new(time_left));
        self.work_added.notify_one();
        while state.has_thread {
            self.thread_ended.wait(&mut state);
        }
    }

    fn end(&self, mut state: MutexGuard<'_, State>) -> VecDeque<Client> {
        state.has_thread = false;
        self.thread_ended.notify_all();
        std::mem::take(&mut state.added)
    }

    fn run(&self) {
        let mut clients: Vec<Client> = Vec::new();
        loop {
            let mut state = self.state.lock();
            clients.extend(state.added.drain(..));
            if clients.is_empty() && state.stop.is_none() {
                state.is_thread_idle = true;
                self.work_added.wait_until(&mut state, Instant::now() + IDLE_TIME);
                state.is_thread_idle = false;
                clients.extend(state.added.drain(..));
            }
            let stop = state.stop;
            if clients.is_empty() || stop.is_some_and(|stop| Instant::now() >= stop.finish_by) {
                // The remaining connections are closed after the unlock.
                let _added = self.end(state);
                return;
            }
            drop(state);
            // Oldest first.
            clients.drain(..clients.len().saturating_sub(MAX_CLIENTS));
            clients.retain_mut(|client| client.check(stop) == Decision::Linger);
            let mut state = self.state.lock();
            if state.stop == stop {
                let tick = if stop.is_some() { LAST_TICK } else { TICK };
                self.work_added.wait_until(&mut state, Instant::now() + tick);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is decided at each of these times, in milliseconds, when so many bytes have come.
    fn decisions(looks: impl IntoIterator<Item = (u64, Option<usize>)>) -> Vec<Decision> {
        let began = Instant::now();
        let mut patience = Patience::new(began);
        let looks = looks.into_iter();
        looks.map(|(time, bytes)| patience.decide(bytes, began + Duration::from_millis(time))).collect()
    }

    use Decision::{Close, Linger};

    #[test]
    fn a_client_that_is_silent_for_two_seconds_is_waited_for_no_longer() {
        assert_eq!(decisions([(0, Some(0)), (1999, Some(0)), (2000, Some(0))]), [Linger, Linger, Close]);
        // Each byte is waited for as long again.
        let looks = [(1999, Some(1)), (3998, Some(0)), (3999, Some(0))];
        assert_eq!(decisions(looks), [Linger, Linger, Close]);
    }

    #[test]
    fn a_client_that_sends_for_ever_is_waited_for_ten_seconds() {
        let looks = (0..=100).map(|tenth| (tenth * 100, Some(16 << 10)));
        let decisions = decisions(looks);
        let (last, before) = decisions.split_last().expect("a hundred and one");
        assert!(before.iter().all(|decision| *decision == Linger));
        assert_eq!(*last, Close);
    }

    #[test]
    fn a_stop_waits_for_a_client_that_still_sends() {
        let began = Instant::now();
        let after = |milliseconds| began + Duration::from_millis(milliseconds);
        let stop = Stop { began: after(1000), finish_by: after(5000) };
        let mut patience = Patience::new(began);
        // Of a client that has sent nothing it is not known yet.
        assert!(patience.outlasts(stop, false, after(1099)));
        assert!(!patience.outlasts(stop, false, after(1100)));
        assert_eq!(patience.decide(Some(1), after(1050)), Linger);
        assert!(patience.outlasts(stop, false, after(2000)));
        // The server has told that one.
        assert!(!patience.outlasts(stop, true, after(1000)));
    }

    #[test]
    fn a_client_that_has_ended_its_side_is_not_waited_for() {
        assert_eq!(decisions([(0, Some(5)), (1, None)]), [Linger, Close]);
    }
}

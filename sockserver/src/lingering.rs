//! Connections whose requests have ended, and whose clients may not have received everything yet.
//!
//! If the server closes a socket while the client still sends, the kernel resets the connection, and the client loses
//! bytes that it has not received. So the server reads from such a socket and discards the input, until the client
//! closes its end, is silent for `MAX_SILENCE`, or `MAX_LINGER` is over. One thread does this for all connections of
//! the server, and exits when there are none. It checks all of them every `TICK`, so that no connection wakes a thread
//! of its own.

use std::{
    collections::VecDeque,
    io,
    mem::MaybeUninit,
    os::fd::AsFd,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    io::{bell::Bell, connection::Connection},
    primitives::{Condvar, Mutex, MutexGuard, thread},
    sys::{self, Watched},
};

/// How long a client may be silent before its connection is closed.
const MAX_SILENCE: Duration = Duration::from_secs(2);

/// How long a connection lingers at most, even if its client goes on sending.
const MAX_LINGER: Duration = Duration::from_secs(10);

/// How many connections linger at once, and how many may be added between two checks. Above that the oldest one is
/// closed.
const MAX_CLIENTS: usize = 512;

/// How often the thread checks its connections.
const TICK: Duration = Duration::from_millis(20);

/// How often it checks them while the server ends.
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
    /// Set when the server ends. The thread then closes a connection as soon as its client has received everything, and
    /// all of them at this time.
    finish_by: Option<Instant>,
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
}

impl Patience {
    fn new(now: Instant) -> Patience {
        Patience { began: now, last_input: now }
    }

    /// When the connection is closed, unless the client sends something.
    fn deadline(&self) -> Instant {
        (self.last_input + MAX_SILENCE).min(self.began + MAX_LINGER)
    }

    /// `discarded`: how many bytes have come since the last look. `None`: the connection is at its end.
    fn decide(&mut self, discarded: Option<usize>, now: Instant) -> Decision {
        match discarded {
            Some(0) => {}
            Some(_) => self.last_input = now,
            None => return Decision::Close,
        }
        if now < self.deadline() { Decision::Linger } else { Decision::Close }
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
    fn discard_input(&mut self) -> Decision {
        let discarded = discard_input(&self.connection);
        self.patience.decide(discarded, Instant::now())
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

/// Lingers with one client, on this thread. When the bell rings, as the server ends, it stops as soon as the client has
/// received everything, and after `time` at the latest.
pub(crate) fn linger_here(connection: &Arc<Connection>, bell: &Bell, time: Duration) {
    let mut client = Client::new(connection.clone());
    let mut finish_by = None;
    while client.discard_input() == Decision::Linger {
        let now = Instant::now();
        let mut deadline = client.patience.deadline();
        if finish_by.is_none() && bell.has_rung() {
            finish_by = Some(now + time);
        }
        if let Some(finish_by) = finish_by {
            if now >= finish_by || client.has_everything() {
                return;
            }
            deadline = deadline.min(now + LAST_TICK);
        }
        let client = Watched::new(connection.socket().as_fd());
        let timeout = Some(deadline.saturating_duration_since(now));
        let polled = match finish_by {
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
            self.clients.retain_mut(|client| client.discard_input() == Decision::Linger);
            self.next_check = (!self.clients.is_empty()).then(|| now + TICK);
        }
    }

    /// When to check them. `None`: there are none.
    pub(crate) fn next_check(&self) -> Option<Instant> {
        self.next_check
    }

    /// As [`Lingering::finish`].
    pub(crate) fn finish(&mut self, time: Duration) {
        let finish_by = Instant::now() + time;
        loop {
            self.clients.retain_mut(|client| client.discard_input() == Decision::Linger && !client.has_everything());
            if self.clients.is_empty() || Instant::now() >= finish_by {
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

    /// The server ends: waits until the clients have received everything, at most for `time`.
    pub(crate) fn finish(&self, time: Duration) {
        // Taken out of the lock, which `finish` would hold while it sleeps.
        let mut leader_clients = std::mem::take(&mut *self.lock_leader_clients());
        leader_clients.finish(time);
        let mut state = self.state.lock();
        state.finish_by = Some(Instant::now() + time);
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
            if clients.is_empty() && state.finish_by.is_none() {
                state.is_thread_idle = true;
                self.work_added.wait_until(&mut state, Instant::now() + IDLE_TIME);
                state.is_thread_idle = false;
                clients.extend(state.added.drain(..));
            }
            let finish_by = state.finish_by;
            if clients.is_empty() || finish_by.is_some_and(|finish_by| Instant::now() >= finish_by) {
                // The remaining connections are closed after the unlock.
                let _added = self.end(state);
                return;
            }
            drop(state);
            // Oldest first.
            clients.drain(..clients.len().saturating_sub(MAX_CLIENTS));
            clients.retain_mut(|client| {
                client.discard_input() == Decision::Linger && (finish_by.is_none() || !client.has_everything())
            });
            let mut state = self.state.lock();
            if state.finish_by == finish_by {
                let tick = if finish_by.is_some() { LAST_TICK } else { TICK };
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
    fn a_client_that_has_ended_its_side_is_not_waited_for() {
        assert_eq!(decisions([(0, Some(5)), (1, None)]), [Linger, Close]);
    }
}

//! Connections whose requests have ended, and whose clients may not have received everything yet.
//!
//! A socket that is closed while its client still sends makes the kernel reset the connection, and the client loses what
//! it has not received. So such a socket is read, and what comes thrown away, until the client closes its end, is silent
//! for `SILENCE`, or `LONGEST` is over: by one thread for all connections of the server, which ends when there are none.
//! It looks at them all every `TICK`, so that a connection wakes no thread of its own.

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

/// A client that sends nothing for so long is not waited for any longer.
const SILENCE: Duration = Duration::from_secs(2);

/// A client that goes on sending is waited for no longer than this.
const LONGEST: Duration = Duration::from_secs(10);

/// How many are waited for at once, and how many may arrive between two looks. Of more, the one that has been waited for
/// longest is closed.
const MOST: usize = 512;

/// How often the thread looks at its connections.
const TICK: Duration = Duration::from_millis(20);

/// The same for a server that ends.
const LAST_TICK: Duration = Duration::from_millis(5);

/// How long the thread stays when there is nothing to do, so that not each connection starts one.
const SPARE_TIME: Duration = Duration::from_secs(1);

/// How often a connection is read before the others have their turn.
const READS: usize = 32;

#[derive(Default)]
pub(crate) struct Lingering {
    state: Mutex<State>,
    /// The thread has something to do.
    called: Condvar,
    /// The thread has ended.
    ended: Condvar,
    in_turn: std::sync::Mutex<InTurn>,
}

#[derive(Default)]
struct State {
    /// Those that the thread does not have yet.
    arrived: VecDeque<Client>,
    has_thread: bool,
    /// The thread has no connection, and waits for the next one.
    is_spare: bool,
    /// The server ends: clients that have received everything are waited for no longer, and none after this.
    finish_by: Option<Instant>,
}

struct Client {
    connection: Arc<Connection>,
    began: Instant,
    heard_from: Instant,
}

impl Client {
    fn new(connection: Arc<Connection>) -> Client {
        let now = Instant::now();
        Client { connection, began: now, heard_from: now }
    }

    /// When it is waited for no longer, unless it sends something.
    fn deadline(&self) -> Instant {
        (self.heard_from + SILENCE).min(self.began + LONGEST)
    }

    /// Throws away what the client has sent. `false`: the connection can be closed.
    fn is_waited_for(&mut self) -> bool {
        match throw_away(&self.connection) {
            Some(0) => {}
            Some(_) => self.heard_from = Instant::now(),
            None => return false,
        }
        Instant::now() < self.deadline()
    }

    /// On a Unix socket it has read it, too.
    fn has_everything(&self) -> bool {
        sys::bytes_undelivered(self.connection.socket()) == 0
    }
}

/// Receives what is there, up to a bound, and returns how much it was. `None`: the client has ended.
fn throw_away(connection: &Connection) -> Option<usize> {
    let mut thrown_away = [MaybeUninit::uninit(); 16 << 10];
    let mut bytes = 0;
    for _ in 0..READS {
        match connection.socket().recv_with_flags(&mut thrown_away, libc::MSG_DONTWAIT) {
            Ok(0) => return None,
            Ok(received) => bytes += received,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(_) => return None,
        }
    }
    Some(bytes)
}

/// WaitState for one client, on this thread. When the bell rings, as the server ends, it is waited for no longer than until
/// it has received everything, and at most for the time.
pub(crate) fn linger_here(connection: &Arc<Connection>, bell: &Bell, time: Duration) {
    let mut client = Client::new(connection.clone());
    let mut finish_by = None;
    while client.is_waited_for() {
        let now = Instant::now();
        let mut deadline = client.deadline();
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

/// The connections of a server that forks, and so starts no thread: the one that waits for requests looks at them.
#[derive(Default)]
pub(crate) struct InTurn {
    /// Oldest first.
    clients: VecDeque<Client>,
    next_look: Option<Instant>,
}

impl InTurn {
    pub(crate) fn add(&mut self, connection: Arc<Connection>) {
        self.clients.push_back(Client::new(connection));
        if self.clients.len() > MOST {
            self.clients.pop_front();
        }
        self.next_look.get_or_insert_with(|| Instant::now() + TICK);
    }

    /// Drops them, in a child that has them from its parent.
    pub(crate) fn abandon(&mut self) {
        *self = InTurn::default();
    }

    /// Closes those that are waited for no longer, if it is time to look, and returns when it is next.
    pub(crate) fn look(&mut self) -> Option<Instant> {
        let now = Instant::now();
        if self.next_look.is_some_and(|next| now >= next) {
            self.clients.retain_mut(Client::is_waited_for);
            self.next_look = (!self.clients.is_empty()).then(|| now + TICK);
        }
        self.next_look
    }

    /// The server ends: as [`Lingering::finish`].
    pub(crate) fn finish(&mut self, time: Duration) {
        let finish_by = Instant::now() + time;
        loop {
            self.clients.retain_mut(|client| client.is_waited_for() && !client.has_everything());
            if self.clients.is_empty() || Instant::now() >= finish_by {
                return self.clients.clear();
            }
            thread::sleep(LAST_TICK);
        }
    }
}

impl Lingering {
    /// As [`add`](Self::add), for a server that may start no thread: [`look_in_turn`](Self::look_in_turn) looks after it.
    pub(crate) fn add_in_turn(&self, connection: Arc<Connection>) {
        self.lock_in_turn().add(connection);
    }

    /// Closes the connections in turn that are waited for no longer, and returns when to look again.
    pub(crate) fn look_in_turn(&self) -> Option<Instant> {
        self.lock_in_turn().look()
    }

    /// Keeps other threads from changing the connections in turn. It is `std`'s lock, which a child can give back.
    pub(crate) fn lock_in_turn(&self) -> std::sync::MutexGuard<'_, InTurn> {
        self.in_turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// WaitState for the client on the server's thread for that, and then closes the connection.
    pub(crate) fn add(self: &Arc<Lingering>, connection: Arc<Connection>) {
        // Its time stands still.
        if cfg!(sockserver_model) {
            return;
        }
        // Declared before the lock, and so closed when it is free again.
        let mut _too_many = None;
        let mut state = self.state.lock();
        state.arrived.push_back(Client::new(connection));
        if state.arrived.len() > MOST {
            _too_many = state.arrived.pop_front();
        }
        if state.has_thread {
            if std::mem::take(&mut state.is_spare) {
                self.called.notify_one();
            }
            return;
        }
        state.has_thread = true;
        drop(state);
        let lingering = self.clone();
        let thread = thread::Builder::new().name("sockserver-linger".into()).stack_size(128 * 1024);
        if thread.spawn(move || lingering.run()).is_err() {
            // They are closed when the lock is free again.
            let _arrived = self.end(self.state.lock());
        }
    }

    /// The server ends: waits until its clients have received what they were sent, at most for the time.
    pub(crate) fn finish(&self, time: Duration) {
        self.lock_in_turn().finish(time);
        let mut state = self.state.lock();
        state.finish_by = Some(Instant::now() + time);
        self.called.notify_one();
        while state.has_thread {
            self.ended.wait(&mut state);
        }
    }

    fn end(&self, mut state: MutexGuard<'_, State>) -> VecDeque<Client> {
        state.has_thread = false;
        self.ended.notify_all();
        std::mem::take(&mut state.arrived)
    }

    fn run(&self) {
        let mut clients: Vec<Client> = Vec::new();
        loop {
            let mut state = self.state.lock();
            clients.extend(state.arrived.drain(..));
            if clients.is_empty() && state.finish_by.is_none() {
                state.is_spare = true;
                self.called.wait_until(&mut state, Instant::now() + SPARE_TIME);
                state.is_spare = false;
                clients.extend(state.arrived.drain(..));
            }
            let finish_by = state.finish_by;
            if clients.is_empty() || finish_by.is_some_and(|finish_by| Instant::now() >= finish_by) {
                // The rest is closed when the lock is free again.
                let _arrived = self.end(state);
                return;
            }
            drop(state);
            // Oldest first.
            clients.drain(..clients.len().saturating_sub(MOST));
            clients.retain_mut(|client| client.is_waited_for() && (finish_by.is_none() || !client.has_everything()));
            let mut state = self.state.lock();
            if state.finish_by == finish_by {
                let tick = if finish_by.is_some() { LAST_TICK } else { TICK };
                self.called.wait_until(&mut state, Instant::now() + tick);
            }
        }
    }
}

//! Stopping a server by signal: the feature `signals`.
//!
//! A signal handler can do no more than set a flag and write to pipes. One is the waker's, for the thread that waits for
//! requests. Where that thread is in a handler (`"sync"`, and `"pool"` when all are busy), the handler's own wait has to
//! see it: that is a poll(2) with the other pipe then, as a signal that comes just before a blocking call would not
//! interrupt it.

use std::{
    io::{self, PipeReader, PipeWriter, Read},
    mem,
    os::fd::AsFd,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Instant,
};

use parking_lot::Mutex;
use signal_hook::{
    SigId,
    consts::{SIGINT, SIGTERM},
    flag, low_level,
};
use socket2::Socket;

use crate::{
    handle::Control,
    record::Waiting,
    sys::{self, Watched},
};

/// The servers of this process that stop on signals.
static SERVERS: Mutex<Vec<Signalled>> = Mutex::new(Vec::new());

/// There are some that have not been stopped.
static WATCHED: AtomicBool = AtomicBool::new(false);

/// Has input from a signal on, until the servers are stopped.
static PIPE: OnceLock<(PipeReader, PipeWriter)> = OnceLock::new();

struct Signalled {
    control: Weak<Control>,
    /// A signal has come, or the server has ended: the next one ends the process.
    signalled: Arc<AtomicBool>,
    actions: Vec<SigId>,
}

pub(crate) fn stop_on_signals(control: &Arc<Control>) -> io::Result<()> {
    let pipe = io::pipe()?;
    let (_, writer) = PIPE.get_or_init(|| pipe);
    let signalled = Arc::new(AtomicBool::new(false));
    let mut actions = Vec::new();
    for signal in [SIGINT, SIGTERM] {
        // Actions run in the order of their registration: the first signal finds the flag not set yet.
        actions.push(flag::register_conditional_shutdown(signal, 128 + signal, signalled.clone())?);
        actions.push(flag::register(signal, signalled.clone())?);
        actions.push(low_level::pipe::register(signal, writer.try_clone()?)?);
        actions.push(low_level::pipe::register(signal, control.waker.writer()?)?);
    }
    let mut servers = SERVERS.lock();
    servers.retain(|server| server.control.strong_count() > 0);
    servers.push(Signalled { control: Arc::downgrade(control), signalled, actions });
    WATCHED.store(true, SeqCst);
    Ok(())
}

/// A handler that waits for its peer has to call [`wait`] instead.
pub(crate) fn are_watched() -> bool {
    WATCHED.load(SeqCst)
}

/// Waits until the peer has done what is waited for, or a server was stopped by a signal. `false`: neither within the
/// timeout of the socket.
pub(crate) fn wait(socket: &Socket, waiting: Waiting) -> io::Result<bool> {
    let (timeout, for_peer): (_, fn(_) -> _) = match waiting {
        Waiting::ToSend => (socket.write_timeout()?, Watched::for_output),
        Waiting::BetweenRequests | Waiting::InRequest => (socket.read_timeout()?, Watched::new),
    };
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    while let (true, Some((pipe, _))) = (are_watched(), PIPE.get()) {
        let mut watched = [for_peer(socket.as_fd()), Watched::new(pipe.as_fd())];
        sys::poll(&mut watched, deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())))?;
        if watched[1].is_ready() {
            stop_signalled(pipe)?;
        } else if watched[0].is_ready() {
            return Ok(true);
        } else if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn stop_signalled(mut pipe: &PipeReader) -> io::Result<()> {
    let mut stopped = Vec::new();
    {
        let servers = SERVERS.lock();
        // Another thread may have been here first.
        if sys::is_readable(pipe)? {
            let _ = pipe.read(&mut [0; 64])?;
        }
        let signalled = servers.iter().filter(|server| server.signalled.load(SeqCst));
        stopped.extend(signalled.clone().filter_map(|server| server.control.upgrade()));
        WATCHED.store(signalled.count() < servers.len(), SeqCst);
    }
    stopped.iter().for_each(Control::stop);
    Ok(())
}

/// The server has ended: nothing is there to be stopped gently.
pub(crate) fn forget(control: &Control) {
    for server in SERVERS.lock().iter().filter(|server| std::ptr::eq(server.control.as_ptr(), control)) {
        server.signalled.store(true, SeqCst);
    }
}

/// In a child that serves one request: SIGTERM ends it, and SIGINT, which a terminal sends to all processes of a program,
/// is the parent's to act on.
pub(crate) fn enter_child() {
    // Whether the lock is free depends on threads that are not here any more.
    let servers = SERVERS.try_lock().map(|mut servers| mem::take(&mut *servers)).unwrap_or_default();
    WATCHED.store(false, SeqCst);
    if servers.is_empty() {
        return;
    }
    for action in servers.into_iter().flat_map(|server| server.actions) {
        low_level::unregister(action);
    }
    // It fails for signals that cannot be caught only.
    let _ = flag::register_conditional_default(SIGTERM, Arc::new(AtomicBool::new(true)));
}

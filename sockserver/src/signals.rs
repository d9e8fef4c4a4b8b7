//! Stopping a server by signal: the feature `signals`.
//!
//! A signal handler can do no more than set a flag and write to the waker's pipe. The thread that waits for requests sees
//! the pipe. Where that thread is in a handler (`"sync"`, and `"pool"` when all are busy), the signal interrupts the
//! handler's wait, which looks at the flag.

use std::{
    io,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use parking_lot::Mutex;
use signal_hook::{
    SigId,
    consts::{SIGINT, SIGTERM},
    flag, low_level,
};

use crate::{handle::Control, sys};

/// The servers of this process that stop on signals.
static SERVERS: Mutex<Vec<Signalled>> = Mutex::new(Vec::new());

struct Signalled {
    control: Weak<Control>,
    /// A signal has come, or the server has ended: the next one ends the process.
    signalled: Arc<AtomicBool>,
    actions: Vec<SigId>,
}

pub(crate) fn stop_on_signals(control: &Arc<Control>) -> io::Result<()> {
    let signalled = Arc::new(AtomicBool::new(false));
    let mut actions = Vec::new();
    for signal in [SIGINT, SIGTERM] {
        // Actions run in the order of their registration: the first signal finds the flag not set yet.
        actions.push(flag::register_conditional_shutdown(signal, 128 + signal, signalled.clone())?);
        actions.push(flag::register(signal, signalled.clone())?);
        actions.push(low_level::pipe::register(signal, control.waker.writer()?)?);
        sys::let_interrupt(signal)?;
    }
    let mut servers = SERVERS.lock();
    servers.retain(|server| server.control.strong_count() > 0);
    servers.push(Signalled { control: Arc::downgrade(control), signalled, actions });
    Ok(())
}

/// A system call was interrupted: stops the servers that a signal has come for.
pub(crate) fn look() {
    let signalled = |server: &Signalled| server.signalled.load(SeqCst).then(|| server.control.upgrade()).flatten();
    let stopped: Vec<_> = SERVERS.lock().iter().filter_map(signalled).collect();
    stopped.iter().for_each(Control::stop);
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
    let servers = SERVERS.try_lock().map(|mut servers| std::mem::take(&mut *servers)).unwrap_or_default();
    if servers.is_empty() {
        return;
    }
    for action in servers.into_iter().flat_map(|server| server.actions) {
        low_level::unregister(action);
    }
    // It fails for signals that cannot be caught only.
    let _ = flag::register_conditional_default(SIGTERM, Arc::new(AtomicBool::new(true)));
}

//! Stopping a server by signal: the feature `signals`.
//!
//! A signal handler can do no more than set a flag and write to pipes. One is the waker's, for the thread that waits
//! for requests. Where that thread is in a handler (`"sync"`, and `"pool"` when all are busy), the handler's own wait
//! has to see it: that is a poll(2) with the other pipe then, as a signal that comes just before a blocking call would
//! not interrupt it.

use std::{
    ffi::c_int,
    io::{self, PipeReader, PipeWriter, Read},
    mem,
    sync::{
        Arc, OnceLock, Weak,
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

/// What signals do in this process.
static SIGNALS: Mutex<Signals> = Mutex::new(Signals { servers: Vec::new(), at_the_end: Actions(Vec::new()) });

/// There are servers that have not been stopped.
static WATCHED: AtomicBool = AtomicBool::new(false);

/// Has input from a signal on, until the servers are stopped.
static PIPE: OnceLock<(PipeReader, PipeWriter)> = OnceLock::new();

struct Signals {
    /// Those that stop on signals, and have not ended.
    servers: Vec<Signalled>,
    /// When all have ended: the next signal ends the process.
    at_the_end: Actions,
}

struct Signalled {
    control: Weak<Control>,
    /// A signal has come: the next one ends the process.
    signalled: Arc<AtomicBool>,
    _actions: Actions,
}

/// What is done in the signal handler, until this is dropped.
struct Actions(Vec<SigId>);

impl Actions {
    /// The process ends if the flag is set.
    fn end(&mut self, signal: c_int, flag: &Arc<AtomicBool>) -> io::Result<()> {
        self.0.push(flag::register_conditional_shutdown(signal, 128 + signal, flag.clone())?);
        Ok(())
    }

    fn set(&mut self, signal: c_int, flag: &Arc<AtomicBool>) -> io::Result<()> {
        self.0.push(flag::register(signal, flag.clone())?);
        Ok(())
    }

    fn write(&mut self, signal: c_int, pipe: PipeWriter) -> io::Result<()> {
        self.0.push(low_level::pipe::register(signal, pipe)?);
        Ok(())
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        for action in self.0.drain(..) {
            low_level::unregister(action);
        }
    }
}

pub(crate) fn stop_on_signals(control: &Arc<Control>) -> io::Result<()> {
    let pipe = io::pipe()?;
    let (_, writer) = PIPE.get_or_init(|| pipe);
    let signalled = Arc::new(AtomicBool::new(false));
    let mut actions = Actions(Vec::new());
    for signal in [SIGINT, SIGTERM] {
        // Actions run in the order of their registration: the first signal finds the flag not set yet.
        actions.end(signal, &signalled)?;
        actions.set(signal, &signalled)?;
        actions.write(signal, writer.try_clone()?)?;
        actions.write(signal, control.waker.writer()?)?;
    }
    let mut signals = SIGNALS.lock();
    signals.servers.push(Signalled { control: Arc::downgrade(control), signalled, _actions: actions });
    signals.at_the_end = Actions(Vec::new());
    signals.watch();
    Ok(())
}

impl Signals {
    fn watch(&self) {
        WATCHED.store(self.servers.iter().any(|server| !server.signalled.load(SeqCst)), SeqCst);
    }
}

/// A handler that waits for its peer has to watch this as well; `None`: there is nothing to be stopped.
pub(crate) fn pipe() -> Option<&'static PipeReader> {
    let (pipe, _) = PIPE.get()?;
    WATCHED.load(SeqCst).then_some(pipe)
}

/// The pipe has input: stops the servers that have been signalled.
pub(crate) fn stop_signalled(mut pipe: &PipeReader) -> io::Result<()> {
    let mut stopped = Vec::new();
    {
        let signals = SIGNALS.lock();
        // Another thread may have been here first.
        if sys::is_readable(pipe)? {
            let _ = pipe.read(&mut [0; 64])?;
        }
        let signalled = signals.servers.iter().filter(|server| server.signalled.load(SeqCst));
        stopped.extend(signalled.filter_map(|server| server.control.upgrade()));
        signals.watch();
    }
    stopped.iter().for_each(Control::stop);
    Ok(())
}

/// The server has ended. Signals are for those that have not; if there are none, nothing is there to be stopped gently.
pub(crate) fn forget(control: &Control) {
    let mut signals = SIGNALS.lock();
    let has_ended = |server: &Signalled| std::ptr::eq(server.control.as_ptr(), control);
    if !signals.servers.is_empty() && signals.servers.iter().all(has_ended) {
        let now = Arc::new(AtomicBool::new(true));
        for signal in [SIGINT, SIGTERM] {
            // It was possible to register others.
            let _ = signals.at_the_end.end(signal, &now);
        }
    }
    signals.servers.retain(|server| !has_ended(server));
    signals.watch();
}

/// In a child that serves one request: SIGTERM ends it. SIGINT, which a terminal sends to all processes of a program,
/// is the parent's to act on; the second signal ends the parent, and with it the child.
pub(crate) fn enter_child() {
    // Whether the lock is free depends on threads that are not here any more.
    let servers = SIGNALS.try_lock().map(|mut signals| mem::take(&mut signals.servers)).unwrap_or_default();
    WATCHED.store(false, SeqCst);
    if servers.is_empty() {
        return;
    }
    drop(servers);
    // They fail for signals that cannot be caught only.
    let _ = flag::register_conditional_default(SIGTERM, Arc::new(AtomicBool::new(true)));
    sys::end_with_parent();
    // Where the system cannot do that. Of two that come at once a process sees one.
    let interrupted = Arc::new(AtomicBool::new(false));
    let _ = flag::register_conditional_default(SIGINT, interrupted.clone());
    let _ = flag::register(SIGINT, interrupted);
}

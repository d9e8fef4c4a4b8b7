//! Stopping a server by signal: the feature `signals`.
//!
//! A signal handler can do no more than set a flag and write to pipes. A server that forks, and so has one thread, sees
//! it by its waker. For all others one small thread reads the pipe, as each of theirs may be in a handler: the requests
//! are spared a look at it.

use std::{
    ffi::c_int,
    io::{self, PipeReader, PipeWriter, Read, Write},
    os::fd::{AsRawFd, RawFd},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
};

use signal_hook::{
    SigId,
    consts::{SIGINT, SIGTERM},
    flag, low_level,
};

use crate::{handle::Control, sys};

/// What signals do in this process.
static SIGNALS: Mutex<Signals> =
    Mutex::new(Signals { servers: Vec::new(), at_the_end: Actions(Vec::new()), is_watched: false });

/// What the thread reads: a byte for each signal, and one for the end of the last server.
static PIPE: OnceLock<(PipeReader, PipeWriter)> = OnceLock::new();

/// Set in a child that serves one request: there SIGTERM does what it does by default. It is there before the first fork,
/// as a child can register nothing: another thread may have been doing that when it was forked.
static IN_CHILD: OnceLock<Arc<AtomicBool>> = OnceLock::new();

pub(crate) struct Signals {
    /// Those that stop on signals, and have not ended.
    servers: Vec<Signalled>,
    /// When all have ended: the next signal ends the process.
    at_the_end: Actions,
    /// There is a thread that reads the pipe.
    is_watched: bool,
}

struct Signalled {
    control: Weak<Control>,
    /// The thread stops it; it does not fork.
    is_watched: bool,
    /// A signal has come: the next one ends the process.
    signalled: Arc<AtomicBool>,
    /// What the signal handler writes to, by its number, which is open as long as the actions are there.
    pipes: Vec<RawFd>,
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

    fn write(&mut self, signal: c_int, pipe: PipeWriter) -> io::Result<RawFd> {
        let number = pipe.as_raw_fd();
        self.0.push(low_level::pipe::register(signal, pipe)?);
        Ok(number)
    }

    /// The process ends as by default if the flag is set.
    fn end_by_default(&mut self, signal: c_int, flag: &Arc<AtomicBool>) -> io::Result<()> {
        self.0.push(flag::register_conditional_default(signal, flag.clone())?);
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

/// Keeps other threads from changing what signals do. It is `std`'s lock, which a child can give back.
pub(crate) fn lock() -> MutexGuard<'static, Signals> {
    SIGNALS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `forks`: no thread may be started.
pub(crate) fn stop_on_signals(control: &Arc<Control>, forks: bool) -> io::Result<()> {
    let pipe = io::pipe()?;
    let (reader, writer) = PIPE.get_or_init(|| pipe);
    let signalled = Arc::new(AtomicBool::new(false));
    let (mut actions, mut pipes) = (Actions(Vec::new()), Vec::new());
    let in_child = IN_CHILD.get_or_init(Arc::default);
    let mut signals = lock();
    if !forks && !signals.is_watched {
        let thread = thread::Builder::new().name("sockserver-signals".into()).stack_size(128 * 1024);
        // It waits for the lock.
        thread.spawn(move || watch(reader))?;
        signals.is_watched = true;
    }
    // What was ignored when the program started stays so, as by nohup(1), and SIGINT of a job in the background.
    for signal in [SIGINT, SIGTERM].into_iter().filter(|signal| !sys::is_ignored(*signal)) {
        if signal == SIGTERM {
            actions.end_by_default(signal, in_child)?;
        }
        // Actions run in the order of their registration: the first signal finds the flag not set yet.
        actions.end(signal, &signalled)?;
        actions.set(signal, &signalled)?;
        pipes.push(actions.write(signal, if forks { control.waker.writer()? } else { writer.try_clone()? })?);
    }
    let control = Arc::downgrade(control);
    signals.servers.push(Signalled { control, is_watched: !forks, signalled, pipes, _actions: actions });
    signals.at_the_end = Actions(Vec::new());
    Ok(())
}

/// Stops the servers that have been signalled, until the last one has ended.
fn watch(mut pipe: &PipeReader) {
    loop {
        // It is never at its end, as this process has the other end too.
        let _ = pipe.read(&mut [0; 64]);
        let mut signals = lock();
        let watched = || signals.servers.iter().filter(|server| server.is_watched);
        if watched().next().is_none() {
            signals.is_watched = false;
            return;
        }
        let signalled = watched().filter(|server| server.signalled.load(SeqCst));
        let stopped: Vec<Arc<Control>> = signalled.filter_map(|server| server.control.upgrade()).collect();
        drop(signals);
        stopped.iter().for_each(Control::shut_down);
    }
}

/// The server has ended. Signals are for those that have not; if there are none, nothing is there to be stopped gently.
pub(crate) fn forget(control: &Control) {
    let mut signals = lock();
    let has_ended = |server: &Signalled| std::ptr::eq(server.control.as_ptr(), control);
    if !signals.servers.is_empty() && signals.servers.iter().all(has_ended) {
        let now = Arc::new(AtomicBool::new(true));
        for signal in [SIGINT, SIGTERM].into_iter().filter(|signal| !sys::is_ignored(*signal)) {
            // It was possible to register others.
            let _ = signals.at_the_end.end(signal, &now);
        }
    }
    signals.servers.retain(|server| !has_ended(server));
    if signals.is_watched
        && !signals.servers.iter().any(|server| server.is_watched)
        && let Some((_, pipe)) = PIPE.get()
    {
        // The thread ends. A full pipe wakes it as well.
        let _ = { pipe }.write(&[0]);
    }
}

/// In a child that serves one request: SIGTERM ends it. SIGINT, which a terminal sends to all processes of a program,
/// is the parent's to act on; the second one ends the child as well as the parent. `parent`: the number of the process
/// that has forked this one.
///
/// Nothing is unregistered: signal-hook would wait for a thread that was in a signal handler, and is not here any more.
pub(crate) fn enter_child(parent: u32) {
    let Some(in_child) = IN_CHILD.get() else { return };
    in_child.store(true, SeqCst);
    let signals = lock();
    // The parent is not to hear of a signal that only its child was sent.
    signals.servers.iter().flat_map(|server| &server.pipes).for_each(|pipe| sys::let_go_of_number(*pipe));
    if !signals.servers.is_empty() {
        sys::end_with_parent(parent);
    }
}

//! Stopping a server by signal: the feature `signals`.
//!
//! A signal handler may only set a flag and write to pipes. A server that forks has one thread, whose waker gets the byte.
//! For all other servers one small thread reads a pipe: each of their own threads may be in a handler, and would have to
//! look for a signal at every read.

use std::{
    ffi::c_int,
    io::{self, PipeReader, PipeWriter, Read, Write},
    os::fd::{AsRawFd, RawFd},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
};

use signal_hook::{
    SigId,
    consts::{SIGINT, SIGTERM},
    flag, low_level,
};

use crate::{sys, unwind::ServerId};

/// What signals do in this process.
static SIGNALS: Mutex<Signals> =
    Mutex::new(Signals { servers: Vec::new(), at_the_end: Actions(Vec::new()), is_watched: false });

/// The pipe that the thread reads: a byte for each signal, and one for the end of the last server.
static PIPE: OnceLock<(PipeReader, PipeWriter)> = OnceLock::new();

/// Set in a child that serves one request, where SIGTERM has its default effect. The action is registered before the first
/// fork: a child cannot register one, since another thread may have held signal-hook's lock at the fork.
static IN_CHILD: OnceLock<Arc<AtomicBool>> = OnceLock::new();

pub(crate) struct Signals {
    /// The servers that stop on signals, and have not ended.
    servers: Vec<SignalledServer>,
    /// Registered when all servers have ended: the next signal ends the process.
    at_the_end: Actions,
    /// A thread reads the pipe.
    is_watched: bool,
}

struct SignalledServer {
    server: ServerId,
    /// Shuts the server down, if it has not been dropped.
    shut_down: Arc<dyn Fn() + Send + Sync>,
    /// The thread that reads the pipe stops this server, since it does not fork.
    is_watched: bool,
    /// A signal has come: the next one ends the process.
    signalled: Arc<AtomicBool>,
    /// The descriptors that the signal handler writes to. They are open as long as the actions are registered.
    pipes: Vec<RawFd>,
    _actions: Actions,
}

/// What the signal handler does, until this is dropped.
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

    /// The signal has its default effect, which ends the process, if the flag is set.
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

/// Keeps other threads from changing what signals do. The lock is `std`'s, which a child can unlock.
pub(crate) fn lock() -> MutexGuard<'static, Signals> {
    SIGNALS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has the first signal shut a server down. Without `own_pipe` the small thread calls the function. With `own_pipe`, for a
/// server that may start no thread, the signal handler writes to that pipe, and whatever reads it shuts the server down.
pub(crate) fn stop_on_signals(
    server: ServerId,
    own_pipe: Option<PipeWriter>,
    shut_down: Arc<dyn Fn() + Send + Sync>,
) -> io::Result<()> {
    let pipe = io::pipe()?;
    let (reader, writer) = PIPE.get_or_init(|| pipe);
    let signalled = Arc::new(AtomicBool::new(false));
    let (mut actions, mut pipes) = (Actions(Vec::new()), Vec::new());
    let in_child = IN_CHILD.get_or_init(Arc::default);
    let mut signals = lock();
    if own_pipe.is_none() && !signals.is_watched {
        let thread = thread::Builder::new().name("sockserver-signals".into()).stack_size(128 * 1024);
        // The thread waits for the lock before it looks at anything.
        thread.spawn(move || watch(reader))?;
        signals.is_watched = true;
    }
    // A signal that was ignored when the program started stays ignored: by nohup(1), or SIGINT of a background job.
    for signal in [SIGINT, SIGTERM].into_iter().filter(|signal| !sys::is_ignored(*signal)) {
        if signal == SIGTERM {
            actions.end_by_default(signal, in_child)?;
        }
        // Actions run in the order of their registration: the first signal finds the flag not set yet.
        actions.end(signal, &signalled)?;
        actions.set(signal, &signalled)?;
        pipes.push(actions.write(signal, own_pipe.as_ref().unwrap_or(writer).try_clone()?)?);
    }
    let is_watched = own_pipe.is_none();
    signals.servers.push(SignalledServer { server, shut_down, is_watched, signalled, pipes, _actions: actions });
    signals.at_the_end = Actions(Vec::new());
    Ok(())
}

/// Stops the servers that have been signalled, until the last one has ended.
fn watch(mut pipe: &PipeReader) {
    loop {
        // It never reads the end of file, as this process has the other end too.
        let _ = pipe.read(&mut [0; 64]);
        let mut signals = lock();
        let watched = || signals.servers.iter().filter(|server| server.is_watched);
        if watched().next().is_none() {
            signals.is_watched = false;
            return;
        }
        let signalled = watched().filter(|server| server.signalled.load(SeqCst));
        let stopped: Vec<_> = signalled.map(|server| server.shut_down.clone()).collect();
        drop(signals);
        stopped.iter().for_each(|shut_down| shut_down());
    }
}

/// The server has ended. When the last one has, there is nothing left to drain, and the next signal ends the process.
pub(crate) fn forget(server: ServerId) {
    let mut signals = lock();
    let has_ended = |signalled: &SignalledServer| signalled.server == server;
    if !signals.servers.is_empty() && signals.servers.iter().all(has_ended) {
        let now = Arc::new(AtomicBool::new(true));
        for signal in [SIGINT, SIGTERM].into_iter().filter(|signal| !sys::is_ignored(*signal)) {
            // It does not fail, since earlier actions for the same signals could be registered.
            let _ = signals.at_the_end.end(signal, &now);
        }
    }
    signals.servers.retain(|server| !has_ended(server));
    if signals.is_watched
        && !signals.servers.iter().any(|server| server.is_watched)
        && let Some((_, pipe)) = PIPE.get()
    {
        // Wakes the thread, which ends. A full pipe wakes it too.
        let _ = { pipe }.write(&[0]);
    }
}

/// In a child that serves one request: SIGTERM ends it. A terminal sends SIGINT to all processes of a program; the first
/// one is the parent's to act on, and the second one ends the child and the parent. `parent` is the number of the parent
/// process.
///
/// It unregisters nothing: signal-hook would wait for a thread that was in a signal handler at the fork and does not exist
/// in this process.
pub(crate) fn enter_child(parent: u32) {
    let Some(in_child) = IN_CHILD.get() else { return };
    in_child.store(true, SeqCst);
    let signals = lock();
    // A signal that is sent to the child alone must not reach the parent through a pipe.
    signals
        .servers
        .iter()
        .flat_map(|server| &server.pipes)
        .for_each(|pipe| sys::replace_number_with_closed_pipe(*pipe));
    if !signals.servers.is_empty() {
        sys::end_with_parent(parent);
    }
}

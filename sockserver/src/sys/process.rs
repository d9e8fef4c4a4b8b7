//! Child processes, and the descriptors that they inherit.

use std::{
    fs::File,
    io::{self, Write},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::{
            fs::MetadataExt,
            process::{CommandExt, ExitStatusExt},
        },
    },
    process::{Child, Command, ExitStatus},
    sync::Arc,
};

use socket2::Socket;

use super::socket::is_listener;

/// dup2(2): closes the file behind a descriptor in this process, while other code still owns the descriptor. The
/// descriptor then refers to a pipe whose other end is closed.
pub(crate) fn replace_with_closed_pipe(fd: BorrowedFd<'_>) {
    // If the process has no descriptor to spare, the file stays open until its owner closes it.
    let Ok((end, _)) = io::pipe() else { return };
    // SAFETY: both descriptors are open, and the owner of `fd` still owns an open descriptor of that number. FD_CLOEXEC
    // keeps it from programs that this process starts later. One that is started in between inherits a closed pipe.
    unsafe {
        libc::dup2(end.as_raw_fd(), fd.as_raw_fd());
        libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC);
    }
}

/// As [`replace_with_closed_pipe`], for a descriptor that a signal handler writes to.
#[cfg(feature = "signals")]
pub(crate) fn replace_number_with_closed_pipe(fd: RawFd) {
    // SAFETY: the descriptor is open as long as its action is registered.
    replace_with_closed_pipe(unsafe { BorrowedFd::borrow_raw(fd) });
}

/// sigaction(2): whether the process ignores the signal.
#[cfg(feature = "signals")]
pub(crate) fn is_ignored(signal: libc::c_int) -> bool {
    // SAFETY: `sigaction` is plain data, for which all zeros is a valid value. Without a new action nothing is changed,
    // and the old one is written to where the pointer points.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut action) == 0 && action.sa_sigaction == libc::SIG_IGN
    }
}

/// What [`fork`] returns in each of the two processes.
pub(crate) enum Fork {
    Parent(ChildProcess),
    Child,
}

/// prctl(2): makes the kernel send this process SIGTERM when its parent ends, however the parent ends. If the parent
/// has ended already, the kernel sends nothing, and this process exits here.
#[cfg(all(feature = "signals", any(target_os = "linux", target_os = "android")))]
pub(crate) fn end_with_parent(parent: u32) {
    // SAFETY: PR_SET_PDEATHSIG takes the number of a signal, and touches no memory.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM as libc::c_ulong) };
    if std::os::unix::process::parent_id() != parent {
        exit_child(128 + libc::SIGTERM, false);
    }
}

/// These systems have no such signal.
#[cfg(all(feature = "signals", not(any(target_os = "linux", target_os = "android"))))]
pub(crate) fn end_with_parent(_parent: u32) {}

/// fork(2). If this is the only thread, it first flushes standard output, so that the child does not write the buffer
/// again. Otherwise it does not: another thread could hold the lock of standard output for ever.
///
/// The caller has made sure that this thread is the only one, or the user has vouched for the code that runs in the
/// child (`allow_threads`).
pub(crate) fn fork(is_only_thread: bool) -> io::Result<Fork> {
    if is_only_thread {
        flush_standard_output();
    }
    // SAFETY: after fork(2), the child of a process with one thread can run any code. If there are more threads, the
    // user has vouched for the child's code.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        number => Ok(Fork::Parent(ChildProcess::new(number))),
    }
}

/// _exit(2), which runs no destructor of the parent. If the parent had one thread, it first flushes standard output:
/// then no other thread can have held its lock.
pub(crate) fn exit_child(status: i32, was_only_thread: bool) -> ! {
    if was_only_thread {
        flush_standard_output();
    }
    // SAFETY: _exit(2) does not return.
    unsafe { libc::_exit(status) }
}

fn flush_standard_output() {
    // If the flush fails, standard output is closed, and no reader can see the bytes twice.
    let _ = io::stdout().flush();
    // SAFETY: fflush(3) takes a null pointer for all streams.
    unsafe { libc::fflush(std::ptr::null_mut()) };
}

/// pthread_sigmask(3): runs the action with all signals blocked, so that only SIGKILL can end the process meanwhile.
pub(crate) fn without_signals(action: impl FnOnce()) {
    // SAFETY: `sigset_t` is plain data, for which all zeros is a valid value, and the pointers are to two of them.
    unsafe {
        let (mut all, mut before) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        action();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut());
    }
}

/// How many threads this process has. `None` if the system does not report it, for example without proc(5).
pub(crate) fn threads() -> Option<usize> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        // proc(5) has a directory for each thread. A directory has two links and one for each subdirectory.
        let links = std::fs::metadata("/proc/self/task").ok()?.nlink();
        usize::try_from(links).ok()?.checked_sub(2)
    }
    #[cfg(target_vendor = "apple")]
    {
        // SAFETY: `proc_taskinfo` is plain data, for which all zeros is a valid value, and the size is that of one.
        unsafe {
            let mut info: libc::proc_taskinfo = std::mem::zeroed();
            let size = size_of::<libc::proc_taskinfo>() as libc::c_int;
            let pointer = (&raw mut info).cast();
            let written = libc::proc_pidinfo(libc::getpid(), libc::PROC_PIDTASKINFO, 0, pointer, size);
            (written == size).then_some(info.pti_threadnum as usize)
        }
    }
    #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
    None
}

/// How many descriptors this process may have open (the soft limit of `RLIMIT_NOFILE`).
pub(crate) fn descriptor_limit() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: getrlimit(2) writes an `rlimit`, and that is what the pointer points at.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    if result == 0 { limit.rlim_cur.try_into().unwrap_or(usize::MAX) } else { usize::MAX }
}

/// A child process of this one. If this process ignores SIGCHLD or waits for any child, other code can reap the child,
/// and the kernel can then give its number to another process.
pub(crate) enum ChildProcess {
    /// pidfd_open(2): the descriptor refers to this child, even after its number is reused.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    Descriptor(OwnedFd),
    /// The system has no such descriptors, or the process has none to spare.
    Number(libc::pid_t),
    /// Other code reaped the child before there was a descriptor.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    Gone,
}

impl ChildProcess {
    /// Opens a descriptor for a child that was just forked.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn new(number: libc::pid_t) -> ChildProcess {
        // SAFETY: pidfd_open(2) touches no memory.
        let opened = unsafe { libc::syscall(libc::SYS_pidfd_open, number, 0) };
        if opened == -1 {
            return match io::Error::last_os_error().raw_os_error() {
                Some(libc::ESRCH) => ChildProcess::Gone,
                _ => ChildProcess::Number(number),
            };
        }
        // SAFETY: the descriptor is new, and no other value owns it.
        let descriptor = unsafe { OwnedFd::from_raw_fd(opened as RawFd) };
        match waitid(libc::P_PIDFD, descriptor.as_raw_fd(), libc::WNOWAIT) {
            // Linux 5.3 opens the descriptor but cannot wait for it.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => ChildProcess::Number(number),
            _ => ChildProcess::Descriptor(descriptor),
        }
    }

    /// These systems have only numbers.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn new(number: libc::pid_t) -> ChildProcess {
        ChildProcess::Number(number)
    }

    /// Reaps the child without blocking. `None` if it still runs. Fails if other code has reaped it.
    pub(crate) fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        match self {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            ChildProcess::Descriptor(descriptor) => {
                let info = waitid(libc::P_PIDFD, descriptor.as_raw_fd(), 0)?;
                // SAFETY: waitid(2) sets both fields, or leaves all zeros if no child has ended.
                let (number, status) = unsafe { (info.si_pid(), info.si_status()) };
                // As wait(2) encodes it.
                let status = match info.si_code {
                    libc::CLD_EXITED => status << 8,
                    libc::CLD_DUMPED => status | 0x80,
                    _ => status,
                };
                Ok((number != 0).then(|| ExitStatus::from_raw(status)))
            }
            ChildProcess::Number(number) => {
                let mut status = 0;
                // SAFETY: the pointer is to an `int`.
                match unsafe { libc::waitpid(*number, &raw mut status, libc::WNOHANG) } {
                    0 => Ok(None),
                    -1 => Err(io::Error::last_os_error()),
                    _ => Ok(Some(ExitStatus::from_raw(status))),
                }
            }
            #[cfg(any(target_os = "linux", target_os = "android"))]
            ChildProcess::Gone => Err(io::Error::from_raw_os_error(libc::ECHILD)),
        }
    }

    /// pidfd_send_signal(2): sends the signal to the child, and never to another process. With only a number, kill(2)
    /// after a check that the number still belongs to a child. If other code reaps the child between the two, the
    /// signal can reach another process; these systems have no way to prevent that.
    pub(crate) fn kill(&self, signal: Signal) {
        match self {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            ChildProcess::Descriptor(descriptor) => {
                let no_info = std::ptr::null::<libc::siginfo_t>();
                // SAFETY: the descriptor is open, and pidfd_send_signal(2) takes a null pointer for the signal of
                // kill(2).
                unsafe {
                    libc::syscall(libc::SYS_pidfd_send_signal, descriptor.as_raw_fd(), signal.number(), no_info, 0);
                }
            }
            ChildProcess::Number(number) => {
                // WNOWAIT leaves an ended child unreaped, so that it keeps its number.
                if waitid(libc::P_PID, *number, libc::WNOWAIT).is_ok() {
                    // SAFETY: kill(2) touches no memory.
                    unsafe { libc::kill(*number, signal.number()) };
                }
            }
            #[cfg(any(target_os = "linux", target_os = "android"))]
            ChildProcess::Gone => {}
        }
    }
}

/// waitid(2) for a child that has ended, without blocking.
fn waitid(kind: libc::idtype_t, id: libc::c_int, options: libc::c_int) -> io::Result<libc::siginfo_t> {
    let options = libc::WEXITED | libc::WNOHANG | options;
    // SAFETY: `siginfo_t` is plain data, for which all zeros is a valid value, and the pointer is to one.
    unsafe {
        let mut info = std::mem::zeroed();
        match libc::waitid(kind, id as libc::id_t, &raw mut info, options) {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(info),
        }
    }
}

/// A signal that ends a child.
pub(crate) enum Signal {
    Terminate,
    Kill,
}

impl Signal {
    fn number(self) -> libc::c_int {
        match self {
            Signal::Terminate => libc::SIGTERM,
            Signal::Kill => libc::SIGKILL,
        }
    }

    /// Whether this signal ended the process that has this status.
    pub(crate) fn has_ended(self, status: ExitStatus) -> bool {
        status.signal() == Some(self.number())
    }
}

/// fcntl(2): takes a descriptor that this process was started with, and marks it close-on-exec.
///
/// # Errors
///
/// `EBADF` if it is not open. [`io::ErrorKind::AlreadyExists`] if it is close-on-exec already: exec(2) would have closed
/// it, so that this process has opened or taken it itself, and something else owns it.
pub(crate) fn take_inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD and F_SETFD change no memory.
    let flags = match unsafe { libc::fcntl(number, libc::F_GETFD) } {
        -1 => return Err(io::Error::last_os_error()),
        flags => flags,
    };
    if flags & libc::FD_CLOEXEC != 0 {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    // SAFETY: as above.
    if unsafe { libc::fcntl(number, libc::F_SETFD, flags | libc::FD_CLOEXEC) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open. It is not close-on-exec, as all are that std makes, and the environment names it: so it
    // came by exec(2), and has no other owner unless code outside of std has opened it in its place.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// The socket that is the standard input, and whether it listens. Where standard descriptors are this socket, they become
/// `/dev/null`.
pub(crate) fn take_standard_socket() -> io::Result<(OwnedFd, bool)> {
    let socket = Socket::from(io::stdin().as_fd().try_clone_to_owned()?);
    let reported = socket.r#type().and_then(|_| is_listener(&socket)).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOTSOCK) => io::Error::new(io::ErrorKind::InvalidInput, "it is not a socket: inetd passes one"),
        _ => error,
    })?;
    // A connection has a peer, unless the peer has gone already.
    let is_listener = reported.unwrap_or_else(|| socket.peer_addr().is_err());
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    for standard in [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()] {
        if is_same_file(standard, socket.as_fd())? {
            // SAFETY: both descriptors are open, and the standard streams still own an open descriptor of that number.
            if unsafe { libc::dup2(null.as_raw_fd(), standard.as_raw_fd()) } == -1 {
                return Err(io::Error::last_os_error());
            }
        }
    }
    Ok((socket.into(), is_listener))
}

fn is_same_file(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> io::Result<bool> {
    let identity = |fd: BorrowedFd<'_>| -> io::Result<(u64, u64)> {
        let metadata = File::from(fd.try_clone_to_owned()?).metadata()?;
        Ok((metadata.dev(), metadata.ino()))
    };
    Ok(identity(one)? == identity(other)?)
}

/// fstat(2): the number that tells an open file from others.
pub(crate) fn inode(fd: BorrowedFd<'_>) -> io::Result<u64> {
    inode_of_number(fd.as_raw_fd())
}

/// As [`inode`], of a number that may not be open.
pub(crate) fn inode_of_number(number: RawFd) -> io::Result<u64> {
    // SAFETY: `stat` is plain data, for which all zeros is a valid value, and the pointer is to one.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        match libc::fstat(number, &raw mut stat) {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(stat.st_ino as u64),
        }
    }
}

/// Starts a program that inherits these descriptors under their numbers.
pub(crate) fn spawn_with(command: &mut Command, descriptors: &[BorrowedFd<'_>]) -> io::Result<Child> {
    let numbers: Vec<RawFd> = descriptors.iter().map(|descriptor| descriptor.as_raw_fd()).collect();
    // The command keeps the closure for the next time that it is spawned. The numbers are of other files then.
    let is_now = Arc::new(());
    let now = Arc::downgrade(&is_now);
    let pass_on = move || {
        let is_now = now.strong_count() > 0;
        for number in numbers.iter().filter(|_| is_now) {
            // SAFETY: F_SETFD changes no memory.
            if unsafe { libc::fcntl(*number, libc::F_SETFD, 0) } == -1 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: between fork(2) and exec(2) the closure calls only fcntl(2), which is async-signal-safe. The descriptors are
    // open there too, as they are borrowed here.
    let child = unsafe { command.pre_exec(pass_on) }.spawn();
    drop(is_now);
    child
}

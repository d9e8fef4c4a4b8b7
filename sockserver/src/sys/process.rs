//! Child processes, and what they have from their parents.

use std::{
    io::{self, Write},
    os::{
        fd::{AsRawFd, BorrowedFd},
        unix::process::ExitStatusExt,
    },
    process::ExitStatus,
};

#[cfg(any(target_os = "linux", target_os = "android"))]
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// dup2(2): closes in this process what a descriptor stands for, although others hold the descriptor too. From here on
/// it is the end of a pipe that nobody has the other end of.
pub(crate) fn replace_with_closed_pipe(fd: BorrowedFd<'_>) {
    // Without a descriptor to spare it stays open until its holders close it.
    let Ok((end, _)) = io::pipe() else { return };
    // SAFETY: both are open, and the number stays so and its holders' own; no program that is started inherits it.
    unsafe {
        libc::dup2(end.as_raw_fd(), fd.as_raw_fd());
        libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC);
    }
}

/// As [`replace_with_closed_pipe`], of a descriptor that a signal handler has.
#[cfg(feature = "signals")]
pub(crate) fn replace_number_with_closed_pipe(fd: std::os::fd::RawFd) {
    // SAFETY: the descriptor is open as long as its action is registered.
    replace_with_closed_pipe(unsafe { BorrowedFd::borrow_raw(fd) });
}

/// sigaction(2): whether the process ignores the signal.
#[cfg(feature = "signals")]
pub(crate) fn is_ignored(signal: libc::c_int) -> bool {
    // SAFETY: `sigaction` is plain data, of which all zeros is a valid value. Without a new action nothing is changed,
    // and the old one is written to where the pointer points.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut action) == 0 && action.sa_sigaction == libc::SIG_IGN
    }
}

/// What [`fork`] returns in either process.
pub(crate) enum Fork {
    Parent(ChildProcess),
    Child,
}

/// prctl(2): when the process that forked this one ends, however it does, this one is sent SIGTERM. If it has ended
/// already, which is no news to anybody any more, this one ends at once.
#[cfg(all(feature = "signals", any(target_os = "linux", target_os = "android")))]
pub(crate) fn end_with_parent(parent: u32) {
    // SAFETY: PR_SET_PDEATHSIG takes the number of a signal, and touches no memory.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM as libc::c_ulong) };
    if std::os::unix::process::parent_id() != parent {
        exit_child(128 + libc::SIGTERM, false);
    }
}

/// The system cannot.
#[cfg(all(feature = "signals", not(any(target_os = "linux", target_os = "android"))))]
pub(crate) fn end_with_parent(_parent: u32) {}

/// fork(2). Whatever is buffered for standard output is written first, so that it is not written twice: where the
/// process has one thread. Else another one could hold that lock for ever, here and in the child.
///
/// The caller has made sure that this thread is the only one, or its user has vouched for the code that runs in the
/// child (`allow_threads`).
pub(crate) fn fork(is_only_thread: bool) -> io::Result<Fork> {
    if is_only_thread {
        write_standard_output();
    }
    // SAFETY: after fork(2), the child of a process with one thread can do anything; where there are more, the user has
    // vouched for its code.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        number => Ok(Fork::Parent(ChildProcess::new(number))),
    }
}

/// _exit(2), after writing what is buffered for standard output where no other thread's lock can be in the way. No
/// destructor of the parent's is run.
pub(crate) fn exit_child(status: i32, was_only_thread: bool) -> ! {
    if was_only_thread {
        write_standard_output();
    }
    // SAFETY: _exit(2) does not return.
    unsafe { libc::_exit(status) }
}

fn write_standard_output() {
    // A closed one has no reader to see it twice.
    let _ = io::stdout().flush();
    // SAFETY: fflush(3) takes a null pointer for all streams.
    unsafe { libc::fflush(std::ptr::null_mut()) };
}

/// pthread_sigmask(3): runs this while no signal can end the process but SIGKILL.
pub(crate) fn without_signals(action: impl FnOnce()) {
    // SAFETY: `sigset_t` is plain data, of which all zeros is a valid value, and the pointers are to two of them.
    unsafe {
        let (mut all, mut before) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        action();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut());
    }
}

/// How many threads this process has. `None`: the system does not tell, as without proc(5).
pub(crate) fn threads() -> Option<usize> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use std::os::unix::fs::MetadataExt;
        // proc(5): a directory for each thread. The links of a directory are two and its subdirectories.
        let links = std::fs::metadata("/proc/self/task").ok()?.nlink();
        usize::try_from(links).ok()?.checked_sub(2)
    }
    #[cfg(target_vendor = "apple")]
    {
        // SAFETY: `proc_taskinfo` is plain data, of which all zeros is a valid value, and the size is that of one.
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

/// A child process that was forked here. Where the process ignores SIGCHLD, or waits for any child, others may wait for
/// it, and its number may be that of another process from then on.
pub(crate) enum ChildProcess {
    /// pidfd_open(2): it stands for this child whatever becomes of its number.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    Descriptor(OwnedFd),
    /// Where the system has no such descriptor, or none to spare.
    Number(libc::pid_t),
    /// Others had waited for it before there was a descriptor.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    Gone,
}

impl ChildProcess {
    /// Of a child that was forked just now.
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
        // SAFETY: the descriptor is new, and nobody else owns it.
        let descriptor = unsafe { OwnedFd::from_raw_fd(opened as RawFd) };
        match waitid(libc::P_PIDFD, descriptor.as_raw_fd(), libc::WNOWAIT) {
            // Linux 5.3 opens it, and cannot wait for it.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => ChildProcess::Number(number),
            _ => ChildProcess::Descriptor(descriptor),
        }
    }

    /// There are only numbers.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn new(number: libc::pid_t) -> ChildProcess {
        ChildProcess::Number(number)
    }

    /// Waits for the child without blocking. `None`: it still runs. An error: others have waited for it.
    pub(crate) fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        match self {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            ChildProcess::Descriptor(descriptor) => {
                let info = waitid(libc::P_PIDFD, descriptor.as_raw_fd(), 0)?;
                // SAFETY: all zeros is what waitid(2) leaves where no child has ended, else it sets both fields.
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

    /// Sends the signal to the child, and never to another process: pidfd_send_signal(2). Where there is only a number,
    /// kill(2), after a look at whether it is still that of a child: one that the process does not wait for itself can
    /// end between the two, which such a system leaves no way to see.
    pub(crate) fn kill(&self, signal: Signal) {
        match self {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            ChildProcess::Descriptor(descriptor) => {
                let no_info = std::ptr::null::<libc::siginfo_t>();
                // SAFETY: the descriptor is open, and pidfd_send_signal(2) takes a null pointer for the signal of kill(2).
                unsafe {
                    libc::syscall(libc::SYS_pidfd_send_signal, descriptor.as_raw_fd(), signal.number(), no_info, 0);
                }
            }
            ChildProcess::Number(number) => {
                // A child that has ended is left to be waited for, so that the number stays its own.
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

/// waitid(2), of a child that has ended, without blocking.
fn waitid(kind: libc::idtype_t, id: libc::c_int, options: libc::c_int) -> io::Result<libc::siginfo_t> {
    let options = libc::WEXITED | libc::WNOHANG | options;
    // SAFETY: `siginfo_t` is plain data, of which all zeros is a valid value, and the pointer is to one.
    unsafe {
        let mut info = std::mem::zeroed();
        match libc::waitid(kind, id as libc::id_t, &raw mut info, options) {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(info),
        }
    }
}

/// What a child can be told.
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

    /// Whether it is what has ended a process.
    pub(crate) fn has_ended(self, status: ExitStatus) -> bool {
        status.signal() == Some(self.number())
    }
}

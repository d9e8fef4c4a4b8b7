//! The sockets that this process was started with, and the sockets that it hands over to a successor.
//!
//! systemd, or another manager that speaks its protocol, passes sockets by `sd_listen_fds(3)`. A predecessor passes them by
//! [`SOCKETS`] and [`READY`]: the number of a process, which systemd's protocol needs, is not known before it is started.
//! There a descriptor is named with its inode, so that a program further down, which inherits the variables but not the
//! descriptors, takes none of its own. The environment is left as it is.

use std::{
    env,
    io::{self, PipeReader, Read, Write},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    process::{self, Child, Command},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use socket2::{SockAddr, SockRef, Socket, Type};

use crate::sys;

/// The first descriptor after the standard ones: `SD_LISTEN_FDS_START`.
const FIRST: RawFd = 3;

/// The sockets of the predecessor: for each its number, its inode, whether this process is to own its file, and its name,
/// which may be empty. Colons stand between them.
const SOCKETS: &str = "SOCKSERVER_SOCKETS";

/// The pipe on which a successor says that it is ready: its number and its inode.
const READY: &str = "SOCKSERVER_READY";

/// How long a successor may take until it serves.
const PATIENCE: Duration = Duration::from_secs(60);

static INHERITANCE: OnceLock<Mutex<Inheritance>> = OnceLock::new();

#[derive(Default)]
struct Inheritance {
    sockets: Vec<InheritedSocket>,
    /// `None`: there is no predecessor, or this process has said that it is ready.
    ready: Option<OwnedFd>,
    /// The inodes of the socket files that belong to a successor by now, or still to the predecessor.
    foreign_files: Vec<u64>,
}

struct InheritedSocket {
    name: String,
    inode: u64,
    is_handed_over: bool,
    /// `None`: it was taken.
    socket: Option<OwnedFd>,
    is_served: bool,
}

/// Why no socket of a name can be taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// No socket has the name; these names there are.
    Unknown(Vec<String>),
    /// Every socket of the name was taken before.
    Taken,
}

/// Takes all sockets of this name, each with its own name.
pub(crate) fn take(name: &str) -> Result<Vec<(String, OwnedFd)>, Missing> {
    let mut inheritance = lock();
    let named = |inherited: &&mut InheritedSocket| is_meant(name, &inherited.name);
    let mut named: Vec<_> = inheritance.sockets.iter_mut().filter(named).collect();
    if named.is_empty() {
        let names = inheritance.sockets.iter().map(|inherited| inherited.name.clone());
        return Err(Missing::Unknown(names.filter(|name| !name.is_empty()).collect()));
    }
    let taken: Vec<_> =
        named.iter_mut().filter_map(|inherited| Some((inherited.name.clone(), inherited.socket.take()?))).collect();
    if taken.is_empty() { Err(Missing::Taken) } else { Ok(taken) }
}

/// Takes the socket of the predecessor that is bound to a fitting address.
pub(crate) fn take_bound(kind: Type, fits: impl Fn(&SockAddr) -> bool) -> Option<Socket> {
    let mut inheritance = lock();
    let handed_over = inheritance.sockets.iter_mut().filter(|inherited| inherited.is_handed_over);
    let mut fitting = handed_over.filter_map(|inherited| {
        let socket = SockRef::from(inherited.socket.as_ref()?);
        let is_fitting = socket.r#type().ok()? == kind && fits(&socket.local_addr().ok()?);
        is_fitting.then_some(&mut inherited.socket)
    });
    fitting.next()?.take().map(Socket::from)
}

/// Without `FileDescriptorName=`, systemd names a socket by its unit.
fn is_meant(name: &str, socket: &str) -> bool {
    socket == name || socket.strip_suffix(".socket") == Some(name)
}

fn lock() -> MutexGuard<'static, Inheritance> {
    INHERITANCE.get_or_init(|| Mutex::new(inherit())).lock().unwrap_or_else(PoisonError::into_inner)
}

fn inherit() -> Inheritance {
    let value = |name| env::var(name).unwrap_or_default();
    let is_for_this_process = value("LISTEN_PID") == process::id().to_string();
    let activated = is_for_this_process.then(|| listed(&value("LISTEN_FDS"), &value("LISTEN_FDNAMES")));
    // A descriptor that is not open, or that this process has opened itself, was not inherited.
    let activated = activated.unwrap_or_default().into_iter().filter_map(|(number, name)| {
        let socket = sys::take_inherited(number).ok()?;
        Some(InheritedSocket {
            name,
            inode: sys::inode(socket.as_fd()).ok()?,
            is_handed_over: false,
            socket: Some(socket),
            is_served: false,
        })
    });
    let handed_over = handed_over(&value(SOCKETS)).into_iter().filter_map(|(number, inode, name)| {
        let socket = Some(take_with_inode(number, inode)?);
        Some(InheritedSocket { name, inode, is_handed_over: true, socket, is_served: false })
    });
    let sockets = activated.chain(handed_over).collect();
    let ready = handed_over_descriptor(&value(READY)).and_then(|(number, inode)| take_with_inode(number, inode));
    Inheritance { sockets, ready, foreign_files: Vec::new() }
}

fn take_with_inode(number: RawFd, inode: u64) -> Option<OwnedFd> {
    (sys::inode_of_number(number).ok()? == inode).then(|| sys::take_inherited(number).ok())?
}

/// The descriptors that systemd lists, with their names.
fn listed(count: &str, names: &str) -> Vec<(RawFd, String)> {
    let Ok(count) = count.parse::<RawFd>() else { return Vec::new() };
    let names = names.split(':').map(str::to_owned).chain(std::iter::repeat(String::new()));
    (FIRST..FIRST.saturating_add(count)).zip(names).collect()
}

/// The descriptors that a predecessor lists.
fn handed_over(sockets: &str) -> Vec<(RawFd, u64, String)> {
    let fields: Vec<_> = sockets.split(':').collect();
    let parsed = fields
        .chunks_exact(3)
        .map(|fields| Some((fields[0].parse().ok()?, fields[1].parse().ok()?, fields[2].to_owned())));
    parsed.flatten().collect()
}

fn handed_over_descriptor(descriptor: &str) -> Option<(RawFd, u64)> {
    let (number, inode) = descriptor.split_once(':')?;
    Some((number.parse().ok()?, inode.parse().ok()?))
}

/// The file of a Unix socket belongs to this process once it is ready: until then its predecessor removes it.
pub(crate) fn own_file_when_ready(inode: u64) {
    let mut inheritance = lock();
    if inheritance.ready.is_some() {
        inheritance.foreign_files.push(inode);
    }
}

/// Whether another process removes this file.
pub(crate) fn is_foreign_file(inode: u64) -> bool {
    lock().foreign_files.contains(&inode)
}

/// Whether a predecessor waits until this process serves.
pub(crate) fn is_awaited() -> bool {
    lock().ready.is_some()
}

/// A server of this process serves on these sockets: tells the predecessor, once every socket that it has handed over is
/// served.
pub(crate) fn serving(sockets: &[OwnedFd]) {
    let mut inheritance = lock();
    for inode in sockets.iter().filter_map(|socket| sys::inode(socket.as_fd()).ok()) {
        inheritance.sockets.iter_mut().filter(|inherited| inherited.inode == inode).for_each(|it| it.is_served = true);
    }
    if inheritance.sockets.iter().any(|inherited| inherited.is_handed_over && !inherited.is_served) {
        return;
    }
    if let Some(ready) = inheritance.ready.take() {
        inheritance.foreign_files.clear();
        // It fails if the predecessor has ended, which then does not wait for it.
        let _ = std::io::PipeWriter::from(ready).write(&[1]);
    }
}

/// Starts the successor with these sockets, and waits until it is ready. From then on the files are its own.
pub(crate) fn hand_over(command: &mut Command, sockets: &[BorrowedFd<'_>], files: &[u64]) -> io::Result<Child> {
    let (reader, writer) = io::pipe()?;
    let passed = sockets.iter().map(|socket| {
        let inode = sys::inode(*socket)?;
        let inheritance = lock();
        let known = inheritance.sockets.iter().find(|inherited| inherited.inode == inode);
        Ok(format!("{}:{inode}:{}", socket.as_raw_fd(), known.map_or("", |inherited| &inherited.name)))
    });
    command.env(SOCKETS, passed.collect::<io::Result<Vec<_>>>()?.join(":"));
    command.env(READY, format!("{}:{}", writer.as_raw_fd(), sys::inode(writer.as_fd())?));
    // They name this process.
    for variable in ["LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "WATCHDOG_PID"] {
        command.env_remove(variable);
    }
    let descriptors: Vec<BorrowedFd<'_>> = sockets.iter().copied().chain([writer.as_fd()]).collect();
    let mut child = sys::spawn_with(command, &descriptors)?;
    drop(descriptors);
    drop(writer);
    match wait_until_ready(reader) {
        Ok(()) => {
            lock().foreign_files.extend(files);
            Ok(child)
        }
        Err(error) => {
            // It may have ended by itself.
            let _ = child.kill();
            let status = child.wait()?;
            Err(io::Error::new(error.kind(), format!("the successor {error}: {status}")))
        }
    }
}

fn wait_until_ready(mut pipe: PipeReader) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if sys::poll(&mut [sys::Watched::new(pipe.as_fd())], Some(left))? {
            return match pipe.read(&mut [0])? {
                0 => Err(io::Error::other("has ended before it was ready")),
                _ => Ok(()),
            };
        }
        if left.is_zero() {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "was killed, since it did not serve all sockets within a minute",
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_listed_with_their_names() {
        let named = |number, name: &str| (number, name.to_owned());
        assert_eq!(listed("2", "web:local"), [named(3, "web"), named(4, "local")]);
        assert_eq!(listed("2", "web"), [named(3, "web"), named(4, "")]);
        assert_eq!(listed("1", ""), [named(3, "")]);
        for no_number in ["", "two", "-1"] {
            assert_eq!(listed(no_number, "web"), []);
        }
    }

    #[test]
    fn sockets_of_a_predecessor_are_listed_with_their_inodes_and_names() {
        assert_eq!(handed_over("3:77:web:5:78:"), [(3, 77, "web".to_owned()), (5, 78, String::new())]);
        for nothing in ["", "3", "3:x:web", "3:77"] {
            assert_eq!(handed_over(nothing), []);
        }
    }

    #[test]
    fn the_name_of_a_unit_may_be_left_short() {
        assert!(is_meant("web", "web") && is_meant("web", "web.socket") && is_meant("web.socket", "web.socket"));
        assert!(!is_meant("web", "web2") && !is_meant("web.socket", "web"));
    }
}

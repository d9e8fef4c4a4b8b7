//! The files of Unix sockets.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io,
    net::SocketAddr,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, SockAddr, Socket, Type};

use super::stream_socket;
use crate::{
    address::{Address, UnixAddress},
    inheritance,
    options::{Options, SocketOptions},
    sys,
};

/// The files of the sockets that this process has bound, by the inodes of the sockets.
static FILES: Mutex<Vec<(u64, Weak<SocketFile>)>> = Mutex::new(Vec::new());

/// The file of a bound socket. Dropping this removes the file. Servers of one process on the same socket share it.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode: another file of this name is not removed.
    identity: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<SocketFile> {
        let file = fs::symlink_metadata(path)?;
        let identity = (file.dev(), file.ino());
        Ok(SocketFile { path: std::path::absolute(path)?, identity })
    }

    fn share(self, socket: &Socket) -> io::Result<Arc<SocketFile>> {
        let file = Arc::new(self);
        let mut files = FILES.lock().unwrap_or_else(PoisonError::into_inner);
        files.retain(|(_, file)| file.strong_count() > 0);
        files.push((sys::inode(socket.as_fd())?, Arc::downgrade(&file)));
        Ok(file)
    }

    /// The file of a socket that was bound elsewhere, if a server of this process has bound it and is to remove its file.
    pub(super) fn of_shared(socket: &Socket) -> io::Result<Option<Arc<SocketFile>>> {
        let inode = sys::inode(socket.as_fd())?;
        let files = FILES.lock().unwrap_or_else(PoisonError::into_inner);
        let mut shared = files.iter().filter(|(shared, _)| *shared == inode);
        Ok(shared.find_map(|(_, file)| file.upgrade()))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_there = fs::symlink_metadata(&self.path).is_ok_and(|file| (file.dev(), file.ino()) == self.identity);
        if is_there && !inheritance::is_foreign_file(self.identity.1) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Makes a Unix socket and binds it. A stream socket listens on return.
pub(super) fn bind_unix(
    address: &Address,
    kind: Type,
    options: &Options,
) -> io::Result<(Socket, Option<Arc<SocketFile>>)> {
    if !matches!(address, Address::Unix(UnixAddress::Path(_) | UnixAddress::Abstract(_))) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a Unix socket needs the path of a file that does not exist yet, like /run/app.sock",
        ));
    }
    if let Some(file) = address.path().and_then(Path::to_str).filter(|path| path.parse::<SocketAddr>().is_ok()) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "a Unix socket needs a path, and this is an internet address; for a file of that name, write ./{file}"
            ),
        ));
    }
    let name = address.to_sockaddr()?;
    if let Some(socket) = inheritance::take_bound(kind, |bound| *bound == name) {
        let owned = address.path().filter(|_| options.socket.unlink);
        let file = owned.map(SocketFile::of).transpose()?;
        file.iter().for_each(|file| inheritance::own_file_when_ready(file.identity.1));
        let file = file.map(|file| file.share(&socket)).transpose()?;
        return Ok((socket, file));
    }
    let socket = Socket::new(Domain::UNIX, kind, None)?;
    // Held until the socket listens: then another server that probes the file finds it in use.
    let _lock = address.path().filter(|_| options.socket.unlink).and_then(lock_directory);
    let file = match address.path() {
        Some(path) => bind_to_path(&socket, path, &name, kind, &options.socket)?,
        None => {
            socket.bind(&name)?;
            None
        }
    };
    if kind == Type::STREAM {
        stream_socket::listen(&socket, options)?;
    }
    let file = file.map(|file| file.share(&socket)).transpose()?;
    Ok((socket, file))
}

fn bind_to_path(
    socket: &Socket,
    path: &Path,
    name: &SockAddr,
    kind: Type,
    options: &SocketOptions,
) -> io::Result<Option<SocketFile>> {
    if options.unlink {
        remove_stale(path, name, kind)?;
    }
    if let Some(mode) = options.mode {
        // The file inherits the mode of its socket, so that its permissions are never wider. Some systems refuse this.
        // There no client can connect early either: a stream server listens only when the file has its mode.
        let _ = File::from(OwnedFd::from(socket.try_clone()?)).set_permissions(Permissions::from_mode(mode));
    }
    socket.bind(name)?;
    let file = options.unlink.then(|| SocketFile::of(path)).transpose()?;
    if let Some(mode) = options.mode {
        // Adds the permissions that the umask removed.
        sys::set_mode(path, mode)?;
    }
    Ok(file)
}

/// How long a server waits for other servers that bind in the same directory.
const LOCK_TIMEOUT: Duration = Duration::from_millis(500);

/// Locks the directory of a socket file. If several servers find the file stale, the second one then finds the first
/// one listening. `None` if the directory cannot be locked, or if another process keeps the lock for long.
fn lock_directory(path: &Path) -> Option<File> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let directory = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(directory).ok()?;
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        match sys::try_lock(&directory) {
            Ok(()) => return Some(directory),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(5));
            }
            Err(_) => return None,
        }
    }
}

/// Removes a socket file at which no server listens.
fn remove_stale(path: &Path, name: &SockAddr, kind: Type) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(file) if !file.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "the file exists and is not a socket"));
        }
        Ok(_) => {}
    }
    let probe = Socket::new(Domain::UNIX, kind, None)?;
    // A server whose queue is full is listening: the probe must not wait for room.
    probe.set_nonblocking(true)?;
    match probe.connect(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        },
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        _ => Err(io::Error::new(io::ErrorKind::AddrInUse, "another server listens there")),
    }
}

#[cfg(test)]
mod tests {
    use std::{env, os::unix::fs::symlink, process};

    use super::*;

    #[test]
    fn the_mode_of_a_links_target_is_left_alone() {
        let directory = env::temp_dir().join(format!("sockserver-mode-{}", process::id()));
        fs::create_dir(&directory).expect("a free name");
        let (target, link) = (directory.join("target"), directory.join("link"));
        fs::write(&target, "").expect("a writable directory");
        fs::set_permissions(&target, Permissions::from_mode(0o600)).expect("its own file");
        symlink(&target, &link).expect("a free name");
        let set = sys::set_mode(&link, 0o666);
        let mode = fs::metadata(&target).expect("it is there").permissions().mode();
        let set_directly = sys::set_mode(&target, 0o640);
        let mode_then = fs::metadata(&target).expect("it is there").permissions().mode();
        fs::remove_dir_all(&directory).expect("its own directory");
        // Some systems change the mode of the link.
        assert!(set.is_err() || cfg!(not(target_os = "linux")));
        assert_eq!(mode & 0o777, 0o600);
        assert!(set_directly.is_ok());
        assert_eq!(mode_then & 0o777, 0o640);
    }
}

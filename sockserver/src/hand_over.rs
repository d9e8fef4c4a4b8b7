//! Handing the listening sockets of servers over to a successor.

use std::{
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    process::{Child, Command},
    sync::Arc,
};

use crate::{inheritance, primitives::atomic::Ordering::SeqCst, server_state::ServerState};

#[cfg(feature = "systemd")]
use crate::systemd::Reload;

/// A server that is being handed over, until this is dropped.
struct HandOver<'a> {
    server: &'a Arc<ServerState>,
    sockets: Vec<OwnedFd>,
}

/// Starts a successor on the listening sockets of these servers, and shuts the servers down once it serves.
pub(crate) fn hand_over(servers: &[&Arc<ServerState>], command: &mut Command) -> io::Result<Child> {
    if servers.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "there is no server to hand over"));
    }
    let begun = servers.iter().map(|server| HandOver::begin(server)).collect::<io::Result<Vec<_>>>()?;
    #[cfg(feature = "systemd")]
    let reload = servers.iter().any(|server| server.tells_systemd.load(SeqCst)).then(Reload::begin);
    let sockets: Vec<BorrowedFd<'_>> = begun.iter().flat_map(|server| &server.sockets).map(AsFd::as_fd).collect();
    let files: Vec<u64> = servers.iter().flat_map(|server| socket_files(server)).collect();
    let successor = inheritance::hand_over(command, &sockets, &files)?;
    #[cfg(feature = "systemd")]
    if let Some(reload) = reload {
        reload.end_with(successor.id());
    }
    drop(begun);
    for server in servers {
        server.has_successor.store(true, SeqCst);
        server.shut_down();
    }
    Ok(successor)
}

/// The inodes of the files of a server's Unix sockets.
fn socket_files(server: &ServerState) -> impl Iterator<Item = u64> {
    let paths = server.sockets.addresses.iter().filter_map(|address| address.path());
    paths.filter_map(|path| Some(fs::symlink_metadata(path).ok()?.ino()))
}

impl<'a> HandOver<'a> {
    fn begin(server: &'a Arc<ServerState>) -> io::Result<HandOver<'a>> {
        let refused =
            |kind, why| Err(io::Error::new(kind, format!("the server on {} {why}", server.sockets.addresses[0])));
        if server.is_copy() {
            return refused(io::ErrorKind::Unsupported, "is the parent's: a child has none of its sockets");
        }
        if server.is_handing_over.swap(true, SeqCst) {
            return refused(io::ErrorKind::ResourceBusy, "is being handed over already");
        }
        let mut begun = HandOver { server, sockets: Vec::new() };
        begun.sockets = (server.sockets.duplicate)()?;
        if server.has_successor.load(SeqCst) {
            return refused(io::ErrorKind::NotConnected, "has a successor already");
        }
        if begun.sockets.is_empty() || server.is_leaving() {
            return refused(io::ErrorKind::NotConnected, "was shut down already");
        }
        Ok(begun)
    }
}

impl Drop for HandOver<'_> {
    fn drop(&mut self) {
        self.server.is_handing_over.store(false, SeqCst);
    }
}

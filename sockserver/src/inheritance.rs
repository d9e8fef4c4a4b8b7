//! The sockets that this process was started with: by systemd or another manager that speaks its protocol.
//!
//! `sd_listen_fds(3)` has the protocol. The environment is left as it is.

use std::{
    env,
    os::fd::{OwnedFd, RawFd},
    process,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use crate::sys;

/// The first descriptor after the standard ones: `SD_LISTEN_FDS_START`.
const FIRST: RawFd = 3;

/// All inherited sockets of this process.
static INHERITANCE: OnceLock<Mutex<Vec<InheritedSocket>>> = OnceLock::new();

struct InheritedSocket {
    name: String,
    /// `None`: it was taken.
    socket: Option<OwnedFd>,
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
    let mut named: Vec<_> = inheritance.iter_mut().filter(|inherited| is_meant(name, &inherited.name)).collect();
    if named.is_empty() {
        return Err(Missing::Unknown(inheritance.iter().map(|inherited| inherited.name.clone()).collect()));
    }
    let taken: Vec<_> =
        named.iter_mut().filter_map(|inherited| Some((inherited.name.clone(), inherited.socket.take()?))).collect();
    if taken.is_empty() { Err(Missing::Taken) } else { Ok(taken) }
}

/// Without `FileDescriptorName=`, systemd names a socket by its unit.
fn is_meant(name: &str, socket: &str) -> bool {
    socket == name || socket.strip_suffix(".socket") == Some(name)
}

fn lock() -> MutexGuard<'static, Vec<InheritedSocket>> {
    let inheritance = INHERITANCE.get_or_init(|| {
        let value = |name| env::var(name).unwrap_or_default();
        let is_for_this_process = value("LISTEN_PID") == process::id().to_string();
        let listed = is_for_this_process.then(|| listed(&value("LISTEN_FDS"), &value("LISTEN_FDNAMES")));
        // A descriptor that is not open, or that this process has opened itself, was not inherited.
        let inherited = listed.unwrap_or_default().into_iter().filter_map(|(number, name)| {
            Some(InheritedSocket { name, socket: Some(sys::take_inherited(number).ok()?) })
        });
        Mutex::new(inherited.collect())
    });
    inheritance.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The descriptors that the environment lists, with their names.
fn listed(count: &str, names: &str) -> Vec<(RawFd, String)> {
    let Ok(count) = count.parse::<RawFd>() else { return Vec::new() };
    let names = names.split(':').map(str::to_owned).chain(std::iter::repeat(String::new()));
    (FIRST..FIRST.saturating_add(count)).zip(names).collect()
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
    fn the_name_of_a_unit_may_be_left_short() {
        assert!(is_meant("web", "web") && is_meant("web", "web.socket") && is_meant("web.socket", "web.socket"));
        assert!(!is_meant("web", "web2") && !is_meant("web.socket", "web"));
    }
}

//! A core for the client and another one for the server, so that neither gains or loses by sharing.

use std::{
    io,
    process::{Child, Command},
};

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

#[derive(Clone, Copy)]
pub struct Cores {
    client: usize,
    server: usize,
}

impl Cores {
    /// The first and the last core that this process may run on.
    pub fn two() -> io::Result<Cores> {
        let allowed = sched_getaffinity(THIS_THREAD)?;
        let mut cores = (0..CpuSet::count()).filter(|core| allowed.is_set(*core).unwrap_or(false));
        match (cores.next(), cores.next_back()) {
            (Some(client), Some(server)) => Ok(Cores { client, server }),
            _ => Err(io::Error::other("--pin takes two cores, and this process may run on one only")),
        }
    }

    /// Starts a server on its core, and leaves this thread on the client's.
    pub fn start(self, command: &mut Command) -> io::Result<Child> {
        // A process inherits the core of the thread that starts it, and so does each of its threads: there is no moment
        // at which one of them runs elsewhere.
        stay_on(self.server)?;
        let child = command.spawn();
        stay_on(self.client)?;
        child
    }
}

const THIS_THREAD: Pid = Pid::from_raw(0);

fn stay_on(core: usize) -> io::Result<()> {
    let mut only = CpuSet::new();
    only.set(core)?;
    Ok(sched_setaffinity(THIS_THREAD, &only)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_runs_on_one_core_and_the_client_on_the_other() {
        let Ok(cores) = Cores::two() else { return };
        let mut command = Command::new("sleep");
        let mut server = cores.start(command.arg("60")).expect("sleep");
        let its = sched_getaffinity(Pid::from_raw(server.id().cast_signed())).expect("a process that runs");
        let ours = sched_getaffinity(THIS_THREAD).expect("this thread");
        server.kill().and_then(|()| server.wait()).expect("a process that runs");
        let one = |core| {
            let mut only = CpuSet::new();
            only.set(core).map(|()| only)
        };
        assert_ne!(its, ours);
        assert_eq!((Ok(its), Ok(ours)), (one(cores.server), one(cores.client)));
    }
}

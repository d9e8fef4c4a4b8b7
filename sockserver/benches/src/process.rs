//! A server as a process of its own.

use std::{
    fs,
    io::{self, BufRead, BufReader, Read},
    net::SocketAddr,
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    time::{ClockId, clock_getcpuclockid, clock_gettime},
    unistd::Pid,
};

use crate::cores::Cores;

pub struct Process {
    child: Child,
    stdout: BufReader<ChildStdout>,
    pub address: SocketAddr,
    /// The time that all threads of the process have run, also those that have ended.
    clock: ClockId,
}

impl Process {
    /// Starts a server, which says on its standard output which port it listens on, or which address with that port.
    pub fn start(mut command: Command, cores: Option<Cores>) -> io::Result<Process> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = match cores {
            Some(cores) => cores.start(&mut command)?,
            None => command.spawn()?,
        };
        let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut stdout = BufReader::new(stdout);
        let mut port = String::new();
        stdout.read_line(&mut port)?;
        let port = port.rsplit(':').next().unwrap_or_default();
        let port: u16 = port.trim().parse().map_err(io::Error::other)?;
        let clock = clock_getcpuclockid(Pid::from_raw(child.id().cast_signed()))?;
        Ok(Process { child, stdout, address: ([127, 0, 0, 1], port).into(), clock })
    }

    pub fn cpu_time(&self) -> io::Result<Duration> {
        Ok(Duration::from(clock_gettime(self.clock)?))
    }

    pub fn resident_kib(&self) -> io::Result<f64> {
        // Not `VmRSS`, which is off by what each CPU has not yet added up.
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id()))?;
        let resident = rollup.lines().find_map(|line| line.strip_prefix("Rss:")?.split_whitespace().next());
        resident.and_then(|kib| kib.parse().ok()).ok_or_else(|| io::Error::other("no Rss in smaps_rollup"))
    }

    /// How long the server takes to stop: it is told so by the end of its input, and says when it has.
    pub fn stop(mut self) -> io::Result<Duration> {
        let told = Instant::now();
        drop(self.child.stdin.take());
        let mut stopped = String::new();
        self.stdout.read_line(&mut stopped)?;
        let took = told.elapsed();
        match stopped.trim() {
            "stopped" => Ok(took),
            other => Err(io::Error::other(format!("the server said {other:?} instead of having stopped"))),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself, and there is nothing to be done about a failure.
        let _ = self.child.kill();
        let _ = self.stdout.read_to_end(&mut Vec::new());
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Process {
        let mut command = Command::new("sh");
        command.arg("-c").arg(script);
        Process::start(command, None).expect("a shell")
    }

    #[test]
    fn the_cpu_time_is_that_of_the_server_and_of_no_other_process() {
        let waiting = shell("echo 1; read line");
        let computing = shell("echo 1; while :; do :; done");
        let used = Duration::from_millis(200);
        while computing.cpu_time().expect("a process that runs") < used {}
        assert!(waiting.cpu_time().expect("a process that runs") < used / 2);
    }
}

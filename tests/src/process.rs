//! Processes that never run longer than a test may.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
};

use crate::client::{PATIENCE, eventually};

/// A process whose standard output is read line by line. It is killed, with all processes it has started, when this is
/// dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    lines: Receiver<String>,
}

impl Process {
    #[track_caller]
    pub fn start(command: &mut Command) -> Process {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0).env("RUST_BACKTRACE", "0");
        let mut child = command.spawn().unwrap_or_else(|error| panic!("starting {command:?}: {error}"));
        let (sender, lines) = mpsc::channel();
        let stdout = child.stdout.take().expect("it is piped");
        thread::spawn(move || read_lines(stdout, |line| sender.send(line).is_ok()));
        Process { child, lines }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line that it prints.
    #[track_caller]
    pub fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("it prints a line")
    }

    /// The rest of the next line that starts like this.
    #[track_caller]
    pub fn line_after(&self, start: &str) -> String {
        loop {
            if let Some(rest) = self.line().strip_prefix(start) {
                return rest.to_owned();
            }
        }
    }

    /// Waits until it has ended, and returns the lines that were not read yet.
    #[track_caller]
    pub fn finish(mut self) -> Vec<String> {
        let mut status = None;
        eventually("the process ends", || {
            status = self.child.try_wait().expect("it is our own");
            status.is_some()
        });
        assert!(status.is_some_and(|status: ExitStatus| status.success()), "{status:?}");
        std::iter::from_fn(|| self.lines.recv_timeout(PATIENCE).ok()).collect()
    }

    /// Sends a signal by its name, as `USR1`.
    #[track_caller]
    pub fn signal(&self, signal: &str) {
        send_signal(signal, &self.id().to_string());
    }

    /// The processes that it is the parent of, with the letter of their state; `Z` is one that was not waited for.
    pub fn children(&self) -> Vec<(u32, char)> {
        let processes = fs::read_dir("/proc").expect("there is a /proc").flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter_map(|pid| self.state_of_child(pid).map(|state| (pid, state))).collect()
    }

    fn state_of_child(&self, pid: u32) -> Option<char> {
        // proc(5): `pid (name) state parent …`, where the name can be anything.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?.chars().next()?;
        (fields.next()?.parse() == Ok(self.id())).then_some(state)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        send_signal("KILL", &format!("-{}", self.id()));
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process, or with a minus sign to a group. None of that number is no error.
#[track_caller]
pub fn send_signal(signal: &str, to: &str) {
    // The shell has a `kill` of its own.
    let kill = Command::new("sh").args(["-c", r#"kill -s "$0" -- "$1""#, signal, to]).stderr(Stdio::null()).status();
    kill.expect("there is a shell");
}

fn read_lines(output: impl Read, mut take: impl FnMut(String) -> bool) {
    let lines = BufReader::new(output).split(b'\n').map_while(Result::ok);
    for line in lines {
        if !take(String::from_utf8_lossy(&line).into_owned()) {
            break;
        }
    }
}

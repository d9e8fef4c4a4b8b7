//! What a process holds, as Linux tells it, and waiting until it holds no more than before.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crate::client::PATIENCE;

/// A process that is looked at from outside.
#[derive(Clone, Copy, Debug)]
pub struct Observed {
    pid: u32,
}

/// What a process holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resources {
    pub threads: usize,
    pub descriptors: usize,
    /// Processes that it has not waited for.
    pub children: usize,
    /// Bytes of its own in main memory.
    pub memory: usize,
}

impl Observed {
    pub fn this() -> Observed {
        Observed::of(std::process::id())
    }

    pub fn of(pid: u32) -> Observed {
        Observed { pid }
    }

    pub fn resources(self) -> Resources {
        Resources {
            threads: self.threads().len(),
            descriptors: self.descriptors(),
            children: self.children(),
            memory: self.status("RssAnon") * 1024,
        }
    }

    /// Waits until it holds no more than `before`, of memory no more than `slack` bytes more.
    #[track_caller]
    pub fn returns_to(self, before: Resources, slack: usize) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = self.resources();
            if now.threads <= before.threads
                && now.descriptors <= before.descriptors
                && now.children <= before.children
                && now.memory <= before.memory.saturating_add(slack)
            {
                return;
            }
            let open = || self.open().join(", ");
            assert!(Instant::now() < deadline, "it held {before:?} before, and holds {now:?}: {}", open());
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// The descriptors by which event loops wait are left out: a busy server starts more loops, and keeps them.
    pub fn descriptors(self) -> usize {
        let of_loop = ["anon_inode:[eventpoll]", "anon_inode:[eventfd]"];
        self.open().iter().filter(|link| !of_loop.contains(&link.as_str())).count()
    }

    /// How many of them are sockets.
    pub fn sockets(self) -> usize {
        self.open().iter().filter(|link| link.starts_with("socket:")).count()
    }

    /// What its descriptors are.
    fn open(self) -> Vec<String> {
        let links = entries(self.proc("fd")).into_iter().filter_map(|entry| fs::read_link(entry).ok());
        links.map(|link| link.to_string_lossy().into_owned()).collect()
    }

    /// The number that the next descriptor it opens will have.
    pub fn next_descriptor(self) -> usize {
        let is_free = |number: &usize| self.proc(&format!("fd/{number}")).symlink_metadata().is_err();
        (0..).find(is_free).expect("there are always more numbers")
    }

    /// How many descriptors it may have.
    pub fn descriptor_limit(self) -> usize {
        let limits = fs::read_to_string(self.proc("limits")).expect("its limits");
        let soft = limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next());
        soft.and_then(|soft| soft.parse().ok()).unwrap_or_else(|| panic!("no limit in {limits}"))
    }

    /// How often its threads have gone to sleep. Each time takes a wake-up.
    pub fn sleeps(self) -> usize {
        let statuses = self.threads().into_iter().map(|thread| thread.join("status"));
        statuses.filter_map(|status| field(&fs::read_to_string(status).ok()?, "voluntary_ctxt_switches")).sum()
    }

    /// The processor time that it has taken so far.
    pub fn processor_time(self) -> Duration {
        // User and system time, in hundredths of a second.
        let ticks = self.stat(14).parse::<u64>().expect("a number") + self.stat(15).parse::<u64>().expect("a number");
        Duration::from_millis(ticks * 10)
    }

    /// What kill(1) does.
    pub fn signal(self, signal: &str) {
        let sent = Command::new("kill").arg(format!("-{signal}")).arg(self.pid.to_string()).status();
        assert!(sent.expect("every Unix has a kill").success());
    }

    /// Whether a signal has stopped it.
    pub fn is_stopped(self) -> bool {
        self.stat(3) == "T"
    }

    /// Whether all its threads wait for something.
    pub fn is_asleep(self) -> bool {
        let threads = self.threads();
        let statuses = threads.iter().map(|thread| fs::read_to_string(thread.join("status")));
        // One that was started meanwhile was not looked at.
        statuses.flatten().all(|status| status.contains("\nState:\tS")) && self.threads() == threads
    }

    /// The names of its threads.
    pub fn thread_names(self) -> Vec<String> {
        let names = self.threads().into_iter().map(|thread| thread.join("comm"));
        names.filter_map(|name| Some(fs::read_to_string(name).ok()?.trim_end().to_owned())).collect()
    }

    fn children(self) -> usize {
        let lists = self.threads().into_iter().map(|thread| thread.join("children"));
        lists.filter_map(|list| Some(fs::read_to_string(list).ok()?.split_whitespace().count())).sum()
    }

    fn threads(self) -> Vec<PathBuf> {
        entries(self.proc("task"))
    }

    /// A field of its statistics, by its number in proc(5).
    fn stat(self, number: usize) -> String {
        let stat = fs::read_to_string(self.proc("stat")).expect("its statistics");
        // Field 2 is the name, in parentheses and with whatever it may contain.
        let (_, after_name) = stat.rsplit_once(')').expect("a name in parentheses");
        after_name.split_whitespace().nth(number - 3).expect("it has more fields").to_owned()
    }

    fn status(self, name: &str) -> usize {
        let status = fs::read_to_string(self.proc("status")).expect("its status");
        field(&status, name).unwrap_or_else(|| panic!("no {name} in {status}"))
    }

    fn proc(self, file: &str) -> PathBuf {
        format!("/proc/{}/{file}", self.pid).into()
    }
}

fn entries(directory: PathBuf) -> Vec<PathBuf> {
    let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

fn field(status: &str, name: &str) -> Option<usize> {
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.split_whitespace().next()?.parse().ok()
}

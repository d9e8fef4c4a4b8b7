//! What the process of a server holds, as Linux tells it.

use std::{fs, io, net::SocketAddr, path::Path};

/// What the processes of a server hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resources {
    /// Their threads.
    pub threads: u64,
    /// Their open descriptors.
    pub descriptors: u64,
    /// Their own bytes in main memory.
    pub memory: u64,
}

impl Resources {
    /// `None`: there is no such process, it is another user's, or this is not Linux.
    pub(super) fn of(process: u32) -> Option<Resources> {
        let directory = Path::new("/proc").join(process.to_string());
        let status = fs::read_to_string(directory.join("status")).ok()?;
        let field = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            value.split_whitespace().next()?.parse::<u64>().ok()
        };
        let descriptors = fs::read_dir(directory.join("fd")).ok()?.count() as u64;
        Some(Resources { threads: field("Threads")?, descriptors, memory: field("RssAnon")? * 1024 })
    }

    pub(super) fn plus(self, other: Resources) -> Resources {
        Resources {
            threads: self.threads + other.threads,
            descriptors: self.descriptors + other.descriptors,
            memory: self.memory + other.memory,
        }
    }

    /// What it holds more than before. `None`: nothing.
    pub(super) fn excess(self, before: Resources, slack: u64) -> Option<String> {
        // A server may keep some threads for the next clients.
        const KEPT_THREADS: u64 = 4;
        let mut excess = Vec::new();
        if self.threads > before.threads + KEPT_THREADS {
            excess.push(format!("{} threads", self.threads - before.threads));
        }
        // One for each thread that it keeps.
        if self.descriptors > before.descriptors + KEPT_THREADS {
            excess.push(format!("{} descriptors", self.descriptors - before.descriptors));
        }
        if self.memory > before.memory + slack {
            excess.push(format!("{} MiB of memory", (self.memory - before.memory) >> 20));
        }
        (!excess.is_empty()).then(|| excess.join(", "))
    }
}

/// The processes that have a socket which listens at this address, or on its port at all addresses.
pub(super) fn listening_at(address: SocketAddr) -> io::Result<Vec<u32>> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
    let sockets: Vec<String> = tables
        .iter()
        .flat_map(|table| table.lines())
        .filter_map(|line| {
            // The local address and port in hexadecimal, the state, and further on the number of the socket.
            let words: Vec<_> = line.split_whitespace().collect();
            let (_, port) = words.get(1)?.rsplit_once(':')?;
            let listens = *words.get(3)? == "0A" && u16::from_str_radix(port, 16) == Ok(address.port());
            listens.then(|| format!("socket:[{}]", words.get(9).unwrap_or(&"")))
        })
        .collect();
    let has_socket = |process: &u32| {
        let descriptors = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
        let mut links = descriptors.filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
        links.any(|link| sockets.iter().any(|socket| link.as_os_str() == socket.as_str()))
    };
    let processes = fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let found: Vec<u32> = processes.filter(has_socket).collect();
    match found.is_empty() {
        true => Err(io::Error::new(io::ErrorKind::NotFound, format!("no process is seen that listens at {address}"))),
        false => Ok(found),
    }
}

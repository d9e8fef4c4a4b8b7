//! What the servers are measured at.

use crate::servers::{Peer, Service};

/// The line of one request, and of its answer.
pub const LINE: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// Clients that connect, send a line and the end of file, read the answer, and connect anew.
    Connect { clients: usize },
    /// A line and its answer at a time, over connections that stay.
    Ping { connections: usize },
    /// The same, while one more client keeps a handler computing all the time.
    Beside { connections: usize },
    /// Many lines in one packet, answered before the next.
    Pipeline { connections: usize, lines: usize },
    /// A line, answered with 64 KiB.
    Bulk { connections: usize },
    /// Packets, so many of them under way at any time.
    Udp { under_way: usize },
    /// Connections that have each had one answer and then say nothing: the memory of each.
    Idle { connections: usize },
    /// From the word to stop until the server has stopped, with so many connections idle.
    Stop { connections: usize },
}

impl Workload {
    pub const ALL: [Workload; 15] = [
        Workload::Connect { clients: 1 },
        Workload::Connect { clients: 8 },
        Workload::Connect { clients: 32 },
        Workload::Ping { connections: 1 },
        Workload::Ping { connections: 16 },
        Workload::Ping { connections: 64 },
        Workload::Ping { connections: 1000 },
        Workload::Beside { connections: 16 },
        Workload::Pipeline { connections: 1, lines: 16 },
        Workload::Pipeline { connections: 8, lines: 16 },
        Workload::Bulk { connections: 4 },
        Workload::Udp { under_way: 32 },
        Workload::Idle { connections: 5000 },
        Workload::Stop { connections: 0 },
        Workload::Stop { connections: 1000 },
    ];

    pub fn name(self) -> String {
        match self {
            Workload::Connect { clients } => format!("connect {clients}"),
            Workload::Ping { connections } => format!("ping {connections}"),
            Workload::Beside { connections } => format!("ping {connections} beside 1"),
            Workload::Pipeline { connections, .. } => format!("pipeline {connections}"),
            Workload::Bulk { .. } => "bulk".into(),
            Workload::Udp { .. } => "udp".into(),
            Workload::Idle { connections } => format!("idle {connections}"),
            Workload::Stop { connections } => format!("shutdown {connections}"),
        }
    }

    pub fn named(name: &str) -> Option<Workload> {
        Workload::ALL.into_iter().find(|workload| workload.name() == name)
    }

    pub fn service(self) -> Service {
        match self {
            Workload::Connect { .. } => Service::OneLine,
            Workload::Beside { .. } => Service::Computing,
            Workload::Bulk { .. } => Service::Bulk,
            Workload::Udp { .. } => Service::Packets,
            _ => Service::Lines,
        }
    }

    /// Whether the server has such a thing.
    pub fn is_for(self, peer: Peer) -> bool {
        match self {
            // Signals are seen while a server waits for what comes next, on a connection that stays.
            Workload::Ping { connections: 16 | 64 } => true,
            _ if peer == Peer::OursOnSignals => false,
            Workload::Udp { .. } => !matches!(peer, Peer::StdThreads | Peer::May),
            // The limit has nothing to say here that a thread each does not.
            Workload::Idle { .. } => peer != Peer::Limit,
            Workload::Stop { connections: 0 } => matches!(peer, Peer::Ours | Peer::Tokio | Peer::Python),
            // CPython would wait for its clients for ever, or leave their threads behind.
            Workload::Stop { .. } => matches!(peer, Peer::Ours | Peer::Tokio),
            _ => true,
        }
    }
}

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
    /// The same, while one more client keeps a handler computing all the time, or while so many keep theirs blocked.
    Beside { connections: usize, blocked: usize },
    /// [`Ping`](Workload::Ping), but each handler computes for a short time: one thread is not enough for all.
    Compute { connections: usize },
    /// Many lines in one packet, answered before the next.
    Pipeline { connections: usize, lines: usize },
    /// A line, answered with 64 KiB.
    Bulk { connections: usize },
    /// A line that is sent to all members, one after the other. With `beside_stuck` there is one more member, which has
    /// stopped to read, and whose connection is full.
    Broadcast { members: usize, beside_stuck: bool },
    /// redis-benchmark, with so many requests at once on each of its 50 connections.
    Store { at_once: usize },
    /// Packets, so many of them under way at any time.
    Udp { under_way: usize },
    /// Connections that have each had one answer and then say nothing: the memory of each.
    Idle { connections: usize },
    /// Clients that each connect, shake hands in full, send a line, read the answer, and connect anew.
    Handshakes { clients: usize },
    /// [`Bulk`](Workload::Bulk) over TLS.
    TlsBulk { connections: usize },
    /// [`Idle`](Workload::Idle) over TLS.
    TlsIdle { connections: usize },
    /// From the word to stop until the server has stopped, with so many connections idle.
    Stop { connections: usize },
}

/// As many as a process may have that may open 20,000 descriptors.
pub const MANY: usize = 19_000;

impl Workload {
    pub const ALL: [Workload; 26] = [
        Workload::Connect { clients: 1 },
        Workload::Connect { clients: 8 },
        Workload::Connect { clients: 32 },
        Workload::Ping { connections: 1 },
        Workload::Ping { connections: 16 },
        Workload::Ping { connections: 64 },
        Workload::Ping { connections: 1000 },
        Workload::Beside { connections: 16, blocked: 0 },
        Workload::Beside { connections: 16, blocked: 64 },
        Workload::Compute { connections: 16 },
        Workload::Pipeline { connections: 1, lines: 16 },
        Workload::Pipeline { connections: 8, lines: 16 },
        Workload::Bulk { connections: 4 },
        Workload::Broadcast { members: 1000, beside_stuck: false },
        Workload::Broadcast { members: 1000, beside_stuck: true },
        Workload::Store { at_once: 1 },
        Workload::Store { at_once: 16 },
        Workload::Udp { under_way: 32 },
        Workload::Idle { connections: 5000 },
        Workload::Idle { connections: MANY },
        Workload::Handshakes { clients: 8 },
        Workload::TlsBulk { connections: 4 },
        Workload::TlsIdle { connections: 1000 },
        Workload::Stop { connections: 0 },
        Workload::Stop { connections: 1000 },
        Workload::Stop { connections: MANY },
    ];

    pub fn name(self) -> String {
        match self {
            Workload::Connect { clients } => format!("connect {clients}"),
            Workload::Ping { connections } => format!("ping {connections}"),
            Workload::Beside { connections, blocked: 0 } => format!("ping {connections} beside 1"),
            Workload::Beside { connections, blocked } => format!("ping {connections} beside {blocked} that block"),
            Workload::Compute { connections } => format!("compute {connections}"),
            Workload::Pipeline { connections, .. } => format!("pipeline {connections}"),
            Workload::Bulk { .. } => "bulk".into(),
            Workload::Broadcast { members, beside_stuck: false } => format!("broadcast {members}"),
            Workload::Broadcast { members, beside_stuck: true } => format!("broadcast {members} beside 1"),
            Workload::Store { at_once } => format!("kv {at_once}"),
            Workload::Udp { .. } => "udp".into(),
            Workload::Idle { connections } => format!("idle {connections}"),
            Workload::Handshakes { clients } => format!("handshakes {clients}"),
            Workload::TlsBulk { .. } => "bulk over TLS".into(),
            Workload::TlsIdle { connections } => format!("idle {connections} over TLS"),
            Workload::Stop { connections } => format!("shutdown {connections}"),
        }
    }

    pub fn named(name: &str) -> Option<Workload> {
        Workload::ALL.into_iter().find(|workload| workload.name() == name)
    }

    pub fn service(self) -> Service {
        match self {
            Workload::Connect { .. } => Service::OneLine,
            Workload::Beside { .. } | Workload::Compute { .. } => Service::Computing,
            Workload::Bulk { .. } => Service::Bulk,
            Workload::Broadcast { .. } => Service::Broadcast,
            Workload::Store { .. } => Service::Store,
            Workload::Udp { .. } => Service::Packets,
            Workload::Handshakes { .. } | Workload::TlsIdle { .. } => Service::TlsLines,
            Workload::TlsBulk { .. } => Service::TlsBulk,
            Workload::Stop { connections: 1.. } => Service::Stopping,
            _ => Service::Lines,
        }
    }

    /// Whether the server has such a thing.
    pub fn is_for(self, peer: Peer) -> bool {
        match self {
            Workload::Store { .. } => matches!(peer, Peer::Ours | Peer::OursOnLoop | Peer::Redis),
            Workload::Broadcast { .. } => {
                matches!(peer, Peer::Ours | Peer::OursOnLoop | Peer::OursOnLoops | Peer::Tokio)
            }
            // Elsewhere no core has nothing to do, and there is one loop by default.
            _ if peer == Peer::OursOnOneLoop => matches!(self, Workload::Compute { .. }),
            _ if peer == Peer::Redis => false,
            Workload::Handshakes { .. } if peer == Peer::Nginx => true,
            Workload::Handshakes { .. } | Workload::TlsBulk { .. } | Workload::TlsIdle { .. } => {
                matches!(peer, Peer::Ours | Peer::OursOnLoop | Peer::Tokio)
            }
            _ if peer == Peer::Nginx => false,
            // A thread for each would take the memory of the machine.
            Workload::Idle { connections: MANY } => {
                matches!(peer, Peer::OursOnLoop | Peer::Tokio | Peer::May | Peer::Go)
            }
            Workload::Stop { connections: MANY } => matches!(peer, Peer::OursOnLoop | Peer::Tokio),
            // They do not know the line.
            Workload::Compute { .. } => !matches!(peer, Peer::Go | Peer::Python),
            // They have no other threads for what blocks.
            Workload::Beside { blocked: 1.., .. } => !matches!(peer, Peer::May | Peer::Python),
            // Signals are seen while a server waits for what comes next, on a connection that stays.
            _ if peer == Peer::OursOnSignals => matches!(self, Workload::Ping { connections: 16 | 64 }),
            _ if peer == Peer::OursOnMessages => matches!(self, Workload::Pipeline { .. }),
            Workload::Udp { .. } => !matches!(peer, Peer::StdThreads | Peer::May),
            // The limit has nothing to say here that a thread each does not.
            Workload::Idle { .. } => peer != Peer::Limit,
            Workload::Stop { connections: 0 } => matches!(peer, Peer::Ours | Peer::Tokio | Peer::Python),
            // CPython would wait for its clients for ever, or leave their threads behind.
            Workload::Stop { .. } => matches!(peer, Peer::Ours | Peer::OursOnLoop | Peer::Limit | Peer::Tokio),
            _ => true,
        }
    }
}

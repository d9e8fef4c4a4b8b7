//! How a server is attacked and judged.

use std::{
    io,
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use super::{
    attack::Attack,
    attackers::Attackers,
    honest::{Exchange, Service},
    process::{self, Resources},
    report::{Finding, Report},
};
use crate::address::Address;

/// How a server is to be attacked and judged.
#[derive(Clone, Debug)]
#[must_use = "nothing is attacked yet: call `attack`"]
pub struct Plan {
    address: SocketAddr,
    exchange: Exchange,
    clients: usize,
    duration: Duration,
    patience: Duration,
    processes: Vec<u32>,
    slack: u64,
}

impl Plan {
    /// A plan for the server at this address, with 64 attackers for 2 seconds each time, and a patience of 5 seconds.
    ///
    /// # Panics
    ///
    /// If it is no internet address.
    #[track_caller]
    pub fn new(address: &Address) -> Plan {
        let Address::Inet(address) = address else { panic!("{address} is no internet address") };
        Plan {
            address: *address,
            exchange: Exchange::default(),
            clients: 64,
            duration: Duration::from_secs(2),
            patience: Duration::from_secs(5),
            processes: Vec::new(),
            slack: 32 << 20,
        }
    }

    /// What an honest client says, and how the answer begins. Attackers say parts of it too. Without it an honest client
    /// only connects, which shows little: the kernel accepts it, whatever the server does.
    pub fn honest(mut self, request: impl Into<Vec<u8>>, answer: impl Into<Vec<u8>>) -> Plan {
        self.exchange = Exchange { request: request.into(), answer: answer.into() };
        self
    }

    /// How many attackers there are at once.
    pub fn clients(mut self, clients: usize) -> Plan {
        self.clients = clients;
        self
    }

    /// How long each attack takes.
    pub fn duration(mut self, duration: Duration) -> Plan {
        self.duration = duration;
        self
    }

    /// How long an honest client waits for its answer, and how long the server may take to come back to what it held.
    pub fn patience(mut self, patience: Duration) -> Plan {
        self.patience = patience;
        self
    }

    /// Judges also what the process with this number holds, on Linux: its threads, descriptors and memory. A server may have
    /// several. A test that is one of several in its process should not name it: the others have threads and descriptors as well.
    pub fn process(mut self, id: u32) -> Plan {
        self.processes.push(id);
        self
    }

    /// Judges all processes of this machine that listen at the address, as far as this process may see them.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] if none is found: they are another user's, or elsewhere, or this is not Linux.
    pub fn find_processes(mut self) -> io::Result<Plan> {
        self.processes = process::listening_at(self.address)?;
        Ok(self)
    }

    /// Asks the server as an honest client does, once.
    ///
    /// # Errors
    ///
    /// The answer is another one, or does not come in time.
    pub fn try_honest(&self) -> io::Result<()> {
        self.exchange.ask(self.address, self.patience)
    }

    /// Attacks the server in these ways, one after the other.
    pub fn attack(&self, attacks: &[Attack]) -> Report {
        // What the first client leaves behind is the server's own. Whether it is served shows beside the attackers.
        let _ = self.try_honest();
        Report { findings: attacks.iter().map(|attack| self.attack_until_it_shows(*attack)).collect() }
    }

    /// A server may keep threads and memory for the next clients: what it has kept after an attack, it must not keep again.
    fn attack_until_it_shows(&self, attack: Attack) -> Finding {
        let finding = self.attack_once(attack);
        if finding.has_kept().is_some() { self.attack_once(attack) } else { finding }
    }

    fn attack_once(&self, attack: Attack) -> Finding {
        let before = self.resources();
        let mut peak_memory = before.map(|before| before.memory);
        let mut service = Service::default();
        let is_over = AtomicBool::new(false);
        let attackers = thread::scope(|scope| {
            let attackers = scope.spawn(|| {
                let mut attackers = Attackers::new(attack, self.address, &self.exchange.request, self.clients);
                loop {
                    attackers.go_on();
                    if is_over.load(Relaxed) {
                        return attackers;
                    }
                }
            });
            let end = Instant::now() + self.duration;
            while Instant::now() < end {
                thread::sleep(Duration::from_millis(50));
                service.ask(&self.exchange, self.address, self.patience);
                peak_memory = peak_memory.max(self.resources().map(|now| now.memory));
            }
            is_over.store(true, Relaxed);
            attackers.join().expect("an attacker does not panic")
        });
        let (connected, still_open) = (attackers.connected(), attackers.still_open());
        drop(attackers);
        let deadline = Instant::now() + self.patience;
        let after = before.and_then(|before| self.wait_until_back(before, deadline));
        // The last word is that of an honest client.
        service.ask(&self.exchange, self.address, self.patience);
        Finding { attack, service, connected, still_open, before, after, peak_memory, slack: self.slack }
    }

    /// What the server holds when it holds no more than before, or at last.
    fn wait_until_back(&self, before: Resources, deadline: Instant) -> Option<Resources> {
        loop {
            let now = self.resources()?;
            if now.excess(before, self.slack).is_none() || Instant::now() >= deadline {
                return Some(now);
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// `None`: no process is judged, or none can be seen.
    fn resources(&self) -> Option<Resources> {
        self.processes.iter().filter_map(|id| Resources::of(*id)).reduce(Resources::plus)
    }
}

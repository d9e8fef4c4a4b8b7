//! How a server has held out.

use std::{fmt, time::Duration};

use super::{attack::Attack, honest::Service, process::Resources};

/// How a server has held out, attack by attack. It is displayed as a table.
#[derive(Clone, Debug)]
pub struct Report {
    pub(super) findings: Vec<Finding>,
}

/// How a server has held out against one attack.
#[derive(Clone, Debug)]
pub struct Finding {
    pub(super) attack: Attack,
    pub(super) service: Service,
    pub(super) connected: usize,
    /// `None`: these attackers do not stay.
    pub(super) still_open: Option<usize>,
    /// `None`: no process is judged.
    pub(super) before: Option<Resources>,
    pub(super) after: Option<Resources>,
    pub(super) peak_memory: Option<u64>,
    /// How many bytes of memory the server may keep.
    pub(super) slack: u64,
}

/// No attack of some dozen clients is worth more memory than this.
const MAX_GROWTH: u64 = 256 << 20;

impl Report {
    /// Each attack, in the order in which they were made.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Whether the server has held out against all attacks.
    pub fn is_good(&self) -> bool {
        self.findings.iter().all(Finding::is_good)
    }
}

impl Finding {
    /// The attack.
    pub fn attack(&self) -> Attack {
        self.attack
    }

    /// How many honest clients were served in time.
    pub fn served(&self) -> usize {
        self.service.served
    }

    /// How many honest clients were not served in time.
    pub fn not_served(&self) -> usize {
        self.service.failures.len()
    }

    /// How long the honest client that waited longest was served in.
    pub fn slowest(&self) -> Duration {
        self.service.slowest
    }

    /// How many attackers have connected.
    pub fn connected(&self) -> usize {
        self.connected
    }

    /// How many attackers the server still had at the end of the attack. `None`: these attackers do not stay.
    pub fn still_open(&self) -> Option<usize> {
        self.still_open
    }

    /// What the server held before the attack. `None`: no process was judged.
    pub fn before(&self) -> Option<Resources> {
        self.before
    }

    /// What the server held when the attackers had left, within the patience. `None`: no process was judged, or it has
    /// ended.
    pub fn after(&self) -> Option<Resources> {
        self.after
    }

    /// Whether the server has held out.
    pub fn is_good(&self) -> bool {
        self.faults().is_empty()
    }

    /// What the server has done wrong, in words.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if let Some(first) = self.service.failures.first() {
            let count = self.service.served + self.service.failures.len();
            faults.push(format!("{} of {count} honest clients not served: {first}", self.service.failures.len()));
        }
        if self.before.is_some() {
            match self.after {
                None => faults.push("the server's process has ended".to_owned()),
                Some(_) => faults.extend(self.has_kept().map(|excess| format!("it keeps {excess}"))),
            }
            if self.growth() > MAX_GROWTH {
                faults.push(format!("it took {} MiB more memory meanwhile", self.growth() >> 20));
            }
        }
        faults
    }

    /// What the server has kept of what the attack took, in words. `None`: nothing.
    pub(super) fn has_kept(&self) -> Option<String> {
        self.after?.excess(self.before?, self.slack)
    }

    /// How many bytes more than before it has taken meanwhile.
    fn growth(&self) -> u64 {
        let before = self.before.map_or(0, |before| before.memory);
        self.peak_memory.unwrap_or(before).saturating_sub(before)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| attack | attackers | left at the end | honest clients | slowest | memory | |")?;
        writeln!(f, "|---|--:|--:|--:|--:|--:|---|")?;
        self.findings.iter().try_for_each(|finding| writeln!(f, "{finding}"))
    }
}

/// A row of the table.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Service { served, slowest, failures } = &self.service;
        let open = self.still_open.map_or("–".to_owned(), |open| open.to_string());
        let memory =
            self.before.map_or("–".to_owned(), |_| format!("+{:.1} MiB", self.growth() as f64 / 1_048_576.0));
        let faults = self.faults();
        let verdict = if faults.is_empty() { "good".to_owned() } else { format!("**{}**", faults.join("; ")) };
        write!(
            f,
            "| {} | {} | {open} | {served} of {} | {:.1} ms | {memory} | {verdict} |",
            self.attack,
            self.connected,
            served + failures.len(),
            slowest.as_secs_f64() * 1000.0,
        )
    }
}

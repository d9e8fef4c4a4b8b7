//! Which clients are let in, by who they are.

use std::{
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{
    access::{AccessLists, Verdict},
    bans::Bans,
    limits::{Client, Rejected},
    rates::{ClientRates, TooOften},
};
use crate::{
    options::{Access, Options},
    primitives::atomic::{AtomicBool, Ordering::SeqCst},
    rate::Rate,
};

/// What decides whether a client is let in. The child of a server that forks asks its copy about a client that a proxy has
/// named.
pub(crate) struct Gate {
    /// A server that has had no rule yet takes no lock, and does not look at the clock.
    has_rules: AtomicBool,
    rules: Mutex<Rules>,
}

pub(crate) struct Rules {
    access: Access,
    lists: AccessLists,
    bans: Bans,
    rates: ClientRates,
}

impl Gate {
    pub(super) fn new(options: &Options) -> Gate {
        let Options { access, limits, .. } = options;
        let rules = Rules {
            access: access.clone(),
            lists: AccessLists::new(access),
            bans: Bans::default(),
            rates: ClientRates::new(limits.rate_per_client),
        };
        let has_rules = *access != Access::new() || limits.rate_per_client.is_some();
        Gate { has_rules: AtomicBool::new(has_rules), rules: Mutex::new(rules) }
    }

    /// `ip` is that of the client, if it has one.
    pub(super) fn check(&self, ip: Option<IpAddr>, client: Option<Client>) -> Result<(), Rejected> {
        match client {
            Some(client) if self.has_rules.load(SeqCst) => self.lock().check(ip, client, Instant::now()),
            _ => Ok(()),
        }
    }

    /// Held over a fork as well. The lock is `std`'s, which a child can unlock.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To make a rule.
    fn change(&self) -> MutexGuard<'_, Rules> {
        self.has_rules.store(true, SeqCst);
        self.lock()
    }

    pub(crate) fn access(&self) -> Access {
        self.lock().access.clone()
    }

    pub(crate) fn set_access(&self, access: Access) {
        let lists = AccessLists::new(&access);
        let mut rules = self.change();
        (rules.access, rules.lists) = (access, lists);
    }

    /// Another rate begins with full buckets.
    pub(super) fn set_rate(&self, rate: Option<Rate>) {
        if rate != self.lock().rates.rate() {
            self.change().rates = ClientRates::new(rate);
        }
    }

    pub(super) fn ban(&self, ip: IpAddr, end: Instant, now: Instant) {
        self.change().bans.add(ip, end, now);
    }

    /// Whether there was a ban.
    pub(crate) fn lift_ban(&self, ip: IpAddr) -> bool {
        self.lock().bans.lift(ip, Instant::now())
    }

    pub(crate) fn bans(&self) -> Vec<(IpAddr, Duration)> {
        self.lock().bans.list(Instant::now())
    }
}

impl Rules {
    fn check(&mut self, ip: Option<IpAddr>, client: Client, now: Instant) -> Result<(), Rejected> {
        if ip.is_some_and(|ip| self.lists.verdict(ip) == Verdict::Denied) {
            return Err(Rejected::Denied);
        }
        if self.bans.include(client, now) {
            return Err(Rejected::Banned);
        }
        self.rates.take(client, now).map_err(|TooOften| Rejected::RatePerClient)
    }
}

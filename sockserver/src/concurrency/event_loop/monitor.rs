//! How the monitor tells a slow handler, and when it sleeps.

use std::time::{Duration, Instant};

use super::lending::Lend;
use crate::{
    primitives::{
        Condvar, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    sys::ThreadView,
};

/// How long a handler may keep its loop.
pub(super) const TICK: Duration = Duration::from_millis(1);

/// How often the monitor looks for [`ALERT_TIME`] after it has taken a loop: other handlers may be slow too.
const ALERT_TICK: Duration = Duration::from_micros(125);
const ALERT_TIME: Duration = Duration::from_millis(100);

/// A thread that has run for no longer than this between two looks has waited, if it waits at the second.
const STANDSTILL: Duration = Duration::from_micros(50);

/// How long a lend may last where the system does not show what a thread does. No time passes in the model.
const BLIND_PATIENCE: Duration = Duration::from_millis(if cfg!(sockserver_model) { 0 } else { 5 });

/// How long all loops have slept when the monitor does so too.
const QUIET_TIME: Duration = Duration::from_millis(if cfg!(sockserver_model) { 0 } else { 4 });

/// What the monitor has seen of one loop.
#[derive(Clone, Copy, Default)]
pub(super) struct Sighting {
    lend: Option<Lend>,
    thread: ThreadView,
    since: Option<Instant>,
    /// How long the thread had run at the first look at this lend, and at the last one.
    cpu_at_first: Option<Duration>,
    cpu_at_last: Option<Duration>,
}

impl Sighting {
    /// Looks at a loop. Returns the lend if its handler is slow: it has computed for most of a tick since the first look,
    /// or it waits in the kernel. A thread that only waits for a processor is neither: another thread would not get one
    /// sooner.
    pub(super) fn look(&mut self, lend: Option<Lend>, thread: ThreadView, now: Instant) -> Option<Lend> {
        let current = lend?;
        let cpu = thread.cpu_time();
        let (Some(since), true) = (self.since, self.lend == lend && self.thread == thread) else {
            *self = Sighting { lend, thread, since: Some(now), cpu_at_first: cpu, cpu_at_last: cpu };
            return None;
        };
        let before = std::mem::replace(&mut self.cpu_at_last, cpu);
        let is_slow = match (cpu, self.cpu_at_first, before) {
            (Some(cpu), Some(first), Some(last)) => {
                let computes = cpu.saturating_sub(first) >= TICK * 3 / 4;
                let stands_still = || cpu.saturating_sub(last) < STANDSTILL;
                computes || stands_still() && thread.is_waiting().unwrap_or(now - since >= BLIND_PATIENCE)
            }
            _ => now.saturating_duration_since(since) >= BLIND_PATIENCE,
        };
        is_slow.then_some(current)
    }
}

/// When the monitor looks next.
#[derive(Clone, Copy, Default)]
pub(super) struct Pace {
    alert_until: Option<Instant>,
    quiet_since: Option<Instant>,
}

impl Pace {
    pub(super) fn tick(&self, now: Instant) -> Duration {
        if self.alert_until.is_some_and(|until| now < until) { ALERT_TICK } else { TICK }
    }

    /// A loop was taken.
    pub(super) fn alert(&mut self, now: Instant) {
        self.alert_until = Some(now + ALERT_TIME);
    }

    /// Whether all loops have slept for long enough.
    pub(super) fn is_quiet(&mut self, are_all_asleep: bool, now: Instant) -> bool {
        if !are_all_asleep {
            self.quiet_since = None;
        }
        are_all_asleep && now.saturating_duration_since(*self.quiet_since.get_or_insert(now)) >= QUIET_TIME
    }
}

/// The sleep of the monitor, while no loop has anything to do.
///
/// No wake-up is lost. The monitor says that it dozes, and then looks whether the loops sleep; the owner of a loop says
/// that it is awake, and then looks whether the monitor dozes.
pub(super) struct Doze {
    is_dozing: AtomicBool,
    /// Held from before the last look at the loops until the monitor waits, so that `rouse` comes before or after both.
    lock: Mutex<()>,
    roused: Condvar,
}

impl Doze {
    pub(super) fn new() -> Doze {
        Doze { is_dozing: AtomicBool::new(false), lock: Mutex::new(()), roused: Condvar::new() }
    }

    /// Sleeps until `rouse` is called, if the last look finds all loops asleep.
    pub(super) fn doze_if(&self, are_all_asleep: impl FnOnce() -> bool) {
        let mut lock = self.lock.lock();
        self.is_dozing.store(true, SeqCst);
        if !are_all_asleep() {
            self.is_dozing.store(false, SeqCst);
        }
        while self.is_dozing.load(SeqCst) {
            self.roused.wait(&mut lock);
        }
    }

    /// Wakes the monitor if it sleeps. The caller has said before that its loop is awake.
    pub(super) fn rouse(&self) {
        if self.is_dozing.load(SeqCst) {
            let _lock = self.lock.lock();
            self.is_dozing.store(false, SeqCst);
            self.roused.notify_one();
        }
    }
}

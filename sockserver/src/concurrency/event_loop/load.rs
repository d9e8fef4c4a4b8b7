//! How much the loops have to do.

use std::time::{Duration, Instant};

/// How long a loop was awake at each look when it gives connections to a loop that sleeps. No time passes in the model.
const SHARING_TIME: Duration = Duration::from_millis(if cfg!(sockserver_model) { 0 } else { 10 });

/// How long all loops were awake at each look when the monitor begins to measure how long the processors have nothing to do.
const SATURATION_TIME: Duration = Duration::from_millis(if cfg!(sockserver_model) { 0 } else { 50 });

/// How long it measures that.
const MEASURING_TIME: Duration = Duration::from_millis(if cfg!(sockserver_model) { 0 } else { 100 });

/// What the monitor has seen of the loops.
pub(super) struct Load {
    /// By the number of the loop: since when it was awake at each look. `None`: it was asleep at the last one.
    awake_since: Vec<Option<Instant>>,
    /// When it was measured how long the processors have had nothing to do, and that. `None`: a loop was asleep since.
    measured: Option<(Instant, Duration)>,
}

/// One loop gives a connection to another one, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) from: usize,
    pub(super) to: usize,
}

impl Load {
    /// There may be so many loops.
    pub(super) fn new(loops: usize) -> Load {
        Load { awake_since: vec![None; loops], measured: None }
    }

    /// The monitor looks at a loop.
    pub(super) fn note(&mut self, number: usize, is_asleep: bool, now: Instant) {
        let since = &mut self.awake_since[number];
        *since = if is_asleep { None } else { since.or(Some(now)) };
    }

    /// Which loop has too much to do while another one, of the first so many, has nothing to do.
    pub(super) fn share(&self, loops: usize, now: Instant) -> Option<Share> {
        let awake_since = &self.awake_since[..loops];
        let to = awake_since.iter().position(Option::is_none)?;
        let (from, since) = awake_since
            .iter()
            .enumerate()
            .filter_map(|(from, since)| Some((from, (*since)?)))
            .min_by_key(|(_, since)| *since)?;
        (now.saturating_duration_since(since) >= SHARING_TIME).then_some(Share { from, to })
    }

    /// Whether the first so many loops have too much to do, while a processor has nothing to do for half of the time.
    pub(super) fn is_too_much(
        &mut self,
        loops: usize,
        now: Instant,
        idle_time: impl FnOnce() -> Option<Duration>,
    ) -> bool {
        let awake_since = &self.awake_since[..loops];
        if awake_since.contains(&None) {
            self.measured = None;
            return false;
        }
        let lasted = |since: Instant| now.saturating_duration_since(since);
        match self.measured {
            None if awake_since.iter().flatten().all(|since| lasted(*since) >= SATURATION_TIME) => {
                self.measured = idle_time().map(|idle| (now, idle));
                false
            }
            Some((since, before)) if lasted(since) >= MEASURING_TIME => {
                self.measured = idle_time().map(|idle| (now, idle));
                self.measured.is_some_and(|(_, idle)| idle.saturating_sub(before) >= lasted(since) / 2)
            }
            _ => false,
        }
    }
}

#[cfg(not(sockserver_model))]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loop_that_was_awake_for_longest_shares_with_one_that_sleeps() {
        let (start, mut load) = (Instant::now(), Load::new(4));
        let mut look = |milliseconds, are_asleep: [bool; 3]| {
            let now = start + Duration::from_millis(milliseconds);
            are_asleep.into_iter().enumerate().for_each(|(number, is_asleep)| load.note(number, is_asleep, now));
            load.share(3, now)
        };
        assert_eq!(look(0, [false, false, true]), None);
        assert_eq!(look(5, [true, false, true]), None);
        assert_eq!(look(6, [false, false, true]), None);
        assert_eq!(look(12, [false, false, true]), Some(Share { from: 1, to: 2 }));
        assert_eq!(look(13, [false, false, false]), None, "no loop has nothing to do");
        assert_eq!(look(20, [false, true, false]), Some(Share { from: 0, to: 1 }));
    }

    #[test]
    fn loops_have_too_much_to_do_if_none_sleeps_while_a_processor_does() {
        let (start, mut load) = (Instant::now(), Load::new(2));
        let mut look = |milliseconds, is_asleep, idle: Option<u64>| {
            let now = start + Duration::from_millis(milliseconds);
            load.note(0, false, now);
            load.note(1, is_asleep, now);
            load.is_too_much(2, now, || idle.map(Duration::from_millis))
        };
        assert!(!look(0, true, None));
        assert!(!look(100, false, None), "the second one has just awoken");
        assert!(!look(150, false, Some(1000)));
        assert!(!look(249, false, None), "not measured for long enough");
        assert!(!look(250, false, Some(1049)));
        assert!(look(350, false, Some(1099)));
        assert!(!look(400, true, None));
        assert!(!look(500, false, None), "it was asleep");
        assert!(!look(600, false, None), "the system does not say it");
        assert!(!look(700, false, None));
    }
}

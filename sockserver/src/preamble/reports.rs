//! Which failures of preambles are reported: they are many and alike.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

/// When what was reported last.
#[derive(Default)]
pub(super) struct Reports {
    last: HashMap<Source, Instant>,
}

/// Whose failures are reported together.
#[derive(PartialEq, Eq, Hash)]
pub(super) enum Source {
    /// A trusted peer. `None`: on a Unix socket.
    Proxy(Option<IpAddr>),
    Others,
    /// Clients that fail to shake hands.
    Handshakes,
}

impl Reports {
    const INTERVAL: Duration = Duration::from_secs(3600);
    /// Failures are reported of at most so many different proxies.
    const MAX_SOURCES: usize = 1024;

    /// Whether the failure is to be reported, which is noted.
    pub(super) fn note(&mut self, source: Source, now: Instant) -> bool {
        let is_old = |last: &Instant| now.saturating_duration_since(*last) >= Reports::INTERVAL;
        if self.last.len() >= Reports::MAX_SOURCES {
            self.last.retain(|_, last| !is_old(last));
        }
        match self.last.get(&source) {
            Some(last) if !is_old(last) => false,
            None if self.last.len() >= Reports::MAX_SOURCES => false,
            _ => {
                self.last.insert(source, now);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_reported_once_an_hour() {
        let mut reports = Reports::default();
        let now = Instant::now();
        let proxy = |last| Source::Proxy(Some(IpAddr::from([10, 0, 0, last])));
        assert!(reports.note(proxy(1), now));
        assert!(!reports.note(proxy(1), now + Duration::from_secs(3599)));
        assert!(reports.note(proxy(2), now));
        assert!(reports.note(Source::Others, now));
        assert!(reports.note(proxy(1), now + Duration::from_secs(3600)));
        assert!(!reports.note(proxy(1), now + Duration::from_secs(3601)));
    }

    #[test]
    fn any_number_of_proxies_is_remembered_in_bounded_memory() {
        let mut reports = Reports::default();
        let now = Instant::now();
        let proxy = |number: u32| Source::Proxy(Some(IpAddr::V4(number.into())));
        let reported = (0..5000).filter(|&number| reports.note(proxy(number), now)).count();
        assert_eq!((reported, reports.last.len()), (Reports::MAX_SOURCES, Reports::MAX_SOURCES));
        assert!(reports.note(proxy(9999), now + Reports::INTERVAL));
    }
}

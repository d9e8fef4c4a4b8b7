//! `limits(rate)` and `limits(rate_per_client)`: buckets of tokens.

use std::time::{Duration, Instant};

use super::{expiring::Expiring, limits::Client};
use crate::rate::Rate;

/// How full a bucket is, as the time when it is full again. A bucket that was never used is full.
#[derive(Clone, Copy)]
struct Bucket {
    full_at: Instant,
}

impl Bucket {
    fn full(now: Instant) -> Bucket {
        Bucket { full_at: now }
    }

    /// How long until there is a token. Zero: there is one.
    fn wait(self, rate: Rate, now: Instant) -> Duration {
        // A missing token takes a share of the period to come. There is one unless they are all missing.
        let missing = self.full_at.saturating_duration_since(now);
        (missing + share(rate)).saturating_sub(rate.period())
    }

    /// Takes a token, also where there is none.
    fn take(self, rate: Rate, now: Instant) -> Bucket {
        Bucket { full_at: self.full_at.max(now) + share(rate) }
    }
}

/// The time in which a bucket gets one token.
fn share(rate: Rate) -> Duration {
    rate.period() / rate.count().max(1)
}

/// `limits(rate)`: how often a connection is admitted.
pub(crate) struct Pace {
    rate: Option<Rate>,
    bucket: Bucket,
}

impl Pace {
    pub(crate) fn new(rate: Option<Rate>) -> Pace {
        Pace { rate, bucket: Bucket::full(Instant::now()) }
    }

    /// When there is a token. `None`: there is one.
    pub(crate) fn next_token(&self) -> Option<Instant> {
        let rate = self.rate?;
        let now = Instant::now();
        Some(self.bucket.wait(rate, now)).filter(|wait| !wait.is_zero()).map(|wait| now + wait)
    }

    pub(crate) fn take(&mut self) {
        if let Some(rate) = self.rate {
            self.bucket = self.bucket.take(rate, Instant::now());
        }
    }
}

/// `limits(rate_per_client)`: how often each client is let in.
#[derive(Default)]
pub(super) struct ClientRates {
    rate: Option<Rate>,
    /// The buckets that are not full.
    buckets: Expiring<()>,
}

/// The client has come too often.
pub(super) struct TooOften;

impl ClientRates {
    pub(super) fn new(rate: Option<Rate>) -> ClientRates {
        ClientRates { rate, buckets: Expiring::default() }
    }

    pub(super) fn rate(&self) -> Option<Rate> {
        self.rate
    }

    /// Takes a token of this client.
    pub(super) fn take(&mut self, client: Client, now: Instant) -> Result<(), TooOften> {
        let Some(rate) = self.rate else { return Ok(()) };
        let bucket = self.buckets.end(client).map_or(Bucket::full(now), |full_at| Bucket { full_at });
        if !bucket.wait(rate, now).is_zero() {
            return Err(TooOften);
        }
        self.buckets.insert(client, bucket.take(rate, now).full_at, (), now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    #[test]
    fn so_many_come_at_once_and_then_one_for_each_share_of_the_time() {
        let mut rates = ClientRates::new(Some(Rate::per_second(20)));
        let now = Instant::now();
        let mut comes = |client, later: Duration| rates.take(Client::User(client), now + later).is_ok();
        assert!((0..20).all(|_| comes(1, Duration::ZERO)));
        assert!(!comes(1, Duration::ZERO));
        assert!(comes(2, Duration::ZERO), "each has its own");
        assert!(!comes(1, 49 * MILLISECOND));
        assert!(comes(1, 50 * MILLISECOND));
        assert!(!comes(1, 99 * MILLISECOND), "what was refused cost nothing");
        assert!(comes(1, 100 * MILLISECOND));
        // The bucket is full again, and holds no more.
        assert_eq!((0..30).filter(|_| comes(1, 10_000 * MILLISECOND)).count(), 20);
    }

    #[test]
    fn one_in_an_hour_comes_once_in_an_hour() {
        let mut rates = ClientRates::new(Some(Rate::per_hour(1)));
        let now = Instant::now();
        let mut comes = |later: u64| rates.take(Client::User(1), now + Duration::from_secs(later)).is_ok();
        assert!(comes(0));
        assert!(!comes(3599));
        assert!(comes(3600));
    }

    #[test]
    fn clients_that_come_seldom_are_forgotten() {
        let mut rates = ClientRates::new(Some(Rate::per_second(1)));
        let now = Instant::now();
        for client in 0..1000 {
            assert!(rates.take(Client::User(client), now + Duration::from_secs(client.into())).is_ok());
        }
        assert_eq!(rates.buckets.iter(now).count(), 1);
    }

    #[test]
    fn the_next_token_comes_when_it_is_there() {
        let mut pace = Pace::new(Some(Rate::per_hour(2)));
        assert_eq!(pace.next_token(), None);
        pace.take();
        pace.take();
        let next = pace.next_token().expect("both were taken");
        let wait = next - Instant::now();
        assert!(wait <= Duration::from_secs(1800) && wait > Duration::from_secs(1700), "{wait:?}");
        assert_eq!(Pace::new(None).next_token(), None);
    }
}

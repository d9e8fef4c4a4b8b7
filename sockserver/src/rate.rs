//! How often something may happen.

use std::{error::Error, fmt, str::FromStr, time::Duration};

/// So many in a time: `"20/s"`, `"100/m"`, `"1000/h"`.
///
/// So many may come at once. After that, one more may come each time that its share of the time has passed: with `"20/s"`
/// after 50 ms.
///
/// ```
/// use sockserver::Rate;
///
/// const FAST: Rate = Rate::per_second(20);
/// assert_eq!("20/s".parse(), Ok(FAST));
/// assert_eq!(FAST.to_string(), "20/s");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    count: u32,
    /// One of [`UNITS`].
    seconds: u32,
}

/// The times with the letters for them, in seconds.
const UNITS: [(&str, u32); 3] = [("s", 1), ("m", 60), ("h", 3600)];

impl Rate {
    /// `"…/s"`.
    pub const fn per_second(count: u32) -> Rate {
        Rate { count, seconds: 1 }
    }

    /// `"…/m"`.
    pub const fn per_minute(count: u32) -> Rate {
        Rate { count, seconds: 60 }
    }

    /// `"…/h"`.
    pub const fn per_hour(count: u32) -> Rate {
        Rate { count, seconds: 3600 }
    }

    /// How many.
    pub const fn count(self) -> u32 {
        self.count
    }

    /// In which time.
    pub const fn period(self) -> Duration {
        Duration::from_secs(self.seconds as u64)
    }
}

impl FromStr for Rate {
    type Err = NotARate;

    fn from_str(text: &str) -> Result<Rate, NotARate> {
        let parsed = text.split_once('/').and_then(|(count, unit)| {
            let (_, seconds) = UNITS.into_iter().find(|(letter, _)| *letter == unit)?;
            // `parse` would take a sign.
            let count = count.bytes().all(|byte| byte.is_ascii_digit()).then(|| count.parse().ok())??;
            Some(Rate { count, seconds })
        });
        parsed.ok_or_else(|| NotARate(text.to_owned()))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.iter().find(|(_, seconds)| *seconds == self.seconds).map_or("", |(letter, _)| letter);
        write!(f, "{}/{unit}", self.count)
    }
}

/// A text is no [`Rate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotARate(String);

impl fmt::Display for NotARate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is no rate: expected a number for each second, minute or hour, like 20/s, 100/m or 1000/h",
            self.0
        )
    }
}

impl Error for NotARate {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_displayed_as_it_is_parsed() {
        for text in ["20/s", "100/m", "1000/h", "0/s"] {
            assert_eq!(text.parse::<Rate>().map(|rate| rate.to_string()).as_deref(), Ok(text));
        }
        assert_eq!("6/m".parse(), Ok(Rate::per_minute(6)));
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        for text in ["", "20", "20/", "/s", "+20/s", "-1/s", "20/d", "20 / s", "5000000000/s"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }
}

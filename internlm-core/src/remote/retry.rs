//! When a request that failed is repeated.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::config::RemoteConfig;
use crate::error::Error;

/// A failed attempt, and whether another one may go better.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    pub(super) retry: bool,
    /// What the server asked to wait.
    pub(super) after: Option<Duration>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure {
            error,
            retry: false,
            after: None,
        }
    }
}

/// Statuses after which a repetition may go better.
pub(super) fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502..=599)
}

/// The wait after the `failures`th failure (from 1), or `None` to give up. `random` in `[0, 1)`
/// spreads clients that failed together.
pub(super) fn wait(
    config: &RemoteConfig,
    failures: u32,
    failure: &Failure,
    random: f64,
) -> Option<Duration> {
    if !failure.retry || failures > config.retries {
        return None;
    }
    if let Some(after) = failure.after {
        return (after <= config.max_wait).then_some(after);
    }
    let doubled = config
        .backoff
        .saturating_mul(1 << failures.saturating_sub(1).min(16));
    Some(doubled.min(config.max_wait).mul_f64(1.0 - 0.5 * random))
}

/// A number in `[0, 1)`. The keys of the standard library's hash maps are random enough to spread
/// retries, and need no further crate.
pub(super) fn random() -> f64 {
    let bits = RandomState::new().build_hasher().finish();
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

/// The wait that `Retry-After` asks for: seconds or a date (RFC 9110, section 10.2.3).
pub(super) fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        // Fractions are not in the RFC, but servers send them.
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let at = UNIX_EPOCH + Duration::from_secs(imf_date(text)?);
    Some(at.duration_since(now).unwrap_or_default())
}

/// Seconds since 1970 of a date such as `Sun, 06 Nov 1994 08:49:37 GMT`. The two older forms of
/// the RFC are not read; servers must not send them.
fn imf_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (_, date) = text.split_once(", ")?;
    let mut fields = date.split(' ');
    let day: u64 = fields.next()?.parse().ok()?;
    let name = fields.next()?;
    let month = MONTHS.iter().position(|month| *month == name)? as u64;
    let year: u64 = fields.next()?.parse().ok()?;
    let mut clock = fields
        .next()?
        .split(':')
        .map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let bounded = (1970..10_000).contains(&year)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !bounded || fields.next() != Some("GMT") || fields.next().is_some() {
        return None;
    }
    // Years that begin in March, so that the leap day is the last of its year.
    let shifted = (month + 10) % 12;
    let years = if shifted >= 10 { year - 1 } else { year };
    let before = years * 365 + years / 4 - years / 100 + years / 400;
    // Days of the months before this one: 0, 31, 61, 92, …
    let days = before + (153 * shifted + 2) / 5 + day - 1;
    // 0000-03-01 lies 719,468 days before 1970-01-01.
    let days = days.checked_sub(719_468)?;
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(retry: bool, after: Option<u64>) -> Failure {
        Failure {
            error: Error::Request {
                field: "x",
                what: String::new(),
            },
            retry,
            after: after.map(Duration::from_secs),
        }
    }

    #[test]
    fn waits_double_up_to_a_bound() {
        let config = RemoteConfig::new("", "")
            .with_retries(40)
            .with_backoff(Duration::from_secs(1))
            .with_max_wait(Duration::from_secs(10));
        let failure = failure(true, None);
        let secs = |failures, random| wait(&config, failures, &failure, random).unwrap();
        for (failures, want) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (40, 10)] {
            assert_eq!(secs(failures, 0.0), Duration::from_secs(want));
        }
        assert_eq!(secs(2, 0.5), Duration::from_millis(1500));
        assert_eq!(wait(&config, 41, &failure, 0.0), None);
        let random = random();
        assert!((0.0..1.0).contains(&random));
    }

    #[test]
    fn what_the_server_asks_is_kept() {
        let config = RemoteConfig::new("", "").with_backoff(Duration::from_secs(3600));
        let after = |seconds| wait(&config, 1, &failure(true, Some(seconds)), 0.9);
        assert_eq!(after(0), Some(Duration::ZERO));
        assert_eq!(after(60), Some(Duration::from_secs(60)));
        assert_eq!(after(61), None);
        assert_eq!(wait(&config, 1, &failure(false, Some(0)), 0.0), None);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let get = |text: &str, now| retry_after(text, at(now)).map(|d| d.as_millis());
        assert_eq!(get(" 7 ", 0), Some(7_000));
        assert_eq!(get("0.25", 0), Some(250));
        // `date --date='1994-11-06 08:49:37 UTC' +%s`
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(get(date, 784_111_777 - 30), Some(30_000));
        assert_eq!(get(date, 784_111_777 + 30), Some(0));
        assert_eq!(
            get("Thu, 29 Feb 2024 00:00:00 GMT", 1_709_164_800 - 1),
            Some(1_000)
        );
        assert_eq!(get("Thu, 01 Jan 1970 00:00:01 GMT", 0), Some(1_000));
        for bad in [
            "",
            "-1",
            "soon",
            "NaN",
            "inf",
            "1e400",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 06 Nov 1994 25:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 06 Foo 1994 08:49:37 GMT",
            "Sun, 06 Nov 99999999999999999 08:49:37 GMT",
            "Sun, 06 Nov 1994",
        ] {
            assert_eq!(get(bad, 0), None, "{bad}");
        }
    }

    #[test]
    fn transient_statuses() {
        for status in [408, 429, 500, 502, 503, 504, 529] {
            assert!(is_transient(status));
        }
        for status in [200, 301, 400, 401, 404, 422, 501] {
            assert!(!is_transient(status));
        }
    }
}

//! A limit of calls per second, shared by threads; and random waits.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets calls begin at even distances.
#[derive(Debug)]
pub(super) struct RateLimit {
    interval: Duration,
    next: Mutex<Option<Instant>>,
}

impl RateLimit {
    pub(super) fn new(per_second: Option<f64>) -> Self {
        let interval = per_second.map_or(0.0, |rate| (1.0 / rate).min(3600.0));
        Self {
            interval: Duration::from_secs_f64(interval),
            next: Mutex::new(None),
        }
    }

    /// Waits for the caller's turn.
    pub(super) fn wait(&self) {
        if !self.interval.is_zero() {
            std::thread::sleep(self.turn(Instant::now()));
        }
    }

    /// How long whoever asks now has to wait.
    fn turn(&self, now: Instant) -> Duration {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let at = next.map_or(now, |next| next.max(now));
        *next = Some(at + self.interval);
        at - now
    }
}

/// The wait before the `failures`th repetition (from 1): doubling, and a random part of up to a half taken off, so
/// that requests that failed together are not repeated together.
pub(super) fn backoff(base: Duration, failures: u32) -> Duration {
    // The keys of the standard library's hash maps are random enough for that.
    let bits = RandomState::new().build_hasher().finish();
    let random = (bits >> 11) as f64 / (1u64 << 53) as f64;
    let doubled = base.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled
        .min(Duration::from_secs(60))
        .mul_f64(1.0 - 0.5 * random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_an_interval_apart() {
        let limit = RateLimit::new(Some(4.0));
        let now = Instant::now();
        let quarter = Duration::from_millis(250);
        assert_eq!(limit.turn(now), Duration::ZERO);
        assert_eq!(limit.turn(now), quarter);
        assert_eq!(limit.turn(now + quarter), quarter);
        // Time in which nobody asked is not saved up.
        let late = now + Duration::from_secs(60);
        assert_eq!(limit.turn(late), Duration::ZERO);
        assert_eq!(limit.turn(late), quarter);
    }

    #[test]
    fn waits_double_and_lose_up_to_a_half() {
        let second = Duration::from_secs(1);
        for (failures, most) in [(1, 1), (2, 2), (3, 4), (40, 60)] {
            let wait = backoff(second, failures);
            let most = Duration::from_secs(most);
            assert!(wait <= most && wait >= most / 2, "{wait:?}");
        }
    }
}

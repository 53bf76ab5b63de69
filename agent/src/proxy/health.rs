//! Whether a model's server is well: what checks and requests have told of it. No I/O; time is given.
//!
//! Checks decide for good: a server is down after so many failures in a row (`fall`), and up again after so many successes
//! (`rise`). Requests decide for a while: after [`FAILURES`] in a row that failed before the model's first byte the server
//! rests for [`REST`], and is then tried again. What one caller can provoke (a 500, a 4xx) is no failure.

use crate::config::settings::HealthCheck;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Requests in a row that fail before a server rests.
const FAILURES: u32 = 3;
/// How long it rests.
const REST: Duration = Duration::from_secs(10);

/// What went wrong last, in words that hold nothing of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Unreachable,
    Silent,
    Impostor,
    BrokeOff,
    Status(u16),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable => f.write_str("it takes no connection"),
            Self::Silent => f.write_str("it did not answer in time"),
            Self::Impostor => f.write_str("its address is not served by a process of its slice"),
            Self::BrokeOff => f.write_str("it broke off before its answer"),
            Self::Status(status) => write!(f, "it answered with status {status}"),
        }
    }
}

/// How a server stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Checked and well or, where nothing is checked, not known to be otherwise.
    Up,
    /// To be checked, and not decided yet.
    Unknown,
    /// Requests failed; it is tried again shortly.
    Resting,
    /// Checks say so.
    Down,
}

impl Standing {
    /// As in status and readiness.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Unknown => "unknown",
            Self::Resting => "resting",
            Self::Down => "down",
        }
    }
}

/// What is known of one server; shared by all who use it, and kept by a reload that leaves the server as it is.
#[derive(Debug, Default)]
pub(super) struct Health {
    known: Mutex<Known>,
    /// Requests under way.
    under_way: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct Known {
    verdict: Option<bool>,
    /// Checks in a row that say the opposite of the verdict.
    against: u32,
    /// Requests in a row that failed.
    failures: u32,
    rests_until: Option<Instant>,
    cause: Option<Cause>,
}

impl Health {
    fn with<T>(&self, change: impl FnOnce(&mut Known) -> T) -> T {
        change(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How it stands now; `checked` is whether anybody checks it.
    pub(super) fn standing(&self, checked: bool, now: Instant) -> Standing {
        self.with(|known| match (checked, known.verdict) {
            (true, Some(false)) => Standing::Down,
            _ if known.rests_until.is_some_and(|until| now < until) => Standing::Resting,
            (true, None) => Standing::Unknown,
            (true, Some(true)) | (false, _) => Standing::Up,
        })
    }

    /// What went wrong last, until something goes well.
    pub(super) fn cause(&self) -> Option<Cause> {
        self.with(|known| known.cause)
    }

    /// A request got an answer.
    pub(super) fn served(&self) {
        self.with(|known| {
            known.failures = 0;
            known.rests_until = None;
            known.cause = known.cause.filter(|_| known.verdict == Some(false));
        });
    }

    /// A request failed before the answer's first byte.
    pub(super) fn failed(&self, cause: Cause, now: Instant) {
        self.with(|known| {
            known.failures = known.failures.saturating_add(1);
            known.cause = Some(cause);
            if known.failures >= FAILURES {
                known.rests_until = Some(now + REST);
            }
        });
    }

    /// What a check found; whether that turned the verdict. The first success decides at once.
    pub(super) fn checked(&self, check: &HealthCheck, found: Result<(), Cause>) -> Option<bool> {
        self.with(|known| {
            let well = found.is_ok();
            if let Err(cause) = found {
                known.cause = Some(cause);
            } else if known.failures == 0 {
                known.cause = None;
            }
            if known.verdict == Some(well) {
                known.against = 0;
                return None;
            }
            known.against = known.against.saturating_add(1);
            let needed = match (known.verdict, well) {
                (None, true) => 1,
                (Some(_), true) => check.rise,
                (_, false) => check.fall,
            };
            if known.against < needed {
                return None;
            }
            known.against = 0;
            known.verdict = Some(well);
            Some(well)
        })
    }

    /// Requests under way.
    pub(super) fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }

    /// One more, until this is dropped.
    pub(super) fn begin(&self) -> UnderWay {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(&self.under_way))
    }
}

/// A request that a server has, or is about to get.
#[derive(Debug)]
pub(super) struct UnderWay(Arc<AtomicUsize>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check() -> HealthCheck {
        HealthCheck {
            path: "/health".into(),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            fall: 3,
            rise: 2,
        }
    }

    #[test]
    fn checks_turn_the_verdict_after_as_many_in_a_row_as_the_config_says() {
        let (health, now) = (Health::default(), Instant::now());
        let bad = Err(Cause::Status(503));
        assert_eq!(health.standing(true, now), Standing::Unknown);
        let rows = [
            (Ok(()), Some(true), Standing::Up, "the first success is enough"),
            (bad, None, Standing::Up, "one failure"),
            (bad, None, Standing::Up, "two"),
            (Ok(()), None, Standing::Up, "not in a row"),
            (bad, None, Standing::Up, "one"),
            (bad, None, Standing::Up, "two"),
            (bad, Some(false), Standing::Down, "three"),
            (bad, None, Standing::Down, "said once"),
            (Ok(()), None, Standing::Down, "one success"),
            (Ok(()), Some(true), Standing::Up, "two"),
        ];
        for (found, turned, standing, why) in rows {
            assert_eq!(health.checked(&check(), found), turned, "{why}");
            assert_eq!(health.standing(true, now), standing, "{why}");
        }
        assert_eq!(health.cause(), None);
    }

    #[test]
    fn a_server_that_never_answered_is_down_only_after_all_its_chances() {
        let (health, now) = (Health::default(), Instant::now());
        for turned in [None, None, Some(false)] {
            assert_eq!(health.checked(&check(), Err(Cause::Unreachable)), turned);
        }
        assert_eq!((health.standing(true, now), health.cause()), (Standing::Down, Some(Cause::Unreachable)));
        assert_eq!(health.standing(false, now), Standing::Up, "a reload took the checks away");
    }

    #[test]
    fn requests_that_fail_let_it_rest_and_it_is_tried_again() {
        let (health, now) = (Health::default(), Instant::now());
        for _ in 1..FAILURES {
            health.failed(Cause::Unreachable, now);
            assert_eq!(health.standing(false, now), Standing::Up);
        }
        health.failed(Cause::Unreachable, now);
        assert_eq!(health.standing(false, now), Standing::Resting);
        assert_eq!(health.standing(false, now + REST), Standing::Up, "tried again");
        health.failed(Cause::Silent, now + REST);
        assert_eq!(health.standing(false, now + REST), Standing::Resting, "one more is enough");
        health.served();
        assert_eq!((health.standing(false, now + REST), health.cause()), (Standing::Up, None));
    }

    #[test]
    fn what_is_under_way_is_counted_until_it_ends() {
        let health = Health::default();
        let (first, second) = (health.begin(), health.begin());
        assert_eq!(health.under_way(), 2);
        drop(first);
        assert_eq!(health.under_way(), 1);
        drop(second);
        assert_eq!(health.under_way(), 0);
    }
}

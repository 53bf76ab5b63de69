//! Refusals of strangers, beyond a rate: counted, not recorded one by one.
//!
//! A record is a write to the disk and stays for years, and a stranger can cause as many as the network carries. A disk
//! that is full stops the trail, and with it everybody's requests. So refusals of callers who are not known are
//! recorded one by one as long as they are few; beyond that each is counted by its reason, and the counts are
//! recorded every second. Whoever has proved who they are is recorded each time.

use super::limits::Limits;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// A token bucket, and what overflowed it.
#[derive(Debug)]
pub(super) struct Flood {
    burst: f64,
    per_second: f64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    tokens: f64,
    refilled: Instant,
    counted: BTreeMap<&'static str, u64>,
}

impl Flood {
    /// Full.
    pub(super) fn new(limits: &Limits) -> Self {
        let (burst, per_second) = (f64::from(limits.stranger_burst), f64::from(limits.strangers_per_second));
        let state = State { tokens: burst, refilled: Instant::now(), counted: BTreeMap::new() };
        Self { burst, per_second, state: Mutex::new(state) }
    }

    /// Whether one more refusal may have a record of its own; otherwise it is counted here.
    pub(super) fn has_room(&self, reason: &'static str, now: Instant) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let refill = now.duration_since(state.refilled).as_secs_f64() * self.per_second;
        state.tokens = (state.tokens + refill).min(self.burst);
        state.refilled = now;
        if state.tokens >= 1.0 {
            state.tokens -= 1.0;
            return true;
        }
        *state.counted.entry(reason).or_default() += 1;
        false
    }

    /// What was counted since this was last asked, by reason.
    pub(super) fn counted(&self) -> BTreeMap<&'static str, u64> {
        std::mem::take(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner).counted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn few_have_records_and_the_rest_is_counted() {
        let flood = Flood::new(&Limits { stranger_burst: 3, strangers_per_second: 2, ..Limits::default() });
        let begun = Instant::now();
        let recorded = |tries: usize, seconds: u64| {
            let now = begun + Duration::from_secs(seconds);
            (0..tries).filter(|_| flood.has_room("no-credentials", now)).count()
        };
        assert_eq!(recorded(5, 0), 3, "the burst");
        assert_eq!(flood.counted(), BTreeMap::from([("no-credentials", 2)]));
        assert!(flood.counted().is_empty(), "each is counted once");
        assert_eq!(recorded(5, 1), 2, "a second later");
        assert_eq!(recorded(5, 3600), 3, "never more than the burst");
    }
}

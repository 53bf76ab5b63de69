//! How much each caller has used under a rule, and whether there is more (`limits` of an access rule).
//!
//! ```text
//!   Quotas::begin     one request more a minute?        → Share
//!   Share::spend      tokens that it may cost, reserved: a minute's, a day's
//!   Share::stream     one stream more at once?
//!   Share::settle     what it did cost, in place of the reservation
//! ```
//!
//! A minute's limits are buckets that refill evenly, so that a wait can be told to the second. A day's is the day's in UTC.
//! Whoever is dropped before it settles keeps its reservation: what became of the model's work is not known.
//!
//! It counts in memory: a restart forgets, a reload does not. A caller is a subject of an issuer under a rule.

use bailiwick_policy::{Permit, Principal, RuleLimits};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Callers remembered. They have proved who they are and a rule admits them: nobody can make them up.
const CALLERS: usize = 1 << 16;
const MINUTE: f64 = 60.0;
const DAY: u64 = 86_400;

type Key = [u8; 32];

/// What all callers have used.
#[derive(Debug, Default)]
pub(super) struct Quotas {
    used: Mutex<HashMap<Key, Used>>,
}

/// What a limit says when it is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exceeded {
    pub(super) what: Limit,
    /// Seconds until it is worth trying again.
    pub(super) retry_after: u64,
}

/// Which limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    Requests,
    Streams,
    TokensPerMinute,
    TokensPerDay,
    /// Of callers that can be counted at all.
    Callers,
}

/// One caller's use under one rule.
#[derive(Debug)]
struct Used {
    requests: Bucket,
    tokens: Bucket,
    day: u64,
    tokens_today: u64,
    streams: u64,
}

/// Refills evenly, a limit's worth a minute. It may be overdrawn by what was not known before.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    spent: f64,
    at: Instant,
}

impl Bucket {
    fn full(now: Instant) -> Self {
        Self { spent: 0.0, at: now }
    }

    fn refill(&mut self, limit: u64, now: Instant) {
        let refilled = now.saturating_duration_since(self.at).as_secs_f64() * as_float(limit) / MINUTE;
        self.spent = (self.spent - refilled).max(0.0);
        self.at = now;
    }

    /// Whether there is `cost`, or all there ever is; otherwise the seconds until there will be.
    fn wait_for(&mut self, cost: u64, limit: u64, now: Instant) -> Result<(), u64> {
        self.refill(limit, now);
        let missing = self.spent + as_float(cost.min(limit)) - as_float(limit);
        if missing <= 0.0 {
            return Ok(());
        }
        let seconds = Duration::from_secs_f64((missing * MINUTE / as_float(limit)).min(1e9)).as_secs();
        Err(seconds + 1)
    }
}

/// Limits are below 2^53, where a float is exact.
#[allow(clippy::cast_precision_loss, reason = "the config bounds limits far below 2^53")]
fn as_float(count: u64) -> f64 {
    count as f64
}

/// A request's share of its caller's quota. Ends with the request.
#[derive(Debug)]
pub(super) struct Share {
    /// `None` under a rule without limits.
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    quotas: Arc<Quotas>,
    key: Key,
    limits: RuleLimits,
    reserved: u64,
    streams: bool,
}

/// A moment, by both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) instant: Instant,
    /// Seconds after the epoch.
    pub(super) unix: u64,
}

impl Moment {
    /// This one.
    pub(super) fn now() -> Self {
        Self { instant: Instant::now(), unix: crate::identity::now() }
    }
}

impl Quotas {
    /// Counts a request of this caller.
    pub(super) fn begin(
        self: &Arc<Self>,
        permit: &Permit,
        principal: &Principal,
        now: Moment,
    ) -> Result<Share, Exceeded> {
        let limits = *permit.limits();
        // Of these the proxy counts nothing.
        if (RuleLimits { max_body: None, max_tokens: None, ..limits }) == RuleLimits::default() {
            return Ok(Share { held: None });
        }
        let mut digest = Sha256::new();
        for part in [permit.rule().as_str(), &principal.issuer, &principal.subject] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        let key = digest.finalize().into();
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.len() >= CALLERS && !used.contains_key(&key) {
            used.retain(|_, used| !used.is_forgettable(now));
            if used.len() >= CALLERS {
                return Err(Exceeded { what: Limit::Callers, retry_after: 60 });
            }
        }
        let entry = used.entry(key).or_insert_with(|| Used::new(now));
        if let Some(limit) = limits.requests_per_minute {
            let room = entry.requests.wait_for(1, limit, now.instant);
            room.map_err(|retry_after| Exceeded { what: Limit::Requests, retry_after })?;
            entry.requests.spent += 1.0;
        }
        drop(used);
        let quotas = Arc::clone(self);
        Ok(Share { held: Some(Held { quotas, key, limits, reserved: 0, streams: false }) })
    }
}

impl Used {
    fn new(now: Moment) -> Self {
        Self {
            requests: Bucket::full(now.instant),
            tokens: Bucket::full(now.instant),
            day: now.unix / DAY,
            tokens_today: 0,
            streams: 0,
        }
    }

    /// Nothing is lost without it: buckets refill in a minute, unless they are overdrawn.
    fn is_forgettable(&self, now: Moment) -> bool {
        let old = |bucket: &Bucket| now.instant.saturating_duration_since(bucket.at).as_secs() >= 600;
        let none_today = self.tokens_today == 0 || self.day != now.unix / DAY;
        self.streams == 0 && none_today && old(&self.requests) && old(&self.tokens)
    }

    fn turn_the_day(&mut self, now: Moment) {
        if self.day != now.unix / DAY {
            (self.day, self.tokens_today) = (now.unix / DAY, 0);
        }
    }
}

impl Share {
    /// Whether tokens are limited, and so must be counted.
    pub(super) fn counts_tokens(&self) -> bool {
        let limits = self.held.as_ref().map(|held| held.limits).unwrap_or_default();
        limits.tokens_per_minute.is_some() || limits.tokens_per_day.is_some()
    }

    /// Reserves what the request may cost.
    pub(super) fn spend(&mut self, tokens: u64, now: Moment) -> Result<(), Exceeded> {
        let Some(held) = &mut self.held else { return Ok(()) };
        let limits = held.limits;
        held.reserved = held.with(|used| {
            used.turn_the_day(now);
            if let Some(limit) = limits.tokens_per_day
                && used.tokens_today.saturating_add(tokens.min(limit)) > limit
            {
                return Err(Exceeded { what: Limit::TokensPerDay, retry_after: DAY - now.unix % DAY });
            }
            if let Some(limit) = limits.tokens_per_minute {
                let room = used.tokens.wait_for(tokens, limit, now.instant);
                room.map_err(|retry_after| Exceeded { what: Limit::TokensPerMinute, retry_after })?;
            }
            used.tokens.spent += as_float(tokens);
            used.tokens_today = used.tokens_today.saturating_add(tokens);
            Ok(tokens)
        })?;
        Ok(())
    }

    /// Counts a stream, until this share ends.
    pub(super) fn stream(&mut self) -> Result<(), Exceeded> {
        let Some(held) = &mut self.held else { return Ok(()) };
        let limit = held.limits.streams;
        held.streams = held.with(|used| {
            if limit.is_some_and(|limit| used.streams >= limit) {
                return Err(Exceeded { what: Limit::Streams, retry_after: 1 });
            }
            used.streams += 1;
            Ok(true)
        })?;
        Ok(())
    }

    /// Puts what it did cost in the place of what was reserved.
    pub(super) fn settle(mut self, tokens: u64, now: Moment) {
        let Some(held) = &mut self.held else { return };
        let reserved = held.reserved;
        held.with(|used| {
            used.turn_the_day(now);
            used.tokens.spent = (used.tokens.spent - as_float(reserved) + as_float(tokens)).max(0.0);
            used.tokens_today = used.tokens_today.saturating_sub(reserved).saturating_add(tokens);
        });
    }
}

impl Held {
    fn with<T>(&self, change: impl FnOnce(&mut Used) -> T) -> T {
        let mut used = self.quotas.used.lock().unwrap_or_else(PoisonError::into_inner);
        change(used.entry(self.key).or_insert_with(|| Used::new(Moment::now())))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.streams {
            self.with(|used| used.streams = used.streams.saturating_sub(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bailiwick_policy::{AccessPolicy, AccessRule, Ask, Location, Name, Operation};

    /// Noon.
    const NOON: u64 = 20_000 * DAY + DAY / 2;

    fn permit(limits: RuleLimits) -> Permit {
        let model = Name::new("llama").unwrap();
        let rule = AccessRule { limits, ..AccessRule::open(Name::new("r").unwrap(), vec![model.clone()]) };
        let ask = Ask { model: &model, operation: Operation::Chat, caller: &Location::UNKNOWN, now: NOON };
        AccessPolicy::new(vec![rule]).authorize(&Principal::default(), ask).unwrap()
    }

    fn caller(subject: &str) -> Principal {
        Principal { issuer: "i".into(), subject: subject.into(), ..Principal::default() }
    }

    struct Clock(Instant);

    impl Clock {
        fn at(&self, seconds: u64) -> Moment {
            Moment { instant: self.0 + Duration::from_secs(seconds), unix: NOON + seconds }
        }
    }

    #[test]
    fn requests_refill_evenly_and_each_caller_has_its_own() {
        let (quotas, clock) = (Arc::new(Quotas::default()), Clock(Instant::now()));
        let permit = permit(RuleLimits { requests_per_minute: Some(2), ..RuleLimits::default() });
        let ask = |who: &str, at| quotas.begin(&permit, &caller(who), clock.at(at)).map(drop);
        assert_eq!((ask("a", 0), ask("a", 0)), (Ok(()), Ok(())));
        assert_eq!(
            ask("a", 0),
            Err(Exceeded { what: Limit::Requests, retry_after: 31 }),
            "a half a minute each"
        );
        assert_eq!(ask("b", 0), Ok(()), "another caller");
        assert_eq!(ask("a", 31), Ok(()), "as it was told");
        assert!(ask("a", 31).is_err());
    }

    #[test]
    fn tokens_are_reserved_and_then_paid() {
        let (quotas, clock) = (Arc::new(Quotas::default()), Clock(Instant::now()));
        let limits =
            RuleLimits { tokens_per_minute: Some(100), tokens_per_day: Some(150), ..RuleLimits::default() };
        let permit = permit(limits);
        let begin = |at| quotas.begin(&permit, &caller("a"), clock.at(at)).unwrap();
        let mut first = begin(0);
        assert!(first.counts_tokens());
        first.spend(80, clock.at(0)).unwrap();
        let refused = begin(0).spend(30, clock.at(0)).unwrap_err();
        assert_eq!(refused, Exceeded { what: Limit::TokensPerMinute, retry_after: 7 }, "80 are reserved");
        first.settle(10, clock.at(0));
        let mut second = begin(0);
        second.spend(30, clock.at(0)).unwrap();
        second.settle(130, clock.at(0));
        let refused = begin(600).spend(20, clock.at(600)).unwrap_err();
        assert_eq!(refused, Exceeded { what: Limit::TokensPerDay, retry_after: DAY / 2 - 600 }, "140 of 150");
        assert!(begin(DAY).spend(20, clock.at(DAY)).is_ok(), "another day");
        assert!(begin(2 * DAY).spend(1000, clock.at(2 * DAY)).is_ok(), "all there is, when nothing is used");
        assert!(begin(2 * DAY).spend(1, clock.at(2 * DAY)).is_err(), "dropped unsettled, it is spent");
    }

    #[test]
    fn streams_are_counted_while_they_last() {
        let (quotas, clock) = (Arc::new(Quotas::default()), Clock(Instant::now()));
        let permit = permit(RuleLimits { streams: Some(1), ..RuleLimits::default() });
        let begin = || quotas.begin(&permit, &caller("a"), clock.at(0)).unwrap();
        let mut first = begin();
        first.stream().unwrap();
        let mut second = begin();
        assert_eq!(second.stream(), Err(Exceeded { what: Limit::Streams, retry_after: 1 }));
        drop(second);
        assert!(begin().stream().is_err(), "one that was refused gives back nothing");
        drop(first);
        assert!(begin().stream().is_ok());
    }

    #[test]
    fn a_rule_without_limits_counts_nothing() {
        let quotas = Arc::new(Quotas::default());
        let permit = permit(RuleLimits { max_tokens: Some(7), ..RuleLimits::default() });
        let mut share = quotas.begin(&permit, &caller("a"), Moment::now()).unwrap();
        assert!(
            share.spend(u64::MAX, Moment::now()).is_ok() && share.stream().is_ok() && !share.counts_tokens()
        );
        share.settle(1, Moment::now());
        assert!(quotas.used.lock().unwrap().is_empty());
    }
}

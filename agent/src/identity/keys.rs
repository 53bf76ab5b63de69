//! An issuer's keys over time: fetched when first needed, refreshed while they serve, kept when it is down.

use super::discovery::{self, DiscoveryError, Published};
use super::error::Fault;
use super::fetch::Transport;
use super::key::{Algorithm, Jwk, Key};
use super::token::Token;
use crate::config::settings::Issuer;
use bytes::Bytes;
use http::Uri;
use serde::Deserialize;
use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Most keys taken from one set.
const MAX_KEYS: usize = 100;

/// Periods of a key set's life.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Older keys are refreshed in the background while they serve.
    pub refresh_after: Duration,
    /// Older keys serve no more.
    pub serve_until: Duration,
    /// Least pause between fetches that tokens cause which no key here verifies.
    pub debounce: Duration,
    /// Least pause between fetches while there are no keys at all.
    pub retry: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            refresh_after: Duration::from_secs(3600),
            serve_until: Duration::from_secs(24 * 3600),
            debounce: Duration::from_secs(10),
            retry: Duration::from_secs(1),
        }
    }
}

/// The keys of one fetch.
#[derive(Debug)]
pub(super) struct KeySet {
    keys: Vec<Key>,
    /// As fetched, to see whether the next fetch brings anything new.
    published: Bytes,
    introspection: Option<(Uri, Transport)>,
    generation: u64,
    fetched: Instant,
}

impl KeySet {
    /// Changes when, and only when, the published set changes.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Where to ask about opaque tokens.
    pub(super) fn introspection(&self) -> Option<(Uri, Transport)> {
        self.introspection.clone()
    }

    /// The keys that may have made a signature: those of that id, or all where the token names none.
    pub(super) fn candidates(&self, id: Option<&str>, algorithm: Algorithm) -> impl Iterator<Item = &Key> {
        self.named(id).filter(move |key| key.fits(algorithm))
    }

    /// Whether any key has that id.
    pub(super) fn knows(&self, id: Option<&str>) -> bool {
        self.named(id).next().is_some()
    }

    fn named(&self, id: Option<&str>) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(move |key| id.is_none() || key.id.as_deref() == id)
    }
}

/// One issuer's keys.
pub(super) struct KeyStore {
    issuer: Issuer,
    timing: Timing,
    held: RwLock<Option<Arc<KeySet>>>,
    /// Held during a fetch, so that there is one at a time; when the last one ended.
    last_fetch: Mutex<Option<Instant>>,
    /// Somebody keeps them fresh already.
    kept: AtomicBool,
}

impl KeyStore {
    /// No keys yet.
    pub(super) fn new(issuer: &Issuer, timing: Timing) -> Self {
        let refresh_after = issuer.refresh.map_or(timing.refresh_after, Duration::from_secs);
        Self {
            issuer: issuer.clone(),
            timing: Timing { refresh_after, ..timing },
            held: RwLock::default(),
            last_fetch: Mutex::default(),
            kept: AtomicBool::new(false),
        }
    }

    /// Whether another config's issuer has the same keys.
    pub(super) fn serves(&self, issuer: &Issuer) -> bool {
        let of =
            |issuer: &Issuer| (issuer.url.clone(), issuer.ca.clone(), issuer.region.clone(), issuer.refresh);
        of(&self.issuer) == of(issuer)
    }

    /// How long ago the keys that it has were fetched.
    pub(super) fn age(&self) -> Option<Duration> {
        self.held().map(|set| set.fetched.elapsed())
    }

    /// Fetches the keys now, and then whenever they are due, until nobody needs them any more: a key that its issuer withdrew
    /// stops serving though nobody calls meanwhile, and an issuer that was down at the start is found when it is back.
    pub(super) fn keep_fresh(self: &Arc<Self>) {
        if self.kept.swap(true, Ordering::Relaxed) {
            return;
        }
        let store = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut failures = 0_u32;
            while let Some(pause) = Self::look_after(&store, &mut failures).await {
                tokio::time::sleep(pause).await;
            }
        });
    }

    /// One look; how long until the next, or `None` once the store is gone.
    async fn look_after(store: &Weak<Self>, failures: &mut u32) -> Option<Duration> {
        let store = store.upgrade()?;
        let Timing { refresh_after, retry, .. } = store.timing;
        let age = |set: Arc<KeySet>| set.fetched.elapsed();
        if store.held().map(age).is_none_or(|age| age >= refresh_after) {
            store.refresh(retry).await;
        }
        match store.held().map(age).filter(|age| *age < refresh_after) {
            Some(age) => {
                *failures = 0;
                Some(refresh_after - age)
            }
            // Who calls meanwhile asks for itself, so that this may take its time.
            None => {
                *failures = (*failures + 1).min(6);
                Some(retry.max(Duration::from_millis(10)) * (1 << *failures))
            }
        }
    }

    /// Keys that may serve now; waits for a fetch only when there are none.
    pub(super) async fn current(self: &Arc<Self>) -> Result<Arc<KeySet>, Fault> {
        if let Some(set) = self.serving() {
            if set.fetched.elapsed() >= self.timing.refresh_after {
                self.refresh_in_background();
            }
            return Ok(set);
        }
        // Boxed, here and below: it is seldom needed, and long beside what each request asks of this.
        Box::pin(self.refresh(self.timing.retry)).await;
        self.serving().ok_or(Fault::IssuerUnavailable)
    }

    /// Verifies a token's signature with `set`, or with a newer one where that may hold what `set` lacks: a key of the id
    /// that the token names, or another key under an id that its issuer uses again. Gives the set that verified it.
    ///
    /// Whoever forges tokens causes one fetch a `debounce`, whatever ids they name.
    pub(super) async fn verify(&self, token: &Token<'_>, set: Arc<KeySet>) -> Result<Arc<KeySet>, Fault> {
        let Err(fault) = token.verify_signature(&set) else { return Ok(set) };
        Box::pin(self.refresh(self.timing.debounce)).await;
        let newer = self.serving().ok_or(Fault::IssuerUnavailable)?;
        if newer.generation == set.generation {
            return Err(fault);
        }
        token.verify_signature(&newer)?;
        Ok(newer)
    }

    fn held(&self) -> Option<Arc<KeySet>> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn serving(&self) -> Option<Arc<KeySet>> {
        self.held().filter(|set| set.fetched.elapsed() < self.timing.serve_until)
    }

    fn refresh_in_background(self: &Arc<Self>) {
        // Locked means that a fetch is under way already.
        let due = self
            .last_fetch
            .try_lock()
            .is_ok_and(|last| last.is_none_or(|ended| ended.elapsed() >= self.timing.debounce));
        if due {
            let store = Arc::clone(self);
            tokio::spawn(async move { store.refresh(store.timing.debounce).await });
        }
    }

    /// Fetches, unless a fetch ended less than `pause` ago; whoever waited for one takes its result.
    async fn refresh(&self, pause: Duration) {
        let mut last = self.last_fetch.lock().await;
        if last.is_some_and(|ended| ended.elapsed() < pause) {
            return;
        }
        let fetched =
            discovery::fetch_published(&self.issuer).await.and_then(|published| self.read(published));
        *last = Some(Instant::now());
        match fetched {
            Ok(set) => *self.held.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(set)),
            Err(cause) => {
                let serving = self.serving().is_some();
                let meanwhile =
                    if serving { "the last good ones serve on" } else { "its callers are refused with 503" };
                tracing::warn!(
                    "issuer {}: its keys could not be fetched, {meanwhile}: {cause}",
                    self.issuer.url
                );
            }
        }
    }

    fn read(
        &self,
        Published { keys: published, introspection }: Published,
    ) -> Result<KeySet, DiscoveryError> {
        let before = self.held();
        let unchanged = before.as_ref().is_some_and(|set| set.published == published);
        let generation = before.map_or(0, |set| set.generation) + u64::from(!unchanged);
        let keys = parse(&published)?;
        Ok(KeySet { keys, published, introspection, generation, fetched: Instant::now() })
    }
}

/// The usable keys of a JWK set; the others are skipped (RFC 7517, 5).
pub(super) fn parse(published: &[u8]) -> Result<Vec<Key>, DiscoveryError> {
    #[derive(Deserialize)]
    struct JwkSet {
        keys: Vec<Value>,
    }
    let set: JwkSet = serde_json::from_slice(published).map_err(|_| DiscoveryError::KeysUnreadable)?;
    let usable = |jwk: Value| serde_json::from_value::<Jwk>(jwk).ok().and_then(|jwk| Key::from_jwk(&jwk));
    let keys: Vec<_> = set.keys.into_iter().take(MAX_KEYS).filter_map(usable).collect();
    if keys.is_empty() { Err(DiscoveryError::NoKeys) } else { Ok(keys) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_with_one_usable_key_is_a_set() {
        let x = "A".repeat(43);
        let good = format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"k","x":"{x}"}}"#);
        let rows = [
            (format!(r#"{{"keys":[{good}]}}"#), Some(1), "one key"),
            (
                format!(r#"{{"keys":[{{"kty":"oct","k":"AAAA"}},7,{{"kty":1}},{good}]}}"#),
                Some(1),
                "others are skipped",
            ),
            (r#"{"keys":[]}"#.to_owned(), None, "no key at all"),
            (r#"{"keys":{}}"#.to_owned(), None, "not a list"),
            ("<html>".to_owned(), None, "not JSON"),
        ];
        for (published, expected, why) in rows {
            assert_eq!(parse(published.as_bytes()).ok().map(|keys| keys.len()), expected, "{why}");
        }
    }
}

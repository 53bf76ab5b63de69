//! Tokens that were verified already, so that a caller's next request costs one hash, not one signature.

use super::claims::Proven;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

/// Most tokens remembered.
const CAPACITY: usize = 4096;

/// SHA-256 of a token: the token itself is not kept.
pub(super) type TokenDigest = [u8; 32];

/// A bounded map from a token's digest to what it proved. Looking up takes a shared lock and copies two pointers.
#[derive(Default)]
pub(super) struct TokenCache {
    entries: RwLock<HashMap<TokenDigest, Entry>>,
}

struct Entry {
    proven: Proven,
    /// The key set that verified it; under another set it must be verified anew.
    generation: u64,
    good_until: u64,
}

impl TokenCache {
    /// What a token is remembered by.
    pub(super) fn digest(token: &str) -> TokenDigest {
        Sha256::digest(token.as_bytes()).into()
    }

    /// What the token proved, while it is good and the issuer's keys are still those of `generation`.
    pub(super) fn get(&self, digest: &TokenDigest, generation: u64, now: u64) -> Option<Proven> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.get(digest)?;
        (entry.generation == generation && now < entry.good_until).then(|| entry.proven.clone())
    }

    /// Remembers a verified token until `good_until`; makes room among the expired first, then anywhere.
    pub(super) fn put(
        &self,
        digest: TokenDigest,
        generation: u64,
        good_until: u64,
        now: u64,
        proven: Proven,
    ) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= CAPACITY {
            entries.retain(|_, entry| now < entry.good_until);
        }
        if entries.len() >= CAPACITY {
            // The order of a map with random keys is as good as a coin; an eighth at once keeps this rare.
            let victims: Vec<_> = entries.keys().take(CAPACITY / 8).copied().collect();
            for victim in victims {
                entries.remove(&victim);
            }
        }
        entries.insert(digest, Entry { proven, generation, good_until });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn someone() -> Proven {
        Proven { principal: Arc::default(), bound_to: None }
    }

    #[test]
    fn a_token_is_forgotten_when_it_expires_or_the_keys_change() {
        let cache = TokenCache::default();
        let digest = TokenCache::digest("token");
        cache.put(digest, 1, 100, 0, someone());
        assert!(cache.get(&digest, 1, 99).is_some(), "good");
        assert!(cache.get(&digest, 1, 100).is_none(), "expired");
        assert!(cache.get(&digest, 2, 99).is_none(), "the issuer's keys changed");
        assert!(cache.get(&TokenCache::digest("other"), 1, 99).is_none(), "another token");
    }

    #[test]
    fn it_never_grows_beyond_its_bound() {
        let cache = TokenCache::default();
        for n in 0..(2 * CAPACITY) {
            cache.put(TokenCache::digest(&n.to_string()), 1, 100, 0, someone());
            assert!(cache.entries.read().unwrap().len() <= CAPACITY);
        }
        let last = TokenCache::digest(&(2 * CAPACITY - 1).to_string());
        assert!(cache.get(&last, 1, 0).is_some(), "the newest is there");
    }
}

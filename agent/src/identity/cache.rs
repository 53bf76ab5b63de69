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
    known: Known,
    good_until: u64,
}

/// What is remembered of a token.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) proven: Proven,
    /// The place among the issuers of the one that vouched for it.
    pub(super) issuer: usize,
    /// The key set that verified it; under another set it must be verified anew. None where the issuer itself was asked.
    pub(super) generation: Option<u64>,
}

impl TokenCache {
    /// What a token is remembered by.
    pub(super) fn digest(token: &str) -> TokenDigest {
        Sha256::digest(token.as_bytes()).into()
    }

    /// What is known of the token, while it is good.
    pub(super) fn get(&self, digest: &TokenDigest, now: u64) -> Option<Known> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.get(digest).filter(|entry| now < entry.good_until).map(|entry| entry.known.clone())
    }

    /// Remembers a token until `good_until`; makes room among the expired first, then anywhere.
    pub(super) fn put(&self, digest: TokenDigest, good_until: u64, now: u64, known: Known) {
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
        entries.insert(digest, Entry { known, good_until });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn someone() -> Known {
        let proven = Proven { principal: Arc::default(), bound_to: None };
        Known { proven, issuer: 0, generation: Some(1) }
    }

    #[test]
    fn a_token_is_forgotten_when_it_expires() {
        let cache = TokenCache::default();
        let digest = TokenCache::digest("token");
        cache.put(digest, 100, 0, someone());
        assert!(cache.get(&digest, 99).is_some(), "good");
        assert!(cache.get(&digest, 100).is_none(), "expired");
        assert!(cache.get(&TokenCache::digest("other"), 99).is_none(), "another token");
    }

    #[test]
    fn it_never_grows_beyond_its_bound() {
        let cache = TokenCache::default();
        for n in 0..(2 * CAPACITY) {
            cache.put(TokenCache::digest(&n.to_string()), 100, 0, someone());
            assert!(cache.entries.read().unwrap().len() <= CAPACITY);
        }
        let last = TokenCache::digest(&(2 * CAPACITY - 1).to_string());
        assert!(cache.get(&last, 0).is_some(), "the newest is there");
    }
}

//! A request's name: the same in the answer's header, in error bodies and in the audit trail.

use http::HeaderValue;
use std::cell::RefCell;
use std::fmt;

/// Bytes of randomness that are asked for at once: a system call for each id would cost more than the rest of it.
const STOCK: usize = 1024;

thread_local! {
    /// What is left of it, to be taken from its end. An id is unique, and no secret.
    static RANDOM: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// 128 random bits as 32 hex digits. Ours alone: what a caller sends as an id is not looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RequestId(String);

impl RequestId {
    /// A new one; `None` when the system has no randomness to give.
    pub(super) fn new() -> Option<Self> {
        let bits = RANDOM.with_borrow_mut(|stock| {
            if stock.is_empty() {
                stock.resize(STOCK, 0);
                if getrandom::fill(stock).is_err() {
                    // Zeros are not random.
                    stock.clear();
                    return None;
                }
            }
            let bits = stock.last_chunk().copied()?;
            stock.truncate(stock.len() - size_of_val(&bits));
            Some(bits)
        })?;
        Some(Self(format!("{:032x}", u128::from_be_bytes(bits))))
    }

    /// As text.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// As a header's value.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.0).ok()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_two_are_the_same() {
        const MANY: usize = 4 * STOCK / 16 + 1;
        let ids: HashSet<_> = (0..MANY).map(|_| RequestId::new().unwrap().to_string()).collect();
        assert_eq!(ids.len(), MANY);
        assert!(ids.iter().all(|id| id.len() == 32));
    }
}

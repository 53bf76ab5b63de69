//! Which names lead to an address, for one workload.

use super::{Known, Named};
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Addresses that are remembered at once.
const MOST_ADDRESSES: usize = 16 * 1024;
/// Names of one address.
const MOST_NAMES: usize = 4;
/// Programs use an answer for longer than it says: it explains a connection for this long after it ended.
const GRACE: Duration = Duration::from_secs(10 * 60);
/// However long an answer says that it holds.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The names of addresses, newest first.
#[derive(Default)]
pub(super) struct Table {
    addresses: HashMap<IpAddr, Vec<Entry>>,
    /// Every address once, the oldest first.
    order: VecDeque<IpAddr>,
}

struct Entry {
    named: Named,
    until: Instant,
}

impl Table {
    /// `address` was reached, or may be, by this name; the answer that says so holds for `ttl`.
    pub(super) fn learn(&mut self, address: IpAddr, named: Named, ttl: Duration, now: Instant) {
        if !self.addresses.contains_key(&address) {
            if self.addresses.len() >= MOST_ADDRESSES
                && let Some(oldest) = self.order.pop_front()
            {
                self.addresses.remove(&oldest);
            }
            self.order.push_back(address);
        }
        let names = self.addresses.entry(address).or_default();
        names.retain(|entry| entry.named != named && entry.until > now);
        names.insert(0, Entry { named, until: now + ttl.min(LONGEST) + GRACE });
        names.truncate(MOST_NAMES);
    }

    /// The name by which `address` was reached last. What the connection itself said counts before what DNS did.
    pub(super) fn find(&self, address: IpAddr, now: Instant) -> Option<&Named> {
        let mut valid =
            self.addresses.get(&address)?.iter().filter(|entry| entry.until > now).map(|entry| &entry.named);
        let newest = valid.next()?;
        if newest.known == Known::Dns {
            valid.find(|named| named.known != Known::Dns).or(Some(newest))
        } else {
            Some(newest)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, known: Known) -> Named {
        Named { name: name.to_owned(), known }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_name_explains_as_long_as_it_holds_and_a_while_longer() {
        let (mut table, now) = (Table::default(), Instant::now());
        let address = "192.0.2.30".parse().unwrap();
        table.learn(address, named("a.example", Known::Dns), SECOND, now);
        let found = |table: &Table, after| table.find(address, now + after).map(|named| named.name.clone());
        assert_eq!(found(&table, GRACE).as_deref(), Some("a.example"));
        assert_eq!(found(&table, GRACE + 2 * SECOND), None);
        table.learn(address, named("a.example", Known::Dns), Duration::MAX, now);
        assert_eq!(found(&table, LONGEST + GRACE + SECOND), None, "no answer holds for ever");
    }

    #[test]
    fn what_the_connection_said_counts_before_what_dns_did() {
        let (mut table, now) = (Table::default(), Instant::now());
        let address = "192.0.2.30".parse().unwrap();
        table.learn(address, named("b.example", Known::Sni), SECOND, now);
        table.learn(address, named("a.example", Known::Dns), SECOND, now);
        assert_eq!(table.find(address, now), Some(&named("b.example", Known::Sni)));
        table.learn(address, named("c.example", Known::Host), SECOND, now);
        assert_eq!(table.find(address, now), Some(&named("c.example", Known::Host)));
    }

    #[test]
    fn memory_is_bounded() {
        let (mut table, now) = (Table::default(), Instant::now());
        for number in 0..(MOST_ADDRESSES as u128 + 5) {
            table.learn(IpAddr::from(number.to_be_bytes()), named("a.example", Known::Dns), SECOND, now);
        }
        assert_eq!((table.addresses.len(), table.order.len()), (MOST_ADDRESSES, MOST_ADDRESSES));
        let address = IpAddr::from(100_u128.to_be_bytes());
        for number in 0..9 {
            table.learn(address, named(&format!("{number}.example"), Known::Dns), SECOND, now);
        }
        assert_eq!(table.addresses[&address].len(), MOST_NAMES);
    }
}

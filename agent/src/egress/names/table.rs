//! Which names lead to an address, for one workload.

use super::Named;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Addresses that are remembered at once.
const MOST_ADDRESSES: usize = 16 * 1024;
/// Names of one address.
const MOST_NAMES: usize = 8;
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
    /// Where a connection said it; a resolver's answer is about every port.
    port: Option<u16>,
    until: Instant,
}

impl Table {
    /// `address` was reached, or may be, by this name; what says so holds for `ttl`, at `port` if that is named.
    pub(super) fn learn(
        &mut self,
        address: IpAddr,
        port: Option<u16>,
        named: Named,
        ttl: Duration,
        now: Instant,
    ) {
        if !self.addresses.contains_key(&address) {
            if self.addresses.len() >= MOST_ADDRESSES
                && let Some(oldest) = self.order.pop_front()
            {
                self.addresses.remove(&oldest);
            }
            self.order.push_back(address);
        }
        let names = self.addresses.entry(address).or_default();
        names.retain(|entry| (&entry.named, entry.port) != (&named, port) && entry.until > now);
        names.insert(0, Entry { named, port, until: now + ttl.min(LONGEST) + GRACE });
        names.truncate(MOST_NAMES);
    }

    /// The name by which `port` of `address` was reached last: what a connection to it said, else what DNS did, else what a
    /// connection to another port of it said.
    pub(super) fn find(&self, address: IpAddr, port: u16, now: Instant) -> Option<&Named> {
        let farness = |entry: &&Entry| match entry.port {
            Some(said) if said == port => 0,
            None => 1,
            Some(_) => 2,
        };
        let valid = self.addresses.get(&address)?.iter().filter(|entry| entry.until > now);
        valid.min_by_key(farness).map(|entry| &entry.named)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Known;
    use super::*;

    fn named(name: &str, known: Known) -> Named {
        Named { name: name.to_owned(), known }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_name_explains_as_long_as_it_holds_and_a_while_longer() {
        let (mut table, now) = (Table::default(), Instant::now());
        let address = "192.0.2.30".parse().unwrap();
        table.learn(address, None, named("a.example", Known::Dns), SECOND, now);
        let found =
            |table: &Table, after| table.find(address, 443, now + after).map(|named| named.name.clone());
        assert_eq!(found(&table, GRACE).as_deref(), Some("a.example"));
        assert_eq!(found(&table, GRACE + 2 * SECOND), None);
        table.learn(address, None, named("a.example", Known::Dns), Duration::MAX, now);
        assert_eq!(found(&table, LONGEST + GRACE + SECOND), None, "no answer holds for ever");
    }

    #[test]
    fn what_the_connection_said_counts_before_what_dns_did() {
        let (mut table, now) = (Table::default(), Instant::now());
        let address = "192.0.2.30".parse().unwrap();
        table.learn(address, Some(443), named("b.example", Known::Sni), SECOND, now);
        assert_eq!(table.find(address, 22, now), Some(&named("b.example", Known::Sni)), "better than none");
        table.learn(address, None, named("a.example", Known::Dns), SECOND, now);
        assert_eq!(table.find(address, 443, now), Some(&named("b.example", Known::Sni)));
        table.learn(address, Some(80), named("c.example", Known::Host), SECOND, now);
        for (port, name, known) in
            [(443, "b.example", Known::Sni), (80, "c.example", Known::Host), (22, "a.example", Known::Dns)]
        {
            assert_eq!(table.find(address, port, now), Some(&named(name, known)), "{port}");
        }
        table.learn(address, Some(443), named("d.example", Known::Sni), SECOND, now);
        assert_eq!(table.find(address, 443, now), Some(&named("d.example", Known::Sni)), "the last one");
    }

    #[test]
    fn memory_is_bounded() {
        let (mut table, now) = (Table::default(), Instant::now());
        for number in 0..(MOST_ADDRESSES as u128 + 5) {
            table.learn(
                IpAddr::from(number.to_be_bytes()),
                None,
                named("a.example", Known::Dns),
                SECOND,
                now,
            );
        }
        assert_eq!((table.addresses.len(), table.order.len()), (MOST_ADDRESSES, MOST_ADDRESSES));
        let address = IpAddr::from(100_u128.to_be_bytes());
        for number in 0..9 {
            table.learn(address, None, named(&format!("{number}.example"), Known::Dns), SECOND, now);
        }
        assert_eq!(table.addresses[&address].len(), MOST_NAMES);
    }
}

//! What was seen since the register was last written.

use super::super::names::Tunnel;
use super::flow::{Deed, Flow, FlowKey, Seen, milliseconds};
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::SystemTime;

/// Flows that wait at once. Between two writes there are few; with a disk that cannot be written there may be many.
const MOST_ALLOWED: usize = 40_000;
const MOST_VIOLATIONS: usize = 40_000;

/// What looked like a tunnel: workload, domain, resolver and its port.
pub(super) type SuspectKey = (String, String, IpAddr, u16);

/// What is to be written next.
#[derive(Default)]
pub struct Pending {
    pub(super) flows: HashMap<FlowKey, Seen>,
    violations: usize,
    /// What there was no room for: workload, region and verdict, how many, their sum.
    pub(super) remainder: HashMap<(String, String, Deed), (u64, Seen)>,
    /// Names that each workload asked for: how many, and when last.
    pub(super) lookups: HashMap<String, (u64, u64)>,
    /// What looked like a tunnel: names, first, last.
    pub(super) suspects: HashMap<SuspectKey, (u64, u64, u64)>,
}

impl Pending {
    /// Adds what was seen of a flow.
    pub fn add(&mut self, flow: Flow) {
        let Flow { key, seen } = flow;
        if let Some(known) = self.flows.get_mut(&key) {
            known.add(seen);
            return;
        }
        let is_violation = key.deed.is_violation();
        let has_room = if is_violation {
            self.violations < MOST_VIOLATIONS
        } else {
            self.flows.len() - self.violations < MOST_ALLOWED
        };
        if has_room {
            self.violations += usize::from(is_violation);
            self.flows.insert(key, seen);
            return;
        }
        let place = (key.scope, seen.region.clone(), key.deed);
        match self.remainder.get_mut(&place) {
            Some((count, sum)) => {
                *count += 1;
                sum.add(seen);
            }
            None => {
                self.remainder.insert(place, (1, seen));
            }
        }
    }

    /// A workload asked for so many names.
    pub fn add_lookups(&mut self, scope: &str, count: u64, now: SystemTime) {
        let known = self.lookups.entry(scope.to_owned()).or_default();
        *known = (known.0 + count, milliseconds(now));
    }

    /// Something looks like a tunnel.
    pub fn add_suspect(&mut self, scope: &str, tunnel: &Tunnel, now: SystemTime) {
        let place = (
            scope.to_owned(),
            tunnel.finding.domain.clone(),
            tunnel.resolver.ip().to_canonical(),
            tunnel.resolver.port(),
        );
        let now = milliseconds(now);
        let known = self.suspects.entry(place).or_insert((0, now, now));
        *known = (known.0.max(tunnel.finding.names), known.1, now);
    }

    /// Adds what could not be written before; what is here is newer.
    pub fn put_back(&mut self, older: Self) {
        let newer = std::mem::replace(self, older);
        for (key, seen) in newer.flows {
            self.add(Flow { key, seen });
        }
        for (place, (count, sum)) in newer.remainder {
            match self.remainder.get_mut(&place) {
                Some(known) => {
                    known.0 += count;
                    known.1.add(sum);
                }
                None => {
                    self.remainder.insert(place, (count, sum));
                }
            }
        }
        for (scope, (count, last)) in newer.lookups {
            let known = self.lookups.entry(scope).or_default();
            *known = (known.0 + count, known.1.max(last));
        }
        for (place, (names, first, last)) in newer.suspects {
            let known = self.suspects.entry(place).or_insert((0, first, last));
            *known = (known.0.max(names), known.1.min(first), known.2.max(last));
        }
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
            && self.remainder.is_empty()
            && self.lookups.is_empty()
            && self.suspects.is_empty()
    }
}

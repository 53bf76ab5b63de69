//! DNS as a tunnel: data leaves as the names that are asked for, inside a destination that is allowed.
//!
//! A tunnel needs many different names (a resolver answers the same one from memory) and puts its data into them, so that
//! they are long and look random. Both are counted for each workload, under each registered domain and over all of them, in
//! a minute and in an hour. Names are kept as hashes of a key of this run only.
//!
//! What it does not find: a tunnel slower than [`RULES`] says, and one inside an allowed destination's own protocol.

use super::dns::Question;
use super::host::{DATA_ENTROPY, DATA_LENGTH, HostName, entropy};
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

/// Domains of one workload that are counted at once.
const MOST_DOMAINS: usize = 256;

/// When names under one domain are too many.
struct Rule {
    within: Duration,
    /// Distinct names that look like data.
    data_like: usize,
    /// Bytes left of the registered domain, of distinct names.
    bytes: usize,
    /// Distinct names of any kind.
    distinct: usize,
}

/// Names over all domains of a workload may be this many times as many: they are not one tunnel's, as a rule.
const OVER_ALL: usize = 4;
const RULES: [Rule; 2] = [
    Rule { within: Duration::from_secs(60), data_like: 20, bytes: 4096, distinct: 250 },
    Rule { within: Duration::from_secs(3600), data_like: 100, bytes: 16 * 1024, distinct: 2000 },
];

/// What is like a tunnel.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The registered domain as it may be shown, or [`MANY_DOMAINS`].
    pub domain: String,
    /// Distinct names in the time that was looked at.
    pub names: u64,
    /// Of those, the ones that look like data.
    pub data_like: u64,
    /// The bytes of those names, left of the registered domain.
    pub bytes: u64,
    /// The longest label, in bytes.
    pub longest_label: u64,
    /// Of the last name, in bits a byte.
    pub entropy: f64,
    /// The time that was looked at.
    pub within: Duration,
}

/// In place of a domain: the names lie under many.
pub const MANY_DOMAINS: &str = "many domains";

/// The names that one workload asked for.
#[derive(Default)]
pub(super) struct Asked {
    key: RandomState,
    domains: HashMap<String, [Window; 2]>,
    all: [Window; 2],
}

struct Window {
    began: Instant,
    /// Hashes.
    names: HashSet<u64>,
    data_like: usize,
    bytes: usize,
    longest_label: usize,
}

impl Default for Window {
    fn default() -> Self {
        Self { began: Instant::now(), names: HashSet::new(), data_like: 0, bytes: 0, longest_label: 0 }
    }
}

/// One name, measured.
struct Measured {
    hash: u64,
    bytes: usize,
    longest_label: usize,
    entropy: f64,
    data_like: bool,
}

impl Asked {
    /// A name was asked for. `Some` as long as what was asked in this time is like a tunnel.
    pub(super) fn ask(&mut self, question: &Question, now: Instant) -> Option<Finding> {
        let text = question.text();
        let host = question.host();
        // What is no host name has no registered domain either; its last two labels are as good.
        let (domain, shown) = match &host {
            Some(host) => (host.registered().to_owned(), host.shown_domain()),
            None => ("?".to_owned(), "names that are no host names".to_owned()),
        };
        let prefix = host.as_ref().map_or(text.as_slice(), |host| host.prefix().as_bytes());
        let measured = self.measure(&text, prefix);
        if !self.domains.contains_key(&domain) {
            self.make_room(now);
        }
        let windows = self.domains.entry(domain).or_default();
        let under_one = add(windows, &measured, 1, now);
        // Data in place of the registered domain shows only over all of them.
        let whole = Measured {
            data_like: measured.data_like || host.as_ref().is_some_and(HostName::is_registered_as_data),
            ..measured
        };
        let over_all = add(&mut self.all, &whole, OVER_ALL, now);
        let (domain, rule) =
            under_one.map(|rule| (shown, rule)).or(over_all.map(|rule| (MANY_DOMAINS.to_owned(), rule)))?;
        let window = match domain.as_str() {
            MANY_DOMAINS => &self.all[rule],
            _ => host
                .as_ref()
                .map_or_else(|| self.domains.get("?"), |host| self.domains.get(host.registered()))?
                .get(rule)?,
        };
        Some(Finding {
            domain,
            names: window.names.len() as u64,
            data_like: window.data_like as u64,
            bytes: window.bytes as u64,
            longest_label: window.longest_label as u64,
            entropy: whole.entropy,
            within: RULES[rule].within,
        })
    }

    fn measure(&self, text: &[u8], prefix: &[u8]) -> Measured {
        let bits = entropy(prefix);
        Measured {
            hash: self.key.hash_one(text),
            bytes: prefix.len(),
            longest_label: prefix.split(|byte| *byte == b'.').map(<[u8]>::len).max().unwrap_or(0),
            entropy: bits,
            data_like: prefix.len() >= DATA_LENGTH && bits >= DATA_ENTROPY,
        }
    }

    fn make_room(&mut self, now: Instant) {
        if self.domains.len() < MOST_DOMAINS {
            return;
        }
        self.domains.retain(|_, windows| {
            windows.iter().zip(&RULES).any(|(window, rule)| window.began + rule.within > now)
        });
        // Still full: the one with the fewest names is the least like a tunnel.
        while self.domains.len() >= MOST_DOMAINS {
            let least = self
                .domains
                .iter()
                .min_by_key(|(_, windows)| windows[1].names.len())
                .map(|(domain, _)| domain.clone());
            match least {
                Some(domain) => self.domains.remove(&domain),
                None => break,
            };
        }
    }
}

/// Adds a name to each window; which rule is broken, if one is.
fn add(windows: &mut [Window; 2], name: &Measured, times: usize, now: Instant) -> Option<usize> {
    let mut broken = None;
    for (number, (window, rule)) in windows.iter_mut().zip(&RULES).enumerate() {
        if window.names.is_empty() || now.saturating_duration_since(window.began) >= rule.within {
            *window = Window { began: now, ..Window::default() };
        }
        // Beyond what breaks the rule nothing more need be told apart.
        if window.names.len() <= rule.distinct * times && window.names.insert(name.hash) {
            window.bytes += name.bytes;
            window.data_like += usize::from(name.data_like);
            window.longest_label = window.longest_label.max(name.longest_label);
        }
        let too_many = window.data_like >= rule.data_like * times
            || window.bytes >= rule.bytes * times
            || window.names.len() >= rule.distinct * times;
        if too_many {
            broken = broken.or(Some(number));
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::super::dns;
    use super::super::dns::tests::message;
    use super::*;

    fn question(name: &str) -> Question {
        dns::parse(&message(false, name, &[])).unwrap().question
    }

    /// The first finding, and after how many names.
    fn first(names: impl Iterator<Item = String>, apart: Duration) -> Option<(usize, Finding)> {
        let (mut asked, mut now) = (Asked::default(), Instant::now());
        for (number, name) in names.enumerate() {
            if let Some(finding) = asked.ask(&question(&name), now) {
                return Some((number + 1, finding));
            }
            now += apart;
        }
        None
    }

    /// `number` in 32 hexadecimal digits that look random.
    fn data(number: u64) -> String {
        let mixed = |salt: u64| {
            (number + salt)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(23)
                .wrapping_mul(0xbf58_476d_1ce4_e5b9)
        };
        format!("{:016x}{:016x}", mixed(1), mixed(2))
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_tunnel_is_found_within_its_first_names() {
        let (after, finding) =
            first((0..).map(|number| format!("{}.t.example.net", data(number))), SECOND).unwrap();
        assert_eq!((after, finding.domain.as_str(), finding.data_like), (20, "*.example.net", 20));
        assert_eq!((finding.longest_label, finding.within.as_secs()), (32, 60));
        assert!(finding.entropy > 3.0);
    }

    #[test]
    fn slower_shorter_and_scattered_ones_are_found_later() {
        let slow = first((0..).map(|number| format!("{}.example.net", data(number))), 20 * SECOND).unwrap();
        assert_eq!((slow.0, slow.1.within.as_secs()), (100, 3600), "three a minute");
        let short = first((0..).map(|number| format!("{number}.example.net")), SECOND / 10).unwrap();
        assert_eq!(short.0, 250, "names too short to look like data, but many");
        let scattered = first((0..).map(|number| format!("www.{}.net", data(number))), SECOND / 10).unwrap();
        assert_eq!(scattered.1.domain, MANY_DOMAINS, "a domain of its own for each");
    }

    #[test]
    fn ordinary_names_are_no_tunnel() {
        let hosts = ["mirror", "api", "eu-central-1.storage", "login", "telemetry", "cdn-7"];
        let names = || (0..5000).map(|number| format!("{}.example{}.eu", hosts[number % 6], number % 9));
        assert_eq!(first(names(), SECOND / 100), None, "the same names again and again");
        let repeated = (0..5000).map(|number| format!("{}.example.net", data(number % 10)));
        assert_eq!(first(repeated, SECOND / 100), None, "ten long names, as content networks have");
    }

    #[test]
    fn memory_is_bounded() {
        let (mut asked, now) = (Asked::default(), Instant::now());
        for number in 0..20_000 {
            asked.ask(&question(&format!("a.example{number}.eu")), now);
            asked.ask(&question(&format!("{}.example.net", data(number))), now);
        }
        assert!(asked.domains.len() <= MOST_DOMAINS);
        let kept: usize = asked.domains.values().flatten().map(|window| window.names.len()).sum();
        assert!(kept < 10_000, "{kept}");
    }
}

//! Host names: what a DNS name, a TLS server name or an HTTP Host header must look like to be one, and how much of
//! it may be written down.

use std::net::IpAddr;

/// A host name: lower case, without a dot at the end, 1 to 253 bytes, labels of letters, digits, hyphens and
/// underscores (RFC 1123, and RFC 8552 for the underscore). Never an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName(String);

/// Longest name in text (RFC 1035, 2.3.4: 255 bytes on the wire).
const LONGEST: usize = 253;
/// A label longer than this is no name that a person gave.
const LONGEST_SHOWN_LABEL: usize = 24;
/// Bytes left of the registered domain that are shown.
const LONGEST_SHOWN_PREFIX: usize = 48;
/// A label or prefix shorter than this says too little to tell data from a name.
pub(super) const DATA_LENGTH: usize = 16;
/// Bits a byte: above it, text of [`DATA_LENGTH`] or more may be encoded data. English in hexadecimal digits comes to 2.9,
/// random ones to 3.3 and more, base32 to 3.6. Names that people give come as high: it takes many to be a tunnel.
pub(super) const DATA_ENTROPY: f64 = 2.8;
/// Digits that a person puts into a label.
const MOST_DIGITS: usize = 3;

/// Labels under which registries with two-letter country codes register (`example.co.uk`). Without the public suffix
/// list this is a rule of thumb: a name too many in a group makes an alert early, it hides nothing.
const REGISTRY_LABELS: [&str; 16] = [
    "ac", "co", "com", "edu", "go", "gob", "gov", "gouv", "gv", "ltd", "ne", "net", "nom", "or", "org", "plc",
];

impl HostName {
    /// Reads text such as a server name or a Host header without its port.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = text.strip_suffix(b".").unwrap_or(text);
        if text.is_empty() || text.len() > LONGEST || !text.split(|byte| *byte == b'.').all(is_label) {
            return None;
        }
        let text = String::from_utf8(text.to_ascii_lowercase()).ok()?;
        // 192.0.2.1, and what some resolvers take for an address: 0x7f.1, 2130706433.
        let last = text.rsplit('.').next().unwrap_or_default();
        let numeric = last.bytes().next().is_some_and(|byte| byte.is_ascii_digit());
        (!numeric && text.parse::<IpAddr>().is_err()).then_some(Self(text))
    }

    /// The part that somebody registered, by rule of thumb: the last two labels, three below `co.uk` and its like.
    #[must_use]
    pub fn registered(&self) -> &str {
        let labels: Vec<&str> = self.0.rsplit('.').collect();
        let count = match labels.as_slice() {
            [country, registry, _, ..] if country.len() == 2 && REGISTRY_LABELS.contains(registry) => 3,
            _ => 2,
        };
        let length: usize = labels.iter().take(count).map(|label| label.len() + 1).sum::<usize>() - 1;
        &self.0[self.0.len() - length..]
    }

    /// What is left of the registered domain; empty when nothing is.
    #[must_use]
    pub(super) fn prefix(&self) -> &str {
        let length = self.0.len() - self.registered().len();
        self.0[..length].trim_end_matches('.')
    }

    /// Whether data stands in the place of the registered domain.
    #[must_use]
    pub(super) fn is_registered_as_data(&self) -> bool {
        self.registered().split('.').any(may_carry_data)
    }

    /// The name as it may be written down: a label that may carry data is a `*`, and so is everything left of the
    /// registered domain when it is long.
    #[must_use]
    pub fn shown(&self) -> String {
        if self.prefix().len() > LONGEST_SHOWN_PREFIX {
            return self.shown_domain();
        }
        let mut shown: Vec<&str> = Vec::new();
        for label in self.0.split('.') {
            let label = if may_carry_data(label) { "*" } else { label };
            if label != "*" || shown.last() != Some(&"*") {
                shown.push(label);
            }
        }
        shown.join(".")
    }

    /// `*.` and the registered domain, as far as that carries no data itself.
    #[must_use]
    pub fn shown_domain(&self) -> String {
        let domain: Vec<&str> = self
            .registered()
            .split('.')
            .map(|label| if may_carry_data(label) { "*" } else { label })
            .collect();
        let domain = domain.join(".");
        if self.prefix().is_empty() || domain.starts_with('*') { domain } else { format!("*.{domain}") }
    }
}

fn is_label(label: &[u8]) -> bool {
    (1..=63).contains(&label.len())
        && label.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

fn may_carry_data(label: &str) -> bool {
    label.len() > LONGEST_SHOWN_LABEL
        || label.len() >= DATA_LENGTH && label.bytes().filter(u8::is_ascii_digit).count() > MOST_DIGITS
}

/// Shannon's, in bits a byte, of how often each byte occurs.
pub(super) fn entropy(bytes: &[u8]) -> f64 {
    let mut counts = [0_u16; 256];
    for byte in bytes.iter().take(usize::from(u16::MAX)) {
        counts[usize::from(*byte)] += 1;
    }
    let total: f64 = counts.iter().map(|count| f64::from(*count)).sum();
    counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| {
            let share = f64::from(*count) / total;
            -share * share.log2()
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> HostName {
        HostName::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_host_name_is_one_and_never_an_address() {
        for (text, expected, why) in [
            ("Mirror.Example.EU.", Some("mirror.example.eu"), "case and the root's dot make no difference"),
            ("_sip._tcp.example.eu", Some("_sip._tcp.example.eu"), "services"),
            ("localhost", Some("localhost"), "one label"),
            ("192.0.2.1", None, "an address"),
            ("0x7f.1", None, "an address to some"),
            ("example.123", None, "no top-level domain is a number"),
            ("", None, "empty"),
            (".", None, "the root"),
            ("a..b", None, "an empty label"),
            ("a b.example", None, "a space"),
            ("a\u{1b}[2J.example", None, "an escape"),
            ("münchen.example", None, "not in its ASCII form"),
        ] {
            assert_eq!(HostName::parse(text.as_bytes()).map(|name| name.0).as_deref(), expected, "{why}");
        }
        assert_eq!(HostName::parse(&[b'a'; 64]), None, "a label too long");
        assert_eq!(
            HostName::parse("a.".repeat(127).as_bytes()).map(|name| name.0.len()),
            Some(253),
            "the longest"
        );
        assert_eq!(HostName::parse("a.".repeat(128).as_bytes()), None, "longer");
    }

    #[test]
    fn the_registered_part_is_two_labels_or_three() {
        for (name, registered, prefix) in [
            ("a.b.example.eu", "example.eu", "a.b"),
            ("example.eu", "example.eu", ""),
            ("a.example.co.uk", "example.co.uk", "a"),
            ("example.co.uk", "example.co.uk", ""),
            ("co.uk", "co.uk", ""),
            ("localhost", "localhost", ""),
        ] {
            assert_eq!((host(name).registered(), host(name).prefix()), (registered, prefix), "{name}");
        }
    }

    #[test]
    fn what_may_carry_data_is_not_written_down() {
        let long = format!("{}.example.eu", "a".repeat(25));
        let deep = format!("{}example.eu", "ab.".repeat(20));
        for (name, shown, why) in [
            ("eu-central-1.mirror.example.eu", "eu-central-1.mirror.example.eu", "a name that a person gave"),
            ("4a6f686e20446f653a313233.t.example.eu", "*.t.example.eu", "hexadecimal"),
            (
                "jbswy3dpeblw64tmmqqhi2dj.jbswy3dpeblw64tmmqqhi2dj.t.example.eu",
                "*.example.eu",
                "base32, in two: long",
            ),
            (long.as_str(), "*.example.eu", "a long label"),
            (deep.as_str(), "*.example.eu", "many short ones"),
            ("a.4a6f686e20446f653a313233.eu", "a.*.eu", "in place of a registered domain"),
        ] {
            assert_eq!(host(name).shown(), shown, "{why}");
        }
        assert_eq!(host("a.b.example.eu").shown_domain(), "*.example.eu");
        assert_eq!(host("example.eu").shown_domain(), "example.eu");
    }
}

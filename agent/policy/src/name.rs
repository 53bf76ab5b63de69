//! The names that people give to regions, models, rules and masks.

use std::fmt;

/// A name from the config: lower-case letters, digits and hyphens, 1 to 63 bytes, starting with a letter
/// or a digit (the shape of a DNS label, RFC 1123, so that a name is safe in a journal field, a file name
/// and a metric label).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

/// A string that is not a [`Name`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a name has 1 to 63 lower-case letters, digits or hyphens and starts with a letter or a digit")]
pub struct InvalidName;

impl Name {
    /// Checks `text` and makes it a name.
    ///
    /// # Errors
    /// [`InvalidName`] when a byte is outside the allowed set or the length is outside 1 to 63.
    pub fn new(text: &str) -> Result<Self, InvalidName> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let bytes = text.as_bytes();
        if bytes.is_empty() || bytes.len() > 63 || bytes[0] == b'-' || !bytes.iter().copied().all(allowed) {
            return Err(InvalidName);
        }
        Ok(Self(text.to_owned()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl serde::Serialize for Name {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_dns_label() {
        for (text, valid, reason) in [
            ("llama", true, "letters"),
            ("7b", true, "starts with a digit"),
            ("a-b-", true, "hyphens after the first byte"),
            (&"a".repeat(63), true, "the longest"),
            (&"a".repeat(64), false, "too long"),
            ("", false, "empty"),
            ("-a", false, "starts with a hyphen"),
            ("Llama", false, "upper case"),
            ("a_b", false, "underscore"),
            ("a b", false, "blank"),
            ("a/b", false, "would be a path"),
            ("\u{e9}t\u{e9}", false, "not ASCII"),
            ("a\n", false, "would forge a journal field"),
        ] {
            assert_eq!(Name::new(text).is_ok(), valid, "{text:?}: {reason}");
        }
    }
}

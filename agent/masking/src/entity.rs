//! What can be found, what can be done about it, and what the config calls both.

use std::fmt;
use std::str::FromStr;

/// A kind of personal data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Entity {
    /// An email address: the practical part of RFC 5321 and RFC 5322, international domains included (RFC 6531).
    Email,
    /// An international bank account number: ISO 13616, lengths and shapes by country, check digits by mod 97.
    Iban,
    /// A payment card number: ISO/IEC 7812 issuer prefixes, 13 to 19 digits, Luhn check digit.
    Card,
}

impl Entity {
    /// Every entity; the order decides between matches of the same span.
    pub const ALL: &[Self] = &[Self::Email, Self::Iban, Self::Card];

    /// The name in the config, the audit trail and the placeholders.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Iban => "iban",
            Self::Card => "card",
        }
    }
}

/// What is done with a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// `[email]` in its place.
    Redact,
    /// `[email:9f3a…]` in its place: 12 hexadecimal digits of HMAC-SHA-256 over the canonical form, so that equal
    /// values stay equal under one key and nobody without the key can try a dictionary.
    Hash,
    /// Refuse the request, cut the answer.
    Block,
}

impl Action {
    /// Every action.
    pub const ALL: &[Self] = &[Self::Redact, Self::Hash, Self::Block];

    /// The name in the config.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Redact => "redact",
            Self::Hash => "hash",
            Self::Block => "block",
        }
    }
}

/// A name that is neither an entity nor an action. It does not carry the name: the caller has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown {kind}; known are {known}")]
pub struct UnknownName {
    kind: &'static str,
    known: &'static str,
}

impl FromStr for Entity {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        let unknown = UnknownName { kind: "entity", known: "email, iban, card" };
        Self::ALL.iter().copied().find(|entity| entity.as_str() == name).ok_or(unknown)
    }
}

impl FromStr for Action {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        let unknown = UnknownName { kind: "action", known: "redact, hash, block" };
        Self::ALL.iter().copied().find(|action| action.as_str() == name).ok_or(unknown)
    }
}

impl fmt::Display for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for entity in Entity::ALL {
            assert_eq!(entity.as_str().parse(), Ok(*entity));
        }
        for action in Action::ALL {
            assert_eq!(action.as_str().parse(), Ok(*action));
        }
    }

    #[test]
    fn unknown_names_are_refused_with_the_known_ones() {
        for name in ["", "Email", "e-mail", "card "] {
            let error = name.parse::<Entity>().unwrap_err().to_string();
            for entity in Entity::ALL {
                assert!(error.contains(entity.as_str()), "{error}");
            }
        }
        let error = "drop".parse::<Action>().unwrap_err().to_string();
        for action in Action::ALL {
            assert!(error.contains(action.as_str()), "{error}");
        }
    }
}

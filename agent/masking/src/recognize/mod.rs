//! The recognizers: one file an entity, one question each: does a match start exactly here?
//!
//! The contract that the stream's invariant stands on:
//!
//! * [`Answer::More`] is given only when the answer depends on characters beyond the end of the text, and never
//!   when the text is complete;
//! * any other answer is final: no continuation of the text would change it;
//! * an answer depends on at most [`LONGEST`] characters from the place asked about, and on the one before it.

mod card;
mod email;
mod iban;
mod token;

use crate::Entity;
use zeroize::Zeroizing;

/// The most canonical characters that a recognizer may read from the place it is asked about.
pub(crate) const LONGEST: usize = 512;

/// The text as far as it is known.
#[derive(Clone, Copy)]
pub(crate) struct Text<'a> {
    /// Canonical characters.
    pub(crate) chars: &'a [char],
    /// The canonical character before the first one.
    pub(crate) before: Option<char>,
    /// Nothing comes after.
    pub(crate) complete: bool,
}

impl Text<'_> {
    fn get(&self, index: usize) -> Option<char> {
        self.chars.get(index).copied()
    }

    fn previous(&self, index: usize) -> Option<char> {
        if index == 0 { self.before } else { self.get(index - 1) }
    }

    /// What to say at the end of the text: wait, unless nothing comes after.
    fn at_end(&self, otherwise: Answer) -> Answer {
        if self.complete { otherwise } else { Answer::More }
    }
}

/// Whether a match starts at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// No match starts here, nor at any place before `resume`.
    No { resume: usize },
    /// A match starts here and ends before `end`.
    Match { end: usize },
    /// It depends on what comes.
    More,
}

/// Asks the recognizer of an entity whether a match starts at `at`.
pub(crate) fn ask(entity: Entity, text: Text<'_>, at: usize) -> Answer {
    match entity {
        Entity::Email => email::at(text, at),
        Entity::Iban => iban::at(text, at),
        Entity::Card => card::at(text, at),
    }
}

/// The form under which equal values are equal, however they were written.
pub(crate) fn canonical(entity: Entity, matched: &[char]) -> Zeroizing<String> {
    Zeroizing::new(match entity {
        Entity::Email => email::canonical(matched),
        Entity::Iban => iban::canonical(matched),
        Entity::Card => card::canonical(matched),
    })
}

/// A set of entities.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Set(u8);

impl Set {
    pub(crate) fn with(self, entity: Entity) -> Self {
        Self(self.0 | bit(entity))
    }

    pub(crate) fn has(self, entity: Entity) -> bool {
        self.0 & bit(entity) != 0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

/// The entities that can start with a character: what makes one pass enough for all of them.
pub(crate) fn starting_with(c: char) -> Set {
    match STARTS.get(c as usize) {
        Some(set) => *set,
        None if email::is_local_start(c) => Set(bit(Entity::Email)),
        None => Set(0),
    }
}

const fn bit(entity: Entity) -> u8 {
    match entity {
        Entity::Email => 1,
        Entity::Iban => 2,
        Entity::Card => 4,
    }
}

const STARTS: [Set; 128] = {
    let mut table = [Set(0); 128];
    let mut c = 0u8;
    while c < 128 {
        let mut set = 0;
        if c.is_ascii_alphanumeric() {
            set |= bit(Entity::Email);
        }
        if c.is_ascii_alphabetic() {
            set |= bit(Entity::Iban);
        }
        if c.is_ascii_digit() {
            set |= bit(Entity::Card);
        }
        table[c as usize] = Set(set);
        c += 1;
    }
    table
};

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Every match in a whole text, as written.
    pub(crate) fn matches(entity: Entity, text: &str) -> Vec<String> {
        let chars: Vec<char> = text.chars().filter_map(crate::canonical::fold).collect();
        let whole = Text { chars: &chars, before: None, complete: true };
        let (mut found, mut at) = (Vec::new(), 0);
        while at < chars.len() {
            at = match ask(entity, whole, at) {
                Answer::Match { end } => {
                    found.push(chars[at..end].iter().collect());
                    end
                }
                Answer::No { .. } => at + 1,
                Answer::More => panic!("More in a complete text"),
            };
        }
        found
    }

    /// The contract: an answer on a part is the answer on the whole, `More` is bounded, `resume` skips no match.
    pub(crate) fn keeps_the_contract(entity: Entity, text: &str) {
        let chars: Vec<char> = text.chars().filter_map(crate::canonical::fold).collect();
        let ask_whole = |at| ask(entity, Text { chars: &chars, before: None, complete: true }, at);
        let wholes: Vec<Answer> = (0..chars.len()).map(ask_whole).collect();
        for (at, whole) in wholes.iter().copied().enumerate() {
            for cut in at..=chars.len() {
                let part = ask(entity, Text { chars: &chars[..cut], before: None, complete: false }, at);
                match (part, whole) {
                    (Answer::More, _) => assert!(cut - at <= LONGEST, "More after {} characters", cut - at),
                    (Answer::Match { end }, Answer::Match { end: last }) => assert_eq!(end, last),
                    (Answer::No { resume }, Answer::No { .. }) => {
                        let skipped = &wholes[at..resume.clamp(at, chars.len())];
                        let matches = skipped.iter().any(|answer| matches!(answer, Answer::Match { .. }));
                        assert!(!matches, "resume skips a match");
                    }
                    (part, whole) => panic!("{part:?} on a part, {whole:?} on the whole"),
                }
            }
        }
    }
}

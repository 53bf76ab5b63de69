//! One pass over canonical text: from left to right, all recognizers, up to where the text does not tell yet.

use crate::Entity;
use crate::recognize::{Answer, Set, Text, ask, starting_with};

/// A match: canonical characters `from..to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hit {
    pub(crate) entity: Entity,
    pub(crate) from: usize,
    pub(crate) to: usize,
}

/// Reports every match and returns the place up to which that is settled; on a complete text that is its end.
pub(crate) fn scan(text: Text<'_>, wanted: Set, hits: &mut Vec<Hit>) -> usize {
    let chars = text.chars;
    let mut at = 0;
    // Where each recognizer may next say something other than `No`.
    let mut resume = [0usize; Entity::ALL.len()];
    while at < chars.len() {
        let candidates = starting_with(chars[at]).and(wanted);
        if candidates.is_empty() {
            at += 1;
            continue;
        }
        let mut best: Option<Hit> = None;
        for (entity, resume) in Entity::ALL.iter().copied().zip(&mut resume) {
            if !candidates.has(entity) || *resume > at {
                continue;
            }
            match ask(entity, text, at) {
                Answer::More => return at,
                Answer::No { resume: later } => *resume = later,
                Answer::Match { end } if best.is_none_or(|hit| end > hit.to) => {
                    best = Some(Hit { entity, from: at, to: end });
                }
                Answer::Match { .. } => {}
            }
        }
        at = match best {
            Some(hit) => {
                hits.push(hit);
                hit.to
            }
            None => at + 1,
        };
    }
    at
}

//! Runs of base64 and hexadecimal: a value that was encoded to slip by.
//!
//! One level, in whole texts only: a run has no bounded length, so a channel could not wait for its end. A run that
//! decodes to text with a match is replaced whole. What decodes to something other than text is left alone.

use crate::canonical::View;
use crate::recognize::{Set, Text};
use crate::scan::{Hit, scan};
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Shorter runs are words.
pub(crate) const SHORTEST: usize = 12;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// A run `from..to` of canonical characters that decodes to text with matches.
pub(crate) struct Run {
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// The decoded text's canonical characters.
    pub(crate) decoded: View,
    /// The matches in it; at least one.
    pub(crate) hits: Vec<Hit>,
}

/// Whether a byte may stand in a run.
pub(crate) const fn is_coded(byte: u8) -> bool {
    CODED[byte as usize]
}

const CODED: [bool; 256] = {
    let mut coded = [false; 256];
    let mut byte = 0u8;
    while byte < 128 {
        coded[byte as usize] = byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_');
        byte += 1;
    }
    coded
};

/// Every run with a match.
pub(crate) fn runs(chars: &[char], wanted: Set) -> Vec<Run> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let in_run = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '-' | '_');
        let mut to = at + chars[at..].iter().take_while(|c| in_run(c)).count();
        if to - at >= SHORTEST {
            let coded: Vec<u8> = chars[at..to].iter().filter_map(|c| u8::try_from(*c).ok()).collect();
            to += chars[to..].iter().take(2).take_while(|c| **c == '=').count();
            found.extend(run(&coded, wanted).map(|(decoded, hits)| Run { from: at, to, decoded, hits }));
        }
        at = to.max(at + 1);
    }
    found
}

fn run(coded: &[u8], wanted: Set) -> Option<(View, Vec<Hit>)> {
    [hexadecimal(coded), base64(coded)].into_iter().flatten().find_map(|bytes| {
        if !is_text(&bytes) {
            return None;
        }
        let mut decoded = View::default();
        for c in String::from_utf8_lossy(&bytes).chars() {
            decoded.push(c, 0, 0);
        }
        let mut hits = Vec::new();
        scan(Text { chars: decoded.chars(), before: None, complete: true }, wanted, &mut hits);
        (!hits.is_empty()).then_some((decoded, hits))
    })
}

/// Whether nine of ten characters are some that a text has. Most runs are words, which decode to anything but that.
fn is_text(bytes: &[u8]) -> bool {
    let (mut all, mut odd) = (0, 0);
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            all += 1;
            odd += usize::from(c == char::REPLACEMENT_CHARACTER || c.is_control());
        }
        if !chunk.invalid().is_empty() {
            all += 1;
            odd += 1;
        }
    }
    odd * 10 <= all
}

fn base64(coded: &[u8]) -> Option<Vec<u8>> {
    let standard = |b: &u8| match b {
        b'-' => b'+',
        b'_' => b'/',
        other => *other,
    };
    let mut coded: Vec<u8> = coded.iter().map(standard).collect();
    if coded.len() % 4 == 1 {
        coded.pop();
    }
    BASE64.decode(coded).ok()
}

fn hexadecimal(coded: &[u8]) -> Option<Vec<u8>> {
    let value = |b: u8| char::from(b).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    coded.chunks_exact(2).map(|pair| Some(value(pair[0])? * 16 + value(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Entity;

    fn found(text: &str) -> Vec<String> {
        let chars: Vec<char> = text.chars().collect();
        let wanted = Entity::ALL.iter().fold(Set::default(), |set, entity| set.with(*entity));
        runs(&chars, wanted).iter().map(|run| chars[run.from..run.to].iter().collect()).collect()
    }

    #[test]
    fn encoded_values_are_found() {
        for (text, run, why) in [
            ("see YWxpY2VAZXhhbXBsZS5jb20= there", &["YWxpY2VAZXhhbXBsZS5jb20="][..], "base64"),
            ("YWxpY2VAZXhhbXBsZS5jb20", &["YWxpY2VAZXhhbXBsZS5jb20"], "without padding"),
            ("616c696365406578616d706c652e636f6d", &["616c696365406578616d706c652e636f6d"], "hexadecimal"),
            ("data:text/plain;base64,NDExMTExMTExMTExMTExMQ==", &["NDExMTExMTExMTExMTExMQ=="], "a data URL"),
            ("Donaudampfschifffahrtsgesellschaft", &[], "a long word"),
            ("bm90aGluZyB0byBzZWUgaGVyZQ==", &[], "nothing in it"),
            ("d2f1a8c09b7e4d35a6c1f0e29b8d7c64", &[], "a hash"),
        ] {
            assert_eq!(found(text), run, "{why}");
        }
    }
}

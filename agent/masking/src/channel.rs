//! The stream machine of one channel of text.

use crate::canonical::{Pushed, View, is_plain};
use crate::recognize::{LONGEST, Set, Text};
use crate::rules::Rules;
use crate::scan::scan;
use crate::{Findings, MaskError};
use std::fmt;
use zeroize::Zeroize;

/// The stream machine of one channel. Output for any cutting of the input equals the output for the whole.
///
/// Held: at most [`Channel::MOST_HELD`] bytes. After an error the channel gives that error for ever.
pub struct Channel {
    rules: Rules,
    wanted: Set,
    /// What is held, as it came.
    held: String,
    /// The same, canonical.
    view: View,
    /// The canonical character before it.
    before: Option<char>,
    failed: Option<MaskError>,
}

impl Channel {
    /// The most bytes a channel holds between two pushes: the longest match, every character of four bytes, with the most
    /// invisible characters (four bytes each) after each of them.
    pub const MOST_HELD: usize = LONGEST * 4 * (1 + crate::canonical::LONGEST_INVISIBLE as usize);

    pub(crate) fn new(rules: Rules) -> Self {
        let wanted = rules.wanted();
        Self { rules, wanted, held: String::new(), view: View::default(), before: None, failed: None }
    }

    /// Takes text, gives what may be released now.
    ///
    /// # Errors
    /// [`MaskError::Blocked`]
    pub fn push(&mut self, text: &str, findings: &mut Findings) -> Result<String, MaskError> {
        if self.wanted.is_empty() {
            return Ok(text.to_owned());
        }
        // In bounded steps, so that what is held stays small however long the text is.
        let mut released = String::with_capacity(self.held.len() + text.len());
        let mut rest = text;
        while !rest.is_empty() {
            let step = floor_char_boundary(rest, 64 * 1024);
            self.take(&rest[..step])?;
            self.release(false, &mut released, findings)?;
            rest = &rest[step..];
        }
        Ok(released)
    }

    /// The rest, at the end of the stream.
    ///
    /// # Errors
    /// [`MaskError::Blocked`]
    pub fn finish(&mut self, findings: &mut Findings) -> Result<String, MaskError> {
        let mut released = String::new();
        self.release(true, &mut released, findings)?;
        self.before = None;
        Ok(released)
    }

    /// How many bytes it holds.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    fn take(&mut self, text: &str) -> Result<(), MaskError> {
        if is_plain(text.as_bytes()) && !text.is_empty() {
            let start = offset(self.held.len())?;
            offset(self.held.len() + text.len())?;
            self.view.push_plain(text.as_bytes(), start);
            self.held.push_str(text);
            return Ok(());
        }
        for c in text.chars() {
            let start = offset(self.held.len())?;
            let end = offset(self.held.len() + c.len_utf8())?;
            match self.view.push(c, start, end) {
                Pushed::Kept => self.held.push(c),
                Pushed::Excess => {}
            }
        }
        Ok(())
    }

    fn release(
        &mut self,
        complete: bool,
        released: &mut String,
        findings: &mut Findings,
    ) -> Result<(), MaskError> {
        if let Some(failed) = self.failed {
            return Err(failed);
        }
        let chars = self.view.chars();
        let mut hits = Vec::new();
        let settled = scan(Text { chars, before: self.before, complete }, self.wanted, &mut hits);

        let mut copied = 0;
        for hit in hits {
            let (start, end) = (self.view.span(hit.from).0, self.view.span(hit.to - 1).1);
            released.push_str(&self.held[copied..start]);
            match self.rules.decide(hit.entity, &chars[hit.from..hit.to], findings) {
                Ok(placeholder) => released.push_str(&placeholder),
                Err(error) => return Err(self.fail(error)),
            }
            copied = end;
        }
        let end = if settled == chars.len() { self.held.len() } else { self.view.span(settled).0 };
        released.push_str(&self.held[copied..end]);

        self.before = if settled == 0 { self.before } else { Some(chars[settled - 1]) };
        self.view.drain(settled, offset(end)?);
        self.held.drain(..end);
        if self.view.chars().len() > LONGEST {
            return Err(self.fail(MaskError::Unreadable("text could not be masked within its bound")));
        }
        Ok(())
    }

    fn fail(&mut self, error: MaskError) -> MaskError {
        self.held.zeroize();
        self.view.clear();
        self.failed = Some(error);
        error
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("held_bytes", &self.held.len()).field("failed", &self.failed).finish()
    }
}

fn offset(bytes: usize) -> Result<u32, MaskError> {
    u32::try_from(bytes).map_err(|_| MaskError::Unreadable("text is longer than 4 GiB"))
}

fn floor_char_boundary(text: &str, most: usize) -> usize {
    if text.len() <= most {
        return text.len();
    }
    (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Action, Entity, Mask, Masker};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn masker(action: Action) -> Masker {
        Masker { masks: vec![Arc::new(Mask::new(Entity::ALL, &[], action, [7; 32]).unwrap())] }
    }

    /// What comes out when the text comes in pieces, with the findings.
    fn masked<'a>(
        action: Action,
        pieces: impl IntoIterator<Item = &'a str>,
    ) -> (Result<String, MaskError>, Findings) {
        let mut channel = masker(action).channel();
        let (mut out, mut findings) = (String::new(), Findings::default());
        for piece in pieces {
            match channel.push(piece, &mut findings) {
                Ok(released) => out.push_str(&released),
                Err(error) => return (Err(error), findings),
            }
            assert!(channel.held() <= Channel::MOST_HELD, "holds {} bytes", channel.held());
        }
        (channel.finish(&mut findings).map(|rest| out + &rest), findings)
    }

    fn one_by_one(text: &str) -> Vec<&str> {
        text.split_inclusive(|_: char| true).collect()
    }

    /// The text cut at the characters that the places (thousandths of its length) point at.
    fn cut<'a>(text: &'a str, places: &[usize]) -> Vec<&'a str> {
        let mut at: Vec<usize> = places.iter().map(|place| place * text.len() / 1000).collect();
        at.iter_mut().for_each(|place| *place = floor_char_boundary(text, *place));
        at.extend([0, text.len()]);
        at.sort_unstable();
        at.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect()
    }

    #[test]
    fn text_comes_out_masked_however_it_is_cut() {
        let long = format!("{}@example.com.", "a".repeat(80));
        let long_masked = format!("{}[email].", "a".repeat(16));
        for (text, expected) in [
            ("", ""),
            ("Hello, world", "Hello, world"),
            ("to alice@example.com, now", "to [email], now"),
            ("alice@example.com", "[email]"),
            ("DE89 3704 0044 0532 0130 00 and 4111-1111-1111-1111!", "[iban] and [card]!"),
            ("4111 1111 1111 1112", "4111 1111 1111 1112"),
            ("14111111111111111", "14111111111111111"),
            ("a\u{200b}@\u{200b}b.io\u{200b} 👩\u{200d}👧", "[email]\u{200b} 👩\u{200d}👧"),
            ("a\0@\u{1b}b.io 41\u{3164}11 1111 1111 1111\u{7}", "[email] [card]\u{7}"),
            ("世界 a@b.io 世界", "世界 [email] 世界"),
            ("alice%40example.com 100%", "[email] 100%"),
            (&long, &long_masked),
        ] {
            assert_eq!(masked(Action::Redact, [text]).0.as_deref(), Ok(expected));
            assert_eq!(masked(Action::Redact, one_by_one(text)).0.as_deref(), Ok(expected), "one by one");
        }
    }

    #[test]
    fn invisible_characters_cannot_stretch_what_is_held() {
        let text = format!("a@b{}.io", "\u{200b}".repeat(100_000));
        assert_eq!(masked(Action::Redact, one_by_one(&text)).0.as_deref(), Ok("[email]"));
        let text = format!("x{}y", "\u{200b}".repeat(100_000));
        let expected = format!("x{}y", "\u{200b}".repeat(32));
        assert_eq!(masked(Action::Redact, [&*text]).0.as_deref(), Ok(&*expected));
    }

    #[test]
    fn words_are_released_when_they_end() {
        let mut channel = masker(Action::Redact).channel();
        let mut findings = Findings::default();
        for (piece, released) in
            [("Hello", ""), (" wor", "Hello "), ("ld.", ""), (" ", "world. "), ("12", "")]
        {
            assert_eq!(channel.push(piece, &mut findings).unwrap(), released);
        }
        assert_eq!(channel.finish(&mut findings).unwrap(), "12");
    }

    #[test]
    fn a_block_stays() {
        let mut channel = masker(Action::Block).channel();
        let mut findings = Findings::default();
        assert_eq!(channel.push("to ", &mut findings).unwrap(), "to ");
        let blocked = Err(MaskError::Blocked(Entity::Email));
        assert_eq!(channel.push("a@b.io and ", &mut findings), blocked);
        assert_eq!(channel.push("more", &mut findings), blocked);
        assert_eq!(channel.finish(&mut findings), blocked);
        assert_eq!(findings.entities[&Entity::Email], 1);
    }

    #[test]
    fn without_masks_text_passes_at_once() {
        let mut channel = Masker::default().channel();
        assert_eq!(channel.push("alice@exam", &mut Findings::default()).unwrap(), "alice@exam");
    }

    /// Texts rich in matches, near-matches, and matches at boundaries.
    fn rich() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            prop::sample::select(vec![
                "alice@example.com",
                "o'brien@mail.example.co.uk",
                "用户@例子.公司",
                "ａ＠ｂ．ｉｏ",
                "a@[192.0.2.1]",
                "x%40y.io",
                "x&#64;y.io",
                "x\\u0040y&period;io",
                "DE89370400440532013000",
                "DE89 3704 0044 0532 0130 00",
                "de 89 37",
                "GB29 NWBK 6016 1331 9268 19",
                "NO9386011117947",
                "4111111111111111",
                "4111 1111 1111 1111",
                "4222222222222",
                "378282246310005",
                "4111-1111-1111-1112",
                "DE89370400440532013001",
                "a@b",
                "@",
                "%4",
                "%20",
                "&#",
                "\\u00",
                ".",
                "-",
                " ",
                "  ",
                "+",
                "\u{200b}",
                "\u{ad}",
                "\u{a0}",
                "👩\u{200d}👧",
                "世界",
                "é",
                "e\u{301}",
                "١٢",
                "be 20 ",
                "1",
                "12",
                "4",
                "com",
                "DE",
                "[",
                "]",
                "_",
                "'",
                "\n",
            ])
            .prop_map(str::to_owned),
            "[a-zA-Z0-9@.% +-]{0,12}",
            "[a-z]{50,70}",
            "[0-9]{10,25}",
            ".{0,8}",
        ];
        prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn output_does_not_depend_on_the_cuts(text in rich(), places in prop::collection::vec(0usize..1000, 0..12)) {
            let whole = masked(Action::Redact, [&*text]);
            prop_assert_eq!(&masked(Action::Redact, cut(&text, &places)), &whole);
            prop_assert_eq!(&masked(Action::Redact, one_by_one(&text)), &whole);
            prop_assert_eq!(&masked(Action::Hash, one_by_one(&text)), &masked(Action::Hash, [&*text]));
            let blocks = masked(Action::Block, cut(&text, &places)).0.is_err();
            prop_assert_eq!(blocks, !whole.1.is_empty());
        }

        #[test]
        fn nothing_but_matches_changes(text in rich()) {
            let (out, findings) = masked(Action::Redact, [&*text]);
            if findings.is_empty() {
                prop_assert_eq!(out.unwrap(), text);
            }
        }

        #[test]
        fn planted_values_never_come_out(before in rich(), after in rich(), places in prop::collection::vec(0usize..1000, 0..12)) {
            for value in ["zoe.q@example.org", "5555-5555-5555-4444", "FR14 2004 1010 0505 0001 3M02 606"] {
                let text = format!("{before}, {value}, {after}");
                let out = masked(Action::Redact, cut(&text, &places)).0.unwrap();
                prop_assert!(!out.contains(value), "{}", out);
            }
        }
    }
}

//! A look at the bytes of a string before anything is made of it: most strings hold nothing, and that shows at a glance.
//!
//! It errs on one side only: what it says cannot be there is not there. Whatever it is not sure of goes the whole way, through
//! the canonical form and all recognizers.

use crate::Entity;
use crate::bytes::{any, find};
use crate::canonical::{is_plain, is_plain_byte};
use crate::encoded::{self, is_coded};
use crate::recognize::{Answer, LONGEST, Set, Text, ask};

/// What a look at a text or at a JSON string as written tells.
pub(crate) struct Look {
    /// Plain ASCII without escapes: characters are bytes.
    pub(crate) simple: bool,
    /// The entities that may be in it.
    pub(crate) possible: Set,
    /// There is a run that may be encoded.
    pub(crate) coded: bool,
}

impl Look {
    pub(crate) fn at(raw: &[u8], wanted: Set) -> Self {
        let simple = is_plain(raw) && !any(raw, |byte| byte == b'\\');
        if !simple && !is_inert(raw) {
            return Self { simple, possible: wanted, coded: true };
        }
        let mut possible = numbers(raw, wanted);
        if wanted.has(Entity::Email) && has_at_sign(raw) {
            possible = possible.with(Entity::Email);
        }
        Self { simple, possible, coded: has_run(raw) }
    }

    /// There is nothing that a mask would change.
    pub(crate) fn shows_nothing(&self) -> bool {
        self.possible.is_empty() && !self.coded
    }
}

/// Whether what is not plain in a text cannot be a part of a number, a sign or a run: escapes of white space and quotes, and
/// letters and quotes that have no other form. Most texts of most languages are that.
fn is_inert(raw: &[u8]) -> bool {
    let mut rest = raw;
    while let Some(at) = find(rest, |byte| (byte == b'\\') | !is_plain_byte(byte)) {
        rest = match &rest[at..] {
            [b'\\', b'n' | b'r' | b't' | b'"', rest @ ..] => rest,
            // The combining grapheme joiner shows nothing.
            [0xcd, 0x8f, ..] => return false,
            // Latin, Greek and Cyrillic letters, U+00C0 to U+04FF.
            [0xc3..=0xd3, _, rest @ ..] => rest,
            // Quotes, U+2018 to U+201F, and the ellipsis.
            [0xe2, 0x80, 0x98..=0x9f | 0xa6, rest @ ..] => rest,
            // CJK ideographs, U+4000 to U+9FFF.
            [0xe4..=0xe9, _, _, rest @ ..] => rest,
            _ => return false,
        };
    }
    true
}

/// Whether an `@` may stand there: itself, percent-encoded (`%40`) or as an HTML reference (`&#64;`, `&#x40;`, `&commat;`).
fn has_at_sign(raw: &[u8]) -> bool {
    any(raw, |byte| (byte == b'@') | (byte == b'%') | (byte == b'&'))
        && raw.windows(2).any(|pair| matches!(pair, [b'@', _] | [b'%', b'4'] | [b'&', b'#' | b'c' | b'C']))
}

/// What numbers there are, of those that are wanted: each place where one may begin is shown to its recognizer.
fn numbers(raw: &[u8], wanted: Set) -> Set {
    let mut found = Set::default();
    let mut at = 0;
    // A card begins with a digit. An account begins with two letters; behind them is a digit, or a separator of one byte and a
    // digit, or a separator that is written in another way (`%20`, `&nbsp;`).
    let next = |at: usize| find(&raw[at..], |b| b.is_ascii_digit() | (b == b'%') | (b == b'&'));
    while let Some(here) = next(at).map(|next| at + next) {
        let digits = raw[here..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        at = here + digits.max(1);
        let account = match &raw[..here] {
            [.., a, b] if a.is_ascii_alphabetic() && b.is_ascii_alphabetic() => Some(here - 2),
            [.., a, b, _] if a.is_ascii_alphabetic() && b.is_ascii_alphabetic() => Some(here - 3),
            _ => None,
        };
        let card = (digits > 0).then_some(here);
        for (entity, start) in [(Entity::Iban, account), (Entity::Card, card)] {
            if let Some(start) = start.filter(|_| wanted.has(entity) && !found.has(entity))
                && may_start(entity, raw, start)
            {
                found = found.with(entity);
            }
        }
    }
    found
}

fn may_start(entity: Entity, raw: &[u8], start: usize) -> bool {
    // Few characters are enough for most, and an answer to those is final.
    let answer = match ask_about::<48>(entity, raw, start) {
        Answer::More => ask_about::<LONGEST>(entity, raw, start),
        answer => answer,
    };
    !matches!(answer, Answer::No { .. })
}

/// Asks a recognizer about a place, showing it no more than so many characters.
fn ask_about<const MOST: usize>(entity: Entity, raw: &[u8], start: usize) -> Answer {
    let part = &raw[start..raw.len().min(start + MOST)];
    let character = |byte: u8| if byte.is_ascii() { char::from(byte) } else { char::REPLACEMENT_CHARACTER };
    let mut chars = ['\0'; MOST];
    chars.iter_mut().zip(part).for_each(|(c, byte)| *c = character(*byte));
    let before = match &raw[..start] {
        [.., b'\\', _] => Some(' '),
        before => before.last().map(|byte| character(*byte)),
    };
    let complete = start + part.len() == raw.len();
    ask(entity, Text { chars: &chars[..part.len()], before, complete }, 0)
}

/// Whether a run is long enough to be something encoded. Looked for from its end, so that most bytes are passed over.
fn has_run(raw: &[u8]) -> bool {
    let mut end = encoded::SHORTEST;
    while let Some(run) = raw.get(end - encoded::SHORTEST..end) {
        match run.iter().rposition(|byte| !is_coded(*byte)) {
            None => return true,
            Some(other) => end += other + 1,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical::View;
    use crate::json;
    use crate::scan::scan;
    use crate::{Action, Findings, Mask, Masker};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn all() -> Set {
        Entity::ALL.iter().copied().fold(Set::default(), Set::with)
    }

    #[test]
    fn a_look_tells_what_may_be_there() {
        let set = |entities: &[Entity]| entities.iter().copied().fold(Set::default(), Set::with);
        for (text, simple, possible, coded, why) in [
            ("", true, &[][..], false, "nothing"),
            ("revenue grew by 12 percent in 2024", true, &[], false, "ordinary numbers"),
            ("100% of it, R&D", true, &[], false, "signs that are no at sign"),
            ("alice@example.com", true, &[Entity::Email], false, "an at sign"),
            ("alice%40example.com", true, &[Entity::Email], false, "percent-encoded"),
            ("a&commat;b.io a&#64;b.io", true, &[Entity::Email], false, "HTML references"),
            ("pay DE89 3704 0044 0532 0130 00", true, &[Entity::Iban], false, "an account"),
            ("pay DE 89 37 04 00 44 05 32 01 30 00", true, &[Entity::Iban], false, "odd groups"),
            (
                "pay DE&#160;89370400440532013000 now",
                true,
                &[Entity::Email, Entity::Iban],
                true,
                "a space as a reference",
            ),
            ("DE&nbsp;89370400440532013000", true, &[Entity::Iban], true, "another"),
            ("de&#XA0;89370400440532013000", true, &[Entity::Email, Entity::Iban], true, "and another"),
            ("DE%2D89370400440532013000", true, &[Entity::Iban], true, "a hyphen, percent-encoded"),
            ("pay DE89 3704 0044 0532 0130 01", true, &[], false, "its check fails"),
            ("4111 1111 1111 1111", true, &[Entity::Card], false, "a card"),
            ("4111 1111 1111 1112", true, &[], false, "its check fails"),
            ("4111111111111111", true, &[Entity::Card], true, "a card, which is a run as well"),
            ("word-word-word", true, &[], true, "a run"),
            ("0123456789_ 0123456789_", true, &[], false, "too short by one"),
            (r#"\na\tb \"c\"\r"#, false, &[], false, "escapes of white space and quotes"),
            (
                "\\nDE 89 37 04 00 44 05 32 01 30 00",
                false,
                &[Entity::Iban],
                false,
                "an account on a line of its own",
            ),
            (
                "gr\u{fc}n, \u{434}\u{430}, \u{4f60}\u{597d} \u{201c}ja\u{201d}\u{2026}",
                false,
                &[],
                false,
                "letters and quotes",
            ),
            ("\u{4f60}4111111111111111\u{597d}", false, &[Entity::Card], true, "a card among them"),
            ("a\\u0040b.io", false, Entity::ALL, true, "another escape"),
            ("a\\\\u0040b.io", false, Entity::ALL, true, "an escape within"),
            ("YWxp\\/ZUBl", false, Entity::ALL, true, "a slash may be a part of a run"),
            ("4111\u{2013}1111", false, Entity::ALL, true, "a dash may be a separator"),
            ("4\u{34f}1", false, Entity::ALL, true, "what shows nothing"),
            ("\u{ff20}", false, Entity::ALL, true, "a sign of full width"),
        ] {
            let look = Look::at(format!("\"{text}\"").as_bytes(), all());
            assert!(look.simple == simple && look.coded == coded && look.possible == set(possible), "{why}");
        }
        assert!(Look::at(b"\"a@b.io\"", Set::default()).possible.is_empty(), "what is not wanted");
    }

    const VALUES: &[&str] = &[
        "alice@example.com",
        "a%40b.io",
        "DE89370400440532013000",
        "gb29nwbk60161331926819",
        "4111111111111111",
    ];
    /// Encoded: found in whole texts only.
    const ENCODED: &[&str] = &[
        "YWxpY2VAZXhhbXBsZS5jb20",
        "YWxpYUBiLmlv",
        "YXNrID8/PyBhQGIuaW8",
        "616c696365406578616d706c652e636f6d",
        "alice\\u0040example.com",
    ];

    /// One of these values, here and there with something between its characters.
    fn spaced(values: &[&'static str]) -> impl Strategy<Value = String> + use<> {
        let between = [
            " ", "-", "  ", "\n", "\t", "\"", "\\", "/", ".", "%20", "%2d", "&nbsp;", "&#160;", "&#xA0;",
            "\u{ad}", "\u{a0}", "\u{e9}", "\u{34f}", "\u{436}", "\u{661}", "\u{2013}", "\u{2019}",
            "\u{2026}", "\u{4e2d}", "\u{ff0d}",
        ];
        let somewhere = prop::collection::btree_map(0usize..34, prop::sample::select(between.to_vec()), 0..9);
        (prop::sample::select(values.to_vec()), somewhere).prop_map(|(value, between)| {
            let spaced =
                value.chars().enumerate().map(|(at, c)| format!("{}{c}", between.get(&at).unwrap_or(&"")));
            spaced.collect()
        })
    }

    proptest! {
        #[test]
        fn what_is_there_is_never_overlooked(
            pieces in prop::collection::vec(prop_oneof![
                "[ -~]{0,14}",
                "[A-Za-z0-9+/_ -]{0,30}",
                "[a\n\"\\\\\u{c0}\u{34f}\u{3b1}\u{4ff}\u{661}\u{2013}\u{2019}\u{3002}\u{4e2d}\u{ff11}]{0,3}",
                spaced(&[VALUES, ENCODED].concat()),
            ], 0..6),
            slash in prop::sample::select(vec!["/", "\\/"]),
        ) {
            let raw = json::quote(&pieces.concat()).replace('/', slash);
            let look = Look::at(raw.as_bytes(), all());
            let mut view = View::default();
            json::characters(raw.as_bytes()).for_each(|(c, ..)| { view.push(c, 0, 0); });
            view.unescape();
            let mut hits = Vec::new();
            scan(Text { chars: view.chars(), before: None, complete: true }, all(), &mut hits);
            for hit in hits {
                prop_assert!(look.possible.has(hit.entity), "{} in {}", hit.entity, raw);
            }
            prop_assert!(look.coded || encoded::runs(view.chars(), all()).is_empty(), "{}", raw);
        }

        #[test]
        fn a_whole_text_is_masked_as_a_stream_of_it_is(
            pieces in prop::collection::vec(prop_oneof!["[a-z0-9,. ]{0,9}", "[\n\u{e9}\u{2019}\u{4e2d}]", spaced(VALUES)], 0..6),
        ) {
            let text = pieces.join(" ");
            let mask = Mask::new(Entity::ALL, &[], Action::Redact, [7; 32]).unwrap();
            let masker = Masker { masks: vec![Arc::new(mask)] };
            let mut channel = masker.channel();
            let mut streamed = channel.push(&text, &mut Findings::default()).unwrap();
            streamed.push_str(&channel.finish(&mut Findings::default()).unwrap());
            prop_assert_eq!(masker.text(&text, &mut Findings::default()).unwrap(), streamed);
        }
    }
}

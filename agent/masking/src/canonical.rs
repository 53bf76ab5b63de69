//! The canonical form: what a reader sees, character by character, with a map back to the bytes it came from.
//!
//! Folding is a function of one character, without context, so that it cannot depend on where the text was cut. It
//! covers what is used to slip a value past a filter: full-width and mathematical letters and digits, digits of other
//! scripts, the dots of IDNA, unusual spaces and dashes, and characters that show nothing at all.

use crate::bytes::any;

/// A run of characters that show nothing is cut to this many. Nobody writes more, and without a limit they could make a
/// match longer than any bound.
pub(crate) const LONGEST_INVISIBLE: u32 = 32;

/// Canonical characters and, for each, the bytes `start..end` of the text it came from.
#[derive(Default)]
pub(crate) struct View {
    chars: Vec<char>,
    spans: Vec<(u32, u32)>,
    invisible: u32,
}

/// What [`View::push`] did with a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It stays in the text (whether or not it shows).
    Kept,
    /// One invisible character too many: the caller takes it out of the text.
    Excess,
}

impl View {
    pub(crate) fn chars(&self) -> &[char] {
        &self.chars
    }

    /// Where in the text the canonical character at `index` starts and ends.
    pub(crate) fn span(&self, index: usize) -> (usize, usize) {
        let (start, end) = self.spans[index];
        (start as usize, end as usize)
    }

    pub(crate) fn clear(&mut self) {
        self.chars.clear();
        self.spans.clear();
        self.invisible = 0;
    }

    /// Takes one character that came from the bytes `start..end`.
    pub(crate) fn push(&mut self, c: char, start: u32, end: u32) -> Pushed {
        match fold(c) {
            Some(folded) => {
                self.chars.push(folded);
                self.spans.push((start, end));
                self.invisible = 0;
                Pushed::Kept
            }
            None if self.invisible == LONGEST_INVISIBLE => Pushed::Excess,
            None => {
                self.invisible += 1;
                Pushed::Kept
            }
        }
    }

    /// Takes characters that are all [`is_plain`], the first of which came from the byte at `start`.
    pub(crate) fn push_plain(&mut self, text: &[u8], start: u32) {
        if let Some(end) = u32::try_from(text.len()).ok().and_then(|length| start.checked_add(length)) {
            self.chars.extend(text.iter().map(|byte| char::from(*byte)));
            self.spans.extend((start..end).map(|at| (at, at + 1)));
            self.invisible = 0;
        }
    }

    /// Takes each `\uXXXX` for the character it stands for. It needs the whole text, so it is nothing for a channel.
    pub(crate) fn unescape(&mut self) {
        const LENGTH: usize = 6;
        let (mut from, mut to) = (0, 0);
        while from < self.chars.len() {
            let escaped = self.chars.get(from..from + LENGTH).and_then(unescaped);
            let length = if escaped.is_some() { LENGTH } else { 1 };
            if let Some(c) = fold(escaped.unwrap_or(self.chars[from])) {
                self.chars[to] = c;
                self.spans[to] = (self.spans[from].0, self.spans[from + length - 1].1);
                to += 1;
            }
            from += length;
        }
        self.chars.truncate(to);
        self.spans.truncate(to);
    }

    /// Forgets the first `count` characters and the first `bytes` bytes of the text.
    pub(crate) fn drain(&mut self, count: usize, bytes: u32) {
        self.chars.drain(..count);
        self.spans.drain(..count);
        for (start, end) in &mut self.spans {
            *start -= bytes;
            *end -= bytes;
        }
    }
}

fn unescaped(escape: &[char]) -> Option<char> {
    let code = escape.strip_prefix(&['\\', 'u'])?;
    char::from_u32(code.iter().try_fold(0, |number, digit| Some(number * 16 + digit.to_digit(16)?))?)
}

/// Whether text stands for itself: ASCII that shows, and the white space that lays it out.
pub(crate) fn is_plain(text: &[u8]) -> bool {
    !any(text, |byte| !is_plain_byte(byte))
}

/// The same of a byte.
pub(crate) const fn is_plain_byte(byte: u8) -> bool {
    ((byte >= b' ') & (byte <= b'~')) | (byte == b'\t') | (byte == b'\n') | (byte == b'\r')
}

/// The canonical form of one character; `None` when it shows nothing.
pub(crate) fn fold(c: char) -> Option<char> {
    let code = u32::from(c);
    match code {
        0x09 | 0x0a | 0x0d | 0x20..=0x7e => Some(c),
        // Control characters but the line break.
        0..=0x1f | 0x7f..=0x84 | 0x86..=0x9f => None,
        // Unicode's Default_Ignorable_Code_Point: soft hyphen, joiners, fillers, zero-width, directional marks, variation
        // selectors, byte order mark, shorthand and musical controls, tags; and the interlinear marks.
        0xad | 0x34f | 0x61c | 0x115f | 0x1160 | 0x17b4 | 0x17b5 | 0x180b..=0x180f | 0x200b..=0x200f => None,
        0x202a..=0x202e | 0x2060..=0x206f | 0x3164 | 0xfe00..=0xfe0f | 0xfeff | 0xffa0 | 0xfff0..=0xfffb => {
            None
        }
        0x1bca0..=0x1bca3 | 0x1d173..=0x1d17a | 0xe0000..=0xe0fff => None,
        0xff01..=0xff5e => char::from_u32(code - 0xff01 + 0x21),
        // Full stops that IDNA reads as a label separator, and small forms.
        0x3002 | 0xff61 | 0xfe52 | 0x2024 => Some('.'),
        0xfe6b => Some('@'),
        0xa0 | 0x1680 | 0x2000..=0x200a | 0x202f | 0x205f | 0x3000 => Some(' '),
        0x2010..=0x2015 | 0x2043 | 0x2212 | 0xfe58 | 0xfe63 => Some('-'),
        0x1d400..=0x1d6a3 => Some(letter(code - 0x1d400)),
        0x1d7ce..=0x1d7ff => Some(digit((code - 0x1d7ce) % 10)),
        _ => Some(decimal(code).map_or(c, digit)),
    }
}

/// Mathematical letters come as A–Z, a–z, over and over, one style after another.
fn letter(offset: u32) -> char {
    let index = u8::try_from(offset % 52).unwrap_or(0);
    char::from(if index < 26 { b'A' + index } else { b'a' + index - 26 })
}

fn digit(value: u32) -> char {
    char::from_digit(value, 10).unwrap_or('0')
}

/// Decimal digits of other scripts, and superscript and subscript ones.
fn decimal(code: u32) -> Option<u32> {
    const ZEROS: &[u32] = &[
        0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xe50, 0xed0,
        0xf20, 0x1040, 0x17e0, 0x1810, 0x2080, 0x1fbf0,
    ];
    match code {
        0xb2 | 0xb3 => Some(code - 0xb0),
        0xb9 => Some(1),
        0x2070 | 0x2074..=0x2079 => Some(code - 0x2070),
        _ => ZEROS.iter().find(|zero| (**zero..**zero + 10).contains(&code)).map(|zero| code - zero),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(text: &str) -> String {
        text.chars().filter_map(fold).collect()
    }

    #[test]
    fn what_looks_alike_folds_to_ascii() {
        for (text, canonical, why) in [
            ("alice@example.com", "alice@example.com", "ASCII is itself"),
            ("ａｌｉｃｅ＠ｅｘａｍｐｌｅ．ｃｏｍ", "alice@example.com", "full-width forms"),
            ("example。com｡x﹒y", "example.com.x.y", "IDNA's dots and the small one"),
            ("al\u{200b}i\u{ad}c\u{2060}e\u{feff}", "alice", "characters that show nothing"),
            ("al\u{3164}i\u{115f}c\u{17b4}e\u{ffa0}\u{1d173}", "alice", "fillers, which show nothing either"),
            ("al\0i\u{8}c\u{7f}e\u{9b}\t\r\n", "alice\t\r\n", "control characters but line breaks and tabs"),
            ("4111\u{a0}1111\u{2009}1111\u{202f}1111", "4111 1111 1111 1111", "unusual spaces"),
            ("4111‐1111–1111−1111", "4111-1111-1111-1111", "unusual dashes"),
            ("𝟒𝟏𝟏𝟏 𝐚𝒃", "4111 ab", "mathematical letters and digits"),
            ("٤١١١ ४१ ⁴¹₁₁", "4111 41 4111", "digits of other scripts, super- and subscripts"),
            ("Grüße, 世界 é", "Grüße, 世界 é", "everything else is itself"),
        ] {
            assert_eq!(folded(text), canonical, "{why}");
        }
    }

    #[test]
    fn long_runs_of_nothing_are_cut() {
        let mut view = View::default();
        let kept = (0..100).filter(|i| view.push('\u{200b}', i * 3, i * 3 + 3) == Pushed::Kept).count();
        assert_eq!(kept, LONGEST_INVISIBLE as usize);
        assert_eq!(view.push('a', 300, 301), Pushed::Kept);
        assert_eq!(view.push('\u{200b}', 301, 304), Pushed::Kept, "a character that shows starts a new run");
    }
}

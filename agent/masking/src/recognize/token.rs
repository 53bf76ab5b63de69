//! Signs that are written in more than one way: `@`, `.` and the separators within numbers.

use super::Text;

/// Whether a sign stands at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// It does not.
    No,
    /// It does, this many characters long.
    Length(usize),
    /// The text ends within what may be the sign.
    More,
}

/// How a sign may be written. No spelling is the beginning of another, so at most one stands at a place.
struct Sign {
    spellings: &'static [&'static str],
    /// What any of them starts with; most characters are told by this alone.
    first: [bool; 128],
}

impl Sign {
    const fn new(spellings: &'static [&'static str]) -> Self {
        let mut first = [false; 128];
        let mut i = 0;
        while i < spellings.len() {
            first[spellings[i].as_bytes()[0] as usize] = true;
            i += 1;
        }
        Self { spellings, first }
    }
}

static AT: Sign = Sign::new(&["@", "%40", "\\u0040", "&#64;", "&#x40;", "&commat;"]);
static DOT: Sign = Sign::new(&[".", "%2e", "\\u002e", "&#46;", "&#x2e;", "&period;"]);
static SEPARATOR: Sign = Sign::new(&[" ", "-", "%20", "%2d", "&nbsp;", "&#160;", "&#xa0;"]);

pub(super) fn at_sign(text: Text<'_>, at: usize) -> Token {
    find(&AT, text, at)
}

pub(super) fn dot(text: Text<'_>, at: usize) -> Token {
    find(&DOT, text, at)
}

pub(super) fn separator(text: Text<'_>, at: usize) -> Token {
    find(&SEPARATOR, text, at)
}

#[inline]
fn find(sign: &Sign, text: Text<'_>, at: usize) -> Token {
    match text.get(at) {
        Some(first) if sign.first.get(first as usize) == Some(&true) => spelled(sign, text, at),
        None if !text.complete => Token::More,
        Some(_) | None => Token::No,
    }
}

/// Case does not count.
fn spelled(sign: &Sign, text: Text<'_>, at: usize) -> Token {
    let mut answer = Token::No;
    for spelling in sign.spellings {
        let matching = spelling
            .chars()
            .zip(&text.chars[at..])
            .take_while(|(expected, c)| c.eq_ignore_ascii_case(expected))
            .count();
        if matching == spelling.len() {
            return Token::Length(matching);
        }
        if at + matching == text.chars.len() && !text.complete {
            answer = Token::More;
        }
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings() {
        for (sign, expected) in [
            ("@", Token::Length(1)),
            ("%40x", Token::Length(3)),
            ("\\U0040", Token::Length(6)),
            ("&#64;", Token::Length(5)),
            ("&#X40;", Token::Length(6)),
            ("%4", Token::More),
            ("&#", Token::More),
            ("", Token::More),
            ("%41", Token::No),
            ("a", Token::No),
        ] {
            let chars: Vec<char> = sign.chars().collect();
            assert_eq!(at_sign(Text { chars: &chars, before: None, complete: false }, 0), expected, "{sign}");
            if expected == Token::More {
                assert_eq!(
                    at_sign(Text { chars: &chars, before: None, complete: true }, 0),
                    Token::No,
                    "{sign}"
                );
            }
        }
    }
}

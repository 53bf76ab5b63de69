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

const AT: &[&str] = &["@", "%40", "\\u0040", "&#64;", "&#x40;", "&commat;"];
const DOT: &[&str] = &[".", "%2e", "\\u002e", "&#46;", "&#x2e;", "&period;"];
const SEPARATOR: &[&str] = &[" ", "-", "%20", "%2d", "&nbsp;", "&#160;", "&#xa0;"];

/// What any spelling starts with; most characters are told by this alone.
const FIRST: [bool; 128] = {
    let mut first = [false; 128];
    let signs = b"@. -%\\&";
    let mut i = 0;
    while i < signs.len() {
        first[signs[i] as usize] = true;
        i += 1;
    }
    first
};

pub(super) fn at_sign(text: Text<'_>, at: usize) -> Token {
    one_of(AT, text, at)
}

pub(super) fn dot(text: Text<'_>, at: usize) -> Token {
    one_of(DOT, text, at)
}

pub(super) fn separator(text: Text<'_>, at: usize) -> Token {
    one_of(SEPARATOR, text, at)
}

/// No spelling is the beginning of another, so at most one stands at a place. Case does not count.
fn one_of(spellings: &[&str], text: Text<'_>, at: usize) -> Token {
    let Some(first) = text.get(at) else {
        return if text.complete { Token::No } else { Token::More };
    };
    if !(first.is_ascii() && FIRST[first as usize]) {
        return Token::No;
    }
    let mut answer = Token::No;
    for spelling in spellings {
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

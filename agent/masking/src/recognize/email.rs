//! Email addresses: what people write of RFC 5321, RFC 5322 and RFC 6531.
//!
//! The part before the `@` starts with a letter or a digit and has at most 64 characters; letters of any script
//! count. Scripts that are written without spaces (Chinese, Japanese, Thai …) have no end of a word to wait for, so there it
//! is at most 16 characters, and does not mix with others. The domain has at least two labels (RFC 1035 lengths), its last
//! one starts with a letter; or it is an address literal in brackets. Quoted parts before the `@` are not seen.

use super::token::{Token, at_sign, dot};
use super::{Answer, Text};

const LONGEST_LOCAL: usize = 64;
const LONGEST_UNSPACED: usize = 16;
const LONGEST_DOMAIN: usize = 255;
const LONGEST_LABEL: usize = 63;
const LONGEST_LITERAL: usize = 48;

pub(super) fn at(text: Text<'_>, at: usize) -> Answer {
    let Some(first) = text.get(at) else {
        return text.at_end(Answer::No { resume: at + 1 });
    };
    if !is_local_start(first) {
        return Answer::No { resume: at + 1 };
    }
    let unspaced = is_unspaced(first);
    let longest = if unspaced { LONGEST_UNSPACED } else { LONGEST_LOCAL };

    let mut position = at;
    loop {
        // A sign further away than the limit belongs to a later start, the first that is near enough.
        let reachable = position - at <= longest;
        let too_far = Answer::No { resume: (at + 1).max(position.saturating_sub(longest)) };
        let Some(c) = text.get(position) else {
            return if reachable { text.at_end(Answer::No { resume: position }) } else { too_far };
        };
        match at_sign(text, position) {
            Token::Length(_) | Token::More if !reachable => return too_far,
            Token::More => return Answer::More,
            Token::Length(length) => match domain(text, position + length) {
                Answer::No { .. } => {}
                found => return found,
            },
            Token::No => {}
        }
        if !is_local(c) || (is_unspaced(c) != unspaced && c.is_alphanumeric()) {
            return Answer::No { resume: position.max(at + 1) };
        }
        position += 1;
    }
}

pub(super) fn canonical(matched: &[char]) -> String {
    let text = Text { chars: matched, before: None, complete: true };
    let (mut form, mut position) = (String::new(), 0);
    while let Some(c) = text.get(position) {
        position += match (at_sign(text, position), dot(text, position)) {
            (Token::Length(length), _) => {
                form.push('@');
                length
            }
            (_, Token::Length(length)) => {
                form.push('.');
                length
            }
            (Token::No | Token::More, Token::No | Token::More) => {
                form.extend(c.to_lowercase());
                1
            }
        };
    }
    form
}

/// A domain from `start` on.
fn domain(text: Text<'_>, start: usize) -> Answer {
    if text.get(start) == Some('[') {
        return literal(text, start);
    }
    let mut found = Answer::No { resume: start };
    let (mut position, mut dots) = (start, 0);
    while position - start <= LONGEST_DOMAIN {
        let label = position;
        let mut script_changes = false;
        let mut ends_with_hyphen = false;
        loop {
            let Some(c) = text.get(position) else {
                if text.complete {
                    break;
                }
                return Answer::More;
            };
            if !is_label(c) || position - label > LONGEST_LABEL {
                break;
            }
            // "me@example.com谢谢": the text goes on without a space, the domain does not.
            if dots > 0 && is_unspaced(c) && text.get(label).is_some_and(|first| first.is_ascii()) {
                script_changes = true;
                break;
            }
            ends_with_hyphen = c == '-';
            position += 1;
        }
        let end = trim_hyphens(text, label, position);
        if end == label || end - label > LONGEST_LABEL || text.get(label) == Some('-') {
            return found;
        }
        if dots > 0 && end - label >= 2 && text.get(label).is_some_and(char::is_alphabetic) {
            found = Answer::Match { end };
        }
        if script_changes || ends_with_hyphen {
            return found;
        }
        match dot(text, position) {
            Token::Length(length) => position += length,
            Token::More => return Answer::More,
            Token::No => return found,
        }
        dots += 1;
    }
    found
}

fn trim_hyphens(text: Text<'_>, label: usize, mut end: usize) -> usize {
    while end > label && text.get(end - 1) == Some('-') {
        end -= 1;
    }
    end
}

/// `[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321, 4.1.3).
fn literal(text: Text<'_>, start: usize) -> Answer {
    let no = Answer::No { resume: start };
    for position in start + 1..=start + LONGEST_LITERAL {
        match text.get(position) {
            None => return text.at_end(no),
            Some(']') if position > start + 1 => return Answer::Match { end: position + 1 },
            Some(c) if c.is_ascii_alphanumeric() || c == '.' || c == ':' || c == '-' => {}
            Some(_) => return no,
        }
    }
    no
}

pub(super) fn is_local_start(c: char) -> bool {
    c.is_alphanumeric()
}

/// Signs that RFC 5322 also allows but that stand around addresses far more often (`/ = ? { | } & \``) end it.
fn is_local(c: char) -> bool {
    match LOCAL.get(c as usize) {
        Some(local) => *local,
        None => c.is_alphanumeric() || is_combining(c),
    }
}

const LOCAL: [bool; 128] = {
    let mut local = [false; 128];
    let signs = b"._-+%'!#$*^~";
    let mut c = 0u8;
    while c < 128 {
        local[c as usize] = c.is_ascii_alphanumeric();
        c += 1;
    }
    let mut i = 0;
    while i < signs.len() {
        local[signs[i] as usize] = true;
        i += 1;
    }
    local
};

fn is_label(c: char) -> bool {
    c == '-' || c.is_ascii_alphanumeric() || (!c.is_ascii() && (c.is_alphanumeric() || is_combining(c)))
}

fn is_combining(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}')
}

/// Scripts that put no space between words.
fn is_unspaced(c: char) -> bool {
    !c.is_ascii()
        && matches!(c, '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{2e80}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7af}' | '\u{f900}'..='\u{faff}' | '\u{ff66}'..='\u{ff9f}' | '\u{20000}'..='\u{3ffff}')
}

#[cfg(test)]
mod tests {
    use super::super::tests::{keeps_the_contract, matches};
    use crate::Entity::Email;

    #[test]
    fn emails() {
        let long = format!("{}@example.com", "a".repeat(70));
        for (text, found, why) in [
            ("alice@example.com", &["alice@example.com"][..], "plain"),
            (
                "Mail alice.b+tag@mail.example.co.uk.",
                &["alice.b+tag@mail.example.co.uk"],
                "a full stop after",
            ),
            ("<alice@example.com>", &["alice@example.com"], "brackets"),
            ("mailto:alice@example.com?subject=x", &["alice@example.com"], "a link"),
            ("email=alice@example.com&x=1", &["alice@example.com"], "a form"),
            ("'alice@example.com'", &["alice@example.com"], "quotes"),
            ("o'brien@example.com", &["o'brien@example.com"], "an apostrophe within"),
            ("alice%40example.com", &["alice%40example.com"], "percent-encoded"),
            ("alice%2Bx%40example%2Ecom", &["alice%2Bx%40example%2Ecom"], "percent-encoded throughout"),
            ("alice\\u0040example.com", &["alice\\u0040example.com"], "escaped as in JSON"),
            ("alice&#64;example.com", &["alice&#64;example.com"], "an HTML reference"),
            ("alice＠example．com", &["alice@example.com"], "full-width signs"),
            ("al\u{200b}ice@exam\u{ad}ple.com", &["alice@example.com"], "characters that show nothing"),
            ("jürgen@müller.example", &["jürgen@müller.example"], "letters beyond ASCII"),
            (
                "ju\u{308}rgen@mu\u{308}ller.example",
                &["ju\u{308}rgen@mu\u{308}ller.example"],
                "combining marks",
            ),
            ("用户@例子.公司", &["用户@例子.公司"], "Chinese"),
            ("请联系alice@example.com谢谢。再见", &["alice@example.com"], "within Chinese text"),
            ("почта@пример.рф", &["почта@пример.рф"], "Cyrillic"),
            ("a@xn--bcher-kva.example", &["a@xn--bcher-kva.example"], "an A-label"),
            ("a@[192.0.2.1] b@[IPv6:2001:db8::1]", &["a@[192.0.2.1]", "b@[IPv6:2001:db8::1]"], "literals"),
            ("a@b.io,c@d.io;e@f.io", &["a@b.io", "c@d.io", "e@f.io"], "three"),
            ("a@b@c.io", &["b@c.io"], "the first has no domain"),
            ("x-4111111111111111@example.com", &["x-4111111111111111@example.com"], "digits"),
            ("alice@example.com-", &["alice@example.com"], "a hyphen after"),
            (
                "alice@example.c1x alice@example.com.7",
                &["alice@example.c1x", "alice@example.com"],
                "digits in labels",
            ),
            (&long, &[&long[6..]], "too long: what is near enough to the sign"),
            ("alice@localhost", &[], "one label"),
            ("user@10.0.0.1", &[], "an address is not a domain name"),
            ("react@18.2.0", &[], "a version"),
            ("@example.com", &[], "nothing before"),
            ("alice@ example.com", &[], "a space"),
            ("alice@.com alice@-x.com", &[], "an empty label, a leading hyphen"),
            ("100% @home. 5%4", &[], "signs alone"),
        ] {
            assert_eq!(matches(Email, text), found, "{why}: {text}");
            keeps_the_contract(Email, text);
        }
    }

    #[test]
    fn near_the_bounds() {
        for text in [
            format!("{}@{}.example.com", "a".repeat(64), "b".repeat(63)),
            format!("{}@{}.example.com", "a".repeat(65), "b".repeat(64)),
            format!("a@{}com", "abcdefg.".repeat(40)),
            format!("{}@例子.公司", "用".repeat(20)),
            format!("{}--_--%40--------------@b.io", "用".repeat(20)),
            "a%40".repeat(40),
            "a.".repeat(100),
        ] {
            keeps_the_contract(Email, &text);
        }
    }

    #[test]
    fn one_form_however_written() {
        for text in
            ["alice@example.com", "ALICE@Example.COM", "alice%40example%2Ecom", "alice&#64;example.com"]
        {
            let chars: Vec<char> = text.chars().collect();
            assert_eq!(super::canonical(&chars), "alice@example.com");
        }
    }
}

//! Payment card numbers: ISO/IEC 7812.
//!
//! 13 to 19 digits, single spaces or hyphens between them, an issuer's prefix, Luhn's check digit. A number does not
//! start or end within a longer run of digits. More than eight groups are taken for a list of numbers, unless every
//! digit stands alone (a number that is spelled out). After a `+`, up to 15 digits are a telephone number (E.164).

use super::token::{Token, separator};
use super::{Answer, Text};

const MOST: usize = 19;
const LEAST: usize = 13;
const MOST_GROUPS: usize = 8;
const LONGEST_TELEPHONE: usize = 15;

pub(super) fn at(text: Text<'_>, at: usize) -> Answer {
    let no = Answer::No { resume: at + 1 };
    let before = text.previous(at);
    if before.is_some_and(|c| c.is_ascii_digit()) {
        return no;
    }
    let least = if before == Some('+') { LONGEST_TELEPHONE + 1 } else { LEAST };

    let mut digits = [0u8; MOST];
    let (mut count, mut groups, mut position) = (0, 1, at);
    let mut found = no;
    loop {
        let Some(c) = text.get(position) else {
            if !text.complete {
                return Answer::More;
            }
            if is_card(&digits[..count], groups, least) {
                found = Answer::Match { end: position };
            }
            return found;
        };
        if let Some(digit) = value(c) {
            if count == MOST {
                return found;
            }
            digits[count] = digit;
            count += 1;
            position += 1;
            continue;
        }
        // The end of a group: the number may end here, or go on after a separator.
        if count == 0 {
            return found;
        }
        if is_card(&digits[..count], groups, least) {
            found = Answer::Match { end: position };
        }
        position += match separator(text, position) {
            Token::Length(length) => length,
            Token::More => return Answer::More,
            Token::No => return found,
        };
        match text.get(position) {
            Some(next) if next.is_ascii_digit() => groups += 1,
            Some(_) => return found,
            None => return text.at_end(found),
        }
    }
}

pub(super) fn canonical(matched: &[char]) -> String {
    // An encoded separator (`%20`, `&#160;`) has digits of its own.
    let text = Text { chars: matched, before: None, complete: true };
    let (mut form, mut position) = (String::new(), 0);
    while let Some(c) = text.get(position) {
        match separator(text, position) {
            Token::Length(length) => position += length,
            Token::No | Token::More => {
                form.push(c);
                position += 1;
            }
        }
    }
    form
}

fn value(c: char) -> Option<u8> {
    c.to_digit(10).and_then(|digit| u8::try_from(digit).ok())
}

fn is_card(digits: &[u8], groups: usize, least: usize) -> bool {
    digits.len() >= least
        && (groups <= MOST_GROUPS || groups == digits.len())
        && issuer(digits)
        && luhn(digits)
}

/// Prefixes in use, as ranges of the first six digits, with the lengths that they come in.
const ISSUERS: &[(u32, u32, usize, usize)] = &[
    (220_000, 220_499, 16, 19), // Mir
    (222_100, 272_099, 16, 16), // Mastercard
    (300_000, 305_999, 14, 19), // Diners Club
    (309_500, 309_599, 14, 19), // Diners Club
    (340_000, 349_999, 15, 15), // American Express
    (352_800, 358_999, 16, 19), // JCB
    (360_000, 369_999, 14, 19), // Diners Club
    (370_000, 379_999, 15, 15), // American Express
    (380_000, 399_999, 14, 19), // Diners Club
    (400_000, 499_999, 13, 19), // Visa
    (500_000, 509_999, 13, 19), // Maestro, Elo, RuPay, Verve
    (510_000, 559_999, 16, 16), // Mastercard
    (560_000, 599_999, 13, 19), // Maestro
    (600_000, 699_999, 13, 19), // Discover, UnionPay, Maestro, RuPay, Hipercard
    (810_000, 819_999, 16, 19), // UnionPay, RuPay
    (979_200, 979_299, 16, 16), // Troy
];

fn issuer(digits: &[u8]) -> bool {
    let prefix = digits.iter().take(6).fold(0u32, |number, digit| number * 10 + u32::from(*digit));
    ISSUERS.iter().any(|(from, to, least, most)| {
        (*from..=*to).contains(&prefix) && (*least..=*most).contains(&digits.len())
    })
}

/// ISO/IEC 7812-1, annex B: every second digit from the right is doubled, digits are summed.
fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let weighted = u32::from(*digit) * if place % 2 == 1 { 2 } else { 1 };
            if weighted > 9 { weighted - 9 } else { weighted }
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{keeps_the_contract, matches};
    use crate::Entity::Card;

    #[test]
    fn cards() {
        for (text, found, why) in [
            ("4111111111111111", &["4111111111111111"][..], "Visa, 16 digits"),
            ("4222222222222", &["4222222222222"], "Visa, 13 digits"),
            ("378282246310005", &["378282246310005"], "American Express"),
            ("3782 822463 10005", &["3782 822463 10005"], "American Express's own groups"),
            ("30569309025904", &["30569309025904"], "Diners Club"),
            ("6011111111111117", &["6011111111111117"], "Discover"),
            ("3530111333300000", &["3530111333300000"], "JCB"),
            ("5555555555554444", &["5555555555554444"], "Mastercard"),
            ("2223003122003222", &["2223003122003222"], "Mastercard's newer range"),
            ("6200000000000005", &["6200000000000005"], "UnionPay"),
            ("4111-1111-1111-1111.", &["4111-1111-1111-1111"], "hyphens, a full stop after"),
            ("4111 1111 1111 1111 12/27", &["4111 1111 1111 1111"], "an expiry date after"),
            ("4111%201111%201111%201111", &["4111%201111%201111%201111"], "percent-encoded spaces"),
            ("4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1", &["4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1"], "spelled out"),
            ("x4111111111111111x", &["4111111111111111"], "letters do not hide it"),
            ("5 4111111111111111", &["4111111111111111"], "a number before it"),
            ("4111111111111111,5555555555554444", &["4111111111111111", "5555555555554444"], "two"),
            ("４１１１ １１１１ １１１１ １１１１", &["4111 1111 1111 1111"], "full-width digits"),
            ("4111111111111112", &[], "the check digit is wrong"),
            ("1111111111111117", &[], "no issuer has this prefix"),
            ("14111111111111111", &[], "within a longer run of digits"),
            ("41111111111111111", &[], "one digit too many"),
            ("4111  1111  1111  1111", &[], "two spaces are not one separator"),
            ("4 15 6 70 8 9 10 11 12 13 14 15 16", &[], "a list of numbers"),
            ("+4915123456782", &[], "a telephone number"),
            ("+4111111111111111", &["4111111111111111"], "longer than any telephone number"),
            ("0000000000000000", &[], "zeros pass Luhn, but have no issuer"),
        ] {
            assert_eq!(matches(Card, text), found, "{why}: {text}");
            keeps_the_contract(Card, text);
        }
    }

    #[test]
    fn one_form_however_written() {
        for text in ["4111111111111111", "4111-1111 1111-1111", "4111%201111&#160;1111 1111"] {
            let chars: Vec<char> = text.chars().collect();
            assert_eq!(super::canonical(&chars), "4111111111111111");
        }
    }
}

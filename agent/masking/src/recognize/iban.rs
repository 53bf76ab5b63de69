//! International bank account numbers: ISO 13616, with the shapes of SWIFT's registry.
//!
//! A country's code, two check digits, and the country's own part in its own shape; the whole is 1 modulo 97 (ISO 7064).
//! Upper or lower case; groups of four or none, anywhere in the text. Other groupings count when the number stands on
//! its own and most of it is digits; otherwise ordinary words would make one by chance.

use super::token::{Token, separator};
use super::{Answer, Text};

const GROUP: usize = 4;
const MOST: usize = 34;

pub(super) fn at(text: Text<'_>, at: usize) -> Answer {
    let no = Answer::No { resume: at + 1 };
    let (Some(first), Some(second)) = (text.get(at), text.get(at + 1)) else {
        return text.at_end(no);
    };
    let Some(shape) = shape(first, second) else {
        return no;
    };

    // Most words that start like a country end here.
    if text.get(at + 2).is_some_and(|c| c.is_alphabetic()) {
        return no;
    }

    let mut number = [0u8; MOST];
    let (mut length, mut position) = (0, at);
    let (mut digits, mut grouped) = (0, true);
    for kind in shape_kinds(shape) {
        // At most one separator between two characters.
        if length > 1 {
            match separator(text, position) {
                Token::Length(skipped) => {
                    grouped &= length % GROUP == 0;
                    position += skipped;
                }
                Token::More => return Answer::More,
                Token::No => {}
            }
        }
        let Some(c) = text.get(position) else {
            return text.at_end(no);
        };
        if !kind.admits(c) {
            return no;
        }
        number[length] = u8::try_from(c.to_ascii_uppercase()).unwrap_or(0);
        digits += usize::from(c.is_ascii_digit());
        length += 1;
        position += 1;
    }

    let alone = !text.previous(at).is_some_and(char::is_alphanumeric);
    let plausible = grouped || (alone && digits * 2 >= length);
    if plausible && mod_97(&number[..length]) == 1 { Answer::Match { end: position } } else { no }
}

pub(super) fn canonical(matched: &[char]) -> String {
    let text = Text { chars: matched, before: None, complete: true };
    let (mut form, mut position) = (String::new(), 0);
    while let Some(c) = text.get(position) {
        match separator(text, position) {
            Token::Length(length) => position += length,
            Token::No | Token::More => {
                form.push(c.to_ascii_uppercase());
                position += 1;
            }
        }
    }
    form
}

/// ISO 7064, MOD 97-10, over the number with its first four characters moved to the end; letters count from A = 10.
fn mod_97(number: &[u8]) -> u32 {
    let (head, tail) = number.split_at(GROUP.min(number.len()));
    tail.iter().chain(head).fold(0, |rest, c| {
        let value = char::from(*c).to_digit(36).unwrap_or(0);
        (rest * if value > 9 { 100 } else { 10 } + value) % 97
    })
}

#[derive(Clone, Copy)]
enum Kind {
    Digit,
    Letter,
    Either,
}

impl Kind {
    fn admits(self, c: char) -> bool {
        match self {
            Self::Digit => c.is_ascii_digit(),
            Self::Letter => c.is_ascii_alphabetic(),
            Self::Either => c.is_ascii_alphanumeric(),
        }
    }
}

/// The kinds of an IBAN's characters one by one, country code and check digits included.
fn shape_kinds(shape: Shape) -> impl Iterator<Item = Kind> {
    let own = shape.1.iter().flat_map(|(count, kind)| std::iter::repeat_n(*kind, *count));
    [Kind::Letter, Kind::Letter, Kind::Digit, Kind::Digit].into_iter().chain(own)
}

type Shape = &'static (&'static str, &'static [(usize, Kind)]);

fn shape(first: char, second: char) -> Option<Shape> {
    let place = |c: char| c.is_ascii_alphabetic().then(|| c.to_ascii_uppercase() as usize - 'A' as usize);
    match INDEX[place(first)? * 26 + place(second)?] {
        0 => None,
        index => SHAPES.get(usize::from(index) - 1),
    }
}

/// Two letters to their place in [`SHAPES`], from 1; 0 is no country.
const INDEX: [u8; 26 * 26] = {
    let mut index = [0; 26 * 26];
    let mut i = 0u8;
    while (i as usize) < SHAPES.len() {
        let code = SHAPES[i as usize].0.as_bytes();
        index[(code[0] - b'A') as usize * 26 + (code[1] - b'A') as usize] = i + 1;
        i += 1;
    }
    index
};

use Kind::{Digit as N, Either as C, Letter as A};

/// The country's own part (BBAN): how many characters of which kind.
const SHAPES: &[(&str, &[(usize, Kind)])] = &[
    ("AD", &[(8, N), (12, C)]),
    ("AE", &[(19, N)]),
    ("AL", &[(8, N), (16, C)]),
    ("AT", &[(16, N)]),
    ("AZ", &[(4, A), (20, C)]),
    ("BA", &[(16, N)]),
    ("BE", &[(12, N)]),
    ("BG", &[(4, A), (6, N), (8, C)]),
    ("BH", &[(4, A), (14, C)]),
    ("BI", &[(23, N)]),
    ("BR", &[(23, N), (1, A), (1, C)]),
    ("BY", &[(4, C), (4, N), (16, C)]),
    ("CH", &[(5, N), (12, C)]),
    ("CR", &[(18, N)]),
    ("CY", &[(8, N), (16, C)]),
    ("CZ", &[(20, N)]),
    ("DE", &[(18, N)]),
    ("DJ", &[(23, N)]),
    ("DK", &[(14, N)]),
    ("DO", &[(4, C), (20, N)]),
    ("EE", &[(16, N)]),
    ("EG", &[(25, N)]),
    ("ES", &[(20, N)]),
    ("FI", &[(14, N)]),
    ("FK", &[(2, A), (12, N)]),
    ("FO", &[(14, N)]),
    ("FR", &[(10, N), (11, C), (2, N)]),
    ("GB", &[(4, A), (14, N)]),
    ("GE", &[(2, A), (16, N)]),
    ("GI", &[(4, A), (15, C)]),
    ("GL", &[(14, N)]),
    ("GR", &[(7, N), (16, C)]),
    ("GT", &[(4, C), (20, C)]),
    ("HN", &[(4, A), (20, N)]),
    ("HR", &[(17, N)]),
    ("HU", &[(24, N)]),
    ("IE", &[(4, A), (14, N)]),
    ("IL", &[(19, N)]),
    ("IQ", &[(4, A), (15, N)]),
    ("IS", &[(22, N)]),
    ("IT", &[(1, A), (10, N), (12, C)]),
    ("JO", &[(4, A), (4, N), (18, C)]),
    ("KW", &[(4, A), (22, C)]),
    ("KZ", &[(3, N), (13, C)]),
    ("LB", &[(4, N), (20, C)]),
    ("LC", &[(4, A), (24, C)]),
    ("LI", &[(5, N), (12, C)]),
    ("LT", &[(16, N)]),
    ("LU", &[(3, N), (13, C)]),
    ("LV", &[(4, A), (13, C)]),
    ("LY", &[(21, N)]),
    ("MC", &[(10, N), (11, C), (2, N)]),
    ("MD", &[(2, C), (18, C)]),
    ("ME", &[(18, N)]),
    ("MK", &[(3, N), (10, C), (2, N)]),
    ("MN", &[(16, N)]),
    ("MR", &[(23, N)]),
    ("MT", &[(4, A), (5, N), (18, C)]),
    ("MU", &[(4, A), (19, N), (3, A)]),
    ("NI", &[(4, A), (20, N)]),
    ("NL", &[(4, A), (10, N)]),
    ("NO", &[(11, N)]),
    ("OM", &[(3, N), (16, C)]),
    ("PK", &[(4, A), (16, C)]),
    ("PL", &[(24, N)]),
    ("PS", &[(4, A), (21, C)]),
    ("PT", &[(21, N)]),
    ("QA", &[(4, A), (21, C)]),
    ("RO", &[(4, A), (16, C)]),
    ("RS", &[(18, N)]),
    ("RU", &[(14, N), (15, C)]),
    ("SA", &[(2, N), (18, C)]),
    ("SC", &[(4, A), (20, N), (3, A)]),
    ("SD", &[(14, N)]),
    ("SE", &[(20, N)]),
    ("SI", &[(15, N)]),
    ("SK", &[(20, N)]),
    ("SM", &[(1, A), (10, N), (12, C)]),
    ("SO", &[(19, N)]),
    ("ST", &[(21, N)]),
    ("SV", &[(4, A), (20, N)]),
    ("TL", &[(19, N)]),
    ("TN", &[(20, N)]),
    ("TR", &[(6, N), (16, C)]),
    ("UA", &[(6, N), (19, C)]),
    ("VA", &[(18, N)]),
    ("VG", &[(4, A), (16, N)]),
    ("XK", &[(16, N)]),
    ("YE", &[(4, A), (4, N), (18, C)]),
];

#[cfg(test)]
mod tests {
    use super::super::tests::{keeps_the_contract, matches};
    use crate::Entity::Iban;

    #[test]
    fn ibans() {
        for (text, found, why) in [
            ("DE89370400440532013000", &["DE89370400440532013000"][..], "Germany"),
            ("DE89 3704 0044 0532 0130 00", &["DE89 3704 0044 0532 0130 00"], "groups of four"),
            ("de89 3704 0044 0532 0130 00", &["de89 3704 0044 0532 0130 00"], "lower case"),
            (
                "GB29 NWBK 6016 1331 9268 19",
                &["GB29 NWBK 6016 1331 9268 19"],
                "letters in the country's own part",
            ),
            ("FR1420041010050500013M02606", &["FR1420041010050500013M02606"], "a letter among digits"),
            ("NO9386011117947", &["NO9386011117947"], "the shortest"),
            ("MT84MALT011000012345MTLCAST001S", &["MT84MALT011000012345MTLCAST001S"], "31 characters"),
            ("NL91ABNA0417164300", &["NL91ABNA0417164300"], "the Netherlands"),
            ("CH9300762011623852957", &["CH9300762011623852957"], "Switzerland"),
            ("AT611904300234573201", &["AT611904300234573201"], "Austria"),
            ("ES9121000418450200051332", &["ES9121000418450200051332"], "Spain"),
            ("IT60X0542811101000000123456", &["IT60X0542811101000000123456"], "Italy"),
            ("BE68539007547034", &["BE68539007547034"], "Belgium"),
            ("PL61109010140000071219812874", &["PL61109010140000071219812874"], "Poland"),
            ("IBAN:DE89370400440532013000.", &["DE89370400440532013000"], "signs around it"),
            ("IBANDE89370400440532013000x", &["DE89370400440532013000"], "letters around it do not hide it"),
            (
                "DE 89 37 04 00 44 05 32 01 30 00",
                &["DE 89 37 04 00 44 05 32 01 30 00"],
                "odd groups, all digits",
            ),
            (
                "DE89%203704%200044%200532%200130%2000",
                &["DE89%203704%200044%200532%200130%2000"],
                "percent-encoded",
            ),
            ("ＤＥ８９３７０４００４４０５３２０１３０００", &["DE89370400440532013000"], "full-width"),
            ("DE89370400440532013001", &[], "the check fails"),
            ("DE8937040044053201300", &[], "too short"),
            ("ZZ89370400440532013000", &[], "no such country"),
            ("DE8937040044053201300O", &[], "a letter where Germany has digits"),
            ("be 20 minutes late, at 12 noon", &[], "words"),
        ] {
            assert_eq!(matches(Iban, text), found, "{why}: {text}");
            keeps_the_contract(Iban, text);
        }
    }

    #[test]
    fn one_form_however_written() {
        for text in
            ["DE89370400440532013000", "de89 3704-0044 0532 0130 00", "DE89%203704 0044&nbsp;0532013000"]
        {
            let chars: Vec<char> = text.chars().collect();
            assert_eq!(super::canonical(&chars), "DE89370400440532013000");
        }
    }

    #[test]
    fn shapes_are_within_the_standard_and_sorted() {
        for pair in super::SHAPES.windows(2) {
            assert!(pair[0].0 < pair[1].0, "{} before {}", pair[0].0, pair[1].0);
        }
        for (code, parts) in super::SHAPES {
            let own: usize = parts.iter().map(|(count, _)| count).sum();
            assert!((11..=super::MOST - 4).contains(&own), "{code}");
        }
    }
}

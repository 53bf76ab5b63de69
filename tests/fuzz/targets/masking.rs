//! Any text, cut anywhere: a channel gives what it gives for the whole; JSON stays JSON, and what is masked once has
//! nothing left to mask.
#![no_main]

use std::sync::Arc;

use bailiwick_masking::{Action, Entity, Findings, Mask, Masker, json};
use libfuzzer_sys::fuzz_target;

fn masker(action: Action) -> Masker {
    let mask = Mask::new(Entity::ALL, &["$..secret".to_owned()], action, [7; 32]).expect("a mask");
    Masker { masks: vec![Arc::new(mask)] }
}

fuzz_target!(|input: (u8, Vec<u8>, String)| {
    let (choice, cuts, text) = input;
    let masker = masker(Action::ALL[usize::from(choice) % Action::ALL.len()]);

    let whole = through(&masker, &[&text]);
    let pieces = cut(&text, &cuts);
    assert_eq!(
        whole,
        through(&masker, &pieces),
        "cut as {:?}",
        pieces.iter().map(|p| p.len()).collect::<Vec<_>>()
    );

    let mut findings = Findings::default();
    if let Ok(masked) = masker.json(text.as_bytes(), &mut findings) {
        assert!(json::parse(&masked).is_ok(), "masking JSON gave something else");
        if findings.is_empty() {
            assert_eq!(masked, text.as_bytes(), "nothing found, something changed");
        }
    }
    let _ = masker.text(&text, &mut findings);
});

/// What comes out of a channel; for an error, that there was one: where it shows depends on the cuts.
fn through(masker: &Masker, pieces: &[&str]) -> Option<(String, Findings)> {
    let (mut channel, mut findings, mut out) = (masker.channel(), Findings::default(), String::new());
    for piece in pieces {
        out += &channel.push(piece, &mut findings).ok()?;
    }
    out += &channel.finish(&mut findings).ok()?;
    Some((out, findings))
}

fn cut<'a>(text: &'a str, cuts: &[u8]) -> Vec<&'a str> {
    let (mut rest, mut pieces) = (text, Vec::new());
    for length in cuts {
        let mut at = usize::from(*length).min(rest.len());
        while !rest.is_char_boundary(at) {
            at -= 1;
        }
        let (piece, after) = rest.split_at(at);
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    pieces
}

//! Any text as a field's JSONPath, and any JSON to look it up in: an error that names the expression, or a path that
//! changes strings alone, wherever it leads, and leaves JSON.
#![no_main]

use std::sync::Arc;

use bailiwick_masking::{Action, Findings, Mask, Masker, json};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (String, Vec<u8>)| {
    let (expression, document) = input;
    let compile = || Mask::new(&[], std::slice::from_ref(&expression), Action::Redact, [7; 32]);
    let mask = match compile() {
        Ok(mask) => mask,
        Err(error) => {
            let again = compile().expect_err("the same expression was refused");
            assert!(error == again && !error.is_empty());
            return;
        }
    };
    let masker = Masker { masks: vec![Arc::new(mask)] };
    let mut findings = Findings::default();
    if let Ok(masked) = masker.json(&document, &mut findings) {
        json::parse(&masked).expect("masking JSON gave something else");
        if findings.is_empty() {
            assert_eq!(masked, document, "nothing found, something changed");
        }
    }
});

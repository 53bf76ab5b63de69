//! Any bytes as a request's body, and as an answer, cut anywhere: no panic; what goes to the model is JSON without the
//! caller in it; an error holds nothing of the bytes; an answer that ends well ends well however it is cut.
#![no_main]

use std::sync::Arc;

use bailiwick::config::settings::{IdentityFields, ServerPreset};
use bailiwick::protocol::{self, Answer, Rewriting};
use bailiwick_masking::{Action, Entity, Mask, Masker, json};
use bailiwick_policy::Principal;
use http::Method;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, Vec<u8>, Vec<u8>)| {
    let (choice, cuts, bytes) = input;
    let path = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"][usize::from(choice) % 3];
    let endpoint = protocol::find(ServerPreset::OpenAi, &Method::POST, path).expect("an endpoint");
    let mask = Mask::new(Entity::ALL, &["$.metadata.customer_id".to_owned()], Action::Redact, [7; 32]);
    let masker = Masker { masks: vec![Arc::new(mask.expect("a mask"))] };

    let (identity, caller) = (IdentityFields::default(), Principal::default());
    for (masker, max_tokens) in [(&masker, Some(100)), (&Masker::default(), None)] {
        let rewriting = Rewriting { identity: &identity, caller: &caller, max_tokens };
        if let Ok(request) = protocol::request(endpoint, &bytes, &rewriting, masker) {
            let document = json::parse(&request.body).expect("what goes to the model is JSON");
            assert!(document.root().get("user").is_none(), "the caller's name goes to the model");
            assert!(document.root().get("safety_identifier").is_none());
        }
    }
    for content_type in ["text/event-stream", "application/json"] {
        let whole = answer(content_type, &masker, &[&bytes]);
        let pieces = cut(&bytes, &cuts);
        let cut = answer(content_type, &masker, &pieces);
        assert_eq!(
            whole.is_some(),
            cut.is_some(),
            "{content_type}: an answer is good or not, however it is cut"
        );
        if let (Some(whole), Some(cut)) = (whole, cut) {
            assert_eq!(String::from_utf8_lossy(&whole), String::from_utf8_lossy(&cut), "{content_type}");
        }
    }
});

fn answer(
    content_type: &str,
    masker: &Masker,
    pieces: &[&[u8]],
) -> Option<Vec<u8>> {
    let mut answer = Answer::new(Some(content_type), masker.clone()).ok()?;
    let mut out = Vec::new();
    for piece in pieces {
        out.extend_from_slice(&answer.push(piece).ok()?);
    }
    out.extend_from_slice(&answer.finish().ok()?);
    Some(out)
}

fn cut<'a>(bytes: &'a [u8], cuts: &[u8]) -> Vec<&'a [u8]> {
    let (mut rest, mut pieces) = (bytes, Vec::new());
    for length in cuts {
        let (piece, after) = rest.split_at(usize::from(*length).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    pieces
}

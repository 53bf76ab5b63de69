//! Any bytes as a request's body in any dialect, and as an answer, cut anywhere: no panic; what goes to the model is JSON, or
//! a form, without the caller in it, and would go again, without a mask as it is; an error holds nothing of the bytes; an answer that ends well
//! ends well however it is cut.
#![no_main]

use std::sync::Arc;

use bailiwick::config::settings::{IdentityFields, ServerPreset};
use bailiwick::protocol::{self, Answer, BodyForm, Dialect, Endpoint, Rewriting};
use bailiwick_masking::{Action, Entity, Mask, Masker, json};
use bailiwick_policy::Principal;
use http::Method;
use libfuzzer_sys::fuzz_target;

/// One of each kind of body.
const ENDPOINTS: [(ServerPreset, &str); 18] = [
    (ServerPreset::OpenAi, "/v1/chat/completions"),
    (ServerPreset::OpenAi, "/v1/completions"),
    (ServerPreset::OpenAi, "/v1/embeddings"),
    (ServerPreset::OpenAi, "/v1/images/edits"),
    (ServerPreset::Vllm, "/v1/responses"),
    (ServerPreset::Vllm, "/v1/messages"),
    (ServerPreset::Vllm, "/v1/messages/count_tokens"),
    (ServerPreset::Vllm, "/rerank"),
    (ServerPreset::Vllm, "/v1/audio/transcriptions"),
    (ServerPreset::Ollama, "/api/chat"),
    (ServerPreset::Ollama, "/api/generate"),
    (ServerPreset::Ollama, "/api/show"),
    (ServerPreset::Tgi, "/generate"),
    (ServerPreset::Tgi, "/v1/chat/completions"),
    (ServerPreset::Triton, "/v2/models/m/infer"),
    (ServerPreset::Triton, "/v2/models/m/generate"),
    (ServerPreset::Triton, "/v2/models/m/versions/1/generate_stream"),
    (ServerPreset::LlamaCpp, "/v1/rerank"),
];

/// What a form's type says; the dictionary knows its boundary.
const FORM: &str = "multipart/form-data; boundary=b";

fuzz_target!(|input: (u8, Vec<u8>, Vec<u8>)| {
    let (choice, cuts, bytes) = input;
    let (server, path) = ENDPOINTS[usize::from(choice) % ENDPOINTS.len()];
    let endpoint = protocol::find(server, &Method::POST, path).expect("an endpoint");
    let mask = Mask::new(Entity::ALL, &["$.metadata.customer_id".to_owned()], Action::Redact, [7; 32]);
    let masker = Masker { masks: vec![Arc::new(mask.expect("a mask"))] };

    for masker in [&masker, &Masker::default()] {
        for max_tokens in [Some(100), None] {
            if let Some(sent) = sent(server, endpoint, &bytes, max_tokens, masker) {
                let again =
                    self::sent(server, endpoint, &sent, max_tokens, masker).expect("it would go again");
                // A placeholder may become a part of what looks like an address.
                assert!(
                    again == sent || !masker.is_empty(),
                    "what goes to the model would go again as it is"
                );
            }
        }
    }
    if let Ok(path) = std::str::from_utf8(&bytes) {
        let found = protocol::find(server, &Method::POST, path);
        assert!(found.is_none() || path.starts_with('/') && !path.contains(".."), "a path beyond the list");
        let _guess = Dialect::guess(path);
    }
    for content_type in ["text/event-stream", "application/x-ndjson", "application/json", "text/plain"] {
        let answer = |masker, pieces: &[&[u8]]| answer(content_type, endpoint.dialect, masker, pieces);
        let whole = answer(&masker, &[&bytes]);
        let pieces = cut(&bytes, &cuts);
        let cut = answer(&masker, &pieces);
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

/// What goes to the model, if anything does.
fn sent(
    server: ServerPreset,
    endpoint: &Endpoint,
    bytes: &[u8],
    max_tokens: Option<u64>,
    masker: &Masker,
) -> Option<Vec<u8>> {
    let (identity, caller) = (IdentityFields::default(), Principal::default());
    let rewriting = Rewriting { max_tokens, ..Rewriting::new(server, &identity, &caller) };
    let request = protocol::request(endpoint, Some(FORM), &bytes.to_vec().into(), &rewriting, masker).ok()?;
    if endpoint.body == BodyForm::Json {
        let document = json::parse(&request.body).expect("what goes to the model is JSON");
        for name in ["user", "safety_identifier", "prompt_cache_key"] {
            let named = |member: &json::Member<'_>| member.name.eq_ignore_ascii_case(name);
            assert!(!document.root().members().iter().any(named), "the caller's name goes to the model");
        }
    }
    Some(request.body.to_vec())
}

fn answer(content_type: &str, dialect: Dialect, masker: &Masker, pieces: &[&[u8]]) -> Option<Vec<u8>> {
    let mut answer = Answer::new(Some(content_type), dialect, masker.clone()).ok()?;
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

//! Whole answers of each dialect.

use super::super::{Answer, Dialect, ProtocolError};
use bailiwick_masking::{Action, Entity, Mask, Masker};
use std::sync::Arc;

fn redacted(content_type: &str, dialect: Dialect, body: &str) -> Result<String, ProtocolError> {
    let mask = Arc::new(Mask::new(Entity::ALL, &[], Action::Redact, [7; 32]).unwrap());
    let mut answer = Answer::new(Some(content_type), dialect, Masker { masks: vec![mask] })?;
    for byte in body.as_bytes() {
        assert!(answer.push(&[*byte])?.is_empty(), "nothing goes before it is whole");
    }
    answer.finish().map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
}

#[test]
fn text_is_masked_wherever_a_dialect_has_it() {
    use Dialect::{Anthropic, Kserve, Ollama, OpenAi, Responses, Tgi};
    for (dialect, body) in [
        (
            OpenAi,
            r#"{"choices":[{"message":{"content":"@@","reasoning_content":"@@","refusal":"@@","tool_calls":[{"function":{"name":"f","arguments":"{\"to\":\"@@\"}"}}]}},{"text":"@@"}]}"#,
        ),
        (OpenAi, r#"{"results":[{"index":0,"document":{"text":"@@"},"relevance_score":0.5}]}"#),
        (OpenAi, r#"{"data":[{"index":0,"object":"score","score":0.5,"note":"@@"}]}"#),
        (OpenAi, r#"{"data":[{"url":"x","revised_prompt":"@@"}]}"#),
        (OpenAi, r#"{"text":"@@"}"#),
        (
            Responses,
            r#"{"output":[{"type":"message","content":[{"type":"output_text","text":"@@","annotations":[{"title":"@@"}]}]},{"type":"function_call","arguments":"{\"to\":\"@@\"}"},{"type":"reasoning","summary":[{"text":"@@"}]}],"instructions":"@@"}"#,
        ),
        (
            Anthropic,
            r#"{"content":[{"type":"thinking","thinking":"@@","signature":"s"},{"type":"text","text":"@@"},{"type":"tool_use","name":"f","input":{"to":"@@","@@":["@@"]}}],"stop_sequence":"@@"}"#,
        ),
        (
            Ollama,
            r#"{"message":{"content":"@@","thinking":"@@","tool_calls":[{"function":{"name":"f","arguments":{"to":"@@"}}}]},"done":true}"#,
        ),
        (Ollama, r#"{"response":"@@","thinking":"@@","done":true}"#),
        (Tgi, r#"{"generated_text":"@@","details":{"best_of_sequences":[{"generated_text":"@@"}]}}"#),
        (
            Kserve,
            r#"{"outputs":[{"name":"t","datatype":"BYTES","shape":[2],"data":["@@","@@"]}],"parameters":{"p":"@@"}}"#,
        ),
        (Kserve, r#"{"text_output":"@@"}"#),
    ] {
        let out = redacted("application/json", dialect, &body.replace("@@", "alice@example.com")).unwrap();
        assert_eq!(out, body.replace("@@", "[email]"), "{dialect:?}");
        let clean = body.replace("@@", "x\\u0041");
        assert_eq!(
            redacted("application/json", dialect, &clean).unwrap(),
            clean,
            "{dialect:?}: byte for byte"
        );
    }
}

#[test]
fn what_spells_text_out_is_taken_out_and_what_cannot_be_scanned_refused() {
    use Dialect::{Anthropic, Kserve, Ollama, OpenAi, Responses, Tgi};
    for (dialect, body, masked) in [
        (Responses, r#"{"output":[{"logprobs":[{"token":"al"}]}]}"#, r#"{"output":[{"logprobs":[]}]}"#),
        (Ollama, r#"{"response":"x","context":[1,2]}"#, r#"{"response":"x","context":null}"#),
        (
            Tgi,
            r#"{"generated_text":"x","details":{"tokens":[{"id":4,"text":"al"}],"prefill":[{"id":4}]}}"#,
            r#"{"generated_text":"x","details":{"tokens":[],"prefill":[]}}"#,
        ),
        (Kserve, r#"{"text_output":"x","output_ids":[1,2]}"#, r#"{"text_output":"x","output_ids":null}"#),
        (
            OpenAi,
            r#"{"text":"x","words":[{"word":"al"}],"segments":[{"text":"x","tokens":[1]}]}"#,
            r#"{"text":"x","words":[],"segments":[{"text":"x","tokens":[]}]}"#,
        ),
    ] {
        assert_eq!(redacted("application/json", dialect, body).as_deref(), Ok(masked), "{dialect:?}");
    }
    for (dialect, body, why) in [
        (OpenAi, r#"{"data":[{"b64_json":"AAAA"}]}"#, "an image"),
        (OpenAi, r#"{"choices":[{"message":{"audio":{"data":"AAAA"}}}]}"#, "audio"),
        (OpenAi, r#"{"text":"x","segments":[{"text":["al","ice"]}]}"#, "a segment whose text is none"),
        (Anthropic, r#"{"content":[{"type":"redacted_thinking","data":"AAAA"}]}"#, "encrypted"),
        (Ollama, r#"{"message":{"images":["AAAA"]}}"#, "an image"),
        (
            Kserve,
            r#"{"outputs":[{"name":"t","datatype":"INT64","shape":[2],"data":[97,108]}]}"#,
            "a tensor of numbers",
        ),
        (
            Kserve,
            r#"{"outputs":[{"name":"t","datatype":"BYTES","shape":[2],"data":[97,108]}]}"#,
            "numbers as text",
        ),
        (Kserve, r#"{"tokens":[97,108]}"#, "numbers that no tensor declares"),
        (Kserve, r#"{"more":{"tokens":[[97],[108]]}}"#, "and deeper"),
    ] {
        let error = redacted("application/json", dialect, body).unwrap_err();
        assert_eq!((error.status.as_u16(), error.code), (502, "answer-not-inspectable"), "{why}");
    }
}

#[test]
fn a_transcript_is_one_text_however_it_is_cut() {
    let segments = |first: &str, second: &str| {
        format!(
            r#"{{"text":"x","segments":[{{"id":0,"text":"{first}"}},{{"id":1}},{{"id":2,"text":"{second}"}}]}}"#
        )
    };
    let srt = |first: &str, second: &str| {
        format!("1\n00:00:00,000 --> 00:00:01,000\n{first}\n\n2\n00:00:01,000 --> 00:00:02,000\n{second}\n\n")
    };
    let vtt = |first: &str, second: &str| {
        format!("WEBVTT\r\n\r\n00:00.000 --> 00:01.000\r\n{first}\r\n{second}\r\n")
    };
    let clean = segments(" Hello", " alice@exam");
    assert_eq!(redacted("application/json", Dialect::OpenAi, &clean), Ok(clean));
    for at in 1.."DE89 3704 0044 0532 0130 00".len() {
        let (first, second) = "DE89 3704 0044 0532 0130 00".split_at(at);
        let out = redacted("application/json", Dialect::OpenAi, &segments(first, second)).unwrap();
        assert_eq!(out, segments("", "[iban]"), "cut at {at}");
    }
    let (first, second) = ("Pay DE89 3704 0044", "0532 0130 00 now");
    let out = redacted("application/x-subrip", Dialect::OpenAi, &srt(first, second)).unwrap();
    assert_eq!(
        out,
        "1\n00:00:00,000 --> 00:00:01,000\nPay\n\n2\n00:00:01,000 --> 00:00:02,000\n[iban] now\n\n"
    );
    let out = redacted("text/vtt", Dialect::OpenAi, &vtt("DE89 3704 0044", second)).unwrap();
    assert_eq!(out, "WEBVTT\r\n\r\n00:00.000 --> 00:01.000\r\n[iban] now\r\n");
    for (content_type, clean) in
        [("text/plain", srt("Hello DE89", "world")), ("text/vtt", vtt("Hello", "DE89 world"))]
    {
        assert_eq!(redacted(content_type, Dialect::OpenAi, &clean), Ok(clean), "byte for byte");
    }
    let note = redacted("text/vtt", Dialect::OpenAi, "WEBVTT\n\nNOTE a@b.io\n\n00:00.000 --> 00:01.000\nx\n");
    assert_eq!(note.unwrap(), "WEBVTT\n\nNOTE [email]\n\n00:00.000 --> 00:01.000\nx\n");
}

//! Each dialect's streams as its servers send them, with synthetic texts: what a client puts together is the whole text
//! masked, however the text is cut into pieces and the bytes by the network.

use super::super::{Answer, Dialect, ProtocolError};
use bailiwick_masking::{Action, Entity, Findings, Mask, Masker};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::Arc;

mod client;
mod script;

use client::{events, put_together};
use script::recorded;

const SECRETS: [&str; 3] = ["alice@example.com", "DE89 3704 0044 0532 0130 00", "4111-1111-1111-1111"];

fn masker() -> Masker {
    Masker { masks: vec![Arc::new(Mask::new(Entity::ALL, &[], Action::Redact, [7; 32]).unwrap())] }
}

fn content_type(dialect: Dialect) -> &'static str {
    if dialect == Dialect::Ollama { "application/x-ndjson" } else { "text/event-stream" }
}

fn through(dialect: Dialect, pieces: &[&[u8]]) -> Result<String, ProtocolError> {
    let mut answer = Answer::new(Some(content_type(dialect)), dialect, masker())?;
    let mut out = Vec::new();
    for piece in pieces {
        out.extend_from_slice(&answer.push(piece)?);
    }
    out.extend_from_slice(&answer.finish()?);
    Ok(String::from_utf8(out).unwrap())
}

/// Whole and byte by byte, which must not differ.
fn redacted(dialect: Dialect, stream: &str) -> Result<String, ProtocolError> {
    let whole = through(dialect, &[stream.as_bytes()]);
    let bytes: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
    assert_eq!(through(dialect, &bytes), whole, "byte by byte");
    whole
}

/// A text masked whole.
fn expected(text: &str, held: bool) -> String {
    let (masker, mut findings) = (masker(), Findings::default());
    if held {
        return masker.text(text, &mut findings).unwrap();
    }
    let mut channel = masker.channel();
    channel.push(text, &mut findings).unwrap() + &channel.finish(&mut findings).unwrap()
}

fn pieces(text: &str, length: usize) -> Vec<String> {
    let letters: Vec<char> = text.chars().collect();
    letters.chunks(length).map(|piece| piece.iter().collect()).collect()
}

#[test]
fn no_cut_of_a_text_lets_it_through() {
    let text = format!("Write to {}, pay {} with {}", SECRETS[0], SECRETS[1], SECRETS[2]);
    let arguments = json!({"to": SECRETS[0], "card": SECRETS[2]}).to_string();
    for dialect in Dialect::ALL {
        for length in [1, 2, 3, 5, 8, 13, 21, 1000] {
            let said = [pieces(&text, length), pieces(&text, length), pieces(&arguments, length)];
            let out = redacted(dialect, &recorded(dialect, &said)).unwrap();
            for secret in SECRETS {
                assert!(!out.contains(secret), "{dialect:?}, {length}: {out}");
            }
            let texts = put_together(dialect, &out);
            let masked = "Write to [email], pay [iban] with [card]";
            assert_eq!(texts[&1], masked, "{dialect:?}, {length}: {out}");
            if let Some(thought) = texts.get(&0) {
                assert_eq!(thought, masked, "{dialect:?}");
            }
            if let Some(called) = texts.get(&2) {
                let called: Value = serde_json::from_str(called).unwrap();
                assert_eq!(called, json!({"to": "[email]", "card": "[card]"}), "{dialect:?}");
            }
        }
    }
}

#[test]
fn a_model_that_says_nothing_says_nothing() {
    for dialect in Dialect::ALL {
        let stream = recorded(dialect, &[vec![], vec![], vec![]]);
        let texts = put_together(dialect, &redacted(dialect, &stream).unwrap());
        assert!(texts.values().all(String::is_empty), "{dialect:?}: {texts:?}");
    }
}

#[test]
fn no_cut_of_the_network_changes_anything() {
    let text = format!("To {}", SECRETS[0]);
    for dialect in Dialect::ALL {
        let said = [vec![], pieces(&text, 7), pieces("{\"a\":\"a@b.io\"}", 5)];
        let stream = recorded(dialect, &said);
        let whole = through(dialect, &[stream.as_bytes()]).unwrap();
        for at in 0..stream.len() {
            let (first, second) = stream.as_bytes().split_at(at);
            assert_eq!(through(dialect, &[first, second]).unwrap(), whole, "{dialect:?}, cut at {at}");
        }
    }
}

#[test]
fn what_is_held_goes_before_an_error_and_before_the_end() {
    for (dialect, piece, end) in [
        (
            Dialect::OpenAi,
            r#"{"choices":[{"index":0,"delta":{"content":"@"}}]}"#,
            r#"{"error":{"message":"x"}}"#,
        ),
        (Dialect::OpenAi, r#"{"choices":[{"index":0,"text":"@"}]}"#, "[DONE]"),
        (
            Dialect::OpenAi,
            r#"{"type":"transcript.text.delta","delta":"@"}"#,
            r#"{"type":"transcript.text.done","text":""}"#,
        ),
        (
            Dialect::Responses,
            r#"{"type":"response.output_text.delta","item_id":"m","delta":"@"}"#,
            r#"{"type":"error","message":"x"}"#,
        ),
        (
            Dialect::Anthropic,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"@"}}"#,
            r#"{"type":"error","error":{"message":"x"}}"#,
        ),
        (Dialect::Ollama, r#"{"response":"@","done":false}"#, r#"{"error":"x"}"#),
        (
            Dialect::Tgi,
            r#"{"index":1,"token":{"id":4,"text":"@","special":false}}"#,
            r#"{"error":"x","error_type":"generation"}"#,
        ),
        (Dialect::Kserve, r#"{"text_output":"@"}"#, r#"{"error":"x"}"#),
    ] {
        let frame = |event: &str| {
            if dialect == Dialect::Ollama { format!("{event}\n") } else { format!("data: {event}\n\n") }
        };
        let begun: String =
            ["alice@exa", "mple.com"].iter().map(|piece_of| frame(&piece.replace('@', piece_of))).collect();
        for (end, why) in [(frame(end), "an error or its like"), (String::new(), "nothing at all")] {
            let out = redacted(dialect, &(begun.clone() + &end)).unwrap();
            assert!(!out.contains("mple.com"), "{dialect:?}: {out}");
            let (held, end_at) = (out.find("[email]"), out.len() - end.len());
            assert!(held.is_some_and(|held| held < end_at), "{dialect:?}, {why}: {out}");
            assert!(out.ends_with(&end), "{dialect:?}, {why}: {out}");
        }
    }
}

#[test]
fn what_is_clean_stays_byte_for_byte() {
    let said =
        [vec!["Hm. ".to_owned()], vec!["Hello. ".to_owned(), "Bye. ".to_owned()], vec!["{}".to_owned()]];
    for dialect in [Dialect::Ollama, Dialect::Kserve] {
        let stream = recorded(dialect, &said).replace("[0.5,0.25]", "null");
        assert_eq!(redacted(dialect, &stream).unwrap(), stream, "{dialect:?}");
        let stream = stream.replace('\n', "\r\n");
        assert_eq!(redacted(dialect, &stream).unwrap(), stream, "{dialect:?}: and its line ends");
    }
    let stream = recorded(Dialect::Anthropic, &[vec![], vec!["Hello. ".into()], vec![]]);
    assert_eq!(redacted(Dialect::Anthropic, &stream).unwrap(), stream);
}

#[test]
fn what_cannot_be_put_together_or_scanned_is_refused() {
    for (dialect, stream, why) in [
        (
            Dialect::Responses,
            "data: {\"type\":\"response.new.delta\",\"delta\":\"al\"}\n\n",
            "an unknown type with text",
        ),
        (Dialect::Responses, "data: {\"delta\":\"al\"}\n\n", "no type"),
        (
            Dialect::Responses,
            "data: {\"choices\":[{\"delta\":{\"content\":\"al\"}}]}\n\n",
            "another dialect's",
        ),
        (
            Dialect::Responses,
            "data: {\"type\":\"response.image_generation_call.partial_image\",\"partial_image_b64\":\"AA\"}\n\n",
            "an image",
        ),
        (
            Dialect::Anthropic,
            "data: {\"type\":\"new_delta\",\"text\":\"al\"}\n\n",
            "an unknown type with text",
        ),
        (Dialect::Anthropic, "data: {\"type\":\"new\",\"list\":[\"al\"]}\n\n", "text in a list"),
        (
            Dialect::Anthropic,
            "data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"redacted_thinking\",\"data\":\"AA\"}}\n\n",
            "encrypted",
        ),
        (
            Dialect::Anthropic,
            concat!(
                "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"al\"}}\n\n",
                "data: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
                "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"ice\"}}\n\n",
            ),
            "a text after its end",
        ),
        (
            Dialect::Responses,
            "data: {\"type\":\"response.output_text.delta\",\"output_index\":\"a\",\"delta\":\"al\"}\n\n",
            "an index that does not count",
        ),
        (Dialect::Ollama, "{\"message\":{\"images\":[\"AA\"]}}\n", "an image"),
        (Dialect::Ollama, "\"al\"\n", "no object"),
        (Dialect::Ollama, "{\"response\":\"al\"}{}\n", "two objects in a line"),
        (Dialect::Ollama, "{\"response\":\"al", "cut short"),
        (Dialect::Tgi, "data:{\"text\":\"al\"}\n\n", "no token"),
        (Dialect::Kserve, "data: [\"al\"]\n\n", "no object"),
        (
            Dialect::OpenAi,
            "data: {\"type\":\"image_generation.partial_image\",\"b64_json\":\"AA\"}\n\n",
            "an image",
        ),
    ] {
        let error = redacted(dialect, stream).unwrap_err();
        assert_eq!((error.status.as_u16(), error.code), (502, "answer-not-inspectable"), "{why}");
    }
}

#[test]
fn single_events() {
    for (dialect, stream, masked, why) in [
        (
            Dialect::Responses,
            "data: {\"type\":\"response.web_search_call.searching\",\"item_id\":\"ws_1\",\"output_index\":0}\n\n",
            None,
            "an unknown type without text",
        ),
        (
            Dialect::Responses,
            "data: {\"type\":\"error\",\"code\":\"x\",\"message\":\"no a@b.io\"}\n\n",
            Some("data: {\"type\":\"error\",\"code\":\"x\",\"message\":\"no [email]\"}\n\n"),
            "an error",
        ),
        (
            Dialect::Responses,
            "data: {\"type\":\"response.completed\",\"response\":{\"output\":[{\"type\":\"reasoning\",\"encrypted_content\":\"AA\"}]}}\n\n",
            Some(
                "data: {\"type\":\"response.completed\",\"response\":{\"output\":[{\"type\":\"reasoning\",\"encrypted_content\":null}]}}\n\n",
            ),
            "what is encrypted is taken out",
        ),
        (
            Dialect::Responses,
            "data: {\"type\":\"response.in_progress\",\"sequence_number\":4111111111111111}\n\n",
            Some("data: {\"type\":\"response.in_progress\",\"sequence_number\":\"[card]\"}\n\n"),
            "a card where events are numbered",
        ),
        (
            Dialect::Anthropic,
            "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"citations_delta\",\"citation\":{\"type\":\"char_location\",\"cited_text\":\"a@b.io\"}}}\n\n",
            Some(
                "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"citations_delta\",\"citation\":{\"type\":\"char_location\",\"cited_text\":\"[email]\"}}}\n\n",
            ),
            "a citation is whole",
        ),
        (Dialect::Anthropic, "event: ping\ndata: {\"type\":\"ping\"}\n\n", None, "a ping"),
        (
            Dialect::Ollama,
            "{\"model\":\"m\",\"response\":\"a@b.io\",\"done\":true,\"context\":[1,2]}",
            Some("{\"model\":\"m\",\"response\":\"[email]\",\"done\":true,\"context\":null}\n"),
            "token ids spell it out",
        ),
        (
            Dialect::Ollama,
            "{\"error\":\"no a@b.io\"}\r\n\r\n",
            Some("{\"error\":\"no [email]\"}\r\n\r\n"),
            "an error, and an empty line",
        ),
        (
            Dialect::Tgi,
            "data:{\"error\":\"no a@b.io\",\"error_type\":\"generation\"}\n\n",
            Some("data: {\"error\":\"no [email]\",\"error_type\":\"generation\"}\n\n"),
            "an error",
        ),
    ] {
        assert_eq!(redacted(dialect, stream).as_deref(), Ok(masked.unwrap_or(stream)), "{why}");
    }
}

#[test]
fn a_block_that_begins_with_a_text_says_it_in_a_delta() {
    let stream = concat!(
        "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"alice@exa\"}}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"mple.com\"}}\n\n",
        "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
    );
    let out = redacted(Dialect::Anthropic, stream).unwrap();
    let said: String = events(Dialect::Anthropic, &out)
        .iter()
        .map(|(_, event)| {
            event["delta"]["text"]
                .as_str()
                .or(event["content_block"]["text"].as_str())
                .unwrap_or_default()
                .to_owned()
        })
        .collect();
    assert_eq!(said, "[email]", "{out}");
}

#[test]
fn servers_that_name_items_but_do_not_number_them_are_understood() {
    let stream = concat!(
        "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"item_id\":\"msg_1\",\"delta\":\"to alice@exa\"}\n\n",
        "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"item_id\":\"msg_1\",\"delta\":\"mple.com\"}\n\n",
        "event: response.output_item.done\ndata: {\"type\":\"response.output_item.done\",\"item\":{\"id\":\"msg_1\",\"content\":[{\"type\":\"output_text\",\"text\":\"to alice@example.com\"}]}}\n\n",
    );
    let out = redacted(Dialect::Responses, stream).unwrap();
    let events = events(Dialect::Responses, &out);
    let said: String = events.iter().filter_map(|(_, event)| event["delta"].as_str()).collect();
    assert_eq!(said, "to [email]", "{out}");
    assert_eq!(events.last().unwrap().1["item"]["content"][0]["text"], "to [email]");
    assert!(events.iter().all(|(_, event)| event.get("sequence_number").is_none()));
}

/// What a model says in one place, rich in matches.
fn said() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec![
        "alice@example.com",
        "DE89 3704 0044 0532 0130 00",
        "4111-1111-1111-1111",
        "4111 1111 1111 1112",
        "a@b",
        " ",
        ".",
        "\"",
        "\\",
        "\n",
        "世界",
        "👩\u{200d}👧",
        "\u{200b}",
        "data: ",
        "[DONE]",
        "message_stop",
        "word",
        "12",
    ]);
    prop::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn texts_are_as_if_masked_whole(
        said in [said(), said(), said()],
        lengths in [1usize..9, 1usize..9, 1usize..9],
        cuts in prop::collection::vec(0usize..20_000, 0..12),
    ) {
        for dialect in Dialect::ALL {
            let spoken = [0, 1, 2].map(|at| pieces(&said[at], lengths[at]));
            let stream = recorded(dialect, &spoken);
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
            at.extend([0, stream.len()]);
            at.sort_unstable();
            let network: Vec<&[u8]> = at.windows(2).map(|pair| &stream.as_bytes()[pair[0]..pair[1]]).collect();
            let out = through(dialect, &network).unwrap();
            prop_assert_eq!(&through(dialect, &[stream.as_bytes()]).unwrap(), &out);
            for (text, given) in put_together(dialect, &out) {
                // Ollama's arguments are a value in an object: scanned as documents are.
                let held = text == 2;
                prop_assert_eq!(given, expected(&said[text], held), "{:?} {}", dialect, text);
            }
        }
    }
}

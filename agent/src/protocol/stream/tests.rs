//! OpenAI's streams, and what holds for all of them.

use super::super::sse::{Part, Reader, data};
use super::super::{Dialect, ProtocolError};
use super::*;
use bailiwick_masking::{Action, Entity, Mask};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

fn masker(action: Action, fields: &[&str]) -> Masker {
    let fields: Vec<String> = fields.iter().map(|field| (*field).to_owned()).collect();
    Masker { masks: vec![Arc::new(Mask::new(Entity::ALL, &fields, action, [7; 32]).unwrap())] }
}

fn through(masker: &Masker, pieces: &[&[u8]]) -> Result<String, ProtocolError> {
    let (mut stream, mut findings, mut out) =
        (Stream::events(Grammar::of(Dialect::OpenAi), masker.clone()), Findings::default(), Vec::new());
    for piece in pieces {
        out.extend(stream.push(piece, &mut findings)?);
    }
    out.extend(stream.finish(&mut findings)?);
    Ok(String::from_utf8(out).unwrap())
}

fn redacted(stream: &str) -> Result<String, ProtocolError> {
    let masker = masker(Action::Redact, &[]);
    let whole = through(&masker, &[stream.as_bytes()]);
    let bytes: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
    assert_eq!(through(&masker, &bytes), whole, "byte by byte");
    whole
}

/// The JSON of every event.
fn events(stream: &str) -> Vec<Value> {
    let mut reader = Reader::default();
    let mut parts = reader.push(stream.as_bytes()).unwrap();
    parts.extend(reader.finish());
    parts
        .iter()
        .filter_map(|part| match part {
            Part::Block(lines) => data(lines),
            Part::LateLf => None,
        })
        .filter(|data| data != b"[DONE]")
        .map(|data| serde_json::from_slice(&data).unwrap())
        .collect()
}

/// The texts of a stream, put together as a client does, by choice and path; and where each choice finished.
fn texts(stream: &str) -> BTreeMap<(u64, String), String> {
    let mut texts = BTreeMap::new();
    let mut finished = BTreeSet::new();
    for event in events(stream) {
        for choice in event["choices"].as_array().into_iter().flatten() {
            let index = choice["index"].as_u64().unwrap();
            assert!(!finished.contains(&index), "text after the end of the choice");
            let mut add = |path: String, text: &Value| {
                if let Some(text) = text.as_str() {
                    texts.entry((index, path)).or_insert_with(String::new).push_str(text);
                }
            };
            add("text".into(), &choice["text"]);
            for name in ["content", "reasoning_content", "refusal", "new_thing"] {
                add(name.into(), &choice["delta"][name]);
            }
            for call in choice["delta"]["tool_calls"].as_array().into_iter().flatten() {
                add(format!("call {}", call["index"]), &call["function"]["arguments"]);
            }
            if !choice["finish_reason"].is_null() {
                finished.insert(index);
            }
        }
    }
    texts
}

#[test]
fn what_is_clean_stays_byte_for_byte() {
    let stream = ": ping\r\n\r\nevent: x\r\ndata: {\"id\":\"c-1\", \"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"Hi, \\u0041! \"}}]}\r\n\r\ndata: {\"choices\":[],\"usage\":{\"total_tokens\":3}}\r\n\r\ndata: [DONE]\r\n\r\n";
    assert_eq!(redacted(stream).as_deref(), Ok(stream));
}

#[test]
fn held_text_goes_out_before_its_choice_finishes() {
    let stream = concat!(
        "data: {\"id\":\"c-1\",\"created\":7,\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Mail alice@exa\"}}]}\n\n",
        "data: {\"id\":\"c-1\",\"created\":7,\"choices\":[{\"index\":0,\"delta\":{\"content\":\"mple.com\"}}]}\n\n",
        "data: {\"id\":\"c-1\",\"created\":7,\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
        "data: [DONE]\n\n",
    );
    let expected = concat!(
        "data: {\"id\":\"c-1\",\"created\":7,\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Mail \"}}]}\n\n",
        "data: {\"id\":\"c-1\",\"created\":7,\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\"}}]}\n\n",
        "data: {\"id\":\"c-1\",\"created\":7,\"choices\":[{\"index\":0,\"delta\":{\"content\":\"[email]\"},\"finish_reason\":null}]}\n\n",
        "data: {\"id\":\"c-1\",\"created\":7,\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
        "data: [DONE]\n\n",
    );
    assert_eq!(redacted(stream).as_deref(), Ok(expected));
}

#[test]
fn the_end_comes_in_many_ways() {
    let first = r#"data: {"choices":[{"index":0,"text":"4111 1111 1111 "}]}"#;
    for (rest, why) in [
        (
            "\n\ndata: {\"choices\":[{\"index\":0,\"text\":\"1111\",\"finish_reason\":\"stop\"}]}\n\n",
            "in the last text",
        ),
        ("\n\ndata: {\"choices\":[{\"index\":0,\"text\":\"1111\"}]}\n\ndata: [DONE]\n\n", "[DONE] alone"),
        ("\n\ndata: {\"choices\":[{\"index\":0,\"text\":\"1111\"}]}\n\n", "nothing at all"),
        ("\n\ndata: {\"choices\":[{\"index\":0,\"text\":\"1111\"}]}", "not even an empty line"),
        (
            "\n\ndata: {\"choices\":[{\"index\":0,\"text\":\"1111\"}]}\n\ndata: {\"error\":{\"message\":\"x\"}}\n\n",
            "an error",
        ),
    ] {
        let out = redacted(&format!("{first}{rest}")).unwrap();
        assert_eq!(texts(&out)[&(0, "text".to_owned())], "[card]", "{why}");
    }
}

#[test]
fn everything_else_in_an_event_is_scanned_too() {
    for (event, masked, why) in [
        (r#"{"error":{"message":"to a@b.io"}}"#, r#"{"error":{"message":"to [email]"}}"#, "errors"),
        (
            r#"{"something":["a@b.io"],"choices":[]}"#,
            r#"{"something":["[email]"],"choices":[]}"#,
            "what stands beside the choices",
        ),
        (r#"{"model":"a@b.io","choices":[]}"#, r#"{"model":"[email]","choices":[]}"#, "names"),
        (
            r#"{"choices":[{"index":0,"a@b.io":4111111111111111,"logprobs":{"content":[{"token":"a@"}]}}]}"#,
            r#"{"choices":[{"index":0,"[email]":"[card]","logprobs":null}]}"#,
            "keys, numbers, log probabilities",
        ),
        (
            r#"{"x":{"logprobs":[1]},"__verbose":{"content":"al"},"choices":[]}"#,
            r#"{"x":{"logprobs":null},"__verbose":null,"choices":[]}"#,
            "what spells the text out",
        ),
    ] {
        assert_eq!(redacted(&format!("data: {event}\n\n")), Ok(format!("data: {masked}\n\n")), "{why}");
    }
    assert_eq!(
        redacted(": a@b.io\nid: c@d.io\n\n").as_deref(),
        Ok(": [email]\nid: [email]\n\n"),
        "other lines"
    );
    let lines = redacted("data: {\"error\":\ndata: \"a@b.io\"}\n\n");
    assert_eq!(lines.as_deref(), Ok("data: {\"error\":\ndata: \"[email]\"}\n\n"), "data in two lines");
}

#[test]
fn fields_are_masked_in_every_event() {
    let masker = masker(Action::Redact, &["$.system_fingerprint"]);
    let out = through(&masker, &[b"data: {\"system_fingerprint\":\"fp\",\"choices\":[]}\n\n"]);
    assert_eq!(out.as_deref(), Ok("data: {\"system_fingerprint\":\"[masked]\",\"choices\":[]}\n\n"));
}

#[test]
fn arguments_stay_json() {
    let call = |arguments: &str, finish: Value| {
        let delta = json!({"tool_calls": [{"index": 1, "function": {"arguments": arguments}}]});
        format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}))
    };
    let whole = r#"{"to":"bob@example.com","card":4111111111111111,"text":"\u0061\u0040b.io"}"#;
    let pieces: Vec<String> = whole.chars().map(|c| call(&c.to_string(), Value::Null)).collect();
    let end = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\n";
    for stream in [format!("{}{end}", pieces.concat()), pieces.concat() + &call("", json!("tool_calls"))] {
        let out = redacted(&stream).unwrap();
        let arguments = &texts(&out)[&(0, "call 1".to_owned())];
        assert_eq!(arguments, r#"{"to":"[email]","card":"[card]","text":"[email]"}"#);
    }
}

#[test]
fn what_cannot_be_read_ends_the_stream() {
    for (stream, why) in [
        ("data: hello\n\n", "not JSON"),
        ("data: {\"a\":1,\"a\":2}\n\n", "a key twice"),
        ("data: {\"choices\":[{\"index\":0,\"te", "cut short"),
        ("data: {\"choices\":[\"x\"]}\n\n", "a choice that is none"),
        ("data: {\"delta\":{\"text\":\"al\"}}\n\n", "a shape whose pieces cannot be put together"),
        ("data: {\"choices\":{\"0\":{\"text\":\"al\"}}}\n\n", "choices in another shape"),
        ("data: {\"choices\":null,\"text\":\"al\"}\n\n", "no choices, and text beside them"),
        ("data: \"al\"\n\n", "not even an object"),
        ("data: {\"choices\":[{\"delta\":{\"audio\":{\"data\":\"AAAA\"}}}]}\n\n", "audio"),
        (
            "data: {\"choices\":[{\"index\":0,\"text\":\"a\"},{\"index\":0,\"text\":\"b\"}]}\n\n",
            "one place twice",
        ),
        ("data: {\"choices\":[{\"index\":4111111111111111,\"text\":\"a\"}]}\n\n", "a card as an index"),
        ("data: {\"choices\":[{\"index\":\"b\",\"text\":\"a\"}]}\n\n", "an index that is no number"),
        (
            "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":-1,\"function\":{\"arguments\":\"a\"}}]}}]}\n\n",
            "nor below zero",
        ),
    ] {
        let error = redacted(stream).unwrap_err();
        assert_eq!((error.status.as_u16(), error.code), (502, "answer-not-inspectable"), "{why}");
    }
    let blocked =
        through(&masker(Action::Block, &[]), &[b"data: {\"choices\":[{\"text\":\"a@b.io \"}]}\n\n"]);
    assert_eq!(blocked.unwrap_err().code, "blocked-by-mask");
    let invalid = through(&masker(Action::Redact, &[]), &[b"data: {\"a\":\"\xff\"}\n\n"]);
    assert_eq!(invalid.unwrap_err().code, "answer-not-inspectable");
}

#[test]
fn what_a_stream_may_hold_is_bounded() {
    let mut stream = Stream::events(Grammar::of(Dialect::OpenAi), masker(Action::Redact, &[]));
    let many = (0..2000).find_map(|index| {
        let event = format!("data: {{\"choices\":[{{\"index\":{index},\"text\":\"a\"}}]}}\n\n");
        stream.push(event.as_bytes(), &mut Findings::default()).err()
    });
    assert_eq!(many.unwrap().code, "answer-not-inspectable");
    let piece = "x".repeat(64 * 1024);
    let delta = json!({"function_call": {"arguments": piece}});
    let event = format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": delta}]}));
    let mut stream = Stream::events(Grammar::of(Dialect::OpenAi), masker(Action::Redact, &[]));
    let long = (0..17).find_map(|_| stream.push(event.as_bytes(), &mut Findings::default()).err());
    assert_eq!(long.unwrap().code, "answer-not-inspectable");
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
        "\r\n",
        "世界",
        "👩\u{200d}👧",
        "\u{200b}",
        "data: ",
        "[DONE]",
        "word",
        "12",
    ]);
    prop::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn texts_are_as_if_masked_whole(
        said in prop::collection::vec(said(), 6),
        order in prop::collection::vec((0usize..6, 1usize..6), 0..120),
        cuts in prop::collection::vec(0usize..20_000, 0..12),
        ends in prop::sample::select(vec!["\n", "\r\n", "\r"]),
        comments in any::<bool>(),
    ) {
        // Six places in two choices, in pieces, in any order.
        let places = [(0, "content"), (0, "reasoning_content"), (1, "content"), (1, "refusal"), (0, "new_thing"), (1, "call 3")];
        let event = |place: (u64, &str), piece: &str| {
            let delta = match place.1 {
                "call 3" => json!({"tool_calls": [{"index": 3, "function": {"arguments": piece}}]}),
                name => json!({name: piece}),
            };
            json!({"id": "c", "choices": [{"index": place.0, "delta": delta, "finish_reason": null}]}).to_string()
        };
        let mut rests: Vec<Vec<char>> = said.iter().map(|text| text.chars().collect()).collect();
        let mut stream = String::new();
        let all = (0..6).map(|place| (place, usize::MAX));
        for (place, length) in order.into_iter().chain(all) {
            let length = length.min(rests[place].len());
            let piece: String = rests[place].drain(..length).collect();
            stream += &format!("data: {}{ends}{ends}", event(places[place], &piece));
            if comments {
                stream += &format!(": keep alive{ends}{ends}");
            }
        }
        for index in [1, 0] {
            let finish = json!({"choices": [{"index": index, "delta": {}, "finish_reason": "stop"}]});
            stream += &format!("data: {finish}{ends}{ends}");
        }
        stream += &format!("data: [DONE]{ends}{ends}");

        let masker = masker(Action::Redact, &[]);
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
        at.extend([0, stream.len()]);
        at.sort_unstable();
        let pieces: Vec<&[u8]> = at.windows(2).map(|pair| &stream.as_bytes()[pair[0]..pair[1]]).collect();
        let out = through(&masker, &pieces).unwrap();
        prop_assert_eq!(&through(&masker, &[stream.as_bytes()]).unwrap(), &out);

        let texts = texts(&out);
        for ((index, path), text) in places.iter().zip(&said) {
            let mut channel = masker.channel();
            let expected = if *path == "call 3" {
                masker.text(text, &mut Findings::default()).unwrap()
            } else {
                let released = channel.push(text, &mut Findings::default()).unwrap();
                released + &channel.finish(&mut Findings::default()).unwrap()
            };
            let given = texts.get(&(*index, (*path).to_owned())).cloned().unwrap_or_default();
            prop_assert_eq!(given, expected, "{} {}", index, path);
        }
    }
}

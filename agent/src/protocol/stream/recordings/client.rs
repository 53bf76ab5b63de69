//! Streams as the clients of each dialect read them.

use super::super::super::Dialect;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Names of events, and their data.
pub(super) fn events(dialect: Dialect, stream: &str) -> Vec<(Option<String>, Value)> {
    let parse = |text: &str| serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    if dialect == Dialect::Ollama {
        return stream.lines().filter(|line| !line.is_empty()).map(|line| (None, parse(line))).collect();
    }
    let block = |block: &str| {
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name).map(str::trim_start));
        let data = field("data:").filter(|data| *data != "[DONE]")?;
        Some((field("event:").map(str::to_owned), parse(data)))
    };
    stream.split("\n\n").filter_map(block).collect()
}

/// What a client of the dialect puts together, by text; whatever repeats a text must say the same.
pub(super) fn put_together(dialect: Dialect, stream: &str) -> BTreeMap<usize, String> {
    let mut texts: BTreeMap<usize, String> = BTreeMap::new();
    let mut open = None;
    let mut number = None;
    let mut ended = false;
    for (name, event) in events(dialect, stream) {
        assert!(!ended, "an event after the end: {event}");
        let mut add = |text: usize, piece: &Value| {
            texts.entry(text).or_default().push_str(piece.as_str().unwrap_or_default());
        };
        match dialect {
            Dialect::Anthropic => {
                assert_eq!(name.as_deref(), event["type"].as_str(), "clients go by the event's name");
                let index = event["index"].as_u64().map(|index| usize::try_from(index).unwrap());
                match event["type"].as_str().unwrap() {
                    "content_block_start" => assert_eq!(open.replace(index), None, "one block at a time"),
                    "content_block_stop" => assert_eq!(open.take(), Some(index)),
                    "content_block_delta" => {
                        assert_eq!(open, Some(index), "a delta outside of its block");
                        let name = ["thinking", "text", "partial_json"][index.unwrap()];
                        assert!(event["delta"]["type"].is_string());
                        add(index.unwrap(), &event["delta"][name]);
                    }
                    "message_stop" => ended = true,
                    _ => {}
                }
            }
            Dialect::Responses => {
                let kind = event["type"].as_str().unwrap();
                assert_eq!(name.as_deref(), Some(kind));
                let next = event["sequence_number"].as_u64().unwrap();
                assert!(number.is_none_or(|number| next == number + 1), "{number:?}, then {next}");
                number = Some(next);
                let index = event["output_index"].as_u64().map(|index| usize::try_from(index).unwrap());
                if kind.ends_with(".delta") {
                    assert_eq!(event["logprobs"], json!([]), "they spell it out");
                    add(index.unwrap(), &event["delta"]);
                } else if kind.ends_with("_text.done") {
                    assert_eq!(
                        texts.get(&index.unwrap()).map(String::as_str).unwrap_or_default(),
                        event["text"].as_str().unwrap()
                    );
                } else if kind.ends_with("arguments.done") {
                    assert_eq!(
                        texts.get(&index.unwrap()).map(String::as_str).unwrap_or_default(),
                        event["arguments"].as_str().unwrap()
                    );
                } else if kind == "response.completed" {
                    let output = &event["response"]["output"];
                    let of = |at: usize| texts.get(&at).cloned().unwrap_or_default();
                    assert_eq!(output[0]["content"][0]["text"], of(0));
                    assert_eq!(output[1]["content"][0]["text"], of(1));
                    assert_eq!(output[2]["arguments"], of(2));
                    ended = true;
                }
            }
            Dialect::Ollama => {
                add(0, &event["message"]["thinking"]);
                add(1, &event["message"]["content"]);
                add(2, &event["message"]["tool_calls"][0]["function"]["arguments"]["to"]);
                ended = event["done"].as_bool().unwrap();
            }
            Dialect::Tgi => {
                let next = event["index"].as_u64().unwrap();
                assert_eq!(next, number.unwrap_or(0) + 1);
                number = Some(next);
                assert_eq!((&event["token"]["id"], &event["token"]["logprob"]), (&json!(0), &Value::Null));
                if event["token"]["special"] == json!(false) {
                    add(1, &event["token"]["text"]);
                }
                if let Some(whole) = event["generated_text"].as_str() {
                    assert_eq!(texts.get(&1).map(String::as_str).unwrap_or_default(), whole);
                    ended = true;
                }
            }
            Dialect::Kserve => {
                assert!(event.get("output_log_probs").is_none_or(Value::is_null));
                add(1, &event["text_output"]);
            }
            Dialect::OpenAi => {
                let choice = &event["choices"][0];
                add(0, &choice["delta"]["reasoning_content"]);
                add(1, &choice["delta"]["content"]);
                add(2, &choice["delta"]["tool_calls"][0]["function"]["arguments"]);
                ended = !choice["finish_reason"].is_null();
            }
        }
    }
    assert_eq!(open, None, "a block stays open");
    texts
}

//! What the answers of each dialect look like: one table a dialect, which the machine in `stream` follows.
//!
//! ```text
//! an event ──kind──▶ row: where its pieces are, which members repeat a text whole, what it finishes
//! ```
//!
//! A dialect whose events say their `type` has a row for each type that holds text. Another type passes, scanned, as long as it
//! has no text beyond names and identifiers; a text in it might be a piece of a longer one, so that stream is refused.

use super::Dialect;
use super::shape;

/// The table of a dialect.
pub(super) struct Grammar {
    pub(super) dialect: Dialect,
    /// Its kinds of event by their `type`; empty where events do not say one.
    pub(super) rows: &'static [Row],
    /// Strings that are complete in their event: scanned on their own.
    pub(super) complete: &'static [&'static str],
    /// Members that spell text out in pieces: they are taken out.
    pub(super) spelled_out: &'static [&'static str],
    /// What takes the place of a list of those.
    pub(super) hushed: &'static str,
    /// Numbers that spell text out where a number has to be: zero takes their place.
    pub(super) zeroed: &'static [&'static str],
    /// Members that cannot be scanned.
    pub(super) opaque: &'static [&'static str],
    /// Members whose text is held until it is whole, and masked as JSON if it is some.
    pub(super) held: &'static [&'static str],
    /// Members that an event of our own repeats, on the way from its root to the text.
    pub(super) repeated: &'static [&'static str],
    /// What such an event says besides.
    pub(super) closing: &'static str,
    /// The member that numbers the events.
    pub(super) counter: Option<&'static str>,
    /// Members that are a whole answer, with the fields that a mask names from its root on.
    pub(super) answers: &'static [&'static str],
}

/// A kind of event.
#[derive(Clone, Copy)]
pub(super) struct Row {
    /// Its `type`, but for the ending.
    pub(super) stem: &'static str,
    /// The ending.
    pub(super) ending: &'static str,
    pub(super) speaks: Speaks,
    /// Members in which texts stand whole that came in pieces before.
    pub(super) repeats: &'static [&'static str],
    pub(super) finishes: Finishes,
}

/// Where an event's pieces are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    Nothing,
    /// In each choice, which says when it finishes.
    Choices,
    /// Anywhere in it.
    Anywhere,
    /// In that member.
    In(&'static str),
    /// In a content block that begins, and may begin with some.
    Begun,
}

/// Which texts end before an event.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Finishes {
    Nothing,
    /// Those of the same stem at the same place.
    Same,
    /// Those of the item or block that it names.
    Item,
    All,
}

/// Members of a repeated answer that came in pieces, as they are called there.
pub(super) const SAID: &[&str] = &["text", "refusal", "thinking", "code", "input", "delta", "generated_text"];

const fn row(stem: &'static str, ending: &'static str) -> Row {
    Row { stem, ending, speaks: Speaks::Nothing, repeats: &[], finishes: Finishes::Nothing }
}

const fn delta(stem: &'static str) -> Row {
    Row { speaks: Speaks::In("delta"), ..row(stem, ".delta") }
}

const fn done(stem: &'static str, repeats: &'static [&'static str]) -> Row {
    Row { repeats, finishes: Finishes::Same, ..row(stem, ".done") }
}

const fn repeating(stem: &'static str, ending: &'static str, repeats: &'static [&'static str]) -> Row {
    Row { repeats, ..row(stem, ending) }
}

const fn last(stem: &'static str, ending: &'static str, repeats: &'static [&'static str]) -> Row {
    Row { repeats, finishes: Finishes::All, ..row(stem, ending) }
}

/// Chat and text completions, and what streams beside them.
pub(super) const OPENAI: Grammar = Grammar {
    dialect: Dialect::OpenAi,
    rows: &[delta("transcript.text"), last("transcript.text", ".done", &["text"])],
    complete: shape::COMPLETE,
    spelled_out: shape::SPELLED_OUT,
    hushed: "null",
    zeroed: &[],
    opaque: &["audio", "images", "b64_json"],
    held: &[shape::ARGUMENTS],
    repeated: shape::ENVELOPE,
    closing: ",\"finish_reason\":null",
    counter: None,
    answers: &[],
};

/// Responses, as OpenAI documents them, and as vLLM and llama.cpp send them.
pub(super) const RESPONSES: Grammar = Grammar {
    dialect: Dialect::Responses,
    rows: &[
        delta("response.output_text"),
        done("response.output_text", &["text"]),
        delta("response.refusal"),
        done("response.refusal", &["refusal"]),
        delta("response.reasoning_text"),
        done("response.reasoning_text", &["text"]),
        delta("response.reasoning"),
        done("response.reasoning", &["text"]),
        delta("response.reasoning_summary_text"),
        done("response.reasoning_summary_text", &["text"]),
        delta("response.function_call_arguments"),
        done("response.function_call_arguments", &["arguments"]),
        delta("response.mcp_call_arguments"),
        done("response.mcp_call_arguments", &["arguments"]),
        delta("response.custom_tool_call_input"),
        done("response.custom_tool_call_input", &["input"]),
        delta("response.code_interpreter_call_code"),
        done("response.code_interpreter_call_code", &["code"]),
        repeating("response.output_item", ".added", &["item"]),
        Row { finishes: Finishes::Item, ..repeating("response.output_item", ".done", &["item"]) },
        repeating("response.content_part", ".added", &["part"]),
        repeating("response.content_part", ".done", &["part"]),
        repeating("response.reasoning_part", ".added", &["part"]),
        repeating("response.reasoning_part", ".done", &["part"]),
        repeating("response.reasoning_summary_part", ".added", &["part"]),
        repeating("response.reasoning_summary_part", ".done", &["part"]),
        repeating("response.output_text.annotation", ".added", &["annotation"]),
        repeating("response", ".created", &["response"]),
        repeating("response", ".queued", &["response"]),
        repeating("response", ".in_progress", &["response"]),
        last("response", ".completed", &["response"]),
        last("response", ".incomplete", &["response"]),
        last("response", ".failed", &["response"]),
        last("error", "", &[]),
    ],
    complete: &[
        "id",
        "item_id",
        "call_id",
        "response_id",
        "object",
        "model",
        "role",
        "status",
        "type",
        "name",
        "service_tier",
        "obfuscation",
    ],
    spelled_out: &[
        "logprobs",
        "prompt_logprobs",
        "token_ids",
        "prompt_token_ids",
        "encrypted_content",
        "input_messages",
        "output_messages",
        "__verbose",
    ],
    hushed: "[]",
    zeroed: &[],
    opaque: &["audio", "images", "b64_json", "partial_image_b64", "image_url", "file_data"],
    held: &[shape::ARGUMENTS],
    repeated: &["type", "item_id", "output_index", "content_index", "summary_index", "logprobs"],
    closing: "",
    counter: Some("sequence_number"),
    answers: &["response"],
};

/// Messages, as Anthropic documents them, and as vLLM, llama.cpp and Ollama send them.
pub(super) const ANTHROPIC: Grammar = Grammar {
    dialect: Dialect::Anthropic,
    rows: &[
        repeating("message_start", "", &["message"]),
        Row { speaks: Speaks::Begun, ..row("content_block_start", "") },
        Row { speaks: Speaks::In("delta"), ..row("content_block_delta", "") },
        Row { finishes: Finishes::Item, ..row("content_block_stop", "") },
        last("message_delta", "", &[]),
        last("message_stop", "", &[]),
        last("error", "", &[]),
    ],
    complete: &["id", "type", "role", "model", "name", "tool_use_id", "request_id", "service_tier"],
    spelled_out: &["logprobs", "token_ids", "prompt_token_ids", "encrypted_content", "__verbose"],
    hushed: "null",
    zeroed: &[],
    // `data` is what redacted thinking and images are made of.
    opaque: &["data", "audio", "images"],
    held: &["partial_json", "signature"],
    repeated: &["type", "index"],
    closing: "",
    counter: None,
    answers: &["message"],
};

/// Ollama's own chat and generation.
pub(super) const OLLAMA: Grammar = Grammar {
    dialect: Dialect::Ollama,
    rows: &[],
    complete: &[
        "model",
        "created_at",
        "role",
        "done_reason",
        "error",
        "name",
        "tool_name",
        "id",
        "type",
        "remote_model",
        "remote_host",
        "code",
        "request_id",
    ],
    spelled_out: &["context", "logprobs", "top_logprobs", "_debug_info", "debug_info"],
    hushed: "null",
    zeroed: &[],
    opaque: &["images", "image", "audio"],
    held: &[shape::ARGUMENTS],
    repeated: &["model", "created_at", "role"],
    closing: ",\"done\":false",
    counter: None,
    answers: &[],
};

/// TGI's own generation.
pub(super) const TGI: Grammar = Grammar {
    dialect: Dialect::Tgi,
    rows: &[],
    complete: &["finish_reason", "error", "error_type", "code", "request_id"],
    spelled_out: &["tokens", "prefill", "top_tokens", "logprob"],
    hushed: "[]",
    zeroed: &["id"],
    opaque: &[],
    held: &[],
    repeated: &["special", "id", "logprob"],
    closing: ",\"generated_text\":null,\"details\":null",
    counter: Some("index"),
    answers: &[],
};

/// Triton's generation, which KServe's protocol describes.
pub(super) const KSERVE: Grammar = Grammar {
    dialect: Dialect::Kserve,
    rows: &[],
    complete: &["id", "model_name", "model_version", "error", "code", "request_id"],
    spelled_out: &[
        "output_ids",
        "token_ids",
        "input_ids",
        "output_log_probs",
        "cum_log_probs",
        "context_logits",
        "generation_logits",
    ],
    hushed: "null",
    zeroed: &[],
    opaque: &[],
    held: &[],
    repeated: &["id", "model_name", "model_version", "sequence_id", "sequence_start", "sequence_end"],
    closing: "",
    counter: None,
    answers: &[],
};

impl Grammar {
    /// The table of a dialect.
    pub(super) const fn of(dialect: Dialect) -> &'static Self {
        match dialect {
            Dialect::OpenAi => &OPENAI,
            Dialect::Responses => &RESPONSES,
            Dialect::Anthropic => &ANTHROPIC,
            Dialect::Ollama => &OLLAMA,
            Dialect::Tgi => &TGI,
            Dialect::Kserve => &KSERVE,
        }
    }

    /// The row of a type.
    pub(super) fn row(&self, kind: &str) -> Option<&'static Row> {
        self.rows.iter().find(|row| kind.strip_prefix(row.stem) == Some(row.ending))
    }

    /// The type of the events that have the pieces of a stem; empty where there are no types.
    pub(super) fn kind_of_pieces(&self, stem: &str) -> String {
        let speaks = |row: &&Row| row.stem == stem && row.speaks != Speaks::Nothing;
        self.rows.iter().find(speaks).map(|row| format!("{}{}", row.stem, row.ending)).unwrap_or_default()
    }
}

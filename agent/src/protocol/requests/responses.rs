//! `OpenAI`'s responses: a list of items, each of a type.
//!
//! A response can be kept by the server and gone on with by whoever knows its id: `previous_response_id`, `conversation`,
//! items that are references, answers in the background. The server knows nobody here (every caller is the proxy), so that
//! one caller's state would be every caller's. What goes on from kept state is refused, and `store` is always false: the
//! official clients send the whole conversation then, which is also the only way in which all of it is scanned.

use super::super::ProtocolError;
use super::openai::part;
use super::texts::{content, fold, is_nothing, kind, no_text, plain, plain_member, text, unknown};
use bailiwick_masking::json::{Document, Kind, Node};

/// Items that are text, or calls and results that are.
const ITEMS: &[&str] = &[
    "message",
    "function_call",
    "function_call_output",
    "custom_tool_call",
    "custom_tool_call_output",
    "local_shell_call",
    "local_shell_call_output",
    "shell_call",
    "shell_call_output",
    "apply_patch_call",
    "apply_patch_call_output",
    "reasoning",
];

/// Parts that are text, beside those of a chat.
const PARTS: &[&str] = &["input_text", "output_text", "summary_text", "reasoning_text"];

pub(super) fn inspectable(document: &Document<'_>) -> Result<(), ProtocolError> {
    for member in document.root().members() {
        let value = &member.value;
        match &*fold(&member.name) {
            "input" | "instructions" => items(document, value)?,
            // A template that the server keeps, and what to fill in.
            "prompt" if !is_nothing(value) => text(value)?,
            "previous_input_messages" if !is_nothing(value) => return unknown(),
            name => plain_member(name, value)?,
        }
    }
    Ok(())
}

fn items(document: &Document<'_>, value: &Node<'_>) -> Result<(), ProtocolError> {
    content(value, &|item| {
        match kind(document, item) {
            Some(kind) if ITEMS.contains(&&*kind) => {}
            // A message may leave out that it is one.
            None if item.get("role").is_some() => {}
            Some(_) | None => return unknown(),
        }
        for member in item.members() {
            match &*fold(&member.name) {
                "content" | "output" | "summary" => content(&member.value, &|one| text_part(document, one))?,
                name => plain_member(name, &member.value)?,
            }
        }
        Ok(())
    })
}

fn text_part(document: &Document<'_>, one: &Node<'_>) -> Result<(), ProtocolError> {
    match kind(document, one) {
        Some(kind) if PARTS.contains(&&*kind) => plain(one.members()),
        // The output of a shell: `stdout`, `stderr` and how it ended.
        None if one.get("stdout").is_some() => plain(one.members()),
        Some(kind) if matches!(&*kind, "input_image" | "input_file" | "input_audio") => no_text(),
        Some(_) | None => part(document, one),
    }
}

/// Nothing that another caller left is gone on with, and nothing is left for one.
pub(super) fn keeps_no_state(document: &Document<'_>) -> Result<(), ProtocolError> {
    let root = document.root();
    for member in root.members() {
        let asks = match &*fold(&member.name) {
            "previous_response_id" | "conversation" | "previous_input_messages" => !is_nothing(&member.value),
            "background" => !matches!(member.value.kind, Kind::Null | Kind::Bool(false)),
            "input" => member.value.elements().iter().any(|item| is_reference(document, item)),
            _ => false,
        };
        if asks {
            return Err(ProtocolError::bad_request(
                "state-not-kept",
                "the model keeps no conversation: all callers are one to it, and could read each other's. Send the whole \
                 conversation as input, without previous_response_id, conversation, background or item references",
            ));
        }
    }
    Ok(())
}

/// An item that stands for another one. Its type may be left out, and then it has an id and nothing that is said.
fn is_reference(document: &Document<'_>, item: &Node<'_>) -> bool {
    match kind(document, item) {
        Some(kind) => kind.eq_ignore_ascii_case("item_reference"),
        None => item.get("id").is_some() && item.get("content").is_none(),
    }
}

//! Anthropic's messages: blocks, which may hold blocks.

use super::super::ProtocolError;
use super::texts::{content, fold, kind, messages, no_text, plain, plain_member, unknown};
use bailiwick_masking::json::{Document, Kind, Node};

pub(super) fn inspectable(document: &Document<'_>) -> Result<(), ProtocolError> {
    let block = |one: &Node<'_>| block(document, one);
    for member in document.root().members() {
        match &*fold(&member.name) {
            "system" => content(&member.value, &block)?,
            "messages" => messages(&member.value, &block)?,
            name => plain_member(name, &member.value)?,
        }
    }
    Ok(())
}

fn block(document: &Document<'_>, block: &Node<'_>) -> Result<(), ProtocolError> {
    let Some(kind) = kind(document, block) else { return unknown() };
    let own: &[&str] = match &*kind {
        "text" | "thinking" | "tool_reference" => &[],
        // Arguments are whatever the tool takes: every string, key and number in them is scanned.
        "tool_use" => &["input"],
        "tool_result" | "search_result" => &["content"],
        "document" => &["source"],
        // Encrypted by whoever made it.
        "redacted_thinking" => return no_text(),
        _ => return unknown(),
    };
    for member in block.members() {
        let name = fold(&member.name);
        match &*name {
            "input" if own.contains(&"input") => {}
            "content" if own.contains(&"content") => {
                content(&member.value, &|one| self::block(document, one))?
            }
            "source" if own.contains(&"source") => source(document, &member.value)?,
            // The source of a search result is a name; any other block has none.
            "source" if !matches!(member.value.kind, Kind::Null | Kind::String) => return no_text(),
            name => plain_member(name, &member.value)?,
        }
    }
    Ok(())
}

/// Of a document: text, or blocks; a file or an address cannot be inspected.
fn source(document: &Document<'_>, source: &Node<'_>) -> Result<(), ProtocolError> {
    match kind(document, source).as_deref() {
        Some("text") => plain(source.members()),
        Some("content") => {
            let held = source.get("content");
            held.map_or(Ok(()), |held| content(held, &|one| block(document, one)))
        }
        Some(_) | None => no_text(),
    }
}

//! Ollama's own chat, generation and embeddings.

use super::super::ProtocolError;
use super::texts::{fold, is_nothing, messages, plain_member, text, tokens, unknown};
use bailiwick_masking::json::Document;

pub(super) fn inspectable(document: &Document<'_>) -> Result<(), ProtocolError> {
    for member in document.root().members() {
        let value = &member.value;
        match &*fold(&member.name) {
            "prompt" | "input" | "system" | "template" | "suffix" => text(value)?,
            // An earlier conversation, as token ids.
            "context" if !is_nothing(value) => return tokens(),
            // A message's content is a string, never parts.
            "messages" => messages(value, &|_| unknown())?,
            name => plain_member(name, value)?,
        }
    }
    Ok(())
}

//! `OpenAI`'s chat, completions, embeddings and images; rerank and score as vLLM and llama.cpp have them.

use super::super::ProtocolError;
use super::super::shape::TEXT_PARTS;
use super::texts::{content, fold, kind, messages, plain, plain_member, text, tokens, unknown};
use bailiwick_masking::json::{Document, Kind, Node};

pub(super) fn inspectable(document: &Document<'_>) -> Result<(), ProtocolError> {
    for member in document.root().members() {
        let value = &member.value;
        match &*fold(&member.name) {
            "prompt" | "input" | "inputs" | "suffix" => text(value)?,
            "messages" => messages(value, &|one| part(document, one))?,
            "query" | "queries" | "documents" | "items" | "texts" | "text_1" | "text_2" | "data_1"
            | "data_2" => ranked(document, value)?,
            name => plain_member(name, value)?,
        }
    }
    Ok(())
}

/// An object of a type that is text; a type that is not known may be anything.
pub(super) fn part(document: &Document<'_>, part: &Node<'_>) -> Result<(), ProtocolError> {
    if !kind(document, part).is_some_and(|kind| TEXT_PARTS.contains(&&*kind)) {
        return unknown();
    }
    plain(part.members())
}

/// What is ranked or scored: texts, or documents with a `text`, or with a `content` of text parts.
fn ranked(document: &Document<'_>, value: &Node<'_>) -> Result<(), ProtocolError> {
    match &value.kind {
        Kind::Null | Kind::String => Ok(()),
        Kind::Array(elements) => elements.iter().try_for_each(|element| ranked(document, element)),
        Kind::Object(members) => members.iter().try_for_each(|member| match &*fold(&member.name) {
            "content" => content(&member.value, &|one| part(document, one)),
            "text" | "title" => text(&member.value),
            "type" if kind(document, value).is_some_and(|kind| !TEXT_PARTS.contains(&&*kind)) => unknown(),
            name => plain_member(name, &member.value),
        }),
        Kind::Bool(_) | Kind::Number => tokens(),
    }
}

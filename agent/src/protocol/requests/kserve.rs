//! Tensors (`KServe`'s protocol, version 2), and the plainer objects of Triton's and TGI's `generate`.
//!
//! A tensor of the type `BYTES` holds text. Of any other, a single number is a setting (a temperature, a length); several
//! may be token ids. Tensors that are not in the body cannot be inspected at all, in either direction: those in shared memory
//! and those that are appended as bytes (the binary data extension) are always refused.

use super::super::ProtocolError;
use super::texts::{fold, plain_member, text, tokens, unknown};
use bailiwick_masking::json::{Document, Kind, Node};

/// Settings that put a tensor, of the request or of the answer, somewhere else than into JSON.
const ELSEWHERE: &[&str] = &[
    "binary_data",
    "binary_data_size",
    "binary_data_output",
    "shared_memory_region",
    "shared_memory_offset",
    "shared_memory_byte_size",
];

/// Every tensor is in the body, and so will every one of the answer be. Asked whether a mask applies or not.
pub(super) fn tensors_are_here(document: &Document<'_>) -> Result<(), ProtocolError> {
    if names_elsewhere(document.root()) {
        return Err(ProtocolError::not_inspectable(
            "a tensor is not in the JSON (binary data or shared memory): send and ask for tensors as JSON",
        ));
    }
    Ok(())
}

fn names_elsewhere(node: &Node<'_>) -> bool {
    let elsewhere = |value: &Node<'_>| !matches!(value.kind, Kind::Null | Kind::Bool(false));
    node.members().iter().any(|member| {
        (ELSEWHERE.contains(&&*fold(&member.name)) && elsewhere(&member.value))
            || names_elsewhere(&member.value)
    }) || node.elements().iter().any(names_elsewhere)
}

/// No sequence is begun or gone on with: the state of a stateful model belongs to whoever knows its number.
pub(super) fn keeps_no_state(document: &Document<'_>) -> Result<(), ProtocolError> {
    let root = document.root();
    let parameters = root.members().iter().filter(|member| fold(&member.name) == "parameters");
    let settings = parameters.flat_map(|member| member.value.members()).chain(root.members());
    for setting in settings.filter(|setting| fold(&setting.name) == "sequence_id") {
        if !matches!(document.raw(&setting.value), b"0" | b"null" | b"\"\"") {
            return Err(ProtocolError::bad_request(
                "state-not-kept",
                "the model keeps no sequence: all callers are one to it, and could go on with each other's. Leave out \
                 sequence_id",
            ));
        }
    }
    Ok(())
}

/// `infer`: tensors of text, and single numbers.
pub(super) fn tensors(document: &Document<'_>) -> Result<(), ProtocolError> {
    for member in document.root().members() {
        match (&*fold(&member.name), &member.value.kind) {
            ("inputs", Kind::Array(tensors)) => {
                tensors.iter().try_for_each(|one| tensor(document, one))?;
            }
            ("inputs", _) => return unknown(),
            // The names of what is wanted; each may have parameters.
            ("outputs", _) => {}
            (name, _) => plain_member(name, &member.value)?,
        }
    }
    Ok(())
}

fn tensor(document: &Document<'_>, tensor: &Node<'_>) -> Result<(), ProtocolError> {
    let kind = tensor.get("datatype").and_then(|kind| document.text(kind));
    let Kind::Object(members) = &tensor.kind else { return unknown() };
    for member in members {
        match &*fold(&member.name) {
            "data" if kind.as_deref() == Some("BYTES") && !is_all_text(&member.value) => return tokens(),
            "data" if kind.as_deref() != Some("BYTES") && count(&member.value) > 1 => return tokens(),
            "data" | "shape" => {}
            name => plain_member(name, &member.value)?,
        }
    }
    Ok(())
}

fn is_all_text(value: &Node<'_>) -> bool {
    match &value.kind {
        Kind::String => true,
        Kind::Array(elements) => elements.iter().all(is_all_text),
        Kind::Null | Kind::Bool(_) | Kind::Number | Kind::Object(_) => false,
    }
}

fn count(value: &Node<'_>) -> usize {
    match &value.kind {
        Kind::Array(elements) => elements.iter().map(count).sum(),
        Kind::Null | Kind::Bool(_) | Kind::Number | Kind::String | Kind::Object(_) => 1,
    }
}

/// `generate`: named texts and settings.
pub(super) fn generation(document: &Document<'_>) -> Result<(), ProtocolError> {
    for member in document.root().members() {
        match (&*fold(&member.name), &member.value.kind) {
            ("inputs" | "text_input", _) => text(&member.value)?,
            ("parameters", Kind::Object(parameters)) => {
                for parameter in parameters {
                    plain_member(&fold(&parameter.name), &parameter.value)?;
                }
            }
            (name, _) => plain_member(name, &member.value)?,
        }
    }
    Ok(())
}

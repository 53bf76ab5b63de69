//! What is text, and what only stands in its place.

use super::super::ProtocolError;
use bailiwick_masking::json::{Document, Kind, Member, Node};
use bailiwick_masking::{Findings, Masker};
use std::borrow::Cow;

/// A name as the most forgiving reader compares it: Go's JSON ignores case and folds `ſ` and the Kelvin sign.
pub(in super::super) fn fold(name: &str) -> Cow<'_, str> {
    let is_folded = name.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase());
    if is_folded {
        return Cow::Borrowed(name);
    }
    let folded = name.chars().map(|c| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    });
    Cow::Owned(folded.collect())
}

/// Members that are never text, whatever they stand in.
const NOT_TEXT: &[&str] = &[
    "image",
    "image_url",
    "input_image",
    "images",
    "image_data",
    "image_embeds",
    "image_pil",
    "input_audio",
    "audio_url",
    "audio_data",
    "audio_embeds",
    "video",
    "video_url",
    "file",
    "file_url",
    "file_data",
    "file_id",
    "multi_modal",
    "multi_modal_data",
    "multimodal_data",
    "mm_data",
    "prompt_embeds",
    "inputs_embeds",
    "encrypted_content",
    "kv_transfer_params",
];

/// Lists of numbers that are settings: token ids that steer, and do not say.
const SETTINGS: &[&str] =
    &["stop_token_ids", "allowed_token_ids", "bad_words_token_ids", "logit_bias", "timestamp_granularities"];

const PICTURES: &str =
    "a part is not text (images, audio, files and embeddings cannot be masked); send text parts";
const TOKENS: &str = "a list of numbers stands where text may (token ids cannot be masked); send a string or an array of strings";
const UNKNOWN: &str = "a part is of a type that is not known here, and so cannot be masked; send text parts";

/// Refused: an image, a sound, a file.
pub(super) fn no_text<T>() -> Result<T, ProtocolError> {
    Err(ProtocolError::not_inspectable(PICTURES))
}

/// Refused: a type that is not known.
pub(super) fn unknown<T>() -> Result<T, ProtocolError> {
    Err(ProtocolError::not_inspectable(UNKNOWN))
}

/// Refused: numbers that may be token ids.
pub(super) fn tokens<T>() -> Result<T, ProtocolError> {
    Err(ProtocolError::not_inspectable(TOKENS))
}

/// Text that must go on as it is, such as a name in a path, and so may hold nothing that a mask would change.
pub(in super::super) fn unmasked(text: &str, masker: &Masker) -> Result<(), ProtocolError> {
    let mut findings = Findings::default();
    if !masker.is_empty() && masker.text(text, &mut findings).map_err(ProtocolError::of_request)? != *text {
        return Err(ProtocolError::not_inspectable(
            "the path or the boundary of the form holds what a mask would change, and cannot be changed: use another",
        ));
    }
    Ok(())
}

/// No member is of those that are never text, nor a list of numbers without a name that says why.
pub(super) fn plain(members: &[Member<'_>]) -> Result<(), ProtocolError> {
    members.iter().try_for_each(|member| plain_member(&fold(&member.name), &member.value))
}

/// As [`plain`], for one member by its folded name.
pub(super) fn plain_member(name: &str, value: &Node<'_>) -> Result<(), ProtocolError> {
    if NOT_TEXT.contains(&name) && !is_nothing(value) {
        return no_text();
    }
    if !SETTINGS.contains(&name) && holds_numbers(value) {
        return tokens();
    }
    Ok(())
}

/// `null`, or an empty list.
pub(super) fn is_nothing(value: &Node<'_>) -> bool {
    match &value.kind {
        Kind::Null => true,
        Kind::Array(elements) => elements.is_empty(),
        Kind::Bool(_) | Kind::Number | Kind::String | Kind::Object(_) => false,
    }
}

/// A list of numbers, or of such lists.
fn holds_numbers(value: &Node<'_>) -> bool {
    value.elements().iter().any(|element| matches!(element.kind, Kind::Number) || holds_numbers(element))
}

/// `null`, a string, or an array of strings.
pub(super) fn text(value: &Node<'_>) -> Result<(), ProtocolError> {
    match &value.kind {
        Kind::Null | Kind::String => Ok(()),
        Kind::Array(elements) if elements.iter().all(|one| matches!(one.kind, Kind::String)) => Ok(()),
        Kind::Bool(_) | Kind::Number | Kind::Array(_) | Kind::Object(_) => tokens(),
    }
}

/// `null`, a string, or an array of parts, each a string or an object that `part` accepts.
pub(super) fn content(
    value: &Node<'_>,
    part: &dyn Fn(&Node<'_>) -> Result<(), ProtocolError>,
) -> Result<(), ProtocolError> {
    match &value.kind {
        Kind::Null | Kind::String => Ok(()),
        Kind::Array(parts) => parts.iter().try_for_each(|one| match one.kind {
            Kind::String => Ok(()),
            Kind::Object(_) => part(one),
            Kind::Null | Kind::Bool(_) | Kind::Number | Kind::Array(_) => unknown(),
        }),
        Kind::Bool(_) | Kind::Number | Kind::Object(_) => unknown(),
    }
}

/// The messages of a chat, each an object whose `content` is one.
pub(super) fn messages(
    value: &Node<'_>,
    part: &dyn Fn(&Node<'_>) -> Result<(), ProtocolError>,
) -> Result<(), ProtocolError> {
    let Kind::Array(messages) = &value.kind else {
        return if is_nothing(value) { Ok(()) } else { unknown() };
    };
    for message in messages {
        let Kind::Object(members) = &message.kind else { return unknown() };
        for member in members {
            match &*fold(&member.name) {
                "content" => content(&member.value, part)?,
                name => {
                    // An answer that was spoken, in a conversation: `{"id": …}`.
                    if name == "audio" && !is_nothing(&member.value) {
                        return no_text();
                    }
                    plain_member(name, &member.value)?;
                }
            }
        }
    }
    Ok(())
}

/// What an object says it is.
pub(super) fn kind(document: &Document<'_>, object: &Node<'_>) -> Option<String> {
    object.get("type").and_then(|kind| document.text(kind)).map(Cow::into_owned)
}

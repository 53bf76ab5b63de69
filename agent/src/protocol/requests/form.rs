//! Requests that are forms: audio to be written down or translated, images to be changed.

use super::super::multipart::{Form, Part, Written, boundary, malformed};
use super::super::rewrite::pseudonym;
use super::super::shape::IDENTITY;
use super::super::{Endpoint, ProtocolError, Request, Rewriting};
use super::remote::{leads_away, no_cloud};
use super::texts::{fold, unmasked};
use bailiwick_masking::json::{self, quote};
use bailiwick_masking::{Findings, Masker};
use bytes::Bytes;
use http::StatusCode;

/// Reads, strips and masks a form. Fields are text; a file cannot be inspected, and passes only where no mask applies.
pub(in super::super) fn form(
    endpoint: &Endpoint,
    content_type: Option<&str>,
    body: &Bytes,
    rewriting: &Rewriting<'_>,
    masker: &Masker,
) -> Result<Request, ProtocolError> {
    let boundary = content_type.and_then(boundary).ok_or_else(|| ProtocolError {
        status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
        code: "content-type-not-accepted",
        message: "the body's type is not multipart/form-data with one plain boundary".into(),
    })?;
    unmasked(boundary, masker)?;
    let form = Form::read(body, boundary)?;
    let mut findings = Findings::default();
    let mut values = Vec::with_capacity(form.parts.len());
    let (mut streamed, mut changed) = (false, false);
    for part in &form.parts {
        if part.file {
            if !masker.is_empty() {
                return Err(ProtocolError::not_inspectable(
                    "a file cannot be masked (audio and images cannot be inspected), and a mask applies to this request",
                ));
            }
            values.push(None);
            continue;
        }
        let text = field(part, form.value(part))?;
        let name = fold(part.name);
        match &*name {
            "model" => no_cloud(text, rewriting.server)?,
            "stream" => streamed = is_true(text)?,
            // Files and URLs that are sent as text.
            "file" | "image" | "image[]" | "mask" if !masker.is_empty() => {
                return Err(ProtocolError::not_inspectable(
                    "a file cannot be masked, and a mask applies to this request",
                ));
            }
            "url" | "file_url" | "image_url" | "audio_url" if leads_away(text) && !rewriting.fetch_urls => {
                return Err(ProtocolError {
                    status: StatusCode::FORBIDDEN,
                    code: "remote-content-not-allowed",
                    message:
                        "the request names a URL that the model's server would fetch: send the file itself"
                            .into(),
                });
            }
            _ => {}
        }
        let said = hidden(&name, text, rewriting);
        let now = match &said {
            Some(Written::LeftOut) => None,
            Some(Written::As(text)) => Some(masked(part.name, text, masker, &mut findings)?),
            None => Some(masked(part.name, text, masker, &mut findings)?),
        };
        let written = match now {
            None => Some(Written::LeftOut),
            Some(now) if now == text => None,
            Some(now) => Some(Written::As(now)),
        };
        changed |= written.is_some();
        values.push(written);
    }
    // What nobody changes goes on as it came: a sound is large.
    let body = if changed {
        let written = form.write(&values);
        // What was taken out of a text must not have made a boundary of the rest.
        let kept = values.iter().filter(|value| **value != Some(Written::LeftOut)).count();
        if Form::read(&written, boundary)?.parts.len() != kept {
            return Err(malformed("its boundary stands in a text"));
        }
        Bytes::from(written)
    } else {
        body.clone()
    };
    let content_type = format!("multipart/form-data; boundary={boundary}").into();
    let streamed = streamed && endpoint.streams == super::super::endpoint::Streams::Asked;
    Ok(Request { body, content_type, streamed, max_tokens: 0, findings })
}

/// A field's text: UTF-8, of no other type.
fn field<'a>(part: &Part<'_>, value: &'a [u8]) -> Result<&'a str, ProtocolError> {
    let plain = |given: &str| {
        let mut words = given.split(';').map(|word| word.trim().to_ascii_lowercase());
        words.next().as_deref() == Some("text/plain")
            && words.all(|word| matches!(word.as_str(), "charset=utf-8" | "charset=\"utf-8\""))
    };
    if !part.content_type.is_none_or(plain) {
        return Err(malformed("a part has a type of its own, but no file name"));
    }
    std::str::from_utf8(value).map_err(|_| malformed("a field is not UTF-8"))
}

/// Whether a stream is asked for.
fn is_true(text: &str) -> Result<bool, ProtocolError> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" | "" => Ok(false),
        _ => Err(ProtocolError::bad_request("stream-not-boolean", "`stream` is neither true nor false")),
    }
}

/// What becomes of a field that says who calls.
fn hidden(name: &str, text: &str, rewriting: &Rewriting<'_>) -> Option<Written> {
    let own = |path: &Vec<String>| matches!(path.as_slice(), [one] if fold(one) == name);
    if !IDENTITY.contains(&name) && !rewriting.identity.fields.iter().any(own) {
        return None;
    }
    Some(match &rewriting.identity.pseudonym {
        None => Written::LeftOut,
        Some(key) => Written::As(pseudonym(key, rewriting.caller, text.as_bytes())),
    })
}

/// A field's text, masked as the member of an object that has its name, so that masks of fields find it.
fn masked(name: &str, text: &str, masker: &Masker, findings: &mut Findings) -> Result<String, ProtocolError> {
    if masker.is_empty() {
        return Ok(text.to_owned());
    }
    let object = format!("{{{}:{}}}", quote(name), quote(text));
    let written = masker.json(object.as_bytes(), findings).map_err(ProtocolError::of_request)?;
    let document = json::parse(&written).map_err(ProtocolError::of_request)?;
    let value = document.root().get(name).and_then(|value| document.text(value));
    // A name that is itself masked leaves none by which the server would know the field.
    value.map(std::borrow::Cow::into_owned).ok_or_else(|| malformed("a field's name holds what is masked"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::{IdentityFields, PseudonymKey, ServerPreset};
    use crate::protocol::find;
    use bailiwick_masking::{Action, Entity, Mask};
    use bailiwick_policy::Principal;
    use http::Method;
    use std::sync::Arc;

    const TYPE: &str = "multipart/form-data; boundary=b";

    fn part(name: &str, value: &str) -> String {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    }

    const FILE: &str = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\nRIFF alice@example.com\r\n";

    fn sent(
        parts: &[String],
        masker: &Masker,
        identity: &IdentityFields,
        server: ServerPreset,
    ) -> Result<(String, bool), ProtocolError> {
        let endpoint = find(server, &Method::POST, "/v1/audio/transcriptions").unwrap();
        let caller = Principal::default();
        let rewriting = Rewriting { max_tokens: None, ..Rewriting::new(server, identity, &caller) };
        let body = format!("{}--b--\r\n", parts.concat());
        let request = form(endpoint, Some(TYPE), &Bytes::from(body), &rewriting, masker)?;
        Ok((String::from_utf8(request.body.to_vec()).unwrap(), request.streamed))
    }

    fn masks() -> Masker {
        let fields = ["$.customer".to_owned()];
        Masker { masks: vec![Arc::new(Mask::new(Entity::ALL, &fields, Action::Redact, [7; 32]).unwrap())] }
    }

    #[test]
    fn fields_are_masked_and_stripped_and_files_pass_only_without_a_mask() {
        let identity = IdentityFields::default();
        let parts = [
            part("model", "whisper"),
            part("prompt", "I am alice@example.com"),
            part("user", "alice"),
            part("timestamp_granularities[]", "word"),
            part("timestamp_granularities[]", "segment"),
            part("customer", "42"),
            part("stream", "true"),
        ];
        let (body, streamed) = sent(&parts, &masks(), &identity, ServerPreset::Vllm).unwrap();
        assert!(
            body.contains("I am [email]") && body.contains("[masked]") && !body.contains("alice"),
            "{body}"
        );
        assert!(streamed && body.contains("segment"));

        let with_file = [FILE.to_owned(), part("model", "whisper"), part("prompt", "alice@example.com")];
        let (body, streamed) = sent(&with_file, &Masker::default(), &identity, ServerPreset::Vllm).unwrap();
        assert_eq!(body, format!("{}--b--\r\n", with_file.concat()), "byte for byte");
        assert!(!streamed);
        let error = sent(&with_file, &masks(), &identity, ServerPreset::Vllm).unwrap_err();
        assert_eq!((error.status.as_u16(), error.code), (422, "content-not-inspectable"));
        assert!(!error.to_string().contains("alice"));

        let pseudonym = IdentityFields { pseudonym: Some(PseudonymKey([7; 32])), fields: vec![] };
        let (body, _) = sent(&parts, &Masker::default(), &pseudonym, ServerPreset::Vllm).unwrap();
        assert!(body.contains("name=\"user\"\r\n\r\np-"), "{body}");
    }

    #[test]
    fn what_a_form_may_not_say() {
        let identity = IdentityFields::default();
        let typed = "--b\r\nContent-Disposition: form-data; name=\"prompt\"\r\nContent-Type: application/json\r\n\r\n{}\r\n";
        for (parts, masker, code, why) in [
            (vec![part("stream", "1")], Masker::default(), "stream-not-boolean", "true to some"),
            (vec![part("model", "whisper:cloud")], Masker::default(), "cloud-model", "run elsewhere"),
            (vec![part("file", "RIFF")], masks(), "content-not-inspectable", "a file as text"),
            (
                vec![part("url", "https://192.0.2.1/a.wav")],
                Masker::default(),
                "remote-content-not-allowed",
                "fetched",
            ),
            (vec![typed.to_owned()], Masker::default(), "multipart-malformed", "a type and no file"),
            (vec![part("4111111111111111", "x")], masks(), "multipart-malformed", "a name that is masked"),
        ] {
            let error = sent(&parts, &masker, &identity, ServerPreset::Ollama).unwrap_err();
            assert_eq!(error.code, code, "{why}");
        }
        let endpoint = find(ServerPreset::Vllm, &Method::POST, "/v1/audio/transcriptions").unwrap();
        let caller = Principal::default();
        let rewriting = Rewriting::new(ServerPreset::Vllm, &identity, &caller);
        let card = "multipart/form-data; boundary=4111111111111111";
        let error =
            form(endpoint, Some(card), &Bytes::from_static(b"--4111111111111111--"), &rewriting, &masks())
                .unwrap_err();
        assert_eq!(error.code, "content-not-inspectable", "a boundary that is masked");
        for content_type in [None, Some("application/json"), Some("multipart/form-data")] {
            let error =
                form(endpoint, content_type, &Bytes::from_static(b"--b--"), &rewriting, &Masker::default())
                    .unwrap_err();
            assert_eq!((error.status.as_u16(), error.code), (415, "content-type-not-accepted"));
        }
    }
}

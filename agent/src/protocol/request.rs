//! A request body: read strictly, stripped of who calls, masked.

use super::endpoint::{BodyForm, Streams};
use super::requests::{self, fold};
use super::rewrite::{Rewriting, rewrite};
use super::{Endpoint, ProtocolError};
use bailiwick_masking::json::{self, Document, Kind, Node};
use bailiwick_masking::{Findings, Masker};
use bytes::Bytes;
use std::borrow::Cow;

/// Members that decide how the others are read. In other letters some servers would read them, and some would not.
const DECIDING: &[&str] = &["stream", "options", "parameters"];

/// A request body, ready for the model.
pub struct Request {
    /// Masked, identity fields removed or replaced (`user`, `safety_identifier`, `prompt_cache_key`, `metadata.user_id`, those
    /// of the config), the answer's length bounded where that is limited, nothing to be kept, else byte for byte.
    pub body: Bytes,
    /// Its type.
    pub content_type: Cow<'static, str>,
    /// The answer will be a stream.
    pub streamed: bool,
    /// Tokens of the longest answer that it asks for; zero where it does not say.
    pub max_tokens: u64,
    /// What was masked.
    pub findings: Findings,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request")
            .field("body_bytes", &self.body.len())
            .field("streamed", &self.streamed)
            .field("findings", &self.findings)
            .finish()
    }
}

/// Reads, strips and masks a request body. The caller bounds its size, and checks that `content_type` is what the endpoint
/// takes.
///
/// # Errors
/// [`ProtocolError`], never with the body's text in it: `body-not-json`, `body-not-an-object`, `duplicate-key`,
/// `stream-not-boolean`, `multipart-malformed`, `state-not-kept`, `body-not-expected` (400), `cloud-model`,
/// `remote-content-not-allowed` (403), `max-tokens-exceeded` (413), `content-type-not-accepted` (415), `content-not-inspectable`,
/// `blocked-by-mask`, `max-tokens-unbounded` (422).
pub fn request(
    endpoint: &Endpoint,
    content_type: Option<&str>,
    body: &Bytes,
    rewriting: &Rewriting<'_>,
    masker: &Masker,
) -> Result<Request, ProtocolError> {
    match endpoint.body {
        BodyForm::Empty if body.is_empty() => {
            let (body, findings) = (Bytes::new(), Findings::default());
            Ok(Request { body, content_type: JSON, streamed: false, max_tokens: 0, findings })
        }
        BodyForm::Empty => {
            Err(ProtocolError::bad_request("body-not-expected", "this endpoint takes no body; send none"))
        }
        BodyForm::Multipart => requests::form(endpoint, content_type, body, rewriting, masker),
        BodyForm::Json => object(endpoint, body, rewriting, masker),
    }
}

/// A path as the model will see it: the names in it are the caller's text, too, and cannot be masked where they stand.
///
/// # Errors
/// `content-not-inspectable`, `blocked-by-mask` (422)
pub fn scan_path(path: &str, masker: &Masker) -> Result<(), ProtocolError> {
    path.split('/').try_for_each(|segment| requests::unmasked(segment, masker))
}

const JSON: Cow<'static, str> = Cow::Borrowed("application/json");

/// A body that is a JSON object.
fn object(
    endpoint: &Endpoint,
    body: &Bytes,
    rewriting: &Rewriting<'_>,
    masker: &Masker,
) -> Result<Request, ProtocolError> {
    let document = json::parse(body).map_err(ProtocolError::of_request)?;
    let root = document.root();
    if !matches!(root.kind, Kind::Object(_)) {
        return Err(ProtocolError::bad_request("body-not-an-object", "the body is JSON, but not an object"));
    }
    spelled_once(root)?;
    let streamed = streamed(root, endpoint.streams)?;
    requests::stays_here(&document, endpoint, rewriting)?;
    if !masker.is_empty() {
        inspectable(&document, endpoint, rewriting)?;
    }
    let (rewritten, max_tokens) = rewrite(&document, endpoint, rewriting)?;
    let mut findings = Findings::default();
    let masked = match &rewritten {
        _ if masker.is_empty() => None,
        None => masker.document(&document, &mut findings).map_err(ProtocolError::of_request)?,
        Some(bytes) => Some(masker.json(bytes, &mut findings).map_err(ProtocolError::of_request)?),
    };
    // What nobody changes goes on as it came, however large it is.
    let body = masked.or(rewritten).map_or_else(|| body.clone(), Bytes::from);
    Ok(Request { body, content_type: JSON, streamed, max_tokens, findings })
}

/// No key of the body comes again in other letters, and those that decide how the others are read come in none but their
/// own: Go's JSON takes the last of them, others the one that is spelled right.
fn spelled_once(root: &Node<'_>) -> Result<(), ProtocolError> {
    let mut names = Vec::with_capacity(root.members().len());
    for member in root.members() {
        let folded = fold(&member.name);
        if DECIDING.contains(&&*folded) && folded != *member.name {
            return Err(ProtocolError::bad_request(
                "key-misspelled",
                format!("write `{folded}` in these letters"),
            ));
        }
        names.push(folded);
    }
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(ProtocolError::bad_request(
            "duplicate-key",
            "two keys of the body differ in their case only: servers would read one or the other",
        ));
    }
    Ok(())
}

/// Whether the answer will be a stream.
fn streamed(root: &Node<'_>, streams: Streams) -> Result<bool, ProtocolError> {
    let said = match root.get("stream").map(|node| &node.kind) {
        Some(Kind::Bool(streamed)) => Some(*streamed),
        None | Some(Kind::Null) => None,
        Some(Kind::Number | Kind::String | Kind::Array(_) | Kind::Object(_)) => {
            return Err(ProtocolError::bad_request(
                "stream-not-boolean",
                "`stream` is neither true nor false",
            ));
        }
    };
    Ok(match streams {
        Streams::Never => false,
        Streams::Always => true,
        Streams::Asked => said.unwrap_or(false),
        Streams::Unless => said.unwrap_or(true),
    })
}

/// Everything in it that a model would read is text that can be scanned.
fn inspectable(
    document: &Document<'_>,
    endpoint: &Endpoint,
    rewriting: &Rewriting<'_>,
) -> Result<(), ProtocolError> {
    requests::inspectable(document, endpoint)?;
    requests::shows_no_images(document, rewriting.server)
}

#[cfg(test)]
mod tests;

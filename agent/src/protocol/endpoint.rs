//! Exact methods and paths, and what is to be known of each before its body is read.

use super::Dialect;
use super::presets::table;
use crate::config::settings::ServerPreset;
use bailiwick_policy::Operation;
use http::Method;

/// Longest name of a model within a path, in bytes.
const LONGEST_NAME: usize = 128;
/// Longest version of a model within a path, in digits.
const LONGEST_VERSION: usize = 10;

/// One exact method and path that a server preset has.
#[derive(Debug)]
pub struct Endpoint {
    /// Stable name for records: `chat`, `ollama-generate`, `infer`.
    pub name: &'static str,
    /// What policy calls it.
    pub operation: Operation,
    /// What its requests, answers and errors look like.
    pub dialect: Dialect,
    /// What its requests carry.
    pub body: BodyForm,
    /// When its answers are streams.
    pub(super) streams: Streams,
    /// How its answers are bounded.
    pub(super) length: Length,
}

/// What a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyForm {
    /// Nothing.
    Empty,
    /// `application/json`: an object.
    Json,
    /// `multipart/form-data` (RFC 7578).
    Multipart,
}

/// When an answer is a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Streams {
    /// Never, whatever the request says.
    Never,
    /// When `stream` is true.
    Asked,
    /// Unless `stream` is false.
    Unless,
    /// Always, whatever the request says.
    Always,
}

/// Where the longest answer is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// There is no text to bound.
    Fixed,
    /// In the member of that name.
    At(&'static str),
    /// In the member of the second name of the object that has the first.
    Within(&'static str, &'static str),
    /// In a member that each model names as it likes: where there is a bound, `max_tokens` has to say it.
    Said,
    /// Nowhere that could be known.
    Unknown,
}

impl Endpoint {
    /// Without a body: a list, a name, a version.
    pub(super) const fn lookup(name: &'static str, dialect: Dialect) -> Self {
        let (body, streams, length) = (BodyForm::Empty, Streams::Never, Length::Fixed);
        Self { name, operation: Operation::Models, dialect, body, streams, length }
    }

    /// JSON in, a document out.
    pub(super) const fn plain(name: &'static str, operation: Operation, dialect: Dialect) -> Self {
        let (body, streams, length) = (BodyForm::Json, Streams::Never, Length::Fixed);
        Self { name, operation, dialect, body, streams, length }
    }

    /// JSON in, a text out.
    pub(super) const fn generating(
        name: &'static str,
        operation: Operation,
        dialect: Dialect,
        streams: Streams,
        length: Length,
    ) -> Self {
        Self { name, operation, dialect, body: BodyForm::Json, streams, length }
    }

    /// A form in.
    pub(super) const fn form(name: &'static str, operation: Operation) -> Self {
        let (body, streams, length) = (BodyForm::Multipart, Streams::Asked, Length::Fixed);
        Self { name, operation, dialect: Dialect::OpenAi, body, streams, length }
    }
}

/// The endpoint, by exact method and path (never a prefix); `None` is refused with 404 and recorded.
#[must_use]
pub fn find(server: ServerPreset, method: &Method, path: &str) -> Option<&'static Endpoint> {
    table(server).iter().find(|row| row.0 == method.as_str() && matches(row.1, path)).map(|row| &row.2)
}

/// Whether a server has an endpoint of that operation at all.
#[must_use]
pub fn offers(server: ServerPreset, operation: Operation) -> bool {
    table(server).iter().any(|row| row.2.operation == operation)
}

/// Segment by segment: `{model}` and `{version}` stand for one each, every other for itself.
fn matches(pattern: &str, path: &str) -> bool {
    let (mut wanted, mut found) = (pattern.split('/'), path.split('/'));
    loop {
        match (wanted.next(), found.next()) {
            (None, None) => return true,
            (Some("{model}"), Some(name)) if is_name(name) => {}
            (Some("{version}"), Some(version)) if is_version(version) => {}
            (Some(one), Some(other)) if one == other && !one.starts_with('{') => {}
            (Some(_) | None, Some(_)) | (Some(_), None) => return false,
        }
    }
}

/// Letters, digits, `-`, `_` and `.`, a letter or digit first; but not `stats`, where Triton has the figures of all callers.
fn is_name(segment: &str) -> bool {
    segment != "stats"
        && segment.len() <= LONGEST_NAME
        && segment.starts_with(|first: char| first.is_ascii_alphanumeric())
        && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

fn is_version(segment: &str) -> bool {
    (1..=LONGEST_VERSION).contains(&segment.len()) && segment.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_matches_segment_by_segment() {
        const INFER: &str = "/v2/models/{model}/versions/{version}/infer";
        let long = format!("/v2/models/{}/versions/1/infer", "a".repeat(LONGEST_NAME + 1));
        for (pattern, path, expected, why) in [
            (INFER, "/v2/models/llama-3.1_8b/versions/1/infer", true, "as it should be"),
            (INFER, "/v2/models/m/versions/one/infer", false, "a version is a number"),
            (INFER, "/v2/models/m/versions/12345678901/infer", false, "of ten digits"),
            (INFER, "/v2/models/m/versions//infer", false, "of one at least"),
            (INFER, "/v2/models//versions/1/infer", false, "no name"),
            (INFER, "/v2/models/../versions/1/infer", false, "a way up"),
            (INFER, "/v2/models/.m/versions/1/infer", false, "hidden"),
            (INFER, "/v2/models/a%2Fb/versions/1/infer", false, "escapes are not resolved"),
            (INFER, "/v2/models/a:b/versions/1/infer", false, "a colon"),
            (INFER, "/v2/models/m/x/versions/1/infer", false, "a name is one segment"),
            (INFER, "/v2/models/m/versions/1/infer/", false, "a trailing slash"),
            (INFER, "/v2/models/m/versions/1", false, "a prefix"),
            (INFER, "/v2/models/{model}/versions/{version}/infer", false, "the pattern itself"),
            (INFER, &long, false, "a name without end"),
            ("/v2/models/{model}", "/v2/models/m", true, "the name last"),
            ("/v2/models/{model}", "/v2/models/stats", false, "no model, but figures"),
            ("/v1/models", "/v1/models", true, "no parameter"),
            ("/v1/models", "/v1/Models", false, "case counts"),
            ("/v1/models", "", false, "nothing"),
        ] {
            assert_eq!(matches(pattern, path), expected, "{why}: {path}");
        }
    }
}

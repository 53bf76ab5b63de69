//! From a path to a model and one of its endpoints.

use crate::config::settings::{Model, Settings};
use crate::protocol::{self, Endpoint};
use bailiwick_policy::Name;
use http::{Method, Uri};
use std::sync::Arc;

/// Where a request is to go, if it may.
pub(super) struct Route {
    pub(super) model: Arc<Model>,
    pub(super) endpoint: &'static Endpoint,
    /// The path as the model knows it.
    pub(super) path: String,
}

/// Why a path leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RouteError {
    NotCanonical,
    Query,
    ModelUnknown,
    ModelNotNamed,
    EndpointUnknown,
}

/// What paths of model servers begin with.
const ROOTS: [&str; 9] =
    ["v1", "v2", "api", "generate", "generate_stream", "info", "rerank", "reranking", "score"];

/// `/<model>/v1/…` names the model; `/v1/…`, `/api/…` and the other [`ROOTS`] will do where there is exactly one.
pub(super) fn find(settings: &Settings, method: &Method, uri: &Uri) -> Result<Route, RouteError> {
    let path = uri.path();
    if !is_canonical(path) {
        return Err(RouteError::NotCanonical);
    }
    if uri.query().is_some_and(|query| !says_nothing(path, query)) {
        return Err(RouteError::Query);
    }
    let route = |model: &Arc<Model>, path: &str| {
        let endpoint = protocol::find(model.server, method, path)?;
        Some(Route { model: Arc::clone(model), endpoint, path: path.to_owned() })
    };
    let mut named = false;
    if let Some((name, rest)) = split_first(path) {
        let model = Name::new(name).ok().and_then(|name| settings.models.get(&name));
        if let Some(found) = model.and_then(|model| route(model, rest)) {
            return Ok(found);
        }
        named = model.is_some();
    }
    let first = path.split('/').nth(1).unwrap_or_default();
    if !ROOTS.contains(&first) {
        let is_whole = split_first(path).is_none();
        return Err(if named || is_whole { RouteError::EndpointUnknown } else { RouteError::ModelUnknown });
    }
    let mut models = settings.models.values();
    match (models.next(), models.next()) {
        (Some(only), None) => route(only, path).ok_or(RouteError::EndpointUnknown),
        _ if named => Err(RouteError::EndpointUnknown),
        _ => Err(RouteError::ModelNotNamed),
    }
}

/// The one query that clients add of themselves (Anthropic's, for what is not final in their API): it is left out.
fn says_nothing(path: &str, query: &str) -> bool {
    query == "beta=true" && (path.ends_with("/v1/messages") || path.ends_with("/v1/messages/count_tokens"))
}

/// `/first/rest` → `first`, `/rest`.
fn split_first(path: &str) -> Option<(&str, &str)> {
    let inner = path.strip_prefix('/')?;
    let slash = inner.find('/')?;
    Some((&inner[..slash], &inner[slash..]))
}

/// Whether every reader of the path will read the same: segments of unreserved letters (RFC 3986, 2.3), none
/// empty, `.` or `..`, and nothing percent-encoded, so that there is nothing to decode or normalise.
fn is_canonical(path: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    path.strip_prefix('/').is_some_and(|inner| {
        inner.split('/').all(|segment| !matches!(segment, "" | "." | "..") && segment.bytes().all(allowed))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_can_be_read_in_one_way_only() {
        let rows = [
            ("/v1/chat/completions", true, "as it should be"),
            ("/llama/v1/models", true, "with a model's name"),
            ("/v1//models", false, "an empty segment"),
            ("//v1/models", false, "an empty segment first: an authority to some"),
            ("/v1/models/", false, "an empty segment last"),
            ("/v1/../metrics", false, "a way up"),
            ("/v1/./models", false, "a step on the spot"),
            ("/v1/%63hat/completions", false, "percent-encoding"),
            ("/v1/%2e%2e/metrics", false, "a way up, encoded"),
            ("/v1/models;x=1", false, "path parameters, which some servers cut off"),
            ("/v1/models\\..", false, "a backslash, a slash to some"),
            ("/v1/mod\u{e9}ls", false, "not ASCII"),
            ("/v1/models\0", false, "a control character"),
            ("*", false, "the asterisk form"),
            ("", false, "the authority form"),
            ("/", false, "the root has no model"),
        ];
        for (path, expected, why) in rows {
            assert_eq!(is_canonical(path), expected, "{why}: {path:?}");
        }
    }

    #[test]
    fn one_query_is_left_out_and_no_other() {
        for (path, query, nothing) in [
            ("/v1/messages", "beta=true", true),
            ("/llama/v1/messages/count_tokens", "beta=true", true),
            ("/v1/messages", "beta=true&x=alice", false),
            ("/v1/messages", "", false),
            ("/v1/chat/completions", "beta=true", false),
        ] {
            assert_eq!(says_nothing(path, query), nothing, "{path}?{query}");
        }
    }

    #[test]
    fn the_first_segment_names_the_model() {
        assert_eq!(split_first("/llama/v1/models"), Some(("llama", "/v1/models")));
        assert_eq!(split_first("/llama"), None);
        assert_eq!(split_first("llama/v1"), None);
    }
}

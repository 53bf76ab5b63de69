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

/// `/<model>/v1/…` names the model; `/v1/…` will do where there is exactly one.
pub(super) fn find(settings: &Settings, method: &Method, uri: &Uri) -> Result<Route, RouteError> {
    let path = uri.path();
    if !is_canonical(path) {
        return Err(RouteError::NotCanonical);
    }
    if uri.query().is_some() {
        return Err(RouteError::Query);
    }
    let (model, path) = if path.starts_with("/v1/") {
        let mut models = settings.models.values();
        match (models.next(), models.next()) {
            (Some(only), None) => (only, path),
            _ => return Err(RouteError::ModelNotNamed),
        }
    } else {
        let (name, rest) = split_first(path).ok_or(RouteError::EndpointUnknown)?;
        let name = Name::new(name).map_err(|_| RouteError::ModelUnknown)?;
        (settings.models.get(&name).ok_or(RouteError::ModelUnknown)?, rest)
    };
    let endpoint = protocol::find(model.server, method, path).ok_or(RouteError::EndpointUnknown)?;
    Ok(Route { model: Arc::clone(model), endpoint, path: path.to_owned() })
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
    fn the_first_segment_names_the_model() {
        assert_eq!(split_first("/llama/v1/models"), Some(("llama", "/v1/models")));
        assert_eq!(split_first("/llama"), None);
        assert_eq!(split_first("llama/v1"), None);
    }
}

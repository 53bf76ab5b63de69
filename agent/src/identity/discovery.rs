//! From an issuer's URL to its published keys (OpenID Connect Discovery 1.0, 4; RFC 8414).

use super::fetch::{self, FetchError, Transport};
use crate::config::settings::Issuer;
use bytes::Bytes;
use http::Uri;
use serde::Deserialize;

/// Why an issuer's keys could not be had; for the log, not for callers.
#[derive(Debug, thiserror::Error)]
pub(super) enum DiscoveryError {
    #[error("the issuer's url is neither https nor http to a loopback address: correct it in the config")]
    IssuerUrl,
    #[error("fetching the discovery document: {0}")]
    Document(#[source] FetchError),
    #[error("the discovery document is not the JSON object that OpenID Connect Discovery describes")]
    DocumentUnreadable,
    #[error(
        "the discovery document is for another issuer: its 'issuer' must equal the configured url exactly"
    )]
    AnotherIssuer,
    #[error(
        "the discovery document's jwks_uri is not https (nor at the address and port of a loopback http issuer)"
    )]
    KeysUrl,
    #[error("fetching the keys: {0}")]
    Keys(#[source] FetchError),
    #[error("the key set is not a JWK set (RFC 7517, 5)")]
    KeysUnreadable,
    #[error("the key set holds no key that can verify a signature with an accepted algorithm")]
    NoKeys,
}

/// The members that are used (OpenID Connect Discovery, 3).
#[derive(Deserialize)]
struct Document {
    issuer: String,
    jwks_uri: String,
    introspection_endpoint: Option<String>,
}

/// What an issuer publishes.
#[derive(Debug)]
pub(super) struct Published {
    /// A JWK set, as bytes.
    pub(super) keys: Bytes,
    /// Where to ask about opaque tokens, if it may be asked there.
    pub(super) introspection: Option<(Uri, Transport)>,
}

/// Fetches the discovery document and then the key set.
pub(super) async fn fetch_published(issuer: &Issuer) -> Result<Published, DiscoveryError> {
    let well_known = format!("{}/.well-known/openid-configuration", issuer.url.trim_end_matches('/'));
    let (url, transport) = classify(&well_known).ok_or(DiscoveryError::IssuerUrl)?;
    let ca = issuer.ca.as_deref();
    let document = fetch::get(&url, transport, ca).await.map_err(DiscoveryError::Document)?;
    let document = read(&document, &issuer.url)?;
    let keys_url = keys_url(&document, &url)?;
    let keys = fetch::get(&keys_url, transport, ca).await.map_err(DiscoveryError::Keys)?;
    let introspection =
        document.introspection_endpoint.as_deref().and_then(|endpoint| endpoint_of(endpoint, &url));
    Ok(Published { keys, introspection })
}

/// The document, once it has proved to be this issuer's.
fn read(document: &[u8], issuer: &str) -> Result<Document, DiscoveryError> {
    let document: Document =
        serde_json::from_slice(document).map_err(|_| DiscoveryError::DocumentUnreadable)?;
    if document.issuer == issuer { Ok(document) } else { Err(DiscoveryError::AnotherIssuer) }
}

/// Where the document says the keys are.
fn keys_url(document: &Document, fetched_from: &Uri) -> Result<Uri, DiscoveryError> {
    endpoint_of(&document.jwks_uri, fetched_from).map(|(url, _)| url).ok_or(DiscoveryError::KeysUrl)
}

/// An endpoint that a document names. In the clear it may only name its own address and port: others of this host, a model's
/// among them, listen on the loopback, too.
fn endpoint_of(endpoint: &str, fetched_from: &Uri) -> Option<(Uri, Transport)> {
    match classify(endpoint)? {
        found @ (_, Transport::Tls) => Some(found),
        (url, Transport::PlainLoopback) => {
            let same = url.scheme() == fetched_from.scheme() && url.authority() == fetched_from.authority();
            same.then_some((url, Transport::PlainLoopback))
        }
    }
}

/// Every endpoint that a document leads to.
#[cfg(fuzzing)]
pub(super) fn endpoints(document: &[u8], issuer: &str) -> Option<Vec<String>> {
    let (url, _) = classify(issuer)?;
    let document = read(document, issuer).ok()?;
    let keys = keys_url(&document, &url).ok();
    let introspection = document.introspection_endpoint.as_deref().and_then(|named| endpoint_of(named, &url));
    Some(keys.into_iter().chain(introspection.map(|(url, _)| url)).map(|url| url.to_string()).collect())
}

/// How a URL may be fetched; `None` for one that may not.
pub(super) fn classify(url: &str) -> Option<(Uri, Transport)> {
    let url: Uri = url.parse().ok()?;
    let host = url.host()?;
    match url.scheme_str()? {
        "https" => Some((url, Transport::Tls)),
        "http" => {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let loopback = host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
            loopback.then_some((url, Transport::PlainLoopback))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tls_or_a_loopback_address_is_fetched() {
        let rows = [
            ("https://login.example.eu/x", Some(Transport::Tls), "https"),
            ("http://127.0.0.1:8080/x", Some(Transport::PlainLoopback), "loopback IPv4"),
            ("http://[::1]:8080/x", Some(Transport::PlainLoopback), "loopback IPv6"),
            ("http://login.example.eu/x", None, "plain http over a network"),
            ("http://localhost/x", None, "a name is not an address: who resolves it?"),
            ("http://192.0.2.1/x", None, "a remote address"),
            ("ftp://127.0.0.1/x", None, "another scheme"),
            ("file:///etc/keys", None, "a file"),
            ("/relative", None, "no host"),
        ];
        for (url, expected, why) in rows {
            assert_eq!(classify(url).map(|(_, transport)| transport), expected, "{why}");
        }
    }

    #[test]
    fn the_document_must_be_this_issuers() {
        let url = "https://login.example.eu";
        let rows = [
            (
                r#"{"issuer":"https://login.example.eu","jwks_uri":"https://keys.example.eu/k"}"#,
                true,
                "as it should be",
            ),
            (
                r#"{"issuer":"https://login.example.eu/","jwks_uri":"https://login.example.eu/k"}"#,
                false,
                "a slash more",
            ),
            (
                r#"{"issuer":"https://evil.example","jwks_uri":"https://login.example.eu/k"}"#,
                false,
                "another issuer",
            ),
            (
                r#"{"issuer":"https://login.example.eu","jwks_uri":"http://login.example.eu/k"}"#,
                false,
                "keys over plain http",
            ),
            (
                r#"{"issuer":"https://login.example.eu","jwks_uri":"http://127.0.0.1/k"}"#,
                false,
                "plain loopback under https",
            ),
            (r#"{"issuer":"https://login.example.eu"}"#, false, "no jwks_uri"),
            ("[]", false, "not an object"),
        ];
        for (document, good, why) in rows {
            let keys = read(document.as_bytes(), url)
                .and_then(|document| keys_url(&document, &Uri::from_static(url)));
            assert_eq!(keys.is_ok(), good, "{why}");
        }
        let beside = "http://127.0.0.1:9000";
        for (keys, good, why) in [
            ("http://127.0.0.1:9000/k", true, "its own port"),
            ("http://127.0.0.1:8000/k", false, "another port of this host, such as a model's"),
            ("http://[::1]:9000/k", false, "another address of this host"),
        ] {
            let document = format!(r#"{{"issuer":"{beside}","jwks_uri":"{keys}"}}"#);
            let document = read(document.as_bytes(), beside).unwrap();
            assert_eq!(keys_url(&document, &Uri::from_static(beside)).is_ok(), good, "{why}");
        }
    }
}

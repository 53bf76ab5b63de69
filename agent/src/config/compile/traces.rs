//! Where traces go.

use super::super::errors::Problem;
use super::super::host::HostFacts;
use super::super::raw;
use super::super::report::{At, Report};
use super::super::settings::Traces;
use super::Declared;
use super::files::{self, Content};
use super::issuers::is_on_this_host;

/// What the protocol appends to an endpoint that has no path (OpenTelemetry, "Endpoint URLs for OTLP/HTTP").
const DEFAULT_PATH: &str = "/v1/traces";

/// The destination; the agent's own egress is opened to its region, and to nothing else.
pub(super) fn compile(
    raw: &raw::Traces,
    regions: &Declared<'_>,
    host: &HostFacts,
    report: &Report<'_>,
    warnings: &mut Vec<String>,
) -> Option<Traces> {
    let endpoint = raw.endpoint.as_ref().and_then(|endpoint| checked(endpoint, report));
    let region = raw.region.as_ref().and_then(|region| regions.resolve(region, report));
    let ca = raw.ca.as_ref().map(|ca| files::pem(ca, Content::Certificates, host, report));
    if endpoint.as_deref().is_some_and(is_on_this_host) {
        warnings.push(
            "traces.endpoint: a collector on this host sends on what it gets; hold it to its region, too: a [[workload]]"
                .to_owned(),
        );
    }
    Some(Traces { endpoint: endpoint?, region: region?, ca: ca.flatten() })
}

/// An OTLP/HTTP endpoint with its path.
fn checked(endpoint: &At<String>, report: &Report<'_>) -> Option<String> {
    let invalid = |message: &str, cure: &str| {
        let mut place = endpoint.place.clone();
        place.value = place.value.filter(|_| !endpoint.value.contains('@'));
        report.error(&place, Problem::Invalid, message, cure);
        None
    };
    const CURE: &str = "write an OTLP/HTTP endpoint, such as \"https://otel.example.eu:4318/v1/traces\"";
    let Ok(url) = endpoint.value.parse::<http::Uri>() else { return invalid("not a URL", CURE) };
    let Some(authority) = url.authority().filter(|authority| !authority.host().is_empty()) else {
        return invalid("not a URL", CURE);
    };
    if authority.as_str().contains('@') {
        return invalid("a URL with a user in it", "take out what is before the @");
    }
    if url.query().is_some() {
        return invalid("a URL with a query", CURE);
    }
    match url.scheme_str() {
        Some("https") => {}
        Some("http") if is_on_this_host(&endpoint.value) => {}
        Some("http") => {
            let cure = "use https; http only to a loopback address, such as http://127.0.0.1:4318/v1/traces";
            return invalid("over http anybody on the way reads along", cure);
        }
        _ => return invalid("not an https URL", CURE),
    }
    if url.path() == "/" {
        return Some(format!("{}{DEFAULT_PATH}", endpoint.value.trim_end_matches('/')));
    }
    Some(endpoint.value.clone())
}

//! OIDC issuers.

use super::super::errors::Problem;
use super::super::host::HostFacts;
use super::super::raw;
use super::super::report::{At, Place, Report};
use super::super::settings::Issuer;
use super::files::{self, Content};
use super::{Declared, bounded, described, line_of_text};
use std::net::IpAddr;

/// Seconds of clock skew allowed unless the config says otherwise, and at most.
const LEEWAY: u64 = 60;
const LARGEST_LEEWAY: u64 = 300;

/// Every issuer that could be read.
pub(super) fn compile(
    raw: &[raw::Issuer],
    regions: &Declared<'_>,
    host: &HostFacts,
    report: &Report<'_>,
) -> Vec<Issuer> {
    if raw.is_empty() {
        let place = Place { key: "issuer".to_owned(), start: 0, value: None };
        let message = "missing: nobody could prove who they are";
        report.error(&place, Problem::MissingKey, message, "add [[issuer]] with url, audience and region");
    }
    let mut seen: Vec<&At<String>> = Vec::new();
    let mut issuers = Vec::new();
    for issuer in raw {
        let url = issuer.url.as_ref().and_then(|url| {
            if let Some(earlier) = seen.iter().find(|earlier| earlier.value == url.value) {
                let message = format!("the same issuer as {}", described(&earlier.place, report));
                report.error(&shown_url(url), Problem::Duplicate, message, "take one out");
                return None;
            }
            seen.push(url);
            checked_url(url, report)
        });
        let audience = issuer.audience.as_ref().and_then(|audience| line_of_text(audience, report));
        let groups_claim = match &issuer.groups {
            None => Some("groups"),
            Some(claim) => claim_path(claim, report),
        };
        let region = issuer.region.as_ref().and_then(|region| regions.resolve(region, report));
        let ca = issuer.ca.as_ref().map(|ca| files::pem(ca, Content::Certificates, host, report));
        let leeway = match &issuer.leeway {
            None => Some(LEEWAY),
            Some(leeway) => bounded(leeway, 0, LARGEST_LEEWAY, "seconds", report),
        };
        if let (Some(url), Some(audience), Some(groups), Some(region), Some(leeway)) =
            (url, audience, groups_claim, region, leeway)
        {
            issuers.push(Issuer {
                url,
                audience: audience.to_owned(),
                groups_claim: groups.to_owned(),
                region,
                ca: ca.flatten(),
                leeway,
            });
        }
    }
    issuers
}

/// An issuer identifier: `https`, no query, no fragment (OpenID Connect Discovery 1.0, section 3), no user;
/// `http` only to the loopback of this host.
fn checked_url(url: &At<String>, report: &Report<'_>) -> Option<String> {
    let invalid = |message: &str, cure: &str| {
        report.error(&shown_url(url), Problem::Invalid, message, cure);
        None
    };
    const CURE: &str = "write it as the tokens' iss does, such as \"https://login.example.eu\"";
    let text = url.value.as_str();
    let Some((scheme, rest)) = text.split_once("://") else {
        return invalid("not a URL", CURE);
    };
    if text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\' || !c.is_ascii()) {
        return invalid("not a URL", CURE);
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return invalid("a URL with a user in it", "take out what is before the @");
    }
    if rest.contains(['?', '#']) {
        return invalid("an issuer's URL has no query and no fragment", CURE);
    }
    let Ok(parsed) = text.parse::<http::Uri>() else {
        return invalid("not a URL", CURE);
    };
    let host = parsed.host().unwrap_or_default();
    if host.is_empty() || parsed.authority().is_none_or(|parsed| parsed.as_str() != authority) {
        return invalid("a URL without a host", CURE);
    }
    let port_is_valid = match authority.rsplit_once(':') {
        Some((_, port)) if !port.ends_with(']') => port.parse::<u16>().is_ok_and(|port| port > 0),
        _ => true,
    };
    if !port_is_valid {
        report.error(
            &shown_url(url),
            Problem::OutOfRange,
            "not a port in the URL",
            "use a number from 1 to 65535",
        );
        return None;
    }
    match scheme {
        "https" => Some(text.to_owned()),
        "http" if is_on_this_host(text) => Some(text.to_owned()),
        "http" => invalid(
            "over http anybody on the way can forge the issuer's keys",
            "use https; http only to a loopback address, such as 127.0.0.1",
        ),
        _ => invalid("not an https URL", CURE),
    }
}

/// Whether a URL's host is a literal loopback address; a name, `localhost` too, is what some resolver says it is.
pub(super) fn is_on_this_host(url: &str) -> bool {
    let Ok(parsed) = url.parse::<http::Uri>() else {
        return false;
    };
    let literal = parsed.host().unwrap_or_default().trim_matches(['[', ']']).parse::<IpAddr>();
    literal.is_ok_and(|address| address.is_loopback())
}

/// The place of a URL, without its value where that may hold a password.
fn shown_url(url: &At<String>) -> Place {
    let mut place = url.place.clone();
    if url.value.contains('@') {
        place.value = None;
    }
    place
}

/// A claim's name, or a dotted path into objects.
fn claim_path<'a>(claim: &'a At<String>, report: &Report<'_>) -> Option<&'a str> {
    let path = line_of_text(claim, report)?;
    // A claim whose name is a URL (OpenID Connect Core 1.0, 5.1.2) is no path.
    if !path.contains("://") && path.split('.').any(str::is_empty) {
        let cure = "write a claim's name, such as \"groups\" or \"realm_access.roles\"";
        report.error(&claim.place, Problem::Invalid, "not a claim", cure);
        return None;
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::is_on_this_host;

    #[test]
    fn only_the_loopback_is_on_this_host() {
        for (url, expected, reason) in [
            ("http://localhost:8080/realm", false, "a name"),
            ("http://127.0.0.1", true, "the usual address"),
            ("http://127.8.8.8:1/", true, "the whole of 127.0.0.0/8"),
            ("http://[::1]:9000", true, "IPv6"),
            ("http://[::ffff:127.0.0.1]", false, "IPv4-mapped: the fetch takes it for no loopback either"),
            ("http://localhost.example.eu", false, "another name"),
            ("http://127.0.0.1.example.eu", false, "a name that looks like an address"),
            ("http://0.0.0.0", false, "unspecified"),
            ("http://10.0.0.1", false, "private is not local"),
        ] {
            assert_eq!(is_on_this_host(url), expected, "{url}: {reason}");
        }
    }
}

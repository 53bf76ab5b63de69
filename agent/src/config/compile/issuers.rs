//! OIDC issuers.

use super::super::errors::Problem;
use super::super::host::HostFacts;
use super::super::raw;
use super::super::report::{At, Place, Report};
use super::super::settings::{Introspection, Issuer};
use super::files::{self, Content};
use super::{Declared, bounded, claim_path, described, line_of_text, report_repeats, word};
use bailiwick_policy::AccessRule;
use std::net::IpAddr;

/// Seconds of clock skew allowed unless the config says otherwise, and at most.
const LEEWAY: u64 = 60;
const LARGEST_LEEWAY: u64 = 300;

/// Seconds between two fetches of an issuer's keys, at least and at most.
const SHORTEST_REFRESH: u64 = 60;
const LONGEST_REFRESH: u64 = 24 * 3600;

/// Seconds for which an issuer's word on an opaque token is remembered unless the config says otherwise, and at most.
const REMEMBER: u64 = 30;
const LONGEST_REMEMBER: u64 = 300;

/// The words of `type`, and whether they ask for more than a token must say anyway.
const KINDS: [(&str, bool); 2] = [("any", false), ("at+jwt", true)];

/// Every issuer that could be read.
pub(super) fn compile(
    raw: &[raw::Issuer],
    regions: &Declared<'_>,
    host: &HostFacts,
    report: &Report<'_>,
    warnings: &mut Vec<String>,
) -> Vec<Issuer> {
    one_introspects(raw, report);
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
        let clients = issuer.clients.as_ref().map(|clients| {
            report_repeats(&clients.value, report);
            clients
                .value
                .iter()
                .filter_map(|client| line_of_text(client, report))
                .map(str::to_owned)
                .collect()
        });
        let strict_type = issuer
            .kind
            .as_ref()
            .and_then(|kind| word(kind, "a token's type", &KINDS, report))
            .unwrap_or(false);
        let refresh = issuer
            .refresh
            .as_ref()
            .and_then(|number| bounded(number, SHORTEST_REFRESH, LONGEST_REFRESH, "seconds", report));
        let introspection = issuer
            .introspection
            .as_ref()
            .and_then(|introspection| introspection_of(introspection, host, report, warnings));
        if let (Some(url), Some(audience), Some(groups), Some(region), Some(leeway)) =
            (url, audience, groups_claim, region, leeway)
        {
            issuers.push(Issuer {
                groups_claim: groups.to_owned(),
                clients,
                strict_type,
                bound: issuer.bound.as_ref().is_some_and(|flag| flag.value),
                ca: ca.flatten(),
                leeway,
                refresh,
                introspection,
                ..Issuer::new(&url, audience, region)
            });
        }
    }
    issuers
}

/// Tells each issuer which claims the rules ask for.
pub(super) fn read_claims_for(rules: &[AccessRule], issuers: &mut [Issuer]) {
    for issuer in issuers {
        let applies = |rule: &&AccessRule| rule.issuer.as_ref().is_none_or(|url| *url == issuer.url);
        for rule in rules.iter().filter(applies) {
            let named = rule.claims.iter().map(|condition| &condition.claim);
            for claim in named.chain(rule.from_claim.iter().map(|country| &country.claim)) {
                if !issuer.claims.contains(claim) {
                    issuer.claims.push(claim.clone());
                }
            }
        }
    }
}

/// An opaque token does not say whose it is, and whoever is asked about it gets it.
fn one_introspects(raw: &[raw::Issuer], report: &Report<'_>) {
    let mut asked = raw.iter().filter_map(|issuer| issuer.introspection.as_ref());
    if let Some(first) = asked.next() {
        for other in asked {
            let message = format!(
                "{} has introspection already, and an opaque token does not say whose it is",
                described(&first.place, report)
            );
            report.error(&other.place, Problem::Conflict, message, "keep one of the two");
        }
    }
}

fn introspection_of(
    raw: &raw::Introspection,
    host: &HostFacts,
    report: &Report<'_>,
    warnings: &mut Vec<String>,
) -> Option<Introspection> {
    let endpoint = raw.endpoint.as_ref().map(|endpoint| checked_url(endpoint, report));
    let client = raw.client.as_ref().and_then(|client| line_of_text(client, report));
    let secret = raw.secret.as_ref().and_then(|secret| {
        files::credential(secret, "issuer: the secret for introspection", host, report, warnings)
    });
    let remember = match &raw.remember {
        None => Some(REMEMBER),
        Some(remember) => bounded(remember, 0, LONGEST_REMEMBER, "seconds", report),
    };
    let endpoint = match endpoint {
        None => None,
        Some(endpoint) => Some(endpoint?),
    };
    Some(Introspection { endpoint, client: client?.to_owned(), secret: secret?, remember: remember? })
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

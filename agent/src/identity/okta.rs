//! Okta's org authorization server, whose tokens look like any other's and cannot be used.
//!
//! `https://example.okta.com` issues access tokens for Okta's own API: only Okta can verify them, and they carry no groups.
//! What an application needs is a custom authorization server, whose issuer has a path (`…/oauth2/default`).

use super::claims::Claims;

/// Whether an issuer's URL is an org authorization server's.
pub(crate) fn is_org_server(url: &str) -> bool {
    let Some(host) = url.strip_prefix("https://") else { return false };
    let host = host.strip_suffix('/').unwrap_or(host);
    ["okta.com", "oktapreview.com", "okta-emea.com", "okta-gov.com", "okta.mil"].iter().any(|domain| {
        host.strip_suffix(domain)
            .is_some_and(|tenant| tenant.len() > 1 && tenant.ends_with('.') && !tenant.contains('/'))
    })
}

/// Whether a token is from one. Where a tenant has a domain of its own, the claims say so that only Okta writes together.
pub(super) fn is_org_token(issuer: &str, claims: &Claims) -> bool {
    let okta_claims = ["cid", "uid", "ver"].into_iter().all(|claim| claims.contains_key(claim));
    is_org_server(issuer) || (okta_claims && !issuer.contains("/oauth2/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_org_server_is_told_from_a_custom_one() {
        for (url, org, why) in [
            ("https://dev-1.okta.com", true, "a tenant"),
            ("https://example.oktapreview.com/", true, "a preview tenant"),
            ("https://dev-1.okta.com/oauth2/default", false, "a custom authorization server"),
            ("https://okta.com", false, "no tenant"),
            ("https://notokta.com", false, "another name"),
            ("https://okta.com.example.eu", false, "a name that begins alike"),
            ("https://login.example.eu", false, "another provider"),
        ] {
            assert_eq!(is_org_server(url), org, "{why}");
        }
        let okta = json!({"cid": "c", "uid": "u", "ver": 1}).as_object().unwrap().clone();
        assert!(is_org_token("https://login.example.eu", &okta), "a tenant with a domain of its own");
        assert!(!is_org_token("https://login.example.eu/oauth2/default", &okta), "its custom server");
        assert!(!is_org_token("https://login.example.eu", &Claims::new()));
    }
}

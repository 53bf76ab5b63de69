//! The credential in a request's headers (RFC 6750, 2.1; RFC 9110, 11.6.2).

use super::error::Fault;
use http::HeaderMap;
use http::header::AUTHORIZATION;

/// Where Anthropic's clients show their key.
const API_KEY: &str = "x-api-key";

/// Longest token that is looked at, in bytes.
const MAX_TOKEN: usize = 16 * 1024;

/// Where a caller may show a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// In `Authorization: Bearer`.
    Token,
    /// There, or in `x-api-key`, as Anthropic's clients do.
    TokenOrKey,
}

/// The one token that is shown: in both headers it must be the same. Tokens in the query or the body are never read.
pub(super) fn token(headers: &HeaderMap, shown: Shown) -> Result<&str, Fault> {
    let key = match shown {
        Shown::Token => None,
        Shown::TokenOrKey => key(headers)?,
    };
    match (bearer(headers), key) {
        (Err(Fault::NoCredentials), Some(key)) if !headers.contains_key(AUTHORIZATION) => Ok(key),
        (Ok(token), Some(key)) if token != key => Err(Fault::CredentialsAmbiguous),
        (token, _) => token,
    }
}

/// The token of the one `x-api-key` header, if there is one.
fn key(headers: &HeaderMap) -> Result<Option<&str>, Fault> {
    let mut values = headers.get_all(API_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Fault::CredentialsAmbiguous);
    }
    let key = value.to_str().map_err(|_| Fault::TokenMalformed)?.trim_matches(' ');
    match key.len() {
        0 => Ok(None),
        1..=MAX_TOKEN => Ok(Some(key)),
        _ => Err(Fault::TokenTooLarge),
    }
}

/// The token of the one `Authorization: Bearer` header.
fn bearer(headers: &HeaderMap) -> Result<&str, Fault> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(Fault::NoCredentials)?;
    if values.next().is_some() {
        return Err(Fault::CredentialsAmbiguous);
    }
    let text = value.to_str().map_err(|_| Fault::TokenMalformed)?;
    let (scheme, token) = text.split_once(' ').ok_or(Fault::SchemeNotBearer)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Fault::SchemeNotBearer);
    }
    let token = token.trim_matches(' ');
    match token.len() {
        0 => Err(Fault::NoCredentials),
        1..=MAX_TOKEN => Ok(token),
        _ => Err(Fault::TokenTooLarge),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn one_bearer_header_and_nothing_else() {
        let long = format!("Bearer {}", "a".repeat(MAX_TOKEN + 1));
        let rows: &[(&[&str], Result<&str, Fault>, &str)] = &[
            (&[], Err(Fault::NoCredentials), "no header"),
            (&["Bearer a.b.c"], Ok("a.b.c"), "the usual form"),
            (&["bearer a.b.c"], Ok("a.b.c"), "schemes are case-insensitive"),
            (&["Bearer  a.b.c "], Ok("a.b.c"), "optional white space around the token"),
            (&["Bearer"], Err(Fault::SchemeNotBearer), "no token at all"),
            (&["Bearer "], Err(Fault::NoCredentials), "an empty token"),
            (&["Basic dTpw"], Err(Fault::SchemeNotBearer), "another scheme"),
            (&["Bearer a", "Bearer b"], Err(Fault::CredentialsAmbiguous), "two headers: which one is meant?"),
            (&[&long], Err(Fault::TokenTooLarge), "a token beyond the bound"),
        ];
        for (values, expected, why) in rows {
            let mut headers = HeaderMap::new();
            for value in *values {
                headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            }
            assert_eq!(bearer(&headers), *expected, "{why}");
        }
    }

    #[test]
    fn an_api_key_is_a_token_where_clients_show_it_so() {
        let long = "a".repeat(MAX_TOKEN + 1);
        type Row<'a> = (&'a [(&'static str, &'a str)], Result<&'a str, Fault>, &'a str);
        let rows: &[Row<'_>] = &[
            (&[("x-api-key", "a.b.c")], Ok("a.b.c"), "as Anthropic's clients do"),
            (&[("x-api-key", " a.b.c ")], Ok("a.b.c"), "with white space around it"),
            (&[("authorization", "Bearer a")], Ok("a"), "as others do"),
            (&[("authorization", "Bearer a"), ("x-api-key", "a")], Ok("a"), "both, the same"),
            (&[("authorization", "Bearer a"), ("x-api-key", "")], Ok("a"), "both, one empty"),
            (
                &[("authorization", "Bearer a"), ("x-api-key", "b")],
                Err(Fault::CredentialsAmbiguous),
                "both: which one is meant?",
            ),
            (&[("x-api-key", "a"), ("x-api-key", "a")], Err(Fault::CredentialsAmbiguous), "two keys"),
            (
                &[("authorization", "Basic dTpw"), ("x-api-key", "a")],
                Err(Fault::SchemeNotBearer),
                "no way around",
            ),
            (&[("x-api-key", "")], Err(Fault::NoCredentials), "an empty one"),
            (&[("x-api-key", &long)], Err(Fault::TokenTooLarge), "one beyond the bound"),
            (&[], Err(Fault::NoCredentials), "none"),
        ];
        for (values, expected, why) in rows {
            let mut headers = HeaderMap::new();
            for (name, value) in *values {
                headers.append(*name, HeaderValue::from_str(value).unwrap());
            }
            assert_eq!(token(&headers, Shown::TokenOrKey), *expected, "{why}");
        }
        let headers =
            HeaderMap::from_iter([(http::HeaderName::from_static(API_KEY), HeaderValue::from_static("a"))]);
        assert_eq!(token(&headers, Shown::Token), Err(Fault::NoCredentials), "not elsewhere");
    }
}

//! The credential in a request's headers (RFC 6750, 2.1; RFC 9110, 11.6.2).

use super::error::Fault;
use http::HeaderMap;
use http::header::AUTHORIZATION;

/// Longest token that is looked at, in bytes.
const MAX_TOKEN: usize = 16 * 1024;

/// The token of the one `Authorization: Bearer` header. Tokens in the query or the body are never read.
pub(super) fn bearer(headers: &HeaderMap) -> Result<&str, Fault> {
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
}

//! What is changed in every request, masks or not: who calls is taken out, and an answer's length is bounded.

use super::ProtocolError;
use super::shape::{ANSWER_LENGTH, ANSWERS, IDENTITY, IDENTITY_IN_METADATA, MAX_TOKENS};
use crate::config::settings::{IdentityFields, PseudonymKey};
use bailiwick_masking::json::{Document, Edits, Kind, Node, quote};
use bailiwick_policy::{Operation, Principal};
use hmac::{Hmac, Mac};
use http::StatusCode;
use sha2::Sha256;

/// How a request is to be changed, for this caller.
pub struct Rewriting<'a> {
    /// What becomes of the members that say who calls.
    pub identity: &'a IdentityFields,
    /// Who does. The same name from two callers is two people.
    pub caller: &'a Principal,
    /// The longest answer, in tokens.
    pub max_tokens: Option<u64>,
}

/// The body with its changes, and the longest answer that it asks for (zero where it does not say).
pub(super) fn rewrite(
    document: &Document<'_>,
    operation: Operation,
    rewriting: &Rewriting<'_>,
) -> Result<(Vec<u8>, u64), ProtocolError> {
    let mut edits = Edits::default();
    let own = rewriting.identity.fields.iter().map(|path| path.iter().map(String::as_str).collect());
    let known = IDENTITY.iter().map(|name| vec![*name]);
    let in_metadata = IDENTITY_IN_METADATA.iter().map(|name| vec!["metadata", name]);
    let paths: Vec<Vec<&str>> = known.chain(in_metadata).chain(own).collect();
    let paths: Vec<&[&str]> = paths.iter().map(Vec::as_slice).collect();
    let kept = hide(document, document.root(), &paths, rewriting, &mut edits);
    let longest = match operation {
        Operation::Chat | Operation::Completions => bound(document, rewriting.max_tokens, kept, &mut edits)?,
        Operation::Embeddings | Operation::Models => 0,
    };
    Ok((edits.apply(document.bytes()), longest))
}

/// Takes the members at these paths out of an object, or puts pseudonyms in their place; tells how many members stay.
/// Letters may be cased in any way: some servers do not mind.
fn hide(
    document: &Document<'_>,
    object: &Node<'_>,
    paths: &[&[&str]],
    rewriting: &Rewriting<'_>,
    edits: &mut Edits,
) -> usize {
    let members = object.members();
    let mut kept = 0;
    for (index, member) in members.iter().enumerate() {
        let below: Vec<&[&str]> = paths
            .iter()
            .filter(|path| path.first().is_some_and(|name| member.name.eq_ignore_ascii_case(name)))
            .map(|path| &path[1..])
            .collect();
        if below.iter().any(|rest| rest.is_empty()) {
            match &rewriting.identity.pseudonym {
                None => {
                    edits.remove_member(members, index, kept > 0);
                    continue;
                }
                // Nobody is nobody: an absent name and an empty one stay what they are.
                Some(_) if matches!(member.value.kind, Kind::Null) => {}
                Some(key) => {
                    let name = pseudonym(key, rewriting.caller, document, &member.value);
                    edits.replace(member.value.span(), quote(&name));
                }
            }
        } else if !below.is_empty() {
            hide(document, &member.value, &below, rewriting, edits);
            for element in member.value.elements() {
                hide(document, element, &below, rewriting, edits);
            }
        }
        kept += 1;
    }
    kept
}

/// A name that tells the model's server one end user of a caller from another, and nothing else.
fn pseudonym(key: &PseudonymKey, caller: &Principal, document: &Document<'_>, value: &Node<'_>) -> String {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(&key.0).expect("HMAC takes keys of every length");
    let text = document.text(value);
    let name = text.as_deref().map_or_else(|| document.raw(value), str::as_bytes);
    for part in [b"identity-field", caller.issuer.as_bytes(), caller.subject.as_bytes(), name] {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    let digest = mac.finalize().into_bytes();
    digest.iter().take(16).fold("p-".to_owned(), |name, byte| format!("{name}{byte:02x}"))
}

/// Holds the length of the answers together against the bound, and says it to the server where the caller did not.
fn bound(
    document: &Document<'_>,
    limit: Option<u64>,
    kept: usize,
    edits: &mut Edits,
) -> Result<u64, ProtocolError> {
    let root = document.root();
    let named = |names: &'static [&'static str]| {
        root.members()
            .iter()
            .filter(move |member| names.iter().any(|name| member.name.eq_ignore_ascii_case(name)))
    };
    let mut answers = 1_u64;
    for member in named(ANSWERS) {
        answers = answers.max(number(document, &member.value, limit)?.unwrap_or(1));
    }
    let prompts = root.get("prompt").map_or(1, |prompt| match &prompt.kind {
        Kind::Array(prompts) if prompts.iter().all(|one| !matches!(one.kind, Kind::Number)) => {
            u64::try_from(prompts.len()).unwrap_or(u64::MAX).max(1)
        }
        Kind::Null | Kind::Bool(_) | Kind::Number | Kind::String | Kind::Array(_) | Kind::Object(_) => 1,
    });
    let answers = answers.saturating_mul(prompts);
    let mut asked: Option<u64> = None;
    for member in named(ANSWER_LENGTH) {
        let length = number(document, &member.value, limit)?;
        asked = asked.max(length);
    }
    let Some(limit) = limit else { return Ok(asked.unwrap_or(0).saturating_mul(answers)) };
    let each = asked.unwrap_or(limit / answers);
    if each == 0 || each.saturating_mul(answers) > limit {
        return Err(too_long(limit));
    }
    // Not every server knows every name; this one they all do. One spelled otherwise may not be read.
    let mut written = root.members().iter().filter(|member| member.name == MAX_TOKENS);
    match written.next() {
        Some(member) if matches!(member.value.kind, Kind::Null) => {
            edits.replace(member.value.span(), each.to_string());
        }
        Some(_) => {}
        None => {
            let comma = if kept > 0 { "," } else { "" };
            edits.replace(root.start + 1..root.start + 1, format!("\"{MAX_TOKENS}\":{each}{comma}"));
        }
    }
    Ok(each.saturating_mul(answers))
}

/// A count, where there is one. Under a limit, one that cannot be read (a fraction, `-1` for no end) is refused.
fn number(
    document: &Document<'_>,
    value: &Node<'_>,
    limit: Option<u64>,
) -> Result<Option<u64>, ProtocolError> {
    if matches!(value.kind, Kind::Null) {
        return Ok(None);
    }
    let read = std::str::from_utf8(document.raw(value)).ok().and_then(|text| text.parse().ok());
    match (read, limit) {
        (Some(count), _) => Ok(Some(count)),
        (None, None) => Ok(None),
        (None, Some(limit)) => Err(too_long(limit)),
    }
}

fn too_long(limit: u64) -> ProtocolError {
    ProtocolError {
        status: StatusCode::PAYLOAD_TOO_LARGE,
        code: "max-tokens-exceeded",
        message: format!(
            "the answers asked for are longer than {limit} tokens together: ask for less (max_tokens, n)"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bailiwick_masking::json;

    fn written(
        body: &str,
        identity: &IdentityFields,
        limit: Option<u64>,
    ) -> Result<(String, u64), &'static str> {
        let caller = Principal { issuer: "i".into(), subject: "s".into(), ..Principal::default() };
        let rewriting = Rewriting { identity, caller: &caller, max_tokens: limit };
        let document = json::parse(body.as_bytes()).unwrap();
        let (bytes, longest) = rewrite(&document, Operation::Chat, &rewriting).map_err(|error| {
            assert_eq!(error.status, 413);
            error.code
        })?;
        let text = String::from_utf8(bytes).unwrap();
        assert!(json::parse(text.as_bytes()).is_ok(), "{text}");
        Ok((text, longest))
    }

    #[test]
    fn fields_of_the_config_go_the_way_of_the_known_ones() {
        let path = |text: &str| text.split('.').map(str::to_owned).collect();
        let fields = ["tenant", "metadata.employee", "metadata.org.unit", "messages.name"].map(path).to_vec();
        let identity = IdentityFields { pseudonym: None, fields };
        for (body, expected) in [
            (r#"{"tenant":"t","a":1}"#, r#"{"a":1}"#),
            (r#"{"Metadata":{"Employee":7,"USER_ID":"u","k":"v"}}"#, r#"{"Metadata":{"k":"v"}}"#),
            (r#"{"metadata":{"org":{"unit":"u","k":1}}}"#, r#"{"metadata":{"org":{"k":1}}}"#),
            (r#"{"metadata":"text"}"#, r#"{"metadata":"text"}"#),
            (
                r#"{"messages":[{"name":"ada","role":"user"},{"role":"user"}]}"#,
                r#"{"messages":[{"role":"user"},{"role":"user"}]}"#,
            ),
            (r#"{"user":"x","tenant":"t"}"#, "{}"),
        ] {
            assert_eq!(written(body, &identity, None).unwrap().0, expected);
        }
    }

    #[test]
    fn a_pseudonym_tells_one_from_another_and_nothing_else() {
        let identity =
            IdentityFields { pseudonym: Some(PseudonymKey([7; 32])), fields: vec![vec!["tenant".into()]] };
        let of = |body: &str, member: &str| {
            let text = written(body, &identity, None).unwrap().0;
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            value[member].as_str().map(str::to_owned)
        };
        let ada = of(r#"{"user":"ada"}"#, "user").unwrap();
        assert!(ada.len() == 34 && ada.starts_with("p-") && !ada.contains("ada"), "{ada}");
        assert_eq!(of(r#"{"user":"\u0061da"}"#, "user").unwrap(), ada, "however it is written");
        assert_eq!(of(r#"{"safety_identifier":"ada"}"#, "safety_identifier").unwrap(), ada);
        assert_eq!(of(r#"{"tenant":"ada"}"#, "tenant").unwrap(), ada);
        assert_ne!(of(r#"{"user":"eve"}"#, "user").unwrap(), ada, "somebody else");
        assert_eq!(of(r#"{"user":null}"#, "user"), None, "nobody");
        assert!(of(r#"{"user":{"id":"ada"}}"#, "user").unwrap().starts_with("p-"), "whatever it is");
        let another = Principal { issuer: "i".into(), subject: "t".into(), ..Principal::default() };
        let document = json::parse(br#"{"user":"ada"}"#).unwrap();
        let rewriting = Rewriting { identity: &identity, caller: &another, max_tokens: None };
        let (bytes, _) = rewrite(&document, Operation::Chat, &rewriting).unwrap();
        assert!(!String::from_utf8(bytes).unwrap().contains(&ada), "another caller's ada is another");
    }

    #[test]
    fn an_answer_is_no_longer_than_the_rule_allows() {
        let identity = IdentityFields::default();
        for (body, expected, why) in [
            (r#"{"a":1}"#, Ok((r#"{"max_tokens":100,"a":1}"#, 100)), "said for those who did not"),
            ("{}", Ok((r#"{"max_tokens":100}"#, 100)), "with nothing beside it"),
            (r#"{"user":"x"}"#, Ok((r#"{"max_tokens":100}"#, 100)), "with nothing left beside it"),
            (r#"{"max_tokens":100}"#, Ok((r#"{"max_tokens":100}"#, 100)), "as much as there is"),
            (r#"{"max_tokens":null}"#, Ok((r#"{"max_tokens":100}"#, 100)), "null is nothing said"),
            (r#"{"n":4}"#, Ok((r#"{"max_tokens":25,"n":4}"#, 100)), "shared among the answers"),
            (
                r#"{"prompt":["a","b"]}"#,
                Ok((r#"{"max_tokens":50,"prompt":["a","b"]}"#, 100)),
                "and the prompts",
            ),
            (
                r#"{"max_completion_tokens":60}"#,
                Ok((r#"{"max_tokens":60,"max_completion_tokens":60}"#, 60)),
                "said in the name that all know",
            ),
            (r#"{"max_tokens":101}"#, Err(()), "too long"),
            (r#"{"max_tokens":1,"n_predict":101}"#, Err(()), "by another name"),
            (r#"{"max_tokens":1,"Max_Tokens":101}"#, Err(()), "spelled otherwise"),
            (r#"{"max_tokens":60,"n":2}"#, Err(()), "together"),
            (r#"{"n":101}"#, Err(()), "more answers than tokens"),
            (r#"{"n_predict":-1}"#, Err(()), "without an end"),
            (r#"{"max_tokens":1e9}"#, Err(()), "a number of another form"),
            (r#"{"max_tokens":"9"}"#, Err(()), "no number"),
            (r#"{"max_tokens":0}"#, Err(()), "zero is no end to some"),
        ] {
            let found = written(body, &identity, Some(100));
            let expected = expected.map(|(text, longest)| (text.to_owned(), longest));
            assert_eq!(found, expected.map_err(|()| "max-tokens-exceeded"), "{why}: {body}");
        }
        for (body, longest) in [("{}", 0), (r#"{"max_tokens":7,"n":3}"#, 21), (r#"{"max_tokens":-1}"#, 0)] {
            assert_eq!(
                written(body, &identity, None).unwrap(),
                (body.to_owned(), longest),
                "no limit, no change"
            );
        }
    }
}

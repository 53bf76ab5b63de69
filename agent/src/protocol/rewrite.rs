//! What is changed in every request, masks or not: who calls is taken out, and an answer's length is bounded.

use super::requests::fold;
use super::shape::{IDENTITY, IDENTITY_IN_METADATA, METADATA};
use super::{Dialect, Endpoint, ProtocolError, length};
use crate::config::settings::{IdentityFields, PseudonymKey, ServerPreset};
use bailiwick_masking::json::{self, Document, Edits, Kind, Node, quote};
use bailiwick_policy::{Operation, Principal};
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Whether the server is to keep the answer.
const STORE: &str = "store";
/// How long the server is to hold the model in memory.
const KEEP_ALIVE: &str = "keep_alive";

/// How a request is to be changed, for this caller.
pub struct Rewriting<'a> {
    /// What becomes of the members that say who calls.
    pub identity: &'a IdentityFields,
    /// Who does. The same name from two callers is two people.
    pub caller: &'a Principal,
    /// The longest answer, in tokens.
    pub max_tokens: Option<u64>,
    /// What the model's server is.
    pub server: ServerPreset,
    /// Whether requests may have it fetch URLs.
    pub fetch_urls: bool,
}

impl<'a> Rewriting<'a> {
    /// For a server that fetches nothing, without a bound.
    #[must_use]
    pub fn new(server: ServerPreset, identity: &'a IdentityFields, caller: &'a Principal) -> Self {
        Self { server, fetch_urls: false, identity, caller, max_tokens: None }
    }
}

/// The body with its changes (`None`: it has none), and the longest answer that it asks for (zero where it does not say).
pub(super) fn rewrite(
    document: &Document<'_>,
    endpoint: &Endpoint,
    rewriting: &Rewriting<'_>,
) -> Result<(Option<Vec<u8>>, u64), ProtocolError> {
    let own = &rewriting.identity.fields;
    let may_tell = |name: &str| {
        let first = |path: &Vec<String>| path.first().is_some_and(|first| fold(first) == name);
        IDENTITY.contains(&name) || name == METADATA || own.iter().any(first)
    };
    // Most requests have none of them.
    if !document.root().members().iter().any(|member| may_tell(&fold(&member.name))) {
        return settle(document, endpoint, rewriting);
    }
    let mut edits = Edits::default();
    let own = own.iter().map(|path| path.iter().map(String::as_str).collect());
    let known = IDENTITY.iter().map(|name| vec![*name]);
    let in_metadata = IDENTITY_IN_METADATA.iter().map(|name| vec![METADATA, name]);
    let paths: Vec<Vec<&str>> = known.chain(in_metadata).chain(own).collect();
    let paths: Vec<&[&str]> = paths.iter().map(Vec::as_slice).collect();
    hide(document, document.root(), &paths, rewriting, &mut edits);
    if edits.is_empty() {
        return settle(document, endpoint, rewriting);
    }
    let hidden = edits.apply(document.bytes());
    let document = json::parse(&hidden).map_err(ProtocolError::of_request)?;
    let (settled, longest) = settle(&document, endpoint, rewriting)?;
    Ok((Some(settled.unwrap_or(hidden)), longest))
}

/// Bounds the answer, and leaves the server as it is for the next caller.
fn settle(
    document: &Document<'_>,
    endpoint: &Endpoint,
    rewriting: &Rewriting<'_>,
) -> Result<(Option<Vec<u8>>, u64), ProtocolError> {
    let (mut edits, mut added) = (Edits::default(), Vec::new());
    let longest = length::bound(document, endpoint, rewriting.max_tokens, &mut edits, &mut added)?;
    forget(document, endpoint, &mut edits, &mut added);
    let root = document.root();
    if !added.is_empty() {
        let comma = if root.members().is_empty() { "" } else { "," };
        edits.replace(root.start + 1..root.start + 1, format!("{}{comma}", added.join(",")));
    }
    Ok(((!edits.is_empty()).then(|| edits.apply(document.bytes())), longest))
}

/// `store` is false: a server that kept this would show it to whoever knows its id, and all callers are one to it.
/// Responses are kept unless that is said, chats only where it is asked.
fn forget(document: &Document<'_>, endpoint: &Endpoint, edits: &mut Edits, added: &mut Vec<String>) {
    let mut said = endpoint.dialect != Dialect::Responses;
    if !said || endpoint.operation == Operation::Chat {
        for member in document.root().members().iter().filter(|member| fold(&member.name) == STORE) {
            said |= member.name == STORE;
            if !matches!(member.value.kind, Kind::Bool(false)) {
                edits.replace(member.value.span(), "false");
            }
        }
    }
    if !said {
        added.push(format!("\"{STORE}\":false"));
    }
    // How long Ollama holds a model in memory is for all callers: with 0 one of them would take it from the others.
    if endpoint.dialect == Dialect::Ollama {
        for member in document.root().members().iter().filter(|member| fold(&member.name) == KEEP_ALIVE) {
            if !matches!(member.value.kind, Kind::Null) {
                edits.replace(member.value.span(), "null");
            }
        }
    }
}

/// Takes the members at these paths out of an object, or puts pseudonyms in their place.
/// Letters may be cased in any way: some servers do not mind.
fn hide(
    document: &Document<'_>,
    object: &Node<'_>,
    paths: &[&[&str]],
    rewriting: &Rewriting<'_>,
    edits: &mut Edits,
) {
    let members = object.members();
    let mut kept = 0;
    for (index, member) in members.iter().enumerate() {
        let below: Vec<&[&str]> = paths
            .iter()
            .filter(|path| path.first().is_some_and(|name| fold(&member.name) == fold(name)))
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
                    let text = document.text(&member.value);
                    let name = text.as_deref().map_or_else(|| document.raw(&member.value), str::as_bytes);
                    let name = pseudonym(key, rewriting.caller, name);
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
}

/// A name that tells the model's server one end user of a caller from another, and nothing else.
pub(super) fn pseudonym(key: &PseudonymKey, caller: &Principal, name: &[u8]) -> String {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(&key.0).expect("HMAC takes keys of every length");
    for part in [b"identity-field", caller.issuer.as_bytes(), caller.subject.as_bytes(), name] {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    let digest = mac.finalize().into_bytes();
    digest.iter().take(16).fold("p-".to_owned(), |name, byte| format!("{name}{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::find;
    use http::Method;

    fn chat() -> &'static Endpoint {
        find(ServerPreset::Vllm, &Method::POST, "/v1/chat/completions").unwrap()
    }

    fn written(
        body: &str,
        identity: &IdentityFields,
        limit: Option<u64>,
    ) -> Result<(String, u64), &'static str> {
        let caller = Principal { issuer: "i".into(), subject: "s".into(), ..Principal::default() };
        let rewriting =
            Rewriting { max_tokens: limit, ..Rewriting::new(ServerPreset::Vllm, identity, &caller) };
        let document = json::parse(body.as_bytes()).unwrap();
        let (bytes, longest) = rewrite(&document, chat(), &rewriting).map_err(|error| {
            assert_eq!(error.status, 413);
            error.code
        })?;
        let text = bytes.map_or_else(|| body.to_owned(), |bytes| String::from_utf8(bytes).unwrap());
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
        let rewriting = Rewriting::new(ServerPreset::Vllm, &identity, &another);
        let (bytes, _) = rewrite(&document, chat(), &rewriting).unwrap();
        assert!(
            !String::from_utf8(bytes.unwrap()).unwrap().contains(&ada),
            "another caller's ada is another"
        );
    }

    #[test]
    fn nothing_is_kept_by_the_server() {
        let identity = IdentityFields::default();
        for (path, body, expected) in [
            ("/v1/responses", "{}", r#"{"store":false}"#),
            ("/v1/responses", r#"{"input":"x"}"#, r#"{"store":false,"input":"x"}"#),
            ("/v1/responses", r#"{"store":true}"#, r#"{"store":false}"#),
            ("/v1/responses", r#"{"store":null,"a":1}"#, r#"{"store":false,"a":1}"#),
            ("/v1/responses", r#"{"Store":true}"#, r#"{"store":false,"Store":false}"#),
            ("/v1/responses", r#"{"user":"x","store":false}"#, r#"{"store":false}"#),
            ("/v1/chat/completions", "{}", "{}"),
            ("/v1/chat/completions", r#"{"store":true}"#, r#"{"store":false}"#),
            ("/api/chat", r#"{"model":"m","keep_alive":0}"#, r#"{"model":"m","keep_alive":null}"#),
            ("/api/embed", r#"{"Keep_Alive":"-1"}"#, r#"{"Keep_Alive":null}"#),
        ] {
            let caller = Principal::default();
            let server = if path.starts_with("/api/") { ServerPreset::Ollama } else { ServerPreset::Vllm };
            let rewriting = Rewriting::new(server, &identity, &caller);
            let endpoint = find(server, &Method::POST, path).unwrap();
            let document = json::parse(body.as_bytes()).unwrap();
            let (bytes, _) = rewrite(&document, endpoint, &rewriting).unwrap();
            let written = bytes.as_deref().unwrap_or(body.as_bytes());
            assert_eq!(written, expected.as_bytes(), "{path} {body}");
        }
    }
}

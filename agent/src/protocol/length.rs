//! The length of an answer, bounded: wherever a dialect says it.

use super::endpoint::Length;
use super::requests::fold;
use super::shape::{ANSWER_LENGTH, ANSWERS};
use super::{Endpoint, ProtocolError};
use bailiwick_masking::json::{Document, Edits, Kind, Node};
use http::StatusCode;

/// Holds the length of the answers together against the bound, and says it to the server where the caller did not; tells the
/// longest that is asked for (zero where that is not said). `added` is what the body's root gets besides.
pub(super) fn bound(
    document: &Document<'_>,
    endpoint: &Endpoint,
    limit: Option<u64>,
    edits: &mut Edits,
    added: &mut Vec<String>,
) -> Result<u64, ProtocolError> {
    let root = document.root();
    match endpoint.length {
        Length::Fixed => Ok(0),
        Length::Unknown => match limit {
            None => Ok(0),
            Some(_) => Err(ProtocolError {
                status: StatusCode::UNPROCESSABLE_ENTITY,
                code: "max-tokens-unbounded",
                message:
                    "the access rule bounds answers in tokens, which inference on tensors cannot be held to: \
                    it needs a rule without max_tokens"
                        .into(),
            }),
        },
        Length::At(name) => {
            let asked = Asked::read(document, root, limit)?;
            let each = asked.within(limit)?;
            if let (Some(each), Some(_)) = (each, limit) {
                say(root, name, each, edits, added);
            }
            Ok(asked.together(each))
        }
        Length::Said => {
            let mut asked = Asked::read(document, root, limit)?;
            for parameters in named(root, "parameters") {
                asked.join(&Asked::read(document, parameters, limit)?);
            }
            if let (Some(limit), None) = (limit, asked.each) {
                return Err(ProtocolError {
                    status: StatusCode::UNPROCESSABLE_ENTITY,
                    code: "max-tokens-unbounded",
                    message: format!("the access rule allows {limit} tokens: say max_tokens in the request"),
                });
            }
            let each = asked.within(limit)?;
            Ok(asked.together(each))
        }
        Length::Within(object, name) => {
            let mut asked = Asked::default();
            for settings in named(root, object) {
                asked.join(&Asked::read(document, settings, limit)?);
            }
            let each = asked.within(limit)?;
            if let (Some(each), Some(limit)) = (each, limit) {
                match root.get(object) {
                    None => added.push(format!("\"{object}\":{{\"{name}\":{each}}}")),
                    Some(settings) => match &settings.kind {
                        Kind::Null => edits.replace(settings.span(), format!("{{\"{name}\":{each}}}")),
                        Kind::Object(members) => {
                            let mut first = Vec::new();
                            say(settings, name, each, edits, &mut first);
                            if let Some(first) = first.first() {
                                let comma = if members.is_empty() { "" } else { "," };
                                let at = settings.start + 1;
                                edits.replace(at..at, format!("{first}{comma}"));
                            }
                        }
                        Kind::Bool(_) | Kind::Number | Kind::String | Kind::Array(_) => {
                            return Err(too_long(limit));
                        }
                    },
                }
            }
            Ok(asked.together(each))
        }
    }
}

/// What is asked for: the longest of each answer, and how many there will be.
#[derive(Default)]
struct Asked {
    each: Option<u64>,
    answers: Option<u64>,
}

impl Asked {
    /// From the members of an object. Under a limit, a number that cannot be read (a fraction, `-1` for no end) is refused.
    fn read(document: &Document<'_>, object: &Node<'_>, limit: Option<u64>) -> Result<Self, ProtocolError> {
        let (mut each, mut answers) = (None, 1_u64);
        for member in object.members() {
            let name = fold(&member.name);
            if ANSWER_LENGTH.contains(&&*name) {
                each = each.max(number(document, &member.value, limit)?);
            } else if ANSWERS.contains(&&*name) {
                answers = answers.max(number(document, &member.value, limit)?.unwrap_or(1));
            }
        }
        let prompts = object.get("prompt").map_or(1, |prompt| match &prompt.kind {
            Kind::Array(prompts) if prompts.iter().all(|one| !matches!(one.kind, Kind::Number)) => {
                u64::try_from(prompts.len()).unwrap_or(u64::MAX).max(1)
            }
            Kind::Null | Kind::Bool(_) | Kind::Number | Kind::String | Kind::Array(_) | Kind::Object(_) => 1,
        });
        Ok(Self { each, answers: Some(answers.saturating_mul(prompts)) })
    }

    fn join(&mut self, other: &Self) {
        self.each = self.each.max(other.each);
        self.answers = self.answers.max(other.answers);
    }

    /// The length of each answer, within the limit.
    fn within(&self, limit: Option<u64>) -> Result<Option<u64>, ProtocolError> {
        let Some(limit) = limit else { return Ok(self.each) };
        let answers = self.answers.unwrap_or(1);
        let each = self.each.unwrap_or(limit / answers);
        if each == 0 || each.saturating_mul(answers) > limit {
            return Err(too_long(limit));
        }
        Ok(Some(each))
    }

    fn together(&self, each: Option<u64>) -> u64 {
        each.unwrap_or(0).saturating_mul(self.answers.unwrap_or(1))
    }
}

/// Says the length in the name that the server reads: not every server knows every name, and one that is spelled otherwise
/// may not be read.
fn say(object: &Node<'_>, name: &str, each: u64, edits: &mut Edits, added: &mut Vec<String>) {
    match object.members().iter().find(|member| member.name == name) {
        Some(member) if matches!(member.value.kind, Kind::Null) => {
            edits.replace(member.value.span(), each.to_string());
        }
        Some(_) => {}
        None => added.push(format!("\"{name}\":{each}")),
    }
}

/// The members of that name, however cased.
fn named<'a>(object: &'a Node<'a>, name: &'a str) -> impl Iterator<Item = &'a Node<'a>> {
    object.members().iter().filter(move |member| fold(&member.name) == name).map(|member| &member.value)
}

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
    use crate::config::settings::{IdentityFields, ServerPreset};
    use crate::protocol::{Rewriting, find, rewrite};
    use bailiwick_masking::json;
    use bailiwick_policy::Principal;
    use http::Method;

    fn written(
        server: ServerPreset,
        path: &str,
        body: &str,
        limit: Option<u64>,
    ) -> Result<(String, u64), &'static str> {
        let (identity, caller) = (IdentityFields::default(), Principal::default());
        let endpoint = find(server, &Method::POST, path).unwrap();
        let rewriting = Rewriting { max_tokens: limit, ..Rewriting::new(server, &identity, &caller) };
        let document = json::parse(body.as_bytes()).unwrap();
        let (bytes, longest) =
            rewrite::rewrite(&document, endpoint, &rewriting).map_err(|error| error.code)?;
        let text = bytes.map_or_else(|| body.to_owned(), |bytes| String::from_utf8(bytes).unwrap());
        assert!(json::parse(text.as_bytes()).is_ok(), "{text}");
        Ok((text, longest))
    }

    #[test]
    fn an_answer_is_no_longer_than_the_rule_allows() {
        const CHAT: &str = "/v1/chat/completions";
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
            let found = written(ServerPreset::Vllm, CHAT, body, Some(100));
            let expected = expected.map(|(text, longest)| (text.to_owned(), longest));
            assert_eq!(found, expected.map_err(|()| "max-tokens-exceeded"), "{why}: {body}");
        }
        for (body, longest) in [("{}", 0), (r#"{"max_tokens":7,"n":3}"#, 21), (r#"{"max_tokens":-1}"#, 0)] {
            assert_eq!(
                written(ServerPreset::Vllm, CHAT, body, None).unwrap(),
                (body.to_owned(), longest),
                "no limit, no change"
            );
        }
    }

    #[test]
    fn each_dialect_says_it_in_its_own_place() {
        use ServerPreset::{Ollama, Tgi, Triton, Vllm};
        const EXCEEDED: &str = "max-tokens-exceeded";
        for (server, path, body, expected) in [
            (Vllm, "/v1/responses", "{}", Ok(r#"{"max_output_tokens":100,"store":false}"#)),
            (
                Vllm,
                "/v1/responses",
                r#"{"max_output_tokens":7,"store":true}"#,
                Ok(r#"{"max_output_tokens":7,"store":false}"#),
            ),
            (Vllm, "/v1/responses", r#"{"max_output_tokens":101}"#, Err(EXCEEDED)),
            (Vllm, "/v1/messages", r#"{"max_tokens":101}"#, Err(EXCEEDED)),
            (Vllm, "/v1/messages/count_tokens", "{}", Ok("{}")),
            (Vllm, "/v1/embeddings", "{}", Ok("{}")),
            (Ollama, "/api/chat", "{}", Ok(r#"{"options":{"num_predict":100}}"#)),
            (Ollama, "/api/chat", r#"{"a":1}"#, Ok(r#"{"options":{"num_predict":100},"a":1}"#)),
            (Ollama, "/api/chat", r#"{"options":null}"#, Ok(r#"{"options":{"num_predict":100}}"#)),
            (Ollama, "/api/chat", r#"{"options":{}}"#, Ok(r#"{"options":{"num_predict":100}}"#)),
            (
                Ollama,
                "/api/generate",
                r#"{"options":{"seed":1}}"#,
                Ok(r#"{"options":{"num_predict":100,"seed":1}}"#),
            ),
            (Ollama, "/api/chat", r#"{"options":{"num_predict":-1}}"#, Err(EXCEEDED)),
            (Ollama, "/api/chat", r#"{"options":{"num_predict":101}}"#, Err(EXCEEDED)),
            (Ollama, "/api/chat", r#"{"Options":{"num_predict":101}}"#, Err(EXCEEDED)),
            (Ollama, "/api/chat", r#"{"options":[]}"#, Err(EXCEEDED)),
            (Ollama, "/api/embed", "{}", Ok("{}")),
            (Tgi, "/generate", "{}", Ok(r#"{"parameters":{"max_new_tokens":100}}"#)),
            (
                Tgi,
                "/generate_stream",
                r#"{"parameters":{"best_of":4}}"#,
                Ok(r#"{"parameters":{"max_new_tokens":25,"best_of":4}}"#),
            ),
            (Tgi, "/generate", r#"{"parameters":{"max_new_tokens":101}}"#, Err(EXCEEDED)),
            (Triton, "/v2/models/m/generate", r#"{"max_tokens":7}"#, Ok(r#"{"max_tokens":7}"#)),
            (Triton, "/v2/models/m/generate", r#"{"parameters":{"max_tokens":101}}"#, Err(EXCEEDED)),
            (Triton, "/v2/models/m/generate", "{}", Err("max-tokens-unbounded")),
            (Triton, "/v2/models/m/infer", "{}", Err("max-tokens-unbounded")),
        ] {
            let found = written(server, path, body, Some(100)).map(|(text, _)| text);
            assert_eq!(found, expected.map(str::to_owned), "{path} {body}");
        }
        for (server, path, body, longest) in [
            (Ollama, "/api/chat", r#"{"options":{"num_predict":7}}"#, 7),
            (Ollama, "/api/chat", r#"{"options":{"num_predict":-1}}"#, 0),
            (Tgi, "/generate", r#"{"parameters":{"max_new_tokens":7,"best_of":2}}"#, 14),
            (Triton, "/v2/models/m/infer", "{}", 0),
        ] {
            assert_eq!(
                written(server, path, body, None),
                Ok((body.to_owned(), longest)),
                "no limit, no change"
            );
        }
    }
}

//! The endpoints of each server preset: exact methods and paths.

use super::Dialect;
use crate::config::settings::ServerPreset;
use bailiwick_policy::Operation;
use http::Method;

/// One exact method and path that a server preset has.
#[derive(Debug)]
pub struct Endpoint {
    /// Stable name for records: `chat`, `completions`, `embeddings`, `models`.
    pub name: &'static str,
    /// What policy calls it.
    pub operation: Operation,
    /// What its requests, answers and errors look like.
    pub dialect: Dialect,
}

/// The endpoint, by exact method and path (never a prefix); `None` is refused with 404 and recorded.
#[must_use]
pub fn find(server: ServerPreset, method: &Method, path: &str) -> Option<&'static Endpoint> {
    table(server).iter().find(|row| row.0 == method.as_str() && row.1 == path).map(|row| &row.2)
}

type Row = (&'static str, &'static str, Endpoint);

const fn table(server: ServerPreset) -> &'static [Row] {
    // The same today. What only one server has goes into a table of its own, together with knowing where its text is.
    match server {
        ServerPreset::OpenAi | ServerPreset::Vllm | ServerPreset::LlamaCpp => OPENAI,
    }
}

const OPENAI: &[Row] = &[
    ("POST", "/v1/chat/completions", open("chat", Operation::Chat)),
    ("POST", "/v1/completions", open("completions", Operation::Completions)),
    ("POST", "/v1/embeddings", open("embeddings", Operation::Embeddings)),
    ("GET", "/v1/models", open("models", Operation::Models)),
];

const fn open(name: &'static str, operation: Operation) -> Endpoint {
    Endpoint { name, operation, dialect: Dialect::OpenAi }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVERS: [ServerPreset; 3] = [ServerPreset::OpenAi, ServerPreset::Vllm, ServerPreset::LlamaCpp];

    #[test]
    fn what_is_open() {
        for server in SERVERS {
            for (method, path, operation) in [
                (Method::POST, "/v1/chat/completions", Operation::Chat),
                (Method::POST, "/v1/completions", Operation::Completions),
                (Method::POST, "/v1/embeddings", Operation::Embeddings),
                (Method::GET, "/v1/models", Operation::Models),
            ] {
                assert_eq!(find(server, &method, path).map(|endpoint| endpoint.operation), Some(operation));
            }
        }
    }

    #[test]
    fn everything_else_is_closed() {
        for server in SERVERS {
            for (method, path, why) in [
                (Method::GET, "/v1/chat/completions", "another method"),
                (Method::POST, "/v1/models", "another method"),
                (Method::HEAD, "/v1/models", "another method"),
                (Method::POST, "/v1/chat/completions/", "a trailing slash"),
                (Method::POST, "//v1/chat/completions", "a doubled slash"),
                (Method::POST, "/v1/chat/../completions", "dots are not resolved"),
                (Method::POST, "/v1/chat%2Fcompletions", "escapes are not resolved"),
                (Method::POST, "/V1/chat/completions", "case counts"),
                (Method::POST, "/v1", "a prefix"),
                (Method::POST, "/invocations", "vLLM: generates without a key"),
                (Method::POST, "/tokenize", "vLLM and llama.cpp"),
                (Method::GET, "/slots", "llama.cpp: shows prompts"),
                (Method::POST, "/v1/responses", "its shapes are not known here"),
                (Method::GET, "/metrics", "not a model operation"),
                (Method::GET, "", "nothing"),
            ] {
                assert!(find(server, &method, path).is_none(), "{why}: {method} {path}");
            }
        }
    }
}

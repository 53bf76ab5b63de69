//! The official `openai` Python client as the caller: it streams a chat and prints what it got as JSON lines, and
//! when it is refused it prints what its user would have seen: the exception's class, status and message.

use std::path::Path;

use serde::Deserialize;

use super::{Launch, Real};

/// One chat.
#[derive(Clone, Debug)]
pub struct Chat<'a> {
    /// such as `https://proxy.example:8443/v1`
    pub base_url: &'a str,
    /// PEM; the only authority that the client trusts
    pub authority: &'a Path,
    /// the bearer token; empty for none
    pub token: &'a str,
    /// as the model server calls it
    pub model: &'a str,
    /// the user's message
    pub prompt: &'a str,
    /// the longest answer
    pub max_tokens: u32,
}

/// One line that the client prints.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum ChatEvent {
    /// A piece of the answer, as it came.
    Chunk {
        /// the piece
        text: String,
        /// since the request was sent
        after_ms: u64,
    },
    /// The end of the answer.
    End {
        /// `stop` or `length`
        finish_reason: Option<String>,
        /// tokens in prompt and answer, where the server said
        total_tokens: Option<u64>,
    },
    /// The client raised an exception.
    Refused {
        /// its class, such as `PermissionDeniedError`
        exception: String,
        /// the HTTP status; none when there was no answer
        status: Option<u16>,
        /// `error.code` of the body
        code: Option<String>,
        /// `error.type` of the body
        kind: Option<String>,
        /// what the exception says
        message: String,
        /// the server's name for the request
        request_id: Option<String>,
    },
}

impl Real {
    /// The command line of one chat. Its exit status is 0 for an answer and 3 for a refusal.
    #[must_use]
    pub fn chat(&self, chat: &Chat<'_>) -> Launch {
        let place = self.directory().join("client");
        Launch::new(place.join("venv/bin/python"))
            .arguments([place.join("chat.py").display().to_string()])
            .variable("CHAT_BASE_URL", chat.base_url)
            .variable("CHAT_AUTHORITY", chat.authority.display().to_string())
            .variable("CHAT_TOKEN", chat.token)
            .variable("CHAT_MODEL", chat.model)
            .variable("CHAT_PROMPT", chat.prompt)
            .variable("CHAT_MAX_TOKENS", chat.max_tokens.to_string())
    }
}

/// Reads what the client printed.
///
/// # Errors
/// when a line is not one of its events
pub fn events(output: &str) -> Result<Vec<ChatEvent>, serde_json::Error> {
    output.lines().map(serde_json::from_str).collect()
}

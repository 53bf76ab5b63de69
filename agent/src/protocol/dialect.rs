//! The dialects of model APIs: each has its own requests, answers, streams and errors.

/// What an endpoint speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// `OpenAI`'s chat, completions, embeddings, images and audio, and the rerank and score of those who took after it.
    OpenAi,
    /// `OpenAI`'s responses: typed items and typed events.
    Responses,
    /// Anthropic's messages.
    Anthropic,
    /// Ollama's own: answers stream as lines of JSON unless asked not to.
    Ollama,
    /// TGI's own `/generate`.
    Tgi,
    /// `KServe`'s inference protocol, version 2, as Triton speaks it.
    Kserve,
}

impl Dialect {
    /// Each, for tables and tests.
    pub const ALL: [Self; 6] =
        [Self::OpenAi, Self::Responses, Self::Anthropic, Self::Ollama, Self::Tgi, Self::Kserve];

    /// Whether its streams are server-sent events, in which a comment may go before the first of them.
    #[must_use]
    pub fn streams_events(self) -> bool {
        match self {
            Self::OpenAi | Self::Responses | Self::Anthropic | Self::Tgi | Self::Kserve => true,
            Self::Ollama => false,
        }
    }

    /// What a caller of a path that leads nowhere most likely speaks: it is told so in that shape.
    #[must_use]
    pub fn guess(path: &str) -> Self {
        let of = |path: &str| {
            let rest = path.strip_prefix('/')?;
            let first = rest.split('/').next()?;
            match first {
                "api" => Some(Self::Ollama),
                "v2" if rest.starts_with("v2/rerank") => Some(Self::OpenAi),
                "v2" => Some(Self::Kserve),
                "generate" | "generate_stream" | "info" => Some(Self::Tgi),
                "v1" if rest.starts_with("v1/messages") => Some(Self::Anthropic),
                "v1" if rest.starts_with("v1/responses") => Some(Self::Responses),
                "v1" => Some(Self::OpenAi),
                _ => None,
            }
        };
        // With a model's name before it, or without.
        let named = || path.get(1..)?.find('/').and_then(|slash| of(&path[slash + 1..]));
        of(path).or_else(named).unwrap_or(Self::OpenAi)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_leads_nowhere_tells_what_is_spoken() {
        for (path, dialect) in [
            ("/api/pull", Dialect::Ollama),
            ("/llama/api/pull", Dialect::Ollama),
            ("/v1/messages/batches", Dialect::Anthropic),
            ("/llama/v1/messages", Dialect::Anthropic),
            ("/v1/responses/r1", Dialect::Responses),
            ("/v1/files", Dialect::OpenAi),
            ("/v2/repository/index", Dialect::Kserve),
            ("/llama/v2/rerank", Dialect::OpenAi),
            ("/generate", Dialect::Tgi),
            ("/metrics", Dialect::OpenAi),
            ("/\u{e9}/api/x", Dialect::Ollama),
            ("*", Dialect::OpenAi),
            ("", Dialect::OpenAi),
            ("\u{e9}", Dialect::OpenAi),
        ] {
            assert_eq!(Dialect::guess(path), dialect, "{path}");
        }
    }
}

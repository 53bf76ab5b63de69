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
}

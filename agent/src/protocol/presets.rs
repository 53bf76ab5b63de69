//! What each kind of model server has that is open: nothing else of it is. Each table was read from the server's own
//! source; what is dangerous next to it is named by the tests, and stays closed.

use super::Dialect::{Anthropic, Kserve, Ollama, OpenAi, Responses, Tgi};
use super::Endpoint;
use super::endpoint::{Length, Streams};
use crate::config::settings::ServerPreset;
use bailiwick_policy::Operation;

/// Method, path, and what it is.
pub(super) type Row = (&'static str, &'static str, Endpoint);

/// The endpoints of a preset.
pub(super) const fn table(server: ServerPreset) -> &'static [Row] {
    match server {
        ServerPreset::OpenAi => OPENAI,
        ServerPreset::Vllm => VLLM,
        ServerPreset::LlamaCpp => LLAMA_CPP,
        ServerPreset::Ollama => OLLAMA,
        ServerPreset::Tgi => TGI,
        ServerPreset::Triton => TRITON,
    }
}

const CHAT: Row = (
    "POST",
    "/v1/chat/completions",
    Endpoint::generating("chat", Operation::Chat, OpenAi, Streams::Asked, Length::At("max_tokens")),
);
const COMPLETIONS: Row = (
    "POST",
    "/v1/completions",
    Endpoint::generating(
        "completions",
        Operation::Completions,
        OpenAi,
        Streams::Asked,
        Length::At("max_tokens"),
    ),
);
const RESPONSES: Row = (
    "POST",
    "/v1/responses",
    Endpoint::generating(
        "responses",
        Operation::Responses,
        Responses,
        Streams::Asked,
        Length::At("max_output_tokens"),
    ),
);
const MESSAGES: Row = (
    "POST",
    "/v1/messages",
    Endpoint::generating(
        "messages",
        Operation::Messages,
        Anthropic,
        Streams::Asked,
        Length::At("max_tokens"),
    ),
);
const COUNT_TOKENS: Row =
    ("POST", "/v1/messages/count_tokens", Endpoint::plain("count-tokens", Operation::Messages, Anthropic));
const EMBEDDINGS: Row =
    ("POST", "/v1/embeddings", Endpoint::plain("embeddings", Operation::Embeddings, OpenAi));
const MODELS: Row = ("GET", "/v1/models", Endpoint::lookup("models", OpenAi));
const MODEL: Row = ("GET", "/v1/models/{model}", Endpoint::lookup("model", OpenAi));
const TRANSCRIPTIONS: Row =
    ("POST", "/v1/audio/transcriptions", Endpoint::form("transcriptions", Operation::Transcriptions));
const TRANSLATIONS: Row =
    ("POST", "/v1/audio/translations", Endpoint::form("translations", Operation::Translations));
const IMAGES: Row = (
    "POST",
    "/v1/images/generations",
    Endpoint::generating("images", Operation::Images, OpenAi, Streams::Asked, Length::Fixed),
);
const IMAGE_EDITS: Row = ("POST", "/v1/images/edits", Endpoint::form("image-edits", Operation::Images));

const fn rerank(path: &'static str) -> Row {
    ("POST", path, Endpoint::plain("rerank", Operation::Rerank, OpenAi))
}

const fn score(path: &'static str) -> Row {
    ("POST", path, Endpoint::plain("score", Operation::Score, OpenAi))
}

/// `OpenAI`'s own stateless endpoints: what a server of unknown make is taken to have.
const OPENAI: &[Row] = &[
    CHAT,
    COMPLETIONS,
    RESPONSES,
    EMBEDDINGS,
    TRANSCRIPTIONS,
    TRANSLATIONS,
    IMAGES,
    IMAGE_EDITS,
    MODELS,
    MODEL,
];

const VLLM: &[Row] = &[
    CHAT,
    COMPLETIONS,
    RESPONSES,
    MESSAGES,
    COUNT_TOKENS,
    EMBEDDINGS,
    rerank("/v1/rerank"),
    rerank("/v2/rerank"),
    rerank("/rerank"),
    score("/v1/score"),
    score("/score"),
    TRANSCRIPTIONS,
    TRANSLATIONS,
    MODELS,
];

const LLAMA_CPP: &[Row] = &[
    CHAT,
    COMPLETIONS,
    RESPONSES,
    MESSAGES,
    COUNT_TOKENS,
    EMBEDDINGS,
    rerank("/v1/rerank"),
    rerank("/v1/reranking"),
    rerank("/rerank"),
    rerank("/reranking"),
    TRANSCRIPTIONS,
    MODELS,
];

/// An answer's length, as Ollama's own API has it.
const NUM_PREDICT: Length = Length::Within("options", "num_predict");

const OLLAMA: &[Row] = &[
    (
        "POST",
        "/api/chat",
        Endpoint::generating("ollama-chat", Operation::Chat, Ollama, Streams::Unless, NUM_PREDICT),
    ),
    (
        "POST",
        "/api/generate",
        Endpoint::generating("ollama-generate", Operation::Completions, Ollama, Streams::Unless, NUM_PREDICT),
    ),
    ("POST", "/api/embed", Endpoint::plain("ollama-embed", Operation::Embeddings, Ollama)),
    ("POST", "/api/embeddings", Endpoint::plain("ollama-embeddings", Operation::Embeddings, Ollama)),
    ("POST", "/api/show", Endpoint::plain("ollama-show", Operation::Models, Ollama)),
    ("GET", "/api/tags", Endpoint::lookup("ollama-tags", Ollama)),
    ("GET", "/api/ps", Endpoint::lookup("ollama-ps", Ollama)),
    ("GET", "/api/version", Endpoint::lookup("ollama-version", Ollama)),
    CHAT,
    COMPLETIONS,
    RESPONSES,
    MESSAGES,
    EMBEDDINGS,
    IMAGES,
    TRANSCRIPTIONS,
    MODELS,
    MODEL,
];

/// An answer's length, as TGI's own API has it.
const MAX_NEW_TOKENS: Length = Length::Within("parameters", "max_new_tokens");

const TGI: &[Row] = &[
    (
        "POST",
        "/generate",
        Endpoint::generating("tgi-generate", Operation::Completions, Tgi, Streams::Never, MAX_NEW_TOKENS),
    ),
    (
        "POST",
        "/generate_stream",
        Endpoint::generating(
            "tgi-generate-stream",
            Operation::Completions,
            Tgi,
            Streams::Always,
            MAX_NEW_TOKENS,
        ),
    ),
    ("GET", "/info", Endpoint::lookup("tgi-info", Tgi)),
    CHAT,
    COMPLETIONS,
    MODELS,
];

const fn infer(path: &'static str) -> Row {
    ("POST", path, Endpoint::generating("infer", Operation::Infer, Kserve, Streams::Never, Length::Unknown))
}

const fn generate(path: &'static str) -> Row {
    ("POST", path, Endpoint::generating("generate", Operation::Infer, Kserve, Streams::Never, Length::Said))
}

const fn generate_stream(path: &'static str) -> Row {
    (
        "POST",
        path,
        Endpoint::generating("generate-stream", Operation::Infer, Kserve, Streams::Always, Length::Said),
    )
}

const fn metadata(path: &'static str) -> Row {
    ("GET", path, Endpoint::lookup("metadata", Kserve))
}

const TRITON: &[Row] = &[
    infer("/v2/models/{model}/infer"),
    infer("/v2/models/{model}/versions/{version}/infer"),
    generate("/v2/models/{model}/generate"),
    generate("/v2/models/{model}/versions/{version}/generate"),
    generate_stream("/v2/models/{model}/generate_stream"),
    generate_stream("/v2/models/{model}/versions/{version}/generate_stream"),
    metadata("/v2"),
    metadata("/v2/health/live"),
    metadata("/v2/health/ready"),
    metadata("/v2/models/{model}"),
    metadata("/v2/models/{model}/ready"),
    metadata("/v2/models/{model}/versions/{version}"),
    metadata("/v2/models/{model}/versions/{version}/ready"),
];

#[cfg(test)]
mod tests;

//! What is unsafe in how each kind of server is started, a row a setting. Sources: vLLM's `docs/usage/security.md` and
//! `usage_stats.md`, llama.cpp's `tools/server/README.md`, Ollama's `envconfig`, TGI's launcher and `usage_statistics.md`,
//! Triton's `docs/customization_guide/deploy.md`. A new setting is a row here, and one of the test in `started.rs`.

use super::Kind;
use crate::config::settings::ServerPreset;

/// What shows that a setting is so.
pub(super) enum Sign {
    /// One of the flags is given, or one of the variables is on.
    Given(&'static [&'static str], &'static [&'static str]),
    /// The flag is given with one of these values.
    Set(&'static str, &'static [&'static str]),
    /// None of the flags is given, and none of the variables is on.
    Missing(&'static [&'static str], &'static [&'static str]),
    /// The first is so, and so is the second.
    Both(&'static Sign, &'static Sign),
}
use Sign::{Both, Given, Missing, Set};

/// A sign, what the setting is about, what is said of it, the cure.
pub(super) type Row = (Sign, Kind, &'static str, &'static str);

/// A key for callers, of any server.
const ANY: &[Row] = &[(
    Given(&["api-key"], &[]),
    Kind::KeyInSight,
    "its key is on a command line",
    "give it by file or environment: llama.cpp --api-key-file, vLLM VLLM_API_KEY, TGI API_KEY",
)];

const VLLM: &[Row] = &[
    (
        Missing(&["allowed-media-domains"], &[]),
        Kind::RemoteMedia,
        "no list of allowed hosts: where its model reads images, sound or video, it downloads what a request names",
        "give it --allowed-media-domains, and VLLM_MEDIA_URL_ALLOW_REDIRECTS=0",
    ),
    (
        Given(&["allowed-local-media-path"], &[]),
        Kind::RemoteMedia,
        "requests may name files of this host",
        "take --allowed-local-media-path out",
    ),
    (
        Missing(&[], &["VLLM_NO_USAGE_STATS", "DO_NOT_TRACK"]),
        Kind::Telemetry,
        "its environment leaves usage statistics on",
        "set VLLM_NO_USAGE_STATS=1 (or DO_NOT_TRACK=1)",
    ),
    (
        Missing(&[], &["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]),
        Kind::Downloads,
        "its environment lets it ask the Hugging Face hub",
        "have the weights on disk, and set HF_HUB_OFFLINE=1",
    ),
    (
        Given(&["otlp-traces-endpoint"], &[]),
        Kind::Telemetry,
        "it sends traces to a collector",
        "take --otlp-traces-endpoint out; Bailiwick's [traces] holds its collector to a region",
    ),
    (
        Given(&[], &["VLLM_SERVER_DEV_MODE"]),
        Kind::AdminEndpoints,
        "its development mode is on: /collective_rpc runs any method of the engine",
        "take VLLM_SERVER_DEV_MODE out",
    ),
    (
        Given(&[], &["VLLM_ALLOW_RUNTIME_LORA_UPDATING"]),
        Kind::AdminEndpoints,
        "adapters can be loaded while it runs",
        "take VLLM_ALLOW_RUNTIME_LORA_UPDATING out",
    ),
    (
        Given(&[], &["VLLM_ALLOW_INSECURE_SERIALIZATION"]),
        Kind::ForeignCode,
        "it reads pickles, which can hold code",
        "take VLLM_ALLOW_INSECURE_SERIALIZATION out",
    ),
    (
        Given(&["trust-remote-code"], &[]),
        Kind::ForeignCode,
        "it runs code that comes with a model",
        "take --trust-remote-code out, or pin and read that code",
    ),
    (Given(&["tool-server"], &[]), Kind::Tools, "it calls a tool server", "take --tool-server out"),
    (
        Given(&["enable-log-requests"], &[]),
        Kind::PromptsOnDisk,
        "it logs requests, at debug level with their prompts",
        "take --enable-log-requests out",
    ),
];

const LLAMA_CPP: &[Row] = &[
    (
        Given(&["log-prompts-dir"], &[]),
        Kind::PromptsOnDisk,
        "it writes each prompt to a file",
        "take --log-prompts-dir out",
    ),
    (
        Given(&["v", "verbose", "log-verbose"], &[]),
        Kind::PromptsOnDisk,
        "it logs everything, prompts included",
        "take --verbose out",
    ),
    (
        Given(&["slot-save-path"], &["LLAMA_ARG_SLOT_SAVE_PATH"]),
        Kind::PromptsOnDisk,
        "the state of conversations can be saved to files",
        "take --slot-save-path out",
    ),
    (
        Given(&[], &["LLAMA_SERVER_SLOTS_DEBUG"]),
        Kind::PromptsInSight,
        "GET /slots shows prompts",
        "take LLAMA_SERVER_SLOTS_DEBUG out",
    ),
    (
        Given(&["props"], &["LLAMA_ARG_ENDPOINT_PROPS"]),
        Kind::AdminEndpoints,
        "POST /props changes what all callers share",
        "take --props out",
    ),
    (
        Given(
            &[
                "tools",
                "agent",
                "ag",
                "ui-mcp-proxy",
                "webui-mcp-proxy",
                "mcp-servers-config",
                "mcp-servers-json",
            ],
            &[
                "LLAMA_ARG_TOOLS",
                "LLAMA_ARG_AGENT",
                "LLAMA_ARG_UI_MCP_PROXY",
                "LLAMA_ARG_MCP_SERVERS_CONFIG",
                "LLAMA_ARG_MCP_SERVERS_JSON",
            ],
        ),
        Kind::Tools,
        "it has tools of its own, or a proxy to those of others",
        "take it out: its own manual says so for networks that are not trusted",
    ),
    (
        Given(&["media-path"], &[]),
        Kind::RemoteMedia,
        "requests may name files of this host",
        "take --media-path out",
    ),
    (
        Given(&["rpc"], &["LLAMA_ARG_RPC"]),
        Kind::OtherHosts,
        "RPC servers compute for it",
        "take --rpc out, or guard those hosts, too",
    ),
    (
        Both(
            &Given(
                &["hf", "hfr", "hf-repo", "mu", "model-url", "mmu", "mmproj-url", "dr", "docker-repo"],
                &[
                    "LLAMA_ARG_HF_REPO",
                    "LLAMA_ARG_MODEL_URL",
                    "LLAMA_ARG_MMPROJ_URL",
                    "LLAMA_ARG_DOCKER_REPO",
                ],
            ),
            &Missing(&["offline"], &["LLAMA_ARG_OFFLINE"]),
        ),
        Kind::Downloads,
        "it is told where to download from, and not to stay offline",
        "have the weights on disk, and give it --offline",
    ),
];

const OLLAMA: &[Row] = &[
    (
        Missing(&[], &["OLLAMA_NO_CLOUD"]),
        Kind::CloudModels,
        "its environment leaves models in the cloud on",
        "set OLLAMA_NO_CLOUD=1",
    ),
    (
        Given(&[], &["OLLAMA_DEBUG_LOG_REQUESTS"]),
        Kind::PromptsOnDisk,
        "it writes the bodies of requests to files",
        "take OLLAMA_DEBUG_LOG_REQUESTS out",
    ),
];

const TGI: &[Row] = &[
    (
        Missing(&[], &["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]),
        Kind::Downloads,
        "its environment lets it ask the Hugging Face hub",
        "have the weights on disk, and set HF_HUB_OFFLINE=1",
    ),
    (
        Given(&["trust-remote-code"], &["TRUST_REMOTE_CODE"]),
        Kind::ForeignCode,
        "it runs code that comes with a model",
        "take --trust-remote-code out, or pin and read that code",
    ),
    (
        Given(&["otlp-endpoint"], &["OTLP_ENDPOINT"]),
        Kind::Telemetry,
        "it sends traces to a collector",
        "take --otlp-endpoint out; Bailiwick's [traces] holds its collector to a region",
    ),
];

const TRITON: &[Row] = &[
    (
        Set("model-control-mode", &["explicit", "poll"]),
        Kind::ForeignCode,
        "models, and code with them, can be loaded while it runs",
        "start it with --model-control-mode=none",
    ),
    (
        Set("trace-config", &["mode=opentelemetry"]),
        Kind::Telemetry,
        "it sends traces to a collector",
        "take it out; Bailiwick's [traces] holds its collector to a region",
    ),
];

/// Those of a kind of server.
pub(super) fn rows(server: ServerPreset) -> impl Iterator<Item = &'static Row> {
    let rows = match server {
        ServerPreset::Vllm => VLLM,
        ServerPreset::LlamaCpp => LLAMA_CPP,
        ServerPreset::Ollama => OLLAMA,
        ServerPreset::Tgi => TGI,
        ServerPreset::Triton => TRITON,
        ServerPreset::OpenAi => &[],
    };
    ANY.iter().chain(rows)
}

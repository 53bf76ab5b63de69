//! What is open, and by name what is not.

use super::*;
use crate::protocol::find;
use http::Method;

/// Every open endpoint, as `METHOD path operation`.
fn open(server: ServerPreset) -> &'static str {
    match server {
        ServerPreset::OpenAi => {
            "POST /v1/chat/completions chat
             POST /v1/completions completions
             POST /v1/responses responses
             POST /v1/embeddings embeddings
             POST /v1/audio/transcriptions transcriptions
             POST /v1/audio/translations translations
             POST /v1/images/generations images
             POST /v1/images/edits images
             GET /v1/models models
             GET /v1/models/gpt-oss models"
        }
        ServerPreset::Vllm => {
            "POST /v1/chat/completions chat
             POST /v1/completions completions
             POST /v1/responses responses
             POST /v1/messages messages
             POST /v1/messages/count_tokens messages
             POST /v1/embeddings embeddings
             POST /v1/rerank rerank
             POST /v2/rerank rerank
             POST /rerank rerank
             POST /v1/score score
             POST /score score
             POST /v1/audio/transcriptions transcriptions
             POST /v1/audio/translations translations
             GET /v1/models models"
        }
        ServerPreset::LlamaCpp => {
            "POST /v1/chat/completions chat
             POST /v1/completions completions
             POST /v1/responses responses
             POST /v1/messages messages
             POST /v1/messages/count_tokens messages
             POST /v1/embeddings embeddings
             POST /v1/rerank rerank
             POST /v1/reranking rerank
             POST /rerank rerank
             POST /reranking rerank
             POST /v1/audio/transcriptions transcriptions
             GET /v1/models models"
        }
        ServerPreset::Ollama => {
            "POST /api/chat chat
             POST /api/generate completions
             POST /api/embed embeddings
             POST /api/embeddings embeddings
             POST /api/show models
             GET /api/tags models
             GET /api/ps models
             GET /api/version models
             POST /v1/chat/completions chat
             POST /v1/completions completions
             POST /v1/responses responses
             POST /v1/messages messages
             POST /v1/embeddings embeddings
             POST /v1/images/generations images
             POST /v1/audio/transcriptions transcriptions
             GET /v1/models models
             GET /v1/models/llama3.2 models"
        }
        ServerPreset::Tgi => {
            "POST /generate completions
             POST /generate_stream completions
             GET /info models
             POST /v1/chat/completions chat
             POST /v1/completions completions
             GET /v1/models models"
        }
        ServerPreset::Triton => {
            "POST /v2/models/m/infer infer
             POST /v2/models/m/versions/1/infer infer
             POST /v2/models/m/generate infer
             POST /v2/models/m/versions/1/generate infer
             POST /v2/models/m/generate_stream infer
             POST /v2/models/m/versions/1/generate_stream infer
             GET /v2 models
             GET /v2/health/live models
             GET /v2/health/ready models
             GET /v2/models/m models
             GET /v2/models/m/ready models
             GET /v2/models/m/versions/1 models
             GET /v2/models/m/versions/1/ready models"
        }
    }
}

/// What the server has besides, and why it is closed.
fn closed(server: ServerPreset) -> &'static str {
    match server {
        ServerPreset::OpenAi => {
            "GET /v1/responses/resp_1 reads another's answer
             POST /v1/responses/resp_1/cancel ends another's answer
             DELETE /v1/responses/resp_1 state
             GET /v1/chat/completions/c1 reads another's answer
             POST /v1/conversations state
             POST /v1/files state
             GET /v1/files/f1/content reads another's file
             POST /v1/batches state
             POST /v1/fine_tuning/jobs state
             POST /v1/assistants state
             POST /v1/threads state
             POST /v1/vector_stores state
             POST /v1/uploads state
             POST /v1/moderations not known here
             POST /v1/audio/speech its answers cannot be inspected
             GET /v1/realtime not HTTP
             DELETE /v1/models/m deletes
             POST /v1/messages another dialect
             POST /v1/images/variations an image alone"
        }
        ServerPreset::Vllm => {
            "POST /invocations generates without a key
             POST /pause stops the engine for all
             POST /resume belongs to it
             POST /sleep takes the model out of memory
             POST /wake_up belongs to it
             POST /collective_rpc runs anything in the workers
             POST /update_weights exchanges the model
             POST /init_weight_transfer_engine belongs to it
             POST /v1/load_lora_adapter loads weights from a path
             POST /v1/unload_lora_adapter belongs to it
             POST /reset_prefix_cache state of all
             POST /reset_mm_cache state of all
             POST /scale_elastic_ep administration
             POST /is_scaling_elastic_ep administration
             POST /start_profile administration
             POST /stop_profile administration
             GET /server_info its whole configuration
             GET /metrics figures of all callers
             GET /load figures of all callers
             GET /version not a model operation
             GET /health not a model operation
             GET /ping not a model operation
             POST /ping not a model operation
             GET /docs not a model operation
             GET /openapi.json not a model operation
             POST /tokenize token ids
             POST /detokenize token ids
             GET /tokenizer_info the template
             POST /pooling its shapes are not known here
             POST /classify its shapes are not known here
             POST /inference/v1/generate token ids
             POST /v1/chat/completions/render token ids
             GET /v1/responses/resp_1 reads another's answer
             POST /v1/responses/resp_1/cancel ends another's answer
             GET /v1/realtime not HTTP
             POST /v2/embed another dialect
             POST /v1/images/generations vLLM has none
             POST /api/chat another server's"
        }
        ServerPreset::LlamaCpp => {
            "GET /slots shows prompts
             POST /slots/0 saves and restores prompts
             GET /props the template and settings
             POST /props changes them
             GET /metrics figures of all callers
             GET /health not a model operation
             GET /v1/health not a model operation
             POST /tokenize token ids
             POST /detokenize token ids
             POST /apply-template the template
             GET /lora-adapters settings
             POST /lora-adapters changes the model for all
             POST /completion the native shape is not known here
             POST /completions the native shape is not known here
             POST /chat/completions the same under another path
             POST /responses the same under another path
             POST /embedding the native shape is not known here
             POST /embeddings the native shape is not known here
             POST /infill the native shape is not known here
             POST /v1/chat/completions/control another's generation
             POST /v1/responses/input_tokens not known here
             GET /v1/stream/1 another's stream
             DELETE /v1/stream/1 another's stream
             GET /v1/streams the list of them
             POST /models router mode: downloads
             POST /models/load router mode
             POST /models/unload router mode
             DELETE /models router mode
             GET /models/sse router mode
             GET /cors-proxy fetches any URL
             POST /cors-proxy fetches any URL
             GET /tools built-in tools
             POST /tools runs them
             POST /v1/audio/translations llama.cpp has none
             POST /predict the shape of a cloud"
        }
        ServerPreset::Ollama => {
            "POST /api/pull downloads a model
             POST /api/push uploads a model
             DELETE /api/delete deletes a model
             POST /api/delete deletes a model
             POST /api/create makes a model
             POST /api/copy copies a model
             POST /api/blobs/sha256-1 uploads
             HEAD /api/blobs/sha256-1 tells what is there
             POST /api/experimental/web_search asks a remote service
             POST /api/experimental/web_fetch fetches any URL
             GET /api/experimental/aliases settings
             POST /api/me asks a remote service who is signed in
             POST /api/signout a remote service
             DELETE /api/user/keys/1 a remote service
             GET /api/status not a model operation
             GET /debug/pprof/heap memory
             GET /debug/pprof/cmdline settings
             HEAD / not a model operation
             GET / not a model operation
             GET /api/chat another method
             HEAD /api/tags another method
             POST /api/tags another method
             POST /v1/images/edits its shape is not known here
             POST /v1/messages/count_tokens Ollama has none"
        }
        ServerPreset::Tgi => {
            "POST / the same under another path
             POST /invocations generates under a cloud's path
             POST /vertex generates under a cloud's path
             POST /predict generates under a cloud's path
             POST /tokenize token ids
             POST /chat_tokenize token ids
             GET /metrics figures of all callers
             GET /health not a model operation
             GET /ping not a model operation
             GET /docs not a model operation
             POST /v2/models/m/versions/1/infer bytes as numbers
             POST /v1/embeddings TGI has none"
        }
        ServerPreset::Triton => {
            "POST /v2/repository/index the repository
             POST /v2/repository/models/m/load loads a model
             POST /v2/repository/models/m/unload unloads it
             GET /v2/systemsharedmemory/status shared memory
             POST /v2/systemsharedmemory/region/r/register shared memory
             POST /v2/systemsharedmemory/unregister shared memory
             POST /v2/cudasharedmemory/region/r/register shared memory
             GET /v2/trace/setting tracing
             POST /v2/trace/setting writes requests to a file
             POST /v2/models/m/trace/setting writes requests to a file
             GET /v2/logging settings
             POST /v2/logging changes them
             GET /v2/models/stats figures of all callers
             GET /v2/models/m/stats figures of all callers
             GET /v2/models/m/config the repository
             GET /metrics figures of all callers
             POST /v2/models/m/explain not known here
             GET /v2/models/m/infer another method
             POST /v2/models/m another method
             POST /v1/chat/completions another server's"
        }
    }
}

fn row(line: &str) -> (Method, &str, &str) {
    let mut words = line.trim().splitn(3, ' ');
    let mut next = || words.next().unwrap();
    (next().parse().unwrap(), next(), next())
}

#[test]
fn what_is_open_and_nothing_else_is() {
    for (name, server) in ServerPreset::ALL {
        let mut met = Vec::new();
        for (method, path, operation) in open(server).lines().map(row) {
            let found = find(server, &method, path).unwrap_or_else(|| panic!("{name}: {method} {path}"));
            assert_eq!(found.operation.as_str(), operation, "{name}: {method} {path}");
            met.push(std::ptr::from_ref(found));
        }
        for (method, path, endpoint) in table(server) {
            assert!(met.contains(&std::ptr::from_ref(endpoint)), "{name}: untested {method} {path}");
        }
    }
}

#[test]
fn what_is_closed_by_name() {
    for (name, server) in ServerPreset::ALL {
        for (method, path, why) in closed(server).lines().map(row) {
            assert!(find(server, &method, path).is_none(), "{name}: {why}: {method} {path}");
        }
    }
}

#[test]
fn no_open_path_has_a_second_spelling() {
    for (name, server) in ServerPreset::ALL {
        for (method, path, _) in open(server).lines().map(row) {
            let first = &path[..=1];
            for other in [
                format!("{path}/"),
                format!("/{path}"),
                format!("{path}/%78"),
                format!("{path}%00"),
                format!("{path};a"),
                format!("{path}?"),
                path.replace(first, &format!("/.{first}")),
                path.replacen('/', "//", 1),
                path.replacen(first, &first.to_ascii_uppercase(), 1),
            ] {
                assert!(find(server, &method, &other).is_none(), "{name}: {method} {other}");
            }
            for method in [Method::HEAD, Method::PUT, Method::PATCH, Method::OPTIONS, Method::TRACE] {
                assert!(find(server, &method, path).is_none(), "{name}: {method} {path}");
            }
        }
    }
}

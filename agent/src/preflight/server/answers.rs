//! What a server's answers tell of its settings: which paths it has, and what it lists. Sources: vLLM's `docs/usage/security.md`,
//! llama.cpp's `tools/server/README.md`, Ollama's `api/types.go`, TGI's `router`, Triton's `docs/protocol`.

use super::{Caution, Kind};
use crate::config::settings::ServerPreset;
use crate::proxy::Heard;
use http::Method;
use serde_json::Value;
use std::collections::BTreeMap;

/// What was answered, by path.
pub(super) type Answers = BTreeMap<&'static str, Heard>;

/// Models that are named; the others are counted.
const NAMED: usize = 5;

/// Paths of vLLM's that one of its settings opens.
struct Opened {
    paths: &'static [&'static str],
    by: &'static str,
    cure: &'static str,
}

const VLLM: [Opened; 4] = [
    Opened {
        paths: &[
            "/collective_rpc",
            "/server_info",
            "/sleep",
            "/wake_up",
            "/reset_prefix_cache",
            "/reset_mm_cache",
            "/reset_encoder_cache",
        ],
        by: "its development mode",
        cure: "take VLLM_SERVER_DEV_MODE out of its environment",
    },
    Opened {
        paths: &["/start_profile", "/stop_profile"],
        by: "its profiler",
        cure: "take --profiler-config (VLLM_TORCH_PROFILER_DIR) out",
    },
    Opened {
        paths: &["/v1/load_lora_adapter", "/v1/unload_lora_adapter"],
        by: "loading adapters at run time",
        cure: "take VLLM_ALLOW_RUNTIME_LORA_UPDATING out of its environment",
    },
    Opened {
        paths: &["/tokenizer_info"],
        by: "its tokenizer's endpoint",
        cure: "take --enable-tokenizer-info-endpoint out",
    },
];
/// Those that no setting takes away, and no key guards.
const VLLM_ALWAYS: [&str; 4] = ["/pause", "/update_weights", "/init_weight_transfer_engine", "/invocations"];
const VLLM_LIST: &str = "/openapi.json";

/// What a server of this kind is asked, besides whether it is well. A path that takes POST alone is asked by OPTIONS: then
/// nothing can happen, and 405 says that it is there.
pub(super) fn questions(server: ServerPreset) -> Vec<(Method, &'static str)> {
    let get = |paths: &[&'static str]| paths.iter().map(|path| (Method::GET, *path)).collect::<Vec<_>>();
    match server {
        ServerPreset::Vllm => {
            let posted = VLLM.iter().flat_map(|opened| opened.paths).chain(&VLLM_ALWAYS);
            let mut questions = get(&[VLLM_LIST]);
            questions.extend(posted.map(|path| (Method::OPTIONS, *path)));
            questions
        }
        ServerPreset::LlamaCpp => get(&["/props", "/slots", "/metrics"]),
        ServerPreset::Ollama => get(&["/api/tags"]),
        ServerPreset::Tgi => get(&["/info"]),
        ServerPreset::Triton => get(&["/v2/logging", "/v2/trace/setting", "/v2/systemsharedmemory/status"]),
        ServerPreset::OpenAi => Vec::new(),
    }
}

/// What the answers leave open.
pub(super) fn judge(server: ServerPreset, answers: &Answers) -> Vec<Caution> {
    match server {
        ServerPreset::Vllm => vllm(answers),
        ServerPreset::LlamaCpp => llama_cpp(answers),
        ServerPreset::Ollama => ollama(answers),
        ServerPreset::Tgi => tgi(answers),
        ServerPreset::Triton => triton(answers),
        ServerPreset::OpenAi => Vec::new(),
    }
}

fn vllm(answers: &Answers) -> Vec<Caution> {
    let list = document(answers, VLLM_LIST);
    let listed = |path: &str| list.as_ref().is_some_and(|list| list["paths"].get(path).is_some());
    let answered = |path: &str| {
        answers.get(path).is_some_and(|heard| matches!(heard.status, 200..=299) || heard.status == 405)
    };
    let there = |paths: &[&'static str]| -> Vec<&'static str> {
        paths.iter().copied().filter(|path| listed(path) || answered(path)).collect()
    };
    let opened = VLLM.iter().filter_map(|Opened { paths, by, cure }| {
        let paths = there(paths);
        let found = format!("{by} is on: {}", paths.join(", "));
        (!paths.is_empty()).then(|| Caution::new(Kind::AdminEndpoints, found, *cure))
    });
    let mut cautions: Vec<Caution> = opened.collect();
    let always = there(&VLLM_ALWAYS);
    if !always.is_empty() {
        let found = format!("no key of its guards {}", always.join(", "));
        let cure = "vLLM has no setting for it: name no [[model.peer]] that need not be";
        cautions.push(Caution::lasting(Kind::AdminEndpoints, found, cure));
    }
    cautions
}

fn llama_cpp(answers: &Answers) -> Vec<Caution> {
    let mut cautions = Vec::new();
    if let Some(properties) = document(answers, "/props") {
        let reads = |what: &str| properties["modalities"][what] == true;
        if reads("vision") || reads("audio") {
            let found = "it reads images or sound, and downloads what a request names from any host";
            let cure =
                "llama.cpp has no list of allowed hosts: leave fetch_urls out, and egress in enforce mode";
            cautions.push(Caution::lasting(Kind::RemoteMedia, found, cure));
        }
        if properties["endpoint_props"] == true {
            let found = "POST /props changes what all callers share";
            cautions.push(Caution::new(Kind::AdminEndpoints, found, "take --props out"));
        }
    }
    if let Some(slots) = document(answers, "/slots") {
        let shows = |slot: &Value| ["prompt", "generated"].iter().any(|key| slot.get(key).is_some());
        if slots.as_array().is_some_and(|slots| slots.iter().any(shows)) {
            let found = "GET /slots shows prompts and what is generated";
            let cure = "take LLAMA_SERVER_SLOTS_DEBUG out of its environment, and give it --no-slots";
            cautions.push(Caution::new(Kind::PromptsInSight, found, cure));
        } else {
            let found = "GET /slots shows what each request under way is doing";
            cautions.push(Caution::new(Kind::AdminEndpoints, found, "give it --no-slots"));
        }
    }
    if answers.get("/metrics").is_some_and(|heard| heard.status == 200) {
        let found = "GET /metrics counts requests and tokens";
        let cure = "take --metrics out unless a [[model.peer]] reads them; Bailiwick has [metrics]";
        cautions.push(Caution::lasting(Kind::AdminEndpoints, found, cure));
    }
    cautions
}

fn ollama(answers: &Answers) -> Vec<Caution> {
    let Some(list) = document(answers, "/api/tags") else { return Vec::new() };
    let models = list["models"].as_array().map(Vec::as_slice).unwrap_or_default();
    let elsewhere = |model: &&Value| {
        let set = |key: &str| model[key].as_str().is_some_and(|text| !text.is_empty());
        let name = model["name"].as_str().unwrap_or_default();
        set("remote_host") || set("remote_model") || name.ends_with(":cloud") || name.ends_with("-cloud")
    };
    let cloud: Vec<&Value> = models.iter().filter(elsewhere).collect();
    let mut cautions = Vec::new();
    if !cloud.is_empty() {
        let names: Vec<&str> = cloud.iter().filter_map(|model| plain(&model["name"])).take(NAMED).collect();
        let said = if names.is_empty() { String::new() } else { format!(": {}", names.join(", ")) };
        let found = format!("{} of its models run elsewhere{said}", cloud.len());
        let cure = "ollama rm each of them, and set OLLAMA_NO_CLOUD=1";
        cautions.push(Caution::new(Kind::CloudModels, found, cure));
    }
    let found = "it asks for no key, and /api/pull, /api/push, /api/create and /api/delete change its models";
    let cure = "Ollama has no setting for it: name no [[model.peer]] that need not be";
    cautions.push(Caution::lasting(Kind::AdminEndpoints, found, cure));
    cautions
}

fn tgi(answers: &Answers) -> Vec<Caution> {
    if document(answers, "/info").is_none() {
        return Vec::new();
    }
    let found = "where its model reads images, it downloads what a prompt names as ![](http…) from any host";
    let cure = "TGI has no list of allowed hosts: leave fetch_urls out, and egress in enforce mode";
    vec![Caution::lasting(Kind::RemoteMedia, found, cure)]
}

fn triton(answers: &Answers) -> Vec<Caution> {
    let open = |path: &str| answers.get(path).is_some_and(|heard| heard.status == 200);
    let mut cautions = Vec::new();
    let settable: Vec<&str> = ["/v2/logging", "/v2/trace/setting", "/v2/systemsharedmemory/status"]
        .into_iter()
        .filter(|path| open(path))
        .collect();
    if !settable.is_empty() {
        let found = format!("{} need no key, and their like take POST", settable.join(", "));
        let cure = "give it --http-restricted-api=logging,trace,shared-memory,model-repository:KEY=VALUE";
        cautions.push(Caution::new(Kind::AdminEndpoints, found, cure));
    }
    let traced = document(answers, "/v2/trace/setting").is_some_and(|setting| {
        let levels = setting["trace_level"].as_array().cloned().unwrap_or_default();
        levels.iter().any(|level| level == "TENSORS")
    });
    if traced {
        let found = "its traces hold tensors, which are what was asked and answered";
        cautions.push(Caution::new(
            Kind::PromptsOnDisk,
            found,
            "set --trace-config level=OFF, or TIMESTAMPS",
        ));
    }
    cautions
}

fn document(answers: &Answers, path: &str) -> Option<Value> {
    let heard = answers.get(path).filter(|heard| heard.status == 200)?;
    serde_json::from_slice(&heard.body).ok()
}

/// A model's name that can stand in a log: of a few characters, and short.
fn plain(name: &Value) -> Option<&str> {
    let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/-".contains(&byte);
    name.as_str().filter(|name| (1..=80).contains(&name.len()) && name.bytes().all(harmless))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn heard(status: u16, body: &Value) -> Heard {
        Heard { status, body: body.to_string().into() }
    }

    fn told(server: ServerPreset, answers: &[(&'static str, u16, Value)]) -> Vec<(Kind, bool, String)> {
        let answers = answers.iter().map(|(path, status, body)| (*path, heard(*status, body))).collect();
        judge(server, &answers).into_iter().map(|one| (one.kind, one.curable, one.found)).collect()
    }

    #[test]
    fn vllm_s_endpoints_are_found_in_its_list_and_without_it() {
        let none = [
            ("/openapi.json", 200, json!({"paths": {"/v1/chat/completions": {}, "/health": {}}})),
            ("/sleep", 404, json!({})),
        ];
        assert_eq!(told(ServerPreset::Vllm, &none), [], "nothing is open");
        let listed =
            [("/openapi.json", 200, json!({"paths": {"/sleep": {}, "/collective_rpc": {}, "/pause": {}}}))];
        let found = told(ServerPreset::Vllm, &listed);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].2.contains("/collective_rpc, /sleep") && found[0].1, "{found:?}");
        assert!(found[1].2.contains("/pause") && !found[1].1, "what no setting closes is a note: {found:?}");
        let hidden = [
            ("/openapi.json", 404, json!({})),
            ("/start_profile", 405, json!({})),
            ("/v1/load_lora_adapter", 405, json!({})),
            ("/sleep", 404, json!({})),
            ("/pause", 401, json!({})),
        ];
        let found = told(ServerPreset::Vllm, &hidden);
        assert_eq!(found.len(), 2, "405 says that a path is there, 404 and 401 do not: {found:?}");
    }

    #[test]
    fn llama_cpp_s_slots_are_told_from_those_that_show_prompts_and_no_prompt_is_repeated() {
        let closed = [
            ("/slots", 501, json!({})),
            ("/metrics", 501, json!({})),
            ("/props", 200, json!({"modalities": {"vision": false, "audio": false}})),
        ];
        assert_eq!(told(ServerPreset::LlamaCpp, &closed), [], "as the testbed starts it");
        let open =
            told(ServerPreset::LlamaCpp, &[("/slots", 200, json!([{"id": 0, "is_processing": true}]))]);
        assert_eq!(open[0].0, Kind::AdminEndpoints);
        let shown =
            told(ServerPreset::LlamaCpp, &[("/slots", 200, json!([{"id": 0, "prompt": "marzipan"}]))]);
        assert_eq!((shown.len(), shown[0].0), (1, Kind::PromptsInSight));
        assert!(!shown[0].2.contains("marzipan"));
        let eyes = told(
            ServerPreset::LlamaCpp,
            &[("/props", 200, json!({"modalities": {"vision": true}, "endpoint_props": true}))],
        );
        assert_eq!(
            eyes.iter().map(|one| one.0).collect::<Vec<_>>(),
            [Kind::RemoteMedia, Kind::AdminEndpoints]
        );
    }

    #[test]
    fn ollama_s_cloud_models_are_named_if_their_names_are_plain() {
        let local = json!({"models": [{"name": "llama3.2:latest", "remote_host": ""}]});
        let found = told(ServerPreset::Ollama, &[("/api/tags", 200, local)]);
        assert_eq!(
            found.iter().map(|one| (one.0, one.1)).collect::<Vec<_>>(),
            [(Kind::AdminEndpoints, false)]
        );
        let cloud = json!({"models": [
            {"name": "gpt-oss:120b-cloud", "remote_host": "https://cloud.example"},
            {"name": "alias\u{1b}[2J", "remote_model": "gpt-oss:120b"},
            {"name": "glm-4.6:cloud"},
            {"name": "llama3.2:latest"},
        ]});
        let found = told(ServerPreset::Ollama, &[("/api/tags", 200, cloud)]);
        assert_eq!(found[0].2, "3 of its models run elsewhere: gpt-oss:120b-cloud, glm-4.6:cloud");
    }

    #[test]
    fn triton_s_settings_are_found_when_they_need_no_key() {
        let restricted = [("/v2/logging", 403, json!({})), ("/v2/trace/setting", 403, json!({}))];
        assert_eq!(told(ServerPreset::Triton, &restricted), []);
        let open = [
            ("/v2/logging", 200, json!({})),
            ("/v2/trace/setting", 200, json!({"trace_level": ["TIMESTAMPS", "TENSORS"]})),
        ];
        let found = told(ServerPreset::Triton, &open);
        assert_eq!(
            found.iter().map(|one| one.0).collect::<Vec<_>>(),
            [Kind::AdminEndpoints, Kind::PromptsOnDisk]
        );
    }

    #[test]
    fn nothing_that_is_asked_can_change_anything() {
        for (_, server) in ServerPreset::ALL {
            let questions = questions(server);
            assert!(questions.iter().all(|(method, _)| method.is_safe()), "{server:?}");
            // An answer that is no JSON, or of another shape, is no finding and no panic.
            for body in ["", "[]", "{\"models\": 3, \"paths\": 1, \"modalities\": null}", "\"x\""] {
                let answer = |path| (path, Heard { status: 200, body: body.as_bytes().to_vec().into() });
                let _told = judge(server, &questions.iter().map(|(_, path)| answer(*path)).collect());
            }
        }
    }
}

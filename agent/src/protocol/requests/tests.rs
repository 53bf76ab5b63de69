//! What each dialect's requests may hold, a row a way around.

use crate::config::settings::{IdentityFields, ServerPreset};
use crate::protocol::{ProtocolError, Request, Rewriting, find, request};
use ServerPreset::{LlamaCpp, Ollama, OpenAi, Tgi, Triton, Vllm};
use bailiwick_masking::{Action, Entity, Mask, Masker};
use bailiwick_policy::Principal;
use http::Method;
use std::sync::Arc;

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";
const INFER: &str = "/v2/models/m/infer";
const GENERATE: &str = "/v2/models/m/generate";

fn masks() -> Masker {
    Masker { masks: vec![Arc::new(Mask::new(Entity::ALL, &[], Action::Redact, [7; 32]).unwrap())] }
}

fn ask(
    server: ServerPreset,
    path: &str,
    body: &str,
    masker: &Masker,
    fetch_urls: bool,
) -> Result<Request, ProtocolError> {
    let (identity, caller) = (IdentityFields::default(), Principal::default());
    let rewriting = Rewriting { fetch_urls, ..Rewriting::new(server, &identity, &caller) };
    let endpoint = find(server, &Method::POST, path).unwrap();
    request(endpoint, None, &body.to_owned().into(), &rewriting, masker)
}

#[test]
fn text_is_masked_wherever_a_dialect_has_it() {
    for (server, path, body) in [
        (Vllm, "/v1/completions", r#"{"prompt":["@"],"suffix":"@"}"#),
        (Vllm, "/v1/embeddings", r#"{"input":["@","x"]}"#),
        (Vllm, "/v1/embeddings", r#"{"messages":[{"role":"user","content":[{"type":"text","text":"@"}]}]}"#),
        (
            Vllm,
            "/rerank",
            r#"{"query":"@","documents":["@",{"text":"@"},{"content":[{"type":"text","text":"@"}]}]}"#,
        ),
        (Vllm, "/v1/score", r#"{"text_1":"@","text_2":["@"]}"#),
        (Vllm, "/score", r#"{"queries":"@","documents":["@"],"data_1":"@","items":["@"]}"#),
        (OpenAi, "/v1/images/generations", r#"{"prompt":"@"}"#),
        (
            Vllm,
            RESPONSES,
            r#"{"instructions":"@","input":[{"role":"user","content":"@"},
                {"type":"message","role":"user","content":[{"type":"input_text","text":"@"}]},
                {"type":"function_call","name":"f","arguments":"{\"to\":\"@\"}"},
                {"type":"function_call_output","output":"@"},
                {"type":"function_call_output","output":[{"type":"input_text","text":"@"}]},
                {"type":"reasoning","summary":[{"type":"summary_text","text":"@"}],"content":[{"type":"reasoning_text","text":"@"}],
                 "encrypted_content":null}],
                "tools":[{"type":"function","name":"f","description":"@"}],"metadata":{"note":"@"}}"#,
        ),
        (Vllm, RESPONSES, r#"{"input":"@"}"#),
        (
            Vllm,
            MESSAGES,
            r#"{"system":[{"type":"text","text":"@"}],"messages":[{"role":"user","content":"@"},
                {"role":"assistant","content":[{"type":"thinking","thinking":"@","signature":""},
                  {"type":"tool_use","id":"t","name":"f","input":{"to":"@","ids":[1,2],"@":1,"deep":[{"x":"@"}]}}]},
                {"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":[{"type":"text","text":"@"}]},
                  {"type":"tool_result","tool_use_id":"u","content":"@"},
                  {"type":"document","title":"@","source":{"type":"text","media_type":"text/plain","data":"@"}},
                  {"type":"document","source":{"type":"content","content":[{"type":"text","text":"@"}]}},
                  {"type":"search_result","source":"@","title":"@","content":[{"type":"text","text":"@"}]}]}],
                "tools":[{"name":"f","description":"@","input_schema":{"properties":{"to":{"description":"@"}}}}],
                "stop_sequences":["@"],"metadata":{"note":"@"}}"#,
        ),
        (Vllm, "/v1/messages/count_tokens", r#"{"system":"@","messages":[{"role":"user","content":"@"}]}"#),
        (
            Ollama,
            "/api/chat",
            r#"{"model":"m","messages":[{"role":"user","content":"@","images":[]},
                {"role":"assistant","thinking":"@","tool_calls":[{"function":{"name":"f","arguments":{"to":"@"}}}]}],
                "options":{"stop":["@"]},"format":{"description":"@"},"keep_alive":"5m"}"#,
        ),
        (
            Ollama,
            "/api/generate",
            r#"{"prompt":"@","system":"@","template":"@","suffix":"@","raw":true,"context":[]}"#,
        ),
        (Ollama, "/api/embed", r#"{"input":["@"]}"#),
        (Ollama, "/api/embeddings", r#"{"prompt":"@"}"#),
        (Ollama, "/api/show", r#"{"model":"m","system":"@"}"#),
        (Ollama, "/api/chat", r#"{"Messages":[{"Role":"user","Content":"@"}]}"#),
        (
            Tgi,
            "/generate",
            r#"{"inputs":"@","parameters":{"stop":["@"],"grammar":{"type":"regex","value":"@"}}}"#,
        ),
        (Tgi, "/generate_stream", r#"{"inputs":"@"}"#),
        (
            Triton,
            INFER,
            r#"{"id":"@","inputs":[{"name":"text_input","shape":[1,2],"datatype":"BYTES","data":[["@","x"]]},
                {"name":"max_tokens","shape":[1,1],"datatype":"INT32","data":[[128]]},
                {"name":"n","shape":[1],"datatype":"BYTES","data":"@"}],
                "outputs":[{"name":"text_output","parameters":{"x":"@"}}],"parameters":{"note":"@"}}"#,
        ),
        (Triton, GENERATE, r#"{"text_input":"@","parameters":{"stop":"@"},"more":["@"],"temperature":0.5}"#),
    ] {
        for value in ["alice@example.com", "4111 1111 1111 1111", "alice\\u0040example.com"] {
            let body = body.replace('@', value);
            let sent = ask(server, path, &body, &masks(), false).unwrap();
            let sent = String::from_utf8(sent.body.to_vec()).unwrap();
            assert!(!sent.contains("alice") && !sent.contains("1111"), "{path}: {sent}");
            assert!(serde_json::from_str::<serde_json::Value>(&sent).is_ok(), "{path}: {sent}");
        }
    }
}

#[test]
fn what_stands_in_the_place_of_text_is_refused_where_a_mask_applies() {
    let image = r#"{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA"}}"#;
    let anthropic = |block: &str| format!(r#"{{"messages":[{{"role":"user","content":[{block}]}}]}}"#);
    let item = |item: &str| format!(r#"{{"input":[{item}]}}"#);
    let tensor = |tensor: &str| format!(r#"{{"inputs":[{tensor}]}}"#);
    for (server, path, body, why) in [
        (Vllm, CHAT, r#"{"messages":[{"content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}]}"#.to_owned(), "an image"),
        (Vllm, CHAT, r#"{"messages":[{"content":[{"type":"text","text":"x","image_embeds":"AAAA"}]}]}"#.to_owned(), "embeddings of one"),
        (Vllm, CHAT, r#"{"messages":[{"role":"assistant","audio":{"id":"a"}}]}"#.to_owned(), "an answer that was spoken"),
        (Vllm, CHAT, r#"{"messages":[{"content":"x","token_ids":[1,2]}]}"#.to_owned(), "token ids in a message"),
        (Vllm, CHAT, r#"{"messages":{"0":{"content":"x"}}}"#.to_owned(), "messages that are no list"),
        (Vllm, CHAT, r#"{"messages":["x"]}"#.to_owned(), "messages that are no objects"),
        (Vllm, CHAT, r#"{"prompt_token_ids":[1,2]}"#.to_owned(), "token ids by any name"),
        (Vllm, CHAT, r#"{"whatever":[[1,2],[3]]}"#.to_owned(), "lists of them"),
        (Vllm, "/v1/completions", r#"{"prompt_embeds":"AAAA"}"#.to_owned(), "embeddings"),
        (Vllm, "/rerank", r#"{"query":"x","documents":[{"multi_modal":[{"image_url":{}}]}]}"#.to_owned(), "a document of images"),
        (Vllm, "/rerank", r#"{"query":"x","documents":[[1,2]]}"#.to_owned(), "a document of token ids"),
        (Vllm, "/score", r#"{"data_1":{"content":[{"type":"image_url","image_url":{}}]},"data_2":"x"}"#.to_owned(), "an image to score"),
        (Vllm, RESPONSES, item(r#"{"role":"user","content":[{"type":"input_image","image_url":"data:,"}]}"#), "an image"),
        (Vllm, RESPONSES, item(r#"{"role":"user","content":[{"type":"input_file","file_data":"AAAA"}]}"#), "a file"),
        (Vllm, RESPONSES, item(r#"{"type":"reasoning","encrypted_content":"AAAA"}"#), "encrypted reasoning"),
        (Vllm, RESPONSES, item(r#"{"type":"computer_call_output","output":{"type":"computer_screenshot"}}"#), "a screenshot"),
        (Vllm, RESPONSES, item(r#"{"type":"something_new","text":"x"}"#), "an item of an unknown type"),
        (Vllm, RESPONSES, item("1"), "a token id"),
        (Vllm, RESPONSES, r#"{"prompt":{"id":"p1","variables":{}}}"#.to_owned(), "a template that the server keeps"),
        (Vllm, MESSAGES, anthropic(image), "an image"),
        (Vllm, MESSAGES, anthropic(&format!(r#"{{"type":"tool_result","content":[{image}]}}"#)), "an image as a result"),
        (Vllm, MESSAGES, anthropic(r#"{"type":"text","text":"x","source":{"type":"base64"}}"#), "an image that says it is text"),
        (Vllm, MESSAGES, anthropic(r#"{"type":"document","source":{"type":"base64","data":"AAAA"}}"#), "a document that is a file"),
        (Vllm, MESSAGES, anthropic(r#"{"type":"redacted_thinking","data":"AAAA"}"#), "what is encrypted"),
        (Vllm, MESSAGES, anthropic(r#"{"type":"web_search_tool_result","content":[]}"#), "a block of an unknown type"),
        (Vllm, MESSAGES, anthropic(r#"{"text":"x"}"#), "a block without a type"),
        (Vllm, MESSAGES, r#"{"system":[{"type":"image"}]}"#.to_owned(), "an image as a system prompt"),
        (Ollama, "/api/chat", r#"{"messages":[{"content":"x","images":["AAAA"]}]}"#.to_owned(), "an image"),
        (Ollama, "/api/chat", r#"{"messages":[{"content":"x","Images":["AAAA"]}]}"#.to_owned(), "in other letters"),
        (Ollama, "/api/chat", r#"{"messages":[{"content":"x","image\u017f":["AAAA"]}]}"#.to_owned(), "in letters that Go folds"),
        (Ollama, "/api/chat", r#"{"messages":[{"content":[{"type":"text","text":"x"}]}]}"#.to_owned(), "parts"),
        (Ollama, "/api/generate", r#"{"prompt":"x","images":["AAAA"]}"#.to_owned(), "an image beside a prompt"),
        (Ollama, "/api/generate", r#"{"prompt":"x","context":[1,2]}"#.to_owned(), "an earlier conversation as token ids"),
        (Ollama, "/api/embed", r#"{"input":[1,2]}"#.to_owned(), "token ids"),
        (Tgi, "/generate", r#"{"inputs":[1,2]}"#.to_owned(), "token ids"),
        (Tgi, "/generate", r#"{"inputs":"![](data:image/png;base64,AAAA)"}"#.to_owned(), "an image in the text"),
        (Triton, INFER, tensor(r#"{"name":"input_ids","datatype":"INT64","data":[1,2]}"#), "token ids"),
        (Triton, INFER, tensor(r#"{"name":"a","datatype":"FP32","data":[[0.5],[0.5]]}"#), "embeddings"),
        (Triton, INFER, tensor(r#"{"name":"a","datatype":"BYTES","data":[104,105]}"#), "bytes as numbers"),
        (Triton, INFER, tensor(r#"{"name":"a","datatype":"bytes","data":["x","y"]}"#), "a type that is not known"),
        (Triton, INFER, tensor(r#"{"name":"a","data":["x","y"]}"#), "no type"),
        (Triton, INFER, tensor("[1]"), "no tensor"),
        (Triton, INFER, r#"{"inputs":{"a":1}}"#.to_owned(), "no list of tensors"),
        (Triton, GENERATE, r#"{"input_ids":[1,2]}"#.to_owned(), "token ids"),
        (Triton, GENERATE, r#"{"parameters":{"prompt_ids":[1,2]}}"#.to_owned(), "token ids among the settings"),
    ] {
        let error = ask(server, path, &body, &masks(), true).unwrap_err();
        assert_eq!((error.status.as_u16(), error.code), (422, "content-not-inspectable"), "{why}: {path} {body}");
        if why != "no tensor" {
            assert!(ask(server, path, &body, &Masker::default(), true).is_ok(), "no mask, no inspection: {path} {body}");
        }
    }
}

#[test]
fn tensors_elsewhere_are_refused_in_any_case() {
    for body in [
        r#"{"inputs":[{"name":"a","datatype":"BYTES","parameters":{"binary_data_size":9}}]}"#,
        r#"{"inputs":[{"name":"a","parameters":{"shared_memory_region":"r"}}]}"#,
        r#"{"outputs":[{"name":"a","parameters":{"binary_data":true}}]}"#,
        r#"{"outputs":[{"name":"a","parameters":{"shared_memory_region":"r","shared_memory_byte_size":9}}]}"#,
        r#"{"parameters":{"binary_data_output":true}}"#,
    ] {
        let error = ask(Triton, INFER, body, &Masker::default(), true).unwrap_err();
        assert_eq!(error.code, "content-not-inspectable", "{body}");
    }
    assert!(ask(Triton, INFER, r#"{"parameters":{"binary_data_output":false}}"#, &masks(), false).is_ok());
}

#[test]
fn nothing_is_fetched_unless_the_config_says_so() {
    let part = |part: &str| format!(r#"{{"messages":[{{"role":"user","content":[{part}]}}]}}"#);
    for (server, path, body, why) in [
        (Vllm, CHAT, part(r#"{"type":"image_url","image_url":{"url":"https://192.0.2.1/x.png"}}"#), "an image"),
        (Vllm, CHAT, part(r#"{"image_url":" HTTP://192.0.2.1/"}"#), "without a type, with a blank"),
        (Vllm, CHAT, part(r#"{"type":"image_url","image_url":{"url":"file:///etc/shadow"}}"#), "a file of the host"),
        (Vllm, CHAT, part(r#"{"type":"video_url","video_url":{"url":"ftp://192.0.2.1/"}}"#), "a film"),
        (Vllm, CHAT, part(r#"{"type":"audio_url","audio_url":{"url":"http://192.0.2.1/"}}"#), "a sound"),
        (Vllm, CHAT, r#"{"kv_transfer_params":{"remote_host":"192.0.2.1"}}"#.to_owned(), "state of another host"),
        (Vllm, CHAT, r#"{"web_search_options":{}}"#.to_owned(), "a search"),
        (Vllm, "/score", r#"{"data_1":{"content":[{"type":"image_url","image_url":{"url":"https://192.0.2.1/"}}]}}"#.to_owned(), "scored"),
        (LlamaCpp, CHAT, part(r#"{"type":"image_url","image_url":{"Url":"https://192.0.2.1/"}}"#), "other letters"),
        (Vllm, RESPONSES, r#"{"input":[{"role":"user","content":[{"type":"input_image","image_url":"https://192.0.2.1/"}]}]}"#.to_owned(), "an image"),
        (Vllm, RESPONSES, r#"{"input":[{"role":"user","content":[{"type":"input_file","file_url":"https://192.0.2.1/"}]}]}"#.to_owned(), "a file"),
        (Vllm, RESPONSES, r#"{"tools":[{"type":"mcp","server_url":"https://192.0.2.1/"}]}"#.to_owned(), "a tool of another host"),
        (Vllm, RESPONSES, r#"{"tools":[{"type":"web_search_preview"}]}"#.to_owned(), "a search"),
        (Vllm, RESPONSES, r#"{"tools":[{"type":"code_interpreter"}]}"#.to_owned(), "code that the server runs"),
        (Vllm, MESSAGES, part(r#"{"type":"image","source":{"type":"url","url":"https://192.0.2.1/"}}"#), "an image"),
        (Vllm, MESSAGES, part(r#"{"type":"tool_result","content":[{"type":"document","source":{"type":"url","url":"https://192.0.2.1/"}}]}"#), "a document as a result"),
        (Ollama, MESSAGES, r#"{"tools":[{"type":"web_search_20250305","name":"web_search"}]}"#.to_owned(), "a search"),
        (Vllm, MESSAGES, r#"{"mcp_servers":[{"type":"url","url":"https://192.0.2.1/"}]}"#.to_owned(), "a tool of another host"),
        (Tgi, "/generate", r#"{"inputs":"look: ![](https://192.0.2.1/x.png) there"}"#.to_owned(), "an image in the text"),
        (Tgi, CHAT, part(r#"{"type":"text","text":"![](ht"},{"type":"text","text":"tp://192.0.2.1/)"}"#), "over two parts"),
    ] {
        let error = ask(server, path, &body, &Masker::default(), false).unwrap_err();
        let told = (error.status.as_u16(), error.code);
        assert_eq!(told, (403, "remote-content-not-allowed"), "{why}: {body}");
        assert!(ask(server, path, &body, &Masker::default(), true).is_ok(), "{why}: it says so");
        assert!(!error.to_string().contains("192.0.2.1"));
    }
    for (server, path, body, why) in [
        (Vllm, CHAT, part(r#"{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}"#), "data"),
        (LlamaCpp, CHAT, part(r#"{"type":"image_url","image_url":{"url":"//8AAA=="}}"#), "data without a scheme"),
        (Vllm, CHAT, part(r#"{"type":"text","text":"see https://192.0.2.1/"}"#), "a text"),
        (Vllm, CHAT, r#"{"tools":[{"type":"function","function":{"parameters":{"properties":{"image_url":{"type":"string"}}}}}]}"#.to_owned(), "a schema"),
        (Vllm, CHAT, r#"{"mcp_servers":[],"kv_transfer_params":null}"#.to_owned(), "nothing"),
        (Vllm, MESSAGES, part(r#"{"type":"tool_use","name":"f","input":{"image_url":"https://192.0.2.1/"}}"#), "an argument"),
        (Vllm, MESSAGES, part(r#"{"type":"search_result","source":"https://192.0.2.1/","title":"t","content":[]}"#), "a name"),
        (Vllm, MESSAGES, r#"{"tools":[{"name":"f"},{"type":"custom","name":"g"},{"type":"bash_20250124","name":"bash"}]}"#.to_owned(), "tools of the caller's"),
        (Ollama, "/api/chat", r#"{"messages":[{"tool_calls":[{"function":{"arguments":{"image_url":"https://192.0.2.1/"}}}]}]}"#.to_owned(), "an argument"),
        (Vllm, "/v1/completions", r#"{"prompt":"![](https://192.0.2.1/)"}"#.to_owned(), "a text that vLLM does not look into"),
    ] {
        assert!(ask(server, path, &body, &Masker::default(), false).is_ok(), "{why}: {body}");
    }
}

#[test]
fn models_in_the_cloud_are_refused() {
    for model in [
        "gpt-oss:120b-cloud",
        "gpt-oss:cloud",
        " GPT-OSS:Cloud ",
        "gpt-oss: cloud",
        "library/gpt-oss:cloud",
        "deepseek-v3.1:671b-cloud",
    ] {
        for (path, key) in
            [("/api/chat", "model"), ("/api/show", "name"), (CHAT, "Model"), (MESSAGES, "model")]
        {
            let body = serde_json::json!({key: model}).to_string();
            let error = ask(Ollama, path, &body, &Masker::default(), true).unwrap_err();
            assert_eq!((error.status.as_u16(), error.code), (403, "cloud-model"), "{path} {body}");
        }
    }
    for model in ["llama3.2", "cloud", "mycloud:8b", "llama:cloudy"] {
        let body = serde_json::json!({"model": model}).to_string();
        assert!(ask(Ollama, "/api/chat", &body, &Masker::default(), false).is_ok(), "{model}");
    }
    assert!(ask(Vllm, CHAT, r#"{"model":"x-cloud"}"#, &masks(), false).is_ok(), "vLLM hands nothing on");
}

#[test]
fn no_state_is_gone_on_with() {
    for body in [
        r#"{"previous_response_id":"resp_1"}"#,
        r#"{"conversation":"conv_1"}"#,
        r#"{"conversation":{"id":"conv_1"}}"#,
        r#"{"background":true}"#,
        r#"{"input":[{"type":"item_reference","id":"msg_1"}]}"#,
        r#"{"input":[{"id":"msg_1"}]}"#,
    ] {
        let error = ask(Vllm, RESPONSES, body, &Masker::default(), true).unwrap_err();
        assert_eq!((error.status.as_u16(), error.code), (400, "state-not-kept"), "{body}");
    }
    for (path, body) in [
        (INFER, r#"{"inputs":[],"parameters":{"sequence_id":42,"sequence_start":true}}"#),
        (INFER, r#"{"inputs":[],"parameters":{"sequence_id":"alices"}}"#),
        (GENERATE, r#"{"text_input":"x","sequence_id":42}"#),
    ] {
        let error = ask(Triton, path, body, &Masker::default(), true).unwrap_err();
        assert_eq!((error.status.as_u16(), error.code), (400, "state-not-kept"), "{body}");
    }
    assert!(ask(Triton, INFER, r#"{"inputs":[],"parameters":{"sequence_id":0}}"#, &masks(), false).is_ok());
    for body in [
        r#"{"previous_response_id":null,"conversation":null,"background":false}"#,
        r#"{"input":[{"id":"msg_1","type":"message","role":"assistant","content":"x"}],"store":true}"#,
    ] {
        let sent = ask(Vllm, RESPONSES, body, &masks(), false).unwrap();
        assert!(String::from_utf8(sent.body.to_vec()).unwrap().contains(r#""store":false"#));
    }
}

//! What would make the model's server fetch something, or hand the request to another service.
//!
//! vLLM and llama.cpp fetch every URL of an image that they are given, TGI those within the text of a prompt; servers with
//! tools of their own search the web; vLLM reads the state of a request from a host that the request names; Ollama runs models
//! whose names end in `cloud` at ollama.com. The kernel holds all of it to the model's egress policy. Here it is refused
//! before, with a reason, unless the config says `fetch_urls`; models in the cloud are always refused.

use super::super::{Dialect, Endpoint, ProtocolError, Rewriting};
use super::texts::{fold, is_nothing, kind};
use super::{kserve, responses};
use crate::config::settings::ServerPreset;
use bailiwick_masking::json::{Document, Kind, Node};
use http::StatusCode;

/// Members that hold a URL, or an object with a `url`.
const URLS: &[&str] = &["image_url", "video_url", "audio_url", "file_url", "source"];

/// Members of a body that describe and are not fetched: schemas, and what the caller notes for itself.
const DESCRIPTIONS: &[&str] = &[
    "tools",
    "functions",
    "response_format",
    "text",
    "format",
    "output_config",
    "structured_outputs",
    "guided_json",
    "json_schema",
    "metadata",
];

/// Members of a body that name another host, whatever they hold.
const ELSEWHERE: &[&str] =
    &["mcp_servers", "web_search_options", "kv_transfer_params", "plugins", "data_sources"];

/// Tools that the caller runs: of other types the server runs them.
const OWN_TOOLS: &[&str] = &["function", "custom", "local_shell", "apply_patch", "grammar"];

/// The same, by what their dated names begin with.
const OWN_DATED_TOOLS: &[&str] = &["bash_2", "text_editor_2", "computer_2", "memory_2"];

/// The request is answered here, with nothing but what it holds and what the model knows.
pub(in super::super) fn stays_here(
    document: &Document<'_>,
    endpoint: &Endpoint,
    rewriting: &Rewriting<'_>,
) -> Result<(), ProtocolError> {
    let root = document.root();
    for member in root.members() {
        if matches!(&*fold(&member.name), "model" | "name") {
            no_cloud(document.text(&member.value).as_deref().unwrap_or_default(), rewriting.server)?;
        }
    }
    match endpoint.dialect {
        Dialect::Responses => responses::keeps_no_state(document)?,
        Dialect::Kserve => {
            kserve::tensors_are_here(document)?;
            kserve::keeps_no_state(document)?;
        }
        Dialect::OpenAi | Dialect::Anthropic | Dialect::Ollama | Dialect::Tgi => {}
    }
    if rewriting.fetch_urls {
        return Ok(());
    }
    for member in root.members() {
        let name = fold(&member.name);
        let asked = !is_nothing(&member.value) && !matches!(member.value.kind, Kind::Bool(false));
        if ELSEWHERE.contains(&&*name) && asked {
            return remote("the request names another host to ask");
        }
        if name == "tools" && member.value.elements().iter().any(|tool| is_hosted(document, tool)) {
            return remote("the request asks for a tool that the model's server would run itself");
        }
        if !DESCRIPTIONS.contains(&&*name) {
            urls(document, &member.value, &name)?;
        }
    }
    if rewriting.server == ServerPreset::Tgi && has_markdown_image(document, root, &leads_away) {
        return remote("the text has an image by its URL, which TGI would fetch");
    }
    Ok(())
}

/// Refuses names of models that Ollama hands on to ollama.com. A server of unknown make may be one, too.
pub(super) fn no_cloud(model: &str, server: ServerPreset) -> Result<(), ProtocolError> {
    let may_hand_on = match server {
        ServerPreset::Ollama | ServerPreset::OpenAi => true,
        ServerPreset::Vllm | ServerPreset::LlamaCpp | ServerPreset::Tgi | ServerPreset::Triton => false,
    };
    let model = model.trim().to_lowercase();
    let tag = model.rsplit(':').next().unwrap_or_default().trim();
    if may_hand_on && (model.ends_with("-cloud") || (model.contains(':') && tag == "cloud")) {
        return Err(ProtocolError {
            status: StatusCode::FORBIDDEN,
            code: "cloud-model",
            message:
                "models whose names end in cloud are run at ollama.com, not here: use a model of this host"
                    .into(),
        });
    }
    Ok(())
}

/// Whether a URL leads anywhere: what is not data within the request has a scheme.
pub(super) fn leads_away(url: &str) -> bool {
    let url = url.trim_start_matches(|c: char| c.is_whitespace() || c.is_control());
    !url.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:")) && url.contains(':')
}

fn remote<T>(what: &str) -> Result<T, ProtocolError> {
    Err(ProtocolError {
        status: StatusCode::FORBIDDEN,
        code: "remote-content-not-allowed",
        message: format!("{what}: send the content itself (a data: URL), or have [[model]] fetch_urls set"),
    })
}

/// A tool of a type that the server would run. A tool without a type is a function.
fn is_hosted(document: &Document<'_>, tool: &Node<'_>) -> bool {
    match tool.get("type") {
        None => false,
        Some(given) if matches!(given.kind, Kind::Null) => false,
        Some(_) => kind(document, tool).is_none_or(|kind| {
            !OWN_TOOLS.contains(&&*kind) && !OWN_DATED_TOOLS.iter().any(|begin| kind.starts_with(begin))
        }),
    }
}

/// Looks for URLs in a member of that name and everything below, but for the arguments of tools.
fn urls(document: &Document<'_>, value: &Node<'_>, name: &str) -> Result<(), ProtocolError> {
    if URLS.contains(&name) {
        let given = |node: &Node<'_>| document.text(node).is_some_and(|url| leads_away(&url));
        let within = |node: &Node<'_>| {
            node.members().iter().any(|member| fold(&member.name) == "url" && given(&member.value))
        };
        // The source of a search result is a name.
        let direct = name != "source" && given(value);
        if direct || within(value) || value.elements().iter().any(|one| given(one) || within(one)) {
            return remote("the request names a URL that the model's server would fetch");
        }
    }
    for element in value.elements() {
        urls(document, element, "")?;
    }
    let is_call = kind(document, value).as_deref() == Some("tool_use");
    for member in value.members() {
        let name = fold(&member.name);
        if name != "arguments" && !(is_call && name == "input") {
            urls(document, &member.value, &name)?;
        }
    }
    Ok(())
}

/// TGI takes images out of the text, however they came there: within it they cannot be inspected.
pub(in super::super) fn shows_no_images(
    document: &Document<'_>,
    server: ServerPreset,
) -> Result<(), ProtocolError> {
    if server == ServerPreset::Tgi && has_markdown_image(document, document.root(), &|_| true) {
        return super::texts::no_text();
    }
    Ok(())
}

/// `![](URL)` of a kind in a text, or in the texts of one message's parts together, as TGI joins them.
fn has_markdown_image(document: &Document<'_>, node: &Node<'_>, wanted: &dyn Fn(&str) -> bool) -> bool {
    let joined: String = node.elements().iter().filter_map(|part| document.text(part.get("text")?)).collect();
    let image = |text: &str| {
        text.match_indices("![](").any(|(at, opening)| {
            let target = &text[at + opening.len()..];
            wanted(target.split(')').next().unwrap_or_default())
        })
    };
    image(&joined)
        || document.text(node).is_some_and(|text| image(&text))
        || node.elements().iter().any(|one| has_markdown_image(document, one, wanted))
        || node.members().iter().any(|one| has_markdown_image(document, &one.value, wanted))
}

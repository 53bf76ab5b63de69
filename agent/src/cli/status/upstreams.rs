//! How the models' servers stand: the agent's word, set apart from what the kernel said. Without an agent nobody knows.

use crate::cli::text::wrapped;
use crate::config::settings::Settings;
use crate::control::{self, ControlError};
use crate::proxy::UpstreamHealth;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// What the agent said, or why it did not; and the servers that the config has.
pub(super) struct Told {
    answer: Result<Vec<UpstreamHealth>, ControlError>,
    /// Model and server.
    configured: Vec<(String, String)>,
}

/// Asks the running agent.
pub(super) fn ask(settings: &Settings) -> Told {
    let names = |model: &std::sync::Arc<crate::config::settings::Model>| {
        let model = std::sync::Arc::clone(model);
        model.servers().into_iter().map(move |server| (model.name.to_string(), server.name.to_string()))
    };
    let configured = settings.models.values().flat_map(names).collect();
    Told { answer: control::upstreams(&control::place()), configured }
}

/// The section, with a heading that says whose word it is.
pub(super) fn page(told: &Told) -> String {
    let mut text = String::from("\nWhat the agent says of the models' servers (the kernel does not know):\n");
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{:<16} {:<16} {:<8} {:>6}  WHY", "MODEL", "UPSTREAM", "STATE", "ACTIVE");
    match &told.answer {
        Ok(servers) => {
            for server in servers {
                let judged = match (&server.cause, server.checked) {
                    (Some(cause), _) => cause.as_str(),
                    (None, true) => "checks",
                    (None, false) => "requests alone tell",
                };
                let backup = if server.backup { " (backup)" } else { "" };
                let UpstreamHealth { model, upstream, state, active, .. } = server;
                let _ = writeln!(text, "{model:<16} {upstream:<16} {state:<8} {active:>6}  {judged}{backup}");
            }
        }
        Err(error) => {
            for (model, upstream) in &told.configured {
                let _ = writeln!(text, "{model:<16} {upstream:<16} {:<8} {:>6}", "unknown", "-");
            }
            let _ = writeln!(text, "{}", wrapped(&format!("unknown, since it cannot be asked: {error}"), 4));
        }
    }
    text
}

/// The same for programs.
pub(super) fn json(told: &Told) -> Value {
    match &told.answer {
        Ok(servers) => json!({ "source": "agent", "servers": servers }),
        Err(error) => {
            let unknown = |(model, upstream): &(String, String)| json!({ "model": model, "upstream": upstream, "state": "unknown" });
            let servers: Vec<Value> = told.configured.iter().map(unknown).collect();
            json!({ "source": null, "error": error.to_string(), "servers": servers })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_section_says_whose_word_it_is_and_what_is_not_known() {
        let server = UpstreamHealth {
            model: "llama".into(),
            upstream: "llama-b".into(),
            state: "down".into(),
            checked: true,
            backup: true,
            active: 3,
            cause: Some("it takes no connection".into()),
        };
        let configured = vec![("llama".to_owned(), "llama".to_owned())];
        let told = Told { answer: Ok(vec![server]), configured: configured.clone() };
        let text = page(&told);
        assert!(text.contains("the agent says") && text.contains("the kernel does not know"), "{text}");
        assert!(text.contains("down          3  it takes no connection (backup)"), "{text}");
        assert_eq!(json(&told)["servers"][0]["state"], "down");

        let nobody = Told { answer: Err(ControlError::NobodyListens("/run/x".into())), configured };
        let text = page(&nobody);
        assert!(text.contains("llama            llama            unknown"), "{text}");
        assert!(text.contains("systemctl status bailiwick") && !text.contains(" up "), "{text}");
        assert_eq!(json(&nobody)["servers"][0]["state"], "unknown");
        assert!(json(&nobody)["source"].is_null());
    }
}

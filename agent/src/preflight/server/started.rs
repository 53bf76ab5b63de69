//! How a server was started: the command lines and environments of the processes in its slice (proc(5)), taken together.
//!
//! Of a variable only its name is kept, and whether it is on. Values of arguments are compared with those of the tables and go
//! no further: one may be a key. An environment is shown to root, and to the agent, which has not all of root's rights, for
//! processes of root alone.

use super::super::processes::pids_in;
use super::tables::{Row, Sign, rows};
use super::{Caution, Kind};
use crate::config::settings::ServerPreset;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// What the processes of a slice were started with.
pub(super) struct Started {
    arguments: Vec<Argument>,
    /// Whether each is on; `None` when a process keeps its environment to itself.
    variables: Option<BTreeMap<String, bool>>,
}

/// A flag without its dashes, in small letters with dashes between words, and what follows it.
struct Argument {
    flag: String,
    value: Option<String>,
}

/// What this leaves open in a server of this kind.
pub(super) fn judge(server: ServerPreset, started: &Started) -> Vec<Caution> {
    let mut cautions: Vec<Caution> = rows(server).filter_map(|row| started.shows(row)).collect();
    if server == ServerPreset::Tgi && started.reports_usage() == Some(true) {
        let found = "nothing turns its usage statistics off, which it sends from containers";
        cautions.push(Caution::new(Kind::Telemetry, found, "give it --usage-stats off"));
    }
    cautions
}

impl Started {
    /// Of all processes of a cgroup and of those below it; `None` when there is none.
    pub(super) fn of(cgroup: &Path) -> Option<Self> {
        let read = |pid: &u32, file: &str| fs::read(format!("/proc/{pid}/{file}")).ok();
        let pids = pids_in(cgroup);
        // A process that is gone has no command line any more.
        let there = |pid: &u32| Some((read(pid, "cmdline")?, read(pid, "environ")));
        let all: Vec<_> = pids.iter().filter_map(there).collect();
        (!all.is_empty()).then(|| Self::from(&all))
    }

    fn from(processes: &[(Vec<u8>, Option<Vec<u8>>)]) -> Self {
        let arguments = processes.iter().flat_map(|(line, _)| arguments(line)).collect();
        let variables: Option<Vec<_>> =
            processes.iter().map(|(_, text)| text.as_deref().map(variables)).collect();
        let together = |all: Vec<Vec<(String, bool)>>| {
            let mut together = BTreeMap::new();
            for (name, on) in all.into_iter().flatten() {
                *together.entry(name).or_insert(false) |= on;
            }
            together
        };
        Self { arguments, variables: variables.map(together) }
    }

    /// Whether every process shows its environment.
    pub(super) fn tells_its_environment(&self) -> bool {
        self.variables.is_some()
    }

    fn given(&self, flags: &[&'static str]) -> Option<String> {
        let given = |flag: &&str| self.arguments.iter().any(|argument| argument.flag == **flag);
        flags.iter().find(|flag| given(flag)).map(|flag| format!("--{flag}"))
    }

    /// Which of them is on; the outer `None` is for what cannot be known.
    fn on(&self, names: &[&'static str]) -> Option<Option<String>> {
        if names.is_empty() {
            return Some(None);
        }
        let variables = self.variables.as_ref()?;
        Some(names.iter().find(|name| variables.get(**name) == Some(&true)).map(|name| (*name).to_owned()))
    }

    fn shows(&self, (sign, kind, found, cure): &Row) -> Option<Caution> {
        let detail = self.detail(sign)?;
        Some(Caution::new(*kind, format!("{found}{detail}"), *cure))
    }

    /// What the table's words lack, when it is so and is known.
    fn detail(&self, sign: &Sign) -> Option<String> {
        match sign {
            Sign::Given(flags, variables) => {
                let what = self.given(flags).or_else(|| self.on(variables).flatten())?;
                Some(format!(" ({what})"))
            }
            Sign::Set(flag, values) => {
                let is = |argument: &&Argument| {
                    let value = argument.value.as_deref().unwrap_or_default();
                    argument.flag == *flag
                        && values.iter().any(|one| value.split(',').any(|part| part == *one))
                };
                self.arguments.iter().find(is)?;
                Some(format!(" (--{flag})"))
            }
            Sign::Missing(flags, variables) => {
                if self.given(flags).is_some() || self.on(variables)?.is_some() {
                    return None;
                }
                let unread = self.given(&["config"]).map(|_| "; its --config file was not read".to_owned());
                Some(unread.unwrap_or_default())
            }
            Sign::Both(first, second) => {
                let detail = self.detail(first)?;
                self.detail(second)?;
                Some(detail)
            }
        }
    }

    /// Whether TGI's statistics are on, as they are unless the word is `off`.
    fn reports_usage(&self) -> Option<bool> {
        let said = self.arguments.iter().find(|argument| argument.flag == "usage-stats");
        match said {
            Some(argument) => Some(argument.value.as_deref() != Some("off")),
            None => Some(self.variables.as_ref()?.get("USAGE_STATS") != Some(&false)),
        }
    }
}

fn arguments(line: &[u8]) -> Vec<Argument> {
    let words: Vec<String> =
        line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    let mut arguments = Vec::new();
    for (index, word) in words.iter().enumerate().skip(1) {
        let Some(bare) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else { continue };
        let (flag, value) = match bare.split_once('=') {
            Some((flag, value)) => (flag, Some(value.to_owned())),
            None => (bare, words.get(index + 1).filter(|next| !next.starts_with('-')).cloned()),
        };
        arguments.push(Argument { flag: flag.replace('_', "-"), value });
    }
    arguments
}

/// The names of variables, and whether each is on.
fn variables(environment: &[u8]) -> Vec<(String, bool)> {
    let pairs = environment.split(|byte| *byte == 0).filter_map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        let off = matches!(
            pair[at + 1..].to_ascii_lowercase().as_slice(),
            b"" | b"0" | b"false" | b"no" | b"off" | b"f" | b"n"
        );
        Some((String::from_utf8_lossy(&pair[..at]).into_owned(), !off))
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(server: ServerPreset, line: &str, environment: Option<&str>) -> Vec<String> {
        let zeros = |text: &str| text.replace(' ', "\0").into_bytes();
        let started = Started::from(&[
            (b"/bin/wrapper\0".to_vec(), environment.map(|_| Vec::new())),
            (zeros(line), environment.map(zeros)),
        ]);
        judge(server, &started)
            .into_iter()
            .map(|caution| format!("{}: {}", caution.kind.as_str(), caution.found))
            .collect()
    }

    fn kinds(server: ServerPreset, line: &str, environment: Option<&str>) -> Vec<String> {
        let kind = |text: String| text.split(':').next().unwrap_or_default().to_owned();
        told(server, line, environment).into_iter().map(kind).collect()
    }

    #[test]
    fn each_server_is_judged_by_its_own_flags_and_variables() {
        use ServerPreset::{LlamaCpp, Ollama, OpenAi, Tgi, Triton, Vllm};
        let quiet = Some("VLLM_NO_USAGE_STATS=1 HF_HUB_OFFLINE=1");
        for (server, line, environment, expected, why) in [
            (Vllm, "vllm serve m --allowed-media-domains a.example", quiet, &[][..], "a careful one"),
            (Vllm, "vllm serve m", quiet, &["remote-media"], "no list of hosts"),
            (Vllm, "vllm serve m --allowed_media_domains=a.example", quiet, &[], "as Python spells it"),
            (
                Vllm,
                "vllm serve m --allowed-media-domains a.example",
                Some("VLLM_NO_USAGE_STATS=0 HF_HUB_OFFLINE=false DO_NOT_TRACK="),
                &["telemetry", "downloads"],
                "set, and off",
            ),
            (
                Vllm,
                "vllm serve m --allowed-media-domains a.example --trust-remote-code",
                Some("DO_NOT_TRACK=1 TRANSFORMERS_OFFLINE=1 VLLM_SERVER_DEV_MODE=1"),
                &["admin-endpoints", "foreign-code"],
                "on, one of two names each",
            ),
            (Vllm, "vllm serve m --allowed-media-domains a", None, &[], "an environment that is not known"),
            (LlamaCpp, "llama-server -m x", Some(""), &[], "a careful one"),
            (LlamaCpp, "llama-server -hf a/b", Some("LLAMA_ARG_OFFLINE=1"), &[], "by its variable"),
            (LlamaCpp, "llama-server -hf a/b", Some("LLAMA_ARG_OFFLINE=0"), &["downloads"], "not offline"),
            (
                LlamaCpp,
                "llama-server --offline --log-prompts-dir /p --tools all --rpc 192.0.2.1:1 -v --api-key-file /k",
                Some("LLAMA_SERVER_SLOTS_DEBUG=1"),
                &["prompts-on-disk", "prompts-on-disk", "prompts-in-sight", "tools", "other-hosts"],
                "all at once, and a key's file is no key",
            ),
            (Ollama, "ollama serve", Some("OLLAMA_NO_CLOUD=1"), &[], "a careful one"),
            (
                Ollama,
                "ollama serve",
                Some("OLLAMA_DEBUG_LOG_REQUESTS=true"),
                &["cloud-models", "prompts-on-disk"],
                "as it comes",
            ),
            (Tgi, "tgi --usage-stats off", Some("HF_HUB_OFFLINE=1"), &[], "a careful one"),
            (Tgi, "tgi", Some("HF_HUB_OFFLINE=1 USAGE_STATS=off"), &[], "by its variable"),
            (
                Tgi,
                "tgi --usage-stats no-stack",
                Some("HF_HUB_OFFLINE=1"),
                &["telemetry"],
                "no-stack is not off",
            ),
            (Triton, "tritonserver --model-control-mode=none", Some(""), &[], "a careful one"),
            (
                Triton,
                "tritonserver --model-control-mode=explicit",
                Some(""),
                &["foreign-code"],
                "models on demand",
            ),
            (
                Triton,
                "tritonserver --trace-config mode=opentelemetry",
                Some(""),
                &["telemetry"],
                "traces that leave",
            ),
            (OpenAi, "server --api-key k", Some(""), &["key-in-sight"], "any server's key"),
        ] {
            assert_eq!(kinds(server, line, environment), expected, "{why}: {line}");
        }
    }

    #[test]
    fn no_value_is_ever_told() {
        let line = "server --api-key sk-secret --rpc sk-secret --otlp-endpoint=sk-secret --model-control-mode=sk-secret \
                    --tool-server sk-secret --log-prompts-dir sk-secret --trust-remote-code --config sk-secret";
        let environment =
            "OLLAMA_DEBUG_LOG_REQUESTS=sk-secret LLAMA_ARG_RPC=sk-secret OTLP_ENDPOINT=sk-secret";
        for (_, server) in ServerPreset::ALL {
            let told = told(server, line, Some(environment)).join("\n");
            assert!(told.contains("--api-key") && !told.contains("sk-secret"), "{server:?}: {told}");
        }
    }

    #[test]
    fn a_file_of_settings_that_was_not_read_is_said() {
        let told =
            told(ServerPreset::Vllm, "vllm serve m --config c.yaml", Some("DO_NOT_TRACK=1 HF_HUB_OFFLINE=1"));
        assert!(told.len() == 1 && told[0].contains("--config file was not read"), "{told:?}");
    }
}

//! The official clients of each API, in Python and in JavaScript, playing one scene each: what their users would see.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::{Launch, Real};

/// What a client is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// From PyPI.
    Python,
    /// From npm.
    JavaScript,
}

/// One scene; its words are those of `speak.py` and `speak.mjs`, which say what they mean.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// the client's language
    pub language: Language,
    /// `openai`, `anthropic` or `ollama`
    pub api: &'a str,
    /// `plain`, `stream`, `tools`, `retry`, `leave` or `impatient`
    pub scene: &'a str,
    /// where the API begins, without `/v1`
    pub base_url: &'a str,
    /// PEM; an authority that the client trusts
    pub authority: &'a Path,
    /// the caller's token
    pub token: &'a str,
    /// the user's message
    pub prompt: &'a str,
}

/// What the client's user saw: an answer, or an exception.
#[derive(Clone, Debug, Deserialize)]
pub struct Told {
    /// the answer's text
    pub text: Option<String>,
    /// in how many pieces it came
    #[serde(default)]
    pub pieces: usize,
    /// the tools that the model wants called
    #[serde(default)]
    pub tools: Vec<Call>,
    /// the exception's class
    pub exception: Option<String>,
    /// its HTTP status
    pub status: Option<u16>,
    /// what it says
    pub message: Option<String>,
    /// milliseconds from the request to here
    pub elapsed_ms: u64,
}

/// A tool to call.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Call {
    /// its name
    pub name: String,
    /// as the client parsed them
    pub arguments: Value,
}

impl Real {
    /// The command line of one scene. It prints [`Told`] as JSON and lives until its standard input ends.
    #[must_use]
    pub fn speak(&self, scene: &Scene<'_>) -> Launch {
        let (program, script) = match scene.language {
            Language::Python => (self.directory.join("client/venv/bin/python"), "client/speak.py"),
            Language::JavaScript => (self.node.clone(), "npm/speak.mjs"),
        };
        let authority = scene.authority.display().to_string();
        Launch::new(program)
            .arguments([self.directory.join(script).display().to_string()])
            .variable("SPEAK_API", scene.api)
            .variable("SPEAK_SCENE", scene.scene)
            .variable("SPEAK_BASE_URL", scene.base_url)
            .variable("SPEAK_AUTHORITY", &*authority)
            .variable("NODE_EXTRA_CA_CERTS", authority)
            .variable("SPEAK_TOKEN", scene.token)
            .variable("SPEAK_MODEL", "echo")
            .variable("SPEAK_PROMPT", scene.prompt)
    }
}

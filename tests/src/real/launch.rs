//! How to start something, before it is decided who starts it.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A command line with its environment: for [`Command`], or for a systemd unit.
#[derive(Clone, Debug)]
pub struct Launch {
    /// absolute path
    pub program: PathBuf,
    /// without the program
    pub arguments: Vec<String>,
    /// added to what the starter gives
    pub environment: Vec<(String, String)>,
    /// where it has to be started, if that matters
    pub directory: Option<PathBuf>,
}

impl Launch {
    pub(super) fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), arguments: Vec::new(), environment: Vec::new(), directory: None }
    }

    pub(super) fn arguments<T: Into<String>>(mut self, arguments: impl IntoIterator<Item = T>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    pub(super) fn variable(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    pub(super) fn directory(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.to_owned());
        self
    }

    /// To be started by this process.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        self.fill(&mut command);
        command
    }

    /// Adds arguments, environment and directory to a command that someone made for [`Self::program`], as one does
    /// who starts it in another namespace.
    pub fn fill(&self, command: &mut Command) {
        command.args(&self.arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
    }

    /// The `[Service]` lines that start it. Arguments are quoted as systemd.service(5) wants them.
    #[must_use]
    pub fn unit_lines(&self) -> String {
        let mut lines = Vec::new();
        for (name, value) in &self.environment {
            lines.push(format!("Environment={}", quoted(&format!("{name}={value}"))));
        }
        if let Some(directory) = &self.directory {
            lines.push(format!("WorkingDirectory={}", directory.display()));
        }
        let program = self.program.display().to_string();
        let words = [&program].into_iter().chain(&self.arguments).map(|word| quoted(word));
        lines.push(format!("ExecStart={}", words.collect::<Vec<_>>().join(" ")));
        lines.join("\n")
    }
}

fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+=:,@".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_says_what_a_command_does() {
        let launch = Launch::new("/opt/server")
            .arguments(["--key-file", "/run/key", "two words", "100%"])
            .variable("MODE", "a b")
            .directory(Path::new("/opt"));
        assert_eq!(
            launch.unit_lines(),
            "Environment=\"MODE=a b\"\nWorkingDirectory=/opt\n\
             ExecStart=/opt/server --key-file /run/key \"two words\" \"100%%\""
        );
        assert_eq!(launch.command().get_args().count(), 4);
    }
}

//! One file a command.
use std::process::ExitCode;
/// Parses the arguments and runs one command.
#[must_use]
pub fn main() -> ExitCode {
    ExitCode::FAILURE
}

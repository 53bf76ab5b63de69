//! `bailiwick`: arguments in, one command out.

use std::process::ExitCode;

fn main() -> ExitCode {
    bailiwick::cli::main()
}

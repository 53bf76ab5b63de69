//! A model host in operation: two servers of one model behind one proxy, both guarded; one of them dies; a load balancer and
//! a Prometheus on the host ask the agent how it is.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed, in its helpers too")]

use bailiwick_tests::binary::bailiwick_binary;
use bailiwick_tests::caller::{Answer, Caller};
use bailiwick_tests::issuer::Wish;
use bailiwick_tests::model_host::{self, ModelHost, TRAIL};
use bailiwick_tests::model_server::Control;
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

struct World(ModelHost);

impl World {
    /// The agent and both servers run.
    fn new() -> Self {
        let testbed = Path::new(env!("CARGO_BIN_EXE_bailiwick-testbed"));
        let host = ModelHost::boot(testbed, "operate", Some(&bailiwick_binary())).unwrap();
        host.place_agent(&config(host.issuer.url())).unwrap();
        let drop_in = std::fs::read_to_string(model_host::units().join("model.conf")).unwrap();
        let second = drop_in.replace("bailiwick-llama.slice", "bailiwick-llamab.slice");
        assert_ne!(drop_in, second);
        for (name, port, drop_in) in [("llama", 8000, &drop_in), ("llama-b", 8001, &second)] {
            let unit = format!(
                "[Service]\nRuntimeDirectory={name}\nExecStart=/usr/bin/bailiwick-testbed model-server --listen \
                 127.0.0.1:{port} --control /run/{name}/control --model {name}\n"
            );
            host.system.write(&format!("/etc/systemd/system/{name}.service"), unit, 0o644).unwrap();
            let place = format!("/etc/systemd/system/{name}.service.d/bailiwick.conf");
            host.system.write(&place, drop_in.clone(), 0o644).unwrap();
        }
        let world = Self(host);
        for command in [
            ["daemon-reload", ""],
            ["start", "bailiwick.service"],
            ["start", "llama.service"],
            ["start", "llama-b.service"],
        ] {
            let words: Vec<&str> = ["systemctl"]
                .into_iter()
                .chain(command.into_iter().filter(|word| !word.is_empty()))
                .collect();
            world.0.system.run(&words).unwrap_or_else(|error| panic!("{error}\n{}", world.log()));
        }
        world.eventually("everything is ready", || world.get("/readyz").0 == 200);
        world
    }

    fn log(&self) -> String {
        self.0.system.run(&["journalctl", "-u", "bailiwick", "-o", "cat", "-n", "40"]).unwrap()
    }

    fn eventually(&self, what: &str, so: impl Fn() -> bool) {
        let started = Instant::now();
        while !so() {
            let (ready, log) = (self.get("/readyz").1, self.log());
            assert!(started.elapsed() < Duration::from_secs(15), "never: {what}\n{ready}\n{log}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn chat(&self) -> Answer {
        let groups = Some(vec!["ml-analysts".to_owned()]);
        let token = self.0.issuer.mint(&Wish { groups, ..Wish::default() }).unwrap();
        let body = json!({"model": "echo", "messages": [{"role": "user", "content": "hello"}]});
        let url = format!("https://{}/v1/chat/completions", self.0.lab.host.at_v4(8443));
        let caller = Caller::new(self.0.authority.certificate()).from(&self.0.lab.client.namespace);
        caller.post(&url, Some(&token), &body).unwrap()
    }

    /// What a process of the host that is in no slice of ours, as a local Prometheus is, gets from the agent.
    fn get(&self, path: &str) -> (u16, String) {
        let ask = format!(
            "exec 3<>/dev/tcp/127.0.0.1/9464 && printf 'GET {path} HTTP/1.1\\r\\nhost: x\\r\\nconnection: close\\r\\n\\r\\n' >&3 \
             && cat <&3"
        );
        let said = self.0.system.exec(&["bash", "-c", &ask]).unwrap();
        let Some((head, body)) = said.stdout.split_once("\r\n\r\n") else { return (0, said.stdout) };
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    fn attempt(&self, port: &str) -> String {
        let said = self.0.system.exec(&["bailiwick-testbed", "connect", "127.0.0.1", port]).unwrap();
        said.stdout.trim().to_owned()
    }

    fn status(&self) -> Value {
        let said = self.0.system.exec(&["bailiwick", "status", "--json"]).unwrap();
        serde_json::from_str(&said.stdout).unwrap_or_else(|_| panic!("{said:?}"))
    }

    /// The upstreams of all admitted requests, oldest first.
    fn admitted(&self) -> Vec<String> {
        let text =
            self.0.system.run(&["bailiwick", "audit", "show", "--json", "--directory", TRAIL]).unwrap();
        let records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["record"].take());
        records
            .filter(|record| record["type"] == "admit")
            .map(|record| record["upstream"].as_str().unwrap().to_owned())
            .collect()
    }
}

#[test]
fn two_guarded_servers_of_one_model_are_operated_through_the_loss_of_one() {
    let world = World::new();

    // Both are guarded, by the kernel, and held by the model's one policy.
    for port in ["8000", "8001"] {
        assert_eq!(world.attempt(port), "EPERM", "port {port}");
    }
    for name in ["llama", "llama-b"] {
        let control = Control::at(&world.0.system.path(&format!("/run/{name}/control")));
        let abroad = control.connect(world.0.lab.foreign.at_v4(443)).unwrap().to_string();
        assert_eq!(abroad, "EPERM", "{name} abroad");
    }
    let status = world.status();
    assert_eq!(status["guarded"], true, "{status}");
    for name in ["llama", "llama-b"] {
        let scopes = status["scopes"].as_array().unwrap();
        let scope = scopes.iter().find(|scope| scope["name"] == name).unwrap();
        assert!(scope["live_id"].is_u64() && scope["live_id"] == scope["guarded_id"], "{scope}");
    }
    let states = |status: &Value| -> Vec<String> {
        let servers = status["upstreams"]["servers"].as_array().unwrap();
        servers
            .iter()
            .map(|server| format!("{} {}", server["upstream"], server["state"]).replace('"', ""))
            .collect()
    };
    assert_eq!(status["upstreams"]["source"], "agent");
    // The checks begin before the servers do, and one of them is enough to be ready.
    world.eventually("both are well", || states(&world.status()) == ["llama up", "llama-b up"]);

    // Both serve, in turn.
    for _ in 0..4 {
        assert_eq!(world.chat().status, 200);
    }
    let admitted = world.admitted();
    assert!(["llama", "llama-b"].iter().all(|name| admitted.iter().any(|one| one == name)), "{admitted:?}");

    // A Prometheus on the host reads kernel truth.
    let (code, text) = world.get("/metrics");
    assert_eq!(code, 200);
    for line in [
        "bailiwick_guard_stands 1",
        "bailiwick_upstream_up{model=\"llama\",upstream=\"llama-b\"} 1",
        "bailiwick_requests_total{endpoint=\"chat\",model=\"llama\",outcome=\"complete\",reason=\"\"} 4",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    let refused = text
        .lines()
        .find_map(|line| line.strip_prefix("bailiwick_guard_denied_total{reason=\"not-proxy\"} "));
    assert!(refused.is_some_and(|count| count.parse::<u64>().unwrap() >= 2), "{text}");

    // The collector is said to be in a region where it is not: the kernel refuses the agent, and no request notices.
    world.eventually("the spans are dropped and counted", || {
        let text = world.get("/metrics").1;
        text.lines().any(|line| line == "bailiwick_traces_dropped_total{reason=\"export-failed\"} 4")
    });
    let alerts = world.0.system.run(&["bailiwick", "alerts", "--json"]).unwrap();
    assert!(alerts.lines().any(|line| line.contains("192.0.2.30") && line.contains("agent")), "{alerts}");

    // One dies: the next request goes to the other, and readiness stays.
    world.0.system.run(&["systemctl", "kill", "--signal=KILL", "llama.service"]).unwrap();
    for _ in 0..3 {
        assert_eq!(world.chat().status, 200);
    }
    assert_eq!(world.admitted()[4..], ["llama-b", "llama-b", "llama-b"]);
    world.eventually("the checks have found it down", || {
        states(&world.status()) == ["llama down", "llama-b up"]
    });
    assert_eq!(world.get("/readyz").0, 200, "one is enough");
    let page = world.0.system.run(&["bailiwick", "status"]).unwrap();
    assert!(page.contains("What the agent says") && page.contains("it takes no connection"), "{page}");

    // Both are gone: not ready, and callers are told at once when to come back.
    world.0.system.run(&["systemctl", "stop", "llama-b.service"]).unwrap();
    world.eventually("it is not ready", || world.get("/readyz").0 == 503);
    let answer = world.chat();
    assert_eq!(answer.status, 503);
    assert_eq!(answer.error().and_then(|error| error.code).as_deref(), Some("model-unavailable"));
    assert!(answer.headers.contains_key("retry-after"));

    // It comes back.
    world.0.system.run(&["systemctl", "start", "llama.service"]).unwrap();
    world.eventually("it serves again", || world.get("/readyz").0 == 200 && world.chat().status == 200);

    // Without an agent nobody knows how the servers are; what is guarded the kernel knows all the same.
    world.0.system.run(&["systemctl", "stop", "bailiwick.service"]).unwrap();
    let status = world.status();
    assert_eq!((&status["guarded"], &status["upstreams"]["source"]), (&json!(true), &Value::Null));
    assert_eq!(states(&status), ["llama unknown", "llama-b unknown"]);
    assert_eq!(world.attempt("8001"), "EPERM", "and both ports stay shut");
    world.0.strike().unwrap();
}

fn config(issuer: &str) -> String {
    format!(
        r#"[host]
name = "model-host-1"
region = "eu"

[regions.eu]
networks = ["10.77.0.0/24", "203.0.113.0/24", "198.51.100.0/24"]

[[model]]
name = "llama"
slice = "bailiwick-llama.slice"
port = 8000
server = "llama.cpp"
[model.egress]
mode = "enforce"
regions = ["eu"]
[model.health]
interval = 1
timeout = 1
fall = 2
rise = 1
[[model.upstream]]
name = "llama-b"
slice = "bailiwick-llamab.slice"
port = 8001

[metrics]
listen = "127.0.0.1:9464"

[traces]
endpoint = "https://192.0.2.30:4318/v1/traces"
region = "eu"

[proxy]
listen = "[::]:8443"
tls = {{ certificate = "/etc/bailiwick/tls.crt", key = "/etc/bailiwick/tls.key" }}

[[issuer]]
url = "{issuer}"
audience = "bailiwick"
groups = "groups"
region = "eu"
ca = "/etc/bailiwick/issuer-ca.crt"

[[access]]
name = "analysts"
groups = ["ml-analysts"]
models = ["llama"]

[audit]
directory = "/var/lib/bailiwick/audit"
"#
    )
}

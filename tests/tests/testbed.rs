//! The testbed itself: it boots, it is reachable, and it vanishes however its owner ends.

use bailiwick_tests::authority::Authority;
use bailiwick_tests::caller::{Caller, CallerError, Protocol};
use bailiwick_tests::issuer::{Algorithm, Client, Issuer, Plan};
use bailiwick_tests::lab_network::LabNetwork;
use bailiwick_tests::model_server::Control;
use bailiwick_tests::probe::{self, Attempt};
use bailiwick_tests::reaper::Reaper;
use bailiwick_tests::system_box::SystemBox;
use bailiwick_tests::system_box::init::Bind;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_bailiwick-testbed"))
}

#[test]
fn a_box_has_a_real_systemd_and_journal_of_its_own() {
    let reaper = Reaper::start(program()).unwrap();
    let (cgroup, directory) = (reaper.cgroup().to_path_buf(), reaper.directory().to_path_buf());
    let started = Instant::now();
    let binds = vec![Bind::read_only(program(), "/opt/testbed")];
    let system = SystemBox::boot(&reaper, "plain", binds).unwrap();
    eprintln!("booted in {:?}", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(10), "a box is up within seconds");

    assert_eq!(system.run(&["cat", "/proc/1/comm"]).unwrap().trim(), "systemd");
    assert_eq!(system.run(&["systemctl", "list-units", "--failed", "--no-legend"]).unwrap(), "");
    assert_eq!(system.run(&["hostname"]).unwrap().trim(), "plain");
    assert_eq!(system.exec(&["sh", "-c", "echo out; echo err >&2; exit 7"]).unwrap().status.code(), Some(7));

    system
        .write("/etc/systemd/system/hello.service", "[Service]\nExecStart=/bin/echo <4>hello\n", 0o644)
        .unwrap();
    system.run(&["systemctl", "daemon-reload"]).unwrap();
    system.run(&["systemctl", "start", "hello.service"]).unwrap();
    let entry = system
        .wait_for_journal(&["-u", "hello.service"], Duration::from_secs(5), |entry| {
            entry["MESSAGE"] == "hello"
        })
        .unwrap()
        .expect("what a unit says reaches the journal");
    assert_eq!(entry["PRIORITY"], "4");
    assert_eq!(entry["_SYSTEMD_UNIT"], "hello.service");

    let refused = system.exec(&["sh", "-c", "echo x >> /opt/testbed"]).unwrap();
    assert!(!refused.status.success(), "what is bound read-only stays as it is");
    let slow = system.exec_within(&["sleep", "60"], Duration::from_millis(200)).unwrap_err();
    assert!(slow.to_string().contains("killed"), "{slow}");
    let commands = system.cgroup().join("commands").read_dir().unwrap();
    let left = commands.flatten().filter(|entry| entry.path().is_dir()).count();
    assert_eq!(left, 0, "a command that took too long is dead, and its cgroup gone");

    drop(system);
    reaper.finish().unwrap();
    assert!(!cgroup.exists() && !directory.exists(), "nothing remains");
}

#[test]
fn hosts_of_the_lab_reach_each_other_and_nothing_else() {
    let reaper = Reaper::start(program()).unwrap();
    let system = SystemBox::boot(&reaper, "lab", Vec::new()).unwrap();
    let lab = LabNetwork::around(&reaper, system.network().unwrap()).unwrap();
    let mut listener = lab.host.command(program()).unwrap().args(["listen", "[::]:7000"]).spawn().unwrap();
    let patience = Duration::from_secs(2);
    for (name, from) in [("client", &lab.client), ("issuer", &lab.issuer), ("foreign", &lab.foreign)] {
        for to in [lab.host.at_v4(7000), lab.host.at_v6(7000)] {
            let attempt = eventually(|| from.run(|| probe::connect(to, Duration::from_millis(300))).unwrap());
            assert_eq!(attempt, Attempt::Connected, "{name} → {to}");
        }
    }
    let outside = lab.client.run(|| probe::connect("198.18.0.1:80".parse().unwrap(), patience)).unwrap();
    assert!(!outside.connected(), "there is no way out");
    listener.kill().unwrap();
    listener.wait().unwrap();
}

#[test]
fn everything_vanishes_when_the_owner_is_killed() {
    for signal in ["KILL", "INT", "TERM", "HUP"] {
        let mut owner = std::process::Command::new(program())
            .arg("rehearse")
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(owner.stdout.take().unwrap()));
        let said = lines.find_map(|line| line.unwrap().strip_prefix("up ").map(str::to_owned)).unwrap();
        let places: Vec<PathBuf> = said.split(' ').map(PathBuf::from).collect();
        assert!(places.len() == 3 && places.iter().all(|place| place.exists()), "{said}");
        let pid = owner.id().to_string();
        assert!(std::process::Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        owner.wait().unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while places.iter().any(|place| place.exists()) {
            assert!(Instant::now() < deadline, "after SIG{signal} there is still one of {said}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn the_model_server_streams_and_shows_what_it_saw() {
    let directory = tempfile::tempdir().unwrap();
    let (socket, key) = (directory.path().join("control"), directory.path().join("key"));
    std::fs::write(&key, "model-key\n").unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    drop(listener);
    let mut server = std::process::Command::new(program())
        .args(["model-server", "--listen", &at.to_string(), "--cut", "11", "--aside", "Bye."])
        .arg("--api-key-file")
        .arg(&key)
        .arg("--control")
        .arg(&socket)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    assert!(eventually(|| probe::connect(at, Duration::from_secs(1))).connected());

    let url = |path: &str| format!("http://{at}{path}");
    let body = json!({"model": "echo", "stream": true, "messages": [{"role": "user", "content": "hello"}]});
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let caller = Caller::new("").speaking(protocol);
        let answer = caller.post(&url("/v1/chat/completions"), Some("model-key"), &body).unwrap();
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "You said: hello Bye."));
        assert_eq!(answer.events().last().unwrap(), "[DONE]");
        let spread = answer.frames.last().unwrap().after.saturating_sub(answer.frames[0].after);
        assert!(answer.frames.len() > 10 && spread > Duration::from_millis(50), "{protocol:?}: it streams");
    }
    let caller = Caller::new("");
    let refused = caller.post(&url("/v1/chat/completions"), Some("wrong"), &body).unwrap();
    assert_eq!(refused.error().unwrap().kind.as_deref(), Some("authentication_error"));
    assert_eq!(caller.get(&url("/health"), None).unwrap().status, 200);
    assert_eq!(caller.get(&url("/v1/models"), Some("model-key")).unwrap().json()["data"][0]["id"], "echo");
    let embedded =
        caller.post(&url("/v1/embeddings"), Some("model-key"), &json!({"input": ["a", "b"]})).unwrap();
    assert_eq!(embedded.json()["data"].as_array().unwrap().len(), 2);

    let control = Control::at(&socket);
    let seen = control.seen().unwrap();
    assert_eq!(seen[0].header("authorization"), Some("Bearer model-key"));
    assert!(seen[0].body.contains("hello"));
    assert_eq!(control.connect(at).unwrap(), Attempt::Connected);
    control.forget().unwrap();
    assert!(control.seen().unwrap().is_empty());
    server.kill().unwrap();
    server.wait().unwrap();
}

#[test]
fn the_issuer_is_discovered_over_tls_and_its_keys_rotate() {
    let authority = Authority::new("Testbed CA").unwrap();
    let issuer = Issuer::start(Plan {
        listen: "127.0.0.1:0".parse().unwrap(),
        namespace: None,
        identity: Some(authority.issue(&["127.0.0.1"]).unwrap()),
        algorithms: Algorithm::ALL.to_vec(),
        clients: vec![Client { id: "batch".into(), secret: "s & s".into(), groups: vec!["ml".into()] }],
    })
    .unwrap();
    let caller = Caller::new(authority.certificate());
    let metadata =
        caller.get(&format!("{}/.well-known/openid-configuration", issuer.url()), None).unwrap().json();
    assert_eq!(metadata["issuer"], issuer.url());
    let keys = |caller: &Caller| {
        let set = caller.get(metadata["jwks_uri"].as_str().unwrap(), None).unwrap().json();
        let keys = set["keys"].as_array().unwrap().clone();
        keys.into_iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(keys(&caller), ["rs256-1", "es256-1", "eddsa-1"]);
    issuer.rotate().unwrap();
    assert_eq!(keys(&caller), ["rs256-2", "es256-2", "eddsa-2"]);

    let form = "grant_type=client_credentials&client_id=batch&client_secret=s+%26+s&resource=bailiwick";
    let request =
        http::Request::post(metadata["token_endpoint"].as_str().unwrap()).body(form.into()).unwrap();
    let token = caller.send(request).unwrap().json()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(token.split('.').count(), 3);
    let stranger = Authority::new("Another CA").unwrap();
    let mistrust = Caller::new(stranger.certificate()).get(issuer.url(), None).unwrap_err();
    assert!(matches!(mistrust, CallerError::Connect { .. }), "{mistrust}");
    assert_eq!((issuer.asked().discovery, issuer.asked().keys, issuer.asked().tokens), (1, 2, 1));
}

fn eventually(mut attempt: impl FnMut() -> Attempt) -> Attempt {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let result = attempt();
        if result.connected() || Instant::now() > deadline {
            return result;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

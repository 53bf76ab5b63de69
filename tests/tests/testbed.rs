//! The testbed itself: it boots, it is reachable, and it vanishes however its owner ends.

use bailiwick_tests::lab_network::LabNetwork;
use bailiwick_tests::probe::{self, Attempt};
use bailiwick_tests::reaper::Reaper;
use bailiwick_tests::system_box::SystemBox;
use bailiwick_tests::system_box::init::Bind;
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
            let attempt = eventually(|| from.run(|| probe::connect(to, patience)).unwrap());
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

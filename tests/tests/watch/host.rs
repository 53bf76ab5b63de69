//! What a host leaves open is named with its law and its cure, and keeps the agent from starting until it is accepted.

use super::world::World;
use serde_json::Value;

const DROP_IN: &str = "/etc/systemd/system/llama.service.d/zz-weak.conf";

fn check(world: &World) -> (Vec<Value>, Option<i32>) {
    let said = world.system.exec(&["bailiwick", "check", "--host", "--json"]).unwrap();
    let value: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|_| panic!("{said:?}"));
    (value["findings"].as_array().unwrap().clone(), said.status.code())
}

fn graded<'a>(findings: &'a [Value], grade: &str) -> Vec<&'a str> {
    let of_grade = findings.iter().filter(|finding| finding["grade"] == grade);
    of_grade.filter_map(|finding| finding["what"].as_str()).collect()
}

#[test]
fn a_host_is_checked_and_each_weakness_is_named_refused_and_accepted() {
    let world = World::new("preflight");
    let (findings, code) = check(&world);
    assert_eq!(
        (graded(&findings, "weak"), code),
        (Vec::new(), Some(0)),
        "the shipped drop-in: {findings:#?}"
    );
    for what in [
        "kernel",
        "cgroups",
        "place",
        "programs",
        "jit",
        "unprivileged-bpf",
        "memlock",
        "standing-sockets",
        "systemd",
        "unit",
        "ephemeral-port",
    ] {
        assert!(findings.iter().any(|finding| finding["what"] == what), "{what} was not looked at");
    }

    let weak = "[Service]\nCapabilityBoundingSet=CAP_NET_RAW CAP_SYS_PTRACE\nRestrictAddressFamilies=\nProtectControlGroups=no\n";
    world.system.write(DROP_IN, weak, 0o644).unwrap();
    world.system.run(&["systemctl", "daemon-reload"]).unwrap();
    let names = ["raw-sockets", "ptrace", "address-families", "cgroups"];
    let (findings, code) = check(&world);
    assert_eq!((graded(&findings, "weak"), code), (names.to_vec(), Some(1)));
    for finding in findings.iter().filter(|finding| finding["grade"] == "weak") {
        assert!(finding["law"].is_string() && finding["cure"].is_string(), "{finding}");
    }
    let people = world.system.exec(&["bailiwick", "check", "--host"]).unwrap().stdout;
    assert!(people.contains("CAP_NET_RAW") && people.contains("weakens law"), "{people}");

    // The process itself, once it runs that way.
    world.system.run(&["systemctl", "restart", "llama.service"]).unwrap();
    let (findings, _) = check(&world);
    let process = findings.iter().any(|f| f["found"].as_str().is_some_and(|text| text.contains("(pid ")));
    assert!(process, "{findings:#?}");

    let restart =
        || world.system.exec(&["systemctl", "restart", "bailiwick.service"]).unwrap().status.success();
    assert!(!restart(), "in enforce, an agent does not start over a hole");
    assert_eq!(world.local_attempt(), "EPERM", "and the guard before it stands");
    let journal = world.system.run(&["journalctl", "-u", "bailiwick.service", "-o", "cat"]).unwrap();
    for name in names {
        assert!(journal.contains(name), "{name} is not said:\n{journal}");
    }
    world.write_config("mode = \"enforce\"", "mode = \"shadow\"");
    assert!(restart(), "a model that is only looked at keeps no agent from starting");
    let accept = format!("region = \"eu\"\naccept = {names:?}\n\n[regions.eu]");
    world.write_config("region = \"eu\"\n\n[regions.eu]", &accept);
    assert!(restart(), "what is named and accepted is the operator's decision");
    let (findings, code) = check(&world);
    assert_eq!((graded(&findings, "weak"), code), (Vec::new(), Some(0)));
    assert!(graded(&findings, "accepted").len() >= names.len());
}

#[test]
fn a_port_that_the_kernel_may_give_to_anybody_is_named_until_it_is_reserved() {
    let world = World::new("ephemeral");
    let network = world.system.network().unwrap();
    let set = |key: &str, value: &str| {
        let path = format!("/proc/sys/net/ipv4/{key}");
        network.run(|| std::fs::write(path, value)).unwrap().unwrap();
    };
    let weak = || graded(&check(&world).0, "weak").contains(&"ephemeral-port");
    assert!(!weak(), "a control: 8000 is far from the ports of the kernel's choice");
    set("ip_local_port_range", "7000 9000");
    assert!(weak());
    set("ip_local_reserved_ports", "8000");
    assert!(!weak(), "the cure cures");
    set("ip_local_reserved_ports", "\n");
    world.write_config(
        "region = \"eu\"\n\n[regions.eu]",
        "region = \"eu\"\naccept = [\"ephemeral-port\"]\n\n[regions.eu]",
    );
    let (findings, code) = check(&world);
    assert_eq!((graded(&findings, "accepted"), code), (vec!["ephemeral-port"], Some(0)));
}

#[test]
fn a_socket_that_somebody_else_opened_is_named_before_the_start_and_ended_by_it() {
    let world = World::new("foreign");
    world.system.run(&["systemctl", "stop", "bailiwick.service", "llama.service"]).unwrap();
    world.system.run(&["bailiwick", "release", "--reason", "a test needs an open port"]).unwrap();
    let unit = "[Unit]\nDescription=Holds the port\n[Service]\nExecStart=/usr/bin/bailiwick-testbed listen 127.0.0.1:8000\n";
    world.system.write("/etc/systemd/system/squatter.service", unit, 0o644).unwrap();
    world.system.run(&["systemctl", "daemon-reload"]).unwrap();
    world.system.run(&["systemctl", "start", "squatter.service"]).unwrap();
    let named = || graded(&check(&world).0, "weak").contains(&"foreign-listener");
    world.eventually("the squatter is named", named);
    assert_eq!(world.local_attempt(), "ok", "a control: it does listen");

    world.system.run(&["systemctl", "start", "bailiwick.service", "llama.service"]).unwrap();
    assert!(!named(), "it listens no more");
    world.eventually("the model server has its port", || world.chat("hello").status == 200);
}

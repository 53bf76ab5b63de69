//! What is allowed is told as well: every flow with the name that it was reached by, and with what passed of it. Questions go to
//! a resolver that the policy names, and the answers that it gives name what is refused, too.

use crate::world::{CONFIG, POLICY, World};
use bailiwick_tests::authority::client;
use bailiwick_tests::lab_network::Host;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};

const TUNNEL: &str = "6b1f4e0c3a5d4c0c9f5a2b7d8e914c21";
/// What the web server answers, after its head.
const PAGE: usize = 5000;

/// A resolver that knows one address, and a web server that has one page; both end with the test's process.
fn serve(host: &Host, address: Ipv4Addr) {
    let at = host.at_v4(0).ip();
    let (questions, web, tls) = host
        .run(|| (UdpSocket::bind((at, 53)), TcpListener::bind((at, 80)), TcpListener::bind((at, 8443))))
        .unwrap();
    let (questions, web, tls) = (questions.unwrap(), web.unwrap(), tls.unwrap());
    std::thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((length, asker)) = questions.recv_from(&mut question) {
            // One answer of type A (RFC 1035, 4.1): its name points to the question's.
            let mut answer = question[..length].to_vec();
            answer[2..8].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1]);
            answer.extend([0xC0, 0x0C, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
            answer.extend(address.octets());
            let _ = questions.send_to(&answer, asker);
        }
    });
    std::thread::spawn(move || {
        while let Ok((mut socket, _)) = web.accept() {
            // bash writes each line by itself: an answer to the first alone would end the connection before the others are sent.
            let lines = BufReader::new(&socket).lines().map_while(Result::ok);
            let _ = lines.take_while(|line| !line.is_empty()).count();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {PAGE}\r\nConnection: close\r\n\r\n");
            let _ = socket.write_all(&[head.as_bytes(), &[b'x'; PAGE]].concat());
        }
    });
    std::thread::spawn(move || {
        while let Ok((mut socket, _)) = tls.accept() {
            let _ = std::io::copy(&mut socket, &mut std::io::sink());
        }
    });
}

/// As bash's `printf` takes them.
fn escaped(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "\\x{byte:02x}");
        text
    })
}

fn question(name: &str) -> Vec<u8> {
    let mut message = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// bash asks the resolver for a name, and waits for the answer.
fn ask(resolver: &str, name: &str) -> String {
    let question = escaped(&question(name));
    format!("exec 3<>/dev/udp/{resolver}/53; printf '{question}' >&3; head -c 1 <&3 >/dev/null; exec 3>&-\n")
}

/// What a client says first to a server of this name.
fn client_hello(name: &'static str) -> Vec<u8> {
    let mut connection =
        ClientConnection::new(client("", &[]).unwrap(), ServerName::try_from(name).unwrap()).unwrap();
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).unwrap();
    hello
}

fn flow(world: &World, port: u16, address: &str) -> Value {
    let flows = world.json(&["egress"])["flows"].clone();
    let is = |flow: &&Value| flow["port"] == port && flow["destination"] == address;
    flows.as_array().unwrap().iter().find(is).cloned().unwrap_or_default()
}

/// The model's policy with the resolver named.
fn policy(resolver: &str) -> String {
    let named =
        format!("[[model.egress.allow]]\nnetwork = \"{resolver}/32\"\nport = 53\nreason = \"resolver\"\n\n");
    POLICY.replace("[proxy]", &format!("{named}[proxy]"))
}

#[test]
fn every_flow_is_in_the_register_with_its_name_and_what_passed() {
    let world = World::new("flows");
    let host = &world.lab.issuer;
    let resolver = host.v4.to_string();
    serve(host, world.lab.foreign.v4);
    let foreign = world.lab.foreign.v4.to_string();

    // Its region is right; that alone does not make it a resolver.
    world.model(&ask(&resolver, "telemetry.example.com").replace("head", "timeout 1 head"));
    world.eventually("the resolver is refused", || {
        flow(&world, 53, &resolver)["reason"] == "resolver-not-named"
    });
    let page = world.bailiwick(&["suggest"]);
    assert!(page.contains(&format!("network = \"{resolver}/32\"\nport = 53")), "{page}");
    world.system.write(CONFIG, policy(&resolver), 0o600).unwrap();
    world.system.run(&["systemctl", "reload", "bailiwick.service"]).unwrap();

    // A name that a resolver gave to an address explains why something went there.
    let hello = escaped(&client_hello("models.example.eu"));
    let (start, end) = hello.split_at(hello.len() / 8 * 4);
    world.model(&format!(
        "{}sleep 0.5; : 2>/dev/null 3<>/dev/tcp/{foreign}/443\n\
         exec 3<>/dev/tcp/{resolver}/80; printf 'GET / HTTP/1.1\\r\\nHost: mirror.example.eu\\r\\n\\r\\n' >&3; cat <&3 >/dev/null; exec 3>&-\n\
         exec 3<>/dev/tcp/{resolver}/8443; printf '{start}' >&3; sleep 0.2; printf '{end}' >&3; sleep 0.2; exec 3>&-\n",
        ask(&resolver, "telemetry.example.com"),
    ));
    world.eventually("what was refused has its name", || {
        let flow = flow(&world, 443, &foreign);
        flow["verdict"] == "deny" && flow["name"] == "telemetry.example.com" && flow["name_from"] == "dns"
    });
    let alerts = world.alerts(&["--model", "llama"]);
    let named = alerts.iter().find(|alert| alert["destination"] == foreign.as_str()).unwrap();
    assert!(named["message"].as_str().unwrap().contains("telemetry.example.com"), "{named}");
    let record = || {
        let shown = world.bailiwick(&["audit", "show", "--json", "--directory", "/var/lib/bailiwick/audit"]);
        let mut records =
            shown.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["record"].take());
        records.rfind(|record| record["destination"] == foreign.as_str()).unwrap_or_default()
    };
    let expected = [
        ("name", "telemetry.example.com"),
        ("rule", "regions.abroad.networks 192.0.2.0/24"),
        ("reason", "destination-not-allowed"),
        ("unit", "llama.service"),
    ];
    for (field, value) in expected {
        assert_eq!(record()[field], value, "{field}: {}", record());
    }
    for (port, name, from) in [(80, "mirror.example.eu", "host"), (8443, "models.example.eu", "sni")] {
        world.eventually(name, || {
            let flow = flow(&world, port, &resolver);
            flow["verdict"] == "allow" && flow["name"] == name && flow["name_from"] == from
        });
    }
    world.eventually("what came back is counted", || {
        flow(&world, 80, &resolver)["received_bytes"].as_u64() > Some(PAGE as u64)
    });
    let page = flow(&world, 80, &resolver);
    assert_eq!((&page["process"], &page["count"]), (&"bash".into(), &1.into()), "{page}");
    assert!((1..2000).contains(&page["sent_bytes"].as_u64().unwrap()), "{page}");
    assert!(page["received_bytes"].as_u64().unwrap() < 2 * PAGE as u64, "no byte is counted twice: {page}");
    let table = world.bailiwick(&["egress"]);
    assert!(table.contains("mirror.example.eu") && table.contains("RECEIVED"), "{table}");

    // The agent's own way to its issuer is a flow like any other.
    world.eventually("the agent itself", || {
        let flow = flow(&world, 443, &resolver);
        flow["model"] == "agent" && flow["verdict"] == "allow"
    });
}

#[test]
fn data_that_leaves_as_questions_to_a_named_resolver_raises_an_alert() {
    let world = World::new("tunnel");
    let resolver = world.lab.issuer.v4.to_string();
    serve(&world.lab.issuer, world.lab.foreign.v4);
    world.system.write(CONFIG, policy(&resolver), 0o600).unwrap();
    world.system.run(&["systemctl", "reload", "bailiwick.service"]).unwrap();
    let usual: String = (0..15).map(|n| ask(&resolver, &format!("mirror{n}.example.eu"))).collect();
    world.model(&usual);
    world.eventually("the usual is seen", || flow(&world, 53, &resolver)["count"].as_u64() >= Some(15));
    assert_eq!(world.alerts(&["--kind", "tunnel"]), Vec::<Value>::new(), "names of hosts are no tunnel");
    // Different and random-looking, as encoded data is: digits of a linear congruential generator (Knuth, MMIX).
    let mut state = 1_u64;
    let mut digits = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        format!("{state:016x}")
    };
    let labels: Vec<String> = (0..40).map(|_| [digits(), digits(), digits()].concat()).collect();
    let data: String = labels.iter().map(|label| ask(&resolver, &format!("{label}.example.net"))).collect();
    world.model(&data);
    world.eventually("it is told", || !world.alerts(&["--kind", "tunnel"]).is_empty());
    let alert = &world.system.journal(&[&format!("MESSAGE_ID={TUNNEL}")]).unwrap()[0];
    for (field, expected) in [("BAILIWICK_MODEL", "llama"), ("BAILIWICK_DESTINATION", resolver.as_str())] {
        assert_eq!(alert[field], expected, "{alert}");
    }
    assert!(alert["BAILIWICK_NAME"].as_str().unwrap().ends_with("example.net"), "{alert}");
    let page = || world.bailiwick(&["egress"]);
    world.eventually("it is in the register", || page().contains("LIKE A DNS TUNNEL"));
    let told = page();
    // What was asked for is data: it is in no log, and in no file.
    world.system.run(&["journalctl", "--sync"]).unwrap();
    let journal = world.system.run(&["journalctl", "-o", "json", "--all"]).unwrap();
    assert!(journal.contains("example.net"), "the control");
    for label in &labels {
        assert!(!journal.contains(label.as_str()) && !told.contains(label.as_str()));
        let found = world.system.exec(&["grep", "-rlaF", label, "/var/lib/bailiwick"]).unwrap();
        assert_eq!(found.status.code(), Some(1), "{found:?}");
    }
}

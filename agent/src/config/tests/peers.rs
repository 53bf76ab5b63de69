//! Peers: other hosts that may connect to a model's slice.

use super::*;

const PEER: &str = r#"server = "llama.cpp"

[[model.peer]]
network = "10.20.0.7/32"
ports = [6379, 29500]
reason = "second half of the model"
"#;

/// The whole config with a peer of its first model.
fn whole() -> String {
    with("server = \"llama.cpp\"\n", PEER).replace("credential = \"llama-api-key\"\n", "")
}

#[test]
fn a_peer_reaches_the_kernel_with_its_reason() {
    let settings = compiled(&whole());
    let peers: Vec<_> = settings.kernel.scopes.iter().map(|scope| scope.peers.len()).collect();
    assert_eq!(peers, [0, 1, 0, 0], "of the one model only");
    let peer = &settings.kernel.scopes[1].peers[0];
    assert_eq!(peer.network.to_string(), "10.20.0.7/32");
    assert_eq!(
        (peer.ports.as_slice(), peer.reason.as_str()),
        (&[6379, 29500][..], "second half of the model")
    );
}

#[test]
fn each_mistake_in_a_peer_is_told_in_its_place() {
    let key = |rest: &str| format!("model[0].peer[0]{rest}");
    for (old, new, problem, place, hint) in [
        ("\"10.20.0.7/32\"", "\"10.20.0.7\"", Problem::Invalid, ".network", "\"10.20.0.7/32\""),
        ("\"10.20.0.7/32\"", "\"10.20.0.7/16\"", Problem::Invalid, ".network", "\"10.20.0.0/16\""),
        ("\"10.20.0.7/32\"", "\"0.0.0.0/0\"", Problem::Invalid, ".network", "name the hosts"),
        ("\"10.20.0.7/32\"", "\"::/0\"", Problem::Invalid, ".network", "name the hosts"),
        ("\"10.20.0.7/32\"", "\"127.0.0.1/32\"", Problem::Invalid, ".network", "another host"),
        ("\"10.20.0.7/32\"", "\"::1/128\"", Problem::Invalid, ".network", "another host"),
        ("[6379, 29500]", "[6379, 8000]", Problem::Conflict, ".ports[1]", "only the proxy"),
        ("[6379, 29500]", "[6379, 8001]", Problem::Conflict, ".ports[1]", "only the proxy"),
        ("[6379, 29500]", "[6379, 6379]", Problem::Duplicate, ".ports[1]", "take one out"),
        ("[6379, 29500]", "[0, 29500]", Problem::OutOfRange, ".ports[0]", "1 to 65535"),
        ("[6379, 29500]", "[65536]", Problem::OutOfRange, ".ports[0]", "1 to 65535"),
        ("[6379, 29500]", "[\"6379\"]", Problem::WrongType, ".ports[0]", "remove the quotes"),
        ("[6379, 29500]", "6379", Problem::WrongType, ".ports", "square brackets"),
        ("[6379, 29500]", "[]", Problem::Empty, ".ports", "put something in"),
        ("ports = [6379, 29500]\n", "", Problem::MissingKey, ".ports", "add ports"),
        ("ports = ", "port = 1\nports = ", Problem::UnknownKey, ".port", "ports"),
        ("network = \"10.20.0.7/32\"\n", "", Problem::MissingKey, ".network", "add network"),
        ("reason = \"second half of the model\"\n", "", Problem::MissingKey, ".reason", "add reason"),
        ("\"second half of the model\"", "\" \"", Problem::Empty, ".reason", "write it out"),
    ] {
        let text = whole();
        assert_eq!(text.matches(old).count(), 1, "{old:?} must stand in the config once");
        let found = errors(&text.replace(old, new));
        assert_eq!(found.len(), 1, "{new}: {found:#?}");
        assert_eq!((found[0].problem, found[0].key.as_str()), (problem, key(place).as_str()), "{new}");
        assert!(found[0].to_string().contains(hint), "{hint:?} not in {}", found[0]);
    }
}

#[test]
fn every_mistake_of_every_peer_is_told_at_once() {
    let text = whole()
        .replace("\"10.20.0.7/32\"", "\"127.0.0.0/8\"")
        .replace("[6379, 29500]", "[0, 8000]")
        .replace("\"second half of the model\"", "\"\"\n\n[[model.peer]]\nnetwerk = \"10.20.0.8/32\"");
    let keys: Vec<_> = errors(&text).into_iter().map(|error| error.key).collect();
    let at = |rest: &str| format!("model[0].peer[{rest}");
    let expected = [
        "0].network",
        "0].ports[0]",
        "0].ports[1]",
        "0].reason",
        "1].network",
        "1].ports",
        "1].reason",
        "1].netwerk",
    ];
    assert_eq!(keys.len(), expected.len(), "{keys:?}");
    for key in expected {
        assert!(keys.contains(&at(key)), "{key} not in {keys:?}");
    }
}

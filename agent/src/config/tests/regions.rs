//! Pinned networks that contradict, and the datasets that give countries their addresses.

use super::*;
use bailiwick_regions::{Kind, Store};
use std::fs;
use std::path::Path;

const TABLE: &str = r#"{"syncToken":"1","createDate":"2026-06-01-00-00-00","prefixes":[
    {"ip_prefix":"203.0.113.0/25","region":"eu-central-1"},{"ip_prefix":"203.0.113.64/26","region":"GLOBAL"},
    {"ip_prefix":"203.0.113.128/25","region":"us-east-1"}],"ipv6_prefixes":[]}"#;

fn import(directory: &Path, text: &str) {
    let file = directory.join("ip-ranges.json");
    fs::write(&file, text).unwrap();
    let store = Store::new(directory.join("datasets"));
    store.commit(store.prepare(&file, Some(Kind::Aws), None).unwrap(), true).unwrap();
}

/// The whole config with its datasets in this directory.
fn whole(directory: &Path, more: &str) -> String {
    let place = format!("directory = \"{}\"\n{more}", directory.join("datasets").display());
    with("directory = \"/nonexistent/datasets\"\n", &place)
}

#[test]
fn pins_that_repeat_or_contradict_are_told_with_both_places() {
    use Problem::*;
    let abroad = |networks: &str| format!("[regions.abroad]\ncountries = [\"US\"]\nnetworks = [{networks}]");
    let old = "[regions.abroad]\nnetworks = [\"10.77.5.0/24\"]";
    let eu = "networks = [\"10.77.0.0/16\", \"2001:db8:c::/64\"]";
    for (text, problem, place, said, reason) in [
        (
            with(eu, "networks = [\"10.77.0.0/16\", \"10.77.9.0/24\", \"2001:db8:c::/64\"]"),
            Duplicate,
            "regions.eu.networks[1] \"10.77.9.0/24\"",
            "lies inside 10.77.0.0/16, regions.eu.networks[0] in line 7",
            "says nothing more",
        ),
        (
            with(old, &abroad("\"10.77.0.0/16\"")),
            Conflict,
            "regions.abroad.networks[0] \"10.77.0.0/16\"",
            "regions \"eu\" and \"abroad\" have no country in common",
            "in two places at once",
        ),
        (
            with(eu, "networks = [\"fe80::1%eth0\"]"),
            Invalid,
            "regions.eu.networks[0] \"fe80::1%eth0\"",
            "write \"fe80::1\"",
            "a scope",
        ),
        (
            with(eu, "networks = [\"fe80::%eth0/64\"]"),
            Invalid,
            "regions.eu.networks[0]",
            "write \"fe80::/64\"",
            "a scope before the length",
        ),
    ] {
        let found = errors(&text);
        assert_eq!(found.len(), 1, "{reason}: {found:#?}");
        let told = format!("{} {}", found[0].key, found[0].value.clone().unwrap_or_default());
        let words = format!("{} {}", found[0].message, found[0].cure);
        assert_eq!(found[0].problem, problem, "{reason}: {words}");
        assert!(told.starts_with(place) && words.contains(said), "{reason}: {told}: {words}");
    }
    for (text, reason) in [
        (with(old, &abroad("\"10.77.5.0/24\"")), "inside another region's: the longest decides"),
        (
            with(eu, "networks = [\"10.77.0.0/16\", \"10.77.5.128/25\"]"),
            "inside its own, with another region's in between",
        ),
        (
            with("\"10.77.5.0/24\"", "\"10.77.0.0/16\""),
            "the same in a region without countries: a part of the other",
        ),
    ] {
        assert_eq!(errors(&text), [], "{reason}");
    }
}

#[test]
fn countries_are_what_the_datasets_say_for_the_kernel_and_the_look_up_alike() {
    let directory = tempfile::tempdir().unwrap();
    import(directory.path(), TABLE);
    let settings = compiled(&whole(directory.path(), "max_age = 3650\nrequire = [\"aws\"]\n"));
    let (agent, model) = (&settings.kernel.scopes[0].egress, &settings.kernel.scopes[1].egress);
    for (address, expected, reason) in [
        ("203.0.113.1", true, "Frankfurt"),
        ("203.0.113.64", false, "global: a hole in it"),
        ("203.0.113.127", false, "the hole's end"),
        ("203.0.113.128", false, "Virginia"),
        ("10.77.1.1", true, "pinned"),
        ("10.77.5.1", false, "pinned abroad"),
    ] {
        let address: std::net::IpAddr = address.parse().unwrap();
        let given = |networks: &[ipnet::IpNet]| networks.iter().any(|network| network.contains(&address));
        assert_eq!(given(&model.networks), expected, "the model: {reason}");
        assert_eq!(given(&agent.networks), expected, "the agent's own calls: {reason}");
        assert_eq!(settings.regions.locate(address).is_in(&[name("eu")]), expected, "callers: {reason}");
    }
    assert_eq!(settings.datasets.kept[0].name, "aws");
    assert!(settings.datasets.provenance().starts_with("aws of 2026-06-01 sha256:"));
    let told = |word: &str| settings.warnings.iter().any(|warning| warning.contains(word));
    assert!(!told("countries are unknown") && !told("days ago"), "{:?}", settings.warnings);

    let id = settings.id;
    import(directory.path(), &TABLE.replace("eu-central-1", "eu-west-1"));
    let text = whole(directory.path(), "max_age = 3650\nrequire = [\"aws\"]\n");
    assert_ne!(compiled(&text).id, id, "other datasets make another policy");
}

#[test]
fn what_is_wrong_with_the_datasets_is_an_error_or_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    import(directory.path(), TABLE);
    let stale = compiled(&whole(directory.path(), "max_age = 1\n")).warnings;
    assert!(
        stale.iter().any(|warning| warning.contains("dataset \"aws\" describes 2026-06-01")),
        "{stale:?}"
    );
    for (more, key, said, reason) in [
        ("max_age = 0\n", "datasets.max_age", "too small", "no days"),
        ("max_age = \"45d\"\n", "datasets.max_age", "expected an integer", "a duration"),
        ("maxage = 5\n", "datasets.maxage", "unknown key", "misspelt"),
        (
            "require = [\"aws\", \"gcp\"]\n",
            "datasets.require[1]",
            "bailiwick regions import FILE --name gcp",
            "not there",
        ),
    ] {
        let found = errors(&whole(directory.path(), more));
        let words: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert!(found.len() == 1 && found[0].key == key && words[0].contains(said), "{reason}: {words:?}");
    }
    let relative = errors(&with("/nonexistent/datasets", "datasets"));
    assert!(relative[0].message.contains("not an absolute path"), "{relative:?}");

    let kept = fs::read_dir(directory.path().join("datasets")).unwrap().map(|entry| entry.unwrap().path());
    let data = kept.into_iter().find(|path| path.extension().is_some_and(|ending| ending == "data")).unwrap();
    fs::write(&data, TABLE.replace("us-east-1", "eu-west-1")).unwrap();
    let found = errors(&whole(directory.path(), ""));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].key, "datasets.directory");
    assert!(found[0].message.contains("not the file that was imported"), "{found:?}");
    assert!(found[0].cure.contains("bailiwick regions import FILE --name aws"), "{found:?}");
    let without = whole(directory.path(), "").replace("countries = [\"@eea\", \"CH\"]\n", "");
    assert_eq!(errors(&without), [], "a config without countries needs none");
}

#[test]
fn more_networks_than_the_kernel_is_to_hold_are_an_error() {
    let directory = tempfile::tempdir().unwrap();
    // Every fourth address: no two can be joined.
    let each = |number: u32| {
        let address = std::net::Ipv4Addr::from_bits(0x2000_0000 | number << 2);
        format!(r#"{{"ip_prefix":"{address}/32","region":"eu-central-1"}}"#)
    };
    let prefixes: Vec<String> = (0..360_000).map(each).collect();
    import(
        directory.path(),
        &format!(
            r#"{{"syncToken":"1","createDate":"2026-06-01-00-00-00","prefixes":[{}],"ipv6_prefixes":[]}}"#,
            prefixes.join(",")
        ),
    );
    let found = errors(&whole(directory.path(), ""));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].key.as_str(), found[0].problem), ("regions.eu", Problem::OutOfRange), "{found:?}");
    assert!(found[0].message.contains("may take 64") && found[0].line > Some(1), "{found:?}");
    assert!(found[0].cure.contains("allow fewer countries"), "{found:?}");
}

//! What a config means, and what each mistake is told.

mod identity;
mod operate;
mod peers;
mod regions;
mod sockets;

use super::*;
use bailiwick_kernel::ScopeKind;
use bailiwick_policy::{Mode, Name};
use proptest::prelude::*;
use std::path::PathBuf;

/// Everything that a config may have, but for masks.
const WHOLE: &str = r#"[host]
name = "host-1.example.eu"
region = "eu"

[regions.eu]
countries = ["@eea", "CH"]
networks = ["10.77.0.0/16", "2001:db8:c::/64"]

[regions.abroad]
networks = ["10.77.5.0/24"]

[[model]]
name = "llama"
slice = "bailiwick-llama.slice"
port = 8000
server = "llama.cpp"
credential = "llama-api-key"

[model.egress]
mode = "shadow"
regions = ["eu"]

[[model.egress.allow]]
network = "192.0.2.10/32"
port = 443
reason = "licence server"

[[model]]
name = "phi"
slice = "bailiwick-phi.slice"
port = 0x1f41
server = "vllm"

[[workload]]
name = "log-shipper"
unit = "fluent-bit.service"
egress = { mode = "enforce", regions = ["abroad"] }

[proxy]
listen = "[::]:8443"
tls = { certificate = "/etc/bailiwick/tls.crt", key = "/etc/bailiwick/tls.key" }

[[issuer]]
url = "https://login.example.eu"
audience = "bailiwick"
region = "eu"

[[access]]
name = "analysts"
groups = ["ml-analysts"]
models = ["llama", "phi"]
from = ["eu"]
endpoints = ["chat"]

[audit]
directory = "/var/lib/bailiwick/audit"

[datasets]
directory = "/nonexistent/datasets"
"#;

fn facts() -> HostFacts {
    HostFacts {
        credentials_directory: Some(PathBuf::from("/run/credentials/test")),
        agent_cgroup: PathBuf::from("bailiwick.slice/bailiwick-agent.slice"),
        hostname: "own-name".to_owned(),
        mask_key: [7; 32],
        check_files: false,
        read_datasets: true,
    }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn compiled(text: &str) -> Settings {
    compile(text, Path::new("b.toml"), &facts()).unwrap_or_else(|errors| panic!("{errors}"))
}

fn errors(text: &str) -> Vec<ConfigError> {
    match compile(text, Path::new("b.toml"), &facts()) {
        Ok(_) => Vec::new(),
        Err(errors) => {
            assert!(!errors.as_slice().is_empty(), "refused without a reason");
            errors.as_slice().to_vec()
        }
    }
}

/// The whole config with one piece of text in place of another that stands in it once.
fn with(old: &str, new: &str) -> String {
    assert_eq!(WHOLE.matches(old).count(), 1, "{old:?} must stand in the config once");
    WHOLE.replace(old, new)
}

#[test]
fn a_whole_config_means_what_it_says() {
    let settings = compiled(WHOLE);
    assert_eq!(settings.models.len(), 2);
    let llama = &settings.models[&name("llama")];
    let on = |address: &str| settings::ModelAddress::Port(address.parse().unwrap());
    assert_eq!(llama.upstream, on("127.0.0.1:8000"), "a literal loopback address");
    assert_eq!(llama.credential.as_deref(), Some(Path::new("/run/credentials/test/llama-api-key")));
    assert_eq!(settings.models[&name("phi")].upstream, on("127.0.0.1:8001"), "TOML has hexadecimal");
    assert_eq!(settings.audit.origin, "bailiwick/host-1.example.eu");
    assert_eq!((settings.proxy.max_body, settings.proxy.ping.as_secs()), (16 << 20, 15));
    assert_eq!((settings.issuers[0].groups_claim.as_str(), settings.issuers[0].leeway), ("groups", 60));
    assert_eq!(settings.regions.get(&name("eu")).unwrap().countries.len(), 31, "30 of the EEA and CH");
    assert_eq!(settings.id.len(), 16);
    assert_ne!(settings.id, compiled(&with("shadow", "enforce")).id, "another file, another policy");
}

#[test]
fn the_shipped_example_compiles() {
    let settings = compiled(include_str!("../../../config/bailiwick.toml"));
    assert!(settings.masks.contains_key(&name("pii")));
    assert_eq!(settings.access.rules()[0].masks.request, [name("pii")]);
    assert_eq!(settings.warnings.len(), 1, "only that there is no dataset yet: {:#?}", settings.warnings);
}

#[test]
fn each_mistake_in_a_mask_is_told_in_its_place() {
    let mask = "[[mask]]\nname = \"pii\"\nentities = [\"email\"]\nfields = [\"$.a\", \"$.b[*].c\"]\naction = \"hash\"\n";
    let whole = with("[audit]", &format!("mask = {{ request = [\"pii\"] }}\n{mask}[audit]"));
    assert_eq!(errors(&whole), []);
    for (old, new, problem, key, hint) in [
        ("\"$.a\"", "\"$.a[\"", Problem::Invalid, "mask[0].fields[0]", "JSONPath"),
        ("\"$.a\"", "\"a\"", Problem::Invalid, "mask[0].fields[0]", "JSONPath"),
        ("\"$.a\"", "\"$.b[*].c\"", Problem::Duplicate, "mask[0].fields[1]", "take one out"),
        ("[\"email\"]", "[\"e-mail\"]", Problem::UnknownWord, "mask[0].entities[0]", "\"email\""),
        ("\"hash\"", "\"hush\"", Problem::UnknownWord, "mask[0].action", "\"hash\""),
        (
            "request = [\"pii\"]",
            "request = [\"pi\"]",
            Problem::UnknownName,
            "access[0].mask.request[0]",
            "\"pii\"",
        ),
        (
            "request = [\"pii\"]",
            "requests = [\"pii\"]",
            Problem::UnknownKey,
            "access[0].mask.requests",
            "\"request\"",
        ),
    ] {
        let found = errors(&whole.replacen(old, new, 1));
        assert_eq!(found.len(), 1, "{found:#?}");
        assert_eq!((found[0].problem, found[0].key.as_str()), (problem, key), "{found:#?}");
        assert!(found[0].to_string().contains(hint), "{}", found[0]);
    }
    let blank = whole.replace("entities = [\"email\"]\nfields = [\"$.a\", \"$.b[*].c\"]\n", "");
    assert_eq!(errors(&blank)[0].key, "mask[0]", "a mask that hides nothing");
    let unused = compiled(&whole.replace("mask = { request = [\"pii\"] }\n", ""));
    assert!(unused.warnings.iter().any(|warning| warning.contains("no access rule uses mask \"pii\"")));
}

#[test]
fn the_kernel_is_told_of_the_agent_the_models_and_the_workloads() {
    let settings = compiled(WHOLE);
    let scopes = &settings.kernel.scopes;
    let told: Vec<(&str, ScopeKind, &str, Mode)> = scopes
        .iter()
        .map(|scope| (scope.name.as_str(), scope.kind, scope.cgroup.to_str().unwrap(), scope.egress.mode))
        .collect();
    assert_eq!(
        told,
        [
            ("agent", ScopeKind::Proxy, "bailiwick.slice/bailiwick-agent.slice", Mode::Enforce),
            ("llama", ScopeKind::Model { port: 8000 }, "bailiwick.slice/bailiwick-llama.slice", Mode::Shadow),
            ("phi", ScopeKind::Model { port: 8001 }, "bailiwick.slice/bailiwick-phi.slice", Mode::Enforce),
            ("log-shipper", ScopeKind::Workload, "system.slice/fluent-bit.service", Mode::Enforce),
        ]
    );
    let phi = &scopes[2].egress;
    assert!(phi.networks.is_empty() && phi.exceptions.is_empty(), "no egress table: nothing is allowed");
    assert_eq!(scopes[1].egress.exceptions[0].reason, "licence server");
}

#[test]
fn the_kernel_s_networks_agree_with_the_region_table() {
    let settings = compiled(WHOLE);
    for (address, in_eu, reason) in [
        ("10.77.4.1", true, "pinned to eu"),
        ("10.77.5.1", false, "inside eu's network, but pinned abroad: the longest match"),
        ("10.78.0.1", false, "unknown"),
        ("2001:db8:c::9", true, "IPv6"),
    ] {
        let address: std::net::IpAddr = address.parse().unwrap();
        let allowed = |index: usize| {
            settings.kernel.scopes[index].egress.networks.iter().any(|network| network.contains(&address))
        };
        assert_eq!(allowed(1), in_eu, "the model: {address}: {reason}");
        assert_eq!(allowed(0), in_eu, "the agent, whose issuer is in eu: {address}: {reason}");
        assert_eq!(settings.regions.locate(address).is_in(&[name("eu")]), in_eu, "{address}: {reason}");
    }
}

#[test]
fn what_compiles_but_deserves_a_word_is_a_warning() {
    let shadow = "\"llama\": egress is in shadow mode";
    let countries = "countries are unknown until a dataset is imported, and only the networks of region \"eu\" are allowed";
    let rule =
        "[[access]]\nname = \"late\"\nmodels = [\"llama\"]\ngroups = [\"ml-analysts\"]\nfrom = [\"eu\"]\n";
    let late = format!("{rule}endpoints = [\"chat\"]\n\n[audit]");
    for (old, new, warning, reason) in [
        ("", "", shadow, "a mode that blocks nothing"),
        ("", "", countries, "no dataset"),
        (
            "networks = [\"10.77.0.0/16\", \"2001:db8:c::/64\"]\n",
            "",
            "nothing in region \"eu\" is allowed",
            "no networks either",
        ),
        (
            "networks = [\"10.77.0.0/16\", \"2001:db8:c::/64\"]\n",
            "",
            "the agent can reach no issuer",
            "its region has no networks",
        ),
        ("[audit]", &late, "access rule \"late\" never decides, since \"analysts\"", "shadowed"),
        (
            "models = [\"llama\", \"phi\"]",
            "models = [\"phi\"]",
            "no access rule opens model \"llama\"",
            "unused",
        ),
        (
            "[\"chat\"]",
            "[\"chat\", \"infer\", \"score\"]",
            "access rule \"analysts\" opens infer, which no server",
            "score is vLLM's",
        ),
        (
            "\"10.77.5.0/24\"",
            "\"0.0.0.0/0\"",
            "region \"abroad\" has a network of length 0",
            "holds every address",
        ),
        ("\"192.0.2.10/32\"", "\"::/0\"", "\"llama\": the exception ::/0 allows every address", "too wide"),
        (
            "[[access]]",
            "[[issuer]]\nurl = \"https://partner.example\"\naudience = \"b\"\nregion = \"eu\"\n\n[[access]]",
            "each of the issuers https://login.example.eu, https://partner.example may vouch for every group",
            "a group has no issuer",
        ),
        ("[::]:8443", "[::]:0", "proxy.listen: port 0", "another port at every start"),
    ] {
        let text = if old.is_empty() { WHOLE.to_owned() } else { with(old, new) };
        let warnings = compiled(&text).warnings;
        assert!(
            warnings.iter().any(|found| found.contains(warning)),
            "{reason}: {warning:?} not in {warnings:#?}"
        );
    }
    let calm = with("shadow", "enforce").replace("countries = [\"@eea\", \"CH\"]\n", "");
    assert_eq!(compiled(&calm).warnings, [""; 0], "nothing to say about a config without quirks");
}

#[test]
fn each_mistake_is_told_with_its_place_its_cure_and_the_nearest_name() {
    use Problem::*;
    let mut failures = Vec::new();
    for (old, new, problem, place, hint) in [
        // Keys.
        ("port = 8000", "prot = 8000", UnknownKey, "model[0].prot", "did you mean \"port\"?"),
        ("port = 8000", "prot = 8000", MissingKey, "model[0].port", "add port"),
        ("[audit]", "[audits]", UnknownKey, "audits", "did you mean \"audit\"?"),
        ("[audit]", "[audits]", MissingKey, "audit", "add audit"),
        ("reason = \"lic", "raeson = \"lic", UnknownKey, "model[0].egress.allow[0].raeson", "\"reason\""),
        ("tls = { certificate =", "tls = { cert =", UnknownKey, "proxy.tls.cert", "certificate"),
        ("groups = [\"ml-analysts\"]", "\"a b\" = 1", UnknownKey, "access[0].\"a b\"", "use one of"),
        // Types.
        ("port = 8000", "port = \"8000\"", WrongType, "model[0].port \"8000\"", "remove the quotes"),
        ("port = 8000", "port = 80.5", WrongType, "model[0].port 80.5", "whole number"),
        ("name = \"llama\"", "name = 7", WrongType, "model[0].name 7", "write it in quotes"),
        ("from = [\"eu\"]", "from = \"eu\"", WrongType, "access[0].from \"eu\"", "square brackets"),
        ("from = [\"eu\"]", "from = [\"eu\", 5]", WrongType, "access[0].from[1] 5", "in quotes"),
        ("[[issuer]]", "[issuer]", WrongType, "issuer", "write [[issuer]]"),
        (
            "[audit]\ndirectory = \"/var/lib/bailiwick/audit\"",
            "[[audit]]",
            WrongType,
            "audit",
            "write [audit]",
        ),
        (
            "credential = \"llama-api-key\"",
            "credential = 12345",
            WrongType,
            "model[0].credential",
            "in quotes",
        ),
        // Numbers.
        ("port = 8000", "port = 0", OutOfRange, "model[0].port 0", "1 to 65535"),
        ("port = 8000", "port = 65536", OutOfRange, "model[0].port 65536", "1 to 65535"),
        ("port = 8000", "port = -1", OutOfRange, "model[0].port -1", "1 to 65535"),
        (
            "port = 8000",
            "port = 9999999999999999999999999999999999999999999",
            OutOfRange,
            "model[0].port",
            "65535",
        ),
        ("port = 443", "port = 70_000", OutOfRange, "model[0].egress.allow[0].port 70_000", "65535"),
        ("audience =", "leeway = 301\naudience =", OutOfRange, "issuer[0].leeway 301", "0 to 300 seconds"),
        ("audience =", "leeway = -1\naudience =", OutOfRange, "issuer[0].leeway -1", "0 to 300 seconds"),
        ("listen =", "max_body = 3\nlisten =", OutOfRange, "proxy.max_body 3", "bytes"),
        ("listen =", "ping = 0\nlisten =", OutOfRange, "proxy.ping 0", "1 to 3600 seconds"),
        ("[::]:8443", "[::]:84430", OutOfRange, "proxy.listen \"[::]:84430\"", "65535"),
        ("login.example.eu", "login.example.eu:99999", OutOfRange, "issuer[0].url", "65535"),
        // Networks and countries.
        (
            "10.77.5.0/24",
            "10.77.5.0/33",
            Invalid,
            "regions.abroad.networks[0] \"10.77.5.0/33\"",
            "address/length",
        ),
        ("10.77.5.0/24", "10.77.5.1/24", Invalid, "regions.abroad.networks[0]", "\"10.77.5.0/24\""),
        ("10.77.5.0/24", "10.77.5.1", Invalid, "regions.abroad.networks[0]", "\"10.77.5.1/32\""),
        ("10.77.5.0/24", "::ffff:10.77.5.0/120", Invalid, "regions.abroad.networks[0]", "\"10.77.5.0/24\""),
        ("192.0.2.10/32", "192.0.2.10/24", Invalid, "model[0].egress.allow[0].network", "\"192.0.2.0/24\""),
        ("\"CH\"", "\"ch\"", UnknownWord, "regions.eu.countries[1] \"ch\"", "write \"CH\""),
        ("\"CH\"", "\"UK\"", UnknownWord, "regions.eu.countries[1] \"UK\"", "\"GB\""),
        ("\"CH\"", "\"EU\"", UnknownWord, "regions.eu.countries[1] \"EU\"", "\"@eu\""),
        ("\"@eea\"", "\"@eae\"", UnknownWord, "regions.eu.countries[0] \"@eae\"", "did you mean \"@eea\"?"),
        ("networks = [\"10.77.5.0/24\"]", "", Empty, "regions.abroad", "add countries"),
        (
            "networks = [\"10.77.5.0/24\"]",
            "networks = []",
            Empty,
            "regions.abroad.networks",
            "put something in",
        ),
        ("[regions.abroad]", "[regions.Abroad]", Invalid, "regions.Abroad \"Abroad\"", "lower-case"),
        // Names of other things.
        (
            "region = \"eu\"\n\n[regions.eu]",
            "region = \"ue\"\n\n[regions.eu]",
            UnknownName,
            "host.region \"ue\"",
            "\"eu\"",
        ),
        (
            "regions = [\"abroad\"]",
            "regions = [\"aboard\"]",
            UnknownName,
            "workload[0].egress.regions[0] \"aboard\"",
            "\"abroad\"",
        ),
        (
            "models = [\"llama\", \"phi\"]",
            "models = [\"lama\"]",
            UnknownName,
            "access[0].models[0] \"lama\"",
            "\"llama\"",
        ),
        (
            "from = [\"eu\"]",
            "from = [\"us\"]",
            UnknownName,
            "access[0].from[0] \"us\"",
            "use one of eu, abroad",
        ),
        (
            "[audit]",
            "mask = { request = [\"pii\"] }\n[audit]",
            UnknownName,
            "access[0].mask.request[0] \"pii\"",
            "there is none",
        ),
        // Words.
        ("\"llama.cpp\"", "\"llamacpp\"", UnknownWord, "model[0].server \"llamacpp\"", "\"llama.cpp\""),
        ("\"shadow\"", "\"shadwo\"", UnknownWord, "model[0].egress.mode \"shadwo\"", "\"shadow\""),
        ("[\"chat\"]", "[\"chats\"]", UnknownWord, "access[0].endpoints[0] \"chats\"", "\"chat\""),
        ("[\"chat\"]", "[\"reponses\"]", UnknownWord, "access[0].endpoints[0] \"reponses\"", "\"responses\""),
        ("\"llama.cpp\"", "\"olama\"", UnknownWord, "model[0].server \"olama\"", "\"ollama\""),
        (
            "[host]",
            "[host]\naccept = [\"raw-socket\"]",
            UnknownWord,
            "host.accept[0] \"raw-socket\"",
            "\"raw-sockets\"",
        ),
        (
            "[host]",
            "[host]\naccept = [\"ptrace\", \"ptrace\"]",
            Duplicate,
            "host.accept[1] \"ptrace\"",
            "take one out",
        ),
        // What is taken.
        (
            "name = \"phi\"",
            "name = \"llama\"",
            Duplicate,
            "model[1].name \"llama\"",
            "taken by model[0].name in line 13",
        ),
        (
            "name = \"log-shipper\"",
            "name = \"phi\"",
            Duplicate,
            "workload[0].name \"phi\"",
            "taken by model[1].name",
        ),
        (
            "name = \"log-shipper\"",
            "name = \"agent\"",
            Duplicate,
            "workload[0].name \"agent\"",
            "the agent's own",
        ),
        (
            "port = 0x1f41",
            "port = 8_000",
            Duplicate,
            "model[1].port 8_000",
            "taken by model[0].port in line 15",
        ),
        ("[::]:8443", "[::]:8000", Conflict, "proxy.listen", "the model's (model[0].port in line 15)"),
        ("[\"chat\"]", "[\"chat\", \"chat\"]", Duplicate, "access[0].endpoints[1]", "take one out"),
        // Slices and units.
        (
            "bailiwick-phi.slice",
            "bailiwick-llama.slice",
            Duplicate,
            "model[1].slice",
            "the one of model[0].slice in line 14",
        ),
        (
            "bailiwick-phi.slice",
            "bailiwick-llama-a.slice",
            Conflict,
            "model[1].slice",
            "lies inside the one of model[0].slice",
        ),
        (
            "bailiwick-phi.slice",
            "bailiwick-agent.slice",
            Duplicate,
            "model[1].slice",
            "is the one of the agent itself",
        ),
        (
            "bailiwick-phi.slice",
            "bailiwick-agent-phi.slice",
            Conflict,
            "model[1].slice",
            "lies inside the one of the agent itself",
        ),
        (
            "bailiwick-phi.slice",
            "bailiwick.slice",
            Conflict,
            "model[1].slice",
            "holds the one of the agent itself",
        ),
        ("bailiwick-phi.slice", "-.slice", Invalid, "model[1].slice \"-.slice\"", "other than the root"),
        (
            "unit = \"fluent-bit.service\"",
            "unit = \"fluent-bit\"",
            Invalid,
            "workload[0].unit",
            "with its suffix",
        ),
        ("unit = \"fluent-bit.service\"", "", MissingKey, "workload[0]", "add unit"),
        ("unit =", "slice = \"x.slice\"\nunit =", Conflict, "workload[0].slice", "not both"),
        // Issuers.
        ("https://login", "http://login", Invalid, "issuer[0].url \"http://login.example.eu\"", "use https"),
        ("https://login", "ftp://login", Invalid, "issuer[0].url", "not an https URL"),
        ("https://login.example.eu", "login.example.eu", Invalid, "issuer[0].url", "not a URL"),
        ("https://login.example.eu", "https://", Invalid, "issuer[0].url", "not a URL"),
        ("https://login.example.eu", "https://a.example/?t=1", Invalid, "issuer[0].url", "no query"),
        ("https://login.example.eu", "http://127.0.0.1.example.eu", Invalid, "issuer[0].url", "use https"),
        ("audience = \"bailiwick\"", "audience = \" \"", Empty, "issuer[0].audience", "nothing in it"),
        (
            "region = \"eu\"\n\n[[access]]",
            "groups = \"a..b\"\nregion = \"eu\"\n\n[[access]]",
            Invalid,
            "issuer[0].groups",
            "claim",
        ),
        // Paths.
        ("/var/lib/bailiwick/audit", "audit", Invalid, "audit.directory \"audit\"", "start it with /"),
        ("/var/lib/bailiwick/audit", "/", Invalid, "audit.directory \"/\"", "of its own"),
        ("/var/lib/bailiwick/audit", "/var/../etc", Invalid, "audit.directory", "of its own"),
        (
            "\"/etc/bailiwick/tls.key\"",
            "\"tls.key\"",
            Invalid,
            "proxy.tls.key \"tls.key\"",
            "start it with /",
        ),
        (
            "\"llama-api-key\"",
            "\"keys/llama\"",
            Invalid,
            "model[0].credential",
            "never the credential itself",
        ),
        ("host-1.example.eu", "host 1", Invalid, "host.name \"host 1\"", "hyphens"),
        ("\"licence server\"", "\"\"", Empty, "model[0].egress.allow[0].reason", "nothing in it"),
        // TOML.
        ("port = 8000", "port = 80 00", Syntax, "", "not TOML"),
        ("name = \"phi\"", "name = \"phi", Syntax, "", "not TOML"),
        ("[proxy]", "[proxy", Syntax, "", "not TOML"),
        ("port = 8000", "port = 8000\nport = 8001", Syntax, "", "duplicate key"),
    ] {
        let text = with(old, new);
        let found = errors(&text);
        let told = found.iter().any(|error| {
            let at = format!("{} {}", error.key, error.value.as_deref().unwrap_or_default());
            error.problem == problem && at.starts_with(place) && error.to_string().contains(hint)
        });
        if !told {
            failures.push(format!("{new:?}: no {problem:?} at {place} with {hint:?} in {found:#?}"));
        }
        for error in &found {
            assert!(points_at_it(&text, error), "{new:?} points elsewhere: {error:#?}");
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Whether the line and column are those of the value, the key, or the table that lacks the key.
fn points_at_it(text: &str, error: &ConfigError) -> bool {
    let line = text.split('\n').nth(error.line.unwrap() - 1).unwrap();
    let here: String = line.chars().skip(error.column.unwrap() - 1).collect();
    let key = error.key.rsplit('.').next().unwrap();
    match (error.problem, &error.value) {
        (Problem::Syntax, _) => true,
        (Problem::MissingKey, _) => here.starts_with(['[', '{']) || error.line == Some(1),
        (_, Some(value)) => here.starts_with(value.trim_end_matches('…')) || value.trim_matches('"') == key,
        (Problem::UnknownKey, None) => here.starts_with(key),
        (_, None) => here.starts_with(['[', '{', '"']) || here.starts_with("12345"),
    }
}

#[test]
fn one_mistake_is_told_once() {
    for (old, new, count, reason) in [
        ("[regions.abroad]", "[regions.Abroad]", 2, "a bad name, and the workload that uses the good one"),
        (
            "networks = [\"10.77.5.0/24\"]",
            "networks = [\"x\"]",
            1,
            "a region with a bad network is still a region",
        ),
        ("name = \"llama\"", "name = \"Llama\"", 2, "the name, and the rule that says llama"),
        (
            "[model.egress]\nmode = \"shadow\"\nregions = [\"eu\"]",
            "egress = 5",
            1,
            "no key of a table that is none is missing",
        ),
        ("port = 8000", "port = 80 00", 1, "what is not TOML is not also of the wrong type"),
        ("[proxy]", "[proxy", 1, "a broken header displaces keys; they are not told"),
        ("name = \"eu", "name = \"eu", 0, ""),
        ("port = 8000", "port = [8000, 8001]", 1, "another type"),
        ("[[issuer]]", "[issuer]", 1, "read all the same"),
        ("unit = \"fluent-bit.service\"", "unit = 5", 1, "a unit of the wrong type is not also missing"),
    ] {
        if count > 0 {
            let found = errors(&with(old, new));
            assert_eq!(found.len(), count, "{new:?}: {reason}: {found:#?}");
        }
    }
}

#[test]
fn an_empty_file_lacks_each_thing_that_must_be_there() {
    let missing: Vec<String> = errors("").into_iter().map(|error| error.key).collect();
    assert_eq!(missing, ["host", "proxy", "audit", "issuer", "model"]);
}

#[test]
fn an_error_fits_a_terminal_and_is_one_json_object() {
    let errors =
        compile(&with("port = 8000", "prot = 8000"), Path::new("/etc/bailiwick/bailiwick.toml"), &facts())
            .unwrap_err();
    let text = errors.to_string();
    assert!(
        text.contains(
            "/etc/bailiwick/bailiwick.toml:15:1: model[0].prot: unknown key; did you mean \"port\"?\n"
        ),
        "{text}"
    );
    assert!(text.ends_with("2 errors; nothing was changed"), "{text}");
    assert_eq!(
        serde_json::to_value(&errors).unwrap()[1],
        serde_json::json!({
            "file": "/etc/bailiwick/bailiwick.toml", "line": 15, "column": 1, "key": "model[0].prot", "value": null,
            "problem": "unknown-key", "message": "unknown key",
            "cure": "use one of name, slice, port, socket, server, credential, fetch_urls, peer, egress, upstream, health", "nearest": "port",
        })
    );
}

#[test]
fn no_secret_reaches_an_error() {
    for (old, new, reason) in [
        ("\"llama-api-key\"", "\"s3cr3t/x\"", "the credential itself in place of its name"),
        ("\"llama-api-key\"", "[\"s3cr3t\"]", "of the wrong type"),
        ("credential =", "api_key = \"s3cr3t\"\ncredential =", "the value of an unknown key"),
        ("https://login", "https://me:s3cr3t@login", "a password in a URL"),
        ("\"llama-api-key\"", "s3cr3t", "not TOML"),
        ("credential = \"llama-api-key\"", "credential = \"s3cr3t", "not TOML, unterminated"),
    ] {
        let text = with(old, new);
        let errors = compile(&text, Path::new("b.toml"), &facts()).unwrap_err();
        let told = format!("{errors} {errors:?} {}", serde_json::to_string(&errors).unwrap());
        assert!(!told.contains("s3cr3t"), "{reason}: {told}");
    }
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let found = errors(&with("\"shadow\"", "\"sha\\u001bdow\"").replace("\"vllm\"", "\"v\u{202e}llm\""));
    let told = format!("{}{}", found[0], found[1]);
    assert!(!told.contains(['\u{1b}', '\u{202e}']), "{told:?}");
}

#[test]
fn named_files_must_be_there_and_hold_what_they_should() {
    let directory = tempfile::tempdir().unwrap();
    let path = |file: &str| directory.path().join(file).to_str().unwrap().to_owned();
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(path("tls.crt"), certified.cert.pem()).unwrap();
    std::fs::write(path("tls.key"), certified.signing_key.serialize_pem()).unwrap();
    std::fs::write(path("empty"), "").unwrap();
    std::fs::write(path("s3cr3t.txt"), "s3cr3t contents").unwrap();
    std::fs::write(path("llama-api-key"), "token").unwrap();
    let host =
        HostFacts { check_files: true, credentials_directory: Some(directory.path().to_owned()), ..facts() };
    let good = WHOLE
        .replace("/etc/bailiwick/tls.crt", &path("tls.crt"))
        .replace("/etc/bailiwick/tls.key", &path("tls.key"))
        .replace("/var/lib/bailiwick/audit", &path("audit"));
    let settings = compile(&good, Path::new("b.toml"), &host).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(!settings.audit.directory.exists(), "compiling makes nothing");
    assert!(
        settings
            .warnings
            .iter()
            .any(|warning| warning.contains("every user of this host can read the TLS key"))
    );

    for (old, new, problem, key, reason) in [
        ("tls.crt", "gone.crt", Problem::MissingFile, "proxy.tls.certificate", "not there"),
        ("tls.crt", "tls.key", Problem::Invalid, "proxy.tls.certificate", "a key is no certificate"),
        ("tls.key", "s3cr3t.txt", Problem::Invalid, "proxy.tls.key", "no PEM"),
        ("tls.key", "empty", Problem::MissingFile, "proxy.tls.key", "empty"),
        ("/tls.key", "", Problem::MissingFile, "proxy.tls.key", "a directory"),
        (
            "llama-api-key",
            "phi-api-key",
            Problem::MissingFile,
            "model[0].credential",
            "not among the credentials",
        ),
        ("/audit\"", "/empty/audit\"", Problem::Invalid, "audit.directory", "below a file"),
        ("/audit\"", "/empty\"", Problem::Invalid, "audit.directory", "a file"),
        ("audience =", "ca = \"/gone.pem\"\naudience =", Problem::MissingFile, "issuer[0].ca", "not there"),
    ] {
        let errors = compile(&good.replacen(old, new, 1), Path::new("b.toml"), &host).unwrap_err();
        let told: Vec<(Problem, &str)> =
            errors.as_slice().iter().map(|error| (error.problem, error.key.as_str())).collect();
        assert_eq!(told, [(problem, key)], "{reason}");
        assert!(!errors.to_string().contains("contents"), "no file's contents in an error");
    }

    let unknown = HostFacts { credentials_directory: None, ..host };
    let settings = compile(&good, Path::new("b.toml"), &unknown).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(
        settings
            .warnings
            .iter()
            .any(|warning| warning.contains("can only be looked for when the service runs"))
    );
}

#[test]
fn a_file_that_cannot_be_read_is_told_too() {
    let directory = tempfile::tempdir().unwrap();
    let binary = directory.path().join("binary.toml");
    std::fs::write(&binary, b"[host]\nname = \"\xff\"\n").unwrap();
    let long = directory.path().join("long.toml");
    std::fs::write(&long, "#".repeat((1 << 20) + 1)).unwrap();
    for (path, message) in [
        (directory.path().join("gone.toml"), "cannot be read"),
        (directory.path().to_owned(), "cannot be read"),
        (binary, "is not UTF-8 in line 2"),
        (long, "is longer than 1 MiB"),
    ] {
        let errors = load(&path, &facts()).unwrap_err();
        assert_eq!(errors.as_slice().len(), 1);
        assert_eq!(errors.as_slice()[0].problem, Problem::Unreadable);
        assert!(errors.to_string().contains(message), "{errors}");
    }
}

#[test]
fn issuers_on_this_host_may_speak_http() {
    for url in [
        "http://127.0.0.1:8080/realm",
        "http://127.0.0.1:1",
        "http://[::1]:9000",
        "https://[2001:db8::1]:8443/a/",
    ] {
        let settings = compiled(&with("https://login.example.eu", url));
        assert_eq!(settings.issuers[0].url, url, "kept as written, since it must equal the tokens' iss");
    }
}

/// Pieces that break things in many ways when they land anywhere.
const PIECES: [&str; 24] = [
    "[",
    "]",
    "[[",
    "{",
    "}",
    "\"",
    "'''",
    "\n",
    "=",
    ",",
    ".",
    "\\",
    "#",
    "-1",
    "99999999999999999999",
    "é",
    "\u{0}",
    "[[model]]\n",
    "[regions.x]\n",
    "mask = 5\n",
    "inf",
    "1979-05-27",
    "a.b.c = 1\n",
    "port = 0x\n",
];

proptest! {
    #[test]
    fn a_mutated_config_is_refused_with_reasons_or_compiles_and_never_panics(
        mutations in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..40, prop::sample::select(PIECES.to_vec())), 1..6),
    ) {
        let mut text = WHOLE.to_owned();
        for (at, length, piece) in mutations {
            let start = text.floor_char_boundary(at.index(text.len() + 1));
            let end = text.floor_char_boundary((start + length).min(text.len())).max(start);
            text.replace_range(start..end, piece);
        }
        if let Err(errors) = compile(&text, Path::new("b.toml"), &facts()) {
            prop_assert!(!errors.as_slice().is_empty());
            for error in errors.as_slice() {
                let line = error.line.unwrap();
                prop_assert!(line >= 1 && line <= text.split('\n').count());
                prop_assert!(!error.message.is_empty() && !error.cure.is_empty());
            }
            let _ = errors.to_string();
        }
    }

    #[test]
    fn anything_at_all_is_answered(text in any::<String>()) {
        prop_assert!(compile(&text, Path::new("b.toml"), &facts()).is_err());
    }

    #[test]
    fn a_line_taken_out_never_panics(line in 0_usize..65) {
        let text: Vec<&str> = WHOLE.lines().enumerate().filter(|(index, _)| *index != line).map(|(_, line)| line).collect();
        let _ = compile(&text.join("\n"), Path::new("b.toml"), &facts());
    }
}

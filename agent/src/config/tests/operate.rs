//! Further servers of a model, their checks, and where health and metrics are told.

use super::*;
use crate::config::settings::{MetricsListener, ModelAddress};
use std::time::Duration;

const SECOND: &str = "[[model.upstream]]\nname = \"phi-b\"\nslice = \"bailiwick-phib.slice\"\nport = 8002\n";

/// The tables of the model "phi" stand behind its keys and before the workload.
fn of_phi(lines: &str) -> String {
    assert_eq!(WHOLE.matches("[[workload]]").count(), 1);
    WHOLE.replace("[[workload]]", &format!("{lines}\n[[workload]]"))
}

#[test]
fn every_server_of_a_model_is_guarded_as_the_first() {
    let egress = "[model.egress]\nmode = \"enforce\"\nregions = [\"eu\"]\n";
    let more = "[[model.upstream]]\nname = \"phi-c\"\nslice = \"bailiwick-phic.slice\"\nsocket = \"/run/c.sock\"\nbackup = true\n\
                credential = \"another-key\"\n";
    let settings = compiled(&of_phi(&format!("{egress}{SECOND}{more}")));
    let scopes: Vec<_> = settings
        .kernel
        .scopes
        .iter()
        .filter(|scope| scope.name.as_str().starts_with("phi"))
        .map(|scope| (scope.name.as_str(), scope.kind, scope.cgroup.to_str().unwrap()))
        .collect();
    assert_eq!(
        scopes,
        [
            ("phi", ScopeKind::Model { port: 8001 }, "bailiwick.slice/bailiwick-phi.slice"),
            ("phi-b", ScopeKind::Model { port: 8002 }, "bailiwick.slice/bailiwick-phib.slice"),
            ("phi-c", ScopeKind::SealedModel, "bailiwick.slice/bailiwick-phic.slice"),
        ]
    );
    let policies: Vec<_> = settings
        .kernel
        .scopes
        .iter()
        .filter(|scope| scope.name.as_str().starts_with("phi"))
        .map(|scope| &scope.egress)
        .collect();
    assert!(!policies[0].networks.is_empty() && policies.iter().all(|policy| *policy == policies[0]));
    settings.kernel.check().expect("the kernel takes it");

    let phi = &settings.models[&name("phi")];
    let servers = phi.servers();
    assert_eq!(servers.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["phi", "phi-b", "phi-c"]);
    assert_eq!(servers[1].address, ModelAddress::Port("127.0.0.1:8002".parse().unwrap()));
    assert_eq!((servers[1].backup, servers[2].backup), (false, true));
    assert_eq!(servers[1].credential, servers[0].credential, "the model's own");
    assert_eq!(servers[2].credential.as_deref(), Some(Path::new("/run/credentials/test/another-key")));
    let health = phi.health.as_ref().expect("several servers are checked");
    assert_eq!((health.interval, health.fall, health.rise), (Duration::from_secs(5), 3, 2));
    assert!(settings.models[&name("llama")].health.is_none(), "one server alone is judged by its requests");
}

#[test]
fn checks_are_as_the_config_says_and_on_where_readiness_is_asked() {
    let text = of_phi("[model.health]\npath = \"/live\"\ninterval = 1\ntimeout = 1\nfall = 5\nrise = 1\n");
    let health = compiled(&text).models[&name("phi")].health.clone().unwrap();
    assert_eq!((health.path.as_str(), health.interval, health.fall), ("/live", Duration::from_secs(1), 5));
    let settings = compiled(&format!("{WHOLE}\n[metrics]\nlisten = \"127.0.0.1:9464\"\n"));
    assert_eq!(settings.metrics, Some(MetricsListener::Address("127.0.0.1:9464".parse().unwrap())));
    assert!(settings.models.values().all(|model| model.health.is_some()));
    let paths: Vec<_> = settings.models.values().map(|model| model.health.clone().unwrap().path).collect();
    assert!(paths.iter().all(|path| path == "/health" || path == "/v1/models"), "{paths:?}");
}

#[test]
fn each_mistake_in_a_further_server_is_told_in_its_place() {
    let second = |old: &str, new: &str| {
        assert_eq!(SECOND.matches(old).count(), 1, "{old}");
        of_phi(&SECOND.replace(old, new))
    };
    let health = |line: &str| of_phi(&format!("[model.health]\n{line}\n"));
    for (text, problem, key, hint) in [
        (second("phi-b", "llama"), Problem::Duplicate, "model[1].upstream[0].name", "another name"),
        (second("8002", "8000"), Problem::Duplicate, "model[1].upstream[0].port", "taken by model[0].port"),
        (second("8002", "8001"), Problem::Duplicate, "model[1].upstream[0].port", "taken by model[1].port"),
        (second("port = 8002", ""), Problem::MissingKey, "model[1].upstream[0].port", "add port"),
        (second("phib", "phi"), Problem::Duplicate, "model[1].upstream[0].slice", "beside it"),
        (second("phib", "phi-b"), Problem::Conflict, "model[1].upstream[0].slice", "lies inside"),
        (
            second("port = 8002", "address = \"203.0.113.9:8000\""),
            Problem::Conflict,
            "model[1].upstream[0].address",
            "run Bailiwick on that host",
        ),
        (
            second("port = 8002", "url = \"https://gpu-8.example.eu\""),
            Problem::Conflict,
            "model[1].upstream[0].url",
            "nothing here can guard",
        ),
        (health("path = \"health\""), Problem::Invalid, "model[1].health.path", "/health"),
        (health("path = \"/h?x\""), Problem::Invalid, "model[1].health.path", "/health"),
        (health("interval = 0"), Problem::OutOfRange, "model[1].health.interval", "1 to 3600"),
        (health("fall = 1000"), Problem::OutOfRange, "model[1].health.fall", "1 to 100"),
        (
            health("interval = 2\ntimeout = 3"),
            Problem::Conflict,
            "model[1].health.timeout",
            "at most [model.health] interval",
        ),
    ] {
        let found = errors(&text);
        assert_eq!(found.len(), 1, "{hint}: {found:#?}");
        assert_eq!((found[0].problem, found[0].key.as_str()), (problem, key), "{hint}");
        assert!(found[0].to_string().contains(hint), "{hint:?} not in {}", found[0]);
    }
    let many: String = (0..16)
        .map(|number| {
            let port = 9000 + number;
            format!("[[model.upstream]]\nname = \"m{number}\"\nslice = \"m{number}.slice\"\nport = {port}\n")
        })
        .collect();
    assert!(errors(&of_phi(&many)).iter().any(|error| error.message.contains("more than 16 servers")));
}

#[test]
fn metrics_stay_on_this_host_unless_a_reason_is_given() {
    let at = |lines: &str| format!("{WHOLE}\n[metrics]\n{lines}\n");
    for (lines, problem, key, hint) in [
        ("listen = \"0.0.0.0:9464\"", Problem::Conflict, "metrics.listen", "say why not"),
        ("listen = \"[::]:9464\"", Problem::Conflict, "metrics.listen", "no TLS"),
        ("listen = \"9464\"", Problem::Invalid, "metrics.listen", "127.0.0.1:9464"),
        ("listen = \"unix:metrics\"", Problem::Invalid, "metrics.listen", "absolute path"),
        ("listen = \"unix:/run/../metrics\"", Problem::Invalid, "metrics.listen", "absolute path"),
        ("listen = \"127.0.0.1:8000\"", Problem::Conflict, "metrics.listen", "a model's (model[0].port"),
        ("listen = \"127.0.0.1:8443\"", Problem::Conflict, "metrics.listen", "the proxy's"),
        ("listen = \"127.0.0.1:9464\"\nreason = \"x\"", Problem::Conflict, "metrics.reason", "loopback"),
        ("listen = \"0.0.0.0:9464\"\nreason = \" \"", Problem::Empty, "metrics.reason", "write it out"),
        ("reason = \"x\"", Problem::MissingKey, "metrics.listen", "add listen"),
    ] {
        let found = errors(&at(lines));
        assert_eq!(found.len(), 1, "{lines}: {found:#?}");
        assert_eq!((found[0].problem, found[0].key.as_str()), (problem, key), "{lines}");
        assert!(found[0].to_string().contains(hint), "{hint:?} not in {}", found[0]);
    }
    let settings =
        compiled(&at("listen = \"10.77.0.9:9464\"\nreason = \"scraped over the management network\""));
    assert!(settings.warnings.iter().any(|warning| warning.contains("management network")), "it is said");
    let settings = compiled(&at("listen = \"unix:/run/bailiwick/metrics\""));
    assert_eq!(settings.metrics, Some(MetricsListener::Socket("/run/bailiwick/metrics".into())));
}

#[test]
fn traces_go_to_a_declared_region_that_the_agent_is_held_to() {
    let at = |lines: &str| format!("{WHOLE}\n[traces]\n{lines}\n");
    let good = "endpoint = \"https://otel.example.eu:4318\"\nregion = \"abroad\"";
    let settings = compiled(&at(good));
    let traces = settings.traces.as_ref().unwrap();
    assert_eq!(traces.endpoint, "https://otel.example.eu:4318/v1/traces", "the protocol's own path");
    let agent = &settings.kernel.scopes[0].egress;
    assert_eq!(agent.regions, [name("eu"), name("abroad")], "the issuer's and the collector's");
    assert!(!compiled(WHOLE).kernel.scopes[0].egress.regions.contains(&name("abroad")), "and not without it");
    let local = compiled(&at("endpoint = \"http://127.0.0.1:4318/v1/traces\"\nregion = \"eu\""));
    assert!(local.warnings.iter().any(|warning| warning.contains("[[workload]]")), "{:?}", local.warnings);
    for (from, to, problem, key, hint) in [
        ("https://otel", "http://otel", Problem::Invalid, "traces.endpoint", "use https"),
        ("https://otel.example.eu:4318", "otel", Problem::Invalid, "traces.endpoint", "OTLP/HTTP"),
        ("https://otel", "https://user:word@otel", Problem::Invalid, "traces.endpoint", "before the @"),
        (":4318", ":4318/v1/traces?key=word", Problem::Invalid, "traces.endpoint", "a query"),
        ("https://otel", "grpc://otel", Problem::Invalid, "traces.endpoint", "not an https URL"),
        ("abroad", "abrod", Problem::UnknownName, "traces.region", "abroad"),
        ("region = \"abroad\"", "", Problem::MissingKey, "traces.region", "add region"),
    ] {
        let found = errors(&at(&good.replace(from, to)));
        assert_eq!(found.len(), 1, "{to}: {found:#?}");
        assert_eq!((found[0].problem, found[0].key.as_str()), (problem, key), "{to}");
        let said = found[0].to_string();
        assert!(said.contains(hint) && !said.contains("user:word"), "{hint:?} not in {said}");
    }
}

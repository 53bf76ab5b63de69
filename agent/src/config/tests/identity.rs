//! Issuers, client certificates, what rules ask of a caller, and what callers may use.

use super::*;
use crate::config::settings::{OnRemoval, PseudonymKey};
use bailiwick_policy::{DenialReason, Principal};

const PROXY: &str = r#"on_removal = "cut"

[proxy.clients]
authorities = "/etc/bailiwick/client-ca.pem"
require = true
identify = true

[proxy.identity]
action = "pseudonym"
fields = ["metadata.tenant", "x_user"]

[[issuer]]
clients = ["chat-ui"]
type = "at+jwt"
bound = true
refresh = 600
introspection = { client = "bailiwick", secret = "introspection-secret", remember = 5 }
"#;

const RULE: &str = r#"from = ["eu"]
from_claim = "ctry"
issuer = "https://login.example.eu"
subjects = ["ada"]
claims = { department = ["research"], "realm.roles" = ["a", "b"] }
certificates = ["spiffe://example.eu/ml/*", "batch.example.eu"]
when = { days = ["mon", "tue"], hours = "22:00-06:00", offset = "-05:30" }
limits = { requests_per_minute = 60, streams = 4, tokens_per_minute = 100, tokens_per_day = 1000, max_body = 4096, max_tokens = 7 }
"#;

/// The whole config with everything that this is about.
fn whole() -> String {
    with("[[issuer]]\n", PROXY).replace("from = [\"eu\"]\nendpoints", &format!("{RULE}endpoints"))
}

#[test]
fn a_config_with_all_of_it_means_what_it_says() {
    let settings = compiled(&whole());
    let issuer = &settings.issuers[0];
    assert_eq!(issuer.clients.as_deref(), Some(&["chat-ui".to_owned()][..]));
    assert!(issuer.strict_type && issuer.bound);
    assert_eq!(issuer.refresh, Some(600));
    assert_eq!(issuer.claims, ["department", "realm.roles", "ctry"], "what the rules ask for");
    let introspection = issuer.introspection.as_ref().unwrap();
    assert_eq!(introspection.secret, Path::new("/run/credentials/test/introspection-secret"));
    assert_eq!((introspection.client.as_str(), introspection.remember), ("bailiwick", 5));

    let clients = settings.proxy.clients.as_ref().unwrap();
    assert!(clients.require && clients.identify);
    assert_eq!(settings.proxy.on_removal, OnRemoval::Cut);
    assert_eq!(settings.proxy.identity.pseudonym, Some(PseudonymKey([7; 32])));
    assert_eq!(settings.proxy.identity.fields, [vec!["metadata", "tenant"], vec!["x_user"]]);

    let rule = &settings.access.rules()[0];
    assert_eq!(rule.from_claim.as_ref().unwrap().countries.len(), 31, "those of the region");
    assert!(rule.when.unwrap().holds(1_787_628_600), "Monday, 22:00 there, is Tuesday, 03:30 in UTC");
    assert!(!rule.when.unwrap().holds(1_787_628_599));
    assert_eq!(rule.limits.requests_per_minute, Some(60));
    assert_eq!(rule.limits.max_tokens, Some(7));
}

#[test]
fn what_is_left_out_is_as_it_was() {
    let settings = compiled(WHOLE);
    assert_eq!(settings.proxy.clients, None);
    assert_eq!(
        (settings.proxy.on_removal, settings.proxy.identity.pseudonym.clone()),
        (OnRemoval::Finish, None)
    );
    let rule = &settings.access.rules()[0];
    assert_eq!((rule.issuer.as_ref(), rule.when, rule.limits), (None, None, Default::default()));
}

#[test]
fn a_rule_that_names_its_issuer_needs_no_warning() {
    let second =
        "[[issuer]]\nurl = \"https://partner.example\"\naudience = \"b\"\nregion = \"eu\"\n\n[[access]]\n";
    let two = with("[[access]]\n", second);
    let warned = |text: &str| compiled(text).warnings.iter().any(|warning| warning.contains("may vouch"));
    assert!(warned(&two));
    let named = two.replace("groups = [", "issuer = \"https://login.example.eu\"\ngroups = [");
    assert!(!warned(&named));
    let access = compiled(&named).access;
    let partner = Principal {
        issuer: "https://partner.example".into(),
        groups: vec!["ml-analysts".into()],
        ..Principal::default()
    };
    let (model, caller) = (name("llama"), bailiwick_policy::Location::UNKNOWN);
    let operation = bailiwick_policy::Operation::Chat;
    let ask = bailiwick_policy::Ask { model: &model, operation, caller: &caller, now: 0 };
    assert_eq!(access.authorize(&partner, ask).unwrap_err().reason, DenialReason::IssuerNotAllowed);
}

#[test]
fn okta_s_org_server_deserves_a_word() {
    let text = with("https://login.example.eu", "https://dev-1.okta.com");
    let warnings = compiled(&text).warnings;
    assert!(
        warnings.iter().any(|warning| warning.contains("dev-1.okta.com/oauth2/default")),
        "{warnings:#?}"
    );
}

#[test]
fn each_mistake_is_told_in_its_place() {
    use Problem::{
        Conflict, Duplicate, Empty, Invalid, MissingKey, OutOfRange, UnknownKey, UnknownName, UnknownWord,
        WrongType,
    };
    for (old, new, problem, key, hint) in [
        ("\"cut\"", "\"cutt\"", UnknownWord, "proxy.on_removal", "\"cut\""),
        ("require = true", "require = \"yes\"", WrongType, "proxy.clients.require", "without quotes"),
        (
            "authorities = \"/etc/bailiwick/client-ca.pem\"\n",
            "",
            MissingKey,
            "proxy.clients.authorities",
            "add authorities",
        ),
        (
            "\"/etc/bailiwick/client-ca.pem\"",
            "\"client-ca.pem\"",
            Invalid,
            "proxy.clients.authorities",
            "start it with /",
        ),
        ("identify = true", "identity = true", UnknownKey, "proxy.clients.identity", "\"identify\""),
        ("\"pseudonym\"", "\"pseudonymize\"", UnknownWord, "proxy.identity.action", "\"pseudonym\""),
        ("\"x_user\"", "\"$.x\"", Invalid, "proxy.identity.fields[1]", "dots between them"),
        ("\"x_user\"", "\"metadata.tenant\"", Duplicate, "proxy.identity.fields[1]", "take one out"),
        ("\"at+jwt\"", "\"jwt\"", UnknownWord, "issuer[0].type", "at+jwt"),
        ("refresh = 600", "refresh = 59", OutOfRange, "issuer[0].refresh", "60 to 86400 seconds"),
        (
            "remember = 5",
            "remember = 301",
            OutOfRange,
            "issuer[0].introspection.remember",
            "0 to 300 seconds",
        ),
        ("client = \"bailiwick\", ", "", MissingKey, "issuer[0].introspection.client", "add client"),
        (
            "\"introspection-secret\"",
            "\"a b\"",
            Invalid,
            "issuer[0].introspection.secret",
            "never the credential itself",
        ),
        (
            "remember = 5",
            "endpoint = \"http://192.0.2.1/i\"",
            Invalid,
            "issuer[0].introspection.endpoint",
            "use https",
        ),
        (
            "issuer = \"https://login.example.eu\"",
            "issuer = \"https://login.example.org\"",
            UnknownName,
            "access[0].issuer",
            "login.example.eu",
        ),
        ("[\"spiffe://example.eu/ml/*\"", "[\"spiffe://*\"", Invalid, "access[0].certificates[0]", "/ml/*"),
        (
            "[\"spiffe://example.eu/ml/*\"",
            "[\"*.example.eu\"",
            Invalid,
            "access[0].certificates[0]",
            "begin alike",
        ),
        (
            "department = [\"research\"]",
            "department = \"research\"",
            WrongType,
            "access[0].claims.department",
            "square brackets",
        ),
        (
            "department = [\"research\"]",
            "department = []",
            Empty,
            "access[0].claims.department",
            "put something in",
        ),
        (
            "\"realm.roles\" =",
            "\"realm..roles\" =",
            Invalid,
            "access[0].claims.\"realm..roles\"",
            "realm_access.roles",
        ),
        ("[\"mon\", \"tue\"]", "[\"monday\"]", UnknownWord, "access[0].when.days[0]", "mon"),
        ("\"22:00-06:00\"", "\"22-06\"", Invalid, "access[0].when.hours", "08:00-18:00"),
        ("\"22:00-06:00\"", "\"08:00-08:00\"", Invalid, "access[0].when.hours", "08:00-18:00"),
        ("\"-05:30\"", "\"CET\"", Invalid, "access[0].when.offset", "UTC"),
        ("days = [\"mon\", \"tue\"], hours = \"22:00-06:00\", ", "", Empty, "access[0].when", "add days"),
        ("streams = 4", "streams = 0", OutOfRange, "access[0].limits.streams", "1 to"),
        ("max_tokens = 7", "max_token = 7", UnknownKey, "access[0].limits.max_token", "\"max_tokens\""),
        ("from = [\"eu\"]\nfrom_claim", "from_claim", Conflict, "access[0].from_claim", "add from"),
        (
            "from = [\"eu\"]\nfrom_claim",
            "from = [\"abroad\"]\nfrom_claim",
            Conflict,
            "access[0].from_claim",
            "add countries",
        ),
    ] {
        let text = whole();
        assert_eq!(text.matches(old).count(), 1, "{old:?} must stand in the config once");
        let found = errors(&text.replace(old, new));
        assert_eq!(found.len(), 1, "{new}: {found:#?}");
        assert_eq!((found[0].problem, found[0].key.as_str()), (problem, key), "{new}: {}", found[0]);
        assert!(found[0].to_string().contains(hint), "{hint:?} not in {}", found[0]);
    }
}

#[test]
fn what_does_not_go_together_is_told() {
    let no_clients = with("from = [\"eu\"]\n", "certificates = [\"batch.example.eu\"]\n");
    let found = errors(&no_clients);
    assert_eq!((found[0].problem, found[0].key.as_str()), (Problem::Conflict, "access[0].certificates"));
    let second = "[[issuer]]\nurl = \"https://partner.example\"\naudience = \"b\"\nregion = \"eu\"\nintrospection = { client = \"c\", secret = \"s\" }\n\n[[access]]\n";
    let found = errors(&whole().replace("[[access]]\n", second));
    assert_eq!((found[0].problem, found[0].key.as_str()), (Problem::Conflict, "issuer[1].introspection"));
    let by_certificate =
        |text: &str| text.replace("issuer = \"https://login.example.eu\"", "issuer = \"client-certificate\"");
    assert_eq!(errors(&by_certificate(&whole())), [], "an issuer where certificates are identities");
    let found = errors(&by_certificate(&whole()).replace("identify = true\n", ""));
    assert_eq!((found[0].problem, found[0].key.as_str()), (Problem::UnknownName, "access[0].issuer"));
}

//! The places where such proxies fall that are about who calls: each has a test, named after it.

use crate::model::{Step, chunk, event, stream_head, whole};
use crate::world::{CHAT, World, ask, ask_streamed, limits, name};
use bailiwick::config::settings::{ClientCertificates, IdentityFields, OnRemoval, PseudonymKey, Settings};
use bailiwick_policy::{AccessPolicy, AccessRule, CertificateName, RuleLimits};
use bailiwick_tests::caller::{Answer, Protocol, json_request};
use bailiwick_tests::issuer::Wish;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

pub(crate) fn good() -> Vec<Step> {
    whole(
        "200 OK",
        "application/json",
        r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":91,"total_tokens":100}}"#,
    )
}

pub(crate) fn said(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), answer.json()["error"]["code"].as_str().unwrap_or("none").to_owned())
}

/// Changes the first rule.
fn rule(settings: &mut Settings, change: impl FnOnce(&mut AccessRule)) {
    let mut rules: Vec<AccessRule> = settings.access.rules().iter().map(|rule| (**rule).clone()).collect();
    change(&mut rules[0]);
    settings.access = AccessPolicy::new(rules);
}

async fn limited(limits_of_rule: RuleLimits, script: Vec<Step>) -> World {
    World::adjusted(script, limits(), |settings, _| rule(settings, |rule| rule.limits = limits_of_rule)).await
}

fn with_claims(claims: Value) -> Wish {
    Wish {
        groups: Some(vec!["ml-analysts".into()]),
        claims: claims.as_object().unwrap().clone(),
        ..Wish::default()
    }
}

#[tokio::test]
async fn place_8_a_body_beyond_the_limit_is_told_413_with_the_limit() {
    let world = limited(RuleLimits { max_body: Some(4096), ..RuleLimits::default() }, good()).await;
    let answer = world.chat(Protocol::Http1, &ask(&"x".repeat(5000))).await;
    assert_eq!(said(&answer), (413, "body-too-large".to_owned()));
    assert!(
        answer.json()["error"]["message"].as_str().unwrap().contains("4096 bytes"),
        "the rule's, below the proxy's"
    );
    assert_eq!(world.chat(Protocol::Http1, &ask("x")).await.status, 200);
}

#[tokio::test]
async fn place_11_a_rotated_key_is_found_and_the_old_one_dropped() {
    let world = World::new(good()).await;
    let old = world.token();
    let send = |token: String| {
        let request = json_request(&world.url(CHAT), Some(&token), &ask("x")).unwrap();
        world.send(Protocol::Http2, request)
    };
    assert_eq!(send(old.clone()).await.status, 200);
    world.issuer.rotate().unwrap();
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(send(world.token()).await.status, 200, "a key id that was not known");
    assert_eq!(
        said(&send(old).await),
        (401, "key-unknown".to_owned()),
        "what was remembered went with its key"
    );
    assert_eq!(world.issuer.asked().keys, 2, "one fetch for the rotation");
}

#[tokio::test]
async fn place_13_a_group_list_that_entra_left_out_is_denied_with_that_reason() {
    let world = World::new(good()).await;
    for claims in [json!({"groups": null, "_claim_names": {"groups": "src1"}}), json!({"hasgroups": true})] {
        let token = world.token_of(&with_claims(claims));
        let answer = world
            .send(Protocol::Http1, json_request(&world.url(CHAT), Some(&token), &ask("x")).unwrap())
            .await;
        assert_eq!(said(&answer), (403, "groups-overage".to_owned()));
        let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains("only groups assigned to the application"), "the cure: {message}");
    }
    assert_eq!(world.model.connections(), 0);
}

/// What each token is told, shown to a world of its own.
async fn refused(rows: &[(Value, &str, &str)]) {
    let world = World::new(good()).await;
    for (claims, code, why) in rows {
        // A text stands for itself.
        let token =
            claims.as_str().map_or_else(|| world.token_of(&with_claims(claims.clone())), str::to_owned);
        let request = json_request(&world.url(CHAT), Some(&token), &ask("x")).unwrap();
        let answer = world.send(Protocol::Http1, request).await;
        assert_eq!(said(&answer), (401, (*code).to_owned()), "{why}");
    }
    assert_eq!(world.model.connections(), 0);
}

#[tokio::test]
async fn place_14_tokens_that_only_okta_can_read_are_told_so() {
    refused(&[
        (json!("0p4que-t0ken"), "token-opaque", "what only its org server can read"),
        (
            json!({"iss": "https://dev-1.okta.com", "cid": "c", "uid": "u", "ver": 1}),
            "okta-org-token",
            "or a JWT that only it can verify",
        ),
    ])
    .await;
}

#[tokio::test]
async fn place_15_a_token_that_is_not_for_this_audience_is_told_so() {
    refused(&[
        (json!({"aud": null}), "audience-mismatch", "no audience"),
        (json!({"aud": "payroll"}), "audience-mismatch", "another's"),
        (json!({"nonce": "n"}), "token-type-not-allowed", "an ID token"),
        (json!({"cnf": {"jkt": "A".repeat(43)}}), "token-binding-not-supported", "bound in another way"),
    ])
    .await;
}

#[tokio::test]
async fn place_16_clocks_may_differ_by_the_leeway_and_no_more() {
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    refused(&[
        (json!({"exp": now - 30}), "token-expired", "beyond the leeway of 5 s"),
        (json!({"nbf": now + 30}), "token-not-yet-valid", "the same, early"),
        (json!({"iat": now + 30}), "token-not-yet-valid", "from the future"),
    ])
    .await;
    let world = World::new(good()).await;
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    for claims in [json!({"exp": now - 2}), json!({"nbf": now + 2}), json!({"iat": now + 2})] {
        let token = world.token_of(&with_claims(claims.clone()));
        let request = json_request(&world.url(CHAT), Some(&token), &ask("x")).unwrap();
        assert_eq!(world.send(Protocol::Http1, request).await.status, 200, "{claims}");
    }
}

#[tokio::test]
async fn place_17_no_header_says_who_or_where_a_caller_is() {
    let world = World::adjusted(good(), limits(), |settings, _| {
        rule(settings, |rule| rule.from = Some(vec![name("far")]))
    })
    .await;
    for header in [
        "x-forwarded-for",
        "x_forwarded_for",
        "x-real-ip",
        "forwarded",
        "x-client-cert",
        "x_user",
        "x-forwarded-user",
    ] {
        let mut request = json_request(&world.url(CHAT), Some(&world.token()), &ask("x")).unwrap();
        request.headers_mut().insert(header, "192.0.2.7".parse().unwrap());
        let answer = world.send(Protocol::Http1, request).await;
        assert_eq!(said(&answer), (403, "caller-region-not-allowed".to_owned()), "{header}");
    }
    let world = World::new(good()).await;
    let mut request = json_request(&world.url(CHAT), Some(&world.token()), &ask("x")).unwrap();
    for header in ["x-forwarded-user", "x_forwarded_user", "cookie", "x-api-key", "x-request-id"] {
        request.headers_mut().insert(header, "ada@example.com".parse().unwrap());
    }
    let answer = world.send(Protocol::Http1, request).await;
    assert_eq!(answer.status, 200);
    let seen = &world.model.seen()[0];
    assert!(!seen.head.contains("ada"), "{}", seen.head);
    for upstream in ["server", "via", "x-powered-by", "openai-organization"] {
        assert!(
            !answer.headers.contains_key(upstream),
            "the answer does not name what is behind it: {upstream}"
        );
    }
}

#[tokio::test]
async fn place_18_who_is_named_in_a_body_is_taken_out_or_given_a_pseudonym() {
    let mut body = ask("x");
    body["user"] = "ada@example.com".into();
    body["safety_identifier"] = "ada@example.com".into();
    body["metadata"] = json!({"user_id": "ada@example.com", "tenant": "acme", "kept": "k"});
    let fields = vec![vec!["metadata".to_owned(), "tenant".to_owned()]];
    for pseudonym in [None, Some(PseudonymKey([7; 32]))] {
        let named = pseudonym.is_some();
        let identity = IdentityFields { pseudonym, fields: fields.clone() };
        let world = World::adjusted(good(), limits(), |settings, _| settings.proxy.identity = identity).await;
        assert_eq!(world.chat(Protocol::Http1, &body).await.status, 200);
        let seen = world.model.seen().remove(0).body;
        assert!(!seen.contains("ada@") && !seen.contains("acme") && seen.contains("kept"), "{seen}");
        let sent: Value = serde_json::from_str(&seen).unwrap();
        assert_eq!(sent["user"].is_string(), named);
        assert_eq!(sent["user"], sent["safety_identifier"], "the same person, the same name");
    }
}

#[tokio::test]
async fn what_a_rule_limits_is_refused_with_429_and_when_to_come_again() {
    let requests = RuleLimits { requests_per_minute: Some(1), ..RuleLimits::default() };
    let tokens = RuleLimits { tokens_per_minute: Some(50), ..RuleLimits::default() };
    let day = RuleLimits { tokens_per_day: Some(50), ..RuleLimits::default() };
    for (limits_of_rule, code) in
        [(requests, "request-limit"), (tokens, "token-limit"), (day, "daily-token-limit")]
    {
        let world = limited(limits_of_rule, good()).await;
        assert_eq!(
            world.chat(Protocol::Http1, &ask("x")).await.status,
            200,
            "100 tokens, by the model's own word"
        );
        let answer = world.chat(Protocol::Http1, &ask("x")).await;
        assert_eq!(said(&answer), (429, code.to_owned()));
        assert_eq!(answer.json()["error"]["type"], "rate_limit_error", "the API's own word for it");
        let seconds: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=86_400).contains(&seconds), "{code}: {seconds}");
        let other =
            Wish { subject: "caller-2".into(), groups: Some(vec!["ml-analysts".into()]), ..Wish::default() };
        let request = json_request(&world.url(CHAT), Some(&world.token_of(&other)), &ask("x")).unwrap();
        assert_eq!(world.send(Protocol::Http1, request).await.status, 200, "another caller has its own");
        assert_eq!(world.recorded("denied", 1).await[0]["reason"], code);
        world.reload(|settings, _| rule(settings, |rule| rule.limits = limits_of_rule));
        assert_eq!(world.chat(Protocol::Http1, &ask("x")).await.status, 429, "a reload forgets nothing");
    }
}

#[tokio::test]
async fn an_answer_s_length_is_bounded_whether_the_caller_says_it_or_not() {
    let world = limited(RuleLimits { max_tokens: Some(64), ..RuleLimits::default() }, good()).await;
    let mut body = ask("x");
    assert_eq!(world.chat(Protocol::Http1, &body).await.status, 200);
    assert!(world.model.seen()[0].body.contains(r#""max_tokens":64"#), "{}", world.model.seen()[0].body);
    body["max_completion_tokens"] = 65.into();
    assert_eq!(said(&world.chat(Protocol::Http1, &body).await), (413, "max-tokens-exceeded".to_owned()));
}

#[tokio::test]
async fn streams_at_once_are_counted_until_they_end() {
    let script = vec![stream_head(), chunk(event("one ").as_bytes()), Step::Hang];
    let world = limited(RuleLimits { streams: Some(1), ..RuleLimits::default() }, script).await;
    let request = || json_request(&world.url(CHAT), Some(&world.token()), &ask_streamed("x")).unwrap();
    let (caller, first) = (world.caller(Protocol::Http1), request());
    let holding = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            drop(tokio::time::timeout(Duration::from_millis(800), caller.exchange(first)).await)
        });
    });
    world.model.reached(1).await;
    assert_eq!(said(&world.send(Protocol::Http1, request()).await), (429, "stream-limit".to_owned()));
    tokio::task::spawn_blocking(|| holding.join().unwrap()).await.unwrap();
    world.recorded("outcome", 1).await;
    let (caller, second) = (world.caller(Protocol::Http1), request());
    let again = tokio::time::timeout(Duration::from_millis(500), caller.exchange(second)).await;
    assert!(again.is_err(), "the place is free again: this one streams");
}

#[tokio::test]
async fn who_is_removed_is_cut_where_the_policy_says_so_and_the_record_says_why() {
    for (on_removal, cut) in [(OnRemoval::Cut, true), (OnRemoval::Finish, false)] {
        let script = vec![
            stream_head(),
            chunk(event("one two three ").as_bytes()),
            Step::Pause(Duration::from_millis(1200)),
            chunk(b"data: [DONE]\n\n"),
            crate::model::stream_end(),
        ];
        let world = World::new(script).await;
        let request = json_request(&world.url(CHAT), Some(&world.token()), &ask_streamed("x")).unwrap();
        let caller = world.caller(Protocol::Http2);
        let asked = tokio::spawn(async move { caller.exchange(request).await.unwrap() });
        world.model.reached(1).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        // First one that still admits the caller, then one that does not.
        world.reload(|settings, _| settings.proxy.on_removal = on_removal);
        tokio::time::sleep(Duration::from_millis(100)).await;
        world.reload(|settings, _| {
            settings.proxy.on_removal = on_removal;
            rule(settings, |rule| rule.groups = Some(vec!["others".into()]));
        });
        let answer = asked.await.unwrap();
        let text = String::from_utf8(answer.body()).unwrap();
        let outcome = world.recorded("outcome", 1).await.remove(0);
        assert_eq!(text.contains("access-removed"), cut, "{text}");
        assert_eq!(text.contains("[DONE]"), !cut, "{text}");
        assert_eq!(outcome["outcome"], if cut { "cancelled" } else { "complete" });
        assert_eq!(outcome["reason"].as_str(), cut.then_some("access-removed"));
        assert_eq!(
            world.recorded("admit", 1).await[0]["policy"],
            "0123456789abcdef",
            "the policy that it began with"
        );
        assert_eq!(
            said(&world.chat(Protocol::Http1, &ask("x")).await),
            (403, "group-not-allowed".to_owned())
        );
    }
}

pub(crate) fn clients(directory: &Path, require: bool, identify: bool) -> Option<ClientCertificates> {
    Some(ClientCertificates { authorities: directory.join("ca.pem"), revoked: None, require, identify })
}

#[tokio::test]
async fn a_client_certificate_is_a_second_factor_where_a_rule_asks_for_one() {
    let world = World::adjusted(good(), limits(), |settings, directory| {
        settings.proxy.clients = clients(directory, false, false);
        rule(settings, |rule| {
            rule.certificates = Some(vec![CertificateName::new("spiffe://example.eu/ml/*")])
        });
    })
    .await;
    let own = world.authority.issue_client(&["spiffe://example.eu/ml/batch"]).unwrap();
    let other = world.authority.issue_client(&["spiffe://example.eu/web/shop"]).unwrap();
    let stranger = bailiwick_tests::authority::Authority::new("test root").unwrap();
    let forged = stranger.issue_client(&["spiffe://example.eu/ml/batch"]).unwrap();
    let request = |token: Option<&str>| json_request(&world.url(CHAT), token, &ask("x")).unwrap();
    let token = world.token();
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let caller = world.caller(protocol).showing(own.clone());
        assert_eq!(caller.exchange(request(Some(&token))).await.unwrap().status, 200);
        assert_eq!(
            said(&caller.exchange(request(None)).await.unwrap()).1,
            "no-credentials",
            "not enough alone"
        );
        let answer = world.caller(protocol).exchange(request(Some(&token))).await.unwrap();
        assert_eq!(said(&answer), (403, "certificate-not-allowed".to_owned()), "the token alone");
        let answer =
            world.caller(protocol).showing(other.clone()).exchange(request(Some(&token))).await.unwrap();
        assert_eq!(said(&answer), (403, "certificate-not-allowed".to_owned()), "another's certificate");
        assert!(
            world.caller(protocol).showing(forged.clone()).exchange(request(Some(&token))).await.is_err()
        );
    }
}

#[tokio::test]
async fn a_client_certificate_alone_is_an_identity_where_the_config_says_so() {
    let world = World::adjusted(good(), limits(), |settings, directory| {
        settings.proxy.clients = clients(directory, true, true);
        rule(settings, |rule| {
            rule.groups = None;
            rule.issuer = Some(bailiwick_policy::Principal::BY_CERTIFICATE.into());
        });
    })
    .await;
    let own = world.authority.issue_client(&["spiffe://example.eu/ml/batch"]).unwrap();
    let request = |token: Option<&str>| json_request(&world.url(CHAT), token, &ask("x")).unwrap();
    let caller = world.caller(Protocol::Http1).showing(own);
    assert_eq!(caller.exchange(request(None)).await.unwrap().status, 200);
    let token = world.token();
    let answer = caller.exchange(request(Some(&token))).await.unwrap();
    assert_eq!(answer.status, 403, "with a token it is the token's subject who calls: {:?}", said(&answer));
    assert!(
        world.caller(Protocol::Http1).exchange(request(None)).await.is_err(),
        "no connection without one"
    );
    let admitted = world.recorded("admit", 1).await.remove(0);
    assert_eq!(admitted["issuer"], "client-certificate");
    assert!(!world.everything_on_disk().contains("spiffe://"), "its name stays out of the trail");
}

//! Callers' tokens against a real issuer over TLS: who is trusted to say where the keys are.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed, in its helpers too")]

use bailiwick::config::settings;
use bailiwick::identity::{Authenticator, Shown, Timing};
use bailiwick_policy::Name;
use bailiwick_tests::authority::Authority;
use bailiwick_tests::issuer::{Algorithm, Issuer, Plan, Wish};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use std::path::Path;
use std::time::Duration;

fn start(authority: &Authority, names: &[&str]) -> Issuer {
    Issuer::start(Plan {
        listen: "127.0.0.1:0".parse().unwrap(),
        namespace: None,
        identity: Some(authority.issue(names).unwrap()),
        algorithms: vec![Algorithm::Es256],
        clients: vec![],
    })
    .unwrap()
}

fn trusting(issuer: &Issuer, ca: &Path) -> Authenticator {
    let settings = settings::Issuer {
        ca: Some(ca.to_path_buf()),
        leeway: 5,
        ..settings::Issuer::new(issuer.url(), "bailiwick", Name::new("eu").unwrap())
    };
    let timing = Timing {
        debounce: Duration::from_millis(100),
        retry: Duration::from_millis(100),
        ..Timing::default()
    };
    Authenticator::with_timing(vec![settings], timing)
}

async fn code(authenticator: &Authenticator, issuer: &Issuer) -> &'static str {
    let token = issuer.mint(&Wish::default()).unwrap();
    let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
    match authenticator
        .authenticate(&HeaderMap::from_iter([(AUTHORIZATION, value)]), Shown::Token, None)
        .await
    {
        Ok(principal) => {
            assert_eq!((principal.issuer.as_str(), principal.subject.as_str()), (issuer.url(), "caller-1"));
            "ok"
        }
        Err(error) => error.code,
    }
}

#[tokio::test]
async fn keys_come_over_tls_from_who_the_ca_vouches_for() {
    let directory = tempfile::tempdir().unwrap();
    let (ours, other) = (Authority::new("ours").unwrap(), Authority::new("other").unwrap());
    let (our_ca, other_ca) = (directory.path().join("ours.pem"), directory.path().join("other.pem"));
    std::fs::write(&our_ca, ours.certificate()).unwrap();
    std::fs::write(&other_ca, other.certificate()).unwrap();

    let issuer = start(&ours, &["127.0.0.1"]);
    assert!(issuer.url().starts_with("https://"));
    assert_eq!(code(&trusting(&issuer, &our_ca), &issuer).await, "ok");
    assert_eq!(code(&trusting(&issuer, &other_ca), &issuer).await, "issuer-unavailable", "another authority");
    let nowhere = directory.path().join("nowhere.pem");
    assert_eq!(
        code(&trusting(&issuer, &nowhere), &issuer).await,
        "issuer-unavailable",
        "no authority at all"
    );

    let elsewhere = start(&ours, &["192.0.2.1"]);
    let authenticator = trusting(&elsewhere, &our_ca);
    assert_eq!(
        code(&authenticator, &elsewhere).await,
        "issuer-unavailable",
        "a certificate for another address"
    );
}

#[tokio::test]
async fn trust_that_is_mended_on_disk_is_seen_without_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let ours = Authority::new("ours").unwrap();
    let ca = directory.path().join("ca.pem");
    let issuer = start(&ours, &["127.0.0.1"]);
    let authenticator = trusting(&issuer, &ca);
    assert_eq!(code(&authenticator, &issuer).await, "issuer-unavailable");
    std::fs::write(&ca, ours.certificate()).unwrap();
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(code(&authenticator, &issuer).await, "ok");
}

#[tokio::test]
async fn rotation_needs_no_restart() {
    let directory = tempfile::tempdir().unwrap();
    let ours = Authority::new("ours").unwrap();
    let ca = directory.path().join("ca.pem");
    std::fs::write(&ca, ours.certificate()).unwrap();
    let issuer = start(&ours, &["127.0.0.1"]);
    let authenticator = trusting(&issuer, &ca);
    assert_eq!(code(&authenticator, &issuer).await, "ok");
    let before = issuer.asked();
    assert_eq!(code(&authenticator, &issuer).await, "ok");
    assert_eq!(issuer.asked(), before, "keys are kept");
    issuer.rotate().unwrap();
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(code(&authenticator, &issuer).await, "ok", "the new key was fetched");
    assert_eq!(issuer.asked().keys, before.keys + 1, "once");
}

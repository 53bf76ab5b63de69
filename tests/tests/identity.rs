//! Callers' tokens against a real issuer over TLS: who is trusted to say where the keys are.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed, in its helpers too")]

use bailiwick::config::settings;
use bailiwick::identity::{Authenticator, Shown, Timing};
use bailiwick_policy::Name;
use bailiwick_tests::authority::{Authority, Identity};
use bailiwick_tests::caller::Caller;
use bailiwick_tests::issuer::{Algorithm, Issuer, Plan, Wish};
use bailiwick_tests::real::issuer::TokenKind;
use bailiwick_tests::real::{self, Real};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Request};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Stdio};
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
    shown(authenticator, &token, issuer.url(), "caller-1").await
}

/// What becomes of a token; `ok` if it is this subject's.
async fn shown(authenticator: &Authenticator, token: &str, issuer: &str, subject: &str) -> &'static str {
    let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
    match authenticator
        .authenticate(&HeaderMap::from_iter([(AUTHORIZATION, value)]), Shown::Token, None)
        .await
    {
        Ok(principal) => {
            assert_eq!((principal.issuer.as_str(), principal.subject.as_str()), (issuer, subject));
            "ok"
        }
        Err(error) => error.code,
    }
}

/// npm's `oidc-provider`, with keys that it made at its start.
struct Provider(Child);

impl Provider {
    fn start(real: &Real, url: &str, listen: SocketAddr, directory: &Path) -> Self {
        let (certificate, key) = (&directory.join("tls.crt"), &directory.join("tls.key"));
        let issuer = real::issuer::Issuer { url, listen, certificate, key };
        let mut command = real.issuer(&issuer).command();
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("ready"), "{line}");
        Self(child)
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _ended = self.0.wait();
    }
}

/// An access token as a workload gets it.
async fn token(url: &str, authority: &Authority, kind: TokenKind) -> String {
    let asked = kind.request();
    let credential = STANDARD.encode(format!("{}:{}", asked.client, asked.secret));
    let request = Request::post(format!("{url}/token"))
        .header(AUTHORIZATION, format!("Basic {credential}"))
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Bytes::from_static(asked.body.as_bytes()))
        .unwrap();
    let answer = Caller::new(authority.certificate()).exchange(request).await.unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&answer.body()).unwrap();
    answer["access_token"].as_str().unwrap().to_owned()
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

/// Within ten seconds, since it happens in the background.
async fn becomes(authenticator: &Authenticator, token: &str, url: &str, expected: &str) {
    let mut last = "";
    for _ in 0..200 {
        last = shown(authenticator, token, url, "analyst").await;
        if last == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never {expected}, but {last}");
}

#[tokio::test]
async fn a_real_provider_may_be_down_come_back_with_other_keys_and_rotate_them() {
    let real = real::install(&mut |line| eprintln!("{line}")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("ours").unwrap();
    let Identity { certificate, key, .. } = authority.issue(&["127.0.0.1"]).unwrap();
    for (name, text) in [("tls.crt", &certificate), ("tls.key", &key)] {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let ca = directory.path().join("ca.pem");
    std::fs::write(&ca, authority.certificate()).unwrap();
    let listen = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("https://{listen}");
    let start = || Provider::start(&real, &url, listen, directory.path());
    let kinds = [TokenKind::Valid, TokenKind::ValidEs256, TokenKind::ValidEdDsa];

    let provider = start();
    let before = token(&url, &authority, TokenKind::Valid).await;
    drop(provider);
    let settings = settings::Issuer {
        ca: Some(ca),
        refresh: Some(1),
        ..settings::Issuer::new(&url, "bailiwick", Name::new("eu").unwrap())
    };
    let timing = Timing {
        debounce: Duration::from_millis(100),
        retry: Duration::from_millis(100),
        ..Timing::default()
    };
    let authenticator = Authenticator::with_timing(vec![settings], timing);
    authenticator.warm_up();
    assert_eq!(
        shown(&authenticator, &before, &url, "analyst").await,
        "issuer-unavailable",
        "down at the start"
    );

    let provider = start();
    let mut tokens = Vec::new();
    for kind in kinds {
        let token = token(&url, &authority, kind).await;
        becomes(&authenticator, &token, &url, "ok").await;
        tokens.push(token);
    }
    assert_eq!(
        shown(&authenticator, &before, &url, "analyst").await,
        "key-unknown",
        "signed by a key that is gone"
    );

    drop(provider);
    for token in &tokens {
        assert_eq!(shown(&authenticator, token, &url, "analyst").await, "ok", "the last good keys serve");
    }
    let _rotated = start();
    // Nobody shows a new token: what was verified is dropped all the same.
    for old in &tokens {
        becomes(&authenticator, old, &url, "key-unknown").await;
    }
    for kind in kinds {
        let token = token(&url, &authority, kind).await;
        becomes(&authenticator, &token, &url, "ok").await;
    }
    for kind in [TokenKind::Expired, TokenKind::OtherAudience] {
        let token = token(&url, &authority, kind).await;
        assert_ne!(shown(&authenticator, &token, &url, "analyst").await, "ok", "{kind:?}");
    }
}

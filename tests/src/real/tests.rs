//! The real counterparts by themselves, on loopback: what each promises to those who put Bailiwick between them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::client::{Chat, ChatEvent, events};
use super::issuer::{AUDIENCE, Issuer, TokenKind};
use super::model::{ALIAS, ModelServer, prompts};
use super::{Real, installed};

/// A child that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn real() -> Real {
    installed().expect("the real counterparts are not installed: run `cargo xtask setup --real`")
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// A certificate for 127.0.0.1 that is its own authority, and its key.
fn certificate(directory: &Path) -> (PathBuf, PathBuf) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (directory.join("certificate.pem"), directory.join("key.pem"));
    fs::write(&certificate, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (certificate, key)
}

fn curl(arguments: &[&str]) -> Option<String> {
    let output = Command::new("curl")
        .args(["--silent", "--noproxy", "*", "--max-time", "10"])
        .args(arguments)
        .output()
        .expect("curl is not installed: run `cargo xtask setup`");
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

#[test]
fn the_issuer_gives_each_kind_of_token_that_the_story_needs() {
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = certificate(directory.path());
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let url = format!("https://{listen}");
    let launch = real().issuer(&Issuer { url: &url, listen, certificate: &certificate, key: &key });
    let mut child = launch.command().stdout(Stdio::piped()).spawn().unwrap();
    let output = child.stdout.take().unwrap();
    let _running = Running(child);
    let ready = BufReader::new(output).lines().next().expect("the issuer ended").unwrap();
    assert_eq!(ready, format!("ready {url}"));

    let authority = certificate.to_str().unwrap();
    let get = |path: &str| -> Value {
        let text =
            curl(&["--cacert", authority, &format!("{url}{path}")]).expect("no answer from the issuer");
        serde_json::from_str(&text).unwrap()
    };
    let discovery = get("/.well-known/openid-configuration");
    assert_eq!(discovery["issuer"], *url);
    assert_eq!(discovery["jwks_uri"], format!("{url}/jwks"));
    assert_eq!(discovery["token_endpoint"], format!("{url}/token"));
    assert_eq!(get("/jwks")["keys"].as_array().unwrap().len(), 3);

    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    let rows = [
        (TokenKind::Valid, AUDIENCE, "ml-analysts", "RS256", true),
        (TokenKind::ValidEs256, AUDIENCE, "ml-analysts", "ES256", true),
        (TokenKind::ValidEdDsa, AUDIENCE, "ml-analysts", "EdDSA", true),
        (TokenKind::OtherGroup, AUDIENCE, "interns", "RS256", true),
        (TokenKind::OtherAudience, "payroll", "ml-analysts", "RS256", true),
        (TokenKind::Expired, AUDIENCE, "ml-analysts", "RS256", false),
    ];
    for (kind, audience, group, algorithm, fresh) in rows {
        let request = kind.request();
        let user = format!("{}:{}", request.client, request.secret);
        let endpoint = format!("{url}/token");
        let answer =
            curl(&["--cacert", authority, "--user", &user, "--data", request.body, &endpoint]).unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let token = answer["access_token"].as_str().unwrap_or_else(|| panic!("{kind:?}: {answer}"));
        let part = |index: usize| -> Value {
            let part = token.split('.').nth(index).unwrap();
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
        };
        let claims = part(1);
        assert_eq!(part(0)["alg"], algorithm, "{kind:?}");
        assert_eq!(part(0)["typ"], "at+jwt", "{kind:?}: RFC 9068");
        assert_eq!(claims["iss"], *url, "{kind:?}");
        assert_eq!(claims["aud"], audience, "{kind:?}");
        assert_eq!(claims["groups"], serde_json::json!([group]), "{kind:?}");
        assert_eq!(claims["exp"].as_i64().unwrap() > now + 600, fresh, "{kind:?}");
        assert_eq!(claims["exp"].as_i64().unwrap() < now - 600, !fresh, "{kind:?}: past any leeway");
    }
}

#[test]
fn the_model_server_streams_to_the_client_and_shows_what_the_model_saw() {
    let real = real();
    let directory = tempfile::tempdir().unwrap();
    let (authority, _) = certificate(directory.path());
    let api_key_file = directory.path().join("api-key");
    fs::write(&api_key_file, "model-key").unwrap();
    let seen = directory.path().join("prompts");
    fs::create_dir(&seen).unwrap();
    let port = free_port();
    let server = ModelServer {
        address: Ipv4Addr::LOCALHOST.into(),
        port,
        api_key_file: &api_key_file,
        prompts: &seen,
        threads: 1,
    };
    let log = fs::File::create(directory.path().join("log")).unwrap();
    let launch = real.model_server(&server).unwrap();
    let _running = Running(launch.command().stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());

    let health = format!("http://127.0.0.1:{port}/health");
    let since = Instant::now();
    while curl(&["--fail", &health]).is_none() {
        let log = || fs::read_to_string(directory.path().join("log")).unwrap();
        assert!(since.elapsed() < Duration::from_secs(60), "the model server is not ready: {}", log());
        thread::sleep(Duration::from_millis(100));
    }

    let base_url = format!("http://127.0.0.1:{port}/v1");
    let prompt = "The capital of France is";
    let chat = |token| {
        let chat =
            Chat { base_url: &base_url, authority: &authority, token, model: ALIAS, prompt, max_tokens: 8 };
        let output = real.chat(&chat).command().output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), events(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
    };

    let (status, answer) = chat("model-key");
    assert_eq!(status, Some(0), "{answer:?}");
    let chunks = answer.iter().filter(|event| matches!(event, ChatEvent::Chunk { .. })).count();
    assert!(chunks >= 2, "it streams: {answer:?}");
    let Some(ChatEvent::End { total_tokens: Some(_), .. }) = answer.last() else {
        panic!("usage comes last: {answer:?}")
    };
    let prompts = prompts(&seen).unwrap();
    assert!(matches!(&prompts[..], [only] if only.contains(prompt)), "{prompts:?}");

    for (token, why) in [("caller-token", "the credential is the model's own"), ("", "and there must be one")]
    {
        let (status, answer) = chat(token);
        assert_eq!(status, Some(3), "{why}: {answer:?}");
        let [ChatEvent::Refused { exception, status: Some(401), .. }] = &answer[..] else {
            panic!("{why}: {answer:?}")
        };
        assert_eq!(exception, "AuthenticationError", "{why}");
    }
    let prompts = super::model::prompts(&seen).unwrap();
    assert_eq!(prompts.len(), 1, "a refused caller's prompt reaches no model");
}

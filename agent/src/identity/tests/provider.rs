//! A small issuer: discovery, keys and introspection over plain HTTP on loopback.

use super::NOW;
use crate::config::settings::Issuer;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Discovery and keys over plain HTTP on loopback.
pub(super) struct Provider {
    pub(super) url: String,
    pub(super) keys: Mutex<Vec<Value>>,
    pub(super) up: AtomicBool,
    fetches: AtomicUsize,
    pub(super) claims_to_be: Mutex<Option<String>>,
    /// What it says of opaque tokens (RFC 7662).
    pub(super) opaque: Mutex<Vec<(&'static str, Value)>>,
    pub(super) introspections: AtomicUsize,
}

impl Provider {
    pub(super) async fn start(keys: Vec<Value>) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let provider = Arc::new(Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            keys: Mutex::new(keys),
            up: AtomicBool::new(true),
            fetches: AtomicUsize::new(0),
            claims_to_be: Mutex::default(),
            opaque: Mutex::default(),
            introspections: AtomicUsize::new(0),
        });
        let serving = Arc::clone(&provider);
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                if !serving.up.load(Ordering::SeqCst) {
                    continue;
                }
                let mut request = Vec::new();
                while !is_whole(&request) {
                    if socket.read_buf(&mut request).await.unwrap_or(0) == 0 {
                        break;
                    }
                }
                let body = serving.answer(&String::from_utf8_lossy(&request)).to_string();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                let _gone = socket.write_all(answer.as_bytes()).await;
            }
        });
        provider
    }

    fn answer(&self, request: &str) -> Value {
        if request.starts_with("GET /keys ") {
            self.fetches.fetch_add(1, Ordering::SeqCst);
            return json!({"keys": *self.keys.lock().unwrap()});
        }
        if request.starts_with("POST /introspect ") {
            self.introspections.fetch_add(1, Ordering::SeqCst);
            // bailiwick:s%2Bcret
            assert!(request.contains("authorization: Basic YmFpbGl3aWNrOnMlMkJjcmV0"), "{request}");
            let (_, form) = request.split_once("\r\n\r\n").unwrap();
            let known = self.opaque.lock().unwrap();
            let found =
                known.iter().find(|(token, _)| form == format!("token_type_hint=access_token&token={token}"));
            return found.map_or_else(|| json!({"active": false}), |(_, says)| says.clone());
        }
        assert!(request.starts_with("GET /.well-known/openid-configuration "), "{request}");
        let issuer = self.claims_to_be.lock().unwrap().clone().unwrap_or_else(|| self.url.clone());
        json!({"issuer": issuer, "jwks_uri": format!("{}/keys", self.url),
            "introspection_endpoint": format!("{}/introspect", self.url)})
    }

    pub(super) fn issuer(&self) -> Issuer {
        let region = bailiwick_policy::Name::new("eu").unwrap();
        Issuer { leeway: 30, ..Issuer::new(&self.url, "bailiwick", region) }
    }

    pub(super) fn claims(&self) -> Value {
        json!({"iss": self.url, "sub": "ada", "aud": "bailiwick", "exp": NOW + 300, "groups": ["ml"]})
    }

    pub(super) fn fetched(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }
}

/// Whether all of a request has come, its body included.
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.is_none_or(|length| body.len() >= length.parse().unwrap())
}

//! The issuer's HTTP side.

use super::{Shared, Wish};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

/// Serves until dropped.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    shared: Arc<Shared>,
) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (shared, tls) = (Arc::clone(&shared), tls.clone());
        connections.spawn(async move {
            let service = service_fn(|request| {
                let shared = Arc::clone(&shared);
                async move { Ok::<_, Infallible>(shared.answer(request).await) }
            });
            let http = hyper::server::conn::http1::Builder::new();
            // A peer may leave at any time, before TLS is up or after: nobody is interested.
            match tls {
                None => drop(http.serve_connection(TokioIo::new(stream), service).await),
                Some(config) => {
                    if let Ok(stream) = tokio_rustls::TlsAcceptor::from(config).accept(stream).await {
                        drop(http.serve_connection(TokioIo::new(stream), service).await);
                    }
                }
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        match (&parts.method, parts.uri.path()) {
            (&Method::GET, "/.well-known/openid-configuration") => {
                self.discovery.fetch_add(1, Ordering::Relaxed);
                reply(StatusCode::OK, &self.metadata())
            }
            (&Method::GET, "/jwks") => {
                self.key_sets.fetch_add(1, Ordering::Relaxed);
                let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
                let public: Vec<&Value> = keys.iter().map(super::SigningKey::public).collect();
                reply(StatusCode::OK, &json!({"keys": public}))
            }
            (&Method::POST, "/token") => {
                self.tokens.fetch_add(1, Ordering::Relaxed);
                let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
                self.token(&body)
            }
            _ => reply(StatusCode::NOT_FOUND, &json!({"error": "not_found"})),
        }
    }

    fn metadata(&self) -> Value {
        let algorithms: Vec<&str> = self.algorithms.iter().map(|algorithm| algorithm.name()).collect();
        json!({
            "issuer": self.url,
            "jwks_uri": format!("{}/jwks", self.url),
            "token_endpoint": format!("{}/token", self.url),
            "authorization_endpoint": format!("{}/authorize", self.url),
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": algorithms,
            "grant_types_supported": ["client_credentials"],
            "token_endpoint_auth_methods_supported": ["client_secret_post"],
        })
    }

    /// `client_credentials`; `resource` (RFC 8707) or `audience` names the audience.
    fn token(&self, form: &[u8]) -> Response<Full<Bytes>> {
        let form = String::from_utf8_lossy(form).into_owned();
        let field = |wanted: &str| {
            let pairs = form.split('&').filter_map(|pair| pair.split_once('='));
            pairs.filter(|(name, _)| *name == wanted).map(|(_, value)| decoded(value)).next()
        };
        if field("grant_type").as_deref() != Some("client_credentials") {
            return reply(StatusCode::BAD_REQUEST, &json!({"error": "unsupported_grant_type"}));
        }
        let (id, secret) =
            (field("client_id").unwrap_or_default(), field("client_secret").unwrap_or_default());
        let Some(client) = self.clients.iter().find(|client| client.id == id && client.secret == secret)
        else {
            return reply(StatusCode::UNAUTHORIZED, &json!({"error": "invalid_client"}));
        };
        let audience = field("resource").or_else(|| field("audience"));
        let wish = Wish {
            subject: client.id.clone(),
            groups: Some(client.groups.clone()),
            audience,
            ..Wish::default()
        };
        match self.mint(&wish) {
            Ok(token) => {
                let body =
                    json!({"access_token": token, "token_type": "Bearer", "expires_in": wish.lifetime});
                reply(StatusCode::OK, &body)
            }
            Err(_) => reply(StatusCode::INTERNAL_SERVER_ERROR, &json!({"error": "server_error"})),
        }
    }
}

fn reply(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut reply = Response::new(Full::from(body.to_string()));
    *reply.status_mut() = status;
    let json = http::HeaderValue::from_static("application/json");
    reply.headers_mut().insert(http::header::CONTENT_TYPE, json);
    reply
}

/// One value of a form body (application/x-www-form-urlencoded): `+` is a space, `%XX` a byte.
fn decoded(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        let escaped = (*first == b'%')
            .then(|| tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok()))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (first, escaped) {
            (_, Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            (b'+', None) => bytes.push(b' '),
            (other, None) => bytes.push(*other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn form_values_are_decoded() {
        let rows = [
            ("a+b", "a b", "plus is a space"),
            ("a%20b%2f", "a b/", "escapes"),
            ("100%", "100%", "a lone percent sign stays"),
        ];
        for (value, expected, reason) in rows {
            assert_eq!(decoded(value), expected, "{reason}");
        }
    }
}

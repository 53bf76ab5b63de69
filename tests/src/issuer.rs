//! A small OIDC issuer: discovery, keys, a token endpoint, and tokens with any claims a test can think of.
//!
//! ```text
//!   GET  /.well-known/openid-configuration    OpenID Connect Discovery 1.0, section 4
//!   GET  /jwks                                RFC 7517
//!   POST /token                               client_credentials (RFC 6749, section 4.4)
//!   mint(wish)                                no HTTP: the test asks the object
//! ```
//!
//! It listens over http on a loopback address or over https anywhere, on a thread of its own, in a network
//! namespace if told. Signing keys live in memory; [`Issuer::rotate`] retires them all. It counts what it is asked, so
//! that a test can tell a cached key from a fetched one. It has no users, no browser flows and no refresh tokens.

mod keys;
mod service;

pub use keys::{Algorithm, KeyError};

use crate::authority::{AuthorityError, Identity};
use crate::net_namespace::NetNamespace;
use keys::SigningKey;
use serde_json::{Map, Value, json};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::oneshot;

/// How an issuer is set up.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The namespace it listens in; `None` means where the process is.
    pub namespace: Option<NetNamespace>,
    /// Serves https with this identity; `None` serves http.
    pub identity: Option<Identity>,
    /// The signing keys it has, the first of them is the default.
    pub algorithms: Vec<Algorithm>,
    /// Who may ask at the token endpoint.
    pub clients: Vec<Client>,
}

/// A client of the token endpoint.
#[derive(Clone, Debug)]
pub struct Client {
    /// `client_id`, also `sub` of its tokens.
    pub id: String,
    /// `client_secret`.
    pub secret: String,
    /// The groups in its tokens.
    pub groups: Vec<String>,
}

/// A token to be made. The default is one that a well-meaning config accepts, save for groups and audience.
#[derive(Clone, Debug)]
pub struct Wish {
    /// `sub`.
    pub subject: String,
    /// `groups`; `None` leaves the claim out.
    pub groups: Option<Vec<String>>,
    /// `aud`; `None` leaves the claim out.
    pub audience: Option<String>,
    /// Seconds from now to `exp`; negative for a token that has expired.
    pub lifetime: i64,
    /// With which key; `None` means the first.
    pub algorithm: Option<Algorithm>,
    /// Signs with a key that is not in the issuer's set, under the key id of one that is.
    pub forged: bool,
    /// More claims, over those above; `null` removes one.
    pub claims: Map<String, Value>,
}

impl Default for Wish {
    fn default() -> Self {
        Self {
            subject: "caller-1".into(),
            groups: None,
            audience: Some("bailiwick".into()),
            lifetime: 300,
            algorithm: None,
            forged: false,
            claims: Map::new(),
        }
    }
}

/// Why an issuer does not come to be, or a token is not made.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// It cannot listen.
    #[error("the issuer cannot listen on {at}: {source}")]
    Listen {
        /// Where.
        at: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Its thread cannot start.
    #[error("the issuer cannot start: {0}")]
    Start(#[from] io::Error),
    /// A key cannot be made or used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Its identity cannot be used.
    #[error(transparent)]
    Identity(#[from] AuthorityError),
    /// It has no key of this algorithm.
    #[error("the issuer has no key for {0:?}; name it in its plan")]
    NoKey(Algorithm),
}

/// What it was asked, so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Times the discovery document was fetched.
    pub discovery: u64,
    /// Times the key set was fetched.
    pub keys: u64,
    /// Times a token was asked for.
    pub tokens: u64,
}

/// A running issuer. It stops when dropped.
#[derive(Debug)]
pub struct Issuer {
    shared: Arc<Shared>,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    url: String,
    algorithms: Vec<Algorithm>,
    keys: Mutex<Vec<SigningKey>>,
    generation: AtomicU64,
    clients: Vec<Client>,
    discovery: AtomicU64,
    key_sets: AtomicU64,
    tokens: AtomicU64,
}

impl Issuer {
    /// Starts an issuer and waits until it accepts connections.
    ///
    /// # Errors
    /// [`IssuerError`]
    pub fn start(plan: Plan) -> Result<Self, IssuerError> {
        let at = plan.listen;
        let failed = |source| IssuerError::Listen { at, source };
        let bind = || std::net::TcpListener::bind(at);
        let listener = match &plan.namespace {
            Some(namespace) => namespace.run(bind).and_then(|bound| bound),
            None => bind(),
        };
        let listener = listener.map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let tls = plan.identity.as_ref().map(|identity| identity.server(&["http/1.1"])).transpose()?;
        let algorithms =
            if plan.algorithms.is_empty() { vec![Algorithm::Es256] } else { plan.algorithms.clone() };
        let shared = Arc::new(Shared {
            url: url(address, tls.is_some()),
            keys: Mutex::new(keys_of(&algorithms, 1)?),
            algorithms,
            generation: AtomicU64::new(1),
            clients: plan.clients,
            discovery: AtomicU64::new(0),
            key_sets: AtomicU64::new(0),
            tokens: AtomicU64::new(0),
        });
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let serving = Arc::clone(&shared);
        // The listening socket carries its namespace, and accepted ones inherit it: the thread need not enter.
        let thread = std::thread::Builder::new().name("issuer".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    () = service::serve(listener, tls, serving) => {}
                }
            });
        })?;
        Ok(Self { shared, address, stop: Some(stop), thread: Some(thread) })
    }

    /// Exactly what stands in `iss`: without a default port, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.shared.url
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes a token.
    ///
    /// # Errors
    /// When it has no key of the algorithm.
    pub fn mint(&self, wish: &Wish) -> Result<String, IssuerError> {
        self.shared.mint(wish)
    }

    /// The first key's public half, as PEM (RFC 7468), for who cannot read a key set.
    #[must_use]
    pub fn public_key_pem(&self) -> String {
        self.keys().first().map(|key| key.public_pem().to_owned()).unwrap_or_default()
    }

    /// The key set, as it would be fetched (RFC 7517).
    #[must_use]
    pub fn key_set(&self) -> Value {
        json!({ "keys": self.keys().iter().map(SigningKey::public).collect::<Vec<_>>() })
    }

    fn keys(&self) -> std::sync::MutexGuard<'_, Vec<SigningKey>> {
        self.shared.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Retires every key and makes new ones with new key ids.
    ///
    /// # Errors
    /// When a key cannot be made.
    pub fn rotate(&self) -> Result<(), IssuerError> {
        let generation = self.shared.generation.fetch_add(1, Ordering::Relaxed) + 1;
        *self.shared.keys.lock().unwrap_or_else(PoisonError::into_inner) =
            keys_of(&self.shared.algorithms, generation)?;
        Ok(())
    }

    /// What it was asked so far.
    #[must_use]
    pub fn asked(&self) -> Asked {
        Asked {
            discovery: self.shared.discovery.load(Ordering::Relaxed),
            keys: self.shared.key_sets.load(Ordering::Relaxed),
            tokens: self.shared.tokens.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        let _told = self.stop.take().map(|stop| stop.send(()));
        let _ended = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

impl Shared {
    fn mint(&self, wish: &Wish) -> Result<String, IssuerError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        // A token that has expired was issued before it did.
        let issued = now.min(now + wish.lifetime) - 1;
        let mut claims = Map::new();
        claims.insert("iss".into(), json!(self.url));
        claims.insert("sub".into(), json!(wish.subject));
        claims.insert("iat".into(), json!(issued));
        claims.insert("exp".into(), json!(now + wish.lifetime));
        if let Some(audience) = &wish.audience {
            claims.insert("aud".into(), json!(audience));
        }
        if let Some(groups) = &wish.groups {
            claims.insert("groups".into(), json!(groups));
        }
        for (name, value) in &wish.claims {
            if value.is_null() {
                claims.remove(name);
            } else {
                claims.insert(name.clone(), value.clone());
            }
        }
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let key = match wish.algorithm {
            Some(wanted) => {
                keys.iter().find(|key| key.algorithm == wanted).ok_or(IssuerError::NoKey(wanted))?
            }
            None => keys.first().ok_or(IssuerError::NoKey(Algorithm::Es256))?,
        };
        if wish.forged {
            return Ok(SigningKey::new(key.algorithm, &key.id)?.sign(&claims)?);
        }
        Ok(key.sign(&claims)?)
    }
}

fn keys_of(algorithms: &[Algorithm], generation: u64) -> Result<Vec<SigningKey>, KeyError> {
    let id = |algorithm: &Algorithm| format!("{}-{generation}", algorithm.name().to_lowercase());
    algorithms.iter().map(|algorithm| SigningKey::new(*algorithm, &id(algorithm))).collect()
}

fn url(address: SocketAddr, secure: bool) -> String {
    let (scheme, default) = if secure { ("https", 443) } else { ("http", 80) };
    if address.port() != default {
        return format!("{scheme}://{address}");
    }
    match address {
        SocketAddr::V4(v4) => format!("{scheme}://{}", v4.ip()),
        SocketAddr::V6(v6) => format!("{scheme}://[{}]", v6.ip()),
    }
}

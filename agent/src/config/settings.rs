//! What a config means once it has compiled: only [`super::compile()`] makes these.

use crate::preflight::Weakness;
use bailiwick_kernel::Rules;
use bailiwick_masking::Mask;
use bailiwick_policy::{AccessPolicy, Name, RegionTable};
use bailiwick_regions::Metadata;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use time::Date;

/// A whole config, compiled: the one immutable policy that both the proxy and the kernel are given.
#[derive(Debug)]
pub struct Settings {
    /// SHA-256 of the file, hex, first 16 digits: names the policy in records and status.
    pub id: String,
    /// The models, by name.
    pub models: BTreeMap<Name, Arc<Model>>,
    /// The proxy.
    pub proxy: Proxy,
    /// The issuers, in the file's order.
    pub issuers: Vec<Issuer>,
    /// The access rules.
    pub access: AccessPolicy,
    /// The masks, by name.
    pub masks: BTreeMap<Name, Arc<Mask>>,
    /// Every region, joined with the datasets.
    pub regions: RegionTable,
    /// Which datasets those are.
    pub datasets: Datasets,
    /// The audit trail.
    pub audit: Audit,
    /// Where health and metrics are told; `None` means nowhere.
    pub metrics: Option<MetricsListener>,
    /// Where traces go; `None` means nowhere.
    pub traces: Option<Traces>,
    /// What the kernel is told; the scope of the agent itself included.
    pub kernel: Rules,
    /// What this host leaves open and the operator accepts; the agent starts all the same.
    pub accepted: Vec<Weakness>,
    /// Things that compile but deserve a word, each a full sentence with its cure.
    pub warnings: Vec<String>,
}

/// The datasets that say in which country an address is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Datasets {
    /// Where they are kept.
    pub directory: PathBuf,
    /// In days: one that is older is stale.
    pub max_age: u32,
    /// What is known of each, by name; empty where no region has countries.
    pub kept: Vec<Metadata>,
}

impl Datasets {
    /// Those that are older than they may be.
    pub fn stale(&self, today: Date) -> impl Iterator<Item = &Metadata> {
        self.kept.iter().filter(move |dataset| dataset.age(today) > self.max_age)
    }

    /// Each with its date and hash, in one line, for the trail.
    #[must_use]
    pub fn provenance(&self) -> String {
        let each = |kept: &Metadata| format!("{} of {} sha256:{}", kept.name, kept.date, kept.sha256);
        self.kept.iter().map(each).collect::<Vec<_>>().join(", ")
    }
}

/// A model server.
#[derive(Debug)]
pub struct Model {
    /// Its name.
    pub name: Name,
    /// The systemd slice it runs in.
    pub slice: String,
    /// Where the proxy dials it.
    pub upstream: ModelAddress,
    /// Which endpoints it has.
    pub server: ServerPreset,
    /// Where its credential is read from; `None` when the server wants none.
    pub credential: Option<PathBuf>,
    /// Further servers of the same model, each guarded as this one.
    pub replicas: Vec<Replica>,
    /// How its servers are asked whether they are well; `None` means that only requests tell.
    pub health: Option<HealthCheck>,
    /// Requests may name URLs that the server fetches, and tools that it runs itself.
    pub fetch_urls: bool,
}

impl Model {
    /// Every server of the model: its own first.
    #[must_use]
    pub fn servers(&self) -> Vec<Replica> {
        let own = Replica {
            name: self.name.clone(),
            slice: self.slice.clone(),
            address: self.upstream.clone(),
            credential: self.credential.clone(),
            backup: false,
        };
        std::iter::once(own).chain(self.replicas.iter().cloned()).collect()
    }
}

/// One server of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// What the kernel's scope, the trail and the metrics call it.
    pub name: Name,
    /// The systemd slice it runs in, and nothing else.
    pub slice: String,
    /// Where the proxy dials it.
    pub address: ModelAddress,
    /// Where its credential is read from.
    pub credential: Option<PathBuf>,
    /// Asked only when no other one is well.
    pub backup: bool,
}

/// How a model's servers are asked whether they are well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// Asked for by GET; a status of 200 to 299 is a yes.
    pub path: String,
    /// Between two questions.
    pub interval: Duration,
    /// For an answer.
    pub timeout: Duration,
    /// After so many failures in a row it is down.
    pub fall: u32,
    /// After so many successes in a row it is up again.
    pub rise: u32,
}

/// Where health and metrics are told, without TLS and to whoever asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetricsListener {
    /// A loopback address; another one only with the operator's reason.
    Address(SocketAddr),
    /// A Unix socket, for root and the agent's group.
    Socket(PathBuf),
}

/// Where a model server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelAddress {
    /// On a guarded port: a literal loopback address.
    Port(SocketAddr),
    /// On a Unix socket; then it needs no port, and its slice is sealed whole.
    Socket(PathBuf),
}

/// Where traces go: OTLP over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traces {
    /// `https`, or `http` to a loopback address only; with its path.
    pub endpoint: String,
    /// The region that the agent's own calls to it may go to.
    pub region: Name,
    /// Trust anchors for its TLS certificate, PEM; `None` means the system's.
    pub ca: Option<PathBuf>,
}

/// What a model server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerPreset {
    /// The OpenAI shapes, nothing else.
    OpenAi,
    /// vLLM.
    Vllm,
    /// llama.cpp's server.
    LlamaCpp,
    /// Ollama.
    Ollama,
    /// Hugging Face's text generation inference.
    Tgi,
    /// NVIDIA Triton, and others that speak `KServe`'s inference protocol, version 2.
    Triton,
}

impl ServerPreset {
    /// Each, with its word in the config.
    pub const ALL: [(&'static str, Self); 6] = [
        ("openai", Self::OpenAi),
        ("vllm", Self::Vllm),
        ("llama.cpp", Self::LlamaCpp),
        ("ollama", Self::Ollama),
        ("tgi", Self::Tgi),
        ("triton", Self::Triton),
    ];

    /// As a config writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Vllm => "vllm",
            Self::LlamaCpp => "llama.cpp",
            Self::Ollama => "ollama",
            Self::Tgi => "tgi",
            Self::Triton => "triton",
        }
    }

    /// What a server answers with 200 once it can serve.
    #[must_use]
    pub fn health_path(self) -> &'static str {
        match self {
            // Its API has no other question that costs nothing.
            Self::OpenAi => "/v1/models",
            Self::Vllm | Self::LlamaCpp | Self::Tgi => "/health",
            Self::Ollama => "/api/version",
            Self::Triton => "/v2/health/ready",
        }
    }
}

/// The proxy's listener.
#[derive(Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Where it listens.
    pub listen: SocketAddr,
    /// PEM files.
    pub tls: Tls,
    /// Largest request body in bytes.
    pub max_body: u64,
    /// Client certificates; `None` means that none is asked for.
    pub clients: Option<ClientCertificates>,
    /// What becomes of a request under way whose caller another policy no longer admits.
    pub on_removal: OnRemoval,
    /// What becomes of the members of a request that say who calls.
    pub identity: IdentityFields,
    /// Between the comments that go into a stream of events while the model is silent.
    pub ping: Duration,
}

/// Which client certificates are accepted, and what they are good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificates {
    /// The authorities that they must chain to, PEM.
    pub authorities: PathBuf,
    /// Revocation lists, PEM.
    pub revoked: Option<PathBuf>,
    /// No connection without one.
    pub require: bool,
    /// One alone, without a token, is an identity.
    pub identify: bool,
}

/// What becomes of a request under way whose caller another policy no longer admits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnRemoval {
    /// It goes on to its end.
    #[default]
    Finish,
    /// It is cut, and told why.
    Cut,
}

/// What becomes of the members of a request that say who calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdentityFields {
    /// The key of the pseudonyms that take their place; `None` means that they are taken out.
    pub pseudonym: Option<PseudonymKey>,
    /// More of them: paths of names from the body's root.
    pub fields: Vec<Vec<String>>,
}

/// A key that cannot be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct PseudonymKey(pub [u8; 32]);

impl std::fmt::Debug for PseudonymKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PseudonymKey")
    }
}

/// Certificate chain and key, PEM.
#[derive(Debug, PartialEq, Eq)]
pub struct Tls {
    /// Chain, leaf first.
    pub certificate: PathBuf,
    /// PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

/// An OIDC issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// Exactly as in `iss`; `https`, or `http` to a loopback address only.
    pub url: String,
    /// What `aud` must hold.
    pub audience: String,
    /// The claim with the groups; a dotted path reaches into objects.
    pub groups_claim: String,
    /// The claims that access rules ask for, and no other.
    pub claims: Vec<String>,
    /// The clients whose tokens are accepted (`azp`, `client_id`); `None` means any.
    pub clients: Option<Vec<String>>,
    /// Only tokens that say in their header that they are access tokens (`at+jwt`, RFC 9068).
    pub strict_type: bool,
    /// Only tokens that are bound to a client certificate (RFC 8705).
    pub bound: bool,
    /// The region that the agent's own calls to it may go to.
    pub region: Name,
    /// Extra trust anchors for its TLS certificate, PEM; `None` means the system's.
    pub ca: Option<PathBuf>,
    /// Clock skew allowed on `exp`, `nbf` and `iat`, in seconds.
    pub leeway: u64,
    /// Seconds after which its keys are fetched anew; `None` means an hour.
    pub refresh: Option<u64>,
    /// How it is asked about opaque tokens; `None` means that those are refused.
    pub introspection: Option<Introspection>,
}

impl Issuer {
    /// An issuer with every option at its default.
    #[must_use]
    pub fn new(url: &str, audience: &str, region: Name) -> Self {
        Self {
            url: url.to_owned(),
            audience: audience.to_owned(),
            groups_claim: "groups".to_owned(),
            claims: Vec::new(),
            clients: None,
            strict_type: false,
            bound: false,
            region,
            ca: None,
            leeway: 60,
            refresh: None,
            introspection: None,
        }
    }
}

/// Token introspection (RFC 7662).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introspection {
    /// Where; `None` means where discovery says.
    pub endpoint: Option<String>,
    /// The agent's own client id there.
    pub client: String,
    /// The file with its secret.
    pub secret: PathBuf,
    /// Seconds for which an answer is remembered: so long does a token that was revoked go on.
    pub remember: u64,
}

/// The audit trail.
#[derive(Debug, PartialEq, Eq)]
pub struct Audit {
    /// Owned by the agent, mode 0700.
    pub directory: PathBuf,
    /// The log's C2SP origin.
    pub origin: String,
}

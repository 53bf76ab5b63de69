//! `bailiwick check --explain`: what a caller would get, and why.
//!
//! It asks the same rooms as the proxy does, in the same order: route, identity, policy. The token comes from a file or from
//! standard input, never from an argument, which every user of the host can read. It is not shown, and its subject neither.

use crate::config::settings::Settings;
use crate::identity::{Authenticator, ClientCertificate, Examination, Origin};
use crate::protocol;
use crate::proxy;
use bailiwick_policy::{Ask, Location, Name, Operation, Permit, Principal, RuleLimits};
use http::{Method, Uri};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::json;
use std::fmt::Write as _;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use zeroize::Zeroizing;

/// Longer than any token that is looked at.
const LONGEST_TOKEN: u64 = 64 * 1024;

/// Arguments of `bailiwick check --explain`.
#[derive(Debug, clap::Args)]
pub(super) struct ExplainArgs {
    /// Say what a caller would get, and why, as far as that can be told from here: see --from and --call.
    #[arg(long, requires_all = ["from", "call"])]
    pub(super) explain: bool,
    /// The caller's access token: a file, or - for standard input. Left out: the caller shows none.
    #[arg(long, requires = "explain", value_name = "FILE")]
    token: Option<PathBuf>,
    /// The client certificate that the caller's connection is opened with, PEM. Its chain is not verified here.
    #[arg(long, requires = "explain", value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// The caller's address.
    #[arg(long, requires = "explain", value_name = "ADDRESS")]
    from: Option<IpAddr>,
    /// What is called: an endpoint (chat), or a method and path ("POST /v1/chat/completions").
    #[arg(long, requires = "explain", value_name = "CALL")]
    call: Option<String>,
    /// The model, where the path does not name it and there is more than one.
    #[arg(long, requires = "explain", value_name = "NAME")]
    model: Option<String>,
    /// When (RFC 3339); left out: now.
    #[arg(long, requires = "explain", value_name = "TIME")]
    at: Option<String>,
}

/// What came of it, step by step.
pub(super) struct Explanation {
    steps: Vec<(&'static str, String)>,
    pub(super) admitted: bool,
    status: u16,
    code: String,
}

/// Explains; the error is about an argument that cannot be used.
pub(super) fn explain(args: &ExplainArgs, settings: &Settings) -> Result<Explanation, String> {
    let token = args.token.as_deref().map(read_token).transpose()?;
    let certificate = args.certificate.as_deref().map(read_certificate).transpose()?;
    let now = match &args.at {
        None => OffsetDateTime::now_utc(),
        Some(text) => OffsetDateTime::parse(text, &Rfc3339)
            .map_err(|_| format!("--at {text}: write a time such as 2026-08-24T08:00:00Z"))?,
    };
    let now = u64::try_from(now.unix_timestamp()).map_err(|_| "--at: before 1970".to_owned())?;
    let address = args.from.ok_or("--from: name the caller's address")?;
    let call = args.call.as_deref().ok_or("--call: name an endpoint, or a method and path")?;
    let route = route(call, args.model.as_deref(), settings)?;

    let takes = settings.proxy.clients.as_ref().is_some_and(|clients| clients.identify);
    let authenticator = Authenticator::new(settings.issuers.clone()).taking_certificates(takes);
    let mut explanation = Explanation { steps: Vec::new(), admitted: false, status: 0, code: String::new() };
    if let Err(error) = authenticator.read_secrets() {
        explanation.step("secret", format!("{error}: no opaque token can be asked about"));
    }
    let required = settings.proxy.clients.as_ref().is_some_and(|clients| clients.require);
    if required && certificate.is_none() {
        explanation.step(
            "tls",
            "the connection is refused: no client certificate ([proxy.clients] require)".to_owned(),
        );
        return Ok(explanation);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    let text = token.as_ref().map(|token| token.trim());
    let examined = runtime.block_on(authenticator.examine(text, certificate.as_ref(), now));
    explanation.tell(examined, route, address, now, settings);
    Ok(explanation)
}

impl Explanation {
    fn step(&mut self, what: &'static str, text: String) {
        self.steps.push((what, text));
    }

    fn refuse(&mut self, status: u16, code: &str, message: &str) {
        (self.status, self.code) = (status, code.to_owned());
        self.step("answer", format!("{status} {code}: {message}"));
    }

    fn tell(
        &mut self,
        examined: Examination,
        route: Result<(Name, Operation), proxy::RouteRefusal>,
        address: IpAddr,
        now: u64,
        settings: &Settings,
    ) {
        let issuer = examined.issuer.as_deref().unwrap_or("unknown");
        let origin = match examined.origin {
            Origin::None => "no token of which that could be said".to_owned(),
            Origin::Verified => format!("signed by {issuer}"),
            Origin::Introspected => format!("known to {issuer}, which was asked"),
            Origin::Unchecked => format!(
                "not checked: the keys of {issuer} could not be fetched from here; the rest is what the token claims"
            ),
        };
        self.step("signature", origin);
        let caller = settings.regions.locate(address);
        self.step("address", place(address, &caller));
        let principal = match examined.outcome {
            Ok(principal) => principal,
            Err(error) => return self.refuse(error.status.as_u16(), error.code, &error.message),
        };
        self.step("caller", who(&principal));
        let (model, operation) = match route {
            Ok(route) => route,
            Err(refusal) => return self.refuse(refusal.status, refusal.code, &refusal.message),
        };
        self.step("call", format!("{} of model {model}", operation.as_str()));
        let ask = Ask { model: &model, operation, caller: &caller, now };
        for rule in settings.access.rules() {
            let refusal = rule.refusal(&principal, ask);
            let text = refusal.map_or("matches", |reason| reason.as_str());
            self.step("rule", format!("{}: {text}", rule.name));
            if refusal.is_none() {
                break;
            }
        }
        match settings.access.authorize(&principal, ask) {
            Err(denial) => self.refuse(403, denial.reason.as_str(), &denial.to_string()),
            Ok(permit) => self.admit(&permit, examined.origin),
        }
    }

    fn admit(&mut self, permit: &Permit, origin: Origin) {
        let names = |names: &[Name]| {
            let names: Vec<_> = names.iter().map(Name::as_str).collect();
            if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
        };
        let masks = permit.masks();
        self.step("masks", format!("request: {}; answer: {}", names(&masks.request), names(&masks.response)));
        self.step("limits", limits(permit.limits()));
        let unless = if origin == Origin::Unchecked { ", if the signature is good" } else { "" };
        (self.admitted, self.status, self.code) = (true, 200, "admitted".to_owned());
        self.step("answer", format!("admitted by access rule \"{}\"{unless}", permit.rule()));
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for (what, step) in &self.steps {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{}", super::text::wrapped(&format!("{what:<10} {step}"), 11));
        }
        text
    }

    /// For programs.
    pub(super) fn json(&self) -> serde_json::Value {
        let steps: Vec<_> =
            self.steps.iter().map(|(what, text)| json!({"step": what, "text": text})).collect();
        json!({"admitted": self.admitted, "status": self.status, "code": self.code, "steps": steps})
    }
}

fn place(address: IpAddr, location: &Location) -> String {
    match location {
        Location::Pinned { regions, network } => {
            format!("{address} lies in {}, by {network}", joined(regions))
        }
        Location::Country { country, regions, .. } if regions.is_empty() => {
            format!("{address} lies in {country}, which is in no region")
        }
        Location::Country { country, regions, .. } => {
            format!("{address} lies in {}, by its country {country}", joined(regions))
        }
        Location::Unplaced { reason, .. } => {
            format!("{address} lies in no region that is known ({})", reason.as_str())
        }
    }
}

fn joined(regions: &[Name]) -> String {
    regions.iter().map(Name::as_str).collect::<Vec<_>>().join(", ")
}

/// Groups, claims and names are what rules are written about; the subject is a person.
fn who(principal: &Principal) -> String {
    let mut text = format!("vouched for by {}; groups: ", principal.issuer);
    text.push_str(&if principal.groups.is_empty() { "none".to_owned() } else { principal.groups.join(", ") });
    for (claim, values) in &principal.claims {
        // Writing to a String cannot fail.
        let _ = write!(text, "; {claim}: {}", values.join(", "));
    }
    if !principal.certificate.is_empty() {
        let _ = write!(text, "; certificate: {}", principal.certificate.join(", "));
    }
    // A token's text is the caller's: no control character of it reaches a terminal.
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn limits(limits: &RuleLimits) -> String {
    let rows = [
        ("requests a minute", limits.requests_per_minute),
        ("streams at once", limits.streams),
        ("tokens a minute", limits.tokens_per_minute),
        ("tokens a day", limits.tokens_per_day),
        ("bytes of a body", limits.max_body),
        ("tokens of an answer", limits.max_tokens),
    ];
    let set: Vec<_> =
        rows.iter().filter_map(|(what, limit)| limit.map(|limit| format!("{limit} {what}"))).collect();
    if set.is_empty() { "none".to_owned() } else { set.join(", ") }
}

/// An endpoint's name with a model, or a method and path.
fn route(
    call: &str,
    model: Option<&str>,
    settings: &Settings,
) -> Result<Result<(Name, Operation), proxy::RouteRefusal>, String> {
    if let Some((method, path)) = call.split_once(' ') {
        let method: Method = method.parse().map_err(|_| format!("--call {call}: not a method"))?;
        let path = match model {
            Some(model) if !path.starts_with(&format!("/{model}/")) => format!("/{model}{path}"),
            Some(_) | None => path.to_owned(),
        };
        let uri: Uri = path.parse().map_err(|_| format!("--call {call}: not a path"))?;
        return Ok(proxy::route(settings, &method, &uri));
    }
    let words: Vec<_> = Operation::ALL.iter().map(|operation| operation.as_str()).collect();
    let operation = Operation::ALL
        .into_iter()
        .find(|operation| operation.as_str() == call)
        .ok_or_else(|| format!("--call {call}: use one of {}, or \"METHOD /path\"", words.join(", ")))?;
    let mut models = settings.models.values();
    let found = match (model, models.next(), models.next()) {
        (Some(model), ..) => settings.models.values().find(|found| found.name.as_str() == model),
        (None, Some(only), None) => Some(only),
        (None, ..) => return Err("--model: there is not exactly one model; name it".to_owned()),
    };
    let found =
        found.ok_or_else(|| format!("--model {}: there is no such model", model.unwrap_or_default()))?;
    if !protocol::offers(found.server, operation) {
        let message = format!("the server of model {} has no endpoint for {call}", found.name);
        return Ok(Err(proxy::RouteRefusal { status: 404, code: "endpoint-unknown", message }));
    }
    Ok(Ok((found.name.clone(), operation)))
}

fn read_token(file: &Path) -> Result<Zeroizing<String>, String> {
    let mut text = Zeroizing::new(String::new());
    let read = if file == Path::new("-") {
        std::io::stdin().take(LONGEST_TOKEN).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(LONGEST_TOKEN).read_to_string(&mut text))
    };
    // What could not be read may be the token itself, given as an argument: it is not repeated.
    read.map_err(|error| {
        format!("--token: {error}; name a file that holds the token, or - for standard input")
    })?;
    Ok(text)
}

fn read_certificate(file: &Path) -> Result<ClientCertificate, String> {
    let unusable = || format!("--certificate {}: no PEM certificate that can be read", file.display());
    let der = CertificateDer::from_pem_file(file).map_err(|_| unusable())?;
    ClientCertificate::read(&der).ok_or_else(unusable)
}

//! The story of a request, from its head to its last byte.

use super::body::{self, Bounds, Room};
use super::error::{Refusal, Said};
use super::headers;
use super::ledger::{Admitted, Intake, Ledger, Seen};
use super::line::Kept;
use super::meter::{BYTES_A_TOKEN, Meter};
use super::pool::Unanswered;
use super::quota::{Moment, Share};
use super::relay::{self, Call};
use super::removal::Removal;
use super::reply::Reply;
use super::request_id::RequestId;
use super::route::{self, Route};
use super::tls;
use super::upstream::{Dialled, Question, UpstreamError};
use super::{Policy, Proxy};
use crate::identity::Shown;
use crate::protocol::{self, BodyForm, Dialect, Endpoint, Rewriting};
use crate::traces::{Context, Span};
use bailiwick_audit::Pseudonym;
use bailiwick_masking::Masker;
use bailiwick_policy::{Ask, Name, Principal};
use http::{Request, StatusCode};
use hyper::body::Incoming;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// Who has the other end of the connection, as far as that tells.
pub(super) struct Client {
    pub(super) address: IpAddr,
    /// Its address, as the trail calls it.
    pub(super) name: Pseudonym,
    /// The certificate that it was opened with.
    pub(super) certificate: Option<Arc<tls::Shown>>,
    /// The connections to models that theirs keeps.
    pub(super) kept: Arc<Kept>,
}

/// Tells the story, and if it ends in a refusal, records that and says so.
pub(super) async fn serve(proxy: &Proxy, client: Client, request: Box<Request<Incoming>>, mut reply: Reply) {
    let Some(id) = RequestId::new() else { return };
    let ledger = &proxy.ledger;
    // Taken once: a reload meanwhile is for the next request.
    let policy = proxy.policy();
    let location = policy.settings.regions.locate(client.address);
    let mut seen = Seen::new(id, client.name.clone(), location);
    seen.method(request.method());
    let (since, start) = (Instant::now(), SystemTime::now());
    let tracer =
        policy.tracer.as_ref().map(|tracer| (tracer, Context::of(request.headers(), seen.id.as_str())));
    // How it ended, for the numbers and, of a caller who is known, for the trace.
    let count = |seen: &Seen, outcome, reason, status: StatusCode, served: Served| {
        let duration = since.elapsed();
        policy.metrics.ended(seen.model(), seen.endpoint(), outcome, reason, duration);
        let Some((tracer, context)) = tracer.as_ref().filter(|_| seen.is_known()) else { return };
        tracer.end(Span {
            context: context.clone(),
            start,
            duration,
            request: seen.id.to_string(),
            model: seen.model().map(str::to_owned),
            provider: seen.provider(),
            endpoint: seen.endpoint(),
            upstream: served.upstream,
            outcome,
            reason,
            status: status.as_u16(),
            tokens: served.tokens,
            first_token: served.first.map(|first| first.into_std().saturating_duration_since(since)),
        });
    };
    // Until the endpoint is known, and where there is none.
    let mut dialect = Dialect::guess(request.uri().path());
    match story(proxy, &policy, &client, &mut seen, &mut dialect, request, &mut reply).await {
        Ok(Told { receipt, last, status, outcome, reason, served }) => {
            count(&seen, outcome, reason.unwrap_or_default(), status, served);
            tracing::debug!(request = %seen.id, model = seen.model(), status = status.as_u16(), outcome, "served");
            reply.end(&receipt, last).await;
        }
        Err(Stopped::Refused(refusal)) => {
            let said = refuse(ledger, &seen, dialect, &refusal, reply).await;
            count(&seen, "denied", said.code, said.status, Served::default());
        }
        // The trail failed after the model was asked: whatever was sent so far is cut, never ended.
        Err(Stopped::OutcomeUnrecorded) => {
            count(&seen, "cut", "audit-unavailable", StatusCode::SERVICE_UNAVAILABLE, Served::default());
            drop(reply);
        }
    }
}

/// The whole way: a request made ready, its answer passed on but for the last byte, and that recorded.
///
/// In two parts, since a story has room for all that it ever waits with: what only the first needs is not held while an answer
/// streams, which may be long.
async fn story(
    proxy: &Proxy,
    policy: &Policy,
    client: &Client,
    seen: &mut Seen,
    dialect: &mut Dialect,
    request: Box<Request<Incoming>>,
    reply: &mut Reply,
) -> Result<Told, Stopped> {
    let Ready {
        principal,
        endpoint,
        dialled,
        admitted,
        question,
        bytes,
        room: _room,
        share,
        mask_answer,
        meter,
    } = ready(proxy, policy, client, seen, dialect, request).await?;
    let upstream = dialled.as_ref().ok().map(|dialled| dialled.name().to_string());
    let active = policy.metrics.begin(admitted.permit().model(), question.streamed, bytes);
    let call = Call {
        id: &seen.id,
        dialect: endpoint.dialect,
        masker: mask_answer,
        limits: &proxy.limits,
        ping: policy.settings.proxy.ping,
        removal: removal(proxy, policy, client, &principal, &admitted),
        meter,
    };
    let ending = relay::relay(dialled, &admitted, question, call, reply).await;
    share.settle(ending.tokens.unwrap_or(0), Moment::now());
    active.answered(endpoint.name, ending.account.bytes, ending.tokens, ending.first);
    let reason = ending.account.reason;
    let served = Served { upstream, tokens: ending.tokens, first: ending.first };
    let receipt = admitted.settle(&ending.account).await.map_err(|_| Stopped::OutcomeUnrecorded)?;
    let (status, outcome) = (ending.account.status, ending.account.outcome.as_str());
    Ok(Told { receipt, last: ending.last, status, outcome, reason, served })
}

/// A request that is recorded as admitted, with what it takes to ask the model.
struct Ready<'a> {
    principal: Arc<Principal>,
    endpoint: &'static Endpoint,
    /// An error where what took the connection is not the model's: nothing will be sent.
    dialled: Result<Dialled<'a>, UpstreamError>,
    admitted: Admitted,
    question: Question,
    /// Of the body as it came.
    bytes: usize,
    room: Room,
    share: Share,
    mask_answer: Masker,
    meter: Option<Meter>,
}

/// From the head to the record of its admission. Each step takes what the one before gave.
async fn ready<'a>(
    proxy: &Proxy,
    policy: &'a Policy,
    client: &'a Client,
    seen: &mut Seen,
    dialect: &mut Dialect,
    request: Box<Request<Incoming>>,
) -> Result<Ready<'a>, Stopped> {
    let Proxy { limits, ledger, .. } = proxy;
    let settings = &policy.settings;
    let (head, incoming) = request.into_parts();
    if !headers::has_plain_framing(&head.headers) {
        return Err(Refusal::LengthRequired.into());
    }
    if !headers::fits(&head.headers, limits) {
        return Err(Refusal::HeadTooLarge.into());
    }

    // Where to? Looked up first so that a denial can name it, answered only to callers who are known.
    let route = route::find(settings, &head.method, &head.uri);
    if let Ok(route) = &route {
        seen.route(route);
        *dialect = route.endpoint.dialect;
    }

    // Who is it?
    let keys = if *dialect == Dialect::Anthropic { Shown::TokenOrKey } else { Shown::Token };
    let certificate = tls::certificate(client.certificate.as_deref(), &policy.tls).map_err(Refusal::from)?;
    let principal = policy.authenticator.authenticate(&head.headers, keys, certificate);
    let principal = principal.await.map_err(|error| {
        seen.issuer(error.issuer.as_ref());
        Refusal::from(error)
    })?;
    seen.principal(&principal, ledger);
    if headers::asks_for_websocket(&head.headers) {
        return Err(Refusal::WebSocket.into());
    }
    let Route { model, endpoint, path } = route.map_err(Refusal::from)?;
    let servers = policy.upstreams.get(&model.name).ok_or(Refusal::Route(route::RouteError::ModelUnknown))?;

    // May they, and is there any left for them?
    let now = Moment::now();
    let ask =
        Ask { model: &model.name, operation: endpoint.operation, caller: &seen.location, now: now.unix };
    let permit = settings.access.authorize(&principal, ask).map_err(|denial| {
        seen.rule(denial.nearest.as_ref());
        Refusal::from(denial)
    })?;
    seen.rule(Some(permit.rule()));
    let mut share = proxy.quotas.begin(&permit, &principal, now).map_err(Refusal::from)?;
    let (mask_request, mask_answer) =
        (masker(policy, &permit.masks().request)?, masker(policy, &permit.masks().response)?);

    protocol::scan_path(&path, &mask_request).map_err(Refusal::from)?;

    // What do they ask, without who they are and what must not leave?
    let bounds = Bounds {
        limit: permit
            .limits()
            .max_body
            .unwrap_or(u64::MAX)
            .min(settings.proxy.max_body)
            .min(proxy.room_bytes),
        idle: limits.body_idle,
        room: &proxy.room,
    };
    let (raw, room) =
        body::read(endpoint.body, &head.headers, incoming, bounds).await.map_err(Refusal::from)?;
    let rewriting = Rewriting {
        identity: &settings.proxy.identity,
        caller: &principal,
        max_tokens: permit.limits().max_tokens,
        server: model.server,
        fetch_urls: model.fetch_urls,
    };
    let content_type = headers::content_type(&head.headers);
    let asked =
        protocol::request(endpoint, content_type, &raw, &rewriting, &mask_request).map_err(Refusal::from)?;
    // How many tokens a sound is, only the model can tell.
    let text = if endpoint.body == BodyForm::Multipart { 0 } else { raw.len() };
    let meter = (share.counts_tokens() || policy.counts()).then(|| Meter::new(text));
    if asked.streamed {
        share.stream().map_err(Refusal::from)?;
    }
    let may_cost = asked.max_tokens.saturating_add(text as u64 / BYTES_A_TOKEN);
    share.spend(may_cost, now).map_err(Refusal::from)?;

    // Whose it will be: a connection over which nothing is sent yet.
    let dialled = match servers.connect(&principal, &client.kept, limits).await {
        Ok(dialled) => Ok(dialled),
        Err(Unanswered::Impostor(error)) => Err(error),
        Err(Unanswered::Unavailable { retry_after }) => {
            share.settle(0, Moment::now());
            return Err(Refusal::ModelUnavailable { retry_after }.into());
        }
    };

    // Recorded: from here it may be forwarded.
    let intake = Intake {
        streamed: asked.streamed,
        bytes: raw.len(),
        findings: &asked.findings,
        policy: &settings.id,
        upstream: dialled.as_ref().ok().map(|dialled| dialled.name().as_str()),
    };
    let admitted = ledger.admit(permit, &principal, seen, intake).await.map_err(Refusal::from)?;
    let question = Question {
        method: head.method.clone(),
        path,
        body: asked.body,
        content_type: asked.content_type,
        streamed: asked.streamed,
        dialect: endpoint.dialect,
        version: headers::api_version(endpoint.dialect, &head.headers),
    };
    Ok(Ready {
        principal,
        endpoint,
        dialled,
        admitted,
        question,
        bytes: raw.len(),
        room,
        share,
        mask_answer,
        meter,
    })
}

/// What tells whether the caller is still admitted when another policy comes.
fn removal(
    proxy: &Proxy,
    policy: &Policy,
    client: &Client,
    principal: &Arc<Principal>,
    admitted: &Admitted,
) -> Removal {
    let issuer = policy.settings.issuers.iter().find(|issuer| issuer.url == principal.issuer);
    Removal {
        policy: proxy.policy.clone(),
        audience: issuer.map(|issuer| issuer.audience.clone()),
        principal: Arc::clone(principal),
        model: admitted.permit().model().clone(),
        operation: admitted.permit().operation(),
        address: client.address,
    }
}

/// A story told to its end, but for the last byte.
struct Told {
    receipt: super::ledger::Settled,
    last: super::reply::Last,
    status: StatusCode,
    outcome: &'static str,
    reason: Option<&'static str>,
    served: Served,
}

/// What is known of how it was served.
#[derive(Default)]
struct Served {
    upstream: Option<String>,
    tokens: Option<u64>,
    /// When a stream's first piece came.
    first: Option<tokio::time::Instant>,
}

/// Why a story stopped.
enum Stopped {
    /// Before the model was asked.
    Refused(Refusal),
    /// After, and that cannot be recorded.
    OutcomeUnrecorded,
}

impl From<Refusal> for Stopped {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Records a refusal and tells the caller, in that order. What the caller got.
async fn refuse(ledger: &Ledger, seen: &Seen, dialect: Dialect, refusal: &Refusal, reply: Reply) -> Said {
    let said = refusal.say();
    tracing::debug!(request = %seen.id, model = seen.model(), status = said.status.as_u16(), code = said.code, "refused");
    let words = |refusal: &Refusal, said: &Said| {
        let body = protocol::error_in(dialect, said.status, said.code, &said.message, seen.id.as_str());
        (headers::for_refusal(refusal, said, &seen.id), body)
    };
    match ledger.deny(seen, &said).await {
        Ok(recorded) => {
            let (head, body) = words(refusal, &said);
            reply.refuse(&recorded, head, body);
            said
        }
        Err(_) => {
            let said = Refusal::Audit.say();
            let (head, body) = words(&Refusal::Audit, &said);
            reply.cannot_record(head, body);
            said
        }
    }
}

/// The masks that a rule names.
fn masker(policy: &Policy, names: &[Name]) -> Result<Masker, Refusal> {
    let find = |name| policy.settings.masks.get(name).cloned().ok_or(Refusal::MaskMissing);
    Ok(Masker { masks: names.iter().map(find).collect::<Result<_, _>>()? })
}

//! The records of a request, and the receipts that they give: no receipt, no next step.

use super::error::{Refusal, Said};
use super::flood::Flood;
use super::limits::Limits;
use super::request_id::RequestId;
use crate::metrics::Metrics;
use crate::protocol::Endpoint;
use bailiwick_audit::{Log, Pseudonym, Record};
use bailiwick_masking::Findings;
use bailiwick_policy::{Location, Permit, Principal};
use futures_util::FutureExt;
use http::{Method, StatusCode};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The trail could not be written: fail closed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unrecorded;

impl From<Unrecorded> for Refusal {
    fn from(_: Unrecorded) -> Self {
        Self::Audit
    }
}

/// How often counted refusals are recorded.
const COUNTED: Duration = Duration::from_secs(1);

/// Writes records.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    log: Log,
    flood: Arc<Flood>,
    metrics: Arc<Metrics>,
}

/// What is known of a request so far; a denial records as much.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) id: RequestId,
    pub(super) location: Location,
    method: &'static str,
    client: Pseudonym,
    endpoint: Option<&'static Endpoint>,
    model: Option<String>,
    provider: Option<&'static str>,
    issuer: Option<String>,
    subject: Option<Pseudonym>,
    rule: Option<String>,
}

impl Seen {
    /// What the socket tells.
    pub(super) fn new(id: RequestId, client: Pseudonym, location: Location) -> Self {
        Self {
            id,
            location,
            method: "unreadable",
            client,
            endpoint: None,
            model: None,
            provider: None,
            issuer: None,
            subject: None,
            rule: None,
        }
    }

    /// Only standard methods are named: anything else is the caller's text.
    pub(super) fn method(&mut self, method: &Method) {
        let standard = ["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"];
        self.method = standard.into_iter().find(|name| method.as_str() == *name).unwrap_or("other");
    }

    /// Where it wants to go.
    pub(super) fn route(&mut self, route: &super::route::Route) {
        self.endpoint = Some(route.endpoint);
        self.model = Some(route.model.name.to_string());
        self.provider = Some(route.model.server.as_str());
    }

    /// Who the issuer is, where only that is known.
    pub(super) fn issuer(&mut self, issuer: Option<&String>) {
        self.issuer = issuer.cloned();
    }

    /// Who is calling. Subjects are unique within their issuer only (OpenID Connect Core, 2).
    pub(super) fn principal(&mut self, principal: &Principal, ledger: &Ledger) {
        self.issuer = Some(principal.issuer.clone());
        self.subject = Some(ledger.log.pseudonym(&format!("{} {}", principal.issuer, principal.subject)));
    }

    /// The rule that denied, or came closest to not denying.
    pub(super) fn rule(&mut self, rule: Option<&bailiwick_policy::Name>) {
        self.rule = rule.map(ToString::to_string);
    }

    /// What serves the model: the preset's name.
    pub(super) fn provider(&self) -> Option<&'static str> {
        self.provider
    }

    /// Whether the caller is known.
    pub(super) fn is_known(&self) -> bool {
        self.subject.is_some()
    }

    /// The endpoint's name.
    pub(super) fn endpoint(&self) -> Option<&'static str> {
        self.endpoint.map(|endpoint| endpoint.name)
    }

    /// The model, for the log.
    pub(super) fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    fn region(&self) -> Option<String> {
        let names: Vec<&str> = self.location.regions().iter().map(|name| name.as_str()).collect();
        (!names.is_empty()).then(|| names.join(","))
    }
}

/// A durable `denied` record, or its place among those that are counted: now the caller may be told.
#[derive(Debug)]
pub(super) struct Recorded(());

/// A durable `admit` record for a permit: now the model may be asked. If it is dropped before it is settled (a
/// panic, a runtime that stops), a last attempt records the request as cancelled.
#[derive(Debug)]
pub(super) struct Admitted {
    ledger: Ledger,
    request: RequestId,
    permit: Permit,
    since: Instant,
    open: bool,
}

/// A durable `outcome` record: now the caller may have the last byte.
#[derive(Debug)]
pub(super) struct Settled(());

/// How an admitted request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The whole answer was passed on.
    Complete,
    /// The caller left, or was cut off.
    Cancelled,
    /// The model did not answer, or not properly.
    UpstreamFailed,
    /// A mask or an uninspectable answer stopped it.
    Blocked,
}

impl Outcome {
    /// As in the trail.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Cancelled => "cancelled",
            Self::UpstreamFailed => "upstream-failed",
            Self::Blocked => "blocked",
        }
    }
}

/// What the outcome record tells.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) outcome: Outcome,
    /// What the caller was or would have been told.
    pub(super) status: StatusCode,
    /// Bytes of the answer that went or go to the caller.
    pub(super) bytes: u64,
    pub(super) findings: Findings,
    /// Kebab-case.
    pub(super) reason: Option<&'static str>,
}

/// What an admission tells besides what was seen.
#[derive(Debug)]
pub(super) struct Intake<'a> {
    pub(super) streamed: bool,
    /// Bytes of the body as it came.
    pub(super) bytes: usize,
    pub(super) findings: &'a Findings,
    /// The policy's id.
    pub(super) policy: &'a str,
    /// The server that gets it; `None` where what took the connection is not the model's, and so gets nothing.
    pub(super) upstream: Option<&'a str>,
}

impl Ledger {
    /// In this trail.
    pub(super) fn new(log: Log, limits: &Limits, metrics: Arc<Metrics>) -> Self {
        Self { log, flood: Arc::new(Flood::new(limits)), metrics }
    }

    /// What a client's address is called in the trail.
    pub(super) fn client(&self, address: IpAddr) -> Pseudonym {
        self.log.pseudonym(&address.to_canonical().to_string())
    }

    /// Records what was counted, every second, for ever.
    pub(super) async fn keep_count(&self) {
        loop {
            tokio::time::sleep(COUNTED).await;
            // It is said where it fails; whoever asks next is refused for the same reason.
            let _unwritten = self.record_counted().await;
        }
    }

    /// Records the refusals that were counted since the last time.
    pub(super) async fn record_counted(&self) -> Result<(), Unrecorded> {
        let counted = self.flood.counted();
        if counted.is_empty() {
            return Ok(());
        }
        let detail =
            counted.into_iter().map(|(reason, count)| (reason.to_owned(), count.to_string())).collect();
        self.append(Record::Control { event: "denials-counted".to_owned(), detail }).await
    }

    /// Records a refusal; of a caller who is not known, perhaps as one of a number.
    pub(super) async fn deny(&self, seen: &Seen, said: &Said) -> Result<Recorded, Unrecorded> {
        if seen.subject.is_none() && !self.flood.has_room(said.code, Instant::now()) {
            return Ok(Recorded(()));
        }
        let record = Record::Denied {
            request: seen.id.to_string(),
            subject: seen.subject.clone(),
            issuer: seen.issuer.clone(),
            client: seen.client.clone(),
            client_region: seen.region(),
            method: seen.method.to_owned(),
            endpoint: seen.endpoint.map(|endpoint| endpoint.name.to_owned()),
            model: seen.model.clone(),
            status: said.status.as_u16(),
            reason: said.code.to_owned(),
            rule: seen.rule.clone(),
        };
        self.append(record).await.map(Recorded)
    }

    /// Records that a request may go to the model. Takes the permit: one admission each.
    pub(super) async fn admit(
        &self,
        permit: Permit,
        principal: &Principal,
        seen: &Seen,
        intake: Intake<'_>,
    ) -> Result<Admitted, Unrecorded> {
        let since = Instant::now();
        let record = Record::Admit {
            request: seen.id.to_string(),
            subject: seen.subject.clone().ok_or(Unrecorded)?,
            issuer: principal.issuer.clone(),
            rule: permit.rule().to_string(),
            model: permit.model().to_string(),
            operation: permit.operation().as_str().to_owned(),
            client: seen.client.clone(),
            client_region: seen.region(),
            streamed: intake.streamed,
            request_bytes: intake.bytes as u64,
            masked: counts(intake.findings),
            policy: intake.policy.to_owned(),
            upstream: intake.upstream.map(str::to_owned),
        };
        self.append(record).await?;
        Ok(Admitted { ledger: self.clone(), request: seen.id.clone(), permit, since, open: true })
    }

    /// The log gives up on a hanging disk by itself, so that this wait is bounded.
    fn append(&self, record: Record) -> impl Future<Output = Result<(), Unrecorded>> + Send + '_ {
        let since = Instant::now();
        self.log.append(record).map(move |appended| {
            self.metrics.committed(since.elapsed());
            match appended {
                Ok(_index) => Ok(()),
                Err(cause) => {
                    tracing::error!(%cause, "a record could not be written: the request fails");
                    Err(Unrecorded)
                }
            }
        })
    }
}

impl Admitted {
    /// What the policy let through.
    pub(super) fn permit(&self) -> &Permit {
        &self.permit
    }

    /// Records the outcome.
    pub(super) async fn settle(mut self, account: &Account) -> Result<Settled, Unrecorded> {
        self.open = false;
        self.ledger.append(self.outcome(account)).await.map(Settled)
    }

    fn outcome(&self, account: &Account) -> Record {
        Record::Outcome {
            request: self.request.to_string(),
            outcome: account.outcome.as_str().to_owned(),
            status: account.status.as_u16(),
            response_bytes: account.bytes,
            duration_ms: u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX),
            masked: counts(&account.findings),
            reason: account.reason.map(str::to_owned),
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        let account = Account {
            outcome: Outcome::Cancelled,
            status: StatusCode::INTERNAL_SERVER_ERROR,
            bytes: 0,
            findings: Findings::default(),
            reason: Some("abandoned"),
        };
        let (ledger, record) = (self.ledger.clone(), self.outcome(&account));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { ledger.append(record).await });
        }
    }
}

/// Entity → count, and `field` for what was masked by its place.
fn counts(findings: &Findings) -> BTreeMap<String, u64> {
    let mut counts: BTreeMap<_, _> =
        findings.entities.iter().map(|(entity, count)| (entity.as_str().to_owned(), *count)).collect();
    if findings.fields > 0 {
        counts.insert("field".to_owned(), findings.fields);
    }
    counts
}

#[cfg(test)]
impl Settled {
    /// For tests of what comes after.
    pub(super) fn for_test() -> Self {
        Self(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bailiwick_audit::LogSettings;
    use bailiwick_policy::{AccessPolicy, AccessRule, Ask, Name, Operation};

    #[tokio::test]
    async fn a_story_that_breaks_off_is_recorded_as_abandoned() {
        let directory = tempfile::tempdir().unwrap();
        let trail = directory.path().join("audit");
        let log =
            Log::open(LogSettings { directory: trail.clone(), origin: "bailiwick/test".into() }).unwrap();
        let ledger = Ledger::new(log.clone(), &Limits::default(), Arc::default());
        let model = Name::new("llama").unwrap();
        let rule = AccessRule::open(Name::new("all").unwrap(), vec![model.clone()]);
        let principal = Principal { issuer: "i".into(), subject: "s".into(), ..Principal::default() };
        let ask = Ask { model: &model, operation: Operation::Chat, caller: &Location::UNKNOWN, now: 0 };
        let permit = AccessPolicy::new(vec![rule]).authorize(&principal, ask).unwrap();
        let mut seen =
            Seen::new(RequestId::new().unwrap(), ledger.client([192, 0, 2, 1].into()), Location::UNKNOWN);
        seen.principal(&principal, &ledger);
        let findings = Findings::default();
        let intake = Intake { streamed: false, bytes: 2, findings: &findings, policy: "p", upstream: None };
        let admitted = ledger.admit(permit, &principal, &seen, intake).await.unwrap();

        let story = tokio::spawn(async move {
            let _held = admitted;
            panic!("a defect");
        });
        assert!(story.await.unwrap_err().is_panic());
        let mut records = Vec::new();
        while records.len() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            records = bailiwick_audit::records(&trail).unwrap();
        }
        let outcome: serde_json::Value = serde_json::from_slice(&records[1].1).unwrap();
        assert_eq!((&outcome["type"], &outcome["outcome"]), (&"outcome".into(), &"cancelled".into()));
        assert_eq!(outcome["reason"], "abandoned");
        assert_eq!(outcome["request"], seen.id.as_str());
    }
}

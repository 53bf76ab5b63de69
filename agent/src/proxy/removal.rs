//! Whether the caller of a request under way is still admitted, when another policy comes (`[proxy] on_removal`).

use super::Policy;
use crate::config::settings::{OnRemoval, Settings};
use bailiwick_policy::{Ask, Name, Operation, Principal};
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::watch;

/// Watches for a policy that does not admit one request.
pub(super) struct Removal {
    pub(super) policy: watch::Receiver<Arc<Policy>>,
    pub(super) audience: Option<String>,
    pub(super) principal: Arc<Principal>,
    pub(super) model: Name,
    pub(super) operation: Operation,
    pub(super) address: IpAddr,
}

impl Removal {
    /// Resolves when the caller is removed, by a policy that says that this cuts.
    pub(super) async fn removed(&mut self) {
        loop {
            if self.policy.changed().await.is_err() {
                // There will be no other policy any more.
                std::future::pending::<()>().await;
            }
            let policy = Arc::clone(&self.policy.borrow_and_update());
            let settings = policy.settings();
            if settings.proxy.on_removal == OnRemoval::Cut && !self.is_admitted_by(settings) {
                return;
            }
        }
    }

    /// Whether the policy trusts who vouched for the caller, and has a rule that lets it do this. Claims that only the
    /// new policy asks for were not read from its token, so that a rule which needs them does not match.
    fn is_admitted_by(&self, settings: &Settings) -> bool {
        let trusted = match &self.audience {
            Some(audience) => settings
                .issuers
                .iter()
                .any(|issuer| issuer.url == self.principal.issuer && issuer.audience == *audience),
            None => settings.proxy.clients.as_ref().is_some_and(|clients| clients.identify),
        };
        let caller = settings.regions.locate(self.address);
        let now = crate::identity::now();
        let ask = Ask { model: &self.model, operation: self.operation, caller: &caller, now };
        trusted && settings.access.authorize(&self.principal, ask).is_ok()
    }
}

//! What a token would prove, for `bailiwick check --explain`: as far as that can be told, and with what could not be checked.

use super::token::Token;
use super::{AuthenticationError, Authenticator, ClientCertificate, Fault, TokenCache, bind, by_certificate};
use bailiwick_policy::Principal;
use std::sync::Arc;

/// What is known of a token's origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nothing: there is no token, or it says nothing that can be read.
    None,
    /// It is signed with a key that its issuer publishes.
    Verified,
    /// Its issuer was asked, and knows it.
    Introspected,
    /// Its claims could be read; who signed it could not be checked from here.
    Unchecked,
}

/// What a token would prove.
#[derive(Debug)]
pub struct Examination {
    /// Who it says it is from, where that could be read.
    pub issuer: Option<String>,
    /// What is known of its origin. Where it is [`Origin::Unchecked`], the outcome is only what its claims come to.
    pub origin: Origin,
    /// Whom it proves, or why nobody.
    pub outcome: Result<Arc<Principal>, AuthenticationError>,
}

impl Authenticator {
    /// Examines a token, or a certificate alone, at `now` seconds after the epoch.
    pub async fn examine(
        &self,
        token: Option<&str>,
        certificate: Option<&ClientCertificate>,
        now: u64,
    ) -> Examination {
        let Some(text) = token else {
            let outcome = if self.certificates && certificate.is_some() {
                by_certificate(certificate)
            } else {
                Err(Fault::NoCredentials)
            };
            return Examination { issuer: None, origin: Origin::None, outcome: outcome.map_err(Into::into) };
        };
        let token = match Token::parse(text) {
            Ok(token) => token,
            Err(Fault::TokenOpaque) => return self.examine_opaque(text, certificate, now).await,
            Err(fault) => {
                return Examination { issuer: None, origin: Origin::None, outcome: Err(fault.into()) };
            }
        };
        let issuer = Some(token.issuer().to_owned());
        let trusted = match self.issuer_of(&token) {
            Ok((_, trusted)) => trusted,
            Err(fault) => {
                return Examination { issuer, origin: Origin::Unchecked, outcome: Err(fault.into()) };
            }
        };
        let signed = match trusted.keys.current().await {
            Err(_) => Ok(Origin::Unchecked),
            Ok(keys) => trusted.keys.verify(&token, keys).await.map(|_| Origin::Verified),
        };
        let blame = |fault: Fault| fault.told_of(&trusted.issuer.url);
        let (origin, outcome) = match signed {
            Err(fault) => (Origin::None, Err(fault)),
            Ok(origin) => (origin, token.verify_claims(&trusted.issuer, now).map(|verified| verified.proven)),
        };
        let outcome = outcome.map_err(blame).and_then(|proven| bind(proven, certificate));
        Examination { issuer, origin, outcome }
    }

    async fn examine_opaque(
        &self,
        text: &str,
        certificate: Option<&ClientCertificate>,
        now: u64,
    ) -> Examination {
        let asked = self.issuers.iter().find_map(|trusted| Some((trusted, trusted.introspection.as_ref()?)));
        let Some((trusted, introspection)) = asked else {
            return Examination {
                issuer: None,
                origin: Origin::None,
                outcome: Err(Fault::TokenOpaque.into()),
            };
        };
        let said = introspection.ask(text, &TokenCache::digest(text), &trusted.keys, now).await;
        let outcome = said.map_err(|fault| fault.told_of(&trusted.issuer.url));
        let origin = if outcome.is_ok() { Origin::Introspected } else { Origin::None };
        let outcome = outcome.and_then(|verified| bind(verified.proven, certificate));
        Examination { issuer: Some(trusted.issuer.url.clone()), origin, outcome }
    }
}

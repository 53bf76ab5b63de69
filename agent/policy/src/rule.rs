//! One rule of the access policy: what must be so for it to match.

use crate::access::{Ask, DenialReason, Operation};
use crate::{Country, Name, Principal, Schedule};

/// The masks that a rule applies, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct RuleMasks {
    /// Masks on what goes to the model.
    pub request: Vec<Name>,
    /// Masks on what comes back.
    pub response: Vec<Name>,
}

/// How much each caller may use under a rule; `None` means as much as there is. Counting is the proxy's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct RuleLimits {
    /// Requests a minute.
    pub requests_per_minute: Option<u64>,
    /// Streams at once.
    pub streams: Option<u64>,
    /// Tokens a minute, of questions and answers together.
    pub tokens_per_minute: Option<u64>,
    /// Tokens a day (UTC), of questions and answers together.
    pub tokens_per_day: Option<u64>,
    /// Bytes of a request's body.
    pub max_body: Option<u64>,
    /// Tokens of an answer.
    pub max_tokens: Option<u64>,
}

/// A claim that must hold one of some values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimCondition {
    /// The claim's name, or a dotted path.
    pub claim: String,
    /// One of these suffices.
    pub values: Vec<String>,
}

/// A claim that says in which country the caller is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimedCountry {
    /// The claim's name, or a dotted path.
    pub claim: String,
    /// The countries of the regions that the rule's `from` names.
    pub countries: Vec<Country>,
}

/// A name in a client certificate, or all names that begin alike (`spiffe://example.eu/ml/*`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateName(String);

impl CertificateName {
    /// `text` as it is, or up to its `/*`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Whether a name in a certificate is meant. Exact case, as SPIFFE has it.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(beginning) => name.strip_prefix(beginning).is_some_and(|rest| !rest.is_empty()),
            None => self.0 == name,
        }
    }
}

/// One entry of the access policy. An empty `groups`, `models`, `from` or `endpoints` never comes out of
/// the config compiler unless the key was absent; what is absent (`None`, no claims) means any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessRule {
    /// Its name, for the permit and the audit trail.
    pub name: Name,
    /// Who must have vouched for the caller: a group of the same name elsewhere is another group.
    pub issuer: Option<String>,
    /// The caller must be one of these (`sub`).
    pub subjects: Option<Vec<String>>,
    /// The caller must be in one of these; `None` means any authenticated caller.
    pub groups: Option<Vec<String>>,
    /// Each of these must hold.
    pub claims: Vec<ClaimCondition>,
    /// The caller's certificate must have one of these names.
    pub certificates: Option<Vec<CertificateName>>,
    /// The models it opens.
    pub models: Vec<Name>,
    /// The caller must be in one of these regions; `None` means anywhere.
    pub from: Option<Vec<Name>>,
    /// Whose word it is where the caller is; `None` means the address's.
    pub from_claim: Option<ClaimedCountry>,
    /// The operations it opens; `None` means all that the model's server preset knows.
    pub endpoints: Option<Vec<Operation>>,
    /// When it holds; `None` means always.
    pub when: Option<Schedule>,
    /// The masks it applies.
    pub masks: RuleMasks,
    /// The limits it sets.
    pub limits: RuleLimits,
}

impl AccessRule {
    /// A rule that opens models to everybody who is known, from anywhere, at any time.
    #[must_use]
    pub fn open(name: Name, models: Vec<Name>) -> Self {
        Self {
            name,
            issuer: None,
            subjects: None,
            groups: None,
            claims: Vec::new(),
            certificates: None,
            models,
            from: None,
            from_claim: None,
            endpoints: None,
            when: None,
            masks: RuleMasks::default(),
            limits: RuleLimits::default(),
        }
    }

    /// What about the rule does not match; `None` when all of it does.
    #[must_use]
    pub fn refusal(&self, principal: &Principal, ask: Ask<'_>) -> Option<DenialReason> {
        let one_of = |list: &Option<Vec<String>>, has: &dyn Fn(&String) -> bool| {
            list.as_ref().is_none_or(|list| list.iter().any(has))
        };
        let claimed = |condition: &ClaimCondition| {
            let found = principal.claims.get(&condition.claim);
            found.is_some_and(|found| found.iter().any(|value| condition.values.contains(value)))
        };
        let certified = |names: &Vec<CertificateName>| {
            names.iter().any(|wanted| principal.certificate.iter().any(|name| wanted.matches(name)))
        };
        // In the order of the reasons: the first that does not hold is how far this rule got.
        let tests = [
            (self.models.contains(ask.model), DenialReason::ModelNotOpened),
            (
                self.issuer.as_ref().is_none_or(|issuer| *issuer == principal.issuer),
                DenialReason::IssuerNotAllowed,
            ),
            (
                one_of(&self.subjects, &|subject| *subject == principal.subject),
                DenialReason::SubjectNotAllowed,
            ),
            (one_of(&self.groups, &|group| principal.groups.contains(group)), DenialReason::GroupNotAllowed),
            (self.claims.iter().all(claimed), DenialReason::ClaimNotAllowed),
            (self.certificates.as_ref().is_none_or(certified), DenialReason::CertificateNotAllowed),
            (self.is_from(principal, ask), DenialReason::CallerRegionNotAllowed),
            (
                self.endpoints.as_ref().is_none_or(|endpoints| endpoints.contains(&ask.operation)),
                DenialReason::OperationNotAllowed,
            ),
            (self.when.is_none_or(|when| when.holds(ask.now)), DenialReason::TimeNotAllowed),
        ];
        tests.into_iter().find(|(holds, _)| !holds).map(|(_, reason)| reason)
    }

    /// Whether the caller is where the rule wants. A claim that is missing, or names no country, is nowhere.
    fn is_from(&self, principal: &Principal, ask: Ask<'_>) -> bool {
        let Some(from) = &self.from else { return true };
        match &self.from_claim {
            None => ask.caller.is_in(from),
            Some(ClaimedCountry { claim, countries }) => {
                let allowed = |value: &String| {
                    Country::new(&value.to_ascii_uppercase())
                        .is_ok_and(|country| countries.contains(&country))
                };
                principal
                    .claims
                    .get(claim)
                    .is_some_and(|values| !values.is_empty() && values.iter().all(allowed))
            }
        }
    }

    /// Whether this rule matches everything that `other` matches.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        let implied = |condition: &ClaimCondition| {
            other.claims.iter().any(|narrow| {
                narrow.claim == condition.claim
                    && narrow.values.iter().all(|value| condition.values.contains(value))
            })
        };
        other.models.iter().all(|model| self.models.contains(model))
            && (self.issuer.is_none() || self.issuer == other.issuer)
            && covers_list(self.subjects.as_deref(), other.subjects.as_deref())
            && covers_list(self.groups.as_deref(), other.groups.as_deref())
            && self.claims.iter().all(implied)
            && covers_list(self.certificates.as_deref(), other.certificates.as_deref())
            && (self.from.is_none()
                || (self.from_claim == other.from_claim
                    && covers_list(self.from.as_deref(), other.from.as_deref())))
            && covers_list(self.endpoints.as_deref(), other.endpoints.as_deref())
            && (self.when.is_none() || self.when == other.when)
    }
}

/// `None` means any.
fn covers_list<T: PartialEq>(wide: Option<&[T]>, narrow: Option<&[T]>) -> bool {
    match (wide, narrow) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(wide), Some(narrow)) => narrow.iter().all(|item| wide.contains(item)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Location, Weekday};
    use std::collections::BTreeMap;

    const URL: &str = "https://login.example.eu";

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn open() -> AccessRule {
        AccessRule::open(name("r"), vec![name("llama")])
    }

    fn caller() -> Principal {
        Principal {
            issuer: URL.into(),
            subject: "ada".into(),
            groups: vec!["ml".into()],
            claims: BTreeMap::from([
                ("department".into(), vec!["research".into(), "sales".into()]),
                ("ctry".into(), vec!["de".into()]),
                ("both".into(), vec!["DE".into(), "US".into()]),
            ]),
            certificate: vec!["spiffe://example.eu/ml/batch".into(), "batch.example.eu".into()],
        }
    }

    fn refusal(rule: &AccessRule) -> Option<DenialReason> {
        // A Thursday, as the epoch was.
        let location = Location::UNKNOWN;
        let ask = Ask { model: &name("llama"), operation: Operation::Chat, caller: &location, now: 9 * 3600 };
        rule.refusal(&caller(), ask)
    }

    #[test]
    fn a_group_of_another_issuer_is_another_group() {
        let rule = |issuer: &str| AccessRule {
            issuer: Some(issuer.into()),
            groups: Some(vec!["ml".into()]),
            ..open()
        };
        assert_eq!(refusal(&rule(URL)), None);
        assert_eq!(refusal(&rule("https://partner.example")), Some(DenialReason::IssuerNotAllowed));
        assert_eq!(
            refusal(&rule("https://login.example.eu/")),
            Some(DenialReason::IssuerNotAllowed),
            "exactly"
        );
    }

    #[test]
    fn each_condition_refuses_with_its_own_reason() {
        let claims = |claim: &str, values: &[&str]| AccessRule {
            claims: vec![ClaimCondition {
                claim: claim.into(),
                values: values.iter().map(|value| (*value).into()).collect(),
            }],
            ..open()
        };
        let certificates =
            |text: &str| AccessRule { certificates: Some(vec![CertificateName::new(text)]), ..open() };
        let country = |claim: &str| AccessRule {
            from: Some(vec![name("eu")]),
            from_claim: Some(ClaimedCountry {
                claim: claim.into(),
                countries: vec![Country::new("DE").unwrap()],
            }),
            ..open()
        };
        let when = |days: &[Weekday]| AccessRule {
            when: Some(Schedule::new(days, 8 * 60, 18 * 60, 0).unwrap()),
            ..open()
        };
        for (rule, expected, why) in [
            (AccessRule { subjects: Some(vec!["ada".into()]), ..open() }, None, "named"),
            (
                AccessRule { subjects: Some(vec!["eve".into()]), ..open() },
                Some(DenialReason::SubjectNotAllowed),
                "another one",
            ),
            (claims("department", &["research"]), None, "one of the claim's values"),
            (claims("department", &["legal"]), Some(DenialReason::ClaimNotAllowed), "none of them"),
            (claims("clearance", &["1"]), Some(DenialReason::ClaimNotAllowed), "no such claim"),
            (certificates("spiffe://example.eu/ml/batch"), None, "the SPIFFE id"),
            (certificates("spiffe://example.eu/ml/*"), None, "all below"),
            (certificates("spiffe://example.eu/*"), None, "all of the trust domain"),
            (certificates("batch.example.eu"), None, "a DNS name"),
            (
                certificates("spiffe://example.eu/ml"),
                Some(DenialReason::CertificateNotAllowed),
                "no beginning without a star",
            ),
            (country("ctry"), None, "the claim's country, in either case"),
            (country("both"), Some(DenialReason::CallerRegionNotAllowed), "one of two countries is outside"),
            (country("gone"), Some(DenialReason::CallerRegionNotAllowed), "no claim is nowhere"),
            (country("department"), Some(DenialReason::CallerRegionNotAllowed), "no country is nowhere"),
            (when(&[Weekday::Thursday]), None, "on time"),
            (when(&[Weekday::Friday]), Some(DenialReason::TimeNotAllowed), "on another day"),
        ] {
            assert_eq!(refusal(&rule), expected, "{why}");
        }
    }

    #[test]
    fn a_condition_more_is_not_covered_by_a_condition_less_the_other_way_round() {
        let narrow = [
            AccessRule { issuer: Some(URL.into()), ..open() },
            AccessRule { subjects: Some(vec!["ada".into()]), ..open() },
            AccessRule {
                claims: vec![ClaimCondition { claim: "a".into(), values: vec!["1".into()] }],
                ..open()
            },
            AccessRule { certificates: Some(vec![CertificateName::new("a")]), ..open() },
            AccessRule { from: Some(vec![name("eu")]), ..open() },
            AccessRule { when: Some(Schedule::new(&[], 0, 60, 0).unwrap()), ..open() },
        ];
        for rule in narrow {
            assert!(open().covers(&rule) && rule.covers(&rule), "{rule:?}");
            assert!(!rule.covers(&open()), "{rule:?}");
        }
        let by = |claim: Option<&str>| AccessRule {
            from: Some(vec![name("eu")]),
            from_claim: claim.map(|claim| ClaimedCountry { claim: claim.into(), countries: vec![] }),
            ..open()
        };
        assert!(!by(None).covers(&by(Some("ctry"))) && !by(Some("ctry")).covers(&by(None)), "another's word");
    }
}

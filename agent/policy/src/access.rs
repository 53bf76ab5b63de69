//! Who may ask what of which model, from where, under which masks.

use crate::rule::{AccessRule, RuleLimits, RuleMasks};
use crate::{Location, Name, Principal};
use std::sync::Arc;

/// What a request does, the same word in the config, the audit trail and the protocol tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// A chat completion.
    Chat,
    /// A text completion.
    Completions,
    /// A response, in `OpenAI`'s newer shape.
    Responses,
    /// A message, in Anthropic's shape, or the count of its tokens.
    Messages,
    /// Embeddings.
    Embeddings,
    /// Documents put in the order in which they answer a query.
    Rerank,
    /// How alike texts are.
    Score,
    /// Speech to text.
    Transcriptions,
    /// Speech to English text.
    Translations,
    /// Images from text, or changed by text.
    Images,
    /// Tensors in, tensors out.
    Infer,
    /// Which models there are, and what is known of them.
    Models,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 12] = [
        Self::Chat,
        Self::Completions,
        Self::Responses,
        Self::Messages,
        Self::Embeddings,
        Self::Rerank,
        Self::Score,
        Self::Transcriptions,
        Self::Translations,
        Self::Images,
        Self::Infer,
        Self::Models,
    ];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completions => "completions",
            Self::Responses => "responses",
            Self::Messages => "messages",
            Self::Embeddings => "embeddings",
            Self::Rerank => "rerank",
            Self::Score => "score",
            Self::Transcriptions => "transcriptions",
            Self::Translations => "translations",
            Self::Images => "images",
            Self::Infer => "infer",
            Self::Models => "models",
        }
    }
}

/// What is being asked.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Which model.
    pub model: &'a Name,
    /// What of it.
    pub operation: Operation,
    /// Where the caller's address lies.
    pub caller: &'a Location,
    /// When, in seconds after the epoch.
    pub now: u64,
}

/// Proof that a rule let a request through. Only [`AccessPolicy::authorize`] makes one; the forwarder
/// demands it and the audit trail reads from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    rule: Arc<AccessRule>,
    model: Name,
    operation: Operation,
}

impl Permit {
    /// The rule that matched.
    #[must_use]
    pub fn rule(&self) -> &Name {
        &self.rule.name
    }

    /// The model it opens.
    #[must_use]
    pub fn model(&self) -> &Name {
        &self.model
    }

    /// The operation it opens.
    #[must_use]
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// The masks that must be applied.
    #[must_use]
    pub fn masks(&self) -> &RuleMasks {
        &self.rule.masks
    }

    /// The limits that must be kept.
    #[must_use]
    pub fn limits(&self) -> &RuleLimits {
        &self.rule.limits
    }
}

/// Why nothing matched: the furthest that any rule got. The order of the variants is the order in which a
/// rule is tried, so that a later one is nearer to a permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DenialReason {
    /// No rule names the model.
    ModelNotOpened,
    /// The rule trusts another issuer.
    IssuerNotAllowed,
    /// The rule names other callers.
    SubjectNotAllowed,
    /// The caller is in none of the groups that a rule for this model asks for.
    GroupNotAllowed,
    /// A claim that the rule asks for is missing, or has another value.
    ClaimNotAllowed,
    /// The caller's certificate has no name that the rule asks for, or there is none.
    CertificateNotAllowed,
    /// The caller is in no allowed region.
    CallerRegionNotAllowed,
    /// The operation is not in the rule.
    OperationNotAllowed,
    /// The rule holds at other times.
    TimeNotAllowed,
}

impl DenialReason {
    /// Every reason, the farthest from a permit first.
    pub const ALL: [Self; 9] = [
        Self::ModelNotOpened,
        Self::IssuerNotAllowed,
        Self::SubjectNotAllowed,
        Self::GroupNotAllowed,
        Self::ClaimNotAllowed,
        Self::CertificateNotAllowed,
        Self::CallerRegionNotAllowed,
        Self::OperationNotAllowed,
        Self::TimeNotAllowed,
    ];

    /// The word for it in records, metrics and answers; the same as its serialised form.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ModelNotOpened => "model-not-opened",
            Self::IssuerNotAllowed => "issuer-not-allowed",
            Self::SubjectNotAllowed => "subject-not-allowed",
            Self::GroupNotAllowed => "group-not-allowed",
            Self::ClaimNotAllowed => "claim-not-allowed",
            Self::CertificateNotAllowed => "certificate-not-allowed",
            Self::CallerRegionNotAllowed => "caller-region-not-allowed",
            Self::OperationNotAllowed => "operation-not-allowed",
            Self::TimeNotAllowed => "time-not-allowed",
        }
    }
}

/// No rule let it through.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no access rule allows it: {}", reason.as_str())]
pub struct Denial {
    /// The reason, for the caller and the audit trail.
    pub reason: DenialReason,
    /// The rule that came closest, where one did.
    pub nearest: Option<Name>,
}

/// The rules, in the config's order.
#[derive(Clone, Debug, Default)]
pub struct AccessPolicy {
    rules: Vec<Arc<AccessRule>>,
}

impl AccessPolicy {
    /// A policy of these rules.
    #[must_use]
    pub fn new(rules: Vec<AccessRule>) -> Self {
        Self { rules: rules.into_iter().map(Arc::new).collect() }
    }

    /// The rules, in order.
    #[must_use]
    pub fn rules(&self) -> &[Arc<AccessRule>] {
        &self.rules
    }

    /// The first rule that matches decides; no match is a denial.
    ///
    /// # Errors
    /// [`Denial`] with the furthest any rule got; where several got equally far, the first of them is the nearest.
    pub fn authorize(&self, principal: &Principal, ask: Ask<'_>) -> Result<Permit, Denial> {
        let mut denial = Denial { reason: DenialReason::ModelNotOpened, nearest: None };
        for rule in &self.rules {
            match rule.refusal(principal, ask) {
                None => {
                    return Ok(Permit {
                        rule: Arc::clone(rule),
                        model: ask.model.clone(),
                        operation: ask.operation,
                    });
                }
                Some(reason) if reason > denial.reason => {
                    denial = Denial { reason, nearest: Some(rule.name.clone()) };
                }
                Some(_) => {}
            }
        }
        Err(denial)
    }

    /// Pairs of (rule, earlier rule) where the earlier one matches whatever the rule would, so that the rule
    /// never decides.
    #[must_use]
    pub fn shadowed(&self) -> Vec<(&Name, &Name)> {
        let mut pairs = Vec::new();
        for (index, rule) in self.rules.iter().enumerate() {
            if let Some(earlier) = self.rules[..index].iter().find(|earlier| earlier.covers(rule)) {
                pairs.push((&rule.name, &earlier.name));
            }
        }
        pairs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn names(list: &[&str]) -> Vec<Name> {
        list.iter().map(|text| name(text)).collect()
    }

    fn caller(groups: &[&str]) -> Principal {
        Principal {
            issuer: "https://login.example.eu".to_owned(),
            subject: "someone".to_owned(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            ..Principal::default()
        }
    }

    fn located(regions: &[&str]) -> Location {
        if regions.is_empty() {
            Location::UNKNOWN
        } else {
            Location::Pinned { regions: names(regions), network: "192.0.2.0/24".parse().unwrap() }
        }
    }

    fn rule(
        text: &str,
        groups: &[&str],
        models: &[&str],
        from: &[&str],
        endpoints: &[Operation],
    ) -> AccessRule {
        AccessRule {
            groups: (!groups.is_empty()).then(|| groups.iter().map(|group| (*group).to_owned()).collect()),
            from: (!from.is_empty()).then(|| names(from)),
            endpoints: (!endpoints.is_empty()).then(|| endpoints.to_vec()),
            masks: RuleMasks { request: names(&["pii"]), response: Vec::new() },
            ..AccessRule::open(name(text), names(models))
        }
    }

    fn example() -> AccessPolicy {
        AccessPolicy::new(vec![
            rule("analysts", &["ml-analysts"], &["llama"], &["eu"], &[Operation::Chat]),
            rule("operators", &["ops", "sre"], &["llama", "mixtral"], &[], &[Operation::Models]),
            rule("analysts-abroad", &["ml-analysts"], &["llama"], &["swiss"], &[Operation::Embeddings]),
            rule("anyone", &[], &["mixtral"], &["eu"], &[]),
        ])
    }

    #[test]
    fn the_first_matching_rule_decides() {
        use Operation::{Chat, Completions, Embeddings, Models};
        for (groups, model, operation, from, decides, reason) in [
            (&["ml-analysts"][..], "llama", Chat, &["eu"][..], "analysts", "all of the rule matches"),
            (
                &["x", "ml-analysts"],
                "llama",
                Chat,
                &["lab", "eu"],
                "analysts",
                "one group and one region suffice",
            ),
            (&["sre"], "llama", Models, &[], "operators", "no `from` means anywhere, unknown included"),
            (
                &["sre", "ml-analysts"],
                "llama",
                Models,
                &["eu"],
                "operators",
                "a rule that fails leaves it to the next",
            ),
            (&["sre"], "mixtral", Models, &["eu"], "operators", "the earlier of two that match"),
            (
                &["ml-analysts"],
                "llama",
                Embeddings,
                &["swiss"],
                "analysts-abroad",
                "a later rule of the group",
            ),
            (
                &[],
                "mixtral",
                Completions,
                &["eu"],
                "anyone",
                "no `groups` means any caller, no `endpoints` any operation",
            ),
        ] {
            let location = located(from);
            let ask = Ask { model: &name(model), operation, caller: &location, now: 0 };
            let permit = example().authorize(&caller(groups), ask).unwrap();
            assert_eq!(permit.rule().as_str(), decides, "{reason}");
            assert_eq!((permit.model().as_str(), permit.operation()), (model, operation));
            assert_eq!(permit.masks().request, names(&["pii"]), "the rule's own masks");
        }
    }

    #[test]
    fn a_denial_names_the_furthest_and_the_nearest() {
        use DenialReason::{CallerRegionNotAllowed, GroupNotAllowed, ModelNotOpened, OperationNotAllowed};
        use Operation::{Chat, Completions, Embeddings};
        for (groups, model, operation, from, reason, nearest, why) in [
            (&["ml-analysts"][..], "phi", Chat, &["eu"][..], ModelNotOpened, None, "no rule names it"),
            (
                &[],
                "llama",
                Chat,
                &["eu"],
                GroupNotAllowed,
                Some("analysts"),
                "first of those that name the model",
            ),
            (
                &["ML-Analysts"],
                "llama",
                Chat,
                &["eu"],
                GroupNotAllowed,
                Some("analysts"),
                "groups are case-sensitive",
            ),
            (&["ml-analysts"], "llama", Chat, &["us"], CallerRegionNotAllowed, Some("analysts"), "elsewhere"),
            (
                &["ml-analysts"],
                "llama",
                Chat,
                &[],
                CallerRegionNotAllowed,
                Some("analysts"),
                "unknown means no",
            ),
            (
                &["ml-analysts"],
                "llama",
                Embeddings,
                &["eu"],
                OperationNotAllowed,
                Some("analysts"),
                "further than analysts-abroad",
            ),
            (
                &["ml-analysts"],
                "llama",
                Completions,
                &["swiss"],
                OperationNotAllowed,
                Some("analysts-abroad"),
                "the later rule got further",
            ),
            (
                &["ops"],
                "llama",
                Chat,
                &["eu"],
                OperationNotAllowed,
                Some("operators"),
                "further than the analysts' group",
            ),
            (&[], "mixtral", Chat, &[], CallerRegionNotAllowed, Some("anyone"), "any group, not anywhere"),
        ] {
            let location = located(from);
            let ask = Ask { model: &name(model), operation, caller: &location, now: 0 };
            let denial = example().authorize(&caller(groups), ask).unwrap_err();
            assert_eq!(denial, Denial { reason, nearest: nearest.map(name) }, "{why}");
        }
    }

    #[test]
    fn a_list_that_is_there_but_empty_matches_nobody() {
        let location = located(&["eu"]);
        let ask = Ask { model: &name("llama"), operation: Operation::Chat, caller: &location, now: 0 };
        let open = rule("open", &[], &["llama"], &[], &[]);
        for (rule, reason) in [
            (AccessRule { groups: Some(Vec::new()), ..open.clone() }, DenialReason::GroupNotAllowed),
            (AccessRule { models: Vec::new(), ..open.clone() }, DenialReason::ModelNotOpened),
            (AccessRule { from: Some(Vec::new()), ..open.clone() }, DenialReason::CallerRegionNotAllowed),
            (AccessRule { endpoints: Some(Vec::new()), ..open.clone() }, DenialReason::OperationNotAllowed),
        ] {
            let denial = AccessPolicy::new(vec![rule]).authorize(&caller(&["a"]), ask).unwrap_err();
            assert_eq!(denial.reason, reason);
        }
        assert!(AccessPolicy::default().authorize(&caller(&["a"]), ask).is_err(), "no rule, no permit");
    }

    #[test]
    fn a_rule_is_shadowed_when_an_earlier_one_covers_it() {
        let wide = rule("wide", &[], &["llama", "phi"], &[], &[]);
        let narrow = rule("narrow", &["a"], &["llama"], &["eu"], &[Operation::Chat]);
        for (first, second, shadowed, reason) in [
            (&wide, &narrow, true, "wider in every respect"),
            (&narrow, &wide, false, "a narrow rule before a wide one is how exceptions are written"),
            (&narrow, &narrow, true, "the same again"),
            (&rule("x", &[], &["phi"], &[], &[]), &narrow, false, "another model"),
            (&rule("x", &["b"], &["llama"], &[], &[]), &narrow, false, "another group"),
            (&rule("x", &["a"], &["llama"], &["us"], &[]), &narrow, false, "another region"),
            (
                &rule("x", &["a"], &["llama"], &["eu"], &[Operation::Models]),
                &narrow,
                false,
                "another operation",
            ),
        ] {
            let policy = AccessPolicy::new(vec![first.clone(), second.clone()]);
            assert_eq!(policy.shadowed().len(), usize::from(shadowed), "{reason}");
        }
    }

    #[test]
    fn words_are_the_same_everywhere() {
        for operation in Operation::ALL {
            assert_eq!(serde_json::to_value(operation).unwrap(), operation.as_str());
        }
        for reason in DenialReason::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
    }

    fn some_of(list: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
        prop::sample::subsequence(list, 0..=list.len())
    }

    fn any_rules() -> impl Strategy<Value = Vec<AccessRule>> {
        let operations = prop::sample::subsequence(Operation::ALL.to_vec(), 0..=3);
        let one = (some_of(&["a", "b"]), some_of(&["m", "n"]), some_of(&["eu", "us"]), operations);
        prop::collection::vec(one, 0..6).prop_map(|rules| {
            let numbered =
                |(index, (groups, models, from, endpoints)): (usize, (Vec<_>, Vec<_>, Vec<_>, Vec<_>))| {
                    rule(&format!("r{index}"), &groups, &models, &from, &endpoints)
                };
            rules.into_iter().enumerate().map(numbered).collect()
        })
    }

    proptest! {
        #[test]
        fn a_permit_names_the_first_rule_that_alone_would_permit(
            rules in any_rules(), groups in some_of(&["a", "b", "c"]), from in some_of(&["eu", "us", "ch"]),
            model in prop::sample::select(vec!["m", "n", "o"]),
            operation in prop::sample::select(Operation::ALL.to_vec()),
        ) {
            let (model, location, principal) = (name(model), located(&from), caller(&groups));
            let ask = Ask { model: &model, operation, caller: &location, now: 0 };
            let alone = |rule: &AccessRule| AccessPolicy::new(vec![rule.clone()]).authorize(&principal, ask);
            let policy = AccessPolicy::new(rules.clone());
            let shadowed: Vec<Name> = policy.shadowed().into_iter().map(|(rule, _)| rule.clone()).collect();
            match policy.authorize(&principal, ask) {
                Ok(permit) => {
                    let first = rules.iter().find(|rule| alone(rule).is_ok());
                    prop_assert_eq!(Some(permit.rule()), first.map(|rule| &rule.name));
                    prop_assert!(!shadowed.contains(permit.rule()), "a shadowed rule never decides");
                }
                Err(denial) => {
                    let furthest = rules.iter().filter_map(|rule| alone(rule).err()).map(|alone| alone.reason).max();
                    prop_assert_eq!(denial.reason, furthest.unwrap_or(DenialReason::ModelNotOpened));
                    prop_assert_eq!(denial.nearest.is_none(), denial.reason == DenialReason::ModelNotOpened);
                }
            }
        }
    }
}

//! Who may ask what of which model, from where, under which masks.

use crate::{Location, Name, Principal};

/// What a request does, the same word in the config, the audit trail and the protocol tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// A chat completion.
    Chat,
    /// A text completion.
    Completions,
    /// Embeddings.
    Embeddings,
    /// The list of models.
    Models,
}

/// The masks that a rule applies, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleMasks {
    /// Masks on what goes to the model.
    pub request: Vec<Name>,
    /// Masks on what comes back.
    pub response: Vec<Name>,
}

/// One entry of the access policy. An empty `groups`, `models`, `from` or `endpoints` never comes out of
/// the config compiler unless the key was absent; absent `groups`, `from` and `endpoints` mean any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessRule {
    /// Its name, for the permit and the audit trail.
    pub name: Name,
    /// The caller must be in one of these; `None` means any authenticated caller.
    pub groups: Option<Vec<String>>,
    /// The models it opens.
    pub models: Vec<Name>,
    /// The caller's address must lie in one of these regions; `None` means anywhere.
    pub from: Option<Vec<Name>>,
    /// The operations it opens; `None` means all that the model's server preset knows.
    pub endpoints: Option<Vec<Operation>>,
    /// The masks it applies.
    pub masks: RuleMasks,
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
}

/// Proof that a rule let a request through. Only [`AccessPolicy::authorize`] makes one; the forwarder
/// demands it and the audit trail reads from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    rule: Name,
    model: Name,
    operation: Operation,
    masks: RuleMasks,
}

impl Permit {
    /// The rule that matched.
    #[must_use]
    pub fn rule(&self) -> &Name {
        &self.rule
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
        &self.masks
    }
}

/// Why nothing matched: the furthest that any rule got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DenialReason {
    /// No rule names the model.
    ModelNotOpened,
    /// The caller is in none of the groups that a rule for this model asks for.
    GroupNotAllowed,
    /// The caller's address is in no allowed region.
    CallerRegionNotAllowed,
    /// The operation is not in the rule.
    OperationNotAllowed,
}

/// No rule let it through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The reason, for the caller and the audit trail.
    pub reason: DenialReason,
    /// The rule that came closest, where one did.
    pub nearest: Option<Name>,
}

/// The rules, in the config's order.
#[derive(Clone, Debug, Default)]
pub struct AccessPolicy {
    rules: Vec<AccessRule>,
}

impl AccessPolicy {
    /// A policy of these rules.
    #[must_use]
    pub fn new(rules: Vec<AccessRule>) -> Self {
        Self { rules }
    }

    /// The rules, in order.
    #[must_use]
    pub fn rules(&self) -> &[AccessRule] {
        &self.rules
    }

    /// The first rule that matches decides; no match is a denial.
    ///
    /// # Errors
    /// [`Denial`] with the furthest any rule got.
    pub fn authorize(&self, _principal: &Principal, _ask: Ask<'_>) -> Result<Permit, Denial> {
        unimplemented!()
    }
}

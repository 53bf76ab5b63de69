//! Where a model or workload may send data, as plain networks: what the kernel is given to enforce.

use crate::Name;
use ipnet::IpNet;

/// How strictly a verdict is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Record what happens; decide nothing.
    Monitor,
    /// Decide and report `would-deny`; block nothing.
    Shadow,
    /// Decide and block.
    Enforce,
}

impl Mode {
    /// Every mode, the strictest last.
    pub const ALL: [Self; 3] = [Self::Monitor, Self::Shadow, Self::Enforce];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Monitor => "monitor",
            Self::Shadow => "shadow",
            Self::Enforce => "enforce",
        }
    }
}

/// A named, reasoned hole in the region policy. Every one appears in the evidence.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct EgressException {
    /// The destination.
    pub network: IpNet,
    /// The destination port (TCP and UDP); `None` means every port.
    pub port: Option<u16>,
    /// Why it exists, in the operator's words.
    pub reason: String,
}

/// The compiled egress policy of one model, workload or of the agent itself.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct EgressPolicy {
    /// How strictly it is applied.
    pub mode: Mode,
    /// The regions it allows, by name, for alerts and evidence.
    pub regions: Vec<Name>,
    /// The networks of those regions.
    pub networks: Vec<IpNet>,
    /// The exceptions.
    pub exceptions: Vec<EgressException>,
}

impl EgressPolicy {
    /// Nothing is allowed, and that is enforced: what holds where no policy was written.
    #[must_use]
    pub fn closed() -> Self {
        Self { mode: Mode::Enforce, regions: Vec::new(), networks: Vec::new(), exceptions: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_same_everywhere() {
        for mode in Mode::ALL {
            assert_eq!(serde_json::to_value(mode).unwrap(), mode.as_str());
        }
    }

    #[test]
    fn a_policy_serialises_for_the_evidence() {
        let policy = EgressPolicy {
            exceptions: vec![EgressException {
                network: "192.0.2.10/32".parse().unwrap(),
                port: Some(443),
                reason: "licence server".to_owned(),
            }],
            ..EgressPolicy::closed()
        };
        let expected = serde_json::json!({
            "mode": "enforce", "regions": [], "networks": [],
            "exceptions": [{"network": "192.0.2.10/32", "port": 443, "reason": "licence server"}],
        });
        assert_eq!(serde_json::to_value(policy).unwrap(), expected);
    }
}

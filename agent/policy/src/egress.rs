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

//! What there is to know of a flow, whoever says it: refusals, openings, heads of streams, counters.

use bailiwick_kernel::{Captured, Event, FlowCount, Observation, Opened};

/// One thing that is reported.
#[derive(Clone, Debug)]
pub enum Report {
    /// Something was refused, or would have been.
    Refused(Event),
    /// A held process began a flow that was let pass.
    Opened(Opened),
    /// The head of what a held socket sent or heard.
    Captured(Captured),
    /// How much went, since it was last said.
    Counted(FlowCount),
}

impl From<Observation> for Report {
    fn from(observation: Observation) -> Self {
        match observation {
            Observation::Opened(opened) => Self::Opened(opened),
            Observation::Captured(captured) => Self::Captured(captured),
            Observation::Counted(count) => Self::Counted(count),
        }
    }
}

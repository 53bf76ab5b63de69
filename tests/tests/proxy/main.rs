//! The proxy's promises, each attacked: what reaches the model, what comes back, and what is recorded.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed, in its helpers too")]

mod answers;
mod attacks;
mod callers;
mod certificates;
mod clients;
mod dialects;
mod endings;
mod impostors;
mod kept;
mod metrics;
mod model;
mod places;
mod refusals;
mod streams;
mod traces;
mod unix_upstream;
mod upstreams;
mod world;

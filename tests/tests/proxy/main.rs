//! The proxy's promises, each attacked: what reaches the model, what comes back, and what is recorded.

mod answers;
mod attacks;
mod endings;
mod model;
mod refusals;
mod world;

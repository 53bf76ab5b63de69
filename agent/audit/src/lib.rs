//! # Audit: the tamper-evident trail (theory statement to be written by the room's builder)

mod contract;
pub use contract::*;

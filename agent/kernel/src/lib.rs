//! # Kernel: the only crate that imports aya (theory statement to be written by the room's builder)

mod contract;
pub use contract::*;

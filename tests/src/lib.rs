//! The testbed.
pub mod real;

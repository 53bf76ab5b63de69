//! The testbed.

pub mod binary;

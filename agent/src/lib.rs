//! # The house (map to be completed as rooms land)

pub mod app;
pub mod cli;
pub mod config;
pub mod egress;
pub mod identity;
pub mod protocol;
pub mod proxy;
pub mod state;

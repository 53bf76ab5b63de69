//! # Selftest: the harmless attacks, on this very host

pub mod catalog;

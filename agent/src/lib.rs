//! # The house
//!
//! Bailiwick is one binary. What must not know about each other are crates of their own below this folder;
//! what is here joins them. Three flows run through it, each readable top to bottom in one place:
//!
//! ```text
//! request   proxy/handler.rs   accept → TLS → authenticate → authorize → mask → record → forward → mask → record
//! egress    egress/mod.rs      kernel hook → verdict in the kernel → ring buffer → alert → journal, record
//! config    config/            file → raw → compiled: one immutable policy for the proxy and for the kernel
//! ```
//!
//! | room | what it is | what it must not do |
//! |---|---|---|
//! | [`cli`] | one file a command | decide anything |
//! | [`config`] | TOML to [`config::settings::Settings`], or every error at once | touch kernel, network or disk beyond the files it names |
//! | [`app`] | the only place that puts the parts together | anything else |
//! | [`control`] | what root hands to the running agent, for the trail | give anything away, take orders |
//! | [`proxy`] | the request path, a stage a file | know of BPF |
//! | [`identity`] | a credential to a principal | decide what a principal may do |
//! | [`protocol`] | where text lives in requests, answers and events | know who calls |
//! | [`egress`] | what the kernel refused, in words | decide anything |
//! | `freshness` | says which datasets are too old, at the start, at reloads and daily | fetch or decide anything |
//! | [`metrics`] | health, readiness and numbers for whoever operates it | know who calls or what was said |
//! | [`lock`] | one agent a host | anything else |
//! | [`selftest`] | the list of all attacks, and those that a live host can bear | change anything that stays |
//! | `secret` | one line of a file, wiped | show it |
//! | [`state`] | keys that outlive a run | hold anything else |
//! | [`preflight`] | what this host can hold, and which law is weakened | change anything |
//! | [`traces`] | one span a request, to a collector in a declared region | hold content, block a request |
//! | [`reload`] | another policy, all of it or nothing | anything of the start |
//! | `watch` | kernel truth once a second; repairs, alerts, records | decide anything |
//! | `bailiwick-policy` | pure decisions: regions, rules, permits | I/O, clocks, async |
//! | `bailiwick-regions` | published ranges and country tables: read, checked, kept | decide what a place means; fetch |
//! | `bailiwick-masking` | bytes in, bytes out | I/O, keep or show what it matched |
//! | `bailiwick-audit` | append, checkpoint, verify | hold payloads |
//! | `bailiwick-kernel` | the only one that speaks to the kernel's BPF | know of HTTP |

pub mod app;
pub mod cli;
pub mod config;
pub mod control;
pub mod egress;
mod freshness;
pub mod identity;
pub mod lock;
pub mod metrics;
pub mod preflight;
pub mod protocol;
pub mod proxy;
pub mod reload;
mod secret;
pub mod selftest;
pub mod state;
pub mod traces;
mod watch;

/// A request allocates and frees some hundred times, mostly buffers of a few kilobytes, which the C library's allocator merges
/// and splits each time: a fifth of the processor time of a request (`cargo xtask bench proxy`). A fuzzer brings its own.
#[cfg(not(fuzzing))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

//! # eBPF build: finds an eBPF toolchain and compiles agent-ebpf with it
//!
//! The eBPF programs are compiled for `bpfel-unknown-none`, a target that a stable Rust toolchain has no `core`
//! for. Two kinds of toolchain have one:
//!
//! ```text
//!   distribution   /usr/bin/rustc with a prebuilt core for the target (Debian: rustc-web, libstd-rust-web-dev-bpf),
//!                  driven by the cargo that is running, with RUSTC_BOOTSTRAP=1
//!   rustup         nightly with rust-src, which builds core itself (-Z build-std=core)
//! ```
//!
//! Either needs `bpf-linker`. [`Toolchain::find`] looks for the parts and, when one is missing, says exactly
//! which; `cargo xtask setup` installs them. Used by `agent/kernel`'s build script and by xtask, so that both
//! agree on what is enough.
//!
//! Invariants: finding runs `rustc` and `rustup` to ask them questions, and changes nothing. Compiling writes
//! only below the given directory, with a target directory of its own, so that the cargo that waits for a build
//! script and the cargo inside that script never wait for one lock. Nothing that the outer cargo or rustup set
//! for itself reaches the inner one.

mod compile;
mod find;

pub use compile::{BuildError, PACKAGE, TARGET};
pub use find::{Compiler, Missing, MissingPart, Toolchain};

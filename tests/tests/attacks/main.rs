//! # The attack suite: every way around the guard that is known, tried on the real kernel
//!
//! ```text
//!   way_in      bytes to the model that did not come from the proxy
//!   impostors   somebody else in the model's place
//!   way_out     bytes from the model's slice to where its policy does not allow
//!   lapse       the guard while its agent, its pins or its neighbours in the kernel fail
//!   packets     forged and unusual packets, both ways
//! ```
//!
//! An attack is a row: a name and what it does. What it is about (direction, what closes it, whether it is held at
//! all) stands in the catalog that `bailiwick selftest --list` prints, under the same name, and
//! `catalog.rs` compares the two. Each attack is made twice, the second time against an unguarded twin of the model: a
//! control that fails makes the attack fail, since it would prove nothing. An attack that the catalog calls open must
//! get through, so that the catalog stays true when that changes.
//!
//! A new attack is a row in one of these files and a row in the catalog.

#![allow(
    unreachable_pub,
    unused_imports,
    reason = "the stage is shared by several test programs, each of which uses a part"
)]

#[path = "../kernel_support/mod.rs"]
mod kernel_support;

mod catalog;
mod impostors;
mod lapse;
mod packets;
mod sockets;
mod uring;
mod way_in;
mod way_out;
mod world;

/// Rows of attacks; each becomes a test of its own.
macro_rules! attacks {
    ($($name:ident: $act:expr;)+) => {
        /// This file's attacks.
        pub const ATTACKS: &[$crate::world::Attack] =
            &[$($crate::world::Attack { name: stringify!($name), act: $act }),+];

        $(#[test]
        fn $name() {
            $crate::world::attempt($crate::world::Attack { name: stringify!($name), act: $act });
        })+
    };
}
use attacks;

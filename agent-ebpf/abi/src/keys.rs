//! The keys and values of the policy maps and of the caches. Ports are in host order unless said otherwise.

use crate::{Address, NO_SCOPE};

/// The one entry of `SETTINGS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Settings {
    /// The policy in force; 0 until the first one is applied.
    pub generation: u32,
    /// Moves whenever anything changed that a cached decision may depend on.
    pub epoch: u32,
}

impl Settings {
    /// The next epoch; never 0, which in a cache means none.
    #[must_use]
    pub const fn next_epoch(self) -> u32 {
        let next = self.epoch.wrapping_add(1);
        if next == 0 { 1 } else { next }
    }
}

/// Key of `SCOPES`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ScopeKey {
    /// The policy that this entry belongs to.
    pub generation: u32,
    /// Zero.
    pub padding: u32,
    /// The cgroup, as the kernel numbers it: the inode of its directory.
    pub cgroup_id: u64,
}

/// Value of `SCOPES`: what a cgroup and everything below it is held to.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Its place in the policy's list of scopes; [`NO_SCOPE`] for none.
    pub index: u32,
    /// Whose entries of `DESTINATIONS` apply (equal policies share one set).
    pub policy: u32,
    /// The guarded port of a model; 0 for none.
    pub port: u16,
    /// [`crate::Kind`]; 0 when there is no scope.
    pub kind: u8,
    /// [`crate::Mode`]
    pub mode: u8,
    /// Whether `DESTINATIONS` has entries of this policy with a port.
    pub has_ports: u8,
    /// Whether `DESTINATIONS` has entries of this policy with [`Destination::PEER`].
    pub has_peers: u8,
    /// Zero.
    pub padding: [u8; 2],
}

impl Scope {
    /// No scope: nothing of ours.
    pub const NONE: Self = Self {
        index: NO_SCOPE,
        policy: NO_SCOPE,
        port: 0,
        kind: 0,
        mode: 0,
        has_ports: 0,
        has_peers: 0,
        padding: [0; 2],
    };
}

/// Value of `HELD`, an entry for each scope and each of two generations: see [`HeldScope::slot`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldScope {
    /// The policy that this entry belongs to; of another one it says nothing.
    pub generation: u32,
    /// What it says.
    pub scope: Scope,
}

impl HeldScope {
    /// The entry of a scope: two generations exist side by side while the policy is switched, and no more.
    #[inline(always)]
    #[must_use]
    pub const fn slot(generation: u32, index: u32) -> u32 {
        index << 1 | generation & 1
    }
}

/// Value of `PORTS`, an entry for each port and each of two generations: see [`PortOwner::slot`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PortOwner {
    /// The policy that this entry belongs to; of another one it says nothing.
    pub generation: u32,
    /// The index of the model that the port belongs to.
    pub index: u32,
}

impl PortOwner {
    /// The entry of a port: two generations exist side by side while the policy is switched, and no more.
    #[inline(always)]
    #[must_use]
    pub const fn slot(generation: u32, port: u16) -> u32 {
        (port as u32) << 1 | generation & 1
    }
}

/// The bits of a [`DestinationKey`] before the address; every prefix is at least this long.
pub const DESTINATION_FIXED_BITS: u32 = 96;

/// Key of `DESTINATIONS`, without the prefix length that the trie puts in front.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct DestinationKey {
    /// The policy that this entry belongs to, in network order.
    pub generation: u32,
    /// [`Scope::policy`], in network order.
    pub policy: u32,
    /// The port in network order; 0 means every port.
    pub port: u16,
    /// 4 or 6, so that an IPv6 prefix never covers an IPv4 address.
    pub family: u8,
    /// Zero.
    pub padding: u8,
    /// The network.
    pub address: Address,
}

/// Value of `DESTINATIONS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Destination {
    /// [`Destination::REGION`], [`Destination::EXCEPTION`], [`Destination::PEER`] or a sum of them; 0 is a hole in the
    /// wider network around it.
    pub flags: u32,
}

impl Destination {
    /// A network of an allowed region.
    pub const REGION: u32 = 1;
    /// A named exception: opens loopback and opaque tunnels, too.
    pub const EXCEPTION: u32 = 2;
    /// A named peer of a model, under a port: may connect to that port of the model's slice, and be sent to at
    /// that port of its own. Opens neither loopback nor opaque tunnels.
    pub const PEER: u32 = 4;
}

/// Key of `NAMES`; the value is the scope's name.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct NameKey {
    /// The policy that this entry belongs to.
    pub generation: u32,
    /// [`Scope::index`]
    pub index: u32,
}

const _: () = {
    assert!(size_of::<Settings>() == 8);
    assert!(size_of::<ScopeKey>() == 16);
    assert!(size_of::<Scope>() == 16);
    assert!(size_of::<HeldScope>() == 20);
    assert!(size_of::<PortOwner>() == 8);
    assert!(size_of::<DestinationKey>() == 28);
    assert!(core::mem::offset_of!(DestinationKey, address) * 8 == DESTINATION_FIXED_BITS as usize);
    assert!(size_of::<Destination>() == 4);
    assert!(size_of::<NameKey>() == 8);
};

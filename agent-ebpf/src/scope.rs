//! From a process, a socket or a peer to the scope that holds it.

use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock},
    helpers::generated::{
        bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id, bpf_sk_ancestor_cgroup_id,
        bpf_sk_cgroup_id, bpf_skb_ancestor_cgroup_id, bpf_skb_cgroup_id,
    },
};
use bailiwick_abi::{Cache, HeldScope, Kind, MAX_DEPTH, Membership, PortOwner, Scope, ScopeKey, Settings};

use crate::{
    cache,
    maps::{CGROUPS, HELD, PORTS, SCOPES, SETTINGS},
};

/// What is in force now. Read once per program run, so that one run sees one policy.
#[inline(always)]
pub(crate) fn settings() -> Settings {
    SETTINGS.get(0).copied().unwrap_or(Settings { generation: 0, epoch: 0 })
}

/// The index of the model that `port` belongs to.
#[inline(always)]
pub(crate) fn port_owner(settings: Settings, port: u16) -> Option<u32> {
    // The agent never rewrites an entry in force.
    let owner = PORTS.get(PortOwner::slot(settings.generation, port))?;
    if owner.generation == settings.generation { Some(owner.index) } else { None }
}

#[inline(always)]
pub(crate) fn is(scope: &Scope, kind: Kind) -> bool {
    scope.kind == kind.tag()
}

/// Whether the current task is known to be in no scope: a word read from an array, which is what this costs everyone
/// on the host. False where it is not known.
#[inline(always)]
pub(crate) fn current_is_stranger(settings: Settings) -> bool {
    // SAFETY: no arguments.
    let own = unsafe { bpf_get_current_cgroup_id() };
    matches!(membership(settings, own), Some(Membership::Stranger))
}

/// The cgroup of the current task, and its scope.
#[inline(always)]
pub(crate) fn of_current(settings: Settings) -> (u64, Scope) {
    // SAFETY: no arguments.
    let own = unsafe { bpf_get_current_cgroup_id() };
    // SAFETY: no pointer arguments.
    (own, resolve(settings, own, |level| unsafe { bpf_get_current_ancestor_cgroup_id(level) }))
}

/// The cgroup of the packet's socket, and its scope.
///
/// Not inlined, to keep the frames of the programs small: Linux 5.10 rounds each up and allows 512 bytes in all.
#[inline(never)]
pub(crate) fn of_packet(settings: &Settings, skb: *mut __sk_buff) -> (u64, Scope) {
    // SAFETY: `skb` is the program's context.
    let own = unsafe { bpf_skb_cgroup_id(skb) };
    // SAFETY: as above.
    (own, resolve(*settings, own, |level| unsafe { bpf_skb_ancestor_cgroup_id(skb, level) }))
}

/// The cgroup of a socket that was looked up, and its scope; a socket in TIME_WAIT has lost its cgroup and is in
/// none.
#[inline(always)]
pub(crate) fn of_socket(settings: Settings, socket: *mut bpf_sock) -> (u64, Scope) {
    // SAFETY: `socket` is a reference that the caller holds.
    let own = unsafe { bpf_sk_cgroup_id(socket.cast()) };
    if own == 0 {
        return (0, Scope::NONE);
    }
    // SAFETY: as above.
    (own, resolve(settings, own, |level| unsafe { bpf_sk_ancestor_cgroup_id(socket.cast(), level) }))
}

/// What is remembered of a cgroup.
#[inline(always)]
fn membership(settings: Settings, cgroup_id: u64) -> Option<Membership> {
    let slot = Cache::CGROUPS.slot(cgroup_id, settings.epoch)?;
    Membership::of(cache::recall(&CGROUPS, Cache::CGROUPS, slot))
}

/// The innermost ancestor that is a scope. The agent refuses policies in which a scope lies inside a model or
/// inside the proxy, so being inside can only add restrictions.
#[inline(always)]
fn resolve(settings: Settings, own: u64, ancestor: impl Fn(i32) -> u64) -> Scope {
    match membership(settings, own) {
        Some(Membership::Stranger) => return Scope::NONE,
        Some(Membership::Member(index)) => {
            // The agent never rewrites an entry in force.
            if let Some(held) = HELD.get(HeldScope::slot(settings.generation, index))
                && held.generation == settings.generation
            {
                return held.scope;
            }
        }
        None => {}
    }
    let mut found = Scope::NONE;
    for level in 1..=MAX_DEPTH as i32 {
        let cgroup_id = ancestor(level);
        if cgroup_id == 0 {
            break;
        }
        let key = ScopeKey { generation: settings.generation, padding: 0, cgroup_id };
        // SAFETY: copied at once; entries in force are not rewritten.
        if let Some(scope) = unsafe { SCOPES.get(&key) } {
            found = *scope;
        }
    }
    let membership = if found.kind == 0 { Membership::Stranger } else { Membership::Member(found.index) };
    if let Some(slot) = Cache::CGROUPS.slot(own, settings.epoch)
        && let Some(finding) = membership.finding()
    {
        cache::remember(&CGROUPS, Cache::CGROUPS, slot, finding);
    }
    found
}

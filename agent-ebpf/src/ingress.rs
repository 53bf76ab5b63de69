//! Packets to a socket: the way in. Runs after the socket lookup, for local and remote senders alike.

use aya_ebpf::{
    EbpfContext, bindings::bpf_sock, helpers::generated::bpf_get_socket_cookie, macros::cgroup_skb,
    programs::SkBuffContext,
};
use bailiwick_abi::{Hook, Kind, Mode, Reason, Scope};

use crate::{
    maps::ADMITTED,
    packet::{Ends, TCP, parse},
    peer,
    report::{self, PASS, Site},
    scope,
    verdict::{is_local, mode, verdict},
};

const STATE_LISTEN: u32 = 10;

#[cgroup_skb(ingress)]
pub(crate) fn ingress(ctx: SkBuffContext) -> i32 {
    let settings = scope::settings();
    if settings.generation == 0 {
        return PASS;
    }
    let (cgroup_id, scope) = scope::of_packet(settings, ctx.skb.skb);
    let site = Site { hook: Hook::Ingress, settings, cgroup_id };
    let (listening, port) = receiving(&ctx);
    if !scope::is(&scope, Kind::Model) {
        // A listener on a guarded port outside the model's slice: an impostor, or the model's own slice before
        // the agent has seen it. Either way the port stays shut.
        if !listening {
            return PASS;
        }
        let Some(owner) = scope::port_owner(settings, port) else {
            return PASS;
        };
        let mut ends = Ends::UNKNOWN;
        let reason = parse(&ctx, &mut ends).err().unwrap_or(Reason::NotProxy);
        return report::refuse(&site, owner, reason, &ends);
    }
    let mut ends = Ends::UNKNOWN;
    if let Err(reason) = parse(&ctx, &mut ends) {
        return report::refuse(&site, scope.index, reason, &ends);
    }
    if ends.protocol != TCP {
        return datagram(&site, &ctx, &scope, &ends);
    }
    if ends.destination_port == scope.port {
        return guarded(&site, &ctx, &scope, &ends, listening);
    }
    if !listening {
        return standing(&site, &ctx, &scope, &ends);
    }
    if peer::sender(&settings, &ctx, &ends).index != scope.index {
        return report::refuse(&site, scope.index, Reason::Sealed, &ends);
    }
    PASS
}

/// A connection that stands: one that the slice opened to where it may, or one inside the slice. What somebody
/// opened to it before the guard stood is neither. Where egress is not enforced the first cannot be told.
#[inline(always)]
fn standing(site: &Site, ctx: &SkBuffContext, scope: &Scope, ends: &Ends) -> i32 {
    if mode(scope) != Mode::Enforce {
        return PASS;
    }
    // SAFETY: the context is the program's own.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    // SAFETY: four bytes, read once.
    if let Some(epoch) = unsafe { ADMITTED.get(&cookie) }
        && *epoch == site.settings.epoch
    {
        return PASS;
    }
    let local = is_local(&ends.source);
    if verdict(&site.settings, scope, &ends.source, ends.source_port, local).is_ok()
        || (local && peer::sender(&site.settings, ctx, ends).index == scope.index)
    {
        let _ = ADMITTED.insert(&cookie, &site.settings.epoch, 0);
        return PASS;
    }
    report::refuse(site, scope.index, Reason::Sealed, ends)
}

/// The guarded port: only the proxy, and the slice itself.
#[inline(always)]
fn guarded(site: &Site, ctx: &SkBuffContext, scope: &Scope, ends: &Ends, listening: bool) -> i32 {
    // A connection is asked about once. Its late packets come from a socket in TIME_WAIT, which has no cgroup.
    // A listener is asked about every time: behind its cookie there are many senders.
    // SAFETY: the context is the program's own.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    if !listening {
        // SAFETY: four bytes, read once.
        if let Some(epoch) = unsafe { ADMITTED.get(&cookie) }
            && *epoch == site.settings.epoch
        {
            return PASS;
        }
    }
    let sender = peer::sender(&site.settings, ctx, ends);
    if !scope::is(&sender, Kind::Proxy) && sender.index != scope.index {
        return report::refuse(site, scope.index, Reason::NotProxy, ends);
    }
    if !listening {
        let _ = ADMITTED.insert(&cookie, &site.settings.epoch, 0);
    }
    PASS
}

/// Answers from where the model may send to, and talk inside the slice; never to the guarded port.
#[inline(always)]
fn datagram(site: &Site, ctx: &SkBuffContext, scope: &Scope, ends: &Ends) -> i32 {
    if ends.destination_port == scope.port {
        return report::refuse(site, scope.index, Reason::NotProxy, ends);
    }
    if mode(scope) == Mode::Monitor {
        return PASS;
    }
    let local = is_local(&ends.source);
    if verdict(&site.settings, scope, &ends.source, ends.source_port, local).is_ok() {
        return PASS;
    }
    if local && peer::sender(&site.settings, ctx, ends).index == scope.index {
        return PASS;
    }
    report::settle(site, scope, Err(Reason::Sealed), ends)
}

/// Whether the receiving socket is a TCP listener, and its port.
#[inline(always)]
fn receiving(ctx: &SkBuffContext) -> (bool, u16) {
    // SAFETY: the program's context; the kernel sets the socket for this hook, and null is checked.
    unsafe {
        let socket: *mut bpf_sock = core::ptr::read_volatile(&raw const (*ctx.skb.skb).__bindgen_anon_2.sk);
        if socket.is_null() {
            return (false, 0);
        }
        let state = core::ptr::read_volatile(&raw const (*socket).state);
        let port = core::ptr::read_volatile(&raw const (*socket).src_port);
        (state == STATE_LISTEN, port as u16)
    }
}

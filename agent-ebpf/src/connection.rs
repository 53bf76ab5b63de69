//! A connection is decided once and remembered in its socket, for as long as the policy stays as it is.
//!
//! What is remembered holds both ways, because what allows the one way allows the other: the far end is the proxy,
//! inside the slice, a named peer, or where the policy lets the slice send to. Only TCP is remembered: an unconnected
//! socket's next datagram may have another end, and a raw socket's next packet any.

use core::{cell::UnsafeCell, ffi::c_void, marker::PhantomData};

use aya_ebpf::{
    bindings::{
        BPF_F_CLONE, BPF_F_NO_PREALLOC, BPF_SK_STORAGE_GET_F_CREATE, bpf_map_def,
        bpf_map_type::BPF_MAP_TYPE_SK_STORAGE, bpf_sock,
    },
    helpers::generated::{bpf_sk_fullsock, bpf_sk_storage_get},
    programs::SkBuffContext,
};
use bailiwick_abi::Connection;

use crate::{maps::SOCKETS, packet::TCP};

const STATE_SYN_SENT: u32 = 2;
const STATE_LISTEN: u32 = 10;

/// A map of `BPF_MAP_TYPE_SK_STORAGE`. Declared without BTF, which the agent gives the kernel when it makes the map
/// (agent/kernel/src/storage.rs), so that the object itself needs none.
#[repr(transparent)]
pub(crate) struct SocketStorage<T> {
    definition: UnsafeCell<bpf_map_def>,
    value: PhantomData<T>,
}

// SAFETY: only the kernel writes through it, and it knows how.
unsafe impl<T> Sync for SocketStorage<T> {}

impl<T> SocketStorage<T> {
    pub(crate) const fn new() -> Self {
        let definition = bpf_map_def {
            type_: BPF_MAP_TYPE_SK_STORAGE,
            key_size: size_of::<i32>() as u32,
            value_size: size_of::<T>() as u32,
            max_entries: 0,
            map_flags: BPF_F_NO_PREALLOC | BPF_F_CLONE,
            id: 0,
            pinning: 0,
        };
        Self { definition: UnsafeCell::new(definition), value: PhantomData }
    }

    /// The socket's value; null when it has none, or none could be made.
    #[inline(always)]
    fn of(&self, socket: *mut bpf_sock, flags: u32) -> *mut T {
        let map: *mut c_void = self.definition.get().cast();
        // SAFETY: the map is the program's own, and the socket comes from its context.
        unsafe {
            bpf_sk_storage_get(map.cast(), socket.cast(), core::ptr::null_mut(), u64::from(flags)).cast()
        }
    }
}

/// The packet's own socket: the one that it came to, or that sent it.
#[derive(Clone, Copy)]
pub(crate) struct Socket {
    /// Not null.
    socket: *mut bpf_sock,
    state: u32,
}

impl Socket {
    /// The kernel sets it for both packet hooks; without one nothing is remembered.
    #[inline(always)]
    pub(crate) fn of(ctx: &SkBuffContext) -> Option<Self> {
        // SAFETY: the program's context; null is checked before it is read.
        unsafe {
            let socket: *mut bpf_sock =
                core::ptr::read_volatile(&raw const (*ctx.skb.skb).__bindgen_anon_2.sk);
            if socket.is_null() {
                return None;
            }
            Some(Self { socket, state: core::ptr::read_volatile(&raw const (*socket).state) })
        }
    }

    /// Whether it is a listener: behind it there are many senders, and none is remembered.
    #[inline(always)]
    pub(crate) fn listens(self) -> bool {
        self.state == STATE_LISTEN
    }

    /// Whether it waits for the first answer: what it opened is not decided yet.
    #[inline(always)]
    pub(crate) fn opens(self) -> bool {
        self.state == STATE_SYN_SENT
    }

    /// Whether its connection is known to be allowed.
    #[inline(always)]
    pub(crate) fn is_allowed(self, epoch: u32) -> bool {
        let value: *mut Connection = SOCKETS.of(self.socket, 0);
        // SAFETY: a live, aligned map value, if any.
        !value.is_null() && unsafe { core::ptr::read_volatile(&raw const (*value).epoch) } == epoch
    }

    /// Remembers that its connection is allowed. Of a listener that is not for itself: whoever reaches it is decided
    /// about with each packet, so that what it accepts was decided about before it is born.
    #[inline(always)]
    pub(crate) fn allow(self, epoch: u32) {
        // SAFETY: not null; the result is checked before it is read.
        let is_tcp = unsafe {
            let full = bpf_sk_fullsock(self.socket);
            !full.is_null() && core::ptr::read_volatile(&raw const (*full).protocol) as u8 == TCP
        };
        if !is_tcp {
            return;
        }
        let value: *mut Connection = SOCKETS.of(self.socket, BPF_SK_STORAGE_GET_F_CREATE);
        if !value.is_null() {
            // SAFETY: a live, aligned map value.
            unsafe { core::ptr::write_volatile(&raw mut (*value).epoch, epoch) };
        }
    }
}

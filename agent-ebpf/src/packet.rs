//! From the bytes of a packet to its ends: the header decides, not what the socket says of itself.

use aya_ebpf::programs::SkBuffContext;
use bailiwick_abi::{Address, Reason};

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;

/// The ends of a packet, or of a call. Ports are in host order. Aligned so that it is cleared by words, in place.
#[repr(align(8))]
#[derive(Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) source: Address,
    pub(crate) destination: Address,
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    pub(crate) protocol: u8,
    /// TCP: the flags as they are. What they mean is asked for where it matters: an answer that was kept would be one more
    /// thing in which the verifier tells states apart.
    pub(crate) flags: u8,
    /// Bytes before the payload.
    pub(crate) headers: u8,
    /// TCP: bytes of the payload.
    pub(crate) payload: u32,
    /// TCP: the sequence number of the first byte, the SYN counted as one.
    pub(crate) sequence: u32,
}

impl Ends {
    pub(crate) const UNKNOWN: Self = Self {
        source: Address::UNSPECIFIED,
        destination: Address::UNSPECIFIED,
        source_port: 0,
        destination_port: 0,
        protocol: 0,
        flags: 0,
        headers: 0,
        payload: 0,
        sequence: 0,
    };

    /// The first packet of a TCP connection.
    #[inline(always)]
    pub(crate) fn opening(&self) -> bool {
        self.flags & (SYN | ACK) == SYN
    }

    /// A TCP reset. The kernel reads nothing else of such a packet.
    #[inline(always)]
    pub(crate) fn reset(&self) -> bool {
        self.flags & RST != 0
    }

    /// A TCP packet that acknowledges, and neither opens nor ends anything.
    #[inline(always)]
    pub(crate) fn acknowledging(&self) -> bool {
        self.flags & (SYN | RST | FIN | ACK) == ACK
    }

    /// Of TCP: a packet without a payload.
    #[inline(always)]
    pub(crate) fn empty(&self) -> bool {
        self.payload == 0
    }
}

/// RFC 9293, 3.1.
const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// The bytes that can be read at once: the kernel sees to it that they hold the headers of the packets of its own
/// protocols, in this hook.
#[derive(Clone, Copy)]
struct Bytes {
    start: usize,
    end: usize,
}

impl Bytes {
    #[inline(always)]
    fn of(ctx: &SkBuffContext) -> Self {
        // SAFETY: the program's context; each field is read once, as the verifier wants it.
        unsafe {
            let raw = ctx.skb.skb;
            Self {
                start: core::ptr::read_volatile(&raw const (*raw).data) as usize,
                end: core::ptr::read_volatile(&raw const (*raw).data_end) as usize,
            }
        }
    }

    #[inline(always)]
    fn hold(self, length: usize) -> bool {
        self.start + length <= self.end
    }

    /// # Safety
    /// `hold` must have said that `at + size_of::<T>()` bytes are there. BPF reads a word at any address.
    #[inline(always)]
    unsafe fn read<T>(self, at: usize) -> T {
        // SAFETY: the caller's promise.
        unsafe { core::ptr::read_volatile((self.start + at) as *const T) }
    }
}

/// Whether the packet is TCP behind a header without options or extensions: then the kernel wrote its addresses from
/// the connection's own. (A socket can be given a source route after it was connected.)
#[inline(always)]
pub(crate) fn is_plain_tcp(ctx: &SkBuffContext) -> bool {
    let bytes = Bytes::of(ctx);
    if !bytes.hold(V4_LENGTH) {
        return false;
    }
    // SAFETY: within the bounds that were just checked.
    let (first, next_header, protocol) =
        unsafe { (bytes.read::<u8>(0), bytes.read::<u8>(6), bytes.read::<u8>(9)) };
    match first >> 4 {
        4 => first == 0x45 && protocol == TCP,
        6 => next_header == TCP,
        _ => false,
    }
}

/// Of plain TCP ([`is_plain_tcp`]): whether it carries a payload; true where that cannot be told.
#[inline(always)]
pub(crate) fn has_payload(ctx: &SkBuffContext) -> bool {
    let bytes = Bytes::of(ctx);
    if !bytes.hold(V4_LENGTH + TCP_LENGTH) {
        return true;
    }
    // SAFETY: within the bounds that were just checked.
    let first: u8 = unsafe { bytes.read(0) };
    let headers = if first >> 4 == 4 {
        // SAFETY: as above.
        V4_LENGTH + tcp_length(unsafe { bytes.read(V4_LENGTH + TCP_WORDS_AT) })
    } else {
        if !bytes.hold(V6_LENGTH + TCP_LENGTH) {
            return true;
        }
        // SAFETY: within the bounds that were just checked.
        V6_LENGTH + tcp_length(unsafe { bytes.read(V6_LENGTH + TCP_WORDS_AT) })
    };
    ctx.len() != headers as u32
}

const V4_LENGTH: usize = 20;
const V6_LENGTH: usize = 40;
const TCP_LENGTH: usize = 20;
/// Where the TCP header says how long it is (RFC 9293, 3.1: Data Offset).
const TCP_WORDS_AT: usize = 12;
const UDP_LENGTH: usize = 8;

/// Reads the header into `ends`, as far as it can be read; what is not plain TCP or UDP comes with a reason.
#[inline(always)]
pub(crate) fn parse(ctx: &SkBuffContext, ends: &mut Ends) -> Result<(), Reason> {
    let bytes = Bytes::of(ctx);
    if !bytes.hold(V4_LENGTH) {
        return Err(Reason::Malformed);
    }
    // SAFETY: within the bounds that were just checked.
    let first: u8 = unsafe { bytes.read(0) };
    // IPv6 first: what the verifier has gone through for any address covers IPv4's, of which it knows three words.
    match first >> 4 {
        6 => {
            parse_v6(bytes, ends)?;
            parse_transport::<V6_LENGTH>(bytes, ctx.len() as usize, ends)
        }
        4 => {
            parse_v4(bytes, first, ends)?;
            parse_transport::<V4_LENGTH>(bytes, ctx.len() as usize, ends)
        }
        _ => Err(Reason::Malformed),
    }
}

/// The caller has checked the first twenty bytes.
#[inline(always)]
fn parse_v4(bytes: Bytes, first: u8, ends: &mut Ends) -> Result<(), Reason> {
    const MORE_FRAGMENTS_AND_OFFSET: u16 = 0x3fff;
    // SAFETY: within the bounds that the caller checked.
    let (fragment, protocol, source, destination) =
        unsafe { (bytes.read::<u16>(6), bytes.read::<u8>(9), bytes.read(12), bytes.read(16)) };
    ends.source = Address::from_v4(source);
    ends.destination = Address::from_v4(destination);
    ends.protocol = protocol;
    // Options can carry a source route; fragments hide the ports of what follows. Neither comes from a socket
    // that was not asked for it: fragmentation happens after this hook, reassembly before.
    if first & 0x0f != 5 || u16::from_be(fragment) & MORE_FRAGMENTS_AND_OFFSET != 0 {
        return Err(Reason::Malformed);
    }
    known(protocol)
}

#[inline(always)]
fn parse_v6(bytes: Bytes, ends: &mut Ends) -> Result<(), Reason> {
    if !bytes.hold(V6_LENGTH) {
        return Err(Reason::Malformed);
    }
    // SAFETY: within the bounds that were just checked.
    unsafe {
        ends.source = Address([bytes.read(8), bytes.read(12), bytes.read(16), bytes.read(20)]);
        ends.destination = Address([bytes.read(24), bytes.read(28), bytes.read(32), bytes.read(36)]);
        ends.protocol = bytes.read(6);
    }
    // Hop-by-hop, routing, fragment and destination options can redirect or hide what follows.
    if matches!(ends.protocol, 0 | 43 | 44 | 60) {
        return Err(Reason::Malformed);
    }
    known(ends.protocol)
}

/// Ports, and what a TCP packet is for, at a fixed offset: the two headers before it have fixed lengths here.
#[inline(always)]
fn parse_transport<const AT: usize>(bytes: Bytes, length: usize, ends: &mut Ends) -> Result<(), Reason> {
    if !bytes.hold(AT + UDP_LENGTH) {
        return Err(Reason::Malformed);
    }
    // SAFETY: within the bounds that were just checked.
    let (source_port, destination_port): (u16, u16) = unsafe { (bytes.read(AT), bytes.read(AT + 2)) };
    ends.source_port = u16::from_be(source_port);
    ends.destination_port = u16::from_be(destination_port);
    if ends.protocol != TCP {
        ends.headers = (AT + UDP_LENGTH) as u8;
        return Ok(());
    }
    if !bytes.hold(AT + TCP_LENGTH) {
        return Err(Reason::Malformed);
    }
    // SAFETY: within the bounds that were just checked.
    let (sequence, words, flags): (u32, u8, u8) =
        unsafe { (bytes.read(AT + 4), bytes.read(AT + TCP_WORDS_AT), bytes.read(AT + 13)) };
    ends.sequence = u32::from_be(sequence);
    ends.headers = (AT + tcp_length(words)) as u8;
    ends.payload = (length as u32).wrapping_sub(u32::from(ends.headers));
    ends.flags = flags;
    Ok(())
}

/// The bytes of a TCP header, by the byte that holds its data offset.
#[inline(always)]
fn tcp_length(data_offset: u8) -> usize {
    (data_offset >> 4) as usize * 4
}

#[inline(always)]
fn known(protocol: u8) -> Result<(), Reason> {
    if protocol == TCP || protocol == UDP { Ok(()) } else { Err(Reason::ProtocolNotAllowed) }
}

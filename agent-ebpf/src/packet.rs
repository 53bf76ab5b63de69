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
    /// The first packet of a TCP connection.
    pub(crate) opening: bool,
    /// A TCP reset. The kernel reads nothing else of such a packet.
    pub(crate) reset: bool,
    /// A TCP packet without a payload.
    pub(crate) empty: bool,
}

impl Ends {
    pub(crate) const UNKNOWN: Self = Self {
        source: Address::UNSPECIFIED,
        destination: Address::UNSPECIFIED,
        source_port: 0,
        destination_port: 0,
        protocol: 0,
        opening: false,
        reset: false,
        empty: false,
    };
}

/// Whether the packet is TCP behind a header without options or extensions: then the kernel wrote its addresses from
/// the connection's own. (A socket can be given a source route after it was connected.)
#[inline(always)]
pub(crate) fn is_plain_tcp(ctx: &SkBuffContext) -> bool {
    const SHORTEST: usize = 20;
    // SAFETY: the program's context; each field is read once, as the verifier wants it.
    let (start, end) = unsafe {
        let raw = ctx.skb.skb;
        (
            core::ptr::read_volatile(&raw const (*raw).data) as usize,
            core::ptr::read_volatile(&raw const (*raw).data_end) as usize,
        )
    };
    if start + SHORTEST > end {
        return false;
    }
    // SAFETY: within the bounds that were just checked.
    let byte = |at: usize| unsafe { core::ptr::read_volatile((start + at) as *const u8) };
    let first = byte(0);
    match first >> 4 {
        4 => first == 0x45 && byte(9) == TCP,
        6 => byte(6) == TCP,
        _ => false,
    }
}

/// Reads the header into `ends`, as far as it can be read; what is not plain TCP or UDP comes with a reason.
#[inline(always)]
pub(crate) fn parse(ctx: &SkBuffContext, ends: &mut Ends) -> Result<(), Reason> {
    let first: u8 = ctx.load(0).map_err(|_| Reason::Malformed)?;
    let offset = match first >> 4 {
        4 => parse_v4(ctx, first, ends)?,
        6 => parse_v6(ctx, ends)?,
        _ => return Err(Reason::Malformed),
    };
    // Only literal offsets reach the loads: the two headers have fixed lengths here.
    let ports: [u16; 2] = ctx.load(offset).map_err(|_| Reason::Malformed)?;
    ends.source_port = u16::from_be(ports[0]);
    ends.destination_port = u16::from_be(ports[1]);
    if ends.protocol == TCP {
        const SYN: u8 = 0x02;
        const RST: u8 = 0x04;
        const ACK: u8 = 0x10;
        let words: u8 = ctx.load(offset + 12).map_err(|_| Reason::Malformed)?;
        ends.empty = ctx.len() as usize == offset + usize::from(words >> 4) * 4;
        let flags: u8 = ctx.load(offset + 13).map_err(|_| Reason::Malformed)?;
        ends.opening = flags & (SYN | ACK) == SYN;
        ends.reset = flags & RST != 0;
    }
    Ok(())
}

#[inline(always)]
fn parse_v4(ctx: &SkBuffContext, first: u8, ends: &mut Ends) -> Result<usize, Reason> {
    const MORE_FRAGMENTS_AND_OFFSET: u16 = 0x3fff;
    // flags and offset, time to live and protocol, checksum, then the addresses
    let rest: [u16; 3] = ctx.load(6).map_err(|_| Reason::Malformed)?;
    let addresses: [u32; 2] = ctx.load(12).map_err(|_| Reason::Malformed)?;
    ends.source = Address::from_v4(addresses[0]);
    ends.destination = Address::from_v4(addresses[1]);
    ends.protocol = (u16::from_be(rest[1]) & 0xff) as u8;
    // Options can carry a source route; fragments hide the ports of what follows. Neither comes from a socket
    // that was not asked for it: fragmentation happens after this hook, reassembly before.
    if first & 0x0f != 5 || u16::from_be(rest[0]) & MORE_FRAGMENTS_AND_OFFSET != 0 {
        return Err(Reason::Malformed);
    }
    known(ends.protocol)?;
    Ok(20)
}

#[inline(always)]
fn parse_v6(ctx: &SkBuffContext, ends: &mut Ends) -> Result<usize, Reason> {
    let next_header: u8 = ctx.load(6).map_err(|_| Reason::Malformed)?;
    let addresses: [[u32; 4]; 2] = ctx.load(8).map_err(|_| Reason::Malformed)?;
    ends.source = Address(addresses[0]);
    ends.destination = Address(addresses[1]);
    ends.protocol = next_header;
    // Hop-by-hop, routing, fragment and destination options can redirect or hide what follows.
    if matches!(next_header, 0 | 43 | 44 | 60) {
        return Err(Reason::Malformed);
    }
    known(next_header)?;
    Ok(40)
}

#[inline(always)]
fn known(protocol: u8) -> Result<(), Reason> {
    if protocol == TCP || protocol == UDP { Ok(()) } else { Err(Reason::ProtocolNotAllowed) }
}

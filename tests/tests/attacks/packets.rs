//! Forged and unusual packets, both ways: raw sockets, options, extension headers, frames past the IP layer.

use std::{
    io,
    net::{IpAddr, Ipv6Addr},
    os::fd::{AsRawFd, OwnedFd},
};

use crate::{
    attacks,
    kernel_support::PROXY,
    sockets::{self, at, connect, raw, send_to, set_bytes, socket, tcp, udp},
    world::{Gain, Scene},
};

const LOCAL: [u8; 4] = [127, 0, 0, 1];
const ABROAD: [u8; 4] = [192, 0, 2, 2];
const HERE: [u8; 4] = [192, 0, 2, 1];
const FRIEND: [u8; 4] = [198, 51, 100, 2];

attacks! {
    raw_forged_udp: |s| s.outsider(|| {
        let packet = udp_v4(LOCAL, LOCAL, 4000, s.side(), &s.marker);
        send_to(&raw(at("127.0.0.1", 0), libc::IPPROTO_RAW)?, &packet, at("127.0.0.1", 0))
    });
    raw_forged_udp_from_the_proxys_port: |s| s.outsider(|| {
        let packet = udp_v4(LOCAL, LOCAL, 8443, s.port(), &s.marker);
        send_to(&raw(at("127.0.0.1", 0), libc::IPPROTO_RAW)?, &packet, at("127.0.0.1", 0))
    });
    raw_forged_udp_from_the_models_own_port: |s| s.outsider(|| {
        // The reverse lookup of the sender finds the model's own socket.
        let packet = udp_v4(LOCAL, LOCAL, s.side(), s.side(), &s.marker);
        send_to(&raw(at("127.0.0.1", 0), libc::IPPROTO_RAW)?, &packet, at("127.0.0.1", 0))
    });
    frame_forged_udp_from_the_models_own_port: |s| s.outsider(|| {
        let packet = udp_v4(LOCAL, LOCAL, s.side(), s.side(), &s.marker);
        frame_on_loopback(&packet)
    });
    raw_udp_to_a_named_resolvers_port: |s| s.outsider(|| {
        // From an address that the model may talk to, so that only the seal can refuse it.
        let from = if s.guarded { [127, 0, 0, 54] } else { LOCAL };
        let packet = udp_v4(from, LOCAL, if s.guarded { 53 } else { 4000 }, s.port(), &s.marker);
        send_to(&raw(at("127.0.0.1", 0), libc::IPPROTO_RAW)?, &packet, at("127.0.0.1", 0))
    });
    raw_inject_into_the_proxys_connection: |s| inject(s, By::RawSocket);
    frame_inject_into_the_proxys_connection: |s| inject(s, By::Frame);
    raw_experiment: |s| s.outsider(|| {
        send_to(&raw(at("127.0.0.1", 0), sockets::EXPERIMENT)?, &s.marker, at("127.0.0.1", 0))
    });
    raw_experiment_v6: |s| s.outsider(|| {
        send_to(&raw(at("::1", 0), sockets::EXPERIMENT)?, &s.marker, at("::1", 0))
    });
    raw_sctp: |s| s.outsider(|| {
        send_to(&raw(at("127.0.0.1", 0), sockets::SCTP)?, &s.marker, at("127.0.0.1", 0))
    });
    raw_experiment_remote: |s| s.remote(|| {
        send_to(&raw(at("203.0.113.1", 0), sockets::EXPERIMENT)?, &s.marker, at("203.0.113.1", 0))
    });
    icmp_tunnel: |s| s.outsider(|| {
        let echo = [&[8, 0, 0, 0, 0, 1, 0, 1], s.marker.as_slice()].concat();
        send_to(&raw(at("127.0.0.1", 0), libc::IPPROTO_ICMP)?, &echo, at("127.0.0.1", 0))
    });
    icmp_tunnel_v6: |s| s.remote(|| {
        let echo = [&[128, 0, 0, 0, 0, 1, 0, 1], s.marker.as_slice()].concat();
        send_to(&raw(at("2001:db8:c::1", 0), libc::IPPROTO_ICMPV6)?, &echo, at("2001:db8:c::1", 0))
    });
    ip_options: |s| s.outsider(|| {
        let to = at("127.0.0.1", s.side());
        let fd = udp(to)?;
        set_bytes(&fd, libc::IPPROTO_IP, libc::IP_OPTIONS, &[1, 1, 1, 0])?;
        send_to(&fd, &s.marker, to)
    });
    destination_options_header: |s| s.outsider(|| {
        extended(at("::1", s.side()), libc::IPV6_DSTOPTS, &[0, 0, 1, 4, 0, 0, 0, 0], &s.marker)
    });
    hop_by_hop_header: |s| s.outsider(|| {
        extended(at("::1", s.side()), libc::IPV6_HOPOPTS, &[0, 0, 1, 4, 0, 0, 0, 0], &s.marker)
    });
    hop_by_hop_header_remote: |s| s.remote(|| {
        extended(at("2001:db8:c::1", s.side()), libc::IPV6_HOPOPTS, &[0, 0, 1, 4, 0, 0, 0, 0], &s.marker)
    });
    raw_v6_fragment_header: |s| s.outsider(|| {
        let data = udp_datagram(4000, s.side(), &s.marker, Some(([0, 0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0, 1])));
        let fragment = [&[17, 0, 0, 0, 0, 0, 0, 9], data.as_slice()].concat();
        send_to(&raw(at("::1", 0), libc::IPPROTO_RAW)?, &v6("::1", "::1", 44, &fragment), at("::1", 0))
    });
    source_address_of_the_model_remote: |s| s.remote(|| {
        // A remote packet that says it comes from the host itself. The control says where it really comes from.
        let from = if s.guarded { [203, 0, 113, 1] } else { [203, 0, 113, 2] };
        let packet = udp_v4(from, [203, 0, 113, 1], s.side(), s.side(), &s.marker);
        send_to(&raw(at("203.0.113.1", 0), libc::IPPROTO_RAW)?, &packet, at("203.0.113.1", 0))
    });

    out_raw_forged_header: |s| s.inside(|| {
        let packet = udp_v4(HERE, ABROAD, 4000, 53, &s.marker);
        send_to(&raw(at("192.0.2.2", 0), libc::IPPROTO_RAW)?, &packet, at("192.0.2.2", 0))
    });
    out_raw_header_and_call_disagree: |s| s.inside(|| {
        // The header names a friend, the call routes it abroad, or the other way round.
        let fd = raw(at("192.0.2.2", 0), libc::IPPROTO_RAW)?;
        let packet = udp_v4(HERE, ABROAD, 4000, 53, &s.marker);
        // 203.0.113.128/25 is routed by way of the host abroad.
        send_to(&fd, &packet, at("203.0.113.200", 0))
    });
    out_raw_forged_source: |s| s.inside(|| {
        let packet = udp_v4(FRIEND, ABROAD, 53, 53, &s.marker);
        send_to(&raw(at("192.0.2.2", 0), libc::IPPROTO_RAW)?, &packet, at("192.0.2.2", 0))
    });
    out_raw_tcp_syn_with_data: |s| s.inside(|| {
        let packet = tcp_v4(HERE, ABROAD, 4000, 443, 1, 0, SYN, &s.marker);
        send_to(&raw(at("192.0.2.2", 0), libc::IPPROTO_RAW)?, &packet, at("192.0.2.2", 0))
    });
    out_raw_tcp_without_a_connection: |s| s.inside(|| {
        let packet = tcp_v4(HERE, ABROAD, 4000, 443, 1, 1, ACK, &s.marker);
        send_to(&raw(at("192.0.2.2", 0), libc::IPPROTO_RAW)?, &packet, at("192.0.2.2", 0))
    });
    out_raw_from_the_guarded_port: |s| s.inside(|| {
        // What answers the proxy leaves from the guarded port; so does this.
        let packet = tcp_v4(HERE, ABROAD, s.port(), 443, 1, 1, ACK, &s.marker);
        send_to(&raw(at("192.0.2.2", 0), libc::IPPROTO_RAW)?, &packet, at("192.0.2.2", 0))
    });
    out_raw_tcp_after_an_allowed_packet: |s| s.inside(|| {
        // What a socket may send to one place says nothing about the next.
        let fd = raw(at("192.0.2.2", 0), libc::IPPROTO_RAW)?;
        let allowed = tcp_v4([198, 51, 100, 1], FRIEND, 4000, 443, 1, 1, ACK, b"greetings");
        send_to(&fd, &allowed, at("198.51.100.2", 0))?;
        let packet = tcp_v4(HERE, ABROAD, 4000, 443, 1, 1, ACK, &s.marker);
        send_to(&fd, &packet, at("192.0.2.2", 0))
    });
    out_raw_udp_after_an_allowed_packet: |s| s.inside(|| {
        let fd = raw(at("192.0.2.2", 0), libc::IPPROTO_RAW)?;
        let allowed = udp_v4([198, 51, 100, 1], FRIEND, 4000, 443, b"greetings");
        send_to(&fd, &allowed, at("198.51.100.2", 0))?;
        let packet = udp_v4(HERE, ABROAD, 4000, 53, &s.marker);
        send_to(&fd, &packet, at("192.0.2.2", 0))
    });
    out_raw_question_to_a_resolver_of_an_allowed_region: |s| s.inside(|| {
        let (from, to) = if s.guarded { ([198, 51, 100, 1], FRIEND) } else { (HERE, ABROAD) };
        let packet = udp_v4(from, to, 4000, 53, &s.marker);
        let to = std::net::Ipv4Addr::from(to).to_string();
        let sent = send_to(&raw(at(&to, 0), libc::IPPROTO_RAW)?, &packet, at(&to, 0));
        if s.guarded { sent.map(|_| Gain::Through) } else { sent }
    });
    out_raw_fragment: |s| s.inside(|| {
        let mut packet = udp_v4(HERE, ABROAD, 4000, 53, &s.marker);
        packet[6] = 0x20; // more fragments
        send_to(&raw(at("192.0.2.2", 0), libc::IPPROTO_RAW)?, &packet, at("192.0.2.2", 0))
    });
    out_raw_v6_forged: |s| s.inside(|| {
        let data = [&4000_u16.to_be_bytes()[..], &53_u16.to_be_bytes(), &[0, 30, 0, 0], &s.marker].concat();
        let packet = v6("2001:db8:f::1", "2001:db8:f::2", 17, &data);
        send_to(&raw(at("2001:db8:f::2", 0), libc::IPPROTO_RAW)?, &packet, at("2001:db8:f::2", 0))
    });
    out_raw_v6_fragment_header: |s| s.inside(|| {
        let data = [&[17, 0, 0, 1, 0, 0, 0, 9], s.marker.as_slice()].concat();
        let packet = v6("2001:db8:f::1", "2001:db8:f::2", 44, &data);
        send_to(&raw(at("2001:db8:f::2", 0), libc::IPPROTO_RAW)?, &packet, at("2001:db8:f::2", 0))
    });
    out_source_route: |s| s.inside(|| {
        // Loose source route: by way of a host abroad to a friend. What leaves is addressed to the host abroad.
        let to = at("198.51.100.2", 443);
        let fd = udp(to)?;
        set_bytes(&fd, libc::IPPROTO_IP, libc::IP_OPTIONS, &[131, 7, 4, 192, 0, 2, 2, 0])?;
        send_to(&fd, &s.marker, to)
    });
    out_ip_options: |s| s.inside(|| {
        let fd = udp(at("192.0.2.2", 53))?;
        set_bytes(&fd, libc::IPPROTO_IP, libc::IP_OPTIONS, &[1, 1, 1, 0])?;
        send_to(&fd, &s.marker, at("192.0.2.2", 53))
    });
    out_destination_options_header: |s| s.inside(|| {
        extended(at("2001:db8:f::2", 53), libc::IPV6_DSTOPTS, &[0, 0, 1, 4, 0, 0, 0, 0], &s.marker)
    });
    out_hop_by_hop_header: |s| s.inside(|| {
        extended(at("2001:db8:f::2", 53), libc::IPV6_HOPOPTS, &[0, 0, 1, 4, 0, 0, 0, 0], &s.marker)
    });
    out_routing_header: |s| s.inside(|| {
        // Segment routing (type 4, RFC 8754): the call names a friend, the first segment is abroad.
        let abroad = "2001:db8:f::2".parse::<Ipv6Addr>().expect("an address").octets();
        let header = [&[0, 4, 4, 1, 1, 0, 0, 0][..], &[0; 16], &abroad].concat();
        extended(at("2001:db8:a::2", 443), libc::IPV6_RTHDR, &header, &s.marker)
    });
    out_ip_over_udp: |s| s.inside(|| {
        // Any tunnel is a datagram to its far end.
        let inner = udp_v4(HERE, ABROAD, 4000, 53, &s.marker);
        send_to(&udp(at("192.0.2.2", 4789))?, &inner, at("192.0.2.2", 4789))
    });
}

pub const SYN: u8 = 0x02;
pub const ACK: u8 = 0x10;
const PUSH: u8 = 0x08;

enum By {
    RawSocket,
    Frame,
}

/// Writes a segment into the proxy's own connection, with the numbers that a sniffer would tell.
fn inject(s: &Scene<'_>, by: By) -> io::Result<Gain> {
    let to = at("127.0.0.1", s.port());
    let connection = s.world.born(PROXY, || {
        let fd = tcp(to)?;
        connect(&fd, to)?;
        sockets::block(&fd, true)?;
        sockets::send(&fd, b"a prompt")?;
        Ok(fd)
    })?;
    std::thread::sleep(std::time::Duration::from_millis(20));
    let (next, expected) = sequence(&connection)?;
    let from = sockets::local(&connection)?.port();
    let injected = s.outsider(|| {
        let packet = tcp_v4(LOCAL, LOCAL, from, s.port(), next, expected, ACK | PUSH, &s.marker);
        match by {
            By::RawSocket => send_to(&raw(to, libc::IPPROTO_RAW)?, &packet, at("127.0.0.1", 0)),
            By::Frame => frame_on_loopback(&packet),
        }
    });
    std::thread::sleep(std::time::Duration::from_millis(50));
    injected
}

/// Next to be sent, and expected, in a connection (tcp_repair: TCP_QUEUE_SEQ).
fn sequence(fd: &OwnedFd) -> io::Result<(u32, u32)> {
    const REPAIR: i32 = 19;
    const QUEUE: i32 = 20;
    const SEQUENCE: i32 = 21;
    sockets::set(fd, libc::IPPROTO_TCP, REPAIR, 1)?;
    let mut numbers = [0; 2];
    // TCP_RECV_QUEUE is 1, TCP_SEND_QUEUE is 2.
    for (index, queue) in [2, 1].into_iter().enumerate() {
        sockets::set(fd, libc::IPPROTO_TCP, QUEUE, queue)?;
        numbers[index] = sockets::get(fd, libc::IPPROTO_TCP, SEQUENCE)?.cast_unsigned();
    }
    // Off, without a probe.
    sockets::set(fd, libc::IPPROTO_TCP, REPAIR, -1)?;
    Ok((numbers[0], numbers[1]))
}

fn extended(to: std::net::SocketAddr, header: i32, value: &[u8], marker: &[u8]) -> io::Result<Gain> {
    let fd = udp(to)?;
    set_bytes(&fd, libc::IPPROTO_IPV6, header, value)?;
    send_to(&fd, marker, to)
}

fn frame_on_loopback(packet: &[u8]) -> io::Result<Gain> {
    let fd = socket(libc::AF_PACKET, libc::SOCK_DGRAM, 0)?;
    let index = i32::try_from(nix::net::if_::if_nametoindex("lo")?).expect("small");
    send_frame(&fd, index, [0; 6], packet)
}

/// One IPv4 packet, past the IP layer.
pub fn send_frame(fd: &OwnedFd, index: i32, to: [u8; 6], packet: &[u8]) -> io::Result<Gain> {
    // SAFETY: an address of zeros is valid.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = 17;
    address.sll_protocol = 0x0800_u16.to_be();
    address.sll_ifindex = index;
    address.sll_halen = 6;
    address.sll_addr[..6].copy_from_slice(&to);
    let place: *const libc::sockaddr_ll = &raw const address;
    let length = u32::try_from(size_of::<libc::sockaddr_ll>()).expect("short");
    // SAFETY: packet and address outlive the call and have these lengths.
    let sent = unsafe {
        libc::sendto(fd.as_raw_fd(), packet.as_ptr().cast(), packet.len(), 0, place.cast(), length)
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(Gain::Sent) }
}

/// The link-local address of the host abroad.
pub fn link_local_abroad(pid: u32) -> io::Result<Ipv6Addr> {
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/if_inet6"))?;
    table
        .lines()
        .filter(|line| line.ends_with("eth0") && line.starts_with("fe80"))
        .find_map(|line| u128::from_str_radix(line.split(' ').next()?, 16).ok())
        .map(Ipv6Addr::from)
        .ok_or_else(|| io::Error::other("no link-local address abroad"))
}

/// An IPv4 header and a UDP datagram; checksums are the kernel's where it makes them, and ours.
pub fn udp_v4(from: [u8; 4], to: [u8; 4], source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let data = udp_datagram(source, destination, payload, None);
    v4(from, to, 17, &data)
}

fn udp_datagram(source: u16, destination: u16, payload: &[u8], v6: Option<([u16; 8], [u16; 8])>) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).expect("short");
    let mut data =
        [&source.to_be_bytes()[..], &destination.to_be_bytes(), &length.to_be_bytes(), &[0, 0], payload]
            .concat();
    // No checksum is allowed over IPv4 only.
    if let Some((from, to)) = v6 {
        let mut pseudo: Vec<u8> = from.iter().chain(&to).flat_map(|word| word.to_be_bytes()).collect();
        pseudo.extend(u32::from(length).to_be_bytes());
        pseudo.extend([0, 0, 0, 17]);
        let sum = checksum(&[pseudo.as_slice(), &data].concat());
        data[6..8].copy_from_slice(&sum.to_be_bytes());
    }
    data
}

#[expect(clippy::too_many_arguments, reason = "a header has that many fields")]
fn tcp_v4(
    from: [u8; 4],
    to: [u8; 4],
    source: u16,
    destination: u16,
    sequence: u32,
    acknowledged: u32,
    flags: u8,
    payload: &[u8],
) -> Vec<u8> {
    let mut segment = [
        &source.to_be_bytes()[..],
        &destination.to_be_bytes(),
        &sequence.to_be_bytes(),
        &acknowledged.to_be_bytes(),
        &[0x50, flags, 0xff, 0xff, 0, 0, 0, 0],
        payload,
    ]
    .concat();
    let length = u16::try_from(segment.len()).expect("short");
    let pseudo = [&from[..], &to, &[0, 6], &length.to_be_bytes(), &segment].concat();
    let sum = checksum(&pseudo);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    v4(from, to, 6, &segment)
}

fn v4(from: [u8; 4], to: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).expect("short");
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 7, 0, 0, 64, protocol, 0, 0]);
    packet.extend(from);
    packet.extend(to);
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(payload);
    packet
}

fn v6(from: &str, to: &str, next: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("short");
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([next, 64]);
    for text in [from, to] {
        let IpAddr::V6(ip) = text.parse().expect("an address") else { panic!("{text} is not IPv6") };
        packet.extend(ip.octets());
    }
    packet.extend(payload);
    packet
}

/// RFC 1071
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])))
        .sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded")
}

//! One address type for both families.

/// An IPv6 address, or an IPv4 address as IPv4-mapped IPv6 (RFC 4291, 2.5.5.2): four words that hold the
/// sixteen bytes in network order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Address(pub [u32; 4]);

const _: () = assert!(size_of::<Address>() == 16 && align_of::<Address>() == 4);

/// An IPv4 address that an IPv6 address carries inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Embedded {
    /// It carries none.
    None,
    /// It carries this one: packets to it reach that IPv4 host, so both must be allowed.
    V4(Address),
    /// It carries one whose place is the operator's choice (RFC 8215): only a named exception can allow it.
    Opaque,
}

const MAPPED: u32 = 0x0000_ffff_u32.to_be();
const NAT64: u32 = 0x0064_ff9b_u32.to_be();

impl Address {
    /// `::`
    pub const UNSPECIFIED: Self = Self([0; 4]);

    /// The IPv4 address whose bytes are `word`, in network order.
    #[inline(always)]
    #[must_use]
    pub const fn from_v4(word: u32) -> Self {
        Self([0, 0, MAPPED, word])
    }

    /// The address with these sixteen bytes.
    #[must_use]
    pub const fn from_octets(octets: [u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = octets;
        Self([
            u32::from_ne_bytes([a, b, c, d]),
            u32::from_ne_bytes([e, f, g, h]),
            u32::from_ne_bytes([i, j, k, l]),
            u32::from_ne_bytes([m, n, o, p]),
        ])
    }

    /// Its sixteen bytes.
    #[must_use]
    pub const fn octets(self) -> [u8; 16] {
        let [[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]] = [
            self.0[0].to_ne_bytes(),
            self.0[1].to_ne_bytes(),
            self.0[2].to_ne_bytes(),
            self.0[3].to_ne_bytes(),
        ];
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }

    /// Whether it is an IPv4 address.
    #[inline(always)]
    #[must_use]
    pub const fn is_v4(&self) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == MAPPED
    }

    /// Whether packets to it stay in the network namespace: 127.0.0.0/8, 0.0.0.0/8, `::1` and `::` (Linux sends
    /// a connection to the unspecified address to loopback).
    #[inline(always)]
    #[must_use]
    pub const fn is_loopback(&self) -> bool {
        if self.is_v4() {
            let first = u32::from_be(self.0[3]) >> 24;
            return first == 127 || first == 0;
        }
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == 0 && u32::from_be(self.0[3]) <= 1
    }

    /// The IPv4 address inside a transition address: NAT64 `64:ff9b::/96` (RFC 6052), 6to4 `2002::/16`
    /// (RFC 3056), Teredo `2001::/32` (RFC 4380, the client, stored inverted), ISATAP interface identifiers
    /// (RFC 5214) and IPv4-compatible `::/96` (RFC 4291, 2.5.5.1).
    #[inline(always)]
    #[must_use]
    pub const fn embedded(&self) -> Embedded {
        if self.is_v4() || self.is_loopback() {
            return Embedded::None;
        }
        let [a, b, c, d] = self.0;
        if a == NAT64 && b == 0 && c == 0 {
            return Embedded::V4(Self::from_v4(d));
        }
        if a == NAT64 && u32::from_be(b) >> 16 == 1 {
            return Embedded::Opaque;
        }
        if u32::from_be(a) >> 16 == 0x2002 {
            return Embedded::V4(Self::from_v4(((u32::from_be(a) << 16) | (u32::from_be(b) >> 16)).to_be()));
        }
        if u32::from_be(a) == 0x2001_0000 {
            return Embedded::V4(Self::from_v4(!d));
        }
        // The universal/local bit (0x0200) of an ISATAP identifier depends on the IPv4 address behind it.
        if u32::from_be(c) & 0xfdff_ffff == 0x0000_5efe {
            return Embedded::V4(Self::from_v4(d));
        }
        if a == 0 && b == 0 && c == 0 {
            return Embedded::V4(Self::from_v4(d));
        }
        Embedded::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{Ipv4Addr, Ipv6Addr};

    fn v4(text: &str) -> Address {
        Address::from_octets(text.parse::<Ipv4Addr>().unwrap().to_ipv6_mapped().octets())
    }

    fn v6(text: &str) -> Address {
        Address::from_octets(text.parse::<Ipv6Addr>().unwrap().octets())
    }

    #[test]
    fn bytes_survive_the_words() {
        let octets = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
        assert_eq!(Address::from_octets(octets).octets(), octets);
        assert_eq!(Address::from_v4(u32::from_ne_bytes([192, 0, 2, 1])), v4("192.0.2.1"));
    }

    #[test]
    fn both_spellings_of_an_ipv4_address_are_one() {
        assert_eq!(v4("192.0.2.1"), v6("::ffff:192.0.2.1"));
        assert!(v6("::ffff:192.0.2.1").is_v4());
        assert!(!v6("::192.0.2.1").is_v4(), "compatible, not mapped");
    }

    #[test]
    fn loopback_is_whatever_stays_in_the_namespace() {
        for (address, expected) in [
            (v4("127.0.0.1"), true),
            (v4("127.255.255.254"), true),
            (v4("0.0.0.0"), true),
            (v6("::"), true),
            (v6("::1"), true),
            (v6("::ffff:127.0.0.1"), true),
            (v4("128.0.0.1"), false),
            (v6("::2"), false),
            (v6("fe80::1"), false),
        ] {
            assert_eq!(address.is_loopback(), expected, "{:?}", Ipv6Addr::from(address.octets()));
        }
    }

    #[test]
    fn tunnels_show_the_address_inside() {
        for (address, expected) in [
            (v6("64:ff9b::192.0.2.33"), Embedded::V4(v4("192.0.2.33"))),
            (v6("64:ff9b:1::192.0.2.33"), Embedded::Opaque),
            (v6("2002:c000:0221::1"), Embedded::V4(v4("192.0.2.33"))),
            (v6("2001:0:4136:e378:8000:63bf:3fff:fdd2"), Embedded::V4(v4("192.0.2.45"))),
            (v6("2001:db8::5efe:192.0.2.33"), Embedded::V4(v4("192.0.2.33"))),
            (v6("2001:db8::200:5efe:192.0.2.33"), Embedded::V4(v4("192.0.2.33"))),
            (v6("::192.0.2.33"), Embedded::V4(v4("192.0.2.33"))),
            (v6("2001:db8::1"), Embedded::None),
            (v6("::1"), Embedded::None),
            (v4("192.0.2.33"), Embedded::None),
        ] {
            assert_eq!(address.embedded(), expected, "{:?}", Ipv6Addr::from(address.octets()));
        }
    }
}

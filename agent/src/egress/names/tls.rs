//! The server name in a TLS ClientHello (RFC 8446, RFC 6066), from the beginning of a stream.
//!
//! Pure: the same bytes give the same answer however they came. What is not a ClientHello is `Nothing`, never an error; what
//! is not whole yet says how many bytes it takes to say more.

use super::Found;
use super::host::HostName;
use zeroize::Zeroizing;

/// Bytes of a ClientHello that are looked at. Those with post-quantum key shares have about 2000.
const LONGEST_HELLO: usize = 16 * 1024;
/// RFC 8446, 5.1: 2^14, and not empty.
const LONGEST_FRAGMENT: usize = 1 << 14;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const EXTENSION_SERVER_NAME: u16 = 0;
/// RFC 9849 (the extension of drafts 13 and later).
const EXTENSION_ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;

/// What a ClientHello says about the server that it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerName {
    /// As it stands in the open.
    pub name: HostName,
    /// An encrypted ClientHello comes with it, or the random bytes that clients send instead of one: the name may be no
    /// more than that of a front.
    pub ech: bool,
}

/// Looks for the server name at the beginning of what a client sent.
#[must_use]
pub(super) fn server_name(stream: &[u8]) -> Found<ServerName> {
    let mut hello = Zeroizing::new(Vec::new());
    let mut at = 0;
    loop {
        if let Some(&kind) = hello.first()
            && kind != CLIENT_HELLO
        {
            return Found::Nothing;
        }
        if let Some(length) = hello.get(1..4) {
            let length = usize::from(length[0]) << 16 | usize::from(length[1]) << 8 | usize::from(length[2]);
            if length > LONGEST_HELLO {
                return Found::Nothing;
            }
            if let Some(body) = hello.get(4..4 + length) {
                return read(body).map_or(Found::Nothing, Found::Name);
            }
        }
        let Some(header) = stream.get(at..at + 5) else {
            // What is there must look like a header, or the stream is something else.
            let begins = [HANDSHAKE, 3];
            let seen = &stream[at.min(stream.len())..];
            let fits = seen.iter().zip(begins).all(|(byte, expected)| *byte == expected);
            return if fits { Found::More(at + 5) } else { Found::Nothing };
        };
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if header[0] != HANDSHAKE || header[1] != 3 || length == 0 || length > LONGEST_FRAGMENT {
            return Found::Nothing;
        }
        let Some(fragment) = stream.get(at + 5..at + 5 + length) else {
            return Found::More(at + 5 + length);
        };
        let mut longer = Zeroizing::new(Vec::with_capacity(hello.len() + length));
        longer.extend_from_slice(&hello);
        longer.extend_from_slice(fragment);
        hello = longer;
        at += 5 + length;
    }
}

/// A whole ClientHello without its handshake header.
fn read(body: &[u8]) -> Option<ServerName> {
    // Version and random; session id; cipher suites; compression methods.
    let rest = body.get(34..)?;
    let (_session, rest) = short(rest)?;
    let (_suites, rest) = long(rest)?;
    let (_compression, rest) = short(rest)?;
    let (mut extensions, _) = long(rest)?;
    let (mut name, mut ech) = (None, false);
    while let Some((kind, rest)) = extensions.split_first_chunk::<2>() {
        let (content, rest) = long(rest)?;
        match u16::from_be_bytes(*kind) {
            EXTENSION_SERVER_NAME => name = name.or(Some(host_name(content)?)),
            EXTENSION_ENCRYPTED_CLIENT_HELLO => ech = true,
            // GREASE (RFC 8701) among them.
            _ => {}
        }
        extensions = rest;
    }
    name.map(|name| ServerName { name, ech })
}

/// RFC 6066, 3: a list of names, of which only those of kind 0 are defined.
fn host_name(content: &[u8]) -> Option<HostName> {
    let (mut names, _) = long(content)?;
    while let Some((kind, rest)) = names.split_first() {
        let (name, rest) = long(rest)?;
        if *kind == 0 {
            return HostName::parse(name);
        }
        names = rest;
    }
    None
}

fn short(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

fn long(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;

    /// A real client's first flight.
    pub(in crate::egress::names) fn client_hello(name: &str) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let name = rustls_pki_types::ServerName::try_from(name.to_owned()).unwrap();
        let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let mut flight = Vec::new();
        client.write_tls(&mut flight).unwrap();
        flight
    }

    fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &u16::try_from(content.len()).unwrap().to_be_bytes(), content].concat()
    }

    fn name_extension(name: &[u8]) -> Vec<u8> {
        let length = u16::try_from(name.len()).unwrap();
        extension(0, &[&(length + 3).to_be_bytes()[..], &[0], &length.to_be_bytes(), name].concat())
    }

    /// A ClientHello with these extensions, in one record.
    fn hello(extensions: &[Vec<u8>]) -> Vec<u8> {
        let extensions = extensions.concat();
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0x13, 1, 1, 0]);
        body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
        body.extend(extensions);
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        records(&[&[CLIENT_HELLO], &length[1..], &body].concat(), usize::MAX)
    }

    fn records(handshake: &[u8], longest: usize) -> Vec<u8> {
        let records = handshake.chunks(longest.min(LONGEST_FRAGMENT));
        records
            .flat_map(|part| {
                [&[HANDSHAKE, 3, 1], &u16::try_from(part.len()).unwrap().to_be_bytes()[..], part].concat()
            })
            .collect()
    }

    fn named(name: &str, ech: bool) -> Found<ServerName> {
        Found::Name(ServerName { name: HostName::parse(name.as_bytes()).unwrap(), ech })
    }

    #[test]
    fn a_real_client_s_name_is_found() {
        assert_eq!(server_name(&client_hello("mirror.example.eu")), named("mirror.example.eu", false));
        assert_eq!(
            server_name(&client_hello("192.0.2.30")),
            Found::Nothing,
            "an address is sent without a name"
        );
    }

    #[test]
    fn extensions_around_it_make_no_difference() {
        let grease = || extension(0x5a5a, &[0]);
        let name = || name_extension(b"mirror.example.eu");
        for (extensions, expected, why) in [
            (vec![grease(), name(), grease()], named("mirror.example.eu", false), "GREASE"),
            (vec![name(), extension(0xfe0d, &[0; 40])], named("mirror.example.eu", true), "ECH is noted"),
            (vec![extension(0xfe0d, &[0; 40])], Found::Nothing, "ECH alone"),
            (vec![], Found::Nothing, "no name"),
            (vec![name_extension(b"192.0.2.30")], Found::Nothing, "an address is no name"),
            (vec![name_extension(b"a\nb.example")], Found::Nothing, "nor is this"),
            (vec![name(), name_extension(b"other.example")], named("mirror.example.eu", false), "the first"),
        ] {
            assert_eq!(server_name(&hello(&extensions)), expected, "{why}");
        }
    }

    #[test]
    fn what_is_no_client_hello_is_nothing_at_once() {
        for (stream, why) in [
            (&b"GET / HTTP/1.1\r\n"[..], "HTTP"),
            (b"SSH-2.0-x\r\n", "SSH"),
            (&[22, 3, 1, 0, 1, 2], "a ServerHello"),
            (&[22, 3, 1, 0, 0], "an empty record"),
            (&[22, 2], "another version"),
            (&[22, 3, 1, 0, 4, 1, 1, 0, 0], "longer than any"),
            (&[23, 3, 3, 0, 1, 0], "application data"),
        ] {
            assert_eq!(server_name(stream), Found::Nothing, "{why}");
        }
        assert_eq!(server_name(&[]), Found::More(5));
        assert_eq!(server_name(&[22, 3]), Found::More(5));
    }

    proptest! {
        #[test]
        fn records_of_any_length_and_any_cut_find_the_same_name(longest in 1_usize..600, cut in any::<prop::sample::Index>()) {
            let flight = client_hello("a.rather-long.name.mirror.example.eu");
            let stream = records(&flight[5..], longest);
            prop_assert_eq!(server_name(&stream), named("a.rather-long.name.mirror.example.eu", false));
            let part = &stream[..cut.index(stream.len())];
            let Found::More(needed) = server_name(part) else {
                return Err(TestCaseError::fail("a part was taken for the whole"));
            };
            prop_assert!(needed > part.len() && needed <= stream.len() + 5);
        }

        #[test]
        fn any_bytes_are_read_to_an_end(mut bytes in prop::collection::vec(any::<u8>(), 0..600), begins in any::<bool>()) {
            if begins && bytes.len() >= 9 {
                bytes[..4].copy_from_slice(&[22, 3, 1, 0]);
                bytes[5..8].copy_from_slice(&[1, 0, 0]);
            }
            if let Found::More(needed) = server_name(&bytes) {
                prop_assert!(needed > bytes.len());
            }
        }
    }
}

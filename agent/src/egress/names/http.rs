//! The Host header of a request over plain HTTP/1 (RFC 9112), from the beginning of a stream.

use super::Found;
use super::host::HostName;

/// Bytes of a request's head that are looked at.
const LONGEST_HEAD: usize = 8 * 1024;
const METHODS: [&[u8]; 9] =
    [b"GET ", b"POST ", b"PUT ", b"HEAD ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"CONNECT ", b"TRACE "];

/// Looks for the host at the beginning of what a client sent.
#[must_use]
pub(super) fn host(stream: &[u8]) -> Found<HostName> {
    let begins = |method: &&[u8]| stream.iter().zip(method.iter()).all(|(byte, expected)| byte == expected);
    if !METHODS.iter().any(begins) {
        return Found::Nothing;
    }
    let head = &stream[..stream.len().min(LONGEST_HEAD)];
    for (number, line) in head.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let Some(line) = line.strip_suffix(b"\n") else { break };
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if number == 0 {
            continue;
        }
        if line.is_empty() {
            return Found::Nothing;
        }
        if let Some(colon) = line.iter().position(|byte| *byte == b':')
            && line[..colon].eq_ignore_ascii_case(b"host")
        {
            let value = line[colon + 1..].trim_ascii();
            let name = value.split(|byte| *byte == b':').next().unwrap_or_default();
            return HostName::parse(name).map_or(Found::Nothing, Found::Name);
        }
    }
    if stream.len() < LONGEST_HEAD { Found::More(stream.len() + 1) } else { Found::Nothing }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const REQUEST: &[u8] = b"POST /api/push HTTP/1.1\r\nuser-agent: x\r\nHOST: \tMirror.Example.EU:8080 \r\nx: host: other.example\r\n\r\nHost: body.example\r\n";

    fn named(name: &str) -> Found<HostName> {
        Found::Name(HostName::parse(name.as_bytes()).unwrap())
    }

    #[test]
    fn the_host_is_the_header_s_and_nothing_else() {
        for (stream, expected, why) in [
            (REQUEST, named("mirror.example.eu"), "case, blanks and port make no difference"),
            (b"GET / HTTP/1.1\nhost: a.example\n\n", named("a.example"), "bare line feeds"),
            (b"GET / HTTP/1.1\r\nx: y\r\n\r\nhost: a.example\r\n", Found::Nothing, "a body is no header"),
            (b"GET http://a.example/ HTTP/1.1\r\nhost: 192.0.2.30:80\r\n\r\n", Found::Nothing, "an address"),
            (b"GET / HTTP/1.1\r\nhost: [2001:db8::1]\r\n\r\n", Found::Nothing, "an address, IPv6"),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Found::Nothing, "HTTP/2 is not read"),
            (b"host: a.example\r\n", Found::Nothing, "no request"),
            (b"", Found::More(1), "nothing yet"),
        ] {
            assert_eq!(host(stream), expected, "{why}");
        }
        let endless = [b"GET / HTTP/1.1\r\n".as_slice(), &b"x: y\r\n".repeat(2000)].concat();
        assert_eq!(host(&endless), Found::Nothing, "bounded");
    }

    proptest! {
        #[test]
        fn any_cut_says_more_until_the_name_is_whole(cut in any::<prop::sample::Index>()) {
            let whole = REQUEST.windows(4).position(|window| window == b" \r\nx").unwrap() + 3;
            let part = &REQUEST[..cut.index(REQUEST.len())];
            let expected = if part.len() < whole { Found::More(part.len() + 1) } else { named("mirror.example.eu") };
            prop_assert_eq!(host(part), expected);
        }

        #[test]
        fn any_bytes_are_read_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            if let Found::More(needed) = host(&[b"GET ".as_slice(), &bytes].concat()) {
                prop_assert!(needed > bytes.len());
            }
        }
    }
}

//! Bytes looked at many at once. What is wanted of a byte is told without a way out early (`|`, not `||` nor a match of several
//! patterns), and asked of a piece whole: of that the compiler makes a few instructions for sixteen.

/// The place of the first byte that is wanted.
pub(crate) fn find(bytes: &[u8], wanted: impl Fn(u8) -> bool) -> Option<usize> {
    let (pieces, rest) = bytes.as_chunks::<32>();
    let any = |piece: &[u8; 32]| piece.iter().fold(0, |any, byte| any | u8::from(wanted(*byte))) != 0;
    let passed = pieces.iter().take_while(|piece| !any(piece)).count() * 32;
    let left = if passed == pieces.len() * 32 { rest } else { &bytes[passed..] };
    left.iter().position(|byte| wanted(*byte)).map(|at| passed + at)
}

/// Whether there is one.
pub(crate) fn any(bytes: &[u8], wanted: impl Fn(u8) -> bool) -> bool {
    bytes.iter().fold(0, |any, byte| any | u8::from(wanted(*byte))) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_one_is_found_wherever_it_is() {
        for length in 0..100 {
            let bytes = vec![b'.'; length];
            assert!(find(&bytes, |byte| byte == b'x').is_none() && !any(&bytes, |byte| byte == b'x'));
            for at in 0..length {
                let mut bytes = bytes.clone();
                bytes[at..].fill(b'x');
                assert_eq!(find(&bytes, |byte| byte == b'x'), Some(at));
                assert!(any(&bytes, |byte| byte == b'x'));
            }
        }
    }
}

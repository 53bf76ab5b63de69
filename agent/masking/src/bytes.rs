//! Bytes looked at many at once.

/// The place of the first byte that is wanted. Piece by piece without a way out within one, so that the compiler makes a few
/// instructions of each.
pub(crate) fn find(bytes: &[u8], wanted: impl Fn(u8) -> bool) -> Option<usize> {
    let (pieces, rest) = bytes.as_chunks::<32>();
    let any = |piece: &[u8; 32]| piece.iter().fold(false, |any, byte| any | wanted(*byte));
    let passed = pieces.iter().take_while(|piece| !any(piece)).count() * 32;
    let left = if passed == pieces.len() * 32 { rest } else { &bytes[passed..] };
    left.iter().position(|byte| wanted(*byte)).map(|at| passed + at)
}

/// Whether there is one.
pub(crate) fn any(bytes: &[u8], wanted: impl Fn(u8) -> bool) -> bool {
    bytes.iter().fold(false, |any, byte| any | wanted(*byte))
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

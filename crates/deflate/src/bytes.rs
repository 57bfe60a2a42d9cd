//! Loads and comparisons of bytes.

#[inline(always)]
pub fn load32(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

#[inline(always)]
pub fn load64(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// How many bytes from `a` on equal those from the earlier `b` on, up to `end`, which is at most the end of `bytes`.
#[inline(always)]
pub fn common(bytes: &[u8], a: usize, b: usize, end: usize) -> usize {
    debug_assert!(b <= a && a <= end && end <= bytes.len());
    let (ahead, behind) = (&bytes[a..end], &bytes[b..b + (end - a)]);
    let mut len = 0;
    let (eights, rest) = ahead.as_chunks::<8>();
    let (earlier, rest_earlier) = behind.as_chunks::<8>();
    for (x, y) in eights.iter().zip(earlier) {
        let difference = u64::from_le_bytes(*x) ^ u64::from_le_bytes(*y);
        if difference != 0 {
            return len + (difference.trailing_zeros() / 8) as usize;
        }
        len += 8;
    }
    len + rest.iter().zip(rest_earlier).take_while(|(x, y)| x == y).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_common_length_ends_where_it_must() {
        let mut bytes = [7u8; 64];
        assert_eq!(common(&bytes, 1, 0, 64), 63);
        assert_eq!(common(&bytes, 5, 1, 5), 0);
        for at in 20..64 {
            bytes = [7; 64];
            bytes[at] = 8;
            assert_eq!(common(&bytes, 20, 3, 64), at - 20);
            assert_eq!(common(&bytes, 20, 3, at), at - 20);
        }
    }
}

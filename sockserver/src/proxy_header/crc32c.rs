//! The checksum of a PROXY header (RFC 3720, appendix B.4).

/// The CRC32c of these bytes, one piece after the other.
pub(super) fn crc32c<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    /// 0x1EDC6F41, the Castagnoli polynomial, with its bits reversed.
    const POLYNOMIAL: u32 = 0x82F6_3B78;
    let mut remainder = u32::MAX;
    for byte in pieces.into_iter().flatten() {
        remainder ^= u32::from(*byte);
        for _ in 0..8 {
            remainder = (remainder >> 1) ^ if remainder & 1 == 1 { POLYNOMIAL } else { 0 };
        }
    }
    !remainder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksums_are_those_of_rfc_3720() {
        assert_eq!(crc32c([&[0; 32][..]]), 0x8a91_36aa);
        assert_eq!(crc32c([&[0xff; 32][..]]), 0x62a8_ab43);
        assert_eq!(crc32c([&b"1234"[..], b"56789"]), 0xe306_9283);
    }
}

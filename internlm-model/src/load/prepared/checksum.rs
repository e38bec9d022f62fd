//! Sums that tell whether bytes are the ones that were written. They find accidents, not intent.

/// FNV-1a's prime; odd, so that multiplying loses nothing.
const PRIME: u64 = 0x0000_0100_0000_01b3;
/// Bytes that are summed on their own.
const LINE: usize = 64;

/// A sum of lines that begin at a multiple of 64 bytes. Sums of parts, added (wrapping), are the sum of the
/// whole, so threads sum what they read. Each step of a line is a bijection of 64 bits: a change within
/// eight bytes, as of a single bit, always shows.
pub(super) fn of_lines(start: usize, bytes: &[u8]) -> u64 {
    let lines = bytes.chunks(LINE).enumerate();
    lines.fold(0, |sum, (index, line)| {
        let seed = (start / LINE + index) as u64 ^ 0xcbf2_9ce4_8422_2325;
        let words = line.chunks(8).map(|word| {
            let mut bytes = [0; 8];
            bytes[..word.len()].copy_from_slice(word);
            u64::from_le_bytes(bytes)
        });
        let line = words.fold(seed, |hash, word| (hash ^ word).wrapping_mul(PRIME));
        // High bits count as much as low ones when sums are added.
        sum.wrapping_add(line ^ line >> 32)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_and_every_bit_counts() {
        let bytes: Vec<u8> = (0..200).map(|i| (i * 37 % 251) as u8).collect();
        let whole = of_lines(0, &bytes);
        let parts = of_lines(0, &bytes[..64]).wrapping_add(of_lines(64, &bytes[64..]));
        assert_eq!(whole, parts);
        for bit in 0..8 * bytes.len() {
            let mut other = bytes.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(of_lines(0, &other), whole, "{bit}");
        }
        // Lines that change places.
        let mut other = bytes.clone();
        other[..128].rotate_left(64);
        assert_ne!(of_lines(0, &other), whole);
    }
}

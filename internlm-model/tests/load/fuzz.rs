//! Seeded mutations of valid input.

/// How many cases a fuzz loop tries: `INTERNLM_FUZZ_CASES`, else 2,000.
pub(crate) fn cases() -> usize {
    let cases = std::env::var("INTERNLM_FUZZ_CASES");
    cases.map_or(2000, |v| {
        v.parse().expect("INTERNLM_FUZZ_CASES is a number")
    })
}

/// A generator (xorshift64*).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound.max(1)
    }

    /// A copy with one to four changes.
    pub(crate) fn mutate(&mut self, bytes: &[u8]) -> Vec<u8> {
        const WORDS: [&[u8]; 12] = [
            b"0",
            b"-1",
            b"1e309",
            b"18446744073709551615",
            b"null",
            b"{",
            b"]",
            b"\"",
            b"\xff\xff\xff\xff",
            b"..",
            b"/",
            b"99999999999999999999",
        ];
        let mut bytes = bytes.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(6) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, self.below(256) as u8),
                2 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                3 if at < bytes.len() => bytes[at] = self.below(256) as u8,
                4 => {
                    let end = (at + 1 + self.below(8)).min(bytes.len());
                    bytes.drain(at..end);
                }
                _ => {
                    let word = WORDS[self.below(WORDS.len())];
                    let end = (at + word.len()).min(bytes.len());
                    bytes.splice(at..end, word.iter().copied());
                }
            }
        }
        bytes
    }
}

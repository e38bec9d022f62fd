//! CPython's `random.Random`, so that examples drawn with a seed are those that lm-evaluation-harness and OpenCompass
//! draw.
//!
//! The generator is MT19937 (Matsumoto and Nishimura, 1998); seeding by array, `getrandbits`, `randbelow`, `sample`
//! and `shuffle` follow CPython 3.12's `_randommodule.c` and `random.py`.

use std::collections::HashSet;

const N: usize = 624;
const M: usize = 397;

/// A generator in the state that `random.Random(seed)` has in Python.
#[derive(Clone, Debug)]
pub struct Random {
    state: Vec<u32>,
    next: usize,
}

impl Random {
    /// Seeds by an integer; its absolute value counts, as in Python.
    pub fn new(seed: i64) -> Self {
        let seed = seed.unsigned_abs();
        let low = seed as u32;
        let high = (seed >> 32) as u32;
        let key = if high == 0 {
            vec![low]
        } else {
            vec![low, high]
        };
        Self::from_key(&key)
    }

    /// `init_by_array` of the generator's authors.
    fn from_key(key: &[u32]) -> Self {
        let mut state = vec![0u32; N];
        state[0] = 19_650_218;
        for i in 1..N {
            let before = state[i - 1] ^ (state[i - 1] >> 30);
            state[i] = before.wrapping_mul(1_812_433_253).wrapping_add(i as u32);
        }
        let (mut i, mut j) = (1, 0);
        for _ in 0..N.max(key.len()) {
            let before = state[i - 1] ^ (state[i - 1] >> 30);
            state[i] = (state[i] ^ before.wrapping_mul(1_664_525))
                .wrapping_add(key[j])
                .wrapping_add(j as u32);
            i += 1;
            j = (j + 1) % key.len();
            if i == N {
                state[0] = state[N - 1];
                i = 1;
            }
        }
        for _ in 0..N - 1 {
            let before = state[i - 1] ^ (state[i - 1] >> 30);
            state[i] = (state[i] ^ before.wrapping_mul(1_566_083_941)).wrapping_sub(i as u32);
            i += 1;
            if i == N {
                state[0] = state[N - 1];
                i = 1;
            }
        }
        state[0] = 0x8000_0000;
        Self { state, next: N }
    }

    fn twist(&mut self) {
        for k in 0..N {
            let mixed = (self.state[k] & 0x8000_0000) | (self.state[(k + 1) % N] & 0x7fff_ffff);
            let odd = if mixed & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[k] = self.state[(k + M) % N] ^ (mixed >> 1) ^ odd;
        }
        self.next = 0;
    }

    /// The next 32 bits.
    fn next_u32(&mut self) -> u32 {
        if self.next == N {
            self.twist();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// A number in `[0, 1)` with 53 bits.
    pub fn random(&mut self) -> f64 {
        let high = f64::from(self.next_u32() >> 5);
        let low = f64::from(self.next_u32() >> 6);
        (high * 67_108_864.0 + low) / 9_007_199_254_740_992.0
    }

    /// The lowest `bits` bits, at most 64.
    pub fn getrandbits(&mut self, bits: u32) -> u64 {
        match bits.min(64) {
            0 => 0,
            bits @ 1..=32 => u64::from(self.next_u32() >> (32 - bits)),
            bits => {
                let low = u64::from(self.next_u32());
                let high = u64::from(self.next_u32() >> (64 - bits));
                high << 32 | low
            }
        }
    }

    /// A number below `n`; 0 if `n` is 0.
    pub fn randbelow(&mut self, n: u64) -> u64 {
        if n == 0 {
            return 0;
        }
        let bits = u64::BITS - n.leading_zeros();
        loop {
            let drawn = self.getrandbits(bits);
            if drawn < n {
                return drawn;
            }
        }
    }

    /// Places of `k` different members of a population of `n`, in the order drawn. None if `k > n`.
    pub fn sample(&mut self, n: usize, k: usize) -> Option<Vec<usize>> {
        if k > n {
            return None;
        }
        let mut drawn = Vec::with_capacity(k);
        if n <= list_is_smaller_until(k) {
            let mut pool: Vec<usize> = (0..n).collect();
            for i in 0..k {
                let j = self.randbelow((n - i) as u64) as usize;
                drawn.push(pool[j]);
                pool[j] = pool[n - i - 1];
            }
        } else {
            let mut seen = HashSet::with_capacity(k);
            while drawn.len() < k {
                let j = self.randbelow(n as u64) as usize;
                if seen.insert(j) {
                    drawn.push(j);
                }
            }
        }
        Some(drawn)
    }

    /// Shuffles in place.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let j = self.randbelow(i as u64 + 1) as usize;
            items.swap(i, j);
        }
    }

    /// A member of a list; None if it is empty.
    pub fn choice<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        if items.is_empty() {
            return None;
        }
        items.get(self.randbelow(items.len() as u64) as usize)
    }
}

/// The population size up to which `random.sample` copies it: `21`, for more than five draws plus
/// `4 ** ceil(log(3 * k, 4))`.
fn list_is_smaller_until(k: usize) -> usize {
    if k <= 5 {
        return 21;
    }
    let mut power = 1usize;
    while power < k.saturating_mul(3) {
        power = power.saturating_mul(4);
    }
    power.saturating_add(21)
}

#[cfg(test)]
mod tests {
    use super::*;

    // All values were printed by CPython 3.12.

    #[test]
    fn floats_and_bits() {
        let mut random = Random::new(1234);
        let drawn = [random.random(), random.random(), random.random()];
        assert_eq!(
            drawn,
            [
                0.966_453_535_692_138_8,
                0.440_732_599_175_352_7,
                0.007_491_470_058_587_191
            ]
        );
        let mut random = Random::new(1234);
        let bits = [1, 5, 31, 32, 33, 64].map(|k| random.getrandbits(k));
        assert_eq!(
            bits,
            [
                1,
                24,
                946_466_063,
                501_869_158,
                32_175_636,
                17_386_697_504_169_769_072
            ]
        );
        assert_eq!(Random::new(0).random(), 0.844_421_851_525_048_1);
        assert_eq!(Random::new((1 << 40) + 5).random(), 0.504_380_297_041_844_3);
        assert_eq!(Random::new(-7).random(), Random::new(7).random());
        assert_eq!(Random::new(7).random(), 0.323_832_764_833_162_37);
    }

    #[test]
    fn samples_in_both_ways() {
        let mut random = Random::new(1234);
        assert_eq!(random.sample(7473, 5).unwrap(), [6374, 3610, 957, 61, 742]);
        assert_eq!(
            random.sample(7473, 5).unwrap(),
            [7462, 6610, 4769, 286, 5501]
        );
        let mut random = Random::new(1234);
        assert_eq!(random.sample(10, 6).unwrap(), [7, 1, 0, 9, 4, 6]);
        assert_eq!(random.sample(21, 3).unwrap(), [2, 3, 11]);
        assert_eq!(random.sample(22, 6).unwrap(), [7, 0, 20, 19, 11, 15]);
        assert_eq!(
            random.sample(100, 30).unwrap(),
            [
                78, 59, 19, 11, 23, 91, 14, 1, 64, 62, 31, 8, 85, 69, 98, 88, 76, 96, 65, 74, 5,
                34, 71, 84, 38, 61, 45, 99, 89, 25
            ]
        );
        assert!(random.sample(3, 4).is_none());
    }

    #[test]
    fn shuffles_and_chooses() {
        let mut random = Random::new(43);
        let mut items: Vec<u32> = (0..12).collect();
        random.shuffle(&mut items);
        assert_eq!(items, [10, 1, 9, 3, 11, 6, 8, 5, 7, 2, 4, 0]);
        let thousand: Vec<u32> = (0..1000).collect();
        assert_eq!(random.choice(&thousand), Some(&623));
        assert_eq!(
            [(); 8].map(|()| random.randbelow(7)),
            [0, 4, 3, 4, 2, 4, 6, 4]
        );
        assert_eq!(random.random(), 0.886_508_239_472_782_8);
        assert_eq!(random.choice::<u32>(&[]), None);
    }
}

//! The part of NumPy's legacy generator that OpenCompass's random retriever draws from.

const N: usize = 624;
const M: usize = 397;

/// `numpy.random.RandomState`: the Mersenne Twister MT19937, seeded by one integer.
#[derive(Clone, Debug)]
pub(crate) struct RandomState {
    state: [u32; N],
    at: usize,
}

impl RandomState {
    /// The state after `numpy.random.seed(seed)` (the generator's `init_genrand`).
    pub(crate) fn new(seed: u32) -> Self {
        let mut state = [0; N];
        state[0] = seed;
        for i in 1..N {
            let before = state[i - 1];
            state[i] = (before ^ (before >> 30))
                .wrapping_mul(1_812_433_253)
                .wrapping_add(i as u32);
        }
        Self { state, at: N }
    }

    fn next_u32(&mut self) -> u32 {
        if self.at == N {
            for i in 0..N {
                let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % N] & 0x7fff_ffff);
                let twist = if y & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[i] = self.state[(i + M) % N] ^ (y >> 1) ^ twist;
            }
            self.at = 0;
        }
        let mut y = self.state[self.at];
        self.at += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// A number from 0 to `max`, by drawing bits until they are not above it.
    fn up_to(&mut self, max: u32) -> usize {
        let mask = max.checked_next_power_of_two().map_or(u32::MAX, |power| {
            if power == max {
                max | (max - 1)
            } else {
                power - 1
            }
        });
        loop {
            let value = self.next_u32() & mask;
            if value <= max {
                return value as usize;
            }
        }
    }

    /// `numpy.random.choice(len, count, replace=False)`: the front of a shuffled range.
    pub(crate) fn choice(&mut self, len: usize, count: usize) -> Vec<usize> {
        let mut range: Vec<usize> = (0..len).collect();
        for i in (1..len).rev() {
            let j = self.up_to(u32::try_from(i).unwrap_or(u32::MAX));
            range.swap(i, j);
        }
        range.truncate(count);
        range
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `numpy.random.seed(seed); numpy.random.permutation(10)`.
    #[test]
    fn ranges_are_shuffled_as_by_numpy() {
        assert_eq!(
            RandomState::new(0).choice(10, 10),
            [2, 8, 4, 9, 1, 6, 7, 3, 0, 5]
        );
        assert_eq!(RandomState::new(42).choice(10, 4), [8, 1, 5, 0]);
    }
}

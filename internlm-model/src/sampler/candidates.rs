//! Tokens that may be drawn, and the draw. Buffers are kept from token to token.

use internlm_core::SamplingParams;

/// How many of the most likely tokens are put in order first, when it is not known how many there
/// will be.
const FIRST_SORTED: usize = 32;

/// A token and its weight, which is 1 for the most likely one.
type Candidate = (u32, f32);

/// The tokens that truncation has left.
#[derive(Clone, Debug, Default)]
pub(super) struct Candidates {
    kept: Vec<Candidate>,
    /// Weights of all tokens, where their sum is needed.
    weights: Vec<f32>,
}

impl Candidates {
    /// Chooses the tokens that may be drawn: top-k, then top-p of what it leaves, then min-p.
    /// Only they are put in order, the most likely one first; without top-k and top-p they stay in
    /// the order of ids.
    ///
    /// # Shapes
    /// - logits: `(vocab_size)`, of which the largest is finite
    pub(super) fn choose(&mut self, logits: &[f32], p: &SamplingParams) {
        let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weight = |x: f32| ((x - top) / p.temperature).exp();
        let Self { kept, weights } = self;
        kept.clear();
        if p.top_k > 0 && p.top_k < logits.len() {
            kept.extend((0..).zip(logits.iter().copied()));
            kept.select_nth_unstable_by(p.top_k - 1, falling);
            kept.truncate(p.top_k);
            kept.iter_mut().for_each(|(_, x)| *x = weight(*x));
            kept.sort_unstable_by(falling);
            if p.top_p < 1.0 {
                let total = sum(kept.iter().map(|c| c.1));
                truncate_at(kept, f64::from(p.top_p) * total);
            }
        } else if p.top_p < 1.0 {
            weights.clear();
            weights.extend(logits.iter().map(|&x| weight(x)));
            let total = sum(weights.iter().copied());
            // All tokens below the floor together weigh less than half of what top-p leaves out,
            // so the sum is reached without them, whatever its rounding.
            let left_out = (1.0 - f64::from(p.top_p)) * total;
            let floor = left_out / (2.0 * weights.len() as f64);
            let above = |c: &Candidate| f64::from(c.1) >= floor;
            kept.extend((0..).zip(weights.iter().copied()).filter(above));
            truncate_at(kept, f64::from(p.top_p) * total);
        } else {
            let all = logits.iter().map(|&x| weight(x));
            kept.extend((0..).zip(all).filter(|c| c.1 >= p.min_p));
        }
        if p.min_p > 0.0 {
            kept.retain(|c| c.1 >= p.min_p);
        }
    }

    /// Draws a token with a number from `[0, 1)`. `None` where there is none.
    pub(super) fn draw(&self, unit: f64) -> Option<u32> {
        let mut draw = unit * sum(self.kept.iter().map(|c| c.1));
        let drawn = self.kept.iter().find(|&&(_, x)| {
            draw -= f64::from(x);
            draw < 0.0
        });
        drawn.or(self.kept.last()).map(|c| c.0)
    }
}

/// Falling weights, equal ones by rising id.
fn falling(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

fn sum(weights: impl Iterator<Item = f32>) -> f64 {
    weights.map(f64::from).sum()
}

/// Keeps the heaviest candidates up to the one at which their sum reaches `target`, in falling
/// order. What comes after them is moved, not sorted.
fn truncate_at(candidates: &mut Vec<Candidate>, target: f64) {
    let (mut sorted, mut step, mut reached) = (0, FIRST_SORTED, 0.0);
    while sorted < candidates.len() {
        let end = candidates.len().min(sorted + step);
        let rest = &mut candidates[sorted..];
        if step < rest.len() {
            rest.select_nth_unstable_by(step - 1, falling);
        }
        rest[..end - sorted].sort_unstable_by(falling);
        for at in sorted..end {
            reached += f64::from(candidates[at].1);
            if reached >= target {
                candidates.truncate(at + 1);
                return;
            }
        }
        (sorted, step) = (end, 4 * step);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampler::SplitMix64;

    /// The rule as it reads: weigh all, sort all, cut.
    fn plain(logits: &[f32], p: &SamplingParams) -> Vec<Candidate> {
        let mut all: Vec<Candidate> = (0..).zip(logits.iter().copied()).collect();
        all.sort_by(falling);
        if p.top_k > 0 {
            all.truncate(p.top_k);
        }
        let top = all[0].1;
        all.iter_mut()
            .for_each(|(_, x)| *x = ((*x - top) / p.temperature).exp());
        all.sort_by(falling);
        let total = sum(all.iter().map(|c| c.1));
        let mut reached = 0.0;
        let last = all.iter().position(|&(_, x)| {
            reached += f64::from(x);
            reached >= f64::from(p.top_p) * total
        });
        if p.top_p < 1.0 {
            all.truncate(last.map_or(all.len(), |last| last + 1));
        }
        all.retain(|c| c.1 >= p.min_p);
        all
    }

    #[test]
    fn what_is_kept_is_what_sorting_everything_keeps() {
        let mut random = SplitMix64(3);
        let mut candidates = Candidates::default();
        let mut most = 0;
        for case in 0..600 {
            let len = 1 + random.next() as usize % if case % 20 == 0 { 20_000 } else { 300 };
            let spread = [0.0, 0.01, 1.0, 5.0, 40.0][case % 5];
            // Steps, so that some logits are equal.
            let mut logit = || ((random.unit() * spread * 64.0).round() / 64.0) as f32;
            let logits: Vec<f32> = (0..len).map(|_| logit()).collect();
            for top_p in [1e-6, 0.1, 0.5, 0.8, 0.95, 0.999_999_94, 1.0] {
                for (top_k, min_p) in [(0, 0.0), (0, 0.05), (40, 0.0), (1000, 0.02)] {
                    let p = SamplingParams::default()
                        .with_temperature([0.3, 0.8, 1.7][case % 3])
                        .with_top_p(top_p)
                        .with_top_k(top_k)
                        .with_min_p(min_p);
                    candidates.choose(&logits, &p);
                    let mut want = plain(&logits, &p);
                    if p.top_p == 1.0 && (top_k == 0 || top_k >= len) {
                        want.sort_by_key(|c| c.0);
                    }
                    // The sum of all weights is rounded in another order here, so that a token at
                    // the very border may fall on either side.
                    let (got, common) = (&candidates.kept, want.len().min(candidates.kept.len()));
                    assert_eq!(got[..common], want[..common], "{p:?} of {len}");
                    assert!(got.len().abs_diff(want.len()) <= 1, "{p:?} of {len}");
                    most = most.max(got.len());
                }
            }
        }
        assert!(most > 10_000, "{most}");
    }

    #[test]
    fn draws_go_by_weight() {
        let candidates = Candidates {
            kept: vec![(7, 1.0), (2, 0.5), (9, 0.5)],
            weights: Vec::new(),
        };
        for (unit, want) in [
            (0.0, 7),
            (0.49, 7),
            (0.5, 2),
            (0.74, 2),
            (0.75, 9),
            (1.0, 9),
        ] {
            assert_eq!(candidates.draw(unit), Some(want), "{unit}");
        }
        assert_eq!(Candidates::default().draw(0.5), None);
    }
}

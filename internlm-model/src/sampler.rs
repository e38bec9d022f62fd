//! The choice of the next token from logits.

mod candidates;

use candidates::Candidates;
use internlm_core::SamplingParams;
use internlm_core::chat_model::TokenLogprob;

use crate::error::{Error, Result};

/// Chooses tokens; holds the random generator and the tokens seen so far.
///
/// The steps and their order are those of [`SamplingParams`]. Equal logits are broken by the
/// smaller id, and one seed gives one sequence of draws on every machine.
#[derive(Clone, Debug)]
pub struct Sampler {
    params: SamplingParams,
    random: SplitMix64,
    /// How often each token occurred in the answer.
    answered: std::collections::BTreeMap<u32, u32>,
    /// Tokens of the prompt.
    prompted: std::collections::BTreeSet<u32>,
    /// Logits after bias and penalties, where there are some; kept for its memory.
    adjusted: Vec<f32>,
    candidates: Candidates,
}

/// A chosen token.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The token.
    pub id: u32,
    /// Its log-probability before any of the steps, if asked for.
    pub logprob: Option<TokenLogprob>,
}

impl Sampler {
    /// A sampler for an answer to this prompt.
    ///
    /// # Errors
    /// A parameter out of range.
    pub fn new(params: SamplingParams, prompt: &[u32]) -> Result<Self> {
        params.validate()?;
        let seed = params.seed.unwrap_or_else(fresh_seed);
        let prompted = if params.repetition_penalty == 1.0 {
            Default::default()
        } else {
            prompt.iter().copied().collect()
        };
        Ok(Self {
            params,
            random: SplitMix64(seed),
            answered: Default::default(),
            prompted,
            adjusted: Vec::new(),
            candidates: Candidates::default(),
        })
    }

    /// Chooses the next token from `(vocab_size)` logits and remembers it.
    ///
    /// # Errors
    /// Logits that are not finite.
    pub fn sample(&mut self, logits: &[f32]) -> Result<Choice> {
        self.sample_among(logits, None)
    }

    /// The same among some tokens only: token `i` may be chosen if bit `i % 32` of word `i / 32` is set. A
    /// reported log-probability is that among all tokens.
    ///
    /// # Errors
    /// Logits that are not finite; words in which no token of the vocabulary is allowed.
    pub fn sample_among(&mut self, logits: &[f32], allowed: Option<&[u32]>) -> Result<Choice> {
        let count = logits.iter().filter(|x| !x.is_finite()).count();
        if count > 0 || logits.is_empty() {
            return Err(Error::NonFiniteLogits { count });
        }
        let id = if self.adjusts() || allowed.is_some() {
            let mut adjusted = std::mem::take(&mut self.adjusted);
            adjusted.clear();
            adjusted.extend_from_slice(logits);
            self.adjust(&mut adjusted);
            if let Some(allowed) = allowed {
                let is_allowed = |id: usize| {
                    allowed
                        .get(id / 32)
                        .is_some_and(|w| w >> (id % 32) & 1 == 1)
                };
                let forbidden = adjusted.iter_mut().enumerate();
                let forbidden = forbidden.filter(|(id, _)| !is_allowed(*id));
                let mut count = 0;
                for (_, x) in forbidden {
                    *x = f32::NEG_INFINITY;
                    count += 1;
                }
                if count == adjusted.len() {
                    return Err(Error::NoTokenAllowed);
                }
            }
            let id = self.choose(&adjusted);
            self.adjusted = adjusted;
            id
        } else {
            self.choose(logits)
        };
        *self.answered.entry(id).or_default() += 1;
        let logprob = self
            .params
            .logprobs
            .map(|top| token_logprob(logits, id, top));
        Ok(Choice { id, logprob })
    }

    /// Whether bias or penalties change anything.
    fn adjusts(&self) -> bool {
        let p = &self.params;
        !p.logit_bias.is_empty()
            || p.repetition_penalty != 1.0
            || p.frequency_penalty != 0.0
            || p.presence_penalty != 0.0
    }

    /// Applies bias and penalties.
    fn adjust(&self, logits: &mut [f32]) {
        let p = &self.params;
        for &(id, bias) in &p.logit_bias {
            if let Some(x) = logits.get_mut(id as usize) {
                *x += bias;
            }
        }
        if p.repetition_penalty != 1.0 {
            let seen = self.prompted.iter().chain(
                self.answered
                    .keys()
                    .filter(|id| !self.prompted.contains(id)),
            );
            for &id in seen {
                if let Some(x) = logits.get_mut(id as usize) {
                    *x = if *x < 0.0 {
                        *x * p.repetition_penalty
                    } else {
                        *x / p.repetition_penalty
                    };
                }
            }
        }
        for (&id, &count) in &self.answered {
            if let Some(x) = logits.get_mut(id as usize) {
                *x -= p.presence_penalty + p.frequency_penalty * count as f32;
            }
        }
    }

    fn choose(&mut self, logits: &[f32]) -> u32 {
        let likeliest = argmax(logits);
        // A bias may forbid every token, and a penalty may overflow: then there are no weights.
        let weighs = logits[likeliest as usize].is_finite();
        if self.params.temperature == 0.0 || self.params.top_k == 1 || !weighs {
            return likeliest;
        }
        self.candidates.choose(logits, &self.params);
        let unit = self.random.unit();
        self.candidates.draw(unit).unwrap_or(likeliest)
    }
}

/// The index of the largest value, the first of equals; `0` for an empty slice.
pub fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (i, &x) in logits.iter().enumerate() {
        if x > logits[best] {
            best = i;
        }
    }
    best as u32
}

/// `ln(sum(exp(x)))`, summed in f64.
pub fn log_sum_exp(logits: &[f32]) -> f32 {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&x| f64::from((x - top).exp())).sum();
    top + sum.ln() as f32
}

/// The log-probability of a token and of the most likely ones.
pub fn token_logprob(logits: &[f32], id: u32, top: usize) -> TokenLogprob {
    let norm = log_sum_exp(logits);
    let at = |id: u32| (id, logits[id as usize] - norm);
    TokenLogprob {
        id,
        logprob: at(id).1,
        top: most_likely(logits, top).into_iter().map(at).collect(),
    }
}

/// The ids of the `count` largest values, falling, the first of equals first.
fn most_likely(logits: &[f32], count: usize) -> Vec<u32> {
    let falling = |&a: &u32, &b: &u32| {
        let (x, y) = (logits[a as usize], logits[b as usize]);
        y.total_cmp(&x).then(a.cmp(&b))
    };
    let count = count.min(logits.len());
    let mut ids: Vec<u32> = Vec::with_capacity(2 * count);
    let mut floor = f32::NEG_INFINITY;
    for (id, &x) in (0..).zip(logits) {
        if count == 0 || (ids.len() >= count && x < floor) {
            continue;
        }
        ids.push(id);
        // Halved now and then: each value is looked at a constant number of times.
        if ids.len() == 2 * count {
            ids.select_nth_unstable_by(count - 1, falling);
            ids.truncate(count);
            floor = logits[ids[count - 1] as usize];
        }
    }
    ids.sort_unstable_by(falling);
    ids.truncate(count);
    ids
}

/// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
#[derive(Clone, Debug)]
pub(crate) struct SplitMix64(pub(crate) u64);

impl SplitMix64 {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `[0, 1)`.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A seed that differs from run to run, from the standard library's hasher keys.
fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(params: SamplingParams, logits: &[f32], n: usize) -> Vec<u32> {
        let mut sampler = Sampler::new(params, &[]).expect("valid parameters");
        (0..n)
            .map(|_| sampler.sample(logits).expect("finite").id)
            .collect()
    }

    fn sampled() -> SamplingParams {
        SamplingParams::default().with_temperature(1.0).with_seed(7)
    }

    #[test]
    fn greedy_takes_the_first_of_equals() {
        assert_eq!(draws(SamplingParams::greedy(), &[1.0, 3.0, 3.0], 2), [1, 1]);
    }

    #[test]
    fn frequencies_follow_the_softmax() {
        let logits = [0.0, 1.0, 2.0];
        let ids = draws(sampled(), &logits, 20_000);
        let norm: f64 = logits.iter().map(|x: &f32| f64::from(x.exp())).sum();
        for (id, x) in logits.iter().enumerate() {
            let got = ids.iter().filter(|&&i| i as usize == id).count() as f64 / 20_000.0;
            assert!(
                (got - f64::from(x.exp()) / norm).abs() < 0.015,
                "{id}: {got}"
            );
        }
    }

    #[test]
    fn truncations_keep_what_they_say() {
        let logits = [0.0, 1.0, 2.0, 3.0, 4.0];
        let all = |p| {
            let mut ids = draws(p, &logits, 4_000);
            ids.sort_unstable();
            ids.dedup();
            ids
        };
        assert_eq!(all(sampled()), [0, 1, 2, 3, 4]);
        assert_eq!(all(sampled().with_top_k(2)), [3, 4]);
        // softmax: .0117 .0317 .0861 .2341 .6364
        assert_eq!(all(sampled().with_top_p(0.6)), [4]);
        assert_eq!(all(sampled().with_top_p(0.65)), [3, 4]);
        assert_eq!(all(sampled().with_min_p(0.1)), [2, 3, 4]);
        assert_eq!(all(sampled().with_top_p(1e-9)), [4]);
    }

    #[test]
    fn penalties_and_bias_change_the_choice() {
        let mut params = SamplingParams::greedy();
        params.presence_penalty = 1.5;
        assert_eq!(draws(params, &[1.0, 2.0], 3), [1, 0, 1]);
        let mut params = SamplingParams::greedy();
        params.frequency_penalty = 0.4;
        assert_eq!(draws(params, &[1.0, 2.0], 5), [1, 1, 1, 0, 1]);
        let mut params = SamplingParams::greedy();
        params.logit_bias = vec![(0, 5.0), (99, 1.0)];
        assert_eq!(draws(params, &[1.0, 2.0], 1), [0]);
        let params = SamplingParams::greedy().with_repetition_penalty(2.0);
        let mut sampler = Sampler::new(params, &[1, 2]).expect("valid parameters");
        assert_eq!(sampler.sample(&[-1.0, 1.9, -0.9]).expect("finite").id, 1); // 0.95 beats -1, -1.8
        assert_eq!(sampler.sample(&[1.0, 1.9, -0.9]).expect("finite").id, 0);
    }

    #[test]
    fn a_seed_repeats_and_another_differs() {
        let logits = vec![0.0; 50];
        assert_eq!(draws(sampled(), &logits, 20), draws(sampled(), &logits, 20));
        assert_ne!(
            draws(sampled(), &logits, 20),
            draws(sampled().with_seed(8), &logits, 20)
        );
    }

    #[test]
    fn where_every_token_is_forbidden_the_first_one_is_taken() {
        let mut params = sampled().with_top_p(0.5);
        params.logit_bias = vec![(0, f32::NEG_INFINITY), (1, f32::NEG_INFINITY)];
        assert_eq!(draws(params.clone(), &[1.0, 2.0], 3), [0, 0, 0]);
        assert_eq!(draws(params, &[1.0, 2.0, 0.0], 3), [2, 2, 2]);
    }

    #[test]
    fn only_allowed_tokens_are_chosen() {
        let logits: Vec<f32> = (0..40).map(|i| i as f32).collect();
        let mut sampler = Sampler::new(sampled(), &[]).expect("valid parameters");
        for _ in 0..50 {
            let choice = sampler.sample_among(&logits, Some(&[0b1010, 0b1]));
            assert!([1, 3, 32].contains(&choice.expect("finite").id));
        }
        let mut greedy = Sampler::new(SamplingParams::greedy(), &[]).expect("valid parameters");
        assert_eq!(
            greedy
                .sample_among(&logits, Some(&[0b1010]))
                .expect("finite")
                .id,
            3
        );
        let none = greedy.sample_among(&logits, Some(&[0, 0]));
        assert!(matches!(none, Err(Error::NoTokenAllowed)));
    }

    #[test]
    fn broken_logits_are_an_error() {
        let mut sampler = Sampler::new(sampled(), &[]).expect("valid parameters");
        assert!(matches!(
            sampler.sample(&[0.0, f32::NAN, f32::INFINITY]),
            Err(Error::NonFiniteLogits { count: 2 })
        ));
        assert!(sampler.sample(&[]).is_err());
    }

    #[test]
    fn logprobs_are_those_before_temperature() {
        let lp = token_logprob(&[0.0, 1.0, 1.0], 0, 2);
        let norm = (1.0f32 + 2.0 * 1.0f32.exp()).ln();
        assert!((lp.logprob + norm).abs() < 1e-6);
        assert_eq!(lp.top.iter().map(|t| t.0).collect::<Vec<_>>(), [1, 2]);
        assert!(token_logprob(&[0.0, 1.0], 0, 0).top.is_empty());
    }

    #[test]
    fn the_most_likely_are_those_of_a_sort() {
        let mut random = SplitMix64(1);
        for len in [1, 2, 5, 64, 1000] {
            let logits: Vec<f32> = (0..len).map(|_| (random.next() % 97) as f32).collect();
            let mut sorted: Vec<u32> = (0..len).collect();
            sorted.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]));
            for count in [0, 1, 2, 3, 20, 999, 5000] {
                let want = &sorted[..count.min(sorted.len())];
                assert_eq!(most_likely(&logits, count), want, "{count} of {len}");
            }
        }
    }
}

//! The two measurements, on the engine that serves.

use std::time::Instant;

use internlm_core::chat_model::Input;
use internlm_core::{ChatRequest, SamplingParams};
use internlm_examples::{Result, progress};
use internlm_serve::{Engine, Response};

pub(crate) struct Plan {
    pub(crate) prompt_tokens: usize,
    pub(crate) gen_tokens: usize,
    pub(crate) batch: usize,
    pub(crate) context: usize,
    pub(crate) reps: usize,
    pub(crate) seed: u64,
}

impl Plan {
    /// Most tokens of one sequence: a prompt and its answer of one token, or a prompt of one token and one more
    /// than is generated, for the first one is not counted.
    pub(crate) fn longest(&self) -> usize {
        let new = self.prompt_tokens.max(self.gen_tokens.saturating_add(1));
        self.context.saturating_add(new).saturating_add(1)
    }
}

/// Tokens per second of each repetition.
#[derive(Default)]
pub(crate) struct Rates {
    pub(crate) prompt: Vec<f64>,
    pub(crate) generation: Vec<f64>,
}

pub(crate) fn measure(engine: &Engine, vocab_size: usize, plan: &Plan) -> Result<Rates> {
    let mut random = Random(plan.seed);
    let bar = progress::bar(plan.reps as u64, "repetitions");
    // What every sequence has in the cache already: found again by its tokens, block by block.
    let contexts: Vec<_> = (0..plan.batch)
        .map(|_| random.ids(plan.context, vocab_size))
        .collect();
    let mut prompts = |new: usize| -> Vec<Vec<u32>> {
        let prompt = |context: &Vec<u32>| {
            let mut ids = context.clone();
            ids.extend(random.ids(new, vocab_size));
            ids
        };
        contexts.iter().map(prompt).collect()
    };
    // Computes the contexts, and warms the caches of the processor and the pages of keys and values.
    generate(engine, &prompts(1), 1)?;

    let mut rates = Rates::default();
    for _ in 0..plan.reps {
        if plan.prompt_tokens > 0 {
            let prompts = prompts(plan.prompt_tokens);
            let begin = Instant::now();
            for response in submit(engine, &prompts, 1)? {
                response.complete()?;
            }
            rates
                .prompt
                .push(rate(plan.batch * plan.prompt_tokens, begin));
        }
        if plan.gen_tokens > 0 {
            let (tokens, begin) = generate(engine, &prompts(1), plan.gen_tokens)?;
            rates.generation.push(rate(tokens, begin));
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(rates)
}

fn submit(engine: &Engine, prompts: &[Vec<u32>], new: usize) -> Result<Vec<Response>> {
    let sampling = SamplingParams::greedy()
        .with_max_new_tokens(new)
        .with_ignore_eos(true);
    let submit = |ids: &Vec<u32>| {
        let request = ChatRequest::new(Input::Ids(ids.clone()));
        engine.submit(request.with_sampling(sampling.clone()))
    };
    Ok(prompts.iter().map(submit).collect::<Result<_, _>>()?)
}

/// Tokens that were generated after every sequence had begun, and when that was.
fn generate(engine: &Engine, prompts: &[Vec<u32>], new: usize) -> Result<(usize, Instant)> {
    let mut responses = submit(engine, prompts, new + 1)?;
    for response in &mut responses {
        response.next().transpose()?;
    }
    let begin = Instant::now();
    for response in responses {
        response.complete()?;
    }
    Ok((prompts.len() * new, begin))
}

fn rate(tokens: usize, begin: Instant) -> f64 {
    tokens as f64 / begin.elapsed().as_secs_f64()
}

pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// Most memory that was resident at a time; known on Linux only.
pub(crate) fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn ids(&mut self, count: usize, vocab_size: usize) -> Vec<u32> {
        (0..count)
            .map(|_| (self.next() % vocab_size as u64) as u32)
            .collect()
    }
}

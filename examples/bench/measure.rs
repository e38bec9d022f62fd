//! The two measurements.

use std::time::Instant;

use internlm_examples::{Error, Result, progress};
use internlm_model::batch::Logits;
use internlm_model::candle::{Device, Storage};
use internlm_model::sampler::argmax;
use internlm_model::{Batch, CausalLm, Context, ContiguousCache};

/// Rows of a pass while a prompt is read.
const CHUNK: usize = 256;

pub(crate) struct Plan {
    pub(crate) prompt_tokens: usize,
    pub(crate) gen_tokens: usize,
    pub(crate) batch: usize,
    pub(crate) context: usize,
    pub(crate) reps: usize,
    pub(crate) seed: u64,
}

/// Tokens per second of each repetition.
#[derive(Default)]
pub(crate) struct Rates {
    pub(crate) prompt: Vec<f64>,
    pub(crate) generation: Vec<f64>,
}

pub(crate) fn measure(model: &CausalLm, plan: &Plan) -> Result<Rates> {
    let longest = model.config().context_length();
    let tokens = plan
        .context
        .saturating_add(plan.prompt_tokens.max(plan.gen_tokens));
    if tokens > longest {
        return Err(Error::Input(format!(
            "{tokens} tokens were asked for, the model's context holds {longest}"
        )));
    }
    let mut cache = model.new_cache()?;
    let mut random = Random(plan.seed);
    let vocab_size = model.config().vocab_size;
    let bar = progress::bar(plan.reps as u64, "repetitions");

    let rewind = |cache: &mut ContiguousCache| {
        (0..plan.batch).for_each(|slot| cache.truncate(slot, plan.context));
    };
    for slot in 0..plan.batch {
        read(
            model,
            &mut cache,
            slot,
            0,
            &random.ids(plan.context, vocab_size),
            false,
        )?;
    }
    // Warms the caches of the processor and the pages of the key-value cache.
    read(
        model,
        &mut cache,
        0,
        plan.context,
        &random.ids(plan.prompt_tokens.min(CHUNK), vocab_size),
        true,
    )?;
    rewind(&mut cache);
    generate(
        model,
        &mut cache,
        plan,
        &random.ids(plan.batch * plan.gen_tokens.min(2), vocab_size),
    )?;
    rewind(&mut cache);

    let mut rates = Rates::default();
    for _ in 0..plan.reps {
        if plan.prompt_tokens > 0 {
            let prompts: Vec<_> = (0..plan.batch)
                .map(|_| random.ids(plan.prompt_tokens, vocab_size))
                .collect();
            let begin = Instant::now();
            for (slot, prompt) in prompts.iter().enumerate() {
                read(model, &mut cache, slot, plan.context, prompt, true)?;
            }
            rates
                .prompt
                .push(rate(plan.batch * plan.prompt_tokens, begin));
            rewind(&mut cache);
        }
        if plan.gen_tokens > 0 {
            let forced = random.ids(plan.batch * plan.gen_tokens, vocab_size);
            let begin = Instant::now();
            generate(model, &mut cache, plan, &forced)?;
            rates.generation.push(rate(forced.len(), begin));
            rewind(&mut cache);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(rates)
}

/// Reads tokens into a slot, in passes of [`CHUNK`] rows; with `logits` those of the last token are
/// computed too.
fn read(
    model: &CausalLm,
    cache: &mut ContiguousCache,
    slot: usize,
    start: usize,
    ids: &[u32],
    logits: bool,
) -> Result<()> {
    let end = start + ids.len();
    let mut position = start;
    for chunk in ids.chunks(CHUNK) {
        let last = position + chunk.len() == end;
        let wanted = if logits && last {
            Logits::Last
        } else {
            Logits::None
        };
        let mut batch = Batch::new();
        batch.push(slot, chunk, position, end, wanted)?;
        look(model, &batch, cache)?;
        position += chunk.len();
    }
    Ok(())
}

/// One step for every `plan.batch` forced tokens.
fn generate(
    model: &CausalLm,
    cache: &mut ContiguousCache,
    plan: &Plan,
    forced: &[u32],
) -> Result<()> {
    for (step, ids) in forced.chunks(plan.batch).enumerate() {
        let mut batch = Batch::new();
        for (slot, &id) in ids.iter().enumerate() {
            batch.push(slot, &[id], plan.context + step, plan.context, Logits::Last)?;
        }
        look(model, &batch, cache)?;
    }
    Ok(())
}

/// A pass, and the most likely token of each row, which also waits for devices that run ahead.
fn look(model: &CausalLm, batch: &Batch, cache: &mut ContiguousCache) -> Result<()> {
    let logits = model.forward(batch, &mut Context::new(cache))?;
    let logits = logits.to_device(&Device::Cpu)?.flatten_all()?;
    let (storage, _) = logits.storage_and_layout();
    if let Storage::Cpu(storage) = &*storage {
        for row in storage.as_slice::<f32>()?.chunks(model.config().vocab_size) {
            std::hint::black_box(argmax(row));
        }
    }
    Ok(())
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

//! The speed of candle-transformers' llama on the CPU, with the flags and the JSON keys of our `bench`.
//!
//! `peer-candle --model FOLDER [--dtype f32|bf16] [--prompt-tokens 512] [--gen-tokens 128]
//! [--context 0] [--batch 1] [--max-seconds 30]`
//!
//! Threads are those of `RAYON_NUM_THREADS` and `CANDLE_NUM_THREADS`.
//! One invocation is one repetition, so that a script can interleave it with other engines.

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::llama::{Cache, Config, Llama, LlamaConfig};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

struct Options {
    model: PathBuf,
    dtype: DType,
    prompt_tokens: usize,
    gen_tokens: usize,
    context: usize,
    /// Generation stops early after this time, but not before 8 tokens: a slow engine shall not
    /// hold up the others, and its rate is the same.
    max_seconds: f64,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            model: PathBuf::new(),
            dtype: DType::F32,
            prompt_tokens: 512,
            gen_tokens: 128,
            context: 0,
            max_seconds: 30.0,
        };
        while let Some(flag) = args.next() {
            let value = args.next().ok_or_else(|| format!("{flag} needs a value"))?;
            match flag.as_str() {
                "--model" => options.model = value.into(),
                "--dtype" => {
                    options.dtype = match value.as_str() {
                        "f32" => DType::F32,
                        "bf16" => DType::BF16,
                        _ => return Err(format!("--dtype {value}: f32 or bf16").into()),
                    }
                }
                "--prompt-tokens" => options.prompt_tokens = value.parse()?,
                "--gen-tokens" => options.gen_tokens = value.parse()?,
                "--context" => options.context = value.parse()?,
                "--batch" if value != "1" => return Err("--batch: one sequence only".into()),
                "--batch" => {}
                "--max-seconds" => options.max_seconds = value.parse()?,
                _ => return Err(format!("unknown flag {flag}").into()),
            }
        }
        Ok(options)
    }
}

/// A model with a fresh cache: the position is where the next token goes.
struct Session<'a> {
    llama: &'a Llama,
    cache: Cache,
    position: usize,
}

impl<'a> Session<'a> {
    fn new(llama: &'a Llama, config: &Config, dtype: DType) -> Result<Self> {
        let cache = Cache::new(true, dtype, config, &Device::Cpu)?;
        Ok(Self {
            llama,
            cache,
            position: 0,
        })
    }

    /// Runs `ids` and picks the likeliest next token.
    fn step(&mut self, ids: &[u32]) -> Result<u32> {
        let input = Tensor::new(ids, &Device::Cpu)?.unsqueeze(0)?; // (1, num_tokens)
        let logits = self.llama.forward(&input, self.position, &mut self.cache)?; // (1, vocab_size)
        self.position += ids.len();
        Ok(logits
            .squeeze(0)?
            .to_dtype(DType::F32)?
            .argmax(0)?
            .to_scalar()?)
    }
}

/// Ids that look random, from a fixed linear congruential sequence.
fn prompt(len: usize, vocab_size: usize) -> Vec<u32> {
    let mut state = 1u64;
    let next = |_| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        ((state >> 33) % vocab_size as u64) as u32
    };
    (0..len).map(next).collect()
}

fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

fn main() -> Result<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    let start = Instant::now();
    let config: LlamaConfig =
        serde_json::from_slice(&std::fs::read(options.model.join("config.json"))?)?;
    let config = config.into_config(false);
    let file = options.model.join("model.safetensors");
    // SAFETY: nothing writes to the file while this program runs.
    let weights =
        unsafe { VarBuilder::from_mmaped_safetensors(&[file], options.dtype, &Device::Cpu)? };
    let llama = Llama::load(weights, &config)?;
    let load_s = start.elapsed().as_secs_f64();

    let ids = prompt(
        options.prompt_tokens.max(options.context).max(32),
        config.vocab_size,
    );
    let mut warm_up = Session::new(&llama, &config, options.dtype)?;
    let token = warm_up.step(&ids[..32])?;
    warm_up.step(&[token])?;

    let mut pp_tokens_per_s = None;
    if options.prompt_tokens > 0 {
        let mut session = Session::new(&llama, &config, options.dtype)?;
        let start = Instant::now();
        session.step(&ids[..options.prompt_tokens])?;
        pp_tokens_per_s = Some(options.prompt_tokens as f64 / start.elapsed().as_secs_f64());
    }

    let mut tg_tokens_per_s = None;
    let mut generated = 0;
    let mut first_ids = Vec::new(); // they show that the peers run the same network
    if options.gen_tokens > 0 {
        let mut session = Session::new(&llama, &config, options.dtype)?;
        let mut token = ids[0];
        if options.context > 0 {
            token = session.step(&ids[..options.context])?;
        }
        let limit = Duration::from_secs_f64(options.max_seconds);
        let start = Instant::now();
        while generated < options.gen_tokens && (generated < 8 || start.elapsed() < limit) {
            token = session.step(&[token])?;
            generated += 1;
            if generated <= 8 {
                first_ids.push(token);
            }
        }
        tg_tokens_per_s = Some(generated as f64 / start.elapsed().as_secs_f64());
    }

    let line = serde_json::json!({
        "model": options.model, "dtype": format!("{:?}", options.dtype).to_lowercase(),
        "threads": candle_core::utils::get_num_threads(), "context": options.context, "generated": generated, "first_ids": first_ids,
        "pp_tokens_per_s": pp_tokens_per_s, "tg_tokens_per_s": tg_tokens_per_s,
        "load_s": load_s, "peak_rss_bytes": peak_rss_bytes(),
    });
    println!("{line}");
    Ok(())
}

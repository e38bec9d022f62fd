//! Speed of reading prompts and of generating, measured as llama-bench does.

mod measure;
mod shapes;
mod tokenizer;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use comfy_table::{Table, presets};
use internlm_examples::model::{self, ModelArgs, Precision, RuntimeArgs};
use internlm_examples::output::Output;
use internlm_examples::{Error, Result, program, progress};
use internlm_model::{CausalLm, PagedCache, QuantizationConfig, TextModel};
use internlm_serve::config::CacheBudget;
use internlm_serve::{Engine, EngineConfig};
use serde::Serialize;

use measure::Plan;
use shapes::Shape;

/// Weights that share a scale with `--weights w4`.
const W4_GROUP: usize = 128;

/// Measure prompt processing and generation.
///
/// Each repetition reads prompts of random tokens after --context tokens, then generates greedily
/// after --context tokens, by the engine that serves: --batch requests at once. Rates are tokens of
/// all sequences by wall clock; the median of the repetitions counts. Reading the contexts is not
/// counted, nor is each sequence's first token.
#[derive(Parser)]
struct Arguments {
    /// A folder in Hugging Face layout, a .gguf file, or a hub id
    #[arg(long, value_name = "PATH|ID", required_unless_present = "shape")]
    model: Option<PathBuf>,
    /// Random weights in the shape of a released model; dense ones are f32 unless --dtype says
    /// otherwise
    #[arg(long, conflicts_with = "model")]
    shape: Option<Shape>,
    /// How the matrices of a --shape's layers are stored; a --model's are as its files say
    #[arg(long, default_value = "dense")]
    weights: Weights,
    #[command(flatten)]
    runtime: RuntimeArgs,
    /// Tokens of the prompt; 0 leaves this measurement out
    #[arg(long, default_value_t = 512)]
    prompt_tokens: usize,
    /// Tokens to generate; 0 leaves this measurement out
    #[arg(long, default_value_t = 128)]
    gen_tokens: usize,
    /// Sequences at once
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Tokens that are in the cache already
    #[arg(long, default_value_t = 0)]
    context: usize,
    /// Repetitions
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    reps: u16,
    /// Seed of the random tokens and weights
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Write one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Weights {
    Dense,
    /// Packed, of 4 bits in groups of 128
    W4,
}

#[derive(Serialize)]
struct Report {
    model: String,
    weights: &'static str,
    dtype: &'static str,
    /// Precision that activations are rounded to before a product with the matrices of a layer.
    act: &'static str,
    device: String,
    isa: String,
    threads: usize,
    prompt_tokens: usize,
    gen_tokens: usize,
    batch: usize,
    context: usize,
    pp_tokens_per_s: Option<f64>,
    tg_tokens_per_s: Option<f64>,
    pp_reps: Vec<f64>,
    tg_reps: Vec<f64>,
    load_s: f64,
    peak_rss_bytes: Option<u64>,
    weight_bytes: usize,
}

fn main() -> ExitCode {
    program::run(run)
}

fn run(arguments: Arguments) -> Result<()> {
    let begin = Instant::now();
    let (name, model) = load(&arguments)?;
    let load_s = begin.elapsed().as_secs_f64();
    if arguments.weights == Weights::W4 && !model.is_packed() {
        let what = "--weights w4: the checkpoint is dense; expected a packed one, or --shape";
        return Err(Error::Input(what.to_owned()));
    }
    let plan = Plan {
        prompt_tokens: arguments.prompt_tokens,
        gen_tokens: arguments.gen_tokens,
        batch: usize::from(arguments.batch),
        context: arguments.context,
        reps: usize::from(arguments.reps),
        seed: arguments.seed,
    };
    let dtype = arguments.runtime.dtype;
    let stored = if arguments.shape.is_some() {
        "f32"
    } else {
        "stored"
    };
    let mut report = Report {
        model: name,
        weights: match (arguments.weights, model.is_packed()) {
            (Weights::W4, _) => "w4",
            (Weights::Dense, true) => "packed",
            (Weights::Dense, false) => "dense",
        },
        dtype: dtype.map_or(stored, Precision::as_str),
        act: match dtype {
            _ if model.is_packed() => arguments.runtime.act.as_str(),
            Some(Precision::Bf16) => "bf16",
            _ => "f32",
        },
        device: format!("{:?}", model.device().location()).to_lowercase(),
        isa: format!("{:?}", model.compute().isa()).to_lowercase(),
        threads: model.compute().threads(),
        prompt_tokens: plan.prompt_tokens,
        gen_tokens: plan.gen_tokens,
        batch: plan.batch,
        context: plan.context,
        pp_tokens_per_s: None,
        tg_tokens_per_s: None,
        pp_reps: Vec::new(),
        tg_reps: Vec::new(),
        load_s,
        peak_rss_bytes: None,
        weight_bytes: model.weight_bytes(),
    };
    let vocab_size = model.config().vocab_size;
    let rates = measure::measure(&engine(model, &plan)?, vocab_size, &plan)?;
    report.pp_tokens_per_s = measure::median(&rates.prompt);
    report.tg_tokens_per_s = measure::median(&rates.generation);
    (report.pp_reps, report.tg_reps) = (rates.prompt, rates.generation);
    report.peak_rss_bytes = measure::peak_rss_bytes();
    Output::new(arguments.json).record(&report, table)
}

fn load(arguments: &Arguments) -> Result<(String, CausalLm)> {
    let runtime = &arguments.runtime;
    if let Some(shape) = arguments.shape {
        let spinner = progress::spinner("making random weights");
        let mut config = shape.config()?;
        if arguments.weights == Weights::W4 {
            config.quantization = Some(QuantizationConfig::awq(W4_GROUP));
        }
        let model = CausalLm::random(config, arguments.seed, runtime.load_config()?)?;
        spinner.finish_and_clear();
        return Ok((shape.name().to_owned(), model));
    }
    let model = ModelArgs {
        // clap asks for one of the two.
        model: arguments.model.clone().unwrap_or_default(),
        runtime: runtime.clone(),
    };
    let model = model::load(&model.dir()?, runtime.load_config()?)?;
    Ok((model.name().to_owned(), model))
}

/// An engine with room for what the plan holds at a time: contexts, and what is new of one repetition.
fn engine(model: CausalLm, plan: &Plan) -> Result<Engine> {
    let (tokens, longest) = (plan.longest(), model.config().context_length());
    if tokens > longest {
        return Err(Error::Input(format!(
            "{tokens} tokens were asked for, the model's context holds {longest}"
        )));
    }
    let blocks = plan.batch * tokens.div_ceil(PagedCache::BLOCK_SIZE);
    let bytes = PagedCache::bytes_per_block(model.config(), model.kv_dtype()?);
    let config = EngineConfig::default()
        .with_max_batch(plan.batch)
        .with_max_waiting(plan.batch)
        .with_cache(CacheBudget::Bytes(blocks * bytes));
    let model = TextModel::new(model, tokenizer::of_one_token()?)?;
    Ok(Engine::new(model, config)?)
}

fn table(report: &Report) -> String {
    let rate = |rate: Option<f64>| rate.map_or("–".to_owned(), |r| format!("{r:.1} tokens/s"));
    let mebibytes = |bytes: u64| format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20));
    let spread = |reps: &[f64]| {
        let (low, high) = reps.iter().fold((f64::MAX, 0.0), |(l, h): (f64, f64), &r| {
            (l.min(r), h.max(r))
        });
        if reps.is_empty() {
            String::new()
        } else {
            format!("{low:.1} to {high:.1}")
        }
    };
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED);
    table.set_header(vec![
        report.model.clone(),
        "median".to_owned(),
        "range".to_owned(),
    ]);
    let prompt = format!("prompt of {}", report.prompt_tokens);
    table.add_row(vec![
        prompt,
        rate(report.pp_tokens_per_s),
        spread(&report.pp_reps),
    ]);
    let generation = format!("{} generated", report.gen_tokens);
    table.add_row(vec![
        generation,
        rate(report.tg_tokens_per_s),
        spread(&report.tg_reps),
    ]);
    table.add_row(vec![
        "weights".to_owned(),
        mebibytes(report.weight_bytes as u64),
    ]);
    table.add_row(vec![
        "peak memory".to_owned(),
        report.peak_rss_bytes.map_or("–".to_owned(), mebibytes),
    ]);
    table.add_row(vec![
        "loading".to_owned(),
        format!("{:.2} s", report.load_s),
    ]);
    format!(
        "{table}\n{} weights, dtype {}, activations {}, {}, {} threads, {}, batch {}, context {}",
        report.weights,
        report.dtype,
        report.act,
        report.device,
        report.threads,
        report.isa,
        report.batch,
        report.context
    )
}

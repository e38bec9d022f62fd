//! A dense checkpoint to one of 4 bits.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use internlm_examples::model::ModelArgs;
use internlm_examples::output::Output;
use internlm_examples::{Error, Result, program, progress};
use internlm_model::ModelDir;
use internlm_model::quantize::{QuantizeConfig, quantize};
use internlm_quant::quantize::AwqConfig;
use internlm_quant::report::LayerReport;
use internlm_tokenize::{CalibSet, EncodeOptions, Tokenizer};
use serde::Serialize;

/// Quantizes the linear layers of a checkpoint to 4 bits with a scale and a zero per group.
///
/// Works block by block, in the memory of one block. A run that was stopped goes on where it was: give
/// the same command again.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    model: ModelArgs,
    /// How
    #[arg(long, default_value = "awq")]
    method: Method,
    /// Inputs that share a scale; must divide the inputs of every layer
    #[arg(long, value_name = "N", default_value_t = 128)]
    group_size: usize,
    /// What to calibrate on: a .jsonl file with {"text"} or {"messages"} a line, or a text; a small text
    /// in English and Chinese without it
    #[arg(long, value_name = "FILE")]
    calib: Option<PathBuf>,
    /// Most blocks of tokens to calibrate on
    #[arg(long, value_name = "N", default_value_t = 128)]
    samples: usize,
    /// Tokens of a block
    #[arg(long, value_name = "N", default_value_t = 512)]
    seq_len: usize,
    /// Measure the perplexity of this text before and after
    #[arg(long, value_name = "FILE")]
    eval: Option<PathBuf>,
    /// Windows of 512 tokens to measure it on
    #[arg(long, value_name = "K", default_value_t = 20)]
    eval_windows: usize,
    /// The new checkpoint; must not exist or be empty
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Write one JSON object a line
    #[arg(long)]
    json: bool,
}

/// Ways to round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Method {
    /// Scales and ranges searched on data
    Awq,
    /// To nearest; needs no data
    Rtn,
    /// As awq, with rounding that makes up for its own errors
    AwqGptq,
}

/// Tokens of a window of `--eval`.
const WINDOW: usize = 512;
/// The usual share of the mean square that is added for `awq-gptq`.
const DAMPING: f64 = 0.01;

#[derive(Serialize)]
struct Layer<'a> {
    layer: &'a str,
    scale_error: Option<f64>,
    output_mse: Option<f64>,
    rtn_mse: Option<f64>,
    scale_exponent: Option<f32>,
    clip_ratio: Option<f64>,
}

#[derive(Serialize)]
struct Summary {
    bytes_before: u64,
    bytes_after: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ppl_before: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ppl_after: Option<f64>,
}

fn main() -> ExitCode {
    program::run(run)
}

fn run(arguments: Arguments) -> Result<()> {
    let dir = arguments.model.dir()?;
    let awq = match arguments.method {
        Method::Awq => AwqConfig::default(),
        Method::Rtn => AwqConfig::rtn(),
        Method::AwqGptq => AwqConfig::default().with_compensate(Some(DAMPING)),
    };
    let awq = awq.with_group_size(arguments.group_size);
    let Data {
        calibration,
        windows,
    } = data(&arguments, &dir, awq.needs_data())?;
    let config = QuantizeConfig::new(awq)
        .with_load(arguments.model.runtime.load_config()?)
        .with_evaluate(windows);
    let mut output = Output::new(arguments.json);
    let bar = progress::bar(dir.config()?.num_hidden_layers as u64, "layers");
    let mut failed = Ok(());
    let done = quantize(&dir, &calibration, &config, &arguments.out, |progress| {
        for layer in &progress.layers {
            let written = bar.suspend(|| output.record(&record(layer), |_| layer.to_string()));
            failed = std::mem::replace(&mut failed, Ok(())).and(written);
        }
        bar.set_position(progress.blocks as u64);
    });
    bar.finish_and_clear();
    let done = done?;
    failed?;
    let summary = Summary {
        bytes_before: weight_bytes(dir.path())?,
        bytes_after: weight_bytes(done.dir.path())?,
        ppl_before: done.ppl_before,
        ppl_after: done.ppl_after,
    };
    output.record(&summary, |summary| {
        let ppl = match (summary.ppl_before, summary.ppl_after) {
            (Some(before), Some(after)) => format!(", perplexity {before:.3} to {after:.3}"),
            _ => String::new(),
        };
        format!(
            "{}: {} bytes from {}{ppl}",
            arguments.out.display(),
            summary.bytes_after,
            summary.bytes_before
        )
    })
}

/// What a checkpoint is run on, in blocks of token ids.
#[derive(Default)]
struct Data {
    calibration: Vec<Vec<u32>>,
    /// Windows to measure the perplexity on.
    windows: Vec<Vec<u32>>,
}

fn data(arguments: &Arguments, dir: &ModelDir, needed: bool) -> Result<Data> {
    let calibrates = needed || arguments.calib.is_some();
    let mut data = Data::default();
    if !calibrates && arguments.eval.is_none() {
        return Ok(data);
    }
    let tokenizer = Tokenizer::load(dir.path())?;
    if calibrates {
        let set = match &arguments.calib {
            Some(file) => CalibSet::from_file(file, &tokenizer)?,
            None => CalibSet::builtin(&tokenizer)?,
        };
        data.calibration = set.blocks(arguments.samples, arguments.seq_len)?;
    }
    if let Some(file) = &arguments.eval {
        let text = std::fs::read_to_string(file).map_err(Error::io(file.display().to_string()))?;
        let ids = tokenizer.encode(&text, EncodeOptions::default())?;
        let chunks = ids.chunks_exact(WINDOW).take(arguments.eval_windows);
        data.windows = chunks.map(<[u32]>::to_vec).collect();
    }
    Ok(data)
}

fn record(layer: &LayerReport) -> Layer<'_> {
    Layer {
        layer: &layer.layer,
        scale_error: layer.scale_error,
        output_mse: layer.output_mse,
        rtn_mse: layer.rtn_mse,
        scale_exponent: layer.scale_exponent,
        clip_ratio: layer.clip_ratio,
    }
}

/// Bytes of a checkpoint's weight files.
fn weight_bytes(path: &Path) -> Result<u64> {
    let size = |path: &Path| {
        let metadata = std::fs::metadata(path);
        metadata
            .map(|m| m.len())
            .map_err(Error::io(path.display().to_string()))
    };
    if path.is_file() {
        return size(path);
    }
    let mut bytes = 0;
    for entry in std::fs::read_dir(path).map_err(Error::io(path.display().to_string()))? {
        let file = entry.map_err(Error::io(path.display().to_string()))?.path();
        let ending = file.extension().and_then(|e| e.to_str());
        if matches!(ending, Some("safetensors" | "bin" | "gguf")) {
            bytes += size(&file)?;
        }
    }
    Ok(bytes)
}

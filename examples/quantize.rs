//! A dense checkpoint to one of 4 or 8 bits.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use internlm_examples::model::{Head, ModelArgs, RuntimeArgs, weight_bytes};
use internlm_examples::output::Output;
use internlm_examples::{Error, Result, program, progress};
use internlm_model::ModelDir;
use internlm_model::quantize::QuantizeConfig;
use internlm_quant::quantize::{self, AwqConfig, SmoothConfig};
use internlm_quant::report::LayerReport;
use internlm_tokenize::{CalibSet, Chats, EncodeOptions, Tokenizer};
use serde::Serialize;

/// Quantizes the linear layers of a checkpoint: to 4 bits with a scale and a zero per group, or to 8 bits
/// with a scale per output.
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
    /// Inputs that share a scale of 4-bit weights; must divide the inputs of every layer [default: 128]
    #[arg(long, value_name = "N")]
    group_size: Option<usize>,
    /// Leave ranges as they are (awq, awq-gptq)
    #[arg(long)]
    no_clip: bool,
    /// How much smoothquant moves from activations to weights, 0 to 1 [default: 0.5]
    #[arg(long, value_name = "A")]
    alpha: Option<f32>,
    /// What to calibrate on: a .jsonl file with {"text"} or {"messages"} a line, or a text; a small text
    /// in English and Chinese without it
    #[arg(long, value_name = "FILE")]
    calib: Option<PathBuf>,
    /// Take the messages of --calib as plain text, a message a line, without the chat template
    #[arg(long)]
    no_chat_template: bool,
    /// Most blocks of tokens to calibrate on
    #[arg(long, value_name = "N", default_value_t = 128)]
    samples: usize,
    /// Tokens of a block
    #[arg(long, value_name = "N", default_value_t = 512)]
    seq_len: usize,
    /// Measure perplexity and KL divergence on this text, before and after
    #[arg(long, value_name = "FILE")]
    eval: Option<PathBuf>,
    /// Windows of 512 tokens to measure them on
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
    /// 8 bits, for activations of 8 bits (`--act int8`): outliers of the activations moved into the weights
    Smoothquant,
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
    unscaled_error: Option<f64>,
    /// Whether an error is above that of plain rounding.
    worse: bool,
    scale_exponent: Option<f32>,
    clip_ratio: Option<f64>,
}

#[derive(Serialize)]
struct Summary<'a> {
    bytes_before: u64,
    bytes_after: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ppl_before: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ppl_after: Option<f64>,
    /// Mean KL divergence from the float model's predictions, in nats a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    kl_divergence: Option<f64>,
    /// Layers that got worse.
    worse: Vec<&'a str>,
}

fn main() -> ExitCode {
    program::run(run)
}

fn run(arguments: Arguments) -> Result<()> {
    let dir = arguments.model.dir()?;
    let method = method(&arguments)?;
    let Data {
        calibration,
        windows,
    } = data(&arguments, &dir, method.needs_data())?;
    let config = QuantizeConfig::new(method)
        .with_load(arguments.model.runtime.load_config()?)
        .with_evaluate(windows);
    let mut output = Output::new(arguments.json);
    let bar = progress::bar(dir.config()?.num_hidden_layers as u64, "layers");
    let mut failed = Ok(());
    let done = internlm_model::quantize::quantize(
        &dir,
        &calibration,
        &config,
        &arguments.out,
        |progress| {
            for layer in &progress.layers {
                let written = bar.suspend(|| output.record(&record(layer), |_| layer.to_string()));
                failed = std::mem::replace(&mut failed, Ok(())).and(written);
            }
            bar.set_position(progress.blocks as u64);
        },
    );
    bar.finish_and_clear();
    let done = done?;
    failed?;
    let summary = Summary {
        bytes_before: weight_bytes(dir.path())?,
        bytes_after: weight_bytes(done.dir.path())?,
        ppl_before: done.ppl_before,
        ppl_after: done.ppl_after,
        kl_divergence: done.kl_divergence,
        worse: done.report.worse().map(|l| l.layer.as_str()).collect(),
    };
    output.record(&summary, |summary| {
        let mut text = format!(
            "{}: {} bytes from {}",
            arguments.out.display(),
            summary.bytes_after,
            summary.bytes_before
        );
        if let (Some(before), Some(after)) = (summary.ppl_before, summary.ppl_after) {
            text += &format!(", perplexity {before:.3} to {after:.3}");
        }
        if let Some(divergence) = summary.kl_divergence {
            text += &format!(", KL divergence {divergence:.4} nats a token");
        }
        if !summary.worse.is_empty() {
            text += &format!("; worse than before: {}", summary.worse.join(", "));
        }
        text
    })
}

/// The method that was asked for. An option of another one is an error.
fn method(arguments: &Arguments) -> Result<quantize::Method> {
    let smooths = arguments.method == Method::Smoothquant;
    if smooths && arguments.group_size.is_some() {
        let what = "--group-size: smoothquant has one scale a row; leave it out";
        return Err(Error::Input(what.to_owned()));
    }
    if let Some(alpha) = arguments.alpha.filter(|_| !smooths) {
        let what = format!("--alpha {alpha}: only --method smoothquant has it");
        return Err(Error::Input(what));
    }
    let RuntimeArgs { head, prepared, .. } = &arguments.model.runtime;
    if *head != Head::Stored || prepared.is_some() {
        let what =
            "--head and --prepared say how a model is loaded to run; quantize reads it as stored";
        return Err(Error::Input(what.to_owned()));
    }
    if arguments.no_clip && !matches!(arguments.method, Method::Awq | Method::AwqGptq) {
        let what = "--no-clip: only --method awq and awq-gptq clip";
        return Err(Error::Input(what.to_owned()));
    }
    let awq = match arguments.method {
        Method::Awq => AwqConfig::default(),
        Method::Rtn => AwqConfig::rtn(),
        Method::AwqGptq => AwqConfig::default().with_compensate(Some(DAMPING)),
        Method::Smoothquant => {
            let config = SmoothConfig::default();
            let alpha = arguments.alpha.unwrap_or(config.alpha);
            return Ok(config.with_alpha(alpha).into());
        }
    };
    let group_size = arguments.group_size.unwrap_or(awq.group_size);
    let clip = awq.clip && !arguments.no_clip;
    Ok(awq.with_group_size(group_size).with_clip(clip).into())
}

/// What a checkpoint is run on, in blocks of token ids.
#[derive(Default)]
struct Data {
    calibration: Vec<Vec<u32>>,
    /// Windows to measure perplexity and KL divergence on.
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
            Some(file) => {
                let chats = match arguments.no_chat_template {
                    true => Chats::Text,
                    false => Chats::Template,
                };
                CalibSet::from_file(file, &tokenizer, chats)?
            }
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
        unscaled_error: layer.unscaled_error,
        worse: layer.is_worse(),
        scale_exponent: layer.scale_exponent,
        clip_ratio: layer.clip_ratio,
    }
}

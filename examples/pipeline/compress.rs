//! AWQ on a checkpoint.

use std::path::Path;

use indicatif::ProgressBar;
use internlm_examples::model::weight_bytes;
use internlm_examples::{Error, Result};
use internlm_model::ModelDir;
use internlm_model::quantize::{QuantizeConfig, quantize as quantize_checkpoint};
use internlm_quant::quantize::AwqConfig;
use internlm_tokenize::{CalibSet, EncodeOptions, Tokenizer};
use serde_json::json;

use crate::stage::Stage;

/// Text that is not calibrated on, for perplexity.
const HELD_OUT: &str = include_str!("../../README.md");
/// Tokens of a block of calibration and of a window of perplexity: few, so that this takes a minute.
const BLOCK: usize = 128;
const BLOCKS: usize = 8;

/// The usual group of 128 inputs, or the greatest that divides all layers' inputs.
///
/// # Errors
/// None does.
pub(crate) fn group_size(dir: &ModelDir) -> Result<usize> {
    let config = dir.config()?;
    let inputs = [
        config.hidden_size,
        config.intermediate_size,
        config.num_attention_heads * config.head_dim,
    ];
    let divides = |size: &usize| inputs.iter().all(|inputs| inputs % size == 0);
    [128, 64, 32].into_iter().find(divides).ok_or_else(|| {
        Error::Input(format!(
            "layers of {inputs:?} inputs: no group of 128, 64 or 32 divides them"
        ))
    })
}

/// Quantizes to 4 bits, calibrated on the small text that comes with the tokenizer crate.
///
/// # Errors
/// Those of quantization.
pub(crate) fn quantize(
    original: &ModelDir,
    out: &Path,
    group_size: usize,
    bar: &ProgressBar,
) -> Result<Stage> {
    let tokenizer = Tokenizer::load(original.path())?;
    let calibration = CalibSet::builtin(&tokenizer)?.blocks(BLOCKS, BLOCK)?;
    let ids = tokenizer.encode(HELD_OUT, EncodeOptions::default())?;
    let windows = ids.chunks_exact(BLOCK).take(BLOCKS).map(<[u32]>::to_vec);
    let config = QuantizeConfig::new(AwqConfig::default().with_group_size(group_size))
        .with_evaluate(windows.collect());
    bar.set_length(original.config()?.num_hidden_layers as u64);
    let done = quantize_checkpoint(original, &calibration, &config, out, |progress| {
        bar.set_position(progress.blocks as u64);
    })?;
    let quality = match (done.ppl_before, done.ppl_after, done.kl_divergence) {
        (Some(before), Some(after), Some(kl)) => Some(format!(
            "perplexity {before:.2} to {after:.2}, KL {kl:.3} nats"
        )),
        _ => None,
    };
    Ok(Stage {
        what: format!("{} in 4 bits, groups of {group_size}", out.display()),
        bytes: Some(weight_bytes(done.dir.path())?),
        quality,
        details: json!({
            "ppl_before": done.ppl_before,
            "ppl_after": done.ppl_after,
            "kl_divergence": done.kl_divergence,
            "worse": done.report.worse().map(|layer| &layer.layer).collect::<Vec<_>>(),
        }),
        ..Stage::default()
    })
}

//! A dense checkpoint to one of 4 or 8 bits, block by block, in the memory of one block.
//!
//! Each block is calibrated on what the quantized blocks before it give, written to a file of its own
//! in a work folder beside the output, and read back before it passes the calibration data on. So a
//! run that was killed goes on where it stopped and ends with the same bytes.
//!
//! ```no_run
//! use internlm_model::quantize::{QuantizeConfig, quantize};
//! use internlm_model::{LoadConfig, ModelDir};
//! use internlm_quant::quantize::AwqConfig;
//!
//! let dir = ModelDir::open("internlm2_5-1_8b-chat")?;
//! let config = QuantizeConfig::new(AwqConfig::default());
//! let calibration: Vec<Vec<u32>> = vec![vec![1, 918, 4131]]; // far more in truth
//! let done = quantize(&dir, &calibration, &config, "internlm2_5-1_8b-chat-w4a16", |_| {})?;
//! println!("{}", done.report);
//! # Ok::<(), internlm_model::Error>(())
//! ```

mod evaluate;
mod network;
mod work;

use std::path::Path;

use internlm_quant::calibrate::Calibrate;
use internlm_quant::int8::check_columns;
use internlm_quant::quantize::Method;
use internlm_quant::report::{LayerReport, Report};
use internlm_quant::rtn::Grouping;
use internlm_quant::{QuantizationConfig, Stream};

pub use network::BlockwiseLm;

use crate::error::{Error, Result};
use crate::load::{LoadConfig, ModelDir};
use crate::save::{SaveConfig, is_taken, save};
use evaluate::Evaluation;
use work::WorkFolder;

/// How to quantize a checkpoint.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct QuantizeConfig {
    /// The method.
    pub method: Method,
    /// How the dense checkpoint is read. It is computed in f32 on the CPU.
    pub load: LoadConfig,
    /// How the result is written. The quantization and where tokenizer files come from are filled in.
    pub save: SaveConfig,
    /// Windows of token ids on which perplexity and KL divergence are measured, with the float and the
    /// quantized weights.
    pub evaluate: Vec<Vec<u32>>,
}

impl QuantizeConfig {
    /// With this method.
    pub fn new(method: impl Into<Method>) -> Self {
        Self {
            method: method.into(),
            load: LoadConfig::default(),
            save: SaveConfig::default(),
            evaluate: Vec::new(),
        }
    }

    /// Sets how the dense checkpoint is read.
    #[must_use]
    pub fn with_load(mut self, load: LoadConfig) -> Self {
        self.load = load;
        self
    }

    /// Sets how the result is written.
    #[must_use]
    pub fn with_save(mut self, save: SaveConfig) -> Self {
        self.save = save;
        self
    }

    /// Sets windows that perplexity and KL divergence are measured on.
    #[must_use]
    pub fn with_evaluate(mut self, windows: Vec<Vec<u32>>) -> Self {
        self.evaluate = windows;
        self
    }
}

/// How far it is: told after every block.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct QuantizeProgress {
    /// Blocks that are finished.
    pub blocks: usize,
    /// Blocks of the network.
    pub total_blocks: usize,
    /// What was done to the layers of the last one.
    pub layers: Vec<LayerReport>,
}

/// What came of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Quantized {
    /// The new checkpoint.
    pub dir: ModelDir,
    /// What was done to each layer.
    pub report: Report,
    /// Perplexity with the float weights, where it was asked for.
    pub ppl_before: Option<f64>,
    /// The same with the quantized weights. Activations are f32 in either, whatever the checkpoint
    /// will be run with.
    pub ppl_after: Option<f64>,
    /// How far predictions moved: the mean over the same tokens of `KL(float ‖ quantized)`, in nats.
    pub kl_divergence: Option<f64>,
}

/// Quantizes the linear layers of all blocks and writes a checkpoint to `target`, which must not exist or
/// be empty: AWQ's layout of 4 bits, or the layout `int-quantized` of compressed-tensors for SmoothQuant.
/// Embedding, norms and head stay as they are.
///
/// `sequences` are token ids to calibrate on; plain rounding does without.
///
/// # Errors
/// [`Error::OutputExists`] for a target that holds something; a group size that does not divide the
/// inputs of a layer ([`internlm_quant::Error::GroupSize`], with sizes that do), rows that are too wide for
/// a scale, an alpha out of range and a lack of calibration data, all before anything is written; weights that are not finite; files that can't be
/// read or written. The target is whole or not there. After all but the first of these errors the work
/// folder stays, and the next call goes on from it.
pub fn quantize(
    dir: &ModelDir,
    sequences: &[Vec<u32>],
    config: &QuantizeConfig,
    target: impl AsRef<Path>,
    mut on_progress: impl FnMut(QuantizeProgress),
) -> Result<Quantized> {
    let target = target.as_ref();
    if is_taken(target)? {
        return Err(Error::OutputExists {
            path: target.to_path_buf(),
        });
    }
    let compute = config.load.compute()?;
    // What is packed already is quantized anew from its values.
    let load = config.load.clone().with_packed(false);
    let mut model = BlockwiseLm::open(dir, &load, compute.clone())?;
    check(&model, &config.method)?;
    let has_data = sequences.iter().any(|ids| !ids.is_empty());
    let mut stream = match has_data || config.method.needs_data() {
        true => Some(Stream::embed(&mut model, sequences)?),
        false => None,
    };
    let mut evaluation = match config.evaluate.iter().all(Vec::is_empty) {
        true => None,
        false => {
            let stream = Stream::embed(&mut model, &config.evaluate)?;
            Some([stream.clone(), stream])
        }
    };
    let work = WorkFolder::open(target, dir, &config.method, sequences)?;
    let mut report = Report::default();
    let total_blocks = model.blocks();
    for block in 0..total_blocks {
        let finished = work.finished(block);
        if !finished || evaluation.is_some() {
            model.load_block(block)?;
        }
        if let Some([float, _]) = &mut evaluation {
            float.advance(&model, block)?;
        }
        if !finished {
            let stream = stream.as_ref();
            let method = &config.method;
            let layers = method.quantize_block(&mut model, block, stream, &compute)?;
            work.write(&mut model, block, &layers)?;
        }
        let layers = work.report(block)?;
        if stream.is_some() || evaluation.is_some() {
            // What was written, to the bit, whether just now or before an interruption.
            model.load_block(block)?;
            work.restore(&mut model, block)?;
        }
        if let Some(stream) = &mut stream {
            stream.advance(&model, block)?;
        }
        if let Some([_, quantized]) = &mut evaluation {
            quantized.advance(&model, block)?;
        }
        report.layers.extend(layers.iter().cloned());
        on_progress(QuantizeProgress {
            blocks: block + 1,
            total_blocks,
            layers,
        });
    }
    let evaluation = evaluation
        .map(|streams| Evaluation::new(&mut model, &streams, &config.evaluate))
        .transpose()?;
    let dir = write(dir, &mut model, &work, config, target)?;
    work.remove()?;
    Ok(Quantized {
        dir,
        report,
        ppl_before: evaluation.as_ref().map(Evaluation::ppl_before),
        ppl_after: evaluation.as_ref().map(Evaluation::ppl_after),
        kl_divergence: evaluation.as_ref().map(Evaluation::kl_divergence),
    })
}

/// Refuses groups that some layer can't have, before any work is done.
fn check(model: &BlockwiseLm<'_>, method: &Method) -> Result<()> {
    if let Method::SmoothQuant(smooth) = method {
        smooth.check()?;
    }
    let config = model.config();
    let heads = config.num_attention_heads * config.head_dim;
    for (at, columns) in [
        ("hidden_size", config.hidden_size),
        ("num_attention_heads * head_dim", heads),
        ("intermediate_size", config.intermediate_size),
    ] {
        let checked = match method {
            Method::Awq(awq) => Grouping::awq(awq.group_size).check(columns),
            _ => check_columns(columns),
        };
        checked.map_err(|source| Error::Weight {
            at: at.to_owned(),
            source,
        })?;
    }
    Ok(())
}

/// Writes the finished blocks and what is around them.
fn write(
    from: &ModelDir,
    model: &mut BlockwiseLm<'_>,
    work: &WorkFolder,
    config: &QuantizeConfig,
    target: &Path,
) -> Result<ModelDir> {
    let quantization = match &config.method {
        Method::Awq(awq) => QuantizationConfig::awq(awq.group_size),
        _ => {
            let head = vec![model.head_path().to_owned()];
            QuantizationConfig::int8().with_modules_to_not_convert(head)
        }
    };
    let mut options = config.save.clone().with_quantization(quantization);
    if options.files_from.is_none() {
        options.files_from = Some(from.path().to_path_buf());
    }
    let outer = model.outer_tensors()?.into_iter().map(Ok);
    let blocks = (0..model.blocks()).flat_map(|block| match work.tensors(block) {
        Ok(tensors) => tensors.into_iter().map(Ok).collect(),
        Err(error) => vec![Err(error)],
    });
    let generation = from.generation_config()?;
    save(
        target,
        model.config(),
        &generation,
        outer.chain(blocks),
        &options,
    )
}

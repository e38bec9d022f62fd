//! SmoothQuant (arXiv 2211.10438): weights of symmetric int8 per output channel, activations of int8 per
//! token while the network runs, as in LMDeploy (`lite/apis/smooth_quant.py`).
//!
//! Outliers of the activations are moved into the weights first, channel by channel. The paper does so for
//! the layers behind a norm; we do it wherever the scale can be undone, behind `up` and `v` too.

use internlm_kernels::{Activation, Compute, Elements, matmul};

use super::round::mean_square;
use super::scales::{Divided, Inputs, dense_weights, multiply};
use crate::calibrate::{Calibrate, Parameter, values};
use crate::codes::Codes;
use crate::error::{Error, Result};
use crate::report::LayerReport;
use crate::rtn::{ScaleType, symmetric_int8};
use crate::search::scale;
use crate::stream::Stream;

/// How layers are smoothed and quantized to 8 bits.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct SmoothConfig {
    /// How much of the difficulty goes from activations to weights, 0 to 1. The paper's 0.5 is right for
    /// most models; more helps where activations have larger outliers.
    pub alpha: f32,
    /// Tokens on which errors are measured; statistics use all.
    pub inspect_tokens: usize,
}

impl Default for SmoothConfig {
    fn default() -> Self {
        Self {
            alpha: 0.5,
            inspect_tokens: 2048,
        }
    }
}

impl SmoothConfig {
    /// Sets the exponent.
    #[must_use]
    pub fn with_alpha(mut self, alpha: f32) -> Self {
        self.alpha = alpha;
        self
    }

    /// Sets how many tokens errors are measured on.
    #[must_use]
    pub fn with_inspect_tokens(mut self, inspect_tokens: usize) -> Self {
        self.inspect_tokens = inspect_tokens;
        self
    }

    /// Refuses an exponent outside of 0 to 1.
    ///
    /// # Errors
    /// [`Error::Alpha`].
    pub fn check(&self) -> Result<()> {
        match (0.0..=1.0).contains(&self.alpha) {
            true => Ok(()),
            false => Err(Error::Alpha { alpha: self.alpha }),
        }
    }
}

/// Smooths and quantizes the loaded block in place: every group with a producer is scaled by
/// [`smoothing`](scale::smoothing). `stream` stands before the block and stays there.
///
/// The reported errors are those of the whole product, activations in int8 too.
///
/// # Errors
/// [`Error::Alpha`], [`Error::NotFinite`] for broken weights, and what the network meets.
pub fn smooth_block<C: Calibrate>(
    model: &mut C,
    block: usize,
    stream: &Stream,
    compute: &Compute,
    config: &SmoothConfig,
) -> Result<Vec<LayerReport>, C::Error> {
    config.check()?;
    let groups = model.groups(block);
    let inputs = Inputs::gather(model, block, &groups, stream, config.inspect_tokens)?;
    let mut applied = Vec::new();
    for (group, input) in groups.iter().zip(&inputs) {
        let Some(producer) = &group.producer else {
            applied.push(None);
            continue;
        };
        let weights = dense_weights(model, group)?;
        let slices: Vec<&[f32]> = weights.iter().map(|(_, w)| w.as_slice()).collect();
        let activations = input.statistics.absmax();
        let producer = Divided::load(model, producer)?;
        let scales = producer.undoable(scale::smoothing(activations, &slices, config.alpha));
        producer.divide(model, &scales)?;
        multiply(model, group, &scales)?;
        applied.push(Some(scales));
    }
    let mut reports = Vec::new();
    for ((group, input), scales) in groups.iter().zip(&inputs).zip(applied) {
        let mut x = Vec::new();
        for piece in &input.pieces {
            x.extend(values(&piece.x)?);
        }
        let plain = x.clone();
        if let Some(scales) = &scales {
            scale::divide_columns(&mut x, scales);
        }
        let columns = input.statistics.absmax().len();
        for (consumer, (path, weight)) in group.consumers.iter().zip(dense_weights(model, group)?) {
            let codes = symmetric_int8(compute, &weight, columns, columns, ScaleType::F32)?;
            let mut unscaled = weight.clone();
            if let Some(scales) = &scales {
                scale::divide_columns(&mut unscaled, scales);
            }
            let nearest = symmetric_int8(compute, &unscaled, columns, columns, ScaleType::F32)?;
            let mut report = LayerReport::new(&consumer.path);
            report.scale_exponent = scales.as_ref().map(|_| config.alpha);
            report.output_mse = Some(error(compute, &x, &weight, &codes)?);
            report.rtn_mse = Some(error(compute, &plain, &unscaled, &nearest)?);
            report.output_power = Some(mean_square(compute, &x, &weight, columns)?);
            reports.push(report);
            model.set_weight(&path, Parameter::Codes(codes))?;
        }
    }
    Ok(reports)
}

/// Mean square error of the product with rounded weights and activations.
fn error(compute: &Compute, x: &[f32], weight: &[f32], codes: &Codes) -> Result<f64> {
    let k = codes.columns;
    let (m, n) = (x.len() / k.max(1), codes.rows);
    let rounded = symmetric_int8(compute, x, k, k, ScaleType::F32)?.dequantize();
    let (mut want, mut got) = (vec![0.0; m * n], vec![0.0; m * n]);
    let weight = Elements::F32(weight);
    matmul(
        compute,
        x,
        weight,
        None,
        Activation::F32,
        &mut want,
        m,
        n,
        k,
    )?;
    let weight = codes.dequantize();
    let weight = Elements::F32(&weight);
    matmul(
        compute,
        &rounded,
        weight,
        None,
        Activation::F32,
        &mut got,
        m,
        n,
        k,
    )?;
    let squares = got.iter().zip(&want).map(|(g, w)| f64::from(g - w).powi(2));
    Ok(squares.sum::<f64>() / want.len().max(1) as f64)
}

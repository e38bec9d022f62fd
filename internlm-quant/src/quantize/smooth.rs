//! SmoothQuant (arXiv 2211.10438) as LMDeploy does it (`lite/apis/smooth_quant.py`): weights of
//! symmetric int8 per output channel, activations of int8 per token while the network runs.

use internlm_kernels::{Activation, Compute, Elements, matmul};

use super::round::mean_square;
use super::scales::{Divided, Inputs, dense_weights, multiply};
use crate::calibrate::{Calibrate, Parameter, values};
use crate::codes::Codes;
use crate::error::Result;
use crate::report::LayerReport;
use crate::rtn::{ScaleType, symmetric_int8};
use crate::search::scale;
use crate::stream::Stream;

/// LMDeploy's exponent.
const EXPONENT: f32 = 0.5;
/// Tokens on which errors are measured.
const INSPECT_TOKENS: usize = 2048;

/// Smooths and quantizes the loaded block in place: every group with a producer is scaled by
/// [`candidate`](scale::candidate) with the maximum of |x|, weights relative to the largest of their
/// row, and the exponent 0.5. `stream` stands before the block and stays there.
///
/// The reported errors are those of the whole product, activations in int8 too.
///
/// # Errors
/// [`Error::NotFinite`](crate::Error::NotFinite) for broken weights, and what the network meets.
pub fn smooth_block<C: Calibrate>(
    model: &mut C,
    block: usize,
    stream: &Stream,
    compute: &Compute,
) -> Result<Vec<LayerReport>, C::Error> {
    let groups = model.groups(block);
    let inputs = Inputs::gather(model, block, &groups, stream, INSPECT_TOKENS)?;
    let mut applied = Vec::new();
    for (group, input) in groups.iter().zip(&inputs) {
        let Some(producer) = &group.producer else {
            applied.push(None);
            continue;
        };
        let weights = dense_weights(model, group)?;
        let slices: Vec<&[f32]> = weights.iter().map(|(_, w)| w.as_slice()).collect();
        let activations = input.statistics.absmax();
        let columns = activations.len();
        let means = scale::weight_means(&slices, columns, columns)?;
        let producer = Divided::load(model, producer)?;
        let scales = producer.undoable(scale::candidate(activations, &means, EXPONENT));
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
            report.scale_exponent = scales.as_ref().map(|_| EXPONENT);
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

//! What quantization did to predictions, over windows that went through both networks side by side.

use candle_core::Tensor;
use internlm_quant::Stream;
use internlm_quant::calibrate::{Calibrate, Piece};

use super::network::BlockwiseLm;
use crate::error::Result;
use crate::sampler::log_sum_exp;

/// Rows of logits that exist at a time, of either network.
const ROWS_PER_HEAD: usize = 64;

/// Sums over the tokens that are predicted: all but the first of each window.
#[derive(Default)]
pub(super) struct Evaluation {
    tokens: usize,
    /// Negative log-likelihoods, in nats.
    float: f64,
    quantized: f64,
    /// KL divergences, in nats.
    divergence: f64,
}

impl Evaluation {
    /// Both residual streams after the last block, of the same windows.
    pub(super) fn new(
        model: &mut BlockwiseLm<'_>,
        [float, quantized]: &[Stream; 2],
        windows: &[Vec<u32>],
    ) -> Result<Self> {
        let mut all = Self::default();
        let mut windows = windows.iter().filter(|window| !window.is_empty());
        for (float, quantized) in float.pieces().iter().zip(quantized.pieces()) {
            for rows in float.cu_seqlens.windows(2) {
                let Some(window) = windows.next() else { break };
                let predicted = rows[1] - rows[0] - 1;
                for start in (0..predicted).step_by(ROWS_PER_HEAD) {
                    let len = ROWS_PER_HEAD.min(predicted - start);
                    let mut logits = |piece: &Piece| -> Result<Vec<Vec<f32>>> {
                        let x = piece.x.narrow(0, rows[0] + start, len)?;
                        let logits: Tensor = model.head(&x)?;
                        Ok(logits.to_vec2()?)
                    };
                    let (p, q) = (logits(float)?, logits(quantized)?);
                    for ((p, q), id) in p.iter().zip(&q).zip(&window[start + 1..]) {
                        all.add(p, q, *id as usize);
                    }
                }
            }
        }
        Ok(all)
    }

    /// Adds one token that both predict.
    fn add(&mut self, float: &[f32], quantized: &[f32], id: usize) {
        let norm = |logits| f64::from(log_sum_exp(logits));
        let (float_norm, quantized_norm) = (norm(float), norm(quantized));
        let at = |logits: &[f32]| f64::from(logits.get(id).copied().unwrap_or(f32::NEG_INFINITY));
        self.tokens += 1;
        self.float -= at(float) - float_norm;
        self.quantized -= at(quantized) - quantized_norm;
        for (p, q) in float.iter().zip(quantized) {
            let (p, q) = (f64::from(*p) - float_norm, f64::from(*q) - quantized_norm);
            self.divergence += p.exp() * (p - q);
        }
    }

    fn mean(&self, sum: f64) -> f64 {
        sum / self.tokens.max(1) as f64
    }

    pub(super) fn ppl_before(&self) -> f64 {
        self.mean(self.float).exp()
    }

    pub(super) fn ppl_after(&self) -> f64 {
        self.mean(self.quantized).exp()
    }

    pub(super) fn kl_divergence(&self) -> f64 {
        self.mean(self.divergence)
    }
}

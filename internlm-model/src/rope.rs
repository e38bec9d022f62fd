//! Rotary position embedding: none, linear or dynamic NTK scaling, without state.

use crate::batch::Batch;
use crate::config::{Config, RopeScaling};

/// The rule that turns a position into rotations.
#[derive(Clone, Debug)]
pub(crate) struct Rope {
    theta: f64,
    scaling: RopeScaling,
    head_dim: usize,
    max_position_embeddings: usize,
}

impl Rope {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            theta: config.rope.theta,
            scaling: config.rope.scaling,
            head_dim: config.head_dim,
            max_position_embeddings: config.max_position_embeddings,
        }
    }

    /// The base for a token of this RoPE length.
    ///
    /// Dynamic NTK, as `InternLM2DynamicNTKScalingRotaryEmbedding` computes it: unchanged up to
    /// `max_position_embeddings`, then `theta * (s*L/M - (s-1)) ^ (d/(d-2))`.
    pub(crate) fn base(&self, rope_length: usize) -> f64 {
        let RopeScaling::Dynamic { factor } = self.scaling else {
            return self.theta;
        };
        if rope_length <= self.max_position_embeddings {
            return self.theta;
        }
        let ratio = rope_length as f64 / self.max_position_embeddings as f64;
        let d = self.head_dim as f64;
        self.theta * (factor * ratio - (factor - 1.0)).powf(d / (d - 2.0))
    }

    /// Angles per unit of position, in f32 as the reference computes them, `(head_dim / 2)`.
    fn inv_freq(&self, base: f64) -> Vec<f32> {
        let base = base as f32;
        (0..self.head_dim / 2)
            .map(|i| 1.0 / base.powf((2 * i) as f32 / self.head_dim as f32))
            .collect()
    }

    /// A position as angles see it.
    fn scaled(&self, position: u32) -> f32 {
        match self.scaling {
            RopeScaling::Linear { factor } => position as f32 / factor as f32,
            _ => position as f32,
        }
    }
}

/// Cosines and sines of some positions under one or more bases, `(rows, head_dim / 2)` each.
#[derive(Clone, Debug, Default)]
pub struct Rotations {
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Rotations {
    fn push(&mut self, rope: &Rope, inv_freq: &[f32], position: u32) {
        let position = rope.scaled(position);
        for &frequency in inv_freq {
            let (sin, cos) = (position * frequency).sin_cos();
            self.cos.push(cos);
            self.sin.push(sin);
        }
    }

    /// Cosines and sines of a row, `head_dim / 2` each.
    pub fn row(&self, row: usize) -> (&[f32], &[f32]) {
        let range = row * self.half..(row + 1) * self.half;
        (&self.cos[range.clone()], &self.sin[range])
    }

    /// All cosines, `(rows, head_dim / 2)`.
    pub fn cos(&self) -> &[f32] {
        &self.cos
    }

    /// All sines, `(rows, head_dim / 2)`.
    pub fn sin(&self) -> &[f32] {
        &self.sin
    }
}

/// The rotations of one forward pass, computed once for all layers.
#[derive(Clone, Debug, Default)]
pub struct RopeTable {
    tokens: Rotations,
    /// The base of each token, to tell tokens apart that see the keys rotated differently.
    bases: Vec<f64>,
    /// For raw keys: under each base of the batch, rotations of positions from 0.
    keys: Vec<(f64, Rotations)>,
}

impl RopeTable {
    pub(crate) fn new(rope: &Rope, batch: &Batch, keeps_raw_keys: bool) -> Self {
        let half = rope.head_dim / 2;
        let empty = Rotations {
            half,
            ..Rotations::default()
        };
        let mut table = Self {
            tokens: empty.clone(),
            bases: Vec::with_capacity(batch.num_tokens()),
            keys: Vec::new(),
        };
        let mut inv_freq = Vec::new();
        for (&position, &rope_length) in batch.positions().iter().zip(batch.rope_lengths()) {
            let base = rope.base(rope_length as usize);
            if table.bases.last() != Some(&base) {
                inv_freq = rope.inv_freq(base);
            }
            table.bases.push(base);
            table.tokens.push(rope, &inv_freq, position);
            if keeps_raw_keys {
                let entry = match table.keys.iter().position(|(b, _)| *b == base) {
                    Some(found) => found,
                    None => {
                        table.keys.push((base, empty.clone()));
                        table.keys.len() - 1
                    }
                };
                let keys = &mut table.keys[entry].1;
                for position in (keys.cos.len() / half) as u32..=position {
                    keys.push(rope, &inv_freq, position);
                }
            }
        }
        table
    }

    /// Rotations of the batch's tokens, a row each.
    pub fn tokens(&self) -> &Rotations {
        &self.tokens
    }

    /// The RoPE base of a token.
    pub fn base(&self, row: usize) -> f64 {
        self.bases[row]
    }

    /// Rotations of positions from 0 under a base of this batch, where raw keys are kept.
    pub fn keys(&self, base: f64) -> Option<&Rotations> {
        self.keys.iter().find(|(b, _)| *b == base).map(|(_, r)| r)
    }
}

//! Seeded random weights, for benchmarks and tests of shapes that nobody has a checkpoint of.

use std::sync::Arc;

use candle_core::{DType, Tensor};
use half::{bf16, f16};
use internlm_kernels::{PackedShape, ScaleType, ZeroType};
use internlm_quant::{
    Codes, PackedBuilder, PackedTensorsBuilder, QuantizationConfig, QuantizationMethod, Weight,
    Zeros,
};

use super::elements::{Element, tensor};
use super::{HeadWeights, LoadConfig};
use crate::config::Config;
use crate::error::{Error, Result};

/// Elements that one generator makes; the result does not depend on the number of threads.
const STRIPE: usize = 1 << 16;

/// Uniform weights whose products keep the variance of what they multiply; norms are 1.
pub(super) struct RandomTensors {
    seed: u64,
    /// How matrices under a path are packed: those of the layers.
    packed: Option<(&'static str, QuantizationConfig)>,
    /// Embedding and head, and what they are held as.
    head: ([&'static str; 2], HeadWeights),
    dtype: DType,
    /// Whether what is packed is for the kernels.
    for_kernels: bool,
    threads: usize,
    device: candle_core::Device,
}

impl RandomTensors {
    pub(super) fn new(config: &Config, seed: u64, options: &LoadConfig) -> Result<Self> {
        options.head.check(options)?;
        let names = config.weight_names();
        let layers = names.layers;
        let packed = config.quantization.clone().map(|config| (layers, config));
        match options.dtype.unwrap_or(DType::F32) {
            dtype @ (DType::F32 | DType::BF16 | DType::F16) => Ok(Self {
                seed,
                packed: packed.filter(|_| options.packed),
                head: ([names.embed_tokens, names.head], options.head),
                dtype,
                for_kernels: options.packs_for_kernels(),
                threads: options.load_threads(),
                device: options.device.clone(),
            }),
            got => Err(Error::WeightDtype { got }),
        }
    }

    pub(super) fn rows(&self, parts: &[(String, Vec<usize>)]) -> Result<Tensor> {
        let mut shape = parts
            .first()
            .map_or_else(|| vec![0], |(_, shape)| shape.clone());
        shape[0] = parts.iter().map(|(_, shape)| shape[0]).sum();
        // As in a checkpoint, only matrices are narrow.
        let out = match self.dtype {
            DType::BF16 if shape.len() > 1 => self.fill::<bf16>(parts, &shape)?,
            DType::F16 if shape.len() > 1 => self.fill::<f16>(parts, &shape)?,
            _ => self.fill::<f32>(parts, &shape)?,
        };
        Ok(out.to_device(&self.device)?)
    }

    /// The matrices of modules as one weight.
    pub(super) fn weight(&self, parts: &[(String, usize)], columns: usize) -> Result<Weight> {
        let converts = |layers: &str, config: &QuantizationConfig| {
            let mut parts = parts.iter();
            parts.all(|(path, _)| path.starts_with(layers) && config.converts(path))
        };
        let (paths, head) = self.head;
        if let ([(path, _)], Some(bits)) = (parts, head.bits())
            && paths.contains(&path.as_str())
        {
            return self.pack(parts, columns, bits, head.group_size(columns));
        }
        match &self.packed {
            Some((layers, config)) if converts(layers, config) => {
                let group_size = config.group_size.unwrap_or(columns);
                let bits = match config.method {
                    QuantizationMethod::Int8 => 8,
                    _ => 4,
                };
                self.pack(parts, columns, bits, group_size)
            }
            _ => {
                let parts = parts.iter();
                let parts: Vec<_> = parts
                    .map(|(path, rows)| (format!("{path}.weight"), vec![*rows, columns]))
                    .collect();
                Ok(Weight::Dense(self.rows(&parts)?))
            }
        }
    }

    /// Codes of 4 bits with zero points of 7 or 8, so that weights are 0 on average; of 8 bits with 128.
    fn pack(
        &self,
        parts: &[(String, usize)],
        columns: usize,
        bits: u32,
        group_size: usize,
    ) -> Result<Weight> {
        let rows = parts.iter().map(|(_, rows)| rows).sum();
        let half = 1u8 << (bits - 1);
        let shape = PackedShape {
            n: rows,
            k: columns,
            bits,
            group_size,
            scales: ScaleType::F16,
            zeros: match bits {
                4 => ZeroType::Points,
                _ => ZeroType::Constant(half),
            },
        };
        let per_word = 64 / bits as usize; // a random word
        // The mean square of a code of 4 bits less 7 or 8 is 21.5, of one of 8 bits less 128 it is
        // 5461.5; that of a uniform value in 0.75..1.25 is 49 / 48.
        let square = f32::from(half).powi(2) / 3.0 + 1.0 / 6.0;
        let scale = (48.0 / (49.0 * square * columns.max(1) as f32)).sqrt();
        let seed = self.seed_of(&parts[0].0);
        let codes = |rows: std::ops::Range<usize>| -> Result<Codes> {
            let mut state = seed.wrapping_add(rows.start as u64);
            let mut codes = vec![0; rows.len() * columns];
            for codes in codes.chunks_mut(per_word) {
                let word = next(&mut state);
                for (i, code) in codes.iter_mut().enumerate() {
                    *code = (word >> (bits as usize * i)) as u8 & (2 * (half - 1) + 1);
                }
            }
            let groups = rows.len() * columns.div_ceil(group_size.max(1));
            let scales = (0..groups).map(|_| scale * (1.0 + 0.25 * uniform(&mut state)));
            let scales = scales.map(|scale| f16::from_f32(scale).to_f32()).collect();
            let points = (0..groups).map(|_| match bits {
                4 => half - 1 + (next(&mut state) & 1) as u8,
                _ => half,
            });
            Ok(Codes {
                rows: rows.len(),
                columns,
                bits,
                group_size,
                codes,
                scales,
                zeros: Zeros::Points(points.collect()),
                order: None,
            })
        };
        if self.for_kernels {
            let mut builder = PackedBuilder::new(shape, None)?;
            builder.push_parallel(rows, self.threads, codes)?;
            return Ok(Weight::Packed(Arc::new(builder.finish()?)));
        }
        let mut builder = PackedTensorsBuilder::new(shape, None)?;
        builder.push_parallel(rows, self.threads, codes)?;
        let packed = builder.finish(&self.device)?;
        Ok(Weight::PackedTensors(Arc::new(packed)))
    }

    fn seed_of(&self, name: &str) -> u64 {
        seed_of(self.seed, name)
    }

    fn fill<T: Element>(&self, parts: &[(String, Vec<usize>)], shape: &[usize]) -> Result<Tensor> {
        let mut values = internlm_kernels::huge_pages(T::zeros(shape.iter().product()));
        let mut rest = values.as_mut_slice();
        for (name, shape) in parts {
            let (to, tail) = rest.split_at_mut(shape.iter().product());
            rest = tail;
            let (offset, bound) = match shape.as_slice() {
                [_] if name.ends_with(".bias") => (0.0, 0.1),
                [_] => (1.0, 0.0),
                // The variance of a uniform value in -b..b is b * b / 3.
                _ => (0.0, (3.0 / shape[1].max(1) as f32).sqrt()),
            };
            let seed = self.seed_of(name);
            let jobs = std::sync::Mutex::new(to.chunks_mut(STRIPE).enumerate());
            let work = || {
                let mut stripe = Vec::new();
                loop {
                    let job = jobs.lock().unwrap_or_else(|p| p.into_inner()).next();
                    let Some((index, to)) = job else { return };
                    let mut state = seed.wrapping_add(index as u64);
                    stripe.clear();
                    stripe.extend(to.iter().map(|_| offset + bound * uniform(&mut state)));
                    T::narrow(&stripe, to);
                }
            };
            std::thread::scope(|scope| {
                for _ in 1..self.threads {
                    scope.spawn(work);
                }
                work();
            });
        }
        tensor(values, shape)
    }
}

/// The state of the generator for a tensor (the seed and its name by FNV-1a).
pub(crate) fn seed_of(seed: u64, name: &str) -> u64 {
    name.bytes()
        .fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
}

/// The next value in -1..1.
pub(crate) fn uniform(state: &mut u64) -> f32 {
    (next(state) >> 40) as f32 / (1 << 23) as f32 - 1.0
}

/// The next 64 bits (SplitMix64, doi 10.1145/2714064.2660195).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

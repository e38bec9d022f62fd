//! Seeded random weights, for benchmarks and tests of shapes that nobody has a checkpoint of.

use candle_core::{DType, Tensor};
use half::{bf16, f16};

use super::LoadConfig;
use super::elements::{Element, tensor};
use crate::error::{Error, Result};

/// Elements that one generator makes; the result does not depend on the number of threads.
const STRIPE: usize = 1 << 16;

/// Uniform weights whose products keep the variance of what they multiply; norms are 1.
pub(super) struct RandomTensors {
    seed: u64,
    dtype: DType,
    threads: usize,
    device: candle_core::Device,
}

impl RandomTensors {
    pub(super) fn new(seed: u64, options: &LoadConfig) -> Result<Self> {
        match options.dtype.unwrap_or(DType::F32) {
            dtype @ (DType::F32 | DType::BF16 | DType::F16) => Ok(Self {
                seed,
                dtype,
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
            let seed = name
                .bytes()
                .fold(self.seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
                    (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
                });
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

/// The next value in -1..1 (SplitMix64, doi 10.1145/2714064.2660195).
fn uniform(state: &mut u64) -> f32 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    (z >> 40) as f32 / (1 << 23) as f32 - 1.0
}

//! Memory that the layers of a pass use in turn.
//!
//! A layer's results are megabytes each. An allocator gives so much back to the system as soon as it is free,
//! and the system clears every page before the next layer gets it again.

use std::mem;
use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, InplaceOp1, Layout, Tensor};

use crate::context::Mode;
use crate::error::Result;

/// Elements below which an allocator is as quick.
const SMALL: usize = 16 * 1024;

/// Results of a pass that nobody needs any more, kept for its next ones until the pass ends.
#[derive(Debug)]
pub(crate) struct Buffers {
    kept: Option<Mutex<Vec<Vec<f32>>>>,
}

impl Buffers {
    /// Of passes whose results others may hold.
    pub(crate) const NONE: Buffers = Buffers { kept: None };

    /// Those of one pass; none where gradients need the results.
    pub(crate) fn of_pass(mode: Mode) -> Self {
        match mode {
            Mode::Infer => Self {
                kept: Some(Mutex::default()),
            },
            Mode::Train => Self::NONE,
        }
    }

    /// `len` elements, whatever they are: in the smallest memory that was given back and has room, or new.
    pub(crate) fn take(&self, len: usize) -> Vec<f32> {
        if let Some(kept) = self.kept.as_ref().filter(|_| len >= SMALL) {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            let fitting = (0..kept.len()).filter(|&at| kept[at].capacity() >= len);
            if let Some(at) = fitting.min_by_key(|&at| kept[at].capacity()) {
                let mut buffer = kept.swap_remove(at);
                buffer.resize(len, 0.0);
                return buffer;
            }
        }
        vec![0.0; len]
    }

    /// Keeps memory for [`Buffers::take`].
    pub(crate) fn give_back(&self, buffer: Vec<f32>) {
        if let Some(kept) = self.kept.as_ref().filter(|_| buffer.len() >= SMALL) {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.push(buffer);
        }
    }

    /// The same for the memory of a tensor, which must be of no use to anybody: its other handles, and
    /// views of it, would find no elements.
    ///
    /// # Errors
    /// None for tensors of f32 on the CPU; others are left alone.
    pub(crate) fn give_back_tensor(&self, tensor: Tensor) -> Result<()> {
        let is_kept = self.kept.is_some() && tensor.device().is_cpu();
        if is_kept && tensor.elem_count() >= SMALL {
            let taken = Take(Mutex::default());
            tensor.inplace_op1(&taken)?;
            self.give_back(taken.0.into_inner().unwrap_or_else(PoisonError::into_inner));
        }
        Ok(())
    }
}

/// Takes the elements out of a tensor.
struct Take(Mutex<Vec<f32>>);

impl InplaceOp1 for Take {
    fn name(&self) -> &'static str {
        "take"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> candle_core::Result<()> {
        if let CpuStorage::F32(elements) = storage {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = mem::take(elements);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn what_is_given_back_is_taken_again() -> Result<()> {
        let buffers = Buffers::of_pass(Mode::Infer);
        let (small, large) = (vec![1.0; SMALL], vec![2.0; 3 * SMALL]);
        let addresses = [small.as_ptr(), large.as_ptr()];
        buffers.give_back(large);
        buffers.give_back_tensor(Tensor::from_vec(small, (2, SMALL / 2), &Device::Cpu)?)?;
        let again = buffers.take(SMALL);
        assert_eq!((again.len(), again.as_ptr()), (SMALL, addresses[0]));
        let again = buffers.take(2 * SMALL);
        assert_eq!((again.len(), again.as_ptr()), (2 * SMALL, addresses[1]));
        assert_eq!(buffers.take(SMALL), vec![0.0; SMALL]);
        // What was taken for less has room for as much as before.
        buffers.give_back(again);
        let again = buffers.take(3 * SMALL);
        assert_eq!((again.len(), again.as_ptr()), (3 * SMALL, addresses[1]));
        Ok(())
    }

    #[test]
    fn what_gradients_need_is_left() -> Result<()> {
        let x = Tensor::from_vec(vec![1.0f32; SMALL], SMALL, &Device::Cpu)?;
        Buffers::of_pass(Mode::Train).give_back_tensor(x.clone())?;
        assert_eq!(x.sum_all()?.to_scalar::<f32>()?, SMALL as f32);
        Ok(())
    }
}

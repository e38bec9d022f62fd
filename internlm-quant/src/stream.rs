//! Calibration data on its way through a network, block by block.

use candle_core::Tensor;

use crate::calibrate::{Calibrate, Piece};
use crate::error::Error;

/// Tokens that go through a block together, unless one sequence is longer.
const TOKENS: usize = 1024;

/// The residual stream of all calibration tokens before a block.
#[derive(Clone, Debug)]
pub struct Stream {
    pieces: Vec<Piece>,
}

impl Stream {
    /// The stream before the first block. Sequences without tokens are left out.
    ///
    /// # Errors
    /// [`Error::NoCalibration`] without any tokens, and what the network meets.
    pub fn embed<C: Calibrate>(model: &mut C, sequences: &[Vec<u32>]) -> Result<Self, C::Error> {
        let mut batches: Vec<(Vec<u32>, Vec<usize>)> = Vec::new();
        for ids in sequences.iter().filter(|ids| !ids.is_empty()) {
            match batches.last_mut() {
                Some((all, ends)) if all.len() + ids.len() <= TOKENS => {
                    all.extend(ids);
                    ends.push(all.len());
                }
                _ => batches.push((ids.clone(), vec![0, ids.len()])),
            }
        }
        if batches.is_empty() {
            return Err(Error::NoCalibration.into());
        }
        let mut pieces = Vec::with_capacity(batches.len());
        for (ids, cu_seqlens) in batches {
            let x = model.embed(&ids)?;
            pieces.push(Piece { x, cu_seqlens });
        }
        Ok(Self { pieces })
    }

    /// The pieces, in the order of the sequences.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Runs the loaded block with its present weights.
    ///
    /// # Errors
    /// What the network meets.
    pub fn advance<C: Calibrate>(&mut self, model: &C, block: usize) -> Result<(), C::Error> {
        let path = model.block_path(block);
        for piece in &mut self.pieces {
            piece.x = model.run(&path, &piece.x, &piece.cu_seqlens, &mut ())?;
        }
        Ok(())
    }

    /// Evenly spaced pieces of at most this many tokens in all, at least one.
    pub(crate) fn sample(&self, tokens: usize) -> Vec<bool> {
        let all: usize = self.pieces.iter().map(|piece| rows(&piece.x)).sum();
        let wanted = (self.pieces.len() * tokens / all.max(1)).clamp(1, self.pieces.len().max(1));
        let mut chosen = vec![false; self.pieces.len()];
        for index in 0..wanted {
            if let Some(chosen) = chosen.get_mut(index * self.pieces.len() / wanted) {
                *chosen = true;
            }
        }
        chosen
    }
}

fn rows(x: &Tensor) -> usize {
    x.dims().first().copied().unwrap_or(0)
}

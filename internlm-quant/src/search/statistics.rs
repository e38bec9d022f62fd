//! What is kept of the inputs of a layer.

use internlm_kernels::{Activation, Compute, Elements, matmul};

use crate::error::{Error, Result};
use crate::parallel;

/// Mean and maximum of the absolute values of each channel.
#[derive(Clone, Debug, PartialEq)]
pub struct InputStatistics {
    tokens: usize,
    sums: Vec<f64>,
    largest: Vec<f32>,
}

impl InputStatistics {
    /// Of inputs of this width, none seen yet.
    pub fn new(columns: usize) -> Self {
        Self {
            tokens: 0,
            sums: vec![0.0; columns],
            largest: vec![0.0; columns],
        }
    }

    /// Adds tokens.
    ///
    /// # Shapes
    /// - x: `(num_tokens, columns)`
    ///
    /// # Errors
    /// [`Error::Length`] for values that are not whole rows.
    pub fn add(&mut self, x: &[f32]) -> Result<()> {
        self.tokens += tokens(x, self.sums.len())?;
        for row in x.chunks_exact(self.sums.len().max(1)) {
            for ((sum, largest), x) in self.sums.iter_mut().zip(&mut self.largest).zip(row) {
                *sum += f64::from(x.abs());
                *largest = largest.max(x.abs());
            }
        }
        Ok(())
    }

    /// Tokens seen.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Mean of |x|, `(columns)`.
    pub fn absmean(&self) -> Vec<f32> {
        let tokens = self.tokens.max(1) as f64;
        self.sums.iter().map(|sum| (sum / tokens) as f32).collect()
    }

    /// Maximum of |x|, `(columns)`.
    pub fn absmax(&self) -> &[f32] {
        &self.largest
    }
}

/// Second moments `mean_t x[t,i] x[t,j]` of inputs: the whole matrix, or only the square blocks on
/// its diagonal, one for each group of inputs.
///
/// For a change `d` of a row of weights, `dᵀ G d` is the mean square of what the outputs change by,
/// without a loop over tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Gram {
    columns: usize,
    block: usize,
    tokens: usize,
    /// `(columns / block, block, block)`
    sums: Vec<f32>,
}

impl Gram {
    /// Of inputs of this width, in blocks; `block = columns` keeps the whole matrix.
    ///
    /// # Errors
    /// [`Error::GroupSize`] for blocks that don't divide the width.
    pub fn new(columns: usize, block: usize) -> Result<Self> {
        if block == 0 || !columns.is_multiple_of(block) {
            return Err(Error::GroupSize {
                group_size: block,
                in_features: columns,
                offers: Vec::new(),
            });
        }
        Ok(Self {
            columns,
            block,
            tokens: 0,
            sums: vec![0.0; columns * block],
        })
    }

    /// Adds tokens.
    ///
    /// # Shapes
    /// - x: `(num_tokens, columns)`
    ///
    /// # Errors
    /// [`Error::Length`] for values that are not whole rows.
    pub fn add(&mut self, compute: &Compute, x: &[f32]) -> Result<()> {
        let (columns, block) = (self.columns, self.block);
        let tokens = tokens(x, columns)?;
        self.tokens += tokens;
        let mut across = vec![0.0; x.len()]; // (columns, num_tokens)
        parallel::over_chunks(compute, &mut across, tokens, |column, across| {
            for (to, row) in across.iter_mut().zip(x.chunks_exact(columns)) {
                *to = row[column];
            }
        });
        let add = |sums: &mut [f32], x: &[f32]| -> Result<()> {
            let mut product = vec![0.0; block * block];
            let w = Elements::F32(x);
            let activation = Activation::F32;
            matmul(
                compute,
                x,
                w,
                None,
                activation,
                &mut product,
                block,
                block,
                tokens,
            )?;
            for (sum, product) in sums.iter_mut().zip(product) {
                *sum += product;
            }
            Ok(())
        };
        if block == columns {
            return add(&mut self.sums, &across);
        }
        // Many small products: one a task, each on the thread of its task.
        let failed = std::sync::Mutex::new(None);
        parallel::over_chunks(compute, &mut self.sums, block * block, |index, sums| {
            let x = &across[index * block * tokens..][..block * tokens];
            if let (Err(error), Ok(mut failed)) = (add(sums, x), failed.lock()) {
                *failed = Some(error);
            }
        });
        match failed.into_inner() {
            Ok(Some(error)) => Err(error),
            _ => Ok(()),
        }
    }

    /// Width of the inputs.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Width of a block.
    pub fn block(&self) -> usize {
        self.block
    }

    /// Tokens seen.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// The moments of inputs `first..first + size`, which lie within one block.
    ///
    /// # Shapes
    /// - out: `(size, size)`
    pub fn square(&self, first: usize, size: usize) -> Vec<f32> {
        let block = &self.sums[first / self.block * self.block * self.block..];
        let (start, mean) = (first % self.block, 1.0 / self.tokens.max(1) as f32);
        let rows = (start..start + size).flat_map(|row| &block[row * self.block + start..][..size]);
        rows.map(|sum| sum * mean).collect()
    }
}

/// Number of whole rows.
fn tokens(x: &[f32], columns: usize) -> Result<usize> {
    match x.len().checked_div(columns) {
        Some(tokens) if tokens * columns == x.len() => Ok(tokens),
        _ => Err(Error::Length {
            what: "inputs of a layer",
            got: x.len(),
            want: format!("rows of {columns}"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_do_not_depend_on_how_tokens_come() -> Result<()> {
        let x = [1.0, -2.0, -3.0, 0.5, 0.0, 4.0];
        let mut whole = InputStatistics::new(2);
        whole.add(&x)?;
        let mut parts = InputStatistics::new(2);
        parts.add(&x[..2])?;
        parts.add(&x[2..])?;
        assert_eq!(whole, parts);
        assert_eq!(whole.tokens(), 3);
        assert_eq!(whole.absmean(), [4.0 / 3.0, 6.5 / 3.0]);
        assert_eq!(whole.absmax(), [3.0, 4.0]);
        assert!(matches!(whole.add(&x[..3]), Err(Error::Length { .. })));
        Ok(())
    }

    #[test]
    fn blocks_are_the_diagonal_of_the_whole() -> Result<()> {
        let compute = Compute::new(Some(2))?;
        let x: Vec<f32> = (0..40 * 8).map(|i| (i as f32 * 0.7).sin()).collect();
        let (mut whole, mut blocks) = (Gram::new(8, 8)?, Gram::new(8, 4)?);
        for x in x.chunks(16 * 8) {
            whole.add(&compute, x)?;
            blocks.add(&compute, x)?;
        }
        assert_eq!(whole.tokens(), 40);
        for (i, j) in [(0, 0), (1, 3), (5, 6)] {
            let want = x
                .chunks(8)
                .map(|row| f64::from(row[i] * row[j]))
                .sum::<f64>()
                / 40.0;
            let all = whole.square(0, 8)[i * 8 + j];
            assert!((f64::from(all) - want).abs() < 1e-6);
            let first = i / 4 * 4;
            let part = blocks.square(first, 4)[(i - first) * 4 + j - first];
            assert!((part - all).abs() < 1e-6);
        }
        assert!(matches!(Gram::new(8, 3), Err(Error::GroupSize { .. })));
        Ok(())
    }
}

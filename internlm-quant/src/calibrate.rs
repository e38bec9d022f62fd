//! The seam between algorithms that need data and a network that has it.
//!
//! The algorithms of this crate know matrices, not networks. What they need of one is
//! [`Calibrate`]: which layers share an input ([`Group`], plain data), weights by checkpoint path,
//! and a way to run a part of one block and see what its linear layers are given ([`Tap`]). A block
//! is loaded, changed and given away before the next one, so one block of dense weights is in memory.
//!
//! Where the surface differs from a bare list of hooks, and why:
//! - [`Error`](Calibrate::Error) is the network's own type, so a corrupt file met in the middle of a
//!   calibration is still told apart from a bad group size;
//! - a weight is set and given away as a [`Parameter`], since codes must not be lost on the way: the
//!   network computes with them and [`finish_block`](Calibrate::finish_block) hands on the same codes;
//! - [`block_path`](Calibrate::block_path) names the whole block, which is run like any module.

use candle_core::{DType, Device, Tensor};

use crate::codes::Codes;
use crate::error::{Error, Result};

/// A tensor of a network: dense, or rounded to codes.
#[derive(Clone, Debug)]
pub enum Parameter {
    /// Numbers of any shape.
    Dense(Tensor),
    /// A matrix `(out_features, in_features)` in codes.
    Codes(Codes),
}

impl Parameter {
    /// The numbers that a product sees.
    ///
    /// # Errors
    /// A failed tensor operation.
    pub fn to_tensor(&self) -> Result<Tensor> {
        match self {
            Parameter::Dense(tensor) => Ok(tensor.clone()),
            Parameter::Codes(codes) => {
                let shape = (codes.rows, codes.columns);
                Ok(Tensor::from_vec(codes.dequantize(), shape, &Device::Cpu)?)
            }
        }
    }
}

/// What makes the input of a group, and can be divided channel by channel to undo a scale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Producer {
    /// A norm, by module path: its weight is divided, and its bias where it has one.
    Norm(String),
    /// A linear layer whose output the group reads, possibly times something that does not depend on
    /// it (as `up` times the gate): the rows of its weight and its bias are divided.
    Linear(String),
}

/// A linear layer that is quantized.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumer {
    /// Module path; its tensors are `{path}.weight` and maybe `{path}.bias`.
    pub path: String,
    /// Whether its weights may be clipped. Query and key projections are not: AutoAWQ
    /// (`awq/quantize/quantizer.py`) leaves them out, for errors of a score are not additive.
    pub clip: bool,
}

/// Linear layers that share an input. The groups of a block come in the order in which it runs them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Where a scale can be undone; `None` for layers that are quantized without one.
    pub producer: Option<Producer>,
    /// The layers; at least one.
    pub consumers: Vec<Consumer>,
    /// The module whose output tells how good a scale is. It takes the group's input: the whole
    /// attention for q, k and v, the whole feed-forward layer for gate and up, a layer itself where
    /// it is alone.
    pub inspect: String,
}

/// Sees the input of linear layers while a module runs.
pub trait Tap {
    /// Called before each linear layer, by module path. Layers that share an input may be called one
    /// after another with the same tensor.
    ///
    /// # Shapes
    /// - x: `(num_tokens, in_features)`
    ///
    /// # Errors
    /// Whatever stops the run.
    fn input(&mut self, path: &str, x: &Tensor) -> Result<()>;
}

/// Looks at nothing.
impl Tap for () {
    fn input(&mut self, _path: &str, _x: &Tensor) -> Result<()> {
        Ok(())
    }
}

/// Takes finished tensors.
pub trait WeightSink {
    /// A tensor by its full checkpoint path, `….weight` and `….bias` included; codes too come under
    /// the path of the weight that they replace.
    ///
    /// # Errors
    /// Whatever stops the writing.
    fn put(&mut self, path: &str, parameter: Parameter) -> Result<()>;
}

/// A network that can be calibrated block by block.
pub trait Calibrate {
    /// The network's own error.
    type Error: From<Error>;

    /// Number of blocks.
    fn blocks(&self) -> usize;

    /// Module path of a block; to run it is to run the whole block on the residual stream.
    fn block_path(&self, block: usize) -> String;

    /// The groups of a block, in the order in which it runs them.
    fn groups(&self, block: usize) -> Vec<Group>;

    /// The residual stream before the first block.
    ///
    /// # Shapes
    /// - out: `(ids.len(), hidden_size)`, f32
    ///
    /// # Errors
    /// Ids outside of the vocabulary, files that can't be read.
    fn embed(&mut self, ids: &[u32]) -> Result<Tensor, Self::Error>;

    /// Loads the dense weights of a block and drops those of the one before.
    ///
    /// # Errors
    /// Files that can't be read, weights that are not finite.
    fn load_block(&mut self, block: usize) -> Result<(), Self::Error>;

    /// A tensor of the loaded block by full checkpoint path, in the dtype that it is stored in;
    /// `None` where the block has no such tensor.
    ///
    /// # Errors
    /// A failed operation.
    fn tensor(&self, path: &str) -> Result<Option<Tensor>, Self::Error>;

    /// Replaces a tensor of the loaded block, norms and biases too.
    ///
    /// # Errors
    /// A path that the block does not have, or another shape.
    fn set_weight(&mut self, path: &str, parameter: Parameter) -> Result<(), Self::Error>;

    /// Runs a module of the loaded block with its present weights.
    ///
    /// # Shapes
    /// - x: `(num_tokens, width of the module's input)`, f32; whole sequences back to back
    /// - cu_seqlens: `(num_seqs + 1)`, where they begin and end
    /// - out: `(num_tokens, width of its output)`, f32
    ///
    /// # Errors
    /// A path that is no module of the block, a failed operation, what the tap says.
    fn run(
        &self,
        module: &str,
        x: &Tensor,
        cu_seqlens: &[usize],
        tap: &mut dyn Tap,
    ) -> Result<Tensor, Self::Error>;

    /// Hands on every tensor of the loaded block.
    ///
    /// # Errors
    /// What the sink says.
    fn finish_block(&mut self, block: usize, sink: &mut dyn WeightSink) -> Result<(), Self::Error>;

    /// Logits of the residual stream after the last block: final norm and head.
    ///
    /// # Shapes
    /// - x: `(num_tokens, hidden_size)`
    /// - out: `(num_tokens, vocab_size)`, f32
    ///
    /// # Errors
    /// Files that can't be read, a failed operation.
    fn head(&mut self, x: &Tensor) -> Result<Tensor, Self::Error>;
}

/// Sequences that go through a network together.
#[derive(Clone, Debug)]
pub struct Piece {
    /// `(num_tokens, width)`, f32.
    pub x: Tensor,
    /// `(num_seqs + 1)`
    pub cu_seqlens: Vec<usize>,
}

/// Elements of a tensor, row-major, in f32.
pub(crate) fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    let tensor = tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
    Ok(tensor.flatten_all()?.to_vec1()?)
}

//! The tensors of a module of 8 bits with a scale per output ([`internlm_quant::int8`]).

use internlm_kernels::{ScaleType, ZeroType};
use internlm_quant::ggml::GgmlType;
use internlm_quant::int8::Int8Tensors;

use super::LoadConfig;
use super::matrix::{Form, ReadCodes};
use super::source::{ElementType, Stored, TensorSource, check_shape};
use crate::error::Result;

/// The stored tensors of one module.
#[derive(Debug)]
pub(super) struct Int8<'a> {
    weight: &'a Stored,
    weight_scale: &'a Stored,
}

impl<'a> Int8<'a> {
    /// Whether a module is stored so.
    pub(super) fn is_at(source: &dyn TensorSource, path: &str) -> bool {
        let weight = source.find(&format!("{path}.weight"));
        let stored = weight.as_ref().and_then(|weight| weight.blocks.first());
        stored.is_some_and(|block| block.stored.element_type == ElementType::I8)
    }

    /// Finds the tensors of a module and checks their shapes; what lacks is added to `missing`.
    ///
    /// # Errors
    /// Shapes that the configuration does not imply.
    pub(super) fn find(
        source: &'a dyn TensorSource,
        path: &str,
        [rows, columns]: [usize; 2],
        missing: &mut Vec<String>,
    ) -> Result<Option<Self>> {
        let mut find = |suffix: &str, shapes: &[&[usize]]| -> Result<Option<&'a Stored>> {
            let name = format!("{path}.{suffix}");
            let Some(presented) = source.find(&name) else {
                missing.push(name);
                return Ok(None);
            };
            let shape = shapes.iter().find(|shape| presented.shape == **shape);
            check_shape(&presented, &name, shape.unwrap_or(&shapes[0]))?;
            Ok(presented.blocks.first().map(|block| block.stored))
        };
        let weight = find("weight", &[&[rows, columns]])?;
        let weight_scale = find("weight_scale", &[&[rows, 1], &[rows]])?;
        Ok(weight.zip(weight_scale).map(|(weight, weight_scale)| Self {
            weight,
            weight_scale,
        }))
    }

    /// The stored tensors by their suffixes.
    pub(super) fn stored(&self) -> [(&'static str, &'a Stored); 2] {
        [("weight", self.weight), ("weight_scale", self.weight_scale)]
    }

    /// The form that the codes have: a group a row, zero points of 128.
    pub(super) fn form(&self) -> Form {
        Form {
            bits: 8,
            group_size: self.weight.columns(),
            scales: match self.weight_scale.element_type {
                ElementType::Known(GgmlType::F16) => ScaleType::F16,
                _ => ScaleType::F32,
            },
            zeros: ZeroType::Points,
            order: None,
        }
    }

    /// Calls `f` with what reads the codes. The tensors are mapped (or read) as a whole, once, for all
    /// threads.
    ///
    /// # Errors
    /// A file that can't be read, tensors of other types, and what `f` fails with.
    pub(super) fn with_codes<R>(
        &self,
        options: &LoadConfig,
        f: impl FnOnce(&ReadCodes<'_>) -> Result<R>,
    ) -> Result<R> {
        let weight = self.weight.read(options.mmap)?;
        let weight_scale = self.weight_scale.read(options.mmap)?;
        let tensors = Int8Tensors::new(
            self.weight.raw("weight", &weight)?,
            self.weight_scale.raw("weight_scale", &weight_scale)?,
        )?;
        f(&|rows| Ok(tensors.codes(rows)?))
    }
}

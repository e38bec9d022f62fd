//! Matrices of modules that share an input, as few weights: codes packed as they are, elements dense.

use std::sync::Arc;

use candle_core::DType;
use internlm_kernels::PackedShape;
use internlm_quant::{PackedBuilder, PackedTensors, PackedTensorsBuilder, PackedWeight, Weight};

use super::matrix::{Form, Matrix, ReadCodes, is_mixed};
use super::prepared::Store;
use super::{LoadConfig, read};
use crate::error::{Error, Result};

/// Below this many weights threads cost more than they gain.
const ALONE: usize = 1 << 18;

/// The matrix of a module.
pub(super) struct Part<'a> {
    pub(super) path: &'a str,
    pub(super) rows: usize,
    pub(super) matrix: Matrix<'a>,
    form: Option<Form>,
}

impl<'a> Part<'a> {
    /// # Errors
    /// As [`Matrix::form`].
    pub(super) fn new(
        path: &'a str,
        rows: usize,
        matrix: Matrix<'a>,
        options: &LoadConfig,
    ) -> Result<Self> {
        let form = matrix.form(options).map_err(|e| e.in_tensor(path))?;
        Ok(Self {
            path,
            rows,
            matrix,
            form,
        })
    }

    /// Whether the next part can follow in the same weight.
    fn joins(&self, next: &Part<'_>) -> bool {
        let aligned = self.form.is_none() || PackedBuilder::is_aligned(self.rows);
        aligned && self.form == next.form && self.is_mixed() == next.is_mixed()
    }

    fn is_mixed(&self) -> bool {
        matches!(&self.matrix, Matrix::Rows(rows) if is_mixed(rows))
    }
}

/// Loads the weights of parts in their order: one, unless neighbours differ in form.
pub(super) fn weights(
    parts: &[Part<'_>],
    columns: usize,
    options: &LoadConfig,
    store: Option<&Store>,
) -> Result<Vec<Weight>> {
    let runs = parts.chunk_by(Part::joins);
    runs.map(|run| match &run[0].form {
        None => dense(run, options).map(Weight::Dense),
        Some(form) => {
            let shape = shape(run, form, columns);
            if options.packed && !options.packs_for_kernels() {
                let packed = tensors(run, form, shape, options)?;
                return Ok(Weight::PackedTensors(Arc::new(packed)));
            }
            let pack = || packed(run, form, shape, options);
            let packed = match store {
                None => pack()?,
                Some(store) => {
                    let paths: Vec<_> = run.iter().map(|part| part.path).collect();
                    let (name, order) = (paths.join(","), form.order.as_deref());
                    store.weight(&name, shape, order, options.load_threads(), pack)?
                }
            };
            if options.packed {
                return Ok(Weight::Packed(Arc::new(packed)));
            }
            let values = packed.dequantize()?;
            let values = values.to_dtype(options.dtype.unwrap_or(DType::F32))?;
            Ok(Weight::Dense(values.to_device(&options.device)?))
        }
    })
    .collect()
}

fn dense(run: &[Part<'_>], options: &LoadConfig) -> Result<candle_core::Tensor> {
    let mut options = options.clone();
    if options.packs_blocks() && run[0].is_mixed() {
        // Dense for want of a form, so as small as can be.
        options.dtype = Some(DType::F16);
    }
    let names: Vec<_> = run.iter().map(|p| format!("{}.weight", p.path)).collect();
    let rows = run.iter().zip(&names);
    let rows: Vec<_> = rows
        .filter_map(|(part, name)| match &part.matrix {
            Matrix::Rows(rows) => Some((name.as_str(), rows.clone())),
            Matrix::Words(_) | Matrix::Rounded(..) | Matrix::Int8(_) => None, // always have a form
        })
        .collect();
    read::tensors(&rows, &options)
}

/// What matrices of one form become together.
fn shape(run: &[Part<'_>], form: &Form, columns: usize) -> PackedShape {
    PackedShape {
        n: run.iter().map(|part| part.rows).sum(),
        k: columns,
        bits: form.bits,
        group_size: form.group_size,
        scales: form.scales,
        zeros: form.zeros,
    }
}

/// Packs matrices of one form for the kernels.
fn packed(
    run: &[Part<'_>],
    form: &Form,
    shape: PackedShape,
    options: &LoadConfig,
) -> Result<PackedWeight> {
    let new = PackedBuilder::new(shape, form.order.clone());
    let mut builder = new.map_err(|e| Error::from(e).in_tensor(run[0].path))?;
    fill(run, shape, options, |rows, threads, codes| {
        builder.push_parallel(rows, threads, codes)
    })?;
    Ok(builder.finish()?)
}

/// The same as tensors on the device.
fn tensors(
    run: &[Part<'_>],
    form: &Form,
    shape: PackedShape,
    options: &LoadConfig,
) -> Result<PackedTensors> {
    let new = PackedTensorsBuilder::new(shape, form.order.clone());
    let mut builder = new.map_err(|e| Error::from(e).in_tensor(run[0].path))?;
    fill(run, shape, options, |rows, threads, codes| {
        builder.push_parallel(rows, threads, codes)
    })?;
    Ok(builder.finish(&options.device)?)
}

/// Gives the codes of all parts to `push`, with the number of threads for each part.
fn fill(
    run: &[Part<'_>],
    shape: PackedShape,
    options: &LoadConfig,
    mut push: impl FnMut(usize, usize, &ReadCodes<'_>) -> Result<()>,
) -> Result<()> {
    for part in run {
        let threads = match part.rows * shape.k {
            0..ALONE => 1,
            _ => options.load_threads(),
        };
        let pushed = part
            .matrix
            .with_codes(options, |codes| push(part.rows, threads, codes));
        pushed.map_err(|error| error.in_tensor(part.path))?;
    }
    Ok(())
}

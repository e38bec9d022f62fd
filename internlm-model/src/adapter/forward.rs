//! What adapters add to a product, row by row.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, InplaceOp1, Layout, Tensor};
use internlm_kernels::{Activation, Compute, Elements};

use super::{AdapterSet, Base, LoraAdapter, LoraModule};
use crate::batch::Batch;
use crate::context::Step;
use crate::error::{Error, Result};
use crate::ops::with_f32;

/// Below this many elements threads cost more than they gain.
const ALONE: usize = 1 << 16;

/// Which adapter the rows of a product go through. At least one row has one.
#[derive(Debug)]
pub(crate) struct RowAdapters<'a> {
    groups: Vec<Group<'a>>,
    num_rows: usize,
}

/// The rows of one adapter.
#[derive(Debug)]
struct Group<'a> {
    adapter: &'a LoraAdapter,
    index: usize,
    /// Rising, neighbours joined.
    rows: Vec<Range<usize>>,
}

impl Group<'_> {
    fn num_rows(&self) -> usize {
        self.rows.iter().map(Range::len).sum()
    }
}

impl<'a> RowAdapters<'a> {
    /// Adapters of all tokens of a batch; `None` where no sequence has one.
    ///
    /// # Errors
    /// An index that the set does not have, or an adapter of another network.
    pub(crate) fn of_tokens(
        batch: &Batch,
        set: Option<&'a AdapterSet>,
        base: impl FnOnce() -> Base,
    ) -> Result<Option<Self>> {
        Self::new(batch, set, base, |rows| rows)
    }

    /// Adapters of the rows of a head: some of a batch's logit rows.
    ///
    /// # Errors
    /// As [`of_tokens`](RowAdapters::of_tokens).
    pub(crate) fn of_logits(
        batch: &Batch,
        logits: Range<usize>,
        set: Option<&'a AdapterSet>,
        base: impl FnOnce() -> Base,
    ) -> Result<Option<Self>> {
        let rows = batch.logit_rows();
        let place = |token: usize| {
            let place = rows.partition_point(|&row| (row as usize) < token);
            place.clamp(logits.start, logits.end) - logits.start
        };
        Self::new(batch, set, base, |rows| place(rows.start)..place(rows.end))
    }

    fn new(
        batch: &Batch,
        set: Option<&'a AdapterSet>,
        base: impl FnOnce() -> Base,
        place: impl Fn(Range<usize>) -> Range<usize>,
    ) -> Result<Option<Self>> {
        if batch.adapters().iter().all(Option::is_none) {
            return Ok(None);
        }
        let base = base();
        let (mut groups, mut num_rows) = (Vec::<Group<'a>>::new(), 0);
        for ((_, tokens), &index) in batch.sequences().zip(batch.adapters()) {
            let rows = place(tokens);
            num_rows += rows.len();
            let Some(index) = index else { continue };
            let Some(adapter) = set.and_then(|set| set.adapter(index)) else {
                return Err(Error::AdapterIndex {
                    index,
                    count: set.map_or(0, |set| set.adapters().len()),
                });
            };
            adapter.expect_base(&base)?;
            if rows.is_empty() {
                continue;
            }
            match groups.iter_mut().find(|group| group.index == index) {
                None => groups.push(Group {
                    adapter,
                    index,
                    rows: vec![rows],
                }),
                Some(group) => match group.rows.last_mut() {
                    Some(last) if last.end == rows.start => last.end = rows.end,
                    _ => group.rows.push(rows),
                },
            }
        }
        Ok((!groups.is_empty()).then_some(Self { groups, num_rows }))
    }

    /// Adds `scale * B (A x)` of each row's adapter to the columns of each part.
    ///
    /// # Shapes
    /// - x: `(num_rows, in_features)`
    /// - out: `(num_rows, out_features)` of all parts, before and after
    /// - parts: module paths with their `out_features`
    pub(crate) fn add<'p>(
        &self,
        step: &Step<'_>,
        x: &Tensor,
        out: Tensor,
        parts: impl Iterator<Item = (&'p str, usize)>,
    ) -> Result<Tensor> {
        if x.dim(0)? != self.num_rows {
            return Err(Error::Batch {
                what: format!(
                    "{} rows go through adapters, expected {}",
                    x.dim(0)?,
                    self.num_rows
                ),
            });
        }
        let parts = parts.scan(0, |start, (path, len)| {
            *start += len;
            Some((path, *start - len..*start))
        });
        if step.uses_kernels(x.device()) {
            self.add_by_kernels(step.compute, x, out, parts)
        } else {
            self.add_by_tensors(x, &out, parts)
        }
    }

    /// With our kernels, in place. Sums are f32 in an order that other rows do not change.
    fn add_by_kernels<'p>(
        &self,
        compute: &Compute,
        x: &Tensor,
        out: Tensor,
        parts: impl Iterator<Item = (&'p str, Range<usize>)>,
    ) -> Result<Tensor> {
        let in_features = x.dim(1)?;
        let parts: Vec<_> = parts.collect();
        let mut updates = Vec::new();
        with_f32(x, |x| {
            for group in &self.groups {
                let mut modules = parts.iter().filter_map(|(path, columns)| {
                    Some((group.adapter.module(path)?, columns.clone()))
                });
                let Some(first) = modules.next() else {
                    continue;
                };
                let mut gathered = Vec::new();
                let x = match group.rows.as_slice() {
                    [rows] => &x[rows.start * in_features..rows.end * in_features],
                    rows => {
                        for rows in rows {
                            let rows = rows.start * in_features..rows.end * in_features;
                            gathered.extend_from_slice(&x[rows]);
                        }
                        &gathered
                    }
                };
                let scale = group.adapter.config().scale() as f32;
                let rows: Vec<_> = group.rows.iter().cloned().flatten().collect();
                for (module, columns) in std::iter::once(first).chain(modules) {
                    updates.push(Update {
                        values: product(compute, x, module, scale, [rows.len(), in_features])?,
                        rows: rows.clone(),
                        columns,
                    });
                }
            }
            Ok(())
        })?;
        if !updates.is_empty() {
            out.inplace_op1(&Add { compute, updates })?;
        }
        Ok(out)
    }

    /// With candle's operations, which give gradients to x and to the matrices.
    fn add_by_tensors<'p>(
        &self,
        x: &Tensor,
        out: &Tensor,
        parts: impl Iterator<Item = (&'p str, Range<usize>)>,
    ) -> Result<Tensor> {
        let mut indexes = Vec::with_capacity(self.groups.len());
        for group in &self.groups {
            let whole = group.num_rows() == self.num_rows;
            let rows = group.rows.iter().cloned().flatten();
            let rows: Vec<_> = rows.map(|row| row as u32).collect();
            indexes.push(match whole {
                true => None,
                false => Some(Tensor::new(rows, x.device())?),
            });
        }
        let mut columns_of_parts = Vec::new();
        for (path, columns) in parts {
            let mut sum = out.narrow(1, columns.start, columns.len())?;
            for (group, rows) in self.groups.iter().zip(&indexes) {
                let Some(module) = group.adapter.module(path) else {
                    continue;
                };
                let matrix = |m: &Tensor| m.to_device(x.device())?.to_dtype(x.dtype())?.t();
                let x = match rows {
                    None => x.clone(),
                    Some(rows) => x.index_select(rows, 0)?,
                };
                let low = (x.matmul(&matrix(&module.a)?)? * group.adapter.config().scale())?;
                let added = low.matmul(&matrix(&module.b)?)?; // (rows of the group, columns of the part)
                sum = match rows {
                    None => (sum + added)?,
                    Some(rows) => sum.contiguous()?.index_add(rows, &added, 0)?,
                };
            }
            columns_of_parts.push(sum);
        }
        match columns_of_parts.as_slice() {
            [one] => Ok(one.contiguous()?),
            parts => Ok(Tensor::cat(parts, 1)?.contiguous()?),
        }
    }
}

/// `B (scale * (A x))`.
///
/// # Shapes
/// - x: `(rows, in_features)`
/// - out: `(rows, out_features)`
fn product(
    compute: &Compute,
    x: &[f32],
    module: &LoraModule,
    scale: f32,
    [rows, in_features]: [usize; 2],
) -> Result<Vec<f32>> {
    let (out_features, r) = module.b.dims2()?;
    let times = |x: &[f32], matrix: &Tensor, n: usize, k: usize| {
        let mut out = vec![0.0; rows * n];
        with_f32(matrix, |matrix| {
            let matrix = Elements::F32(matrix);
            let (x, out) = (x, &mut out);
            internlm_kernels::matmul(compute, x, matrix, None, Activation::F32, out, rows, n, k)?;
            Ok(())
        })?;
        Ok::<_, Error>(out)
    };
    let mut low = times(x, &module.a, r, in_features)?;
    low.iter_mut().for_each(|v| *v *= scale);
    times(&low, &module.b, out_features, r)
}

/// What is added to some rows of some columns.
struct Update {
    /// Rising.
    rows: Vec<usize>,
    columns: Range<usize>,
    /// `(rows, columns)`
    values: Vec<f32>,
}

impl Update {
    /// Adds to a block of rows that begins at row `first`.
    fn add(&self, block: &mut [f32], first: usize, width: usize) {
        let end = first + block.len() / width;
        let from = self.rows.partition_point(|&row| row < first);
        let values = self.values.chunks_exact(self.columns.len()).skip(from);
        for (&row, values) in self.rows[from..].iter().zip(values) {
            if row >= end {
                break;
            }
            let out = &mut block[(row - first) * width..][self.columns.clone()];
            for (out, value) in out.iter_mut().zip(values) {
                *out += value;
            }
        }
    }
}

/// Adds in place, so that the product, which nobody else has yet, is not copied.
struct Add<'a> {
    compute: &'a Compute,
    updates: Vec<Update>,
}

impl InplaceOp1 for Add<'_> {
    fn name(&self) -> &'static str {
        "adapters"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let (CpuStorage::F32(out), Some((start, end))) = (storage, layout.contiguous_offsets())
        else {
            let what = "adapters add to a contiguous tensor of f32";
            return Err(candle_core::Error::Msg(what.to_owned()));
        };
        let (rows, width) = layout.shape().dims2()?;
        let out = &mut out[start..end];
        let block_rows = match out.len() {
            0..ALONE => rows,
            _ => rows.div_ceil(4 * self.compute.threads()),
        };
        let blocks = out.chunks_mut((block_rows * width).max(1)).map(Mutex::new);
        let blocks: Vec<_> = blocks.collect();
        let add = |block: usize| {
            let mut out = blocks[block].lock().unwrap_or_else(PoisonError::into_inner);
            for update in &self.updates {
                update.add(&mut out, block * block_rows, width);
            }
        };
        match blocks.len() {
            1 => add(0),
            count => self.compute.run(count, add),
        }
        Ok(())
    }
}

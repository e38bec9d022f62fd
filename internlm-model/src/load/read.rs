//! Rows of stored tensors into one tensor: a window at a time, on several threads.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::{DType, Tensor};
use internlm_quant::ggml::GgmlType;

use super::LoadConfig;
use super::elements::{Element, convert, held_dtype, tensor};
use super::source::{Block, Presented, RowOrder, Stored, known};
use crate::error::{Error, Result};

/// Elements of a window: what is mapped or read at once by a thread. A multiple of all blocks.
const WINDOW: usize = 2 << 20;
/// Elements that are converted and checked while they are in the cache.
const PIECE: usize = 16 << 10;
/// Below this many elements threads cost more than they gain.
const ALONE: usize = 1 << 18;

/// A part of the result and where it comes from.
struct Job<'a, T> {
    to: &'a mut [T],
    stored: &'a Stored,
    ggml_type: GgmlType,
    /// First element in the stored tensor.
    first: usize,
    /// Elements of a row, and whether the rows are a head of pairs.
    columns: usize,
    order: RowOrder,
}

/// Reads tensors and lays them one after another along the first dimension.
///
/// # Shapes
/// - parts: `(rows, ...)`, equal but for their rows
/// - out: `(sum of rows, ...)`
pub(super) fn tensors(parts: &[(&str, Presented<'_>)], config: &LoadConfig) -> Result<Tensor> {
    let mut shape = match parts.first() {
        Some((_, first)) => first.shape.clone(),
        None => vec![0],
    };
    if let Some(rows) = shape.first_mut() {
        *rows = parts
            .iter()
            .filter_map(|(_, part)| part.shape.first())
            .sum();
    }
    let mut dtype = None;
    for (name, part) in parts {
        for block in &part.blocks {
            let stored = known(block.stored, name)?;
            let held = held_dtype(
                stored,
                shape.len() > 1,
                config.dtype,
                config.device.is_cpu(),
            )?;
            // Parts of different dtypes are held in the one that holds all.
            dtype = match dtype {
                Some(other) if other != held => Some(DType::F32),
                _ => Some(held),
            };
        }
    }
    let out = match dtype.unwrap_or(DType::F32) {
        DType::BF16 => read::<half::bf16>(parts, &shape, config)?,
        DType::F16 => read::<half::f16>(parts, &shape, config)?,
        _ => read::<f32>(parts, &shape, config)?,
    };
    Ok(out.to_device(&config.device)?)
}

fn read<T: Element>(
    parts: &[(&str, Presented<'_>)],
    shape: &[usize],
    config: &LoadConfig,
) -> Result<Tensor> {
    let mut values = internlm_kernels::huge_pages(T::zeros(shape.iter().product()));
    let mut rest = values.as_mut_slice();
    for (name, part) in parts {
        let (to, tail) = rest.split_at_mut(part.shape.iter().product());
        rest = tail;
        read_part(name, part, to, config)?;
    }
    internlm_kernels::gather_pages(&values);
    tensor(values, shape)
}

fn read_part<T: Element>(
    name: &str,
    part: &Presented<'_>,
    to: &mut [T],
    config: &LoadConfig,
) -> Result<()> {
    let threads = match to.len() {
        0..ALONE => 1,
        _ => config.load_threads(),
    };
    let jobs = Mutex::new(jobs(name, part, to)?.into_iter());
    let non_finite = AtomicUsize::new(0);
    let work = || -> Result<()> {
        let mut scratch = Scratch::default();
        loop {
            let job = jobs
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner())
                .next();
            let Some(job) = job else { return Ok(()) };
            let bad = run(job, config, &mut scratch).map_err(|e| e.in_tensor(name))?;
            non_finite.fetch_add(bad, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut result = work();
        for other in others {
            result = result.and(
                other
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            );
        }
        result
    })?;
    match non_finite.into_inner() {
        0 => Ok(()),
        count => Err(Error::NonFiniteWeights {
            file: part
                .blocks
                .first()
                .map(|b| b.stored.file.path().to_path_buf())
                .unwrap_or_default(),
            name: name.to_owned(),
            count,
        }),
    }
}

/// Splits a tensor into windows; heads of pairs stay whole.
fn jobs<'a, T>(
    name: &str,
    part: &'a Presented<'_>,
    mut to: &'a mut [T],
) -> Result<Vec<Job<'a, T>>> {
    let mut jobs = Vec::new();
    for &Block {
        stored,
        first_row,
        rows,
        order,
    } in &part.blocks
    {
        let columns = stored.columns();
        let ggml_type = known(stored, name)?;
        let (mut first, mut left) = (first_row * columns, rows * columns);
        while left > 0 {
            let len = match order {
                RowOrder::HalfSplit => left.min(WINDOW),
                RowOrder::Paired => left,
            };
            let (window, tail) = to.split_at_mut(len);
            to = tail;
            jobs.push(Job {
                to: window,
                stored,
                ggml_type,
                first,
                columns,
                order,
            });
            first += len;
            left -= len;
        }
    }
    Ok(jobs)
}

#[derive(Default)]
struct Scratch {
    bytes: Vec<u8>,
    values: Vec<f32>,
}

/// Fills a window; returns how many of its elements are not finite.
fn run<T: Element>(job: Job<'_, T>, config: &LoadConfig, scratch: &mut Scratch) -> Result<usize> {
    let Job {
        to,
        stored,
        ggml_type,
        first,
        columns,
        order,
    } = job;
    let (size, block_bytes) = (ggml_type.block_size(), ggml_type.block_bytes());
    let bytes_of = |elements: usize| elements / size * block_bytes;
    let offset = stored.offset + bytes_of(first) as u64;
    let len = bytes_of(to.len());
    let Scratch { bytes, values } = scratch;
    let rows = to.len() / columns.max(1);
    stored
        .file
        .with_bytes(offset, len, config.mmap, bytes, |bytes| {
            let mut bad = 0;
            let mut piece = |bytes: &[u8], to: &mut [T]| -> Result<(), internlm_quant::Error> {
                convert(ggml_type, bytes, to, values)?;
                if config.check_finite {
                    bad += T::non_finite(to);
                }
                Ok(())
            };
            match order {
                RowOrder::HalfSplit => {
                    for (from, to) in bytes.chunks(bytes_of(PIECE)).zip(to.chunks_mut(PIECE)) {
                        piece(from, to)?;
                    }
                }
                RowOrder::Paired => {
                    let from = bytes.chunks_exact(bytes_of(columns));
                    for (row, from) in from.enumerate() {
                        // The pair 2i, 2i + 1 becomes rows i and rows / 2 + i.
                        let row = row / 2 + row % 2 * (rows / 2);
                        piece(from, &mut to[row * columns..][..columns])?;
                    }
                }
            }
            Ok(bad)
        })?
}

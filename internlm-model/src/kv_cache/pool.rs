//! Keys or values of one layer in blocks, in the types that a cache may hold.

use std::ops::Range;

use candle_core::DType;
use half::{bf16, f16};
use internlm_kernels::{Elements, KvBlocks, KvElements};
use internlm_quant::kv::{KvBits, KvStep};

use crate::error::{Error, Result};

/// How a cache holds keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KvDtype {
    /// 32 bits.
    F32,
    /// The upper half of an f32.
    Bf16,
    /// IEEE half precision.
    F16,
    /// 8 bits with a scale and a zero per token and head ([`KvBits::Eight`]).
    Int8,
    /// 4 bits, the same way ([`KvBits::Four`]).
    Int4,
}

impl KvDtype {
    /// Bytes that a row of `head_dim` elements takes.
    pub fn row_bytes(self, head_dim: usize) -> usize {
        match self {
            KvDtype::F32 => 4 * head_dim,
            KvDtype::Bf16 | KvDtype::F16 => 2 * head_dim,
            KvDtype::Int8 => KvBits::Eight.row_bytes(head_dim) + size_of::<[f32; 2]>(),
            KvDtype::Int4 => KvBits::Four.row_bytes(head_dim) + size_of::<[f32; 2]>(),
        }
    }

    /// Of a tensor's dtype.
    ///
    /// # Errors
    /// A dtype other than f32, bf16 and f16.
    pub fn of(dtype: DType) -> Result<Self> {
        match dtype {
            DType::F32 => Ok(KvDtype::F32),
            DType::BF16 => Ok(KvDtype::Bf16),
            DType::F16 => Ok(KvDtype::F16),
            _ => Err(Error::Batch {
                what: format!("a cache holds f32, bf16 or f16, not {}", dtype.as_str()),
            }),
        }
    }
}

/// Rows of keys or values, `(num_blocks, num_key_value_heads, block_size)` of them.
#[derive(Debug)]
pub(super) struct Pool {
    rows: Rows,
    kv_heads: usize,
    block_size: usize,
    head_dim: usize,
}

#[derive(Debug)]
enum Rows {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
    F16(Vec<f16>),
    Quantized {
        bits: KvBits,
        codes: Vec<u8>,
        steps: Vec<[f32; 2]>,
    },
}

/// Some rows of a pool that are written.
pub(super) enum RowsMut<'a> {
    F32(&'a mut [f32]),
    Bf16(&'a mut [bf16]),
    F16(&'a mut [f16]),
    Quantized {
        bits: KvBits,
        codes: &'a mut [u8],
        steps: &'a mut [[f32; 2]],
    },
}

impl Pool {
    /// Blocks of zeros. Their memory is the system's until they are written.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub(super) fn new(
        dtype: KvDtype,
        num_blocks: usize,
        kv_heads: usize,
        block_size: usize,
        head_dim: usize,
    ) -> Result<Self> {
        let rows = num_blocks * kv_heads * block_size;
        let quantized = |bits: KvBits| -> Result<Rows> {
            Ok(Rows::Quantized {
                bits,
                codes: zeroed(rows * bits.row_bytes(head_dim))?,
                steps: zeroed(rows)?,
            })
        };
        let rows = match dtype {
            KvDtype::F32 => Rows::F32(zeroed(rows * head_dim)?),
            KvDtype::Bf16 => Rows::Bf16(zeroed(rows * head_dim)?),
            KvDtype::F16 => Rows::F16(zeroed(rows * head_dim)?),
            KvDtype::Int8 => quantized(KvBits::Eight)?,
            KvDtype::Int4 => quantized(KvBits::Four)?,
        };
        Ok(Self {
            rows,
            kv_heads,
            block_size,
            head_dim,
        })
    }

    pub(super) fn dtype(&self) -> KvDtype {
        match &self.rows {
            Rows::F32(_) => KvDtype::F32,
            Rows::Bf16(_) => KvDtype::Bf16,
            Rows::F16(_) => KvDtype::F16,
            Rows::Quantized { bits, .. } => match bits {
                KvBits::Eight => KvDtype::Int8,
                KvBits::Four => KvDtype::Int4,
            },
        }
    }

    /// Tokens of a block.
    pub(super) fn block_size(&self) -> usize {
        self.block_size
    }

    pub(super) fn bytes(&self) -> usize {
        match &self.rows {
            Rows::F32(v) => size_of_val(&v[..]),
            Rows::Bf16(v) => size_of_val(&v[..]),
            Rows::F16(v) => size_of_val(&v[..]),
            Rows::Quantized { codes, steps, .. } => codes.len() + size_of_val(&steps[..]),
        }
    }

    /// The blocks of one sequence, for the attention kernel.
    pub(super) fn blocks<'a>(&'a self, block_table: &'a [u32]) -> KvBlocks<'a> {
        let elements = match &self.rows {
            Rows::F32(v) => KvElements::Dense(Elements::F32(v)),
            Rows::Bf16(v) => KvElements::Dense(Elements::Bf16(v)),
            Rows::F16(v) => KvElements::Dense(Elements::F16(v)),
            Rows::Quantized { bits, codes, steps } => match bits {
                KvBits::Eight => KvElements::Int8 { codes, steps },
                KvBits::Four => KvElements::Int4 { codes, steps },
            },
        };
        KvBlocks {
            elements,
            block_table,
            block_size: self.block_size,
        }
    }

    /// Some blocks, to be written, each cut into its heads.
    ///
    /// # Shapes
    /// - blocks: rising; those that are not in the pool give nothing
    /// - out: a head of a block each, `(block_size)` rows, in the order of blocks, then heads
    pub(super) fn blocks_mut(&mut self, blocks: &[usize]) -> Vec<RowsMut<'_>> {
        let (rows, heads, dim) = (self.block_size, self.kv_heads, self.head_dim);
        match &mut self.rows {
            Rows::F32(v) => some_parts(v, rows * dim, heads, blocks)
                .map(RowsMut::F32)
                .collect(),
            Rows::Bf16(v) => some_parts(v, rows * dim, heads, blocks)
                .map(RowsMut::Bf16)
                .collect(),
            Rows::F16(v) => some_parts(v, rows * dim, heads, blocks)
                .map(RowsMut::F16)
                .collect(),
            Rows::Quantized { bits, codes, steps } => {
                let codes = some_parts(codes, rows * bits.row_bytes(dim), heads, blocks);
                codes
                    .zip(some_parts(steps, rows, heads, blocks))
                    .map(|(codes, steps)| RowsMut::Quantized {
                        bits: *bits,
                        codes,
                        steps,
                    })
                    .collect()
            }
        }
    }

    /// Copies a block over another.
    pub(super) fn copy_block(&mut self, from: usize, to: usize) {
        let rows = self.kv_heads * self.block_size;
        fn copy<T: Copy>(v: &mut [T], len: usize, from: usize, to: usize) {
            v.copy_within(from * len..(from + 1) * len, to * len);
        }
        match &mut self.rows {
            Rows::F32(v) => copy(v, rows * self.head_dim, from, to),
            Rows::Bf16(v) => copy(v, rows * self.head_dim, from, to),
            Rows::F16(v) => copy(v, rows * self.head_dim, from, to),
            Rows::Quantized { bits, codes, steps } => {
                copy(codes, rows * bits.row_bytes(self.head_dim), from, to);
                copy(steps, rows, from, to);
            }
        }
    }

    /// The values of a row.
    ///
    /// # Shapes
    /// - out: `(head_dim)`
    pub(super) fn read(
        &self,
        block: usize,
        head: usize,
        token: usize,
        out: &mut [f32],
    ) -> Result<()> {
        fn widen<T: Copy + Into<f32>>(from: &[T], to: &mut [f32]) {
            for (to, &from) in to.iter_mut().zip(from) {
                *to = from.into();
            }
        }
        let row = (block * self.kv_heads + head) * self.block_size + token;
        let at = row * self.head_dim;
        match &self.rows {
            Rows::F32(v) => widen(&v[at..], out),
            Rows::Bf16(v) => widen(&v[at..], out),
            Rows::F16(v) => widen(&v[at..], out),
            Rows::Quantized { bits, codes, steps } => {
                let bytes = bits.row_bytes(self.head_dim);
                let [scale, zero] = steps[row];
                let codes = &codes[row * bytes..][..bytes];
                bits.dequantize(codes, KvStep { scale, zero }, out)?;
            }
        }
        Ok(())
    }

    /// The first block grown to `block_size` tokens, with what is in it.
    pub(super) fn grown(&self, block_size: usize) -> Result<Self> {
        let mut pool = Self::new(self.dtype(), 1, self.kv_heads, block_size, self.head_dim)?;
        fn copy<T: Copy>(from: &[T], to: &mut [T], old: usize, new: usize) {
            for (to, from) in to.chunks_exact_mut(new).zip(from.chunks_exact(old)) {
                to[..old].copy_from_slice(from);
            }
        }
        let (old, new, dim) = (self.block_size, block_size, self.head_dim);
        match (&self.rows, &mut pool.rows) {
            (Rows::F32(from), Rows::F32(to)) => copy(from, to, old * dim, new * dim),
            (Rows::Bf16(from), Rows::Bf16(to)) => copy(from, to, old * dim, new * dim),
            (Rows::F16(from), Rows::F16(to)) => copy(from, to, old * dim, new * dim),
            (
                Rows::Quantized { bits, codes, steps },
                Rows::Quantized {
                    codes: to_codes,
                    steps: to_steps,
                    ..
                },
            ) => {
                let bytes = bits.row_bytes(dim);
                copy(codes, to_codes, old * bytes, new * bytes);
                copy(steps, to_steps, old, new);
            }
            _ => {}
        }
        Ok(pool)
    }
}

impl RowsMut<'_> {
    /// Writes a row.
    ///
    /// # Errors
    /// Values that are not finite, where the row is quantized.
    pub(super) fn write(&mut self, row: usize, values: &[f32]) -> Result<()> {
        let at = row * values.len()..(row + 1) * values.len();
        match self {
            RowsMut::F32(to) => to[at].copy_from_slice(values),
            RowsMut::Bf16(to) => {
                for (to, &x) in to[at].iter_mut().zip(values) {
                    *to = bf16::from_f32(x);
                }
            }
            RowsMut::F16(to) => {
                for (to, &x) in to[at].iter_mut().zip(values) {
                    *to = f16::from_f32(x);
                }
            }
            RowsMut::Quantized { bits, codes, steps } => {
                let bytes = bits.row_bytes(values.len());
                let codes = &mut codes[row * bytes..][..bytes];
                let KvStep { scale, zero } = bits.quantize(values, codes)?;
                steps[row] = [scale, zero];
            }
        }
        Ok(())
    }
}

/// Zeros, or an error where there is no room for them.
fn zeroed<T: bytemuck::Zeroable>(len: usize) -> Result<Vec<T>> {
    bytemuck::try_zeroed_vec(len).map_err(|()| Error::OutOfMemory {
        bytes: len.saturating_mul(size_of::<T>()),
    })
}

/// Some parts of a slice of groups of `count` parts each of `len` elements: all parts of the groups
/// `groups`, which rise.
fn some_parts<'a, T>(
    mut rest: &'a mut [T],
    len: usize,
    count: usize,
    groups: &[usize],
) -> impl Iterator<Item = &'a mut [T]> + use<'a, T> {
    let mut parts = Vec::with_capacity(groups.len() * count);
    let mut passed = 0;
    for &group in groups {
        let Range { start, end } =
            (group - passed) * len * count..(group + 1 - passed) * len * count;
        if end > rest.len() {
            break;
        }
        let (before, after) = rest.split_at_mut(end);
        parts.extend(before[start..].chunks_exact_mut(len));
        rest = after;
        passed = group + 1;
    }
    parts.into_iter()
}

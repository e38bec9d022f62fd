//! Keys and values in blocks, as caches hold them.

use crate::elements::{Element, Elements};
use crate::error::{Error, Result, check_len};

/// Keys of one step of the running softmax. Blocks of a cache hold a multiple of it.
pub(crate) const BLOCK: usize = 64;

/// Rows of keys or values of all sequences of a cache, `(num_blocks, num_key_value_heads, block_size)` of
/// them.
#[derive(Debug, Clone, Copy)]
pub enum KvElements<'a> {
    /// As they are, `head_dim` elements a row.
    Dense(Elements<'a>),
    /// 8 bits an element: a row is `head_dim` codes, which stand for `(code - zero) * scale` (LMDeploy's
    /// `quant_policy` 8).
    Int8 {
        /// The codes.
        codes: &'a [u8],
        /// `[scale, zero]` of each row.
        steps: &'a [[f32; 2]],
    },
    /// 4 bits an element: byte `d` of a row holds the codes of elements `d` (low) and `d + head_dim / 2`
    /// (high), for an even `head_dim` (LMDeploy's `quant_policy` 4).
    Int4 {
        /// The codes.
        codes: &'a [u8],
        /// `[scale, zero]` of each row.
        steps: &'a [[f32; 2]],
    },
}

/// Keys or values of one sequence: some blocks of a cache, in order.
#[derive(Debug, Clone, Copy)]
pub struct KvBlocks<'a> {
    /// The rows of the cache.
    pub elements: KvElements<'a>,
    /// Which blocks: token `t` is row `t % block_size` of block `block_table[t / block_size]`.
    pub block_table: &'a [u32],
    /// Tokens that a block has room for; a multiple of 64 where there are several.
    pub block_size: usize,
}

impl<'a> KvBlocks<'a> {
    /// One block that holds the whole sequence.
    ///
    /// # Shapes
    /// - elements: `(num_key_value_heads, capacity, head_dim)`
    pub fn contiguous(elements: Elements<'a>, capacity: usize) -> Self {
        Self {
            elements: KvElements::Dense(elements),
            block_table: &[0],
            block_size: capacity,
        }
    }

    /// Checks that `len` tokens are there.
    pub(super) fn check(
        &self,
        sequence: usize,
        name: &'static str,
        len: usize,
        kv_heads: usize,
        head_dim: usize,
    ) -> Result<()> {
        let at_most = |what, got, limit| {
            if got <= limit {
                Ok(())
            } else {
                Err(Error::Sequence {
                    sequence,
                    what,
                    got,
                    limit,
                })
            }
        };
        let capacity = self.block_table.len().saturating_mul(self.block_size);
        at_most("len", len, capacity)?;
        if self.block_table.len() > 1 {
            at_most("block_size % 64", self.block_size % BLOCK, 0)?;
        }
        let rows_of_block = kv_heads.saturating_mul(self.block_size);
        let blocks = |elements: usize, row: usize| {
            let of_block = rows_of_block.saturating_mul(row);
            let blocks = elements.checked_div(of_block).unwrap_or(0);
            // Without a whole block, what is missing is the first one.
            check_len("attention", name, elements, &[blocks.max(1), of_block])?;
            Ok(blocks.max(1))
        };
        let num_blocks = match self.elements {
            KvElements::Dense(elements) => blocks(elements.len(), head_dim)?,
            KvElements::Int8 { codes, steps } => {
                let blocks = blocks(codes.len(), head_dim)?;
                check_len("attention", name, steps.len(), &[blocks, rows_of_block])?;
                blocks
            }
            KvElements::Int4 { codes, steps } => {
                at_most("head_dim % 2", head_dim % 2, 0)?;
                let blocks = blocks(codes.len(), head_dim / 2)?;
                check_len("attention", name, steps.len(), &[blocks, rows_of_block])?;
                blocks
            }
        };
        for &block in self.block_table {
            at_most("block_table", block as usize, num_blocks - 1)?;
        }
        Ok(())
    }

    /// The row of a token. Rows of tokens up to the next multiple of [`BLOCK`] follow it.
    #[inline(always)]
    pub(super) fn row(&self, kv_heads: usize, kv_head: usize, token: usize) -> usize {
        let block = self.block_table[token / self.block_size] as usize;
        (block * kv_heads + kv_head) * self.block_size + token % self.block_size
    }

    /// Where a token's row lies, or anything where there is no such token.
    #[inline(always)]
    pub(super) fn address(
        &self,
        kv_heads: usize,
        kv_head: usize,
        token: usize,
        head_dim: usize,
    ) -> *const u8 {
        if token / self.block_size >= self.block_table.len() {
            return std::ptr::null();
        }
        let row = self.row(kv_heads, kv_head, token);
        match self.elements {
            KvElements::Dense(elements) => elements.address(row * head_dim),
            KvElements::Int8 { codes, .. } => codes.as_ptr().wrapping_add(row * head_dim),
            KvElements::Int4 { codes, .. } => codes.as_ptr().wrapping_add(row * head_dim / 2),
        }
    }

    /// A token's row in f32, for the reference.
    pub(super) fn read(&self, kv_heads: usize, kv_head: usize, token: usize, out: &mut [f32]) {
        fn widen<T: Element>(from: &[T], to: &mut [f32]) {
            for (to, from) in to.iter_mut().zip(from) {
                *to = from.widen();
            }
        }
        let (row, dim) = (self.row(kv_heads, kv_head, token), out.len());
        match self.elements {
            KvElements::Dense(Elements::F32(x)) => widen(&x[row * dim..], out),
            KvElements::Dense(Elements::F16(x)) => widen(&x[row * dim..], out),
            KvElements::Dense(Elements::Bf16(x)) => widen(&x[row * dim..], out),
            KvElements::Int8 { .. } | KvElements::Int4 { .. } => {
                self.elements.dequantize(row, 1, out);
            }
        }
    }
}

impl KvElements<'_> {
    /// The values of quantized rows from `row` on.
    ///
    /// # Shapes
    /// - out: `(rows, head_dim)`
    #[inline(always)]
    pub(super) fn dequantize(&self, row: usize, rows: usize, out: &mut [f32]) {
        let dim = out.len() / rows;
        match *self {
            KvElements::Dense(_) => {}
            KvElements::Int8 { codes, steps } => {
                let codes = codes[row * dim..].chunks_exact(dim);
                let steps = &steps[row..row + rows];
                for ((out, codes), &[scale, zero]) in
                    out.chunks_exact_mut(dim).zip(codes).zip(steps)
                {
                    for (out, &code) in out.iter_mut().zip(codes) {
                        *out = (f32::from(code) - zero) * scale;
                    }
                }
            }
            KvElements::Int4 { codes, steps } => {
                let half = dim / 2;
                let codes = codes[row * half..].chunks_exact(half);
                let steps = &steps[row..row + rows];
                for ((out, codes), &[scale, zero]) in
                    out.chunks_exact_mut(dim).zip(codes).zip(steps)
                {
                    let (low, high) = out.split_at_mut(half);
                    for (out, &code) in low.iter_mut().zip(codes) {
                        *out = (f32::from(code & 15) - zero) * scale;
                    }
                    for (out, &code) in high.iter_mut().zip(codes) {
                        *out = (f32::from(code >> 4) - zero) * scale;
                    }
                }
            }
        }
    }
}

//! Packed tensors from codes, range of rows by range of rows.

use std::ops::Range;

use candle_core::{Device, Tensor};
use half::f16;
use internlm_kernels::{PackedShape, ScaleType, ZeroType};

use super::{PackedTensors, TensorCodes, TensorOrder, TensorZeros};
use crate::codes::{Codes, Zeros};
use crate::error::{Error, Result};
use crate::packed::{check_form, check_order};

/// Rows that a thread is asked for at once: few enough that their codes take little memory.
const STRIPE: usize = 256;

/// Packs a matrix for a device range of rows by range of rows, as
/// [`PackedBuilder`](crate::PackedBuilder) does for the kernels. What was packed waits in the memory of the
/// host until the matrix is whole.
#[derive(Debug)]
pub struct PackedTensorsBuilder {
    shape: PackedShape,
    order: Option<Vec<u32>>,
    /// Rows that are packed.
    rows: usize,
    codes: Vec<u8>,
    scales: Scales,
    points: Vec<u8>,
    minimums: Vec<f32>,
}

#[derive(Debug)]
enum Scales {
    F16(Vec<f16>),
    F32(Vec<f32>),
}

impl PackedTensorsBuilder {
    /// Begins a matrix. Shape and order are as in [`PackedBuilder::new`](crate::PackedBuilder::new).
    ///
    /// # Errors
    /// [`Error::Codes`] for another number of bits than 4 and 8, groups of 0 columns and an order that is no
    /// permutation.
    pub fn new(shape: PackedShape, order: Option<Vec<u32>>) -> Result<PackedTensorsBuilder> {
        check_order(order.as_deref(), shape.k)?;
        if !matches!(shape.bits, 4 | 8) {
            let message = format!("{} bits, 4 and 8 are known", shape.bits);
            return Err(wrong("bits", message));
        }
        if shape.group_size == 0 {
            return Err(wrong("group_size", "must not be 0".to_owned()));
        }
        Ok(PackedTensorsBuilder {
            shape,
            order,
            rows: 0,
            codes: Vec::new(),
            scales: match shape.scales {
                ScaleType::F16 => Scales::F16(Vec::new()),
                ScaleType::F32 => Scales::F32(Vec::new()),
            },
            points: Vec::new(),
            minimums: Vec::new(),
        })
    }

    /// Appends rows.
    ///
    /// # Errors
    /// [`Error::Codes`] for codes that contradict themselves or differ from the matrix in form or order,
    /// for more rows than it has, and for scales that half precision doesn't hold.
    pub fn push(&mut self, codes: &Codes) -> Result<()> {
        codes.check()?;
        check_form(self.shape, self.order.as_deref(), codes)?;
        if codes.rows > self.shape.n - self.rows {
            let message = format!(
                "{} more than the {} that are left",
                codes.rows,
                self.shape.n - self.rows
            );
            return Err(wrong("rows", message));
        }
        match &mut self.scales {
            Scales::F32(scales) => scales.extend_from_slice(&codes.scales),
            Scales::F16(scales) => {
                if ScaleType::of(&codes.scales) != ScaleType::F16 {
                    return Err(wrong("scales", "a scale is no f16".to_owned()));
                }
                scales.extend(codes.scales.iter().map(|&scale| f16::from_f32(scale)));
            }
        }
        match (&codes.zeros, self.shape.zeros) {
            (Zeros::Points(points), ZeroType::Constant(constant)) => {
                if let Some(point) = points.iter().find(|&&point| point != constant) {
                    return Err(wrong(
                        "zeros",
                        format!("{point}, the matrix has {constant}"),
                    ));
                }
            }
            (Zeros::Points(points), _) => self.points.extend_from_slice(points),
            (Zeros::Minimums(minimums), _) => self.minimums.extend_from_slice(minimums),
        }
        let row_bytes = self.row_bytes();
        for row in codes.codes.chunks_exact(self.shape.k.max(1)) {
            let end = self.codes.len() + row_bytes;
            match self.shape.bits {
                4 => {
                    let pairs = row.chunks(2);
                    let byte = |pair: &[u8]| pair[0] | pair.get(1).map_or(0, |code| code << 4);
                    self.codes.extend(pairs.map(byte));
                }
                _ => self.codes.extend_from_slice(row),
            }
            self.codes.resize(end, 0);
        }
        self.rows += codes.rows;
        Ok(())
    }

    /// Appends rows on several threads, as [`push`](PackedTensorsBuilder::push) would. `codes` gives ranges
    /// of these rows, counted from the first of them; a thread asks for no more than 256 at a time.
    ///
    /// # Errors
    /// What `codes` fails with, the errors of [`push`](PackedTensorsBuilder::push), and [`Error::Codes`]
    /// unless `codes` gives as many rows as it is asked for. The matrix is incomplete then.
    pub fn push_parallel<E>(
        &mut self,
        rows: usize,
        threads: usize,
        codes: impl Fn(Range<usize>) -> Result<Codes, E> + Sync,
    ) -> Result<(), E>
    where
        E: From<Error> + Send,
    {
        let stripes = (0..rows).step_by(STRIPE);
        let stripes: Vec<_> = stripes.map(|row| row..rows.min(row + STRIPE)).collect();
        for stripes in stripes.chunks(threads.max(1)) {
            let codes = &codes;
            let parts: Vec<_> = std::thread::scope(|scope| {
                let (first, others) = (&stripes[0], &stripes[1..]);
                let others: Vec<_> = others
                    .iter()
                    .map(|stripe| scope.spawn(move || codes(stripe.clone())))
                    .collect();
                let first = codes(first.clone());
                let others = others.into_iter().map(|other| {
                    let other = other.join();
                    other.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                });
                std::iter::once(first).chain(others).collect()
            });
            for (stripe, part) in stripes.iter().zip(parts) {
                let part = part?;
                if part.rows != stripe.len() {
                    let message = format!("{} came, {} were asked for", part.rows, stripe.len());
                    return Err(wrong("rows", message).into());
                }
                self.push(&part)?;
            }
        }
        Ok(())
    }

    /// The matrix, on a device.
    ///
    /// # Errors
    /// [`Error::Codes`] where rows are missing, [`Error::Tensor`] where the device has no memory left.
    pub fn finish(self, device: &Device) -> Result<PackedTensors> {
        let (rows, columns, groups) = (self.shape.n, self.shape.k, self.shape.groups());
        if self.rows != rows {
            return Err(wrong("rows", format!("{} of {rows} are packed", self.rows)));
        }
        let (row_bytes, group_size) = (self.row_bytes(), self.group_size());
        let codes = Tensor::from_vec(self.codes, (rows, row_bytes), device)?;
        let per_group = (rows, groups);
        Ok(PackedTensors {
            rows,
            columns,
            group_size,
            codes: match self.shape.bits {
                4 => TensorCodes::Nibbles {
                    packed: codes,
                    table: table(device)?,
                },
                _ => TensorCodes::Bytes(codes),
            },
            scales: match self.scales {
                Scales::F16(scales) => Tensor::from_vec(scales, per_group, device)?,
                Scales::F32(scales) => Tensor::from_vec(scales, per_group, device)?,
            },
            zeros: match self.shape.zeros {
                ZeroType::Constant(point) => TensorZeros::Constant(point),
                ZeroType::Points => {
                    TensorZeros::Points(Tensor::from_vec(self.points, per_group, device)?)
                }
                ZeroType::Minimums => {
                    TensorZeros::Minimums(Tensor::from_vec(self.minimums, per_group, device)?)
                }
            },
            order: self
                .order
                .map(|order| on_device(order, device))
                .transpose()?,
        })
    }

    /// Columns of a group. One that covers a row has no more of them than the row.
    fn group_size(&self) -> usize {
        self.shape.group_size.min(self.shape.k.max(1))
    }

    /// Bytes of a row with all columns of its last group.
    fn row_bytes(&self) -> usize {
        let columns = self.shape.groups() * self.group_size();
        match self.shape.bits {
            4 => columns.div_ceil(2),
            _ => columns,
        }
    }
}

/// The two codes of each byte, in f32.
fn table(device: &Device) -> Result<Tensor> {
    let codes = (0..=u8::MAX).flat_map(|byte| [byte & 15, byte >> 4]);
    let codes: Vec<f32> = codes.map(f32::from).collect();
    Ok(Tensor::from_vec(codes, (256, 2), device)?)
}

fn on_device(order: Vec<u32>, device: &Device) -> Result<TensorOrder> {
    let columns = order.len();
    let mut column_of = vec![0u32; columns];
    for (column, &feature) in order.iter().enumerate() {
        column_of[feature as usize] = column as u32;
    }
    Ok(TensorOrder {
        feature_of: Tensor::from_vec(order, columns, device)?,
        column_of: Tensor::from_vec(column_of, columns, device)?,
    })
}

fn wrong(what: &'static str, message: String) -> Error {
    Error::Codes { what, message }
}

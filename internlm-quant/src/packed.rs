//! Weights of 4 or 8 bits in the order that the CPU kernels read.

mod parallel;

use std::ops::Range;

use candle_core::{Device, Tensor};
use internlm_kernels::{
    Activation, Compute, PackedMatrix, PackedRows, PackedShape, PackedZeros, ScaleType, ZeroType,
    packed_matmul,
};

use crate::codes::{Codes, Zeros};
use crate::error::{Error, Result};

/// A matrix of codes, packed: about 4.19 bits a weight for 4-bit codes in groups of 128.
///
/// It holds what [`Codes`] say, exactly; scales are stored in half precision where that loses
/// nothing.
#[derive(Clone, Debug)]
pub struct PackedWeight {
    matrix: PackedMatrix,
    order: Option<Vec<u32>>,
}

impl PackedWeight {
    /// Packs a whole matrix.
    ///
    /// # Errors
    /// [`Error::Codes`] for codes that contradict themselves, [`Error::Kernel`] for a group of more
    /// than 65536 inputs.
    pub fn from_codes(codes: &Codes) -> Result<PackedWeight> {
        codes.check()?;
        let mut builder = PackedBuilder::new(shape(codes), codes.order.clone())?;
        builder.push_checked(codes)?;
        builder.finish()
    }

    /// A weight of a matrix that is packed already. `order` is as in [`Codes::order`].
    ///
    /// # Errors
    /// [`Error::Codes`] for an order that is no permutation.
    pub fn from_matrix(matrix: PackedMatrix, order: Option<Vec<u32>>) -> Result<PackedWeight> {
        check_order(order.as_deref(), matrix.shape().k)?;
        Ok(PackedWeight { matrix, order })
    }

    /// `(out_features, in_features)`.
    pub fn shape(&self) -> (usize, usize) {
        let PackedShape { n, k, .. } = self.matrix.shape();
        (n, k)
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.matrix.bytes() + self.order.as_deref().map_or(0, size_of_val)
    }

    /// The matrix that kernels read; its inputs are in the order of [`PackedWeight::order`].
    pub fn matrix(&self) -> &PackedMatrix {
        &self.matrix
    }

    /// The input feature of each column, where columns are not in the order of the features.
    pub fn order(&self) -> Option<&[u32]> {
        self.order.as_deref()
    }

    /// The values in f32 on the CPU, columns in the order of the features.
    ///
    /// # Shapes
    /// - out: `(out_features, in_features)`
    ///
    /// # Errors
    /// A failed operation.
    pub fn dequantize(&self) -> Result<Tensor> {
        let (rows, columns) = self.shape();
        let mut values = vec![0.0; rows * columns];
        self.matrix.dequantize(0..rows, &mut values)?;
        self.values(values, rows)
    }

    /// The values of some rows, as [`dequantize`](PackedWeight::dequantize) gives them.
    ///
    /// # Shapes
    /// - out: `(rows.len(), in_features)`
    ///
    /// # Errors
    /// [`Error::Kernel`] for a row that is not there.
    pub fn rows(&self, rows: &[u32]) -> Result<Tensor> {
        let (_, columns) = self.shape();
        let mut values = vec![0.0; rows.len() * columns];
        for (&row, values) in rows.iter().zip(values.chunks_exact_mut(columns.max(1))) {
            let row = row as usize;
            self.matrix.dequantize(row..row + 1, values)?;
        }
        self.values(values, rows.len())
    }

    /// A tensor of values whose columns are in the order of the matrix.
    fn values(&self, mut values: Vec<f32>, rows: usize) -> Result<Tensor> {
        let (_, columns) = self.shape();
        if let Some(order) = &self.order {
            let mut row = vec![0.0; columns];
            for values in values.chunks_exact_mut(columns.max(1)) {
                row.copy_from_slice(values);
                for (&feature, &value) in order.iter().zip(&row) {
                    values[feature as usize] = value;
                }
            }
        }
        Ok(Tensor::from_vec(values, (rows, columns), &Device::Cpu)?)
    }

    /// `x · weightᵀ + bias`.
    ///
    /// # Shapes
    /// - x: `(m, in_features)`
    /// - bias: `(out_features)`
    /// - out: `(m, out_features)`
    ///
    /// # Errors
    /// A slice of another length.
    pub(crate) fn matmul(
        &self,
        x: &[f32],
        bias: Option<&[f32]>,
        compute: &Compute,
        activation: Activation,
        out: &mut [f32],
        m: usize,
    ) -> Result<()> {
        let ordered: Vec<f32>;
        let x = match &self.order {
            None => x,
            Some(order) => {
                let rows = x.chunks_exact(order.len().max(1));
                ordered = rows
                    .flat_map(|row| order.iter().map(|&feature| row[feature as usize]))
                    .collect();
                &ordered
            }
        };
        Ok(packed_matmul(
            compute,
            x,
            &self.matrix,
            bias,
            activation,
            out,
            m,
        )?)
    }
}

/// Refuses an order that is no permutation.
pub(crate) fn check_order(order: Option<&[u32]>, columns: usize) -> Result<()> {
    let Some(order) = order else { return Ok(()) };
    let mut sorted = order.to_vec();
    sorted.sort_unstable();
    let is_permutation = sorted.len() == columns
        && (0..columns)
            .zip(&sorted)
            .all(|(k, &column)| column as usize == k);
    if is_permutation {
        return Ok(());
    }
    Err(Error::Codes {
        what: "order",
        message: format!("no permutation of {columns} columns"),
    })
}

/// The form that holds these codes.
pub(crate) fn shape(codes: &Codes) -> PackedShape {
    PackedShape {
        n: codes.rows,
        k: codes.columns,
        bits: codes.bits,
        group_size: codes.group_size,
        scales: ScaleType::of(&codes.scales),
        zeros: zero_type(codes),
    }
}

fn zero_type(codes: &Codes) -> ZeroType {
    match &codes.zeros {
        Zeros::Points(points) => match points.split_first() {
            Some((first, rest)) if rest.iter().all(|point| point == first) => {
                ZeroType::Constant(*first)
            }
            _ => ZeroType::Points,
        },
        Zeros::Minimums(_) => ZeroType::Minimums,
    }
}

/// Packs a matrix range of rows by range of rows, so that no more of it need be unpacked at once.
/// Parts of a fused matrix are such ranges.
#[derive(Debug)]
pub struct PackedBuilder {
    weight: PackedWeight,
    /// Rows that are packed.
    rows: usize,
}

impl PackedBuilder {
    /// Begins a matrix. `shape.scales` must be [`ScaleType::F32`] unless all scales to come are
    /// exactly half precision, and `shape.zeros` no constant unless it is every zero point to come. `order` is as in [`Codes::order`].
    ///
    /// # Errors
    /// [`Error::Kernel`] for a form that can't be, [`Error::Codes`] for an order that is no permutation.
    pub fn new(shape: PackedShape, order: Option<Vec<u32>>) -> Result<PackedBuilder> {
        Ok(PackedBuilder {
            weight: PackedWeight::from_matrix(PackedMatrix::new(shape)?, order)?,
            rows: 0,
        })
    }

    /// Appends rows.
    ///
    /// # Errors
    /// [`Error::Codes`] for codes that contradict themselves or differ from the matrix in form or
    /// order, [`Error::Kernel`] for more rows than it has and for scales that half precision doesn't
    /// hold.
    pub fn push(&mut self, codes: &Codes) -> Result<()> {
        codes.check()?;
        self.push_checked(codes)
    }

    fn push_checked(&mut self, codes: &Codes) -> Result<()> {
        check_form(self.weight.matrix.shape(), self.weight.order(), codes)?;
        let rows = rows_of(codes, 0..codes.rows);
        self.weight.matrix.fill(self.rows, rows)?;
        self.rows += codes.rows;
        Ok(())
    }

    /// The matrix.
    ///
    /// # Errors
    /// [`Error::Codes`] where rows are missing.
    pub fn finish(self) -> Result<PackedWeight> {
        let (rows, _) = self.weight.shape();
        if self.rows == rows {
            Ok(self.weight)
        } else {
            Err(Error::Codes {
                what: "rows",
                message: format!("{} of {rows} are packed", self.rows),
            })
        }
    }
}

/// Checks that codes can be rows of a packed matrix of this form and order.
pub(crate) fn check_form(shape: PackedShape, order: Option<&[u32]>, codes: &Codes) -> Result<()> {
    let differ = |what, got: String, want: String| {
        let message = format!("{got}, the packed matrix has {want}");
        Err(Error::Codes { what, message })
    };
    // A group that covers the row is the same for every larger size.
    let group = |size: usize| size.min(shape.k.max(1));
    for (what, got, want) in [
        ("columns", codes.columns, shape.k),
        ("bits", codes.bits as usize, shape.bits as usize),
        (
            "group_size",
            group(codes.group_size),
            group(shape.group_size),
        ),
    ] {
        if got != want {
            return differ(what, got.to_string(), want.to_string());
        }
    }
    // Whether points are a constant is checked with their values.
    let (got, fits) = match codes.zeros {
        Zeros::Points(_) => ("points", shape.zeros != ZeroType::Minimums),
        Zeros::Minimums(_) => ("minimums", shape.zeros == ZeroType::Minimums),
    };
    if !fits {
        return differ("zeros", got.to_owned(), format!("{:?}", shape.zeros));
    }
    if codes.order.as_deref() != order {
        return differ("order", "one order".to_owned(), "another".to_owned());
    }
    Ok(())
}

/// A range of rows, as kernels take them. Lengths were checked.
fn rows_of(codes: &Codes, rows: Range<usize>) -> PackedRows<'_> {
    let of = |row: usize| rows.start * row..rows.end * row;
    let groups = of(codes.groups());
    PackedRows {
        codes: &codes.codes[of(codes.columns)],
        scales: &codes.scales[groups.clone()],
        zeros: match &codes.zeros {
            Zeros::Points(points) => PackedZeros::Points(&points[groups]),
            Zeros::Minimums(minimums) => PackedZeros::Minimums(&minimums[groups]),
        },
    }
}

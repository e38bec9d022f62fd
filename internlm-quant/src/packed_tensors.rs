//! Weights of 4 or 8 bits as tensors, for devices that our kernels don't run on.
//!
//! The packed tensors are all that stays on the device. A product dequantizes them with operations that
//! candle has on every device, and drops the dense matrix after it. Candle's tensors have no shifts, so
//! the two codes of a byte are looked up in a table. The indices of that table are u32: `index_select`
//! takes the largest number of an index type for "no row" and would read the byte 255 as zeros.

mod builder;

use candle_core::{DType, Device, Tensor};

use crate::codes::Codes;
use crate::error::{Error, Result};
use crate::packed::shape;
pub use builder::PackedTensorsBuilder;

/// A matrix of codes as tensors: 4.19 bits a weight for 4-bit codes with zero points and scales of f16
/// in groups of 128.
///
/// It holds what [`Codes`] say, exactly, and on the CPU its values are those of
/// [`PackedWeight`](crate::PackedWeight) to the last bit.
#[derive(Clone, Debug)]
pub struct PackedTensors {
    rows: usize,
    columns: usize,
    /// Columns of a group; columns behind the last, which fill the last group, are not used.
    group_size: usize,
    codes: TensorCodes,
    /// `(rows, groups)`, f16 or f32
    scales: Tensor,
    zeros: TensorZeros,
    order: Option<TensorOrder>,
}

#[derive(Clone, Debug)]
enum TensorCodes {
    /// `(rows, columns of all groups)`, u8
    Bytes(Tensor),
    Nibbles {
        /// `(rows, columns of all groups / 2)`, rounded up, u8: the lower half is the first code.
        packed: Tensor,
        /// `(256, 2)`, f32: the codes of a byte.
        table: Tensor,
    },
}

/// As [`Zeros`](crate::Zeros).
#[derive(Clone, Debug)]
enum TensorZeros {
    /// The code of 0.0, the same of all groups.
    Constant(u8),
    /// `(rows, groups)`, u8
    Points(Tensor),
    /// `(rows, groups)`, f32
    Minimums(Tensor),
}

/// `(columns)` each, u32.
#[derive(Clone, Debug)]
struct TensorOrder {
    /// The input feature of each column.
    feature_of: Tensor,
    /// The column of each input feature.
    column_of: Tensor,
}

impl PackedTensors {
    /// Packs a whole matrix.
    ///
    /// # Errors
    /// [`Error::Codes`] for codes that contradict themselves, [`Error::Tensor`] where the device has no
    /// memory left.
    pub fn from_codes(codes: &Codes, device: &Device) -> Result<PackedTensors> {
        codes.check()?;
        let mut builder = PackedTensorsBuilder::new(shape(codes), codes.order.clone())?;
        builder.push(codes)?;
        builder.finish(device)
    }

    /// `(out_features, in_features)`.
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }

    /// Where it is.
    pub fn device(&self) -> &Device {
        self.scales.device()
    }

    /// Bytes in the memory of the device.
    pub fn bytes(&self) -> usize {
        let bytes = |tensor: &Tensor| tensor.elem_count() * tensor.dtype().size_in_bytes();
        let codes = match &self.codes {
            TensorCodes::Bytes(codes) => bytes(codes),
            TensorCodes::Nibbles { packed, table } => bytes(packed) + bytes(table),
        };
        let zeros = match &self.zeros {
            TensorZeros::Constant(_) => 0,
            TensorZeros::Points(zeros) | TensorZeros::Minimums(zeros) => bytes(zeros),
        };
        let order = self.order.as_ref();
        let order = order.map_or(0, |o| bytes(&o.feature_of) + bytes(&o.column_of));
        codes + bytes(&self.scales) + zeros + order
    }

    /// The values on the device, columns in the order of the features. They are computed in f32 and
    /// rounded to `dtype`.
    ///
    /// # Shapes
    /// - out: `(out_features, in_features)`
    ///
    /// # Errors
    /// A failed operation.
    pub fn dequantize(&self, dtype: DType) -> Result<Tensor> {
        self.in_order(self.values(None, dtype)?)
    }

    /// The values of some rows in f32, as [`dequantize`](PackedTensors::dequantize) gives them.
    ///
    /// # Shapes
    /// - out: `(rows.len(), in_features)`
    ///
    /// # Errors
    /// [`Error::Shape`] for a row that is not there.
    pub fn rows(&self, rows: &[u32]) -> Result<Tensor> {
        // Not left to the device: a kernel of CUDA would end the program.
        if let Some(&row) = rows.iter().find(|&&row| row as usize >= self.rows) {
            return Err(Error::Shape {
                what: "the row",
                got: vec![row as usize],
                want: format!("less than {}", self.rows),
            });
        }
        let rows = Tensor::new(rows, self.device())?;
        self.in_order(self.values(Some(&rows), DType::F32)?)
    }

    /// `x · weightᵀ`, in the dtype of x, with gradients for x.
    ///
    /// # Shapes
    /// - x: `(m, in_features)`
    /// - out: `(m, out_features)`
    ///
    /// # Errors
    /// A failed operation, such as one with x on another device.
    pub(crate) fn matmul(&self, x: &Tensor) -> Result<Tensor> {
        let weight = self.values(None, x.dtype())?.t()?;
        Ok(match &self.order {
            None => x.matmul(&weight)?,
            // There are fewer rows of x than of the weight.
            Some(order) => x
                .contiguous()?
                .index_select(&order.feature_of, 1)?
                .matmul(&weight)?,
        })
    }

    /// Moves columns to where their features are.
    fn in_order(&self, values: Tensor) -> Result<Tensor> {
        match &self.order {
            None => Ok(values),
            Some(order) => Ok(values.index_select(&order.column_of, 1)?),
        }
    }

    /// The values of all or some rows, columns as they are stored.
    ///
    /// # Shapes
    /// - rows: `(m)`, u32
    /// - out: `(m, in_features)`, contiguous
    fn values(&self, rows: Option<&Tensor>, dtype: DType) -> Result<Tensor> {
        let computed = self.dtype_for(dtype);
        let part = |tensor: &Tensor| match rows {
            None => Ok(tensor.clone()),
            Some(rows) => tensor.index_select(rows, 0),
        };
        // (m, groups, 1): broadcast over the columns of a group.
        let of_groups = |tensor: &Tensor| part(tensor)?.to_dtype(computed)?.unsqueeze(2);
        let codes = match &self.codes {
            TensorCodes::Bytes(codes) => part(codes)?.to_dtype(computed)?,
            TensorCodes::Nibbles { packed, table } => {
                unpack(&part(packed)?, &table.to_dtype(computed)?)?
            }
        };
        let (count, (_, groups)) = (codes.dim(0)?, self.scales.dims2()?);
        let width = groups * self.group_size;
        // Assigned again and again, so that no more than two dense matrices are there at a time.
        let mut values = columns(codes, width)?.reshape((count, groups, self.group_size))?;
        match &self.zeros {
            TensorZeros::Constant(0) | TensorZeros::Minimums(_) => {}
            TensorZeros::Constant(point) => values = (values - f64::from(*point))?,
            TensorZeros::Points(points) => values = values.broadcast_sub(&of_groups(points)?)?,
        }
        values = values.broadcast_mul(&of_groups(&self.scales)?)?;
        if let TensorZeros::Minimums(minimums) = &self.zeros {
            values = values.broadcast_add(&of_groups(minimums)?)?;
        }
        values = columns(values.reshape((count, width))?, self.columns)?;
        Ok(values.to_dtype(dtype)?)
    }

    /// What to compute in for values in `dtype`. f16 takes half the memory of f32, and loses nothing where
    /// the scale is an f16 and all that happens to it is one product with a small integer: f32 holds that
    /// exactly, so that both are rounded to f16 once.
    fn dtype_for(&self, dtype: DType) -> DType {
        match (dtype, self.scales.dtype(), &self.zeros) {
            (_, _, TensorZeros::Minimums(_)) => DType::F32,
            (DType::F16, DType::F16, _) => DType::F16,
            _ => DType::F32,
        }
    }
}

/// The codes of bytes.
///
/// # Shapes
/// - packed: `(m, bytes)`, u8
/// - table: `(256, 2)`
/// - out: `(m, 2 * bytes)`, in the dtype of the table
fn unpack(packed: &Tensor, table: &Tensor) -> Result<Tensor> {
    let (count, bytes) = packed.dims2()?;
    let ids = packed.flatten_all()?.to_dtype(DType::U32)?;
    Ok(table.index_select(&ids, 0)?.reshape((count, 2 * bytes))?)
}

/// The first columns, contiguous.
fn columns(values: Tensor, columns: usize) -> Result<Tensor> {
    if values.dim(1)? == columns {
        return Ok(values);
    }
    Ok(values.narrow(1, 0, columns)?.contiguous()?)
}

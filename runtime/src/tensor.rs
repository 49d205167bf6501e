//! A dense tensor on the host, row-major.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Element type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 32-bit IEEE float.
    F32,
    /// 64-bit signed integer (shapes and indices).
    I64,
    /// 32-bit signed integer.
    I32,
    /// 8-bit unsigned integer.
    U8,
    /// 8-bit signed integer.
    I8,
    /// Boolean, one byte each.
    Bool,
}

impl Dtype {
    /// Bytes of one element.
    pub const fn bytes(self) -> usize {
        match self {
            Dtype::F32 | Dtype::I32 => 4,
            Dtype::I64 => 8,
            Dtype::U8 | Dtype::I8 | Dtype::Bool => 1,
        }
    }

    /// Number of this type in ONNX files (`TensorProto.DataType`).
    pub const fn to_onnx(self) -> i32 {
        match self {
            Dtype::F32 => 1,
            Dtype::U8 => 2,
            Dtype::I8 => 3,
            Dtype::I32 => 6,
            Dtype::I64 => 7,
            Dtype::Bool => 9,
        }
    }

    /// The type with that number in ONNX files, or `None` when it is not supported.
    pub const fn from_onnx(number: i64) -> Option<Self> {
        match number {
            1 => Some(Dtype::F32),
            2 => Some(Dtype::U8),
            3 => Some(Dtype::I8),
            6 => Some(Dtype::I32),
            7 => Some(Dtype::I64),
            9 => Some(Dtype::Bool),
            _ => None,
        }
    }
}

/// The elements of a tensor. Shared, so that cloning a graph copies no weights.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// 32-bit floats.
    F32(Arc<[f32]>),
    /// 64-bit integers.
    I64(Arc<[i64]>),
    /// 32-bit integers.
    I32(Arc<[i32]>),
    /// Unsigned bytes.
    U8(Arc<[u8]>),
    /// Signed bytes.
    I8(Arc<[i8]>),
    /// Booleans.
    Bool(Arc<[bool]>),
    /// Only type and shape are known: a graph lowered without weights, good for counting but not for running.
    Unset(Dtype),
}

impl Data {
    /// Element type.
    pub fn dtype(&self) -> Dtype {
        match self {
            Data::F32(_) => Dtype::F32,
            Data::I64(_) => Dtype::I64,
            Data::I32(_) => Dtype::I32,
            Data::U8(_) => Dtype::U8,
            Data::I8(_) => Dtype::I8,
            Data::Bool(_) => Dtype::Bool,
            Data::Unset(dtype) => *dtype,
        }
    }

    /// Number of elements held, or `None` for [`Data::Unset`].
    pub fn len(&self) -> Option<usize> {
        match self {
            Data::F32(v) => Some(v.len()),
            Data::I64(v) => Some(v.len()),
            Data::I32(v) => Some(v.len()),
            Data::U8(v) => Some(v.len()),
            Data::I8(v) => Some(v.len()),
            Data::Bool(v) => Some(v.len()),
            Data::Unset(_) => None,
        }
    }

    /// Whether elements are held and there are none of them.
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }
}

/// A dense row-major tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: Data,
}

impl Tensor {
    /// A tensor of `shape` over `data`.
    ///
    /// # Errors
    /// [`Error::ElementCount`] when the product of `shape` is not the number of elements.
    pub fn new(shape: Vec<usize>, data: Data) -> Result<Self> {
        let want = element_count(&shape).ok_or_else(|| Error::TooLarge { shape: shape.clone() })?;
        match data.len() {
            Some(got) if got != want => Err(Error::ElementCount { shape, want, got }),
            _ => Ok(Self { shape, data }),
        }
    }

    /// A float tensor.
    ///
    /// # Errors
    /// As [`Tensor::new`].
    pub fn f32(shape: impl Into<Vec<usize>>, data: impl Into<Arc<[f32]>>) -> Result<Self> {
        Self::new(shape.into(), Data::F32(data.into()))
    }

    /// A 64-bit integer tensor.
    ///
    /// # Errors
    /// As [`Tensor::new`].
    pub fn i64(shape: impl Into<Vec<usize>>, data: impl Into<Arc<[i64]>>) -> Result<Self> {
        Self::new(shape.into(), Data::I64(data.into()))
    }

    /// A tensor of which only type and shape are known.
    pub fn unset(shape: impl Into<Vec<usize>>, dtype: Dtype) -> Self {
        Self { shape: shape.into(), data: Data::Unset(dtype) }
    }

    /// Extents, outermost first; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Element type.
    pub fn dtype(&self) -> Dtype {
        self.data.dtype()
    }

    /// The elements.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// Number of elements the shape asks for.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The elements as floats, or `None` when they are of another type or unset.
    pub fn as_f32(&self) -> Option<&[f32]> {
        match &self.data {
            Data::F32(v) => Some(v),
            _ => None,
        }
    }

    /// The elements as 64-bit integers, or `None` when they are of another type or unset.
    pub fn as_i64(&self) -> Option<&[i64]> {
        match &self.data {
            Data::I64(v) => Some(v),
            _ => None,
        }
    }
}

/// Product of the extents, or `None` when it overflows.
pub fn element_count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |product, extent| product.checked_mul(*extent))
}

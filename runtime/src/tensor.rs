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
    /// 16-bit IEEE float.
    F16,
    /// The upper 16 bits of a 32-bit IEEE float.
    Bf16,
    /// 64-bit IEEE float.
    F64,
    /// 16-bit signed integer.
    I16,
    /// 16-bit unsigned integer.
    U16,
    /// 32-bit unsigned integer.
    U32,
    /// 64-bit unsigned integer.
    U64,
}

impl Dtype {
    /// Bytes of one element.
    pub const fn bytes(self) -> usize {
        match self {
            Dtype::F32 | Dtype::I32 | Dtype::U32 => 4,
            Dtype::I64 | Dtype::U64 | Dtype::F64 => 8,
            Dtype::F16 | Dtype::Bf16 | Dtype::I16 | Dtype::U16 => 2,
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
            Dtype::U16 => 4,
            Dtype::I16 => 5,
            Dtype::F16 => 10,
            Dtype::F64 => 11,
            Dtype::U32 => 12,
            Dtype::U64 => 13,
            Dtype::Bf16 => 16,
        }
    }

    /// Whether elements are floating-point numbers.
    pub const fn is_float(self) -> bool {
        matches!(self, Dtype::F32 | Dtype::F16 | Dtype::Bf16 | Dtype::F64)
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
            4 => Some(Dtype::U16),
            5 => Some(Dtype::I16),
            10 => Some(Dtype::F16),
            11 => Some(Dtype::F64),
            12 => Some(Dtype::U32),
            13 => Some(Dtype::U64),
            16 => Some(Dtype::Bf16),
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
    /// Elements of the other types, as the file has them: little-endian bytes. [`numbers`] reads them.
    Other(Dtype, Arc<[u8]>),
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
            Data::Other(dtype, _) | Data::Unset(dtype) => *dtype,
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
            Data::Other(dtype, v) => Some(v.len() / dtype.bytes()),
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

    /// A tensor of zeros (false where `dtype` is boolean).
    ///
    /// # Errors
    /// [`Error::TooLarge`] when the shape's product overflows.
    pub fn zeros(shape: impl Into<Vec<usize>>, dtype: Dtype) -> Result<Self> {
        let shape = shape.into();
        let count = shape.iter().try_fold(1usize, |product, extent| product.checked_mul(*extent));
        let bytes = count.and_then(|count| count.checked_mul(dtype.bytes()));
        let (Some(count), Some(bytes)) = (count, bytes) else { return Err(Error::TooLarge { shape }) };
        let data = match dtype {
            Dtype::F32 => Data::F32(vec![0.0; count].into()),
            Dtype::I64 => Data::I64(vec![0; count].into()),
            Dtype::I32 => Data::I32(vec![0; count].into()),
            Dtype::U8 => Data::U8(vec![0; count].into()),
            Dtype::I8 => Data::I8(vec![0; count].into()),
            Dtype::Bool => Data::Bool(vec![false; count].into()),
            other => Data::Other(other, vec![0; bytes].into()),
        };
        Self::new(shape, data)
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

/// A number out of a tensor, without loss but for 64-bit unsigned integers above the signed range, which are `None`
/// in [`numbers`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// Of a floating-point type.
    Float(f64),
    /// Of an integer type or a boolean.
    Int(i64),
}

/// The elements of a [`Data::Other`], each as one number; empty for the other kinds.
pub fn numbers(data: &Data) -> Vec<Option<Number>> {
    fn each<const N: usize>(bytes: &[u8], of: impl Fn([u8; N]) -> Option<Number>) -> Vec<Option<Number>> {
        bytes.as_chunks::<N>().0.iter().map(|chunk| of(*chunk)).collect()
    }
    let Data::Other(dtype, bytes) = data else { return Vec::new() };
    match dtype {
        Dtype::F16 => each(bytes, |b| Some(Number::Float(half_to_f64(u16::from_le_bytes(b))))),
        Dtype::Bf16 => each(bytes, |b| {
            Some(Number::Float(f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16).into()))
        }),
        Dtype::F64 => each(bytes, |b| Some(Number::Float(f64::from_le_bytes(b)))),
        Dtype::I16 => each(bytes, |b| Some(Number::Int(i16::from_le_bytes(b).into()))),
        Dtype::U16 => each(bytes, |b| Some(Number::Int(u16::from_le_bytes(b).into()))),
        Dtype::U32 => each(bytes, |b| Some(Number::Int(u32::from_le_bytes(b).into()))),
        Dtype::U64 => each(bytes, |b| i64::try_from(u64::from_le_bytes(b)).ok().map(Number::Int)),
        _ => Vec::new(),
    }
}

/// The value of 16 bits as an IEEE float of half precision.
pub fn half_to_f64(bits: u16) -> f64 {
    let sign = if bits >> 15 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
    sign * match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + fraction / 1024.0) * 2f64.powi(exponent - 15),
    }
}

/// The 16 bits of the IEEE float of half precision nearest to `value`, ties to even.
pub fn f32_to_half(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16 & 0x8000) as u16;
    let magnitude = value.abs();
    if value.is_nan() {
        return sign | 0x7e00;
    }
    if magnitude >= 65520.0 {
        return sign | 0x7c00;
    }
    if magnitude < 2f32.powi(-14) {
        // Subnormal: a multiple of 2^-24, which a float holds exactly once rounded.
        return sign | (magnitude * 2f32.powi(24)).round_ties_even() as u16;
    }
    let rounded = (bits & 0x7fff_ffff) + 0xfff + (bits >> 13 & 1);
    sign | ((rounded >> 13) - (112 << 10)) as u16
}

/// The upper 16 bits of `value`, rounded to the nearest, ties to even.
pub fn f32_to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// Product of the extents, or `None` when it overflows.
pub fn element_count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |product, extent| product.checked_mul(*extent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_round_to_the_nearest() {
        for (value, bits) in [
            (0.0, 0u16),
            (-2.0, 0xc000),
            (65504.0, 0x7bff),
            (65519.0, 0x7bff),
            (65520.0, 0x7c00),
            (1.0 + 1.0 / 2048.0, 0x3c00),
            (1.0 + 3.0 / 2048.0, 0x3c02),
            (2f32.powi(-24), 1),
            (2f32.powi(-14) * (1.0 - 1.0 / 4096.0), 0x400),
            (f32::NEG_INFINITY, 0xfc00),
        ] {
            assert_eq!(f32_to_half(value), bits, "{value}");
        }
        // Every half is its own nearest.
        for bits in (0..=u16::MAX).filter(|bits| !half_to_f64(*bits).is_nan()) {
            assert_eq!(f32_to_half(half_to_f64(bits) as f32), bits);
        }
        assert_eq!((f32_to_bf16(1.0), f32_to_bf16(1.0 + 1.0 / 256.0)), (0x3f80, 0x3f80));
        assert!(half_to_f64(f32_to_half(f32::NAN)).is_nan());
    }
}

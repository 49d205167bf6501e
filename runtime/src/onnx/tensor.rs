//! Tensors of the file format to tensors of ours.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::graph::RANK_MAX;
use crate::onnx::proto::TensorProto;
use crate::tensor::{Data, Dtype, Tensor, element_count};

/// The tensor called `name` in messages.
///
/// # Errors
/// [`Error::Unsupported`] for types we lack, external data and segments; [`Error::InvalidModel`] where
/// extents and elements disagree.
pub(super) fn tensor(proto: &TensorProto, name: &str) -> Result<Tensor> {
    let what = || format!("tensor '{name}'");
    let unsupported = |why: String| Err(Error::Unsupported { what: what(), why });
    if proto.data_location.unwrap_or(0) != 0 || !proto.external_data.is_empty() {
        return unsupported("its elements are in another file".into());
    }
    if proto.segment.is_some() {
        return unsupported("it is stored in segments".into());
    }
    let number = proto.data_type.unwrap_or(0);
    let Some(dtype) = Dtype::from_onnx(i64::from(number)) else {
        return unsupported(format!("it has the ONNX type number {number}"));
    };
    if proto.dims.len() > RANK_MAX {
        let (what, got) = (format!("the number of extents of tensor '{name}'"), proto.dims.len() as u64);
        return Err(Error::Limit { what, got, limit: RANK_MAX as u64 });
    }
    let mut shape = Vec::with_capacity(proto.dims.len());
    for extent in &proto.dims {
        let why = || format!("it has the extent {extent}");
        shape.push(usize::try_from(*extent).map_err(|_| Error::InvalidModel { what: what(), why: why() })?);
    }
    let data = match &proto.raw_data {
        Some(raw) => from_raw(raw, dtype, &shape, name)?,
        None => from_fields(proto, dtype, name)?,
    };
    let want = element_count(&shape).ok_or_else(|| Error::TooLarge { shape: shape.clone() })?;
    let got = data.len().unwrap_or(0);
    if got != want {
        let why = format!("its shape {shape:?} has {want} elements, but {got} are stored");
        return Err(Error::InvalidModel { what: what(), why });
    }
    Tensor::new(shape, data)
}

fn from_raw(raw: &[u8], dtype: Dtype, shape: &[usize], name: &str) -> Result<Data> {
    let want = element_count(shape).and_then(|count| count.checked_mul(dtype.bytes()));
    if want != Some(raw.len()) {
        let want = want.map_or("more bytes than can be addressed".into(), |want| format!("{want} bytes"));
        let why = format!("its shape {shape:?} needs {want}, but {} are stored", raw.len());
        return Err(Error::InvalidModel { what: format!("tensor '{name}'"), why });
    }
    // Little-endian by the standard; chunks are exact, because the length was checked above.
    Ok(match dtype {
        Dtype::F32 => Data::F32(chunks(raw, f32::from_le_bytes)),
        Dtype::I64 => Data::I64(chunks(raw, i64::from_le_bytes)),
        Dtype::I32 => Data::I32(chunks(raw, i32::from_le_bytes)),
        Dtype::U8 => Data::U8(raw.into()),
        Dtype::I8 => Data::I8(chunks(raw, i8::from_le_bytes)),
        Dtype::Bool => Data::Bool(raw.iter().map(|byte| *byte != 0).collect()),
        other => Data::Other(other, raw.into()),
    })
}

fn chunks<const N: usize, T>(raw: &[u8], decode: impl Fn([u8; N]) -> T) -> Arc<[T]> {
    let (whole, _) = raw.as_chunks::<N>();
    whole.iter().map(|bytes| decode(*bytes)).collect()
}

fn from_fields(proto: &TensorProto, dtype: Dtype, name: &str) -> Result<Data> {
    let small = |low: i32, high: i32| match proto.int32_data.iter().find(|v| !(low..=high).contains(*v)) {
        Some(bad) => Err(Error::InvalidModel {
            what: format!("tensor '{name}'"),
            why: format!("it holds {bad}, outside {low} to {high}"),
        }),
        None => Ok(proto.int32_data.iter()),
    };
    Ok(match dtype {
        Dtype::F32 => Data::F32(proto.float_data.as_slice().into()),
        Dtype::I64 => Data::I64(proto.int64_data.as_slice().into()),
        Dtype::I32 => Data::I32(proto.int32_data.as_slice().into()),
        Dtype::U8 => Data::U8(small(0, 255)?.map(|v| *v as u8).collect()),
        Dtype::I8 => Data::I8(small(-128, 127)?.map(|v| *v as i8).collect()),
        Dtype::Bool => Data::Bool(small(0, 1)?.map(|v| *v != 0).collect()),
        Dtype::F64 => Data::Other(dtype, proto.double_data.iter().flat_map(|v| v.to_le_bytes()).collect()),
        Dtype::U64 => Data::Other(dtype, proto.uint64_data.iter().flat_map(|v| v.to_le_bytes()).collect()),
        Dtype::U32 => {
            Data::Other(dtype, proto.uint64_data.iter().flat_map(|v| (*v as u32).to_le_bytes()).collect())
        }
        // 16-bit floats stand here as their bits.
        Dtype::I16 => {
            Data::Other(dtype, small(-32_768, 32_767)?.flat_map(|v| (*v as i16).to_le_bytes()).collect())
        }
        Dtype::U16 | Dtype::F16 | Dtype::Bf16 => {
            Data::Other(dtype, small(0, 65_535)?.flat_map(|v| (*v as u16).to_le_bytes()).collect())
        }
    })
}

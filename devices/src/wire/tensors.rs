//! Bytes and tensors as text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use masktas_runtime::{Data, Dtype, Tensor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::engine::Tensors;
use crate::error::{Error, Result};

/// Bytes that are base64 text in JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Base64(pub Vec<u8>);

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// A named tensor on its way: little-endian elements.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WireTensor {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    data: Base64,
}

/// Tensors as text.
///
/// # Errors
/// [`Error::Garbled`] for a tensor without elements.
pub fn to_wire(tensors: &[(String, Tensor)]) -> Result<Vec<WireTensor>> {
    let one = |(name, tensor): &(String, Tensor)| {
        let data: Vec<u8> = match tensor.data() {
            Data::F32(v) => v.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Data::I64(v) => v.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Data::I32(v) => v.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Data::U8(v) => v.to_vec(),
            Data::I8(v) => v.iter().map(|v| *v as u8).collect(),
            Data::Bool(v) => v.iter().map(|v| u8::from(*v)).collect(),
            Data::Other(_, v) => v.to_vec(),
            Data::Unset(_) => {
                return Err(Error::Garbled { reason: format!("tensor `{name}` has no elements") });
            }
        };
        let (name, shape) = (name.clone(), tensor.shape().to_vec());
        Ok(WireTensor { name, dtype: tensor.dtype(), shape, data: Base64(data) })
    };
    tensors.iter().map(one).collect()
}

/// Text as tensors.
///
/// # Errors
/// [`Error::Runtime`] when the elements do not fill the shape.
pub fn from_wire(tensors: &[WireTensor]) -> Result<Tensors> {
    fn whole<const N: usize, T>(bytes: &[u8], of: fn([u8; N]) -> T) -> Vec<T> {
        bytes.chunks_exact(N).filter_map(|chunk| Some(of(chunk.try_into().ok()?))).collect()
    }
    let one = |wire: &WireTensor| {
        let bytes = &wire.data.0;
        let data = match wire.dtype {
            Dtype::F32 => Data::F32(whole(bytes, f32::from_le_bytes).into()),
            Dtype::I64 => Data::I64(whole(bytes, i64::from_le_bytes).into()),
            Dtype::I32 => Data::I32(whole(bytes, i32::from_le_bytes).into()),
            Dtype::U8 => Data::U8(bytes.as_slice().into()),
            Dtype::I8 => Data::I8(bytes.iter().map(|b| *b as i8).collect()),
            Dtype::Bool => Data::Bool(bytes.iter().map(|b| *b != 0).collect()),
            other => Data::Other(other, bytes.as_slice().into()),
        };
        Ok((wire.name.clone(), Tensor::new(wire.shape.clone(), data)?))
    };
    tensors.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_of_every_type_arrive_as_they_were() {
        let data = [
            Data::F32(vec![1.5, -0.0, f32::MIN_POSITIVE].into()),
            Data::I64(vec![1, -2, i64::MAX].into()),
            Data::I32(vec![1, -2, i32::MIN].into()),
            Data::U8(vec![0, 1, 255].into()),
            Data::I8(vec![0, -1, -128].into()),
            Data::Bool(vec![true, false, true].into()),
        ];
        let tensors: Tensors = data
            .into_iter()
            .enumerate()
            .map(|(i, data)| (format!("t{i}"), Tensor::new(vec![1, 3], data).unwrap()))
            .collect();
        let text = serde_json::to_string(&to_wire(&tensors).unwrap()).unwrap();
        let back: Vec<WireTensor> = serde_json::from_str(&text).unwrap();
        assert_eq!(from_wire(&back).unwrap(), tensors);
    }

    #[test]
    fn elements_that_do_not_fill_the_shape_are_refused() {
        let text = r#"[{"name":"x","dtype":"f32","shape":[2],"data":"AAAAAAAA"}]"#;
        let wire: Vec<WireTensor> = serde_json::from_str(text).unwrap();
        assert!(from_wire(&wire).is_err());
    }
}

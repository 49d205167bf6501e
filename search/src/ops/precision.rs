//! What matrix products of training read.

use burn::tensor::{Device, FloatDType};

use crate::device::is_cpu;
use crate::error::{Error, Result};

/// What a product's inputs are rounded to. Weights, their gradients' sums and moments stay in f32.
///
/// On the CPU sums and answers are in f32, and so are products inside attention. A GPU rounds the answer of each product to the
/// type, too, those inside attention included; and CUDA may take f32 through TF32 (11 bits of mantissa) in its matrix units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Nothing: they are read as they are.
    #[default]
    F32,
    /// 8 bits of mantissa and the range of f32: on a processor with AVX512-BF16, and on GPUs that know the type.
    Bf16,
    /// 11 bits of mantissa and a range so small that losses are scaled (`train::LossScale`): on GPUs that know the type.
    F16,
}

impl Precision {
    /// The precision called `name`, if `device` has it.
    ///
    /// # Errors
    /// [`Error::UnknownName`] for a stranger, [`Error::NotSupported`] when the device has no such products.
    pub fn by_name(name: &str, device: &Device) -> Result<Self> {
        let precision = Self::named(name)?;
        let cpu = is_cpu(device);
        let lacking = match precision.half() {
            None => return Ok(precision),
            Some(_) if cpu && super::plain() => {
                "MASKTAS_PLAIN computes by burn's operations, which are in f32 on the CPU"
            }
            Some(_) if cpu && precision == Self::F16 => "the CPU trains in f32 or bf16",
            Some(_) if cpu && !bf16_available() => "this processor has no AVX512-BF16",
            Some(half) if !cpu && !device.supports_dtype(half) => {
                "the driver of this GPU does not compute in it"
            }
            Some(_) => return Ok(precision),
        };
        Err(Error::NotSupported {
            thing: format!("precision = \"{name}\""),
            reason: lacking.to_owned(),
            next: "set precision to f32".to_owned(),
        })
    }

    /// The precision called `name`, whether or not anything here has it.
    ///
    /// # Errors
    /// [`Error::UnknownName`] for a stranger.
    pub(crate) fn named(name: &str) -> Result<Self> {
        let all = [Self::F32, Self::Bf16, Self::F16];
        all.into_iter().find(|precision| precision.name() == name).ok_or_else(|| Error::UnknownName {
            what: "precision",
            name: name.to_owned(),
            hint: crate::suggest::hint(name, all.map(Self::name)),
        })
    }

    /// The name [`Precision::by_name`] knows it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }

    /// The type that inputs are rounded to; `None`: they are not.
    pub(crate) fn half(self) -> Option<FloatDType> {
        match self {
            Self::F32 => None,
            Self::Bf16 => Some(FloatDType::BF16),
            Self::F16 => Some(FloatDType::F16),
        }
    }
}

/// Whether this processor multiplies bf16.
pub fn bf16_available() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        super::bf16::available()
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_cpu_lacks_is_refused_by_name() {
        let device = Device::flex();
        assert_eq!(Precision::by_name("f32", &device).unwrap(), Precision::F32);
        let refused = Precision::by_name("f16", &device).unwrap_err().to_string();
        assert!(refused.contains("f16") && refused.contains("the CPU"), "{refused}");
        let unknown = Precision::by_name("fp16", &device).unwrap_err().to_string();
        assert!(unknown.contains("fp16"), "{unknown}");
    }
}

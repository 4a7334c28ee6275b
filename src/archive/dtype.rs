//! Element types of stored tensors, and their conversion from and to f32.

use std::borrow::Cow;
use std::fmt;

use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::{bf16, f16};
use safetensors::Dtype as FileDtype;

#[cfg(target_endian = "big")]
compile_error!("files are little-endian, and their values are read in the machine's own byte order");

/// The element type of a tensor as a file stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dtype {
    /// IEEE 754 double.
    F64,
    /// IEEE 754 single.
    F32,
    /// IEEE 754 half.
    F16,
    /// bfloat16: the upper 16 bits of an IEEE 754 single.
    Bf16,
    /// Any other type: integers, booleans, complex numbers, or floats of 8 bits or fewer. Weights never have such a
    /// type; reports print this name.
    Other(&'static str),
}

impl Dtype {
    /// Returns the name as options, reports and metadata spell it: `f32`, `bf16`, `signed integers`, ...
    pub fn name(self) -> &'static str {
        match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Other(name) => name,
        }
    }

    /// Returns the bytes of one element, or `None` for a type that is never read.
    pub fn size(self) -> Option<usize> {
        match self {
            Self::F64 => Some(8),
            Self::F32 => Some(4),
            Self::F16 | Self::Bf16 => Some(2),
            Self::Other(_) => None,
        }
    }

    /// Converts little-endian `bytes` to f32. f64 is rounded to nearest; the other types convert exactly.
    ///
    /// # Errors
    /// If the type is not f64, f32, f16 or bf16.
    pub fn decode(self, bytes: &[u8]) -> Result<Vec<f32>, String> {
        match self {
            Self::F64 => Ok(bytes.chunks_exact(8).map(|b| f64::from_ne_bytes(array(b)) as f32).collect()),
            Self::F32 => Ok(bytes.chunks_exact(4).map(|b| f32::from_ne_bytes(array(b))).collect()),
            Self::F16 => Ok(halves(bytes).reinterpret_cast::<f16>().to_f32_vec()),
            Self::Bf16 => Ok(halves(bytes).reinterpret_cast::<bf16>().to_f32_vec()),
            Self::Other(name) => Err(format!("its elements are {name}; weights are f64, f32, f16 or bf16")),
        }
    }

    /// Converts `values` to this type, little-endian, rounded to nearest even. f32 values are borrowed as they are.
    ///
    /// # Errors
    /// If a finite value becomes infinite, or the type is not f32, f16 or bf16.
    pub fn encode(self, values: &[f32]) -> Result<Cow<'_, [u8]>, String> {
        if self == Self::F32 {
            return Ok(Cow::Borrowed(bytemuck::cast_slice(values)));
        }
        let mut bits = vec![0; values.len()];
        let infinity = match self {
            Self::F16 => {
                bits.reinterpret_cast_mut::<f16>().convert_from_f32_slice(values);
                f16::INFINITY.to_bits()
            }
            Self::Bf16 => {
                bits.reinterpret_cast_mut::<bf16>().convert_from_f32_slice(values);
                bf16::INFINITY.to_bits()
            }
            Self::F32 | Self::F64 | Self::Other(_) => return Err(format!("weights are written as f32, f16 or bf16, not {}", self.name())),
        };
        let without_sign = |bits: u16| bits & 0x7fff;
        if let Some((v, _)) = values.iter().zip(&bits).find(|(v, bits)| without_sign(**bits) == infinity && v.is_finite()) {
            return Err(format!("{v} is beyond the range of {}; write it as f32 (`dtype` f32)", self.name()));
        }
        Ok(Cow::Owned(bytemuck::cast_slice(&bits).to_vec()))
    }
}

impl From<FileDtype> for Dtype {
    fn from(dtype: FileDtype) -> Self {
        match dtype {
            FileDtype::F64 => Self::F64,
            FileDtype::F32 => Self::F32,
            FileDtype::F16 => Self::F16,
            FileDtype::BF16 => Self::Bf16,
            FileDtype::BOOL => Self::Other("bool"),
            FileDtype::I8 | FileDtype::I16 | FileDtype::I32 | FileDtype::I64 => Self::Other("signed integers"),
            FileDtype::U8 | FileDtype::U16 | FileDtype::U32 | FileDtype::U64 => Self::Other("unsigned integers"),
            FileDtype::C64 => Self::Other("complex numbers"),
            _ => Self::Other("floats of 8 bits or fewer"),
        }
    }
}

impl TryFrom<Dtype> for FileDtype {
    type Error = String;

    /// Accepts the types that this crate writes: f32, f16 and bf16.
    fn try_from(dtype: Dtype) -> Result<Self, String> {
        match dtype {
            Dtype::F32 => Ok(Self::F32),
            Dtype::F16 => Ok(Self::F16),
            Dtype::Bf16 => Ok(Self::BF16),
            Dtype::F64 | Dtype::Other(_) => Err(format!("values are written as f32, f16 or bf16, not {dtype}")),
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("chunks_exact gives chunks of this length")
}

fn halves(bytes: &[u8]) -> Vec<u16> {
    bytes.chunks_exact(2).map(|b| u16::from_ne_bytes(array(b))).collect()
}

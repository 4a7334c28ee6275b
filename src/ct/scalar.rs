//! The types of a stored voxel.

use crate::count::product;

/// A real number of at most 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scalar {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F32,
    F64,
}

impl Scalar {
    /// Returns the bytes of a volume of `shape` [S, H, W], or `u64::MAX` if they are more.
    pub fn bytes_of(self, shape: [usize; 3]) -> u64 {
        product(&shape).saturating_mul(self.size() as u64)
    }

    /// Returns the size of a value in bytes.
    pub fn size(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    /// Converts stored values to `value * slope + intercept`, computed in f64 and rounded to f32 once, as in nibabel's
    /// `get_fdata`.
    pub fn decode(self, bytes: &[u8], is_big_endian: bool, slope: f64, intercept: f64) -> Vec<f32> {
        let scale = |value: f64| {
            let value = value * slope;
            // Adding an intercept of 0 would turn -0 into 0.
            if intercept == 0.0 { value as f32 } else { (value + intercept) as f32 }
        };
        match self {
            Self::U8 => numbers(bytes, is_big_endian, |b| scale(f64::from(u8::from_le_bytes(b)))),
            Self::I8 => numbers(bytes, is_big_endian, |b| scale(f64::from(i8::from_le_bytes(b)))),
            Self::U16 => numbers(bytes, is_big_endian, |b| scale(f64::from(u16::from_le_bytes(b)))),
            Self::I16 => numbers(bytes, is_big_endian, |b| scale(f64::from(i16::from_le_bytes(b)))),
            Self::U32 => numbers(bytes, is_big_endian, |b| scale(f64::from(u32::from_le_bytes(b)))),
            Self::I32 => numbers(bytes, is_big_endian, |b| scale(f64::from(i32::from_le_bytes(b)))),
            Self::U64 => numbers(bytes, is_big_endian, |b| scale(u64::from_le_bytes(b) as f64)),
            Self::I64 => numbers(bytes, is_big_endian, |b| scale(i64::from_le_bytes(b) as f64)),
            Self::F32 => numbers(bytes, is_big_endian, |b| scale(f64::from(f32::from_le_bytes(b)))),
            Self::F64 => numbers(bytes, is_big_endian, |b| scale(f64::from_le_bytes(b))),
        }
    }
}

fn numbers<const N: usize>(bytes: &[u8], is_big_endian: bool, number: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    let value = |stored: &[u8]| {
        let mut stored: [u8; N] = stored.try_into().expect("whole values");
        if is_big_endian {
            stored.reverse();
        }
        number(stored)
    };
    bytes.chunks_exact(N).map(value).collect()
}

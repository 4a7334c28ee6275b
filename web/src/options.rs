//! The options of a model, as JavaScript writes them.

use meddino::Error;
use meddino::backbone::{Precision, Tuning};
use meddino::graph::Tier;
use meddino::vit::config::RopePrecision;

use crate::error::{Result, thrown};

/// Reads which kernels are wanted. `precision` is `f32` (the default) or `f16`, and `tier` one of the tiers of kernels, else
/// the best that the device runs.
pub fn tuning(precision: Option<&str>, tier: Option<&str>) -> Result<Tuning, Error> {
    let precision = precision.map_or(Ok(Precision::F32), self::precision)?;
    Ok(Tuning { precision, tier: tier.map(self::tier).transpose()? })
}

fn precision(name: &str) -> Result<Precision, Error> {
    match name {
        "f32" => Ok(Precision::F32),
        "f16" => Ok(Precision::F16),
        _ => Err(Error::option("precision", format!("'{name}' is neither f32 nor f16"))),
    }
}

fn tier(name: &str) -> Result<Tier, Error> {
    let found = Tier::ALL.into_iter().find(|tier| tier.to_string() == name);
    let names = || Tier::ALL.map(|tier| tier.to_string()).join(", ");
    found.ok_or_else(|| Error::option("tier", format!("'{name}' is no tier of kernels; expected one of {}", names())))
}

/// Reads the precision of the position embedding, `f32` or `bf16`.
pub fn rope(name: &str) -> Result<RopePrecision> {
    match name {
        "f32" => Ok(RopePrecision::F32),
        "bf16" => Ok(RopePrecision::Bf16),
        _ => Err(thrown(Error::option("rope", format!("'{name}' is neither f32 nor bf16")))),
    }
}

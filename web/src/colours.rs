//! Principal components as colours.

use meddino::maps::{Basis, Moments, limits};
use meddino::picture::colour;
use meddino::{Error, Tensor};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::error::{Result, thrown};
use crate::features::Features;

/// Three principal components of the tokens of one or more slices, and the range of their scores. They colour every
/// slice alike.
#[wasm_bindgen]
pub struct Colours {
    basis: Basis,
    limits: (f32, f32),
}

#[wasm_bindgen]
impl Colours {
    /// Fits the components to the patches of one slice.
    pub fn of(features: &Features) -> Result<Colours> {
        let tokens = features.tensor();
        let mut moments = Moments::new(tokens.cols());
        moments.add(tokens);
        let basis = moments.basis().map_err(thrown)?;
        let limits = limits(&basis.scores(tokens));
        Ok(Self { basis, limits })
    }

    /// Returns red, green and blue of 256 steps from the smallest value of a map to the largest.
    pub fn scale() -> Vec<u8> {
        (0..=255_u8).flat_map(|step| colour(f32::from(step) / 255.0)).collect()
    }

    /// Returns the whitened scores of every patch: P x 3 values.
    pub fn scores(&self, features: &Features) -> Result<Vec<f32>> {
        Ok(self.scored(features)?.into_data())
    }

    /// Returns red, green and blue of every patch: P x 3 bytes.
    pub fn paint(&self, features: &Features) -> Result<Vec<u8>> {
        let (lo, hi) = self.limits;
        let shade = |score: &f32| if hi > lo { (((score - lo) / (hi - lo)).clamp(0.0, 1.0) * 255.0).round() as u8 } else { 128 };
        Ok(self.scored(features)?.data().iter().map(shade).collect())
    }
}

impl Colours {
    fn scored(&self, features: &Features) -> Result<Tensor> {
        let (tokens, width) = (features.tensor(), self.basis.width());
        if tokens.cols() != width {
            let problem =
                format!("its tokens have {} values, and the colours are of tokens of {width}; fit them to this model", tokens.cols());
            return Err(thrown(Error::option("features", problem)));
        }
        Ok(self.basis.scores(tokens))
    }
}

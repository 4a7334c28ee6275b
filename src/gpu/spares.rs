//! Host memory of features that a caller has returned, for the next batch.
//!
//! A system gives out memory page by page, at the first write to each page. For features of some megabytes that takes
//! longer than to copy them.

use std::sync::{Arc, Mutex, PoisonError};

use crate::tensor::Tensor;
use crate::vit::features::Features;

/// The memory of one batch's tensors. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Spares(Arc<Mutex<Vec<Vec<f32>>>>);

impl Spares {
    /// Returns `len` values, which are arbitrary. Takes the smallest memory that holds them, or else allocates.
    pub fn take(&self, len: usize) -> Vec<f32> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = kept.iter().enumerate().filter(|(_, spare)| spare.capacity() >= len);
        let smallest = fits.min_by_key(|(_, spare)| spare.capacity()).map(|(at, _)| at);
        let mut values = smallest.map(|at| kept.swap_remove(at)).unwrap_or_default();
        drop(kept);
        if values.capacity() < len {
            return vec![0.0; len];
        }
        values.resize(len, 0.0);
        values
    }

    /// Keeps the memory of `features` instead of what was kept before, so that no more than a batch's memory is kept.
    pub fn give(&self, features: Features) {
        let Features { x_norm, x_prenorm, layers, taps, .. } = features;
        let layers = layers.into_iter().map(|(_, layer)| layer);
        let taps = taps.into_iter().map(|(_, tap)| tap);
        let tensors = std::iter::once(x_norm).chain(x_prenorm).chain(layers).chain(taps);
        let given = tensors.map(Tensor::into_data).collect();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = given;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vit::config::Grid;

    #[test]
    fn memory_is_used_again_and_never_more_than_a_batch_is_kept() {
        let features = |lens: [usize; 2]| Features {
            grid: Grid { rows: 1, cols: 1 },
            x_norm: Tensor::zeros([lens[0]]),
            x_prenorm: Some(Tensor::zeros([lens[1]])),
            layers: Vec::new(),
            taps: Vec::new(),
        };
        let spares = Spares::default();
        assert_eq!(spares.take(5), [0.0; 5], "no memory was given yet");
        spares.give(features([7, 7]));
        let given = features([100, 10]);
        let (large, small) = (given.x_norm.data().as_ptr(), given.x_prenorm.as_ref().expect("present").data().as_ptr());
        spares.give(given);
        let (nine, ten) = (spares.take(9), spares.take(10));
        assert_eq!((nine.as_ptr(), ten.as_ptr()), (small, large), "the smallest that fits");
        assert_eq!(spares.take(7).len(), 7);
        assert!(spares.0.lock().expect("no panic").is_empty(), "the memory of the first batch is gone");
        spares.give(features([4, 4]));
        assert_eq!(spares.take(5).len(), 5, "too small");
        assert_eq!(spares.0.lock().expect("no panic").len(), 2);
    }
}

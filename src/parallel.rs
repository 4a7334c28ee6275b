//! Loops whose steps are independent. rayon spreads them over its threads; a build without the feature `cpu` runs them
//! in order.

#[cfg(feature = "cpu")]
use rayon::prelude::*;

/// Returns `value(i)` for every `i` below `count`, in order.
pub(crate) fn map<T: Send>(count: usize, value: impl Fn(usize) -> T + Sync + Send) -> Vec<T> {
    #[cfg(feature = "cpu")]
    return (0..count).into_par_iter().map(value).collect();
    #[cfg(not(feature = "cpu"))]
    return (0..count).map(value).collect();
}

/// Returns whether `holds` for every chunk of `length` values; the last chunk may be shorter.
pub(crate) fn all_chunks<T: Sync>(values: &[T], length: usize, holds: impl Fn(&[T]) -> bool + Sync + Send) -> bool {
    #[cfg(feature = "cpu")]
    return values.par_chunks(length).all(holds);
    #[cfg(not(feature = "cpu"))]
    return values.chunks(length).all(holds);
}

/// Calls `fill(i, chunk)` for the `i`th chunk of `length` values; the last chunk may be shorter.
pub(crate) fn for_each_chunk<T: Send>(values: &mut [T], length: usize, fill: impl Fn(usize, &mut [T]) + Sync + Send) {
    #[cfg(feature = "cpu")]
    values.par_chunks_mut(length).enumerate().for_each(|(i, chunk)| fill(i, chunk));
    #[cfg(not(feature = "cpu"))]
    values.chunks_mut(length).enumerate().for_each(|(i, chunk)| fill(i, chunk));
}

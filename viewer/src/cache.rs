//! A cache of the features of visited slices, within a memory limit.

use std::collections::HashMap;
use std::sync::Arc;

use meddino::Tensor;

/// Patch tokens [P, C] per slice. Evicts the least recently used slices when the limit is exceeded.
#[derive(Debug)]
pub struct Cache {
    most_bytes: usize,
    bytes: usize,
    clock: u64,
    kept: HashMap<usize, (Arc<Tensor>, u64)>,
}

impl Cache {
    /// Makes an empty cache of at most `most_bytes`. It keeps one slice however large it is.
    pub fn new(most_bytes: usize) -> Self {
        Self { most_bytes, bytes: 0, clock: 0, kept: HashMap::new() }
    }

    /// Returns the features of a slice, and marks the slice as used.
    pub fn get(&mut self, slice: usize) -> Option<&Arc<Tensor>> {
        self.clock += 1;
        let (tokens, seen) = self.kept.get_mut(&slice)?;
        *seen = self.clock;
        Some(tokens)
    }

    /// Returns whether the cache holds a slice's features.
    pub fn holds(&self, slice: usize) -> bool {
        self.kept.contains_key(&slice)
    }

    /// Stores a slice's features, and evicts others if the limit requires it.
    pub fn insert(&mut self, slice: usize, tokens: Tensor) {
        self.clock += 1;
        self.bytes += bytes_of(&tokens);
        if let Some((old, _)) = self.kept.insert(slice, (Arc::new(tokens), self.clock)) {
            self.bytes -= bytes_of(&old);
        }
        while self.bytes > self.most_bytes && self.kept.len() > 1 {
            let oldest = *self.kept.iter().min_by_key(|(_, (_, seen))| seen).expect("more than one").0;
            let (old, _) = self.kept.remove(&oldest).expect("it is there");
            self.bytes -= bytes_of(&old);
        }
    }

    /// Removes everything, because the scan or the model changes.
    pub fn clear(&mut self) {
        self.kept.clear();
        self.bytes = 0;
    }

    /// Returns the number of slices in the cache.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Returns the bytes that the features take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns how many slices of `bytes` each fit into the cache.
    pub fn room(&self, bytes: usize) -> usize {
        (self.most_bytes / bytes.max(1)).max(1)
    }
}

fn bytes_of(tokens: &Tensor) -> usize {
    size_of_val(tokens.data())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_seen_goes_first() {
        let slice = || Tensor::zeros([5, 5]); // 100 bytes
        let mut cache = Cache::new(300);
        assert_eq!(cache.room(100), 3);
        for index in 0..3 {
            cache.insert(index, slice());
        }
        assert!(cache.get(0).is_some());
        cache.insert(3, slice());
        assert_eq!([0, 1, 2, 3].map(|i| cache.holds(i)), [true, false, true, true]);
        cache.insert(3, slice());
        assert_eq!((cache.len(), cache.bytes()), (3, 300), "the same slice again takes no more");
        cache.insert(9, Tensor::zeros([1000]));
        assert_eq!((cache.len(), cache.bytes(), cache.holds(9)), (1, 4000, true), "one is kept however large");
        cache.clear();
        assert_eq!((cache.len(), cache.bytes()), (0, 0));
    }
}

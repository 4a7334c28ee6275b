//! The size and the values of each label in a segmented scan, from the scan and its label map.

use std::collections::BTreeMap;
use std::path::Path;

use super::case::Case;
use crate::ct::Volume;
use crate::error::{Error, Result};
use crate::nnunet::Dataset;
use crate::output::LabelStatistics;

/// Returns the statistics of every named label but the background, from the scan of `case` and its label map in the file
/// `labels`. Both are read slice by slice, and memory holds two slices of components.
///
/// # Errors
/// If a file cannot be read, or the label map is not on the scan's grid or holds other labels.
pub fn label_statistics(case: &Case, labels: &Path, dataset: &Dataset) -> Result<Vec<LabelStatistics>> {
    let mut scan = Volume::open_series(&case.input, case.series.as_deref())?;
    let mut map = Volume::open(labels)?;
    let (geometry, shape) = (scan.geometry()?, [map.slices(), map.height(), map.width()]);
    if geometry.shape() != shape {
        let problem = format!("expected labels of {:?} voxels (slices, rows, columns) as in the scan, found {shape:?}", geometry.shape());
        return Err(Error::input(labels.display(), problem));
    }
    let mut found = vec![Label::default(); dataset.labels.len()];
    let mut components = Components::new(shape[2]);
    for slice in 0..shape[0] {
        let (hu, values) = (scan.read_slice(slice)?, map.read_slice(slice)?);
        let mut row_labels = Vec::with_capacity(values.data().len());
        for value in values.data() {
            let label = *value as u16;
            if (f32::from(label) - *value).abs() > 0.0 || usize::from(label) >= found.len() {
                return Err(Error::input(labels.display(), format!("expected labels below {}, found {value}", found.len())));
            }
            row_labels.push(label);
        }
        for (pixel, (label, hu)) in row_labels.iter().zip(hu.data()).enumerate().filter(|(_, (label, _))| **label != 0) {
            found[usize::from(*label)].include([pixel % shape[2], pixel / shape[2], slice], f64::from(*hu));
        }
        components.push(&row_labels, &mut found);
    }
    components.finish(&mut found);
    let ([slices, rows, columns], ml) = (geometry.spacing(), geometry.voxel_ml());
    let named = found.iter().enumerate().skip(1).filter(|(label, _)| !dataset.labels[*label].is_empty());
    Ok(named.map(|(label, found)| found.statistics(label as u16, [columns, rows, slices], ml)).collect())
}

/// What is known of a label so far.
#[derive(Clone, Default)]
struct Label {
    voxels: u64,
    sum: f64,
    /// The first and last column, row and slice.
    ends: Option<[(usize, usize); 3]>,
    /// Number of voxels of the largest component that is complete.
    largest: u64,
}

impl Label {
    fn include(&mut self, at: [usize; 3], hu: f64) {
        self.voxels += 1;
        self.sum += hu;
        let ends = self.ends.get_or_insert(at.map(|i| (i, i)));
        ends.iter_mut().zip(at).for_each(|((first, last), i)| (*first, *last) = ((*first).min(i), (*last).max(i)));
    }

    fn statistics(&self, label: u16, spacing: [f64; 3], voxel_ml: f64) -> LabelStatistics {
        let of_all = |part: f64| (self.voxels > 0).then(|| part / self.voxels as f64);
        let lengths = self.ends.map_or([0; 3], |ends| ends.map(|(first, last)| last + 1 - first));
        LabelStatistics {
            label,
            voxels: self.voxels,
            ml: self.voxels as f64 * voxel_ml,
            mean_hu: of_all(self.sum),
            extent_mm: [0, 1, 2].map(|axis| lengths[axis] as f64 * spacing[axis]),
            largest: of_all(self.largest as f64),
        }
    }
}

/// The 26-connected components of each label that reach the last slice so far.
struct Components {
    width: usize,
    /// The labels of the last slice, and the component of each pixel: an index into `sizes`.
    labels: Vec<u16>,
    of: Vec<usize>,
    /// Number of voxels of each component.
    sizes: Vec<u64>,
}

impl Components {
    fn new(width: usize) -> Self {
        Self { width, labels: Vec::new(), of: Vec::new(), sizes: Vec::new() }
    }

    /// Adds the next slice. Components that end before it are complete, and count towards their label in `found`.
    fn push(&mut self, labels: &[u16], found: &mut [Label]) {
        let (width, height) = (self.width, labels.len() / self.width);
        let mut joined = Joined { parents: (0..self.sizes.len()).collect(), sizes: std::mem::take(&mut self.sizes) };
        let mut of = vec![0; labels.len()];
        for pixel in (0..labels.len()).filter(|pixel| labels[*pixel] != 0) {
            let (row, column) = (pixel / width, pixel % width);
            let component = joined.add();
            of[pixel] = component;
            for r in row.saturating_sub(1)..(row + 2).min(height) {
                for c in column.saturating_sub(1)..(column + 2).min(width) {
                    let near = r * width + c;
                    if self.labels.get(near) == Some(&labels[pixel]) {
                        joined.join(component, self.of[near]);
                    }
                    if near < pixel && labels[near] == labels[pixel] {
                        joined.join(component, of[near]);
                    }
                }
            }
        }
        self.keep(labels, &of, joined, found);
    }

    /// Renumbers the components that reach the slice `labels`, and completes the others.
    fn keep(&mut self, labels: &[u16], of: &[usize], mut joined: Joined, found: &mut [Label]) {
        let mut numbers = BTreeMap::new();
        let mut renumbered = vec![0; of.len()];
        for pixel in (0..labels.len()).filter(|pixel| labels[*pixel] != 0) {
            let root = joined.root(of[pixel]);
            let next = numbers.len();
            renumbered[pixel] = *numbers.entry(root).or_insert(next);
        }
        for pixel in 0..self.labels.len() {
            let root = if self.labels[pixel] == 0 { continue } else { joined.root(self.of[pixel]) };
            if !numbers.contains_key(&root) {
                let largest = &mut found[usize::from(self.labels[pixel])].largest;
                *largest = (*largest).max(joined.sizes[root]);
            }
        }
        self.sizes = vec![0; numbers.len()];
        numbers.into_iter().for_each(|(root, number)| self.sizes[number] = joined.sizes[root]);
        (self.labels, self.of) = (labels.to_vec(), renumbered);
    }

    /// Completes every component.
    fn finish(mut self, found: &mut [Label]) {
        let empty = vec![0; self.labels.len()];
        self.push(&empty, found);
    }
}

/// Components that are joined step by step: a forest whose roots hold the sizes.
struct Joined {
    parents: Vec<usize>,
    sizes: Vec<u64>,
}

impl Joined {
    /// Adds a component of one voxel.
    fn add(&mut self) -> usize {
        self.parents.push(self.parents.len());
        self.sizes.push(1);
        self.parents.len() - 1
    }

    fn root(&mut self, mut component: usize) -> usize {
        while self.parents[component] != component {
            self.parents[component] = self.parents[self.parents[component]];
            component = self.parents[component];
        }
        component
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        if a != b {
            let (small, large) = if self.sizes[a] < self.sizes[b] { (a, b) } else { (b, a) };
            self.parents[small] = large;
            self.sizes[large] += self.sizes[small];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares with a flood fill over the whole volume, on sparse noise, whose components branch and join.
    #[test]
    fn the_largest_component_is_that_of_a_flood_fill() {
        let [slices, rows, columns] = [6, 9, 11];
        let mut state = 7_u64;
        let mut checked = 0;
        for filled in [2, 5, 8, 11, 14] {
            let labels: Vec<u16> = (0..slices * rows * columns)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let random = (state >> 40) % 16;
                    if random < filled { 1 + (random % 2) as u16 } else { 0 }
                })
                .collect();
            let mut found = vec![Label::default(); 3];
            let mut components = Components::new(columns);
            labels.chunks_exact(rows * columns).for_each(|slice| components.push(slice, &mut found));
            components.finish(&mut found);
            for label in [1, 2] {
                let want = flooded(&labels, [slices, rows, columns], label);
                assert_eq!(found[usize::from(label)].largest, want, "{filled} of 16, label {label}");
                checked += want;
            }
        }
        assert!(checked > 500, "{checked}");
    }

    fn flooded(labels: &[u16], shape: [usize; 3], label: u16) -> u64 {
        let mut seen = vec![false; labels.len()];
        let index = |[s, r, c]: [usize; 3]| (s * shape[1] + r) * shape[2] + c;
        let mut largest = 0;
        for start in (0..labels.len()).filter(|i| labels[*i] == label) {
            let mut open = if seen[start] { Vec::new() } else { vec![start] };
            seen[start] = true;
            let mut size = 0;
            while let Some(voxel) = open.pop() {
                size += 1;
                let at = [voxel / (shape[1] * shape[2]), voxel / shape[2] % shape[1], voxel % shape[2]];
                let near = |axis: usize| at[axis].saturating_sub(1)..(at[axis] + 2).min(shape[axis]);
                for voxel in near(0).flat_map(|s| near(1).flat_map(move |r| near(2).map(move |c| index([s, r, c])))) {
                    if labels[voxel] == label && !seen[voxel] {
                        seen[voxel] = true;
                        open.push(voxel);
                    }
                }
            }
            largest = largest.max(size);
        }
        largest
    }
}

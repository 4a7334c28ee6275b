//! The size and the values of each label in a segmented scan, from the scan and its label map.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::segment::LabelMap;
use crate::ct::Volume;
use crate::error::{Error, Result};
use crate::nnunet::Dataset;
use crate::output::LabelStatistics;

/// Returns the statistics of every named label but the background, from `scan`, with its stored axes, and its label
/// map in the file `labels`. Both are read slice by slice, and memory holds two slices of components.
///
/// # Errors
/// If a file cannot be read, the scan has no geometry, or the label map is not on the scan's grid or holds other
/// labels.
pub fn label_statistics(scan: &mut Volume, labels: &Path, dataset: &Dataset) -> Result<Vec<LabelStatistics>> {
    let mut map = Volume::open(labels)?;
    let fail = |problem: String| Error::input(labels.display(), problem);
    check_grid(scan, [map.slices(), map.height(), map.width()]).map_err(fail)?;
    let known = dataset.labels.len();
    statistics(scan, dataset, |slice| {
        let values = map.read_slice(slice)?;
        let label = |value: &f32| {
            let label = *value as u16;
            let is_label = f32::from(label).to_bits() == value.abs().to_bits() && usize::from(label) < known;
            if is_label { Ok(label) } else { Err(fail(format!("expected labels below {known}, found {value}"))) }
        };
        Ok(values.data().iter().map(label).collect::<Result<Vec<u16>>>()?.into())
    })
}

impl LabelMap {
    /// Returns the statistics of every named label but the background, as [`label_statistics`] does. `scan` has its
    /// stored axes.
    ///
    /// # Errors
    /// If the scan cannot be read, or is not the one that the labels are of.
    pub fn statistics(&self, scan: &mut Volume, dataset: &Dataset) -> Result<Vec<LabelStatistics>> {
        check_grid(scan, self.shape).map_err(|problem| Error::option("labels", problem))?;
        let pixels = self.shape[1] * self.shape[2];
        statistics(scan, dataset, |slice| Ok(Cow::Borrowed(&self.labels[slice * pixels..][..pixels])))
    }
}

/// Checks that labels of `shape` are on the grid of `scan`.
fn check_grid(scan: &Volume, shape: [usize; 3]) -> Result<(), String> {
    let want = [scan.slices(), scan.height(), scan.width()];
    if want == shape {
        return Ok(());
    }
    Err(format!("expected labels of {want:?} voxels (slices, rows, columns) as in the scan, found {shape:?}"))
}

/// Returns the statistics of labels below the number of `dataset`'s, which `read` gives slice by slice.
fn statistics<'a>(
    scan: &mut Volume,
    dataset: &Dataset,
    mut read: impl FnMut(usize) -> Result<Cow<'a, [u16]>>,
) -> Result<Vec<LabelStatistics>> {
    let (geometry, width) = (scan.geometry()?, scan.width());
    let mut found = vec![Label::default(); dataset.labels.len()];
    let mut components = Components::new(width);
    for slice in 0..scan.slices() {
        let (hu, labels) = (scan.read_slice(slice)?, read(slice)?);
        for (pixel, (label, hu)) in labels.iter().zip(hu.data()).enumerate().filter(|(_, (label, _))| **label != 0) {
            found[usize::from(*label)].include([pixel % width, pixel / width, slice], f64::from(*hu));
        }
        components.push(&labels, &mut found);
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
    /// Number of components that are complete.
    components: u64,
    /// Number of voxels of the largest one.
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
        let lengths = self.ends.map_or([0; 3], |ends| ends.map(|(first, last)| last + 1 - first));
        LabelStatistics {
            label,
            voxels: self.voxels,
            ml: self.voxels as f64 * voxel_ml,
            mean_hu: (self.voxels > 0).then(|| self.sum / self.voxels as f64),
            ends: self.ends,
            extent_mm: [0, 1, 2].map(|axis| lengths[axis] as f64 * spacing[axis]),
            components: self.components,
            largest: self.largest,
            largest_ml: self.largest as f64 * voxel_ml,
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
        let mut complete = BTreeSet::new();
        for pixel in 0..self.labels.len() {
            let root = if self.labels[pixel] == 0 { continue } else { joined.root(self.of[pixel]) };
            if !numbers.contains_key(&root) && complete.insert(root) {
                let label = &mut found[usize::from(self.labels[pixel])];
                label.components += 1;
                label.largest = label.largest.max(joined.sizes[root]);
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
    use crate::ct::{Affine, Geometry, PatientAxes};

    type Ends = Option<[(usize, usize); 3]>;

    /// A scan of 3 slices of 4 x 5 voxels of 2 x 0.5 x 0.8 mm (slices, rows, columns), whose HU are the voxels'
    /// numbers.
    #[test]
    fn statistics_of_a_scan_that_was_counted_by_hand() {
        let shape = [3, 4, 5];
        let matrix = [[0.8, 0.0, 0.0, 0.0], [0.0, 0.5, 0.0, 0.0], [0.0, 0.0, 2.0, 0.0], [0.0, 0.0, 0.0, 1.0]];
        let affine = Affine::from_matrix(PatientAxes::Ras, matrix).expect("an affine");
        let hu: Vec<f32> = (0_u8..60).map(f32::from).collect();
        let mut scan = Volume::from_array("scan", hu, &Geometry::new(shape, affine).expect("a grid")).expect("a scan");
        let mut map = LabelMap { shape, labels: vec![0; 60], probabilities: None };
        let mut put = |label, voxels: &[[usize; 3]]| voxels.iter().for_each(|[s, r, c]| map.labels[(s * 4 + r) * 5 + c] = label);
        // Two voxels that share a corner are one component.
        put(1, &[[0, 0, 0], [1, 1, 1]]);
        // Three in a row, one behind a gap, and one of the last slice.
        put(2, &[[0, 3, 0], [0, 3, 1], [0, 3, 2], [0, 3, 4], [2, 0, 4]]);
        put(4, &[[2, 3, 0]]);
        let names = ["background", "a", "b", "absent", ""].map(String::from);
        let dataset = Dataset { labels: names.into(), regions: Vec::new(), file_ending: ".nii.gz".into() };
        let found = map.statistics(&mut scan, &dataset).expect("statistics");
        // A voxel has 0.8 ml / 1000.
        let row = |label: u16, voxels: u64, hu: Option<f64>, ends: Ends, extent_mm: [u64; 3], components: u64, largest: u64| {
            (label, voxels, voxels * 8, hu, ends, extent_mm, components, largest, largest * 8)
        };
        let want = [
            row(1, 2, Some(13.0), Some([(0, 1), (0, 1), (0, 1)]), [16, 10, 40], 1, 2),
            row(2, 5, Some(22.2), Some([(0, 4), (0, 3), (0, 2)]), [40, 20, 60], 3, 3),
            row(3, 0, None, None, [0; 3], 0, 0),
        ];
        let rounded = |v: f64, unit: f64| (v / unit).round() as u64;
        let got = found.iter().map(|row| {
            let hu = row.mean_hu.map(|hu| (hu * 1e6).round() / 1e6);
            let [ml, largest_ml] = [row.ml, row.largest_ml].map(|ml| rounded(ml, 1e-4));
            let extent = row.extent_mm.map(|mm| rounded(mm, 0.1));
            (row.label, row.voxels, ml, hu, row.ends, extent, row.components, row.largest, largest_ml)
        });
        assert_eq!(got.collect::<Vec<_>>(), want, "the label without a name is left out");
        map.shape = [3, 5, 4];
        let error = map.statistics(&mut scan, &dataset).expect_err("another grid").to_string();
        assert!(error.contains("as in the scan, found [3, 5, 4]"), "{error}");
    }

    /// Compares with a flood fill over the whole volume, on sparse noise, whose components branch and join.
    #[test]
    fn components_are_those_of_a_flood_fill() {
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
                let (components, largest) = flooded(&labels, [slices, rows, columns], label);
                let got = &found[usize::from(label)];
                assert_eq!((got.components, got.largest), (components, largest), "{filled} of 16, label {label}");
                checked += largest;
            }
        }
        assert!(checked > 500, "{checked}");
    }

    /// Number of components, and voxels of the largest.
    fn flooded(labels: &[u16], shape: [usize; 3], label: u16) -> (u64, u64) {
        let mut seen = vec![false; labels.len()];
        let index = |[s, r, c]: [usize; 3]| (s * shape[1] + r) * shape[2] + c;
        let (mut components, mut largest) = (0, 0);
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
            components += u64::from(size > 0);
            largest = largest.max(size);
        }
        (components, largest)
    }
}

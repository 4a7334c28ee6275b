//! Patch tokens in feature files as rows, and label maps as their targets.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::vectors::{RowName, Vectors, case_of};
use crate::ct::Volume;
use crate::error::{Error, Result};
use crate::fitted::{agree, patch_kind};
use crate::heads::Rows;
use crate::jobs::segment::without_channel;
use crate::maps::Mesh;
use crate::output::StoredFeatures;
use crate::tensor::Tensor;
use crate::vit::layers::Layers;

/// Endings of label maps, in the order in which they are looked for.
const ENDINGS: [&str; 7] = ["nii.gz", "nii", "nrrd", "nhdr", "mha", "mhd", "npy"];
/// The largest label.
pub(super) const MAX_LABEL: u16 = 4095;
/// The largest distance of two affines that count as the same, in mm.
const SAME_MM: f64 = 0.01;

/// A feature file with patch tokens, and the label map of its scan.
pub struct PatchFile {
    /// The case.
    pub case: String,
    pub(super) features: StoredFeatures,
    mask: PathBuf,
}

/// Opens the feature files `files` for the patch tokens of `layers`, and returns each with its case.
///
/// # Errors
/// If a file cannot be read or lacks these tokens, was not made as the first one, or is the second of its case.
fn opened(files: &[PathBuf], layers: &Layers) -> Result<Vec<(String, StoredFeatures)>> {
    let mut opened: Vec<(String, StoredFeatures)> = Vec::new();
    for path in files {
        let (case, features) = (case_of(path), StoredFeatures::open_layers(path, layers)?);
        if let Some((_, first)) = opened.first() {
            let agreed = agree(&patch_kind(features.metadata(), layers), &patch_kind(first.metadata(), layers), "the files before it");
            agreed.map_err(|problem| Error::input(path.display(), problem))?;
            if features.width() != first.width() {
                let problem = format!("expected tokens of {} channels, found {}", first.width(), features.width());
                return Err(Error::input(path.display(), problem));
            }
        }
        if opened.iter().any(|(other, _)| *other == case) {
            return Err(Error::input(path.display(), format!("is the second file of case {case}; leave one of them out")));
        }
        opened.push((case, features));
    }
    if opened.is_empty() { Err(Error::option("features", "expected at least one feature file, found none")) } else { Ok(opened) }
}

/// Reads the patch tokens of `layers` in `files`, each a row with the case and the slice that it is of: image by image,
/// row by row.
///
/// # Errors
/// If a file cannot be read, lacks these tokens or holds NaN, was not made as the first one, or is the second of its
/// case; or if the memory for all of them cannot be had.
pub fn patch_vectors(files: &[PathBuf], layers: &Layers) -> Result<Vectors> {
    let opened = opened(files, layers)?;
    let (_, first) = &opened[0];
    let (width, kind) = (first.width(), patch_kind(first.metadata(), layers));
    let count: usize = opened.iter().map(|(_, features)| features.slices().len() * features.grid().patches()).sum();
    let (mut values, mut rows) = (Vec::new(), Vec::new());
    values.try_reserve_exact(count * width).map_err(|problem| {
        Error::option("memory", format!("{count} patch tokens of {width} channels do not fit: {problem}; give fewer files"))
    })?;
    for (case, features) in &opened {
        for (position, slice) in features.slices().iter().enumerate() {
            values.extend_from_slice(features.patches(position)?.data());
            rows.extend(std::iter::repeat_n(RowName { case: case.clone(), slice: Some(*slice) }, features.grid().patches()));
        }
    }
    Ok(Vectors { values: Tensor::new([count, width], values), rows, kind })
}

/// Opens the feature files `files` for the patch tokens of `layers`, each with the label map of its case in the folder
/// `masks`: `CASE.nii.gz`, or another format, or without `_0000`.
///
/// # Errors
/// If a file cannot be read or lacks these tokens, was not made as the first one, or has no label map.
pub fn patch_files(files: &[PathBuf], layers: &Layers, masks: &Path) -> Result<Vec<PatchFile>> {
    let with_mask = |(case, features): (String, StoredFeatures)| -> Result<PatchFile> {
        Ok(PatchFile { mask: mask_of(&case, masks)?, case, features })
    };
    opened(files, layers)?.into_iter().map(with_mask).collect()
}

/// Returns the label map of `case` in the folder `masks`.
///
/// # Errors
/// If there is none.
pub fn mask_of(case: &str, masks: &Path) -> Result<PathBuf> {
    let names = [case, without_channel(case)];
    let mut candidates = names.iter().flat_map(|name| ENDINGS.iter().map(move |ending| masks.join(format!("{name}.{ending}"))));
    candidates.find(|path| path.is_file()).ok_or_else(|| {
        Error::input(masks.display(), format!("holds no label map of case {case}; expected {case}.nii.gz, or leave the case out"))
    })
}

impl PatchFile {
    /// Passes each stored slice's position, and its labels [H, W], to `take`.
    ///
    /// # Errors
    /// If the label map cannot be read, is on another grid than the features' scan, or holds no labels.
    pub fn each_slice(&self, mut take: impl FnMut(usize, &[u16], (usize, usize)) -> Result<()>) -> Result<()> {
        let fail = |problem: String| Error::input(self.mask.display(), problem);
        let orient = self.features.orient().unwrap_or_default();
        let mut volume = Volume::open(&self.mask)?.oriented(orient)?;
        let shape = (volume.height(), volume.width());
        let last = self.features.slices().iter().max().copied().unwrap_or(0);
        if self.features.size().of(shape.0, shape.1) != self.features.image() || last >= volume.slices() {
            let (height, width) = self.features.image();
            return Err(fail(format!(
                "has {} slices of {} x {}, but the features of case {} are of slices up to {last} and images of {height} x {width}; give \
                 the label map of that scan",
                volume.slices(),
                shape.0,
                shape.1,
                self.case
            )));
        }
        let matrix = |text: &str| serde_json::from_str::<Vec<Vec<f64>>>(text).ok().map(|rows| rows.concat());
        let scan = self.features.metadata().get("affine").and_then(|text| matrix(text));
        if let (Some(scan), Some(mask)) = (scan, volume.affine().and_then(|affine| matrix(&affine.to_string()))) {
            let is_far = scan.iter().zip(&mask).any(|(a, b)| (a - b).abs() > SAME_MM);
            if is_far {
                return Err(fail(format!(
                    "lies elsewhere in the patient than the scan of case {}; give the label map of that scan",
                    self.case
                )));
            }
        }
        for (position, &slice) in self.features.slices().iter().enumerate() {
            let values = volume.read_slice(slice)?;
            let label = |v: &f32| (*v >= 0.0 && *v <= f32::from(MAX_LABEL) && v.fract() == 0.0).then_some(*v as u16);
            let labels = values.data().iter().map(label).collect::<Option<Vec<u16>>>();
            let labels = labels.ok_or_else(|| fail(format!("slice {slice}: expected labels, whole numbers from 0 to {MAX_LABEL}")))?;
            take(position, &labels, shape)?;
        }
        Ok(())
    }

    /// Returns the share of each of `classes` in each patch, [S P, K], in the order of tokens.
    ///
    /// # Errors
    /// As [`PatchFile::each_slice`], and if a label is not one of `classes`.
    pub fn shares(&self, classes: &[u16]) -> Result<Vec<f64>> {
        let (grid, k) = (self.features.grid(), classes.len());
        let mut shares = Vec::new();
        self.each_slice(|_, labels, shape| {
            let mesh = Mesh::new(grid, self.features.patch_size(), self.features.image(), shape);
            let mut counts = vec![0.0; grid.patches() * k];
            for (pixel, label) in labels.iter().enumerate() {
                let Some(patch) = mesh.patch_at((pixel % shape.1) as f64 + 0.5, (pixel / shape.1) as f64 + 0.5) else { continue };
                let class = classes.iter().position(|class| class == label);
                let class = class.ok_or_else(|| self.unknown(*label, classes))?;
                counts[patch * k + class] += 1.0;
            }
            counts.chunks_exact_mut(k).for_each(|patch| {
                let total: f64 = patch.iter().sum();
                patch.iter_mut().for_each(|count| *count /= total.max(1.0));
            });
            shares.extend(counts);
            Ok(())
        })?;
        Ok(shares)
    }

    pub(super) fn unknown(&self, label: u16, classes: &[u16]) -> Error {
        Error::input(self.mask.display(), format!("holds the label {label}, which the head does not know; expected one of {classes:?}"))
    }
}

/// Returns the labels that occur in the label maps of `files`, ascending.
///
/// # Errors
/// As [`PatchFile::each_slice`].
pub fn labels_of(files: &[PatchFile]) -> Result<Vec<u16>> {
    let mut known = BTreeSet::new();
    for file in files {
        file.each_slice(|_, labels, _| {
            known.extend(labels.iter().copied());
            Ok(())
        })?;
    }
    Ok(known.into_iter().collect())
}

/// The patch tokens of some files as rows, read when they are needed.
pub(super) struct PatchRows<'a> {
    files: Vec<&'a PatchFile>,
    /// The first row of each file, and the number of rows.
    starts: Vec<usize>,
}

impl<'a> PatchRows<'a> {
    /// Joins `files`, of which there must be at least one.
    pub fn new(files: Vec<&'a PatchFile>) -> Self {
        let mut starts = vec![0];
        files.iter().for_each(|file| starts.push(starts[starts.len() - 1] + file.features.slices().len() * file.features.grid().patches()));
        Self { files, starts }
    }
}

impl Rows for PatchRows<'_> {
    fn count(&self) -> usize {
        self.starts[self.files.len()]
    }

    fn width(&self) -> usize {
        self.files[0].features.width()
    }

    fn read<'b>(&'b self, first: usize, count: usize, buffer: &'b mut Vec<f32>) -> Result<&'b [f32]> {
        buffer.clear();
        let mut at = first;
        while at < first + count {
            let file = self.starts.partition_point(|start| *start <= at) - 1;
            let end = self.starts[file + 1].min(first + count);
            buffer.extend(self.files[file].features.tokens(at - self.starts[file], end - at)?);
            at = end;
        }
        Ok(buffer)
    }
}

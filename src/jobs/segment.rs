//! Segmentation of scans with a network that was fine-tuned in nnU-Net, into label files or into memory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::case::Case;
use super::memory::{self, ByteSize};
use super::observer::{Observer, UnderWay, check};
use super::pipeline;
use super::reads::is_own;
use super::text::name_text;
use crate::archive::{Listing, sha256};
use crate::backbone::{Choice, Tuning};
use crate::count::{product, values_in};
use crate::ct::{DicomImages, Geometry, Turn, Volume};
use crate::error::{Error, Result};
use crate::nnunet::{Frame, Prepared, Results, Segmented, Tiling};
use crate::output::{LabelFile, ProbabilityFile, SegFile, SegHeader, SegSettings, Targets, WRITTEN_BY};
use crate::segmenter::Segmenter;
use crate::tensor::Tensor;

/// How DICOM series and most converted scans are stored: columns run to the left, rows to posterior, slices to
/// superior.
const USUAL: &str = "LPS";

/// All settings of a segmentation job, except the networks and the scan.
#[derive(Clone, Debug)]
pub struct SegmentRecipe {
    /// The backend.
    pub backend: Choice,
    /// The backend's precision and kernels.
    pub tuning: Tuning,
    /// Step from one tile to the next as a fraction of a tile, from 0.01 to 1.
    pub step_size: f64,
    /// Whether to average scores over mirrored tiles, along the axes that the networks' training allows.
    pub mirror: bool,
    /// Whether to return the probability of every label, or of every region, beside the labels.
    pub probabilities: bool,
    /// The DICOM SEG to write beside the labels, if any.
    pub seg: Option<SegSettings>,
    /// Number of a slice's tiles in a batch; none for as many as the memory allows.
    pub batch: Option<usize>,
    /// The memory limit that sets the batch if `batch` is none.
    pub max_memory: Option<ByteSize>,
}

impl Default for SegmentRecipe {
    /// Returns the defaults of `nnUNetv2_predict`.
    fn default() -> Self {
        let (backend, tuning) = (Choice::default(), Tuning::default());
        Self { backend, tuning, step_size: 0.5, mirror: true, probabilities: false, seg: None, batch: None, max_memory: None }
    }
}

impl SegmentRecipe {
    /// Checks that the step between tiles is not too small and leaves no gaps.
    ///
    /// # Errors
    /// If the step is not from 0.01 to 1.
    pub fn check(&self) -> Result<()> {
        // With a smaller step than 0.01, thousands of tiles would cover a slice.
        if (0.01..=1.0).contains(&self.step_size) {
            return Ok(());
        }
        Err(Error::option("step_size", format!("{} is not from 0.01 to 1", self.step_size)))
    }

    /// Returns the SHA-256 of the settings that decide a case's files: the recipe, and the caller's own settings in
    /// `more`. The device and the networks do not count.
    pub fn settings_sha256(&self, more: &str) -> String {
        let Self { tuning, step_size, mirror, probabilities, seg, .. } = self;
        let seg = seg.as_ref().map(|seg| format!(" {}", seg.text())).unwrap_or_default();
        let settings = format!("{} {step_size} {} {probabilities}{seg}{more}", tuning.precision, !mirror);
        sha256(format!("{} segment {settings}", env!("CARGO_PKG_VERSION")).as_bytes())
    }

    /// Returns the files of a case whose label file is `target`. The label file is the last one.
    pub fn files(&self, target: &Path) -> Vec<PathBuf> {
        let probabilities = self.probabilities.then(|| beside_labels(target, "npz"));
        let seg = self.seg.is_some().then(|| beside_labels(target, "dcm"));
        probabilities.into_iter().chain(seg).chain([target.into()]).collect()
    }

    /// Returns the header of the DICOM SEG of `scan`, or none if the recipe asks for no SEG.
    ///
    /// # Errors
    /// If the scan is not DICOM or lacks what a SEG refers to, or the codes are those of other labels than `results`
    /// has.
    pub fn seg_header(&self, scan: &Scan, results: &Results) -> Result<Option<SegHeader>> {
        let Some(settings) = &self.seg else { return Ok(None) };
        let labels = &results.dataset.labels;
        settings.codes.check(labels)?;
        let Some(images) = &scan.dicom else {
            let problem = "is no DICOM series, to whose images a DICOM SEG refers; give the series itself, or leave out `seg`";
            return Err(Error::input(scan.volume.name(), problem));
        };
        SegHeader::new(scan.volume.name(), images, labels, &network_name(results), settings).map(Some)
    }
}

/// Returns the name of the data set's folder, `DatasetNNN_NAME`, or else that of the results folder in it.
fn network_name(results: &Results) -> String {
    let folder = results.folder().canonicalize().unwrap_or_else(|_| results.folder().into());
    let names = [folder.parent(), Some(folder.as_path())].map(|path| path.and_then(Path::file_name).map(name_text));
    let [data_set, own] = names.map(Option::unwrap_or_default);
    if data_set.starts_with("Dataset") { data_set } else { own }
}

/// Returns the path `NAME.ENDING` beside `NAME.nii.gz`.
pub fn beside_labels(target: &Path, ending: &str) -> PathBuf {
    let is_gzip = target.extension().is_some_and(|e| e.eq_ignore_ascii_case("gz"));
    let stem = if is_gzip { target.with_extension("") } else { target.to_path_buf() };
    stem.with_extension(ending)
}

/// Removes nnU-Net's channel number from a case's name: `case` for `case_0000`.
pub fn without_channel(name: &str) -> &str {
    name.strip_suffix("_0000").filter(|name| !name.is_empty()).unwrap_or(name)
}

/// Returns targets that protect the files of a results folder. With `overwrite`, other files that this program did not
/// write may be replaced.
///
/// # Errors
/// If the folder cannot be read.
pub fn segment_targets(results: &Path, overwrite: bool) -> Result<Targets> {
    let mut targets = Targets::new(overwrite);
    let files = Listing::below(results).map_err(|e| Error::checkpoint(results.display(), e))?.files;
    targets.reads("a file of the results folder", files.into_iter().filter(|file| !is_own(file)));
    Ok(targets)
}

/// An open scan with its stored axes, and its voxel grid in patient space.
#[derive(Debug)]
pub struct Scan {
    volume: Volume,
    geometry: Geometry,
    /// The images of a DICOM scan, slice by slice.
    dicom: Option<Arc<DicomImages>>,
}

impl Scan {
    /// Opens the scan of `case`. `observer` receives the reader's warnings.
    ///
    /// # Errors
    /// If the scan cannot be read, has no geometry, or is a second channel of an nnU-Net case.
    pub fn open(case: &Case, observer: &dyn Observer) -> Result<Self> {
        refuse_channel(case)?;
        let volume = Volume::open_series(&case.input, case.series.as_deref())?;
        volume.warnings().iter().for_each(|text| observer.warn(&format!("{}: {text}", case.input.display())));
        Self::from_volume(volume)
    }

    /// Creates a scan from `volume`, with its stored axes.
    ///
    /// # Errors
    /// If the volume has no geometry.
    pub fn from_volume(volume: Volume) -> Result<Self> {
        let (geometry, dicom) = (volume.geometry()?, volume.dicom().cloned());
        Ok(Self { volume, geometry, dicom })
    }
}

/// Refuses `case_0001` beside `case_0000`, which is another channel of the same case.
fn refuse_channel(case: &Case) -> Result<()> {
    // A name that is not UTF-8 has no channel number.
    let name = case.input.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let Some((stem, rest)) = name.rsplit_once('_') else { return Ok(()) };
    let Some((channel, ending)) = rest.split_once('.') else { return Ok(()) };
    let is_channel = channel.len() == 4 && channel != "0000" && channel.bytes().all(|b| b.is_ascii_digit());
    let first = case.input.with_file_name(format!("{stem}_0000.{ending}"));
    if is_channel && first.exists() {
        let problem = format!("is channel {channel} of the case {stem}, beside {}; only a single CT channel is supported", first.display());
        return Err(Error::input(case.input.display(), problem));
    }
    Ok(())
}

/// The size of each label in a scan.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelReport {
    /// Shape [S, H, W] of the scan, with the axes in the network's order.
    pub shape: [usize; 3],
    /// Number of voxels of each label, indexed by label.
    pub voxels: Vec<u64>,
    /// The volume of a voxel in millilitres.
    pub voxel_ml: f64,
    /// Time from the first slice to the last label.
    pub took: Duration,
}

/// The labels of a scan, in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelMap {
    /// Shape [S, H, W] of the scan, with its stored axes.
    pub shape: [usize; 3],
    /// The label of each voxel, row-major.
    pub labels: Vec<u16>,
    /// The probability of each label, or of each region if the networks have regions, at each voxel, [K, S, H, W], if
    /// the recipe requests them.
    pub probabilities: Option<Tensor>,
}

/// A recipe with its loaded networks, which processes one scan after another.
///
/// ```no_run
/// use meddino::jobs::{Case, Scan, SegmentJob, SegmentRecipe};
/// use meddino::nnunet::{Folds, Results};
///
/// let results = Results::open("results/TRAINER__PLANS__2d", &Folds::Found, "checkpoint_final.pth")?;
/// let job = SegmentJob::open(results, SegmentRecipe::default(), &())?;
/// let scan = Scan::open(&Case::new("scan.nii.gz"), &())?;
/// let map = job.compute(scan, &())?; // into memory
/// let scan = Scan::open(&Case::new("scan.nii.gz"), &())?;
/// let report = job.write(scan, "labels.nii.gz".as_ref(), &())?; // into a file
/// # Ok::<(), meddino::Error>(())
/// ```
pub struct SegmentJob {
    recipe: SegmentRecipe,
    results: Results,
    tiling: Tiling,
    segmenter: Segmenter,
    /// The orientations of scans that were noted.
    noted: Mutex<BTreeSet<String>>,
}

impl SegmentJob {
    /// Loads the networks of `results`. `observer` receives the backend's warnings.
    ///
    /// # Errors
    /// If a tensor cannot be read, the backend is not available, or the recipe is not valid.
    pub fn open(results: Results, recipe: SegmentRecipe, observer: &dyn Observer) -> Result<Self> {
        recipe.check()?;
        let mirror_axes = if recipe.mirror { results.mirror_axes() } else { &[] };
        let tiling = Tiling::new(results.configuration.tile, recipe.step_size, mirror_axes);
        let segmenter = Segmenter::new(&results, &recipe.backend, recipe.tuning)?;
        segmenter.warnings().iter().for_each(|warning| observer.warn(warning));
        let uncoded = recipe.seg.as_ref().map(|seg| seg.codes.without_code(&results.dataset.labels)).unwrap_or_default();
        if !uncoded.is_empty() {
            observer.note(&format!("DICOM SEG: no code is known for {}, coded as Tissue; give codes with `seg_codes`", uncoded.join(", ")));
        }
        Ok(Self { recipe, results, tiling, segmenter, noted: Mutex::default() })
    }

    /// Returns the job's settings.
    pub fn recipe(&self) -> &SegmentRecipe {
        &self.recipe
    }

    /// Returns the networks' results folder.
    pub fn results(&self) -> &Results {
        &self.results
    }

    /// Returns the device's name for display.
    pub fn device(&self) -> String {
        self.segmenter.device()
    }

    /// Segments `scan` into the file `target`, `.nii.gz`, `.nii`, `.nrrd` or `.mha`. Also writes probabilities if the
    /// recipe requests them.
    ///
    /// Replaces existing files; check with [`Targets`] first whether that is allowed.
    ///
    /// # Errors
    /// If the scan cannot be read or does not fit the networks, a file cannot be written, or the device fails.
    /// [`Error::Cancelled`] if `observer` cancels; then no file is left.
    pub fn write(&self, scan: Scan, target: &Path, observer: &dyn Observer) -> Result<LabelReport> {
        let seg = self.recipe.seg_header(&scan, &self.results)?;
        let ready = self.prepare(scan, observer)?;
        let _under_way = UnderWay::new(observer);
        let mut files = LabelFiles::create(target, &ready, seg, self)?;
        let report = self.each_slice(ready, observer, |segmented, _| files.push(&segmented))?;
        files.finish()?;
        Ok(report)
    }

    /// Segments `scan` into memory.
    ///
    /// # Errors
    /// As [`SegmentJob::write`], except for errors of files.
    pub fn compute(&self, scan: Scan, observer: &dyn Observer) -> Result<(LabelMap, LabelReport)> {
        let shape = scan.geometry.shape();
        let voxels = values_in(&shape).ok_or_else(|| Error::option("memory", format!("this machine cannot count {shape:?} voxels")))?;
        let probabilities = self.recipe.probabilities.then(|| Tensor::zeros([&[self.segmenter.classes()][..], &shape].concat()));
        let mut map = LabelMap { shape, labels: vec![0; voxels], probabilities };
        let ready = self.prepare(scan, observer)?;
        let turn = ready.prepared.turn();
        let _under_way = UnderWay::new(observer);
        let report = self.each_slice(ready, observer, |segmented, index| {
            map.put(&segmented, index, turn);
            Ok(())
        })?;
        Ok((map, report))
    }

    /// Reads the scan once for preprocessing, and chooses the batch.
    fn prepare(&self, scan: Scan, observer: &dyn Observer) -> Result<Ready> {
        let Scan { volume, geometry, .. } = scan;
        self.note_orientation(&volume, &geometry, observer);
        self.note_spacing(&volume, &geometry, observer);
        let prepared = Prepared::new(volume, &geometry, &self.results.configuration)?;
        let batch = self.batch(prepared.frame())?;
        Ok(Ready { prepared, geometry, batch })
    }

    /// Notes once for each orientation that the networks get a scan as it is stored, if that is not the usual way.
    fn note_orientation(&self, volume: &Volume, geometry: &Geometry, observer: &dyn Observer) {
        let (reader, stored) = (self.results.configuration.reader, geometry.axes());
        let is_new = || self.noted.lock().unwrap_or_else(PoisonError::into_inner).insert(stored.clone());
        if !reader.reorients() && stored != USUAL && is_new() {
            observer.note(&format!(
                "{}: is stored as {stored} (columns, rows, slices run to these sides), and {USUAL} is usual; the plans' reader, {}, gives the \
                 network slices as they are stored, so the network must have been trained on scans that are stored so",
                volume.name(),
                reader.name()
            ));
        }
    }

    /// Notes the voxel sizes that the networks get if the scan's header gives two.
    fn note_spacing(&self, volume: &Volume, geometry: &Geometry, observer: &dyn Observer) {
        if !geometry.has_two_spacings() {
            return;
        }
        let reader = self.results.configuration.reader;
        let [slice, row, column] = reader.spacing(geometry).map(|size| size as f32);
        let (source, why) = if reader.takes_pixdim(geometry) { ("pixdim", "") } else { ("its sform", ", which turns it") };
        observer.note(&format!(
            "{}: the networks get voxels of {column} x {row} x {slice} mm (columns, rows, slices), by {source}, as {} reads this scan{why}",
            volume.name(),
            reader.name()
        ));
    }

    /// Segments a scan slice by slice along the first axis in the network's order, and passes each slice and its number
    /// to `take`.
    fn each_slice(
        &self,
        ready: Ready,
        observer: &dyn Observer,
        mut take: impl FnMut(Segmented, usize) -> Result<()> + Send,
    ) -> Result<LabelReport> {
        let Ready { mut prepared, geometry, batch } = ready;
        let (frame, dataset) = (prepared.frame().clone(), &self.results.dataset);
        let (mut voxels, mut done, count) = (vec![0; dataset.labels.len()], 0, frame.shape[0]);
        let started = Instant::now();
        observer.progress(0, count);
        let mut slices = 0..count;
        pipeline::run(
            || slices.next().map(|index| prepared.slice(index)),
            |slice| {
                check(observer)?;
                let scores = slice.map(|slice| self.segmenter.slice(&slice, &self.tiling, batch, || check(observer))).transpose()?;
                Ok(frame.restore(scores.as_ref(), dataset, self.recipe.probabilities))
            },
            |segmented: Segmented| {
                check(observer)?;
                segmented.labels.iter().for_each(|label| voxels[usize::from(*label)] += 1);
                take(segmented, done)?;
                done += 1;
                observer.progress(done, count);
                Ok(())
            },
        )?;
        Ok(LabelReport { shape: frame.shape, voxels, voxel_ml: geometry.voxel_ml(), took: started.elapsed() })
    }

    /// Returns the number of tiles in a batch.
    fn batch(&self, frame: &Frame) -> Result<usize> {
        if let Some(batch) = self.recipe.batch {
            return Ok(batch);
        }
        let ([rows, columns], [_, height, width]) = (self.results.configuration.tile, frame.shape);
        // Two copies of a slice's scores (being summed, being read back) and one of its result, or four copies (saved,
        // computed, queued and being written) if there are probabilities.
        let pixels = 2 * product(&frame.padded) + product(&[height, width, if self.recipe.probabilities { 4 } else { 1 }]);
        let slice = product(&[self.segmenter.classes(), size_of::<f32>()]).saturating_mul(pixels);
        let need = |batch: usize| self.segmenter.bytes([batch, 1, rows, columns], frame.padded).map(|bytes| bytes + slice);
        let reason = format!("one tile of {rows} x {columns} needs {{}} with the weights; give more");
        memory::fit(self.tiling.passes(frame.padded).len(), self.segmenter.is_on_cpu(), self.recipe.max_memory, need, &reason)
    }
}

/// A scan that is ready to be segmented.
struct Ready {
    prepared: Prepared,
    geometry: Geometry,
    /// Number of tiles in a batch.
    batch: usize,
}

impl LabelMap {
    /// Stores slice `index` of the scan after `turn`.
    fn put(&mut self, segmented: &Segmented, index: usize, turn: Turn) {
        let [_, rows, columns] = self.shape;
        let voxels: usize = self.shape.iter().product();
        let [_, _, width] = turn.of_axes(self.shape);
        for (position, label) in segmented.labels.iter().enumerate() {
            let at = turn.stored_index([index, position / width, position % width], self.shape);
            let voxel = (at[0] * rows + at[1]) * columns + at[2];
            self.labels[voxel] = *label;
            if let (Some(volume), Some(slice)) = (&mut self.probabilities, &segmented.probabilities) {
                let classes = slice.data().chunks_exact(segmented.labels.len());
                classes.enumerate().for_each(|(class, plane)| volume.data_mut()[class * voxels + voxel] = plane[position]);
            }
        }
    }
}

/// The output files of a scan.
struct LabelFiles {
    labels: LabelFile,
    probabilities: Option<ProbabilityFile>,
    seg: Option<SegFile>,
}

impl LabelFiles {
    fn create(target: &Path, ready: &Ready, seg: Option<SegHeader>, job: &SegmentJob) -> Result<Self> {
        let Ready { prepared, geometry, .. } = ready;
        let (dataset, turn) = (&job.results.dataset, prepared.turn());
        let outputs = if dataset.regions.is_empty() {
            ("labels", serde_json::json!(dataset.labels))
        } else {
            ("regions", serde_json::json!(dataset.regions.iter().map(|region| &region.name).collect::<Vec<_>>()))
        };
        let metadata = || {
            BTreeMap::from([
                (WRITTEN_BY.to_string(), env!("CARGO_PKG_VERSION").to_string()),
                (outputs.0.to_string(), outputs.1.to_string()),
            ])
        };
        let create = |path: PathBuf| ProbabilityFile::create(&path, dataset.outputs(), geometry.shape(), turn, metadata());
        let probabilities = job.recipe.probabilities.then(|| create(beside_labels(target, "npz"))).transpose()?;
        let seg = seg.map(|header| SegFile::create(beside_labels(target, "dcm"), header, dataset.labels.len(), turn)).transpose()?;
        Ok(Self { labels: LabelFile::create(target, geometry, dataset.labels.len(), turn)?, probabilities, seg })
    }

    fn push(&mut self, segmented: &Segmented) -> Result<()> {
        if let (Some(file), Some(probabilities)) = (&mut self.probabilities, &segmented.probabilities) {
            file.push(probabilities)?;
        }
        self.seg.as_mut().map(|seg| seg.push(&segmented.labels)).transpose()?;
        self.labels.push(&segmented.labels)
    }

    /// Finishes the label file last, because an existing label file means that the case is done.
    fn finish(self) -> Result<()> {
        self.probabilities.map(ProbabilityFile::finish).transpose()?;
        self.seg.map(SegFile::finish).transpose()?;
        self.labels.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A manifest identifies finished work by this hash. If the hash of equal settings changed, all work would be
    /// redone.
    #[test]
    fn the_hash_of_settings_does_not_change() {
        assert_eq!(env!("CARGO_PKG_VERSION"), "0.1.0", "a new version changes the hashes; update them here");
        let recipe = SegmentRecipe { step_size: 0.25, mirror: false, probabilities: true, ..SegmentRecipe::default() };
        assert_eq!(recipe.settings_sha256(" true 40,400"), "c47b884e69af6a161076a64b8b7e88f65feb8e68c9e7734fad66b4c11a67a9d0");
        assert_ne!(recipe.settings_sha256(""), recipe.settings_sha256(" false 40,400"));
    }

    #[test]
    fn slices_of_permuted_axes_are_stored_at_their_voxels() {
        let mut map = LabelMap { shape: [2, 3, 4], labels: vec![0; 24], probabilities: None };
        // Each slice has a fixed column; its rows run along the slices and its columns along the rows. A label is the
        // index of its voxel.
        let turn = Turn::of_order([2, 0, 1]);
        for column in 0..4 {
            let voxel = |position: usize| (position / 3 * 3 + position % 3) * 4 + column;
            let labels = (0..6).map(|position| voxel(position) as u16).collect();
            map.put(&Segmented { labels, probabilities: None }, column, turn);
        }
        assert_eq!(map.labels, (0..24).collect::<Vec<u16>>());
    }
}

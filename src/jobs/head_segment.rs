//! Segmentation of scans by a head on patch tokens.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::case::Case;
use super::engine::{Engine, ModelChoice};
use super::head_scores::HeadScores;
use super::input::{Input, View};
use super::memory::ByteSize;
use super::observer::{Observer, UnderWay};
use super::segment::LabelReport;
use crate::archive::{sha256, sha256_of_file};
use crate::ct::{Orient, Turn, Volume};
use crate::error::{Error, Result};
use crate::fitted::{BodyHead, DenseHead, HeadFile, cut_to_body};
use crate::heads::Lattice;
use crate::output::LabelFile;
use crate::tensor::Tensor;

/// The most shifts along a side.
const MAX_SHIFTS: usize = 4;

/// All settings of a segmentation by a head, except the scan.
#[derive(Clone, Debug)]
pub struct HeadRecipe {
    /// The file of the head.
    pub head: PathBuf,
    /// The file of a head that tells the body from what is around it, which becomes label 0.
    pub foreground: Option<PathBuf>,
    /// The model whose tokens the head was fitted to, and its backend.
    pub model: ModelChoice,
    /// Passes along each side with the image moved by fractions of a patch: 1, 2 or 4.
    pub shifts: usize,
    /// Number of images in a batch; none for as many as the memory allows.
    pub batch: Option<usize>,
    /// The memory limit that sets the batch if `batch` is none.
    pub max_memory: Option<ByteSize>,
}

/// A head and its model, which label one scan after another.
pub struct HeadJob {
    recipe: HeadRecipe,
    scores: HeadScores,
    /// The hashes of the heads' files.
    heads_sha256: String,
    view: View,
    engine: Engine,
}

impl HeadJob {
    /// Opens the heads, and loads the model.
    ///
    /// # Errors
    /// If a head cannot be read or is not one of patch tokens of scans, that of the body has no label 0, the shifts do not
    /// divide a patch, or the model cannot be loaded.
    pub fn open(recipe: HeadRecipe, observer: &dyn Observer) -> Result<Self> {
        let (head, mut heads_sha256) = opened(&recipe.head)?;
        let mut body = None;
        if let Some(path) = &recipe.foreground {
            let (head, sha256) = opened(path)?;
            heads_sha256 += &format!(" foreground {sha256}");
            body = Some(BodyHead::new(head, path.display())?);
        }
        let (size, window, orient) = head.preprocessing(recipe.head.display())?;
        let view = View { size, window, orient };
        let model = recipe.model.open(observer)?;
        let patch = model.model().config().patch_size;
        if recipe.shifts == 0 || recipe.shifts > MAX_SHIFTS || !patch.is_multiple_of(recipe.shifts) {
            return Err(Error::option("shifts", format!("expected 1, 2 or 4, found {}", recipe.shifts)));
        }
        let engine = model.load(observer)?;
        Ok(Self { scores: HeadScores::new(head, body, &engine)?, heads_sha256, view, engine, recipe })
    }

    /// Returns the SHA-256 of the settings and the heads, which decide a case's labels together with the weights.
    pub fn settings_sha256(&self) -> String {
        let Self { recipe, heads_sha256, .. } = self;
        let model = &recipe.model;
        let settings = format!("{heads_sha256} {} {} {:?}", recipe.shifts, model.tuning.precision, model.rope);
        sha256(format!("{} head {settings}", env!("CARGO_PKG_VERSION")).as_bytes())
    }

    /// Returns the model on its backend.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Returns the labels that the head knows.
    pub fn labels(&self) -> &[u16] {
        self.scores.head().labels()
    }

    /// Labels the scan of `case` into the file `target`, on the scan's voxel grid.
    ///
    /// Replaces existing files; check with [`crate::output::Targets`] first whether that is allowed.
    ///
    /// # Errors
    /// If the scan cannot be read or has no geometry, the head was fitted to tokens of another model or preprocessing, the
    /// file cannot be written, or the device fails. [`Error::Cancelled`] if `observer` cancels; then no file is left.
    pub fn write(&self, case: &Case, target: &Path, observer: &dyn Observer) -> Result<LabelReport> {
        let volume = Volume::open_series(&case.input, case.series.as_deref())?;
        let geometry = volume.geometry()?;
        let turn = match self.view.orient {
            Orient::Lps => volume.affine().map_or(Turn::NONE, Turn::to_lps),
            Orient::Stored => Turn::NONE,
        };
        let mut input = Input::from_scan(volume, case, self.view.clone(), observer)?;
        let [count, _, rows, columns] = input.slices();
        let [_, channels, height, width] = input.shape();
        let config = self.engine.model().config();
        let (_, grid) = config.check_image(&[1, channels, height, width])?;
        let all: Vec<usize> = (0..count).collect();
        let made_by = self.engine.provenance(&mut input, &all)?.metadata();
        for head in std::iter::once(self.scores.head()).chain(self.scores.body().map(BodyHead::head)) {
            head.check(&case.text(), &made_by, head.layers())?;
        }

        let (shifts, patch, k) = (self.recipe.shifts, config.patch_size, self.labels().len());
        let passes = shifts * shifts;
        let lattice = Lattice::new((grid.rows, grid.cols), patch, shifts, (height, width));
        let largest = usize::from(self.labels().iter().copied().max().unwrap_or(0));
        let mut file = LabelFile::create(target, &geometry, largest + 1, turn)?;
        let (mut voxels, mut done, mut submitted) = (vec![0; largest + 1], 0, 0);
        let (mut classes, mut body) = (Cells::new(lattice, shifts, k), Cells::new(lattice, shifts, 1));
        let by_memory = || self.scores.batch(&self.engine, [channels, height, width], count * passes, self.recipe.max_memory);
        let batch = self.recipe.batch.map_or_else(by_memory, Ok)?;
        let _under_way = UnderWay::new(observer);
        observer.progress(0, count);
        let started = Instant::now();
        // Each slice comes once for every pass.
        let repeated: Vec<usize> = all.iter().flat_map(|slice| std::iter::repeat_n(*slice, passes)).collect();
        let submit = |images: &Tensor| {
            let moved = moved(images, patch / shifts, shifts, submitted);
            submitted += images.shape()[0];
            self.scores.submit(&self.engine, &moved, observer)
        };
        Engine::pipe(&mut input, &repeated, batch, observer, submit, |batch, _| {
            let scores = self.scores.wait(batch)?;
            let mut margins = scores.body.iter().flat_map(|margins| margins.chunks_exact(grid.patches()));
            for found in scores.classes.chunks_exact(grid.patches() * k) {
                classes.fill(done % passes, found);
                margins.next().into_iter().for_each(|margins| body.fill(done % passes, margins));
                done += 1;
                if done % passes == 0 {
                    let mut labels = self.scores.head().decide(&classes.values, &lattice, (rows, columns));
                    if scores.body.is_some() {
                        cut_to_body(&mut labels, &body.values, &lattice, (rows, columns));
                    }
                    labels.iter().for_each(|label| voxels[usize::from(*label)] += 1);
                    file.push(&labels)?;
                    observer.progress(done / passes, count);
                }
            }
            Ok(())
        })?;
        file.finish()?;
        Ok(LabelReport { shape: [count, rows, columns], voxels, voxel_ml: geometry.voxel_ml(), took: started.elapsed() })
    }
}

/// Opens a head, and returns it with the hash of its file.
fn opened(path: &Path) -> Result<(DenseHead, String)> {
    let head = DenseHead::new(&HeadFile::open(path)?, path.display())?;
    Ok((head, sha256_of_file(path).map_err(|e| Error::input(path.display(), e))?))
}

/// The values of a slice's cells, K each, which its passes fill one after another.
struct Cells {
    values: Vec<f32>,
    k: usize,
    shifts: usize,
    /// Number of cells in a row.
    columns: usize,
}

impl Cells {
    fn new(lattice: Lattice, shifts: usize, k: usize) -> Self {
        let (rows, columns) = lattice.cells;
        Self { values: vec![0.0; rows * columns * k], k, shifts, columns }
    }

    /// Takes the values [P, K] of the patches of pass `pass`.
    fn fill(&mut self, pass: usize, found: &[f32]) {
        let Self { values, k, shifts, columns } = self;
        let (down, across, patches) = (pass / *shifts, pass % *shifts, *columns / *shifts);
        for (at, cell) in found.chunks_exact(*k).enumerate() {
            let (row, column) = (at / patches * *shifts + down, at % patches * *shifts + across);
            values[(row * *columns + column) * *k..][..*k].copy_from_slice(cell);
        }
    }
}

/// Moves each of `images` [B, C, H, W] up and to the left by multiples of `step` pixels; the values of the last rows and
/// columns are repeated. The first image is number `first` of all passes: each slice comes `shifts` times `shifts` times,
/// with the columns' shift first.
fn moved(images: &Tensor, step: usize, shifts: usize, first: usize) -> Tensor {
    if shifts == 1 {
        return images.clone();
    }
    let &[_, c, h, w] = images.shape() else { unreachable!("[B, C, H, W]") };
    let mut values = Vec::with_capacity(images.data().len());
    for (i, image) in images.data().chunks_exact(c * h * w).enumerate() {
        let pass = (first + i) % (shifts * shifts);
        let (down, across) = (pass / shifts * step, pass % shifts * step);
        for plane in image.chunks_exact(h * w) {
            for y in 0..h {
                let row = &plane[(y + down).min(h - 1) * w..][..w];
                values.extend_from_slice(&row[across.min(w)..]);
                values.extend(std::iter::repeat_n(row[w - 1], across.min(w)));
            }
        }
    }
    Tensor::new(images.shape(), values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_fill_cells_between_each_other() {
        let mut cells = Cells::new(Lattice::new((1, 2), 16, 2, (16, 32)), 2, 1);
        (0..4).for_each(|pass| cells.fill(pass, &[pass as f32, 10.0 + pass as f32]));
        assert_eq!(cells.values, [0.0, 1.0, 10.0, 11.0, 2.0, 3.0, 12.0, 13.0]);
    }

    #[test]
    fn an_image_is_moved_as_its_pass_says() {
        let images = Tensor::new([2, 1, 2, 3], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0]);
        assert_eq!(moved(&images, 1, 1, 0), images);
        assert_eq!(moved(&images, 1, 2, 0).data(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 11.0, 12.0, 12.0, 14.0, 15.0, 15.0]);
        assert_eq!(moved(&images, 1, 2, 2).data(), [3.0, 4.0, 5.0, 3.0, 4.0, 5.0, 14.0, 15.0, 15.0, 14.0, 15.0, 15.0]);
    }
}

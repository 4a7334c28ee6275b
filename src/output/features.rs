//! Features of many images in one file, written image by image.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::format::Format;
use super::tensors::Output;
use crate::archive::{ArchiveWriter, Dtype, Stored};
use crate::error::Result;
use crate::vit::config::{Config, Grid};
use crate::vit::features::Features;

/// What a file of features holds.
#[derive(Clone, Debug)]
pub struct Contents {
    /// How many images, S.
    pub images: usize,
    /// The patches of each.
    pub grid: Grid,
    /// The tensors, in the file's order. Storage tokens are left out for a model that has none.
    pub outputs: Vec<Output>,
    /// Their type: f32 or f16.
    pub dtype: Dtype,
}

/// A file of features that is filled batch by batch, so that a volume's features are never all in memory.
///
/// The file gets its name when it is complete. Until then it grows as `.NAME.partial` beside it, where a run that wants
/// the same file, to the byte of its header, and computes it by the same method goes on after the last image that a
/// killed run made durable.
#[derive(Debug)]
pub struct FeatureFile {
    file: ArchiveWriter,
    #[cfg_attr(not(feature = "readers"), expect(dead_code, reason = "for the formats that are written from the finished file"))]
    path: PathBuf,
    format: Format,
    #[cfg_attr(not(feature = "readers"), expect(dead_code, reason = "for the formats that are written from the finished file"))]
    metadata: BTreeMap<String, String>,
    /// The outputs in the file's order, and how many elements one image has of each.
    outputs: Vec<(Output, usize)>,
    images: usize,
    written: usize,
}

impl FeatureFile {
    /// Starts the file at `path`, or resumes it. `metadata` goes into the file, see [`super::Provenance`]. `method`
    /// names everything that decides the last bits of the features, such as the device and its driver. Only the
    /// unfinished file holds the method, so that a run with another method starts the file anew.
    ///
    /// # Errors
    /// If the file cannot be written there, another run is writing it, or `format` holds one tensor and several are
    /// asked for.
    pub fn create(
        path: impl AsRef<Path>,
        format: Format,
        config: &Config,
        contents: &Contents,
        metadata: BTreeMap<String, String>,
        method: &str,
    ) -> Result<Self> {
        let (path, images) = (path.as_ref().to_path_buf(), contents.images);
        let has = |output: &Output| *output != Output::Storage || config.n_storage_tokens > 0;
        let kept: Vec<Output> = contents.outputs.iter().copied().filter(has).collect();
        format.check(&kept)?;
        let image = |output: &Output| output.shape(config, contents.grid);
        let stored =
            |output: &Output| (output.to_string(), Stored { shape: [vec![images], image(output)].concat(), dtype: contents.dtype });
        let file = ArchiveWriter::resume(&path, &kept.iter().map(stored).collect::<Vec<_>>(), &metadata, method)?;
        let outputs: Vec<_> = kept.iter().map(|o| (*o, image(o).iter().product())).collect();
        let written = usize::try_from(file.resumed()).unwrap_or(usize::MAX).min(images);
        Ok(Self { file, path, format, metadata, outputs, images, written })
    }

    /// How many images are written: more than 0 at the start if a killed run had come that far.
    pub fn written(&self) -> usize {
        self.written
    }

    /// The method of an earlier run whose features were discarded, because it is another one.
    pub fn other_method(&self) -> Option<&str> {
        self.file.other_method()
    }

    /// Writes once more from image `first` on.
    ///
    /// # Panics
    /// If images before `first` are missing.
    pub fn rewind(&mut self, first: usize) {
        assert!(first <= self.written, "image {first} after {}", self.written);
        self.written = first;
    }

    /// Writes the features of the next B images.
    ///
    /// # Errors
    /// If a value is beyond the type's range, or the disk is full or fails.
    ///
    /// # Panics
    /// If there are more images than promised, or a tensor has not the size promised or was not asked for.
    pub fn push(&mut self, features: &Features) -> Result<()> {
        let batch = features.x_norm.shape()[0];
        assert!(self.written + batch <= self.images, "{} + {batch} of {} images", self.written, self.images);
        for (i, (output, image)) in self.outputs.iter().enumerate() {
            let tensor = output.of(features);
            assert_eq!(tensor.data().len(), batch * image, "{output} of {batch} images");
            self.file.write(i, self.written * image, tensor.data())?;
        }
        self.written += batch;
        self.file.count(self.written as u64)
    }

    /// Leaves the unfinished file for a later run; dropped, it is removed.
    pub fn keep(self) {
        self.file.keep();
    }

    /// Gives the complete file its name.
    ///
    /// # Errors
    /// If the disk fails.
    ///
    /// # Panics
    /// If images are missing.
    #[cfg_attr(not(feature = "readers"), expect(unused_mut, reason = "the other formats read the file"))]
    pub fn finish(mut self) -> Result<()> {
        assert_eq!(self.written, self.images, "every promised image is written");
        match self.format {
            Format::Safetensors => self.file.finish(),
            #[cfg(feature = "readers")]
            Format::Npz => super::npz::write(&self.path, &mut self.file, &self.metadata),
            #[cfg(feature = "readers")]
            Format::Npy => super::npy::write(&self.path, &mut self.file, &self.metadata),
        }
    }
}

#[cfg(test)]
mod tests {
    use safetensors::SafeTensors;

    use super::*;
    use crate::tensor::Tensor;

    /// Features of `b` images, every value `seed` plus its index.
    fn features(config: &Config, grid: Grid, b: usize, seed: f32) -> Features {
        let t = config.prefix_tokens() + grid.patches();
        let tokens = |from: f32| Tensor::new([b, t, config.embed_dim], (0..b * t * config.embed_dim).map(|i| from + i as f32).collect());
        Features { grid, x_norm: tokens(seed), x_prenorm: Some(tokens(-seed)), layers: vec![(1, tokens(2.0 * seed))], taps: Vec::new() }
    }

    fn create(
        path: &Path,
        config: &Config,
        grid: Grid,
        images: usize,
        outputs: &[Output],
        metadata: BTreeMap<String, String>,
    ) -> FeatureFile {
        let contents = Contents { images, grid, outputs: outputs.to_vec(), dtype: Dtype::F32 };
        FeatureFile::create(path, Format::Safetensors, config, &contents, metadata, "").expect("created")
    }

    #[test]
    fn batches_land_where_their_images_belong() {
        let (config, grid) = (Config::micro(), Grid { rows: 2, cols: 3 });
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.safetensors");
        let outputs = [Output::Cls, Output::Storage, Output::Patch, Output::Prenorm, Output::Layer(1)];
        let metadata = BTreeMap::from([("note".to_string(), "\"quoted\"\n\u{e4}".to_string())]);
        let batches = [features(&config, grid, 2, 1e5), features(&config, grid, 1, 2e5)];

        let mut file = create(&path, &config, grid, 3, &outputs, metadata);
        batches.iter().for_each(|batch| file.push(batch).expect("written"));
        assert!(!path.exists(), "the file has no name before it is complete");
        file.finish().expect("named");

        let bytes = std::fs::read(&path).expect("read");
        let (_, header) = SafeTensors::read_metadata(&bytes).expect("a safetensors file");
        assert_eq!(header.metadata().as_ref().expect("metadata")["note"], "\"quoted\"\n\u{e4}");
        let read = SafeTensors::deserialize(&bytes).expect("a safetensors file");
        for output in outputs {
            let view = read.tensor(&output.to_string()).expect("present");
            let want: Vec<u8> =
                batches.iter().flat_map(|b| output.of(b).data().iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>()).collect();
            assert_eq!(view.shape()[0], 3);
            assert_eq!(view.shape()[1..], output.shape(&config, grid));
            assert_eq!(view.data(), want, "{output}");
        }
    }

    #[test]
    fn a_model_without_storage_tokens_writes_none() {
        let (config, grid) = (Config { n_storage_tokens: 0, ..Config::micro() }, Grid { rows: 1, cols: 1 });
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.safetensors");
        let mut file = create(&path, &config, grid, 1, &[Output::Storage, Output::Cls], BTreeMap::new());
        file.push(&features(&config, grid, 1, 0.0)).expect("written");
        file.finish().expect("named");
        let bytes = std::fs::read(&path).expect("read");
        assert_eq!(SafeTensors::deserialize(&bytes).expect("a safetensors file").names(), ["x_norm_clstoken"]);
    }

    #[test]
    #[should_panic(expected = "every promised image")]
    fn a_file_that_lacks_images_gets_no_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let (config, grid) = (Config::micro(), Grid { rows: 1, cols: 1 });
        let file = create(&folder.path().join("x"), &config, grid, 1, &[Output::Cls], BTreeMap::new());
        file.finish().expect("not reached");
    }
}

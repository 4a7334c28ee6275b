//! Writes the features of many images into one file, image by image.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::format::Format;
use super::tensors::Output;
use crate::archive::{ArchiveWriter, Dtype, TensorHeader};
use crate::error::Result;
use crate::vit::config::{Config, Grid};
use crate::vit::features::Features;

/// The contents of a feature file.
#[derive(Clone, Debug)]
pub struct Contents {
    /// Number of images, S.
    pub images: usize,
    /// The patch grid of each image.
    pub grid: Grid,
    /// The tensors, in the file's order. Storage tokens are left out for a model that has none.
    pub outputs: Vec<Output>,
    /// The tensors' element type: f32 or f16.
    pub dtype: Dtype,
}

/// A feature file that is filled batch by batch, so that a volume's features are never all in memory.
///
/// The file gets its name when it is complete. Until then it is `.NAME.partial` next to its target. If a run is killed,
/// a later run resumes after the last image that the killed run made durable. The later run must want a file with the
/// same header, byte for byte, and compute it by the same method.
#[derive(Debug)]
pub struct FeatureFile {
    file: ArchiveWriter,
    #[cfg_attr(not(feature = "readers"), expect(dead_code, reason = "for the formats that are written from the finished file"))]
    path: PathBuf,
    format: Format,
    #[cfg_attr(not(feature = "readers"), expect(dead_code, reason = "for the formats that are written from the finished file"))]
    metadata: BTreeMap<String, String>,
    /// The outputs in the file's order, each with its number of elements per image.
    outputs: Vec<(Output, usize)>,
    images: usize,
    written: usize,
}

impl FeatureFile {
    /// Starts the file at `path`, or resumes it. `metadata` goes into the file, see [`super::Provenance`]. `method`
    /// names everything that decides the last bits of the features, such as the device and its driver. Only the
    /// unfinished file stores the method, so that a run with another method starts the file anew.
    ///
    /// # Errors
    /// If the file cannot be written there, another run is writing it, or `format` can hold only one tensor and another
    /// number is requested.
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
            |output: &Output| (output.to_string(), TensorHeader { shape: [vec![images], image(output)].concat(), dtype: contents.dtype });
        let file = ArchiveWriter::resume(&path, &kept.iter().map(stored).collect::<Vec<_>>(), &metadata, method)?;
        let outputs: Vec<_> = kept.iter().map(|o| (*o, image(o).iter().product())).collect();
        let written = usize::try_from(file.resumed()).unwrap_or(usize::MAX).min(images);
        Ok(Self { file, path, format, metadata, outputs, images, written })
    }

    /// Returns the number of images written. It is above 0 at the start if the file was resumed.
    pub fn written(&self) -> usize {
        self.written
    }

    /// Returns the method of an earlier run if it differs from this run's method and the earlier features were
    /// therefore discarded.
    pub fn other_method(&self) -> Option<&str> {
        self.file.other_method()
    }

    /// Moves the write position back to image `first`, so that the images from there on are written again.
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
    /// If there are more images than promised, or a tensor has another size than promised or was not requested.
    pub fn push(&mut self, features: &Features) -> Result<()> {
        let batch = features.x_norm.shape()[0];
        assert!(self.written + batch <= self.images, "{} + {batch} of {} images", self.written, self.images);
        for (i, (output, image)) in self.outputs.iter().enumerate() {
            for at in 0..batch {
                let values = output.of(features, at);
                assert_eq!(values.len(), *image, "{output} of one image");
                self.file.write(i, (self.written + at) * image, &values)?;
            }
        }
        self.written += batch;
        self.file.count(self.written as u64)
    }

    /// Leaves the unfinished file for a later run. Without this call, dropping it removes the file.
    pub fn keep(self) {
        self.file.keep();
    }

    /// Writes the complete file in its format and gives it its name.
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

    /// Creates features of `b` images, in which every value is `seed` plus its index.
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
        let images = [(&batches[0], 0), (&batches[0], 1), (&batches[1], 0)];
        for output in outputs {
            let view = read.tensor(&output.to_string()).expect("present");
            let want: Vec<u8> =
                images.iter().flat_map(|(batch, image)| bytemuck::pod_collect_to_vec::<f32, u8>(&output.of(batch, *image))).collect();
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

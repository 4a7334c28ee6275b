//! Features of many images in one `.safetensors` file, written image by image.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use crate::archive::{ArchiveWriter, Dtype, Stored};
use crate::error::Result;
use crate::tensor::Tensor;
use crate::vit::config::{Config, Grid};
use crate::vit::features::{Features, Request};

/// One tensor of an output file. S images, R storage tokens, P patches, T = 1 + R + P tokens, C channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// `x_norm_clstoken` [S, C]
    Cls,
    /// `x_storage_tokens` [S, R, C]
    Storage,
    /// `x_norm_patchtokens` [S, P, C]
    Patch,
    /// `x_prenorm` [S, T, C]: every token before the final norm.
    Prenorm,
    /// `layers.N` [S, T, C]: every token after block N and the final norm.
    Layer(usize),
}

impl Output {
    /// What a forward pass must keep for these.
    pub fn request(outputs: &[Self]) -> Request {
        let layers = outputs.iter().filter_map(|o| if let Self::Layer(n) = o { Some(*n) } else { None });
        Request { prenorm: outputs.contains(&Self::Prenorm), layers: layers.collect(), taps: false }
    }

    /// The shape for one image: [C], or [tokens, C].
    fn shape(self, config: &Config, grid: Grid) -> Vec<usize> {
        let (c, r, p) = (config.embed_dim, config.n_storage_tokens, grid.patches());
        match self {
            Self::Cls => vec![c],
            Self::Storage => vec![r, c],
            Self::Patch => vec![p, c],
            Self::Prenorm | Self::Layer(_) => vec![config.prefix_tokens() + p, c],
        }
    }

    /// The tensor of a batch: [B, ..].
    fn of(self, features: &Features) -> Cow<'_, Tensor> {
        match self {
            Self::Cls => Cow::Owned(features.cls()),
            Self::Storage => Cow::Owned(features.storage()),
            Self::Patch => Cow::Owned(features.patches()),
            Self::Prenorm => Cow::Borrowed(features.x_prenorm.as_ref().expect("asked for by Output::request")),
            Self::Layer(n) => Cow::Borrowed(&features.layers.iter().find(|(i, _)| *i == n).expect("asked for by Output::request").1),
        }
    }
}

impl fmt::Display for Output {
    /// The tensor's name in the file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cls => write!(f, "x_norm_clstoken"),
            Self::Storage => write!(f, "x_storage_tokens"),
            Self::Patch => write!(f, "x_norm_patchtokens"),
            Self::Prenorm => write!(f, "x_prenorm"),
            Self::Layer(n) => write!(f, "layers.{n}"),
        }
    }
}

/// A `.safetensors` file of f32 features that is filled batch by batch, so that a volume's features are never all in memory.
///
/// The file gets its name when it is complete.
#[derive(Debug)]
pub struct FeatureFile {
    file: ArchiveWriter,
    /// The outputs in the file's order, and how many elements one image has of each.
    outputs: Vec<(Output, usize)>,
    images: usize,
    written: usize,
}

impl FeatureFile {
    /// Starts the file at `path` for `images` images of `grid` patches. `metadata` goes into its header.
    ///
    /// Tensors stand in the order of `outputs`; storage tokens are left out for a model that has none.
    ///
    /// # Errors
    /// If the file cannot be written there.
    pub fn create(
        path: impl AsRef<Path>,
        config: &Config,
        grid: Grid,
        images: usize,
        outputs: &[Output],
        metadata: &BTreeMap<String, String>,
    ) -> Result<Self> {
        let has = |output: &Output| *output != Output::Storage || config.n_storage_tokens > 0;
        let kept: Vec<Output> = outputs.iter().copied().filter(has).collect();
        let stored = |output: &Output| {
            (output.to_string(), Stored { shape: [vec![images], output.shape(config, grid)].concat(), dtype: Dtype::F32 })
        };
        let file = ArchiveWriter::create(path.as_ref(), &kept.iter().map(stored).collect::<Vec<_>>(), metadata)?;
        let outputs = kept.into_iter().map(|o| (o, o.shape(config, grid).iter().product())).collect();
        Ok(Self { file, outputs, images, written: 0 })
    }

    /// Writes the features of the next B images.
    ///
    /// # Errors
    /// If the disk is full or fails.
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
        Ok(())
    }

    /// Gives the complete file its name.
    ///
    /// # Errors
    /// If the disk fails.
    ///
    /// # Panics
    /// If images are missing.
    pub fn finish(self) -> Result<()> {
        assert_eq!(self.written, self.images, "every promised image is written");
        self.file.finish()
    }
}

#[cfg(test)]
mod tests {
    use safetensors::SafeTensors;

    use super::*;

    /// Features of `b` images, every value `seed` plus its index.
    fn features(config: &Config, grid: Grid, b: usize, seed: f32) -> Features {
        let t = config.prefix_tokens() + grid.patches();
        let tokens = |from: f32| Tensor::new([b, t, config.embed_dim], (0..b * t * config.embed_dim).map(|i| from + i as f32).collect());
        Features { grid, x_norm: tokens(seed), x_prenorm: Some(tokens(-seed)), layers: vec![(1, tokens(2.0 * seed))], taps: Vec::new() }
    }

    #[test]
    fn batches_land_where_their_images_belong() {
        let (config, grid) = (Config::micro(), Grid { rows: 2, cols: 3 });
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.safetensors");
        let outputs = [Output::Cls, Output::Storage, Output::Patch, Output::Prenorm, Output::Layer(1)];
        let metadata = BTreeMap::from([("note".to_string(), "\"quoted\"\n\u{e4}".to_string())]);
        let batches = [features(&config, grid, 2, 1e5), features(&config, grid, 1, 2e5)];

        let mut file = FeatureFile::create(&path, &config, grid, 3, &outputs, &metadata).expect("created");
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
        let mut file = FeatureFile::create(&path, &config, grid, 1, &[Output::Storage, Output::Cls], &BTreeMap::new()).expect("created");
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
        let file = FeatureFile::create(folder.path().join("x"), &config, grid, 1, &[Output::Cls], &BTreeMap::new()).expect("created");
        file.finish().expect("not reached");
    }
}

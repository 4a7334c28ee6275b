//! Features of a slice for JavaScript.

use std::collections::BTreeMap;

use meddino::heads::Lattice;
use meddino::maps::{Mesh, cosine};
use meddino::output::Provenance;
use meddino::vit::features::Features as Tokens;
use meddino::{Error, Tensor};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::error::{Result, object, thrown};

/// What JavaScript is told of features.
#[derive(serde::Serialize)]
struct About {
    rows: usize,
    cols: usize,
    width: usize,
    /// Height and width of the area that the patches cover, in pixels of the slice.
    covered: (f64, f64),
    layers: Vec<usize>,
}

/// The features of one slice: a token for each patch, one for the slice, and the storage tokens.
#[wasm_bindgen]
pub struct Features {
    tokens: Tokens,
    /// [P, C]
    patches: Tensor,
    mesh: Mesh,
    /// Side of a patch, in pixels of the image.
    patch_size: usize,
    /// Height and width of the image.
    image: (usize, usize),
    /// Where they come from, as the command writes it into its files.
    origin: BTreeMap<String, String>,
}

impl Features {
    /// Takes the tokens of an image that `origin` describes.
    pub(crate) fn new(tokens: Tokens, origin: &Provenance, slice: (usize, usize)) -> Self {
        let (image, patch_size) = (origin.image, origin.config.patch_size);
        let mesh = Mesh::new(tokens.grid, patch_size, image, slice);
        let patches = tokens.patches();
        let patches = Tensor::new([tokens.grid.patches(), patches.cols()], patches.into_data());
        Self { tokens, patches, mesh, patch_size, image, origin: origin.metadata() }
    }

    /// Returns where the features come from, as the command writes it into its files.
    pub(crate) fn origin(&self) -> &BTreeMap<String, String> {
        &self.origin
    }

    /// Returns the patches as cells of scores over the slice.
    pub(crate) fn lattice(&self) -> Lattice {
        Lattice::new((self.mesh.grid.rows, self.mesh.grid.cols), self.patch_size, 1, self.image)
    }

    /// Returns height and width of the slice.
    pub(crate) fn slice(&self) -> (usize, usize) {
        self.mesh.slice
    }

    pub(crate) fn tensor(&self) -> &Tensor {
        &self.patches
    }
}

#[wasm_bindgen]
impl Features {
    /// Returns the rows and columns of patches, the width of a token, and the area that the patches cover.
    pub fn about(&self) -> Result<JsValue> {
        let layers = self.tokens.layers.iter().map(|(layer, _)| *layer).collect();
        let (rows, cols) = (self.mesh.grid.rows, self.mesh.grid.cols);
        object(&About { rows, cols, width: self.patches.cols(), covered: self.mesh.covered(), layers })
    }

    /// Returns the patches' tokens, row by row: P x C values.
    pub fn patches(&self) -> Vec<f32> {
        self.patches.data().to_vec()
    }

    /// Returns the slice's token: C values.
    pub fn cls(&self) -> Vec<f32> {
        self.tokens.cls().into_data()
    }

    /// Returns the storage tokens: R x C values.
    pub fn storage(&self) -> Vec<f32> {
        self.tokens.storage().into_data()
    }

    /// Returns all tokens of a block that was asked for, through the final norm: T x C values.
    pub fn layer(&self, index: usize) -> Result<Vec<f32>> {
        let found = self.tokens.layers.iter().find(|(layer, _)| *layer == index);
        let missing = || thrown(Error::option("layers", format!("the tokens of block {index} were not asked for")));
        Ok(found.ok_or_else(missing)?.1.data().to_vec())
    }

    /// Returns the patch at (x, y), in pixels of the slice from its top left corner; nothing where the model saw none.
    #[wasm_bindgen(js_name = patchAt)]
    pub fn patch_at(&self, x: f64, y: f64) -> Option<usize> {
        self.mesh.patch_at(x, y)
    }

    /// Returns the token of one patch: C values.
    pub fn token(&self, patch: usize) -> Result<Vec<f32>> {
        let (patches, width) = (self.patches.rows(), self.patches.cols());
        if patch >= patches {
            let problem = format!("there is no patch {patch}: this slice has patches 0 to {}", patches - 1);
            return Err(thrown(Error::option("patch", problem)));
        }
        Ok(self.patches.data()[patch * width..][..width].to_vec())
    }

    /// Returns the cosine of the angle between a token and that of every patch: P values from -1 to 1. The token may be
    /// of another slice.
    pub fn similarity(&self, token: &[f32]) -> Result<Vec<f32>> {
        let width = self.patches.cols();
        if token.len() != width {
            return Err(thrown(Error::option("token", format!("it has {} values; expected {width}", token.len()))));
        }
        Ok(cosine(&self.patches, token).into_data())
    }

    /// Returns the features as a safetensors file with the names and the metadata of `meddino features`. `metadata` are
    /// more entries, pairs of a key and a text, one after the other.
    #[expect(clippy::needless_pass_by_value, reason = "JavaScript hands its values over")]
    pub fn safetensors(&self, metadata: Vec<String>) -> Result<Vec<u8>> {
        let (grid, cls, storage) = (self.mesh.grid, self.tokens.cls(), self.tokens.storage());
        let width = self.patches.cols();
        let patches = ("x_norm_patchtokens".to_owned(), vec![1, grid.patches(), width], self.patches.data());
        let mut tensors = vec![
            ("x_norm_clstoken".to_owned(), vec![1, width], cls.data()),
            patches,
            ("x_storage_tokens".to_owned(), vec![1, storage.shape()[1], width], storage.data()),
        ];
        tensors.extend(self.tokens.layers.iter().map(|(layer, x)| (format!("layers.{layer}"), x.shape().to_vec(), x.data())));
        let bytes: Vec<_> = tensors.into_iter().map(|(name, shape, values)| (name, shape, little_endian(values))).collect();
        let views = bytes.iter().map(|(name, shape, bytes)| Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)));
        let views: std::result::Result<Vec<_>, safetensors::SafeTensorError> = views.collect();
        let more = metadata.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone()));
        let metadata = self.origin.clone().into_iter().chain(more).collect();
        let written = views.and_then(|views| safetensors::serialize(views, Some(metadata)));
        written.map_err(|e| thrown(Error::output("features.safetensors", e.to_string())))
    }
}

fn little_endian(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

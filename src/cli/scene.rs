//! What pictures are made of: some slices of an input, the model that looks at them, and where its patches lie.

use std::collections::BTreeMap;

use meddino::backbone::{Backbone, Choice};
use meddino::maps::Mesh;
use meddino::output::{Preprocessing, Provenance};
use meddino::picture::Gray;
use meddino::vit::config::Grid;
use meddino::vit::features::Request;
use meddino::vit::model;
use meddino::{Result, Tensor};

use super::args::{Look, Model};
use super::cases::Case;
use super::engine::open_model;
use super::input::Input;
use super::say::Say;
use super::slices::Slices;
use super::weights;

/// An open input and model. The weights are not loaded yet, so that what can be refused is refused before.
pub struct Scene {
    case: Case,
    input: Input,
    checkpoint: String,
    model: model::Model,
    choice: Choice,
    grid: Grid,
    /// The patches over a slice.
    pub mesh: Mesh,
    /// Which slices are looked at; all exist.
    pub slices: Vec<usize>,
}

impl Scene {
    /// Opens `input`, of which `slices` are looked at, or the middle one.
    pub fn open(input: &str, look: &Look, model: &Model, slices: Option<&Slices>, say: Say) -> Result<Self> {
        let case = Case { input: input.to_string() };
        let input = Input::open(&case.input, look.into())?;
        let choice = model.choice()?;
        let [count, channels, height, width] = input.shape();
        let slices = slices.map_or_else(|| Ok(vec![count / 2]), |slices| slices.of(count))?;
        let checkpoint = weights::or_released(model.checkpoint.as_deref(), say)?;
        let model = open_model(&checkpoint, model.rope.precision())?;
        let (_, grid) = model.config().check_image(&[1, channels, height, width])?;
        let [_, _, rows, cols] = input.slices();
        let mesh = Mesh::new(grid, model.config().patch_size, (height, width), (rows, cols));
        Ok(Self { case, input, checkpoint, model, choice, grid, mesh, slices })
    }

    /// How many slices the input has.
    pub fn count(&self) -> usize {
        self.input.shape()[0]
    }

    /// Width of a token, C.
    pub fn width(&self) -> usize {
        self.model.config().embed_dim
    }

    /// The files that no output may replace.
    pub fn sources(&self) -> [&String; 2] {
        [&self.case.input, &self.checkpoint]
    }

    /// Loads the weights.
    pub fn backbone(&self) -> Result<Backbone> {
        Backbone::new(&self.model, self.choice.clone())
    }

    /// The patch tokens of slice `index`: [P, C].
    pub fn tokens(&mut self, backbone: &Backbone, index: usize) -> Result<Tensor> {
        let image = self.input.batch([index])?;
        let patches = backbone.features(&image, None, &Request::default())?.patches();
        Ok(patches.reshaped([self.grid.patches(), self.width()]))
    }

    /// Slice `index` in shades from 0 to 1, [H, W]; an image that is not in HU from its least to its greatest value.
    pub fn shades(&mut self, index: usize, gray: Gray) -> Result<Tensor> {
        let slice = self.input.slice(index)?;
        let gray = match self.input.preprocessing() {
            Preprocessing::Scan { .. } => gray,
            Preprocessing::Done { .. } => Gray::spanning(&slice),
        };
        Ok(gray.shades(&slice))
    }

    /// Where the features come from, for the files made of them.
    pub fn provenance(&self, backbone: &Backbone) -> Result<BTreeMap<String, String>> {
        let [_, _, height, width] = self.input.shape();
        let provenance = Provenance {
            input: self.case.input.clone(),
            input_sha256: self.case.sha256()?,
            about: self.input.about().to_vec(),
            slices: self.slices.clone(),
            place: self.input.place(&self.slices, self.model.config().patch_size),
            image: (height, width),
            grid: self.grid,
            preprocessing: self.input.preprocessing(),
            config: self.model.config().clone(),
            checkpoint: self.checkpoint.clone(),
            checkpoint_sha256: self.model.checkpoint().sha256()?,
            backend: backbone.device(),
        };
        Ok(provenance.metadata())
    }
}

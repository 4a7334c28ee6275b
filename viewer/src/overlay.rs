//! The overlay of the slice: principal components, or the similarity of every patch to a chosen one.

use std::collections::HashMap;
use std::sync::Arc;

use eframe::egui::{self, Color32, ColorImage, TextureHandle, TextureOptions};
use meddino::maps::{Mesh, cosine, limits};
use meddino::picture::colour;
use meddino::{Error, Tensor};

use crate::maps::{Colours, Painted, Painter};

/// The kind of overlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing.
    Nothing,
    /// The patches' first three principal components as red, green and blue.
    Components,
    /// The cosine of one patch's token to every other.
    Similarity,
    /// The labels of [`crate::labelling::Labelling`], which draws them.
    Labels,
}

/// The patch that all patches are compared with.
#[derive(Clone, Debug)]
pub struct Query {
    /// The slice that contains the patch.
    pub slice: usize,
    /// The position on that slice: (x, y) in pixels.
    pub place: (f64, f64),
    patch: usize,
    token: Vec<f32>,
}

/// The content of the texture.
#[derive(Clone, Debug, PartialEq)]
enum Key {
    Components { slice: usize, fit: u64 },
    Similarity { slice: usize, of: (usize, usize) },
}

/// The overlay's settings, and its last drawing.
pub struct Overlay {
    /// The kind of overlay.
    pub mode: Mode,
    /// The opacity of the overlay, 0 to 1.
    pub opacity: f32,
    /// Whether values are interpolated between patches.
    pub smooth: bool,
    /// Whether the chosen patch follows the mouse.
    pub following: bool,
    query: Option<Query>,
    painter: Painter,
    /// The number of the current fit of components. Answers for an older fit are dropped.
    fit: u64,
    shared: Option<Arc<Colours>>,
    components: HashMap<usize, (Vec<[u8; 3]>, Arc<Colours>)>,
    asked: Option<(usize, u64)>,
    /// The cosines of the shown slice, and the range of cosines that the colours cover.
    cosines: Option<(Tensor, (f32, f32))>,
    shown: Option<(Key, bool, TextureHandle)>,
}

impl Overlay {
    /// Makes an overlay that shows nothing.
    pub fn new(context: &egui::Context) -> Self {
        Self {
            mode: Mode::Nothing,
            opacity: 0.5,
            smooth: true,
            following: false,
            query: None,
            painter: Painter::start(context),
            fit: 0,
            shared: None,
            components: HashMap::new(),
            asked: None,
            cosines: None,
            shown: None,
        }
    }

    /// Drops what depends on the scan and the model. The settings stay.
    pub fn clear(&mut self) {
        (self.query, self.cosines, self.shown, self.shared) = (None, None, None, None);
        self.refit();
    }

    /// Returns whether all slices use the colours of one slice.
    pub fn shares_colours(&self) -> bool {
        self.shared.is_some()
    }

    /// Uses the colours of `slice` for every slice, or separate colours for each.
    pub fn share_colours(&mut self, slice: Option<usize>) {
        self.shared = slice.and_then(|slice| self.components.get(&slice)).map(|(_, colours)| Arc::clone(colours));
        self.refit();
    }

    fn refit(&mut self) {
        self.fit += 1;
        (self.asked, self.shown) = (None, None);
        self.components.clear();
    }

    /// Returns the patch that all patches are compared with.
    pub fn query(&self) -> Option<&Query> {
        self.query.as_ref()
    }

    /// Chooses the patch at `place`, (x, y) in pixels of `slice`, as the patch to compare with. Does nothing if no
    /// patch is there.
    pub fn ask(&mut self, slice: usize, place: (f64, f64), mesh: &Mesh, tokens: &Tensor) {
        let Some(patch) = mesh.patch_at(place.0, place.1) else { return };
        let width = tokens.cols();
        self.query = Some(Query { slice, place, patch, token: tokens.data()[patch * width..][..width].to_vec() });
    }

    /// Returns the cosine between the chosen patch and the patch at a place of the shown slice.
    pub fn cosine_at(&self, place: (f64, f64), mesh: &Mesh) -> Option<f32> {
        let (cosines, _) = self.cosines.as_ref().filter(|_| self.mode == Mode::Similarity)?;
        cosines.data().get(mesh.patch_at(place.0, place.1)?).copied()
    }

    /// Returns the range of cosines that the colours cover.
    pub fn limits(&self) -> Option<(f32, f32)> {
        self.cosines.as_ref().filter(|_| self.mode == Mode::Similarity).map(|(_, limits)| *limits)
    }

    /// Stores the answers of the thread that fits components.
    ///
    /// # Errors
    /// If the components of a slice cannot be computed.
    pub fn hear(&mut self) -> Result<(), Error> {
        while let Some(Painted { slice, fit, colours }) = self.painter.answer() {
            if fit == self.fit {
                self.components.insert(slice, colours?);
            }
        }
        Ok(())
    }

    /// Returns the overlay's texture for the patches of `slice`, one texel per patch, or `None` while it is not ready.
    pub fn texture(&mut self, context: &egui::Context, slice: usize, mesh: &Mesh, tokens: &Arc<Tensor>) -> Option<&TextureHandle> {
        let key = match self.mode {
            Mode::Nothing | Mode::Labels => return None,
            Mode::Components => Key::Components { slice, fit: self.fit },
            Mode::Similarity => {
                let query = self.query.as_ref()?;
                Key::Similarity { slice, of: (query.slice, query.patch) }
            }
        };
        if self.shown.as_ref().is_none_or(|(shown, smooth, _)| *shown != key || *smooth != self.smooth) {
            let colours = self.colours(&key, tokens)?;
            let size = [mesh.grid.cols, mesh.grid.rows];
            let image = ColorImage::new(size, colours.into_iter().map(|[r, g, b]| Color32::from_rgb(r, g, b)).collect());
            let options = if self.smooth { TextureOptions::LINEAR } else { TextureOptions::NEAREST };
            match &mut self.shown {
                Some((shown, smooth, texture)) => {
                    texture.set(image, options);
                    (*shown, *smooth) = (key, self.smooth);
                }
                None => self.shown = Some((key, self.smooth, context.load_texture("overlay", image, options))),
            }
        }
        self.shown.as_ref().map(|(_, _, texture)| texture)
    }

    /// Returns one colour per patch, or `None` while they are not ready.
    fn colours(&mut self, key: &Key, tokens: &Arc<Tensor>) -> Option<Vec<[u8; 3]>> {
        match *key {
            Key::Components { slice, fit } => {
                if let Some((colours, _)) = self.components.get(&slice) {
                    return Some(colours.clone());
                }
                if self.asked != Some((slice, fit)) {
                    self.painter.ask(slice, fit, tokens, self.shared.as_ref());
                    self.asked = Some((slice, fit));
                }
                None
            }
            Key::Similarity { .. } => {
                let cosines = cosine(&**tokens, &self.query.as_ref()?.token);
                let (lo, hi) = limits(&cosines);
                let share = |v: &f32| if hi > lo { (v - lo) / (hi - lo) } else { 0.5 };
                let colours = cosines.data().iter().map(|v| colour(share(v))).collect();
                self.cosines = Some((cosines, (lo, hi)));
                Some(colours)
            }
        }
    }
}

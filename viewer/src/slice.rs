//! The displayed slice: its HU, and its grayscale texture on the device.

use std::sync::Arc;

use eframe::egui::{self, Color32, ColorImage, TextureHandle, TextureOptions};
use meddino::Tensor;
use meddino::picture::Gray;

/// Common radiological windows, by name.
pub const PRESETS: [(&str, Gray); 6] = [
    ("Soft tissue", Gray::SOFT_TISSUE),
    ("Lung", Gray { level: -600.0, width: 1500.0 }),
    ("Bone", Gray { level: 400.0, width: 1800.0 }),
    ("Liver", Gray { level: 60.0, width: 160.0 }),
    ("Brain", Gray { level: 40.0, width: 80.0 }),
    ("All that the model sees", Gray { level: 0.0, width: 2000.0 }),
];

/// The displayed slice. While a new slice is being read, this is still the previous one.
pub struct Slice {
    /// Level and width.
    pub gray: Gray,
    hu: Option<(usize, Arc<Tensor>)>,
    texture: Option<((usize, Gray), TextureHandle)>,
}

impl Slice {
    /// Makes a view without a slice.
    pub fn new() -> Self {
        Self { gray: Gray::SOFT_TISSUE, hu: None, texture: None }
    }

    /// Removes the slice. Level and width stay.
    pub fn clear(&mut self) {
        (self.hu, self.texture) = (None, None);
    }

    /// Shows slice `index`, [H, W] in HU.
    pub fn show(&mut self, index: usize, hu: Arc<Tensor>) {
        self.hu = Some((index, hu));
    }

    /// Returns the index of the displayed slice.
    pub fn index(&self) -> Option<usize> {
        self.hu.as_ref().map(|(index, _)| *index)
    }

    /// Returns the HU at (x, y) in pixels.
    pub fn hu_at(&self, (x, y): (f64, f64)) -> Option<f32> {
        let (_, hu) = self.hu.as_ref()?;
        let [height, width] = *hu.shape() else { return None };
        let inside = x >= 0.0 && y >= 0.0 && x < width as f64 && y < height as f64;
        inside.then(|| hu.data()[y as usize * width + x as usize])
    }

    /// Changes level and width by a drag of `by` points over a view of `side` points. A drag over the full side changes
    /// the level by 1000 HU, or multiplies or divides the width by 4.
    pub fn adjust(&mut self, by: egui::Vec2, side: f32) {
        let Gray { level, width } = self.gray;
        self.gray = Gray {
            level: (level - by.y / side * 1000.0).clamp(-1024.0, 3071.0),
            width: (width * (2.0 * by.x / side).exp2()).clamp(1.0, 4096.0),
        };
    }

    /// Returns the slice as a grayscale texture, or `None` before a slice is read.
    pub fn texture(&mut self, context: &egui::Context) -> Option<&TextureHandle> {
        let (index, hu) = self.hu.as_ref()?;
        let key = (*index, self.gray);
        if self.texture.as_ref().is_none_or(|(shown, _)| *shown != key) {
            let [height, width] = *hu.shape() else { return None };
            let shade = |shade: &f32| Color32::from_gray((shade * 255.0).round() as u8);
            let image = ColorImage::new([width, height], self.gray.shades(&**hu).data().iter().map(shade).collect());
            match &mut self.texture {
                Some((shown, texture)) => {
                    texture.set(image, TextureOptions::LINEAR);
                    *shown = key;
                }
                None => self.texture = Some((key, context.load_texture("slice", image, TextureOptions::LINEAR))),
            }
        }
        self.texture.as_ref().map(|(_, texture)| texture)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drags_set_the_window_within_bounds() {
        let mut slice = Slice::new();
        slice.adjust(egui::vec2(500.0, -100.0), 1000.0);
        assert_eq!((slice.gray.level, slice.gray.width), (140.0, 800.0));
        slice.adjust(egui::vec2(-1e9, 1e9), 1000.0);
        assert_eq!((slice.gray.level, slice.gray.width), (-1024.0, 1.0));
    }

    #[test]
    fn values_are_those_under_the_mouse() {
        let mut slice = Slice::new();
        assert_eq!(slice.hu_at((0.0, 0.0)), None);
        slice.show(3, Arc::new(Tensor::new([2, 3], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0])));
        for (place, want) in [((0.5, 0.5), Some(0.0)), ((2.9, 1.1), Some(5.0)), ((3.0, 0.0), None), ((-0.1, 0.0), None), ((0.0, 2.0), None)]
        {
            assert_eq!(slice.hu_at(place), want, "{place:?}");
        }
    }
}

//! The metadata of every output: everything that is needed to interpret, reproduce or compare features.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::ours::WRITTEN_BY;
use super::place::ImagePlace;
use crate::ct::{Orient, Size, Window};
use crate::vit::config::{Config, Grid};

/// The preprocessing that turned the input into the model's image.
#[derive(Clone, Debug, PartialEq)]
pub enum Preprocessing {
    /// A scan was reoriented, its HU normalised, and its slices resized.
    Scan {
        /// The mapping from HU to the image's values.
        window: Window,
        /// The requested size.
        size: Size,
        /// Orientation of the slices.
        orient: Orient,
    },
    /// The input was already normalised and was only resized.
    Done {
        /// The requested size.
        size: Size,
    },
}

impl Preprocessing {
    fn to_json(&self) -> Value {
        const RESIZE: &str = "bilinear, antialiased";
        match self {
            // JSON cannot express infinity, so null means that the window has no end on this side.
            Self::Scan { window, size, orient } => json!({
                "window": window.to_string(),
                "clamp_hu": [window.lo, window.hi],
                "subtract": window.mean,
                "divide": window.std,
                "then_resize": RESIZE,
                "size": size.to_string(),
                "orient": orient.to_string(),
            }),
            Self::Done { size } => json!({"normalised": "by whoever made the input", "then_resize": RESIZE, "size": size.to_string()}),
        }
    }
}

/// The origin of features.
#[derive(Clone, Debug)]
pub struct Provenance {
    /// The input as the user named it.
    pub input: String,
    /// The SHA-256 that identifies the input's contents, see [`crate::archive::identity`]. It covers every file that is
    /// read for the input. `None` for built-in inputs.
    pub input_sha256: Option<String>,
    /// The scan's format and other identifying data, as (name, text).
    pub about: Vec<(&'static str, String)>,
    /// The scan's slices that are in the file, in the file's order. They are counted from 0, after orientation.
    pub slices: Vec<usize>,
    /// The positions of the patches, if the scan states its own position.
    pub place: Option<ImagePlace>,
    /// Height and width of the model's input image, in pixels.
    pub image: (usize, usize),
    /// The model's patch grid of that image.
    pub grid: Grid,
    /// The steps from the input to the image.
    pub preprocessing: Preprocessing,
    /// The model's sizes and precisions.
    pub config: Config,
    /// The checkpoint as the user named it, or `seeded:N`.
    pub checkpoint: String,
    /// The SHA-256 that identifies the checkpoint, see [`crate::checkpoint::Checkpoint::sha256`]. `None` for seeded
    /// weights.
    pub checkpoint_sha256: Option<String>,
    /// The device and backend that computed the features.
    pub backend: String,
}

impl Provenance {
    /// Returns names and texts, as `.safetensors` metadata holds them. A value that is not one word or number is JSON.
    ///
    /// - `meddino`: version of this program
    /// - `input`: the input as the user named it; here and in `checkpoint`, a byte that is not valid UTF-8 is written
    ///   as `%XX`
    /// - `input_sha256`: SHA-256 of the input's bytes, as `sha256sum` prints it; for a folder or a pair of files,
    ///   SHA-256 of its files' hashes and names
    /// - `scan`: JSON object: the format, and other data that identify the scan
    /// - `slices`: JSON list: the scan's slices that are in the file, counted from 0 in the orientation `orient`
    /// - `image`: JSON [height, width] of the model's input image, in pixels
    /// - `grid`: JSON [rows, columns] of patches; patch tokens are in row-major order
    /// - `patch_size`: side of a patch in the image's pixels
    /// - `preprocessing`: JSON object: `window` and its numbers (`clamp_hu`, null where the window has no end;
    ///   `subtract`, `divide`), `size`, `orient`, `then_resize`
    /// - `affine`: JSON 4 x 4: from (column, row, slice) of the scan in the orientation `orient` to RAS+ mm
    /// - `patch_affine`: JSON 4 x 4: from (patch column, patch row, position in `slices`) to the patch's centre in RAS+
    ///   mm
    /// - `slice_positions`: replaces `patch_affine` if the steps between `slices` differ: JSON list of the centre of
    ///   patch (0, 0) of each slice, in RAS+ mm
    /// - `patch_steps`: accompanies `slice_positions`: JSON list of the vectors to the next patch to the right and to
    ///   the next patch down, in mm
    /// - `rope`: arithmetic of the position embedding
    /// - `norm_eps`: LayerNorm's epsilon
    /// - `checkpoint`: the checkpoint as the user named it
    /// - `checkpoint_sha256`: SHA-256 of the checkpoint's file; if a `config.json` next to it was read, SHA-256 of both
    ///   files' hashes and names
    /// - `backend`: the device and backend that computed the features
    ///
    /// A scan that does not state its position has neither `affine` nor the entries that follow from it. Seeded weights
    /// and built-in scans have no hash.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        let config = &self.config;
        let entries = [
            (WRITTEN_BY, env!("CARGO_PKG_VERSION").to_string()),
            ("input", self.input.clone()),
            ("slices", json!(self.slices).to_string()),
            ("image", json!([self.image.0, self.image.1]).to_string()),
            ("grid", json!([self.grid.rows, self.grid.cols]).to_string()),
            ("patch_size", config.patch_size.to_string()),
            ("preprocessing", self.preprocessing.to_json().to_string()),
            ("rope", config.rope.name().to_string()),
            ("norm_eps", config.norm_eps.to_string()),
            ("checkpoint", self.checkpoint.clone()),
            ("backend", self.backend.clone()),
        ];
        let about: BTreeMap<_, _> = self.about.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let known = [
            (!about.is_empty()).then(|| ("scan", json!(about).to_string())),
            self.input_sha256.clone().map(|hash| ("input_sha256", hash)),
            self.checkpoint_sha256.clone().map(|hash| ("checkpoint_sha256", hash)),
        ];
        let place = self.place.as_ref().map(placed).into_iter().flatten();
        entries.into_iter().chain(known.into_iter().flatten()).chain(place).map(|(name, text)| (name.to_string(), text)).collect()
    }
}

fn placed(place: &ImagePlace) -> Vec<(&'static str, String)> {
    let affine = ("affine", place.affine.to_string());
    match place.patch_affine() {
        Some(patch) => vec![affine, ("patch_affine", patch.to_string())],
        None => vec![
            affine,
            ("slice_positions", json!(place.slice_positions()).to_string()),
            ("patch_steps", json!(place.patch_steps()).to_string()),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ct::Affine;

    fn provenance(window: Window, place: Option<ImagePlace>) -> Provenance {
        Provenance {
            input: "scan.nii".into(),
            input_sha256: None,
            about: vec![("format", "NIfTI-1".into())],
            slices: vec![0, 1, 5],
            place,
            image: (32, 32),
            grid: Grid { rows: 2, cols: 2 },
            preprocessing: Preprocessing::Scan { window, size: Size::Square(32), orient: Orient::Lps },
            config: Config::micro(),
            checkpoint: "seeded:0".into(),
            checkpoint_sha256: None,
            backend: "CPU".into(),
        }
    }

    fn json_of(metadata: &BTreeMap<String, String>, name: &str) -> Value {
        serde_json::from_str(&metadata[name]).unwrap_or_else(|e| panic!("{name}: {e}: {}", metadata[name]))
    }

    #[test]
    fn a_window_without_ends_is_still_json() {
        let preprocessing = json_of(&provenance(Window::NONE, None).metadata(), "preprocessing");
        assert_eq!(preprocessing["clamp_hu"], json!([null, null]));
        assert_eq!(
            (preprocessing["window"].as_str(), preprocessing["size"].as_str(), preprocessing["orient"].as_str()),
            (Some("none"), Some("32"), Some("lps"))
        );
    }

    #[test]
    fn a_place_is_told_if_it_is_known() {
        let names = ["affine", "patch_affine", "slice_positions", "patch_steps"];
        let unknown = provenance(Window::DEMO, None).metadata();
        assert!(names.iter().all(|name| !unknown.contains_key(*name)), "{unknown:?}");
        assert_eq!(json_of(&unknown, "scan"), json!({"format": "NIfTI-1"}));

        let affine = Affine::from_columns([-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 1.5], [0.0, 0.0, 0.0]);
        let place = ImagePlace { affine, slice: (32, 32), image: (32, 32), patch_size: 16, slices: vec![0, 1, 5] };
        let listed = provenance(Window::DEMO, Some(place.clone())).metadata();
        assert_eq!(json_of(&listed, "slice_positions"), json!([[-7.5, -7.5, 0.0], [-7.5, -7.5, 1.5], [-7.5, -7.5, 7.5]]));
        assert_eq!(json_of(&listed, "patch_steps"), json!([[-16.0, 0.0, 0.0], [0.0, -16.0, 0.0]]));
        assert!(!listed.contains_key("patch_affine"));

        let stepped = provenance(Window::DEMO, Some(ImagePlace { slices: vec![1, 3], ..place })).metadata();
        let want = json!([[-16.0, 0.0, 0.0, -7.5], [0.0, -16.0, 0.0, -7.5], [0.0, 0.0, 3.0, 1.5], [0.0, 0.0, 0.0, 1.0]]);
        assert_eq!(json_of(&stepped, "patch_affine"), want);
        assert!(stepped.contains_key("affine") && !stepped.contains_key("slice_positions"));
    }
}

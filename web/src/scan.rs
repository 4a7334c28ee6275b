//! A scan for JavaScript.

use std::path::PathBuf;
use std::sync::Arc;

use meddino::Error;
use meddino::archive::LentFile;
use meddino::ct::{Geometry, Orient, Size, Turn, Volume, prepare};
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;
use web_sys::Blob;

use crate::blob::BlobFile;
use crate::error::{Result, object, thrown};
use crate::image::{Image, WINDOW};
use crate::labels::LabelMap;

/// What JavaScript is told of a scan.
#[derive(serde::Serialize)]
struct About<'a> {
    name: &'a str,
    slices: usize,
    height: usize,
    width: usize,
    /// Millimetres from a column, a row and a slice to the next; absent if the scan has no affine.
    spacing: Option<[f64; 3]>,
    format: Option<&'a str>,
    warnings: &'a [String],
}

/// A scan: slices in Hounsfield units, read one at a time.
#[wasm_bindgen]
pub struct Scan {
    volume: Volume,
    orient: Orient,
    /// The grid of the file, or what is thrown for want of one.
    geometry: Result<Geometry>,
    /// From the slices of the file to those that are shown.
    turn: Turn,
}

impl Scan {
    fn new(stored: Volume, orient: Orient) -> Result<Scan, Error> {
        let geometry = stored.geometry().map_err(thrown);
        let turn = match orient {
            Orient::Lps => stored.affine().map_or(Turn::NONE, Turn::to_lps),
            Orient::Stored => Turn::NONE,
        };
        Ok(Self { volume: stored.oriented(orient)?, orient, geometry, turn })
    }
}

#[wasm_bindgen]
impl Scan {
    /// Opens a scan from files of the page: one file, a header with its data file, or the files of a DICOM folder.
    /// `paths` has the path of each file in its folder, `name` is what messages call a folder, `series` selects one of
    /// several DICOM series, and `orient` is `lps` (the default) or `stored`.
    #[expect(clippy::needless_pass_by_value, reason = "JavaScript hands its values over")]
    pub fn open(name: &str, paths: Vec<String>, blobs: Vec<Blob>, series: Option<String>, orient: Option<String>) -> Result<Scan> {
        let orient: Orient = orient.as_deref().map_or(Ok(Orient::default()), str::parse).map_err(thrown)?;
        let file = |(path, blob): (String, Blob)| (PathBuf::from(path), Arc::new(BlobFile::new(blob)) as Arc<dyn LentFile>);
        let files = paths.into_iter().zip(blobs).map(file);
        let opened = Volume::from_files(name, files, series.as_deref()).and_then(|stored| Self::new(stored, orient));
        opened.map_err(thrown)
    }

    /// Opens the built-in synthetic thorax slice.
    pub fn phantom() -> Result<Scan> {
        Self::new(Volume::phantom(), Orient::default()).map_err(thrown)
    }

    /// Returns an empty label map of the scan.
    #[wasm_bindgen(js_name = labelMap)]
    pub fn label_map(&self) -> Result<LabelMap> {
        LabelMap::new(self.geometry.clone()?, self.turn)
    }

    /// Returns the name, the sizes, the spacing, the format and the warnings.
    pub fn about(&self) -> Result<JsValue> {
        object(&About {
            name: self.volume.name(),
            slices: self.volume.slices(),
            height: self.volume.height(),
            width: self.volume.width(),
            spacing: self.volume.affine().map(meddino::ct::Affine::spacing),
            format: self.volume.about().iter().find(|(key, _)| *key == "format").map(|(_, text)| text.as_str()),
            warnings: self.volume.warnings(),
        })
    }

    /// Reads slice `index`, from 0, in HU: rows of columns.
    pub fn slice(&mut self, index: usize) -> Result<Vec<f32>> {
        self.read(index).map(meddino::Tensor::into_data)
    }

    /// Reads slice `index` and prepares it for a model. `size` is `native`, a side, or `HxW`.
    pub fn image(&mut self, index: usize, size: &str) -> Result<Image> {
        let size: Size = size.parse().map_err(thrown)?;
        let slice = self.read(index)?;
        Ok(Image {
            tensor: prepare(&slice, &WINDOW, size),
            slice: (self.volume.height(), self.volume.width()),
            index,
            input: self.volume.name().to_owned(),
            about: self.volume.about().to_vec(),
            affine: self.volume.affine().copied(),
            size,
            orient: self.orient,
        })
    }

    fn read(&mut self, index: usize) -> Result<meddino::Tensor> {
        let slices = self.volume.slices();
        if index >= slices {
            let problem = format!("there is no slice {index}: {} has slices 0 to {}", self.volume.name(), slices - 1);
            return Err(thrown(Error::option("slice", problem)));
        }
        self.volume.read_slice(index).map_err(thrown)
    }
}

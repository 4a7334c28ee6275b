//! Labels of a slice by a head on patch tokens.

use meddino::Error;
use meddino::fitted::{DenseHead, HeadFile};
use meddino::picture::distinct;
use meddino::vit::layers::Layers;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;
use web_sys::Blob;

use crate::error::{Result, object, thrown};
use crate::features::Features;
use crate::weights::reader;

/// What JavaScript is told of a head.
#[derive(serde::Serialize)]
struct About {
    name: String,
    labels: Vec<u16>,
    /// Red, green and blue of each label.
    colours: Vec<[u8; 3]>,
    /// How slices were prepared whose features it was fitted to.
    size: String,
    window: String,
    orient: String,
}

/// A head that `meddino probe fit` made with label maps.
#[wasm_bindgen]
pub struct Head {
    head: DenseHead,
    about: About,
}

#[wasm_bindgen]
impl Head {
    /// Opens the file of a head.
    pub fn open(name: &str, blob: Blob) -> Result<Head> {
        let opened = || -> Result<Self, Error> {
            let head = DenseHead::new(&HeadFile::from_reader(name, reader(blob).map_err(|e| Error::input(name, e))?)?, name)?;
            let (size, window, orient) = head.preprocessing(name)?;
            let labels = head.labels().to_vec();
            let colours = labels.iter().map(|&label| distinct(usize::from(label).saturating_sub(1))).collect();
            let [size, window, orient] = [size.to_string(), window.to_string(), orient.to_string()];
            Ok(Self { head, about: About { name: name.to_owned(), labels, colours, size, window, orient } })
        };
        opened().map_err(thrown)
    }

    /// Returns the labels, and how slices were prepared.
    pub fn about(&self) -> Result<JsValue> {
        object(&self.about)
    }

    /// Returns the label of each pixel of the slice that the features are of: rows of columns.
    pub fn labels(&self, features: &Features) -> Result<Vec<u16>> {
        let labelled = || -> Result<Vec<u16>, Error> {
            let input = features.origin().get("input").map_or("features", String::as_str);
            self.head.check(input, features.origin(), &Layers::LAST)?;
            self.head.label(features.tensor(), &features.lattice(), features.slice())
        };
        labelled().map_err(thrown)
    }
}

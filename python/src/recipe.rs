//! What to compute of a scan, as texts of the command line's flags and numbers.

use meddino::jobs::{ModelChoice, Recipe, View};
use meddino::output::{Format, Output};
use meddino::{Error, Result};
use pyo3::prelude::*;

/// Arguments that the Python package passes on by their names.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Settings {
    size: String,
    window: String,
    orient: String,
    slices: String,
    tokens: Vec<String>,
    layers: Vec<usize>,
    batch: Option<usize>,
    max_memory: Option<String>,
    format: Option<String>,
    dtype: String,
}

impl Settings {
    /// Returns the outputs.
    ///
    /// # Errors
    /// If there are no tokens of a name, or no outputs at all.
    fn outputs(&self) -> Result<Vec<Output>> {
        let named = self.tokens.iter().map(|name| tokens(name));
        let mut outputs = Vec::new();
        for output in named.chain(self.layers.iter().map(|layer| Ok(Output::Layer(*layer)))) {
            let output = output?;
            if !outputs.contains(&output) {
                outputs.push(output);
            }
        }
        if outputs.is_empty() { Err(Error::option("tokens", "there is nothing to compute; name tokens or `layers`")) } else { Ok(outputs) }
    }

    /// Returns the recipe of a job. The model is loaded already, so that the recipe names none.
    ///
    /// # Errors
    /// If a text is no value of its parameter.
    pub fn recipe(self, model: ModelChoice) -> Result<Recipe> {
        let view = View { size: self.size.parse()?, window: self.window.parse()?, orient: self.orient.parse()? };
        let mut recipe = Recipe::new(model, view);
        recipe.slices = self.slices.parse()?;
        recipe.outputs = self.outputs()?;
        recipe.format = self.format.as_deref().map_or(Ok(Format::default()), str::parse)?;
        recipe.format.check(&recipe.outputs)?;
        recipe.dtype = match self.dtype.as_str() {
            "f32" => meddino::archive::Dtype::F32,
            "f16" => meddino::archive::Dtype::F16,
            other => return Err(Error::option("dtype", format!("expected f32 or f16, found {other}"))),
        };
        if self.batch == Some(0) {
            return Err(Error::option("batch", "expected at least 1, found 0"));
        }
        recipe.batch = self.batch;
        recipe.max_memory = self.max_memory.as_deref().map(str::parse).transpose()?;
        Ok(recipe)
    }
}

fn tokens(name: &str) -> Result<Output> {
    match name {
        "cls" => Ok(Output::Cls),
        "storage" => Ok(Output::Storage),
        "patch" => Ok(Output::Patch),
        "prenorm" => Ok(Output::Prenorm),
        "mean" => Ok(Output::PatchMean),
        _ => Err(Error::option("tokens", format!("expected cls, storage, patch, prenorm or mean, found {name}"))),
    }
}

//! `plans.json`: how scans were preprocessed for training. Scans for prediction are preprocessed in the same way. A
//! plan that asks for something unsupported is refused with an error that names the key.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::json::{Stated, read, short};
use super::reader::Reader;
use super::spacing::Separate;
use crate::ct::{Geometry, Turn};
use crate::error::Result;
use crate::vit::config::MAX_SIDE;

/// The longest chain of configurations that inherit from each other. nnU-Net itself writes chains of one.
const MAX_CHAIN: usize = 16;

/// One configuration of the plans, for slices of one CT channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Configuration {
    /// Its name in the plans.
    pub name: String,
    /// `patch_size`: rows and columns of a tile, the part of a slice that the network processes at once.
    pub tile: [usize; 2],
    /// `spacing`: the distance between rows and between columns, in mm, to which slices are resampled.
    pub spacing: [f64; 2],
    /// The rule for when scans are resampled slice by slice.
    pub(super) separate: Separate,
    /// The rule for when scores are resampled back slice by slice.
    pub(super) separate_scores: Separate,
    /// How intensities are normalised.
    pub ct: CtNormalization,
    /// `image_reader_writer`: how scans are read.
    pub reader: Reader,
    /// `transpose_forward`: for each new axis, the axis (0 slices, 1 rows, 2 columns) that it comes from, after the
    /// reader has turned the scan.
    pub transpose: [usize; 3],
}

/// nnU-Net's `CTNormalization`: clip to percentiles of the training voxels, subtract their mean, divide by their
/// standard deviation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CtNormalization {
    /// `percentile_00_5`, in HU.
    pub lower: f32,
    /// `percentile_99_5`, in HU.
    pub upper: f32,
    /// The training voxels' mean, in HU.
    pub mean: f32,
    /// The training voxels' standard deviation, in HU; at least 1e-8.
    pub std: f32,
}

impl CtNormalization {
    /// Normalises a value in HU for the network. Each operation is rounded to f32, as in NumPy.
    pub fn apply(&self, hu: f32) -> f32 {
        (hu.max(self.lower).min(self.upper) - self.mean) / self.std
    }
}

/// The keys of `plans.json` that are read. Other keys are ignored.
#[derive(Default, Deserialize)]
#[serde(default)]
struct PlansFile {
    configurations: Stated<BTreeMap<String, Value>>,
    transpose_forward: Stated<[Axis; 3]>,
    transpose_backward: Stated<[Axis; 3]>,
    image_reader_writer: Stated<String>,
    label_manager: Stated<String>,
    foreground_intensity_properties_per_channel: Stated<BTreeMap<String, Stated<Intensities>>>,
}

/// The keys of a configuration that are read, inherited ones included.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ConfigurationEntry {
    patch_size: Stated<[Side; 2]>,
    spacing: Stated<[Millimetres; 2]>,
    previous_stage: Stated<Value>,
    previous_stage_name: Stated<Value>,
    next_stage: Stated<Value>,
    normalization_schemes: Stated<Vec<Value>>,
    preprocessor_name: Stated<String>,
    resampling_fn_data: Stated<String>,
    resampling_fn_data_kwargs: Stated<Resampling>,
    resampling_fn_probabilities: Stated<String>,
    resampling_fn_probabilities_kwargs: Stated<Resampling>,
}

/// The arguments of nnU-Net's `resample_data_or_seg_to_shape`.
#[derive(Clone, Debug, Deserialize)]
struct Resampling {
    #[serde(default)]
    is_seg: Value,
    #[serde(default)]
    order: Value,
    /// The order of splines across the axis of the largest spacing.
    #[serde(default)]
    order_z: Value,
    #[serde(default = "never")]
    force_separate_z: Stated<Option<bool>>,
    #[serde(default)]
    separate_z_anisotropy_threshold: Stated<f64>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// Returns the default of nnU-Net's function for a missing `force_separate_z`.
fn never() -> Stated<Option<bool>> {
    Stated { found: Value::Bool(false), meaning: Some(Some(false)) }
}

/// The intensity statistics of a channel's training voxels, in HU.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Intensities {
    percentile_00_5: Stated<f64>,
    percentile_99_5: Stated<f64>,
    mean: Stated<f64>,
    std: Stated<f64>,
    /// Keys that are not read. With this field, serde accepts only objects, not lists.
    #[serde(flatten)]
    _others: BTreeMap<String, Value>,
}

/// An axis of a scan: 0 slices, 1 rows, 2 columns.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "usize")]
struct Axis(usize);

impl TryFrom<usize> for Axis {
    type Error = &'static str;

    fn try_from(axis: usize) -> Result<Self, Self::Error> {
        if axis < 3 { Ok(Self(axis)) } else { Err("expected 0, 1 or 2") }
    }
}

/// A side of an image in pixels, from 1 to [`MAX_SIDE`].
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "usize")]
struct Side(usize);

impl TryFrom<usize> for Side {
    type Error = &'static str;

    fn try_from(side: usize) -> Result<Self, Self::Error> {
        if (1..=MAX_SIDE).contains(&side) { Ok(Self(side)) } else { Err("expected the side of an image") }
    }
}

/// A distance in mm, above 0.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "f64")]
struct Millimetres(f64);

impl TryFrom<f64> for Millimetres {
    type Error = &'static str;

    fn try_from(distance: f64) -> Result<Self, Self::Error> {
        if distance.is_finite() && distance > 0.0 { Ok(Self(distance)) } else { Err("expected a distance above 0") }
    }
}

impl Configuration {
    /// Reads configuration `name` of the plans at `path`.
    ///
    /// # Errors
    /// If the file cannot be read, has no such configuration, or asks for something unsupported.
    pub fn open(path: &Path, name: &str) -> Result<Self> {
        read(path, |plans: PlansFile, _| Self::of(&plans, name))
    }

    /// Returns the turn from a scan as it is stored to the network's axes: the reader's turn, then
    /// [`Configuration::transpose`].
    pub fn turn(&self, geometry: &Geometry) -> Turn {
        self.reader.turn(geometry).then(Turn::of_order(self.transpose))
    }

    fn of(plans: &PlansFile, name: &str) -> Result<Self, String> {
        let entry = resolved(plans, name)?;
        refuse(plans, &entry).map_err(|problem| format!("(configuration {name}) {problem}"))?;
        let order = |stated: &Stated<[Axis; 3]>, key: &str| {
            stated.required(key, "an order of the axes 0, 1 and 2").map(|axes| axes.map(|axis| axis.0))
        };
        let transpose = order(&plans.transpose_forward, "transpose_forward")?;
        let back = order(&plans.transpose_backward, "transpose_backward")?;
        if (0..3).any(|i| transpose[back[i]] != i) {
            return Err(format!("says transpose_forward {transpose:?} and transpose_backward {back:?}, which do not undo each other"));
        }
        let tile = entry.patch_size.required("patch_size", "two sides, of a configuration for slices")?;
        let spacing = entry.spacing.required("spacing", "two distances in mm, of a configuration for slices")?;
        Ok(Self {
            name: name.into(),
            tile: tile.map(|side| side.0),
            spacing: spacing.map(|distance| distance.0),
            separate: resampling("resampling_fn_data", &entry.resampling_fn_data, &entry.resampling_fn_data_kwargs, 3)?,
            separate_scores: resampling(
                "resampling_fn_probabilities",
                &entry.resampling_fn_probabilities,
                &entry.resampling_fn_probabilities_kwargs,
                1,
            )?,
            ct: normalisation(&plans.foreground_intensity_properties_per_channel)?,
            reader: reader(&plans.image_reader_writer)?,
            transpose,
        })
    }
}

/// Returns configuration `name` with everything that it inherits.
fn resolved(plans: &PlansFile, name: &str) -> Result<ConfigurationEntry, String> {
    let none = BTreeMap::new();
    let configurations = plans.configurations.meaning.as_ref().unwrap_or(&none);
    let mut merged = serde_json::Map::new();
    let mut next = Some(name.to_string());
    for _ in 0..MAX_CHAIN {
        let Some(name) = next else {
            return ConfigurationEntry::deserialize(Value::Object(merged)).map_err(|e| format!("is damaged: {e}"));
        };
        let Some(stated) = configurations.get(&name).and_then(Value::as_object) else {
            let known: Vec<&str> = configurations.keys().map(String::as_str).collect();
            return Err(format!("has no configuration {}; it has {}", short(&Value::from(name)), short(&Value::from(known))));
        };
        for (key, value) in stated.iter().filter(|(key, _)| *key != "inherits_from") {
            merged.entry(key.as_str()).or_insert_with(|| value.clone());
        }
        next = stated.get("inherits_from").and_then(Value::as_str).map(str::to_string);
    }
    Err(format!("its configuration {name} inherits from itself, or through more than {MAX_CHAIN} others"))
}

/// Refuses a configuration that asks for something unsupported.
fn refuse(plans: &PlansFile, entry: &ConfigurationEntry) -> Result<(), String> {
    if entry.patch_size.found.as_array().is_some_and(|sides| sides.len() == 3) {
        return Err("is for volumes; MedDINOv3 looks at slices, and only configurations of two dimensions are supported".into());
    }
    for (key, stage) in
        [("previous_stage", &entry.previous_stage), ("previous_stage_name", &entry.previous_stage_name), ("next_stage", &entry.next_stage)]
    {
        if !stage.found.is_null() {
            return Err(format!("says {key} {}: a cascade, which is not supported", stage.shown()));
        }
    }
    match entry.normalization_schemes.meaning.as_deref() {
        Some([one]) if one == "CTNormalization" => {}
        Some([_]) => {
            let found = entry.normalization_schemes.shown();
            return Err(format!("says normalization_schemes {found}; only CTNormalization is supported: the model is one for CT"));
        }
        Some(several) if several.len() > 1 => {
            return Err(format!("is for {} channels; only one, CT, is supported", several.len()));
        }
        _ => return Err(entry.normalization_schemes.unlike("normalization_schemes", "[\"CTNormalization\"]")),
    }
    only("preprocessor_name", &entry.preprocessor_name, &["DefaultPreprocessor"], "another one may do anything to a scan")?;
    if plans.label_manager.meaning.is_none() {
        return Ok(());
    }
    only("label_manager", &plans.label_manager, &["LabelManager"], "another one turns scores into labels in another way")
}

/// Returns the reader that the plans name.
fn reader(stated: &Stated<String>) -> Result<Reader, String> {
    let names = Reader::ALL.map(Reader::name);
    only("image_reader_writer", stated, &names, "another one gives axes or values in another way")?;
    let found = Reader::ALL.into_iter().find(|reader| stated.found == reader.name());
    Ok(found.expect("one of them"))
}

/// Refuses a value of `key` that is not among `served`.
fn only(key: &str, stated: &Stated<String>, served: &[&str], why: &str) -> Result<(), String> {
    let found = stated.required(key, served[0])?;
    if served.contains(&found.as_str()) {
        return Ok(());
    }
    Err(format!("says {key} {}; only {} is supported: {why}", stated.shown(), served.join(" or ")))
}

/// Returns the rule of the resampling `key`, which `function` does with the arguments `stated`. Both must be nnU-Net's
/// defaults for this spline `order`.
fn resampling(key: &str, function: &Stated<String>, stated: &Stated<Resampling>, order: u64) -> Result<Separate, String> {
    const DEFAULT: &str = "resample_data_or_seg_to_shape";
    if function.required(key, "a text")? != DEFAULT {
        return Err(format!("says {key} {}; only {DEFAULT}, nnU-Net's default, is supported", function.shown()));
    }
    let problem = |expected: String| Err(format!("says {key}_kwargs {}; expected {expected}", stated.shown()));
    let Some(arguments) = stated.meaning.as_ref().filter(|a| a.is_seg != true && a.order.as_u64() == Some(order)) else {
        return problem(format!("order {order} and is_seg false, as nnU-Net's planner writes"));
    };
    if let Some(unknown) = arguments.others.keys().next() {
        let known = "is_seg, order, order_z, force_separate_z, separate_z_anisotropy_threshold";
        return problem(format!("none but {known}, not {unknown}"));
    }
    let threshold = match &arguments.separate_z_anisotropy_threshold {
        Stated { found: Value::Null, .. } => Separate::THRESHOLD,
        threshold => *threshold.required("separate_z_anisotropy_threshold", "a number")?,
    };
    match arguments.force_separate_z.meaning {
        Some(forced) => Ok(Separate { forced, threshold, is_nearest: arguments.order_z.is_null() || arguments.order_z == 0 }),
        None => problem("force_separate_z to be null, true or false".into()),
    }
}

/// Returns the normalisation for the only channel, from its intensity statistics.
fn normalisation(channels: &Stated<BTreeMap<String, Stated<Intensities>>>) -> Result<CtNormalization, String> {
    let channel = channels.meaning.as_ref().and_then(|channels| channels.get("0")?.meaning.clone()).unwrap_or_default();
    let number = |key: &str, stated: &Stated<f64>| {
        let number = stated.required(key, "a number").copied();
        number.map_err(|problem| format!("foreground_intensity_properties_per_channel, 0: {problem}"))
    };
    let (lower, upper) = (number("percentile_00_5", &channel.percentile_00_5)?, number("percentile_99_5", &channel.percentile_99_5)?);
    let (mean, std) = (number("mean", &channel.mean)?, number("std", &channel.std)?);
    if lower > upper {
        return Err(format!("says percentile_00_5 {lower} and percentile_99_5 {upper}, which is less"));
    }
    Ok(CtNormalization { lower: lower as f32, upper: upper as f32, mean: mean as f32, std: std.max(1e-8) as f32 })
}

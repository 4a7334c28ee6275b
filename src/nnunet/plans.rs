//! `plans.json`: how a scan was prepared for training, and so must be for prediction. What is not served is refused by name.

use std::path::Path;

use serde_json::Value;

use super::json::{list, number, read, short, text, unlike};
use super::spacing::Separate;
use crate::error::Result;
use crate::vit::config::MAX_SIDE;

/// How many configurations may inherit from each other: nnU-Net itself makes chains of one.
const MAX_CHAIN: usize = 16;

/// The readers whose scans come as they are stored, as [z, y, x]; in what order axes are stored does not differ between them.
const READERS: [&str; 2] = ["SimpleITKIO", "NibabelIO"];

/// One configuration of the plans, for slices of one CT channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Configuration {
    /// Its name in the plans.
    pub name: String,
    /// `patch_size`: rows and columns of what the network sees at once.
    pub tile: [usize; 2],
    /// `spacing`: the distance of rows and of columns that slices are resampled to, in mm.
    pub spacing: [f64; 2],
    /// When scans are resampled slice by slice.
    pub(super) separate: Separate,
    /// The same for scores on their way back.
    pub(super) separate_scores: Separate,
    /// How intensities are normalised.
    pub ct: CtNormalization,
    /// `transpose_forward`: which stored axis (0 slices, 1 rows, 2 columns) becomes each axis.
    pub transpose: [usize; 3],
}

/// nnU-Net's `CTNormalization`: clip to the training voxels' percentiles, subtract their mean, divide by their deviation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CtNormalization {
    /// `percentile_00_5`, in HU.
    pub lower: f32,
    /// `percentile_99_5`, in HU.
    pub upper: f32,
    /// Their mean, in HU.
    pub mean: f32,
    /// Their deviation, in HU, 1e-8 at least.
    pub std: f32,
}

impl CtNormalization {
    /// A value in HU as the network sees it, each step in f32 as NumPy does it.
    pub fn apply(&self, hu: f32) -> f32 {
        (hu.max(self.lower).min(self.upper) - self.mean) / self.std
    }
}

impl Configuration {
    /// Configuration `name` of the plans at `path`.
    ///
    /// # Errors
    /// If the file cannot be read, has no such configuration, or asks for what is not served.
    pub fn open(path: &Path, name: &str) -> Result<Self> {
        read(path, |plans| Self::of(plans, name))
    }

    fn of(plans: &Value, name: &str) -> Result<Self, String> {
        let own = resolved(plans, name)?;
        refuse(plans, &own).map_err(|problem| format!("(configuration {name}) {problem}"))?;
        let side = |v: &Value| v.as_u64().map(|n| n as usize).filter(|n| (1..=MAX_SIDE).contains(n));
        let positive = |v: &Value| v.as_f64().filter(|v| v.is_finite() && *v > 0.0);
        let axis = |v: &Value| v.as_u64().map(|n| n as usize).filter(|n| *n < 3);
        let transpose: [usize; 3] = list(plans, "transpose_forward", "an order of the axes 0, 1 and 2", axis)?;
        let back: [usize; 3] = list(plans, "transpose_backward", "an order of the axes 0, 1 and 2", axis)?;
        if (0..3).any(|i| transpose[back[i]] != i) {
            return Err(format!("says transpose_forward {transpose:?} and transpose_backward {back:?}, which do not undo each other"));
        }
        Ok(Self {
            name: name.into(),
            tile: list(&own, "patch_size", "two sides, of a configuration for slices", side)?,
            spacing: list(&own, "spacing", "two distances in mm, of a configuration for slices", positive)?,
            separate: resampling(&own, "resampling_fn_data", 3)?,
            separate_scores: resampling(&own, "resampling_fn_probabilities", 1)?,
            ct: normalisation(&plans["foreground_intensity_properties_per_channel"])?,
            transpose,
        })
    }
}

/// A configuration with everything that it inherits.
fn resolved(plans: &Value, name: &str) -> Result<Value, String> {
    let mut merged = serde_json::Map::new();
    let mut next = Some(name.to_string());
    for _ in 0..MAX_CHAIN {
        let Some(name) = next else { return Ok(Value::Object(merged)) };
        let Some(own) = plans["configurations"][&name].as_object() else {
            let known: Vec<&str> = plans["configurations"].as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
            return Err(format!("has no configuration {}; it has {}", short(&Value::from(name)), short(&Value::from(known))));
        };
        for (key, value) in own.iter().filter(|(key, _)| *key != "inherits_from") {
            merged.entry(key.as_str()).or_insert_with(|| value.clone());
        }
        next = own.get("inherits_from").and_then(Value::as_str).map(str::to_string);
    }
    Err(format!("its configuration {name} inherits from itself, or through more than {MAX_CHAIN} others"))
}

/// What stands in the way of serving a configuration.
fn refuse(plans: &Value, own: &Value) -> Result<(), String> {
    let only = |json: &Value, key: &str, served: &[&str], why: &str| match json[key].as_str() {
        Some(found) if !served.contains(&found) => {
            Err(format!("says {key} {}; only {} is supported: {why}", short(&json[key]), served.join(" or ")))
        }
        Some(_) => Ok(()),
        None => Err(unlike(json, key, served[0])),
    };
    let dimensions = own["patch_size"].as_array().map_or(0, Vec::len);
    if dimensions == 3 {
        return Err("is for volumes; MedDINOv3 looks at slices, and only configurations of two dimensions are supported".into());
    }
    for key in ["previous_stage", "previous_stage_name", "next_stage"] {
        if !own[key].is_null() {
            return Err(format!("says {key} {}: a cascade, which is not supported", short(&own[key])));
        }
    }
    match own["normalization_schemes"].as_array().map(Vec::as_slice) {
        Some([one]) if one == "CTNormalization" => {}
        Some([_]) => {
            let found = short(&own["normalization_schemes"]);
            return Err(format!("says normalization_schemes {found}; only CTNormalization is supported: the model is one for CT"));
        }
        Some(several) if several.len() > 1 => {
            return Err(format!("is for {} channels; only one, CT, is supported", several.len()));
        }
        _ => return Err(unlike(own, "normalization_schemes", "[\"CTNormalization\"]")),
    }
    only(own, "preprocessor_name", &["DefaultPreprocessor"], "another one may do anything to a scan")?;
    only(plans, "image_reader_writer", &READERS, "another one gives axes or values in another way")?;
    match plans["label_manager"].as_str() {
        None | Some("LabelManager") => Ok(()),
        Some(_) => only(plans, "label_manager", &["LabelManager"], "another one turns scores into labels in another way"),
    }
}

/// The resampling `key` and its `_kwargs`, which must be nnU-Net's default of this `order`.
fn resampling(own: &Value, key: &str, order: u64) -> Result<Separate, String> {
    const DEFAULT: &str = "resample_data_or_seg_to_shape";
    let found = text(own, key)?;
    if found != DEFAULT {
        return Err(format!("says {key} {}; only {DEFAULT}, nnU-Net's default, is supported", short(&own[key])));
    }
    let kwargs_key = format!("{key}_kwargs");
    let kwargs = &own[&kwargs_key];
    let problem = |expected: String| Err(format!("says {kwargs_key} {}; expected {expected}", short(kwargs)));
    if kwargs["is_seg"] == true || kwargs["order"].as_u64() != Some(order) {
        return problem(format!("order {order} and is_seg false, as nnU-Net's planner writes"));
    }
    let known = ["is_seg", "order", "order_z", "force_separate_z", "separate_z_anisotropy_threshold"];
    if let Some(unknown) = kwargs.as_object().into_iter().flatten().map(|(key, _)| key).find(|key| !known.contains(&key.as_str())) {
        return problem(format!("none but {}, not {unknown}", known.join(", ")));
    }
    let threshold = match &kwargs["separate_z_anisotropy_threshold"] {
        Value::Null => Separate::THRESHOLD,
        _ => number(kwargs, "separate_z_anisotropy_threshold")?,
    };
    match &kwargs["force_separate_z"] {
        // Left out, nnU-Net's function itself takes false.
        Value::Null if kwargs.get("force_separate_z").is_some() => Ok(Separate { forced: None, threshold }),
        Value::Null => Ok(Separate { forced: Some(false), threshold }),
        Value::Bool(forced) => Ok(Separate { forced: Some(*forced), threshold }),
        _ => problem("force_separate_z to be null, true or false".into()),
    }
}

/// The intensities of the only channel.
fn normalisation(channels: &Value) -> Result<CtNormalization, String> {
    let of =
        |key: &str| number(&channels["0"], key).map_err(|problem| format!("foreground_intensity_properties_per_channel, 0: {problem}"));
    let [lower, upper, mean, std] = [of("percentile_00_5")?, of("percentile_99_5")?, of("mean")?, of("std")?];
    if lower > upper {
        return Err(format!("says percentile_00_5 {lower} and percentile_99_5 {upper}, which is less"));
    }
    Ok(CtNormalization { lower: lower as f32, upper: upper as f32, mean: mean as f32, std: std.max(1e-8) as f32 })
}

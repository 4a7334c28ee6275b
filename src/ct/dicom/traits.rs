//! The traits that distinguish slices of one series: patient, time and scan settings, as far as the slices of one
//! volume agree in them.

use std::cmp::Ordering;

use dicom_core::Tag;
use dicom_dictionary_std::tags;

use super::header::Header;

/// The consequence if two slices of a series differ in a trait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// The slices belong to two stacks.
    Always,
    /// The slices belong to two stacks if those stacks would overlap. One stack may have many values whose slices
    /// follow one after another: a step-and-shoot scan counts one acquisition per step.
    WhereStacksOverlap,
    /// The slices belong to two stacks if they are in one place, or if each value makes an evenly spaced stack of its
    /// own. Otherwise every slice may have its own value.
    WherePlacesRepeat,
}

/// A property in which slices may differ.
#[derive(Debug)]
pub(super) struct Trait {
    pub name: &'static str,
    pub unit: &'static str,
    pub weight: Weight,
    /// The elements that hold the value. The first one that the file has counts.
    tags: &'static [Tag],
    /// The decimals to which a number is rounded, or `None` if the value is not a number.
    decimals: Option<i32>,
}

const fn of(name: &'static str, unit: &'static str, weight: Weight, tags: &'static [Tag], decimals: Option<i32>) -> Trait {
    Trait { name, unit, weight, tags, decimals }
}

/// The traits, in order of decreasing weight.
pub(super) const TRAITS: [Trait; 13] = {
    use Weight::{Always, WherePlacesRepeat, WhereStacksOverlap};
    [
        of("patient", "", Always, &[tags::PATIENT_ID], None),
        of("study", "", Always, &[tags::STUDY_INSTANCE_UID], None),
        of("frame of reference", "", Always, &[tags::FRAME_OF_REFERENCE_UID], None),
        of("kernel", "", Always, &[tags::CONVOLUTION_KERNEL], None),
        of("type", "", Always, &[tags::FRAME_TYPE, tags::IMAGE_TYPE], None),
        of("stack", "", Always, &[tags::STACK_ID], None),
        of("acquisition", "", WhereStacksOverlap, &[tags::FRAME_ACQUISITION_NUMBER, tags::ACQUISITION_NUMBER], Some(0)),
        of("temporal position", "", WhereStacksOverlap, &[tags::TEMPORAL_POSITION_INDEX, tags::TEMPORAL_POSITION_IDENTIFIER], Some(0)),
        of("tube voltage", " kV", WhereStacksOverlap, &[tags::KVP], Some(0)),
        of("slice thickness", " mm", WhereStacksOverlap, &[tags::SLICE_THICKNESS], Some(1)),
        of("cardiac phase", " %", WherePlacesRepeat, &[tags::NOMINAL_PERCENTAGE_OF_CARDIAC_PHASE], Some(1)),
        of("trigger", " ms", WherePlacesRepeat, &[tags::NOMINAL_CARDIAC_TRIGGER_DELAY_TIME, tags::TRIGGER_TIME], Some(1)),
        of("time", "", WherePlacesRepeat, &[tags::FRAME_ACQUISITION_DATE_TIME, tags::ACQUISITION_DATE_TIME, tags::ACQUISITION_TIME], None),
    ]
};

/// The values of a slice for each of [`TRAITS`], empty where the file gives none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Traits([String; TRAITS.len()]);

impl Traits {
    /// Returns the traits of one frame.
    pub fn of(header: &Header, frame: u32) -> Self {
        Self(std::array::from_fn(|index| {
            let of = &TRAITS[index];
            let Some((tag, text)) = of.tags.iter().find_map(|&tag| Some((tag, header.frame_text(frame, tag)?))) else {
                return String::new();
            };
            if let (Some(decimals), Ok(number)) = (of.decimals, text.parse::<f64>()) {
                let scale = 10_f64.powi(decimals);
                return ((number * scale).round() / scale).to_string();
            }
            // A time of day is only meaningful together with its date.
            let day = header.frame_text(frame, tags::ACQUISITION_DATE).filter(|_| tag == tags::ACQUISITION_TIME);
            day.map_or_else(|| text.to_string(), |day| format!("{day} {text}"))
        }))
    }

    /// Returns the value of the trait at `index` of [`TRAITS`].
    pub fn get(&self, index: usize) -> &str {
        &self.0[index]
    }

    /// Returns, as one text, the values in which all slices of a stack agree, wherever they are.
    pub fn always(&self) -> String {
        let always = |(of, value): (&Trait, &String)| (of.weight == Weight::Always).then(|| format!("{value}\n"));
        TRAITS.iter().zip(&self.0).filter_map(always).collect()
    }
}

/// Orders two values, as numbers if both are numbers.
pub(super) fn compare(a: &str, b: &str) -> Ordering {
    match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(x), Ok(y)) => x.total_cmp(&y).then_with(|| a.cmp(b)),
        _ => a.cmp(b),
    }
}

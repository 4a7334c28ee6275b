//! What tells slices of one series apart: who, when and how, as far as slices of one volume agree in it.

use std::cmp::Ordering;

use dicom_core::Tag;
use dicom_dictionary_std::tags;

use super::header::Header;

/// How much it means that two slices of a series differ in a trait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// They are of two stacks.
    Always,
    /// They are of two stacks where those would overlap. One stack may have many values that lie one behind another:
    /// a step-and-shoot scan counts an acquisition for each step.
    WhereStacksOverlap,
    /// They are of two stacks where they lie in one place, or where each value makes an even stack of its own. Else
    /// every slice may have a value of its own.
    WherePlacesRepeat,
}

/// Something that slices may differ in.
#[derive(Debug)]
pub(super) struct Trait {
    pub name: &'static str,
    pub unit: &'static str,
    pub weight: Weight,
    /// The first of these that is there counts.
    tags: &'static [Tag],
    /// Rounded to so many decimals; none for what is no number.
    decimals: Option<i32>,
}

const fn of(name: &'static str, unit: &'static str, weight: Weight, tags: &'static [Tag], decimals: Option<i32>) -> Trait {
    Trait { name, unit, weight, tags, decimals }
}

/// The traits, the weightier ones first.
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

/// What a slice has for each of [`TRAITS`]; empty where the file does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Traits([String; TRAITS.len()]);

impl Traits {
    /// Those of one frame.
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
            // A time of day counts within its day.
            let day = header.frame_text(frame, tags::ACQUISITION_DATE).filter(|_| tag == tags::ACQUISITION_TIME);
            day.map_or_else(|| text.to_string(), |day| format!("{day} {text}"))
        }))
    }

    /// The value for the trait at `index` of [`TRAITS`].
    pub fn get(&self, index: usize) -> &str {
        &self.0[index]
    }

    /// What slices of one stack have in common wherever they lie, as one text.
    pub fn always(&self) -> String {
        let always = |(of, value): (&Trait, &String)| (of.weight == Weight::Always).then(|| format!("{value}\n"));
        TRAITS.iter().zip(&self.0).filter_map(always).collect()
    }
}

/// The order of two values: as numbers, if they are.
pub(super) fn compare(a: &str, b: &str) -> Ordering {
    match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(x), Ok(y)) => x.total_cmp(&y).then_with(|| a.cmp(b)),
        _ => a.cmp(b),
    }
}

//! Heads on patches that somebody marked one by one, as with clicks in a window.

use std::collections::{BTreeMap, BTreeSet};

use super::patches::MAX_LABEL;
use crate::error::{Error, Result};
use crate::fitted::{About, Head, HeadFile, patch_kind};
use crate::heads::{Logistic, Rows, Standard, Targets};
use crate::output::Provenance;
use crate::vit::layers::Layers;

/// Fits a head to marked patches: `rows` [N, C] are their tokens after the last block, and `labels` `[N]` what they were
/// marked as. It is a logistic regression with C 1, in which every label counts alike, however many marks it has.
/// `standard` is measured on all patches of the marked slices, because a few marks alone say little about the channels.
///
/// The head is returned with its values in f32, as its file has them, so that it labels the same before and after it was
/// saved. `provenance` says what it may be applied to. `case` is the scan that it knows.
///
/// # Errors
/// If there are fewer than two labels, not as many labels as rows, a label above 4095, or a value that is not finite.
pub fn fit_marks(rows: &dyn Rows, labels: &[u16], standard: &Standard, provenance: &Provenance, case: &str) -> Result<HeadFile> {
    let known: Vec<u16> = labels.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
    if let Some(label) = known.iter().find(|label| **label > MAX_LABEL) {
        return Err(Error::option("labels", format!("expected labels from 0 to {MAX_LABEL}, found {label}")));
    }
    let classes: Vec<usize> = labels.iter().map(|label| known.partition_point(|other| other < label)).collect();
    let settings = Logistic::default();
    let targets = Targets::of_labels(&classes, known.len())?.balanced();
    let linear = settings.fit(rows, &targets, standard)?.linear;
    let protocol = [
        ("head", "logistic regression"),
        ("c", &settings.c.to_string()),
        ("tolerance", &settings.tolerance.to_string()),
        ("chosen_by", "nobody: there was one candidate"),
        ("standardised", "true"),
        ("balanced", "true"),
        ("targets", "marks on patches"),
    ];
    let about = About {
        classes: known.iter().map(ToString::to_string).collect(),
        features: patch_kind(&provenance.metadata(), &Layers::LAST),
        protocol: protocol.map(|(name, text)| (name.to_owned(), text.to_owned())).into(),
        split: BTreeMap::from([("train".into(), labels.len().to_string())]),
        patients: vec![case.into()],
        figures: None,
    };
    Ok(HeadFile { head: Head::Linear(linear), about }.as_stored())
}

//! Heads on features in files: fits with hyper-parameters chosen on validation, predictions, and reports.
//!
//! The rows of the test part choose nothing. A patient is in one part alone. A head's file says what it may be applied to,
//! and other features are refused.

mod candidates;
mod choose;
mod dense;
mod export;
mod figures;
mod labels;
mod marks;
mod patches;
mod recipe;
mod vectors;

pub use candidates::{Candidates, Measure};
pub use dense::{DiceReport, PatchRecipe, evaluate_patches, fit_patches};
pub use export::{cvpr26_files, export_cvpr26};
pub use figures::{Figure, Figures};
pub use labels::{Label, LabelTable, Part};
pub use marks::fit_marks;
pub use patches::{PatchFile, labels_of, mask_of, patch_files, patch_vectors};
pub use recipe::ProbeRecipe;
pub use vectors::{Making, RowName, Vector, Vectors, case_of, feature_files};

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use self::choose::Data;
use self::labels::numbered;
use super::memory;
use super::observer::{Observer, check};
use crate::count::product;
use crate::error::{Error, Result};
use crate::fitted::{About, HeadFile};
use crate::heads::{Bootstrap, split};

/// The result of a fit.
#[derive(Debug)]
pub struct ProbeReport {
    /// The head as its file has it.
    pub file: HeadFile,
    /// Each candidate and its measure on validation.
    pub tried: Vec<(String, f64)>,
    /// Number of rows of each part.
    pub rows: [usize; 3],
    /// The part of each row.
    pub parts: Vec<Part>,
    /// The figures on the test part; none if it has no rows.
    pub figures: Option<Figures>,
}

/// Tells `observer` how much memory it takes to read the vectors of `files` and to fit heads of `recipe` to them, from the
/// files' headers.
///
/// # Errors
/// If a file cannot be read or holds no such vectors, or the machine cannot provide the memory.
pub fn tell_fit(recipe: &ProbeRecipe, files: &[PathBuf], making: Making, labels: &LabelTable, observer: &dyn Observer) -> Result<()> {
    let (rows, width) = Vectors::extent(files, making)?;
    let classes = classes_of(labels.lines().iter().filter_map(|line| line.class.as_deref())).len();
    let bytes = product(&[rows, width, 4]).saturating_add(recipe.candidates.bytes(rows, width, classes));
    let what = format!("the fit of {rows} vectors of {width} channels to {classes} classes");
    memory::tell(&what, bytes, "give fewer files, or pool slices to cases", observer)
}

/// Fits a head to labelled `vectors`, chooses its hyper-parameters, writes it to `output`, and judges the written head on
/// the test part.
///
/// With a validation part, candidates are fitted to the training part and judged on validation; else they are judged by
/// cross-validation over folds of patients. The chosen one is fitted again to both parts together.
///
/// # Errors
/// If a part lacks rows or classes, labels and vectors do not fit each other, or the file cannot be written.
/// [`Error::Cancelled`] if `observer` cancels.
pub fn fit_probe(
    recipe: &ProbeRecipe,
    vectors: &Vectors,
    labels: &LabelTable,
    output: &Path,
    observer: &dyn Observer,
) -> Result<ProbeReport> {
    let lines = lines(vectors, labels)?;
    let patients = numbered(lines.iter().map(|line| line.patient.as_str()));
    let texts: Vec<&str> = lines.iter().map(|line| line.class.as_deref().unwrap_or_default()).collect();
    let parts = parts(recipe, &lines, &texts, &patients, labels)?;
    let in_part = |part: Part| (0..lines.len()).filter(|row| parts[*row] == part).collect::<Vec<_>>();
    let [train, validation, test] = Part::ALL.map(in_part);
    let classes = classes_of(train.iter().map(|row| texts[*row]));
    let classified = |row: usize| {
        classes.iter().position(|class| class == texts[row]).ok_or_else(|| {
            let problem = format!("gives {} the class {}, which no row of the training part has", lines[row].name(), texts[row]);
            labels.problem(format!("{problem}; expected {}", classes.join(", ")))
        })
    };
    let classes_of_rows = (0..lines.len()).map(classified).collect::<Result<Vec<usize>>>()?;
    if classes.len() < 2 {
        return Err(
            labels.problem(format!("has one class only in the training part, {}; there is nothing to tell apart", classes.join("")))
        );
    }
    let data = Data { values: &vectors.values, labels: &classes_of_rows, classes: classes.len(), recipe };
    let fitted_to = [&train[..], &validation].concat();
    let rounds = if validation.is_empty() {
        let of = |values: &[usize]| fitted_to.iter().map(|row| values[*row]).collect::<Vec<_>>();
        let folds = split::folds(&of(&classes_of_rows), &of(&patients), recipe.folds)?;
        (0..recipe.folds).map(|fold| rows_of_fold(&fitted_to, &folds, fold)).collect()
    } else {
        vec![(train.clone(), validation.clone())]
    };
    let tried = data.measures(&rounds, &|| check(observer))?;
    let best = recipe.measure.best(&tried).ok_or_else(|| Error::option("labels", "no candidate could be judged on validation"))?;
    check(observer)?;
    let head = data.fit(&fitted_to, best)?;

    let mut protocol = recipe.candidates.describe(best);
    let chosen = if validation.is_empty() { format!("{} folds of patients", recipe.folds) } else { "the validation part".into() };
    protocol.extend([
        ("measure".into(), recipe.measure.to_string()),
        ("chosen_by".into(), chosen),
        ("standardised".into(), recipe.standardise.to_string()),
        ("balanced".into(), recipe.balanced.to_string()),
        ("seed".into(), recipe.seed.to_string()),
    ]);
    let rows = [train.len(), validation.len(), test.len()];
    let split: BTreeMap<_, _> = Part::ALL.iter().zip(rows).map(|(part, rows)| (part.to_string(), rows.to_string())).collect();
    let known: BTreeSet<String> = fitted_to.iter().map(|row| lines[*row].patient.clone()).collect();
    let about = About { classes, features: vectors.kind.clone(), protocol, split, patients: known.into_iter().collect(), figures: None };
    let mut file = HeadFile { head, about };
    // The report is about the head as others will read it, with weights in f32.
    let figures = if test.is_empty() { None } else { Some(judge(&file.as_stored(), &data, &test, &patients)?) };
    file.about.figures = figures.as_ref().map(Figures::to_json);
    file.save(output)?;
    let tried = tried.into_iter().enumerate().map(|(i, measure)| (recipe.candidates.name(i), measure)).collect();
    Ok(ProbeReport { file, tried, rows, parts, figures })
}

fn judge(file: &HeadFile, data: &Data, rows: &[usize], patients: &[usize]) -> Result<Figures> {
    let probabilities = file.head.probabilities(&data.chosen(rows))?;
    let of = |values: &[usize]| rows.iter().map(|row| values[*row]).collect::<Vec<_>>();
    Ok(Figures::of(&probabilities, &of(data.labels), &of(patients), &file.about.classes, data.recipe.bootstrap))
}

/// Judges the head in `file` on the labelled `vectors`; with `part`, on the rows of that part of the table.
///
/// # Errors
/// If the vectors are not what the head was fitted to, a label is unknown to the head, no row is left, or the head was
/// fitted to one of the patients.
pub fn evaluate_probe(
    file: &HeadFile,
    vectors: &Vectors,
    labels: &LabelTable,
    part: Option<Part>,
    bootstrap: Bootstrap,
) -> Result<Figures> {
    let lines = lines(vectors, labels)?;
    let rows: Vec<usize> = (0..lines.len()).filter(|row| part.is_none_or(|part| lines[*row].part == Some(part))).collect();
    if rows.is_empty() {
        let what = part.map(|part| format!(" in part {part}")).unwrap_or_default();
        return Err(labels.problem(format!("has no row{what} to judge the head by")));
    }
    if let Some(line) = rows.iter().map(|row| lines[*row]).find(|line| file.about.patients.contains(&line.patient)) {
        let problem = format!("patient {} is one that the head was fitted to, so figures would be too good", line.patient);
        return Err(labels.problem(format!("{problem}; leave {} out, or choose a part (`part`)", line.name())));
    }
    let classified = |row: &usize| {
        let class = lines[*row].class.as_deref().unwrap_or_default();
        file.about.classes.iter().position(|known| known == class).ok_or_else(|| {
            labels.problem(format!(
                "gives {} the class {class}, which the head does not know; expected {}",
                lines[*row].name(),
                file.about.classes.join(", ")
            ))
        })
    };
    let truth = rows.iter().map(classified).collect::<Result<Vec<_>>>()?;
    let patients = numbered(rows.iter().map(|row| lines[*row].patient.as_str()));
    let probabilities = predict_probe(file, vectors)?;
    let k = file.about.classes.len();
    let chosen: Vec<f64> = rows.iter().flat_map(|row| &probabilities[row * k..][..k]).copied().collect();
    Ok(Figures::of(&chosen, &truth, &patients, &file.about.classes, bootstrap))
}

/// Returns the probability of each class for each row of `vectors`: [N, K].
///
/// # Errors
/// If the vectors are not what the head was fitted to.
pub fn predict_probe(file: &HeadFile, vectors: &Vectors) -> Result<Vec<f64>> {
    if vectors.values.rows() == 0 {
        return Err(Error::option("features", "expected at least one row, found none"));
    }
    file.about.check(&vectors.kind)?;
    file.head.probabilities(&vectors.values)
}

/// Returns the table's line of each row.
fn lines<'a>(vectors: &Vectors, labels: &'a LabelTable) -> Result<Vec<&'a Label>> {
    vectors.rows.iter().map(|row| labels.of(&row.case, row.slice)).collect()
}

/// Returns each row's part: by the table, or else by the recipe's shares.
fn parts(recipe: &ProbeRecipe, lines: &[&Label], texts: &[&str], patients: &[usize], labels: &LabelTable) -> Result<Vec<Part>> {
    let parts: Vec<Part> = match lines.iter().filter(|line| line.part.is_none()).count() {
        0 => lines.iter().filter_map(|line| line.part).collect(),
        n if n == lines.len() => split::divided(&numbered(texts.iter().copied()), patients, &recipe.shares, recipe.seed)?
            .iter()
            .map(|part| Part::ALL[*part])
            .collect(),
        n => return Err(labels.problem(format!("gives {n} of {} rows no split; give all one, or none", lines.len()))),
    };
    if parts.contains(&Part::Train) {
        return Ok(parts);
    }
    Err(labels.problem(format!("leaves no row for training of {}; give more rows, or another split", lines.len())))
}

/// Returns the classes, in the order of their numbers if all are whole numbers, else of their letters.
fn classes_of<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<String> {
    let known: BTreeSet<&str> = texts.collect();
    let mut classes: Vec<String> = known.into_iter().map(Into::into).collect();
    if classes.iter().all(|class| class.parse::<i64>().is_ok()) {
        classes.sort_by_key(|class| class.parse::<i64>().unwrap_or_default());
    }
    classes
}

/// Returns the rows that are not in fold `fold`, and those that are.
fn rows_of_fold(rows: &[usize], folds: &[usize], fold: usize) -> (Vec<usize>, Vec<usize>) {
    let (inside, outside): (Vec<_>, Vec<_>) = rows.iter().zip(folds).partition(|(_, of)| **of == fold);
    let rows = |pairs: Vec<(&usize, &usize)>| pairs.into_iter().map(|(row, _)| *row).collect();
    (rows(outside), rows(inside))
}

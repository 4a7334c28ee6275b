//! Feature vectors of cases, from files that a feature job wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::labels::LabelTable;
use crate::archive::{Archive, Listing};
use crate::error::{Error, Problem, Result};
use crate::fitted::{About, agree, kind_of};
use crate::heads::Pooling;
use crate::heads::metrics::decisions;
use crate::jobs::text::name_text;
use crate::output::Output;
use crate::tensor::Tensor;

/// Which vector an image has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Vector {
    /// The class token.
    #[default]
    Cls,
    /// The mean of the patch tokens.
    Mean,
    /// The class token, then the mean of the patch tokens.
    ClsMean,
}

impl FromStr for Vector {
    type Err = Error;

    /// Parses `cls`, `mean` or `cls+mean`.
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "cls" => Ok(Self::Cls),
            "mean" => Ok(Self::Mean),
            "cls+mean" => Ok(Self::ClsMean),
            _ => Err(Error::option("vector", format!("expected cls, mean or cls+mean, found {text}"))),
        }
    }
}

impl fmt::Display for Vector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cls => "cls",
            Self::Mean => "mean",
            Self::ClsMean => "cls+mean",
        })
    }
}

/// How vectors are made of feature files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Making {
    /// The vector of an image.
    pub vector: Vector,
    /// How the vectors of a case's slices become one; none if each slice is a row.
    pub pooling: Option<Pooling>,
}

impl Vector {
    /// Returns the tensors of a feature file that the vector is made of.
    pub fn outputs(self) -> Vec<Output> {
        match self {
            Self::Cls => vec![Output::Cls],
            Self::Mean => vec![Output::PatchMean],
            Self::ClsMean => vec![Output::Cls, Output::PatchMean],
        }
    }
}

impl Making {
    /// Returns how the vectors are made that a head of `about` may be applied to.
    ///
    /// # Errors
    /// If the head's file does not say it.
    pub fn of(about: &About) -> Result<Self> {
        let text = |key: &str| about.features.get(key).map(String::as_str).unwrap_or_default();
        let pooling = match text("rows").strip_prefix("case, ").and_then(|rest| rest.strip_suffix(" of slices")) {
            Some(pooling) => Some(pooling.parse()?),
            None => None,
        };
        Ok(Self { vector: text("vector").parse()?, pooling })
    }
}

/// A row: a case, or a slice of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowName {
    /// The case.
    pub case: String,
    /// The slice; none if the row is the whole case.
    pub slice: Option<usize>,
}

/// Vectors [N, D], what they are of, and what made them.
#[derive(Clone, Debug)]
pub struct Vectors {
    /// [N, D]
    pub values: Tensor,
    /// `[N]`
    pub rows: Vec<RowName>,
    /// What a head for these vectors is bound to: the model, the preprocessing, and how vectors are made.
    pub kind: BTreeMap<String, String>,
}

/// Returns the feature files of `inputs`: files, and the `.safetensors` files in folders.
///
/// # Errors
/// If a folder cannot be read or holds no such file.
pub fn feature_files(inputs: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for input in inputs {
        if !input.is_dir() {
            files.push(input.clone());
            continue;
        }
        let listing = Listing::of(input).map_err(|e| Error::input(input.display(), e))?;
        let is_features = |path: &PathBuf| path.extension().is_some_and(|e| e.eq_ignore_ascii_case("safetensors"));
        let mut found: Vec<PathBuf> = listing.files.into_iter().filter(is_features).collect();
        if found.is_empty() {
            return Err(Error::input(input.display(), "holds no .safetensors; expected files that `meddino features` wrote"));
        }
        found.sort();
        files.append(&mut found);
    }
    Ok(files)
}

/// Returns the case of a feature file: its name without the ending.
pub fn case_of(path: &Path) -> String {
    let name = path.file_stem().map(name_text).unwrap_or_default();
    name.strip_suffix(".features").map_or(name.clone(), Into::into)
}

impl Vectors {
    /// Reads the vectors of `files`. With a table of labels, rows that it leaves out are left out.
    ///
    /// # Errors
    /// If a file cannot be read, holds no such vectors or NaN, or was not made as the first one; if two files have the
    /// same name; or if the table lacks a row, or has a case without a file.
    pub fn read(files: &[PathBuf], making: Making, labels: Option<&LabelTable>) -> Result<Self> {
        let (mut values, mut rows, mut kind, mut width) = (Vec::new(), Vec::new(), None, 0);
        let mut cases = BTreeSet::new();
        for path in files {
            let case = case_of(path);
            if !cases.insert(case.clone()) {
                return Err(Error::input(path.display(), format!("is the second file of case {case}; leave one of them out")));
            }
            let fail = |problem: Problem| Error::input(path.display(), problem);
            let stored = Stored::open(path, making).map_err(fail)?;
            match &kind {
                None => (kind, width) = (Some(stored.kind.clone()), stored.width),
                Some(kind) => agree(&stored.kind, kind, "the files before it").map_err(|problem| fail(problem.into()))?,
            }
            if stored.width != width {
                return Err(fail(format!("expected vectors of {width} channels as in the files before it, found {}", stored.width).into()));
            }
            stored.rows(&case, making, labels, &mut rows, &mut values)?;
        }
        labels.map_or(Ok(()), |labels| labels.check_named(&cases))?;
        let kind = kind.ok_or_else(|| Error::option("features", "expected at least one feature file, found none"))?;
        Ok(Self { values: Tensor::new([rows.len(), width], values), rows, kind })
    }

    /// Returns the number of rows that [`Vectors::read`] would read of `files` with every row in use, and their width, from
    /// the files' headers.
    ///
    /// # Errors
    /// If a file cannot be read or holds no such vectors.
    pub fn extent(files: &[PathBuf], making: Making) -> Result<(usize, usize)> {
        let (mut rows, mut width) = (0, 0);
        for path in files {
            let shape = Archive::open(path).and_then(|archive| shape_of(&archive, making.vector));
            let (images, channels) = shape.map_err(|problem| Error::input(path.display(), problem))?;
            rows += if making.pooling.is_some() { 1 } else { images };
            width = channels;
        }
        Ok((rows, width))
    }

    /// Returns `probabilities` [N, K] of the rows as CSV: case, slice if rows are slices, the likeliest of `classes`, and the
    /// probability of each class.
    pub fn prediction_table(&self, classes: &[String], probabilities: &[f64]) -> String {
        let has_slices = self.rows.iter().any(|row| row.slice.is_some());
        let columns = ["case"].into_iter().chain(has_slices.then_some("slice")).chain(["predicted"]).map(String::from);
        let header: Vec<String> = columns.chain(classes.iter().map(|class| format!("p_{class}"))).collect();
        let guesses = decisions(probabilities, classes.len());
        let lines = self.rows.iter().zip(guesses).zip(probabilities.chunks_exact(classes.len())).map(|((row, guess), p)| {
            let slice = row.slice.map(|slice| slice.to_string());
            let cells = [row.case.clone()].into_iter().chain(slice).chain([classes[guess].clone()]);
            cells.chain(p.iter().map(|p| format!("{p:.9}"))).collect()
        });
        let mut table = csv::Writer::from_writer(Vec::new());
        for line in std::iter::once(header).chain(lines) {
            table.write_record(&line).expect("memory takes every line of equal length");
        }
        String::from_utf8(table.into_inner().expect("memory takes all")).expect("cells are UTF-8")
    }
}

/// The vectors of one file.
struct Stored {
    name: String,
    /// [S, D]
    values: Vec<f32>,
    width: usize,
    slices: Vec<usize>,
    kind: BTreeMap<String, String>,
}

impl Stored {
    fn open(path: &Path, making: Making) -> Result<Self, Problem> {
        let archive = Archive::open(path)?;
        let metadata = archive.metadata();
        let slices = metadata.get("slices").ok_or("its metadata have no slices; expected a file that `meddino features` wrote")?;
        let slices: Vec<usize> = serde_json::from_str(slices).map_err(|e| format!("its metadata say that slices is {slices}: {e}"))?;
        let parts: Vec<Vec<f32>> = match making.vector {
            Vector::Cls => vec![tokens(&archive, "x_norm_clstoken", slices.len())?],
            Vector::Mean => vec![mean(&archive, slices.len())?],
            Vector::ClsMean => vec![tokens(&archive, "x_norm_clstoken", slices.len())?, mean(&archive, slices.len())?],
        };
        let widths: Vec<usize> = parts.iter().map(|part| part.len() / slices.len()).collect();
        let image = |i: usize| parts.iter().zip(&widths).flat_map(move |(part, width)| &part[i * width..][..*width]).copied();
        let values: Vec<f32> = (0..slices.len()).flat_map(image).collect();
        let width = widths.iter().sum();
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            return Err(format!("slice {} holds values that are NaN or infinite; compute the features again", slices[at / width]).into());
        }
        let pooling = making.pooling.map_or("slice".into(), |pooling| format!("case, {pooling} of slices"));
        let kind = kind_of(metadata, &making.vector.to_string(), pooling);
        Ok(Self { name: path.display().to_string(), values, width, slices, kind })
    }

    /// Appends the file's rows.
    fn rows(self, case: &str, making: Making, labels: Option<&LabelTable>, rows: &mut Vec<RowName>, values: &mut Vec<f32>) -> Result<()> {
        let is_used = |slice: Option<usize>| labels.map_or(Ok(true), |labels| labels.of(case, slice).map(|line| line.class.is_some()));
        if let Some(pooling) = making.pooling {
            if is_used(None)? {
                rows.push(RowName { case: case.into(), slice: None });
                values.extend(pooling.of(&self.values, self.width));
            }
            return Ok(());
        }
        if let Some(line) = labels
            .iter()
            .flat_map(|labels| labels.lines())
            .find(|line| line.case == case && line.class.is_some() && line.slice.is_some_and(|slice| !self.slices.contains(&slice)))
        {
            return Err(Error::input(self.name, format!("does not hold {}, which the labels name", line.name())));
        }
        for (slice, vector) in self.slices.iter().zip(self.values.chunks_exact(self.width)) {
            if is_used(Some(*slice))? {
                rows.push(RowName { case: case.into(), slice: Some(*slice) });
                values.extend_from_slice(vector);
            }
        }
        Ok(())
    }
}

/// Returns the number of images in a feature file, and the width of an image's vector.
fn shape_of(archive: &Archive, vector: Vector) -> Result<(usize, usize), Problem> {
    let found = |names: &[&str]| {
        let stored = names.iter().find_map(|name| archive.tensors().get(*name));
        let shape = stored.map(|stored| &stored.shape[..]).unwrap_or_default();
        match (shape.first(), shape.last()) {
            (Some(images), Some(width)) if shape.len() > 1 => Ok((*images, *width)),
            _ => Err(Problem::from(format!("holds no {}; compute the features with it (`tokens`, `pool`)", names[names.len() - 1]))),
        }
    };
    let (cls, mean) = (|| found(&["x_norm_clstoken"]), || found(&["x_norm_patchtokens", "x_norm_patchtokens_mean"]));
    match vector {
        Vector::Cls => cls(),
        Vector::Mean => mean(),
        Vector::ClsMean => Ok((cls()?.0, cls()?.1 + mean()?.1)),
    }
}

/// Reads the tensor `name` [S, D].
fn tokens(archive: &Archive, name: &str, images: usize) -> Result<Vec<f32>, Problem> {
    let stored = archive.tensors().get(name).ok_or_else(|| format!("holds no {name}; compute the features with it (`tokens`, `pool`)"))?;
    if stored.shape.len() != 2 || stored.shape[0] != images || images == 0 || stored.shape[1] == 0 {
        return Err(format!("{name}: expected [{images}, C], found {:?}", stored.shape).into());
    }
    Ok(archive.read(name).map_err(|problem| problem.within(name))?.into_data())
}

/// Reads the means of patch tokens, or computes them from the patch tokens.
fn mean(archive: &Archive, images: usize) -> Result<Vec<f32>, Problem> {
    const PATCHES: &str = "x_norm_patchtokens";
    let Some(stored) = archive.tensors().get(PATCHES) else { return tokens(archive, "x_norm_patchtokens_mean", images) };
    let &[s, patches, width] = &stored.shape[..] else {
        return Err(format!("{PATCHES}: expected [S, P, C], found {:?}", stored.shape).into());
    };
    if s != images || images * patches * width == 0 {
        return Err(format!("{PATCHES}: expected [{images}, P, C], found {:?}", stored.shape).into());
    }
    let image = |i: usize| Ok(Pooling::Mean.of(&archive.read_part(PATCHES, i * patches * width, patches * width)?, width));
    let means = (0..images).map(image).collect::<Result<Vec<_>, Problem>>().map_err(|problem| problem.within(PATCHES))?;
    Ok(means.concat())
}

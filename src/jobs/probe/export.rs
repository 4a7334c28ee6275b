//! Vectors as the CVPR 2026 challenge on foundation models for CT diagnosis takes them: one HDF5 file a case with the dataset
//! `y_hat` [D], and a table of cases, parts and classes.

use std::path::{Path, PathBuf};

use super::labels::{LabelTable, Part};
use super::vectors::Vectors;
use crate::archive::NewFile;
use crate::error::{Error, Result};
use crate::heads::Rows;
use crate::output::write_hdf5;

/// The name of the table.
const TABLE: &str = "cases.csv";

/// Returns the files that [`export_cvpr26`] writes to `folder`.
///
/// # Errors
/// If rows are slices, which the challenge does not know.
pub fn cvpr26_files(vectors: &Vectors, folder: &Path) -> Result<Vec<PathBuf>> {
    if let Some(row) = vectors.rows.iter().find(|row| row.slice.is_some()) {
        let problem = format!("cvpr26 has one vector a case, but the labels are of slices, such as one of case {}", row.case);
        return Err(Error::option("export", format!("{problem}; give labels of cases")));
    }
    let files = vectors.rows.iter().map(|row| folder.join(format!("{}.h5", row.case)));
    Ok(files.chain([folder.join(TABLE)]).collect())
}

/// Writes each of `vectors` to `CASE.h5` in `folder`, and the table `cases.csv` with the columns `case`, `split` and `target`.
/// `parts` has the part of each row.
///
/// Replaces existing files; check with [`crate::output::Targets`] first whether that is allowed.
///
/// # Errors
/// As [`cvpr26_files`], if the labels lack a row, or a file cannot be written.
///
/// # Panics
/// If there is not a part for each row.
pub fn export_cvpr26(vectors: &Vectors, labels: &LabelTable, parts: &[Part], folder: &Path) -> Result<()> {
    assert_eq!(parts.len(), vectors.rows.len(), "a part for each row");
    let files = cvpr26_files(vectors, folder)?;
    let mut table = csv::Writer::from_writer(Vec::new());
    table.write_record(["case", "split", "target"]).expect("memory takes every line");
    let (width, values) = (vectors.values.width(), vectors.values.data());
    for (((row, part), path), vector) in vectors.rows.iter().zip(parts).zip(&files).zip(values.chunks_exact(width)) {
        write_hdf5(path, "y_hat", vector)?;
        let class = labels.of(&row.case, None)?.class.as_deref().unwrap_or_default();
        table.write_record([&row.case, &part.to_string(), class]).expect("memory takes every line of equal length");
    }
    let path = folder.join(TABLE);
    let mut file = NewFile::create(&path)?;
    let text = table.into_inner().expect("memory takes all");
    file.write_at(0, &text).map_err(|e| Error::output(path.display(), e.to_string()))?;
    file.commit()
}

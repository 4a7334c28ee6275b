//! A table of the labels' sizes and values in many scans, as CSV.

use std::fmt::Write as _;
use std::path::Path;

use crate::archive::NewFile;
use crate::error::{Error, Result};

/// The first line of the file. It also marks the file as one that this program wrote.
pub(super) const HEADER: &str = "case,label,name,voxels,ml,mean_hu,columns_mm,rows_mm,slices_mm,largest_component_share,\
    components,largest_component_voxels,largest_component_ml,first_column,last_column,first_row,last_row,first_slice,last_slice\n";

/// The size and the values of one label in one scan.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelStatistics {
    /// The label.
    pub label: u16,
    /// Number of voxels.
    pub voxels: u64,
    /// Volume in millilitres.
    pub ml: f64,
    /// Mean of the voxels in HU; none if there are no voxels.
    pub mean_hu: Option<f64>,
    /// The bounding box: the first and the last of the stored columns, rows and slices that hold a voxel; none if
    /// there are no voxels.
    pub ends: Option<[(usize, usize); 3]>,
    /// Lengths in mm of the bounding box along the stored columns, rows and slices, from outer side to outer side of the
    /// voxels.
    pub extent_mm: [f64; 3],
    /// Number of components. Voxels that share a side, an edge or a corner are of one component (26 neighbours).
    pub components: u64,
    /// Number of voxels of the largest component.
    pub largest: u64,
    /// Volume of the largest component in millilitres.
    pub largest_ml: f64,
}

impl LabelStatistics {
    /// Returns the share of the voxels that the largest component has; none if there are no voxels.
    pub fn largest_share(&self) -> Option<f64> {
        (self.voxels > 0).then(|| self.largest as f64 / self.voxels as f64)
    }
}

/// A CSV file of [`LabelStatistics`], which appears complete or not at all.
#[derive(Debug, Default)]
pub struct StatisticsTable {
    rows: String,
}

impl StatisticsTable {
    /// Adds the labels of the scan `case`. `names` are the labels' names, indexed by label.
    pub fn push(&mut self, case: &str, names: &[String], labels: &[LabelStatistics]) {
        let number = |v: Option<f64>, digits: usize| v.map(|v| format!("{v:.digits$}")).unwrap_or_default();
        for found in labels {
            let name = names.get(usize::from(found.label)).map_or("", String::as_str);
            let [columns, rows, slices] = found.extent_mm;
            let (hu, share) = (number(found.mean_hu, 3), number(found.largest_share(), 6));
            let ends = found.ends.map_or(",".repeat(5), |ends| ends.map(|(first, last)| format!("{first},{last}")).join(","));
            let LabelStatistics { label, voxels, ml, components, largest, largest_ml, .. } = found;
            let (case, name) = (quoted(case), quoted(name));
            write!(self.rows, "{case},{label},{name},{voxels},{ml:.6},{hu},{columns:.3},{rows:.3},{slices:.3},{share},")
                .and_then(|()| writeln!(self.rows, "{components},{largest},{largest_ml:.6},{ends}"))
                .expect("a String takes every text");
        }
    }

    /// Writes the table to `path`. A table that is there already is replaced if the new one holds all of its lines, or if
    /// `overwrite` is set.
    ///
    /// # Errors
    /// If a line would be lost, or the file cannot be written there.
    pub fn write(&self, path: &Path, overwrite: bool) -> Result<()> {
        let text = [HEADER, &self.rows].concat();
        if !overwrite && path.exists() {
            let there = std::fs::read(path).map_err(|e| Error::output(path.display(), e))?;
            if let Some(line) = String::from_utf8_lossy(&there).lines().find(|line| !text.lines().any(|kept| kept == *line)) {
                let problem =
                    format!("holds the line '{line}', which this run's table does not hold; choose another name or set `overwrite`");
                return Err(Error::output(path.display(), problem));
            }
        }
        let mut file = NewFile::create(path)?;
        file.write_at(0, text.as_bytes())?;
        file.commit()
    }
}

/// Returns `text` as a field of RFC 4180, in quotation marks if it needs them.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(cases: &[&str]) -> StatisticsTable {
        let mut table = StatisticsTable::default();
        let found = LabelStatistics {
            label: 1,
            voxels: 4,
            ml: 0.5,
            mean_hu: Some(41.25),
            ends: Some([(3, 4), (0, 0), (7, 11)]),
            extent_mm: [2.0, 1.0, 5.0],
            components: 2,
            largest: 3,
            largest_ml: 0.375,
        };
        let absent = LabelStatistics {
            label: 2,
            voxels: 0,
            ml: 0.0,
            mean_hu: None,
            ends: None,
            extent_mm: [0.0; 3],
            components: 0,
            largest: 0,
            largest_ml: 0.0,
        };
        let names = ["background", "liver, left", "spleen"].map(String::from);
        cases.iter().for_each(|case| table.push(case, &names, &[found.clone(), absent.clone()]));
        table
    }

    #[test]
    fn a_table_grows_and_no_line_is_lost() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("t.csv");
        let read = || std::fs::read_to_string(&path).expect("read");
        table(&["a"]).write(&path, false).expect("a new file");
        let rows = "a,1,\"liver, left\",4,0.500000,41.250,2.000,1.000,5.000,0.750000,2,3,0.375000,3,4,0,0,7,11\n\
                    a,2,spleen,0,0.000000,,0.000,0.000,0.000,,0,0,0.000000,,,,,,\n";
        let columns = |line: &str| line.replace(", ", "").matches(',').count();
        assert!(rows.lines().all(|row| columns(row) == columns(HEADER)), "a value for each column");
        assert_eq!(read(), [HEADER, rows].concat());
        table(&["b", "a"]).write(&path, false).expect("one more case");
        let both = read();
        assert_eq!(both.lines().count(), 5);
        let error = table(&["c", "a"]).write(&path, false).expect_err("b would be lost").to_string();
        assert!(error.contains("the line 'b,1,"), "{error}");
        assert_eq!(read(), both);
        table(&["c"]).write(&path, true).expect("overwritten");
        assert_eq!(read().lines().count(), 3);
    }
}

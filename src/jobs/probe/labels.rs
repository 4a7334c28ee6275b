//! A table of labels: which class a case or a slice has, whose it is, and for what it is used.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::archive::open_plain;
use crate::error::{Error, Problem, Result};
use crate::heads::split;

/// The largest table that is read, in bytes.
const MAX_BYTES: u64 = 256 << 20;

/// What rows are used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Heads are fitted to these rows.
    Train,
    /// Hyper-parameters are chosen by these rows.
    Validation,
    /// Nothing is chosen by these rows; the report is about them.
    Test,
}

impl Part {
    /// All parts.
    pub const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Validation => "val",
            Self::Test => "test",
        })
    }
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_lowercase().as_str() {
            "train" | "training" => Ok(Self::Train),
            "val" | "valid" | "validation" => Ok(Self::Validation),
            "test" => Ok(Self::Test),
            _ => Err(format!("expected train, val or test, found '{text}'")),
        }
    }
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The name of the case: that of its feature file, without the ending.
    pub case: String,
    /// The slice, if the table is one of slices.
    pub slice: Option<usize>,
    /// The class; none to leave the row out.
    pub class: Option<String>,
    /// The patient; the case if the table has no such column.
    pub patient: String,
    /// The part, if the table divides its rows.
    pub part: Option<Part>,
}

/// The lines of a table, each case or slice once.
#[derive(Clone, Debug)]
pub struct LabelTable {
    name: String,
    lines: Vec<Label>,
    index: HashMap<(String, Option<usize>), usize>,
    of_slices: bool,
}

impl LabelTable {
    /// Reads a CSV file with the columns `case` and `label`, or `target` in place of `label`, and as it likes `slice`,
    /// `patient` and `split` (train, val, test). Other columns are ignored. A row without a class is left out.
    ///
    /// # Errors
    /// If the file cannot be read, a column is missing, a cell is not understood, a row is there twice, or a patient is
    /// in two parts.
    pub fn open(path: impl AsRef<Path>, target: &str) -> Result<Self> {
        let path = path.as_ref();
        let fail = |problem: Problem| Error::input(path.display(), problem);
        let lines = read(path, target).map_err(fail)?;
        let mut index = HashMap::new();
        for (at, line) in lines.iter().enumerate() {
            if index.insert((line.case.clone(), line.slice), at).is_some() {
                return Err(fail(format!("names {} twice; leave one row out", line.name()).into()));
            }
        }
        let of_slices = lines.first().is_some_and(|line| line.slice.is_some());
        let table = Self { name: path.display().to_string(), lines, index, of_slices };
        table.check_leak()?;
        Ok(table)
    }

    /// Refuses a patient in two parts.
    fn check_leak(&self) -> Result<()> {
        let patients = numbered(self.lines.iter().map(|line| line.patient.as_str()));
        let used = self.lines.iter().zip(&patients).filter(|(line, _)| line.class.is_some());
        let (groups, parts): (Vec<_>, Vec<_>) = used.filter_map(|(line, patient)| Some((*patient, line.part? as usize))).unzip();
        let Some((leaked, [one, other])) = split::leak(&groups, &parts) else { return Ok(()) };
        let patient = patients.iter().position(|patient| *patient == leaked).map_or("", |at| &self.lines[at].patient);
        let problem = format!(
            "patient {patient} is in two parts, {} and {}; figures would be too good: put all rows of a patient into one part",
            Part::ALL[one],
            Part::ALL[other]
        );
        Err(Error::input(&self.name, problem))
    }

    /// Returns the lines.
    pub fn lines(&self) -> &[Label] {
        &self.lines
    }

    /// Returns whether rows are slices.
    pub fn of_slices(&self) -> bool {
        self.of_slices
    }

    /// Returns the line of a case or a slice.
    ///
    /// # Errors
    /// If there is none.
    pub fn of(&self, case: &str, slice: Option<usize>) -> Result<&Label> {
        self.index.get(&(case.to_owned(), slice)).map(|at| &self.lines[*at]).ok_or_else(|| {
            let what = slice.map_or_else(|| format!("case {case}"), |slice| format!("slice {slice} of case {case}"));
            Error::input(&self.name, format!("has no row of {what}; add one, with an empty label to leave it out"))
        })
    }

    /// Checks that every case with a class is one of `cases`, and every one of `cases` has a row.
    ///
    /// # Errors
    /// The first case that is missing.
    pub fn covers(&self, cases: &BTreeSet<String>) -> Result<()> {
        self.check_named(cases)?;
        let has_row = |case: &&String| self.lines.iter().any(|line| line.case == **case);
        match cases.iter().find(|case| !has_row(case)) {
            None => Ok(()),
            Some(case) => self.of(case, None).map(drop),
        }
    }

    /// Returns whether a row of `case` has a class.
    pub fn uses(&self, case: &str) -> bool {
        self.lines.iter().any(|line| line.case == case && line.class.is_some())
    }

    /// Checks that every case with a class is one of `cases`.
    pub(super) fn check_named(&self, cases: &BTreeSet<String>) -> Result<()> {
        match self.lines.iter().find(|line| line.class.is_some() && !cases.contains(&line.case)) {
            None => Ok(()),
            Some(line) => {
                let problem =
                    format!("names case {}, of which there is no feature file, nor a scan; give one, or empty its label", line.case);
                Err(self.problem(problem))
            }
        }
    }

    /// Returns the error of a line that cannot be used.
    pub(super) fn problem(&self, problem: impl Into<Problem>) -> Error {
        Error::input(&self.name, problem)
    }
}

impl Label {
    /// Returns the row's name for messages.
    pub fn name(&self) -> String {
        self.slice.map_or_else(|| format!("case {}", self.case), |slice| format!("slice {slice} of case {}", self.case))
    }
}

/// Numbers texts by their first appearance; equal texts have equal numbers.
pub(super) fn numbered<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<usize> {
    let mut known = BTreeMap::new();
    texts
        .map(|text| {
            let next = known.len();
            *known.entry(text).or_insert(next)
        })
        .collect()
}

fn read(path: &Path, target: &str) -> Result<Vec<Label>, Problem> {
    let file = open_plain(path)?;
    let bytes = file.length()?;
    if bytes > MAX_BYTES {
        return Err(format!("is {bytes} bytes long; expected a table of at most {MAX_BYTES}").into());
    }
    let csv_error = |e: csv::Error| Problem::caused_by(format!("is no CSV: {e}"), e);
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(file);
    let header = reader.headers().map_err(csv_error)?.clone();
    let column = |name: &str| header.iter().position(|found| found.trim_start_matches('\u{feff}') == name);
    let needed = |name: &str| {
        column(name).ok_or_else(|| format!("expected a column '{name}', found {}", header.iter().collect::<Vec<_>>().join(", ")))
    };
    let (case, class) = (needed("case")?, needed(target)?);
    let (slice, patient, part) = (column("slice"), column("patient"), column("split"));
    let mut lines = Vec::new();
    for record in reader.records() {
        let record = record.map_err(csv_error)?;
        let line = record.position().map_or(0, csv::Position::line);
        let cell = |column: usize| record.get(column).unwrap_or_default();
        let place = |problem: String| format!("line {line}: {problem}");
        let number = |text: &str| text.parse::<usize>().map_err(|_| place(format!("expected the number of a slice, found '{text}'")));
        if cell(case).is_empty() {
            return Err(place("has no case".into()).into());
        }
        lines.push(Label {
            case: cell(case).into(),
            slice: slice.map(|column| number(cell(column))).transpose()?,
            class: Some(cell(class)).filter(|text| !text.is_empty()).map(Into::into),
            patient: patient.map(cell).filter(|text| !text.is_empty()).unwrap_or(cell(case)).into(),
            part: part.map(cell).filter(|text| !text.is_empty()).map(str::parse).transpose().map_err(place)?,
        });
    }
    if lines.is_empty() { Err("holds no rows".into()) } else { Ok(lines) }
}

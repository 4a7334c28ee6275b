//! The table of stacks that the user sees, and the choice of one stack from it.

use std::fmt;

use super::geometry::{Stack, at};
use super::group::Group;
use super::traits::TRAITS;

/// The most stacks that an error message lists.
const LISTED: usize = 20;

/// A stack of CT slices in a folder, as [`super::series`] lists it. Its slices are of one series, agree in patient,
/// time and scan settings, and are positioned along one line.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Series {
    /// The number of the series, from 1, in the order of SeriesNumber and UID. The stacks of one series share it.
    pub number: usize,
    /// The number of the stack within its series, from 1, or `None` if the series has only one stack.
    pub stack: Option<usize>,
    /// SeriesInstanceUID. The end of the UID also selects the series, unless several series share it.
    pub uid: String,
    /// SeriesDescription, or empty.
    pub description: String,
    /// What distinguishes the stack from the others of its series, as in `acquisition 2, kernel B70f`. Empty if the
    /// series has only one stack.
    pub apart: String,
    /// The number of slices. Slices in the same place count once.
    pub slices: usize,
    /// Rows and columns of a slice.
    pub size: [usize; 2],
    /// Millimetres between columns, rows and slices, if the files state them.
    pub spacing: Option<[f64; 3]>,
}

impl Series {
    /// Returns the text by which [`crate::ct::Volume::open_series`] selects this stack: `2`, or `2.1` for the first of
    /// several stacks of series 2.
    pub fn choice(&self) -> String {
        self.stack.map_or_else(|| self.number.to_string(), |stack| format!("{}.{stack}", self.number))
    }
}

impl fmt::Display for Series {
    /// Writes one line, such as
    /// `2.1: Thorax 1.0 B70f, acquisition 1, 311 slices of 512 x 512, 0.70 x 0.70 x 1.00 mm, UID ...4711`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { uid, description, slices, size: [rows, columns], spacing, .. } = self;
        let description = if description.is_empty() { "no description" } else { description };
        write!(f, "{}: {description}", self.choice())?;
        if !self.apart.is_empty() {
            write!(f, ", {}", self.apart)?;
        }
        write!(f, ", {slices} slices of {rows} x {columns}")?;
        if let Some([x, y, z]) = spacing {
            write!(f, ", {x:.2} x {y:.2} x {z:.2} mm")?;
        }
        write!(f, ", UID ...{}", uid.rsplit('.').next().unwrap_or_default())
    }
}

/// Returns the table of stacks that the user sees. `groups` must be sorted by series.
pub(super) fn table(groups: &[Group]) -> Vec<Series> {
    let of_one_series = groups.chunk_by(|a, b| a.frames[0].image.series == b.frames[0].image.series);
    of_one_series.enumerate().flat_map(|(index, stacks)| rows(index + 1, stacks)).collect()
}

/// Returns the rows of the table for the stacks of one series.
fn rows(number: usize, stacks: &[Group]) -> Vec<Series> {
    let differences = Differences::of(stacks);
    let row = |(index, group): (usize, &Group)| {
        let image = &group.frames[0].image;
        let stack = Stack::of(group.clone()).ok();
        Series {
            number,
            stack: (stacks.len() > 1).then_some(index + 1),
            uid: image.series.clone(),
            description: image.description.clone(),
            apart: if stacks.len() > 1 { differences.in_words(group) } else { String::new() },
            slices: stack.as_ref().map_or(group.frames.len(), |stack| stack.frames.len()),
            size: [image.format.rows, image.format.columns].map(usize::from),
            spacing: stack.and_then(|stack| stack.affine).map(|affine| affine.spacing()),
        }
    };
    stacks.iter().enumerate().map(row).collect()
}

/// The properties in which the stacks of one series differ.
struct Differences {
    /// Indices of [`TRAITS`].
    traits: Vec<usize>,
    in_direction: bool,
}

impl Differences {
    fn of(stacks: &[Group]) -> Self {
        let differs = |index: &usize| {
            let first = stacks[0].values(*index);
            stacks.iter().any(|other| other.values(*index) != first)
        };
        let axes = |group: &Group| group.frames[0].plane.map(|plane| [plane.along_row, plane.down_column].concat());
        let first = axes(&stacks[0]);
        let is_turned = |other: &Group| match (&first, axes(other)) {
            (Some(a), Some(b)) => a.iter().zip(&b).any(|(a, b)| (a - b).abs() > 1e-3),
            (a, b) => a.is_some() != b.is_some(),
        };
        Self { traits: (0..TRAITS.len()).filter(differs).collect(), in_direction: stacks.iter().any(is_turned) }
    }

    /// Describes `group` by these differences, or else by the InstanceNumbers and position of its slices.
    fn in_words(&self, group: &Group) -> String {
        let mut words: Vec<String> = self.traits.iter().map(|&index| in_words(index, &group.values(index))).collect();
        let plane = group.frames[0].plane;
        if self.in_direction {
            let axis = |[x, y, z]: [f64; 3]| format!("{x:.2}\\{y:.2}\\{z:.2}");
            let direction = plane.map(|plane| format!("orientation {}\\{}", axis(plane.along_row), axis(plane.down_column)));
            words.push(direction.unwrap_or_else(|| "without a place".into()));
        }
        if words.is_empty() {
            let numbers = || group.frames.iter().filter_map(|frame| frame.instance);
            words.extend(numbers().min().zip(numbers().max()).map(|(first, last)| format!("instances {first} to {last}")));
            words.extend(plane.map(|plane| format!("one slice {}", at(Some(plane.position)))));
        }
        words.join(", ")
    }
}

/// Describes a trait's lowest and highest value.
fn in_words(index: usize, [first, last]: &[String; 2]) -> String {
    let (name, unit) = (TRAITS[index].name, TRAITS[index].unit);
    let short = |value: &str| match value.rsplit('.').next() {
        Some(end) if value.matches('.').count() > 2 => format!("...{end}"),
        _ => value.to_string(),
    };
    match (first.is_empty(), first == last) {
        (true, true) => format!("without {name}"),
        (false, true) => format!("{name} {}{unit}", short(first)),
        (true, false) => format!("{name} {}{unit} or none", short(last)),
        (false, false) => format!("{name} {} to {}{unit}", short(first), short(last)),
    }
}

/// Returns whether `choice` is written like a number of the table, such as `3` or `2.1`. Such a choice never counts as
/// the end of a UID: in a table of two series, `3` must not select the series whose UID happens to end in 3.
fn is_number(choice: &str) -> bool {
    let parts: Vec<&str> = choice.split('.').collect();
    parts.len() <= 2 && parts.iter().all(|part| matches!(part.len(), 1..=2) && part.bytes().all(|b| b.is_ascii_digit()))
}

/// Returns the index of the stack that `choice` names by its number in the table, by the end of its UID, or as
/// `largest`. Without a choice, returns the only stack.
///
/// # Errors
/// If no stack matches, or several do.
pub(super) fn choose(table: &[Series], choice: Option<&str>) -> Result<usize, String> {
    let all: Vec<usize> = (0..table.len()).collect();
    let lines = |rows: &[usize]| {
        let mut lines: Vec<String> = rows.iter().take(LISTED).map(|&row| table[row].to_string()).collect();
        lines.extend((rows.len() > LISTED).then(|| format!("... and {} more", rows.len() - LISTED)));
        lines.join("\n  ")
    };
    let Some(choice) = choice else {
        return match (table, table.iter().map(|row| row.number).max().unwrap_or_default()) {
            ([_], _) => Ok(0),
            (_, 1) => Err(format!(
                "{} stacks of slices are in one CT series; choose one by its number (`series` 1.1), or the one with most slices (`series` largest):\n  {}",
                table.len(),
                lines(&all)
            )),
            (_, count) => Err(format!(
                "{count} CT series are there; choose one by its number or the end of its UID (`series` {}), or the one with most slices (`series` largest):\n  {}",
                table[0].choice(),
                lines(&all)
            )),
        };
    };
    let named = |is_named: &dyn Fn(&Series) -> bool| all.iter().copied().filter(|&row| is_named(&table[row])).collect::<Vec<_>>();
    let most = table.iter().map(|row| row.slices).max();
    let ways: [&dyn Fn(&Series) -> bool; 5] = [
        &|row| row.choice() == choice,
        &|row| row.number.to_string() == choice,
        &|row| row.uid == choice,
        &|row| choice == "largest" && Some(row.slices) == most,
        &|row| !choice.is_empty() && !is_number(choice) && row.uid.ends_with(choice),
    ];
    let rows = ways.iter().map(|way| named(way)).find(|rows| !rows.is_empty()).unwrap_or_default();
    match rows[..] {
        [row] => Ok(row),
        [] => Err(format!("no series is named by '{choice}'; there are:\n  {}", lines(&all))),
        _ if choice == "largest" => Err(format!("several have most slices; choose one by its number:\n  {}", lines(&rows))),
        [first, ..] if rows.iter().all(|&row| table[row].number == table[first].number) => Err(format!(
            "'{choice}' names a series of several stacks; give one's number, as {}:\n  {}",
            table[first].choice(),
            lines(&rows)
        )),
        _ => Err(format!("'{choice}' names several series; give a number:\n  {}", lines(&rows))),
    }
}

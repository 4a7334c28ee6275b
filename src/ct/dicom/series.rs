//! CT slices that belong together, and the choice among several such series.

use std::fmt;

use super::frame::Frame;
use super::geometry::Stack;

/// A CT series of a folder, as [`super::series`] lists it: slices of one SeriesInstanceUID, orientation, size and pixel spacing.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Series {
    /// From 1, in the order of SeriesNumber and UID; what [`crate::ct::Volume::open_series`] takes.
    pub number: usize,
    /// SeriesInstanceUID; its end names the series too, unless several share it.
    pub uid: String,
    /// SeriesDescription, or nothing.
    pub description: String,
    /// How many slices it has, slices in one place counted once.
    pub slices: usize,
    /// Rows and columns of a slice.
    pub size: [usize; 2],
    /// Millimetres between columns, rows and slices, if the files say so.
    pub spacing: Option<[f64; 3]>,
}

impl Series {
    /// What [`crate::ct::Volume::open_series`] takes for it: `2`.
    pub fn choice(&self) -> String {
        self.number.to_string()
    }
}

impl fmt::Display for Series {
    /// One line: `2: Thorax 1.0 B70f, 311 slices of 512 x 512, 0.70 x 0.70 x 1.00 mm, UID ...4711`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, uid, description, slices, size: [rows, columns], spacing } = self;
        let description = if description.is_empty() { "no description" } else { description };
        write!(f, "{number}: {description}, {slices} slices of {rows} x {columns}")?;
        if let Some([x, y, z]) = spacing {
            write!(f, ", {x:.2} x {y:.2} x {z:.2} mm")?;
        }
        write!(f, ", UID ...{}", uid.rsplit('.').next().unwrap_or_default())
    }
}

/// Slices that could be one volume.
#[derive(Debug)]
pub(super) struct Group {
    pub frames: Vec<Frame>,
}

impl Group {
    fn takes(&self, frame: &Frame) -> bool {
        let of = &self.frames[0];
        let close = |a: &[f64], b: &[f64], by: f64| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= by);
        let planes = match (of.plane, frame.plane) {
            (Some(a), Some(b)) => close(&a.along_row, &b.along_row, 1e-3) && close(&a.down_column, &b.down_column, 1e-3),
            (None, None) => true,
            _ => false,
        };
        let spacings = match (of.spacing, frame.spacing) {
            (Some(a), Some(b)) => close(&a, &b, 1e-3 * a[0]),
            (None, None) => true,
            _ => false,
        };
        let size = |frame: &Frame| (frame.image.format.rows, frame.image.format.columns);
        of.image.series == frame.image.series && size(of) == size(frame) && planes && spacings
    }
}

/// `frames` sorted into groups, in the order in which they are numbered.
pub(super) fn groups(frames: Vec<Frame>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for frame in frames {
        match groups.iter_mut().find(|group| group.takes(&frame)) {
            Some(group) => group.frames.push(frame),
            None => groups.push(Group { frames: vec![frame] }),
        }
    }
    groups.sort_by(|a, b| {
        let key = |group: &Group| (group.frames[0].image.series_number.unwrap_or(i64::MAX), group.frames[0].image.series.clone());
        key(a).cmp(&key(b))
    });
    groups
}

/// The groups as the user sees them.
pub(super) fn table(groups: &[Group]) -> Vec<Series> {
    let row = |(index, group): (usize, &Group)| {
        let image = &group.frames[0].image;
        let stack = Stack::of(group.frames.clone()).ok();
        Series {
            number: index + 1,
            uid: image.series.clone(),
            description: image.description.clone(),
            slices: stack.as_ref().map_or(group.frames.len(), |stack| stack.frames.len()),
            size: [image.format.rows, image.format.columns].map(usize::from),
            spacing: stack.and_then(|stack| stack.affine).map(|affine| affine.spacing()),
        }
    };
    groups.iter().enumerate().map(row).collect()
}

/// The index of the series that `choice` names: a number of the table, or the end of a UID; without a choice, the only one.
///
/// # Errors
/// If none is named, or several are.
pub(super) fn choose(table: &[Series], choice: Option<&str>) -> Result<usize, String> {
    let rows = |rows: &[&Series]| rows.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  ");
    let all: Vec<&Series> = table.iter().collect();
    let Some(choice) = choice else {
        return match table {
            [_] => Ok(0),
            _ => Err(format!(
                "{} CT series are there; choose one by its number or the end of its UID (--series 1):\n  {}",
                table.len(),
                rows(&all)
            )),
        };
    };
    if let Some(row) = choice.parse().ok().and_then(|number: usize| table.iter().find(|row| row.number == number)) {
        return Ok(row.number - 1);
    }
    let named: Vec<&Series> = table.iter().filter(|row| !choice.is_empty() && row.uid.ends_with(choice)).collect();
    match named[..] {
        [row] => Ok(row.number - 1),
        [] => Err(format!("no series is named by '{choice}'; there are:\n  {}", rows(&all))),
        _ => Err(format!("'{choice}' names several series; give a number:\n  {}", rows(&named))),
    }
}

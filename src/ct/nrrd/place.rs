//! Determines the position of a NRRD file's voxels. Files without some of the fields are read as SimpleITK 2.5 does,
//! with a warning.

use super::header::{Header, shortened};
use crate::ct::affine::Affine;
use crate::ct::header_lines::numbers;

/// Returns the affine in mm, usable or not, or `None` if the header gives no distances in space. Warns of what was
/// assumed.
///
/// # Errors
/// If a field cannot be understood, or an axis does not lie in space.
pub(super) fn affine(header: &Header, warnings: &mut Vec<String>) -> Result<Option<Affine>, String> {
    warn_of_units(header, warnings);
    let Some(signs) = signs(header, warnings)? else { return Ok(None) };
    let steps = match (header.axes()?, header.field("space directions")) {
        (3, Some(text)) => directions(text)?,
        (3, None) => {
            let Some(steps) = spacings(header)? else { return Ok(None) };
            warnings.push(
                "its header does not state its orientation (no space directions): columns are taken to run to the left, rows to posterior, slices to \
                 superior, as SimpleITK does; look at a slice, and read it with `orient` stored if that is wrong"
                    .into(),
            );
            steps
        }
        _ => {
            warnings.push("a single slice of two axes: its position in the patient is not read".into());
            return Ok(None);
        }
    };
    let origin = if let Some(text) = header.field("space origin") {
        vector(text).ok_or_else(|| format!("broken header: space origin is {:?}, expected (x,y,z)", shortened(text)))?
    } else {
        warnings.push("its header gives no position (no space origin); 0 was taken".into());
        [0.0; 3]
    };
    let ras = |v: [f64; 3]| [0, 1, 2].map(|i| if signs[i] { 0.0 - v[i] } else { v[i] });
    let [column, row, slice] = steps.map(ras);
    Ok(Some(Affine::from_columns(column, row, slice, ras(origin))))
}

/// Returns which of x, y and z must change their sign to be RAS+, or `None` if the file's space is not that of a
/// patient.
fn signs(header: &Header, warnings: &mut Vec<String>) -> Result<Option<[bool; 3]>, String> {
    const LPS: [bool; 3] = [true, true, false];
    let Some(name) = header.field("space") else {
        if header.field("space directions").is_some() {
            warnings.push(
                "its header does not say which way the patient lies (no space): LPS was taken, as SimpleITK does; in RAS it would be turned by half: add \
                 the field space"
                    .into(),
            );
        }
        return Ok(Some(LPS));
    };
    match name.to_lowercase().as_str() {
        "left-posterior-superior" | "lps" => Ok(Some(LPS)),
        "right-anterior-superior" | "ras" => Ok(Some([false; 3])),
        "left-anterior-superior" | "las" => Ok(Some([true, false, false])),
        "scanner-xyz" | "3d-right-handed" | "3d-left-handed" => {
            warnings.push(format!(
                "its space, {name}, does not say which way the patient lies: LPS was taken, as SimpleITK does; in RAS it would be turned by half: \
                 correct the field space"
            ));
            Ok(Some(LPS))
        }
        _ => Err(format!(
            "its space is {:?}; expected left-posterior-superior (LPS), right-anterior-superior (RAS) or left-anterior-superior (LAS)",
            shortened(name)
        )),
    }
}

/// Warns of a unit that is not the millimetre.
fn warn_of_units(header: &Header, warnings: &mut Vec<String>) {
    let Some(text) = header.field("space units") else { return };
    let units = text.split_whitespace().map(|unit| unit.trim_matches('"'));
    if let Some(unit) = units.into_iter().find(|unit| !["mm", "millimeter", "millimeters", "millimetre", "millimetres", ""].contains(unit))
    {
        warnings.push(format!(
            "its header gives distances in {:?}; they were taken as millimetres, as SimpleITK does: correct space units, or the distances",
            shortened(unit)
        ));
    }
}

/// Returns the steps in mm along the three axes.
fn directions(text: &str) -> Result<[[f64; 3]; 3], String> {
    let broken = || format!("broken header: space directions are {:?}, expected (x,y,z) (x,y,z) (x,y,z)", shortened(text));
    let mut steps = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        if rest.starts_with("none") {
            return Err(
                "has an axis that is none of space (space directions none); expected columns, rows and slices: split it first".into()
            );
        }
        let (step, after) = rest.split_once(')').ok_or_else(broken)?;
        steps.push(vector(&format!("{step})")).ok_or_else(broken)?);
        rest = after.trim_start();
    }
    steps.try_into().map_err(|_| broken())
}

/// Returns the numbers of `(x,y,z)`.
fn vector(text: &str) -> Option<[f64; 3]> {
    numbers(text.trim().strip_prefix('(')?.strip_suffix(')')?, ',')
}

/// Returns the steps along x, y and z from the distances in `spacings`, if there are any.
fn spacings(header: &Header) -> Result<Option<[[f64; 3]; 3]>, String> {
    let Some(text) = header.field("spacings") else { return Ok(None) };
    let [x, y, z] = numbers(text, ' ')
        .filter(|sizes: &[f64; 3]| sizes.iter().all(|size| size.is_finite() && *size > 0.0))
        .ok_or_else(|| format!("broken header: spacings are {:?}, expected three distances above 0", shortened(text)))?;
    Ok(Some([[x, 0.0, 0.0], [0.0, y, 0.0], [0.0, 0.0, z]]))
}

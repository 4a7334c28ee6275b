//! Slices in space: their order along the normal, the affine of the stack, and what is wrong with it.

use std::cmp::Ordering;

use super::frame::{Frame, Plane, dot};
use crate::ct::affine::Affine;

/// Slices closer than this, in mm, are in one place.
const SAME_PLACE: f64 = 0.01;
/// How far a distance between slices may be off the usual one.
const UNEVEN: f64 = 0.01;
/// The shear, in degrees, from which slices count as tilted.
const TILT: f64 = 0.1;
/// How many places a warning names.
const NAMED: usize = 4;

/// Slices in order, from the first along the normal of their plane.
#[derive(Debug)]
pub(super) struct Stack {
    pub frames: Vec<Frame>,
    pub affine: Option<Affine>,
    pub warnings: Vec<String>,
}

impl Stack {
    /// Sorts `frames`, which are of one orientation, size and pixel spacing, by position along their normal.
    ///
    /// # Errors
    /// If several slices do not say where they lie.
    pub fn of(mut frames: Vec<Frame>) -> Result<Self, String> {
        let Some(first) = frames.first().and_then(|frame| frame.plane) else {
            if frames.len() > 1 {
                return Err(format!(
                    "its {} slices have no ImagePositionPatient or no ImageOrientationPatient: their order is unknown; give a single file",
                    frames.len()
                ));
            }
            let warnings = vec!["it does not say how it lies in the patient: taken to lie as DICOM shows axial slices".into()];
            return Ok(Self { frames, affine: None, warnings });
        };
        let normal = cross(first.along_row, first.down_column);
        let depth = |frame: &Frame| frame.plane.map_or(0.0, |plane| dot(plane.position, normal));
        frames.sort_by(|a, b| {
            let tie = || (a.order, &a.image.uid, a.index, &a.image.path).cmp(&(b.order, &b.image.uid, b.index, &b.image.path));
            depth(a).partial_cmp(&depth(b)).unwrap_or(Ordering::Equal).then_with(tie)
        });
        let mut warnings = Vec::new();
        let frames = without_duplicates(frames, depth, &mut warnings);
        let planes: Vec<Plane> = frames.iter().filter_map(|frame| frame.plane).collect();
        uneven(&planes, normal, &mut warnings);
        tilted(&planes, normal, &mut warnings);
        let affine = affine(&frames, &planes, normal, &mut warnings)?;
        Ok(Self { frames, affine, warnings })
    }
}

/// One slice in each place: the first by acquisition, then instance number, then UID.
fn without_duplicates(frames: Vec<Frame>, depth: impl Fn(&Frame) -> f64, warnings: &mut Vec<String>) -> Vec<Frame> {
    let before = frames.len();
    let (mut kept, mut dropped): (Vec<Frame>, Vec<Frame>) = (Vec::new(), Vec::new());
    let mut place: Vec<Frame> = Vec::new();
    let settle = |place: &mut Vec<Frame>, kept: &mut Vec<Frame>, dropped: &mut Vec<Frame>| {
        place.sort_by(|a, b| (a.order, &a.image.uid, a.index).cmp(&(b.order, &b.image.uid, b.index)));
        let mut slices = place.drain(..);
        kept.extend(slices.next());
        dropped.extend(slices);
    };
    for frame in frames {
        if place.first().is_some_and(|first| (depth(&frame) - depth(first)).abs() > SAME_PLACE) {
            settle(&mut place, &mut kept, &mut dropped);
        }
        place.push(frame);
    }
    settle(&mut place, &mut kept, &mut dropped);
    if let Some(first) = dropped.first() {
        warnings.push(format!(
            "{} of {before} slices lie where another one lies (the first {}, {}) and are left out; the first by acquisition and instance number is kept",
            dropped.len(),
            at(first.plane.map(|plane| plane.position)),
            first.image.name(),
        ));
    }
    kept
}

/// Warns of distances between neighbours that are not the usual one.
fn uneven(planes: &[Plane], normal: [f64; 3], warnings: &mut Vec<String>) {
    let depths: Vec<f64> = planes.iter().map(|plane| dot(plane.position, normal)).collect();
    let gaps: Vec<f64> = depths.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let mut sorted = gaps.clone();
    sorted.sort_by(f64::total_cmp);
    // The lower of two middle ones: between three slices of which one is missing next to them, the smaller gap is the true one.
    let Some(&usual) = sorted.get(sorted.len().saturating_sub(1) / 2) else { return };
    let odd: Vec<usize> = (0..gaps.len()).filter(|&i| (gaps[i] - usual).abs() > (UNEVEN * usual).max(SAME_PLACE)).collect();
    if odd.is_empty() {
        return;
    }
    let place = |&i: &usize| {
        let missing = (gaps[i] / usual).round() - 1.0;
        let is_missing = missing >= 1.0 && (gaps[i] / usual - missing - 1.0).abs() < 0.05;
        let missing = if is_missing { format!(", {missing} missing") } else { String::new() };
        format!("{:.2} mm between slices {i} and {} ({}{missing})", gaps[i], i + 1, at(Some(planes[i].position)))
    };
    let places: Vec<String> = odd.iter().take(NAMED).map(place).collect();
    let more = if odd.len() > NAMED { format!(" and {} more", odd.len() - NAMED) } else { String::new() };
    warnings.push(format!("slices are {usual:.2} mm apart, but {}{more}; the affine has their mean", places.join("; ")));
}

/// Warns of slices that are not stacked along their normal.
fn tilted(planes: &[Plane], normal: [f64; 3], warnings: &mut Vec<String>) {
    let [first, .., last] = planes else { return };
    let span: [f64; 3] = std::array::from_fn(|i| last.position[i] - first.position[i]);
    let depth = dot(span, normal);
    let shift = (dot(span, span) - depth * depth).max(0.0).sqrt();
    let degrees = shift.atan2(depth).to_degrees();
    if degrees > TILT {
        warnings.push(format!(
            "gantry tilt: slices are sheared by {degrees:.1} degrees against their normal; the affine holds the shear, and pixels stay as they are"
        ));
    }
    let off = |plane: &Plane| {
        let way = dot(plane.position, normal) - dot(first.position, normal);
        let side: [f64; 3] = std::array::from_fn(|i| plane.position[i] - first.position[i] - span[i] * way / depth);
        dot(side, side).sqrt()
    };
    let worst = planes.iter().map(off).enumerate().max_by(|a, b| a.1.total_cmp(&b.1));
    if let Some((index, off)) = worst.filter(|&(_, off)| off > 0.1) {
        warnings.push(format!(
            "slices are not on one line: slice {index} ({}) is {off:.2} mm beside it; the affine does not hold there",
            at(Some(planes[index].position))
        ));
    }
}

/// From indices to millimetres in RAS+; DICOM's x and y are turned.
fn affine(frames: &[Frame], planes: &[Plane], normal: [f64; 3], warnings: &mut Vec<String>) -> Result<Option<Affine>, String> {
    let ([first, ..], [frame, ..]) = (planes, frames) else { return Ok(None) };
    let Some([between_rows, between_columns]) = frame.spacing else {
        warnings.push("PixelSpacing is missing: where its pixels lie in the patient is unknown".into());
        return Ok(None);
    };
    let step: [f64; 3] = match planes {
        [.., last] if planes.len() > 1 => std::array::from_fn(|i| (last.position[i] - first.position[i]) / (planes.len() - 1) as f64),
        _ => normal.map(|v| v * frame.image.thickness.unwrap_or(1.0)),
    };
    let ras = |v: [f64; 3], mm: f64| [-v[0] * mm, -v[1] * mm, v[2] * mm];
    let (column, row) = (ras(first.along_row, between_columns), ras(first.down_column, between_rows));
    let affine = Affine::from_columns(column, row, ras(step, 1.0), ras(first.position, 1.0));
    if !affine.is_usable() {
        return Err(format!("its slices are not stacked: they step by {step:?} mm, in their own plane"));
    }
    Ok(Some(affine))
}

/// A place in words.
fn at(position: Option<[f64; 3]>) -> String {
    position.map_or_else(|| "an unknown place".into(), |[x, y, z]| format!("at {x:.1}, {y:.1}, {z:.1} mm"))
}

fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

//! Sorts slices along their normal, computes the affine of the stack, and warns of irregular spacing or tilt.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::Arc;

use super::frame::{Frame, Plane, SAME_PLACE, dot};
use super::group::Group;
use crate::ct::affine::Affine;

/// How far a distance between slices may differ from the usual one, as a fraction of it.
const UNEVEN: f64 = 0.01;
/// The shear, in degrees, above which slices count as tilted.
const TILT: f64 = 0.1;
/// The most places that a warning lists.
const NAMED: usize = 4;

/// Slices in order of their position along the normal of their plane.
#[derive(Debug)]
pub(super) struct Stack {
    pub frames: Vec<Frame>,
    pub affine: Option<Affine>,
    pub warnings: Vec<String>,
    /// Whether a slice seems to be missing between two others.
    pub has_gap: bool,
}

impl Stack {
    /// Sorts the slices of `group` by position along their normal.
    ///
    /// # Errors
    /// If the order of the slices cannot be determined, or they are not stacked.
    pub fn of(group: Group) -> Result<Self, String> {
        let Group { frames, mut warnings, unclear } = group;
        if let Some(problem) = unclear {
            return Err(problem);
        }
        let mut frames = in_places_of_their_own(frames, &mut warnings)?;
        let Some(first) = frames[0].plane else {
            warnings.push("it does not state its orientation: assumed to be stored as DICOM shows axial slices".into());
            return Ok(Self { frames, affine: None, warnings, has_gap: false });
        };
        let normal = first.normal();
        let depth = |frame: &Frame| frame.plane.map_or(0.0, |plane| dot(plane.position, normal));
        frames.sort_by(|a, b| {
            let tie = || (a.order, &a.image.uid, a.index, &a.image.path).cmp(&(b.order, &b.image.uid, b.index, &b.image.path));
            depth(a).partial_cmp(&depth(b)).unwrap_or(Ordering::Equal).then_with(tie)
        });
        let frames = without_duplicates(frames, depth, &mut warnings);
        let planes: Vec<Plane> = frames.iter().filter_map(|frame| frame.plane).collect();
        let has_gap = uneven(&planes, normal, &mut warnings);
        tilted(&planes, normal, &mut warnings);
        let affine = affine(&frames, &planes, normal, &mut warnings)?;
        Ok(Self { frames, affine, warnings, has_gap })
    }
}

/// Orders slices that all have the same position, or none, by their frame numbers or InstanceNumbers. Spaces them by
/// the distance that the files state.
fn in_places_of_their_own(mut frames: Vec<Frame>, warnings: &mut Vec<String>) -> Result<Vec<Frame>, String> {
    let first = frames[0].plane;
    let is_same = |frame: &Frame| match (first, frame.plane) {
        (Some(a), Some(b)) => a.position.iter().zip(b.position).all(|(a, b)| (a - b).abs() <= SAME_PLACE),
        (a, b) => a.is_none() && b.is_none(),
    };
    if frames.len() == 1 || !frames.iter().all(is_same) {
        return Ok(frames);
    }
    let is_one_file = frames.iter().all(|frame| Arc::ptr_eq(&frame.image, &frames[0].image));
    if is_one_file && first.is_none() {
        frames.sort_by_key(|frame| frame.index);
        return Ok(frames);
    }
    let numbers: HashSet<Option<i64>> = frames.iter().map(|frame| frame.instance).collect();
    let is_alike = |frame: &Frame| frame.traits == frames[0].traits;
    if first.is_some() && numbers.len() == 1 && !numbers.contains(&None) && frames.iter().all(is_alike) {
        // One slice, written several times.
        return Ok(frames);
    }
    let count = frames.len();
    let are_frames = frames.iter().any(|frame| frame.image.frames > 1);
    let problem = match first {
        None if are_frames => format!("its {count} frames do not state their positions"),
        None => format!("its {count} slices have no ImagePositionPatient or no ImageOrientationPatient"),
        Some(plane) => format!("its {count} slices all have one ImagePositionPatient ({})", at(Some(plane.position))),
    };
    let why = match frames[0].image.distance {
        _ if is_one_file => "they differ in what is said of each",
        _ if are_frames => "they are of several files",
        _ if numbers.len() < count || numbers.contains(&None) => "their InstanceNumbers do not tell either",
        None => "how far apart they are is not said (SpacingBetweenSlices)",
        Some(mm) if frames.iter().any(|frame| frame.image.distance != Some(mm)) => "they differ in SpacingBetweenSlices",
        Some(mm) => {
            frames.sort_by_key(|frame| frame.instance);
            for (index, frame) in frames.iter_mut().enumerate() {
                frame.plane = frame.plane.map(|plane| plane.moved(mm * index as f64));
            }
            warnings.push(format!(
                "{problem}: they are assumed to be {mm} mm apart (SpacingBetweenSlices), in the order of InstanceNumber, which may be upside down"
            ));
            return Ok(frames);
        }
    };
    Err(format!("{problem}: their order is unknown, as {why}; give a single file"))
}

/// Keeps one slice in each place: the first by acquisition number, then instance number, then UID.
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
            "{} of {before} slices have the position of another one (the first {}, {}) and are left out; nothing tells which is right, and the first by instance number, then by UID, is kept",
            dropped.len(),
            at(first.plane.map(|plane| plane.position)),
            first.image.name(),
        ));
    }
    kept
}

/// Warns of distances between neighbours that differ from the usual one. Returns whether a slice seems to be missing.
fn uneven(planes: &[Plane], normal: [f64; 3], warnings: &mut Vec<String>) -> bool {
    let depths: Vec<f64> = planes.iter().map(|plane| dot(plane.position, normal)).collect();
    let gaps: Vec<f64> = depths.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let mut sorted = gaps.clone();
    sorted.sort_by(f64::total_cmp);
    // The median, or the lower of two middle values. If one slice is missing among three that are left, the stack has
    // two different gaps, and the smaller gap is the true distance.
    let Some(&usual) = sorted.get(sorted.len().saturating_sub(1) / 2) else { return false };
    let odd: Vec<usize> = (0..gaps.len()).filter(|&i| (gaps[i] - usual).abs() > (UNEVEN * usual).max(SAME_PLACE)).collect();
    if odd.is_empty() {
        return false;
    }
    let missing = |i: usize| {
        let missing = (gaps[i] / usual).round() - 1.0;
        Some(missing).filter(|missing| *missing >= 1.0 && (gaps[i] / usual - missing - 1.0).abs() < 0.05)
    };
    let place = |&i: &usize| {
        let missing = if let Some(missing) = missing(i) { format!(", {missing} missing") } else { String::new() };
        format!("{:.2} mm between slices {i} and {} ({}{missing})", gaps[i], i + 1, at(Some(planes[i].position)))
    };
    let places: Vec<String> = odd.iter().take(NAMED).map(place).collect();
    let more = if odd.len() > NAMED { format!(" and {} more", odd.len() - NAMED) } else { String::new() };
    warnings.push(format!("slices are {usual:.2} mm apart, but {}{more}; the affine has their mean", places.join("; ")));
    odd.iter().any(|&i| missing(i).is_some())
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

/// Returns the affine from indices to millimetres in RAS+, whose x and y axes are opposite to DICOM's.
fn affine(frames: &[Frame], planes: &[Plane], normal: [f64; 3], warnings: &mut Vec<String>) -> Result<Option<Affine>, String> {
    let ([first, ..], [frame, ..]) = (planes, frames) else { return Ok(None) };
    let Some([between_rows, between_columns]) = frame.spacing else {
        warnings.push("PixelSpacing is missing: the position of its pixels in the patient is unknown".into());
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

/// Describes a position in words.
pub(super) fn at(position: Option<[f64; 3]>) -> String {
    position.map_or_else(|| "an unknown place".into(), |[x, y, z]| format!("at {x:.1}, {y:.1}, {z:.1} mm"))
}

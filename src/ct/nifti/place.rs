//! Determines the position of a NIfTI file's voxels. The sform takes precedence over the qform, as in nibabel.
//!
//! A header gives the distance between voxels twice: as `pixdim`, which the qform uses, and as the length of the
//! sform's columns. It also gives the position twice. If two values disagree, a warning names both. The behaviour of
//! other readers was tested with nibabel 5.4 and SimpleITK 2.5.

use super::fields::{Fields, SCANNER};
use super::header::Header;
use super::qform;
use crate::ct::affine::Affine;

/// The relative difference above which two distances disagree.
const SPACING: f64 = 1e-3;
/// The difference in a component above which two directions disagree. A half turn as a quaternion in f32 is off by
/// 7e-4.
const DIRECTION: f64 = 2e-3;
/// The difference above which two origins disagree, as a fraction of the smallest distance between voxels.
const ORIGIN: f64 = 1e-2;

/// Returns the header's affine in mm, usable or not, and the name of the fields that it comes from. Warns of what was
/// assumed.
///
/// Removes an invalid sform from the header if there is a qform to replace it.
pub(super) fn affine(header: &mut Header, warnings: &mut Vec<String>) -> (Affine, &'static str) {
    let (shape, raw) = (header.shape, &mut header.raw);
    let sform = (raw.sform_code != 0).then(|| sform(raw)).filter(|sform| sform.is_usable() || raw.qform_code == 0);
    if sform.is_none() && raw.sform_code != 0 {
        leave_out_sform(raw, warnings);
    }
    warn_of_sizes(raw, sform.is_some(), warnings);
    let (affine, name) = if let Some(sform) = sform {
        compare(raw, &sform, warnings);
        (sform, "sform")
    } else if raw.qform_code != 0 {
        qform::warn(raw, warnings);
        (qform::affine(raw, voxel_size(raw)), "qform")
    } else {
        warnings.push(
            "its header does not state its orientation (sform_code and qform_code are 0): columns are taken to run to the left, rows to anterior, \
             slices to superior, as nibabel does; look at a slice, and read it with `orient` stored if that is wrong"
                .into(),
        );
        (base(raw, shape), "assumption")
    };
    if let Some((name, _)) = unit(raw) {
        warnings.push(format!("its header gives distances in {name}; they were converted to millimetres"));
    }
    (in_mm(affine, raw), name)
}

/// Returns the distance between columns, rows and slices in mm as nnU-Net's readers take it: from `pixdim`, whatever
/// the sform says. An axis without a size in `pixdim` has the length of its column in `affine`, which is in mm.
pub(in crate::ct) fn spacing(raw: &Fields, affine: &Affine) -> [f64; 3] {
    let (lengths, factor) = (affine.spacing(), unit(raw).map_or(1.0, |(_, factor)| factor));
    [0, 1, 2].map(|axis| pixdim(raw, axis).map_or(lengths[axis], |size| size * factor))
}

/// Refuses a header without an sform whose `pixdim` gives an axis no size, because the result of resampling would be
/// wrong.
pub(in crate::ct) fn check_sizes(raw: &Fields) -> Result<(), String> {
    let sizes = [1, 2, 3].map(|i| raw.pixdim[i] as f32);
    if raw.sform_code != 0 || sizes.iter().all(|size| *size != 0.0 && size.is_finite()) {
        return Ok(());
    }
    Err(format!("its header gives voxels of {sizes:?} mm (pixdim): what they are resampled to would be wrong; correct its header"))
}

fn sform(raw: &Fields) -> Affine {
    Affine { rows: raw.srow }
}

/// Warns that the sform is invalid and removes it, so that nothing made from this header contains it.
fn leave_out_sform(raw: &mut Fields, warnings: &mut Vec<String>) {
    let form = sform(raw);
    warnings
        .push(format!("its sform makes no sense: {form}, expected finite numbers and three independent directions; its qform was taken"));
    raw.sform_code = 0;
    raw.srow = [[0.0; 4]; 3];
}

/// Warns where the header contradicts the `sform` that is taken from it.
fn compare(raw: &Fields, sform: &Affine, warnings: &mut Vec<String>) {
    if !sform.is_usable() {
        return;
    }
    let lengths = sform.spacing();
    let sizes = [0, 1, 2].map(|axis| pixdim(raw, axis).unwrap_or(lengths[axis]));
    if (0..axes(raw)).any(|axis| disagree(sizes[axis], lengths[axis])) {
        let shown = |sizes: [f64; 3]| sizes.map(|size| (size as f32).to_string()).join(" x ");
        warnings.push(format!(
            "its header gives two sizes of voxels (columns, rows, slices): {} by pixdim, {} by its sform; positions are the sform's, and volumes those of \
             pixdim: correct the one that is wrong",
            shown(sizes),
            shown(lengths)
        ));
    }
    let qform = qform::affine(raw, voxel_size(raw));
    if raw.qform_code == 0 || !qform.is_usable() || agree(sform, &qform) {
        return;
    }
    let takers = if raw.sform_code == SCANNER && !sform.is_sheared() {
        "as nibabel and SimpleITK do"
    } else {
        "as nibabel does, where SimpleITK takes the qform"
    };
    warnings.push(format!(
        "its sform and its qform give it two positions: {sform} and {qform}; the sform was taken, {takers}: correct the one that is wrong"
    ));
}

/// Returns whether two distances disagree.
pub(in crate::ct) fn disagree(a: f64, b: f64) -> bool {
    (a / b - 1.0).abs() > SPACING
}

/// Returns whether two affines have the same directions and origin. Ignores the sform's shear, because a qform cannot
/// hold shear, and ignores distances.
fn agree(sform: &Affine, qform: &Affine) -> bool {
    let (s, q) = (sform.rotation(), qform.rotation());
    let turned = (0..9).any(|n| (s[n / 3][n % 3] - q[n / 3][n % 3]).abs() > DIRECTION);
    let near = ORIGIN * qform.spacing().into_iter().fold(f64::INFINITY, f64::min);
    !turned && (0..3).all(|i| (sform.rows[i][3] - qform.rows[i][3]).abs() <= near)
}

/// Returns nibabel's affine for a header that has none: x runs to the left, and the origin is the middle of the volume.
fn base(raw: &Fields, [slices, height, width]: [usize; 3]) -> Affine {
    let [x, y, z] = voxel_size(raw);
    let middle = [width, height, slices].map(|n| (n - 1) as f64 / 2.0);
    let origin = [x * middle[0], -y * middle[1], -z * middle[2]];
    Affine::from_columns([-x, 0.0, 0.0], [0.0, y, 0.0], [0.0, 0.0, z], origin)
}

/// Returns the distance between voxels along i, j and k for a header without an sform. As in nibabel, a negative
/// distance loses its sign and a distance of 0 becomes 1. Neither changes the direction of an axis.
fn voxel_size(raw: &Fields) -> [f64; 3] {
    [1, 2, 3].map(|i| raw.pixdim[i]).map(|size| if size == 0.0 { 1.0 } else { size.abs() })
}

/// Returns the size of a voxel along `axis` in the header's unit, if the header gives one. A negative size loses its
/// sign.
fn pixdim(raw: &Fields, axis: usize) -> Option<f64> {
    Some(raw.pixdim[axis + 1].abs()).filter(|size| size.is_finite() && *size > 0.0)
}

/// Returns the number of axes that have distances. A single slice has no distance to a next one.
fn axes(raw: &Fields) -> usize {
    raw.dim[0].clamp(0, 3) as usize
}

/// Warns where `pixdim` is not a valid size. The value used in its place depends on whether there is an sform.
fn warn_of_sizes(raw: &Fields, has_sform: bool, warnings: &mut Vec<String>) {
    for i in 1..=axes(raw) {
        // As an f32, 0.7 is written with one digit.
        let size = raw.pixdim[i] as f32;
        if size < 0.0 && size.is_finite() {
            warnings.push(format!("its header gives voxels a size of {size} (pixdim[{i}]); {} was taken", -size));
        } else if has_sform && pixdim(raw, i - 1).is_none() {
            warnings.push(format!("its header gives voxels no size (pixdim[{i}] is {size}); its sform's was taken"));
        } else if size == 0.0 {
            warnings.push(format!("its header gives voxels no size (pixdim[{i}] is 0); 1 was taken, so distances are wrong"));
        }
    }
}

/// Returns the unit of distances in `xyzt_units` and its length in millimetres. Returns `None` for the millimetre,
/// which is also the unit if the header gives none.
fn unit(raw: &Fields) -> Option<(&'static str, f64)> {
    match raw.xyzt_units & 7 {
        1 => Some(("metres", 1000.0)),
        3 => Some(("micrometres", 0.001)),
        _ => None,
    }
}

fn in_mm(affine: Affine, raw: &Fields) -> Affine {
    unit(raw).map_or(affine, |(_, factor)| Affine { rows: affine.rows.map(|row| row.map(|v| v * factor)) })
}

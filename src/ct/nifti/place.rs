//! Where the voxels of a NIfTI-1 file lie: the header's sform before its qform, as nibabel takes them.

use nifti::NiftiHeader;

use super::header::Header;
use crate::ct::affine::Affine;

/// The affine in mm, as the header has it, usable or not, and the name of the fields it is from. Says what was assumed.
pub(super) fn affine(header: &Header, warnings: &mut Vec<String>) -> (Affine, &'static str) {
    let raw = &header.raw;
    let (affine, name) = if raw.sform_code != 0 {
        (Affine { rows: [raw.srow_x, raw.srow_y, raw.srow_z].map(|row| row.map(f64::from)) }, "sform")
    } else if raw.qform_code != 0 {
        (qform(raw, warnings), "qform")
    } else {
        warnings.push(
            "its header does not say how it lies (sform_code and qform_code are 0): columns are taken to run to the left, rows to anterior, \
             slices to superior, as nibabel does; look at a slice, and read it with --orient stored if that is wrong"
                .into(),
        );
        (base(raw, header.shape, warnings), "assumption")
    };
    (in_mm(affine, raw, warnings), name)
}

/// "Method 2" of `nifti1.h`: a quaternion, voxel sizes and an offset.
fn qform(raw: &NiftiHeader, warnings: &mut Vec<String>) -> Affine {
    let [b, c, d] = [raw.quatern_b, raw.quatern_c, raw.quatern_d].map(f64::from);
    let vector = b * b + c * c + d * d;
    // Headers hold f32: a half turn may come out a little longer than 1.
    if vector > 1.0 + 1e-3 {
        warnings
            .push(format!("its qform's quaternion is of length {:.3}, where 1 is the most: only its direction was used", vector.sqrt()));
    }
    let a = (1.0 - vector).max(0.0).sqrt();
    // Of any length, as nibabel's `quat2mat`.
    let s = 2.0 / (a * a + vector);
    let rotation = [
        [1.0 - s * (c * c + d * d), s * (b * c - a * d), s * (b * d + a * c)],
        [s * (b * c + a * d), 1.0 - s * (b * b + d * d), s * (c * d - a * b)],
        [s * (b * d - a * c), s * (c * d + a * b), 1.0 - s * (b * b + c * c)],
    ];
    let [x, y, z] = voxel_size(raw, warnings);
    // qfac: the standard's library takes whatever is not negative, 0 above all, as 1.
    let z = if raw.pixdim[0] < 0.0 { -z } else { z };
    let column = |axis: usize, size: f64| rotation.map(|row| row[axis] * size);
    let origin = [raw.quatern_x, raw.quatern_y, raw.quatern_z].map(f64::from);
    Affine::from_columns(column(0, x), column(1, y), column(2, z), origin)
}

/// nibabel's affine for a header without any: x runs to the left, and the middle of the volume is the origin.
fn base(raw: &NiftiHeader, [slices, height, width]: [usize; 3], warnings: &mut Vec<String>) -> Affine {
    let [x, y, z] = voxel_size(raw, warnings);
    let middle = [width, height, slices].map(|n| (n - 1) as f64 / 2.0);
    let origin = [x * middle[0], -y * middle[1], -z * middle[2]];
    Affine::from_columns([-x, 0.0, 0.0], [0.0, y, 0.0], [0.0, 0.0, z], origin)
}

/// The distance between voxels along i, j and k. A negative one has lost its sign and one of 0 is taken as 1, as nibabel does: neither
/// changes which way an axis runs.
fn voxel_size(raw: &NiftiHeader, warnings: &mut Vec<String>) -> [f64; 3] {
    // A slice has no distance to the next one.
    let axes = usize::from(raw.dim[0]).min(3);
    [1, 2, 3].map(|i| {
        let size = f64::from(raw.pixdim[i]);
        if size < 0.0 {
            warnings.push(format!("its header gives voxels a size of {size} (pixdim[{i}]); {} was taken", -size));
        } else if size == 0.0 && i <= axes {
            warnings.push(format!("its header gives voxels no size (pixdim[{i}] is 0); 1 was taken, so distances are wrong"));
        }
        if size == 0.0 { 1.0 } else { size.abs() }
    })
}

/// `xyzt_units`: millimetres, unless the header says otherwise.
fn in_mm(affine: Affine, raw: &NiftiHeader, warnings: &mut Vec<String>) -> Affine {
    let (name, factor) = match raw.xyzt_units & 7 {
        1 => ("metres", 1000.0),
        3 => ("micrometres", 0.001),
        _ => return affine,
    };
    warnings.push(format!("its header gives distances in {name}; they were converted to millimetres"));
    Affine { rows: affine.rows.map(|row| row.map(|v| v * factor)) }
}

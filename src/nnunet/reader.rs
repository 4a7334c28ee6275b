//! `image_reader_writer` in the plans: the orientation and the spacing in which nnU-Net's readers give a scan.

use crate::ct::{Geometry, Turn};

/// A reader of nnU-Net.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// `SimpleITKIO`: the scan as it is stored.
    SimpleItk,
    /// `NibabelIO`: the scan as it is stored.
    Nibabel,
    /// `SimpleITKIOWithReorient`: the scan in RAS, which is SimpleITK's `DICOMOrient`.
    SimpleItkWithReorient,
    /// `NibabelIOWithReorient`: the scan in RAS, which is nibabel's `as_reoriented(io_orientation(affine))`.
    NibabelWithReorient,
}

impl Reader {
    /// Every reader, in the order in which errors list them.
    pub(super) const ALL: [Self; 4] = [Self::SimpleItk, Self::Nibabel, Self::SimpleItkWithReorient, Self::NibabelWithReorient];

    /// Returns the name of nnU-Net's class.
    pub fn name(self) -> &'static str {
        match self {
            Self::SimpleItk => "SimpleITKIO",
            Self::Nibabel => "NibabelIO",
            Self::SimpleItkWithReorient => "SimpleITKIOWithReorient",
            Self::NibabelWithReorient => "NibabelIOWithReorient",
        }
    }

    /// Returns whether the reader turns scans to RAS.
    pub fn reorients(self) -> bool {
        matches!(self, Self::SimpleItkWithReorient | Self::NibabelWithReorient)
    }

    /// Returns the turn from a scan as it is stored to the scan as the reader gives it.
    pub fn turn(self, geometry: &Geometry) -> Turn {
        match self {
            Self::SimpleItk | Self::Nibabel => Turn::NONE,
            Self::SimpleItkWithReorient => Turn::to_ras_by_largest(&geometry.directions()),
            Self::NibabelWithReorient => Turn::to_ras(geometry.affine()),
        }
    }

    /// Returns the distance between the stored slices, rows and columns in mm, as the reader gives it.
    pub fn spacing(self, geometry: &Geometry) -> [f64; 3] {
        if self.takes_pixdim(geometry) { geometry.spacing() } else { geometry.lengths() }
    }

    /// Returns whether the reader takes the voxel sizes of a NIfTI file from `pixdim`. All do, with one exception: when
    /// nibabel turns an image, it writes a new header, whose `pixdim` are the lengths of the affine's columns.
    pub fn takes_pixdim(self, geometry: &Geometry) -> bool {
        self != Self::NibabelWithReorient || self.turn(geometry) == Turn::NONE
    }
}

//! The flags of `pca` and `similarity`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::ValueEnum;
use meddino::jobs::Slices;
use meddino::picture::Gray;
use meddino::{Error, Result};

use super::look::Look;
use super::model::Model;

/// Draw what the features tell apart: the patches' first three principal components as red, green and blue
///
/// As in MedDINOv3's own figures, the components are whitened and share one range, from the least to the greatest value
/// of all three. The largest entry of each component is made positive, so colours do not change from run to run. Prints
/// the picture's path on stdout.
#[derive(clap::Args)]
pub struct Pca {
    #[command(flatten)]
    pub subject: Subject,
    #[command(flatten)]
    pub picture: Picture,
    /// Draw the components beside the CT, over the CT, or alone (map)
    #[arg(long, default_value = "beside")]
    pub layout: Layout,
    /// Fit components and colours for each slice, or once for all chosen slices (volume)
    #[arg(long, default_value = "slice")]
    pub fit: Fit,
    /// Save the components to a file for --basis
    #[arg(long, value_name = "OUT.safetensors")]
    pub save_basis: Option<PathBuf>,
    /// Use the components and colours that --save-basis saved for another scan
    #[arg(long, value_name = "FILE", conflicts_with_all = ["fit", "save_basis"])]
    pub basis: Option<PathBuf>,
}

/// Draw what resembles a point: the cosine similarity of its patch to every other patch
///
/// The picture marks the point and has a colour bar for the cosines. Prints the picture's path on stdout.
#[derive(clap::Args)]
pub struct Similarity {
    #[command(flatten)]
    pub subject: Subject,
    /// The point, in pixels of the slice from its top left corner
    ///
    /// If several slices are drawn, SLICE names the slice of the point. Without INPUT, pixels are those of the image
    /// that the model saw.
    #[arg(long, value_name = "X,Y[,SLICE]")]
    pub point: Point,
    #[command(flatten)]
    pub picture: Picture,
    /// Draw the map over the CT, beside the CT, or alone (map)
    ///
    /// Over the CT, the CT's grays blend with the map's colours. Otherwise the colours are exactly those of the bar.
    #[arg(long, default_value = "over")]
    pub layout: Layout,
    /// The cosines at the ends of the colour bar [default: the least and the greatest in the picture]
    #[arg(long, value_name = "LO,HI", allow_hyphen_values = true)]
    pub range: Option<Limits>,
}

/// The scan or the features that a picture shows.
#[derive(clap::Args)]
pub struct Subject {
    /// The scan, as for `features`; optional with --features, but then the CT is not drawn
    #[arg(required_unless_present = "features")]
    pub input: Option<PathBuf>,
    /// Use the patch tokens in this .safetensors file of `meddino features` instead of computing them
    #[arg(long, value_name = "FILE", conflicts_with_all = ["checkpoint", "backend", "device", "rope", "precision", "tier", "size", "window", "orient"])]
    pub features: Option<PathBuf>,
    #[command(flatten)]
    pub model: Model,
    #[command(flatten)]
    pub look: Look,
}

/// The output file of a picture, its slices and how the CT is drawn.
#[derive(clap::Args)]
pub struct Picture {
    /// File for the picture [default: NAME.pca.png or NAME.similarity.png in the current folder]
    ///
    /// Several slices make one sheet. If the name contains {}, each slice gets its own picture, and {} becomes the
    /// slice's number.
    #[arg(short, long, value_name = "OUT.png")]
    pub output: Option<PathBuf>,
    /// Replace any existing output
    ///
    /// Without this flag, meddino replaces a file only if meddino wrote the file from the same input and nobody has
    /// changed the file since. Inputs are never replaced.
    #[arg(long)]
    pub overwrite: bool,
    /// Which slices: all, A:B or A:B:STEP, or a list [default: the middle slice]
    ///
    /// B is excluded. Negative numbers count from the end.
    #[arg(long, visible_alias = "slice", value_name = "SLICES", allow_hyphen_values = true)]
    pub slices: Option<Slices>,
    /// Interpolate between patches instead of drawing each patch as a block of one colour
    #[arg(long)]
    pub smooth: bool,
    /// Gray window of the CT in HU: the level of middle gray, and the width from black to white
    #[arg(long, value_name = "LEVEL,WIDTH", default_value = "40,400", allow_hyphen_values = true)]
    pub gray: Gray,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum Layout {
    Beside,
    Over,
    Map,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum Fit {
    Slice,
    Volume,
}

/// A pixel of a slice, and the slice if the user names it.
#[derive(Clone, Copy)]
pub struct Point {
    pub x: usize,
    pub y: usize,
    pub slice: Option<usize>,
}

impl FromStr for Point {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let numbers: Option<Vec<usize>> = text.split(',').map(|number| number.trim().parse().ok()).collect();
        match numbers.as_deref() {
            Some(&[x, y]) => Ok(Self { x, y, slice: None }),
            Some(&[x, y, slice]) => Ok(Self { x, y, slice: Some(slice) }),
            _ => Err(Error::option("point", format!("'{text}' is not X,Y or X,Y,SLICE in whole pixels from 0"))),
        }
    }
}

/// The two ends of a colour scale.
#[derive(Clone, Copy)]
pub struct Limits(pub f32, pub f32);

impl FromStr for Limits {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = |s: &str| s.trim().parse::<f32>().ok().filter(|v| v.is_finite());
        match text.split_once(',').and_then(|(lo, hi)| Some((number(lo)?, number(hi)?))) {
            Some((lo, hi)) if lo < hi => Ok(Self(lo, hi)),
            _ => Err(Error::option("range", format!("'{text}' is not LO,HI with LO below HI"))),
        }
    }
}

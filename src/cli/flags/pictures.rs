//! The flags of `pca` and `similarity`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::ValueEnum;
use meddino::jobs::Slices;
use meddino::picture::Gray;
use meddino::{Error, Result};

use super::look::Look;
use super::model::Model;

/// Show what the features tell apart: the patches' first three principal components as red, green and blue
///
/// As the authors of MedDINOv3 do: the components are whitened, and one least and greatest value is taken over all three together. The entry of
/// greatest magnitude of each component is positive, so that colours do not change from run to run. The picture's path is printed on stdout.
#[derive(clap::Args)]
pub struct Pca {
    #[command(flatten)]
    pub subject: Subject,
    #[command(flatten)]
    pub picture: Picture,
    /// The CT beside the components, the components over it, or the components alone
    #[arg(long, default_value = "beside")]
    pub layout: Layout,
    /// What shares components and colours: every slice has its own, or all chosen slices have the same
    #[arg(long, default_value = "slice")]
    pub fit: Fit,
    /// Write the components to a file, for --basis
    #[arg(long, value_name = "OUT.safetensors")]
    pub save_basis: Option<PathBuf>,
    /// Use the components and colours of another scan, as --save-basis wrote them
    #[arg(long, value_name = "FILE", conflicts_with_all = ["fit", "save_basis"])]
    pub basis: Option<PathBuf>,
}

/// Show what is like a point: the cosine similarity of its patch to every other
///
/// The point is marked, and a bar says which colour stands for which cosine. The picture's path is printed on stdout.
#[derive(clap::Args)]
pub struct Similarity {
    #[command(flatten)]
    pub subject: Subject,
    /// The point, in pixels of the slice from its top left corner; with the slice that it is on if several are shown. Without INPUT, in pixels
    /// of the image that the model saw
    #[arg(long, value_name = "X,Y[,SLICE]")]
    pub point: Point,
    #[command(flatten)]
    pub picture: Picture,
    /// The map over the CT, whose grays mix with its colours; the CT beside the map, whose colours are exactly the bar's; or the map alone
    #[arg(long, default_value = "over")]
    pub layout: Layout,
    /// The cosines at the ends of the colour bar [default: the least and the greatest that are shown]
    #[arg(long, value_name = "LO,HI", allow_hyphen_values = true)]
    pub range: Option<Limits>,
}

/// What pictures are made of.
#[derive(clap::Args)]
pub struct Subject {
    /// What to look at, as for `features`; with --features it may be left out, and the CT is not drawn then
    #[arg(required_unless_present = "features")]
    pub input: Option<PathBuf>,
    /// Take the patch tokens from this .safetensors, which `meddino features` wrote, in place of computing them
    #[arg(long, value_name = "FILE", conflicts_with_all = ["checkpoint", "backend", "device", "rope", "precision", "tier", "size", "window", "orient"])]
    pub features: Option<PathBuf>,
    #[command(flatten)]
    pub model: Model,
    #[command(flatten)]
    pub look: Look,
}

/// What is on a picture, and where it goes.
#[derive(clap::Args)]
pub struct Picture {
    /// Where the picture goes. Several slices make one sheet, or with {} in the name a picture each: {} becomes the slice's number
    /// [default: the input's name with .pca.png or .similarity.png, in the current folder]
    #[arg(short, long, value_name = "OUT.png")]
    pub output: Option<PathBuf>,
    /// Also replace files that meddino did not write, that were changed since, or that it made of another scan.
    /// Inputs are never replaced
    #[arg(long)]
    pub overwrite: bool,
    /// Which slices: all, A:B or A:B:STEP (B is not among them), or a list; negative numbers count from the end [default: the middle one]
    #[arg(long, visible_alias = "slice", value_name = "SLICES", allow_hyphen_values = true)]
    pub slices: Option<Slices>,
    /// Interpolate between patches; else each is a block of its own colour
    #[arg(long)]
    pub smooth: bool,
    /// How the CT is shown, in HU: the middle gray, and how far it is from black to white
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

/// A place on a slice, and which slice if that is said.
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

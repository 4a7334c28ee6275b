//! How the maps of slices are laid out, and which files they become.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use meddino::archive::NewFile;
use meddino::jobs::Scene;
use meddino::maps::Mesh;
use meddino::output::Targets;
use meddino::picture::{Canvas, Gray, Panel, bar, beside, captioned, sheet, write_png};
use meddino::{Error, Result, Tensor};

use super::subject::default_output;
use crate::cli::flags::{Layout, Picture};
use crate::cli::terminal::interrupt;

/// How much of a map covers the CT that it lies over.
const ALPHA: f32 = 0.6;

/// The longer side of a slice, in pixels: at least and at most for a picture of its own.
const SIDES: (usize, usize) = (448, 1024);

/// About what the width and height of a sheet of many slices keep to, in pixels; gaps and captions come on top.
const SHEET: usize = 4096;

/// The smallest a slice gets on a sheet.
const THUMBNAIL: usize = 64;

/// One slice's map: paints itself over a canvas, with an alpha.
pub type Paint<'a> = dyn Fn(&Panel, &mut Canvas, f32) + 'a;

/// A slice's shades [H, W], if it has any, its map, and the pixel to mark.
pub type Drawn<'a> = (Option<Tensor>, Box<Paint<'a>>, Option<(usize, usize)>);

/// How pictures of an input's slices are drawn.
#[derive(Clone, Copy)]
pub struct Drawing {
    pub mesh: Mesh,
    /// Height and width of a pixel of the slice, in any unit.
    pub pixel: (f64, f64),
    pub layout: Layout,
    pub smooth: bool,
    pub gray: Gray,
    /// What the colours stand for, if a bar says it.
    pub bar: Option<(f32, f32)>,
}

/// Where pictures go, and what they say of themselves.
pub struct Target<'a> {
    pub output: &'a Path,
    pub title: String,
    pub provenance: &'a BTreeMap<String, String>,
}

impl Drawing {
    /// One slice at `side` pixels: its CT in `shades` [H, W], if there is one, and its map as the layout has them, with pixel `mark` marked.
    fn tile(&self, side: usize, shades: Option<&Tensor>, paint: &Paint, mark: Option<(usize, usize)>) -> Canvas {
        let panel = Panel::new(self.mesh, self.pixel, side).smooth(self.smooth);
        let map = |mut ground: Canvas, alpha: f32| {
            paint(&panel, &mut ground, alpha);
            ground
        };
        let mut canvases = match (self.layout, shades) {
            (Layout::Beside, Some(shades)) => vec![panel.ct(shades), map(panel.blank(), 1.0)],
            (Layout::Over, Some(shades)) => vec![map(panel.ct(shades), ALPHA)],
            (Layout::Map, _) | (_, None) => vec![map(panel.blank(), 1.0)],
        };
        if let Some((x, y)) = mark {
            canvases.iter_mut().for_each(|canvas| panel.mark(canvas, x, y));
        }
        beside(&canvases)
    }

    fn panels(&self) -> usize {
        if self.layout == Layout::Beside { 2 } else { 1 }
    }

    fn with_bar(&self, canvas: Canvas, height: usize) -> Canvas {
        match self.bar {
            Some(limits) => beside(&[canvas, bar(limits, height)]),
            None => canvas,
        }
    }

    /// Draws `slices` and writes them: one picture, a sheet of several, or with `{}` in the name a picture each. `of` gives a slice's shades [H, W],
    /// if it has any, its map, and the pixel to mark, by its position among `slices`.
    ///
    /// Returns the paths.
    pub fn write<'a>(&self, slices: &[usize], target: &Target, mut of: impl FnMut(usize) -> Result<Drawn<'a>>) -> Result<Vec<PathBuf>> {
        let longer = self.mesh.slice.0.max(self.mesh.slice.1);
        let mut tile = |position: usize, side: usize| -> Result<Canvas> {
            interrupt::check()?;
            let (shades, paint, mark) = of(position)?;
            Ok(self.tile(side, shades.as_ref(), &*paint, mark))
        };
        let paths = paths(target.output, slices);
        if paths.len() == slices.len() {
            let side = longer.clamp(SIDES.0, SIDES.1);
            for (position, path) in paths.iter().enumerate() {
                let canvas = tile(position, side)?;
                let height = canvas.height();
                target.write(&self.with_bar(canvas, height), path, &slices[position..=position])?;
            }
        } else {
            let columns = ((slices.len() as f64 / self.panels() as f64).sqrt().ceil() as usize).max(1);
            let side = longer.min(SHEET / (columns * self.panels())).max(THUMBNAIL);
            let tiles = (0..slices.len()).map(|i| Ok(captioned(&tile(i, side)?, slices[i]))).collect::<Result<Vec<_>>>()?;
            let whole = sheet(&tiles, columns);
            let height = whole.height().min(SIDES.1);
            target.write(&self.with_bar(whole, height), &paths[0], slices)?;
        }
        Ok(paths)
    }
}

impl Target<'_> {
    fn write(&self, canvas: &Canvas, path: &Path, slices: &[usize]) -> Result<()> {
        let list = serde_json::json!(slices).to_string();
        let own = [("Title", self.title.clone()), ("Software", format!("meddino {}", env!("CARGO_PKG_VERSION"))), ("slices", list)];
        let own = own.into_iter().map(|(keyword, text)| (keyword.to_string(), text));
        let given = self.provenance.clone().into_iter().filter(|(keyword, _)| keyword != "slices");
        let all: Vec<(String, String)> = own.chain(given).collect();
        write_png(canvas, path, &all)
    }
}

/// Refuses `outputs` that may not be written, or cannot be, before any work is done.
pub fn check_outputs<'a>(outputs: impl IntoIterator<Item = &'a PathBuf>, targets: &mut Targets) -> Result<()> {
    outputs.into_iter().try_for_each(|output| {
        targets.writes(output)?;
        NewFile::create(output).map(drop)
    })
}

/// The files that pictures of `slices` become.
pub fn paths(output: &Path, slices: &[usize]) -> Vec<PathBuf> {
    let name = output.file_name().unwrap_or_default();
    if !name.to_string_lossy().contains("{}") {
        return vec![output.to_path_buf()];
    }
    slices.iter().map(|slice| output.with_file_name(filled(name, &format!("{slice:03}")))).collect()
}

/// `name` with `number` for each `{}`; a name that is no UTF-8 stays what it is.
#[cfg(unix)]
fn filled(name: &OsStr, number: &str) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let (mut bytes, mut rest) = (Vec::new(), name.as_bytes());
    while let Some(at) = rest.windows(2).position(|pair| pair == b"{}") {
        bytes.extend([&rest[..at], number.as_bytes()].concat());
        rest = &rest[at + 2..];
    }
    OsString::from_vec([&bytes, rest].concat())
}

#[cfg(not(unix))]
fn filled(name: &OsStr, number: &str) -> OsString {
    name.to_string_lossy().replace("{}", number).into()
}

impl Picture {
    /// Where pictures of this kind of `scene` go: as said, or `NAME.KIND.png`.
    ///
    /// # Errors
    /// If the name has another ending than .png.
    pub fn output(&self, scene: &Scene, kind: &str) -> Result<PathBuf> {
        let Some(output) = &self.output else { return Ok(default_output(scene, kind)) };
        if output.extension().is_some_and(|e| e.eq_ignore_ascii_case("png")) {
            Ok(output.clone())
        } else {
            Err(Error::output(output.display(), "pictures are PNG files; give a name that ends in .png"))
        }
    }

    /// As these flags and `layout` say, without a bar.
    pub fn drawing(&self, scene: &Scene, layout: Layout) -> Drawing {
        let layout = if scene.scan.is_some() { layout } else { Layout::Map };
        Drawing { mesh: scene.mesh, pixel: scene.pixel, layout, smooth: self.smooth, gray: self.gray, bar: None }
    }
}

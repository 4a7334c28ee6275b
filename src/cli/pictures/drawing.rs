//! The layout of slices and their maps in pictures, and the files that hold the pictures.

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

/// Opacity of a map over the CT.
const ALPHA: f32 = 0.6;

/// Least and greatest length in pixels of a slice's longer side, in a picture of a single slice.
const SIDES: (usize, usize) = (448, 1024);

/// Approximate limit on a sheet's width and height in pixels, without gaps and captions.
const SHEET: usize = 4096;

/// Least length in pixels of a slice's longer side on a sheet.
const THUMBNAIL: usize = 64;

/// Paints one slice's map over a canvas with the given alpha.
pub type Paint<'a> = dyn Fn(&Panel, &mut Canvas, f32) + 'a;

/// A slice's shades [H, W] if there is a scan, its map, and the pixel to mark if any.
pub type Drawn<'a> = (Option<Tensor>, Box<Paint<'a>>, Option<(usize, usize)>);

/// The settings that all pictures of an input share.
#[derive(Clone, Copy)]
pub struct Drawing {
    pub mesh: Mesh,
    /// Height and width of a pixel of the slice, in the same unit.
    pub pixel: (f64, f64),
    pub layout: Layout,
    pub smooth: bool,
    pub gray: Gray,
    /// The values at the ends of the colour bar, if there is a bar.
    pub bar: Option<(f32, f32)>,
}

/// The output file of pictures and their metadata.
pub struct Target<'a> {
    pub output: &'a Path,
    pub title: String,
    pub provenance: &'a BTreeMap<String, String>,
}

impl Drawing {
    /// Draws one slice whose longer side has `side` pixels: its CT in `shades` [H, W], if any, and its map, arranged by
    /// the layout. Marks the pixel `mark`.
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

    /// Draws `slices` and writes them as one picture, as one sheet of several slices, or, if the name contains `{}`, as
    /// one picture per slice. `of` takes a position in `slices` and returns what to draw.
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
            let sheet = sheet(&tiles, columns);
            let height = sheet.height().min(SIDES.1);
            target.write(&self.with_bar(sheet, height), &paths[0], slices)?;
        }
        Ok(paths)
    }
}

impl Target<'_> {
    fn write(&self, canvas: &Canvas, path: &Path, slices: &[usize]) -> Result<()> {
        let list = serde_json::json!(slices).to_string();
        let entries = [("Title", self.title.clone()), ("Software", format!("meddino {}", env!("CARGO_PKG_VERSION"))), ("slices", list)];
        let entries = entries.into_iter().map(|(keyword, text)| (keyword.to_string(), text));
        let provenance = self.provenance.clone().into_iter().filter(|(keyword, _)| keyword != "slices");
        let entries: Vec<(String, String)> = entries.chain(provenance).collect();
        write_png(canvas, path, &entries)
    }
}

/// Checks before any work that `outputs` may be written and can be created.
pub fn check_outputs<'a>(outputs: impl IntoIterator<Item = &'a PathBuf>, targets: &mut Targets) -> Result<()> {
    outputs.into_iter().try_for_each(|output| {
        targets.writes(output)?;
        NewFile::create(output).map(drop)
    })
}

/// Returns the paths of the pictures of `slices`.
pub fn paths(output: &Path, slices: &[usize]) -> Vec<PathBuf> {
    let name = output.file_name().unwrap_or_default();
    if !name.to_string_lossy().contains("{}") {
        return vec![output.to_path_buf()];
    }
    slices.iter().map(|slice| output.with_file_name(filled(name, &format!("{slice:03}")))).collect()
}

/// Replaces each `{}` in `name` with `number`, and keeps bytes that are not UTF-8.
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
    /// Returns the output file for pictures of `scene`: the named file, else `NAME.KIND.png`.
    ///
    /// # Errors
    /// If the name does not end in .png.
    pub fn output(&self, scene: &Scene, kind: &str) -> Result<PathBuf> {
        let Some(output) = &self.output else { return Ok(default_output(scene, kind)) };
        if output.extension().is_some_and(|e| e.eq_ignore_ascii_case("png")) {
            Ok(output.clone())
        } else {
            Err(Error::output(output.display(), "pictures are PNG files; give a name that ends in .png"))
        }
    }

    /// Returns the settings of these flags and `layout`, without a colour bar.
    pub fn drawing(&self, scene: &Scene, layout: Layout) -> Drawing {
        let layout = if scene.scan.is_some() { layout } else { Layout::Map };
        Drawing { mesh: scene.mesh, pixel: scene.pixel, layout, smooth: self.smooth, gray: self.gray, bar: None }
    }
}

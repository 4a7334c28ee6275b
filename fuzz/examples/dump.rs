//! Prints what the library reads from scans; `differential.py` compares it with other readers.
//!
//! Standard input holds lines `SCAN<tab>OUTPUT`. For each scan, in storage order, one line of JSON goes to standard
//! output: its shape, affine and warnings, or the error. Its HU go to the file OUTPUT, as f32 in native byte order.

use std::io::{BufRead as _, Write as _, stdin, stdout};
use std::path::Path;

use meddino::ct::Volume;

fn main() -> std::io::Result<()> {
    for line in stdin().lock().lines() {
        let line = line?;
        let (scan, output) = line.split_once('\t').unwrap_or((&line, ""));
        let answer = match dump(Path::new(scan), Path::new(output)) {
            Ok(answer) => answer,
            Err(error) => format!("{{\"error\": {:?}}}", error.to_string()),
        };
        writeln!(stdout(), "{answer}")?;
    }
    Ok(())
}

fn dump(scan: &Path, output: &Path) -> meddino::Result<String> {
    let mut volume = Volume::open(scan)?;
    let mut hu = Vec::new();
    for index in 0..volume.slices() {
        hu.extend(volume.read_slice(index)?.data().iter().flat_map(|v| v.to_ne_bytes()));
    }
    std::fs::write(output, hu).map_err(|e| meddino::Error::output(output.display(), e))?;
    let shape = [volume.slices(), volume.height(), volume.width()];
    let affine = volume.affine().map_or("null".into(), |affine| format!("{:?}", affine.rows));
    Ok(format!("{{\"shape\": {shape:?}, \"affine\": {affine}, \"warnings\": {:?}}}", volume.warnings()))
}

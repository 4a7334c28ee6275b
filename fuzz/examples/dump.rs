//! What the library reads of scans, for other readers to be held against: `differential.py` calls it.
//!
//! Standard input holds lines `SCAN<tab>OUTPUT`. Of each scan, as it is stored, a line of JSON goes to standard output: its shape, its affine and warnings, or the error;
//! and its HU to the output, as f32 in the machine's order.

use std::io::{BufRead as _, Write as _, stdin, stdout};
use std::path::Path;

use meddino::ct::Volume;

fn main() -> std::io::Result<()> {
    for line in stdin().lock().lines() {
        let line = line?;
        let (scan, output) = line.split_once('\t').unwrap_or((&line, ""));
        let said = match dump(Path::new(scan), Path::new(output)) {
            Ok(said) => said,
            Err(error) => format!("{{\"error\": {:?}}}", error.to_string()),
        };
        writeln!(stdout(), "{said}")?;
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

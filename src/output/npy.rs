//! Writes one tensor as a NumPy array, with its metadata in a JSON file next to it.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use npyz::WriterBuilder;

use crate::archive::{ArchiveWriter, Dtype, NewFile, TensorHeader};
use crate::error::{Error, Problem, Result};

/// Copies the only tensor of `from` to the `.npy` file at `path`. The `.json` file of the same name, which holds the
/// metadata, gets its name first, so that there is never an array without its metadata.
pub(super) fn write(path: &Path, from: &mut ArchiveWriter, metadata: &BTreeMap<String, String>) -> Result<()> {
    let beside = path.with_extension("json");
    let mut json = NewFile::create(&beside)?;
    let text = serde_json::to_string_pretty(metadata).map_err(|e| json.failed(e))?;
    json.write_at(0, text.as_bytes())?;

    let mut array = NewFile::create(path)?;
    let (_, stored) = from.tensors().next().expect("one tensor, as Format::check sees to");
    let (descr, shape) = described(stored);
    let fail = |e: io::Error| Error::output(path.display(), e);
    let mut out = BufWriter::new(array.stream());
    write_header(&mut out, descr, &shape).map_err(fail)?;
    from.stream(0, |bytes| out.write_all(bytes).map_err(fail))?;
    out.flush().map_err(fail)?;
    drop(out);
    json.commit()?;
    let failed = |e: Error| {
        let text = format!("{e} ({} is of this run already)", beside.display());
        Error::output(path.display(), Problem::caused_by(text, e))
    };
    array.commit().map_err(failed)
}

/// Returns NumPy's name of the type, and the shape.
pub(super) fn described(stored: &TensorHeader) -> (&'static str, Vec<u64>) {
    let descr = match stored.dtype {
        Dtype::F32 => "<f4",
        Dtype::F16 => "<f2",
        other => unreachable!("features are f32 or f16, not {other}"),
    };
    (descr, stored.shape.iter().map(|&n| n as u64).collect())
}

/// Writes the header of a row-major array.
pub(super) fn write_header(out: impl Write, descr: &str, shape: &[u64]) -> io::Result<()> {
    let dtype = npyz::DType::Plain(descr.parse().map_err(io::Error::other)?);
    npyz::WriteOptions::new_header_only().dtype(dtype).shape(shape).writer(out).write_header_only().map(drop)
}

//! Every tensor as a NumPy array in one zip archive, as `numpy.load` reads it without pickle.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::npy::{described, write_header};
use crate::archive::{ArchiveWriter, NewFile};
use crate::error::{Error, Result};

/// Copies every tensor of `from` into the `.npz` file at `path`, and `metadata`, an array of one text that is JSON: `json.loads(file["metadata"].item())`.
///
/// Entries are stored as they are, as `numpy.savez` does; features hardly compress.
pub(super) fn write(path: &Path, from: &mut ArchiveWriter, metadata: &BTreeMap<String, String>) -> Result<()> {
    let fail = |e: io::Error| Error::output(path.display(), e);
    let mut file = NewFile::create(path)?;
    let mut zip = ZipWriter::new(BufWriter::new(file.stream()));
    // No time of day, so that equal features make equal files.
    let options = SimpleFileOptions::DEFAULT.compression_method(CompressionMethod::Stored).large_file(true);
    let tensors: Vec<_> = from.tensors().map(|(name, stored)| (name.to_string(), described(stored))).collect();
    for (index, (name, (descr, shape))) in tensors.into_iter().enumerate() {
        zip.start_file(format!("{name}.npy"), options).map_err(|e| fail(e.into()))?;
        write_header(&mut zip, descr, &shape).map_err(fail)?;
        from.stream(index, |bytes| zip.write_all(bytes).map_err(fail))?;
    }
    let text = serde_json::to_string(metadata).map_err(|e| Error::output(path.display(), e))?;
    zip.start_file("metadata.npy", options).map_err(|e| fail(e.into()))?;
    // NumPy's texts are UTF-32 of a fixed length.
    write_header(&mut zip, &format!("<U{}", text.chars().count()), &[]).map_err(fail)?;
    let wide: Vec<u8> = text.chars().flat_map(|c| (c as u32).to_le_bytes()).collect();
    zip.write_all(&wide).map_err(fail)?;
    zip.finish().and_then(|mut out| Ok(out.flush()?)).map_err(|e| fail(e.into()))?;
    file.commit()
}

//! Opens a checkpoint from a path: a file, or an index with its shards in the same folder, and the `config.json` that
//! may be there, too.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::archives::Archives;
use super::index::Index;
use super::kind::Kind;
use super::reader::Reader;
use super::refuse;
use crate::archive::{Archive, open_plain};
use crate::error::Problem;

/// The most bytes of a shard index that are read. The index of a model with 100 000 tensors takes about 10 MB.
const MAX_INDEX: u64 = 32 << 20;

/// The most bytes of a `config.json` that are read.
const MAX_CONFIG: u64 = 1 << 20;

/// Opens the checkpoint at `path`, and lists the files that were opened.
pub(super) fn open(path: &Path) -> Result<(Reader, Vec<PathBuf>), Problem> {
    refuse::part_of_a_model(path)?;
    if path.is_dir() {
        return Err("is a directory; give the file in it (model.safetensors, checkpoint_final.pth, ...)".into());
    }
    let kind = Kind::of(&mut open_plain(path)?)?;
    let mut files = vec![path.to_path_buf()];
    if kind != Kind::Json {
        return Ok((Reader::open(path, kind)?, files));
    }
    let index = Index::parse(&read_short(path, MAX_INDEX)?)?;
    files.extend(index.shards().into_iter().map(|shard| path.with_file_name(shard)));
    Ok((shards(path, &index)?, files))
}

/// Opens the shards in the folder of the index at `path`.
fn shards(path: &Path, index: &Index) -> Result<Reader, Problem> {
    let mut archives = Archives::default();
    for shard in index.shards() {
        let fail = |problem: Problem| problem.within(format_args!("shard {shard}"));
        let file = path.with_file_name(shard);
        let mut reader = open_plain(&file).map_err(|e| fail(Problem::caused_by(format!("{e}; put every shard beside the index"), e)))?;
        match Kind::of(&mut reader).map_err(fail)? {
            Kind::Safetensors => archives.add(shard, Archive::from_reader(reader).map_err(fail)?)?,
            _ => {
                return Err(fail(
                    "is no safetensors file; save the model with safetensors shards (Python: safe_serialization=True)".into(),
                ));
            }
        }
    }
    index.check(&archives)?;
    Ok(Reader::Safetensors(archives))
}

/// Returns the path of the `config.json` beside the checkpoint at `path`. Only Hugging Face's layout has that file.
pub(super) fn config_beside(path: &Path) -> PathBuf {
    path.with_file_name("config.json")
}

/// Reads the text of the `config.json` beside `path`, or `None` if there is no such file.
pub(super) fn config_json(path: &Path) -> Result<Option<String>, Problem> {
    let fail = |e: io::Error| Problem::from(e).within("config.json beside it cannot be read");
    match read_short(&config_beside(path), MAX_CONFIG) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(fail(e)),
        Ok(bytes) => String::from_utf8(bytes).map(Some).map_err(|e| fail(io::Error::other(e))),
    }
}

/// Reads the first `most` bytes of a file.
fn read_short(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_plain(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Lists every file that opening the checkpoint at `path` may read, whether or not it exists: the file itself, the
/// `config.json` beside it and, if the file is the index of a sharded model, each shard. No output may overwrite one of
/// them.
pub fn files_of(path: impl AsRef<Path>) -> Vec<PathBuf> {
    let path = path.as_ref();
    let mut files = vec![path.to_path_buf(), config_beside(path)];
    let is_json = |path: &Path| Kind::of(&mut open_plain(path).ok()?).ok().filter(|kind| *kind == Kind::Json);
    let index = is_json(path).and_then(|_| Index::parse(&read_short(path, MAX_INDEX).ok()?).ok());
    files.extend(index.iter().flat_map(Index::shards).map(|shard| path.with_file_name(shard)));
    files
}

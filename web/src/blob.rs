//! Files of a page, read piece by piece while the caller waits. Browsers allow this in workers.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use meddino::archive::{LentFile, LentFolder};
use wasm_bindgen::JsValue;
use web_sys::{Blob, FileReaderSync};

/// How many bytes are read at once where fewer are asked for. Headers are read in small steps, and each reading costs
/// a call to the browser.
const AHEAD: u64 = 256 << 10;

/// The blobs that are in use, and the last piece that was read. JavaScript's objects stay on their thread, so that
/// [`BlobFile`] holds a number.
#[derive(Default)]
struct Blobs {
    next: u64,
    by_number: HashMap<u64, Blob>,
    /// The blob's number, the offset, and the bytes.
    last: Option<(u64, u64, Vec<u8>)>,
}

thread_local! {
    static BLOBS: RefCell<Blobs> = RefCell::default();
}

/// Lends a blob as the only file of a folder. Returns the folder, which keeps the file in reach, and the file's path.
pub fn lend(blob: Blob) -> io::Result<(LentFolder, PathBuf)> {
    let file: Arc<dyn LentFile> = Arc::new(BlobFile::new(blob));
    let folder = LentFolder::new([("file".into(), file)])?;
    let path = folder.path().join("file");
    Ok((folder, path))
}

/// A blob as a file that readers open.
#[derive(Debug)]
pub struct BlobFile {
    number: u64,
    length: u64,
}

impl BlobFile {
    /// Takes a blob; it is forgotten when this value is dropped.
    pub fn new(blob: Blob) -> Self {
        let length = blob.size() as u64;
        let number = BLOBS.with_borrow_mut(|blobs| {
            blobs.next += 1;
            blobs.by_number.insert(blobs.next, blob);
            blobs.next
        });
        Self { number, length }
    }
}

impl Drop for BlobFile {
    fn drop(&mut self) {
        BLOBS.with_borrow_mut(|blobs| {
            blobs.by_number.remove(&self.number);
            blobs.last.take_if(|(number, ..)| *number == self.number);
        });
    }
}

impl LentFile for BlobFile {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        BLOBS.with_borrow_mut(|blobs| blobs.read(self, at, bytes)).map_err(|e| io::Error::other(text(&e)))
    }
}

impl Blobs {
    fn read(&mut self, file: &BlobFile, at: u64, bytes: &mut [u8]) -> Result<(), JsValue> {
        let end = at + bytes.len() as u64;
        let holds =
            |(number, from, piece): &&(u64, u64, Vec<u8>)| *number == file.number && *from <= at && end <= *from + piece.len() as u64;
        if let Some((_, from, piece)) = self.last.as_ref().filter(holds) {
            bytes.copy_from_slice(&piece[(at - from) as usize..][..bytes.len()]);
            return Ok(());
        }
        let blob = self.by_number.get(&file.number).ok_or("the file was taken back")?;
        if bytes.len() as u64 >= AHEAD {
            return read(blob, at, bytes);
        }
        let mut piece = vec![0; AHEAD.min(file.length - at) as usize];
        read(blob, at, &mut piece)?;
        bytes.copy_from_slice(&piece[..bytes.len()]);
        self.last = Some((file.number, at, piece));
        Ok(())
    }
}

fn read(blob: &Blob, at: u64, bytes: &mut [u8]) -> Result<(), JsValue> {
    let part = blob.slice_with_f64_and_f64(at as f64, at as f64 + bytes.len() as f64)?;
    let read = js_sys::Uint8Array::new(&FileReaderSync::new()?.read_as_array_buffer(&part)?.into());
    if read.length() as usize != bytes.len() {
        return Err(format!("{} bytes were read where {} were expected", read.length(), bytes.len()).into());
    }
    read.copy_to(bytes);
    Ok(())
}

/// Returns what a JavaScript exception says.
fn text(thrown: &JsValue) -> String {
    let said = js_sys::Reflect::get(thrown, &"message".into()).ok().and_then(|message| message.as_string());
    said.or_else(|| thrown.as_string()).unwrap_or_else(|| format!("{thrown:?}"))
}

//! When frames came, for tests: a line a frame in a file, if one was asked for.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use meddino::{Error, Result};

/// The log, and what it has to know of the frame before.
#[derive(Default)]
pub struct Frames {
    file: Option<BufWriter<File>>,
    began: Option<Instant>,
    last: Option<Instant>,
    awaited: bool,
}

impl Frames {
    /// A log in a new file at `path`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn create(path: &Path) -> Result<Self> {
        let mut file = BufWriter::new(File::create(path).map_err(|e| Error::output(path.display(), e))?);
        writeln!(file, "seconds,interval_ms,awaited,ours_ms,computing,computed").map_err(|e| Error::output(path.display(), e))?;
        Ok(Self { file: Some(file), ..Self::default() })
    }

    /// A frame begins.
    pub fn begin(&mut self) {
        self.began = Some(Instant::now());
    }

    /// The frame that began is laid out. `computing`: features are being computed, so the next frame comes as soon as it can. `computed`: slices whose features
    /// are there. `event`: anything that tests wait for.
    pub fn end(&mut self, computing: bool, computed: usize) {
        let Some(began) = self.began.take() else { return };
        let since = |then: Option<Instant>| then.map_or(Duration::ZERO, |then| began - then).as_secs_f64();
        let (interval, awaited) = (since(self.last), self.awaited);
        (self.last, self.awaited) = (Some(began), computing);
        let Some(file) = &mut self.file else { return };
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let ours = began.elapsed().as_secs_f64() * 1e3;
        // A full disk is no reason to stop showing a scan.
        let _ = writeln!(file, "{now:.3},{:.2},{},{ours:.2},{},{computed}", interval * 1e3, u8::from(awaited), u8::from(computing));
        let _ = file.flush();
    }
}

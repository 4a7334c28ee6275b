//! Logs the times of frames for tests: one line per frame in a file, if the user named one.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use meddino::{Error, Result};

/// The first line of a log.
const COLUMNS: &str = "seconds,interval_ms,awaited,ours_ms,computing,computed";

/// The log, and what it needs to know about the previous frame.
#[derive(Default)]
pub struct Frames {
    file: Option<BufWriter<File>>,
    began: Option<Instant>,
    last: Option<Instant>,
    awaited: bool,
}

impl Frames {
    /// Creates a log in a new file at `path`, or overwrites an older log.
    ///
    /// # Errors
    /// If the file cannot be written, or an existing file is not a log. It might be a scan, so it is not overwritten.
    pub fn create(path: &Path) -> Result<Self> {
        let fail = |e| Error::output(path.display(), e);
        let mut file = File::options().read(true).write(true).create(true).truncate(false).open(path).map_err(fail)?;
        let mut found = Vec::new();
        (&file).take(COLUMNS.len() as u64).read_to_end(&mut found).map_err(fail)?;
        if !found.is_empty() && found != COLUMNS.as_bytes() {
            return Err(Error::output(path.display(), "is there already, and is no log of frames; give another name"));
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(fail)?;
        let mut file = BufWriter::new(file);
        writeln!(file, "{COLUMNS}").map_err(fail)?;
        Ok(Self { file: Some(file), ..Self::default() })
    }

    /// Notes that a frame begins.
    pub fn begin(&mut self) {
        self.began = Some(Instant::now());
    }

    /// Logs the frame that began, after its layout. `computing` says that features are being computed, so the next
    /// frame follows as soon as possible. `computed` is the number of slices whose features are in the cache.
    pub fn end(&mut self, computing: bool, computed: usize) {
        let Some(began) = self.began.take() else { return };
        let since = |then: Option<Instant>| then.map_or(Duration::ZERO, |then| began - then).as_secs_f64();
        let (interval, awaited) = (since(self.last), self.awaited);
        (self.last, self.awaited) = (Some(began), computing);
        let Some(file) = &mut self.file else { return };
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let ours = began.elapsed().as_secs_f64() * 1e3;
        // A full disk must not stop the viewer, so write errors are ignored.
        let _ = writeln!(file, "{now:.3},{:.2},{},{ours:.2},{},{computed}", interval * 1e3, u8::from(awaited), u8::from(computing));
        let _ = file.flush();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_log_takes_the_place_of_a_log_alone() {
        let path = std::env::temp_dir().join(format!("meddino-frames-{}", std::process::id()));
        fs::write(&path, "a scan").expect("written");
        assert!(Frames::create(&path).is_err());
        assert_eq!(fs::read_to_string(&path).expect("read"), "a scan");
        fs::write(&path, format!("{COLUMNS}\n1,2,3,4,5,6\n")).expect("written");
        drop(Frames::create(&path).expect("a log"));
        assert_eq!(fs::read_to_string(&path).expect("read"), format!("{COLUMNS}\n"));
        fs::remove_file(&path).expect("removed");
    }
}

//! Reads the scan on a separate thread, because files can be slow and a frame must not wait for them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use eframe::egui;
use meddino::ct::{Geometry, Size, Turn, Volume, prepare};
use meddino::jobs::View;
use meddino::{Error, Result, Tensor};

/// The description of an open scan.
#[derive(Clone, Debug)]
pub struct Scan {
    /// The path that the user gave.
    pub path: PathBuf,
    /// The name that the user gave it.
    pub name: String,
    /// The voxel grid of the file, for label maps, and the turn from it to the shown slices. A scan that does not say where
    /// it lies has none.
    pub geometry: Option<(Geometry, Turn)>,
    /// The numbers of slices, rows and columns.
    pub shape: [usize; 3],
    /// Height and width of a pixel, in mm. Pixels are squares if the scan does not say.
    pub pixel: (f64, f64),
    /// Warnings about unusual properties of the scan.
    pub warnings: Vec<String>,
}

/// An answer of the thread. Each answer carries the number of its scan, and answers about an earlier scan are dropped.
#[derive(Debug)]
pub enum Read {
    /// The scan is open.
    Opened(Box<Scan>),
    /// The scan cannot be opened.
    Refused(Error),
    /// Slice `index` for display: [H, W] in HU.
    Slice { index: usize, hu: Result<Arc<Tensor>> },
    /// Slice `index` as input for the model: [1, 1, H', W'], normalised.
    Image { index: usize, image: Result<Tensor> },
}

enum Ask {
    Open(PathBuf),
    Slice(usize),
    Image(usize),
}

/// The window's end of the channels to the thread.
pub struct Reader {
    asks: Sender<(u64, Ask)>,
    answers: Receiver<(u64, Read)>,
    scan: u64,
}

impl Reader {
    /// Starts the thread. `size` is the size of the model's images. Every answer redraws the window.
    pub fn start(context: &egui::Context, size: Size) -> Self {
        let view = View::demo(size);
        let ((asks, asked), (answer, answers)) = (channel(), channel());
        let context = context.clone();
        thread::spawn(move || {
            let mut open = None;
            for (scan, ask) in asked {
                let read = answer_to(ask, &mut open, &view);
                if answer.send((scan, read)).is_err() {
                    break;
                }
                context.request_repaint();
            }
        });
        Self { asks, answers, scan: 0 }
    }

    /// Requests a scan. Pending requests for the previous scan get no answer.
    pub fn open(&mut self, path: &Path) {
        self.scan += 1;
        self.ask(Ask::Open(path.into()));
    }

    /// Requests a slice for display.
    pub fn slice(&self, index: usize) {
        self.ask(Ask::Slice(index));
    }

    /// Requests a slice as input for the model.
    pub fn image(&self, index: usize) {
        self.ask(Ask::Image(index));
    }

    /// Returns the next answer about the current scan, if there is one.
    pub fn answer(&self) -> Option<Read> {
        self.answers.try_iter().find(|(scan, _)| *scan == self.scan).map(|(_, read)| read)
    }

    fn ask(&self, ask: Ask) {
        // The thread ends when the channel closes, together with the window.
        let _ = self.asks.send((self.scan, ask));
    }
}

fn answer_to(ask: Ask, open: &mut Option<Volume>, view: &View) -> Read {
    let mut read = |index| open.as_mut().ok_or_else(|| Error::input("the scan", "is not open")).and_then(|volume| volume.read_slice(index));
    match ask {
        Ask::Open(path) => {
            *open = None;
            match scan(&path, view) {
                Ok((scan, volume)) => {
                    *open = Some(volume);
                    Read::Opened(Box::new(scan))
                }
                Err(problem) => Read::Refused(problem),
            }
        }
        Ask::Slice(index) => Read::Slice { index, hu: read(index).map(Arc::new) },
        Ask::Image(index) => Read::Image { index, image: read(index).map(|hu| prepare(&hu, &view.window, view.size)) },
    }
}

fn scan(path: &Path, view: &View) -> Result<(Scan, Volume)> {
    let volume = if path == Path::new("phantom") && !path.exists() { Volume::phantom() } else { Volume::open(path)? };
    let geometry = volume.geometry().ok().zip(volume.affine().map(Turn::to_lps));
    let volume = volume.oriented(view.orient)?;
    let pixel = volume.affine().map_or((1.0, 1.0), |affine| {
        let [column, row, _] = affine.spacing();
        (row, column)
    });
    let scan = Scan {
        path: path.into(),
        name: volume.name().to_owned(),
        geometry,
        shape: [volume.slices(), volume.height(), volume.width()],
        pixel,
        warnings: volume.warnings().to_vec(),
    };
    Ok((scan, volume))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits for the next answer.
    fn next(reader: &Reader) -> Read {
        let (scan, read) = reader.answers.recv_timeout(std::time::Duration::from_mins(1)).expect("an answer");
        assert_eq!(scan, reader.scan);
        read
    }

    #[test]
    fn scans_are_read_and_refused() {
        let mut reader = Reader::start(&egui::Context::default(), Size::Square(64));
        reader.open(Path::new("phantom"));
        assert!(matches!(next(&reader), Read::Opened(scan) if scan.shape == [1, 512, 512]));
        reader.image(0);
        assert!(matches!(next(&reader), Read::Image { index: 0, image: Ok(image) } if image.shape() == [1, 1, 64, 64]));
        reader.open(Path::new("no such scan.nii"));
        assert!(matches!(next(&reader), Read::Refused(problem) if problem.to_string().contains("no such scan.nii")));
        reader.slice(0);
        assert!(matches!(next(&reader), Read::Slice { hu: Err(_), .. }), "no scan is open after one was refused");
    }
}

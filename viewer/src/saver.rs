//! Writes the label map and the head into files. No file that is read, and no file that meddino did not write, is
//! replaced.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::thread;

use eframe::egui;
use meddino::ct::{Geometry, LabelFormat, Turn};
use meddino::jobs::targets;
use meddino::output::LabelFile;
use meddino::{Error, Result, Tensor};

use crate::head::{Fit, Subject};

/// The ending of heads.
const HEAD_ENDING: &str = ".safetensors";

/// Slices that wait to be labelled and written.
const WAITING: usize = 2;

/// What is saved and where.
#[derive(Clone)]
pub struct Order {
    /// The file to write.
    pub target: PathBuf,
    /// The weights, as the user named them.
    pub checkpoint: PathBuf,
    /// The head.
    pub fit: Arc<Fit>,
}

/// A file that was written, or not.
#[derive(Debug)]
pub struct Saved {
    /// The file.
    pub target: PathBuf,
    /// The version of the marks that it is made from.
    pub version: u64,
    /// What went wrong.
    pub done: Result<()>,
}

impl Order {
    /// Refuses a target that is not called as `endings` say, is read, or was not written by meddino.
    fn check(&self, endings: &[&str]) -> Result<()> {
        let name = self.target.to_string_lossy().to_lowercase();
        if !endings.iter().any(|ending| name.ends_with(ending)) {
            return Err(Error::output(self.target.display(), format!("expected a name that ends with {}", endings.join(", "))));
        }
        let Subject { scan, body, .. } = &*self.fit.subject;
        let is_built_in = scan == Path::new("phantom") && !scan.exists();
        let mut targets = targets(false, (!is_built_in).then_some(scan), Some(&self.checkpoint))?;
        targets.reads("the head of the body", body.as_ref().map(|body| &body.path));
        targets.writes(&self.target)
    }

    fn saved(&self, done: Result<()>) -> Saved {
        Saved { target: self.target.clone(), version: self.fit.made.0, done }
    }

    /// Writes the head.
    fn write_head(&self) -> Result<()> {
        self.check(&[HEAD_ENDING])?;
        self.fit.file.save(&self.target)
    }

    /// Writes the label map of all slices, whose tokens [P, C] come in order.
    fn write_labels(&self, geometry: &Geometry, turn: Turn, tokens: &Receiver<Arc<Tensor>>) -> Result<()> {
        self.check(&LabelFormat::ENDINGS)?;
        let mut file = LabelFile::create(&self.target, geometry, usize::from(self.fit.largest()) + 1, turn)?;
        for _ in 0..turn.of_axes(geometry.shape())[0] {
            // The window is closing, or the user stops it. The unfinished file is removed.
            let tokens = tokens.recv().map_err(|_| Error::Cancelled)?;
            file.push(&self.fit.label(&tokens)?)?;
        }
        file.finish()
    }
}

/// Starts to write a head. The result goes to `said` and redraws the window.
pub fn save_head(order: Order, context: &egui::Context, said: &Sender<Saved>) {
    let (context, said) = (context.clone(), said.clone());
    thread::spawn(move || {
        // If the receiver is gone, the window is closing.
        let _ = said.send(order.saved(order.write_head()));
        context.request_repaint();
    });
}

/// A label map that is being written.
pub struct LabelSaver {
    tokens: Option<SyncSender<Arc<Tensor>>>,
    saved: Receiver<Saved>,
    thread: Option<thread::JoinHandle<()>>,
    next: usize,
    slices: usize,
}

impl LabelSaver {
    /// Starts the thread. The slices are those of the scan `geometry` after `turn`. The end redraws the window.
    pub fn start(order: Order, geometry: Geometry, turn: Turn, context: &egui::Context) -> Self {
        let ((tokens, given), (said, saved)) = (sync_channel(WAITING), channel());
        let (context, slices) = (context.clone(), turn.of_axes(geometry.shape())[0]);
        let thread = thread::spawn(move || {
            // If the receiver is gone, the window is closing.
            let _ = said.send(order.saved(order.write_labels(&geometry, turn, &given)));
            context.request_repaint();
        });
        Self { tokens: Some(tokens), saved, thread: Some(thread), next: 0, slices }
    }

    /// Returns the slice whose tokens come next, or `None` after the last one.
    pub fn next(&self) -> Option<usize> {
        (self.next < self.slices).then_some(self.next)
    }

    /// Returns the share of the slices that were given.
    pub fn share(&self) -> f32 {
        self.next as f32 / self.slices.max(1) as f32
    }

    /// Gives the tokens [P, C] of the next slice. Returns whether they were taken; else they are given again later.
    pub fn give(&mut self, tokens: &Arc<Tensor>) -> bool {
        let Some(sender) = &self.tokens else { return false };
        match sender.try_send(Arc::clone(tokens)) {
            Ok(()) => self.next += 1,
            Err(TrySendError::Full(_)) => return false,
            // The thread has ended with an error, which is its answer.
            Err(TrySendError::Disconnected(_)) => self.next = self.slices,
        }
        true
    }

    /// Returns how it ended, once it has.
    pub fn saved(&self) -> Option<Saved> {
        self.saved.try_recv().ok()
    }
}

/// Waits until the unfinished file is removed.
impl Drop for LabelSaver {
    fn drop(&mut self) {
        self.tokens = None;
        if let Some(thread) = self.thread.take() {
            // A panic was reported when it happened.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use meddino::ct::{Affine, Volume};

    use super::*;
    use crate::head::tests::{fitted, subject, tokens, with_body};

    /// A folder with a scan, and an order to write `name` there.
    fn desk(test: &str) -> (PathBuf, impl Fn(&str) -> Order) {
        let folder = std::env::temp_dir().join(format!("meddino-saver-{test}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("made");
        fs::write(folder.join("scan.nii.gz"), "a scan").expect("written");
        let subject = Subject { scan: folder.join("scan.nii.gz"), ..(*subject()).clone() };
        let fit = Arc::new(fitted(&[(0, 4), (1, 0)], &with_body(&subject, folder.join("body.safetensors"))));
        let at = folder.clone();
        (folder, move |name: &str| Order { target: at.join(name), checkpoint: "seeded:0:micro".into(), fit: Arc::clone(&fit) })
    }

    fn geometry() -> Geometry {
        let affine = Affine::from_columns([-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 3.0], [5.0, 6.0, 7.0]);
        Geometry::new([2, 32, 48], affine).expect("a grid")
    }

    #[test]
    fn slices_that_are_given_in_order_become_a_label_map() {
        let (folder, order) = desk("map");
        let order = order("labels.nii.gz");
        let mut saver = LabelSaver::start(order.clone(), geometry(), Turn::NONE, &egui::Context::default());
        let slices = [tokens(1.0), tokens(-1.0)].map(Arc::new);
        while let Some(next) = saver.next() {
            if !saver.give(&slices[next]) {
                thread::sleep(Duration::from_millis(1));
            }
        }
        let saved = saver.saved.recv_timeout(Duration::from_mins(1)).expect("an end");
        assert_eq!((saved.version, saved.target.as_path()), (7, order.target.as_path()));
        saved.done.expect("written");
        let mut volume = Volume::open(&order.target).expect("a label map");
        assert_eq!(volume.affine().map(ToString::to_string), Some(geometry().affine().to_string()));
        for (index, tokens) in slices.iter().enumerate() {
            let want: Vec<f32> = order.fit.label(tokens).expect("labelled").into_iter().map(f32::from).collect();
            assert!(want.contains(&4.0) && want.contains(&0.0));
            assert_eq!(volume.read_slice(index).expect("read").data(), want);
        }
        fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn a_label_map_that_is_stopped_leaves_no_file() {
        let (folder, order) = desk("stopped");
        let mut saver = LabelSaver::start(order("labels.nii"), geometry(), Turn::NONE, &egui::Context::default());
        assert!(saver.give(&Arc::new(tokens(1.0))));
        drop(saver);
        let left: Vec<_> = fs::read_dir(&folder).expect("listed").map(|entry| entry.expect("an entry").file_name()).collect();
        assert_eq!(left, ["scan.nii.gz"]);
        fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn no_scan_and_no_file_of_others_is_replaced() {
        let (folder, order) = desk("refused");
        fs::write(folder.join("theirs.nii"), "theirs").expect("written");
        fs::write(folder.join("theirs.safetensors"), "theirs").expect("written");
        let (sender, tokens) = channel();
        drop(sender);
        let labels = |name: &str| order(name).write_labels(&geometry(), Turn::NONE, &tokens).expect_err("refused").to_string();
        assert!(labels("scan.nii.gz").contains("would take the place of the input"));
        assert!(labels("theirs.nii").contains("meddino did not write it"));
        assert!(labels("labels.png").contains("expected a name that ends with .nii.gz, .nii, .nrrd, .mha"));
        let head = |name: &str| order(name).write_head().expect_err("refused").to_string();
        assert!(head("theirs.safetensors").contains("meddino did not write it"));
        // It is a file that meddino wrote, but it is read.
        order("head.safetensors").write_head().expect("written");
        fs::rename(folder.join("head.safetensors"), folder.join("body.safetensors")).expect("moved");
        assert!(head("body.safetensors").contains("would take the place of the head of the body"));
        assert!(head("head.nii").contains("expected a name that ends with .safetensors"));
        order("head.safetensors").write_head().expect("written");
        order("head.safetensors").write_head().expect("its own file is replaced");
        for (name, text) in [("scan.nii.gz", "a scan"), ("theirs.nii", "theirs"), ("theirs.safetensors", "theirs")] {
            assert_eq!(fs::read_to_string(folder.join(name)).expect("read"), text, "{name}");
        }
        fs::remove_dir_all(folder).expect("removed");
    }
}

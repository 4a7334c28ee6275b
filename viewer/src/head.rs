//! Fits a head to the marks and labels slices with it, on its own thread, because either may take longer than a frame.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use eframe::egui;
use meddino::ct::Size;
use meddino::fitted::{DenseHead, HeadFile};
use meddino::heads::{Chosen, Joined, Lattice, Standard};
use meddino::jobs::{Case, View, fit_marks, name_text};
use meddino::maps::Mesh;
use meddino::output::{Preprocessing, Provenance};
use meddino::{Result, Tensor};

use crate::body::Body;
use crate::engine::Engine;
use crate::reader::Scan;

/// What is labelled: a scan as a model sees it.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The path of the scan.
    pub scan: PathBuf,
    /// The case, as feature files of the scan name it.
    pub case: String,
    /// What made the tokens.
    pub provenance: Provenance,
    /// The positions of the patches.
    pub lattice: Lattice,
    /// Height and width of a slice.
    pub slice: (usize, usize),
    /// The head of the body, if labels are cut to it.
    pub body: Option<Arc<Body>>,
}

impl Subject {
    /// Describes `scan` as `engine` sees it in images of `size`, with patches on `mesh`. Labels are cut to the `body`, if
    /// there is one.
    ///
    /// # Errors
    /// If the head of the body is for other features.
    pub fn new(scan: &Scan, engine: &Engine, size: Size, mesh: &Mesh, body: Option<Arc<Body>>) -> Result<Self> {
        let View { size, window, orient } = View::demo(size);
        let (config, image, grid) = (engine.gpu.config().clone(), size.of(mesh.slice.0, mesh.slice.1), mesh.grid);
        let lattice = Lattice::new((grid.rows, grid.cols), config.patch_size, 1, image);
        let provenance = Provenance {
            input: name_text(&scan.path),
            input_sha256: None,
            about: Vec::new(),
            slices: Vec::new(),
            place: None,
            image,
            grid,
            preprocessing: Preprocessing::Scan { window, size, orient },
            config,
            checkpoint: engine.name.clone(),
            checkpoint_sha256: engine.sha256.clone(),
            backend: engine.device(),
        };
        body.as_ref().map_or(Ok(()), |body| body.check(&scan.path, &provenance))?;
        Ok(Self { scan: scan.path.clone(), case: Case::new(&scan.path).name, provenance, lattice, slice: mesh.slice, body })
    }
}

/// A marked slice: its index, its tokens [P, C], and the label of each marked patch.
#[derive(Clone, Debug)]
pub struct Example {
    /// The index of the slice.
    pub slice: usize,
    /// [P, C]
    pub tokens: Arc<Tensor>,
    /// (patch, label)
    pub marks: Vec<(usize, u16)>,
}

/// What a fit is made from: the version of the marks, and the number of marked slices whose features were there.
pub type Made = (u64, usize);

/// A head that was fitted to marks.
pub struct Fit {
    /// What it was made from.
    pub made: Made,
    /// The head as it is saved.
    pub file: HeadFile,
    /// How long the fit took.
    pub took: Duration,
    /// Number of marks.
    pub marks: usize,
    /// What is labelled.
    pub subject: Arc<Subject>,
    head: DenseHead,
}

impl Fit {
    /// Returns the label of each pixel of a slice from its tokens [P, C], as `meddino segment` does.
    ///
    /// # Errors
    /// If the tokens are of another model.
    pub fn label(&self, tokens: &Tensor) -> Result<Vec<u16>> {
        let Subject { lattice, slice, body, .. } = &*self.subject;
        let mut labels = self.head.label(tokens, lattice, *slice)?;
        body.as_ref().map_or(Ok(()), |body| body.head.cut(&mut labels, tokens, lattice, *slice))?;
        Ok(labels)
    }

    /// Returns the largest label.
    pub fn largest(&self) -> u16 {
        self.head.labels().iter().copied().max().unwrap_or(0)
    }
}

/// Fits one head after another. The standardisation is measured again only if other slices are marked.
#[derive(Default)]
pub struct Fitter {
    slices: Vec<Arc<Tensor>>,
    standard: Option<Standard>,
}

impl Fitter {
    /// Fits a head to the marks of `examples`, of which there is at least one.
    ///
    /// # Errors
    /// If there are fewer than two labels, or the tokens are not finite.
    pub fn fit(&mut self, made: Made, examples: &[Example], subject: &Arc<Subject>) -> Result<Fit> {
        let start = Instant::now();
        let slices = Joined::new(examples.iter().map(|example| &*example.tokens));
        let is_same = self.slices.len() == examples.len() && self.slices.iter().zip(examples).all(|(a, b)| Arc::ptr_eq(a, &b.tokens));
        let standard = match self.standard.take().filter(|_| is_same) {
            Some(standard) => standard,
            None => Standard::of(&slices)?,
        };
        self.slices = examples.iter().map(|example| Arc::clone(&example.tokens)).collect();
        let standard = self.standard.insert(standard);
        let marks =
            examples.iter().enumerate().flat_map(|(i, example)| example.marks.iter().map(move |(patch, label)| (i, *patch, *label)));
        let (rows, labels): (Vec<usize>, Vec<u16>) = marks.map(|(i, patch, label)| (slices.row_of(i, patch), label)).unzip();
        let provenance = Provenance { slices: examples.iter().map(|example| example.slice).collect(), ..subject.provenance.clone() };
        let file = fit_marks(&Chosen::new(&slices, &rows), &labels, standard, &provenance, &subject.case)?;
        let head = DenseHead::new(&file, subject.scan.display())?;
        Ok(Fit { made, file, took: start.elapsed(), marks: labels.len(), subject: Arc::clone(subject), head })
    }
}

enum Ask {
    Fit(Made, Vec<Example>, Arc<Subject>),
    Label(Arc<Fit>, usize, Arc<Tensor>),
}

/// An answer of the thread.
pub enum Answer {
    /// The head that was asked for.
    Fitted(Made, Result<Arc<Fit>>),
    /// The labels of a slice: the head that found them, the index of the slice, and a label for each pixel.
    Labelled(Made, usize, Result<Vec<u16>>),
}

/// The window's end of the channels to the thread.
pub struct Trainer {
    asks: Sender<Ask>,
    answers: Receiver<Answer>,
}

impl Trainer {
    /// Starts the thread. Every answer redraws the window.
    pub fn start(context: &egui::Context) -> Self {
        let ((asks, asked), (answer, answers)) = (channel(), channel());
        let context = context.clone();
        thread::spawn(move || {
            let mut fitter = Fitter::default();
            for ask in asked {
                let found = match ask {
                    Ask::Fit(made, examples, subject) => Answer::Fitted(made, fitter.fit(made, &examples, &subject).map(Arc::new)),
                    Ask::Label(fit, slice, tokens) => Answer::Labelled(fit.made, slice, fit.label(&tokens)),
                };
                if answer.send(found).is_err() {
                    break;
                }
                context.request_repaint();
            }
        });
        Self { asks, answers }
    }

    /// Requests a head for the marks of `examples`.
    pub fn fit(&self, made: Made, examples: Vec<Example>, subject: &Arc<Subject>) {
        // The thread ends when the channel closes, together with the window.
        let _ = self.asks.send(Ask::Fit(made, examples, Arc::clone(subject)));
    }

    /// Requests the labels of the slice with these `tokens` [P, C].
    pub fn label(&self, fit: &Arc<Fit>, slice: usize, tokens: &Arc<Tensor>) {
        let _ = self.asks.send(Ask::Label(Arc::clone(fit), slice, Arc::clone(tokens)));
    }

    /// Returns the next answer, if there is one.
    pub fn answer(&self) -> Option<Answer> {
        self.answers.try_recv().ok()
    }
}

#[cfg(test)]
pub mod tests {
    use meddino::fitted::BodyHead;
    use meddino::vit::config::{Config, Grid};

    use super::*;

    pub const GRID: Grid = Grid { rows: 2, cols: 3 };

    /// A scan of slices of 32 x 48 pixels, 2 x 3 patches.
    pub fn subject() -> Arc<Subject> {
        let View { size, window, orient } = View::demo(Size::Native);
        let provenance = Provenance {
            input: "made".into(),
            input_sha256: None,
            about: Vec::new(),
            slices: Vec::new(),
            place: None,
            image: (32, 48),
            grid: GRID,
            preprocessing: Preprocessing::Scan { window, size, orient },
            config: Config::micro(),
            checkpoint: "seeded:0:micro".into(),
            checkpoint_sha256: None,
            backend: "made up".into(),
        };
        let lattice = Lattice::new((2, 3), 16, 1, (32, 48));
        Arc::new(Subject { scan: "made.nii".into(), case: "made".into(), provenance, lattice, slice: (32, 48), body: None })
    }

    /// Tokens [6, 2]: the first channel is `side` in the left column and -`side` elsewhere.
    pub fn tokens(side: f32) -> Tensor {
        Tensor::new([6, 2], (0..6).flat_map(|p| [if p % 3 == 0 { side } else { -side }, 0.1 * p as f32]).collect())
    }

    /// Fits a head to marks (patch, label) on a slice of `tokens`.
    pub fn fitted(marks: &[(usize, u16)], subject: &Arc<Subject>) -> Fit {
        let example = Example { slice: 0, tokens: Arc::new(tokens(1.0)), marks: marks.to_vec() };
        Fitter::default().fit((7, 1), &[example], subject).expect("fitted")
    }

    /// A scan of which the left column of patches is the body, as the head in the file `path` says.
    pub fn with_body(subject: &Subject, path: PathBuf) -> Arc<Subject> {
        let file = fitted(&[(0, 1), (1, 0)], &Arc::new(subject.clone())).file;
        let head = DenseHead::new(&file, path.display()).and_then(|head| BodyHead::new(head, path.display())).expect("a head of the body");
        Arc::new(Subject { body: Some(Arc::new(Body { path, head })), ..subject.clone() })
    }

    #[test]
    fn labels_around_the_body_are_background() {
        let marks = [(0, 4), (1, 2), (5, 2)];
        let columns = |subject: &Arc<Subject>| {
            let labels = fitted(&marks, subject).label(&tokens(1.0)).expect("labelled");
            [8, 24, 40].map(|x| labels[8 * 48 + x])
        };
        assert_eq!(columns(&subject()), [4, 2, 2]);
        let cut = with_body(&subject(), "body.safetensors".into());
        assert_eq!(columns(&cut), [4, 0, 0]);
        let body = cut.body.as_ref().expect("a body");
        body.check(&cut.scan, &cut.provenance).expect("of these features");
        let other = Provenance { checkpoint: "seeded:1:micro".into(), ..cut.provenance.clone() };
        let message = body.check(&cut.scan, &other).expect_err("refused").to_string();
        assert!(
            message.contains("made.nii, for the head of the body in body.safetensors: has checkpoint seeded:1:micro, but"),
            "{message}"
        );
    }

    #[test]
    fn the_same_marks_give_the_same_head_and_it_is_the_one_of_its_file() {
        let example = |slice, side, marks: &[(usize, u16)]| Example { slice, tokens: Arc::new(tokens(side)), marks: marks.to_vec() };
        let examples = [example(0, 1.0, &[(0, 1), (1, 0)]), example(4, 2.0, &[(5, 0), (3, 2)])];
        let mut fitter = Fitter::default();
        let first = fitter.fit((1, 2), &examples, &subject()).expect("fitted");
        let only = fitter.fit((2, 1), &examples[..1], &subject()).expect("fitted");
        let again = fitter.fit((3, 2), &examples, &subject()).expect("fitted");
        let labels = |fit: &Fit| fit.label(&tokens(1.0)).expect("labelled");
        assert_eq!(labels(&first), labels(&again), "the standardisation is measured again when other slices are marked");
        assert_ne!(labels(&only), labels(&first));
        assert_eq!((first.marks, first.largest(), only.largest()), (4, 2, 1));
        let path = std::env::temp_dir().join(format!("meddino-head-{}.safetensors", std::process::id()));
        first.file.save(&path).expect("saved");
        let stored = HeadFile::open(&path).and_then(|file| DenseHead::new(&file, path.display())).expect("read");
        std::fs::remove_file(&path).expect("removed");
        let subject = subject();
        assert_eq!(stored.label(&tokens(1.0), &subject.lattice, subject.slice).expect("labelled"), labels(&first));
    }
}

//! Labels: the user marks patches, a head is fitted to the marks, and labels every slice.

use std::collections::BTreeMap;
use std::sync::Arc;

use eframe::egui::{self, Color32, ColorImage, TextureHandle, TextureOptions};
use meddino::maps::Mesh;
use meddino::picture::distinct;
use meddino::{Error, Tensor};

use crate::brush::touched;
use crate::cache::Cache;
use crate::head::{Answer, Example, Fit, Made, Subject, Trainer};
use crate::marks::Marks;

/// The labels, the brush, and the head.
pub struct Labelling {
    /// The label that the brush gives; `None` is the eraser.
    pub label: Option<u16>,
    /// The width of the brush, in patches.
    pub brush: u32,
    /// The marks.
    pub marks: Marks,
    /// The version of the marks that a file has.
    kept: u64,
    /// The features of marked slices, which the cache may no longer hold.
    tokens: BTreeMap<usize, Arc<Tensor>>,
    trainer: Trainer,
    asked: Option<Made>,
    fit: Option<Arc<Fit>>,
    /// The marks that no head could be fitted to.
    failed: Option<Made>,
    /// The slice whose labels are asked for, and the head that finds them.
    labelled: Option<(Made, usize)>,
    map: Option<(Made, usize, TextureHandle)>,
    /// The slice and the position of the mouse while the user paints.
    stroke: Option<(usize, (f64, f64))>,
}

/// Returns a number of things in words.
fn counted(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// Returns the colour of a label. The map leaves label 0, the background, clear; its marks are white.
pub fn colour_of(label: u16) -> Color32 {
    let Some(index) = label.checked_sub(1) else { return Color32::WHITE };
    let [r, g, b] = distinct(usize::from(index));
    Color32::from_rgb(r, g, b)
}

impl Labelling {
    /// Starts without marks.
    pub fn new(context: &egui::Context) -> Self {
        Self {
            label: Some(1),
            brush: 1,
            marks: Marks::default(),
            kept: 0,
            tokens: BTreeMap::new(),
            trainer: Trainer::start(context),
            asked: None,
            fit: None,
            failed: None,
            labelled: None,
            map: None,
            stroke: None,
        }
    }

    /// Drops the marks and the head, because the scan or the model changes.
    pub fn clear(&mut self) {
        self.marks.clear();
        self.kept = self.marks.version();
        self.tokens.clear();
        (self.asked, self.fit, self.failed, self.labelled, self.map, self.stroke) = (None, None, None, None, None, None);
    }

    /// Returns whether there are marks that no file has.
    pub fn is_unsaved(&self) -> bool {
        !self.marks.is_empty() && self.kept != self.marks.version()
    }

    /// Notes that a file has the marks of `version`.
    pub fn keep(&mut self, version: u64) {
        self.kept = version;
    }

    /// Returns the head, if there is one for the marks as they are.
    pub fn fit(&self) -> Option<&Arc<Fit>> {
        self.fit.as_ref().filter(|fit| fit.made.0 == self.marks.version() && fit.made.1 == self.marks.slices().len())
    }

    /// Paints from where the mouse was to `place`, (x, y) in pixels of `slice`. The first call begins a stroke.
    pub fn paint(&mut self, slice: usize, place: (f64, f64), mesh: &Mesh) {
        let from = match self.stroke {
            Some((before, from)) if before == slice => from,
            Some(_) => place,
            None => {
                self.marks.begin();
                place
            }
        };
        self.stroke = Some((slice, place));
        self.marks.mark(slice, &touched(mesh, from, place, self.brush), self.label);
    }

    /// Returns whether a stroke is under way.
    pub fn is_painting(&self) -> bool {
        self.stroke.is_some()
    }

    /// Ends the stroke.
    pub fn lift(&mut self) {
        self.stroke = None;
    }

    /// Returns a marked slice whose features are missing.
    pub fn wanted(&self) -> Option<usize> {
        self.marks.slices().into_iter().find(|slice| !self.tokens.contains_key(slice))
    }

    /// Takes the features of marked slices from the cache, and requests a head if the marks have changed.
    pub fn go_on(&mut self, cache: &mut Cache, subject: &Arc<Subject>) {
        let slices = self.marks.slices();
        self.tokens.retain(|slice, _| slices.binary_search(slice).is_ok());
        for slice in &slices {
            if !self.tokens.contains_key(slice)
                && let Some(tokens) = cache.get(*slice)
            {
                self.tokens.insert(*slice, Arc::clone(tokens));
            }
        }
        let made = (self.marks.version(), self.tokens.len());
        let is_known = self.fit.as_ref().is_some_and(|fit| fit.made == made) || self.failed == Some(made);
        // One fit at a time: what is painted meanwhile is fitted to next.
        if self.asked.is_some() || is_known {
            return;
        }
        let examples: Vec<Example> = self.tokens.iter().map(|(slice, tokens)| self.example(*slice, tokens)).collect();
        let mut labels = examples.iter().flat_map(|example| example.marks.iter().map(|(_, label)| *label));
        let first = labels.next();
        if labels.any(|label| Some(label) != first) {
            self.trainer.fit(made, examples, subject);
            self.asked = Some(made);
        } else {
            (self.fit, self.map, self.failed) = (None, None, Some(made));
        }
    }

    fn example(&self, slice: usize, tokens: &Arc<Tensor>) -> Example {
        Example { slice, tokens: Arc::clone(tokens), marks: self.marks.of_slice(slice).collect() }
    }

    /// Stores the answers of the thread. What was asked about another scan or model is dropped.
    ///
    /// # Errors
    /// If no head can be fitted, or a slice cannot be labelled.
    pub fn hear(&mut self, context: &egui::Context) -> Result<(), Error> {
        while let Some(answer) = self.trainer.answer() {
            match answer {
                Answer::Fitted(made, fit) if self.asked == Some(made) => {
                    self.asked = None;
                    self.failed = fit.is_err().then_some(made);
                    self.fit = Some(fit.inspect_err(|_| (self.fit, self.map) = (None, None))?);
                }
                Answer::Labelled(made, slice, labels) if self.labelled == Some((made, slice)) => {
                    self.labelled = None;
                    if let Some(fit) = self.fit.clone() {
                        self.draw(made, slice, &labels?, fit.subject.slice, context);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn draw(&mut self, made: Made, slice: usize, labels: &[u16], (height, width): (usize, usize), context: &egui::Context) {
        let colour = |label: &u16| if *label == 0 { Color32::TRANSPARENT } else { colour_of(*label) };
        let image = ColorImage::new([width, height], labels.iter().map(colour).collect());
        match &mut self.map {
            Some((of, shown, texture)) => {
                texture.set(image, TextureOptions::NEAREST);
                (*of, *shown) = (made, slice);
            }
            None => self.map = Some((made, slice, context.load_texture("labels", image, TextureOptions::NEAREST))),
        }
    }

    /// Returns the labels of `slice`, one texel a pixel, and requests them if the head has changed. Until they come, those
    /// of the head before are returned.
    pub fn texture(&mut self, slice: usize, tokens: &Arc<Tensor>) -> Option<&TextureHandle> {
        let fit = self.fit.as_ref()?;
        let is_shown = self.map.as_ref().is_some_and(|(made, shown, _)| (*made, *shown) == (fit.made, slice));
        if !is_shown && self.labelled.is_none() {
            self.trainer.label(fit, slice, tokens);
            self.labelled = Some((fit.made, slice));
        }
        self.map.as_ref().filter(|(_, shown, _)| *shown == slice).map(|(_, _, texture)| texture)
    }

    /// Returns in words how far the head is.
    pub fn state(&self) -> String {
        let (marks, slices) = (self.marks.counts().iter().sum::<usize>(), self.marks.slices().len());
        let waiting = slices - self.tokens.len().min(slices);
        match &self.fit {
            _ if marks == 0 => "click or paint on the slice".into(),
            _ if waiting > 0 => format!("features are awaited for {waiting} of {}", counted(slices, "marked slice")),
            Some(fit) => {
                let (marks, slices) = (counted(fit.marks, "mark"), counted(slices, "slice"));
                format!("{marks} on {slices}, fitted in {:.0} ms", fit.took.as_secs_f64() * 1e3)
            }
            None if self.asked.is_some() => "fitting".into(),
            None => "mark a second label, such as 0 for the background".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::head::tests::{GRID, subject, tokens};

    /// Lets the thread work until the head is that of the marks, and returns the labels of a slice.
    fn labels(labelling: &mut Labelling, cache: &mut Cache, slice: usize) -> Option<Vec<u16>> {
        let (context, subject, start) = (egui::Context::default(), subject(), Instant::now());
        while start.elapsed() < Duration::from_mins(1) {
            labelling.go_on(cache, &subject);
            labelling.hear(&context).expect("fitted");
            if labelling.asked.is_none() {
                return Some(labelling.fit()?.label(cache.get(slice)?).expect("labelled"));
            }
        }
        panic!("the thread does not answer");
    }

    #[test]
    fn marks_become_a_map_that_follows_is_corrected_and_undone() {
        let mesh = Mesh::new(GRID, 16, (32, 48), (32, 48));
        let (mut labelling, mut cache) = (Labelling::new(&egui::Context::default()), Cache::new(1 << 20));
        cache.insert(0, tokens(1.0));
        let columns = |labels: Option<Vec<u16>>| labels.map(|labels| [8, 24, 40].map(|x| labels[8 * 48 + x]));
        let click = |labelling: &mut Labelling, slice, label, place| {
            labelling.label = label;
            labelling.paint(slice, place, &mesh);
            labelling.lift();
        };
        assert_eq!(labels(&mut labelling, &mut cache, 0), None);
        click(&mut labelling, 0, Some(1), (8.0, 8.0));
        assert_eq!(labels(&mut labelling, &mut cache, 0), None, "one label tells nothing apart");
        assert!(labelling.state().contains("second label") && labelling.is_unsaved());
        click(&mut labelling, 0, Some(0), (24.0, 8.0));
        assert_eq!(columns(labels(&mut labelling, &mut cache, 0)), Some([1, 0, 0]));
        // The next slice has no marks of its own. Its features are the other way round.
        cache.insert(1, tokens(-1.0));
        assert_eq!(columns(labels(&mut labelling, &mut cache, 1)), Some([0, 1, 1]));
        // A third label where the head is wrong.
        click(&mut labelling, 0, Some(7), (40.0, 8.0));
        assert_eq!(columns(labels(&mut labelling, &mut cache, 0)), Some([1, 0, 7]));
        assert_eq!(labelling.fit().expect("fitted").file.about.classes, ["0", "1", "7"]);
        labelling.keep(labelling.marks.version());
        assert!(!labelling.is_unsaved());
        assert!(labelling.marks.undo() && labelling.is_unsaved());
        assert_eq!(columns(labels(&mut labelling, &mut cache, 0)), Some([1, 0, 0]));
        click(&mut labelling, 0, None, (24.0, 8.0));
        assert_eq!(labels(&mut labelling, &mut cache, 0), None, "the eraser leaves one label");
        labelling.clear();
        assert!(labelling.marks.is_empty() && !labelling.is_unsaved());
    }

    #[test]
    fn marks_wait_for_the_features_of_their_slice() {
        let mesh = Mesh::new(GRID, 16, (32, 48), (32, 48));
        let (mut labelling, mut cache) = (Labelling::new(&egui::Context::default()), Cache::new(1 << 20));
        cache.insert(0, tokens(1.0));
        for (slice, label, place) in [(0, 1, (8.0, 8.0)), (0, 0, (24.0, 8.0)), (1, 2, (40.0, 8.0))] {
            labelling.label = Some(label);
            labelling.paint(slice, place, &mesh);
            labelling.lift();
        }
        assert_eq!(labels(&mut labelling, &mut cache, 0), None, "the head lacks the marks of slice 1");
        assert!(labelling.fit.is_some(), "but shows what it knows");
        assert_eq!((labelling.wanted(), labelling.state().as_str()), (Some(1), "features are awaited for 1 of 2 marked slices"));
        cache.insert(1, tokens(3.0));
        assert!(labels(&mut labelling, &mut cache, 1).is_some_and(|labels| labels.contains(&2)));
        cache.clear();
        labelling.label = Some(1);
        labelling.paint(1, (8.0, 8.0), &mesh);
        assert_eq!(labelling.wanted(), None, "the features of marked slices are kept");
    }

    #[test]
    fn a_stroke_that_follows_to_another_slice_begins_there_anew() {
        let mesh = Mesh::new(GRID, 16, (32, 48), (32, 48));
        let mut labelling = Labelling::new(&egui::Context::default());
        labelling.paint(0, (8.0, 8.0), &mesh);
        labelling.paint(0, (40.0, 8.0), &mesh);
        labelling.paint(1, (8.0, 24.0), &mesh);
        assert_eq!(labelling.marks.of_slice(0).map(|(patch, _)| patch).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(labelling.marks.of_slice(1).collect::<Vec<_>>(), [(3, 1)]);
        labelling.lift();
        assert!(labelling.marks.undo() && labelling.marks.is_empty(), "it is one stroke");
    }
}

//! The panel of labels, their keys, what is saved, and the question before marks are dropped.

use std::path::PathBuf;
use std::time::Duration;

use eframe::egui::{self, Button, Color32, Key, KeyboardShortcut, Modifiers, ProgressBar, RichText, Slider, Ui};

use crate::app::{App, Leave};
use crate::brush::WIDEST;
use crate::dialog::{self, Output};
use crate::labelling::colour_of;
use crate::marks::LABELS;
use crate::overlay::Mode;
use crate::saver::{LabelSaver, Order, Saved, save_head};

/// The keys of the labels.
const DIGITS: [Key; LABELS as usize] =
    [Key::Num0, Key::Num1, Key::Num2, Key::Num3, Key::Num4, Key::Num5, Key::Num6, Key::Num7, Key::Num8, Key::Num9];

impl App {
    /// Handles the keys of labels.
    pub(super) fn label_keys(&mut self, context: &egui::Context) {
        let pressed = |modifiers: Modifiers, key| context.input_mut(|input| input.consume_shortcut(&KeyboardShortcut::new(modifiers, key)));
        let shifted = Modifiers::COMMAND | Modifiers::SHIFT;
        // A shortcut without Shift also matches with it, so those with Shift come first.
        if pressed(shifted, Key::Z) || pressed(Modifiers::COMMAND, Key::Y) {
            self.labelling.marks.redo();
        } else if pressed(Modifiers::COMMAND, Key::Z) {
            self.labelling.marks.undo();
        } else if pressed(shifted, Key::S) {
            self.save(Output::Head, context);
        } else if pressed(Modifiers::COMMAND, Key::S) {
            self.save(Output::Labels, context);
        }
        let digit = (0..LABELS).find(|label| pressed(Modifiers::NONE, DIGITS[usize::from(*label)]));
        let chosen = digit.map(Some).or_else(|| pressed(Modifiers::NONE, Key::E).then_some(None));
        if let Some(label) = chosen {
            (self.labelling.label, self.overlay.mode) = (label, Mode::Labels);
        }
    }

    /// Draws the labels, the brush, and what can be done with them.
    pub(super) fn labels(&mut self, ui: &mut Ui) {
        let counts = self.labelling.marks.counts();
        ui.horizontal_wrapped(|ui| {
            ui.spacing_mut().item_spacing.x = 3.0;
            for label in 0..LABELS {
                let text = RichText::new(format!(" {label} ")).color(Color32::BLACK).background_color(colour_of(label)).monospace();
                let count = counts[usize::from(label)];
                let what = if label == 0 { "the background" } else { "a label" };
                let button = ui.selectable_label(self.labelling.label == Some(label), text);
                if button.on_hover_text(format!("{what}, {count} marks; key {label}")).clicked() {
                    self.labelling.label = Some(label);
                }
            }
            if ui.selectable_label(self.labelling.label.is_none(), "eraser").on_hover_text("removes marks; key E").clicked() {
                self.labelling.label = None;
            }
        });
        ui.add(Slider::new(&mut self.labelling.brush, 1..=WIDEST).text("brush")).on_hover_text("the width of the brush, in patches");
        ui.horizontal(|ui| {
            let marks = &mut self.labelling.marks;
            if ui.add_enabled(marks.can_undo(), Button::new("Undo")).on_hover_text("Ctrl+Z").clicked() {
                marks.undo();
            }
            if ui.add_enabled(marks.can_redo(), Button::new("Redo")).on_hover_text("Ctrl+Y").clicked() {
                marks.redo();
            }
        });
        if self.mesh.is_some() && self.subject.is_none() {
            ui.weak("no labels, because the head of the body is for other features");
        } else {
            ui.weak(self.labelling.state());
        }
        if let Some(body) = &self.body {
            ui.weak("cut to the body").on_hover_text(format!("by {}", body.path.display()));
        }
        self.save_buttons(ui);
    }

    fn save_buttons(&mut self, ui: &mut Ui) {
        if let Some(saving) = &self.saving {
            ui.add(ProgressBar::new(saving.share()).text("saving the label map"));
            // The last slice was given, so that it ends by itself.
            if saving.next().is_some() && ui.button("Stop").clicked() {
                self.saving = None;
            }
            return;
        }
        let has_fit = self.labelling.fit().is_some();
        let has_place = self.scan.as_ref().is_some_and(|scan| scan.geometry.is_some());
        ui.horizontal(|ui| {
            let about = "the label of every voxel, on the scan's grid; computes the features of all slices first (Ctrl+S)";
            let labels = ui.add_enabled(has_fit && has_place, Button::new("Save label map…")).on_hover_text(about);
            if labels.on_disabled_hover_text("needs a head, and a scan that says where it lies").clicked() {
                self.save(Output::Labels, ui.ctx());
            }
            let head = ui.add_enabled(has_fit, Button::new("Save head…")).on_hover_text("for meddino segment --head (Ctrl+Shift+S)");
            if head.clicked() {
                self.save(Output::Head, ui.ctx());
            }
        });
        if let Some(path) = &self.last_saved {
            ui.weak(format!("saved {}", path.display()));
        }
    }

    /// Saves to the path of the command line, or asks for one.
    fn save(&mut self, output: Output, context: &egui::Context) {
        let (place, ending) = match output {
            Output::Labels => (&self.places.0, "labels.nii.gz"),
            Output::Head => (&self.places.1, "head.safetensors"),
        };
        match (place.clone(), self.labelling.fit()) {
            (None, Some(fit)) => dialog::save(output, &format!("{}_{ending}", fit.subject.case), context, &self.picked.0),
            (target, _) => self.save_to(output, target.unwrap_or_default(), context),
        }
    }

    fn save_to(&mut self, output: Output, target: PathBuf, context: &egui::Context) {
        let (Some(fit), Some(engine), Some(scan)) = (self.labelling.fit().cloned(), self.engine(), &self.scan) else {
            let state = self.labelling.state();
            return self.notice(&format!("there is no head to save yet: {state}"));
        };
        let order = Order { target, checkpoint: engine.name.clone().into(), fit };
        match (output, scan.geometry.clone()) {
            (Output::Head, _) => save_head(order, context, &self.saved.0),
            (Output::Labels, Some((geometry, turn))) if self.saving.is_none() => {
                self.schedule.retry();
                self.saving = Some(LabelSaver::start(order, geometry, turn, context));
            }
            (Output::Labels, Some(_)) => {}
            (Output::Labels, None) => {
                let name = scan.name.clone();
                self.notice(&format!("{name} does not say where it lies in the patient, so a label map would fit no other; save the head"));
            }
        }
    }

    /// Handles what dialogs and savers have sent.
    pub(super) fn hear_saved(&mut self, context: &egui::Context) {
        let picked: Vec<(Output, PathBuf)> = self.picked.1.try_iter().collect();
        picked.into_iter().for_each(|(output, target)| self.save_to(output, target, context));
        let labels = self.saving.as_ref().and_then(LabelSaver::saved);
        if labels.is_some() {
            self.saving = None;
        }
        let heads: Vec<Saved> = self.saved.1.try_iter().collect();
        for Saved { target, version, done } in labels.into_iter().chain(heads) {
            if done.is_ok() {
                self.labelling.keep(version);
                self.last_saved = Some(target);
            }
            self.check(done);
        }
    }

    /// Gives the next slice to the label map that is being written, once there are its features.
    pub(super) fn save_on(&mut self, context: &egui::Context) {
        let Some(saving) = &mut self.saving else { return };
        let Some(next) = saving.next() else { return };
        if self.schedule.has_failed(next) {
            self.saving = None;
            self.notice(&format!("slice {} has no features, so no label map was saved", next + 1));
        } else if let Some(tokens) = self.cache.get(next) {
            let wait = if saving.give(tokens) { Duration::ZERO } else { Duration::from_millis(10) };
            context.request_repaint_after(wait);
        }
    }

    /// Asks whether marks may be dropped, if the user does something that drops them.
    pub(super) fn ask_to_leave(&mut self, context: &egui::Context) {
        let Some(leave) = self.leaving.clone() else { return };
        egui::Modal::new(egui::Id::unique("leave")).show(context, |ui| {
            ui.set_width(360.0);
            ui.heading(if self.saving.is_some() { "The label map is not complete" } else { "No file has these labels" });
            ui.label(match leave {
                Leave::Open(_) => "Another scan drops the marks on this one. Save the label map or the head to keep what they say.",
                Leave::Load(_) => "Another model drops the marks. Save the label map or the head to keep what they say.",
                Leave::Close => "The marks are lost when the window closes. Save the label map or the head to keep what they say.",
            });
            ui.horizontal(|ui| {
                if ui.button("Go back").clicked() {
                    self.leaving = None;
                }
                if ui.button("Drop the marks").clicked() {
                    self.leaving = None;
                    self.drop_marks(leave, ui.ctx());
                }
            });
        });
    }
}

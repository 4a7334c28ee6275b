//! The panels around the slice: settings, progress and notices.

use eframe::egui::{self, Align, Button, Color32, Layout, ProgressBar, RichText, Slider, Ui};
use meddino::hub::RELEASED;
use meddino::picture::{Gray, colour};

use crate::app::{App, Leave};
use crate::dialog::{self, What};
use crate::engine::{Loading, WeightsSource};
use crate::overlay::Mode;
use crate::slice::PRESETS;

impl App {
    /// Draws the panels around the picture.
    pub(super) fn bars(&mut self, ui: &mut Ui) {
        egui::Panel::top("open").show(ui, |ui| self.top(ui));
        egui::Panel::bottom("slices").show(ui, |ui| self.bottom(ui));
        egui::Panel::right("settings").default_size(250.0).resizable(false).show(ui, |ui| {
            egui::ScrollArea::vertical().show(ui, |ui| {
                self.window(ui);
                ui.separator();
                self.over(ui);
                ui.separator();
                self.features(ui);
            });
        });
    }

    fn top(&mut self, ui: &mut Ui) {
        ui.horizontal(|ui| {
            self.open_buttons(ui);
            ui.separator();
            match (&self.opening, &self.scan) {
                (Some(name), _) => {
                    ui.spinner();
                    ui.label(format!("opening {name}"));
                }
                (None, Some(scan)) => {
                    let [slices, rows, cols] = scan.shape;
                    ui.label(&scan.name);
                    ui.weak(format!("{slices} x {rows} x {cols}"));
                }
                (None, None) => {}
            }
        });
    }

    fn open_buttons(&mut self, ui: &mut Ui) {
        if ui.button("Open file…").clicked() {
            dialog::open(What::File, ui.ctx(), &self.chosen.0);
        }
        if ui.button("Open DICOM folder…").clicked() {
            dialog::open(What::Folder, ui.ctx(), &self.chosen.0);
        }
        if ui.button("Phantom").on_hover_text("a built-in synthetic thorax slice").clicked() {
            self.leave(Leave::Open("phantom".into()), ui.ctx());
        }
    }

    /// Draws the start screen, which is shown while no scan is open.
    pub(super) fn welcome(&mut self, ui: &mut Ui) {
        ui.with_layout(Layout::top_down(Align::Center), |ui| {
            ui.add_space(ui.available_height() / 3.0);
            if self.opening.is_some() {
                ui.spinner();
                return;
            }
            ui.heading("Drop a CT scan here");
            ui.label("NIfTI, DICOM (a file or a folder), or .npy of HU");
            ui.add_space(12.0);
            ui.horizontal(|ui| {
                ui.add_space((ui.available_width() - 290.0).max(0.0) / 2.0);
                self.open_buttons(ui);
            });
            ui.add_space(24.0);
            ui.weak("Research software, not a medical device.");
        });
    }

    /// Draws the notices, each until the user closes it.
    pub(super) fn notices(&mut self, ui: &mut Ui) {
        let mut closed = None;
        for (index, text) in self.notices.iter().enumerate() {
            egui::Frame::new().fill(Color32::from_rgb(90, 40, 30)).inner_margin(6.0).show(ui, |ui| {
                ui.horizontal(|ui| {
                    if ui.small_button("×").clicked() {
                        closed = Some(index);
                    }
                    ui.add(egui::Label::new(RichText::new(text).color(Color32::WHITE)).wrap());
                });
            });
        }
        if let Some(index) = closed {
            self.notices.remove(index);
        }
    }

    fn bottom(&mut self, ui: &mut Ui) {
        let Some(scan) = &self.scan else {
            ui.weak("no scan");
            return;
        };
        let slices = scan.shape[0];
        ui.horizontal(|ui| {
            let mut at = self.index + 1;
            ui.spacing_mut().slider_width = (ui.available_width() - 110.0).max(50.0);
            let slider = Slider::new(&mut at, 1..=slices).suffix(format!(" / {slices}"));
            if ui.add_enabled(slices > 1, slider).on_hover_text("the wheel, the arrow keys and page up and down turn slices too").changed()
            {
                self.go_to(at - 1);
            }
        });
        ui.horizontal(|ui| {
            let place = self.over.map(|place| (place, self.slice.hu_at(place)));
            let Some(((x, y), Some(hu))) = place else {
                let click = match self.overlay.mode {
                    Mode::Labels => "left drag: paint · 0 to 9: label · E: eraser · Ctrl+Z, Ctrl+Y: undo, redo",
                    _ => "click: what is like this? click again: hold it",
                };
                ui.weak(format!("wheel: slices · right drag: level and width · {click} · Esc: the slice alone"));
                return;
            };
            ui.monospace(format!("x {:4}  y {:4}  {hu:6.0} HU", x as usize, y as usize));
            if let Some(cosine) = self.mesh.as_ref().and_then(|mesh| self.overlay.cosine_at((x, y), mesh)) {
                ui.monospace(format!("cosine {cosine:5.2}"));
            }
        });
    }

    fn window(&mut self, ui: &mut Ui) {
        ui.strong("Window");
        let Gray { level, width } = &mut self.slice.gray;
        ui.add(Slider::new(level, -1024.0..=3071.0).text("level").fixed_decimals(0));
        ui.add(Slider::new(width, 1.0..=4096.0).logarithmic(true).text("width").fixed_decimals(0));
        let now = PRESETS.iter().find(|(_, gray)| *gray == self.slice.gray).map_or("as set", |(name, _)| name);
        egui::ComboBox::from_id_salt("presets").selected_text(now).show_ui(ui, |ui| {
            for (name, gray) in PRESETS {
                ui.selectable_value(&mut self.slice.gray, gray, format!("{name} ({}, {})", gray.level, gray.width));
            }
        });
    }

    fn over(&mut self, ui: &mut Ui) {
        ui.strong("Over the slice");
        let overlay = &mut self.overlay;
        for (mode, name, about) in [
            (Mode::Nothing, "nothing", "the slice alone"),
            (Mode::Components, "principal components", "what the features tell apart: three components as red, green and blue"),
            (Mode::Similarity, "similarity", "how alike every patch is to one: click on the slice"),
            (Mode::Labels, "labels", "paint labels on some patches, and a head labels every slice; keys 0 to 9"),
        ] {
            ui.radio_value(&mut overlay.mode, mode, name).on_hover_text(about);
        }
        ui.add_enabled(overlay.mode != Mode::Nothing, Slider::new(&mut overlay.opacity, 0.0..=1.0).text("opacity"));
        ui.checkbox(&mut overlay.smooth, "smooth").on_hover_text("values pass from patch to patch");
        match overlay.mode {
            Mode::Components => {
                let mut shares = overlay.shares_colours();
                let keep = ui.checkbox(&mut shares, "these colours on every slice");
                if keep.on_hover_text("else every slice has components of its own").changed() {
                    overlay.share_colours(shares.then_some(self.index));
                }
            }
            Mode::Similarity => {
                ui.checkbox(&mut overlay.following, "follow the mouse");
                match overlay.limits() {
                    Some((lo, hi)) => scale(ui, lo, hi),
                    None => drop(ui.weak("click on the slice")),
                }
            }
            Mode::Labels => self.labels(ui),
            Mode::Nothing => {}
        }
    }

    fn features(&mut self, ui: &mut Ui) {
        ui.strong("Features");
        match &self.weights {
            None => self.choose_weights(ui, "No weights were named, and the released ones are not in the cache."),
            Some(Loading::Failed(problem)) => {
                let problem = problem.to_string();
                self.choose_weights(ui, &problem);
            }
            Some(Loading::Opening) => waiting(ui, "loading the model"),
            Some(Loading::Waiting(why)) => waiting(ui, why),
            Some(Loading::Download { done, size }) => {
                let mega = |bytes: u64| bytes as f64 / 1e6;
                let text = format!("{:.0} of {:.0} MB", mega(*done), mega(*size));
                ui.label("downloading the released weights");
                ui.add(ProgressBar::new(*done as f32 / (*size).max(1) as f32).text(text));
            }
            Some(Loading::Ready(engine)) => {
                ui.label(&engine.name).on_hover_text("the weights");
                ui.weak(engine.device());
                self.work(ui);
            }
        }
    }

    /// Offers ways to get weights. `why` is the reason that there are none.
    fn choose_weights(&mut self, ui: &mut Ui, why: &str) {
        ui.label(why);
        let about = format!(
            "{} of {}, some 340 MB, from the Hugging Face hub; to have it from a file, start with -c FILE",
            RELEASED.file, RELEASED.repository
        );
        if ui.button("Download the released weights").on_hover_text(about).clicked() {
            self.leave(Leave::Load(WeightsSource::Released), ui.ctx());
        }
        if ui.button("Use untrained weights").on_hover_text("to try things out: seeded:0").clicked() {
            self.leave(Leave::Load(WeightsSource::Named("seeded:0".into())), ui.ctx());
        }
    }

    /// Draws the progress of the features, and the button that requests more.
    fn work(&mut self, ui: &mut Ui) {
        let Some((slices, bytes)) = self.scan.as_ref().map(|scan| scan.shape[0]).zip(self.slice_bytes()) else { return };
        let (text, share) = match self.schedule.progress() {
            Some((slice, Some(share))) => (format!("slice {}", slice + 1), share),
            Some((slice, None)) => (format!("slice {}: getting ready", slice + 1), 0.0),
            None if self.cache.holds(self.index) => ("this slice: done".to_owned(), 1.0),
            None => ("this slice: not yet".to_owned(), 0.0),
        };
        ui.add(ProgressBar::new(share).text(text));
        if let Some((done, of)) = self.schedule.whole() {
            ui.add(ProgressBar::new(done as f32 / of.max(1) as f32).text(format!("volume: {done} of {of}")));
            if ui.button("Stop").clicked() {
                self.schedule.stop_whole();
            }
        } else {
            let room = self.cache.room(bytes);
            let missing = self.cache.len() < slices.min(room);
            let button = ui.add_enabled(missing, Button::new("Whole volume"));
            let about = if room < slices {
                format!("the {room} slices that fit into the cache (--cache), nearest first")
            } else {
                "every slice, nearest first".into()
            };
            if button.on_hover_text(about).clicked() {
                self.schedule.want_whole(slices, self.index, room, &self.cache);
            }
        }
        ui.weak(format!("{} of {slices} slices kept, {:.0} MB", self.cache.len(), self.cache.bytes() as f64 / 1e6));
    }
}

fn waiting(ui: &mut Ui, what: &str) {
    ui.horizontal(|ui| {
        ui.spinner();
        ui.label(what);
    });
}

/// Draws the colour scale of cosines from `lo` to `hi`.
fn scale(ui: &mut Ui, lo: f32, hi: f32) {
    const STEPS: u16 = 64;
    ui.horizontal(|ui| {
        ui.monospace(format!("{lo:.2}"));
        let (rect, _) = ui.allocate_exact_size(egui::vec2(120.0, 12.0), egui::Sense::hover());
        let width = rect.width() / f32::from(STEPS);
        for step in 0..STEPS {
            let [r, g, b] = colour(f32::from(step) / f32::from(STEPS - 1));
            let left = rect.left() + f32::from(step) * width;
            let cell = egui::Rect::from_min_max(egui::pos2(left, rect.top()), egui::pos2(left + width + 0.5, rect.bottom()));
            ui.painter().rect_filled(cell, 0.0, Color32::from_rgb(r, g, b));
        }
        ui.monospace(format!("{hi:.2}"));
    });
}
